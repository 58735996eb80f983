//! Words into calls: reads what was typed, runs it, prints errors once, and gives the exit code. Decides nothing.

use std::process::ExitCode;

use crate::gather::agent::serve;

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "agent") {
        return match serve::over_standard_streams() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(4),
        };
    }
    ExitCode::from(4)
}
