//! Flows under address translation: which five-tuples, seen at different points, are one flow. Takes the flows as
//! they were seen and joins two of them when the same packet bore both; gives every flow one name, and the list of
//! places where addresses changed. Never says who translated.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rustc_hash::FxHasher;

use crate::evidence::Direction;
use crate::packet::Flow;

/// A five-tuple that was seen, oriented from `from` to `to` whichever way the packet went: its number and one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(NonZeroU32);

impl FlowId {
    /// The id with that number.
    pub(super) fn numbered(number: usize) -> Option<Self> {
        let number = u32::try_from(number).ok()?.checked_add(1)?;
        NonZeroU32::new(number).map(Self)
    }

    /// Counted from 0, in the order in which flows were first seen.
    pub(super) fn number(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Where a flow's addresses changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressChange {
    /// Which way the packets went.
    pub direction: Direction,
    /// The last position that saw them as `before`.
    pub after_position: u8,
    /// The position that saw them as `after`.
    pub position: u8,
    /// Addresses and ports before, as the packet bore them.
    pub before: Flow,
    /// And after.
    pub after: Flow,
    /// Packets in which it was seen.
    pub packets: u64,
}

/// All flows seen so far.
#[derive(Debug, Default)]
pub struct Nat {
    /// Found by the flow, which stands beside: one look tells.
    ids: HashTable<(Small, FlowId)>,
    flows: Flows,
    /// Union-find: the flow that stands for this one.
    stands_for: Vec<FlowId>,
    changes: BTreeMap<(FlowId, FlowId, bool), (u8, u8, u64)>,
    /// The addresses of the ends themselves, if it matters whose a flow is.
    ends: Option<(IpAddr, IpAddr)>,
    /// Whose each flow is, said at the one that stands for it.
    whose: Vec<Whose>,
    /// Addresses of which some flows turned out to be the ends'.
    translated: BTreeSet<IpAddr>,
}

/// Whose packets a flow's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    /// It bears an address that others may bear too.
    Open,
    /// Connection tracking says that one of its ends is another.
    Others,
    /// It bears both ends' own addresses somewhere.
    Ends,
}

/// Changes kept: a report names a few, and every new client port makes one more.
const MOST_CHANGES: usize = 4_096;

impl Nat {
    /// For flows between two ends that may bear other addresses, too.
    pub fn between(from: IpAddr, to: IpAddr) -> Self {
        Self { ends: Some((from, to)), ..Self::default() }
    }

    /// The id of a flow; `flow` is oriented forward.
    pub fn id(&mut self, flow: Flow) -> FlowId {
        let Self { ids, flows, stands_for, whose, .. } = self;
        let ends = self.ends;
        let small = Small::of(&flow);
        let is_it = |(known, _): &(Small, FlowId)| flows.is(*known, &flow, small);
        match ids.entry(hash(&flow), is_it, |(known, _)| hash(&flows.full(*known))) {
            Entry::Occupied(known) => known.get().1,
            Entry::Vacant(place) => {
                let (small, id) = flows.push(flow, small);
                place.insert((small, id));
                stands_for.push(id);
                let own = ends.is_none_or(|(from, to)| flow.src == from && flow.dst == to);
                whose.push(if own { Whose::Ends } else { Whose::Open });
                id
            }
        }
    }

    /// The id of a flow that was seen before.
    #[inline]
    pub(crate) fn known(&self, flow: &Flow) -> Option<FlowId> {
        let small = Small::of(flow);
        let is_it = |(known, _): &(Small, FlowId)| self.flows.is(*known, flow, small);
        self.ids.find(hash(flow), is_it).map(|(_, id)| *id)
    }

    /// A flow in short.
    #[inline]
    pub(super) fn small(&self, id: FlowId, flow: &Flow) -> Small {
        Small::of(flow).unwrap_or_else(|| self.flows.small[id.number()])
    }

    /// Whether `small` stands for that flow.
    #[inline]
    pub(super) fn is(&self, small: Small, flow: &Flow) -> bool {
        self.flows.is(small, flow, Small::of(flow))
    }

    /// The flow of an id.
    pub fn flow(&self, id: FlowId) -> Flow {
        self.flows.get(id)
    }

    /// Says that the two are one flow: they were read in one connection-tracking entry, or one packet bore both.
    pub fn join(&mut self, a: FlowId, b: FlowId) {
        let both = [a, b];
        let (a, b) = (self.name(a), self.name(b));
        if a != b {
            let whose = self.whose(a).max(self.whose(b));
            self.stands_for[b.number()] = a;
            self.whose[a.number()] = whose;
            if whose == Whose::Ends {
                self.translated.extend(both.map(|flow| self.shared(flow)));
            }
        }
    }

