//! The kernel's own word about the packets that vanished: of the events that each node heard, those of the verdict's
//! direction at the verdict's place, as causes. An event alone is no loss, for the kernel gives up copies and late
//! duplicates too: it counts only where packets of that flow were seen to vanish, and its number is held against theirs. A
//! drop by a rule does not say which rule: it supports the one that its counter gave away.

mod words;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::analyze::Evidence;
use crate::analyze::findings::{Cause, Confidence, Findings, Outcome, Place, Proof};
use crate::evidence::kernel::{GivenUp, Hook, KERNEL, KernelWord, Within};
use crate::evidence::netfilter::HookPoint;
use crate::evidence::{Case, Direction, Known, PointId, Role, StageKind, When};

use super::rules::Ruled;
use words::{reason_in_words, remedy, words};

/// The causes that the kernel names, and what was heard beside them. Causes that other sources found stand in the
/// findings already: where the kernel's word leaves several open, it supports the one of them that was found.
///
/// What is known of the rules among them, which come first, stands in `ruled`. Each cause comes with the number of the one that it
/// supports.
pub(super) fn explain(
    findings: &Findings,
    evidence: &Evidence<'_>,
    ruled: &[Ruled],
) -> (Vec<(Option<usize>, Cause)>, Vec<Proof>) {
    let mut scene = Scene::of(findings);
    let mut meant: BTreeMap<(Option<usize>, &'static str, String), Said> = BTreeMap::new();
    let mut beside = Vec::new();
    let nodes: BTreeSet<&str> = [scene.sender, scene.receiver].into_iter().flatten().collect();
    for node in nodes {
        let text = evidence.texts.find(node, KERNEL, When::After).and_then(|text| text.content.read());
        let Some(word) = text.map(|text| KernelWord::parse(text)) else { continue };
        scene.legacy_rules = may_have_legacy_rules(evidence, node);
        let proof = |detail| Proof { source: "kernel", detail: format!("{node}: {detail}") };
        let (events, _): (Vec<_>, Vec<_>) =
            word.given_up.into_iter().partition(|one| scene.concerns(one, node));
        if events.is_empty() {
            beside.push(proof("the kernel told of none of these packets".to_owned()));
        }
        let mut other = Vec::new();
        for event in events {
            let Some(meaning) = scene.meaning(&event, node) else {
                other.push(event);
                continue;
            };
            let found = findings.causes.iter().enumerate().find(|(at, cause)| {
                cause.node == node
                    && meaning.kinds.contains(&cause.kind)
                    && ruled.get(*at).is_none_or(|rule| is_at(&event, rule.point))
            });
            let known = found.map(|(_, cause)| cause.kind);
            let Some(kind) = known.or(meaning.kinds.first().copied()) else { continue };
            let supports = found.map(|(at, _)| at);
            let said = meant.entry((supports, kind, node.to_owned())).or_default();
            said.events.push(event);
            said.sure |= meaning.literal || supports.is_some();
        }
        beside.extend(joined(&other).iter().map(|one| proof(words(one))));
        let missed = word.heard.unheard.saturating_add(word.heard.left_out);
        if missed > 0 {
            beside.push(proof(format!(
                "{missed} more events came too fast or were of too many kinds to be kept"
            )));
        }
        if !word.broken.is_empty() {
            beside.push(proof(format!("{} lines of what was heard cannot be read", word.broken.len())));
        }
        beside.extend(word.heard.nameless.into_iter().map(|what| proof(format!("no names of {what}"))));
    }
    let causes = meant.into_iter().map(|((supports, kind, node), said)| {
        let mut cause = scene.cause(kind, node, &said);
        // The kernel does not say which rule it was: one that counted fewer was not the only one.
        if let Some(fewer) = supports.and_then(|at| ruled.get(at)?.fewer) {
            let as_many = sum(&said.events, |one| one.events) >= fewer;
            cause.confidence = if as_many { Confidence::Likely } else { Confidence::Possible };
        }
        (supports, cause)
    });
    (causes.collect(), beside)
}

/// Whether an event happened at that hook, as far as it tells.
fn is_at(event: &GivenUp, point: HookPoint) -> bool {
    let there = match event.hook() {
        None => return true,
        Some(Hook::Bridge) => return false,
        Some(Hook::Prerouting) => HookPoint::Prerouting,
        Some(Hook::Input) => HookPoint::Input,
        Some(Hook::Forward) => HookPoint::Forward,
        Some(Hook::Output) => HookPoint::Output,
        Some(Hook::Postrouting) => HookPoint::Postrouting,
        Some(Hook::Ingress) => HookPoint::Ingress,
        Some(Hook::Egress) => HookPoint::Egress,
    };
    there == point
}

/// Whether a node may have rules in the older of iptables' two backends. A program without a variant in its name prints those
/// of either, and its head says of which; rules that could not be read may be there.
fn may_have_legacy_rules(evidence: &Evidence<'_>, node: &str) -> bool {
    ["iptables-legacy-save", "ip6tables-legacy-save", "iptables-save", "ip6tables-save"].iter().any(|name| {
        match evidence.texts.find(node, name, When::After).map(|text| &text.content) {
            Some(Known::Read(text)) => !is_of_nftables(text) && has_rules(text),
            Some(Known::Unreadable(_)) => true,
            Some(Known::NotAsked) | None => false,
        }
    })
}

fn is_of_nftables(saved: &str) -> bool {
    saved.lines().any(|line| line.starts_with("# Generated by ") && line.contains("(nf_tables)"))
}

fn has_rules(saved: &str) -> bool {
    saved.lines().any(|line| line.starts_with("-A") || line.split(' ').any(|word| word == "-A"))
}

/// The place of the verdict, as far as it tells which events belong there.
struct Scene<'f> {
    findings: &'f Findings,
    way: Direction,
    sender: Option<&'f str>,
    receiver: Option<&'f str>,
    /// First and last stage in which the packets may have been given up; none where no point saw them.
    stages: Option<(StageKind, StageKind)>,
    lost: u64,
    /// Whether the node may have rules that are not nftables'.
    legacy_rules: bool,
}

