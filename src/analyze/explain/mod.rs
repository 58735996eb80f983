//! Why packets vanish: takes the place that [`locate`] named and the texts of its node; gives the causes that their
//! evidence supports, the likeliest first. A cause is never surer than its evidence.
//!
//! [`locate`]: super::locate

mod kernel;
mod rules;

use super::Evidence;
use super::correlate::sift::{ErrorNote, Sift};
use super::findings::{Cause, Confidence, Findings, Outcome, Proof};
use crate::evidence::StageKind;

/// Adds the causes to the findings, and what stood in the way of finding more.
pub(super) fn explain(findings: &mut Findings, evidence: &Evidence<'_>, sift: &Sift) {
    if findings.verdict.place.is_some() {
        let mut looked = rules::explain(findings, evidence);
        let (said, beside) = kernel::explain(findings, evidence);
        kernel::merge(&mut findings.causes, said);
        looked.extend(beside);
        findings.causes.sort_by_key(|cause| std::cmp::Reverse(cause.confidence));
        if findings.causes.is_empty() {
            findings.causes.push(unknown(findings, looked));
        }
    } else {
        // What was given up before the first point: no place, and yet a cause.
        let (said, _) = kernel::explain(findings, evidence);
        kernel::merge(&mut findings.causes, said);
    }
    if findings.verdict.outcome == Outcome::NoTraffic {
        unanswered_arp(findings, sift);
    }
}

/// No evidence points anywhere: says what was looked at, so that nobody looks there again.
fn unknown(findings: &Findings, looked: Vec<Proof>) -> Cause {
    let case = &findings.case;
    let place = findings.verdict.place.as_ref();
    let node = |point: crate::evidence::PointId| case.points[point.index()].node.clone();
    let kind = place.map(|place| place.kind);
    let node = match kind {
        Some(StageKind::Decapsulate | StageKind::Deliver) => place.and_then(|place| place.to).map(node),
        _ => place.map(|place| node(place.from)),
    };
    let (summary, remedy) = match kind {
        Some(StageKind::Underlay) => (
            "nothing on either node counts what is lost between their NICs".to_owned(),
            format!(
                "look at what lies between the nodes: security groups, firewalls for UDP port {}, MTU, cabling",
                case.vxlan_port
            ),
        ),
        _ if looked.is_empty() => {
            ("there were no rules' counters to look at".to_owned(), String::new())
        }
        _ => (
            "no iptables rule that these packets meet there counted them".to_owned(),
            "look at this node's routes, neighbours, FDB, sysctls and other nftables tables: `nft list ruleset`"
                .to_owned(),
        ),
    };
    Cause {
        kind: "unknown",
        node: node.unwrap_or_default(),
        confidence: Confidence::Possible,
        summary,
        remedy,
        evidence: looked,
    }
}

/// A pod that gets no answer to ARP cannot send at all: the captures then show its questions and nothing else.
fn unanswered_arp(findings: &mut Findings, sift: &Sift) {
    let gateway = std::net::Ipv4Addr::new(169, 254, 1, 1);
    for ((point, about), note) in &sift.arps {
        if *about == gateway && note.requests > 0 && note.replies == 0 && findings.verdict.doubts.is_empty() {
            let id = &findings.case.points[point.index()].id;
            findings.verdict.doubts.push(format!(
                "the pod asks who has {about} ({} times at {id}) and nobody answers: it cannot send anything",
                note.requests
            ));
        }
    }
}

/// An ICMP error in words, with its type and code.
pub(super) fn icmp_words(note: &ErrorNote) -> String {
    let (kind, code) = note.kind;
    let words = match (note.v6, kind, code) {
        (false, 3, 0) => "network unreachable",
        (false, 3, 1) | (true, 1, 3) => "host unreachable",
        (false, 3, 2) => "protocol unreachable",
        (false, 3, 3) | (true, 1, 4) => "port unreachable",
        (false, 3, 4) => "fragmentation needed",
        (false, 3, 9 | 10 | 13) | (true, 1, 1) => "administratively prohibited",
        (true, 1, 0) => "no route",
        (true, 2, _) => "packet too big",
        (false, 11, 0) | (true, 3, 0) => "TTL exceeded",
        (false, 11, 1) | (true, 3, 1) => "fragment reassembly time exceeded",
        (false, 5, _) => "redirect",
        (false, 12, _) | (true, 4, _) => "parameter problem",
        _ => "ICMP error",
    };
    let mtu = note.mtu.filter(|mtu| *mtu > 0).map(|mtu| format!(", mtu {mtu}")).unwrap_or_default();
    let name = if note.v6 { "ICMPv6" } else { "ICMP" };
    format!("{name} {kind}/{code} {words}{mtu}")
}
