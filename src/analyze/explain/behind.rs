//! What becomes of packets behind the last point, although all of them came there: the pod's socket may throw them away,
//! which no capture shows. Takes the sockets' own counters and what the probe says of its answers; without a probe it
//! cannot tell whose packets the socket lost, and says so by its confidence.

use crate::analyze::findings::{Cause, Confidence, Findings, Outcome};
use crate::analyze::state::{Fault, Way, faults};

use super::states::cause;

/// The causes of answers that are missing although every request was delivered.
pub(super) fn explain(findings: &Findings, way: Option<&Way<'_>>) -> Vec<Cause> {
    let Some(way) = way.filter(|_| findings.verdict.outcome == Outcome::Delivered) else { return Vec::new() };
    let full = faults(way).into_iter().filter(|fault| fault.kind == "socket_overflow");
    full.filter_map(|fault| Some(counted(cause(&fault, judge(findings, &fault)?), &fault))).collect()
}

/// None when the sockets that overflowed are not those that the probe speaks to.
fn judge(findings: &Findings, fault: &Fault) -> Option<Confidence> {
    let Some(probe) = &findings.case.probe else { return Some(Confidence::Possible) };
    let port = probe.kind.strip_prefix("udp:")?;
    let own = format!("socket:UDP port {port} drops");
    let (_, dropped) = fault.counters.iter().find(|(name, _)| *name == own)?;
    let unanswered = probe.sent.saturating_sub(probe.answered);
    Some(if *dropped == unanswered { Confidence::Confirmed } else { Confidence::Likely })
}

fn counted(mut cause: Cause, fault: &Fault) -> Cause {
    cause.evidence.extend(super::states::counters(fault, "while every packet came to the pod"));
    cause
}
