//! What a reader wants to see beside the counts: some packets with their times at every point, the course of loss and
//! delay over time, the flows with what each lost. Takes what the tally counts; everything here is bounded, however long
//! the capture, and the same for the same frames.

use super::nat::FlowId;
use super::{MAX_POSITIONS, Trail};
use crate::packet::{Nanos, Timestamp};

/// The chronicle of one direction.
#[derive(Debug, Clone)]
pub struct Chronicle {
    /// Packets that arrived.
    pub(crate) delivered: Spread<Witness>,
    /// Packets that vanished, by the position that saw them last.
    pub(crate) lost: Vec<Spread<Witness>>,
    /// Loss and delay over time.
    pub course: Course,
    /// What each flow sent and lost.
    pub flows: FlowCounts,
    /// Every packet that vanished, if that was asked for.
    pub(crate) trails: Option<LostTrails>,
}

/// A packet as it was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Witness {
    pub(crate) trail: Trail,
    /// The flow that it was counted for: a later fragment itself bears no ports.
    pub(crate) flow: FlowId,
    /// Bit per position that saw its bytes, in this frame or in others (segmentation, fragments).
    pub(crate) seen: u16,
}

/// Some of many, evenly from all of them.
#[derive(Debug, Clone)]
pub(crate) struct Spread<T> {
    most: usize,
    every: u64,
    n_offered: u64,
    pub(crate) kept: Vec<T>,
}

/// Counts over time, in at most [`MOST_BINS`] bins of equal width.
#[derive(Debug, Clone)]
pub struct Course {
    /// When the first bin begins.
    pub start: Timestamp,
    /// How long each lasts.
    pub width: Nanos,
    /// In order.
    pub bins: Vec<Bin>,
    /// When the bin asked for last begins, and its index.
    latest: (Timestamp, usize),
}

/// What happened in one piece of time, by when packets were first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bin {
    /// Packets that entered the path.
    pub sent: u64,
    /// Of these, lost.
    pub lost: u64,
    /// Packets whose whole time on the path is known.
    pub timed: u64,
    /// The sum of these times.
    pub took: Nanos,
    /// The longest.
    pub longest: Nanos,
}

/// Packets of each flow.
#[derive(Debug, Clone, Default)]
pub struct FlowCounts {
    /// Sent and lost, by the flow's number.
    by_flow: Vec<(u64, u64)>,
    /// The same of all flows beyond [`MOST_FLOWS`].
    pub others: (u64, u64),
}

/// Trails of packets that vanished.
#[derive(Debug, Clone, Default)]
pub(crate) struct LostTrails {
    pub(crate) all: Vec<LostTrail>,
    pub(crate) left_out: u64,
}

/// Enough of a trail to know its frames again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LostTrail {
    pub(crate) key: u64,
    pub(crate) earliest: Timestamp,
    pub(crate) latest: Timestamp,
    /// The last position that saw its bytes.
    pub(crate) last: u8,
    /// The last position that saw this very frame.
    pub(crate) last_itself: u8,
    /// Positions whose frame was found again, a bit each.
    pub(crate) found: u16,
}

const MOST_DELIVERED: usize = 20;
const MOST_LOST: usize = 40;
/// Wide enough for one line each on a screen.
pub const MOST_BINS: usize = 120;
/// Width of the first bins; they join as time goes on.
const NARROWEST: Nanos = Nanos::from_millis(10);
/// Flows with counts of their own.
pub const MOST_FLOWS: usize = 65_536;
/// 32 bytes each.
pub(crate) const MOST_TRAILS: usize = 1_000_000;

impl Chronicle {
    pub(super) fn new(n_positions: usize) -> Self {
        Self {
            delivered: Spread::new(MOST_DELIVERED),
            lost: (1..n_positions).map(|_| Spread::new(MOST_LOST)).collect(),
            course: Course::new(),
            flows: FlowCounts::default(),
            trails: None,
        }
    }

    /// Packets of a trail that all points saw.
    pub(super) fn passed(&mut self, trail: &Trail, packets: u64, took: Option<Nanos>) {
        self.arrived(trail, trail.seen);
        self.count(trail.first, trail.flow, packets, 0);
        if let Some(took) = took {
            self.course.bin(trail.first).time(took);
        }
    }

    /// A frame of which nothing was lost; `seen` by which positions.
    pub(super) fn arrived(&mut self, trail: &Trail, seen: u16) {
        self.delivered.offer(|| Witness { trail: *trail, flow: trail.flow, seen });
    }

    /// Packets pooled by number. They are counted each at its own time where a frame stands for each of them.
    pub(super) fn count_all(
        &mut self,
        flow: FlowId,
        (sent, lost): (u64, u64),
        first: Timestamp,
        members: &[Trail],
    ) {
        let last_position = self.lost.len();
        let is_lost = |trail: &&Trail| usize::from(last(trail.seen)) < last_position;
        let n_lost = members.iter().filter(is_lost).count() as u64;
        if members.len() as u64 != sent || n_lost != lost {
            self.count(first, flow, sent, lost);
            return;
        }
        for trail in members {
            self.count(trail.first, flow, 1, u64::from(is_lost(&trail)));
        }
    }

