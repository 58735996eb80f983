//! Writes pcapng: one Interface Description Block a point, nanosecond stamps, statistics at the end.

use std::io::{self, Write};

use super::Statistics;
use crate::packet::{Frame, LinkType, Timestamp};

/// What is written of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// `if_name`.
    pub name: String,
    /// `if_description`.
    pub description: Option<String>,
    /// Link-layer type.
    pub link: LinkType,
    /// Snap length.
    pub snaplen: u32,
    /// `if_filter`: the kernel filter's text.
    pub filter: Option<String>,
}

/// A pcapng file being written.
pub struct PcapNgWriter<W: Write> {
    out: W,
    interfaces: u32,
}

impl<W: Write> PcapNgWriter<W> {
    /// Writes the section's header and its interfaces.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written to.
    pub fn new(mut out: W, interfaces: &[InterfaceSpec]) -> io::Result<Self> {
        let mut header = Vec::new();
        header.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        header.extend_from_slice(&1_u16.to_le_bytes());
        header.extend_from_slice(&0_u16.to_le_bytes());
        header.extend_from_slice(&(-1_i64).to_le_bytes());
        option(&mut header, 4, concat!("trace-drop ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(&mut header, 0, &[]);
        block(&mut out, 0x0a0d_0d0a, &header)?;
        for spec in interfaces {
            let mut body = Vec::new();
            body.extend_from_slice(&u32::from(spec.link.number()).to_le_bytes());
            body.extend_from_slice(&spec.snaplen.to_le_bytes());
            option(&mut body, 2, spec.name.as_bytes());
            if let Some(description) = &spec.description {
                option(&mut body, 3, description.as_bytes());
            }
            option(&mut body, 9, &[9]);
            if let Some(filter) = &spec.filter {
                // The first byte says that a libpcap filter string follows.
                option(&mut body, 11, &[&[0], filter.as_bytes()].concat());
            }
            option(&mut body, 0, &[]);
            block(&mut out, 1, &body)?;
        }
        Ok(Self { out, interfaces: u32::try_from(interfaces.len()).unwrap_or(u32::MAX) })
    }

    /// Writes one frame, with a comment if there is something to say about it.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written to.
    pub fn write(&mut self, interface: usize, frame: &Frame<'_>, comment: Option<&str>) -> io::Result<()> {
        let kept = frame.bytes.len();
        let padding = kept.next_multiple_of(4) - kept;
        let mut options = Vec::new();
        if let Some(comment) = comment {
            option(&mut options, 1, comment.as_bytes());
            option(&mut options, 0, &[]);
        }
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let len = number(32 + kept + padding + options.len());
        let (high, low) = halves(frame.time);
        let mut header = [0; 28];
        let fields = [6, len, number(interface), high, low, number(kept), frame.wire_len.max(number(kept))];
        for (at, field) in fields.into_iter().enumerate() {
            header[at * 4..at * 4 + 4].copy_from_slice(&field.to_le_bytes());
        }
        self.out.write_all(&header)?;
        self.out.write_all(frame.bytes)?;
        self.out.write_all(&[0; 3][..padding])?;
        self.out.write_all(&options)?;
        self.out.write_all(&len.to_le_bytes())
    }

    /// Writes the interfaces' statistics and gives the writer back, flushed.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written to.
    pub fn finish(mut self, statistics: &[Option<Statistics>]) -> io::Result<W> {
        for (interface, statistics) in (0..self.interfaces).zip(statistics) {
            let Some(statistics) = statistics else { continue };
            let mut body = Vec::new();
            let (high, low) = halves(statistics.end.unwrap_or_default());
            for field in [interface, high, low] {
                body.extend_from_slice(&field.to_le_bytes());
            }
            for (code, time) in [(2, statistics.start), (3, statistics.end)] {
                if let Some((high, low)) = time.map(halves) {
                    option(&mut body, code, &[high.to_le_bytes(), low.to_le_bytes()].concat());
                }
            }
            for (code, count) in [(4, statistics.received), (5, statistics.dropped)] {
                if let Some(count) = count {
                    option(&mut body, code, &count.to_le_bytes());
                }
            }
            option(&mut body, 0, &[]);
            block(&mut self.out, 5, &body)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

fn halves(time: Timestamp) -> (u32, u32) {
    let nanos = u64::try_from(time.0).unwrap_or(0);
    let half = |part: u64| u32::try_from(part & 0xffff_ffff).unwrap_or(u32::MAX);
    (half(nanos >> 32), half(nanos))
}

/// An option: code, length, value, padded to four bytes. A value too long for its length field is cut.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&len)?;
    out.write_all(body)?;
    out.write_all(&len)
}
