//! Why packets vanish: takes the place that [`locate`] named and the texts of its node; gives the causes that their
//! evidence supports, the likeliest first. A cause is never surer than its evidence.
//!
//! [`locate`]: super::locate

mod before;
mod behind;
mod kernel;
mod rules;
mod scene;
mod states;
mod traffic;

use super::Evidence;
use super::correlate::sift::{ErrorNote, Sift};
use super::findings::{Cause, Confidence, Findings, KINDS, Outcome, Proof};
use super::ipam;
use super::state::{World, faults};
use crate::evidence::{Case, Direction, Role, StageKind};

/// What is to be explained: which packets vanished, and on which part of the path.
pub(super) struct Scope {
    /// Which way they went.
    pub(super) direction: Direction,
    /// The stages between the last point that saw them and the first that did not, in path order: several when a
    /// point between was not captured.
    pub(super) kinds: Vec<StageKind>,
    /// Packets lost.
    pub(super) lost: u64,
    /// Packets that came to the last point that saw them.
    pub(super) entered: u64,
    /// Shortest and longest of those lost.
    pub(super) lost_len: Option<(u32, u32)>,
    /// Of those lost, how many their sender had cut into fragments.
    pub(super) fragmented: u64,
    /// Where most of them were seen instead, in words; none when they vanished.
    pub(super) seen_elsewhere: Option<String>,
}

/// Adds the causes to the findings, and what stood in the way of finding more.
pub(super) fn explain(findings: &mut Findings, evidence: &Evidence<'_>, sift: &Sift) {
    let world = World::of(evidence.case, evidence.texts);
    findings.warnings.extend(world.unread.iter().cloned());
    if let Some(scope) = Scope::of(findings) {
        let (ruled, mut looked) = rules::explain(findings, evidence);
        let way = world.way(evidence.case, scope.direction);
        let faults = way.as_ref().map(faults).unwrap_or_default();
        if let Some(way) = &way {
            let apart = |node: &str| world.is_apart(node);
            findings.causes.extend(states::explain(&faults, &scope, &apart));
            looked.extend(states::looked(way, &scope));
        }
        findings.causes.extend(traffic::explain(findings, evidence, way.as_ref(), &scope));
        findings.causes.extend(addresses(evidence));
        let (said, beside) = kernel::explain(findings, evidence, &ruled);
        merge(&mut findings.causes, said);
        looked.extend(beside);
        reason_before_rule(&mut findings.causes);
        route_behind_loop(&mut findings.causes);
        link_before_network(&mut findings.causes);
        rank(&mut findings.causes);
        if findings.causes.is_empty() {
            findings.causes.push(unknown(findings, looked));
        }
    } else {
        let way = world.way(evidence.case, findings.verdict.direction);
        let causes = before::explain(findings, evidence, way.as_ref(), sift);
        findings.causes.extend(causes);
        let causes = behind::explain(findings, world.way(evidence.case, Direction::Forward).as_ref());
        findings.causes.extend(causes);
        // What was given up before the first point: no place, and yet a cause.
        let (said, _) = kernel::explain(findings, evidence, &[]);
        merge(&mut findings.causes, said);
        rank(&mut findings.causes);
    }
}

/// Joins causes that two sources found, with the evidence of both and the higher confidence; each comes with the number of the
/// one that it supports.
fn merge(causes: &mut Vec<Cause>, more: Vec<(Option<usize>, Cause)>) {
    for (supports, cause) in more {
        match supports.and_then(|at| causes.get_mut(at)) {
            Some(known) => {
                known.confidence = known.confidence.max(cause.confidence);
                known.evidence.extend(cause.evidence);
            }
            None => causes.push(cause),
        }
    }
}

/// A tunnel that sends from a wrong address meets Calico's rule against unknown hosts: the address is why, the rule is
/// how. Who would mend the rule's set would mend the wrong thing, so the address goes first, with the rule's count.
fn reason_before_rule(causes: &mut Vec<Cause>) {
    let against_unknown = |cause: &Cause| {
        cause.kind == "calico_rule"
            && cause.evidence.iter().any(|proof| proof.detail.contains("non-allowed hosts"))
    };
    let (Some(reason), Some(rule)) = (
        causes.iter().position(|cause| cause.kind == "tunnel_address"),
        causes.iter().position(against_unknown),
    ) else {
        return;
    };
    let evidence = causes[rule].evidence.clone();
    let confidence = causes[rule].confidence;
    let mut cause = causes.remove(reason);
    cause.evidence.extend(evidence);
    cause.confidence = cause.confidence.max(confidence);
    causes.insert(rule.min(reason), cause);
}

/// What is wrong with the two ends' own addresses, by the cluster's objects: it stands beside what was seen.
fn addresses(evidence: &Evidence<'_>) -> Vec<Cause> {
    let ends = [evidence.case.from.address, evidence.case.to.address];
    let found = evidence.cluster.map(|cluster| ipam::concerning(cluster, &ends)).unwrap_or_default();
    let breaks = found.into_iter().filter(|finding| finding.breaks);
    breaks.map(|finding| states::cause(&finding.into(), Confidence::Likely)).collect()
}

