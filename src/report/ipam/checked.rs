//! What was found wrong with Calico's addresses, for a person and for programs. Takes what was checked; judges nothing.

use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;

use super::NOT_ASKED;
use crate::analyze::ipam::{Checked, Finding};
use crate::evidence::cluster::Cluster;
use crate::evidence::ipam::Figures;

/// What was checked, for a person.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn text(
    cluster: &Cluster,
    figures: &Figures<'_>,
    checked: &Checked,
    out: &mut dyn Write,
) -> io::Result<()> {
    let in_use: u128 = figures.blocks.iter().map(|used| used.count.in_use).sum();
    writeln!(out, "Checking IPAM for inconsistencies...")?;
    writeln!(
        out,
        "Found {} IP pools, {} IPAM blocks with {in_use} addresses in use, {} nodes, {} pods.",
        cluster.pools.len(),
        figures.blocks.len(),
        cluster.nodes.len(),
        cluster.pods.len()
    )?;
    for finding in &checked.findings {
        let word = if finding.is_fault() { "PROBLEM" } else { "WARNING" };
        let node = if finding.node.is_empty() { String::new() } else { format!(" on {}", finding.node) };
        writeln!(out, "\n{word} {}{node}: {}", finding.kind, finding.summary)?;
        writeln!(
            out,
            "  read:     {}\n  expected: {}\n  do:       {}",
            finding.read, finding.expected, finding.remedy
        )?;
    }
    if !(checked.notes.is_empty() && checked.not_asked.is_empty()) {
        writeln!(out)?;
    }
    for note in &checked.notes {
        writeln!(out, "note: {note}")?;
    }
    for gap in &checked.not_asked {
        writeln!(out, "{NOT_ASKED}: {gap}")?;
    }
    let problems = checked.findings.iter().filter(|finding| finding.is_fault()).count();
    let warnings = checked.findings.len() - problems;
    writeln!(
        out,
        "\nCheck complete; found {} and {}.",
        plural(problems, "problem"),
        plural(warnings, "warning")
    )
}

/// What was checked, as JSON.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn json(checked: &Checked, out: &mut dyn Write) -> io::Result<()> {
    let report = CheckedOut {
        schema: "trace-drop/ipam-check/v1",
        sound: !checked.findings.iter().any(Finding::is_fault),
        findings: checked.findings.iter().map(FindingOut::of).collect(),
        notes: &checked.notes,
        not_asked: &checked.not_asked,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

fn plural(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[derive(Serialize)]
struct CheckedOut<'a> {
    schema: &'static str,
    sound: bool,
    findings: Vec<FindingOut<'a>>,
    notes: &'a [String],
    not_asked: &'a [String],
}

#[derive(Serialize)]
struct FindingOut<'a> {
    kind: &'static str,
    node: Option<&'a str>,
    breaks: bool,
    summary: &'a str,
    remedy: &'a str,
    read: &'a str,
    expected: &'a str,
    addresses: &'a [IpAddr],
}

impl<'a> FindingOut<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self {
            kind: finding.kind,
            node: Some(&*finding.node).filter(|node| !node.is_empty()),
            breaks: finding.breaks,
            summary: &finding.summary,
            remedy: &finding.remedy,
            read: &finding.read,
            expected: &finding.expected,
            addresses: &finding.addresses,
        }
    }
}
