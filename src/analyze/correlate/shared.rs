//! Whose packets are that bear an address which an end shares with others: a Service's, behind which are other pods too, or a
//! node's, behind which its pods are masqueraded. Takes lots of flows of which neither a packet nor connection tracking tells
//! that they are between the ends themselves, and keeps them until it is known; then gives the ends' to the tally, and only
//! the number of all others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use super::Trail;
use super::gist::Gist;
use super::nat::{FlowId, Nat, Whose};
use super::tally::{Lot, Tally};
use crate::evidence::Direction;
use crate::packet::{Nanos, Timestamp};

/// Lots of which it is not known yet whose they are.
#[derive(Debug, Default)]
pub(super) struct Shared {
    held: Vec<(Lot, Vec<Trail>)>,
    n_trails: usize,
    /// When the connections were listed, after the captures.
    listed: Option<Timestamp>,
}

/// More trails are not held: then it is decided by what is known.
const MOST_HELD: usize = 100_000;
/// Connection tracking forgets none sooner, whatever became of it (`nf_conntrack_udp_timeout`, `nf_conntrack_icmp_timeout`: 30 s).
const REMEMBERED: Nanos = Nanos::from_millis(25_000);
/// The same of TCP's, which may have been reset (`nf_conntrack_tcp_timeout_close`: 10 s).
const REMEMBERED_OF_TCP: Nanos = Nanos::from_millis(8_000);

/// Where lots go.
pub(super) struct Books<'b> {
    pub(super) tally: &'b mut Tally,
    pub(super) shared: &'b mut Shared,
    pub(super) nat: &'b mut Nat,
}

impl Books<'_> {
    /// Packets that some points saw more often than others; `members` are the frames that they were seen in.
    pub(super) fn lot(&mut self, lot: &Lot, members: &[Trail]) {
        if self.nat.whose(lot.flow) == Whose::Ends {
            self.tally.lot(lot, members);
            return;
        }
        self.shared.n_trails += members.len();
        self.shared.held.push((lot.clone(), members.to_vec()));
        if self.shared.n_trails > MOST_HELD {
            self.settle();
        }
    }

    /// Decides on all that is held.
    pub(super) fn settle(&mut self) {
        self.shared.settle(self.nat, self.tally);
        self.shared.held.clear();
        self.shared.n_trails = 0;
    }
}

/// What is known of one flow, whose lots all are held.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Packets each way, resets aside: a host may send them in another's name.
    ways: [bool; 2],
    /// Whether any were seen at the path's near and at its far end.
    ends: [bool; 2],
}

impl Known {
    fn note(&mut self, lot: &Lot, members: &[Trail], n: usize) {
        let is_reset = |trail: &Trail| matches!(trail.gist, Gist::Tcp { flags, .. } if flags & RST != 0);
        self.ways[lot.direction as usize] |= !members.iter().all(is_reset);
        let [first, last] = [0, n.saturating_sub(1)].map(|position| lot.counts[position] > 0);
        let (near, far) = if lot.direction == Direction::Forward { (first, last) } else { (last, first) };
        self.ends[0] |= near;
        self.ends[1] |= far;
    }

    /// Answered, and on one side of the path only: by another.
    fn is_of_others(self) -> bool {
        self.ways == [true; 2] && self.ends != [true; 2]
    }
}

const RST: u16 = 0x04;
const TCP: u8 = 6;

impl Shared {
    /// The connections of the node where Services are translated were listed at `time`, after all captures.
    pub(super) fn listed(&mut self, time: Timestamp) {
        self.listed = Some(time);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Gives `tally` what is held, as far as it is known by now; keeps all.
    pub(super) fn settle(&self, nat: &Nat, tally: &mut Tally) {
        let mut flows: FxHashMap<FlowId, Known> = FxHashMap::default();
        for (lot, members) in &self.held {
            let n = tally.way(lot.direction).listening.len();
            flows.entry(nat.one_of(lot.flow)).or_default().note(lot, members, n);
        }
        let of_others = |flow: FlowId| match nat.whose(flow) {
            Whose::Ends => false,
            Whose::Others => true,
            Whose::Open => flows[&nat.one_of(flow)].is_of_others(),
        };
        let others_too: BTreeSet<IpAddr> = self
            .held
            .iter()
            .filter(|(lot, _)| of_others(lot.flow))
            .map(|(lot, _)| nat.shared(lot.flow))
            .collect();
        for (lot, members) in &self.held {
            let address = nat.shared(lot.flow);
            // A connection that is not listed got no further than the node that it began on.
            let remembered = if nat.flow(lot.flow).protocol == TCP { REMEMBERED_OF_TCP } else { REMEMBERED };
            let is_listed = nat.is_to_shared(lot.flow)
                && self.listed.is_some_and(|listed| lot.first >= listed - remembered);
            let may_be = || others_too.contains(&address) || nat.is_translated(address);
            match nat.whose(lot.flow) {
                Whose::Ends => tally.lot(lot, members),
                _ if of_others(lot.flow) => tally.leave_to_others(lot, address, true),
                _ if !is_listed && may_be() => tally.leave_to_others(lot, address, false),
                _ => tally.lot(lot, members),
            }
        }
    }
}
