//! The JSON report, schema `trace-drop/report/v1`. Keys may be added; those of the contract never change their
//! meaning.

use std::io;

use serde::Serialize;

use super::words;
use crate::analyze::findings::{Cause, Findings, Place, Route, StageCount};
use crate::evidence::case::Coverage;
use crate::evidence::{Case, Direction, Endpoint};
use crate::packet::{Nanos, Timestamp};

/// Writes the report as one JSON object and a newline.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn json(findings: &Findings, out: &mut dyn io::Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &Report::of(findings))?;
    writeln!(out)
}

#[derive(Serialize)]
pub(super) struct Report<'f> {
    schema: &'static str,
    from: &'f Endpoint,
    to: &'f Endpoint,
    window: Option<Window>,
    points: Vec<Point<'f>>,
    directions: Vec<Way<'f>>,
    verdict: Verdict<'f>,
    causes: Vec<CauseOut<'f>>,
    address_changes: Vec<AddressChange<'f>>,
    icmp_errors: Vec<IcmpError<'f>>,
    clock: Option<ClockOut<'f>>,
    probe: Option<&'f crate::evidence::case::ProbeFacts>,
    warnings: &'f [String],
}

#[derive(Serialize)]
struct Window {
    start: String,
    seconds: f64,
}

#[derive(Serialize)]
struct Point<'f> {
    id: &'f str,
    node: &'f str,
    interface: &'f str,
    role: &'static str,
    packets: u64,
    capture_dropped: u64,
    captured: bool,
}

#[derive(Serialize)]
struct Way<'f> {
    direction: &'static str,
    path: Vec<&'f str>,
    sent: u64,
    delivered: u64,
    unjudged: u64,
    doubtful: u64,
    looped: u64,
    stages: Vec<Stage<'f>>,
    unanswered: Option<Unanswered<'f>>,
}

#[derive(Serialize)]
struct Stage<'f> {
    from: &'f str,
    to: &'f str,
    kind: &'static str,
    entered: u64,
    lost: u64,
    latency_us: Option<Latency>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    elsewhere: Vec<Elsewhere>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_bytes: Option<Lengths>,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_error: Option<f64>,
}

#[derive(Serialize)]
struct Elsewhere {
    what: String,
    packets: u64,
}

#[derive(Serialize)]
struct Lengths {
    shortest: u32,
    longest: u32,
}

#[derive(Serialize)]
struct Unanswered<'f> {
    at: &'f str,
    kind: &'static str,
    arrived: u64,
    refused: u64,
    silent: u64,
}

#[derive(Serialize)]
struct Verdict<'f> {
    outcome: &'static str,
    direction: &'static str,
    stage: Option<StageName<'f>>,
    sent: u64,
    lost: u64,
    confidence: &'static str,
    doubts: &'f [String],
}

#[derive(Serialize)]
struct StageName<'f> {
    from: &'f str,
    to: &'f str,
    kind: &'static str,
}

#[derive(Serialize)]
struct CauseOut<'f> {
    kind: &'static str,
    node: &'f str,
    confidence: &'static str,
    summary: &'f str,
    remedy: &'f str,
    evidence: Vec<Evidence<'f>>,
}

#[derive(Serialize)]
struct Evidence<'f> {
    source: &'static str,
    detail: &'f str,
}

#[derive(Serialize)]
struct AddressChange<'f> {
    direction: &'static str,
    from: &'f str,
    to: &'f str,
    before: String,
    after: String,
    packets: u64,
}

#[derive(Serialize)]
struct IcmpError<'f> {
    by: std::net::IpAddr,
    what: &'f str,
    about: Option<&'static str>,
    at: &'f str,
    count: u64,
}

#[derive(Serialize)]
struct ClockOut<'f> {
    node: &'f str,
    offset_us: f64,
    error_us: Option<f64>,
    source: &'f str,
}

impl<'f> Report<'f> {
    pub(super) fn of(findings: &'f Findings) -> Self {
        let case = &findings.case;
        let verdict = &findings.verdict;
        Self {
            schema: "trace-drop/report/v1",
            from: &case.from,
            to: &case.to,
            window: case.window.as_ref().map(|window| Window {
                start: words::time(Timestamp(window.start)),
                seconds: window.seconds,
            }),
            points: points(findings),
            directions: findings.routes.iter().map(|route| Way::of(case, route)).collect(),
            verdict: Verdict {
                outcome: words::outcome(verdict.outcome),
                direction: verdict.direction.name(),
                stage: verdict.place.as_ref().map(|place| StageName::of(case, place, verdict.direction)),
                sent: verdict.sent,
                lost: verdict.lost,
                confidence: words::confidence(verdict.confidence),
                doubts: &verdict.doubts,
            },
            causes: findings.causes.iter().map(CauseOut::of).collect(),
            address_changes: address_changes(findings),
            icmp_errors: icmp_errors(findings),
            clock: findings.clock.as_ref().map(|clock| ClockOut {
                node: &clock.node,
                offset_us: clock.offset.as_micros(),
                error_us: clock.error.map(Nanos::as_micros),
                source: &clock.source,
            }),
            probe: case.probe.as_ref(),
            warnings: &findings.warnings,
        }
    }
}

