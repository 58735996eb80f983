//! What was gathered, as a case: the frames into one capture file while they come, or the last of them into a ring
//! that becomes the file at the end; the manifest and the texts at the end.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::point::{self, Point, State};
use super::ring::Ring;
use super::watch::Frames;
use super::{GatherError, Request};
use crate::evidence::bundle;
use crate::evidence::capture_file::{InterfaceSpec, PcapNgWriter, Statistics};
use crate::evidence::case::{CapturePoint, Case, ConntrackText, Coverage, ProbeFacts, Window};
use crate::evidence::plan::Plan;
use crate::evidence::{ClockFact, Known, Text, When};
use crate::gather::capture::Counts;
use crate::gather::capture::batch::{self, Framed};
use crate::packet::{Frame, LinkType, Packet, Timestamp};

/// A case while frames come: its points are fixed, how they went is not.
pub(super) struct Draft {
    case: Case,
    /// For every planned point its place in the case, if it has one.
    places: Vec<Option<usize>>,
    links: Arc<[LinkType]>,
    /// For every place its node's clock minus ours.
    offsets: Vec<i64>,
    snaplen: u32,
    kept: Kept,
    path: PathBuf,
    written: u64,
    /// Frames not told of yet, and how the points stand; empty when nobody watches.
    watched: Vec<u8>,
    counts: Vec<Counts>,
}

/// Where frames go.
enum Kept {
    /// All of them, as they come.
    All(PcapNgWriter<BufWriter<File>>),
    /// The last of them, that long.
    Last(Ring, Duration),
}

/// Bytes of the capture file that are written at once.
const BUFFER: usize = 1 << 20;

/// What is known of a case in the end.
pub(super) struct Facts {
    pub(super) window: Option<Window>,
    pub(super) clocks: Vec<ClockFact>,
    pub(super) probe: Option<ProbeFacts>,
    pub(super) conntrack: Vec<ConntrackText>,
    pub(super) warnings: Vec<String>,
    /// When a packet was lost, if that ended the trace.
    pub(super) loss: Option<i64>,
}

impl Draft {
    /// Fixes the points and begins the capture file, with an interface for each of them; or a ring, when the trace is
    /// watched.
    pub(super) fn begin(
        request: &Request,
        pair: usize,
        points: &[Point],
        clocks: Vec<ClockFact>,
    ) -> Result<Self, GatherError> {
        let Request { folder, settings, watch, .. } = request;
        let plan = request.plan(pair);
        let mut case = plan.clone().into_case(&points.iter().map(Point::resolved).collect::<Vec<_>>());
        let mut next = 0..;
        let places: Vec<Option<usize>> =
            points.iter().map(|point| point.resolved().read().and_then(|_| next.next())).collect();
        for (number, place) in places.iter().enumerate() {
            if let Some(place) = place {
                case.points[*place].id = point::id(plan, points, number);
            }
        }
        let found = points.iter().filter(|point| point.resolved().read().is_some());
        let links: Vec<LinkType> = found.map(|point| point.link.unwrap_or(LinkType::Ethernet)).collect();
        let offset = |point: &CapturePoint| {
            let clock = clocks.iter().find(|clock| clock.node == point.node);
            clock.map_or(0, |clock| clock.offset)
        };
        let offsets: Vec<i64> = case.points.iter().map(offset).collect();
        case.clocks = clocks;
        let path = folder.join(bundle::capture_of(pair));
        let kept = match watch {
            Some(watch) => Kept::Last(Ring::new(folder, watch.ring), watch.ring),
            None => Kept::All(open(&path, &case, &links, settings.snaplen)?),
        };
        let counts = vec![Counts::default(); case.points.len()];
        Ok(Self {
            case,
            places,
            links: links.into(),
            offsets,
            snaplen: settings.snaplen,
            kept,
            path,
            written: 0,
            watched: Vec::new(),
            counts,
        })
    }

    /// The case as it is known when capturing begins.
    pub(super) fn begun(&self, points: &[Point]) -> Case {
        let mut case = self.case.clone();
        for (place, point) in self.placed(points) {
            case.points[place].state = match point.state {
                State::Capturing { since } => {
                    let snaplen = self.snaplen;
                    Known::Read(Coverage { started: Some(since), snaplen, ..Coverage::default() })
                }
                _ => point.coverage(),
            };
        }
        case
    }

