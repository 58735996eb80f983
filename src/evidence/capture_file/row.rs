//! Files in a row, one after the other, as one source: parts of a rotated capture, each opened when the one before it has
//! ended. Who gives the parts says for each frame at which point it was captured, and how far its stamps are off.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;

use crate::evidence::case::PointId;
use crate::packet::{Frame, Nanos};

use super::{CaptureError, Found, FrameSource, Reader, Record};

/// The point of a frame; None leaves it out.
pub type PointOf<'r> = Box<dyn Fn(&Record<'_>) -> Option<PointId> + Send + 'r>;

/// One file of a row.
pub struct Part<'r> {
    /// Where it is.
    pub file: PathBuf,
    /// The points of interfaces, by their index, that are one as a whole.
    pub whole: Vec<Option<PointId>>,
    /// Says it of each frame of the others.
    pub point: PointOf<'r>,
    /// Taken off its stamps.
    pub ahead: Nanos,
}

/// The frames of files that follow each other in time.
pub struct Row<'r> {
    waiting: VecDeque<Part<'r>>,
    now: Option<(Reader, Part<'r>)>,
}

impl<'r> Row<'r> {
    /// Nothing is opened before the first frame is asked for.
    pub fn new(parts: Vec<Part<'r>>) -> Self {
        Self { waiting: parts.into(), now: None }
    }

    /// The next frame of a point, in the file that is being read.
    fn find(&mut self) -> Result<Option<(PointId, Found)>, CaptureError> {
        loop {
            let Some((reader, part)) = &mut self.now else {
                let Some(part) = self.waiting.pop_front() else { return Ok(None) };
                self.now = Some((Reader::open(&part.file)?, part));
                continue;
            };
            let Some(found) = reader.find()? else {
                self.now = None;
                continue;
            };
            if let Some(Some(point)) = part.whole.get(found.interface) {
                return Ok(Some((*point, found)));
            }
            let record = Record { interface: found.interface, frame: reader.frame(found.clone()) };
            if let Some(point) = (part.point)(&record) {
                return Ok(Some((point, found)));
            }
        }
    }
}

impl FrameSource for Row<'_> {
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError> {
        let Some((point, found)) = self.find()? else { return Ok(None) };
        let frame = self.now.as_ref().map(|(reader, part)| (reader.frame(found), part.ahead));
        Ok(frame.map(|(frame, ahead)| (point, Frame { time: frame.time - ahead, ..frame })))
    }
}

impl fmt::Debug for Row<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Row").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}
