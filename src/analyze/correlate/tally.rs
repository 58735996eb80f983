//! How many packets passed each stage and how many vanished there. Takes finished trails and lots; gives, per
//! direction, counts, latencies and examples. Judges one thing only: whether a point was listening when a packet
//! should have come by, since a packet near a capture's edge is not called lost.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hdrhistogram::Histogram;

use super::chronicle::{Chronicle, LostTrail, LostTrails};
use super::fingerprint::Span;
use super::nat::FlowId;
use super::{Astray, MAX_POSITIONS, Sighting, Trail};
use crate::evidence::Direction;
use crate::packet::{Nanos, Timestamp};

/// Counts for both directions.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Forward and reply.
    pub ways: [Way; 2],
}

/// Counts for one direction. Positions are those of its path.
#[derive(Debug, Clone)]
pub struct Way {
    /// When each position's capture was listening, by the aligned clock.
    pub listening: Vec<Listening>,
    /// Frames seen at each position.
    pub frames: Vec<u64>,
    /// Packets that passed each position.
    pub entered: Vec<u64>,
    /// The stages, each after the position with its number.
    pub stages: Vec<Stage>,
    /// Packets that were seen further along but not at this position.
    pub missed: Vec<u64>,
    /// Of the packets that vanished those that captures between may have been passed by unheard: by the position that saw them last
    /// and the first behind it that was listening.
    pub unheard: BTreeMap<(usize, usize), u64>,
    /// Packets that vanished where no later capture was listening any more, or yet.
    pub unjudged: u64,
    /// Packets that were first seen further along, while the first point was listening: copies, or somebody else's.
    pub extra: u64,
    /// Packets that came by one point again with a lower TTL: a routing loop.
    pub looped: u64,
    /// Packets whose fragments were counted as one.
    pub fragmented: u64,
    /// Packets that were seen on another way, and came back to theirs: index into the list of ways, and count.
    pub detours: Vec<(u8, u64)>,
    /// UDP and SCTP frames that the card cut into several packets further along (segmentation offload): not followed.
    pub segmented: u64,
    /// Packets that bore an address which an end shares with others, and were others'; by that address.
    pub of_others: BTreeMap<IpAddr, u64>,
    /// The same of packets that vanished and may have been others'.
    pub perhaps_of_others: BTreeMap<IpAddr, u64>,
    /// The longest packet that passed the whole path.
    pub longest_delivered: u32,
    /// Some packets, the course over time, the flows.
    pub chronicle: Chronicle,
    largest_segment: [u32; MAX_POSITIONS],
    /// The smallest of those that are known.
    segment: u32,
    /// The longest IP packet at each position.
    largest_packet: [u32; MAX_POSITIONS],
}

/// One stage of a path.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Packets that vanished here.
    pub lost: u64,
    /// Of these, how many were seen on another way: index into the list of ways, and count.
    pub astray: Vec<(u8, u64)>,
    /// Shortest and longest packet that vanished here.
    pub lost_len: Option<(u32, u32)>,
    /// First and last of them.
    pub lost_time: Option<(Timestamp, Timestamp)>,
    /// Of those lost, how many had been cut into fragments by the sender.
    pub lost_fragmented: u64,
    /// Some of them.
    pub examples: Vec<Example>,
    /// Time from one point to the next, in nanoseconds; a negative one (clock error) counts as the least.
    latency: Histogram<u32>,
}

/// A packet that vanished.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// When it was first seen.
    pub time: Timestamp,
    /// Its flow.
    pub flow: FlowId,
    /// Its IP length.
    pub ip_len: u32,
    /// What it was recognised by.
    pub span: Span,
}

/// From when to when a capture surely saw what came by.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// Beginning.
    pub start: Timestamp,
    /// End.
    pub stop: Timestamp,
}

/// Packets that all points saw equally often, ready to be counted.
#[derive(Debug, Clone)]
pub(super) struct Lot {
    pub(super) direction: Direction,
    /// How often each position saw them.
    pub(super) counts: [u32; MAX_POSITIONS],
    /// How many packets one of these counts stands for.
    pub(super) units: u64,
    pub(super) first: Timestamp,
    pub(super) flow: FlowId,
    pub(super) ip_len: u32,
    pub(super) span: Span,
    pub(super) astray: Option<Astray>,
    pub(super) fragments: bool,
}

