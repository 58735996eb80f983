//! The last word on packets that not every point saw as the same frame. Takes trails whose window has ended; gives
//! the books, for each run of bytes, how often each point saw it. A 64 kB frame at the veth and its 46 segments at
//! the NIC come out as the same bytes seen everywhere; a fragment that vanished takes its whole packet with it;
//! equal packets are pooled by number. Knows nothing of time but the window.

use rustc_hash::FxHashMap;

use super::fingerprint::Span;
use super::nat::{FlowId, Nat};
use super::shared::Books;
use super::tally::{LONGEST_ON_WIRE, Lot};
use super::{Astray, MAX_POSITIONS, Trail};
use crate::evidence::Direction;
use crate::packet::{Nanos, Timestamp};

/// Trails waiting for their counterparts.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    streams: FxHashMap<Stream, Vec<Trail>>,
    n_waiting: usize,
    settled: Option<Timestamp>,
    oldest: Option<Timestamp>,
}

/// What a trail's bytes are part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Stream {
    /// Packets that are never cut.
    Equal(u64),
    Tcp(FlowId, bool),
    Datagram {
        id: u32,
        protocol: u8,
        forward: bool,
    },
}

/// How often the points saw something.
type Counts = [u32; MAX_POSITIONS];

/// The ledger is settled in steps of this much capture time.
const STEP: Nanos = Nanos::from_millis(500);
/// Counterparts may begin this much later than what is being settled.
pub(super) const REACH: Nanos = Nanos::from_millis(1_000);
/// More trails do not wait: then those are settled that can be, and all as they are where that does not help (times that stand
/// still).
const MOST_WAITING: usize = 200_000;

impl Ledger {
    pub(super) fn enter(&mut self, trail: Trail) {
        let forward = trail.direction == Direction::Forward;
        let stream = match trail.print.span {
            Span::Tcp { .. } => Stream::Tcp(trail.flow, forward),
            Span::Whole | Span::Datagram { id: 0, fragment: false, .. } => Stream::Equal(trail.print.key),
            Span::Datagram { id, protocol, .. } => Stream::Datagram { id, protocol, forward },
        };
        self.oldest = Some(self.oldest.map_or(trail.first, |oldest| oldest.min(trail.first)));
        // Most are alone in theirs.
        self.streams.entry(stream).or_insert_with(|| Vec::with_capacity(1)).push(trail);
        self.n_waiting += 1;
    }

    /// Whether as many wait as may.
    pub(super) fn is_full(&self) -> bool {
        self.n_waiting >= MOST_WAITING
    }

    /// Whether anything older than `cut` waits, and a step has passed since the last settling.
    pub(super) fn due(&self, cut: Timestamp) -> bool {
        self.oldest.is_some_and(|oldest| oldest < cut)
            && self.settled.is_none_or(|settled| cut - settled >= STEP)
    }

    /// Settles everything.
    pub(super) fn settle_all(&mut self, books: &mut Books<'_>) {
        self.settle(Timestamp(i64::MAX), books);
        self.settled = None;
    }

    /// Settles everything that began before `cut`.
    pub(super) fn settle(&mut self, cut: Timestamp, books: &mut Books<'_>) {
        self.settled = Some(cut);
        self.join_translated(books.nat);
        let mut due: Vec<Stream> = self
            .streams
            .iter()
            .filter(|(_, trails)| trails.iter().any(|trail| trail.first < cut))
            .map(|(stream, _)| *stream)
            .collect();
        due.sort_unstable();
        for stream in due {
            let mut trails = self.streams.remove(&stream).unwrap_or_default();
            trails.sort_by_key(|trail| trail.first);
            let fragments = |trail: &Trail| matches!(trail.print.span, Span::Datagram { fragment: true, .. });
            let rest = match stream {
                Stream::Tcp(..) => settle_bytes(trails, cut, books),
                Stream::Datagram { .. } if trails.iter().any(fragments) => {
                    settle_datagram(trails, cut, books)
                }
                Stream::Datagram { .. } | Stream::Equal(_) => settle_equal(trails, cut, books),
            };
            if !rest.is_empty() {
                self.streams.insert(stream, rest);
            }
        }
        self.oldest = self.streams.values().flatten().map(|trail| trail.first).min();
        self.n_waiting = self.streams.values().map(Vec::len).sum();
    }

