//! The kernel's own word about the packets that vanished: of the events that each node heard, those of the verdict's
//! direction at the verdict's place, as causes. An event alone is no loss, for the kernel gives up copies and late
//! duplicates too: it counts only where packets of that flow were seen to vanish, and its number is held against theirs. A
//! drop by a rule does not say which rule: it supports the one that its counter gave away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::analyze::Evidence;
use crate::analyze::findings::{Cause, Confidence, Findings, Outcome, Place, Proof};
use crate::evidence::kernel::{GivenUp, Hook, KERNEL, KernelWord, Within};
use crate::evidence::{Case, Direction, PointId, Role, StageKind, When};

/// The causes that the kernel names, and what was heard beside them. Causes that other sources found stand in the
/// findings already: where the kernel's word leaves several open, it supports the one of them that was found.
pub(super) fn explain(findings: &Findings, evidence: &Evidence<'_>) -> (Vec<Cause>, Vec<Proof>) {
    let mut scene = Scene::of(findings);
    let mut meant: BTreeMap<(&'static str, String), Said> = BTreeMap::new();
    let mut beside = Vec::new();
    let nodes: BTreeSet<&str> = [scene.sender, scene.receiver].into_iter().flatten().collect();
    for node in nodes {
        let text = evidence.texts.find(node, KERNEL, When::After).and_then(|text| text.content.read());
        let Some(word) = text.map(|text| KernelWord::parse(text)) else { continue };
        scene.legacy_rules = has_legacy_rules(evidence, node);
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
            let found = findings
                .causes
                .iter()
                .find(|cause| cause.node == node && meaning.kinds.contains(&cause.kind))
                .map(|cause| cause.kind);
            let Some(kind) = found.or(meaning.kinds.first().copied()) else { continue };
            let said = meant.entry((kind, node.to_owned())).or_default();
            said.events.push(event);
            said.sure |= meaning.literal || found.is_some();
        }
        beside.extend(joined(&other).iter().map(|one| proof(words(one))));
        let missed = word.heard.unheard + word.heard.left_out;
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
    let causes = meant.into_iter().map(|((kind, node), said)| scene.cause(kind, node, &said)).collect();
    (causes, beside)
}

/// Whether any rule of a node is in the older of iptables' two backends.
fn has_legacy_rules(evidence: &Evidence<'_>, node: &str) -> bool {
    ["iptables-legacy-save", "ip6tables-legacy-save"].iter().any(|name| {
        let text = evidence.texts.find(node, name, When::After).and_then(|text| text.content.read());
        text.is_some_and(|text| {
            text.lines().any(|line| line.starts_with("-A") || line.split(' ').any(|word| word == "-A"))
        })
    })
}

/// Joins causes that two sources found: of the same kind on the same node they are one, with the evidence of both
/// and the higher confidence.
pub(super) fn merge(causes: &mut Vec<Cause>, more: Vec<Cause>) {
    for cause in more {
        match causes.iter_mut().find(|known| known.kind == cause.kind && known.node == cause.node) {
            Some(known) => {
                known.confidence = known.confidence.max(cause.confidence);
                known.evidence.extend(cause.evidence);
            }
            None => causes.push(cause),
        }
    }
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
    /// Whether the node has rules that are not nftables'.
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
                way == self.way && stage.is_some_and(|stage| rank(first) <= rank(stage))
            }
            Some((first, last)) => {
                let stage = self.stage(event, node);
                way == self.way
                    && stage.is_some_and(|stage| (rank(first)..=rank(last)).contains(&rank(stage)))
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
            "NO_SOCKET" if pod == Some(Side::Receiver) => says(&["no_listener"]),
            "OTHERHOST" => says(&["neighbour_wrong", "fdb_wrong", "tunnel_mismatch"]),
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
        let times: u64 = events.iter().map(|one| one.events).sum();
        let packets: u64 = events.iter().map(|one| one.packets).sum();
        let route = self.findings.routes.iter().find(|route| route.direction == self.way);
        let unjudged = route.map_or(0, |route| route.unjudged);
        let agrees = self.lost > 0
            && (times == self.lost
                || packets == self.lost
                || (times > self.lost && times <= self.lost + unjudged));
        let confidence = match (agrees, times.saturating_mul(2) >= self.lost) {
            (true, _) if said.sure => Confidence::Confirmed,
            (true, _) | (_, true) => Confidence::Likely,
            _ => Confidence::Possible,
        };
        let event = events.iter().max_by_key(|one| one.events);
        let why = event.map_or("", |one| reason_in_words(kind, one));
        let evidence = events.iter().map(|one| Proof { source: "kernel", detail: words(one) });
        Cause {
            kind,
            confidence,
            summary: format!("the kernel gave up {times} packets{}: {why}", self.as_many(times)),
            remedy: remedy(kind, &node, event),
            evidence: evidence.collect(),
            node,
        }
    }

    fn as_many(&self, times: u64) -> String {
        match self.stages {
            Some(_) if times == self.lost => ", as many as were lost".to_owned(),
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

/// Events of many flows and call chains as one where they tell the same.
fn joined(events: &[GivenUp]) -> Vec<GivenUp> {
    let mut all: Vec<GivenUp> = Vec::new();
    for event in events {
        let same = all.iter_mut().find(|one| {
            (&one.reason, &one.function, one.hook(), one.within, &one.interface, one.outer)
                == (&event.reason, &event.function, event.hook(), event.within, &event.interface, event.outer)
        });
        match same {
            Some(one) => {
                one.events += event.events;
                one.packets += event.packets;
                one.length = (one.length.0.min(event.length.0), one.length.1.max(event.length.1));
                one.ttl = one.ttl.min(event.ttl);
                one.first = one.first.min(event.first);
                one.last = one.last.max(event.last);
            }
            None => all.push(event.clone()),
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

/// Where a stage stands on the way.
fn rank(stage: StageKind) -> u8 {
    match stage {
        StageKind::LeavePod => 0,
        StageKind::Forward => 1,
        StageKind::Encapsulate => 2,
        StageKind::Underlay => 3,
        StageKind::Decapsulate => 4,
        StageKind::Deliver => 5,
        StageKind::EnterPod => 6,
        StageKind::Pod => 7,
    }
}

/// The stage before the first point that did not see the packets: further than the place's own where the points between
/// were not captured.
fn last_stage(case: &Case, way: Direction, place: &Place) -> StageKind {
    let Some(to) = place.to else { return StageKind::Pod };
    let path = case.paths.iter().find(|path| path.direction == way);
    let at = |point: PointId| path.and_then(|path| path.points.iter().position(|one| *one == point));
    let before = at(to).and_then(|at| path?.stages.get(at.checked_sub(1)?).copied());
    before.filter(|before| rank(*before) >= rank(place.kind)).unwrap_or(place.kind)
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

fn is_xdp(event: &GivenUp) -> bool {
    event.reason.starts_with("XDP")
        || ["veth_xdp_rcv", "do_xdp_generic", "generic_xdp", "bpf_prog_run_generic_xdp"]
            .iter()
            .any(|name| event.function.starts_with(name))
}

/// An event, for a person.
fn words(event: &GivenUp) -> String {
    let families = [("nft_do_chain_inet", "inet"), ("nft_do_chain_netdev", "netdev")];
    let family = families.iter().find(|(function, _)| event.passes(function));
    let family = family.map(|(_, name)| format!(", an nftables table of family {name}")).unwrap_or_default();
    let hook = event.hook().filter(|_| event.reason == "NETFILTER_DROP");
    let hook = hook.map(|hook| format!(" at {}{family}", hook.word())).unwrap_or_default();
    let interface = event.interface.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
    let inside = if event.within == Within::Node { "" } else { " in the pod" };
    let tunnel = event.outer.map(|outer| format!(", in VXLAN {} to {}", outer.vni, outer.destination));
    let tunnel = tunnel.unwrap_or_default();
    let (shortest, longest) = event.length;
    let length = if shortest == longest { shortest.to_string() } else { format!("{shortest} to {longest}") };
    format!(
        "{} in {}{hook}{interface}{inside}: {} times, {length} bytes, TTL {}{tunnel}",
        event.reason, event.function, event.events, event.ttl
    )
}

fn reason_in_words(kind: &str, event: &GivenUp) -> &'static str {
    match kind {
        "early_hook" => {
            "a program or rule at the device itself dropped them (XDP, or an nftables netdev hook)"
        }
        "reverse_path" => "the route back to their source leads elsewhere (rp_filter)",
        "no_route" if is_unanswered(event) => {
            "they were routed to the node's own interface, where nobody answers for the next hop"
        }
        "no_route" => "there is no route for them",
        "blackhole_route" => "the route for them is a blackhole or otherwise forbids them",
        "ip_forward_off" => "forwarding is off where they came in",
        "checksum" => "their checksum is wrong",
        "proxy_arp_off" => "nobody answered the pod's question for its gateway's MAC address",
        "neighbour_missing" => "nobody answered for the next hop's MAC address",
        "underlay_blocked" => "the other node did not answer for its MAC address",
        "fdb_wrong" => "the tunnel sends them to an address that is no node's, and nobody answers there",
        "fdb_missing" => "the tunnel knows no node for the next hop's MAC address (FDB)",
        "tunnel_mismatch" if event.reason == "LOCAL_MAC" => {
            "they bear this tunnel device's own MAC address as their source: both nodes have the same"
        }
        "tunnel_mismatch" => "no tunnel device here has their VXLAN network identifier",
        "tunnel_down" => "no tunnel device listens for them: it is down, missing, or on another port",
        "conntrack_full" | "conntrack_invalid" if event.function.starts_with("nf_hook_slow") => {
            "no rule but connection tracking itself refused them, as it does when its table is full"
        }
        "no_listener" => "no socket in the pod listens for them",
        "neighbour_wrong" => "their destination MAC address is not this interface's",
        "queue_overflow" => "the queue was full",
        "tc_filter" => "a tc filter or program dropped them",
        "socket_overflow" => "the receiving socket's buffer was full",
        "fragment_loss" => "fragments of them never came",
        "mtu" => "they are larger than the MTU",
        "ttl_expired" => "their TTL ran out",
        "pod_firewall" => "a rule inside the pod dropped them",
        _ => match event.hook() {
            Some(Hook::Prerouting) => "a rule at PREROUTING dropped them",
            Some(Hook::Input) => "a rule at INPUT dropped them",
            Some(Hook::Forward) => "a rule at FORWARD dropped them",
            Some(Hook::Output) => "a rule at OUTPUT dropped them",
            Some(Hook::Postrouting) => "a rule at POSTROUTING dropped them",
            _ => "a rule dropped them",
        },
    }
}

fn remedy(kind: &str, node: &str, event: Option<&GivenUp>) -> String {
    let address = event.map(|one| one.destination.to_string()).unwrap_or_default();
    let source = event.map(|one| one.source.to_string()).unwrap_or_default();
    let interface = event.and_then(|one| one.interface.clone()).unwrap_or_else(|| "the interface".to_owned());
    match kind {
        "early_hook" => {
            format!("on {node}: `ip -d link show {interface}` (xdp) and `nft list ruleset netdev`")
        }
        "reverse_path" => format!(
            "on {node}: `ip route get {source}` must lead to {interface}, or set net.ipv4.conf.{interface}.rp_filter to 2"
        ),
        "no_route" | "blackhole_route" => {
            format!("on {node}: `ip route get {address}` and `ip route show table all`")
        }
        "ip_forward_off" => {
            format!("on {node}: `sysctl net.ipv4.ip_forward net.ipv4.conf.{interface}.forwarding`")
        }
        "checksum" => "recompute it in the saved capture; look at checksum offload: `ethtool -k`".to_owned(),
        "proxy_arp_off" => {
            format!("on {node}: `sysctl net.ipv4.conf` of the pod's cali interface: proxy_arp must be 1")
        }
        "neighbour_missing" => format!("on {node}: `ip neigh show dev {interface}`"),
        "underlay_blocked" => {
            format!("on {node}: `ip neigh show`; look whether the other node is up and reachable")
        }
        "fdb_wrong" | "fdb_missing" => {
            format!("on {node}: `bridge fdb show dev vxlan.calico` and `ip neigh show dev vxlan.calico`")
        }
        "tunnel_mismatch" => {
            format!("compare `ip -d link show vxlan.calico` on {node} with the other node's")
        }
        "tunnel_down" => format!("on {node}: `ip -d link show vxlan.calico` and `ss -lun`"),
        "no_listener" => {
            "look whether the program in the pod listens on that port: `ss -lntu` in the pod".to_owned()
        }
        "neighbour_wrong" => {
            format!("compare `ip neigh` on the sending side with `ip link show {interface}` on {node}")
        }
        "queue_overflow" => format!("on {node}: `tc -s qdisc show dev {interface}`"),
        "tc_filter" => format!("on {node}: `tc filter show dev {interface} ingress` and `egress`"),
        "socket_overflow" => "the program in the pod reads too slowly: `ss -um` in the pod".to_owned(),
        "fragment_loss" => format!("find out who drops fragments: MTU and firewalls on the way to {node}"),
        "mtu" => format!("on {node}: `ip link show {interface}`; compare the MTUs along the path"),
        "ttl_expired" => format!("look for a routing loop: `ip route get {address}` on both nodes"),
        "pod_firewall" => {
            "look at the rules inside the pod's namespace: `iptables-save -c`, `nft list ruleset`".to_owned()
        }
        _ => format!("on {node}: `nft list ruleset` and `iptables-save -c`, twice: whose counter moves?"),
    }
}

#[cfg(test)]
mod tests;
