//! The reader behind [`Packet::read`], for every frame there is: walks it from the link layer inwards, takes tunnels
//! off, and stops where bytes or sense end. Header formats come from etherparse; what it has not (cooked v2, loopback,
//! VXLAN, Geneve, GRE, SCTP) is read here by offset.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::{
    Arp, Cooked, Fragment, Frame, IcmpError, Ip, Layer, LinkType, MAX_TUNNELS, Macs, Network, Packet, Stop,
    StopReason, Tcp, Transport, Tunnel, TunnelKind, Tunnels, Udp, icmp_quote,
};

pub(super) const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const VLANS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

/// VXLAN's port by RFC 7348, the kernel's old default, and the one that sites with a hypervisor in the way choose.
pub(super) const VXLAN_PORTS: [u16; 3] = [4789, 8472, 4799];
pub(super) const GENEVE_PORT: u16 = 6081;
/// The flag and three bytes that are 0: what a VXLAN header on another port begins with.
pub(super) const VXLAN_BEGINS: [u8; 4] = [8, 0, 0, 0];

/// A frame being read: what is left of it, and what was read so far.
pub(super) struct Reader<'a> {
    whole: &'a [u8],
    /// Where the next layer begins.
    at: usize,
    /// Where the innermost packet ends on the wire, from the start of the frame.
    end: usize,
    /// Where the frame ends on the wire.
    wire_end: usize,
    packet: Packet<'a>,
}

pub(super) fn read<'a>(frame: &Frame<'a>) -> Packet<'a> {
    let mut reader = Reader::of(frame.bytes, (frame.wire_len as usize).max(frame.bytes.len()));
    if let Err(stop) = reader.link(frame.link) {
        reader.packet.stopped = Some(stop);
    }
    reader.packet
}

/// A packet before its first header.
pub(super) fn nothing_read<'a>() -> Packet<'a> {
    Packet {
        macs: None,
        cooked: None,
        vlans: [None; 2],
        tunnels: Tunnels::new(),
        network: Network::Other(0),
        transport: Transport::None,
        payload: &[],
        payload_len: 0,
        stopped: None,
    }
}

pub(super) type Read<T> = Result<T, Stop>;

/// No packet is longer, where nothing else tells its end (RFC 791).
pub(super) const LONGEST: usize = 65_535;

impl<'a> Reader<'a> {
    /// At the first byte of what was so long on the wire.
    pub(super) fn of(whole: &'a [u8], wire_end: usize) -> Self {
        Self { whole, at: 0, end: wire_end, wire_end, packet: nothing_read() }
    }

