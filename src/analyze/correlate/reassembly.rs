//! Tunnel packets that were themselves fragmented on the underlay: the packet inside was seen at a NIC only when all
//! fragments of the outer one were. Takes first fragments with the sighting they carry, and later ones; gives the
//! sightings of complete packets. A capture without any later fragment was filtered without them: then first
//! fragments count alone.

use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::evidence::PointId;
use crate::packet::{Ip, Nanos, Timestamp};

use super::Sighting;

/// Outer packets of which not every fragment was seen yet.
#[derive(Debug, Default)]
pub struct OuterFragments {
    pending: FxHashMap<(PointId, IpAddr, IpAddr, u32), Pending>,
    /// Points whose capture shows later fragments at all.
    shows_later: FxHashSet<PointId>,
    /// All captures were made with one filter: what one shows, all would show.
    alike: bool,
    oldest: Option<Timestamp>,
    /// Packets of which a fragment was missing.
    pub incomplete: u64,
    /// Points that saw first fragments alone.
    pub first_only: FxHashSet<PointId>,
}

#[derive(Debug)]
struct Pending {
    sighting: Option<Sighting>,
    time: Timestamp,
    got: u32,
    total: Option<u32>,
}

/// Fragments leave a host back to back.
const WAIT: Nanos = Nanos::from_millis(200);

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
        let pending =
            self.pending.entry(key).or_insert(Pending { sighting: None, time, got: 0, total: None });
        pending.sighting = pending.sighting.or(sighting);
        pending.got += outer.payload_len;
        if !fragment.more {
            pending.total = Some(fragment.offset + outer.payload_len);
        }
        self.oldest = Some(self.oldest.map_or(time, |oldest| oldest.min(time)));
        let complete = pending.total.is_some_and(|total| pending.got >= total);
        if complete { self.pending.remove(&key).and_then(|pending| pending.sighting) } else { None }
    }

    /// Gives up on packets that should have been complete by `now`; calls `take` for those to count all the same.
    pub fn advance(&mut self, now: Timestamp, mut take: impl FnMut(Sighting)) {
        if self.oldest.is_none_or(|oldest| now - oldest < WAIT) {
            return;
        }
        let overdue: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, p)| now - p.time >= WAIT)
            .map(|(key, p)| (p.time, *key))
            .collect();
        for (_, key) in overdue {
            let sighting = self.pending.remove(&key).and_then(|pending| pending.sighting);
            match sighting {
                Some(sighting) if !self.would_show_later(key.0) => {
                    self.first_only.insert(key.0);
                    take(sighting);
                }
                Some(_) => self.incomplete += 1,
                None => {}
            }
        }
        self.oldest = self.pending.values().map(|pending| pending.time).min();
    }

    fn would_show_later(&self, point: PointId) -> bool {
        self.shows_later.contains(&point) || (self.alike && !self.shows_later.is_empty())
    }
}
