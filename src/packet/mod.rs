//! Bytes into fields. Takes a captured [`Frame`], gives a [`Packet`]: the layers that could be read, innermost
//! last, and where and why reading stopped. No I/O, no clock, no judgement; [`Packet::read`] does not panic on
//! any bytes, whatever lengths they claim.

mod flow;
mod frame;
mod icmp_quote;
mod quick;
mod read;

pub use flow::Flow;
pub use frame::{Frame, LinkType, Nanos, Timestamp};
pub use quick::{Plain, PlainTransport};

use std::net::IpAddr;

use smallvec::SmallVec;

/// What was read of one frame.
///
/// Tunnels are taken off: `ip` and `transport` are those of the innermost packet that could be read, and
/// `tunnels` what was wrapped around it, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Ethernet addresses of the frame itself (not of a frame inside a tunnel).
    pub macs: Option<Macs>,
    /// Interface index and packet type of a Linux cooked frame.
    pub cooked: Option<Cooked>,
    /// VLAN ids of the frame itself, outermost first.
    pub vlans: [Option<u16>; 2],
    /// The tunnels around the innermost packet, outermost first; at most [`MAX_TUNNELS`].
    pub tunnels: Tunnels,
    /// The innermost network layer.
    pub network: Network,
    /// What the innermost IP packet carries.
    pub transport: Transport,
    /// The bytes of the transport payload that were captured.
    pub payload: &'a [u8],
    /// The transport payload's length on the wire, from the headers.
    pub payload_len: u32,
    /// Why reading ended before the payload, if it did.
    pub stopped: Option<Stop>,
}

impl<'a> Packet<'a> {
    /// Reads a frame from its link layer inwards, as far as its bytes and their sense go.
    pub fn read(frame: &Frame<'a>) -> Self {
        match Plain::find(frame) {
            Some(plain) => plain.packet(),
            None => read::read(frame),
        }
    }

    /// The innermost IP header.
    pub fn ip(&self) -> Option<&Ip> {
        match &self.network {
            Network::Ip(ip) => Some(ip),
            Network::Arp(_) | Network::Other(_) => None,
        }
    }

    /// Source and destination port.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match &self.transport {
            Transport::Tcp(tcp) => Some((tcp.src_port, tcp.dst_port)),
            Transport::Udp(udp) => Some((udp.src_port, udp.dst_port)),
            Transport::Sctp { src_port, dst_port, .. } => Some((*src_port, *dst_port)),
            _ => None,
        }
    }

    /// The flow that the innermost packet belongs to.
    pub fn flow(&self) -> Option<Flow> {
        let ip = self.ip()?;
        let (src_port, dst_port) = match &self.transport {
            Transport::Echo { id, .. } => (*id, *id),
            _ => self.ports().unwrap_or((0, 0)),
        };
        Some(Flow { src: ip.src, dst: ip.dst, protocol: ip.protocol, src_port, dst_port })
    }
}

/// Most packets are in one tunnel at most: that one lies in place.
pub type Tunnels = SmallVec<[Tunnel; 1]>;

/// No more tunnels than this are taken off one packet: a guard against nested garbage.
pub const MAX_TUNNELS: usize = 4;

/// Source and destination of an Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Macs {
    /// Source.
    pub src: [u8; 6],
    /// Destination.
    pub dst: [u8; 6],
}

/// What a Linux cooked header adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cooked {
    /// Interface index on the capturing node (v2 only).
    pub if_index: Option<u32>,
    /// 0 to us, 1 broadcast, 2 multicast, 3 to somebody else, 4 sent by us.
    pub packet_type: u16,
    /// What kind of device it was (`ARPHRD_…`): 1 Ethernet, 768 an IPIP tunnel, 65534 none.
    pub hardware: u16,
    /// The sender's address, where it is one of Ethernet.
    pub sender: Option<[u8; 6]>,
}

/// One tunnel header around a packet, with the IP addresses that carried it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Which encapsulation.
    pub kind: TunnelKind,
    /// Outer IP header.
    pub outer: Ip,
    /// Outer UDP ports, for those over UDP.
    pub ports: Option<(u16, u16)>,
    /// Where what is inside begins, in bytes from the start of the frame.
    pub inner_at: usize,
    /// Ethernet addresses of the frame inside, where there is one.
    pub inner_macs: Option<Macs>,
}

/// The encapsulations that are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// RFC 7348. `flag_i` is false when the header's "VNI is valid" flag is not set.
    Vxlan {
        /// VXLAN network identifier.
        vni: u32,
        /// The I flag.
        flag_i: bool,
    },
    /// RFC 8926.
    Geneve {
        /// Virtual network identifier.
        vni: u32,
    },
    /// RFC 2784, 2890.
    Gre {
        /// The key, if present.
        key: Option<u32>,
    },
    /// IP in IP: RFC 2003 and IPv6's 4-in-6, 6-in-4, 6-in-6.
    IpIp,
}

