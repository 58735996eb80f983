//! Writes pcapng: one section, all interfaces at its head, frames in nanoseconds, counts at the end. Nothing is
//! buffered here; give it a buffered writer.

use std::io::{self, Write};
use std::net::IpAddr;

use crate::evidence::case::{CapturePoint, Role};
use crate::packet::{Frame, LinkType, Timestamp};

use super::Statistics;
use super::input::LONGEST;
use super::pcapng::{ENHANCED, INTERFACE, NAMES, SECTION, STATISTICS};

/// Writes the frames of several interfaces into one file.
#[derive(Debug)]
pub struct PcapNgWriter<W: Write> {
    out: W,
    links: Vec<LinkType>,
    last: Timestamp,
    /// Options or a small block under way, used again and again.
    scratch: Vec<u8>,
}

/// Longest name of an address: that of a host (RFC 1035).
const LONGEST_NAME: usize = 255;

/// An interface as the file is to describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// Its name.
    pub name: String,
    /// What it is, for the reader.
    pub description: Option<String>,
    /// Link type of its frames.
    pub link: LinkType,
    /// Most bytes kept of a frame; 0 for no limit.
    pub snaplen: u32,
    /// The filter in libpcap's language.
    pub filter: Option<String>,
}

impl InterfaceSpec {
    /// A point of a case.
    pub fn of(point: &CapturePoint, link: LinkType, snaplen: u32) -> Self {
        let what = match point.role {
            Role::Pod => "the pod's own interface",
            Role::Veth => "the host's side of the pod's veth",
            Role::Tunnel => "the tunnel device",
            Role::Nic => "the node's interface",
        };
        Self {
            name: point.id.clone(),
            description: Some(format!("{what}, on {}", point.node)),
            link,
            snaplen,
            filter: None,
        }
    }
}

impl<W: Write> PcapNgWriter<W> {
    /// Writes the head: the section and its interfaces, which get their indices in this order.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn new(out: W, interfaces: &[InterfaceSpec]) -> io::Result<Self> {
        let links = interfaces.iter().map(|interface| interface.link).collect();
        let mut writer = Self { out, links, last: Timestamp(0), scratch: Vec::new() };
        let mut body = Vec::from(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend_from_slice(&1_u16.to_le_bytes());
        body.extend_from_slice(&0_u16.to_le_bytes());
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        option(&mut body, 4, concat!("trace-drop ", env!("CARGO_PKG_VERSION")).as_bytes());
        end_of_options(&mut body);
        writer.block(SECTION, &body)?;
        for interface in interfaces {
            writer.interface(interface)?;
        }
        Ok(writer)
    }

    /// Writes names of addresses; before the frames that bear them.
    ///
    /// # Errors
    ///
    /// What the writer below says.
    pub fn names(&mut self, names: &[(IpAddr, String)]) -> io::Result<()> {
        let mut body = Vec::new();
        for (address, name) in names {
            // A name ends at its first zero byte, and is cut where a reader would stop.
            let name: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(LONGEST_NAME).collect();
            if name.is_empty() {
                continue;
            }
            let mut record = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            record.extend_from_slice(&name);
            record.push(0);
            option(&mut body, if address.is_ipv4() { 1 } else { 2 }, &record);
        }
        if body.is_empty() {
            return Ok(());
        }
        end_of_options(&mut body);
        self.block(NAMES, &body)
    }

    /// Writes one frame of the interface with that index.
    ///
    /// # Errors
    ///
    /// What the writer below says; and when there is no such interface or it has another link type.
    pub fn write(&mut self, interface: usize, frame: &Frame<'_>, comment: Option<&str>) -> io::Result<()> {
        let bytes = frame.bytes;
        if self.links.get(interface) != Some(&frame.link) || bytes.len() > LONGEST / 2 {
            return Err(self.refusal(interface, frame));
        }
        self.scratch.clear();
        self.scratch.resize(bytes.len().next_multiple_of(4) - bytes.len(), 0);
        if let Some(comment) = comment {
            option(&mut self.scratch, 1, comment.as_bytes());
            end_of_options(&mut self.scratch);
        }
        let kept = length(bytes.len());
        let total = length(28 + bytes.len() + self.scratch.len() + 4);
        let ticks = ticks(frame.time);
        let mut head = [0; 28];
        let fields = [ENHANCED, total, length(interface), ticks[0], ticks[1], kept, frame.wire_len.max(kept)];
        for (place, field) in head.chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        self.last = self.last.max(frame.time);
        self.scratch.extend_from_slice(&total.to_le_bytes());
        self.out.write_all(&head)?;
        self.out.write_all(bytes)?;
        self.out.write_all(&self.scratch)
    }

