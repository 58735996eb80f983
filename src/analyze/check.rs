//! The checks without a capture, those of the state and those of the rules taken together. Takes the ground that they stand
//! on; gives one [`Checkup`]. A rule is a finding only where every kind of traffic surely ends at one, or where it is
//! no part of the cluster: that a policy refuses a port is what policies are for.

use super::rules::journey::{Journey, Leg, Nodes, Request, Step, Verdict, travel};
use super::state::{self, Checkup, Fault, Ground};
use crate::evidence::StageKind;
use crate::evidence::calico::{ChainKind, chain_kind};

/// Makes every check that the ground allows.
pub fn check(ground: &Ground<'_>) -> Checkup {
    let mut checkup = state::check(ground);
    if !ground.case.paths.is_empty() {
        rules(ground, &mut checkup);
    }
    checkup
}

/// TCP, UDP and ICMP: what stops all three stops everything.
const PROTOCOLS: [(u8, &str); 3] = [(6, "TCP"), (17, "UDP"), (1, "ICMP")];

/// A new connection from the first end to the second, through the rules of both nodes.
fn rules(ground: &Ground<'_>, checkup: &mut Checkup) {
    let nodes = Nodes::read(ground.texts);
    let journeys: Vec<(&str, Journey)> = PROTOCOLS
        .iter()
        .map(|(protocol, name)| {
            let request = Request { protocol: *protocol, ..Request::of_case(ground.case) };
            (*name, travel(request, &nodes, ground.cluster))
        })
        .collect();
    let ends: Vec<(&str, &Leg, &Step)> = journeys
        .iter()
        .filter_map(|(name, journey)| ending(journey).map(|(leg, step)| (*name, leg, step)))
        .collect();
    let all = ends.len() == PROTOCOLS.len();
    let mut faults: Vec<Fault> = Vec::new();
    for (name, leg, step) in &ends {
        let kind = kind_of(step);
        // What a policy refuses of one protocol, it may be meant to.
        if !all && kind != "host_firewall" {
            continue;
        }
        let what = if all { "every new connection" } else { name };
        let fault = fault(ground, leg, step, kind, what, all);
        if !faults.iter().any(|known| known.node == fault.node && known.read == fault.read) {
            faults.push(fault);
        }
    }
    if journeys.iter().all(|(_, journey)| journey.verdict == Verdict::Unknown) {
        let doubts = journeys.iter().flat_map(|(_, journey)| &journey.legs).flat_map(|leg| &leg.doubts);
        let why = doubts.map(String::as_str).next().unwrap_or("it hangs on matches that are not known");
        let why = format!("whether the rules let a new connection pass cannot be told: {why}");
        checkup.unread.push(format!("{why}; `trace-drop rules --from … --to …` shows its way"));
    } else {
        for fault in &faults {
            checkup.forget(fault.kind, &fault.node);
        }
        checkup.add("", "the rules of both nodes let a new connection pass", faults);
    }
}

/// Where a packet surely ends.
fn ending(journey: &Journey) -> Option<(&Leg, &Step)> {
    let leg = journey.legs.last().filter(|_| journey.verdict == Verdict::Ends)?;
    let step = leg.ends.first()?.step?;
    leg.steps.get(step).map(|step| (leg, step))
}

fn kind_of(step: &Step) -> &'static str {
    match chain_kind(&step.chain) {
        Some(ChainKind::Policy | ChainKind::Workload { .. }) => "network_policy",
        Some(_) => "calico_rule",
        None => "host_firewall",
    }
}

fn fault(ground: &Ground<'_>, leg: &Leg, step: &Step, kind: &'static str, what: &str, all: bool) -> Fault {
    let (from, to) = (&ground.case.from.name, &ground.case.to.name);
    let of = step.of.as_ref().map(|of| format!(" ({of})")).unwrap_or_default();
    let whose = match kind {
        "network_policy" => "network policies",
        "calico_rule" => "one of Calico's own rules",
        _ => "a rule that is not Calico's",
    };
    Fault {
        kind,
        node: leg.node.clone(),
        stage: Some(StageKind::Forward),
        breaks: all,
        longer_than: None,
        summary: format!("{what} from {from} to {to} ends on {} by {whose}", leg.node),
        remedy: format!(
            "`trace-drop rules --from {from} --to {to}` shows the rules on the way; change the policy, or the rule"
        ),
        source: "iptables",
        read: format!("{} -t {} {}{of}: {}", step.text, step.table, step.chain, step.words),
        expected: "a rule that accepts it, or none that drops it".to_owned(),
        counters: Vec::new(),
        counts_each: false,
    }
}