/// The innermost network layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// IPv4 or IPv6.
    Ip(Ip),
    /// ARP for IPv4 over Ethernet.
    Arp(Arp),
    /// Another `EtherType`, or nothing readable (0).
    Other(u16),
}

/// The fields of an IPv4 or IPv6 header that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Upper protocol, after any IPv6 extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// IPv4 identification, or that of the IPv6 fragment header.
    pub id: Option<u32>,
    /// IPv4's "don't fragment"; always true for IPv6.
    pub dont_fragment: bool,
    /// Set when this is a fragment.
    pub fragment: Option<Fragment>,
    /// Bytes after the IP header (and, for IPv6, after the extension headers) on the wire. A frame with
    /// segmentation offload may say 0 (big TCP); then what the frame's wire length leaves.
    pub payload_len: u32,
    /// Whether the IPv4 header checksum is right; None for IPv6.
    pub checksum_ok: Option<bool>,
}

/// Where a fragment stands in its packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Offset in bytes.
    pub offset: u32,
    /// More fragments follow.
    pub more: bool,
}

/// An ARP request or reply for IPv4 (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Sender's hardware address.
    pub sender_mac: [u8; 6],
    /// Sender's address.
    pub sender: std::net::Ipv4Addr,
    /// Target's address.
    pub target: std::net::Ipv4Addr,
}

/// What the innermost IP packet carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// SCTP's common header.
    Sctp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Verification tag.
        tag: u32,
    },
    /// An ICMP or `ICMPv6` echo.
    Echo {
        /// True for a request.
        request: bool,
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// An ICMP or `ICMPv6` error with the beginning of the packet that caused it.
    IcmpError(IcmpError),
    /// Any other ICMP or `ICMPv6` message.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// A fragment that is not the first: no transport header.
    LaterFragment,
    /// Encrypted or unknown: ESP, AH, `WireGuard` (UDP is read as UDP), others.
    Opaque,
    /// Nothing was read: the headers before were cut off or wrong.
    None,
}

/// The fields of a TCP header that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The flags as in the header's thirteenth and fourteenth byte (low 9 bits: NS CWR ECE URG ACK PSH RST SYN FIN).
    pub flags: u16,
    /// Window.
    pub window: u16,
    /// Timestamps option: value and echo reply.
    pub timestamps: Option<(u32, u32)>,
    /// Maximum segment size option.
    pub mss: Option<u16>,
}

impl Tcp {
    /// FIN.
    pub const FIN: u16 = 0x01;
    /// SYN.
    pub const SYN: u16 = 0x02;
    /// RST.
    pub const RST: u16 = 0x04;
    /// PSH.
    pub const PSH: u16 = 0x08;
    /// ACK.
    pub const ACK: u16 = 0x10;

    /// Whether all of `flags` are set.
    pub fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }
}

/// The fields of a UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The length field: header and payload.
    pub len: u16,
    /// The checksum as it stands there; 0 means none.
    pub checksum: u16,
}

/// An ICMP error: who could not deliver what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IcmpError {
    /// Type (3, 4, 5, 11, 12; `ICMPv6` 1 to 4).
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The next hop's MTU in "fragmentation needed" and "packet too big".
    pub mtu: Option<u32>,
    /// The packet that could not be delivered, as far as it is quoted.
    pub quoted: Option<Box<Quoted>>,
}

/// The beginning of a packet inside an ICMP error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    /// Its IP header.
    pub ip: Ip,
    /// What it carried, as far as quoted (never another error).
    pub transport: Transport,
}

/// Why reading a frame ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The layer that could not be read.
    pub layer: Layer,
    /// Where it begins, in bytes from the start of the frame.
    pub offset: u32,
    /// What was wrong.
    pub why: StopReason,
}

/// A layer of a frame, for [`Stop`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Ethernet, cooked or loopback header.
    Link,
    /// VLAN tag.
    Vlan,
    /// ARP.
    Arp,
    /// IPv4 or IPv6 header with extension headers.
    Ip,
    /// TCP, UDP, SCTP or ICMP header.
    Transport,
    /// VXLAN, Geneve or GRE header.
    Tunnel,
}

/// What ended the reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The capture kept fewer bytes than the packet had (snap length): `needed` bytes, `had` bytes.
    Cut {
        /// Bytes that the layer needs.
        needed: u32,
        /// Bytes that were there.
        had: u32,
    },
    /// The packet itself is too short for what its headers claim.
    TooShort {
        /// Bytes that the layer needs.
        needed: u32,
        /// Bytes that were there.
        had: u32,
    },
    /// A field has a value that cannot be: a version other than 4 or 6, a header length below the least.
    BadValue,
    /// A link type or nesting depth that is not read.
    Unsupported,
}

#[cfg(test)]
mod tests;
