//! Header offsets of what nearly every frame is: Ethernet, IPv4 without options and whole, and TCP, UDP or an echo, plain or
//! once inside VXLAN. Gives where the headers lie, so that a reader takes only the fields that it needs; what they say is
//! what the long way ([`super::read`]) would say. None where that one must look: any other layer, any length that does not
//! fit.

use std::net::{IpAddr, Ipv4Addr};

use super::read::{
    GENEVE_PORT, IPV4, VXLAN_BEGINS, VXLAN_PORTS, be16, be32, checksum, ipv4, nothing_read, tcp_fields,
};
use super::{Frame, Ip, LinkType, Macs, Network, Packet, Tcp, Transport, Tunnel, TunnelKind, Tunnels, Udp};

/// A common frame, and where its headers lie.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a> {
    whole: &'a [u8],
    /// The outer one, if there is a tunnel.
    tunnel: Option<Header>,
    ip: Header,
    /// Where the transport header begins, and the payload.
    transport: usize,
    payload: usize,
}

/// An IPv4 header of 20 bytes.
#[derive(Debug, Clone, Copy)]
struct Header {
    at: usize,
    /// Where its packet ends on the wire.
    end: usize,
}

/// What a common frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainTransport {
    /// TCP.
    Tcp(Tcp),
    /// UDP: source and destination port.
    Udp(u16, u16),
    /// An echo of ICMP.
    Echo {
        /// True for a request.
        request: bool,
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
}

const ETHERNET: usize = 14;
const IP: usize = 20;
const TCP_HEADER: usize = 20;
/// Of UDP, VXLAN and an echo.
const EIGHT: usize = 8;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

impl<'a> Plain<'a> {
    /// Finds the headers of a common frame.
    #[inline]
    pub fn find(frame: &Frame<'a>) -> Option<Self> {
        if frame.link != LinkType::Ethernet {
            return None;
        }
        let whole = frame.bytes;
        let mut ip = header(whole, 0, (frame.wire_len as usize).max(whole.len()))?;
        let mut tunnel = None;
        if whole[ip.at + 9] == UDP {
            let inner = ip.at + IP + 2 * EIGHT;
            if ip.has(whole, 2 * EIGHT) && VXLAN_PORTS.contains(&be16(whole, ip.at + IP + 2)) {
                tunnel = Some(ip);
                ip = header(whole, inner, ip.end)?;
            }
        }
        let transport = ip.at + IP;
        let payload = match whole[ip.at + 9] {
            TCP if ip.has(whole, TCP_HEADER) => {
                let len = usize::from(whole[transport + 12] >> 4) * 4;
                (len >= TCP_HEADER && ip.has(whole, len)).then_some(transport + len)?
            }
            UDP if ip.has(whole, EIGHT) => {
                let port = be16(whole, transport + 2);
                let is_tunnel = VXLAN_PORTS.contains(&port)
                    || port == GENEVE_PORT
                    || whole[transport + EIGHT..].starts_with(&VXLAN_BEGINS);
                (!is_tunnel).then_some(transport + EIGHT)?
            }
            ICMP if ip.has(whole, EIGHT) => matches!(whole[transport], 0 | 8).then_some(transport + EIGHT)?,
            _ => return None,
        };
        Some(Self { whole, tunnel, ip, transport, payload })
    }

    /// Where the tunnel around it leads, if there is one.
    #[inline]
    pub fn outer_dst(&self) -> Option<Ipv4Addr> {
        self.tunnel.map(|outer| ipv4(self.whole, outer.at + 16))
    }