    /// Flows may have turned out to be one since their trails came in.
    fn join_translated(&mut self, nat: &mut Nat) {
        let renamed: Vec<(Stream, Stream)> = self
            .streams
            .keys()
            .filter_map(|stream| match *stream {
                Stream::Tcp(flow, forward) if nat.name(flow) != flow => {
                    Some((*stream, Stream::Tcp(nat.name(flow), forward)))
                }
                _ => None,
            })
            .collect();
        for (old, new) in renamed {
            if let Some(trails) = self.streams.remove(&old) {
                self.streams.entry(new).or_default().extend(trails);
            }
        }
    }
}

/// Packets with one fingerprint each, or several: those with equal ones are pooled by number.
fn settle_equal(trails: Vec<Trail>, cut: Timestamp, books: &mut Books<'_>) -> Vec<Trail> {
    if let [trail] = trails.as_slice()
        && trail.first < cut
    {
        books.lot(&Lot::of(trail), &trails);
        return Vec::new();
    }
    // Of several flows each has its own: pods that are masqueraded may send the same bytes.
    let mut by_key: FxHashMap<(u64, FlowId), Vec<Trail>> = FxHashMap::default();
    for trail in trails {
        by_key.entry((trail.print.key, books.nat.one_of(trail.flow))).or_default().push(trail);
    }
    let mut rest = Vec::new();
    let mut keys: Vec<_> = by_key.into_values().collect();
    keys.sort_by_key(|trails| (trails[0].first, trails[0].print.key));
    for trails in keys {
        let (now, mut later): (Vec<Trail>, Vec<Trail>) = trails.into_iter().partition(|t| t.first < cut);
        // Those near an edge of the captures stand for themselves: what they lack may have come unseen.
        let (edge, now): (Vec<Trail>, Vec<Trail>) =
            now.into_iter().partition(|trail| books.tally.at_edge(trail.direction, trail.first));
        for trail in edge {
            books.lot(&Lot::of(&trail), &[trail]);
        }
        let Some(&lead) = now.first() else {
            rest.append(&mut later);
            continue;
        };
        let mut counts = count(&now);
        // One of a later batch that lacks its beginning may be what this batch lacks the end of.
        later.retain(|trail| {
            let fills = trail.first < cut + REACH && fills(&counts, trail);
            if fills {
                add(&mut counts, trail);
            }
            !fills
        });
        let astray = now.iter().find_map(|trail| trail.astray);
        books.lot(&Lot { counts, units: 1, astray, ..Lot::of(&lead) }, &now);
        rest.append(&mut later);
    }
    rest
}

/// Whether `trail` begins in the middle of the path, behind a point that counted more than the one it was seen at.
fn fills(counts: &Counts, trail: &Trail) -> bool {
    let begins = trail.seen.trailing_zeros() as usize;
    begins > 0 && begins < MAX_POSITIONS && counts[..begins].iter().any(|&before| before > counts[begins])
}

fn count(trails: &[Trail]) -> Counts {
    let mut counts = [0; MAX_POSITIONS];
    for trail in trails {
        add(&mut counts, trail);
    }
    counts
}

fn add(counts: &mut Counts, trail: &Trail) {
    for (position, count) in counts.iter_mut().enumerate() {
        *count += u32::from(trail.saw(position));
    }
}