impl Lot {
    /// One packet as one trail saw it.
    pub(super) fn of(trail: &Trail) -> Self {
        Self {
            direction: trail.direction,
            counts: std::array::from_fn(|position| u32::from(trail.saw(position))),
            units: 1,
            first: trail.first,
            flow: trail.flow,
            ip_len: trail.ip_len,
            span: trail.print.span,
            astray: trail.astray,
            fragments: false,
        }
    }
}

/// A packet must have had this long to arrive before a capture's end, else it is not judged.
const EDGE: Nanos = Nanos::from_millis(250);
/// A longer packet that is no fragment is a frame of segmentation offload, but for jumbo frames.
pub(super) const LONGEST_ON_WIRE: u32 = 1_500;
/// No sender cuts a stream into smaller segments (RFC 9293, 3.7.1): where only shorter ones were seen (a SYN, a request) they tell
/// nothing of what a large frame is cut into.
const LEAST_SEGMENT: u32 = 536;
/// Examples kept a stage.
const MOST_EXAMPLES: usize = 16;

impl Tally {
    /// For paths whose positions listened as given: forward, then reply.
    pub fn new(forward: Vec<Listening>, reply: Vec<Listening>) -> Self {
        Self { ways: [Way::new(forward), Way::new(reply)] }
    }

    /// Keeps from now on what tells the frames of packets that vanish.
    pub(crate) fn keep_lost_trails(&mut self) {
        for way in &mut self.ways {
            way.chronicle.trails = Some(LostTrails::default());
        }
    }

    /// What was kept of them, by direction, and how many were too many.
    pub(crate) fn take_lost_trails(&mut self) -> ([Vec<LostTrail>; 2], u64) {
        let mut left_out = 0;
        let taken = self.ways.each_mut().map(|way| {
            let trails = way.chronicle.trails.take().unwrap_or_default();
            left_out += trails.left_out;
            trails.all
        });
        (taken, left_out)
    }

    /// The counts of one direction.
    pub fn way(&self, direction: Direction) -> &Way {
        &self.ways[direction as usize]
    }

    fn way_mut(&mut self, direction: Direction) -> &mut Way {
        &mut self.ways[direction as usize]
    }

    /// It is known better now when each capture of a direction was listening. What was counted stays.
    pub fn set_listening(&mut self, direction: Direction, listening: Vec<Listening>) {
        let way = self.way_mut(direction);
        if way.listening.len() == listening.len() {
            way.listening = listening;
        }
    }

    /// The bits of all positions of a direction.
    pub(super) fn full(&self, direction: Direction) -> u16 {
        (1 << self.way(direction).listening.len()) - 1
    }

    /// Notes a frame at its point.
    pub(super) fn frame(&mut self, sighting: &Sighting) {
        let way = self.way_mut(sighting.direction);
        let position = usize::from(sighting.position);
        if sighting.astray.is_none() {
            way.frames[position] += 1;
        }
        let largest = &mut way.largest_packet[position];
        *largest = (*largest).max(sighting.ip_len);
        if let Span::Tcp { len, .. } = sighting.print.span
            && len > way.largest_segment[position]
        {
            way.largest_segment[position] = len;
            let smallest = way.largest_segment.iter().filter(|largest| **largest >= LEAST_SEGMENT).min();
            way.segment = smallest.copied().unwrap_or(u32::MAX);
        }
    }

    pub(super) fn came_again(&mut self, sighting: &Sighting) {
        self.way_mut(sighting.direction).looped += 1;
    }

    /// Whether some capture was not surely listening when a packet that is first seen at `time` should come by.
    pub(super) fn at_edge(&self, direction: Direction, time: Timestamp) -> bool {
        !self.way(direction).listening.iter().all(|listening| listening.covers(time))
    }

    /// Whether a position's capture began only after `time`.
    pub(super) fn begins_after(&self, direction: Direction, position: u8, time: Timestamp) -> bool {
        let listening = self.way(direction).listening.get(usize::from(position));
        listening.is_some_and(|listening| time < listening.start)
    }

    /// The largest TCP segment that went over the point with the smallest ones: what a large frame is cut into.
    pub(super) fn segment(&self, direction: Direction) -> u64 {
        u64::from(self.way(direction).segment)
    }

