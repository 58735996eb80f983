//! What was gathered, as a case: the frames into one capture file while they come, the manifest and the texts at
//! the end.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::GatherError;
use super::point::{self, Point};
use crate::evidence::capture_file::{InterfaceSpec, PcapNgWriter, Statistics};
use crate::evidence::case::{Case, ConntrackText, Coverage};
use crate::evidence::plan::Plan;
use crate::evidence::{Text, When};
use crate::gather::capture::batch::{self, Framed};
use crate::packet::{Frame, LinkType, Packet, Timestamp};

/// A case while frames come: its points are fixed, how they went is not.
pub(super) struct Draft {
    case: Case,
    /// For every planned point its place in the case, if it has one.
    places: Vec<Option<usize>>,
    links: Vec<LinkType>,
    writer: PcapNgWriter<BufWriter<File>>,
    path: PathBuf,
    written: u64,
}

/// Bytes of the capture file that are written at once.
const BUFFER: usize = 1 << 20;

impl Draft {
    /// Fixes the points of a plan and begins their capture file, with an interface for each of them.
    pub(super) fn begin(
        path: PathBuf,
        plan: &Plan,
        points: &[Point],
        snaplen: u32,
    ) -> Result<Self, GatherError> {
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
        let interfaces: Vec<InterfaceSpec> = case
            .points
            .iter()
            .zip(&links)
            .map(|(point, link)| InterfaceSpec {
                name: point.id.clone(),
                description: None,
                link: *link,
                snaplen,
                filter: None,
            })
            .collect();
        let begun = File::create(&path)
            .and_then(|file| PcapNgWriter::new(BufWriter::with_capacity(BUFFER, file), &interfaces));
        match begun {
            Ok(writer) => Ok(Self { case, places, links, writer, path, written: 0 }),
            Err(source) => Err(GatherError::Write { file: path, kept: 0, source }),
        }
    }

    /// Appends a frame of a planned point.
    pub(super) fn put(&mut self, point: usize, frame: &Framed<'_>) -> Result<(), GatherError> {
        let Some(Some(place)) = self.places.get(point).copied() else { return Ok(()) };
        let frame = as_frame(frame, self.links[place]);
        match self.writer.write(place, &frame, None) {
            Ok(()) => {
                self.written += 1;
                Ok(())
            }
            Err(source) => Err(full(&self.path, self.written, source)),
        }
    }

    /// Ends the file and says in the case how the points went.
    pub(super) fn finish(mut self, points: &[Point]) -> Result<Case, GatherError> {
        let places = self.places.iter().zip(points);
        for (place, point) in places.filter_map(|(place, point)| place.map(|place| (place, point))) {
            self.case.points[place].state = point.coverage();
        }
        let statistics: Vec<Option<Statistics>> =
            self.case.points.iter().map(|point| point.state.read().map(statistics)).collect();
        self.writer
            .finish(&statistics)
            .and_then(|file| file.into_inner().map_err(io::IntoInnerError::into_error))
            .map_err(|source| full(&self.path, self.written, source))?;
        Ok(self.case)
    }
}

fn full(path: &Path, kept: u64, source: io::Error) -> GatherError {
    GatherError::Write { file: path.to_owned(), kept, source }
}

fn statistics(coverage: &Coverage) -> Statistics {
    Statistics {
        received: Some(coverage.received),
        dropped: Some(coverage.dropped),
        start: coverage.started.map(Timestamp),
        end: coverage.stopped.map(Timestamp),
    }
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

fn as_frame<'a>(frame: &Framed<'a>, link: LinkType) -> Frame<'a> {
    Frame { time: Timestamp(frame.time), wire_len: frame.wire_len, link, bytes: frame.bytes }
}
