//! pcapng (IETF draft-ietf-opsawg-pcapng): blocks of interfaces, packets and statistics in sections.

use super::input::Input;
use super::{CaptureError, Found, Interface, LONGEST, Statistics};
use crate::packet::{LinkType, Timestamp};

/// The type of a Section Header Block, the same in both byte orders.
pub(super) const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

/// The section being read.
#[derive(Default)]
pub(super) struct Section {
    big_endian: bool,
    /// The file's interfaces before this section's.
    before: usize,
    clocks: Vec<Clock>,
}

/// How an interface counts time.
#[derive(Clone, Copy)]
struct Clock {
    /// Units a second.
    rate: u128,
    /// Seconds to add.
    offset: i64,
}

impl Clock {
    fn time(self, high: u32, low: u32) -> Timestamp {
        let units = u128::from(high) << 32 | u128::from(low);
        let nanos = if self.rate == 1_000_000_000 { units } else { units * 1_000_000_000 / self.rate };
        let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
        Timestamp(nanos.saturating_add(self.offset.saturating_mul(1_000_000_000)))
    }
}

/// The kind, and the length of the whole block, of the block that comes next; None at the end.
fn peek(input: &mut Input, section: &mut Section) -> Result<Option<(u32, usize)>, CaptureError> {
    let shown = input.peek(12)?;
    if shown.len() < 12 {
        return input.take(12).map(|_| None);
    }
    if shown[..4] == SECTION {
        section.big_endian = match [shown[8], shown[9], shown[10], shown[11]] {
            [0x1a, 0x2b, 0x3c, 0x4d] => true,
            [0x4d, 0x3c, 0x2b, 0x1a] => false,
            _ => return Err(input.damaged("a section whose byte order cannot be told".to_owned())),
        };
    }
    let kind = section.u32(shown, 0);
    let len = section.u32(shown, 4) as usize;
    if len < 12 || len % 4 != 0 || len > LONGEST {
        return Err(input.damaged(format!("a block (type {kind:#x}) of {len} bytes")));
    }
    Ok(Some((kind, len)))
}

/// Reads the blocks before the first packet.
pub(super) fn skip_to_packet(
    input: &mut Input,
    section: &mut Section,
    interfaces: &mut Vec<Interface>,
) -> Result<(), CaptureError> {
    while let Some((kind, len)) = peek(input, section)? {
        if [PACKET, SIMPLE_PACKET, OLD_PACKET].contains(&kind) {
            break;
        }
        let Some(taken) = input.take(len)? else { break };
        section.block(kind, input.lent(taken), interfaces);
    }
    Ok(())
}

pub(super) fn next(
    input: &mut Input,
    section: &mut Section,
    interfaces: &mut Vec<Interface>,
) -> Result<Option<Found>, CaptureError> {
    while let Some((kind, len)) = peek(input, section)? {
        let Some(taken) = input.take(len)? else { return Ok(None) };
        let start = taken.start;
        let block = input.lent(taken);
        let found = match kind {
            PACKET | OLD_PACKET => section.packet(block, kind),
            SIMPLE_PACKET => section.simple(block, interfaces),
            _ => {
                section.block(kind, block, interfaces);
                continue;
            }
        };
        let found = found.filter(|found| found.interface < interfaces.len());
        let mut found =
            found.ok_or_else(|| input.damaged("a packet block that contradicts itself".to_owned()))?;
        found.bytes = found.bytes.start + start..found.bytes.end + start;
        return Ok(Some(found));
    }
    Ok(None)
}

