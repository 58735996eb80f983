//! Captured frames from files. (Reader and writer follow.)
use crate::evidence::PointId;
use crate::packet::Frame;
/// Why a capture could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CaptureError(pub String);
/// Frames in the order in which they were captured.
pub trait FrameSource {
    /// The next frame and the point it was captured at; None at the end.
    ///
    /// # Errors
    ///
    /// When the capture cannot be read on.
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError>;
}