    /// Counts a packet that every point saw.
    pub(super) fn passed(&mut self, trail: &Trail) {
        let segment = self.segment(trail.direction);
        let way = self.way_mut(trail.direction);
        let units = match trail.print.span {
            Span::Tcp { len, .. } if u64::from(len) > segment => u64::from(len).div_ceil(segment.max(1)),
            _ => 1,
        };
        for entered in &mut way.entered {
            *entered += units;
        }
        way.longest_delivered = way.longest_delivered.max(trail.ip_len);
        let took = trail.took(0, way.listening.len().saturating_sub(1));
        way.chronicle.passed(trail, units, took);
        self.timed(trail);
    }

    /// Notes how long a packet took between the points that saw it.
    pub(super) fn timed(&mut self, trail: &Trail) {
        for (position, stage) in self.way_mut(trail.direction).stages.iter_mut().enumerate() {
            if let Some(took) = trail.took(position, position + 1) {
                stage.record(took);
            }
        }
    }

    /// Counts packets that are, or may be, of others who share an address with an end.
    pub(super) fn leave_to_others(&mut self, lot: &Lot, address: IpAddr, surely: bool) {
        let way = self.way_mut(lot.direction);
        let all = if surely { &mut way.of_others } else { &mut way.perhaps_of_others };
        let packets = lot.counts.iter().max().copied().unwrap_or(0);
        *all.entry(address).or_default() += u64::from(packets) * lot.units;
    }

    /// Counts packets that some points saw more often than others; `members` are the frames that they were seen in.
    pub(super) fn lot(&mut self, lot: &Lot, members: &[Trail]) {
        let way = self.way_mut(lot.direction);
        let n = way.listening.len();
        let counts = &lot.counts[..n];
        let mut reach = [0; MAX_POSITIONS];
        let mut furthest = 0;
        for position in (0..n).rev() {
            furthest = furthest.max(counts[position]);
            reach[position] = furthest;
        }
        let sent = if way.first_is_sure(lot.first) { counts[0] } else { furthest };
        way.extra += u64::from(furthest - sent) * lot.units;
        for reach in &mut reach {
            *reach = (*reach).min(sent);
        }
        if way.was_segmented(&reach[..n], lot) {
            way.segmented += lot.units;
            return;
        }
        way.leave_unjudged(&mut reach[..n], lot);
        if reach[0] == 0 {
            return;
        }
        way.fragmented += u64::from(reach[0]) * u64::from(lot.fragments);
        for position in 0..n {
            way.entered[position] += u64::from(reach[position]) * lot.units;
            // Before it began and after it ended a capture has missed nothing.
            if way.listening[position].covers(lot.first) {
                way.missed[position] +=
                    u64::from(reach[position].saturating_sub(counts[position])) * lot.units;
            }
        }
        if reach[n - 1] > 0 {
            way.longest_delivered = way.longest_delivered.max(lot.ip_len);
        }
        if let Some(astray) = lot.astray.filter(|astray| astray.back) {
            add(&mut way.detours, astray.way, u64::from(reach[0]) * lot.units);
        }
        for position in 0..n - 1 {
            let lost = u64::from(reach[position] - reach[position + 1]) * lot.units;
            if lost > 0 {
                way.stages[position].lose(lost, lot);
                way.chronicle.lost(position, lost, (lot.flow, set(counts)), members);
            }
        }
        let (sent, lost) = (u64::from(reach[0]) * lot.units, u64::from(reach[0] - reach[n - 1]) * lot.units);
        way.chronicle.count_all(lot.flow, (sent, lost), lot.first, members);
        if let Some(lead) = members.first().filter(|_| lost == 0) {
            way.chronicle.arrived(lead, set(counts));
        }
    }
}

impl Way {
    fn new(listening: Vec<Listening>) -> Self {
        let n = listening.len();
        Self {
            frames: vec![0; n],
            entered: vec![0; n],
            stages: (1..n).map(|_| Stage::new()).collect(),
            missed: vec![0; n],
            unheard: BTreeMap::new(),
            unjudged: 0,
            extra: 0,
            looped: 0,
            fragmented: 0,
            detours: Vec::new(),
            segmented: 0,
            of_others: BTreeMap::new(),
            perhaps_of_others: BTreeMap::new(),
            longest_delivered: 0,
            chronicle: Chronicle::new(n),
            largest_segment: [0; MAX_POSITIONS],
            segment: u32::MAX,
            largest_packet: [0; MAX_POSITIONS],
            listening,
        }
    }

    /// Whether offload put several segments into one frame somewhere: one of them stands for many packets.
    pub fn has_large_frames(&self) -> bool {
        self.largest_segment.iter().any(|largest| *largest > 9_000)
    }