    /// Writes the counts, by index of interface, and gives back the flushed writer below.
    ///
    /// # Errors
    ///
    /// What the writer below says.
    pub fn finish(mut self, statistics: &[Option<Statistics>]) -> io::Result<W> {
        for (interface, statistics) in statistics.iter().take(self.links.len()).enumerate() {
            if let Some(statistics) = statistics {
                self.statistics(interface, statistics)?;
            }
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn interface(&mut self, interface: &InterfaceSpec) -> io::Result<()> {
        let mut body = Vec::from(interface.link.number().to_le_bytes());
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&interface.snaplen.to_le_bytes());
        option(&mut body, 2, interface.name.as_bytes());
        if let Some(description) = &interface.description {
            option(&mut body, 3, description.as_bytes());
        }
        option(&mut body, 9, &[9]);
        if let Some(filter) = &interface.filter {
            // 0: a filter in words.
            option(&mut body, 11, format!("\0{filter}").as_bytes());
        }
        end_of_options(&mut body);
        self.block(INTERFACE, &body)
    }

    fn statistics(&mut self, interface: usize, statistics: &Statistics) -> io::Result<()> {
        let mut body = Vec::from(length(interface).to_le_bytes());
        body.extend_from_slice(&stamp(statistics.end.unwrap_or(self.last)));
        for (code, time) in [(2, statistics.start), (3, statistics.end)] {
            if let Some(time) = time {
                option(&mut body, code, &stamp(time));
            }
        }
        for (code, count) in [(4, statistics.received), (5, statistics.dropped)] {
            if let Some(count) = count {
                option(&mut body, code, &count.to_le_bytes());
            }
        }
        end_of_options(&mut body);
        self.block(STATISTICS, &body)
    }

    /// `body` is a multiple of four bytes long.
    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let total = length(body.len() + 12).to_le_bytes();
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&total)?;
        self.out.write_all(body)?;
        self.out.write_all(&total)
    }

    fn refusal(&self, interface: usize, frame: &Frame<'_>) -> io::Error {
        let what = match self.links.get(interface) {
            None => format!("interface {interface} of a capture that describes {}", self.links.len()),
            Some(link) if *link != frame.link => {
                format!("a frame of {} on interface {interface} of {link}", frame.link)
            }
            Some(_) => format!("a frame of {} bytes", frame.bytes.len()),
        };
        io::Error::new(io::ErrorKind::InvalidInput, what)
    }
}

/// Appends an option, cut to the 65,535 bytes that one can have (at a character's edge).
fn option(to: &mut Vec<u8>, code: u16, value: &[u8]) {
    let mut end = value.len().min(usize::from(u16::MAX));
    while end < value.len() && end > 0 && value[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    to.extend_from_slice(&code.to_le_bytes());
    to.extend_from_slice(&u16::try_from(end).unwrap_or(u16::MAX).to_le_bytes());
    to.extend_from_slice(&value[..end]);
    to.resize(to.len() + end.next_multiple_of(4) - end, 0);
}

fn end_of_options(to: &mut Vec<u8>) {
    to.extend_from_slice(&[0; 4]);
}

/// Times before 1970 become 1970: the format has none.
fn ticks(time: Timestamp) -> [u32; 2] {
    let ticks = u64::try_from(time.0).unwrap_or(0);
    [(ticks >> 32) as u32, (ticks & 0xffff_ffff) as u32]
}

fn stamp(time: Timestamp) -> [u8; 8] {
    let [upper, lower] = ticks(time).map(u32::to_le_bytes);
    let mut stamp = [0; 8];
    stamp[..4].copy_from_slice(&upper);
    stamp[4..].copy_from_slice(&lower);
    stamp
}

/// Lengths and indices here stay far below 2^32: frames and options are limited.
fn length(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
