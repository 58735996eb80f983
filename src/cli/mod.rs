//! Words into calls: reads what was typed, runs it, prints errors once, and gives the exit code. Decides nothing.

use std::process::ExitCode;

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    ExitCode::from(4)
}
