//! The word to end: said once, seen by all who look, and felt at once by all who wait for something else in `poll`. Whoever
//! only looked would have to wake many times a second for it.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Not said at first.
#[derive(Debug)]
pub(crate) struct Stop {
    said: AtomicBool,
    /// Nothing comes through: its other end is closed when the word is said.
    felt: PipeReader,
    open: Mutex<Option<PipeWriter>>,
}

impl Stop {
    /// Takes two file descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        let (felt, open) = io::pipe()?;
        Ok(Self { said: AtomicBool::new(false), felt, open: Mutex::new(Some(open)) })
    }

    /// Says it.
    pub(crate) fn say(&self) {
        self.said.store(true, Ordering::Relaxed);
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether it was said.
    pub(crate) fn is_said(&self) -> bool {
        self.said.load(Ordering::Relaxed)
    }

    /// Sleeps that long, or until the word is said.
    pub(crate) fn wait(&self, at_most: Duration) {
        self.wait_or(None, at_most);
    }

    /// Sleeps until there is something to read, at most that long; once the word is said not any longer, and after that as if
    /// there were no such word.
    pub(crate) fn wait_or_read(&self, source: &impl AsFd, at_most: Duration) {
        self.wait_or(Some(source.as_fd()), at_most);
    }

    fn wait_or(&self, source: Option<BorrowedFd<'_>>, at_most: Duration) {
        // A closed other end is told whatever is asked for.
        let stop =
            (source.is_none() || !self.is_said()).then(|| PollFd::new(self.felt.as_fd(), PollFlags::empty()));
        let source = source.map(|source| PollFd::new(source, PollFlags::POLLIN));
        let mut waited: Vec<PollFd<'_>> = stop.into_iter().chain(source).collect();
        // Rounded up: half a millisecond must not become no sleep at all.
        let longest = at_most.saturating_add(Duration::from_micros(999));
        // What is wrong with a source shows when it is read; a signal only makes the wait shorter.
        let _ = poll(&mut waited, PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::gather::clock::instant;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(30);

    #[test]
    fn the_word_ends_a_wait_and_what_comes_after_it_is_waited_for_again() {
        let stop = Arc::new(Stop::new().unwrap());
        let (source, mut feed) = io::pipe().unwrap();
        let begun = instant();
        stop.wait(SHORT);
        stop.wait_or_read(&source, SHORT);
        assert!(begun.elapsed() >= 2 * SHORT);
        let other = Arc::clone(&stop);
        let waiting = thread::spawn(move || other.wait(LONG));
        thread::sleep(SHORT);
        assert!(!waiting.is_finished());
        stop.say();
        waiting.join().unwrap();
        assert!(stop.is_said());
        let said = instant();
        stop.wait_or_read(&source, SHORT);
        assert!(said.elapsed() >= SHORT, "the word is old");
        feed.write_all(b"x").unwrap();
        stop.wait_or_read(&source, LONG);
        assert!(begun.elapsed() < LONG);
    }
}
