//! The bytes of a capture: decompressed if need be, read in large pieces into one buffer that is used again and
//! again. A parser asks for as many bytes as it needs next, looks at them in place and takes them. It grows only
//! as bytes really arrive, so a nonsense length costs nothing.

use std::io::{self, BufReader, Cursor, Read};
use std::ops::Range;

use super::error::CaptureError;

/// A window that moves over the contents of one file.
pub(super) struct Input {
    bytes: Box<dyn Read + Send>,
    name: String,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Position of `start` in the contents.
    offset: u64,
    ended: bool,
    broken_off: bool,
    packed: bool,
}

impl Input {
    /// Over `bytes`, decompressed when they begin like gzip or zstd.
    pub(super) fn open(bytes: Box<dyn Read + Send>, name: &str) -> Result<Self, CaptureError> {
        let mut plain = Self::over(bytes, name);
        plain.need(4)?;
        let packed = match plain.window() {
            [0x1f, 0x8b, ..] => Packed::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packed::Zstd,
            _ => return Ok(plain),
        };
        let first = Cursor::new(plain.window().to_vec());
        let rest = BufReader::with_capacity(COMPRESSED, first.chain(plain.bytes));
        let unpacked: Box<dyn Read + Send> = match packed {
            Packed::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(rest)),
            Packed::Zstd => Box::new(zstd_of(rest).map_err(|source| CaptureError::Read {
                file: name.to_owned(),
                offset: 0,
                source,
            })?),
        };
        Ok(Self { packed: true, ..Self::over(unpacked, name) })
    }

    fn over(bytes: Box<dyn Read + Send>, name: &str) -> Self {
        Self {
            bytes,
            name: name.to_owned(),
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            offset: 0,
            ended: false,
            broken_off: false,
            packed: false,
        }
    }

    /// Whether `count` bytes can be had; fewer are left only at the end of the file.
    #[inline]
    pub(super) fn need(&mut self, count: usize) -> Result<bool, CaptureError> {
        if self.end - self.start >= count {
            return Ok(true);
        }
        self.fill(count)
    }

    #[cold]
    fn fill(&mut self, count: usize) -> Result<bool, CaptureError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < count && !self.ended {
            if self.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            match self.bytes.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(more) => self.end += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.ended = true;
                    self.broken_off = true;
                }
                Err(source) => {
                    let source = explained(source);
                    let offset = self.offset + self.end as u64;
                    return Err(CaptureError::Read { file: self.name.clone(), offset, source });
                }
            }
        }
        Ok(self.end >= count)
    }

    /// All bytes at hand, beginning with the next one.
    #[inline]
    pub(super) fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Moves on by `count` bytes that were asked for; gives where they lie until more are asked for.
    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Range<usize> {
        let from = self.start;
        self.start += count;
        self.offset += count as u64;
        from..self.start
    }

    /// Bytes taken a moment ago.
    #[inline]
    pub(super) fn taken(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// As the caller named the file.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How many bytes of the file were taken; None where its bytes are not the contents.
    pub(super) fn position(&self) -> Option<u64> {
        (!self.packed).then_some(self.offset)
    }

    /// Once too few bytes are left: why the file does not end cleanly, if it does not.
    pub(super) fn cut(&self) -> Option<String> {
        let left = self.end - self.start;
        let Self { offset, broken_off, .. } = self;
        match (left, broken_off) {
            (0, false) => None,
            (0, true) => {
                Some(format!("the compressed stream breaks off after byte {offset} of its contents"))
            }
            _ => Some(format!("the file ends {left} bytes into the record that begins at byte {offset}")),
        }
    }

    /// The error for bytes that make no sense, `ahead` bytes after the next one.
    pub(super) fn nonsense(&self, ahead: usize, found: String, remedy: &'static str) -> CaptureError {
        CaptureError::Nonsense { file: self.name.clone(), offset: self.offset + ahead as u64, found, remedy }
    }
}

/// Frames with a larger window are refused: each file that is open holds one, and a path has many files.
fn zstd_of<R: io::BufRead>(bytes: R) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(decoder)
}

/// What the decompressor said, with what to do where it can be done.
fn explained(source: io::Error) -> io::Error {
    let said = source.to_string();
    if !said.contains("too much memory") {
        return source;
    }
    let window = 1_u32 << (WINDOW_LOG - 20);
    io::Error::other(format!(
        "{said}: its window is larger than {window} MiB; unpack it first, zstd -d --long=31"
    ))
}

enum Packed {
    Gzip,
    Zstd,
}

/// Plain bytes held at once, unless a record is longer. What fits a core's own cache is read fastest.
const BUFFER: usize = 128 * 1024;

/// 64 MiB: all levels but the last, and `--long=26`.
const WINDOW_LOG: u32 = 26;

/// Compressed bytes held at once.
const COMPRESSED: usize = 256 * 1024;

/// Longest record that is believed.
pub(super) const LONGEST: usize = 16 * 1024 * 1024;

/// What to do about a file whose middle is damaged.
pub(super) const DAMAGED: &str = "the file is damaged: copy it anew, or cut it before this byte with editcap";

/// How numbers lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
}

impl Order {
    /// The number at `at`; the caller has asked for those bytes, a missing one reads as 0.
    #[inline]
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let two = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        match self {
            Self::Big => u16::from_be_bytes(two),
            Self::Little => u16::from_le_bytes(two),
        }
    }

    /// Likewise.
    #[inline]
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let four = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        match self {
            Self::Big => u32::from_be_bytes(four),
            Self::Little => u32::from_le_bytes(four),
        }
    }

    /// Likewise.
    #[inline]
    pub(super) fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let eight = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        match self {
            Self::Big => u64::from_be_bytes(eight),
            Self::Little => u64::from_le_bytes(eight),
        }
    }

    /// Two halves of a pcapng time, the upper one first in either order.
    #[inline]
    pub(super) fn halves(self, bytes: &[u8], at: usize) -> u64 {
        u64::from(self.u32(bytes, at)) << 32 | u64::from(self.u32(bytes, at + 4))
    }
}
