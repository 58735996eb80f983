//! Between which two addresses, when nobody said it: takes what the lanes saw, gives the two and which of them begins.
//! Also finds other addresses of theirs, where the same packets bear others at another point (address translation).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::evidence::Direction;
use crate::evidence::case::Aliases;

use super::look::{Lane, Says, Sight, Way};
use super::order::{self, First};

/// The two ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) aliases: Aliases,
}

/// The node of which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    From,
    /// Somewhere between the two.
    Between,
    To,
}

/// What was typed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub(super) from: Option<IpAddr>,
    pub(super) to: Option<IpAddr>,
}

impl Ends {
    /// Which way a packet goes between the two, under any of their addresses.
    pub(super) fn way(&self, src: IpAddr, dst: IpAddr) -> Option<Direction> {
        let is_from = |address| address == self.from || self.aliases.from.contains(&address);
        let is_to = |address| address == self.to || self.aliases.to.contains(&address);
        if (src == self.from && is_to(dst)) || (dst == self.to && is_from(src)) {
            Some(Direction::Forward)
        } else if (dst == self.from && is_to(src)) || (src == self.to && is_from(dst)) {
            Some(Direction::Reply)
        } else {
            None
        }
    }

    /// Whether an address is one of the two, and which.
    pub(super) fn side(&self, address: IpAddr) -> Option<Direction> {
        [(self.from, Direction::Forward), (self.to, Direction::Reply)]
            .into_iter()
            .find(|(end, _)| *end == address)
            .map(|(_, side)| side)
    }

    /// As asked, else those whose veths were captured, then those whom most lanes saw, then who talks most; when the lanes are
    /// in path order, who talks most in the first. The one that begins is `from`; in path order, the one that is nearer to
    /// the first lane.
    pub(super) fn choose(lanes: &[Lane], asked: Asked, in_order: bool) -> Option<(Self, String)> {
        if let (Some(from), Some(to)) = (asked.from, asked.to) {
            return Some((Self::translated(lanes, from, to), String::new()));
        }
        let ((one, other), n_lanes, packets) = most_seen(lanes, asked, in_order)?;
        let (from, why) = match (asked.from, asked.to) {
            (Some(from), _) => (from, ""),
            (_, Some(to)) => (if to == one { other } else { one }, ""),
            (None, None) => beginner(lanes, (one, other), in_order),
        };
        let to = if from == one { other } else { one };
        let captures = if n_lanes == 1 { "one capture" } else { &format!("{n_lanes} captures") };
        let words = format!(
            "tracing {from} to {to}: {packets} packets of the two are in {captures}{why}; --from and --to choose others"
        );
        Some((Self::translated(lanes, from, to), words))
    }

    /// With the addresses that the same packets bear elsewhere.
    fn translated(lanes: &[Lane], from: IpAddr, to: IpAddr) -> Self {
        let plain = Self { from, to, aliases: Aliases::default() };
        let all = || {
            lanes.iter().enumerate().flat_map(|(number, lane)| lane.sights.iter().map(move |s| (number, s)))
        };
        // Where each was seen under the ends' own addresses.
        let mut known: FxHashMap<u64, (Direction, BTreeSet<usize>)> = FxHashMap::default();
        for (number, sight) in all() {
            if let Some(way) = plain.way(sight.src, sight.dst) {
                known.entry(sight.key).or_insert((way, BTreeSet::new())).1.insert(number);
            }
        }
        let mut counts: [BTreeMap<IpAddr, u64>; 2] = [BTreeMap::new(), BTreeMap::new()];
        for (number, sight) in all() {
            let Some((way, seen)) = known.get(&sight.key) else { continue };
            // Equal ones at one place are of two flows.
            if seen.contains(&number) && !lanes[number].is_cooked() {
                continue;
            }
            let (client, server) =
                if *way == Direction::Forward { (sight.src, sight.dst) } else { (sight.dst, sight.src) };
            if client == from && server != to && client != server {
                *counts[1].entry(server).or_default() += 1;
            } else if server == to && client != from && client != server {
                *counts[0].entry(client).or_default() += 1;
            }
        }
        let often = |counts: &BTreeMap<IpAddr, u64>| {
            counts.iter().filter(|(_, count)| **count >= 3).map(|(address, _)| *address).collect()
        };
        Self { from, to, aliases: Aliases { from: often(&counts[0]), to: often(&counts[1]) } }
    }
}

