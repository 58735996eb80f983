//! Many pairs beside each other: takes the findings of each, gives them ranked by loss, and what the bad ones share: a
//! node, the stage, the cause. Pure. Names a node only when it is in all that is bad and in nothing good that would
//! have met the same fault; says otherwise that, and why, the pairs cannot tell.
//!
//! A pair has two ways, one a direction, and each is judged by itself: a node that loses only what it sends is the
//! source of all bad ways.

use std::collections::BTreeMap;

use crate::analyze::findings::{Findings, Outcome, Route};
use crate::evidence::{Direction, StageKind};

/// All pairs, ranked.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Of all pairs together: dropped if one lost packets, delivered if one was judged and none lost.
    pub outcome: Outcome,
    /// Numbers of the pairs, the worst first.
    pub order: Vec<usize>,
    /// Pairs that lost packets.
    pub bad: usize,
    /// Pairs that lost none.
    pub good: usize,
    /// Packets sent in the directions that the verdicts of judged pairs are about, and those of them that were lost.
    pub packets: (u64, u64),
    /// All nodes of judged pairs, the most suspect first.
    pub nodes: Vec<NodeRank>,
    /// What the nodes tell.
    pub suspect: Suspect,
    /// In how many bad pairs which stage lost packets, most first.
    pub stages: Vec<(StageKind, usize)>,
    /// How many bad pairs have which likeliest cause on which node, most first.
    pub causes: Vec<(String, String, usize)>,
}

/// How a node fares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeRank {
    /// Its name.
    pub node: String,
    /// Ways that start there.
    pub source: Count,
    /// Ways that end there.
    pub destination: Count,
    /// Pairs that have it at either end.
    pub either: Count,
}

/// Bad and good ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Lost packets.
    pub bad: usize,
    /// Lost none, and would have met the fault: their way has a stage in which others lost packets.
    pub good: usize,
}

/// What part a node plays in all that is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What it sends is lost.
    Source,
    /// What is sent to it is lost.
    Destination,
    /// Both ways.
    Either,
}

/// Which node the bad pairs share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspect {
    /// Nothing is bad.
    Nobody,
    /// In all that is bad, in nothing good, and no other is.
    Node(String, Part),
    /// Each of several is: which of them it is cannot be told.
    OneOf(Vec<(String, Part)>),
    /// Nothing good stands against what is bad; these nodes are in all of it.
    NoContrast(Vec<String>),
    /// No node is in all that is bad and in nothing good.
    NoOne,
}

/// One direction of a pair that was judged.
struct Way<'f> {
    source: Option<&'f str>,
    destination: Option<&'f str>,
    stages: Vec<StageKind>,
    /// Where it lost packets.
    lost_in: Vec<StageKind>,
}

impl Way<'_> {
    fn is_bad(&self) -> bool {
        !self.lost_in.is_empty()
    }
}

/// A pair that was judged.
struct Pair<'f> {
    nodes: Vec<&'f str>,
    ways: Vec<Way<'f>>,
}

impl Pair<'_> {
    fn is_bad(&self) -> bool {
        self.ways.iter().any(Way::is_bad)
    }
}

/// Ranks pairs.
pub fn rank(findings: &[Findings]) -> Ranking {
    let pairs: Vec<Pair<'_>> = findings.iter().filter_map(judged).collect();
    let bad = pairs.iter().filter(|pair| pair.is_bad()).count();
    let mut faults: Vec<StageKind> =
        pairs.iter().flat_map(|pair| &pair.ways).flat_map(|way| way.lost_in.clone()).collect();
    faults.sort_unstable();
    faults.dedup();
    let nodes = nodes(&pairs, &faults);
    let suspect = suspect(&pairs, &nodes);
    Ranking {
        outcome: outcome(findings, bad, pairs.len()),
        order: order(findings),
        bad,
        good: pairs.len() - bad,
        packets: packets(findings),
        suspect,
        nodes,
        stages: stages(findings),
        causes: causes(findings),
    }
}

