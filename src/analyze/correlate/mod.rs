//! Sightings into counts: takes what was seen at each point of a path, in any order within the matching window,
//! recognises each packet at every point, and tallies how many passed and how many vanished at each stage. Never
//! asks why one is missing, and keeps no packet longer than the window.
//!
//! A packet is a [`Trail`]: the set of points that saw one [`fingerprint`]. Packets with equal fingerprints are
//! told apart by their flow and by how old packets usually are at a point. A trail that every point saw is tallied at once and forgotten; the
//! others wait for the window's end and then go to the [`ledger`], which accounts bytes instead of frames, since
//! segmentation offload and fragmentation change the frames and not the bytes.

pub mod answers;
pub mod chronicle;
pub mod clocks;
pub mod fingerprint;
mod flight;
pub mod gist;
mod ledger;
pub mod nat;
pub mod reassembly;
mod shared;
pub mod sift;
pub mod tally;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use crate::evidence::case::LONGEST_PATH;
use crate::evidence::{Direction, PointId};
use crate::packet::{Flow, Nanos, Packet, Plain, PlainTransport, Timestamp};
use fingerprint::{Depth, Fingerprint, Span};
use flight::Flight;
use gist::Gist;
use ledger::Ledger;
use nat::{FlowId, Nat, Small};
use shared::{Books, Shared};
use sift::Sifted;
use tally::Tally;

/// Positions are those of a path.
pub const MAX_POSITIONS: usize = LONGEST_PATH;

/// How far apart two sightings of one packet may be, and when a packet counts as gone.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A packet not seen further along within this time is lost. Neighbour resolution holds packets for up to
    /// three seconds (`net.ipv4.neigh.*.retrans_time_ms` times `mcast_solicit`).
    pub window: Nanos,
    /// Sightings may come this much out of order.
    pub disorder: Nanos,
    /// Of packets with equal fingerprints one may differ by this much from the age that packets have at a point.
    pub repeat_age: Nanos,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Nanos::from_millis(3_200),
            disorder: Nanos::from_millis(1_000),
            repeat_age: Nanos::from_millis(50),
        }
    }
}

/// This packet, at this place on the path, at this time.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    /// Which way it goes.
    pub direction: Direction,
    /// Where on that direction's path.
    pub position: u8,
    /// When, with the node's clock offset taken off.
    pub time: Timestamp,
    /// What it is recognised by.
    pub print: Fingerprint,
    /// Its addresses and ports as seen there, oriented forward.
    pub flow: Flow,
    /// What it is, for a list.
    pub gist: Gist,
    /// Time to live: tells a packet that comes by again from a new one.
    pub ttl: u8,
    /// IP packet's length.
    pub ip_len: u32,
    /// Seen on a way that is not the expected one: index into the tally's list, and not counted as seen.
    pub astray: Option<u8>,
}

/// One packet, or several frames' worth of bytes, and the points that saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trail {
    pub(crate) print: Fingerprint,
    pub(crate) direction: Direction,
    /// The earliest sighting.
    pub(crate) first: Timestamp,
    /// Bit per position.
    pub(crate) seen: u16,
    /// Times after `first` at each position, in ticks.
    times: [i32; MAX_POSITIONS],
    pub(crate) flow: FlowId,
    /// The same, as the last sighting bore it.
    bears: Small,
    pub(crate) gist: Gist,
    pub(crate) ip_len: u32,
    /// Time to live at each position that saw it.
    ttls: [u8; MAX_POSITIONS],
    pub(crate) astray: Option<Astray>,
    /// Equal fingerprints were in flight with it: its times may be another's.
    ambiguous: bool,
    /// Counts the uses of this slot, so that the queue knows a trail from its slot's next tenant.
    generation: u32,
    next: u32,
}

/// Seen on a way that is not the expected one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Astray {
    /// Index into the list of ways.
    pub(crate) way: u8,
    /// It came to a further point afterwards.
    pub(crate) back: bool,
}

/// More trails are not kept in flight, whatever a capture's times say: the oldest are judged before their time.
const MOST_IN_FLIGHT: usize = 200_000;
/// Packets are not judged more often.
const OFTEN: Nanos = Nanos::from_millis(1);

/// Times are kept in ticks of this many nanoseconds: 32 bits then hold ±8.5 seconds.
const TICK: i64 = 4;
const NONE: u32 = u32::MAX;

