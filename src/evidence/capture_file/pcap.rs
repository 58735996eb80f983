//! Classic pcap: one header, then records of 16 bytes and a frame. Both byte orders, micro- and nanoseconds, and
//! the records of Kuznetzov's modified format, eight bytes longer.

use crate::packet::{LinkType, Timestamp};

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
        let kept = self.order.u32(bytes, 8) as usize;
        if kept > LONGEST {
            return Err(input.nonsense(8, format!("a frame of {kept} bytes"), DAMAGED));
        }
        let seconds = i64::from(self.order.u32(bytes, 0));
        let fraction = i64::from(self.order.u32(bytes, 4));
        let wire_len = self.order.u32(bytes, 12);
        if !input.need(self.header + kept)? {
            return Ok(None);
        }
        let record = input.take(self.header + kept);
        Ok(Some(Found {
            interface: 0,
            time: Timestamp(seconds * 1_000_000_000 + fraction * self.unit),
            wire_len,
            link: self.link,
            at: record.start + self.header..record.end,
        }))
    }
}

const FILE_HEADER: usize = 24;
