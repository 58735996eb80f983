//! Captured frames from and to files: pcap and pcapng of either byte order (pcap-savefile(5), IETF
//! draft-ietf-opsawg-pcapng), also compressed. Reads in large sequential steps over one reused buffer; a frame is
//! lent until the next is read. Never looks into a frame.

mod error;
mod input;
mod pcap;
mod pcapng;
mod source;
mod writer;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use error::CaptureError;
pub use source::{FileSource, FrameSource, Merge};
pub use writer::{InterfaceSpec, PcapNgWriter};

use crate::evidence::PointId;
use crate::packet::{Frame, LinkType, Timestamp};
use input::Input;

/// One interface of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// `if_name`.
    pub name: Option<String>,
    /// Link-layer type.
    pub link: LinkType,
    /// Snap length; 0 when there is no limit.
    pub snaplen: u32,
    /// What the capturing program counted, once its block was read.
    pub statistics: Option<Statistics>,
}

/// An Interface Statistics Block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// `isb_ifrecv`: frames that passed the filter.
    pub received: Option<u64>,
    /// `isb_ifdrop`: frames lost.
    pub dropped: Option<u64>,
    /// `isb_starttime`.
    pub start: Option<Timestamp>,
    /// `isb_endtime`.
    pub end: Option<Timestamp>,
}

/// A frame and the interface it was captured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Index into [`Reader::interfaces`].
    pub interface: usize,
    /// The frame.
    pub frame: Frame<'a>,
}

/// Reads a capture file from its beginning to its end.
pub struct Reader {
    input: Input,
    format: Format,
    interfaces: Vec<Interface>,
}

enum Format {
    Pcap(pcap::Header),
    PcapNg(pcapng::Section),
}

/// Where a record's bytes stand in the buffer.
struct Found {
    interface: usize,
    time: Timestamp,
    wire_len: u32,
    bytes: std::ops::Range<usize>,
}

/// No frame and no block is longer: libpcap's own limit is 256 KiB for most links, and USB's 128 MiB.
const LONGEST: usize = 64 << 20;

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or is no capture.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(Box::new(file), &name),
            Err(source) => Err(CaptureError::Io { file: name, source }),
        }
    }

    /// Reads from anything; `name` is for messages.
    ///
    /// # Errors
    ///
    /// When it is no capture.
    pub fn new(from: Box<dyn Read + Send>, name: &str) -> Result<Self, CaptureError> {
        let mut input = Input::new(from, name)?;
        let magic = input.peek(4)?.to_vec();
        let mut interfaces = Vec::new();
        let format = if magic == pcapng::SECTION {
            Format::PcapNg(pcapng::Section::default())
        } else if let Some(header) = pcap::header(&mut input)? {
            interfaces.push(Interface {
                name: None,
                link: header.link,
                snaplen: header.snaplen,
                statistics: None,
            });
            Format::Pcap(header)
        } else {
            let found = magic.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
            let found = if found.is_empty() { "nothing: it is empty".to_owned() } else { found };
            return Err(CaptureError::NotACapture { file: name.to_owned(), found });
        };
        let mut reader = Self { input, format, interfaces };
        // Interfaces that are described before the first frame are known at once.
        if let Format::PcapNg(section) = &mut reader.format {
            pcapng::skip_to_packet(&mut reader.input, section, &mut reader.interfaces)?;
        }
        Ok(reader)
    }

    /// The interfaces met so far.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Why the file ended in the middle of a record, if it did.
    pub fn truncated(&self) -> Option<&str> {
        self.input.truncated()
    }

    /// The next frame; None at the end, also of a file that was cut off.
    ///
    /// # Errors
    ///
    /// When the file cannot be read on or makes no sense.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        let found = self.find()?;
        Ok(found.map(|found| self.lend(found)))
    }

    /// The next frame of an interface that is a point.
    fn next_mapped(
        &mut self,
        points: &[Option<PointId>],
    ) -> Result<Option<(PointId, Frame<'_>)>, CaptureError> {
        while let Some(found) = self.find()? {
            if let Some(point) = points.get(found.interface).copied().flatten() {
                return Ok(Some((point, self.lend(found).frame)));
            }
        }
        Ok(None)
    }

    fn find(&mut self) -> Result<Option<Found>, CaptureError> {
        match &mut self.format {
            Format::Pcap(header) => pcap::next(&mut self.input, header),
            Format::PcapNg(section) => pcapng::next(&mut self.input, section, &mut self.interfaces),
        }
    }

    fn lend(&self, found: Found) -> Record<'_> {
        Record {
            interface: found.interface,
            frame: Frame {
                time: found.time,
                wire_len: found.wire_len,
                link: self.interfaces[found.interface].link,
                bytes: self.input.lent(found.bytes),
            },
        }
    }
}

#[cfg(test)]
mod tests;