impl Sighting {
    /// Of a packet; None where too little of it was kept to recognise it by.
    #[inline]
    pub fn of(packet: &Packet<'_>, sifted: &Sifted, depth: Depth, time: Timestamp) -> Option<Self> {
        let ip = packet.ip()?;
        Some(Self {
            direction: sifted.direction,
            position: sifted.position,
            time,
            print: Fingerprint::of(packet, sifted.direction, &sifted.flow, depth)?,
            flow: sifted.flow,
            gist: Gist::of(packet),
            ttl: ip.ttl,
            ip_len: ip.payload_len.saturating_add(if ip.src.is_ipv4() { 20 } else { 40 }),
            astray: sifted.astray,
        })
    }
}

/// A sighting of a common frame without what can be told from the rest, to be carried from thread to thread: with what
/// stands beside it, one line of the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brief {
    key: u64,
    gist: Gist,
    /// Addresses and ports of the flow.
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ports: [u16; 2],
    ip_len: u32,
    id: u16,
    protocol: u8,
    ttl: u8,
    direction: Direction,
    position: u8,
    /// Where it was captured.
    pub(crate) point: PointId,
    /// Its flow, if that was known when it was looked up.
    pub(crate) id_of_flow: Option<FlowId>,
}

impl Brief {
    /// Of a frame that is not astray.
    #[inline]
    pub(crate) fn of(
        plain: &Plain<'_>,
        (point, sifted): (PointId, &Sifted),
        transport: &PlainTransport,
        depth: Depth,
    ) -> Self {
        let Sifted { direction, position, flow: Flow { src_port, dst_port, .. }, .. } = *sifted;
        let (src, dst) = match direction {
            Direction::Forward => (plain.src(), plain.dst()),
            Direction::Reply => (plain.dst(), plain.src()),
        };
        Self {
            key: Fingerprint::key_of_plain(plain, transport, direction, src_port, depth),
            gist: Gist::of_plain(plain, transport),
            src,
            dst,
            ports: [src_port, dst_port],
            ip_len: plain.ip_payload_len() + 20,
            id: plain.id(),
            protocol: plain.protocol(),
            ttl: plain.ttl(),
            direction,
            position,
            point,
            id_of_flow: None,
        }
    }

    /// Looks its flow up, where it is likely to be the first that is seen of a packet.
    #[inline]
    pub(crate) fn look_up(&mut self, nat: &Nat) {
        if self.position == 0 {
            self.id_of_flow = nat.known(&self.flow());
        }
    }

    fn flow(&self) -> Flow {
        let Self { src, dst, ports: [src_port, dst_port], protocol, .. } = *self;
        Flow { src: IpAddr::V4(src), dst: IpAddr::V4(dst), protocol, src_port, dst_port }
    }

    /// What [`Sighting::of`] says of the packet.
    #[inline]
    pub(crate) fn sighting(&self, time: Timestamp) -> Sighting {
        let Self { key, gist, ip_len, protocol, .. } = *self;
        let span = match gist {
            Gist::Tcp { flags, seq, len, .. } => Span::of_tcp(flags, seq, len),
            _ => Span::Datagram {
                id: u32::from(self.id),
                protocol,
                start: 0,
                len: ip_len - 20,
                fragment: false,
            },
        };
        Sighting {
            direction: self.direction,
            position: self.position,
            time,
            print: Fingerprint { key, span },
            flow: self.flow(),
            gist,
            ttl: self.ttl,
            ip_len,
            astray: None,
        }
    }
}

impl Trail {
    fn new(sighting: &Sighting, flow: FlowId, bears: Small) -> Self {
        let mut trail = Self {
            print: sighting.print,
            direction: sighting.direction,
            first: sighting.time,
            seen: 0,
            times: [0; MAX_POSITIONS],
            flow,
            bears,
            gist: sighting.gist,
            ip_len: sighting.ip_len,
            ttls: [0; MAX_POSITIONS],
            astray: None,
            ambiguous: false,
            generation: 0,
            next: NONE,
        };
        trail.note(sighting);
        trail
    }

    fn note(&mut self, sighting: &Sighting) {
        if sighting.astray.is_some() {
            self.astray = sighting.astray.map(|way| Astray { way, back: false });
            return;
        }
        // What goes round comes by where it was before.
        if let Some(astray) = self.astray.as_mut().filter(|_| self.seen & (1 << sighting.position) == 0) {
            astray.back = true;
        }
        self.seen |= 1 << sighting.position;
        self.ttls[usize::from(sighting.position)] = sighting.ttl;
        let ticks = (sighting.time - self.first).0 / TICK;
        let clamp = i64::from(i32::MIN)..=i64::from(i32::MAX);
        self.times[usize::from(sighting.position)] =
            i32::try_from(ticks.clamp(*clamp.start(), *clamp.end())).unwrap_or(i32::MAX);
    }

