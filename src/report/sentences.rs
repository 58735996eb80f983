//! Whole sentences of a trace's report, the same in the text, the page and the markdown: the verdict, who was traced
//! when, what else was seen, what to do next.

use super::words;
use crate::analyze::Mark;
use crate::analyze::findings::{Findings, Outcome, Route, StageCount};
use crate::evidence::{Case, Direction, Endpoint, Known};
use crate::packet::{Nanos, Timestamp};

/// What became of the traffic, in one word or two, as a heading.
pub(super) fn outcome(findings: &Findings) -> String {
    words::outcome(findings.verdict.outcome).to_uppercase().replace('_', " ")
}

/// The answer.
pub(super) fn verdict(findings: &Findings) -> String {
    let verdict = &findings.verdict;
    let case = &findings.case;
    let (from, to) = words::ends(findings, verdict.direction);
    let way = if verdict.direction == Direction::Forward { "" } else { " (the replies)" };
    match (&verdict.place, verdict.outcome) {
        (Some(place), outcome) => {
            let what = match (place.to, outcome) {
                (None, _) => "were refused or not answered",
                (_, Outcome::Diverted) => "went another way",
                _ => "were lost",
            };
            format!(
                "{} of {} packets from {from} to {to}{way} {what} between {} and {} ({}, {})",
                verdict.lost,
                verdict.sent,
                words::point(case, place.from),
                words::behind(case, place, verdict.direction),
                place.kind.name(),
                words::confidence(verdict.confidence),
            )
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
            format!("all of {}", counts.join(" and "))
        }
        (None, Outcome::NoTraffic) => {
            format!("not one packet{} between {from} and {to} was seen at any of the points", only(case))
        }
        (None, _) => format!("the captures cannot tell whether packets from {from} to {to} arrived"),
    }
}

/// The traffic that was asked for, if not all.
fn only(case: &Case) -> String {
    let protocol = case.only.protocol.map(|number| match number {
        1 => " of ICMP".to_owned(),
        6 => " of TCP".to_owned(),
        17 => " of UDP".to_owned(),
        other => format!(" of protocol {other}"),
    });
    let port = case.only.port.map(|port| format!(" with port {port}"));
    [protocol, port].into_iter().flatten().collect()
}

/// One end of the trace.
pub(super) fn end(end: &Endpoint) -> String {
    match &end.node {
        Some(node) => format!("{} ({}, on {node})", end.name, end.address),
        None => format!("{} ({})", end.name, end.address),
    }
}

/// When it was captured, if that is known.
pub(super) fn when(case: &Case) -> Option<String> {
    let window = case.window.as_ref()?;
    Some(format!("{:.1} s from {}", window.seconds, words::time(Timestamp(window.start))))
}

/// What the probe did.
pub(super) fn probe(case: &Case) -> Option<String> {
    let probe = case.probe.as_ref()?;
    let errors: Vec<String> =
        probe.errors.iter().map(|(error, count)| format!("{error} ({count} times)")).collect();
    let errors = if errors.is_empty() { String::new() } else { format!("; {}", errors.join(", ")) };
    Some(format!("probe {}: {} sent, {} answered{errors}", probe.kind, probe.sent, probe.answered))
}

/// What a direction's table does not say: where lost packets went, how long they were, what could not be judged.
pub(super) fn beside(case: &Case, route: &Route) -> Vec<String> {
    let mut all: Vec<String> =
        route.stages.iter().filter(|stage| stage.lost > 0).flat_map(|stage| details(case, stage)).collect();
    if let Some(unanswered) = route.unanswered.as_ref().filter(|unanswered| unanswered.lost() > 0) {
        all.push(format!(
            "{} of {} requests that reached {} were refused, {} got no answer",
            unanswered.refused,
            unanswered.arrived,
            words::point(case, unanswered.at),
            unanswered.silent
        ));
    }
    for (count, what) in [
        (route.looped, "times a packet passed one point again with a lower TTL: a routing loop"),
        (route.unjudged, "packets were too near to an edge of a capture to be judged"),
        (route.doubtful, "packets are missing, but the captures lost frames themselves"),
    ] {
        if count > 0 {
            all.push(format!("{count} {what}"));
        }
    }
    all
}

fn details(case: &Case, stage: &StageCount) -> Vec<String> {
    let (from, to) = (words::point(case, stage.from), words::point(case, stage.to));
    let ways = stage.astray.iter();
    let mut all: Vec<String> = ways
        .map(|(way, count)| format!("{count} of those missing at {to} were {}", way.words(case)))
        .collect();
    if let Some((shortest, longest)) = stage.lost_len.filter(|_| stage.lost < stage.entered) {
        let range =
            if shortest == longest { shortest.to_string() } else { format!("{shortest} to {longest}") };
        all.push(format!("lost after {from}: packets of {range} bytes"));
    }
    all
}

/// Address changes, those of flows that differ in the client's port alone taken together.
pub(super) fn translations(findings: &Findings) -> Vec<String> {
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
    all.into_iter()
        .map(|(words, (flows, packets))| format!("{words} ({flows} flows, {packets} packets)"))
        .collect()
}

/// ICMP errors about the traffic, most first.
pub(super) fn errors(findings: &Findings) -> Vec<String> {
    let all = findings.errors.iter().map(|error| {
        let at = words::point(&findings.case, error.at);
        format!("{} sent {} {} times (seen at {at})", error.by, error.what, error.count)
    });
    all.collect()
}

/// The other node's clock, if it is off by more than can be an error.
pub(super) fn clock(findings: &Findings) -> Option<String> {
    let clock = findings.clock.as_ref()?;
    let error = clock.error.map_or("error unknown".to_owned(), |error| format!("± {}", duration(error)));
    let offset = clock.offset;
    let is_off = offset.abs() > clock.error.unwrap_or_default() && offset.abs() > Nanos::from_millis(1);
    is_off.then(|| format!("Clock of {} is {} off ({error}), {}", clock.node, duration(offset), clock.source))
}

/// What to do next.
pub(super) fn next(findings: &Findings) -> Vec<String> {
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
    steps
}

/// For a frame of a packet that vanished.
///
/// It stands in a capture file, beside the frame.
pub fn comment(findings: &Findings, mark: &Mark) -> String {
    let (last, never) = (words::point(&findings.case, mark.last), words::point(&findings.case, mark.never));
    let missing = if mark.sure {
        format!("never at {never}")
    } else {
        format!("missing at {never}, where the capture lost frames itself")
    };
    match (mark.here, mark.part) {
        (true, _) => format!("last seen here; {missing}"),
        (false, false) => format!("lost: last seen at {last}; {missing}"),
        (false, true) => format!("lost in part: last seen at {last}; {missing}"),
    }
}

/// In the unit that a person would choose.
pub(super) fn duration(time: Nanos) -> String {
    let micros = time.as_micros();
    match micros.abs() {
        size if size < 1_000.0 => format!("{micros:.1} µs"),
        size if size < 1_000_000.0 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}