impl<'f> Scene<'f> {
    fn of(findings: &'f Findings) -> Self {
        let case = &findings.case;
        let way = findings.verdict.direction;
        let (from, to) = (case.from.node.as_deref(), case.to.node.as_deref());
        let (sender, receiver) = if way == Direction::Forward { (from, to) } else { (to, from) };
        let stages = findings.verdict.place.as_ref().map(|place| (place.kind, last_stage(case, way, place)));
        let sent = case.probe.as_ref().map_or(0, |probe| probe.sent);
        let lost = match findings.verdict.outcome {
            _ if stages.is_some() => findings.verdict.lost,
            Outcome::Delivered => sent.saturating_sub(findings.verdict.sent),
            _ => sent,
        };
        Self { findings, way, sender, receiver, stages, lost, legacy_rules: false }
    }

    /// Whether an event happened at an interface of the path.
    fn is_on_path(&self, event: &GivenUp, node: &str) -> bool {
        event.interface.as_deref().is_none_or(|name| {
            self.findings.case.points.iter().any(|point| point.node == node && point.interface == name)
        })
    }

    /// Whether an event is about the packets that vanished, by direction and place.
    fn concerns(&self, event: &GivenUp, node: &str) -> bool {
        if is_noise(event) || (event.late && !comes_late(event)) {
            return false;
        }
        let Some(way) = self.direction(event) else { return false };
        match self.stages {
            None => way == self.way && self.stage(event, node).is_none(),
            // The answer that a pod gives up before its own interface was never seen: its request stays unanswered.
            Some((_, StageKind::Pod)) if way != self.way => {
                self.receiver == Some(node) && self.pod_of(event, node) == Some(Side::Receiver)
            }
            // Fragments wait at the receiver for those that were lost before.
            Some((first, _)) if event.reason == "FRAG_REASM_TIMEOUT" => {
                let stage = self.stage(event, node);
                way == self.way && stage.is_some_and(|stage| first <= stage)
            }
            Some((first, last)) => {
                let stage = self.stage(event, node);
                way == self.way && stage.is_some_and(|stage| (first..=last).contains(&stage))
            }
        }
    }

    fn direction(&self, event: &GivenUp) -> Option<Direction> {
        let case = &self.findings.case;
        let from = |address: IpAddr| address == case.from.address || case.aliases.from.contains(&address);
        let to = |address: IpAddr| address == case.to.address || case.aliases.to.contains(&address);
        if from(event.source) && to(event.destination) {
            return Some(Direction::Forward);
        }
        (to(event.source) && from(event.destination)).then_some(Direction::Reply)
    }

    /// Whether the packets are for a node itself.
    fn end_is_node(&self) -> bool {
        let case = &self.findings.case;
        case.end(self.way).is_node(&case.nodes)
    }