    pub(crate) fn saw(&self, position: usize) -> bool {
        self.seen & (1 << position) != 0
    }

    /// When it came to a position, after its first sighting.
    pub(crate) fn at(&self, position: usize) -> Option<Nanos> {
        let known = position < MAX_POSITIONS && self.saw(position);
        known.then(|| Nanos(i64::from(self.times[position]) * TICK))
    }

    /// The times between which its frames were captured.
    fn between(&self) -> (Timestamp, Timestamp) {
        let offsets = (0..MAX_POSITIONS).filter_map(|position| self.at(position));
        let (earliest, latest) = offsets.fold((Nanos(0), Nanos(0)), |(a, b), at| (a.min(at), b.max(at)));
        (self.first + earliest - Nanos(TICK), self.first + latest + Nanos(TICK))
    }

    /// How long the packet took from one position to another, if both saw it and it was surely the same one.
    pub(crate) fn took(&self, from: usize, to: usize) -> Option<Nanos> {
        let known = self.saw(from) && self.saw(to) && !self.ambiguous;
        known.then(|| Nanos((i64::from(self.times[to]) - i64::from(self.times[from])) * TICK))
    }
}

/// Matches sightings and tallies them. Push in any order within [`Settings::disorder`], then [`finish`].
///
/// [`finish`]: Correlator::finish
#[derive(Debug)]
pub struct Correlator {
    settings: Settings,
    flight: Flight,
    latest: Timestamp,
    /// When to look next for what is due.
    due: Timestamp,
    /// How old packets of each direction are.
    usual: [Option<Usual>; 2],
    ledger: Ledger,
    shared: Shared,
    /// Which flows are one under address translation.
    pub nat: Nat,
    /// What was counted so far.
    pub tally: Tally,
}

impl Correlator {
    /// A correlator for the paths that `tally` was made for.
    pub fn new(settings: Settings, nat: Nat, tally: Tally) -> Self {
        Self {
            settings,
            flight: Flight::default(),
            latest: Timestamp(i64::MIN),
            due: Timestamp(i64::MIN),
            usual: [None; 2],
            ledger: Ledger::default(),
            shared: Shared::default(),
            nat,
            tally,
        }
    }

    /// Takes one sighting; gives the id of its flow.
    pub fn push(&mut self, sighting: &Sighting) -> FlowId {
        self.push_of(sighting, None)
    }

    /// The same where its flow may be known.
    #[inline]
    pub(crate) fn push_of(&mut self, sighting: &Sighting, flow: Option<FlowId>) -> FlowId {
        debug_assert!(usize::from(sighting.position) < MAX_POSITIONS, "a position of the path");
        self.tally.frame(sighting);
        self.latest = self.latest.max(sighting.time);
        let first = self.flight.first(sighting.print.key);
        let flow = match first.and_then(|first| self.find(first, sighting)) {
            Some(slot) => self.credit(slot, sighting),
            None => self.open(sighting, flow, first.is_none()),
        };
        if self.latest >= self.due || self.flight.len() > MOST_IN_FLIGHT {
            self.expire();
        }
        flow
    }

    /// Time has gone that far: what waited for longer than the window is judged.
    pub fn advance(&mut self, now: Timestamp) {
        self.latest = self.latest.max(now);
        self.expire();
    }

    /// Takes the end of all captures: what is still in flight is judged by the edges of the captures.
    pub fn finish(mut self) -> (Tally, Nat) {
        while let Some(slot) = self.flight.oldest() {
            self.close(slot);
        }
        let Self { ledger, shared, nat, tally, .. } = &mut self;
        let mut books = Books { tally, shared, nat };
        ledger.settle_all(&mut books);
        books.settle();
        (self.tally, self.nat)
    }

