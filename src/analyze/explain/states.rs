//! The faults of the nodes' state that fit the place where packets vanish: a fault of another stage or direction explains
//! nothing there. A counter that grew by as many as were lost confirms one; without, a fault that stops everything is
//! likely where everything was lost.

use crate::analyze::findings::{Cause, Confidence, Proof};
use crate::analyze::state::{Fault, Way};
use crate::evidence::StageKind;

use super::Scope;

/// A cause for each fault that fits; `apart` says whether a node's state is of another moment than the captures.
pub(super) fn explain(faults: &[Fault], scope: &Scope, apart: &dyn Fn(&str) -> bool) -> Vec<Cause> {
    let here = faults.iter().filter(|fault| fault.stage.is_some_and(|stage| scope.kinds.contains(&stage)));
    let judged = here.filter_map(|fault| judge(fault, scope)).map(|mut cause| {
        // A state of another moment may have been mended, or broken, in between.
        if apart(&cause.node) && cause.confidence == Confidence::Confirmed {
            cause.confidence = Confidence::Likely;
        }
        cause
    });
    judged.collect()
}

fn judge(fault: &Fault, scope: &Scope) -> Option<Cause> {
    let by_size = match (fault.longer_than, scope.lost_len) {
        (Some(limit), Some((shortest, _))) if shortest > limit => true,
        (Some(_), _) => return None,
        (None, _) => false,
    };
    let counted = fault.counters.iter().map(|(_, grown)| *grown).max().unwrap_or(0);
    if fault.counts_each && counted == 0 {
        return None;
    }
    let stops = fault.breaks || by_size;
    let elsewhere = scope.seen_elsewhere.as_ref().filter(|_| LEADS_ELSEWHERE.contains(&fault.kind));
    let confidence = match (counted >= scope.lost, scope.all_lost() || by_size) {
        _ if elsewhere.is_some() => Confidence::Confirmed,
        (true, _) if stops || (fault.counts_each && counted == scope.lost) => Confidence::Confirmed,
        (true, _) => Confidence::Likely,
        (_, true) if stops => Confidence::Likely,
        _ if counted * 2 >= scope.lost => Confidence::Likely,
        _ => Confidence::Possible,
    };
    let mut cause = cause(fault, confidence);
    if let (true, Some((shortest, longest))) = (by_size, scope.lost_len) {
        cause.evidence.push(Proof {
            source: "capture",
            detail: format!("every lost packet was longer: {shortest} to {longest} bytes"),
        });
    }
    if let Some(elsewhere) = elsewhere {
        cause.evidence.push(Proof { source: "capture", detail: format!("the packets were {elsewhere}") });
    }
    cause.evidence.extend(counters(fault, &format!("while {} packets were lost", scope.lost)));
    Some(cause)
}

/// Faults that send packets another way, where captures see them.
const LEADS_ELSEWHERE: &[&str] =
    &["fdb_wrong", "wrong_route", "no_route", "neighbour_wrong", "tunnel_down", "tunnel_missing"];

/// The counters that speak for a fault, each with when it grew.
pub(super) fn counters(fault: &Fault, meanwhile: &str) -> Vec<Proof> {
    let grown = fault.counters.iter().map(|(name, grown)| Proof {
        source: counter_source(name),
        detail: format!("{name} grew by {grown} {meanwhile}"),
    });
    grown.collect()
}

/// A fault as a cause, with what was read.
pub(super) fn cause(fault: &Fault, confidence: Confidence) -> Cause {
    Cause {
        kind: fault.kind,
        node: fault.node.clone(),
        confidence,
        summary: fault.summary.clone(),
        remedy: fault.remedy.clone(),
        evidence: vec![
            Proof { source: fault.source, detail: fault.read.clone() },
            Proof { source: fault.source, detail: format!("expected: {}", fault.expected) },
        ],
    }
}

/// Where a counter was read, by its name.
fn counter_source(name: &str) -> &'static str {
    match name.split_once(':') {
        Some(("conntrack", _)) => "conntrack",
        Some(("qdisc", _)) => "qdisc",
        Some(("socket", _)) => "socket",
        Some(_) => "snmp",
        None if name.starts_with("Ip6") || name.starts_with("Udp6") || name.starts_with("Icmp6") => "snmp",
        None => "link",
    }
}

/// What was looked at, for a report that can name no cause.
pub(super) fn looked(way: &Way<'_>, scope: &Scope) -> Vec<Proof> {
    let receiving = scope.kinds.iter().any(|kind| *kind >= StageKind::Decapsulate);
    let sending = scope.kinds.iter().any(|kind| *kind <= StageKind::Underlay);
    let sides = [(&way.from, sending), (&way.to, receiving)];
    let read = sides.into_iter().filter(|(side, involved)| *involved && side.host.is_some());
    read.map(|(side, _)| Proof {
        source: "state",
        detail: format!(
            "links, routes, neighbours, FDB, sysctls, queues, filters and counters of {}: nothing there explains it",
            side.node
        ),
    })
    .collect()
}
