//! The `trace-drop` command.

fn main() -> std::process::ExitCode {
    trace_drop::run()
}