    /// Whether the first point would have seen a packet that is first seen at `time`.
    fn first_is_sure(&self, time: Timestamp) -> bool {
        self.listening.first().is_some_and(|first| (first.start..=first.stop).contains(&time))
    }

    /// Whether these are UDP or SCTP frames that were too long for the wire and went on as several packets: the point behind
    /// them saw packets, but none so long.
    fn was_segmented(&self, reach: &[u32], lot: &Lot) -> bool {
        let whole = matches!(lot.span, Span::Datagram { protocol: 17 | 132, fragment: false, .. });
        let last = reach.iter().rposition(|reach| *reach > 0);
        let beyond =
            last.and_then(|last| self.largest_packet.get(last + 1).filter(|_| last + 1 < reach.len()));
        whole
            && !lot.fragments
            && lot.ip_len > LONGEST_ON_WIRE
            && beyond.is_some_and(|beyond| (1..lot.ip_len).contains(beyond))
    }

    /// Takes out the packets that vanished where no later capture was surely listening.
    fn leave_unjudged(&mut self, reach: &mut [u32], lot: &Lot) {
        for position in 0..reach.len().saturating_sub(1) {
            let lost = reach[position] - reach[position + 1];
            if lost == 0 {
                continue;
            }
            let packets = u64::from(lost) * lot.units;
            match self.listening[position + 1..].iter().position(|later| later.covers(lot.first)) {
                Some(0) => continue,
                Some(deaf) => {
                    *self.unheard.entry((position, position + 1 + deaf)).or_default() += packets;
                    continue;
                }
                None => {}
            }
            self.unjudged += packets;
            for before in &mut reach[..=position] {
                *before -= lost;
            }
        }
    }
}

/// The positions that counted something, a bit each.
fn set(counts: &[u32]) -> u16 {
    counts.iter().enumerate().filter(|(_, count)| **count > 0).fold(0, |set, (at, _)| set | 1 << at)
}

/// Adds to the count of a way.
fn add(ways: &mut Vec<(u8, u64)>, way: u8, packets: u64) {
    match ways.iter_mut().find(|(index, _)| *index == way) {
        Some((_, count)) => *count += packets,
        None => ways.push((way, packets)),
    }
}

impl Listening {
    /// Always.
    pub const EVER: Self = Self { start: Timestamp(i64::MIN / 2), stop: Timestamp(i64::MAX / 2) };

    /// Whether a packet first seen at `time` would have been seen here, had it come by.
    fn covers(&self, time: Timestamp) -> bool {
        self.start <= time && time + EDGE <= self.stop
    }
}

impl Stage {
    fn new() -> Self {
        let latency =
            Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("bounds that hdrhistogram takes");
        Self {
            lost: 0,
            astray: Vec::new(),
            lost_len: None,
            lost_time: None,
            lost_fragmented: 0,
            examples: Vec::new(),
            latency,
        }
    }

    /// Median and 99th percentile of the time from one point to the next, if any packet told it.
    pub fn latency(&self) -> Option<(Nanos, Nanos)> {
        let at =
            |quantile| Nanos(i64::try_from(self.latency.value_at_quantile(quantile)).unwrap_or(i64::MAX));
        (!self.latency.is_empty()).then(|| (at(0.5), at(0.99)))
    }

    fn record(&mut self, took: Nanos) {
        self.latency.saturating_record(u64::try_from(took.0).unwrap_or(0).max(1));
    }

    fn lose(&mut self, lost: u64, lot: &Lot) {
        self.lost += lost;
        self.lost_fragmented += if lot.fragments { lost } else { 0 };
        if let Some(astray) = lot.astray.filter(|astray| !astray.back) {
            add(&mut self.astray, astray.way, lost);
        }
        let (shortest, longest) = self.lost_len.unwrap_or((lot.ip_len, lot.ip_len));
        self.lost_len = Some((shortest.min(lot.ip_len), longest.max(lot.ip_len)));
        let (earliest, latest) = self.lost_time.unwrap_or((lot.first, lot.first));
        self.lost_time = Some((earliest.min(lot.first), latest.max(lot.first)));
        if self.examples.len() < MOST_EXAMPLES {
            self.examples.push(Example {
                time: lot.first,
                flow: lot.flow,
                ip_len: lot.ip_len,
                span: lot.span,
            });
        }
    }
}