fn lost_packets(findings: &Findings) -> bool {
    matches!(findings.verdict.outcome, Outcome::Dropped | Outcome::Diverted)
}

fn judged(findings: &Findings) -> Option<Pair<'_>> {
    let case = &findings.case;
    if !lost_packets(findings) && findings.verdict.outcome != Outcome::Delivered {
        return None;
    }
    let (from, to) = (case.from.node.as_deref(), case.to.node.as_deref());
    let ways = findings.routes.iter().filter(|route| route.sent > 0).map(|route| {
        let forward = route.direction == Direction::Forward;
        let (source, destination) = if forward { (from, to) } else { (to, from) };
        let lost_in = if lost_packets(findings) { lost_in(findings, route) } else { Vec::new() };
        Way { source, destination, stages: route.stages.iter().map(|stage| stage.kind).collect(), lost_in }
    });
    let mut nodes: Vec<&str> = from.into_iter().chain(to).collect();
    nodes.dedup();
    Some(Pair { nodes, ways: ways.collect() })
}

/// The stages of a bad pair's way in which packets were lost.
fn lost_in(findings: &Findings, route: &Route) -> Vec<StageKind> {
    let mut kinds: Vec<StageKind> =
        route.stages.iter().filter(|stage| stage.lost > 0).map(|stage| stage.kind).collect();
    // The verdict may rest on what no stage counts: requests that were refused or not answered.
    let verdict = &findings.verdict;
    if let Some(place) = verdict.place.as_ref().filter(|_| verdict.direction == route.direction) {
        kinds.push(place.kind);
    }
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn outcome(findings: &[Findings], bad: usize, judged: usize) -> Outcome {
    let all = |outcome| findings.iter().all(|one| one.verdict.outcome == outcome);
    match (bad, judged) {
        (1.., _) => Outcome::Dropped,
        (0, 1..) => Outcome::Delivered,
        _ if all(Outcome::NoTraffic) => Outcome::NoTraffic,
        _ => Outcome::Inconclusive,
    }
}

/// Bad ones by their part of packets lost, then those that could not be judged, then good ones.
fn order(findings: &[Findings]) -> Vec<usize> {
    let class = |one: &Findings| match one.verdict.outcome {
        Outcome::Dropped | Outcome::Diverted => 0,
        Outcome::Inconclusive => 1,
        Outcome::NoTraffic => 2,
        Outcome::Delivered => 3,
    };
    let mut order: Vec<usize> = (0..findings.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&findings[*a], &findings[*b]);
        let (own, other) = (&a.verdict, &b.verdict);
        // lost / sent, without a division.
        let share = |part: &crate::analyze::findings::Verdict, of: &crate::analyze::findings::Verdict| {
            u128::from(part.lost) * u128::from(of.sent)
        };
        class(a)
            .cmp(&class(b))
            .then_with(|| share(other, own).cmp(&share(own, other)))
            .then_with(|| other.lost.cmp(&own.lost))
    });
    order
}

fn packets(findings: &[Findings]) -> (u64, u64) {
    let judged = findings.iter().filter(|one| judged(one).is_some());
    judged.fold((0, 0), |(sent, lost), one| (sent + one.verdict.sent, lost + one.verdict.lost))
}

