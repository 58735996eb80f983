//! pcapng: blocks that say their own length. Sections may differ in byte order; interfaces are counted through
//! over all of them, so an index means one interface of the whole file.

use crate::packet::{LinkType, Timestamp};

use super::input::{DAMAGED, Input, LONGEST, Order};
use super::{CaptureError, Found, Interface, Statistics};

/// Where in the file's structure reading stands.
pub(super) struct PcapNg {
    order: Order,
    /// Index of this section's first interface.
    first: usize,
    clocks: Vec<Clock>,
    /// Bytes of the interfaces' names and descriptions.
    named: usize,
}

impl PcapNg {
    /// Before the first section.
    pub(super) fn new() -> Self {
        Self { order: Order::Little, first: 0, clocks: Vec::new(), named: 0 }
    }

    /// Takes everything before the first frame, so that the interfaces are known from the start.
    pub(super) fn begin(
        &mut self,
        input: &mut Input,
        interfaces: &mut Vec<Interface>,
    ) -> Result<(), CaptureError> {
        if !self.section_is_whole(input)? {
            let found = format!("the file ends {} bytes into its section header", input.window().len());
            return Err(input.nonsense(0, found, "capture anew: nothing was recorded"));
        }
        while let Some(block) = self.block(input)? {
            if matches!(block.kind, ENHANCED | SIMPLE | OBSOLETE) {
                break;
            }
            self.enter(&block, input, interfaces)?;
            input.take(block.length);
        }
        Ok(())
    }

