//! What was gathered, as a case: the frames into one capture file while they come, the manifest and the texts at
//! the end.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::session::{Point, Session, State};
use super::{GatherError, Gathered};
use crate::evidence::case::{Case, ConntrackText, Coverage};
use crate::evidence::plan::{Find, Plan, PlannedPoint, paths};
use crate::evidence::{CapturePoint, Known, Texts, When};
use crate::gather::capture::batch::{self, Framed};
use crate::packet::LinkType;

/// The capture file while it is being written.
#[derive(Debug)]
pub(super) struct Sink {
    path: PathBuf,
    file: BufWriter<File>,
    /// Points in the order of their interface blocks.
    interfaces: Vec<Option<u32>>,
    written: u64,
}

impl Sink {
    /// Makes the file, with an interface for every point that captures.
    pub(super) fn create(
        folder: &Path,
        points: &[Point],
        ids: &[String],
        _begun: i64,
    ) -> Result<Self, GatherError> {
        let path = folder.join("capture.pcapng");
        let made = File::create(&path).and_then(|file| {
            let mut file = BufWriter::with_capacity(1 << 20, file);
            let mut interfaces = Vec::new();
            let mut next = 0;
            file.write_all(&section())?;
            for (point, id) in points.iter().zip(ids) {
                let link = point.link.map(LinkType::number);
                interfaces.push(link.map(|_| next));
                if let Some(link) = link {
                    file.write_all(&interface(link, id))?;
                    next += 1;
                }
            }
            Ok((file, interfaces))
        });
        match made {
            Ok((file, interfaces)) => Ok(Self { path, file, interfaces, written: 0 }),
            Err(source) => Err(GatherError::Write { file: path, kept: 0, source }),
        }
    }

    /// Appends a frame.
    pub(super) fn put(&mut self, point: usize, frame: &Framed<'_>) -> Result<(), GatherError> {
        let Some(Some(interface)) = self.interfaces.get(point) else { return Ok(()) };
        match self.file.write_all(&packet(*interface, frame)) {
            Ok(()) => {
                self.written += 1;
                Ok(())
            }
            Err(source) => Err(self.full(source)),
        }
    }

    fn finish(mut self) -> Result<(), GatherError> {
        match self.file.flush() {
            Ok(()) => Ok(()),
            Err(source) => Err(self.full(source)),
        }
    }

    fn full(&self, source: io::Error) -> GatherError {
        GatherError::Write { file: self.path.clone(), kept: self.written, source }
    }
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().div_ceil(4) * 4;
    let length = u32::try_from(padded + 12).unwrap_or(u32::MAX);
    let mut block = Vec::with_capacity(padded + 12);
    block.extend_from_slice(&kind.to_le_bytes());
    block.extend_from_slice(&length.to_le_bytes());
    block.extend_from_slice(body);
    block.resize(padded + 8, 0);
    block.extend_from_slice(&length.to_le_bytes());
    block
}

fn section() -> Vec<u8> {
    let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
    body.extend_from_slice(&[1, 0, 0, 0]);
    body.extend_from_slice(&(-1i64).to_le_bytes());
    block(0x0a0d_0d0a, &body)
}

fn interface(link: u16, id: &str) -> Vec<u8> {
    let mut body = link.to_le_bytes().to_vec();
    body.extend_from_slice(&[0; 6]);
    let mut option = |code: u16, value: &[u8]| {
        body.extend_from_slice(&code.to_le_bytes());
        body.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().div_ceil(4) * 4, 0);
    };
    option(2, id.as_bytes());
    option(9, &[9]);
    option(0, &[]);
    block(1, &body)
}