fn nodes(pairs: &[Pair<'_>], faults: &[StageKind]) -> Vec<NodeRank> {
    let mut ranks: BTreeMap<&str, NodeRank> = BTreeMap::new();
    let meets = |way: &Way<'_>| faults.is_empty() || faults.iter().any(|kind| passes(way, *kind));
    for pair in pairs {
        let good = !pair.is_bad() && pair.ways.iter().any(meets);
        for node in &pair.nodes {
            let rank = ranks.entry(node).or_default();
            rank.either.bad += usize::from(pair.is_bad());
            rank.either.good += usize::from(good);
        }
        for way in &pair.ways {
            let good = !way.is_bad() && meets(way);
            if let Some(node) = way.source {
                let rank = ranks.entry(node).or_default();
                rank.source.bad += usize::from(way.is_bad());
                rank.source.good += usize::from(good);
            }
            if let Some(node) = way.destination {
                let rank = ranks.entry(node).or_default();
                rank.destination.bad += usize::from(way.is_bad());
                rank.destination.good += usize::from(good);
            }
        }
    }
    let named = ranks.into_iter().map(|(node, rank)| NodeRank { node: node.to_owned(), ..rank });
    let mut ranks: Vec<NodeRank> = named.collect();
    ranks.sort_by(|a, b| {
        let (own, other) = (worst(a), worst(b));
        // bad / (bad + good) again.
        (other.bad * (own.bad + own.good))
            .cmp(&(own.bad * (other.bad + other.good)))
            .then(other.bad.cmp(&own.bad))
    });
    ranks
}

/// The part in which a node fares worst.
fn worst(rank: &NodeRank) -> Count {
    [rank.either, rank.source, rank.destination]
        .into_iter()
        .max_by(|a, b| (a.bad * (b.bad + b.good)).cmp(&(b.bad * (a.bad + a.good))).then(a.bad.cmp(&b.bad)))
        .unwrap_or_default()
}

/// Whether packets of a way meet a stage of this kind. What happens inside the pod every way meets.
fn passes(way: &Way<'_>, kind: StageKind) -> bool {
    kind == StageKind::Pod || way.stages.contains(&kind)
}

fn suspect(pairs: &[Pair<'_>], nodes: &[NodeRank]) -> Suspect {
    let bad_pairs = pairs.iter().filter(|pair| pair.is_bad()).count();
    let bad_ways = pairs.iter().flat_map(|pair| &pair.ways).filter(|way| way.is_bad()).count();
    if bad_pairs == 0 {
        return Suspect::Nobody;
    }
    let contrast = nodes.iter().any(|rank| rank.source.good + rank.destination.good > 0);
    if !contrast {
        let shared = nodes.iter().filter(|rank| rank.either.bad == bad_pairs);
        return Suspect::NoContrast(shared.map(|rank| rank.node.clone()).collect());
    }
    let of = |rank: &NodeRank| {
        let all = |count: Count, bad: usize| count.bad == bad && count.good == 0;
        let parts = [
            (Part::Source, all(rank.source, bad_ways)),
            (Part::Destination, all(rank.destination, bad_ways)),
            (Part::Either, all(rank.either, bad_pairs)),
        ];
        parts.into_iter().find(|(_, fits)| *fits).map(|(part, _)| (rank.node.clone(), part))
    };
    let mut fitting: Vec<(String, Part)> = nodes.iter().filter_map(of).collect();
    match fitting.len() {
        0 => Suspect::NoOne,
        1 => fitting.pop().map_or(Suspect::NoOne, |(node, part)| Suspect::Node(node, part)),
        _ => Suspect::OneOf(fitting),
    }
}

fn stages(findings: &[Findings]) -> Vec<(StageKind, usize)> {
    let mut counts: BTreeMap<StageKind, usize> = BTreeMap::new();
    for place in findings.iter().filter(|one| lost_packets(one)).filter_map(|one| one.verdict.place.as_ref())
    {
        *counts.entry(place.kind).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

fn causes(findings: &[Findings]) -> Vec<(String, String, usize)> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for cause in findings.iter().filter(|one| lost_packets(one)).filter_map(|one| one.causes.first()) {
        *counts.entry((cause.kind, &cause.node)).or_default() += 1;
    }
    let named = counts.into_iter().map(|((kind, node), count)| (kind.to_owned(), node.to_owned(), count));
    let mut counts: Vec<_> = named.collect();
    counts.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    counts
}