    /// The next frame; other blocks are noted on the way.
    pub(super) fn step(
        &mut self,
        input: &mut Input,
        interfaces: &mut Vec<Interface>,
    ) -> Result<Option<Found>, CaptureError> {
        while let Some(block) = self.block(input)? {
            let frame = match block.kind {
                ENHANCED => Some(self.enhanced(&block, input, interfaces)?),
                OBSOLETE => Some(self.obsolete(&block, input, interfaces)?),
                SIMPLE => Some(self.simple(&block, input, interfaces)?),
                _ => {
                    self.enter(&block, input, interfaces)?;
                    None
                }
            };
            let whole = input.take(block.length);
            if let Some(mut found) = frame {
                found.at = found.at.start + whole.start..found.at.end + whole.start;
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn section_is_whole(&mut self, input: &mut Input) -> Result<bool, CaptureError> {
        Ok(self.block(input)?.is_some())
    }

    /// The next block, whole in the input's window and its length believable; None at the end.
    #[inline]
    fn block(&mut self, input: &mut Input) -> Result<Option<Block>, CaptureError> {
        if !input.need(12)? {
            return Ok(None);
        }
        let bytes = input.window();
        if bytes[..4] == SECTION_BYTES {
            self.order = match bytes[8..12] {
                [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
                [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
                _ => {
                    let found = format!("byte-order mark {:02x?}, not 1a2b3c4d either way", &bytes[8..12]);
                    return Err(input.nonsense(8, found, DAMAGED));
                }
            };
        }
        let kind = self.order.u32(bytes, 0);
        let length = self.order.u32(bytes, 4) as usize;
        if length < least(kind) || !length.is_multiple_of(4) || length > LONGEST {
            let found = format!("a block of type {kind:#x} and {length} bytes");
            return Err(input.nonsense(4, found, DAMAGED));
        }
        if !input.need(length)? {
            return Ok(None);
        }
        let again = self.order.u32(input.window(), length - 4) as usize;
        if again != length {
            let found = format!("a block of {length} bytes that calls itself {again} bytes at its end");
            return Err(input.nonsense(length - 4, found, DAMAGED));
        }
        Ok(Some(Block { kind, length }))
    }

    /// Notes a block that is not a frame.
    fn enter(
        &mut self,
        block: &Block,
        input: &Input,
        interfaces: &mut Vec<Interface>,
    ) -> Result<(), CaptureError> {
        let body = &input.window()[8..block.length - 4];
        match block.kind {
            SECTION => {
                let major = self.order.u16(body, 4);
                if major != 1 {
                    let found = format!("version {major} of the pcapng format, not 1");
                    return Err(input.nonsense(12, found, "convert it with `editcap -F pcapng`"));
                }
                self.first = interfaces.len();
            }
            INTERFACE => {
                if interfaces.len() >= MOST_INTERFACES {
                    let found = format!("more than {MOST_INTERFACES} interfaces");
                    return Err(input.nonsense(0, found, DAMAGED));
                }
                let (interface, clock) = self.interface(body);
                let words = [&interface.name, &interface.description];
                self.named += words.into_iter().flatten().map(String::len).sum::<usize>();
                if self.named > MOST_NAMED {
                    let found = format!("interfaces whose names take more than {MOST_NAMED} bytes");
                    return Err(input.nonsense(0, found, DAMAGED));
                }
                interfaces.push(interface);
                self.clocks.push(clock);
            }
            STATISTICS => {
                let index = self.known(self.order.u32(body, 0), input, interfaces)?;
                interfaces[index].statistics = Some(self.statistics(body, &self.clocks[index]));
            }
            _ => {}
        }
        Ok(())
    }

    fn interface(&self, body: &[u8]) -> (Interface, Clock) {
        let mut interface = Interface {
            name: None,
            description: None,
            link: LinkType::from_number(self.order.u16(body, 0)),
            snaplen: self.order.u32(body, 4),
            statistics: None,
        };
        let mut clock = Clock { unit: Unit::Nanos(1_000), offset: 0 };
        self.options(&body[8..], |code, value| match (code, value) {
            (2, text) => interface.name = words(text),
            (3, text) => interface.description = words(text),
            (9, &[resolution, ..]) => clock.unit = Unit::from_option(resolution),
            (14, seconds) if seconds.len() == 8 => {
                clock.offset = self.order.u64(seconds, 0).cast_signed();
            }
            _ => {}
        });
        (interface, clock)
    }

    fn statistics(&self, body: &[u8], clock: &Clock) -> Statistics {
        let mut statistics = Statistics::default();
        let mut by_interface = None;
        let mut by_system = None;
        self.options(&body[12..], |code, value| match (code, value.len()) {
            (2, 8) => statistics.start = Some(clock.time_of_count(self.order.halves(value, 0))),
            (3, 8) => statistics.end = Some(clock.time_of_count(self.order.halves(value, 0))),
            (4, 8) => statistics.received = Some(self.order.u64(value, 0)),
            (5, 8) => by_interface = Some(self.order.u64(value, 0)),
            (7, 8) => by_system = Some(self.order.u64(value, 0)),
            _ => {}
        });
        statistics.dropped = match (by_interface, by_system) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
        };
        statistics
    }

    /// Calls `with` for each option; stops quietly at one that does not fit.
    fn options(&self, mut rest: &[u8], mut with: impl FnMut(u16, &[u8])) {
        while rest.len() >= 4 {
            let code = self.order.u16(rest, 0);
            let length = usize::from(self.order.u16(rest, 2));
            let Some(value) = rest.get(4..4 + length) else { return };
            if code == 0 {
                return;
            }
            with(code, value);
            rest = rest.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    #[inline]
    fn enhanced(
        &self,
        block: &Block,
        input: &Input,
        interfaces: &[Interface],
    ) -> Result<Found, CaptureError> {
        let bytes = input.window();
        let interface = self.known(self.order.u32(bytes, 8), input, interfaces)?;
        self.timed(block, input, interface, interfaces)
    }

    fn obsolete(
        &self,
        block: &Block,
        input: &Input,
        interfaces: &[Interface],
    ) -> Result<Found, CaptureError> {
        let number = u32::from(self.order.u16(input.window(), 8));
        let interface = self.known(number, input, interfaces)?;
        self.timed(block, input, interface, interfaces)
    }

    /// What the enhanced and the obsolete packet block share: time and lengths from byte 12, the frame from 28.
    #[inline]
    fn timed(
        &self,
        block: &Block,
        input: &Input,
        interface: usize,
        interfaces: &[Interface],
    ) -> Result<Found, CaptureError> {
        let bytes = input.window();
        let kept = self.order.u32(bytes, 20) as usize;
        if kept > block.length - 32 {
            let found = format!("a frame of {kept} bytes in a block of {}", block.length);
            return Err(input.nonsense(20, found, DAMAGED));
        }
        Ok(Found {
            interface,
            time: self.clocks[interface].time(self.order.halves(bytes, 12)),
            wire_len: self.order.u32(bytes, 24),
            link: interfaces[interface].link,
            at: 28..28 + kept,
        })
    }

    /// A simple packet block has neither time nor interface: the section's first one, at 0.
    fn simple(&self, block: &Block, input: &Input, interfaces: &[Interface]) -> Result<Found, CaptureError> {
        let interface = self.known(0, input, interfaces)?;
        let Interface { link, snaplen, .. } = interfaces[interface];
        let wire_len = self.order.u32(input.window(), 8);
        let limit = if snaplen == 0 { wire_len } else { snaplen.min(wire_len) };
        let kept = (block.length - 16).min(limit as usize);
        Ok(Found { interface, time: Timestamp(0), wire_len, link, at: 12..12 + kept })
    }

    /// The index in the whole file of this section's interface `number`.
    #[inline]
    fn known(&self, number: u32, input: &Input, interfaces: &[Interface]) -> Result<usize, CaptureError> {
        let index = self.first.saturating_add(number as usize);
        if index < interfaces.len() {
            return Ok(index);
        }
        let here = interfaces.len() - self.first;
        Err(input.nonsense(8, format!("interface {number} of a section that describes {here}"), DAMAGED))
    }
}

struct Block {
    kind: u32,
    /// Of the whole block.
    length: usize,
}

/// Shortest length of a block of this type.
#[inline]
fn least(kind: u32) -> usize {
    match kind {
        SECTION => 28,
        INTERFACE => 20,
        ENHANCED | OBSOLETE => 32,
        SIMPLE => 16,
        STATISTICS => 24,
        _ => 12,
    }
}

fn words(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_end_matches('\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// How the times of one interface are to be read.
struct Clock {
    unit: Unit,
    /// Seconds to add.
    offset: i64,
}

impl Clock {
    #[inline]
    /// When counting began or ended. dumpcap (4.0, measured) gives these in microseconds whatever the interface's unit is; a
    /// time long before pcapng, which microseconds make one of our days, is such a one.
    fn time_of_count(&self, ticks: u64) -> Timestamp {
        let (stated, micros) = (self.time(ticks), Clock { unit: Unit::Nanos(1_000), ..*self }.time(ticks));
        if stated < YEAR_1990 && micros > YEAR_1990 { micros } else { stated }
    }

    fn time(&self, ticks: u64) -> Timestamp {
        let nanos = match self.unit {
            Unit::Nanos(1) => i64::try_from(ticks).unwrap_or(i64::MAX),
            unit => i64::try_from(unit.nanos(ticks)).unwrap_or(i64::MAX),
        };
        Timestamp(nanos.saturating_add(self.offset.saturating_mul(1_000_000_000)))
    }
}

/// What one tick is.
#[derive(Clone, Copy)]
enum Unit {
    /// So many nanoseconds.
    Nanos(u64),
    /// A nanosecond is so many of it.
    PerNano(u128),
    /// A second is two to this power of it.
    PowerOfTwo(u8),
}

impl Unit {
    fn from_option(resolution: u8) -> Self {
        let exponent = resolution & 0x7f;
        if resolution & 0x80 != 0 {
            return Self::PowerOfTwo(exponent);
        }
        match exponent.checked_sub(9) {
            None | Some(0) => Self::Nanos(10_u64.pow(u32::from(9 - exponent))),
            Some(finer) => Self::PerNano(10_u128.checked_pow(u32::from(finer)).unwrap_or(u128::MAX)),
        }
    }

    fn nanos(self, ticks: u64) -> u128 {
        let ticks = u128::from(ticks);
        match self {
            Self::Nanos(nanos) => ticks * u128::from(nanos),
            Self::PerNano(parts) => ticks / parts,
            Self::PowerOfTwo(power) => (ticks * 1_000_000_000) >> power,
        }
    }
}

/// Section header block; the same in either byte order.
pub(super) const SECTION: u32 = 0x0a0d_0d0a;
/// As it stands in a file.
pub(super) const SECTION_BYTES: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Interface description block.
pub(super) const INTERFACE: u32 = 1;
/// Packet block of old, gone from the standard.
const OBSOLETE: u32 = 2;
/// Simple packet block.
const SIMPLE: u32 = 3;
const YEAR_1990: Timestamp = Timestamp(631_152_000_000_000_000);
/// Name resolution block.
pub(super) const NAMES: u32 = 4;
/// Interface statistics block.
pub(super) const STATISTICS: u32 = 5;
/// Enhanced packet block.
pub(super) const ENHANCED: u32 = 6;

/// More would be a file made to exhaust memory.
const MOST_INTERFACES: usize = 65_536;
/// Likewise, of all interfaces together.
const MOST_NAMED: usize = 8 << 20;
