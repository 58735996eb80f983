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
    /// Frames that are not Ethernet's and cannot be made so.
    bare: u64,
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
        let Self { frames, commented, refused, bare } = self;
        super::complain(&format!(
            "wrote {frames} frames to {}, {commented} of them of packets that vanished",
            file.display()
        ));
        if *refused > 0 {
            super::complain(&format!(
                "warning: {refused} frames have another link type than the first ones of their point, and were left out"
            ));
        }
        if *bare > 0 {
            super::complain(&format!(
                "warning: {bare} frames hold nothing that can stand behind an Ethernet header, and were left out"
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
    let own: Vec<LinkType> = (0..=u8::MAX)
        .take(case.points.len())
        .map(|number| marks.link(PointId(number)).unwrap_or(LinkType::Ethernet))
        .collect();
    let links: Vec<LinkType> =
        own.iter().map(|own| if wanted.decap { LinkType::Ethernet } else { *own }).collect();
    let interfaces: Vec<InterfaceSpec> = case
        .points
        .iter()
        .zip(own.iter().zip(&links))
        .map(|(point, (own, link))| {
            let kept = point.state.read().map_or(0, |coverage| coverage.snaplen);
            // tcpdump takes no frame that is longer than its interface says. 0 is no limit.
            let snaplen = if own == link || kept == 0 { kept } else { kept.saturating_add(ETHERNET_HEADER) };
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
        let frame = if wanted.decap {
            let Some(frame) = decapsulated(&frame, &mut plain) else {
                written.bare += 1;
                continue;
            };
            frame
        } else {
            frame
        };
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
/// Bytes that a packet without a link header gets before it.
const ETHERNET_HEADER: u32 = 14;

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

/// What the innermost tunnel carries, as an Ethernet frame; an Ethernet frame without a tunnel as it is. What has no Ethernet
/// header gets one, in `plain`: with the outer one's addresses, or the sender's that a cooked header tells. None where
/// nothing is known that could stand behind it.
fn decapsulated<'f>(frame: &Frame<'f>, plain: &'f mut Vec<u8>) -> Option<Frame<'f>> {
    let packet = Packet::read(frame);
    let tunnel = packet.tunnels.last().and_then(|Tunnel { inner_at, inner_macs, .. }| {
        let inner = frame.bytes.get(*inner_at..).filter(|inner| !inner.is_empty())?;
        Some((inner, inner_macs.is_some()))
    });
    let left_of = |inner: &[u8]| {
        let taken = u32::try_from(frame.bytes.len() - inner.len()).unwrap_or(u32::MAX);
        frame.wire_len.saturating_sub(taken)
    };
    let (ether_type, inner) = match tunnel {
        Some((bytes, true)) => {
            return Some(Frame { bytes, wire_len: left_of(bytes), link: LinkType::Ethernet, ..*frame });
        }
        Some((inner, false)) => (if inner[0] >> 4 == 6 { 0x86dd } else { 0x0800 }, inner),
        None if frame.link == LinkType::Ethernet => return Some(*frame),
        None => frame.carried()?,
    };
    let sender = packet.cooked.and_then(|cooked| cooked.sender).unwrap_or_default();
    let macs = packet.macs.map_or([[0; 6], sender], |macs| [macs.dst, macs.src]);
    plain.clear();
    plain.extend(macs.into_iter().flatten());
    plain.extend(u16::to_be_bytes(ether_type));
    plain.extend_from_slice(inner);
    let wire_len = left_of(inner).saturating_add(ETHERNET_HEADER);
    Some(Frame { bytes: plain, wire_len, link: LinkType::Ethernet, ..*frame })
}
