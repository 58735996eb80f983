//! Words into calls: reads what was typed, runs it, prints errors once, and gives the exit code. Decides nothing.

mod args;
mod check;
mod diff;
mod ipam;
mod keep;
mod man;
mod node;
mod pairs;
mod pcap;
mod place;
mod pods;
mod progress;
mod redact;
mod replay;
mod rules;
mod saved;
mod state;
mod trace;
mod watch;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::analyze;
use crate::analyze::findings::{Findings, Outcome};
use crate::evidence::Texts;
use crate::evidence::plan::PlanError;
use crate::gather;
use crate::report;

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let typed = match typed() {
        Ok(typed) => typed,
        Err(error) => {
            let _unseen = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let done = match typed.command {
        Some(args::Command::Replay(replay)) => replay::run(&replay),
        Some(args::Command::Pcap(typed)) => pcap::run(&typed),
        Some(args::Command::Diff(typed)) => diff::run(&typed),
        Some(args::Command::Redact(typed)) => redact::run(&typed),
        Some(args::Command::Ipam(typed)) => ipam::run(&typed.what),
        Some(args::Command::Rules(rules)) => rules::run(&rules),
        Some(args::Command::Check(typed)) => check::run(&typed),
        Some(args::Command::Node(typed)) => node::run(&typed),
        Some(args::Command::Agent) => {
            gather::agent::serve::over_standard_streams().map_err(Failure::work).map(|()| ExitCode::SUCCESS)
        }
        Some(args::Command::Sweep) => {
            let swept = gather::kubernetes::pods::sweep::sweep(io::stdin().lock());
            keep::sweep();
            swept.map_err(Failure::work).map(|()| ExitCode::SUCCESS)
        }
        Some(args::Command::Rbac(typed)) => pods::rbac(&typed),
        Some(args::Command::Cleanup(typed)) => pods::cleanup(&typed),
        Some(args::Command::Completions { shell }) => print_to(io::stdout().lock(), |out| {
            clap_complete::generate(shell, &mut args::Typed::command(), "trace-drop", out);
            Ok(())
        }),
        Some(args::Command::Man) => {
            print_to(io::stdout().lock(), |out| man::page(args::Typed::command(), out))
        }
        None => trace::run(&typed.trace),
    };
    done.unwrap_or_else(|failure| {
        complain(&format!("trace-drop: {}", failure.text));
        ExitCode::from(failure.code)
    })
}

/// The words of this process. As kubectl's plugin, `kubectl-trace_drop`, the program calls itself what was typed.
fn typed() -> Result<args::Typed, clap::Error> {
    let own = std::env::args_os().next().unwrap_or_default();
    let mut command = args::Typed::command();
    if Path::new(&own).file_name().is_some_and(|name| name == PLUGIN) {
        command = command.bin_name("kubectl trace-drop");
    }
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    args::Typed::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// How kubectl finds a plugin on the PATH.
const PLUGIN: &str = "kubectl-trace_drop";

/// Why the work could not be done, for the user, once.
pub(crate) struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// The cluster, a node, a permission or a file failed us: the chain of causes, each on its line.
    fn work(error: impl Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}\n  because {cause}");
            source = cause.source();
        }
        Self { text, code: 4 }
    }

    /// The same, and more to know about it.
    fn adding(self, words: &str) -> Self {
        Self { text: format!("{}\n  {words}", self.text), ..self }
    }

    fn work_text(text: String) -> Self {
        Self { text, code: 4 }
    }

    fn usage(text: String) -> Self {
        Self { text, code: 2 }
    }

    /// There is nothing to judge.
    fn no_traffic(text: String) -> Self {
        Self { text, code: 3 }
    }

    /// There is no plan: ends that are one were typed so, all else is what the cluster has not.
    fn unplanned(error: PlanError) -> Self {
        match error {
            PlanError::OneEnd { .. } => Self::usage(error.to_string()),
            error => Self::work(error),
        }
    }
}

/// Prints the report to stdout and turns its verdict into the exit code.
fn show(
    findings: &Findings,
    texts: &Texts,
    output: &args::Output<args::ReportForm>,
) -> Result<ExitCode, Failure> {
    let style = style(output);
    print(|out| match output.form {
        args::ReportForm::Text => report::text(findings, style, out),
        args::ReportForm::Json => report::json(findings, out),
        args::ReportForm::Markdown => report::markdown(findings, out),
        args::ReportForm::Html => report::page(findings, &analyze::excerpts(&findings.case, texts), out),
        args::ReportForm::Svg => report::svg(findings, out),
    })?;
    Ok(exit_code(findings.verdict.outcome))
}

/// What a verdict exits with.
fn exit_code(outcome: Outcome) -> ExitCode {
    ExitCode::from(match outcome {
        Outcome::Delivered => 0,
        Outcome::Dropped | Outcome::Diverted => 1,
        Outcome::NoTraffic | Outcome::Inconclusive => 3,
    })
}

/// How the text should look.
fn style<F: clap::ValueEnum + Send + Sync>(output: &args::Output<F>) -> report::Style {
    let color = match output.color {
        args::When::Always => true,
        args::When::Never => false,
        args::When::Auto => io::stdout().is_terminal() && no_color_unset(),
    };
    report::Style { color, verbose: output.verbose }
}

/// Says where the case was saved; beside a form that others read, on stderr.
fn saved(save: &Path, output: &args::Output<args::ReportForm>) -> Result<(), Failure> {
    let save = save.display();
    let words = format!("Saved to {save}; `trace-drop replay {save}` shows this report again.");
    match output.form {
        args::ReportForm::Text => print(|out| writeln!(out, "\n{words}")).map(|_| ()),
        _ if output.quiet => Ok(()),
        _ => {
            complain(&words);
            Ok(())
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line may read the environment: NO_COLOR, no-color.org"
)]
fn no_color_unset() -> bool {
    std::env::var("NO_COLOR").unwrap_or_default().is_empty()
}

/// Writes to stdout, without what a terminal would obey; a reader that went away is no error.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<ExitCode, Failure> {
    print_to(report::Shown::new(io::BufWriter::new(io::stdout().lock())), write)
}

fn print_to(
    mut out: impl Write,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<ExitCode, Failure> {
    let written = write(&mut out).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::work_text(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// One message on stderr, without what a terminal would obey, and not without end: names of a file that somebody made may be in it.
fn complain(words: &str) {
    let _unseen = writeln!(io::stderr(), "{}", fit(words));
}

/// A message, of bearable length and without anything that commands a terminal: nodes, objects and files have their words in it.
fn fit(words: &str) -> String {
    let mut shown: String = words.chars().take(LONGEST_MESSAGE).collect();
    if shown.len() < words.len() {
        shown.push('…');
    }
    report::harmless(&shown)
}

/// Characters of a message.
const LONGEST_MESSAGE: usize = 8192;
