//! Captures read side by side, each in a thread of its own, against the slow and obvious way: one stream of all frames in
//! the order of time, every frame read in full by the analysis itself. Both must say the same of any captures.

mod support;

use proptest::prelude::*;
use support::{Lab, Load, SECOND, SERVER, START, Taken};
use trace_drop::analyze::{self, Evidence};
use trace_drop::evidence::capture_file::{CaptureError, FrameSource, Merge};
use trace_drop::evidence::{Case, Direction, Known, PointId, Texts};
use trace_drop::packet::Frame;

/// The service's address, under which the client knows the server.
const SERVICE: [u8; 4] = [10, 96, 0, 10];

/// One file.
struct File<'t> {
    taken: &'t [Taken],
    next: usize,
}

impl FrameSource for File<'_> {
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError> {
        let Some(taken) = self.taken.get(self.next) else { return Ok(None) };
        self.next += 1;
        Ok(Some((taken.point, taken.frame())))
    }
}

/// All files as one stream that cannot be taken apart.
struct Stream<'t>(Merge<'t>);

impl FrameSource for Stream<'_> {
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError> {
        self.0.next_frame()
    }
}

/// The captures of a path, a file a point.
#[derive(Debug)]
struct Captures {
    case: Case,
    files: Vec<Vec<Taken>>,
}

impl Captures {
    fn of(lab: Lab) -> Self {
        let mut files = vec![Vec::new(); lab.case.points.len()];
        for taken in lab.taken {
            files[usize::from(taken.point.0)].push(taken);
        }
        for file in &mut files {
            file.sort_by_key(|taken: &Taken| taken.time);
        }
        Self { case: lab.case, files }
    }

    fn merged(&self) -> Merge<'_> {
        let files = self.files.iter().map(|taken| Box::new(File { taken, next: 0 }) as _);
        Merge::new(files.collect())
    }

    /// Nothing is known of the captures but what a walk through all files of a node tells.
    fn by_hand(&mut self) {
        let nodes: Vec<String> = self.case.points.iter().map(|point| point.node.clone()).collect();
        for (index, point) in self.case.points.iter_mut().enumerate() {
            let of_node = self.files.iter().zip(&nodes).filter(|(_, node)| **node == nodes[index]);
            let times: Vec<i64> = of_node.flat_map(|(file, _)| file).map(|taken| taken.time).collect();
            if let Known::Read(coverage) = &mut point.state {
                coverage.guessed = true;
                (coverage.started, coverage.stopped) =
                    (times.iter().min().copied(), times.iter().max().copied());
                coverage.received = self.files[index].len() as u64;
            }
        }
    }
}

/// All that an analysis says, marks too.
fn said(case: &Case, captures: &Captures, side_by_side: bool) -> String {
    let open = || -> Result<Box<dyn FrameSource + '_>, CaptureError> {
        let merged = captures.merged();
        Ok(if side_by_side { Box::new(merged) } else { Box::new(Stream(merged)) })
    };
    let evidence = Evidence { case, texts: &Texts::default(), cluster: None, frames: &open };
    let (findings, mut marks) = analyze::run_with_marks(&evidence).expect("frames in memory can be read");
    let mut source = captures.merged();
    let mut marked = Vec::new();
    while let Some((point, frame)) = source.next_frame().expect("frames in memory can be read") {
        marked.extend(marks.of(point, &frame).map(|mark| (point, frame.time, mark)));
    }
    format!("{findings:#?}\n{marked:#?}")
}

/// What happens on the path next.
#[derive(Debug, Clone)]
enum Event {
    /// A packet of this kind, perhaps lost behind a point.
    Send { kind: u8, reply: bool, lost: Option<usize> },
    /// The same once more.
    Again { lost: Option<usize> },
    /// A large frame at the first points and its segments at the others, one of them perhaps lost.
    Large { lost: Option<(u32, usize)> },
    /// A datagram in two pieces, the second perhaps lost.
    Pieces { lost: Option<usize> },
    /// A packet of two others.
    Foreign { kind: u8 },
    /// A frame that is no packet of IP, or none at all.
    Noise { bytes: Vec<u8>, point: u8 },
}