    /// Whose a flow is, as far as it is known by now.
    pub(super) fn whose(&self, id: FlowId) -> Whose {
        self.whose[self.one_of(id).number()]
    }

    /// The address of a flow that is not an end's own: the destination's before the source's.
    pub(super) fn shared(&self, id: FlowId) -> IpAddr {
        let flow = self.flow(id);
        if self.is_to_shared(id) { flow.dst } else { flow.src }
    }

    /// Whether a flow's destination bears an address that is not its own.
    pub(super) fn is_to_shared(&self, id: FlowId) -> bool {
        self.ends.is_some_and(|(_, to)| self.flow(id).dst != to)
    }

    /// Whether flows that bear this address turned out to be the ends'.
    pub(super) fn is_translated(&self, address: IpAddr) -> bool {
        self.translated.contains(&address)
    }

    /// Joins what connection tracking calls one flow: `conntrack -L` and `/proc/net/nf_conntrack` print the flow as it
    /// came and the flow of its answers. `direction` tells which way a flow goes, if it is of the traced ends.
    pub fn read_conntrack(&mut self, text: &str, direction: impl Fn(&Flow) -> Option<Direction>) {
        for line in text.lines() {
            let Some((original, reply)) = entry(line) else { continue };
            let forward = |flow: Flow| match direction(&flow) {
                Some(Direction::Forward) => Some(flow),
                Some(Direction::Reply) => Some(flow.reversed()),
                None => None,
            };
            match (forward(original), forward(reply.reversed())) {
                (Some(a), Some(b)) if a != b => {
                    let (a, b) = (self.id(a), self.id(b));
                    self.join(a, b);
                }
                // One who is none of the ends began it, or answers.
                (Some(one), None) | (None, Some(one))
                    if direction(&Flow { dst: reply.src, ..original }).is_none() =>
                {
                    let named = self.id(one);
                    let named = self.name(named).number();
                    self.whose[named] = self.whose[named].max(Whose::Others);
                }
                _ => {}
            }
        }
    }

    /// One name for all flows that are one.
    pub fn name(&mut self, mut id: FlowId) -> FlowId {
        while self.stands_for[id.number()] != id {
            let above = self.stands_for[id.number()];
            self.stands_for[id.number()] = self.stands_for[above.number()];
            id = above;
        }
        id
    }

    /// The same, without remembering it.
    pub(super) fn one_of(&self, mut id: FlowId) -> FlowId {
        while self.stands_for[id.number()] != id {
            id = self.stands_for[id.number()];
        }
        id
    }

    /// A packet seen as `known` at the positions of `seen` is seen as `other` at `position`.
    pub(crate) fn changed(
        &mut self,
        known: FlowId,
        other: FlowId,
        direction: Direction,
        seen: u16,
        position: u8,
    ) {
        let (one, another) = (self.flow(known), self.flow(other));
        if one.src == another.src && one.dst == another.dst {
            // Equal packets of two flows, and no translation.
            return;
        }
        self.join(known, other);
        let below = seen & ((1 << position) - 1);
        // Sightings may come out of order: seen further along first, then `known` is the flow after the change.
        let (before, after, from, to) = if below == 0 {
            (other, known, position, u8::try_from(seen.trailing_zeros()).unwrap_or(position))
        } else {
            (known, other, u8::try_from(below.ilog2()).unwrap_or(position), position)
        };
        let key = (before, after, direction == Direction::Forward);
        if self.changes.len() < MOST_CHANGES || self.changes.contains_key(&key) {
            let entry = self.changes.entry(key).or_insert((from, to, 0));
            entry.0 = entry.0.max(from);
            entry.1 = entry.1.min(to);
            entry.2 += 1;
        }
    }

    /// Where addresses changed, most packets first.
    pub fn changes(&self) -> Vec<AddressChange> {
        let mut all: Vec<_> = self
            .changes
            .iter()
            .map(|(&(before, after, forward), &(after_position, position, packets))| {
                let orient = |flow: Flow| if forward { flow } else { flow.reversed() };
                AddressChange {
                    direction: if forward { Direction::Forward } else { Direction::Reply },
                    after_position,
                    position,
                    before: orient(self.flow(before)),
                    after: orient(self.flow(after)),
                    packets,
                }
            })
            .collect();
        all.sort_by_key(|change| std::cmp::Reverse(change.packets));
        all
    }
}