    /// Appends a frame of a planned point.
    pub(super) fn put(&mut self, point: usize, frame: &Framed<'_>) -> Result<(), GatherError> {
        let Some(Some(place)) = self.places.get(point).copied() else { return Ok(()) };
        let written = match &mut self.kept {
            Kept::All(writer) => writer.write(place, &as_frame(frame, self.links[place]), None),
            Kept::Last(ring, _) => {
                let placed = Framed { point: u16::try_from(place).unwrap_or(u16::MAX), ..*frame };
                batch::put(&mut self.watched, placed.point, placed.time, placed.wire_len, placed.bytes);
                ring.put(placed.time.saturating_sub(self.offsets[place]), &placed, &self.counts)
            }
        };
        match written {
            Ok(()) => {
                self.written += 1;
                Ok(())
            }
            Err(source) => Err(full(self.written, source)),
        }
    }

    /// How the points stand by now.
    pub(super) fn counted(&mut self, points: &[Point]) {
        let counted: Vec<_> = self.placed(points).map(|(place, point)| (place, point.counts)).collect();
        for (place, counts) in counted {
            self.counts[place] = counts;
        }
    }

    /// Frames that came since the last time, for whoever watches; all up to `until` have come.
    pub(super) fn told(&mut self, until: Option<i64>) -> Option<Frames> {
        matches!(self.kept, Kept::Last(..)).then(|| Frames {
            batch: std::mem::take(&mut self.watched),
            links: Arc::clone(&self.links),
            until: until.filter(|until| *until > i64::MIN),
        })
    }

    /// The points of the case, each with its place.
    fn placed<'p>(&self, points: &'p [Point]) -> impl Iterator<Item = (usize, &'p Point)> {
        let places = self.places.clone().into_iter().zip(points);
        places.filter_map(|(place, point)| place.map(|place| (place, point)))
    }

    /// What is known of the case by now.
    pub(super) fn case(&self) -> &Case {
        &self.case
    }

    /// Ends the file and puts the manifest together; and that of the whole time, when only its last part was kept.
    pub(super) fn finish(
        mut self,
        points: &[Point],
        facts: Facts,
    ) -> Result<(Case, Option<Case>), GatherError> {
        for (place, point) in self.placed(points).collect::<Vec<_>>() {
            self.case.points[place].state = point.coverage();
        }
        let mut case = self.case;
        case.window = facts.window;
        case.clocks = facts.clocks;
        case.probe = facts.probe;
        case.conntrack = facts.conntrack;
        case.warnings.extend(facts.warnings);
        let mut whole = None;
        let mut written = self.written;
        let done = match self.kept {
            Kept::All(writer) => end(writer, &case),
            Kept::Last(ring, keep) => {
                let from = first_kept(&ring, keep, &case, facts.loss);
                if let Some(from) = from {
                    whole = Some(case.clone());
                    cut(&mut case, from, &self.offsets, ring.counts(from));
                    warn_of_cut(&mut case, whole.as_ref(), ring.short);
                }
                let mut writer = open(&self.path, &case, &self.links, self.snaplen)?;
                let mut frames = vec![0; case.points.len()];
                written = 0;
                let drained = ring.drain(|framed| {
                    let place = usize::from(framed.point);
                    if from.is_some_and(|from| framed.time.saturating_sub(self.offsets[place]) < from) {
                        return Ok(());
                    }
                    written += 1;
                    frames[place] += 1;
                    writer.write(place, &as_frame(framed, self.links[place]), None)
                });
                if whole.is_some() {
                    for (point, frames) in case.points.iter_mut().zip(frames) {
                        if let Known::Read(coverage) = &mut point.state {
                            coverage.received = frames + coverage.dropped;
                        }
                    }
                }
                drained.and_then(|()| end(writer, &case))
            }
        };
        done.map_err(|source| full(written, source))?;
        Ok((case, whole))
    }
}

/// Begins a capture file with an interface for each point of the case.
fn open(
    path: &Path,
    case: &Case,
    links: &[LinkType],
    snaplen: u32,
) -> Result<PcapNgWriter<BufWriter<File>>, GatherError> {
    let interfaces: Vec<InterfaceSpec> =
        case.points.iter().zip(links).map(|(point, link)| InterfaceSpec::of(point, *link, snaplen)).collect();
    File::create(path)
        .and_then(|file| PcapNgWriter::new(BufWriter::with_capacity(BUFFER, file), &interfaces))
        .and_then(|mut writer| writer.names(&case.names()).map(|()| writer))
        .map_err(|source| full(0, source))
}