    /// What was counted by now, with what can be said by now of flows whose addresses are others' too.
    pub fn so_far(&self) -> Cow<'_, Tally> {
        let mut tally = Cow::Borrowed(&self.tally);
        if !self.shared.is_empty() {
            self.shared.settle(&self.nat, tally.to_mut());
        }
        tally
    }

    /// The connections of the source's node, where Services are translated, were listed at `time`, after all captures.
    pub fn listed(&mut self, time: Timestamp) {
        self.shared.listed(time);
    }

    /// Of the trails in flight with this fingerprint that were not yet seen at this position the one that is most likely this
    /// packet: of the same flow, and about as old as packets are here; `first` is the oldest of all.
    fn find(&mut self, first: u32, sighting: &Sighting) -> Option<u32> {
        let at = usize::from(sighting.position);
        let usual = self.usual[sighting.direction as usize];
        let mut slot = first;
        let alone = self.flight[slot].next == NONE;
        let mut before = NONE;
        let mut best = None;
        while slot != NONE {
            let trail = &self.flight[slot];
            let next = trail.next;
            let age = sighting.time - trail.first;
            // Held against the same point: what the packet had lost elsewhere, on its way or astray, comes from nodes
            // whose clocks differ.
            let came_again = trail.saw(at) && sighting.ttl < trail.ttls[at];
            if came_again {
                self.tally.came_again(sighting);
                return Some(slot);
            }
            let missing = sighting.astray.is_some() || !trail.saw(at);
            let late = usual.map_or(Nanos(0), |usual| Nanos(age.0.saturating_sub(usual.ages[at].0)).abs());
            if missing && (alone || late <= self.settings.repeat_age) {
                // One that may have come by before this capture began is the last to be thought of.
                let rank = (
                    !alone && self.tally.begins_after(sighting.direction, sighting.position, trail.first),
                    !alone && !self.nat.is(trail.bears, &sighting.flow),
                    late,
                );
                if best.is_none_or(|(least, _)| rank < least) {
                    best = Some((rank, slot));
                }
            }
            let gone = usual.is_some_and(|usual| age.0 - usual.longest.0 > self.settings.repeat_age.0);
            if !alone && gone {
                self.flight.unlink(before, slot);
            } else {
                before = slot;
            }
            // Those behind it are younger still.
            let nearest = usual.is_none_or(|usual| age <= usual.ages[at]);
            if nearest && best.is_some_and(|((early, of_another, _), _)| !early && !of_another) {
                break;
            }
            slot = next;
        }
        best.map(|(_, slot)| slot)
    }

    fn credit(&mut self, slot: u32, sighting: &Sighting) -> FlowId {
        let trail = &mut self.flight[slot];
        let mut flow = trail.flow;
        if !self.nat.is(trail.bears, &sighting.flow) {
            flow = self.nat.id(sighting.flow);
            if sighting.astray.is_none() {
                self.nat.changed(trail.flow, flow, sighting.direction, trail.seen, sighting.position);
                (trail.flow, trail.bears) = (flow, self.nat.small(flow, &sighting.flow));
            }
        }
        trail.note(sighting);
        if trail.seen == self.tally.full(trail.direction)
            && !trail.print.is_fragment()
            && trail.astray.is_none()
        {
            Usual::learn(&mut self.usual[trail.direction as usize], trail);
            self.tally.passed(trail);
            self.flight.land(slot);
        }
        flow
    }

    /// A new trail; whether it is `alone` with its fingerprint is known.
    fn open(&mut self, sighting: &Sighting, flow: Option<FlowId>, alone: bool) -> FlowId {
        let flow = flow.unwrap_or_else(|| self.nat.id(sighting.flow));
        let trail = Trail::new(sighting, flow, self.nat.small(flow, &sighting.flow));
        if trail.seen == self.tally.full(trail.direction) {
            self.tally.passed(&trail);
            return flow;
        }
        self.flight.add(trail, alone);
        flow
    }

    fn expire(&mut self) {
        self.due = self.latest + OFTEN;
        let horizon = self.latest - self.settings.disorder - self.settings.window;
        while let Some(slot) = self.flight.oldest() {
            if self.flight[slot].first > horizon && self.flight.len() <= MOST_IN_FLIGHT {
                break;
            }
            self.close(slot);
        }
        let settled = horizon - self.settings.window;
        let Self { ledger, shared, nat, tally, .. } = self;
        let mut books = Books { tally, shared, nat };
        if ledger.is_full() {
            // What began that long before all that is still in flight has its counterparts in the ledger.
            if let Some(oldest) = self.flight.oldest() {
                let cut = self.flight[oldest].first - ledger::REACH;
                ledger.settle(cut, &mut books);
            }
            if ledger.is_full() {
                ledger.settle_all(&mut books);
            }
        } else if ledger.due(settled) {
            ledger.settle(settled, &mut books);
        }
    }

    /// Ends a trail that some point did not see: the ledger has the last word.
    fn close(&mut self, slot: u32) {
        let trail = self.flight[slot];
        self.tally.timed(&trail);
        self.ledger.enter(trail);
        self.flight.land(slot);
    }
}

