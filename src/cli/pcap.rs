//! `trace-drop pcap`: the frames of a case or of captures as pcapng for Wireshark, with comments on those of packets that
//! vanished. Also writes these comments into a case that is being saved.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{Failure, args, replay};
use crate::analyze::findings::Findings;
use crate::analyze::{self, Evidence, Marks};
use crate::evidence::PointId;
use crate::evidence::capture_file::{CaptureError, InterfaceSpec, PcapNgWriter, Statistics};
use crate::packet::{Flow, Frame, LinkType, Packet, Tunnel};
use crate::report;

pub(super) fn run(typed: &args::pcap::Pcap) -> Result<ExitCode, Failure> {
    let stdout = typed.output.as_os_str() == "-";
    if !stdout && typed.output.exists() {
        return Err(Failure::usage(format!(
            "-o {}: it exists already; choose another name",
            typed.output.display()
        )));
    }
    replay::with_evidence(&typed.recorded, typed.quiet, |evidence, _| {
        let (findings, mut marks) = analyze::run_with_marks(evidence).map_err(Failure::work)?;
        let wanted = Wanted { lost: typed.lost, flow: typed.flow.as_ref(), decap: typed.decap };
        let written = if stdout {
            write(evidence, &findings, &mut marks, &wanted, io::stdout().lock())
        } else {
            let written = File::create_new(&typed.output)
                .map_err(Problem::Write)
                .and_then(|file| write(evidence, &findings, &mut marks, &wanted, file));
            if written.is_err() {
                // Half a file would pass for a whole one.
                let _gone = std::fs::remove_file(&typed.output);
            }
            written
        };
        match written {
            Ok(written) => {
                if !typed.quiet {
                    written.say(&marks, &typed.output);
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(Problem::Write(error)) if stdout && error.kind() == io::ErrorKind::BrokenPipe => {
                Ok(ExitCode::SUCCESS)
            }
            Err(problem) => Err(problem.failure(&typed.output)),
        }
    })
}

/// Writes the comments into the capture of a case that is being saved. Without a lost packet it stays as it is.
pub(super) fn comment(
    evidence: &Evidence<'_>,
    findings: &Findings,
    mut marks: Marks,
    capture: &Path,
) -> Result<(), Failure> {
    if marks.n_trails() == 0 {
        return Ok(());
    }
    let commented = capture.with_extension("commented");
    let all = Wanted { lost: false, flow: None, decap: false };
    File::create(&commented)
        .map_err(Problem::Write)
        .and_then(|file| write(evidence, findings, &mut marks, &all, file))
        .and_then(|_| std::fs::rename(&commented, capture).map_err(Problem::Write))
        .map_err(|problem| problem.failure(capture))
}

/// Which frames, and in what form.
struct Wanted<'t> {
    lost: bool,
    flow: Option<&'t args::pcap::Flow>,
    decap: bool,
}

/// What was written.
#[derive(Debug, Default)]
struct Written {
    frames: u64,
    commented: u64,
    /// Frames of another link type than their interface's: pcapng has one for each.
    refused: u64,
}

enum Problem {
    Read(CaptureError),
    Write(io::Error),
}

impl Problem {
    fn failure(self, file: &Path) -> Failure {
        match self {
            Self::Read(error) => Failure::work(error),
            Self::Write(error) => Failure::work_text(format!(
                "cannot write {}: {error}; choose a folder that you may write to, with room",
                file.display()
            )),
        }
    }
}

impl Written {
    fn say(&self, marks: &Marks, file: &Path) {
        let Self { frames, commented, refused } = self;
        super::complain(&format!(
            "wrote {frames} frames to {}, {commented} of them of packets that vanished",
            file.display()
        ));
        if *refused > 0 {
            super::complain(&format!(
                "warning: {refused} frames have another link type than the first ones of their point, and were left out"
            ));
        }
        if marks.left_out() > 0 {
            super::complain(&format!(
                "warning: {} packets vanished beyond the first {}, and bear no comment",
                marks.left_out(),
                marks.n_trails()
            ));
        }
    }
}

fn write(
    evidence: &Evidence<'_>,
    findings: &Findings,
    marks: &mut Marks,
    wanted: &Wanted<'_>,
    out: impl Write,
) -> Result<Written, Problem> {
    let case = &findings.case;
    let links: Vec<LinkType> = (0..=u8::MAX)
        .take(case.points.len())
        .map(|number| marks.link(PointId(number)).filter(|_| !wanted.decap).unwrap_or(LinkType::Ethernet))
        .collect();
    let interfaces: Vec<InterfaceSpec> = case
        .points
        .iter()
        .zip(&links)
        .map(|(point, link)| {
            let snaplen = point.state.read().map_or(0, |coverage| coverage.snaplen);
            InterfaceSpec::of(point, *link, snaplen)
        })
        .collect();
    let out = BufWriter::with_capacity(BUFFER, out);
    let mut writer = PcapNgWriter::new(out, &interfaces).map_err(Problem::Write)?;
    writer.names(&case.names()).map_err(Problem::Write)?;
    let mut written = Written::default();
    let mut plain = Vec::new();
    let mut source = (evidence.frames)().map_err(Problem::Read)?;
    while let Some((point, frame)) = source.next_frame().map_err(Problem::Read)? {
        let mark = marks.of(point, &frame);
        if wanted.lost && mark.is_none() || !wanted.flow.is_none_or(|flow| flow.has(&frame)) {
            continue;
        }
        let frame = if wanted.decap { decapsulated(&frame, &mut plain) } else { frame };
        if links.get(point.index()) != Some(&frame.link) {
            written.refused += 1;
            continue;
        }
        let comment = mark.map(|mark| report::comment(findings, &mark));
        writer.write(point.index(), &frame, comment.as_deref()).map_err(Problem::Write)?;
        written.frames += 1;
        written.commented += u64::from(comment.is_some());
    }
    let statistics: Vec<Option<Statistics>> =
        case.points.iter().map(|point| point.state.read().map(Statistics::of)).collect();
    writer.finish(&statistics).map_err(Problem::Write)?;
    Ok(written)
}

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

impl args::pcap::Flow {
    /// Whether the frame's innermost packet is of this flow, whichever way it goes.
    fn has(&self, frame: &Frame<'_>) -> bool {
        let Some(Flow { src, dst, protocol, src_port, dst_port }) = Packet::read(frame).flow() else {
            return false;
        };
        let is = |end: &(std::net::IpAddr, Option<u16>), address, port| {
            end.0 == address && end.1.is_none_or(|wanted| wanted == port)
        };
        let ends = match self.ends.as_slice() {
            [one] => is(one, src, src_port) || is(one, dst, dst_port),
            [one, other] => {
                (is(one, src, src_port) && is(other, dst, dst_port))
                    || (is(one, dst, dst_port) && is(other, src, src_port))
            }
            _ => false,
        };
        ends && (self.protocols.is_empty() || self.protocols.contains(&protocol))
    }
}

/// What the innermost tunnel carries, as an Ethernet frame; a frame without a tunnel as it is. A packet without a frame
/// around it gets the outer one's header, in `plain`.
fn decapsulated<'f>(frame: &Frame<'f>, plain: &'f mut Vec<u8>) -> Frame<'f> {
    let packet = Packet::read(frame);
    let Some(Tunnel { inner_at, inner_macs, .. }) = packet.tunnels.last() else { return *frame };
    let Some(inner) = frame.bytes.get(*inner_at..).filter(|inner| !inner.is_empty()) else { return *frame };
    let wire_len = frame.wire_len.saturating_sub(u32::try_from(*inner_at).unwrap_or(u32::MAX));
    if inner_macs.is_some() {
        return Frame { bytes: inner, wire_len, link: LinkType::Ethernet, ..*frame };
    }
    let macs = packet.macs.map_or([[0; 6]; 2], |macs| [macs.dst, macs.src]);
    plain.clear();
    plain.extend(macs.into_iter().flatten());
    plain.extend_from_slice(if inner[0] >> 4 == 6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
    plain.extend_from_slice(inner);
    Frame { bytes: plain, wire_len: wire_len.saturating_add(14), link: LinkType::Ethernet, ..*frame }
}
