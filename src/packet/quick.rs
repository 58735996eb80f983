//! The short way of [`Packet::read`], for what nearly every frame is: Ethernet, IPv4 without options and whole, and TCP,
//! UDP or an echo, plain or once inside VXLAN. Gives what the long way ([`super::read`]) would give, or None where that
//! one must look: any other layer, any length that does not fit.

use std::net::IpAddr;

use super::read::{
    GENEVE_PORT, IPV4, VXLAN_BEGINS, VXLAN_PORTS, be16, be32, checksum, ipv4, nothing_read, tcp_fields,
};
use super::{Frame, Ip, LinkType, Macs, Network, Packet, Transport, Tunnel, TunnelKind, Udp};

const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
const VXLAN: usize = 8;

/// Reads a common frame.
#[inline]
pub(super) fn read<'a>(frame: &Frame<'a>) -> Option<Packet<'a>> {
    if frame.link != LinkType::Ethernet {
        return None;
    }
    let mut walk =
        Walk { whole: frame.bytes, at: 0, end: (frame.wire_len as usize).max(frame.bytes.len()) };
    let mut packet = nothing_read();
    packet.macs = Some(walk.ethernet()?);
    let mut ip = walk.ip()?;
    if ip.protocol == 17 {
        let udp = walk.udp()?;
        if VXLAN_PORTS.contains(&udp.dst_port) {
            let header = walk.take(VXLAN)?;
            let kind = TunnelKind::Vxlan { vni: be32(header, 4) >> 8, flag_i: header[0] & 0x08 != 0 };
            let inner_at = walk.at;
            let inner_macs = Some(walk.ethernet()?);
            let ports = Some((udp.src_port, udp.dst_port));
            packet.tunnels.push(Tunnel { kind, outer: ip, ports, inner_at, inner_macs });
            ip = walk.ip()?;
            packet.transport =
                if ip.protocol == 17 { walk.last_udp()? } else { walk.transport(ip.protocol)? };
        } else {
            packet.transport = walk.plain(udp)?;
        }
    } else {
        packet.transport = walk.transport(ip.protocol)?;
    }
    packet.network = Network::Ip(ip);
    let end = walk.end.min(walk.whole.len());
    packet.payload = walk.whole.get(walk.at..end).unwrap_or_default();
    packet.payload_len = u32::try_from(walk.end - walk.at).ok()?;
    Some(packet)
}

/// A frame being read, as in the long way.
struct Walk<'a> {
    whole: &'a [u8],
    at: usize,
    /// Where the packet ends on the wire.
    end: usize,
}

impl<'a> Walk<'a> {
    #[inline]
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let bytes = self.whole.get(self.at..self.at + len)?;
        self.at += len;
        (self.at <= self.end).then_some(bytes)
    }

    #[inline]
    fn ethernet(&mut self) -> Option<Macs> {
        let header: &[u8; ETHERNET] = self.take(ETHERNET)?.try_into().ok()?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *header;
        let is_ip = be16(header, 12) == IPV4;
        is_ip.then_some(Macs { dst: [d0, d1, d2, d3, d4, d5], src: [s0, s1, s2, s3, s4, s5] })
    }

    #[inline]
    fn ip(&mut self) -> Option<Ip> {
        let left = self.end - self.at;
        let begin = self.at;
        let header: &[u8; IP] = self.take(IP)?.try_into().ok()?;
        let flags = be16(header, 6);
        // Five words and no options; neither more fragments nor an offset.
        if header[0] != 0x45 || flags & 0x3fff != 0 {
            return None;
        }
        let total = usize::from(be16(header, 2));
        let total = if total == 0 || total > left { left } else { total.max(IP) };
        self.end = begin + total;
        Some(Ip {
            src: IpAddr::V4(ipv4(header, 12)),
            dst: IpAddr::V4(ipv4(header, 16)),
            protocol: header[9],
            ttl: header[8],
            traffic_class: header[1],
            id: Some(u32::from(be16(header, 4))),
            dont_fragment: flags & 0x4000 != 0,
            fragment: None,
            payload_len: u32::try_from(total - IP).ok()?,
            checksum_ok: Some(checksum(header) == 0xffff),
        })
    }

    #[inline]
    fn udp(&mut self) -> Option<Udp> {
        let header: &[u8; UDP] = self.take(UDP)?.try_into().ok()?;
        Some(Udp {
            src_port: be16(header, 0),
            dst_port: be16(header, 2),
            len: be16(header, 4),
            checksum: be16(header, 6),
        })
    }

    /// A datagram that is surely no tunnel's.
    #[inline]
    fn plain(&self, udp: Udp) -> Option<Transport> {
        let tunnel = udp.dst_port == GENEVE_PORT || self.whole[self.at..].starts_with(&VXLAN_BEGINS);
        (!tunnel).then_some(Transport::Udp(udp))
    }

    /// A datagram inside a tunnel.
    #[inline]
    fn last_udp(&mut self) -> Option<Transport> {
        let udp = self.udp()?;
        if VXLAN_PORTS.contains(&udp.dst_port) { None } else { self.plain(udp) }
    }

    #[inline]
    fn transport(&mut self, protocol: u8) -> Option<Transport> {
        match protocol {
            6 => {
                let fixed = self.whole.get(self.at..self.at + 20)?;
                let header = self.take(usize::from(fixed[12] >> 4) * 4)?;
                (header.len() >= 20).then(|| Transport::Tcp(tcp_fields(&header[..20], &header[20..])))
            }
            1 => {
                let header = self.take(8)?;
                let (id, seq) = (be16(header, 4), be16(header, 6));
                matches!(header[0], 0 | 8).then_some(Transport::Echo { request: header[0] == 8, id, seq })
            }
            _ => None,
        }
    }
}