fn end(writer: PcapNgWriter<BufWriter<File>>, case: &Case) -> io::Result<()> {
    let statistics: Vec<Option<Statistics>> =
        case.points.iter().map(|point| point.state.read().map(Statistics::of)).collect();
    let file = writer.finish(&statistics)?;
    file.into_inner().map(|_| ()).map_err(io::IntoInnerError::into_error)
}

/// From when on frames are kept, by our clock, if that is not all of the capture: before the loss that ended it, or
/// before its end.
fn first_kept(ring: &Ring, keep: Duration, case: &Case, loss: Option<i64>) -> Option<i64> {
    let window = case.window.as_ref()?;
    let keep = i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX);
    let wanted = loss.unwrap_or_else(|| end_of(window)).saturating_sub(keep);
    let there = ring.gone().map_or(i64::MIN, |gone| gone.saturating_add(1));
    let from = wanted.max(there);
    (from > window.start).then_some(from)
}

#[expect(clippy::cast_possible_truncation, reason = "a window is far shorter than 2^63 ns")]
fn end_of(window: &Window) -> i64 {
    window.start.saturating_add((window.seconds * 1e9) as i64)
}

/// Makes a case of the whole time into one of the time since `from`; `before` is how the points stood then.
fn cut(case: &mut Case, from: i64, offsets: &[i64], before: &[Counts]) {
    for (place, point) in case.points.iter_mut().enumerate() {
        let Known::Read(coverage) = &mut point.state else { continue };
        let began = from.saturating_add(offsets.get(place).copied().unwrap_or_default());
        let began = coverage.started.map_or(began, |started| began.max(started));
        coverage.started = Some(coverage.stopped.map_or(began, |stopped| began.min(stopped)));
        let before = before.get(place).copied().unwrap_or_default();
        coverage.dropped = coverage.dropped.saturating_sub(before.dropped);
        coverage.dropped_interface = coverage.dropped_interface.saturating_sub(before.dropped_interface);
    }
    if let Some(window) = &mut case.window {
        #[expect(clippy::cast_precision_loss, reason = "a window is far shorter than 2^52 ns")]
        let seconds = end_of(window).saturating_sub(from) as f64 / 1e9;
        *window = Window { start: from, seconds };
    }
}

fn warn_of_cut(case: &mut Case, whole: Option<&Case>, short: bool) {
    let seconds = |case: &Case| case.window.as_ref().map_or(0.0, |window| window.seconds);
    let (lasted, kept) = (whole.map_or(0.0, seconds), seconds(case));
    case.warnings.push(format!(
        "the capture lasted {lasted:.0} s, and the packets of its last {kept:.0} s were kept; counters of rules and what \
         the kernel said are of the whole time"
    ));
    if short {
        case.warnings.push("packets came so fast that fewer seconds were kept than asked for".to_owned());
    }
}

fn full(kept: u64, source: io::Error) -> GatherError {
    GatherError::Write { kept, source }
}

/// The entries of connection tracking that one node had in the end.
pub(super) fn conntrack(text: &Text) -> Option<ConntrackText> {
    let lines = text.content.read().filter(|lines| !lines.trim().is_empty())?;
    (text.name == "conntrack" && text.when == When::After)
        .then(|| ConntrackText { node: text.node.clone(), text: lines.clone() })
}

/// How many packets of a batch come from the first end.
pub(super) fn forward_packets(frames: &[u8], link: LinkType, plan: &Plan) -> u64 {
    let mut rest = frames;
    let mut count = 0;
    while let Some(frame) = batch::take(&mut rest) {
        let frame = as_frame(&frame, link);
        let source = Packet::read(&frame).ip().map(|ip| ip.src);
        let forward = |source| source == plan.from.address || plan.aliases.from.contains(&source);
        count += u64::from(source.is_some_and(forward));
    }
    count
}

pub(super) fn as_frame<'a>(frame: &Framed<'a>, link: LinkType) -> Frame<'a> {
    Frame { time: Timestamp(frame.time), wire_len: frame.wire_len, link, bytes: frame.bytes }
}
