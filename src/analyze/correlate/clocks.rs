//! Aligns the clocks of two nodes. Takes when packets were seen on each of them; gives the offset between the two
//! clocks and how wrong it may be. From packets in both directions the offset is half the difference of the two
//! least one-way times, and at most half their sum wrong (as NTP does, RFC 5905, section 8); from one direction
//! alone only a bound is known.

use rustc_hash::FxHashMap;

use crate::evidence::Direction;
use crate::packet::{Nanos, Timestamp};

/// What is known of the offset between two nodes' clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset {
    /// `to`'s node's clock minus `from`'s node's.
    pub offset: Nanos,
    /// At most this wrong; None when packets of one direction only were seen on both nodes.
    pub error: Option<Nanos>,
    /// Packets that it was estimated from.
    pub packets: usize,
}

/// Collects sightings of the same packets on both nodes.
#[derive(Debug, Default)]
pub struct ClockSurvey {
    seen: FxHashMap<u64, Pair>,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    direction: Direction,
    /// The last sighting on the sending node's side and the first on the receiving one's.
    at_from: Sightings,
    at_to: Sightings,
}

/// Positions and times seen on one node, kept to the one nearest to the other node.
#[derive(Debug, Clone, Copy, Default)]
struct Sightings {
    nearest: Option<(u8, Timestamp)>,
    repeated: bool,
}

/// Packets looked at: enough for the least of them to be near the true minimum.
const MOST: usize = 50_000;
/// Differences further than this from the median belong to mistaken matches.
const BAND: Nanos = Nanos::from_millis(500);

impl ClockSurvey {
    /// A frame with this fingerprint was seen at `position` of its direction's path.
    pub fn note(
        &mut self,
        key: u64,
        direction: Direction,
        position: u8,
        on_from_node: bool,
        time: Timestamp,
    ) {
        if self.seen.len() >= MOST && !self.seen.contains_key(&key) {
            return;
        }
        let empty = Sightings::default();
        let pair = self.seen.entry(key).or_insert(Pair { direction, at_from: empty, at_to: empty });
        let sending = on_from_node == (direction == Direction::Forward);
        let side = if on_from_node { &mut pair.at_from } else { &mut pair.at_to };
        match side.nearest {
            Some((known, _)) if known == position => side.repeated = true,
            // Towards the other node: later positions on the sending node, earlier ones on the receiving.
            Some((known, _)) if (known > position) == sending => {}
            _ => side.nearest = Some((position, time)),
        }
    }

    /// The offset, if any packet was seen on both nodes.
    pub fn offset(&self) -> Option<Offset> {
        let mut differences: [Vec<i64>; 2] = [Vec::new(), Vec::new()];
        for pair in self.seen.values() {
            if let (Some((_, a)), Some((_, b)), false) =
                (pair.at_from.nearest, pair.at_to.nearest, pair.at_from.repeated || pair.at_to.repeated)
            {
                differences[pair.direction as usize].push((b - a).0);
            }
        }
        let packets = differences.iter().map(Vec::len).sum();
        // Forward packets show the offset plus their time on the way, replies the offset minus it.
        let [forward, reply] = differences;
        let least = trimmed(forward).first().copied();
        let most = trimmed(reply).last().copied();
        match (least, most) {
            (Some(least), Some(most)) => Some(Offset {
                offset: Nanos(i64::midpoint(least, most)),
                error: Some(Nanos(least.saturating_sub(most) / 2).abs()),
                packets,
            }),
            (Some(only), None) | (None, Some(only)) => {
                Some(Offset { offset: Nanos(only), error: None, packets })
            }
            (None, None) => None,
        }
    }
}

/// Sorted, without those far from the median.
fn trimmed(mut differences: Vec<i64>) -> Vec<i64> {
    differences.sort_unstable();
    let Some(&median) = differences.get(differences.len() / 2) else { return differences };
    differences.retain(|difference| Nanos(difference.saturating_sub(median)).abs() <= BAND);
    differences
}
