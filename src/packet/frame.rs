//! A captured frame: the bytes, how many there were on the wire, when, and what kind of link they came from.

use std::fmt;
use std::ops::{Add, Sub};

/// One frame as a capture gives it, not yet looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// When the kernel stamped it, by the clock of the node it was captured on.
    pub time: Timestamp,
    /// How many bytes it had on the wire; at least `bytes.len()`.
    pub wire_len: u32,
    /// What the first byte belongs to.
    pub link: LinkType,
    /// The bytes kept: the whole frame, or its first `snaplen` bytes.
    pub bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// What is behind the link's own header, VLAN tags included, and the number that Ethernet has for it (`ETHERTYPE_…`). None
    /// where the header is cut off, or its link type or what it says is next is none that Ethernet has a number for.
    pub fn carried(&self) -> Option<(u16, &'a [u8])> {
        let be16 = |at: usize| Some(u16::from_be_bytes([*self.bytes.get(at)?, *self.bytes.get(at + 1)?]));
        let (ether_type, at) = match self.link {
            LinkType::Ethernet => (be16(12)?, 14),
            LinkType::LinuxSll => (be16(14)?, 16),
            LinkType::LinuxSll2 => (be16(0)?, 20),
            LinkType::Raw | LinkType::Ipv4 | LinkType::Ipv6 => (self.version_at(0)?, 0),
            LinkType::Null | LinkType::Loop => (self.version_at(4)?, 4),
            LinkType::Other(_) => return None,
        };
        // Below are lengths, and numbers that the kernel has for frames without a type (`ETH_P_802_2` and others).
        Some((ether_type, self.bytes.get(at..)?)).filter(|_| ether_type >= 0x0600)
    }

    /// The number of the IP packet that begins there.
    fn version_at(&self, at: usize) -> Option<u16> {
        match self.bytes.get(at)? >> 4 {
            4 => Some(0x0800),
            6 => Some(0x86dd),
            _ => None,
        }
    }
}

/// Nanoseconds since 1970-01-01 UTC by some node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// Nanoseconds between two [`Timestamp`]s, or a clock's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(pub i64);

impl Nanos {
    /// `n` microseconds.
    pub const fn from_micros(n: i64) -> Self {
        Self(n * 1_000)
    }

    /// `n` milliseconds.
    pub const fn from_millis(n: i64) -> Self {
        Self(n * 1_000_000)
    }

    /// `n` seconds.
    pub const fn from_secs(n: i64) -> Self {
        Self(n * 1_000_000_000)
    }

    /// In microseconds, for reports.
    #[expect(clippy::cast_precision_loss, reason = "latencies of a report stay far below 2^52 ns")]
    pub fn as_micros(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// In seconds, for reports.
    #[expect(clippy::cast_precision_loss, reason = "durations of a report stay far below 2^52 ns")]
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Without its sign.
    #[must_use]
    pub fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }
}

impl Add<Nanos> for Timestamp {
    type Output = Self;

    fn add(self, by: Nanos) -> Self {
        Self(self.0.saturating_add(by.0))
    }
}

impl Sub<Nanos> for Timestamp {
    type Output = Self;

    fn sub(self, by: Nanos) -> Self {
        Self(self.0.saturating_sub(by.0))
    }
}

impl Sub for Timestamp {
    type Output = Nanos;

    fn sub(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The link-layer header types of pcap files (`LINKTYPE_…`, pcap-linktype(7)) that are understood, and the
/// others by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// 1: Ethernet.
    Ethernet,
    /// 113: Linux cooked capture v1 (`-i any` of older tools).
    LinuxSll,
    /// 276: Linux cooked capture v2, with the interface's index in every frame.
    LinuxSll2,
    /// 101 and 12: a packet that begins with its IP header.
    Raw,
    /// 228: raw IPv4.
    Ipv4,
    /// 229: raw IPv6.
    Ipv6,
    /// 0: BSD loopback, the address family in the capturing host's byte order.
    Null,
    /// 108: OpenBSD loopback, the address family in network byte order.
    Loop,
    /// Anything else: nothing of such a frame is read.
    Other(u16),
}

impl LinkType {
    /// From the number in a file.
    pub const fn from_number(number: u16) -> Self {
        match number {
            1 => Self::Ethernet,
            113 => Self::LinuxSll,
            276 => Self::LinuxSll2,
            101 | 12 | 14 => Self::Raw,
            228 => Self::Ipv4,
            229 => Self::Ipv6,
            0 => Self::Null,
            108 => Self::Loop,
            other => Self::Other(other),
        }
    }

    /// The number for a file.
    pub const fn number(self) -> u16 {
        match self {
            Self::Ethernet => 1,
            Self::LinuxSll => 113,
            Self::LinuxSll2 => 276,
            Self::Raw => 101,
            Self::Ipv4 => 228,
            Self::Ipv6 => 229,
            Self::Null => 0,
            Self::Loop => 108,
            Self::Other(number) => number,
        }
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(out, "link type {number}"),
            known => write!(out, "{known:?}"),
        }
    }
}
