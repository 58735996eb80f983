//! A frame without what it carries. In: a captured frame. Out: one of the same lengths and times, with other addresses wherever a
//! header has one (of the tunnel's packet, the packet inside, the one that an ICMP error quotes), ports and numbers as they were,
//! and nothing of the payload. A byte that belongs to no header that is read here does not come through.
//!
//! TCP's payload becomes zeros: packets are told apart without it. Of another payload the first 32 bytes tell packets apart; each
//! becomes another byte that depends on it and those before it, so that equal ones stay equal, different ones different, and a
//! capture that was cut shorter still begins alike. What follows them becomes zeros.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::{Frame, LinkType, MAX_TUNNELS};

use super::addresses::Addresses;
use super::checksum;
use super::key::{Key, Purpose};

/// Frames, one after the other.
#[derive(Debug)]
pub(super) struct Frames {
    key: Key,
    /// Frames with something that could not be read, and was blanked.
    pub(super) unread: u64,
}

impl Frames {
    pub(super) fn new(key: Key) -> Self {
        Self { key, unread: 0 }
    }

    /// The frame's bytes anew, in `new`.
    pub(super) fn redact(&mut self, frame: &Frame<'_>, addresses: &mut Addresses, new: &mut Vec<u8>) {
        new.clear();
        new.extend_from_slice(frame.bytes);
        let mut walk = Walk { key: &self.key, addresses, old: frame.bytes, new, tunnels: 0, unread: false };
        walk.link(frame.link);
        self.unread += u64::from(walk.unread);
    }
}

/// One frame under way: what it was, and what it becomes.
struct Walk<'w> {
    key: &'w Key,
    addresses: &'w mut Addresses,
    old: &'w [u8],
    new: &'w mut Vec<u8>,
    tunnels: usize,
    unread: bool,
}

