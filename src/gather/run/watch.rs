//! What a trace without an end tells while it goes on, and how it is told to end. Frames are handed out as they are
//! merged; who takes them says when there were enough. Counts nothing and judges nothing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::Ending;
use super::case::as_frame;
use crate::evidence::PointId;
use crate::gather::capture::batch;
use crate::packet::{Frame, LinkType};

/// How a trace is watched.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    /// So much of the capture's last part is kept.
    pub(crate) ring: Duration,
    /// Ends it.
    pub(crate) enough: Enough,
}

/// Said by whoever watches, heard by the trace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Enough(Arc<OnceLock<Why>>);

#[derive(Debug, Clone, Copy)]
enum Why {
    /// When, by the tracing machine's clock.
    Loss(i64),
    NobodyLooks,
}

impl Enough {
    /// A packet was lost at `time`, in nanoseconds by the tracing machine's clock.
    pub(crate) fn lost(&self, time: i64) {
        let _first_stands = self.0.set(Why::Loss(time));
    }

    /// Nobody looks any more.
    pub(crate) fn unseen(&self) {
        let _first_stands = self.0.set(Why::NobodyLooks);
    }

    /// Why capturing should end, once it should.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.0.get().map(|why| match why {
            Why::Loss(_) => Ending::Loss,
            Why::NobodyLooks => Ending::Interrupted,
        })
    }

    /// When a packet was lost, if that was said.
    pub(super) fn loss(&self) -> Option<i64> {
        self.0.get().and_then(|why| match why {
            Why::Loss(time) => Some(*time),
            Why::NobodyLooks => None,
        })
    }
}

/// Frames in the order of time, each by the clock of its node.
#[derive(Debug, Clone)]
pub(crate) struct Frames {
    /// A batch, with the points' numbers in the case.
    pub(super) batch: Vec<u8>,
    /// What the frames of each point of the case begin with.
    pub(super) links: Arc<[LinkType]>,
    /// Everything up to here has been told, in nanoseconds by the tracing machine's clock; None when no point captures
    /// any more.
    pub(crate) until: Option<i64>,
}

impl Frames {
    /// Gives each frame with its point.
    pub(crate) fn each(&self, mut give: impl FnMut(PointId, &Frame<'_>)) {
        let mut rest = self.batch.as_slice();
        while let Some(framed) = batch::take(&mut rest) {
            let (Ok(point), Some(link)) =
                (u8::try_from(framed.point), self.links.get(usize::from(framed.point)))
            else {
                continue;
            };
            give(PointId(point), &as_frame(&framed, *link));
        }
    }
}