/// How old packets are when they come to each position; told by some of those that all points saw.
#[derive(Debug, Clone, Copy)]
struct Usual {
    ages: [Nanos; MAX_POSITIONS],
    longest: Nanos,
    n_seen: u8,
}

impl Usual {
    /// One of so many packets is asked.
    const EVERY: u8 = 16;

    fn learn(usual: &mut Option<Self>, trail: &Trail) {
        if let Some(known) = usual {
            known.n_seen = (known.n_seen + 1) % Self::EVERY;
            if known.n_seen > 0 || trail.ambiguous {
                return;
            }
        }
        let ages = std::array::from_fn(|position| trail.at(position).unwrap_or_default());
        let longest = ages.into_iter().max().unwrap_or_default();
        *usual = Some(Self { ages, longest, n_seen: 0 });
    }
}

impl Fingerprint {
    fn is_fragment(&self) -> bool {
        matches!(self.span, Span::Datagram { fragment: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::tally::Listening;
    use super::*;

    const FLOW: Flow = Flow {
        src: IpAddr::V4(Ipv4Addr::new(10, 244, 1, 2)),
        dst: IpAddr::V4(Ipv4Addr::new(10, 244, 2, 2)),
        src_port: 40_000,
        dst_port: 5000,
        protocol: 17,
    };

    /// Of a path of so many points, all of which listened for ten seconds.
    fn correlator(n_points: usize) -> Correlator {
        let listening = vec![Listening { start: Timestamp(0), stop: Timestamp(10_000_000_000) }; n_points];
        Correlator::new(Settings::default(), Nat::default(), Tally::new(listening.clone(), listening))
    }

    /// Segmentation offload at more than a gigabit: more wait than may, and a large frame is held against its pieces all
    /// the same.
    #[test]
    fn a_full_ledger_tells_no_large_frame_from_its_pieces() {
        const SEGMENT: u32 = 1_400;
        const PIECES: u32 = 44;
        let mut correlator = correlator(4);
        let flow = Flow { protocol: 6, ..FLOW };
        let mut see = |position: u8, time: i64, start: u32, len: u32| {
            correlator.push(&Sighting {
                direction: Direction::Forward,
                position,
                time: Timestamp(time),
                print: Fingerprint {
                    key: u64::from(start) << 32 | u64::from(len),
                    span: Span::Tcp { start, len },
                },
                flow,
                ttl: 64,
                ip_len: len + 52,
                astray: None,
                gist: Gist::Other(12),
            });
        };
        let n_frames = 9_500;
        for frame in 0..n_frames {
            let start = frame * PIECES * SEGMENT;
            let time = 1_000_000_000 + i64::from(frame) * 440_000;
            see(0, time, start, PIECES * SEGMENT);
            see(1, time + 5_000, start, PIECES * SEGMENT);
            for piece in 0..PIECES {
                let time = time + 10_000 + i64::from(piece) * 1_000;
                see(2, time, start + piece * SEGMENT, SEGMENT);
                see(3, time + 30_000, start + piece * SEGMENT, SEGMENT);
            }
        }
        let (tally, _) = correlator.finish();
        let way = tally.way(Direction::Forward);
        let sent = u64::from(n_frames * PIECES);
        assert_eq!(way.entered, [sent; 4], "{way:?}");
    }

    /// Of a packet that goes round, the frames between the nodes are astray and come with a lower TTL than what the other
    /// node's capture, whose clock is behind, tells of afterwards.
    #[test]
    fn a_packet_that_goes_round_is_one() {
        let mut correlator = correlator(5);
        let span = Span::Datagram { id: 7, protocol: 17, start: 0, len: 12, fragment: false };
        let seen = [
            (0, 64, None),
            (1, 64, None),
            (2, 63, None),
            (3, 63, None),
            (4, 62, Some(0)),
            (4, 60, Some(0)),
            (4, 58, Some(0)),
            (2, 61, None),
            (3, 61, None),
            (2, 59, None),
            (3, 59, None),
        ];
        for (number, (position, ttl, astray)) in (0_i64..).zip(seen) {
            correlator.push(&Sighting {
                direction: Direction::Forward,
                position,
                time: Timestamp(1_000_000_000 + number * 20_000),
                print: Fingerprint { key: 1, span },
                flow: FLOW,
                ttl,
                ip_len: 40,
                astray,
                gist: Gist::Other(12),
            });
        }
        let (tally, _) = correlator.finish();
        let way = tally.way(Direction::Forward);
        assert_eq!(way.entered, [1, 1, 1, 1, 0], "{way:?}");
        assert_eq!(way.looped, 4);
    }
}