    pub(super) fn count(&mut self, first: Timestamp, flow: FlowId, sent: u64, lost: u64) {
        let bin = self.course.bin(first);
        bin.sent += sent;
        bin.lost += lost;
        self.flows.count(flow, sent, lost);
    }

    /// Frames whose bytes, or some of them, were last seen at `position`; `seen` by which positions.
    pub(super) fn lost(
        &mut self,
        position: usize,
        packets: u64,
        (flow, seen): (FlowId, u16),
        members: &[Trail],
    ) {
        // Equal packets are pooled: what further points saw was another of them.
        let before = (2 << position) - 1;
        let seen = seen & before;
        let mut left = packets;
        for trail in members.iter().filter(|trail| usize::from(last(trail.seen)) == position) {
            if left == 0 {
                break;
            }
            left -= 1;
            if let Some(lost) = self.lost.get_mut(position) {
                lost.offer(|| Witness { trail: *trail, flow, seen: seen | trail.seen });
            }
        }
        // Pieces that points saw in no order that a packet can have: none ends here by itself.
        if left == packets
            && let (Some(lost), Some(&trail)) = (self.lost.get_mut(position), members.first())
        {
            let trail = Trail { seen: trail.seen & before, ..trail };
            lost.offer(|| Witness { trail, flow, seen });
        }
        if let Some(trails) = &mut self.trails {
            trails.note(position, packets, members);
        }
    }
}

/// The last position of a set.
fn last(seen: u16) -> u8 {
    u8::try_from(15_u32.saturating_sub(seen.leading_zeros())).unwrap_or(0)
}

impl<T> Spread<T> {
    /// `most` is even: when it is reached every other one goes, and from then on every other one is taken.
    fn new(most: usize) -> Self {
        Self { most, every: 1, n_offered: 0, kept: Vec::new() }
    }

    fn offer(&mut self, make: impl FnOnce() -> T) {
        // A power of two.
        let wanted = self.n_offered & (self.every - 1) == 0;
        self.n_offered += 1;
        if !wanted {
            return;
        }
        if self.kept.len() == self.most {
            let mut number = 0;
            self.kept.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.every *= 2;
        }
        self.kept.push(make());
    }
}

impl Course {
    fn new() -> Self {
        Self { start: Timestamp(0), width: NARROWEST, bins: Vec::new(), latest: (Timestamp(0), usize::MAX) }
    }

    /// The bin of a time; bins join where it would take too many.
    fn bin(&mut self, time: Timestamp) -> &mut Bin {
        // Most often the same one as before; a division costs more.
        let (begin, index) = self.latest;
        if time >= begin && (time - begin) < self.width && index < self.bins.len() {
            return &mut self.bins[index];
        }
        let index = self.find(time);
        let from_start = self.width.0.saturating_mul(i64::try_from(index).unwrap_or(0));
        self.latest = (self.start + Nanos(from_start), index);
        &mut self.bins[index]
    }

    /// The index of a time's bin, which is there then.
    fn find(&mut self, time: Timestamp) -> usize {
        if self.bins.is_empty() {
            self.start = time;
            self.bins.push(Bin::default());
        }
        loop {
            let width = self.width.0.max(1);
            if time < self.start {
                let before = (self.start - time).0.saturating_sub(1) / width + 1;
                match usize::try_from(before).ok().filter(|before| before + self.bins.len() <= MOST_BINS) {
                    Some(before) => {
                        self.bins.splice(0..0, std::iter::repeat_n(Bin::default(), before));
                        self.start =
                            self.start - Nanos(width.saturating_mul(i64::try_from(before).unwrap_or(0)));
                    }
                    None if self.bins.len() == 1 => {
                        // One bin alone cannot be joined with another: it grows.
                        self.width = Nanos(width.saturating_mul(2));
                    }
                    None => self.join(),
                }
                continue;
            }
            let index = usize::try_from((time - self.start).0 / width).unwrap_or(usize::MAX);
            if index < MOST_BINS {
                if index >= self.bins.len() {
                    self.bins.resize(index + 1, Bin::default());
                }
                return index;
            }
            self.join();
        }
    }

    fn join(&mut self) {
        self.width = Nanos(self.width.0.saturating_mul(2));
        self.bins = self.bins.chunks(2).map(|pair| pair.iter().fold(Bin::default(), Bin::and)).collect();
    }
}

impl Bin {
    fn time(&mut self, took: Nanos) {
        self.timed += 1;
        self.took = Nanos(self.took.0.saturating_add(took.0));
        self.longest = self.longest.max(took);
    }

    fn and(self, other: &Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            lost: self.lost + other.lost,
            timed: self.timed + other.timed,
            took: Nanos(self.took.0.saturating_add(other.took.0)),
            longest: self.longest.max(other.longest),
        }
    }

    /// The mean time on the path.
    pub fn mean(&self) -> Option<Nanos> {
        let timed = i64::try_from(self.timed).ok().filter(|timed| *timed > 0)?;
        Some(Nanos(self.took.0 / timed))
    }
}

