//! The agent's way out: a bounded queue and a thread that writes. Batches are offered and come back when there is
//! no room, so that a slow pipe shows as loss in the captures' rings, where it is counted; messages wait.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use super::wire::{self, FromAgent};

/// The queue's end to put frames in.
#[derive(Debug, Clone)]
pub(super) struct Pipe {
    queue: SyncSender<Vec<u8>>,
    /// Set when all that was queued before the farewell has been written.
    written: Arc<AtomicBool>,
    /// Set when nobody reads any more.
    gone: Arc<AtomicBool>,
}

/// Frames that may wait: batches are about 64 KiB.
const QUEUE: usize = 256;
/// How long a full queue is slept on.
const NAP: Duration = Duration::from_millis(2);

impl Pipe {
    /// Starts the writing thread. `gone` is set when writing fails, and ends all waiting when others set it.
    pub(super) fn start(mut output: impl Write + Send + 'static, gone: Arc<AtomicBool>) -> Self {
        let (queue, waiting) = mpsc::sync_channel::<Vec<u8>>(QUEUE);
        let pipe = Self { queue, written: Arc::default(), gone };
        let (written, gone) = (Arc::clone(&pipe.written), Arc::clone(&pipe.gone));
        thread::spawn(move || {
            for frame in waiting {
                if frame.is_empty() {
                    written.store(output.flush().is_ok(), Ordering::Relaxed);
                } else if output.write_all(&frame).is_err() {
                    gone.store(true, Ordering::Relaxed);
                    return;
                }
            }
        });
        pipe
    }

    /// Queues a batch of frames, or gives it back.
    pub(super) fn offer(&self, batch: Vec<u8>) -> Result<(), Vec<u8>> {
        // Only the capturing threads and the messages put frames in, so a full queue shows before the batch is
        // wrapped; if it fills in between, the wrapping is taken off again.
        match self.queue.try_send(wire::batch(&batch)) {
            Err(TrySendError::Full(_)) => Err(batch),
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Queues a message, waiting for room as long as somebody reads.
    pub(super) fn say(&self, message: &FromAgent) {
        self.put(wire::control(message));
    }

    /// Waits until everything said so far is written, at most `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        self.put(Vec::new());
        let mut left = patience;
        while !self.written.load(Ordering::Relaxed) && !self.gone.load(Ordering::Relaxed) && !left.is_zero() {
            thread::sleep(NAP);
            left = left.saturating_sub(NAP);
        }
    }

    fn put(&self, mut frame: Vec<u8>) {
        while let Err(TrySendError::Full(back)) = self.queue.try_send(frame) {
            if self.gone.load(Ordering::Relaxed) {
                return;
            }
            frame = back;
            thread::sleep(NAP);
        }
    }
}
