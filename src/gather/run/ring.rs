//! The last part of a capture, on disk: frames go into segments of about a second, and the oldest segments go when
//! they are older than what is to be kept. Memory and disk stay bounded however long it runs. Knows frames by their
//! place and by the common clock, and nothing of their contents.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::gather::capture::Counts;
use crate::gather::capture::batch::{self, Framed};

/// Segments of frames, the oldest first; the last is being written.
#[derive(Debug)]
pub(super) struct Ring {
    folder: PathBuf,
    /// Nanoseconds.
    keep: i64,
    /// At most so many bytes.
    most: u64,
    segments: VecDeque<Segment>,
    out: Option<BufWriter<File>>,
    scratch: Vec<u8>,
    begun: u64,
    /// The latest frame that is gone.
    gone: Option<i64>,
    /// Frames went for want of room that were young enough to be kept.
    pub(super) short: bool,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    /// Times of its first and its latest frame.
    from: i64,
    until: i64,
    bytes: u64,
    /// How the points stood when it began.
    counts: Vec<Counts>,
}

/// A loss is known some time after it, and capturing goes on for a moment then: so much more than asked for is kept.
const SLACK: Duration = Duration::from_secs(15);
/// A segment is this long.
const STEP: i64 = 1_000_000_000;
/// And at most this large.
const LARGE: u64 = 64 << 20;
/// All segments together are at most this large.
const MOST: u64 = 4 << 30;
/// Bytes written at once.
const BUFFER: usize = 256 << 10;

impl Ring {
    /// Keeps that long in `folder`.
    pub(super) fn new(folder: &Path, keep: Duration) -> Self {
        Self {
            folder: folder.to_owned(),
            keep: i64::try_from(keep.saturating_add(SLACK).as_nanos()).unwrap_or(i64::MAX),
            most: MOST,
            segments: VecDeque::new(),
            out: None,
            scratch: Vec::new(),
            begun: 0,
            gone: None,
            short: false,
        }
    }

    /// Appends a frame; `time` is by the common clock and `counts` is how the points stand now.
    pub(super) fn put(&mut self, time: i64, frame: &Framed<'_>, counts: &[Counts]) -> io::Result<()> {
        let full = |last: &Segment| time.saturating_sub(last.from) >= STEP || last.bytes >= LARGE;
        if self.out.is_none() || self.segments.back().is_none_or(full) {
            self.begin(time, counts)?;
        }
        self.scratch.clear();
        batch::put(&mut self.scratch, frame.point, frame.time, frame.wire_len, frame.bytes);
        if let (Some(out), Some(last)) = (&mut self.out, self.segments.back_mut()) {
            out.write_all(&self.scratch)?;
            last.until = last.until.max(time);
            last.bytes += self.scratch.len() as u64;
        }
        Ok(())
    }

    /// The latest frame that is not there any more.
    pub(super) fn gone(&self) -> Option<i64> {
        self.gone
    }

    /// How the points stood when the segment of the first frame at or after `time` began.
    pub(super) fn counts(&self, time: i64) -> &[Counts] {
        let first = self.segments.iter().find(|segment| segment.until >= time);
        first.map(|segment| segment.counts.as_slice()).unwrap_or_default()
    }

    /// Gives all frames, the oldest first, and removes them.
    pub(super) fn drain(mut self, mut give: impl FnMut(&Framed<'_>) -> io::Result<()>) -> io::Result<()> {
        self.flush()?;
        for segment in &self.segments {
            let bytes = fs::read(&segment.path)?;
            fs::remove_file(&segment.path)?;
            let mut rest = bytes.as_slice();
            while let Some(frame) = batch::take(&mut rest) {
                give(&frame)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, time: i64, counts: &[Counts]) -> io::Result<()> {
        self.flush()?;
        self.forget(time)?;
        let path = self.folder.join(format!("segment-{}", self.begun));
        self.begun += 1;
        self.out = Some(BufWriter::with_capacity(BUFFER, File::create(&path)?));
        self.segments.push_back(Segment { path, from: time, until: time, bytes: 0, counts: counts.to_vec() });
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.take().map_or(Ok(()), |mut out| out.flush())
    }

    /// Lets go of what is too old, or too much.
    fn forget(&mut self, now: i64) -> io::Result<()> {
        let mut bytes: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        while let Some(first) = self.segments.front() {
            let old = first.until < now.saturating_sub(self.keep);
            if !old && bytes <= self.most {
                break;
            }
            self.short |= !old;
            fs::remove_file(&first.path)?;
            bytes -= first.bytes;
            self.gone = self.gone.max(Some(first.until));
            self.segments.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn put(ring: &mut Ring, time: i64) {
        let frame = Framed { point: 1, time: time + 7, wire_len: 900, bytes: &[5; 100] };
        let received = u64::try_from(time / SECOND).unwrap();
        ring.put(time, &frame, &[Counts { received, ..Counts::default() }]).unwrap();
    }

    fn on_disk(folder: &Path) -> u64 {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn keeps_the_last_part_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = Ring::new(folder.path(), Duration::from_secs(5));
        let mut most = 0;
        for tenth in 0..36_000 {
            put(&mut ring, tenth * SECOND / 10);
            most = most.max(on_disk(folder.path()));
        }
        // An hour of ten frames a second: 5 s and the slack of 15 s, and a second of each end.
        assert!(most <= 22 * 10 * 118, "{most} bytes");
        let gone = ring.gone().unwrap();
        let now = 3_599_900_000_000;
        assert!((now - 22 * SECOND..now - 20 * SECOND).contains(&gone), "{gone}");
        assert!(!ring.short);
        assert_eq!(ring.counts(now - 5 * SECOND)[0].received, 3594);
        let mut times = Vec::new();
        ring.drain(|frame| {
            assert_eq!((frame.point, frame.wire_len, frame.bytes), (1, 900, &[5; 100][..]));
            times.push(frame.time - 7);
            Ok(())
        })
        .unwrap();
        assert!(times.is_sorted_by(|one, next| next - one == SECOND / 10), "all of them, in order");
        assert_eq!(times.first().copied(), Some(gone + SECOND / 10));
        assert_eq!(times.last().copied(), Some(now));
        assert_eq!(on_disk(folder.path()), 0, "and nothing is left");
    }

    #[test]
    fn keeps_less_rather_than_fill_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = Ring::new(folder.path(), Duration::from_hours(1));
        ring.most = 10_000;
        for tenth in 0..1_000 {
            put(&mut ring, tenth * SECOND / 10);
        }
        assert!(ring.short);
        let mut frames = 0;
        ring.drain(|_| {
            frames += 1;
            Ok(())
        })
        .unwrap();
        assert!((80..=110).contains(&frames), "{frames} of 118 bytes");
    }

    #[test]
    fn a_silence_keeps_nothing_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = Ring::new(folder.path(), Duration::from_secs(5));
        put(&mut ring, 0);
        put(&mut ring, 1000 * SECOND);
        assert_eq!(ring.gone(), Some(0));
        assert_eq!(ring.segments.len(), 1);
    }
}
