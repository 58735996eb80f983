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
    queue: SyncSender<Queued>,
    /// Set when all that was queued before the farewell has been written.
    written: Arc<AtomicBool>,
    /// Set when nobody reads any more.
    gone: Arc<AtomicBool>,
}

/// What waits to be written.
#[derive(Debug)]
enum Queued {
    /// A message, as it goes over the wire.
    Message(Vec<u8>),
    /// Captured frames.
    Batch(Vec<u8>),
    /// Nothing: all before it is to be sent on.
    Farewell,
}

/// Frames that may wait: batches are about 64 KiB.
const QUEUE: usize = 256;
/// How long a full queue is slept on.
const NAP: Duration = Duration::from_millis(2);

impl Pipe {
    /// Starts the writing thread. `gone` is set when writing fails, and ends all waiting when others set it.
    pub(super) fn start(mut output: impl Write + Send + 'static, gone: Arc<AtomicBool>) -> Self {
        let (queue, waiting) = mpsc::sync_channel(QUEUE);
        let pipe = Self { queue, written: Arc::default(), gone };
        let (written, gone) = (Arc::clone(&pipe.written), Arc::clone(&pipe.gone));
        thread::spawn(move || {
            for queued in waiting {
                let done = match queued {
                    Queued::Message(message) => output.write_all(&message),
                    Queued::Batch(batch) => {
                        output.write_all(&wire::before_batch(&batch)).and_then(|()| output.write_all(&batch))
                    }
                    Queued::Farewell => {
                        written.store(output.flush().is_ok(), Ordering::Relaxed);
                        Ok(())
                    }
                };
                if done.is_err() {
                    gone.store(true, Ordering::Relaxed);
                    return;
                }
            }
        });
        pipe
    }

    /// Queues a batch of frames, or gives it back.
    pub(super) fn offer(&self, batch: Vec<u8>) -> Result<(), Vec<u8>> {
        match self.queue.try_send(Queued::Batch(batch)) {
            Err(TrySendError::Full(Queued::Batch(batch))) => Err(batch),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Queues a message, waiting for room as long as somebody reads.
    pub(super) fn say(&self, message: &FromAgent) {
        self.put(Queued::Message(wire::said(message)));
    }

    /// Waits until everything said so far is written, at most `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        self.put(Queued::Farewell);
        let mut left = patience;
        while !self.written.load(Ordering::Relaxed) && !self.gone.load(Ordering::Relaxed) && !left.is_zero() {
            thread::sleep(NAP);
            left = left.saturating_sub(NAP);
        }
    }

    fn put(&self, mut queued: Queued) {
        while let Err(TrySendError::Full(back)) = self.queue.try_send(queued) {
            if self.gone.load(Ordering::Relaxed) {
                return;
            }
            queued = back;
            thread::sleep(NAP);
        }
    }
}
