//! The report for a person: the verdict in the first line, then what every point saw, then why, then what to do, then
//! where the case was saved. Plain words, no colour needed to understand it.

use std::io;

use super::words;
use crate::analyze::findings::{ErrorSeen, Findings, Outcome, Route, StageCount};
use crate::evidence::case::ProbeFacts;
use crate::evidence::{Direction, Known, PointId};
use crate::packet::{Nanos, Timestamp};

/// How the text should look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// With ANSI colours.
    pub color: bool,
    /// With examples of lost packets and all ICMP errors.
    pub verbose: bool,
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
    let verdict = &findings.verdict;
    let case = &findings.case;
    let (from, to) = words::ends(findings, verdict.direction);
    let way = if verdict.direction == Direction::Forward { "" } else { " (the replies)" };
    let paint = match verdict.outcome {
        Outcome::Delivered => "\x1b[1;32m",
        Outcome::Dropped | Outcome::Diverted => "\x1b[1;31m",
        Outcome::NoTraffic | Outcome::Inconclusive => "\x1b[1;33m",
    };
    let (paint, plain) = if style.color { (paint, "\x1b[0m") } else { ("", "") };
    let word = words::outcome(verdict.outcome).to_uppercase().replace('_', " ");
    write!(out, "{paint}{word}{plain}: ")?;
    match (&verdict.place, verdict.outcome) {
        (Some(place), outcome) => {
            let what = match (place.to, outcome) {
                (None, _) => "were refused or not answered",
                (_, Outcome::Diverted) => "went another way",
                _ => "were lost",
            };
            writeln!(
                out,
                "{} of {} packets from {from} to {to}{way} {what} between {} and {} ({}, {})",
                verdict.lost,
                verdict.sent,
                words::point(case, place.from),
                words::behind(case, place, verdict.direction),
                words::stage(place.kind),
                words::confidence(verdict.confidence),
            )?;
        }
        (None, Outcome::Delivered) => {
            let counts: Vec<String> = findings
                .routes
                .iter()
                .filter(|route| route.sent > 0)
                .map(|route| {
                    let (from, to) = words::ends(findings, route.direction);
                    format!("{} packets from {from} to {to}", route.sent)
                })
                .collect();
            writeln!(out, "all of {}", counts.join(" and "))?;
        }
        (None, Outcome::NoTraffic) => {
            writeln!(
                out,
                "not one packet{} between {from} and {to} was seen at any of the points",
                only(case)
            )?;
        }
        (None, _) => writeln!(out, "the captures cannot tell whether packets from {from} to {to} arrived")?,
    }
    for doubt in &verdict.doubts {
        writeln!(out, "  but: {doubt}")?;
    }
    Ok(())
}

/// The traffic that was asked for, if not all.
fn only(case: &crate::evidence::Case) -> String {
    let protocol = case.only.protocol.map(|number| match number {
        1 => " of ICMP".to_owned(),
        6 => " of TCP".to_owned(),
        17 => " of UDP".to_owned(),
        other => format!(" of protocol {other}"),
    });
    let port = case.only.port.map(|port| format!(" with port {port}"));
    [protocol, port].into_iter().flatten().collect()
}

fn heading(findings: &Findings, out: &mut dyn io::Write) -> io::Result<()> {
    let case = &findings.case;
    let end = |end: &crate::evidence::Endpoint| match &end.node {
        Some(node) => format!("{} ({}, on {node})", end.name, end.address),
        None => format!("{} ({})", end.name, end.address),
    };
    writeln!(out, "\nfrom {}\nto   {}", end(&case.from), end(&case.to))?;
    if let Some(window) = &case.window {
        let start = words::time(Timestamp(window.start));
        writeln!(out, "     {:.1} s from {start}", window.seconds)?;
    }
    if let Some(probe) = &case.probe {
        writeln!(out, "     {}", probe_words(probe))?;
    }
    Ok(())
}

fn probe_words(probe: &ProbeFacts) -> String {
    let errors: Vec<String> =
        probe.errors.iter().map(|(error, count)| format!("{error} ({count} times)")).collect();
    let errors = if errors.is_empty() { String::new() } else { format!("; {}", errors.join(", ")) };
    format!("probe {}: {} sent, {} answered{errors}", probe.kind, probe.sent, probe.answered)
}

pub(super) fn table(
    findings: &Findings,
    route: &Route,
    style: Style,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let (from, to) = words::ends(findings, route.direction);
    writeln!(out, "\n{} from {from} to {to}", words::direction(route.direction))?;
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
    for stage in route.stages.iter().filter(|stage| stage.lost > 0) {
        details(findings, stage, out)?;
    }
    if let Some(unanswered) = route.unanswered.as_ref().filter(|unanswered| unanswered.lost() > 0) {
        writeln!(
            out,
            "  {} of {} requests that reached {} were refused, {} got no answer",
            unanswered.refused,
            unanswered.arrived,
            words::point(&findings.case, unanswered.at),
            unanswered.silent
        )?;
    }
    for (count, what) in [
        (route.looped, "times a packet passed one point again with a lower TTL: a routing loop"),
        (route.unjudged, "packets were too near to an edge of a capture to be judged"),
        (route.doubtful, "packets are missing, but the captures lost frames themselves"),
    ] {
        if count > 0 {
            writeln!(out, "  {count} {what}")?;
        }
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
        format!("  <- {} of {} lost ({})", stage.lost, stage.entered, words::stage(stage.kind))
    });
    let line = format!(
        "  {:width$}  {:6}  {passed:>9}  {lost_words:>9}  {:>9}  {:>9}{mark}",
        point.id,
        words::role(point.role),
        p50.map_or(String::new(), duration),
        p99.map_or(String::new(), duration),
    );
    writeln!(out, "{paint}{}{plain}", line.trim_end())
}

