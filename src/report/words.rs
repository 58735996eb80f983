//! The words that text and JSON share: names of outcomes, stages, directions and points.

use crate::analyze::findings::{Confidence, Findings, Outcome, Place};
use crate::evidence::{Case, Direction, PointId, Role};
use crate::packet::Timestamp;

pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Dropped => "dropped",
        Outcome::Diverted => "diverted",
        Outcome::NoTraffic => "no_traffic",
        Outcome::Inconclusive => "inconclusive",
    }
}

pub(super) fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Confirmed => "confirmed",
        Confidence::Likely => "likely",
        Confidence::Possible => "possible",
    }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Pod => "pod",
        Role::Veth => "veth",
        Role::Tunnel => "tunnel",
        Role::Nic => "nic",
    }
}

/// A point's id.
pub(super) fn point(case: &Case, id: PointId) -> &str {
    &case.points[id.index()].id
}

/// The point behind a place: the next point, or the endpoint itself.
pub(super) fn behind<'c>(case: &'c Case, place: &Place, way: Direction) -> &'c str {
    match (place.to, way) {
        (Some(to), _) => point(case, to),
        (None, Direction::Forward) => &case.to.name,
        (None, Direction::Reply) => &case.from.name,
    }
}

/// The end that packets of a direction come from, and the one they go to.
pub(super) fn ends(findings: &Findings, way: Direction) -> (&str, &str) {
    let (from, to) = (&findings.case.from.name, &findings.case.to.name);
    match way {
        Direction::Forward => (from, to),
        Direction::Reply => (to, from),
    }
}

/// RFC 3339, UTC, nanoseconds.
pub(super) fn time(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time.0))
        .map_or_else(|_| format!("{} ns", time.0), |stamp| format!("{stamp:.9}"))
}

/// As it can be shown in a page or a picture: characters that XML forbids, and those that turn the direction of what
/// follows, would show something else than what was read.
pub(super) fn shown(text: &str) -> String {
    let hides = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
    };
    text.chars().map(|c| if hides(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// At most `most` characters of it, the middle left out: names differ at their ends.
pub(super) fn short(text: &str, most: usize) -> String {
    let shown = shown(text);
    let n_chars = shown.chars().count();
    if n_chars <= most {
        return shown;
    }
    let (head, tail) = (most / 2, most - most / 2 - 1);
    let begin: String = shown.chars().take(head).collect();
    let end: String = shown.chars().skip(n_chars - tail).collect();
    format!("{begin}…{end}")
}