    /// Source.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        ipv4(self.whole, self.ip.at + 12)
    }

    /// Destination.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        ipv4(self.whole, self.ip.at + 16)
    }

    /// IP protocol number.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.whole[self.ip.at + 9]
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.whole[self.ip.at + 8]
    }

    /// IP identification.
    #[inline]
    pub fn id(&self) -> u16 {
        be16(self.whole, self.ip.at + 4)
    }

    /// Bytes behind the IP header, on the wire.
    #[inline]
    pub fn ip_payload_len(&self) -> u32 {
        number(self.ip.end - self.transport)
    }

    /// Bytes behind the transport header, on the wire.
    #[inline]
    pub fn payload_len(&self) -> u32 {
        number(self.ip.end - self.payload)
    }

    /// Those of them that were captured.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.whole.get(self.payload..self.ip.end.min(self.whole.len())).unwrap_or_default()
    }

    /// What it carries.
    #[inline]
    pub fn transport(&self) -> PlainTransport {
        let header = &self.whole[self.transport..self.payload];
        match self.protocol() {
            TCP => PlainTransport::Tcp(tcp_fields(&header[..TCP_HEADER], &header[TCP_HEADER..])),
            UDP => PlainTransport::Udp(be16(header, 0), be16(header, 2)),
            _ => PlainTransport::Echo { request: header[0] == 8, id: be16(header, 4), seq: be16(header, 6) },
        }
    }

    /// All that can be read of it.
    #[inline]
    pub(super) fn packet(&self) -> Packet<'a> {
        let mut tunnels = Tunnels::new();
        if let Some(outer) = self.tunnel {
            let udp = udp(&self.whole[outer.at + IP..]);
            let header = &self.whole[outer.at + IP + EIGHT..];
            let inner_at = outer.at + IP + 2 * EIGHT;
            tunnels.push(Tunnel {
                kind: TunnelKind::Vxlan { vni: be32(header, 4) >> 8, flag_i: header[0] & 0x08 != 0 },
                outer: outer.read(self.whole),
                ports: Some((udp.src_port, udp.dst_port)),
                inner_at,
                inner_macs: Some(macs(&self.whole[inner_at..])),
            });
        }
        let transport = match self.transport() {
            PlainTransport::Tcp(tcp) => Transport::Tcp(tcp),
            PlainTransport::Udp(..) => Transport::Udp(udp(&self.whole[self.transport..])),
            PlainTransport::Echo { request, id, seq } => Transport::Echo { request, id, seq },
        };
        Packet {
            macs: Some(macs(self.whole)),
            tunnels,
            network: Network::Ip(self.ip.read(self.whole)),
            transport,
            payload: self.payload(),
            payload_len: self.payload_len(),
            ..nothing_read()
        }
    }
}

impl Header {
    /// Whether `len` bytes behind the header were captured and are the packet's own.
    #[inline]
    fn has(self, whole: &[u8], len: usize) -> bool {
        let end = self.at + IP + len;
        end <= whole.len() && end <= self.end
    }

    fn read(self, whole: &[u8]) -> Ip {
        let header = &whole[self.at..self.at + IP];
        Ip {
            src: IpAddr::V4(ipv4(header, 12)),
            dst: IpAddr::V4(ipv4(header, 16)),
            protocol: header[9],
            ttl: header[8],
            traffic_class: header[1],
            id: Some(u32::from(be16(header, 4))),
            dont_fragment: header[6] & 0x40 != 0,
            fragment: None,
            payload_len: number(self.end - self.at - IP),
            checksum_ok: Some(checksum(header) == 0xffff),
        }
    }
}

/// The IPv4 header behind the Ethernet header at `at`, of a frame that ends at `end` on the wire.
#[inline]
fn header(whole: &[u8], at: usize, end: usize) -> Option<Header> {
    let bytes = whole.get(at..at + ETHERNET + IP)?;
    let at = at + ETHERNET;
    // IPv4, five words long; below the two upper flags neither more fragments nor an offset.
    let plain = be16(bytes, 12) == IPV4 && bytes[14] == 0x45 && be16(bytes, 20) << 2 == 0;
    if !plain || at + IP > end {
        return None;
    }
    let (total, left) = (usize::from(be16(bytes, 16)), end - at);
    let total = if total == 0 || total > left { left } else { total.max(IP) };
    Some(Header { at, end: at + total })
}

fn macs(bytes: &[u8]) -> Macs {
    let mac = |at: usize| std::array::from_fn(|byte| bytes[at + byte]);
    Macs { dst: mac(0), src: mac(6) }
}

fn udp(header: &[u8]) -> Udp {
    Udp {
        src_port: be16(header, 0),
        dst_port: be16(header, 2),
        len: be16(header, 4),
        checksum: be16(header, 6),
    }
}

fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
