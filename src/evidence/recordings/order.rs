//! Which of two places a packet passes first, by what both saw, without trusting any clock: takes two lanes, gives which is
//! nearer to where the traffic starts, or nothing when they do not tell. Gives the offset between their clocks, too.

use rustc_hash::FxHashMap;

use crate::evidence::Direction;

use super::ends::Ends;
use super::look::{Lane, Sight};

/// Which of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    One,
    Other,
}

/// How two clocks stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset {
    /// The other's minus the one's, in nanoseconds.
    pub(super) nanos: i64,
    /// Packets that both saw.
    pub(super) packets: usize,
    /// Whether packets of both directions were among them.
    pub(super) both_ways: bool,
}

/// Which lane packets of the traffic pass first on their way from `from`.
pub(super) fn of(one: &Lane, other: &Lane, ends: &Ends) -> Option<First> {
    let common = Common::of(one, other, ends);
    common.by_ttl().or_else(|| common.by_round_trip()).or_else(|| common.by_what_is_missing(one, other, ends))
}

/// As [`of`], by TTL alone: no clock and no loss can turn that.
pub(super) fn by_ttl(one: &Lane, other: &Lane, ends: &Ends) -> Option<First> {
    Common::of(one, other, ends).by_ttl()
}

/// The offset between two lanes' clocks, if packets were seen in both.
pub(super) fn offset(ones: &[&Lane], others: &[&Lane], ends: &Ends) -> Option<Offset> {
    let mut all = Common::default();
    // A packet is in several lanes of a node.
    let mut packets = 0;
    for (one, other) in ones.iter().flat_map(|one| others.iter().map(move |other| (one, other))) {
        let more = Common::of(one, other, ends);
        packets = packets.max(more.later.iter().map(Vec::len).sum());
        for (all, more) in all.later.iter_mut().zip(more.later) {
            all.extend(more);
        }
    }
    if all.later.iter().all(Vec::is_empty) {
        return by_others(ones, others);
    }
    let [forward, reply] = all.later.map(median);
    let (nanos, both_ways) = match (forward, reply) {
        (Some(forward), Some(reply)) => (i64::midpoint(forward, reply), true),
        (Some(only), None) | (None, Some(only)) => (only, false),
        (None, None) => return None,
    };
    Some(Offset { nanos, packets, both_ways })
}

/// From packets of others: which way they went is not asked, the time on the way is little beside what is looked for.
fn by_others(ones: &[&Lane], others: &[&Lane]) -> Option<Offset> {
    let once = |lanes: &[&Lane]| {
        let mut seen: FxHashMap<(u64, u8), Option<i64>> = FxHashMap::default();
        // The nearest to the wire: what is in a tunnel on both nodes.
        for sight in lanes.iter().flat_map(|lane| &lane.sights).filter(|sight| sight.tunnel.is_some()) {
            seen.entry((sight.key, sight.ttl)).and_modify(|known| *known = None).or_insert(Some(sight.time));
        }
        seen
    };
    let (ones, others) = (once(ones), once(others));
    let later: Vec<i64> = ones
        .iter()
        .filter_map(|(key, time)| Some(others.get(key).copied()??.saturating_sub((*time)?)))
        .collect();
    let packets = later.len();
    let nanos = median(later.clone())?;
    let agree = later.iter().filter(|later| (**later - nanos).abs() < NEAR).count();
    (packets >= 3 && agree * 10 > packets * 9).then_some(Offset { nanos, packets, both_ways: false })
}

/// What two lanes have in common, by direction.
#[derive(Debug, Default)]
struct Common {
    /// How much later the other saw each.
    later: [Vec<i64>; 2],
    /// How many had a greater TTL at the one, and at the other.
    greater: [[usize; 2]; 2],
}