/// A loop and a route that leads back are one thing, seen from two sides: the node with the route is where to mend it.
fn route_behind_loop(causes: &mut Vec<Cause>) {
    let route = |cause: &Cause| {
        cause.kind == "wrong_route" && cause.evidence.iter().any(|proof| proof.source == "route")
    };
    let looped = |cause: &Cause| cause.kind == "wrong_route" && !route(cause);
    let (Some(reason), Some(seen)) = (causes.iter().position(route), causes.iter().position(looped)) else {
        return;
    };
    let evidence = causes[seen].evidence.clone();
    causes[reason].evidence.extend(evidence);
    causes[reason].confidence = Confidence::Confirmed;
    causes[reason].summary.push_str("; packets go round until their TTL is used up");
    causes.remove(seen);
}

/// Where a link was down when capturing ended, the network behind it need not have lost anything.
fn link_before_network(causes: &mut [Cause]) {
    let Some(link) = causes.iter_mut().find(|cause| cause.kind == "link_down") else { return };
    link.confidence = link.confidence.max(Confidence::Likely);
    for network in causes.iter_mut().filter(|cause| NETWORK.contains(&cause.kind)) {
        network.confidence = Confidence::Possible;
    }
}

/// What is said when two captures show a loss, and nothing but the network lies between.
const NETWORK: &[&str] = &["underlay_loss", "underlay_blocked"];

/// The likeliest first; beside a sure cause, what is merely possible is noise.
fn rank(causes: &mut Vec<Cause>) {
    debug_assert!(
        causes.iter().all(|cause| KINDS.contains(&cause.kind)),
        "a kind without a page: {causes:?}"
    );
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.confidence));
    if causes.first().is_some_and(|first| first.confidence == Confidence::Confirmed) {
        causes.retain(|cause| cause.confidence > Confidence::Possible);
    }
}

impl Scope {
    /// Of the verdict; none when it names no place.
    fn of(findings: &Findings) -> Option<Self> {
        let verdict = &findings.verdict;
        let place = verdict.place.as_ref()?;
        let route = findings.routes.iter().find(|route| route.direction == verdict.direction)?;
        let stage = route.stages.iter().find(|stage| Some(stage.to) == place.to && stage.from == place.from);
        Some(Self {
            direction: verdict.direction,
            kinds: spanned(&findings.case, verdict.direction, place.kind, place.to)?,
            lost: verdict.lost,
            entered: stage.map_or(verdict.sent, |stage| stage.entered),
            lost_len: stage.and_then(|stage| stage.lost_len),
            fragmented: stage.map_or(0, |stage| stage.lost_fragmented),
            seen_elsewhere: stage.filter(|_| verdict.outcome == Outcome::Diverted).and_then(|stage| {
                let (elsewhere, _) = stage.astray.iter().max_by_key(|(_, packets)| *packets)?;
                Some(elsewhere.words(&findings.case))
            }),
        })
    }

    /// Whether all that came there was lost.
    pub(super) fn all_lost(&self) -> bool {
        self.lost == self.entered
    }
}

/// The stages of a path from the one that begins a span up to the span's end.
fn spanned(
    case: &Case,
    direction: Direction,
    first: StageKind,
    to: Option<crate::evidence::PointId>,
) -> Option<Vec<StageKind>> {
    let path = case.paths.iter().find(|path| path.direction == direction)?;
    let node = |at: usize| Some(&case.points[path.points.get(at)?.index()].node);
    let crosses = node(0) != node(path.points.len().saturating_sub(1));
    let next = to.and_then(|to| {
        let at = path.points.iter().position(|point| *point == to)?;
        let of_the_end = match case.points[to.index()].role {
            Role::Pod => StageKind::Pod,
            Role::Veth => StageKind::EnterPod,
            Role::Tunnel | Role::Nic => StageKind::Deliver,
        };
        Some(path.stages.get(at).copied().unwrap_or(of_the_end))
    });
    let all = [
        (StageKind::LeavePod, true),
        (StageKind::Forward, true),
        (StageKind::Encapsulate, crosses && path.encapsulated),
        (StageKind::Underlay, crosses),
        (StageKind::Decapsulate, crosses && path.encapsulated),
        (StageKind::Deliver, crosses),
        (StageKind::EnterPod, true),
        (StageKind::Pod, true),
    ];
    let within = |kind: &StageKind| *kind >= first && next.is_none_or(|next| *kind < next);
    Some(all.into_iter().filter(|(kind, exists)| *exists && within(kind)).map(|(kind, _)| kind).collect())
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
        _ if looked.iter().any(|proof| proof.source == "state") => (
            "no rule that these packets meet there counted them, and nothing in the node's state explains it".to_owned(),
            "ask the kernel itself on this node, while it happens: `perf trace -e skb:kfree_skb` or `dropwatch`; then `nft list ruleset`"
                .to_owned(),
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