impl FlowCounts {
    fn count(&mut self, flow: FlowId, sent: u64, lost: u64) {
        let number = flow.number();
        let counts = if number < MOST_FLOWS {
            if number >= self.by_flow.len() {
                self.by_flow.resize(number + 1, (0, 0));
            }
            &mut self.by_flow[number]
        } else {
            &mut self.others
        };
        counts.0 += sent;
        counts.1 += lost;
    }

    /// Each flow that sent something, with what it sent and lost.
    pub fn all(&self) -> impl Iterator<Item = (FlowId, (u64, u64))> + '_ {
        let by_flow = self.by_flow.iter().copied().enumerate().filter(|(_, (sent, _))| *sent > 0);
        by_flow.filter_map(|(number, counts)| Some((FlowId::numbered(number)?, counts)))
    }
}

impl LostTrails {
    fn note(&mut self, position: usize, packets: u64, members: &[Trail]) {
        // Equal packets of which some arrived: as many as were lost. A frame that went further in part is lost in part.
        let mut whole = packets;
        for trail in members.iter().filter(|trail| usize::from(last(trail.seen)) <= position) {
            let itself = last(trail.seen);
            if usize::from(itself) == position {
                if whole == 0 {
                    continue;
                }
                whole -= 1;
            }
            if self.all.len() >= MOST_TRAILS {
                self.left_out += 1;
                continue;
            }
            let (earliest, latest) = trail.between();
            let last = u8::try_from(position).unwrap_or(u8::MAX);
            self.all.push(LostTrail {
                key: trail.print.key,
                earliest,
                latest,
                last,
                last_itself: itself,
                found: 0,
            });
        }
    }
}

impl Witness {
    /// When it came to a position, after its first sighting; None where this very frame was not seen.
    pub(crate) fn at(&self, position: usize) -> Option<Nanos> {
        self.trail.at(position)
    }

    /// Whether a position saw its bytes in some frame.
    pub(crate) fn came_to(&self, position: usize) -> bool {
        position < MAX_POSITIONS && self.seen & (1 << position) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::correlate::Sighting;
    use crate::analyze::correlate::fingerprint::{Fingerprint, Span};
    use crate::analyze::correlate::gist::Gist;
    use crate::analyze::correlate::nat::Nat;
    use crate::evidence::Direction;
    use crate::packet::Flow;
    use proptest::prelude::*;

    /// Fragments of one packet, seen at the first and third point and at the first, second and fourth: the whole packet
    /// was seen by the first alone, and no fragment ends there.
    #[test]
    fn a_loss_that_no_frame_shows_has_a_witness_all_the_same() {
        let ends = |text: &str| text.parse().expect("an address");
        let (src, dst) = (ends("10.0.0.1"), ends("10.0.0.2"));
        let flow = Flow { src, dst, protocol: 6, src_port: 1, dst_port: 2 };
        let trail = |positions: &[u8]| {
            let sighting = |position| Sighting {
                direction: Direction::Forward,
                position,
                time: Timestamp(i64::from(position)),
                print: Fingerprint { key: 1, span: Span::Whole },
                flow,
                gist: Gist::Tcp { flags: 0, seq: 0, ack: 0, len: 0 },
                ttl: 64,
                ip_len: 100,
                astray: None,
            };
            let mut nat = Nat::default();
            let id = nat.id(flow);
            let mut trail = Trail::new(&sighting(positions[0]), id, nat.small(id, &flow));
            for position in positions {
                trail.note(&sighting(*position));
            }
            trail
        };
        let members = [trail(&[0, 2]), trail(&[0, 1, 3])];
        let mut chronicle = Chronicle::new(4);
        chronicle.lost(0, 1, (members[0].flow, 0b1), &members);
        let [witness] = chronicle.lost[0].kept.as_slice() else { panic!("one witness") };
        assert_eq!(
            (0..4).map(|at| witness.at(at).is_some()).collect::<Vec<_>>(),
            [true, false, false, false]
        );
        assert!(!(1..4).any(|at| witness.came_to(at)));
    }

    proptest! {
        /// Whatever times come, in whatever order: bins stay few, nothing is lost, and every time lies in its bin.
        #[test]
        fn bins_keep_every_count(times in proptest::collection::vec(any::<i64>(), 1..300)) {
            let mut course = Course::new();
            for time in &times {
                course.bin(Timestamp(*time)).sent += 1;
                prop_assert!(course.bins.len() <= MOST_BINS);
            }
            prop_assert_eq!(course.bins.iter().map(|bin| bin.sent).sum::<u64>(), times.len() as u64);
        }

        #[test]
        fn a_spread_is_bounded_and_even(count in 0_u64..5_000) {
            let mut spread = Spread::new(MOST_LOST);
            for number in 0..count {
                spread.offer(|| number);
            }
            prop_assert!(spread.kept.len() <= MOST_LOST);
            prop_assert!(spread.kept.len() as u64 * 2 >= count.min(MOST_LOST as u64));
            let gaps: Vec<u64> = spread.kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
            prop_assert!(gaps.iter().all(|gap| *gap == spread.every));
        }
    }
}
