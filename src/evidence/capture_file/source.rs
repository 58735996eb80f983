//! Frame sources over readers: which point a record of a file belongs to, and several sources as one in the order
//! of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use crate::evidence::case::PointId;
use crate::packet::{Frame, LinkType, Timestamp};

use super::{CaptureError, FrameSource, Reader, Record};

/// The frames of one file, each at the point that its interface is.
#[derive(Debug)]
pub struct FileSource {
    reader: Reader,
    points: Points,
}

#[derive(Debug)]
enum Points {
    All(PointId),
    ByInterface(Vec<Option<PointId>>),
}

impl FileSource {
    /// Every record was captured at `point`.
    pub fn all_at(reader: Reader, point: PointId) -> Self {
        Self { reader, points: Points::All(point) }
    }

    /// The interface with index i is `points[i]`; records of one that is None are left out, and one beyond the
    /// list is an error.
    pub fn mapped(reader: Reader, points: Vec<Option<PointId>>) -> Self {
        Self { reader, points: Points::ByInterface(points) }
    }

    /// The reader: interfaces, counts and whether the file was cut.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

impl FrameSource for FileSource {
    #[inline]
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError> {
        let known = match &self.points {
            Points::All(point) => {
                let record = self.reader.next_record()?;
                return Ok(record.map(|Record { frame, .. }| (*point, frame)));
            }
            Points::ByInterface(points) => points,
        };
        loop {
            let Some(found) = self.reader.find()? else { return Ok(None) };
            let interface = found.interface;
            match known.get(interface) {
                Some(Some(point)) => return Ok(Some((*point, self.reader.frame(found)))),
                Some(None) => {}
                None => {
                    let file = self.reader.name().to_owned();
                    return Err(CaptureError::Unmapped { file, interface, known: known.len() });
                }
            }
        }
    }

    fn parts(&mut self) -> Vec<Box<dyn FrameSource + Send + '_>> {
        vec![Box::new(self)]
    }
}

/// Several sources, each in order of time, as one in order of time. Equal times come in the order of the sources.
pub struct Merge<'s> {
    sources: Vec<Waiting<'s>>,
    /// Those with a frame waiting, the earliest on top.
    next: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Those whose frame has been given away, or that were not asked yet.
    ask: Vec<usize>,
}

impl<'s> Merge<'s> {
    /// Nothing is read before the first frame is asked for.
    pub fn new(sources: Vec<Box<dyn FrameSource + Send + 's>>) -> Self {
        let ask = (0..sources.len()).collect();
        let sources: Vec<_> = sources.into_iter().map(Waiting::new).collect();
        Self { next: BinaryHeap::with_capacity(sources.len()), sources, ask }
    }
}

impl FrameSource for Merge<'_> {
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError> {
        while let Some(index) = self.ask.pop() {
            if let Some(time) = self.sources[index].refill()? {
                self.next.push(Reverse((time, index)));
            }
        }
        let Some(Reverse((time, index))) = self.next.pop() else { return Ok(None) };
        self.ask.push(index);
        let Waiting { point, wire_len, link, ref bytes, .. } = self.sources[index];
        Ok(Some((point, Frame { time, wire_len, link, bytes })))
    }

    fn parts(&mut self) -> Vec<Box<dyn FrameSource + Send + '_>> {
        self.sources.iter_mut().map(|waiting| Box::new(&mut *waiting.source) as _).collect()
    }
}

impl fmt::Debug for Merge<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Merge").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

/// A source and its next frame, copied into a buffer that is used again.
struct Waiting<'s> {
    source: Box<dyn FrameSource + Send + 's>,
    point: PointId,
    wire_len: u32,
    link: LinkType,
    bytes: Vec<u8>,
}

impl<'s> Waiting<'s> {
    fn new(source: Box<dyn FrameSource + Send + 's>) -> Self {
        Self { source, point: PointId(0), wire_len: 0, link: LinkType::Null, bytes: Vec::new() }
    }

    /// When the next frame was captured; None at the end.
    fn refill(&mut self) -> Result<Option<Timestamp>, CaptureError> {
        let Some((point, frame)) = self.source.next_frame()? else { return Ok(None) };
        self.point = point;
        self.wire_len = frame.wire_len;
        self.link = frame.link;
        self.bytes.clear();
        self.bytes.extend_from_slice(frame.bytes);
        Ok(Some(frame.time))
    }
}