impl Walk<'_> {
    fn link(&mut self, link: LinkType) {
        let end = self.old.len();
        match link {
            LinkType::Ethernet => self.ethernet(0, end),
            LinkType::LinuxSll if end >= 16 => {
                self.cooked(6, self.be16(4));
                self.network(16, end, self.be16(14));
            }
            LinkType::LinuxSll2 if end >= 20 => {
                self.cooked(12, u16::from(self.old[11]));
                self.network(20, end, self.be16(0));
            }
            LinkType::Raw | LinkType::Ipv4 | LinkType::Ipv6 => self.versioned(0, end),
            LinkType::Null | LinkType::Loop if end >= 4 => self.versioned(4, end),
            _ => self.nothing(0, end),
        }
    }

    /// Takes out what is not understood.
    fn nothing(&mut self, at: usize, end: usize) {
        self.unread |= at < end;
        self.blank(at, end);
    }

    fn blank(&mut self, at: usize, end: usize) {
        if let Some(bytes) = self.new.get_mut(at..end) {
            bytes.fill(0);
        }
    }

    fn cooked(&mut self, at: usize, length: u16) {
        if length == 6 {
            self.mac(at);
            self.blank(at + 6, at + 8);
        } else {
            self.blank(at, at + 8);
        }
    }

    fn ethernet(&mut self, at: usize, end: usize) {
        if end < at + 14 {
            return self.nothing(at, end);
        }
        self.mac(at);
        self.mac(at + 6);
        let ether_type = self.be16(at + 12);
        if self.tunnels > 0 && !matches!(ether_type, 0x0800 | 0x86dd | 0x0806 | 0x8100 | 0x88a8 | 0x9100) {
            // Perhaps it is no frame at all.
            return self.nothing(at, end);
        }
        self.network(at + 14, end, ether_type);
    }

    /// What a header's protocol number says is next, perhaps behind VLAN tags.
    fn network(&mut self, mut at: usize, end: usize, mut ether_type: u16) {
        for _ in 0..2 {
            if !matches!(ether_type, 0x8100 | 0x88a8 | 0x9100) || end < at + 4 {
                break;
            }
            ether_type = self.be16(at + 2);
            at += 4;
        }
        match ether_type {
            0x0800 | 0x86dd => self.versioned(at, end),
            0x0806 => self.arp(at, end),
            _ => self.nothing(at, end),
        }
    }

    fn versioned(&mut self, at: usize, end: usize) {
        match self.old.get(at).map(|first| first >> 4) {
            Some(4) => self.ipv4(at, end),
            Some(6) => self.ipv6(at, end),
            _ => self.nothing(at, end),
        }
    }

    fn arp(&mut self, at: usize, end: usize) {
        let whole = end >= at + 28 && self.old[at..at + 6] == [0, 1, 8, 0, 6, 4];
        if !whole {
            return self.nothing(at, end);
        }
        self.mac(at + 8);
        self.mac(at + 18);
        self.v4(at + 14);
        self.v4(at + 24);
        self.blank(at + 28, end);
    }

    fn ipv4(&mut self, at: usize, end: usize) {
        let header = usize::from(self.old[at] & 0x0f) * 4;
        if header < 20 || end < at + header {
            return self.nothing(at, end);
        }
        let total = usize::from(self.be16(at + 2));
        // Zero: a frame longer than the field can say.
        let packet_end = if total >= header { end.min(at + total) } else { end };
        self.blank(packet_end, end);
        self.v4(at + 12);
        self.v4(at + 16);
        // Options may hold addresses: each byte becomes "no operation".
        self.new[at + 20..at + header].fill(1);
        let pseudo = Pseudo {
            at: at + 12,
            end: at + 20,
            protocol: self.old[at + 9],
            length: total.checked_sub(header),
        };
        if self.be16(at + 6).trailing_zeros() >= 13 {
            self.transport(pseudo.protocol, at + header, packet_end, &pseudo);
        } else {
            self.blank(at + header, packet_end);
        }
        self.checksum(at + 10, (at, at + header), None);
    }

    fn ipv6(&mut self, at: usize, end: usize) {
        if end < at + 40 {
            return self.nothing(at, end);
        }
        let total = usize::from(self.be16(at + 4));
        let packet_end = if total > 0 { end.min(at + 40 + total) } else { end };
        self.blank(packet_end, end);
        self.v6(at + 8);
        self.v6(at + 24);
        let (mut next, mut here) = (self.old[at + 6], at + 40);
        for _ in 0..8 {
            if packet_end < here + 8 {
                break;
            }
            let units = usize::from(self.old[here + 1]);
            let (length, kept) = match next {
                0 | 60 => ((units + 1) * 8, 2),
                43 => ((units + 1) * 8, 4),
                44 => (8, 8),
                51 => ((units + 2) * 4, 12),
                _ => break,
            };
            let later = next == 44 && self.be16(here + 2) & 0xfff8 != 0;
            self.blank(here + kept, (here + length).min(packet_end));
            next = self.old[here];
            here += length;
            if later {
                return self.blank(here, packet_end);
            }
            if here > packet_end {
                return;
            }
        }
        let length = (at + 40 + total).checked_sub(here).filter(|_| total > 0);
        let pseudo = Pseudo { at: at + 8, end: at + 40, protocol: next, length };
        self.transport(next, here, packet_end, &pseudo);
    }

    fn transport(&mut self, protocol: u8, at: usize, end: usize, pseudo: &Pseudo) {
        match protocol {
            6 => self.tcp(at, end, pseudo),
            17 => self.udp(at, end, pseudo),
            1 => self.icmp(at, end),
            58 => self.icmp6(at, end, pseudo),
            132 => {
                // Its checksum is one over the payload: it would tell of it.
                self.blank(at + 8, end.min(at + 12));
                self.payload(at + 12, end);
            }
            4 | 41 => self.tunnel(at, end, Self::versioned),
            47 => self.gre(at, end),
            _ => self.payload(at, end),
        }
    }

    /// What a tunnel carries.
    fn tunnel(&mut self, at: usize, end: usize, read: impl FnOnce(&mut Self, usize, usize)) {
        if self.tunnels >= MAX_TUNNELS {
            return self.nothing(at, end);
        }
        self.tunnels += 1;
        read(self, at, end);
    }

    fn tcp(&mut self, at: usize, end: usize, pseudo: &Pseudo) {
        if end < at + 20 {
            // The fixed header alone, cut off: numbers and ports.
            return;
        }
        let header = (usize::from(self.old[at + 12] >> 4) * 4).max(20);
        let options = end.min(at + header);
        self.options(at + 20, options);
        self.blank(options, end);
        self.checksum(at + 16, (at, end), Some(pseudo));
    }

    /// Keeps the options that say something of the path: sizes, windows, selective acknowledgement, timestamps.
    fn options(&mut self, mut at: usize, end: usize) {
        while at < end {
            let kind = self.old[at];
            if kind == 1 {
                at += 1;
                continue;
            }
            let length = self.old.get(at + 1).map_or(0, |length| usize::from(*length));
            if kind == 0 || length < 2 || at + length > end {
                break;
            }
            let fits = matches!((kind, length), (2, 4) | (3, 3) | (4, 2) | (5, 10 | 18 | 26 | 34) | (8, 10));
            if !fits {
                self.blank(at + 2, at + length);
            }
            at += length;
        }
        self.blank(at, end);
    }

    fn udp(&mut self, at: usize, end: usize, pseudo: &Pseudo) {
        if end < at + 8 {
            return;
        }
        let port = self.be16(at + 2);
        let inside = at + 8;
        if VXLAN_PORTS.contains(&port) && end >= inside + 22 || self.looks_like_vxlan(inside, end) {
            self.blank(inside + 1, inside + 4);
            self.blank(inside + 7, inside + 8);
            self.tunnel(inside + 8, end, Self::ethernet);
        } else if port == GENEVE_PORT && end >= inside + 8 {
            let options = (inside + 8 + usize::from(self.old[inside] & 0x3f) * 4).min(end);
            self.blank(inside + 8, options);
            let carried = self.be16(inside + 2);
            self.carried(options, end, carried);
        } else {
            self.payload(inside, end);
        }
        if self.be16(at + 6) != 0 {
            self.checksum(at + 6, (at, end), Some(pseudo));
            if self.new[at + 6..at + 8] == [0, 0] {
                self.new[at + 6..at + 8].fill(0xff);
            }
        }
    }

    /// As [`Packet::read`](crate::packet::Packet::read) takes it for VXLAN on any port.
    fn looks_like_vxlan(&self, at: usize, end: usize) -> bool {
        end >= at + 8 + 14 + 20
            && self.old[at..at + 4] == [8, 0, 0, 0]
            && self.old[at + 7] == 0
            && matches!(self.be16(at + 20), 0x0800 | 0x86dd | 0x0806)
    }

    fn gre(&mut self, at: usize, end: usize) {
        if end < at + 4 {
            return self.nothing(at, end);
        }
        let flags = self.be16(at);
        let carried = self.be16(at + 2);
        // Checksum, key, sequence number: four bytes each. Routing and version 1 are not read.
        if flags & 0x4007 != 0 {
            return self.nothing(at + 4, end);
        }
        let fields = [0x8000, 0x2000, 0x1000].iter().filter(|bit| flags & **bit != 0).count() * 4;
        if flags & 0x8000 != 0 {
            self.blank(at + 4, end.min(at + 8));
        }
        self.carried(at + 4 + fields, end, carried);
    }

    fn carried(&mut self, at: usize, end: usize, ether_type: u16) {
        if at > end {
            return;
        }
        if ether_type == 0x6558 {
            self.tunnel(at, end, Self::ethernet);
        } else {
            self.tunnel(at, end, |walk, at, end| walk.network(at, end, ether_type));
        }
    }

    fn icmp(&mut self, at: usize, end: usize) {
        if end < at + 8 {
            return self.nothing(at, end);
        }
        match self.old[at] {
            0 | 8 => self.payload(at + 8, end),
            5 => {
                self.v4(at + 4);
                self.quoted(at + 8, end);
            }
            3 | 4 | 11 | 12 => self.quoted(at + 8, end),
            _ => {
                self.blank(at + 4, at + 8);
                self.payload(at + 8, end);
            }
        }
        self.checksum(at + 2, (at, end), None);
    }

    fn icmp6(&mut self, at: usize, end: usize, pseudo: &Pseudo) {
        if end < at + 8 {
            return self.nothing(at, end);
        }
        match self.old[at] {
            1..=4 => self.quoted(at + 8, end),
            128 | 129 => self.payload(at + 8, end),
            // Neighbour solicitation and advertisement: the address, and the options with a card's.
            135 | 136 if end >= at + 24 => {
                self.v6(at + 8);
                if end >= at + 32 && self.old[at + 24] <= 2 && self.old[at + 25] == 1 {
                    self.mac(at + 26);
                    self.blank(at + 32, end);
                } else {
                    self.blank(at + 24, end);
                }
            }
            _ => {
                self.blank(at + 4, at + 8);
                self.payload(at + 8, end);
            }
        }
        self.checksum(at + 2, (at, end), Some(pseudo));
    }

    /// The beginning of a packet that could not be delivered. Never an error itself.
    fn quoted(&mut self, at: usize, end: usize) {
        if at < end {
            self.tunnel(at, end, Self::versioned);
        }
    }

    fn payload(&mut self, at: usize, end: usize) {
        if at >= end {
            return;
        }
        let shown = end.min(at + SHOWN);
        for byte in at..shown {
            let rounds = self.key.hash(Purpose::Payload, &self.old[at..byte]);
            self.new[byte] = shuffled(self.old[byte], &rounds);
        }
        self.blank(shown, end);
    }

    fn mac(&mut self, at: usize) {
        if let Some(Ok(mac)) = self.old.get(at..at + 6).map(<[u8; 6]>::try_from) {
            self.new[at..at + 6].copy_from_slice(&self.addresses.mac(mac));
        }
    }

    fn v4(&mut self, at: usize) {
        if let Some(Ok(octets)) = self.old.get(at..at + 4).map(<[u8; 4]>::try_from)
            && let IpAddr::V4(turned) = self.addresses.ip(IpAddr::V4(Ipv4Addr::from(octets)))
        {
            self.new[at..at + 4].copy_from_slice(&turned.octets());
        }
    }

    fn v6(&mut self, at: usize) {
        if let Some(Ok(octets)) = self.old.get(at..at + 16).map(<[u8; 16]>::try_from)
            && let IpAddr::V6(turned) = self.addresses.ip(IpAddr::V6(Ipv6Addr::from(octets)))
        {
            self.new[at..at + 16].copy_from_slice(&turned.octets());
        }
    }

    /// A checksum that was right stays right, a wrong one wrong, and one that was left to the card stays unfilled.
    fn checksum(&mut self, field: usize, covered: (usize, usize), pseudo: Option<&Pseudo>) {
        let (at, end) = covered;
        let (old, new) = (&self.old[at..end], &self.new[at..end]);
        let stored = self.be16(field);
        let addresses =
            pseudo.map(|pseudo| (&self.old[pseudo.at..pseudo.end], &self.new[pseudo.at..pseudo.end]));
        let unfilled = addresses.zip(pseudo.and_then(Pseudo::rest)).and_then(|((old, new), rest)| {
            (checksum::sum(rest, old) == stored).then(|| checksum::sum(rest, new))
        });
        let turned = unfilled.unwrap_or_else(|| {
            let turned = checksum::updated(stored, (old, new), Some(field - at));
            addresses.map_or(turned, |changed| checksum::updated(turned, changed, None))
        });
        self.new[field..field + 2].copy_from_slice(&turned.to_be_bytes());
    }

    fn be16(&self, at: usize) -> u16 {
        self.old.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}

/// What a transport's checksum covers beside the transport itself: where the addresses are.
struct Pseudo {
    at: usize,
    end: usize,
    protocol: u8,
    /// Of the transport; unknown when the header does not say it.
    length: Option<usize>,
}

impl Pseudo {
    /// The sum of protocol and length.
    fn rest(&self) -> Option<u32> {
        Some(u32::from(self.protocol) + u32::try_from(self.length?).ok()?)
    }
}

/// Another byte for each: four rounds of Feistel over two halves, each round a random function of sixteen values.
fn shuffled(byte: u8, rounds: &[u8; 32]) -> u8 {
    let (mut left, mut right) = (byte >> 4, byte & 15);
    for round in rounds.chunks_exact(8) {
        let pair = round[usize::from(right / 2)];
        let of = if right % 2 == 0 { pair >> 4 } else { pair & 15 };
        (left, right) = (right, left ^ of);
    }
    left << 4 | right
}

/// Bytes of a payload by which the analysis tells packets apart at most.
const SHOWN: usize = 32;

/// As in [`packet`](crate::packet).
const VXLAN_PORTS: [u16; 3] = [4789, 8472, 4799];
const GENEVE_PORT: u16 = 6081;