fn points(findings: &Findings) -> Vec<Point<'_>> {
    let all = findings.case.points.iter().zip(&findings.frames).map(|(point, packets)| {
        let coverage = point.state.read();
        Point {
            id: &point.id,
            node: &point.node,
            interface: &point.interface,
            role: words::role(point.role),
            packets: *packets,
            capture_dropped: coverage.map_or(0, Coverage::lost),
            captured: coverage.is_some(),
        }
    });
    all.collect()
}

fn address_changes(findings: &Findings) -> Vec<AddressChange<'_>> {
    let all = findings.translations.iter().map(|change| AddressChange {
        direction: change.direction.name(),
        from: words::point(&findings.case, change.from),
        to: words::point(&findings.case, change.to),
        before: change.before.to_string(),
        after: change.after.to_string(),
        packets: change.packets,
    });
    all.collect()
}

fn icmp_errors(findings: &Findings) -> Vec<IcmpError<'_>> {
    let all = findings.errors.iter().map(|error| IcmpError {
        by: error.by,
        what: &error.what,
        about: error.about.map(Direction::name),
        at: words::point(&findings.case, error.at),
        count: error.count,
    });
    all.collect()
}

impl<'f> Way<'f> {
    fn of(case: &'f Case, route: &'f Route) -> Self {
        let stages = route.stages.iter().map(|stage| Stage::of(case, stage));
        let unanswered = route.unanswered.as_ref().filter(|unanswered| unanswered.lost() > 0);
        Self {
            direction: route.direction.name(),
            path: route.path.iter().map(|id| words::point(case, *id)).collect(),
            sent: route.sent,
            delivered: route.delivered,
            unjudged: route.unjudged,
            doubtful: route.doubtful,
            looped: route.looped,
            stages: stages.chain(unanswered.map(|end| Stage::behind(case, end, route.direction))).collect(),
            unanswered: unanswered.map(|unanswered| Unanswered {
                at: words::point(case, unanswered.at),
                kind: unanswered.kind.name(),
                arrived: unanswered.arrived,
                refused: unanswered.refused,
                silent: unanswered.silent,
            }),
        }
    }
}

impl<'f> Stage<'f> {
    fn of(case: &'f Case, stage: &StageCount) -> Self {
        let elsewhere =
            stage.astray.iter().map(|(way, packets)| Elsewhere { what: way.words(case), packets: *packets });
        Self {
            from: words::point(case, stage.from),
            to: words::point(case, stage.to),
            kind: stage.kind.name(),
            entered: stage.entered,
            lost: stage.lost,
            latency_us: stage.latency.map(|(p50, p99)| Latency {
                p50: p50.as_micros(),
                p99: p99.as_micros(),
                clock_error: stage.clock_error.map(Nanos::as_micros),
            }),
            elsewhere: elsewhere.collect(),
            lost_bytes: stage.lost_len.map(|(shortest, longest)| Lengths { shortest, longest }),
        }
    }

    /// From the last point to the end itself, where requests stay without their answer.
    fn behind(case: &'f Case, end: &crate::analyze::findings::Unanswered, way: Direction) -> Self {
        let StageName { from, to, kind } =
            StageName::of(case, &Place { from: end.at, to: None, kind: end.kind }, way);
        Self {
            from,
            to,
            kind,
            entered: end.arrived,
            lost: end.lost(),
            latency_us: None,
            elsewhere: Vec::new(),
            lost_bytes: None,
        }
    }
}

impl<'f> StageName<'f> {
    fn of(case: &'f Case, place: &Place, way: Direction) -> Self {
        Self {
            from: words::point(case, place.from),
            to: words::behind(case, place, way),
            kind: place.kind.name(),
        }
    }
}

impl<'f> CauseOut<'f> {
    fn of(cause: &'f Cause) -> Self {
        let evidence =
            cause.evidence.iter().map(|proof| Evidence { source: proof.source, detail: &proof.detail });
        Self {
            kind: cause.kind,
            node: &cause.node,
            confidence: words::confidence(cause.confidence),
            summary: &cause.summary,
            remedy: &cause.remedy,
            evidence: evidence.collect(),
        }
    }
}