    /// What is left from here.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.whole.get(self.at..).unwrap_or(&[])
    }

    fn stop(&self, layer: Layer, why: StopReason) -> Stop {
        Stop { layer, offset: u32::try_from(self.at).unwrap_or(u32::MAX), why }
    }

    /// `len` bytes from here, or why they are not there.
    fn need(&self, layer: Layer, len: usize) -> Read<&'a [u8]> {
        match self.whole.get(self.at..self.at.saturating_add(len)) {
            Some(bytes) if self.at + len <= self.end => Ok(bytes),
            _ => {
                let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let captured = self.whole.len().saturating_sub(self.at);
                let (needed, had) = (number(len), number(captured));
                let cut = self.whole.len() < self.wire_end && self.at + len <= self.end;
                Err(self.stop(
                    layer,
                    if cut { StopReason::Cut { needed, had } } else { StopReason::TooShort { needed, had } },
                ))
            }
        }
    }

    fn take(&mut self, layer: Layer, len: usize) -> Read<&'a [u8]> {
        let bytes = self.need(layer, len)?;
        self.at += len;
        Ok(bytes)
    }

    fn link(&mut self, link: LinkType) -> Read<()> {
        match link {
            LinkType::Ethernet => {
                let (macs, ether_type) = self.ethernet()?;
                self.packet.macs = Some(macs);
                self.network(ether_type)
            }
            LinkType::LinuxSll => {
                let header = self.take(Layer::Link, 16)?;
                self.packet.cooked = Some(Cooked {
                    if_index: None,
                    packet_type: be16(header, 0),
                    hardware: be16(header, 2),
                    sender: (be16(header, 4) == 6).then(|| mac(header, 6)),
                });
                self.tagged(be16(header, 14))
            }
            LinkType::LinuxSll2 => {
                let header = self.take(Layer::Link, 20)?;
                let packet_type = u16::from(header[10]);
                self.packet.cooked = Some(Cooked {
                    if_index: Some(be32(header, 4)),
                    packet_type,
                    hardware: be16(header, 8),
                    sender: (header[11] == 6).then(|| mac(header, 12)),
                });
                self.tagged(be16(header, 0))
            }
            LinkType::Raw => {
                let version = self.need(Layer::Ip, 1)?[0] >> 4;
                self.network(if version == 6 { IPV6 } else { IPV4 })
            }
            LinkType::Ipv4 => self.network(IPV4),
            LinkType::Ipv6 => self.network(IPV6),
            LinkType::Null | LinkType::Loop => {
                let header = self.take(Layer::Link, 4)?;
                let family = match (be32(header, 0), link) {
                    (big, LinkType::Loop) => big,
                    (big, _) if big < 0x1_0000 => big,
                    (big, _) => big.swap_bytes(),
                };
                // AF_INET; AF_INET6 of the BSDs, macOS and Linux.
                match family {
                    2 => self.network(IPV4),
                    10 | 24 | 28 | 30 => self.network(IPV6),
                    _ => Err(self.stop(Layer::Link, StopReason::BadValue)),
                }
            }
            LinkType::Other(_) => Err(self.stop(Layer::Link, StopReason::Unsupported)),
        }
    }

    fn ethernet(&mut self) -> Read<(Macs, u16)> {
        let header = self.take(Layer::Link, 14)?;
        let macs = Macs { dst: mac(header, 0), src: mac(header, 6) };
        let ether_type = self.tags(be16(header, 12))?;
        Ok((macs, ether_type))
    }

    /// Takes VLAN tags, two at most; gives the type of what follows.
    fn tags(&mut self, mut ether_type: u16) -> Read<u16> {
        let mut depth = 0;
        while VLANS.contains(&ether_type) && depth < 2 {
            let tag = self.take(Layer::Vlan, 4)?;
            if self.packet.tunnels.is_empty() {
                self.packet.vlans[depth] = Some(be16(tag, 0) & 0x0fff);
            }
            ether_type = be16(tag, 2);
            depth += 1;
        }
        Ok(ether_type)
    }

    /// What follows a cooked header: perhaps VLAN tags.
    fn tagged(&mut self, ether_type: u16) -> Read<()> {
        let ether_type = self.tags(ether_type)?;
        self.network(ether_type)
    }

    fn network(&mut self, ether_type: u16) -> Read<()> {
        match ether_type {
            IPV4 => self.ipv4(),
            IPV6 => self.ipv6(),
            ARP => self.arp(),
            other => {
                self.packet.network = Network::Other(other);
                Ok(())
            }
        }
    }

    fn arp(&mut self) -> Read<()> {
        self.packet.network = Network::Other(ARP);
        let body = self.need(Layer::Arp, 28)?;
        if be16(body, 0) != 1 || be16(body, 2) != IPV4 {
            return Err(self.stop(Layer::Arp, StopReason::Unsupported));
        }
        self.packet.network = Network::Arp(Arp {
            operation: be16(body, 6),
            sender_mac: <[u8; 6]>::try_from(&body[8..14]).expect("six bytes"),
            sender: ipv4(body, 14),
            target: ipv4(body, 24),
        });
        Ok(())
    }

    fn ipv4(&mut self) -> Read<()> {
        let ip = self.ipv4_header()?;
        self.packet.network = Network::Ip(ip);
        self.transport(&ip)
    }

    pub(super) fn ipv4_header(&mut self) -> Read<Ip> {
        let first = self.need(Layer::Ip, 20)?;
        if first[0] >> 4 != 4 || first[0] & 0x0f < 5 {
            return Err(self.stop(Layer::Ip, StopReason::BadValue));
        }
        let header_len = usize::from(first[0] & 0x0f) * 4;
        let bytes = self.need(Layer::Ip, header_len)?;
        let header =
            Ipv4HeaderSlice::from_slice(bytes).map_err(|_| self.stop(Layer::Ip, StopReason::BadValue))?;
        let total = usize::from(header.total_len());
        let left = self.end - self.at;
        // 0 with segmentation offload (big TCP); a packet that claims more than the frame had is cut by the frame.
        let total = if total == 0 || total > left { left } else { total.max(header_len) };
        let fragment = (header.more_fragments() || header.fragments_offset().value() > 0).then(|| Fragment {
            offset: u32::from(header.fragments_offset().value()) * 8,
            more: header.more_fragments(),
        });
        let sum = checksum(bytes);
        self.end = self.at + total;
        self.at += header_len;
        Ok(Ip {
            src: IpAddr::V4(header.source_addr()),
            dst: IpAddr::V4(header.destination_addr()),
            protocol: header.protocol().0,
            ttl: header.ttl(),
            traffic_class: bytes[1],
            id: Some(u32::from(header.identification())),
            dont_fragment: header.dont_fragment(),
            fragment,
            payload_len: u32::try_from(total - header_len).unwrap_or(u32::MAX),
            checksum_ok: Some(sum == 0xffff),
        })
    }

    fn ipv6(&mut self) -> Read<()> {
        let ip = self.ipv6_header()?;
        self.packet.network = Network::Ip(ip);
        match self.extensions(ip) {
            Ok(ip) => {
                self.packet.network = Network::Ip(ip);
                self.transport(&ip)
            }
            Err(stop) => Err(stop),
        }
    }

    pub(super) fn ipv6_header(&mut self) -> Read<Ip> {
        let bytes = self.need(Layer::Ip, 40)?;
        let header =
            Ipv6HeaderSlice::from_slice(bytes).map_err(|_| self.stop(Layer::Ip, StopReason::BadValue))?;
        let left = self.end - self.at - 40;
        let claimed = usize::from(header.payload_length());
        let payload = if claimed == 0 || claimed > left { left } else { claimed };
        self.end = self.at + 40 + payload;
        self.at += 40;
        Ok(Ip {
            src: IpAddr::V6(Ipv6Addr::from(header.source())),
            dst: IpAddr::V6(Ipv6Addr::from(header.destination())),
            protocol: header.next_header().0,
            ttl: header.hop_limit(),
            traffic_class: header.traffic_class(),
            id: None,
            dont_fragment: true,
            fragment: None,
            payload_len: u32::try_from(payload).unwrap_or(u32::MAX),
            checksum_ok: None,
        })
    }

    /// Walks the extension headers (RFC 8200, section 4) up to the upper protocol.
    pub(super) fn extensions(&mut self, mut ip: Ip) -> Read<Ip> {
        for _ in 0..8 {
            let len = match ip.protocol {
                0 | 43 | 60 => (usize::from(self.need(Layer::Ip, 2)?[1]) + 1) * 8,
                44 => 8,
                // AH counts in 4-byte words, less two (RFC 4302).
                51 => (usize::from(self.need(Layer::Ip, 2)?[1]) + 2) * 4,
                _ => break,
            };
            let header = self.take(Layer::Ip, len)?;
            if ip.protocol == 44 {
                let field = be16(header, 2);
                let (offset, more) = (u32::from(field & 0xfff8), field & 1 == 1);
                ip.id = Some(be32(header, 4));
                ip.fragment = (offset > 0 || more).then_some(Fragment { offset, more });
            }
            ip.protocol = header[0];
            ip.payload_len = u32::try_from(self.end - self.at).unwrap_or(u32::MAX);
            if ip.fragment.is_some_and(|fragment| fragment.offset > 0) {
                break;
            }
        }
        Ok(ip)
    }

    fn transport(&mut self, ip: &Ip) -> Read<()> {
        if ip.fragment.is_some_and(|fragment| fragment.offset > 0) {
            self.packet.transport = Transport::LaterFragment;
            self.payload();
            return Ok(());
        }
        match ip.protocol {
            6 => self.tcp(),
            17 => self.udp(ip),
            1 => self.icmp(false),
            58 => self.icmp(true),
            132 => {
                let header = self.take(Layer::Transport, 12)?;
                self.packet.transport = Transport::Sctp {
                    src_port: be16(header, 0),
                    dst_port: be16(header, 2),
                    tag: be32(header, 4),
                };
                self.payload();
                Ok(())
            }
            4 | 41 => self.inside(ip, TunnelKind::IpIp, None, |reader| {
                reader.network(if ip.protocol == 4 { IPV4 } else { IPV6 })
            }),
            47 => self.gre(ip),
            _ => {
                self.packet.transport = Transport::Opaque;
                self.payload();
                Ok(())
            }
        }
    }

    /// Takes what is left for the payload.
    fn payload(&mut self) {
        let end = self.end.min(self.whole.len());
        self.packet.payload = self.whole.get(self.at..end).unwrap_or(&[]);
        self.packet.payload_len = u32::try_from(self.end.saturating_sub(self.at)).unwrap_or(u32::MAX);
    }

    fn tcp(&mut self) -> Read<()> {
        let fixed = self.need(Layer::Transport, 20)?;
        let header_len = usize::from(fixed[12] >> 4) * 4;
        if header_len < 20 {
            return Err(self.stop(Layer::Transport, StopReason::BadValue));
        }
        let shown = self.whole.len().min(self.end).min(self.at + header_len);
        let tcp = tcp_fields(fixed, &self.whole[self.at + 20..shown.max(self.at + 20)]);
        self.packet.transport = Transport::Tcp(tcp);
        if self.at + header_len > self.end {
            return Err(self.need(Layer::Transport, header_len).expect_err("longer than the packet"));
        }
        let cut = self.need(Layer::Transport, header_len).err();
        self.at += header_len;
        self.payload();
        cut.map_or(Ok(()), Err)
    }

    fn udp(&mut self, ip: &Ip) -> Read<()> {
        let header = self.take(Layer::Transport, 8)?;
        let udp = Udp {
            src_port: be16(header, 0),
            dst_port: be16(header, 2),
            len: be16(header, 4),
            checksum: be16(header, 6),
        };
        self.packet.transport = Transport::Udp(udp);
        self.payload();
        if ip.fragment.is_some() {
            // The whole datagram's length is in its header; the fragment's own is shorter.
            self.packet.payload_len = u32::from(udp.len.max(8)) - 8;
        }
        if VXLAN_PORTS.contains(&udp.dst_port) || self.looks_like_vxlan() {
            return self.vxlan(ip, udp);
        }
        if udp.dst_port == GENEVE_PORT {
            return self.geneve(ip, udp);
        }
        Ok(())
    }

    /// On another port only a header that is exact, with a plausible frame behind it, is taken for VXLAN.
    fn looks_like_vxlan(&self) -> bool {
        let payload = self.packet.payload;
        if payload.len() < 8 + 14 + 20 || payload[..4] != VXLAN_BEGINS || payload[7] != 0 {
            return false;
        }
        let inner = &payload[8..];
        match be16(inner, 12) {
            IPV4 => {
                let ip = &inner[14..];
                ip[0] >> 4 == 4
                    && ip[0] & 0x0f >= 5
                    && usize::from(be16(ip, 2)) + 14 + 8 <= self.packet.payload_len as usize
            }
            IPV6 => inner[14] >> 4 == 6,
            ARP => be16(inner, 14) == 1 && be16(inner, 16) == IPV4,
            _ => false,
        }
    }

    /// Reads what a tunnel carries. If not even its first header can be read, the tunnel's own packet stays.
    fn inside(
        &mut self,
        outer: &Ip,
        kind: TunnelKind,
        ports: Option<(u16, u16)>,
        read: impl FnOnce(&mut Self) -> Read<()>,
    ) -> Read<()> {
        if self.packet.tunnels.len() >= MAX_TUNNELS {
            return Err(self.stop(Layer::Tunnel, StopReason::Unsupported));
        }
        self.packet.tunnels.push(Tunnel { kind, outer: *outer, ports, inner_at: self.at, inner_macs: None });
        self.packet.network = Network::Other(0);
        self.packet.transport = Transport::None;
        self.packet.payload = &[];
        self.packet.payload_len = 0;
        if outer.fragment.is_some() {
            // Only the first piece of the tunnel's packet is here: what is inside ends beyond it.
            self.end = self.at + LONGEST;
        }
        read(self)
    }

    fn frame_inside(&mut self) -> Read<()> {
        let (macs, ether_type) = self.ethernet()?;
        if let Some(tunnel) = self.packet.tunnels.last_mut() {
            tunnel.inner_macs = Some(macs);
        }
        self.network(ether_type)
    }

    fn vxlan(&mut self, ip: &Ip, udp: Udp) -> Read<()> {
        let header = self.take(Layer::Tunnel, 8)?;
        let kind = TunnelKind::Vxlan { vni: be32(header, 4) >> 8, flag_i: header[0] & 0x08 != 0 };
        self.inside(ip, kind, Some((udp.src_port, udp.dst_port)), Self::frame_inside)
    }

    fn geneve(&mut self, ip: &Ip, udp: Udp) -> Read<()> {
        let header = self.need(Layer::Tunnel, 8)?;
        let options = usize::from(header[0] & 0x3f) * 4;
        let protocol = be16(header, 2);
        self.take(Layer::Tunnel, 8 + options)?;
        let kind = TunnelKind::Geneve { vni: be32(header, 4) >> 8 };
        self.inside(ip, kind, Some((udp.src_port, udp.dst_port)), |reader| match protocol {
            0x6558 => reader.frame_inside(),
            other => reader.network(other),
        })
    }

    fn gre(&mut self, ip: &Ip) -> Read<()> {
        let header = self.need(Layer::Tunnel, 4)?;
        let (flags, protocol) = (be16(header, 0), be16(header, 2));
        if flags & 0x0007 != 0 {
            // Version 1 is PPTP's: opaque.
            self.packet.transport = Transport::Opaque;
            self.payload();
            return Ok(());
        }
        let field = |bit: u16| if flags & bit != 0 { 4 } else { 0 };
        let (sum, key, sequence) = (field(0x8000), field(0x2000), field(0x1000));
        let header = self.take(Layer::Tunnel, 4 + sum + key + sequence)?;
        let key = (key > 0).then(|| be32(header, 4 + sum));
        self.inside(ip, TunnelKind::Gre { key }, None, |reader| match protocol {
            0x6558 => reader.frame_inside(),
            other => reader.network(other),
        })
    }

    fn icmp(&mut self, v6: bool) -> Read<()> {
        let header = self.take(Layer::Transport, 8)?;
        let (kind, code) = (header[0], header[1]);
        let (request, reply) = if v6 { (128, 129) } else { (8, 0) };
        let is_error = if v6 { (1..=4).contains(&kind) } else { [3, 4, 5, 11, 12].contains(&kind) };
        self.packet.transport = if kind == request || kind == reply {
            Transport::Echo { request: kind == request, id: be16(header, 4), seq: be16(header, 6) }
        } else if is_error {
            let mtu = match (v6, kind, code) {
                (false, 3, 4) => Some(u32::from(be16(header, 6))),
                (true, 2, _) => Some(be32(header, 4)),
                _ => None,
            };
            self.payload();
            let quoted = icmp_quote::quoted(self.packet.payload).map(Box::new);
            Transport::IcmpError(IcmpError { kind, code, mtu, quoted })
        } else {
            Transport::Icmp { kind, code }
        };
        self.payload();
        Ok(())
    }
}

