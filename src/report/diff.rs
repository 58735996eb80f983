//! Two cases' differences for a person, as `diff -u` lays out those of two files, and for a program. What is most worth
//! reading stands first; names and rules are written as they can be shown.

use std::io;

use serde::Serialize;

use super::text::Style;
use super::{sentences, words};
use crate::analyze::diff::{Area, Change, Diff};
use crate::analyze::findings::Findings;

/// What was compared: each by the name that was typed.
#[derive(Debug)]
pub struct Both<'f> {
    /// The first case.
    pub before: (String, &'f Findings),
    /// The second.
    pub after: (String, &'f Findings),
}

/// Writes the report for a person.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn text(both: &Both<'_>, diff: &Diff, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let (red, green, bold, plain) =
        if style.color { ("\x1b[31m", "\x1b[32m", "\x1b[1m", "\x1b[0m") } else { ("", "", "", "") };
    headline(both, diff, (bold, plain), out)?;
    let title = |(name, findings): &(String, &Findings)| {
        let when = sentences::when(&findings.case).map(|when| format!(", {when}")).unwrap_or_default();
        line(&format!("{name}\t{} to {}{when}", findings.case.from.name, findings.case.to.name))
    };
    writeln!(out, "\n{red}--- {}{plain}\n{green}+++ {}{plain}", title(&both.before), title(&both.after))?;
    let mut heading = String::new();
    let mut left_out = 0_usize;
    let mut shown = 0;
    for change in &diff.changes {
        let own = group(change);
        if own != heading {
            shown = 0;
            writeln!(out, "{bold}@@ {} @@{plain}", line(&own))?;
            heading = own;
        }
        shown += 1;
        if shown > FEW && !style.verbose {
            left_out += 1;
            continue;
        }
        let subject = if change.subject.is_empty() { String::new() } else { format!("{}: ", change.subject) };
        for (sign, paint, value) in [("-", red, &change.before), ("+", green, &change.after)] {
            if let Some(value) = value {
                writeln!(out, "{paint}{sign} {}{plain}", line(&format!("{subject}{value}")))?;
            }
        }
    }
    if left_out > 0 {
        writeln!(out, "({left_out} more changes: -v shows all)")?;
    }
    for why in &diff.notes {
        writeln!(out, "note: {}", line(why))?;
    }
    Ok(())
}

/// So many changes of a group are shown without being asked for.
const FEW: usize = 12;

fn headline(
    both: &Both<'_>,
    diff: &Diff,
    (bold, plain): (&str, &str),
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let after = both.after.1;
    if diff.is_same() {
        let word = sentences::outcome(after);
        return writeln!(
            out,
            "{bold}SAME{plain}: nothing changed that matters; {} as before",
            word.to_lowercase()
        );
    }
    let verdict = diff.changes.iter().any(|change| change.area == Area::Verdict);
    let count = diff.changes.len();
    let changes = if count == 1 { "1 change".to_owned() } else { format!("{count} changes") };
    let outcomes = [both.before.1, after].map(sentences::outcome);
    let summary = if verdict {
        format!("{}, before {}; {changes}", outcomes[1], outcomes[0])
    } else {
        format!("{changes}; the verdict is the same, {}", outcomes[1])
    };
    writeln!(out, "{bold}DIFFERENT{plain}: {}", line(&summary))?;
    for change in diff.headline(3) {
        let node = change.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
        let subject = if change.subject.is_empty() { String::new() } else { format!("{}: ", change.subject) };
        let what = match (&change.before, &change.after) {
            (Some(was), Some(is)) => format!("{is} (before: {was})"),
            (None, Some(is)) => format!("{is} (new)"),
            (Some(was), None) => format!("{was} (gone)"),
            (None, None) => continue,
        };
        writeln!(out, "  {}", line(&format!("{node}{}{subject}{what}", area(change.area))))?;
    }
    Ok(())
}

/// Before a headline's words, where they do not say it themselves.
fn area(area: Area) -> String {
    match area {
        Area::Verdict => String::new(),
        other => format!("{}: ", other.word()),
    }
}

/// The heading that a change stands under.
fn group(change: &Change) -> String {
    let what = match change.area {
        Area::Verdict => "verdict",
        Area::Cause => "causes",
        Area::End => "ends",
        Area::Path => "path",
        Area::Loss => "loss",
        Area::Latency => "latency",
        Area::Object => "objects of the cluster",
        Area::Rule => "rules",
        Area::Set => "sets",
        Area::Route => "routes",
        Area::Neighbour => "neighbours",
        Area::Fdb => "forwarding database",
        Area::Link => "links",
        Area::Sysctl => "sysctls",
        Area::Queue => "queues and filters",
        Area::Socket => "sockets",
        Area::Counter => "counters of losses",
    };
    change.node.as_ref().map_or(what.to_owned(), |node| format!("{node}: {what}"))
}

/// One line whatever is in it.
fn line(text: &str) -> String {
    words::shown(text).replace(['\n', '\r'], " ")
}

#[derive(Serialize)]
struct Report<'d> {
    schema: &'static str,
    before: Case<'d>,
    after: Case<'d>,
    same: bool,
    headline: Vec<ChangeOut<'d>>,
    changes: Vec<ChangeOut<'d>>,
    notes: &'d [String],
}

#[derive(Serialize)]
struct Case<'d> {
    saved: &'d str,
    from: &'d crate::evidence::Endpoint,
    to: &'d crate::evidence::Endpoint,
    start: Option<String>,
    outcome: &'static str,
    verdict: String,
}

#[derive(Serialize)]
struct ChangeOut<'d> {
    node: Option<&'d str>,
    what: &'static str,
    subject: &'d str,
    before: Option<&'d str>,
    after: Option<&'d str>,
    bears_on_path: bool,
}

impl<'d> ChangeOut<'d> {
    fn of(change: &'d Change) -> Self {
        Self {
            node: change.node.as_deref(),
            what: change.area.word(),
            subject: &change.subject,
            before: change.before.as_deref(),
            after: change.after.as_deref(),
            bears_on_path: change.bears,
        }
    }
}

/// Writes the report for a program, schema `trace-drop/diff/v1`.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn json(both: &Both<'_>, diff: &Diff, out: &mut dyn io::Write) -> io::Result<()> {
    let report = Report {
        schema: "trace-drop/diff/v1",
        before: case(&both.before),
        after: case(&both.after),
        same: diff.is_same(),
        headline: diff.headline(3).into_iter().map(ChangeOut::of).collect(),
        changes: diff.changes.iter().map(ChangeOut::of).collect(),
        notes: &diff.notes,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

fn case<'d>((name, findings): &'d (String, &Findings)) -> Case<'d> {
    Case {
        saved: name,
        from: &findings.case.from,
        to: &findings.case.to,
        start: findings
            .case
            .window
            .as_ref()
            .map(|window| words::time(crate::packet::Timestamp(window.start))),
        outcome: words::outcome(findings.verdict.outcome),
        verdict: sentences::verdict(findings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_reach_the_terminal() {
        assert_eq!(line("a\x1b[31mb\r\nc\u{202e}d"), "a\u{fffd}[31mb\u{fffd} c\u{fffd}d");
    }
}