impl Common {
    fn of(one: &Lane, other: &Lane, ends: &Ends) -> Self {
        let (ones, others) = (sights(one, ends), sights(other, ends));
        let mut common = Self::default();
        for ((key, way), here) in &ones {
            // What was sent again counts when neither lane has less of it: each is the same in both.
            let Some(there) = others.get(&(*key, *way)).filter(|there| there.len() == here.len()) else {
                continue;
            };
            for (a, b) in here.iter().zip(there) {
                common.later[*way as usize].push(b.time.saturating_sub(a.time));
                common.greater[*way as usize][0] += usize::from(a.ttl > b.ttl);
                common.greater[*way as usize][1] += usize::from(b.ttl > a.ttl);
            }
        }
        common
    }

    /// TTL only falls on the way.
    fn by_ttl(&self) -> Option<First> {
        let [forward, reply] = self.greater;
        // What is forward's before is the reply's after.
        let (for_one, for_other) = (forward[0] + reply[1], forward[1] + reply[0]);
        match (for_one, for_other) {
            (a, b) if a > b * 20 => Some(First::One),
            (a, b) if b > a * 20 => Some(First::Other),
            _ => None,
        }
    }

    /// One direction shows the way plus the clocks' offset, the other the way minus it: their sum has no offset in it.
    fn by_round_trip(&self) -> Option<First> {
        if self.later.iter().any(|later| later.len() < 3) {
            return None;
        }
        let [forward, reply] = self.later.each_ref().map(|later| median(later.clone()));
        match forward?.saturating_sub(reply?) {
            there_and_back if there_and_back > LEAST => Some(First::One),
            there_and_back if there_and_back < -LEAST => Some(First::Other),
            _ => None,
        }
    }

    /// In one direction only: what is missing at one place of what the other saw was lost between.
    fn by_what_is_missing(&self, one: &Lane, other: &Lane, ends: &Ends) -> Option<First> {
        let way = match self.later.each_ref().map(Vec::len) {
            [forward, 0] if forward >= 3 => Direction::Forward,
            [0, reply] if reply >= 3 => Direction::Reply,
            _ => return None,
        };
        let later = median(self.later[way as usize].clone())?;
        let (ones, others) = (sights(one, ends), sights(other, ends));
        let missing = |here: &Seen, there: &Seen, shift: i64| {
            let of_way = there.iter().filter(|((_, which), _)| *which == way);
            let span = of_way.flat_map(|(_, sights)| sights).map(|sight| sight.time);
            let (first, last) = span.fold((i64::MAX, i64::MIN), |(a, b), time| (a.min(time), b.max(time)));
            let at = |sight: &Sight| sight.time.saturating_add(shift);
            here.iter()
                .filter(|((key, which), sights)| {
                    *which == way
                        && !there.contains_key(&(*key, way))
                        && (first..=last).contains(&at(&sights[0]))
                })
                .count()
        };
        let forward = way == Direction::Forward;
        match (missing(&ones, &others, later), missing(&others, &ones, -later)) {
            (1.., 0) => Some(if forward { First::One } else { First::Other }),
            (0, 1..) => Some(if forward { First::Other } else { First::One }),
            // Nothing was lost between the two: then the order says only how they are called.
            (0, 0) if later.abs() < NEAR => {
                Some(if (later >= 0) == forward { First::One } else { First::Other })
            }
            _ => None,
        }
    }
}

/// Less than this is the noise of two stamps.
const LEAST: i64 = 1_000;
/// Clocks that are further apart do not tell any order.
const NEAR: i64 = 100_000_000;

type Seen = FxHashMap<(u64, Direction), Vec<Sight>>;

/// The traffic's packets that a lane saw: the sightings of each.
fn sights(lane: &Lane, ends: &Ends) -> Seen {
    let mut seen = Seen::default();
    for sight in &lane.sights {
        if let Some(way) = ends.way(sight.src, sight.dst) {
            // Most are seen once.
            seen.entry((sight.key, way)).or_insert_with(|| Vec::with_capacity(1)).push(*sight);
        }
    }
    seen
}

fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