    /// In which end's pod it happened.
    fn pod_of(&self, event: &GivenUp, node: &str) -> Option<Side> {
        let both = self.sender == self.receiver;
        let first_is_sender = self.way == Direction::Forward;
        match event.within {
            Within::Node => None,
            Within::SecondPod => Some(if first_is_sender { Side::Receiver } else { Side::Sender }),
            Within::Pod if both => Some(if first_is_sender { Side::Sender } else { Side::Receiver }),
            Within::Pod => Some(if self.sender == Some(node) { Side::Sender } else { Side::Receiver }),
        }
    }

    /// Between which points it happened; None before the first.
    fn stage(&self, event: &GivenUp, node: &str) -> Option<StageKind> {
        let early = is_xdp(event);
        let crosses_veth = event.passes("veth_xmit") || event.function.starts_with("__dev_forward_skb");
        match self.pod_of(event, node) {
            Some(Side::Sender) => return crosses_veth.then_some(StageKind::LeavePod),
            Some(Side::Receiver) => {
                return Some(if early { StageKind::EnterPod } else { StageKind::Pod });
            }
            None => {}
        }
        if self.receiver == Some(node) && self.end_is_node() && is_for_host(event) {
            return Some(StageKind::Pod);
        }
        let encapsulated = event.outer.is_some() || event.passes("vxlan_");
        Some(match (self.sender == Some(node), self.receiver == Some(node)) {
            (true, _) if early => StageKind::LeavePod,
            (true, false) if encapsulated && crosses_veth && !event.passes("vxlan_xmit") => {
                StageKind::Underlay
            }
            (true, false) if encapsulated => StageKind::Encapsulate,
            (true, true) if crosses_veth => StageKind::EnterPod,
            (true, _) => StageKind::Forward,
            (false, _) if early => StageKind::Underlay,
            (false, _) if encapsulated => StageKind::Decapsulate,
            (false, _) if crosses_veth => StageKind::EnterPod,
            (false, _) => StageKind::Deliver,
        })
    }

    /// What it means, in the words of the report contract.
    fn meaning(&self, event: &GivenUp, node: &str) -> Option<Meaning> {
        let pod = self.pod_of(event, node);
        let tunnelled = event.outer.is_some();
        Some(match event.reason.as_str() {
            _ if is_xdp(event) => says(&["early_hook"]),
            "NETFILTER_DROP" => self.rule(event, pod),
            "IP_RPFILTER" => says(&["reverse_path"]),
            "IP_INNOROUTES" | "IP_OUTNOROUTES" => says(&["no_route"]),
            "IP_INADDRERRORS" => says(&["ip_forward_off"]),
            "IP_CSUM" | "UDP_CSUM" | "TCP_CSUM" | "ICMP_CSUM" | "SKB_CSUM" => says(&["checksum"]),
            _ if is_unanswered(event) => self.neighbour(event, pod),
            // The same when the neighbour's MAC address is a wrong one.
            "NO_TX_TARGET" => suggests(&["fdb_missing", "neighbour_wrong", "fdb_wrong", "wrong_route"]),
            "VXLAN_VNI_NOT_FOUND" | "VXLAN_INVALID_HDR" | "LOCAL_MAC" | "MAC_INVALID_SOURCE" => {
                says(&["tunnel_mismatch"])
            }
            "NO_SOCKET" if tunnelled && pod.is_none() => {
                suggests(&["tunnel_down", "tunnel_missing", "tunnel_mismatch"])
            }
            "NO_SOCKET" if pod == Some(Side::Receiver) || self.end_is_node() => says(&["no_listener"]),
            "OTHERHOST" if self.is_on_path(event, node) => {
                says(&["neighbour_wrong", "fdb_wrong", "tunnel_mismatch"])
            }
            // Something took the packet to a link where it should never have come.
            "OTHERHOST" => suggests(&["tc_filter"]),
            "CPU_BACKLOG" | "FULL_RING" => says(&["queue_overflow"]),
            reason if reason.starts_with("QDISC_") => says(&["queue_overflow"]),
            reason if reason.starts_with("TC_") => says(&["tc_filter"]),
            "SOCKET_RCVBUFF" | "SOCKET_BACKLOG" | "PROTO_MEM" => says(&["socket_overflow"]),
            "FRAG_REASM_TIMEOUT" | "FRAG_TOO_FAR" => says(&["fragment_loss"]),
            "PKT_TOO_BIG" => says(&["mtu"]),
            "IP_INHDR" if event.hook() == Some(Hook::Forward) => says(&["ttl_expired"]),
            "NOT_SPECIFIED" => match event.function.split('.').next().unwrap_or_default() {
                // Felix's blackhole for a block shows where a pod's own route is gone too.
                "ip_error" | "dst_discard" | "dst_discard_out" => {
                    suggests(&["blackhole_route", "link_down", "no_route", "tunnel_down"])
                }
                // The same when the other side is down.
                name if name.starts_with("nf_queue") => suggests(&["host_firewall"]),
                name if name.starts_with("__dev_forward_skb") => {
                    suggests(&["mtu", "link_down", "pod_link_down"])
                }
                _ => return None,
            },
            _ => return None,
        })
    }

