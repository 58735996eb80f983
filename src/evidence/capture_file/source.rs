//! Frames with the points they were captured at, from one file or from several merged by time.

use super::{CaptureError, Reader};
use crate::evidence::PointId;
use crate::packet::{Frame, LinkType, Timestamp};

/// Frames in the order in which they were captured.
pub trait FrameSource {
    /// The next frame and the point it was captured at; None at the end.
    ///
    /// # Errors
    ///
    /// When the capture cannot be read on.
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError>;
}

/// One file.
pub struct FileSource {
    reader: Reader,
    points: Points,
}

enum Points {
    All(PointId),
    ByInterface(Vec<Option<PointId>>),
}

impl FileSource {
    /// Every frame was captured at one point.
    pub fn all_at(reader: Reader, point: PointId) -> Self {
        Self { reader, points: Points::All(point) }
    }

    /// Each interface is a point, or none: then its frames are passed over.
    pub fn mapped(reader: Reader, points: Vec<Option<PointId>>) -> Self {
        Self { reader, points: Points::ByInterface(points) }
    }
}

impl FrameSource for FileSource {
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError> {
        match &self.points {
            Points::All(point) => {
                let point = *point;
                Ok(self.reader.next_record()?.map(|record| (point, record.frame)))
            }
            Points::ByInterface(points) => self.reader.next_mapped(points),
        }
    }
}

/// Several sources as one, in the order of their stamps.
pub struct Merge<'s> {
    sources: Vec<Box<dyn FrameSource + 's>>,
    waiting: Vec<Option<Waiting>>,
    last: Option<usize>,
}

/// A frame that was read ahead.
struct Waiting {
    point: PointId,
    time: Timestamp,
    wire_len: u32,
    link: LinkType,
    bytes: Vec<u8>,
}

impl<'s> Merge<'s> {
    /// Merges sources that are each in order.
    pub fn new(sources: Vec<Box<dyn FrameSource + 's>>) -> Self {
        let waiting = sources.iter().map(|_| None).collect();
        Self { sources, waiting, last: None }
    }

    fn read_ahead(&mut self, index: usize, mut buffer: Vec<u8>) -> Result<(), CaptureError> {
        buffer.clear();
        self.waiting[index] = self.sources[index].next_frame()?.map(|(point, frame)| {
            buffer.extend_from_slice(frame.bytes);
            Waiting { point, time: frame.time, wire_len: frame.wire_len, link: frame.link, bytes: buffer }
        });
        Ok(())
    }
}

impl FrameSource for Merge<'_> {
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError> {
        match self.last {
            None => {
                for index in 0..self.sources.len() {
                    self.read_ahead(index, Vec::new())?;
                }
            }
            Some(last) => {
                let buffer = self.waiting[last].take().map(|waiting| waiting.bytes).unwrap_or_default();
                self.read_ahead(last, buffer)?;
            }
        }
        let times = self.waiting.iter().enumerate().filter_map(|(index, w)| Some((w.as_ref()?.time, index)));
        let Some((_, index)) = times.min() else {
            self.last = Some(0);
            return Ok(None);
        };
        self.last = Some(index);
        Ok(self.waiting[index].as_ref().map(|waiting| {
            let frame = Frame {
                time: waiting.time,
                wire_len: waiting.wire_len,
                link: waiting.link,
                bytes: &waiting.bytes,
            };
            (waiting.point, frame)
        }))
    }
}
