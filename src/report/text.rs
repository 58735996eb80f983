//! The report for a person: the verdict in the first line, then what every point saw, then why, then what to do, then
//! where the case was saved. Plain words, no colour needed to understand it.

use std::io;

use super::{sentences, words};
use crate::analyze::findings::{Findings, Outcome, Route, StageCount};
use crate::evidence::PointId;

/// How the text should look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// With ANSI colours.
    pub color: bool,
    /// With examples of lost packets and all ICMP errors.
    pub verbose: bool,
}

impl Style {
    /// What goes before and behind the word of an outcome.
    pub(super) fn around(self, outcome: Outcome) -> (&'static str, &'static str) {
        let paint = match outcome {
            Outcome::Delivered => "\x1b[1;32m",
            Outcome::Dropped | Outcome::Diverted => "\x1b[1;31m",
            Outcome::NoTraffic | Outcome::Inconclusive => "\x1b[1;33m",
        };
        if self.color { (paint, "\x1b[0m") } else { ("", "") }
    }
}

/// Writes the report.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn text(findings: &Findings, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    verdict(findings, style, out)?;
    heading(findings, out)?;
    for route in &findings.routes {
        table(findings, route, style, out)?;
    }
    notes(findings, style, out)?;
    why(findings, out)?;
    next(findings, out)?;
    for warning in &findings.warnings {
        writeln!(out, "note: {warning}")?;
    }
    Ok(())
}

pub(super) fn verdict(findings: &Findings, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let (paint, plain) = style.around(findings.verdict.outcome);
    let (word, sentence) = (sentences::outcome(findings), sentences::verdict(findings));
    writeln!(out, "{paint}{word}{plain}: {sentence}")?;
    for doubt in &findings.verdict.doubts {
        writeln!(out, "  but: {doubt}")?;
    }
    Ok(())
}

fn heading(findings: &Findings, out: &mut dyn io::Write) -> io::Result<()> {
    let case = &findings.case;
    writeln!(out, "\nfrom {}\nto   {}", sentences::end(&case.from), sentences::end(&case.to))?;
    for words in sentences::when(case).into_iter().chain(sentences::probe(case)) {
        writeln!(out, "     {words}")?;
    }
    Ok(())
}

pub(super) fn table(
    findings: &Findings,
    route: &Route,
    style: Style,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let (from, to) = words::ends(findings, route.direction);
    writeln!(out, "\n{} from {from} to {to}", route.direction.name())?;
    if route.sent == 0 {
        return writeln!(out, "  no packets");
    }
    let ids = route.path.iter().map(|id| words::point(&findings.case, *id).chars().count());
    let width = ids.max().unwrap_or(0).max(5);
    writeln!(
        out,
        "  {:width$}  {:6}  {:>9}  {:>9}  {:>9}  {:>9}",
        "POINT", "ROLE", "PASSED", "LOST", "P50", "P99"
    )?;
    for (at, id) in route.path.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &route.stages[before]);
        let passed = route.stages.get(at).map_or(route.delivered, |stage| stage.entered);
        row(findings, *id, width, passed, before, style, out)?;
    }
    for words in sentences::beside(&findings.case, route) {
        writeln!(out, "  {words}")?;
    }
    Ok(())
}

/// One point, with what was lost on the way to it.
fn row(
    findings: &Findings,
    id: PointId,
    width: usize,
    passed: u64,
    before: Option<&StageCount>,
    style: Style,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let point = &findings.case.points[id.index()];
    let lost = before.map_or(0, |stage| stage.lost);
    let (p50, p99) =
        before.filter(|stage| stage.lost < stage.entered).and_then(|stage| stage.latency).unzip();
    let (paint, plain) = if style.color && lost > 0 { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    let lost_words = match before {
        None => String::new(),
        Some(_) if lost == 0 => "-".to_owned(),
        Some(_) => lost.to_string(),
    };
    let mark = before.filter(|stage| stage.lost > 0).map_or(String::new(), |stage| {
        format!("  <- {} of {} lost ({})", stage.lost, stage.entered, stage.kind.name())
    });
    let line = format!(
        "  {:width$}  {:6}  {passed:>9}  {lost_words:>9}  {:>9}  {:>9}{mark}",
        point.id,
        words::role(point.role),
        p50.map_or(String::new(), sentences::duration),
        p99.map_or(String::new(), sentences::duration),
    );
    writeln!(out, "{paint}{}{plain}", line.trim_end())
}

/// What else was seen on the way.
fn notes(findings: &Findings, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let few = if style.verbose { usize::MAX } else { 3 };
    let case = &findings.case;
    if !findings.translations.is_empty() || !findings.errors.is_empty() {
        writeln!(out)?;
    }
    for words in sentences::translations(findings).into_iter().take(few) {
        writeln!(out, "{words}")?;
    }
    for words in sentences::errors(findings).into_iter().take(few).chain(sentences::clock(findings)) {
        writeln!(out, "{words}")?;
    }
    if style.verbose {
        for stage in findings.routes.iter().flat_map(|route| &route.stages) {
            for packet in &stage.examples {
                let from = words::point(case, stage.from);
                writeln!(
                    out,
                    "lost after {from}: {} {} {} bytes",
                    words::time(packet.time),
                    packet.flow,
                    packet.ip_len
                )?;
            }
        }
    }
    Ok(())
}

fn why(findings: &Findings, out: &mut dyn io::Write) -> io::Result<()> {
    if findings.causes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nWhy")?;
    for cause in &findings.causes {
        writeln!(
            out,
            "  {} on {} ({}): {}",
            cause.kind,
            cause.node,
            words::confidence(cause.confidence),
            cause.summary
        )?;
        for proof in &cause.evidence {
            writeln!(out, "    {}: {}", proof.source, proof.detail)?;
        }
    }
    Ok(())
}

fn next(findings: &Findings, out: &mut dyn io::Write) -> io::Result<()> {
    let steps = sentences::next(findings);
    if !steps.is_empty() {
        writeln!(out, "\nWhat next")?;
    }
    for step in steps {
        writeln!(out, "  {step}")?;
    }
    if !findings.warnings.is_empty() {
        writeln!(out)?;
    }
    Ok(())
}