fn event() -> impl Strategy<Value = Event> {
    let lost = || prop::option::weighted(0.2, 0_usize..7);
    prop_oneof![
        8 => (0_u8..4, any::<bool>(), lost()).prop_map(|(kind, reply, lost)| Event::Send { kind, reply, lost }),
        1 => lost().prop_map(|lost| Event::Again { lost }),
        1 => prop::option::of((0_u32..5, 3_usize..7)).prop_map(|lost| Event::Large { lost }),
        1 => lost().prop_map(|lost| Event::Pieces { lost }),
        2 => (0_u8..3).prop_map(|kind| Event::Foreign { kind }),
        1 => (prop::collection::vec(any::<u8>(), 0..60), 0_u8..8)
            .prop_map(|(bytes, point)| Event::Noise { bytes, point }),
    ]
}

/// The load of a kind.
fn load(kind: u8, index: u32, reply: bool) -> Load {
    let id = u16::try_from(index % 60_000).expect("small") + 1;
    match kind {
        0 => Load::Udp { id, payload: index.to_be_bytes().repeat(20) },
        1 => Load::Udp { id: 0, payload: vec![7; 80] },
        2 => Load::Echo { seq: id, reply },
        _ => Load::Tcp { seq: index * 1_000, len: 1_000 },
    }
}

/// Captures of these events.
fn captures(events: &[(Event, i64)], snaplen: usize, nat: bool, skew: u64) -> Lab {
    let mut lab = Lab::new(60);
    lab.snaplen = snaplen;
    for point in &mut lab.case.points {
        if let Known::Read(coverage) = &mut point.state {
            coverage.snaplen = u32::try_from(snaplen).expect("small");
        }
    }
    let mut time = START;
    let mut before = (Direction::Forward, load(0, 0, false));
    for (index, (event, gap)) in (0_u32..).zip(events) {
        time += gap;
        let from = lab.taken.len();
        match event {
            Event::Send { kind, reply, lost } => {
                let direction = if *reply { Direction::Reply } else { Direction::Forward };
                before = (direction, load(*kind, index, *reply));
                lab.send(direction, &before.1, time, *lost);
            }
            Event::Again { lost } => lab.send(before.0, &before.1, time, *lost),
            Event::Large { lost } => large(&mut lab, index, time, *lost),
            Event::Pieces { lost } => pieces(&mut lab, index, time, *lost),
            Event::Foreign { kind } => lab.send(Direction::Forward, &load(*kind, index, false), time, None),
            Event::Noise { bytes, point } => {
                let wire_len = u32::try_from(bytes.len()).expect("short");
                lab.taken.push(Taken { point: PointId(*point), time, bytes: bytes.clone(), wire_len });
            }
        }
        let foreign = matches!(event, Event::Foreign { .. });
        for taken in &mut lab.taken[from..] {
            if foreign {
                support::rename(&mut taken.bytes, 7);
            } else if nat && taken.point.0 < 2 {
                readdress(&mut taken.bytes);
            }
            // Some overtake others.
            taken.time += i64::try_from((u64::try_from(taken.time).expect("after 1970") ^ skew) % 40_000)
                .expect("small");
        }
    }
    if nat {
        lab.case.aliases.to = vec![SERVICE.into()];
    }
    lab
}

fn large(lab: &mut Lab, index: u32, time: i64, lost: Option<(u32, usize)>) {
    let seq = 500_000_000 + index * 5_000;
    for position in 0..3 {
        lab.see(Direction::Forward, position, &Load::Tcp { seq, len: 5_000 }, time + 10_000);
    }
    for segment in 0..5 {
        for position in 3..8 {
            if lost.is_none_or(|(which, last)| which != segment || position <= last) {
                let load = Load::Tcp { seq: seq + segment * 1_000, len: 1_000 };
                lab.see(Direction::Forward, position, &load, time + 50_000 + i64::from(segment) * 1_000);
            }
        }
    }
}