    /// A rule's drop: of which kind the rule is, its counter tells, if it was found.
    fn rule(&self, event: &GivenUp, pod: Option<Side>) -> Meaning {
        if event.passes("nft_do_chain_netdev") {
            return says(&["early_hook"]);
        }
        if pod.is_some() {
            return says(&["pod_firewall"]);
        }
        if event.passes("nft_do_chain_inet") {
            return says(&["host_firewall"]);
        }
        // With rules in nftables alone, what no chain dropped was dropped by another hook: connection tracking.
        let no_chain = event.function.starts_with("nf_hook_slow") && !self.legacy_rules;
        if no_chain && matches!(event.hook(), Some(Hook::Prerouting | Hook::Output)) {
            return suggests(&["conntrack_full", "conntrack_invalid", "calico_rule"]);
        }
        suggests(&[
            "host_firewall",
            "network_policy",
            "profile",
            "calico_rule",
            "conntrack_invalid",
            "conntrack_full",
            "service_no_endpoints",
            "reverse_path",
            "tunnel_address",
        ])
    }

    /// Who has the next hop's address did not answer.
    fn neighbour(&self, event: &GivenUp, pod: Option<Side>) -> Meaning {
        if pod == Some(Side::Sender) {
            return says(&["proxy_arp_off", "link_down", "pod_link_down"]);
        }
        let case = &self.findings.case;
        if let Some(outer) = event.outer {
            let known = case.nodes.iter().any(|node| node.addresses.contains(&outer.destination));
            return if known { suggests(&["underlay_blocked", "link_down"]) } else { says(&["fdb_wrong"]) };
        }
        if self.strays(event) {
            return suggests(&[
                "no_route",
                "tunnel_down",
                "tunnel_missing",
                "wrong_route",
                "blackhole_route",
            ]);
        }
        says(&["neighbour_missing", "neighbour_wrong", "wrong_route", "link_down", "pod_link_down"])
    }

    /// A packet that should go into the tunnel, or to the pod, and was routed to the NIC.
    fn strays(&self, event: &GivenUp) -> bool {
        let case = &self.findings.case;
        let path = case.paths.iter().find(|path| path.direction == self.way);
        let nic =
            |name: &str| case.points.iter().any(|point| point.role == Role::Nic && point.interface == name);
        path.is_some_and(|path| path.encapsulated)
            && event.within == Within::Node
            && event.outer.is_none()
            && event.interface.as_deref().is_some_and(nic)
    }

    fn cause(&self, kind: &'static str, node: String, said: &Said) -> Cause {
        let events = joined(&said.events);
        let route = self.findings.routes.iter().find(|route| route.direction == self.way);
        let unjudged = route.map_or(0, |route| route.unjudged);
        let agrees =
            |number: &u64| self.lost > 0 && (self.lost..=self.lost.saturating_add(unjudged)).contains(number);
        // A large frame is given up once, and lost as the packets that it would have been cut into.
        let times = sum(&events, |one| one.events);
        let packets = sum(&events, |one| one.packets);
        let agreed = [times, packets].into_iter().filter(agrees).min();
        let number = agreed.unwrap_or(packets);
        let confidence = match (agreed, number.saturating_mul(2) >= self.lost) {
            (Some(_), _) if said.sure => Confidence::Confirmed,
            (Some(_), _) | (_, true) => Confidence::Likely,
            _ => Confidence::Possible,
        };
        let event = events.iter().max_by_key(|one| one.events);
        let why = event.map_or("", |one| reason_in_words(kind, one));
        let evidence = events.iter().map(|one| Proof { source: "kernel", detail: words(one) });
        Cause {
            kind,
            confidence,
            summary: format!("the kernel gave up {number} packets{}: {why}", self.as_many(number)),
            remedy: remedy(kind, &node, event),
            evidence: evidence.collect(),
            node,
        }
    }

