//! The checks without a capture, those of the state and those of the rules taken together. Takes the ground that they stand
//! on; gives one [`Checkup`]. A rule is a finding only where every kind of traffic surely ends at one, or where it is
//! no part of the cluster: that a policy refuses a port is what policies are for.

use super::rules::journey::{Journey, Leg, LegEnd, Nodes, Request, Step, Verdict, travel};
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
            let request = Request { protocol: *protocol, ..Request::of_case(ground.case, &nodes) };
            (*name, travel(request, &nodes, ground.cluster))
        })
        .collect();
    let ends: Vec<(&str, &Leg, &Step)> = journeys
        .iter()
        .filter_map(|(name, journey)| ending(journey).map(|(leg, step)| (*name, leg, step)))
        .collect();
    let all = ends.len() == PROTOCOLS.len();
    let mut faults: Vec<Fault> = Vec::new();
    for (_, leg, step) in &ends {
        let kind = kind_of(step);
        // What a policy refuses of one protocol, it may be meant to.
        if !all && kind != "host_firewall" {
            continue;
        }
        let same = ends.iter().filter(|(_, other, at)| other.node == leg.node && read(at) == read(step));
        let names: Vec<&str> = same.map(|(name, ..)| *name).collect();
        let fault = fault(ground, leg, step, kind, &names, all);
        if !faults.iter().any(|known| known.node == fault.node && known.read == fault.read) {
            faults.push(fault);
        }
    }
    if faults.is_empty() && journeys.iter().all(|(_, journey)| journey.verdict == Verdict::Unknown) {
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

/// The first leg that nothing passes, whichever way it goes there, and what ends it.
fn ending(journey: &Journey) -> Option<(&Leg, &Step)> {
    let closed = |leg: &&Leg| {
        let drops = |end: &LegEnd| matches!(end.what, "dropped" | "rejected");
        leg.doubts.is_empty() && !leg.ends.is_empty() && leg.ends.iter().all(drops)
    };
    let leg = journey.legs.iter().find(closed)?;
    leg.steps.get(leg.ends.first()?.step?).map(|step| (leg, step))
}

/// A step as it was read.
fn read(step: &Step) -> String {
    let of = step.of.as_ref().map(|of| format!(" ({of})")).unwrap_or_default();
    format!("{} -t {} {}{of}: {}", step.text, step.table, step.chain, step.words)
}

fn kind_of(step: &Step) -> &'static str {
    match chain_kind(&step.chain) {
        Some(ChainKind::Policy | ChainKind::Workload { .. }) => "network_policy",
        Some(_) => "calico_rule",
        None => "host_firewall",
    }
}

fn fault(
    ground: &Ground<'_>,
    leg: &Leg,
    step: &Step,
    kind: &'static str,
    protocols: &[&str],
    all: bool,
) -> Fault {
    let (from, to) = (&ground.case.from.name, &ground.case.to.name);
    let what = if all { "every new connection".to_owned() } else { protocols.join(" and ") };
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
        read: read(step),
        expected: "a rule that accepts it, or none that drops it".to_owned(),
        counters: Vec::new(),
        counts_each: false,
    }
}
