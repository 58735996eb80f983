//! One event of the ring: bytes as `struct event` of `drops.bpf.c` lays them out, into fields. Any bytes of the right
//! length are an event; others are none.

use std::net::{IpAddr, Ipv6Addr};

/// A packet that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Nanoseconds by the clock that stamped it.
    pub(super) time: i64,
    /// The function that gave it up and its callers, as return addresses, the nearest first.
    pub(super) stack: Vec<u64>,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Addresses and VNI of the tunnel's packet around it.
    pub(super) outer: Option<(IpAddr, IpAddr, u32)>,
    pub(super) interface: Option<String>,
    pub(super) reason: u32,
    pub(super) namespace: u32,
    pub(super) length: u32,
    /// Ports, or an echo's identifier and number.
    pub(super) numbers: (u16, u16),
    /// Segments that a large frame would be cut into.
    pub(super) segments: u16,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) icmp_type: u8,
    pub(super) fragment: bool,
}

/// The size of `struct event`.
const SIZE: usize = 256;
const FRAMES: usize = 16;
/// Callers that are kept: from a rule to its hook are four.
const CALLERS: usize = 8;

impl Event {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
        let address = |at| IpAddr::V6(Ipv6Addr::from(field::<16>(bytes, at))).to_canonical();
        let long = |at| u64::from_ne_bytes(field(bytes, at));
        let word = |at| u32::from_ne_bytes(field(bytes, at));
        let short = |at| u16::from_ne_bytes(field(bytes, at));
        let name = field::<16>(bytes, 208);
        let name: Vec<u8> = name.into_iter().take_while(|byte| *byte != 0).collect();
        let frames: Vec<u64> = (0..FRAMES).map(|frame| long(16 + 8 * frame)).collect();
        Some(Self {
            time: i64::try_from(long(0)).unwrap_or(i64::MAX),
            stack: stack(long(8), &frames),
            source: address(144),
            destination: address(160),
            outer: (bytes[249] != 0).then(|| (address(176), address(192), word(236))),
            interface: (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned()),
            reason: word(224),
            namespace: word(228),
            length: word(232),
            numbers: (short(240), short(242)),
            segments: short(244),
            protocol: bytes[246],
            ttl: bytes[247],
            icmp_type: bytes[248],
            fragment: bytes[250] != 0,
        })
    }
}

/// The stack from the function that gave the packet up: what lies before it is the tracepoint itself.
fn stack(location: u64, frames: &[u64]) -> Vec<u64> {
    let at = frames.iter().position(|frame| *frame == location).map_or(frames.len(), |at| at + 1);
    let callers = frames[at..].iter().copied().take_while(|frame| *frame != 0).take(CALLERS);
    std::iter::once(location).chain(callers).collect()
}

/// Bytes of an event; offsets are written here alone and lie inside it.
fn field<const LENGTH: usize>(bytes: &[u8; SIZE], at: usize) -> [u8; LENGTH] {
    let mut field = [0; LENGTH];
    field.copy_from_slice(&bytes[at..at + LENGTH]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_tracepoint_itself_is_no_caller() {
        assert_eq!(stack(7, &[1, 2, 7, 8, 9, 0, 5]), [7, 8, 9]);
        assert_eq!(stack(7, &[1, 2, 3]), [7]);
        assert_eq!(stack(7, &[7; 16]).len(), 1 + CALLERS);
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(Event::read(&bytes).is_some(), bytes.len() == SIZE);
        }

        #[test]
        fn any_event_is_read(bytes in prop::collection::vec(any::<u8>(), SIZE..=SIZE)) {
            prop_assert!(Event::read(&bytes).is_some());
        }
    }
}