pub(super) fn tcp_fields(fixed: &[u8], options: &[u8]) -> Tcp {
    let mut tcp = Tcp {
        src_port: be16(fixed, 0),
        dst_port: be16(fixed, 2),
        seq: be32(fixed, 4),
        ack: be32(fixed, 8),
        flags: be16(fixed, 12) & 0x01ff,
        window: be16(fixed, 14),
        timestamps: None,
        mss: None,
    };
    let mut rest = options;
    while let [kind, tail @ ..] = rest {
        match (kind, tail.first()) {
            (0, _) => break,
            (1, _) => rest = tail,
            (_, Some(&len)) if len >= 2 && rest.len() >= usize::from(len) => {
                match (kind, len) {
                    (2, 4) => tcp.mss = Some(be16(rest, 2)),
                    (8, 10) => tcp.timestamps = Some((be32(rest, 2), be32(rest, 6))),
                    _ => {}
                }
                rest = &rest[usize::from(len)..];
            }
            _ => break,
        }
    }
    tcp
}

/// The Internet checksum's running sum over whole words (RFC 1071): 0xffff when the stored checksum is right.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(be16(pair, 0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

fn mac(bytes: &[u8], at: usize) -> [u8; 6] {
    <[u8; 6]>::try_from(&bytes[at..at + 6]).expect("six bytes of a header")
}

pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn ipv4(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(be32(bytes, at))
}