fn details(findings: &Findings, stage: &StageCount, out: &mut dyn io::Write) -> io::Result<()> {
    let (from, to) = (words::point(&findings.case, stage.from), words::point(&findings.case, stage.to));
    for (way, count) in &stage.astray {
        writeln!(out, "  {count} of those missing at {to} were {}", way.words(&findings.case))?;
    }
    if let Some((shortest, longest)) = stage.lost_len.filter(|_| stage.lost < stage.entered) {
        let range =
            if shortest == longest { shortest.to_string() } else { format!("{shortest} to {longest}") };
        writeln!(out, "  lost after {from}: packets of {range} bytes")?;
    }
    Ok(())
}

/// What else was seen on the way.
fn notes(findings: &Findings, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let few = if style.verbose { usize::MAX } else { 3 };
    let case = &findings.case;
    if !findings.translations.is_empty() || !findings.errors.is_empty() {
        writeln!(out)?;
    }
    for (words, (flows, packets)) in translations(findings).into_iter().take(few) {
        writeln!(out, "{words} ({flows} flows, {packets} packets)")?;
    }
    for seen in findings.errors.iter().take(few) {
        error(findings, seen, out)?;
    }
    if let Some(clock) = &findings.clock {
        let error = clock.error.map_or("error unknown".to_owned(), |error| format!("± {}", duration(error)));
        let offset = clock.offset;
        if offset.abs() > clock.error.unwrap_or_default() && offset.abs() > Nanos::from_millis(1) {
            writeln!(out, "Clock of {} is {} off ({error}), {}", clock.node, duration(offset), clock.source)?;
        }
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

pub(super) fn error(findings: &Findings, error: &ErrorSeen, out: &mut dyn io::Write) -> io::Result<()> {
    let at = words::point(&findings.case, error.at);
    writeln!(out, "{} sent {} {} times (seen at {at})", error.by, error.what, error.count)
}

/// Address changes in words, those of flows that differ in the client's port alone taken together.
fn translations(findings: &Findings) -> Vec<(String, (u64, u64))> {
    let mut all: Vec<(String, (u64, u64))> = Vec::new();
    for change in &findings.translations {
        let (before, after) = (&change.before, &change.after);
        let from_client = change.direction == Direction::Forward;
        // The client's port is another one for every flow, and an echo has none.
        let end = |address: std::net::IpAddr, port: u16, server: bool| match port {
            1.. if server && !matches!(before.protocol, 1 | 58) => {
                std::net::SocketAddr::new(address, port).to_string()
            }
            _ => address.to_string(),
        };
        let mut parts = Vec::new();
        for (which, was, is) in [
            (
                "source",
                end(before.src, before.src_port, !from_client),
                end(after.src, after.src_port, !from_client),
            ),
            (
                "destination",
                end(before.dst, before.dst_port, from_client),
                end(after.dst, after.dst_port, from_client),
            ),
        ] {
            if was != is {
                parts.push(format!("{which} {was} becomes {is}"));
            }
        }
        let words = format!(
            "Addresses change between {} and {}: {}",
            words::point(&findings.case, change.from),
            words::point(&findings.case, change.to),
            parts.join(", ")
        );
        match all.iter_mut().find(|(known, _)| *known == words) {
            Some((_, (flows, packets))) => {
                *flows += 1;
                *packets += change.packets;
            }
            None => all.push((words, (1, change.packets))),
        }
    }
    all
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
    let unread = findings.case.points.iter().filter(|point| matches!(point.state, Known::Unreadable(_)));
    let mut steps: Vec<String> = findings
        .causes
        .iter()
        .take(2)
        .map(|cause| cause.remedy.clone())
        .filter(|step| !step.is_empty())
        .collect();
    if findings.verdict.outcome == Outcome::NoTraffic && findings.case.probe.is_none() {
        steps.push(
            "send something while capturing, or let trace-drop do it: add --probe icmp, tcp:PORT or udp:PORT"
                .to_owned(),
        );
    }
    if findings.verdict.outcome == Outcome::Inconclusive {
        steps.push("capture again with a larger --buffer, a smaller --snaplen, or only some of the traffic (--protocol, --port)".to_owned());
    }
    steps.extend(unread.map(|point| format!("find out why {} could not be captured", point.id)));
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

/// In the unit that a person would choose.
fn duration(time: Nanos) -> String {
    let micros = time.as_micros();
    match micros.abs() {
        size if size < 1_000.0 => format!("{micros:.1} µs"),
        size if size < 1_000_000.0 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}