/// Which end an interface is nearer to than its node: packets come in from there and go out to there.
pub(super) fn near(direction: Direction, way: Option<Way>) -> Option<Side> {
    match (direction, way?) {
        (Direction::Forward, Way::In) | (Direction::Reply, Way::Out) => Some(Side::From),
        (Direction::Forward, Way::Out) | (Direction::Reply, Way::In) => Some(Side::To),
    }
}

type Pair = (IpAddr, IpAddr);

/// What was seen of a pair of addresses.
#[derive(Debug, Default)]
struct Seen {
    lanes: BTreeSet<usize>,
    packets: u64,
    /// Of them in the first lane, when the lanes are in path order.
    in_first: u64,
}

/// The pair of addresses, the number of lanes that saw it, and its packets in all of them.
fn most_seen(lanes: &[Lane], asked: Asked, in_order: bool) -> Option<(Pair, usize, u64)> {
    let mut pairs: BTreeMap<Pair, Seen> = BTreeMap::new();
    for (number, lane) in lanes.iter().enumerate() {
        for Sight { src, dst, .. } in &lane.sights {
            let fits = |end: Option<IpAddr>| end.is_none_or(|end| end == *src || end == *dst);
            let between_hosts =
                !src.is_multicast() && !dst.is_multicast() && !src.is_loopback() && src != dst;
            if between_hosts && fits(asked.from) && fits(asked.to) {
                let seen = pairs.entry((*src.min(dst), *src.max(dst))).or_default();
                seen.lanes.insert(number);
                seen.packets += 1;
                seen.in_first += u64::from(in_order && number == 0);
            }
        }
    }
    let owners: BTreeSet<IpAddr> =
        lanes.iter().filter(|lane| !lane.is_cooked()).filter_map(Lane::owner).collect();
    let (pair, seen) = pairs.into_iter().max_by_key(|(pair, seen)| {
        let veths = [pair.0, pair.1].iter().filter(|end| owners.contains(end)).count();
        (seen.in_first, veths, seen.lanes.len(), seen.packets)
    })?;
    Some((pair, seen.lanes.len(), seen.packets))
}

/// Who begins, and by what that is known.
fn beginner(lanes: &[Lane], (one, other): Pair, in_order: bool) -> (IpAddr, &'static str) {
    let tried = Ends { from: one, to: other, aliases: Aliases::default() };
    if let (true, [first, .., last]) = (in_order, lanes) {
        match order::of(first, last, &tried) {
            Some(First::One) => return (one, ""),
            Some(First::Other) => return (other, ""),
            None => {}
        }
    }
    let of_pair = || {
        lanes.iter().flat_map(|lane| &lane.sights).filter(|sight| tried.way(sight.src, sight.dst).is_some())
    };
    let asks = |end: IpAddr| of_pair().filter(|sight| sight.says == Says::Asks && sight.src == end).count();
    let sends = |end: IpAddr| of_pair().filter(|sight| sight.src == end).count();
    let from = |first: bool| if first { one } else { other };
    match (asks(one), asks(other)) {
        (a, b) if a != b => (from(a > b), ", and the first begins"),
        _ => match (sends(one), sends(other)) {
            (a, b) if a != b => (from(a > b), ", and the first sends more of them"),
            _ => {
                let earliest = of_pair().min_by_key(|sight| sight.time);
                (earliest.map_or(one, |sight| sight.src), ", and the first sends first")
            }
        },
    }
}
