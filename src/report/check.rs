//! The checks for a person and for a program: findings with what was read, what was expected and what to do; what could
//! not be read; and how many checks were sound.

use std::io;

use serde::Serialize;

use super::text::Style;
use crate::analyze::state::{Checkup, Fault, Made};
use crate::evidence::Case;

/// Writes the report for a person.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn text(case: &Case, checkup: &Checkup, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    headline(case, checkup, style, out)?;
    if !case.paths.is_empty() {
        let end = |end: &crate::evidence::Endpoint| match &end.node {
            Some(node) => format!("{} ({}, on {node})", end.name, end.address),
            None => format!("{} ({})", end.name, end.address),
        };
        writeln!(out, "\nfrom {}\nto   {}", end(&case.from), end(&case.to))?;
    }
    let mut faults: Vec<&Fault> = checkup.faults().collect();
    faults.sort_by_key(|fault| !fault.breaks);
    for fault in faults {
        finding(fault, style, out)?;
    }
    if style.verbose {
        writeln!(out, "\nChecks")?;
        for made in &checkup.made {
            let word = if made.faults.is_empty() { "ok   " } else { "WRONG" };
            writeln!(out, "  {word}  {}{}", on(made), made.what)?;
        }
    }
    if !checkup.unread.is_empty() {
        writeln!(out, "\nNot read or not judged")?;
    }
    for why in &checkup.unread {
        writeln!(out, "  {}", why.replace('\n', "\n    "))?;
    }
    Ok(())
}

fn headline(case: &Case, checkup: &Checkup, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let breaking = checkup.faults().filter(|fault| fault.breaks).count();
    let other = checkup.faults().count() - breaking;
    let (word, paint) = match (breaking, other, checkup.nodes.len()) {
        (_, _, 0) => ("NOT READ", "\x1b[1;33m"),
        (0, 0, _) => ("SOUND", "\x1b[1;32m"),
        (0, _, _) => ("DOUBTFUL", "\x1b[1;33m"),
        _ => ("BROKEN", "\x1b[1;31m"),
    };
    let (paint, plain) = if style.color { (paint, "\x1b[0m") } else { ("", "") };
    let made = format!("{} on {}", count(checkup.made.len(), "check"), count(checkup.nodes.len(), "node"));
    let found = match (breaking, other) {
        (0, 0) => ", all sound".to_owned(),
        (0, other) => format!(": {} that may harm, none that breaks traffic", count(other, "finding")),
        (breaking, 0) => format!(": {} {} traffic", count(breaking, "finding"), verb(breaking)),
        (breaking, other) => {
            format!(": {} {} traffic, {other} more may harm", count(breaking, "finding"), verb(breaking))
        }
    };
    let asked = case.nodes.iter().filter(|node| node.on_path);
    let silent: Vec<&str> =
        asked.map(|node| node.name.as_str()).filter(|name| !is_read(checkup, name)).collect();
    if checkup.nodes.is_empty() {
        return writeln!(out, "{paint}{word}{plain}: {}", silent.join(", "));
    }
    let silent = match silent.as_slice() {
        [] => String::new(),
        names => format!("; NOT READ: {}", names.join(", ")),
    };
    writeln!(out, "{paint}{word}{plain}: {made}{found}{silent}")
}

fn is_read(checkup: &Checkup, node: &str) -> bool {
    checkup.nodes.iter().any(|read| read == node)
}

fn verb(count: usize) -> &'static str {
    if count == 1 { "breaks" } else { "break" }
}

fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn on(made: &Made) -> String {
    if made.node.is_empty() { String::new() } else { format!("{}: ", made.node) }
}

fn finding(fault: &Fault, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let paint = if fault.breaks { "\x1b[31m" } else { "\x1b[33m" };
    let (paint, plain) = if style.color { (paint, "\x1b[0m") } else { ("", "") };
    let how = if fault.breaks { "breaks traffic" } else { "may harm" };
    let node = if fault.node.is_empty() { String::new() } else { format!(" on {}", fault.node) };
    writeln!(out, "\n{paint}{}{node} ({how}){plain}: {}", fault.kind, fault.summary)?;
    writeln!(out, "  read      {}", fault.read)?;
    writeln!(out, "  expected  {}", fault.expected)?;
    writeln!(out, "  do        {}", fault.remedy)
}

/// Writes the report for a program, schema `trace-drop/check/v1`.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn json(case: &Case, checkup: &Checkup, out: &mut dyn io::Write) -> io::Result<()> {
    let path = !case.paths.is_empty();
    let end = |end: &'_ crate::evidence::Endpoint| End {
        name: end.name.clone(),
        address: end.address.to_string(),
        node: end.node.clone(),
    };
    let report = Report {
        schema: "trace-drop/check/v1",
        from: path.then(|| end(&case.from)),
        to: path.then(|| end(&case.to)),
        nodes: &checkup.nodes,
        sound: !checkup.breaks(),
        findings: checkup.faults().map(Finding::of).collect(),
        checks: checkup
            .made
            .iter()
            .map(|made| Check { node: &made.node, what: &made.what, sound: made.faults.is_empty() })
            .collect(),
        unread: &checkup.unread,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Report<'c> {
    schema: &'static str,
    from: Option<End>,
    to: Option<End>,
    nodes: &'c [String],
    /// No finding breaks traffic.
    sound: bool,
    findings: Vec<Finding<'c>>,
    checks: Vec<Check<'c>>,
    unread: &'c [String],
}

#[derive(Serialize)]
struct End {
    name: String,
    address: String,
    node: Option<String>,
}

/// A fault as an object.
#[derive(Serialize)]
pub(super) struct Finding<'c> {
    kind: &'static str,
    node: &'c str,
    breaks: bool,
    summary: &'c str,
    source: &'static str,
    read: &'c str,
    expected: &'c str,
    remedy: &'c str,
}

impl<'c> Finding<'c> {
    pub(super) fn of(fault: &'c Fault) -> Self {
        Self {
            kind: fault.kind,
            node: &fault.node,
            breaks: fault.breaks,
            summary: &fault.summary,
            source: fault.source,
            read: &fault.read,
            expected: &fault.expected,
            remedy: &fault.remedy,
        }
    }
}

#[derive(Serialize)]
struct Check<'c> {
    node: &'c str,
    what: &'c str,
    sound: bool,
}
