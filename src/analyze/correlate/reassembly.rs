//! Tunnel packets that were themselves fragmented on the underlay: the packet inside was seen at a NIC only when all
//! fragments of the outer one were. Takes first fragments with the sighting they carry, and later ones; gives the
//! sightings of complete packets. A capture without any later fragment was filtered without them: then first
//! fragments count alone.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::evidence::PointId;
use crate::packet::{Ip, Nanos, Timestamp};

use super::Sighting;

/// Outer packets of which not every fragment was seen yet.
#[derive(Debug, Default)]
pub struct OuterFragments {
    pending: FxHashMap<Key, Pending>,
    /// All that is pending, and some that is complete by now: the earliest on top.
    waiting: BinaryHeap<Reverse<(Timestamp, Key)>>,
    /// Points whose capture shows later fragments at all.
    shows_later: FxHashSet<PointId>,
    /// All captures were made with one filter: what one shows, all would show.
    alike: bool,
    /// Packets of which a fragment was missing.
    pub incomplete: u64,
    /// Points that saw first fragments alone.
    pub first_only: FxHashSet<PointId>,
}

/// Point, source, destination and identification.
type Key = (PointId, IpAddr, IpAddr, u32);

#[derive(Debug)]
struct Pending {
    sighting: Option<Sighting>,
    time: Timestamp,
    got: u32,
    total: Option<u32>,
}

/// Fragments leave a host back to back.
const WAIT: Nanos = Nanos::from_millis(200);
/// More do not wait, whatever a capture's times say.
const MOST: usize = 100_000;

impl OuterFragments {
    /// For captures that were all made with one filter (`alike`), or by hand.
    pub fn new(alike: bool) -> Self {
        Self { alike, ..Self::default() }
    }

    /// A fragment of an outer packet at `point`; the first one brings the sighting of the packet inside. Gives a
    /// sighting when it completes one.
    pub fn take(
        &mut self,
        point: PointId,
        outer: &Ip,
        time: Timestamp,
        sighting: Option<Sighting>,
    ) -> Option<Sighting> {
        let fragment = outer.fragment?;
        if sighting.is_none() {
            self.shows_later.insert(point);
        }
        let key = (point, outer.src, outer.dst, outer.id.unwrap_or(0));
        let waiting = &mut self.waiting;
        let pending = self.pending.entry(key).or_insert_with(|| {
            waiting.push(Reverse((time, key)));
            Pending { sighting: None, time, got: 0, total: None }
        });
        pending.sighting = pending.sighting.or(sighting);
        pending.got = pending.got.saturating_add(outer.payload_len);
        if !fragment.more {
            pending.total = Some(fragment.offset.saturating_add(outer.payload_len));
        }
        let complete = pending.total.is_some_and(|total| pending.got >= total);
        if complete { self.pending.remove(&key).and_then(|pending| pending.sighting) } else { None }
    }

    /// Gives up on packets that should have been complete by `now`; calls `take` for those to count all the same.
    #[inline]
    pub fn advance(&mut self, now: Timestamp, take: impl FnMut(Sighting)) {
        if !self.waiting.is_empty() {
            self.give_up(now, take);
        }
    }

    fn give_up(&mut self, now: Timestamp, mut take: impl FnMut(Sighting)) {
        while let Some(&Reverse((time, key))) = self.waiting.peek() {
            if now - time < WAIT && self.waiting.len() <= MOST {
                return;
            }
            self.waiting.pop();
            // The same identification may have come by again since.
            if self.pending.get(&key).is_none_or(|pending| pending.time != time) {
                continue;
            }
            match self.pending.remove(&key).and_then(|pending| pending.sighting) {
                Some(sighting) if !self.would_show_later(key.0) => {
                    self.first_only.insert(key.0);
                    take(sighting);
                }
                Some(_) => self.incomplete += 1,
                None => {}
            }
        }
    }

    fn would_show_later(&self, point: PointId) -> bool {
        self.shows_later.contains(&point) || (self.alike && !self.shows_later.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Fragment;

    fn fragment(id: u32, offset: u32, more: bool, payload_len: u32) -> Ip {
        let end = IpAddr::from([192, 168, 0, 1]);
        Ip {
            src: end,
            dst: end,
            protocol: 17,
            ttl: 64,
            traffic_class: 0,
            id: Some(id),
            dont_fragment: false,
            fragment: Some(Fragment { offset, more }),
            payload_len,
            checksum_ok: None,
        }
    }

    #[test]
    fn lengths_that_lie_do_not_overflow() {
        let mut fragments = OuterFragments::new(false);
        for more in [true, true, false] {
            let outer = fragment(1, u32::MAX, more, u32::MAX);
            assert!(fragments.take(PointId(0), &outer, Timestamp(0), None).is_none());
        }
    }

    #[test]
    fn no_more_wait_than_may_although_time_stands_still() {
        let mut fragments = OuterFragments::new(false);
        let n = u32::try_from(MOST).unwrap() + 500;
        for id in 0..n {
            fragments.take(PointId(0), &fragment(id, 0, true, 8), Timestamp(7), None);
            fragments.advance(Timestamp(7), |_| {});
        }
        assert!(fragments.pending.len() <= MOST && fragments.waiting.len() <= MOST);
        fragments.advance(Timestamp(7) + WAIT, |_| {});
        assert!(fragments.pending.is_empty() && fragments.waiting.is_empty());
    }
}
