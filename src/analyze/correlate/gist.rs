//! What a packet is, in as little as a sighting can carry along: enough for one line of a list, not to recognise it by.

use std::fmt;

use crate::packet::{Packet, Plain, PlainTransport, Tcp, Transport};

/// What one packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gist {
    /// A TCP segment.
    Tcp {
        /// The header's flags.
        flags: u16,
        /// Sequence number, as it stands there.
        seq: u32,
        /// Acknowledgement number, likewise.
        ack: u32,
        /// Bytes of payload.
        len: u32,
    },
    /// An echo.
    Echo {
        /// True for a request.
        request: bool,
        /// Its number.
        seq: u16,
    },
    /// Another ICMP message: type and code.
    Icmp(u8, u8),
    /// A fragment that is not the first: where its bytes begin.
    Fragment(u32),
    /// Anything else: bytes of payload.
    Other(u32),
}

impl Gist {
    /// Of a packet.
    pub fn of(packet: &Packet<'_>) -> Self {
        match &packet.transport {
            Transport::Tcp(tcp) => {
                Self::Tcp { flags: tcp.flags, seq: tcp.seq, ack: tcp.ack, len: packet.payload_len }
            }
            Transport::Echo { request, seq, .. } => Self::Echo { request: *request, seq: *seq },
            Transport::IcmpError(error) => Self::Icmp(error.kind, error.code),
            Transport::Icmp { kind, code } => Self::Icmp(*kind, *code),
            Transport::LaterFragment => {
                let fragment = packet.ip().and_then(|ip| ip.fragment);
                Self::Fragment(fragment.map_or(0, |fragment| fragment.offset))
            }
            _ => Self::Other(packet.payload_len),
        }
    }

    /// The same of a common frame.
    #[inline]
    pub fn of_plain(plain: &Plain<'_>, transport: &PlainTransport) -> Self {
        match *transport {
            PlainTransport::Tcp(Tcp { flags, seq, ack, .. }) => {
                Self::Tcp { flags, seq, ack, len: plain.payload_len() }
            }
            PlainTransport::Echo { request, seq, .. } => Self::Echo { request, seq },
            PlainTransport::Udp(..) => Self::Other(plain.payload_len()),
        }
    }
}

/// As tcpdump would say it, with absolute sequence numbers: they can be looked for.
impl fmt::Display for Gist {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Tcp { flags, seq, ack, len } => {
                let letters =
                    [(Tcp::SYN, 'S'), (Tcp::FIN, 'F'), (Tcp::RST, 'R'), (Tcp::PSH, 'P'), (Tcp::ACK, '.')];
                let set: String = letters
                    .into_iter()
                    .filter(|(flag, _)| flags & flag != 0)
                    .map(|(_, letter)| letter)
                    .collect();
                write!(out, "{} seq {seq}", if set.is_empty() { "none" } else { &set })?;
                if flags & Tcp::ACK != 0 {
                    write!(out, " ack {ack}")?;
                }
                if len > 0 { write!(out, " len {len}") } else { Ok(()) }
            }
            Self::Echo { request: true, seq } => write!(out, "echo request seq {seq}"),
            Self::Echo { request: false, seq } => write!(out, "echo reply seq {seq}"),
            Self::Icmp(kind, code) => write!(out, "type {kind} code {code}"),
            Self::Fragment(offset) => write!(out, "fragment at {offset}"),
            Self::Other(len) => write!(out, "len {len}"),
        }
    }
}