/// The pieces of one IP packet: a point saw the packet as often as it saw its rarest byte.
fn settle_datagram(trails: Vec<Trail>, cut: Timestamp, books: &mut Books<'_>) -> Vec<Trail> {
    let (now, later): (Vec<Trail>, Vec<Trail>) = trails.into_iter().partition(|t| t.first < cut + REACH);
    let Some(lead) = now.iter().min_by_key(|trail| start(trail)).copied() else { return later };
    let mut whole = [u32::MAX; MAX_POSITIONS];
    let mut astray = None;
    each_interval(&now, 0, |interval| {
        let seen = count(&interval.members.iter().map(|&member| now[member]).collect::<Vec<_>>());
        for (whole, seen) in whole.iter_mut().zip(seen) {
            *whole = (*whole).min(seen);
        }
        astray = astray.or_else(|| interval.members.iter().find_map(|&member| now[member].astray));
    });
    let ip_len = now.iter().map(|trail| trail.ip_len).max().unwrap_or(lead.ip_len);
    let first = now.iter().map(|trail| trail.first).max().unwrap_or(lead.first);
    books.lot(
        &Lot { counts: whole, units: 1, astray, ip_len, first, fragments: true, ..Lot::of(&lead) },
        &now,
    );
    later
}

/// The bytes of one direction of a TCP flow: runs of bytes seen equally often by all points are judged as one.
fn settle_bytes(trails: Vec<Trail>, cut: Timestamp, books: &mut Books<'_>) -> Vec<Trail> {
    let base = trails.first().map_or(0, start);
    let (now, mut rest): (Vec<Trail>, Vec<Trail>) = trails.into_iter().partition(|t| t.first < cut + REACH);
    let mut run: Option<Run> = None;
    let mut kept: Vec<Vec<(i64, i64)>> = vec![Vec::new(); now.len()];
    each_interval(&now, base, |interval| {
        let due = interval.members.iter().any(|&member| now[member].first < cut);
        if !due {
            for &member in &interval.members {
                match kept[member].last_mut() {
                    Some((_, end)) if *end == interval.start => *end = interval.end,
                    _ => kept[member].push((interval.start, interval.end)),
                }
            }
            return;
        }
        let members: Vec<Trail> = interval.members.iter().map(|&member| now[member]).collect();
        let counts = count(&members);
        let edge = members.iter().any(|trail| books.tally.at_edge(trail.direction, trail.first));
        match &mut run {
            Some(open) if open.end == interval.start && open.counts == counts && open.edge == edge => {
                open.grow(interval, &members, base);
            }
            _ => {
                run.replace(Run::new(interval, &members, counts, base, edge)).inspect(|run| run.judge(books));
            }
        }
    });
    run.inspect(|run| run.judge(books));
    for (member, pieces) in kept.into_iter().enumerate() {
        rest.extend(pieces.into_iter().map(|(from, to)| piece(now[member], base, from, to)));
    }
    rest
}

/// The part of a trail's bytes that was not settled yet.
fn piece(mut trail: Trail, base: u32, from: i64, to: i64) -> Trail {
    let start = base.wrapping_add(low_bits(from));
    trail.print.span = Span::Tcp { start, len: low_bits(to - from) };
    trail
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sequence numbers wrap at 32 bits"
)]
fn low_bits(offset: i64) -> u32 {
    offset as u32
}

/// Adjacent bytes that the points saw equally often.
struct Run {
    start: i64,
    end: i64,
    counts: Counts,
    /// Frames that begin here, at each position.
    begun: Counts,
    lead: Trail,
    /// All frames with some of these bytes.
    members: Vec<Trail>,
    /// When the last of them was first seen.
    latest: Timestamp,
    /// Near an edge of some capture.
    edge: bool,
    /// The shortest packet among them: a large frame is not what was lost.
    ip_len: u32,
    astray: Option<Astray>,
}

impl Run {
    fn new(interval: &Interval, members: &[Trail], counts: Counts, base: u32, edge: bool) -> Self {
        let lead = *members.iter().min_by_key(|trail| trail.first).expect("an interval has members");
        let mut run = Self {
            start: interval.start,
            end: interval.start,
            counts,
            begun: [0; MAX_POSITIONS],
            latest: lead.first,
            edge,
            ip_len: lead.ip_len,
            lead,
            members: Vec::new(),
            astray: None,
        };
        run.grow(interval, members, base);
        run
    }