/// The inner packet is cut in two where it is not wrapped; where it is, it is left whole.
fn pieces(lab: &mut Lab, index: u32, time: i64, lost: Option<usize>) {
    let id = u16::try_from(index % 60_000).expect("small") + 1;
    let load = Load::Udp { id, payload: vec![3; 72] };
    for position in [0, 1, 2, 5, 6, 7] {
        let from = lab.taken.len();
        lab.see(Direction::Forward, position, &load, time + i64::try_from(position).expect("small") * 9_000);
        let Some(whole) = lab.taken.pop() else { continue };
        for (offset, more) in [(0_u16, true), (5, false)] {
            if offset > 0 && lost.is_some_and(|last| position > last) || whole.bytes.len() < 34 {
                continue;
            }
            let begin = (34 + usize::from(offset) * 8).min(whole.bytes.len());
            let end = if more { (begin + 40).min(whole.bytes.len()) } else { whole.bytes.len() };
            let mut bytes = [&whole.bytes[..34], &whole.bytes[begin..end]].concat();
            // Half of 80 bytes, and the header.
            let len = 60_u16;
            bytes[16..18].copy_from_slice(&len.to_be_bytes());
            bytes[20..22].copy_from_slice(&(offset | if more { 0x2000 } else { 0 }).to_be_bytes());
            lab.taken.push(Taken { bytes, wire_len: u32::from(len) + 14, ..whole.clone() });
        }
        assert!(lab.taken.len() <= from + 2);
    }
}

/// Before translation the server is the service.
fn readdress(bytes: &mut [u8]) {
    for at in 0..bytes.len().saturating_sub(3) {
        if bytes[at..at + 4] == SERVER {
            bytes[at..at + 4].copy_from_slice(&SERVICE);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn both_ways_say_the_same(
        events in prop::collection::vec((event(), prop_oneof![9 => 0_i64..3_000_000, 1 => 0..2 * SECOND]), 1..250),
        snaplen in prop_oneof![Just(262_144_usize), 40_usize..200],
        nat in any::<bool>(),
        skew in any::<u64>(),
        offset in prop_oneof![Just(0), -SECOND / 2..SECOND / 2],
        unlike in any::<bool>(),
        kept in prop::collection::vec((0_u64..4, 0_u64..4), 8),
        by_hand in any::<bool>(),
    ) {
        let mut lab = captures(&events, snaplen, nat, skew);
        for taken in lab.taken.iter_mut().filter(|taken| taken.point.0 >= 4) {
            taken.time += offset;
        }
        let mut captures = Captures::of(lab);
        if unlike {
            // Captures that began late, ended early, or hold nothing.
            for (file, (begin, end)) in captures.files.iter_mut().zip(kept) {
                let n = file.len() as u64;
                let at = |quarter: u64| usize::try_from(n * quarter / 4).expect("small");
                *file = file[at(begin / 2)..(at(4 - end / 2)).max(at(begin / 2))].to_vec();
            }
        }
        if by_hand {
            captures.by_hand();
        }
        let slow = said(&captures.case, &captures, false);
        let quick = said(&captures.case, &captures, true);
        prop_assert_eq!(slow, quick);
    }
}

/// Of a node whose only file holds nothing, nothing is known: it is taken to have listened all the time.
#[test]
fn an_empty_capture_is_believed() {
    let mut lab = Lab::new(60);
    for index in 0..2_000 {
        lab.send(Direction::Forward, &load(0, index, false), START + i64::from(index) * 10_000_000, None);
    }
    let mut captures = Captures::of(lab);
    for file in &mut captures.files[4..] {
        file.clear();
    }
    captures.by_hand();
    let slow = said(&captures.case, &captures, false);
    assert_eq!(said(&captures.case, &captures, true), slow);
    assert!(slow.contains("Underlay"), "{slow}");
}