/// Flows by number: those of IPv4 in as few bytes as they have, since every packet asks for one.
#[derive(Debug, Default)]
struct Flows {
    small: Vec<Small>,
    /// All others.
    large: Vec<Flow>,
}

/// A flow of IPv4; or, where nothing but the source is set, the index of a large one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Small {
    src: u32,
    dst: u32,
    ports: [u16; 2],
    protocol: u8,
    is_large: bool,
}

impl Flows {
    fn is(&self, known: Small, flow: &Flow, small: Option<Small>) -> bool {
        match small {
            Some(small) => known == small,
            None => known.is_large && self.large[known.src as usize] == *flow,
        }
    }

    fn push(&mut self, flow: Flow, small: Option<Small>) -> (Small, FlowId) {
        let id = FlowId::numbered(self.small.len()).expect("fewer than 2^32 flows");
        let small = small.unwrap_or_else(|| {
            self.large.push(flow);
            let src = u32::try_from(self.large.len() - 1).expect("no more than all flows");
            Small { src, dst: 0, ports: [0; 2], protocol: 0, is_large: true }
        });
        self.small.push(small);
        (small, id)
    }

    fn get(&self, id: FlowId) -> Flow {
        self.full(self.small[id.number()])
    }

    fn full(&self, small: Small) -> Flow {
        let Small { src, dst, ports: [src_port, dst_port], protocol, is_large } = small;
        if is_large {
            return self.large[src as usize];
        }
        let address = |bits: u32| IpAddr::V4(Ipv4Addr::from_bits(bits));
        Flow { src: address(src), dst: address(dst), protocol, src_port, dst_port }
    }
}

impl Small {
    fn of(flow: &Flow) -> Option<Self> {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (flow.src, flow.dst) else { return None };
        let Flow { protocol, src_port, dst_port, .. } = *flow;
        let (src, dst) = (src.to_bits(), dst.to_bits());
        Some(Self { src, dst, ports: [src_port, dst_port], protocol, is_large: false })
    }
}

fn hash(flow: &Flow) -> u64 {
    let mut hash = FxHasher::default();
    for address in [flow.src, flow.dst] {
        match address {
            IpAddr::V4(v4) => hash.write_u32(v4.to_bits()),
            IpAddr::V6(v6) => hash.write_u128(v6.to_bits()),
        }
    }
    hash.write_u32(u32::from(flow.src_port) << 16 | u32::from(flow.dst_port));
    hash.write_u8(flow.protocol);
    hash.finish()
}

/// The two flows of a line of connection tracking.
fn entry(line: &str) -> Option<(Flow, Flow)> {
    let known = |word: &str| match word {
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmpv6" => Some(58),
        "sctp" => Some(132),
        _ => None,
    };
    let protocol = line.split_whitespace().take(4).find_map(known)?;
    let mut flows = [Flow {
        src: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        dst: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        protocol,
        src_port: 0,
        dst_port: 0,
    }; 2];
    let mut which = 0;
    let mut begun = false;
    for (key, value) in line.split_whitespace().filter_map(|word| word.split_once('=')) {
        match key {
            // The second source begins the flow of the answers.
            "src" => {
                which = usize::from(begun);
                begun = true;
                flows[which].src = value.parse().ok()?;
            }
            "dst" => flows[which].dst = value.parse().ok()?,
            "sport" => flows[which].src_port = value.parse().ok()?,
            "dport" => flows[which].dst_port = value.parse().ok()?,
            "id" if protocol == 1 || protocol == 58 => {
                let id = value.parse().ok()?;
                (flows[which].src_port, flows[which].dst_port) = (id, id);
            }
            _ => {}
        }
    }
    (which == 1).then_some((flows[0], flows[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_tracking_joins_a_translated_flow() {
        let text = "tcp      6 86397 ESTABLISHED src=10.244.1.2 dst=10.96.0.10 sport=41170 dport=80 src=10.244.2.2 \
                    dst=10.244.1.2 sport=8080 dport=41170 [ASSURED] mark=0 use=1\nnonsense src=x\n";
        let mut nat = Nat::default();
        nat.read_conntrack(text, |flow| (flow.src_port == 41170).then_some(Direction::Forward));
        let flow = |dst: &str, dst_port| Flow {
            src: "10.244.1.2".parse().unwrap(),
            dst: dst.parse().unwrap(),
            protocol: 6,
            src_port: 41170,
            dst_port,
        };
        let (service, pod) = (nat.id(flow("10.96.0.10", 80)), nat.id(flow("10.244.2.2", 8080)));
        assert_ne!(service, pod);
        assert_eq!(nat.name(service), nat.name(pod));
    }
}
