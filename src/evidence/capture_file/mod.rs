//! Captured frames from files and into files: classic pcap and pcapng of any byte order and resolution, plain or
//! compressed by gzip or zstd. A file cut in its last record gives all whole ones; nonsense is an error that says
//! where it stands; no bytes make it panic. What the frames contain is not looked at.

mod error;
mod input;
mod pcap;
mod pcapng;
mod row;
mod source;
mod writer;

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use crate::evidence::case::{Coverage, PointId};
use crate::packet::{Frame, LinkType, Timestamp};

pub use error::CaptureError;
pub use row::{Part, PointOf, Row};
pub use source::{FileSource, Merge};
pub use writer::{InterfaceSpec, PcapNgWriter};

use input::Input;
use pcap::Pcap;
use pcapng::PcapNg;

/// Frames in the order in which they were captured.
pub trait FrameSource {
    /// The next frame and the point it was captured at; None at the end.
    ///
    /// # Errors
    ///
    /// When the capture cannot be read on.
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError>;

    /// The sources behind this one, which gives their frames in the order of time, the first one's of equal times: to be
    /// read each by itself instead. None when it can only be read as it is. Asked before the first frame.
    fn parts(&mut self) -> Vec<Box<dyn FrameSource + Send + '_>> {
        Vec::new()
    }
}

impl<S: FrameSource + ?Sized> FrameSource for &mut S {
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError> {
        (**self).next_frame()
    }
}

/// Reads one capture from front to back.
pub struct Reader {
    input: Input,
    format: Format,
    interfaces: Vec<Interface>,
    truncated: Option<String>,
    ended: bool,
}

/// One frame and the interface it was captured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Index in [`Reader::interfaces`].
    pub interface: usize,
    /// The frame.
    pub frame: Frame<'a>,
}

/// What a file says of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, in pcapng alone.
    pub name: Option<String>,
    /// A description, likewise.
    pub description: Option<String>,
    /// Link type of its frames.
    pub link: LinkType,
    /// Most bytes kept of a frame; 0 for no limit.
    pub snaplen: u32,
    /// Counts of the whole capture. They follow the frames: known once the end was reached.
    pub statistics: Option<Statistics>,
}

/// How capturing on an interface went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Frames received.
    pub received: Option<u64>,
    /// Frames lost, by the interface and for want of buffer.
    pub dropped: Option<u64>,
    /// When capturing began.
    pub start: Option<Timestamp>,
    /// When it ended.
    pub end: Option<Timestamp>,
}

impl Statistics {
    /// How capturing at a point of a case went.
    pub fn of(coverage: &Coverage) -> Self {
        Self {
            received: Some(coverage.received),
            dropped: Some(coverage.lost()),
            start: coverage.started.map(Timestamp),
            end: coverage.stopped.map(Timestamp),
        }
    }
}

/// What the last part of a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// When the latest of its frames was captured.
    pub latest: Timestamp,
    /// Bytes of the file that were read.
    pub read: u64,
    /// Bytes behind them.
    pub left: u64,
}

impl Reader {
    /// Opens the capture at `path`.
    ///
    /// # Errors
    ///
    /// When it does not open or is not a capture.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(Box::new(file), &name),
            Err(source) => Err(CaptureError::Open { file: name, source }),
        }
    }

    /// Reads a capture from `bytes`; errors will call it `name`. No buffering is needed around `bytes`.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is not a capture.
    pub fn new(bytes: Box<dyn Read + Send>, name: &str) -> Result<Self, CaptureError> {
        let mut input = Input::open(bytes, name)?;
        input.need(4)?;
        let Some(&magic) = input.window().first_chunk() else {
            let found = format!("the file ends after {} bytes", input.window().len());
            return Err(input.nonsense(0, found, "capture anew: nothing was recorded"));
        };
        let mut interfaces = Vec::new();
        let format = if magic == pcapng::SECTION_BYTES {
            let mut pcapng = PcapNg::new();
            pcapng.begin(&mut input, &mut interfaces)?;
            Format::PcapNg(pcapng)
        } else if let Some(mut pcap) = Pcap::detect(magic) {
            interfaces.push(pcap.begin(&mut input)?);
            Format::Pcap(pcap)
        } else {
            let found = format!("the file begins with {magic:02x?}, neither pcap nor pcapng");
            return Err(input.nonsense(0, found, "give a file of tcpdump, dumpcap or Wireshark"));
        };
        Ok(Self { input, format, interfaces, truncated: None, ended: false })
    }

    /// The next frame; None at the end, also where the file was cut ([`Self::truncated`]).
    ///
    /// # Errors
    ///
    /// When the file cannot be read or the bytes make no sense.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        Ok(self.find()?.map(|found| Record { interface: found.interface, frame: self.frame(found) }))
    }

    /// Where the next frame lies; to be looked at by [`Self::frame`] before the next call.
    #[inline]
    fn find(&mut self) -> Result<Option<Found>, CaptureError> {
        if self.ended {
            return Ok(None);
        }
        let step = match &mut self.format {
            Format::Pcap(pcap) => pcap.step(&mut self.input)?,
            Format::PcapNg(pcapng) => pcapng.step(&mut self.input, &mut self.interfaces)?,
        };
        if step.is_some() {
            return Ok(step);
        }
        self.ended = true;
        self.truncated = self.input.cut();
        Ok(None)
    }

    #[inline]
    fn frame(&self, found: Found) -> Frame<'_> {
        let Found { time, wire_len, link, at, .. } = found;
        let bytes = self.input.taken(at);
        let kept = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        Frame { time, wire_len: wire_len.max(kept), link, bytes }
    }

    /// The interfaces described so far: those before the first frame at once, of later sections as they come.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// After the end: how the file was cut, if it was.
    pub fn truncated(&self) -> Option<&str> {
        self.truncated.as_deref()
    }

    /// The end of the file at `path`, which this reader reads, without what is before it. Of a large classic pcap only,
    /// plain and whole: anything else is to be read on.
    pub fn end(&self, path: &Path) -> Option<End> {
        let Format::Pcap(pcap) = &self.format else { return None };
        let mut file = File::open(path).ok()?;
        let read = self.input.position()?;
        let left = file.metadata().ok()?.len().checked_sub(read)?;
        if left < 4 * TAIL as u64 {
            return None;
        }
        let mut tail = vec![0; TAIL];
        file.seek(SeekFrom::End(-i64::try_from(TAIL).ok()?)).ok()?;
        file.read_exact(&mut tail).ok()?;
        Some(End { latest: pcap.latest_of(&tail)?, read, left })
    }

    /// As the file was named when it was opened.
    pub fn name(&self) -> &str {
        self.input.name()
    }
}

/// Bytes at the end of a file that are looked at without what is before them.
const TAIL: usize = 1024 * 1024;

impl fmt::Debug for Reader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reader").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// Whether a file begins as a capture does, compressed or not; false for folders and what cannot be read.
pub fn is_capture(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let Ok(mut input) = Input::open(Box::new(file), "") else { return false };
    let begun = input.need(4).unwrap_or(false);
    let magic = input.window().first_chunk().filter(|_| begun);
    magic.is_some_and(|magic| *magic == pcapng::SECTION_BYTES || Pcap::detect(*magic).is_some())
}

enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// A frame, lying in the input's buffer.
#[derive(Clone)]
struct Found {
    interface: usize,
    time: Timestamp,
    wire_len: u32,
    link: LinkType,
    at: Range<usize>,
}

#[cfg(test)]
mod tests;
