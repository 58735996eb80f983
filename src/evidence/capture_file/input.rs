//! Bytes from a file in large steps, uncompressed, with their offset for messages.

use std::io::Read;
use std::ops::Range;

use super::{CaptureError, LONGEST};

/// A buffer over a reader.
pub(super) struct Input {
    from: Box<dyn Read + Send>,
    file: String,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset of `buffer[0]` in the uncompressed bytes.
    base: u64,
    ended: bool,
    truncated: Option<String>,
}

const STEP: usize = 256 << 10;

impl Input {
    pub(super) fn new(from: Box<dyn Read + Send>, name: &str) -> Result<Self, CaptureError> {
        let mut input = Self::plain(from, name);
        for _ in 0..2 {
            let magic = input.peek(4)?;
            let gzip = magic.starts_with(&[0x1f, 0x8b]);
            let zstd = magic == [0x28, 0xb5, 0x2f, 0xfd];
            if !gzip && !zstd {
                break;
            }
            let shown = std::io::Cursor::new(input.buffer[input.start..input.end].to_vec());
            let whole = shown.chain(input.from);
            let inner: Box<dyn Read + Send> = if gzip {
                Box::new(flate2::read::MultiGzDecoder::new(whole))
            } else {
                let decoder = zstd::Decoder::new(whole);
                Box::new(decoder.map_err(|source| CaptureError::Io { file: name.to_owned(), source })?)
            };
            input = Self::plain(inner, name);
        }
        Ok(input)
    }

    fn plain(from: Box<dyn Read + Send>, name: &str) -> Self {
        Self {
            from,
            file: name.to_owned(),
            buffer: vec![0; 2 * STEP],
            start: 0,
            end: 0,
            base: 0,
            ended: false,
            truncated: None,
        }
    }

    /// The next `len` bytes, or as many as there are.
    pub(super) fn peek(&mut self, len: usize) -> Result<&[u8], CaptureError> {
        if self.end - self.start < len {
            self.fill(len)?;
        }
        let shown = len.min(self.end - self.start);
        Ok(&self.buffer[self.start..self.start + shown])
    }

    /// Takes `len` bytes, lent until the next call; None when the file ends before, which is noted unless it ends
    /// right here.
    pub(super) fn take(&mut self, len: usize) -> Result<Option<Range<usize>>, CaptureError> {
        if self.end - self.start < len {
            self.fill(len)?;
        }
        let had = self.end - self.start;
        if had < len {
            if had > 0 {
                self.truncated = Some(format!(
                    "{} ends in the middle of a record at byte {}: {had} of {len} bytes are there",
                    self.file,
                    self.offset()
                ));
                self.start = self.end;
            }
            return Ok(None);
        }
        let taken = self.start..self.start + len;
        self.start += len;
        Ok(Some(taken))
    }

    pub(super) fn lent(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    pub(super) fn truncated(&self) -> Option<&str> {
        self.truncated.as_deref()
    }

    /// Where the next byte stands.
    pub(super) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    pub(super) fn damaged(&self, what: String) -> CaptureError {
        CaptureError::Damaged { file: self.file.clone(), offset: self.offset(), what }
    }

    /// Reads until `len` bytes are there or the file ends.
    fn fill(&mut self, len: usize) -> Result<(), CaptureError> {
        if len > LONGEST {
            return Err(self.damaged(format!("a record of {len} bytes")));
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < len {
            self.buffer.resize(len.next_power_of_two(), 0);
        }
        while self.end < len && !self.ended {
            match self.from.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(more) => self.end += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A compressed file that was cut off gives what came before.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    self.truncated = Some(format!("{} ends in the middle of its compressed data", self.file));
                    self.ended = true;
                }
                Err(source) => return Err(CaptureError::Io { file: self.file.clone(), source }),
            }
        }
        Ok(())
    }
}