    fn as_many(&self, number: u64) -> String {
        match self.stages {
            Some(_) if number == self.lost => ", as many as were lost".to_owned(),
            Some(_) => format!(", while {} were lost", self.lost),
            None => " before any point saw them".to_owned(),
        }
    }
}

/// Kinds that an event may mean, the likeliest first, and whether it says so by itself.
struct Meaning {
    kinds: &'static [&'static str],
    literal: bool,
}

/// The kernel says it; what else was found of the others is the same matter.
fn says(kinds: &'static [&'static str]) -> Meaning {
    Meaning { kinds, literal: true }
}

/// The kernel says something from which it follows, unless another cause was found that fits as well.
fn suggests(kinds: &'static [&'static str]) -> Meaning {
    Meaning { kinds, literal: false }
}

/// Events that mean the same.
#[derive(Default)]
struct Said {
    events: Vec<GivenUp>,
    /// The kernel says it by itself, or something else was found that says it too.
    sure: bool,
}

/// The numbers are a text's: together they may be more than there are numbers.
fn sum(events: &[GivenUp], number: impl Fn(&GivenUp) -> u64) -> u64 {
    events.iter().map(number).fold(0, u64::saturating_add)
}

/// Events of many flows and call chains as one where they tell the same.
fn joined(events: &[GivenUp]) -> Vec<GivenUp> {
    let mut all: Vec<GivenUp> = Vec::new();
    let mut known = HashMap::new();
    for event in events {
        let key = (&event.reason, &event.function, event.hook(), event.within, &event.interface, event.outer);
        match known.entry(key) {
            Entry::Occupied(at) => {
                let one: &mut GivenUp = &mut all[*at.get()];
                one.events = one.events.saturating_add(event.events);
                one.packets = one.packets.saturating_add(event.packets);
                one.length = (one.length.0.min(event.length.0), one.length.1.max(event.length.1));
                one.ttl = one.ttl.min(event.ttl);
                one.first = one.first.min(event.first);
                one.last = one.last.max(event.last);
            }
            Entry::Vacant(at) => {
                at.insert(all.len());
                all.push(event.clone());
            }
        }
    }
    all
}

/// An end's pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Sender,
    Receiver,
}

/// The stage before the first point that did not see the packets: further than the place's own where the points between
/// were not captured.
fn last_stage(case: &Case, way: Direction, place: &Place) -> StageKind {
    let Some(to) = place.to else { return StageKind::Pod };
    let path = case.paths.iter().find(|path| path.direction == way);
    let at = |point: PointId| path.and_then(|path| path.points.iter().position(|one| *one == point));
    let before = at(to).and_then(|at| path?.stages.get(at.checked_sub(1)?).copied());
    before.filter(|before| *before >= place.kind).unwrap_or(place.kind)
}

/// What the kernel gives up although nothing was lost: every answer to a ping from a raw socket, what a closing socket had
/// not read, what comes twice.
fn is_noise(event: &GivenUp) -> bool {
    event.function.starts_with("ping_rcv")
        || event.function.starts_with("tpacket_")
        || event.passes("packet_release")
        // The other fragments of a packet: it has been told of already.
        || event.function.starts_with("inet_frag_")
        || matches!(
            event.reason.as_str(),
            "QUEUE_PURGE"
                | "SOCKET_CLOSE"
                | "TCP_OLD_SEQUENCE"
                | "TCP_OLD_ACK"
                | "TCP_OLD_DATA"
                | "TCP_CLOSE"
                | "CONSUMED"
        )
}

/// Events that come seconds after their packet.
fn comes_late(event: &GivenUp) -> bool {
    is_unanswered(event) || event.reason == "FRAG_REASM_TIMEOUT"
}

/// Nobody answered for the next hop's MAC address; IPv6 gives no reason.
fn is_unanswered(event: &GivenUp) -> bool {
    event.reason.starts_with("NEIGH_") || event.function.starts_with("neigh_invalidate")
}

/// On its way up to a socket of the host's.
fn is_for_host(event: &GivenUp) -> bool {
    event.outer.is_none() && event.hook() == Some(Hook::Input)
}

fn is_xdp(event: &GivenUp) -> bool {
    event.reason.starts_with("XDP")
        || ["veth_xdp_rcv", "do_xdp_generic", "generic_xdp", "bpf_prog_run_generic_xdp"]
            .iter()
            .any(|name| event.function.starts_with(name))
}

#[cfg(test)]
mod tests;
