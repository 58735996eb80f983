//! Findings so far, for a trace that still goes on: a table for a terminal, or a line for everything else. The same
//! words as the report's; no causes, which are known only in the end.

use std::io::{self, Write};

use super::text::{self, Style};
use super::{sentences, words};
use crate::analyze::findings::{Findings, Outcome, Place, Route};
use crate::packet::Timestamp;

/// The table, without a newline at its end; `seconds` is how long it goes on.
///
/// # Errors
///
/// Never in practice: it is written to memory.
pub fn table(findings: &Findings, seconds: u64, style: Style) -> io::Result<String> {
    let mut out = Vec::new();
    let (from, to) = (&findings.case.from.name, &findings.case.to.name);
    writeln!(out, "{from} to {to}, {}", elapsed(seconds))?;
    match findings.verdict.outcome {
        Outcome::NoTraffic => writeln!(out, "no packets yet")?,
        _ => text::verdict(findings, style, &mut out)?,
    }
    for route in &findings.routes {
        text::table(findings, route, style, &mut out)?;
    }
    for words in sentences::errors(findings).iter().take(3) {
        writeln!(out, "{words}")?;
    }
    Ok(String::from_utf8_lossy(&out).trim_end().to_owned())
}

/// One line: when, then for each direction what was sent, delivered and lost until then, and where.
pub fn line(findings: &Findings, time: Timestamp) -> String {
    let counts = findings.routes.iter().map(|route| {
        let lost: u64 = losses(route).iter().map(|(_, lost)| lost).sum();
        format!("{}: {} sent, {} delivered, {lost} lost", route.direction.name(), route.sent, route.delivered)
    });
    let places = findings.routes.iter().flat_map(|route| {
        losses(route).into_iter().map(|(place, lost)| {
            format!(
                "{lost} between {} and {} ({})",
                words::point(&findings.case, place.from),
                words::behind(&findings.case, &place, route.direction),
                place.kind.name()
            )
        })
    });
    let parts: Vec<String> = counts.chain(places).collect();
    format!("{} {}", seconds_of(time), parts.join("; "))
}

/// Where packets vanish, with their number.
fn losses(route: &Route) -> Vec<(Place, u64)> {
    let stages = route
        .stages
        .iter()
        .map(|stage| (Place { from: stage.from, to: Some(stage.to), kind: stage.kind }, stage.lost));
    let behind =
        route.unanswered.iter().map(|end| (Place { from: end.at, to: None, kind: end.kind }, end.lost()));
    stages.chain(behind).filter(|(_, lost)| *lost > 0).collect()
}

/// RFC 3339, UTC, whole seconds.
fn seconds_of(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time.0))
        .map_or_else(|_| format!("{} ns", time.0), |stamp| format!("{stamp:.0}"))
}

fn elapsed(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
