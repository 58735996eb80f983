//! Classic pcap: one header, then records of 16 bytes and a frame. Both byte orders, micro- and nanoseconds, and
//! the records of Kuznetzov's modified format, eight bytes longer.

use crate::packet::{LinkType, Nanos, Timestamp};

use super::input::{DAMAGED, Input, LONGEST, Order};
use super::{CaptureError, Found, Interface};

/// How the records of one file are laid out.
pub(super) struct Pcap {
    order: Order,
    /// Nanoseconds in one unit of the fraction.
    unit: i64,
    /// Bytes before each frame.
    header: usize,
    link: LinkType,
}

impl Pcap {
    /// From the file's first four bytes; None when they are not of this format.
    pub(super) fn detect(magic: [u8; 4]) -> Option<Self> {
        let layout = |order, unit, header| Some(Self { order, unit, header, link: LinkType::Null });
        match magic {
            [0xa1, 0xb2, 0xc3, 0xd4] => layout(Order::Big, 1000, 16),
            [0xd4, 0xc3, 0xb2, 0xa1] => layout(Order::Little, 1000, 16),
            [0xa1, 0xb2, 0x3c, 0x4d] => layout(Order::Big, 1, 16),
            [0x4d, 0x3c, 0xb2, 0xa1] => layout(Order::Little, 1, 16),
            [0xa1, 0xb2, 0xcd, 0x34] => layout(Order::Big, 1000, 24),
            [0x34, 0xcd, 0xb2, 0xa1] => layout(Order::Little, 1000, 24),
            _ => None,
        }
    }

    /// Takes the file's header.
    pub(super) fn begin(&mut self, input: &mut Input) -> Result<Interface, CaptureError> {
        if !input.need(FILE_HEADER)? {
            let found = format!("the file ends after {} of 24 bytes of its header", input.window().len());
            return Err(input.nonsense(0, found, "capture anew: nothing was recorded"));
        }
        let bytes = input.window();
        let major = self.order.u16(bytes, 4);
        if major != 2 {
            let found = format!("version {major}.{} of the pcap format, not 2.x", self.order.u16(bytes, 6));
            return Err(input.nonsense(4, found, "convert it with `editcap -F pcapng`"));
        }
        // The upper half says how long a frame check sequence is.
        let number = self.order.u32(bytes, 20) & 0xffff;
        self.link = LinkType::from_number(u16::try_from(number).unwrap_or(u16::MAX));
        let snaplen = self.order.u32(bytes, 16);
        input.take(FILE_HEADER);
        Ok(Interface { name: None, description: None, link: self.link, snaplen, statistics: None })
    }

    /// The next record.
    #[inline]
    pub(super) fn step(&self, input: &mut Input) -> Result<Option<Found>, CaptureError> {
        if !input.need(self.header)? {
            return Ok(None);
        }
        let bytes = input.window();
        let Header { time, kept, wire_len } = self.read_header(bytes);
        if kept > LONGEST {
            return Err(input.nonsense(8, format!("a frame of {kept} bytes"), DAMAGED));
        }
        if !input.need(self.header + kept)? {
            return Ok(None);
        }
        let record = input.take(self.header + kept);
        Ok(Some(Found {
            interface: 0,
            time,
            wire_len,
            link: self.link,
            at: record.start + self.header..record.end,
        }))
    }

    #[inline]
    fn read_header(&self, bytes: &[u8]) -> Header {
        let seconds = i64::from(self.order.u32(bytes, 0));
        let fraction = i64::from(self.order.u32(bytes, 4));
        Header {
            time: Timestamp(seconds * SECOND + fraction * self.unit),
            kept: self.order.u32(bytes, 8) as usize,
            wire_len: self.order.u32(bytes, 12),
        }
    }

    /// The latest time in the last bytes of a file, where they end with a row of whole records that leaves no doubt: the
    /// first of them is sought, and each must lead to the next, up to the last byte.
    pub(super) fn latest_of(&self, tail: &[u8]) -> Option<Timestamp> {
        let mut left = MOST_TRIED;
        (0..tail.len().min(LONGEST_SOUGHT)).find_map(|start| self.row(&tail[start..], &mut left))
    }

    fn row(&self, mut bytes: &[u8], left: &mut usize) -> Option<Timestamp> {
        let (mut records, mut latest): (usize, Option<Timestamp>) = (0, None);
        while !bytes.is_empty() {
            let Header { time, kept, wire_len } = self.read_header(bytes.get(..self.header)?);
            let fraction = i64::from(self.order.u32(bytes, 4)) * self.unit;
            let near = latest.is_none_or(|latest| (time - latest).abs() < NEAR);
            if fraction >= SECOND || kept == 0 || kept > wire_len as usize || !near {
                return None;
            }
            *left = left.checked_sub(1)?;
            bytes = bytes.get(self.header + kept..)?;
            latest = latest.max(Some(time));
            records += 1;
        }
        latest.filter(|_| records >= ENOUGH)
    }
}

/// What stands before a frame.
struct Header {
    time: Timestamp,
    kept: usize,
    wire_len: u32,
}

const SECOND: i64 = 1_000_000_000;
/// A record begins within so many bytes: frames of segmentation offload are no longer.
const LONGEST_SOUGHT: usize = 128 * 1024;
/// Records in a row that no payload looks like.
const ENOUGH: usize = 64;
/// Steps from record to record in all: bytes may be made to look like the beginning of many rows.
const MOST_TRIED: usize = 1_000_000;
/// Records that follow each other are no further apart.
const NEAR: Nanos = Nanos(600 * SECOND);

const FILE_HEADER: usize = 24;
