//! Why packets never came to the first point, or fewer than were sent: what keeps a pod from sending. Takes the pod's own
//! state and rules and what the probe's socket said; the captures show nothing of it but questions for the gateway.

use std::net::Ipv4Addr;

use crate::analyze::Evidence;
use crate::analyze::correlate::sift::Sift;
use crate::analyze::findings::{Cause, Confidence, Findings, Outcome, Proof};
use crate::analyze::state::{Way, faults};

use super::rules;
use super::states::cause;

/// The causes of packets that never started.
pub(super) fn explain(
    findings: &mut Findings,
    evidence: &Evidence<'_>,
    way: Option<&Way<'_>>,
    sift: &Sift,
) -> Vec<Cause> {
    let missing = missing(findings);
    let mut causes = Vec::new();
    if findings.verdict.outcome == Outcome::NoTraffic || missing > 0 {
        causes.extend(rules::before(findings, evidence, missing));
        let Some(way) = way else { return causes };
        causes.extend(silenced(way, missing));
    }
    if findings.verdict.outcome == Outcome::NoTraffic {
        let asked = unanswered_arp(findings, sift);
        let Some(way) = way else { return causes };
        let stopping = faults(way).into_iter().filter(|fault| fault.breaks && fault.stops_sending());
        causes.extend(stopping.map(|fault| {
            let mut cause = cause(&fault, Confidence::Likely);
            if let (true, Some(asked)) = (fault.kind == "proxy_arp_off", &asked) {
                cause.confidence = Confidence::Confirmed;
                cause.evidence.push(Proof { source: "capture", detail: asked.clone() });
            }
            cause
        }));
        findings.verdict.doubts.extend(asked);
    }
    causes
}

/// Packets that the probe sent and no point saw.
fn missing(findings: &Findings) -> u64 {
    let Some(probe) = findings.case.probe.as_ref().filter(|probe| !probe.kind.starts_with("tcp")) else {
        return 0;
    };
    let refused: u64 = probe.errors.iter().map(|(_, count)| count).sum();
    let forward = findings.routes.iter().find(|route| route.direction == crate::evidence::Direction::Forward);
    let seen = forward.map_or(0, |route| route.sent + route.unjudged + route.doubtful);
    probe.sent.max(refused).saturating_sub(seen)
}

/// The pod's own interface has a queue that threw packets away, before any point could see them.
fn silenced(way: &Way<'_>, missing: u64) -> Vec<Cause> {
    let Some(pod) = way.from.pod else { return Vec::new() };
    let overflown = pod.overflown().into_iter().map(|(queue, drops)| Cause {
        kind: "queue_overflow",
        node: way.from.node.to_owned(),
        confidence: if drops == missing { Confidence::Confirmed } else { Confidence::Likely },
        summary: format!(
            "the queue of the pod's own {} threw {drops} packets away before any point could see them",
            queue.link
        ),
        remedy: format!("in the pod: `tc -s qdisc show dev {}`; find out who set this queue", queue.link),
        evidence: vec![Proof {
            source: "qdisc",
            detail: format!(
                "{} on {} in the pod dropped {drops} while {missing} packets of the probe were seen nowhere",
                queue.kind, queue.link
            ),
        }],
    });
    overflown.collect()
}

/// A pod that gets no answer to ARP cannot send at all: the captures then show its questions and nothing else.
fn unanswered_arp(findings: &Findings, sift: &Sift) -> Option<String> {
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    let ((point, _), note) = sift
        .arps
        .iter()
        .find(|((_, about), note)| *about == gateway && note.requests > 0 && note.replies == 0)?;
    let id = &findings.case.points[point.index()].id;
    Some(format!(
        "the pod asks who has {gateway} ({} times at {id}) and nobody answers: it cannot send anything",
        note.requests
    ))
}