impl Section {
    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let four = <[u8; 4]>::try_from(&bytes[at..at + 4]).expect("four bytes");
        if self.big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    }

    fn u16(&self, bytes: &[u8], at: usize) -> u16 {
        let two = [bytes[at], bytes[at + 1]];
        if self.big_endian { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) }
    }

    /// A block that is no packet.
    fn block(&mut self, kind: u32, block: &[u8], interfaces: &mut Vec<Interface>) {
        match kind {
            INTERFACE if block.len() >= 20 => self.interface(block, interfaces),
            STATISTICS if block.len() >= 24 => self.statistics(block, interfaces),
            _ if block[..4] == SECTION => {
                self.before = interfaces.len();
                self.clocks.clear();
            }
            _ => {}
        }
    }

    fn interface(&mut self, block: &[u8], interfaces: &mut Vec<Interface>) {
        let mut name = None;
        let mut clock = Clock { rate: 1_000_000, offset: 0 };
        for (code, value) in self.options(&block[16..block.len() - 4]) {
            match (code, value.len()) {
                (2, _) => name = Some(String::from_utf8_lossy(value).into_owned()),
                (9, 1..) => {
                    let power = u32::from(value[0] & 0x7f);
                    let rate = if value[0] & 0x80 == 0 {
                        10_u128.checked_pow(power)
                    } else {
                        1_u128.checked_shl(power)
                    };
                    clock.rate = rate.filter(|rate| (1..=1 << 80).contains(rate)).unwrap_or(clock.rate);
                }
                (14, 8) => {
                    let (first, second) = (u64::from(self.u32(value, 0)), u64::from(self.u32(value, 4)));
                    let seconds = if self.big_endian { first << 32 | second } else { second << 32 | first };
                    clock.offset = seconds.cast_signed();
                }
                _ => {}
            }
        }
        self.clocks.push(clock);
        interfaces.push(Interface {
            name,
            link: LinkType::from_number(self.u16(block, 8)),
            snaplen: self.u32(block, 12),
            statistics: None,
        });
    }

    fn statistics(&self, block: &[u8], interfaces: &mut [Interface]) {
        let index = self.u32(block, 8) as usize;
        let (Some(interface), Some(clock)) =
            (interfaces.get_mut(self.before + index), self.clocks.get(index))
        else {
            return;
        };
        let mut statistics = Statistics::default();
        for (code, value) in self.options(&block[20..block.len() - 4]) {
            if value.len() < 8 {
                continue;
            }
            let (first, second) = (self.u32(value, 0), self.u32(value, 4));
            // Stamps are two halves, high first; counts are one number in the section's order.
            let (high, low) = if self.big_endian { (first, second) } else { (second, first) };
            let count = u64::from(high) << 32 | u64::from(low);
            match code {
                2 => statistics.start = Some(clock.time(first, second)),
                3 => statistics.end = Some(clock.time(first, second)),
                4 => statistics.received = Some(count),
                5 => statistics.dropped = Some(count),
                _ => {}
            }
        }
        interface.statistics = Some(statistics);
    }

    fn options<'b>(&self, mut rest: &'b [u8]) -> Vec<(u16, &'b [u8])> {
        let mut all = Vec::new();
        while rest.len() >= 4 {
            let (code, len) = (self.u16(rest, 0), usize::from(self.u16(rest, 2)));
            let Some(value) = rest.get(4..4 + len) else { break };
            if code == 0 {
                break;
            }
            all.push((code, value));
            rest = rest.get(4 + len.next_multiple_of(4)..).unwrap_or(&[]);
        }
        all
    }

    fn packet(&self, block: &[u8], kind: u32) -> Option<Found> {
        if block.len() < 32 {
            return None;
        }
        let index = if kind == PACKET { self.u32(block, 8) } else { u32::from(self.u16(block, 8)) } as usize;
        let kept = self.u32(block, 20) as usize;
        let clock = self.clocks.get(index)?;
        (28 + kept <= block.len() - 4).then(|| Found {
            interface: self.before + index,
            time: clock.time(self.u32(block, 12), self.u32(block, 16)),
            wire_len: self.u32(block, 24).max(u32::try_from(kept).unwrap_or(u32::MAX)),
            bytes: 28..28 + kept,
        })
    }

    fn simple(&self, block: &[u8], interfaces: &[Interface]) -> Option<Found> {
        let wire_len = self.u32(block, 8);
        let snaplen = interfaces.get(self.before)?.snaplen;
        let limit = if snaplen == 0 { u32::MAX } else { snaplen };
        let kept = wire_len.min(limit).min(u32::try_from(block.len().checked_sub(16)?).ok()?);
        Some(Found { interface: self.before, time: Timestamp(0), wire_len, bytes: 12..12 + kept as usize })
    }
}
