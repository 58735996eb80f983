//! Several points in one lane, as in a capture of all interfaces or in files that were merged into one interface: takes it apart where
//! its packets tell, and says where they do not. Knows nothing of other lanes.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::Direction;
use crate::packet::LinkType;

use super::ends::{Ends, Side, near};
use super::look::{Class, Lane, Sight};

/// Takes a lane apart in which several points are mixed, as far as its packets tell them.
pub(super) fn parts(lane: Lane, ends: &Ends) -> Vec<Lane> {
    let tunnelled = |sight: &Sight| sight.tunnel.is_some();
    let plain = |sight: &Sight| sight.tunnel.is_none();
    if lane.link == LinkType::LinuxSll {
        let on = |side| {
            move |sight: &Sight| {
                let way = ends.way(sight.src, sight.dst);
                sight.tunnel.is_none() && way.is_some_and(|way| near(way, sight.way) == Some(side))
            }
        };
        let classes = [
            lane.part(Class::Tunnelled, tunnelled),
            lane.part(Class::NearFrom, on(Side::From)),
            lane.part(Class::NearTo, on(Side::To)),
        ];
        let used: Vec<Lane> = classes.into_iter().filter(|part| !part.sights.is_empty()).collect();
        return if used.is_empty() { vec![lane] } else { used };
    }
    let of = |which: &dyn Fn(&Sight) -> bool| -> BTreeSet<u64> {
        let traffic =
            lane.sights.iter().filter(|sight| ends.way(sight.src, sight.dst).is_some() && which(sight));
        traffic.map(|sight| sight.key).collect()
    };
    let (in_tunnel, in_none) = (of(&tunnelled), of(&plain));
    let both = in_tunnel.intersection(&in_none).count();
    if both >= 3 && both * 2 > in_tunnel.len().min(in_none.len()) {
        return vec![lane.part(Class::Tunnelled, tunnelled), lane.part(Class::Plain, plain)];
    }
    vec![lane]
}

/// Whether several points are mixed in a lane, and no packet tells which of them saw it.
pub(super) fn is_inseparable(lane: &Lane, ends: &Ends) -> bool {
    doubled(lane, ends) || behind_each_other(lane, ends)
}

/// Whether most packets are in it twice, with nothing between: captures of two places that look alike.
fn doubled(lane: &Lane, ends: &Ends) -> bool {
    let mut seen = BTreeMap::new();
    for sight in lane.sights.iter().filter(|sight| ends.way(sight.src, sight.dst).is_some()) {
        let this = (sight.key, sight.src, sight.dst, sight.ports, sight.ttl, sight.tunnel.is_some());
        let (time, count) = seen.entry(this).or_insert((sight.time, 0));
        *count += usize::from((sight.time - *time).abs() < 100_000_000);
    }
    let twice = seen.values().filter(|(_, count)| (2..=4).contains(count)).count();
    twice >= 3 && twice * 5 > seen.len() * 3
}

/// Whether packets of the traffic come by twice, not yet as they were: two places behind each other.
fn behind_each_other(lane: &Lane, ends: &Ends) -> bool {
    let mut ttls: BTreeMap<(u64, Direction, bool), BTreeSet<u8>> = BTreeMap::new();
    for sight in &lane.sights {
        let Some(way) = ends.way(sight.src, sight.dst) else { continue };
        ttls.entry((sight.key, way, sight.tunnel.is_some())).or_default().insert(sight.ttl);
    }
    let several = ttls.values().filter(|ttls| ttls.len() > 1).count();
    several >= 3 && several * 5 > ttls.len() * 3
}
