//! What a packet is recognised by at another point: the fields that forwarding leaves alone.
//!
//! Compared: the upper protocol; for TCP sequence and acknowledgement number, length, flags (not the ECN bits) and
//! the timestamps option, which also tells a retransmission from its original; for the others the IP
//! identification, the length, an echo's number, and the first bytes of the payload; of a packet quoted in an ICMP
//! error the same, but no payload; and the client's port or an echo's identifier, which destination NAT leaves alone,
//! unless source NAT was seen. Left out because a hop may rewrite them: TTL, MAC addresses, every checksum (offload
//! leaves it unfilled at some points), DSCP and ECN, addresses and the server's port (NAT), TCP's other options (MSS
//! clamping), and TCP's IP identification (one for a 64 kB frame, many for its segments).

use std::hash::Hasher;

use rustc_hash::FxHasher;

use crate::evidence::Direction;
use crate::packet::{Flow, IcmpError, Ip, Packet, Plain, PlainTransport, Tcp, Transport};

/// What one frame is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Equal for the same frame at every point where it was not cut into pieces.
    pub key: u64,
    /// Which bytes of what it carries, to recognise it where it was.
    pub span: Span,
}

/// The bytes that a frame carries, of something that may be cut otherwise elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Nothing that could be cut: a bare acknowledgement, a reset.
    Whole,
    /// Sequence numbers of a TCP flow (SYN and FIN count one each, RFC 9293).
    Tcp {
        /// First.
        start: u32,
        /// How many.
        len: u32,
    },
    /// Bytes of an IP packet's payload.
    Datagram {
        /// IP identification.
        id: u32,
        /// Upper protocol.
        protocol: u8,
        /// Offset.
        start: u32,
        /// How many.
        len: u32,
        /// Whether this is a fragment.
        fragment: bool,
    },
}

/// How deep frames may be compared: what even the worst cut capture still shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Payload bytes.
    pub payload: usize,
    /// Whether every capture shows TCP's timestamps option.
    pub timestamps: bool,
    /// Whether the client's port is the same everywhere: no source NAT.
    pub client_port: bool,
}

impl Default for Depth {
    fn default() -> Self {
        Self { payload: Self::MOST, timestamps: true, client_port: true }
    }
}

impl Depth {
    /// More payload would tell no more packets apart: counters and stamps stand in the first bytes.
    pub const MOST: usize = 32;
}

impl Fingerprint {
    /// The fingerprint of the innermost IP packet, or None where none was read far enough. `flow` is oriented from
    /// client to server.
    pub fn of(packet: &Packet<'_>, direction: Direction, flow: &Flow, depth: Depth) -> Option<Self> {
        let ip = packet.ip()?;
        let mut hash = FxHasher::default();
        hash.write_u8(direction as u8);
        hash.write_u8(ip.protocol);
        if depth.client_port && ip.fragment.is_none() {
            hash.write_u16(flow.src_port);
        }
        let span = match &packet.transport {
            Transport::None => return None,
            Transport::Tcp(tcp) if ip.fragment.is_none() => {
                let key = Self::key_of_tcp(hash, tcp, packet.payload_len, depth);
                return Some(Self { key, span: Span::of_tcp(tcp.flags, tcp.seq, packet.payload_len) });
            }
            Transport::LaterFragment => datagram(ip),
            Transport::Echo { request, seq, .. } => {
                hash.write_u16(*seq);
                hash.write_u8(u8::from(*request));
                Self::add_payload(&mut hash, packet.payload, packet.payload_len, depth);
                datagram(ip)
            }
            Transport::IcmpError(error) => {
                hash.write_u32(packet.payload_len);
                hash.write_u16(u16::from_be_bytes([error.kind, error.code]));
                Self::add_quoted(&mut hash, error);
                datagram(ip)
            }
            _ => {
                Self::add_payload(&mut hash, packet.payload, packet.payload_len, depth);
                datagram(ip)
            }
        };
        hash.write_u32(ip.id.unwrap_or(0));
        if let Some(fragment) = ip.fragment {
            hash.write_u32(fragment.offset);
            hash.write_u32(ip.payload_len);
        }
        Some(Self { key: hash.finish(), span })
    }

    /// The key of a common frame: the same as of the packet that it is.
    #[inline]
    pub fn key_of_plain(
        plain: &Plain<'_>,
        transport: &PlainTransport,
        direction: Direction,
        src_port: u16,
        depth: Depth,
    ) -> u64 {
        let mut hash = FxHasher::default();
        hash.write_u8(direction as u8);
        hash.write_u8(plain.protocol());
        if depth.client_port {
            hash.write_u16(src_port);
        }
        match transport {
            PlainTransport::Tcp(tcp) => return Self::key_of_tcp(hash, tcp, plain.payload_len(), depth),
            PlainTransport::Echo { request, seq, .. } => {
                hash.write_u16(*seq);
                hash.write_u8(u8::from(*request));
            }
            PlainTransport::Udp(..) => {}
        }
        Self::add_payload(&mut hash, plain.payload(), plain.payload_len(), depth);
        hash.write_u32(u32::from(plain.id()));
        hash.finish()
    }

    #[inline]
    fn key_of_tcp(mut hash: FxHasher, tcp: &Tcp, payload_len: u32, depth: Depth) -> u64 {
        let flags = tcp.flags & (Tcp::FIN | Tcp::SYN | Tcp::RST | Tcp::PSH | Tcp::ACK);
        hash.write_u32(tcp.seq);
        hash.write_u32(if tcp.has(Tcp::ACK) { tcp.ack } else { 0 });
        hash.write_u32(payload_len);
        hash.write_u16(flags);
        if let (true, Some((value, echo))) = (depth.timestamps, tcp.timestamps) {
            hash.write_u64(u64::from(value) << 32 | u64::from(echo));
        }
        hash.finish()
    }

    /// NAT translates the quoted packet too (`nf_nat_icmp_reply_translation` of `net/netfilter/nf_nat_proto.c`).
    fn add_quoted(hash: &mut FxHasher, error: &IcmpError) {
        let Some(quoted) = &error.quoted else { return };
        hash.write_u32(quoted.ip.id.unwrap_or(0));
        hash.write_u32(quoted.ip.payload_len);
        match &quoted.transport {
            Transport::Tcp(tcp) => hash.write_u32(tcp.seq),
            Transport::Echo { seq, .. } => hash.write_u16(*seq),
            _ => {}
        }
    }

    fn add_payload(hash: &mut FxHasher, payload: &[u8], payload_len: u32, depth: Depth) {
        hash.write_u32(payload_len);
        let shown = payload.len().min(depth.payload);
        hash.write(&payload[..shown]);
    }
}

impl Span {
    /// Of a TCP segment.
    #[inline]
    pub(super) fn of_tcp(flags: u16, seq: u32, payload_len: u32) -> Self {
        let numbers = u32::from(flags & Tcp::SYN != 0) + u32::from(flags & Tcp::FIN != 0);
        let len = payload_len.saturating_add(numbers);
        if len == 0 || flags & Tcp::RST != 0 { Self::Whole } else { Self::Tcp { start: seq, len } }
    }
}

fn datagram(ip: &Ip) -> Span {
    Span::Datagram {
        id: ip.id.unwrap_or(0),
        protocol: ip.protocol,
        start: ip.fragment.map_or(0, |fragment| fragment.offset),
        len: ip.payload_len,
        fragment: ip.fragment.is_some(),
    }
}