fn packet(interface: u32, frame: &Framed<'_>) -> Vec<u8> {
    let time = frame.time.cast_unsigned();
    let mut body = interface.to_le_bytes().to_vec();
    body.extend_from_slice(&u32::try_from(time >> 32).unwrap_or(0).to_le_bytes());
    body.extend_from_slice(&u32::try_from(time & 0xffff_ffff).unwrap_or(0).to_le_bytes());
    body.extend_from_slice(&u32::try_from(frame.bytes.len()).unwrap_or(0).to_le_bytes());
    body.extend_from_slice(&frame.wire_len.to_le_bytes());
    body.extend_from_slice(frame.bytes);
    block(6, &body)
}

/// Ends the file and puts the manifest together.
pub(super) fn write(session: Session<'_>, sink: Option<Sink>) -> Result<Gathered, GatherError> {
    if let Some(sink) = sink {
        sink.finish()?;
    }
    let plan = &session.request().plan;
    let texts = Texts(session.texts);
    let conntrack = texts
        .0
        .iter()
        .filter(|text| text.name == "conntrack" && text.when == When::After)
        .filter_map(|text| {
            let lines = text.content.read().filter(|lines| !lines.trim().is_empty())?;
            Some(ConntrackText { node: text.node.clone(), text: lines.clone() })
        })
        .collect();
    let points = plan.points.iter().zip(&session.points);
    let points: Vec<CapturePoint> = points.map(|(planned, point)| capture_point(planned, point)).collect();
    let case = Case {
        from: plan.from.clone(),
        to: plan.to.clone(),
        aliases: plan.aliases.clone(),
        nodes: plan.nodes.clone(),
        paths: paths(&points, plan.encapsulated),
        points,
        window: session.window,
        clocks: session.nodes.iter().filter_map(|node| node.clock.clone()).collect(),
        only: plan.only,
        probe: session.probe,
        conntrack,
        warnings: session.warnings,
    };
    Ok(Gathered { case, texts })
}

fn capture_point(planned: &PlannedPoint, point: &Point) -> CapturePoint {
    let interface = point.interface.clone().unwrap_or_else(|| expected_interface(planned));
    CapturePoint {
        id: format!("{}/{interface}", planned.node),
        node: planned.node.clone(),
        interface: interface.trim_start_matches("pod:").to_owned(),
        role: planned.role,
        state: coverage(&point.state),
    }
}

fn coverage(state: &State) -> Known<Coverage> {
    match state {
        State::Ended(coverage) => Known::Read(coverage.clone()),
        State::Refused(why) => Known::Unreadable(why.clone()),
        State::Awaited | State::Capturing { .. } => Known::NotAsked,
    }
}

/// What to call the interface of a point that was never found.
pub(super) fn expected_interface(planned: &PlannedPoint) -> String {
    match &planned.find {
        Find::Name(name) => name.clone(),
        Find::Holding(address) => format!("[{address}]"),
        Find::InsidePod { veth, .. } => format!("pod:{veth}"),
    }
}

/// How many packets of a batch come from the first end.
pub(super) fn forward_packets(frames: &[u8], link: LinkType, plan: &Plan) -> u64 {
    let from = |source| source == plan.from.address || plan.aliases.from.contains(&source);
    let mut rest = frames;
    let mut count = 0;
    while let Some(frame) = batch::take(&mut rest) {
        count += u64::from(source(frame.bytes, link).is_some_and(from));
    }
    count
}

/// The source address of a packet that is in no tunnel: the first point of a path is before any.
fn source(bytes: &[u8], link: LinkType) -> Option<IpAddr> {
    let (kind, ip) = match link {
        LinkType::Ethernet => (u16::from_be_bytes(*bytes.get(12..)?.first_chunk()?), bytes.get(14..)?),
        _ => (if bytes.first()? >> 4 == 6 { 0x86dd } else { 0x0800 }, bytes),
    };
    match kind {
        0x0800 => Some(Ipv4Addr::from(*ip.get(12..)?.first_chunk::<4>()?).into()),
        0x86dd => Some(Ipv6Addr::from(*ip.get(8..)?.first_chunk::<16>()?).into()),
        _ => None,
    }
}