    fn grow(&mut self, interval: &Interval, members: &[Trail], base: u32) {
        let new = self.end == self.start;
        self.end = interval.end;
        for trail in members {
            if offset(trail, base) == interval.start {
                add(&mut self.begun, trail);
            }
            if new || offset(trail, base) == interval.start {
                self.members.push(*trail);
            }
            self.latest = self.latest.max(trail.first);
            self.ip_len = self.ip_len.min(trail.ip_len);
            self.astray = self.astray.or(trail.astray);
        }
    }

    /// In packets as they would be on the wire: the frames of the point that saw the smallest ones; where even those were too
    /// large for it, as many of the largest segment as the bytes fill.
    fn judge(&self, books: &mut Books<'_>) {
        let bytes = u64::try_from(self.end - self.start).unwrap_or(0);
        let frames = (0..MAX_POSITIONS)
            .map(|position| u64::from(self.begun[position].div_ceil(self.counts[position].max(1))))
            .max()
            .unwrap_or(1);
        let segment = books.tally.segment(self.lead.direction).max(1);
        let segments = if self.ip_len > LONGEST_ON_WIRE { bytes.div_ceil(segment) } else { 1 };
        let lot = Lot {
            counts: self.counts,
            units: frames.max(segments).max(1),
            astray: self.astray,
            ip_len: self.ip_len,
            first: if self.edge { self.latest } else { self.lead.first },
            ..Lot::of(&self.lead)
        };
        books.lot(&lot, &self.members);
    }
}

/// More trails that cover one byte are not looked at: no traffic sends it so often within a window.
const MOST_OVER: usize = 512;

/// Bytes between two neighbouring borders, and the trails that cover them.
struct Interval {
    start: i64,
    end: i64,
    members: Vec<usize>,
}

/// Cuts the union of all trails' bytes at every border; one piece at a time, since all together they may be many more
/// than the trails.
fn each_interval(trails: &[Trail], base: u32, mut with: impl FnMut(&Interval)) {
    let mut order: Vec<usize> = (0..trails.len()).collect();
    order.sort_by_key(|&index| offset(&trails[index], base));
    let mut borders: Vec<i64> =
        trails.iter().flat_map(|trail| [offset(trail, base), offset(trail, base) + length(trail)]).collect();
    borders.sort_unstable();
    borders.dedup();
    let mut waiting = order.into_iter().peekable();
    let mut interval = Interval { start: 0, end: 0, members: Vec::new() };
    for pair in borders.windows(2) {
        let (start, end) = (pair[0], pair[1]);
        let active = &mut interval.members;
        active.retain(|&index| offset(&trails[index], base) + length(&trails[index]) > start);
        while let Some(index) = waiting.next_if(|&index| offset(&trails[index], base) <= start) {
            if length(&trails[index]) > 0 && active.len() < MOST_OVER {
                active.push(index);
            }
        }
        (interval.start, interval.end) = (start, end);
        if !interval.members.is_empty() {
            with(&interval);
        }
    }
}

/// Where a trail's bytes begin, seen from `base`; sequence numbers wrap (RFC 9293, 3.4).
fn offset(trail: &Trail, base: u32) -> i64 {
    i64::from(start(trail).wrapping_sub(base).cast_signed())
}

fn start(trail: &Trail) -> u32 {
    match trail.print.span {
        Span::Tcp { start, .. } | Span::Datagram { start, .. } => start,
        Span::Whole => 0,
    }
}

fn length(trail: &Trail) -> i64 {
    match trail.print.span {
        Span::Tcp { len, .. } | Span::Datagram { len, .. } => i64::from(len),
        Span::Whole => 1,
    }
}
