//! One reading of a file: which interfaces it holds, from when to when, and a sample of the packets that came by each.
//! Takes a capture file, gives its lanes: one for each interface, or for each interface index of a Linux cooked capture. A
//! large file that can hold one lane only is read until the sample is full, and then at its end. What the packets mean for
//! a trace is not asked here.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;
use std::net::IpAddr;
use std::path::Path;

use rustc_hash::FxHasher;

use crate::evidence::capture_file::{CaptureError, End, Reader, Statistics};
use crate::packet::{Frame, LinkType, Network, Packet, Tcp, Transport};

use super::name::Told;

/// What one interface of a file saw.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    /// The files that it is in: several when the capture was rotated, in the order of time.
    pub(super) files: Vec<usize>,
    /// When its first and last frame in each of them were captured.
    pub(super) spans: Vec<Option<(i64, i64)>>,
    /// The interface's index in each of them.
    pub(super) interface: usize,
    /// The interface's index on its node, of a cooked capture.
    pub(super) index: Option<u32>,
    /// The part of an interface's packets that this is, when several points are mixed in it.
    pub(super) class: Option<Class>,
    /// As the file calls it.
    pub(super) name: Option<String>,
    /// Frames.
    pub(super) link: LinkType,
    /// Most bytes kept of each; 0 for no limit.
    pub(super) snaplen: u32,
    /// How many frames; about so many, of a file that was not read to its end.
    pub(super) frames: u64,
    /// When the first and the last were captured.
    pub(super) span: Option<(i64, i64)>,
    /// What the file counts.
    pub(super) statistics: Option<Statistics>,
    /// Some packets.
    pub(super) sights: Vec<Sight>,
    /// Whether any packet of any tunnel was among those looked at.
    pub(super) tunnels: bool,
    /// Whether ARP was.
    pub(super) arps: bool,
    /// The UDP port of the first VXLAN packet.
    pub(super) vxlan_port: Option<u16>,
}

/// Which packets of an interface, where a capture mixes several places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Those in a tunnel.
    Tunnelled,
    /// Those in none.
    Plain,
    /// Those in none, seen by an interface on the side of where the traffic starts.
    NearFrom,
    /// By one on the other side.
    NearTo,
    /// None: the capture would have shown them, and did not.
    Nothing,
}

/// One packet that came by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    /// Equal for the same packet elsewhere, and seldom for another.
    pub(super) key: u64,
    /// What tells a datagram from others of its length: a hash of its first bytes; none when fewer were kept.
    content: Option<u64>,
    pub(super) time: i64,
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) ports: Option<(u16, u16)>,
    pub(super) ttl: u8,
    /// Source and destination of the outermost tunnel around it.
    pub(super) tunnel: Option<(IpAddr, IpAddr)>,
    /// Whether the host's side of a pod's veth sent or took it.
    pub(super) gate: Option<Gate>,
    /// Whether both Ethernet addresses are of Calico's tunnel devices.
    pub(super) vtep: bool,
    /// Which way it went through the interface, if the capture tells.
    pub(super) way: Option<Way>,
    /// Whether the device has no Ethernet addresses.
    pub(super) bare: bool,
    /// What it says of the other direction.
    pub(super) says: Says,
}

/// What a packet says of the other direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// A TCP SYN or an echo request: its sender begins.
    Asks,
    /// A TCP reset: a firewall on the way may have sent it under the other end's address.
    Resets,
    /// TCP past its handshake: packets of the other direction have come to its sender.
    Acknowledges,
    Nothing,
}

/// Calico gives every veth's host side one address: who bears it tells whose veth it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// The frame comes from the host's side: it goes into the pod.
    Sends,
    /// The frame goes to the host's side: it comes out of the pod.
    Takes,
}

/// Which way a packet went, seen from the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

/// What is kept of an interface's name: Linux' own have 15 characters, a file may say anything.
const LONGEST_NAME: usize = 64;

/// Which frames of a file are looked into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample<'a> {
    /// One packet of so many, the same ones in each file; 1 takes those at the beginning.
    pub(super) stride: u64,
    /// Packets of these addresses come first; without any all are alike.
    pub(super) about: &'a [IpAddr],
}

/// Packets kept of a lane, and of a file.
const MOST: (usize, usize) = (20_000, 60_000);
/// Of these, packets of other addresses than those that are asked for.
const MOST_OTHERS: usize = 2_000;
/// Frames that are looked into, at the beginning of each file.
const MOST_LOOKED: u64 = 200_000;
/// Interfaces told apart in one file.
const MOST_LANES: usize = 512;

impl Sample<'_> {
    /// Reads a file to its end; also gives how it was cut, if it was.
    pub(super) fn look(
        self,
        number: usize,
        file: &Path,
    ) -> Result<(Vec<Lane>, Option<String>), CaptureError> {
        let mut reader = Reader::open(file)?;
        let mut lanes: BTreeMap<(usize, Option<u32>), Lane> = BTreeMap::new();
        let (mut looked, mut kept, mut sought_end) = (0, 0, false);
        while let Some(record) = reader.next_record()? {
            let place = (record.interface, index(&record.frame));
            if lanes.len() >= MOST_LANES && !lanes.contains_key(&place) {
                continue;
            }
            let lane = lanes.entry(place).or_insert_with(|| Lane::new(number, place, record.frame.link));
            let time = record.frame.time.0;
            lane.frames += 1;
            let (first, last) = lane.span.unwrap_or((time, time));
            lane.span = Some((first.min(time), last.max(time)));
            if kept < MOST.1 && lane.sights.len() < MOST.0 && (looked < MOST_LOOKED || self.stride > 1) {
                looked += 1;
                kept += usize::from(lane.note(&record.frame, self));
            } else if place.1.is_none()
                && !std::mem::replace(&mut sought_end, true)
                && let Some(end) = reader.end(file)
            {
                lane.ends(end);
                break;
            }
        }
        let all = reader.interfaces();
        let shown: BTreeSet<usize> = lanes.keys().map(|(interface, _)| *interface).collect();
        for (interface, of) in all.iter().enumerate().take(MOST_LANES) {
            // One that saw nothing was captured all the same, if the file counts what it saw.
            if shown.is_empty() || (of.statistics.is_some() && !shown.contains(&interface)) {
                lanes.insert((interface, None), Lane::new(number, (interface, None), of.link));
            }
        }
        for ((interface, _), lane) in &mut lanes {
            if let Some(of) = all.get(*interface) {
                lane.name = of.name.as_ref().map(|name| name.chars().take(LONGEST_NAME).collect());
                lane.snaplen = of.snaplen;
                lane.statistics = of.statistics;
            }
            lane.spans = vec![lane.span];
        }
        Ok((lanes.into_values().collect(), reader.truncated().map(str::to_owned)))
    }
}

impl Lane {
    fn new(file: usize, (interface, index): (usize, Option<u32>), link: LinkType) -> Self {
        Self {
            files: vec![file],
            spans: vec![None],
            interface,
            index,
            class: None,
            name: None,
            link,
            snaplen: 0,
            frames: 0,
            span: None,
            statistics: None,
            sights: Vec::new(),
            tunnels: false,
            arps: false,
            vxlan_port: None,
        }
    }

    /// Looks into a frame; says whether it was kept.
    fn note(&mut self, frame: &Frame<'_>, sample: Sample<'_>) -> bool {
        let packet = Packet::read(frame);
        self.tunnels |= !packet.tunnels.is_empty();
        self.arps |= matches!(packet.network, Network::Arp(_));
        if let Some(tunnel) = packet.tunnels.first()
            && matches!(tunnel.kind, crate::packet::TunnelKind::Vxlan { .. })
        {
            self.vxlan_port = self.vxlan_port.or(tunnel.ports.map(|(_, port)| port));
        }
        let Some(sight) = Sight::of(&packet, frame).filter(|sight| sight.key.is_multiple_of(sample.stride))
        else {
            return false;
        };
        let wanted =
            sample.about.is_empty() || sample.about.contains(&sight.src) || sample.about.contains(&sight.dst);
        if !wanted && self.sights.len() >= MOST_OTHERS {
            return false;
        }
        self.sights.push(sight);
        true
    }

    /// The rest of the file is known only by its end; its frames are taken to be as long as those before.
    fn ends(&mut self, end: End) {
        let more = u128::from(self.frames) * u128::from(end.left) / u128::from(end.read.max(1));
        self.frames = self.frames.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        self.span = self.span.map(|(first, last)| (first, last.max(end.latest.0)));
    }

    /// The address of the pod whose veth it is, if it is one.
    pub(super) fn owner(&self) -> Option<IpAddr> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for sight in self.sights.iter().filter(|sight| sight.tunnel.is_none()) {
            match sight.gate {
                Some(Gate::Takes) => *counts.entry(sight.src).or_default() += 1,
                Some(Gate::Sends) => *counts.entry(sight.dst).or_default() += 1,
                None => {}
            }
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address)
    }

    /// Whether it is part of a capture of all interfaces.
    pub(super) fn is_cooked(&self) -> bool {
        matches!(self.link, LinkType::LinuxSll | LinkType::LinuxSll2)
    }

    /// Only the packets that `which` takes, as a lane of their own.
    pub(super) fn part(&self, class: Class, which: impl Fn(&Sight) -> bool) -> Self {
        let sights = self.sights.iter().copied().filter(which).collect();
        Self { class: Some(class), sights, ..self.clone() }
    }

    /// Takes another part of the same capture in.
    pub(super) fn append(&mut self, later: Self) {
        self.files.extend(later.files);
        self.spans.extend(later.spans);
        self.frames += later.frames;
        self.span = match (self.span, later.span) {
            (Some((first, last)), Some((first2, last2))) => Some((first.min(first2), last.max(last2))),
            (one, other) => one.or(other),
        };
        self.sights.extend(later.sights);
        self.tunnels |= later.tunnels;
        self.arps |= later.arps;
        self.vxlan_port = self.vxlan_port.or(later.vxlan_port);
        self.statistics = match (self.statistics, later.statistics) {
            (Some(one), Some(other)) => Some(Statistics {
                received: None,
                dropped: Some(one.dropped.unwrap_or(0).saturating_add(other.dropped.unwrap_or(0))),
                start: one.start.min(other.start),
                end: one.end.max(other.end),
            }),
            _ => None,
        };
    }

    /// What the interface is called: by the file, by the file's name, or by its number.
    pub(super) fn called(&self, told: &Told) -> Option<String> {
        let named = self.name.clone().filter(|name| name != "any");
        match self.index {
            Some(index) => Some(format!("if{index}")),
            None => named.or_else(|| told.interface.clone().filter(|name| name != "any")),
        }
    }
}

impl Sight {
    fn of(packet: &Packet<'_>, frame: &Frame<'_>) -> Option<Self> {
        let ip = packet.ip()?;
        let cooked = packet.cooked;
        let gate = match (packet.macs, cooked) {
            (Some(macs), _) if macs.src == HOST_SIDE => Some(Gate::Sends),
            (Some(macs), _) if macs.dst == HOST_SIDE => Some(Gate::Takes),
            (None, Some(cooked)) if cooked.sender == Some(HOST_SIDE) => Some(Gate::Sends),
            _ => None,
        };
        let vtep = match (packet.macs, cooked) {
            (Some(macs), _) => macs.src[0] == VTEP && macs.dst[0] == VTEP,
            (None, Some(cooked)) => cooked.sender.is_some_and(|sender| sender[0] == VTEP),
            (None, None) => false,
        };
        let bare = match cooked {
            Some(cooked) => cooked.hardware != 1,
            None => matches!(frame.link, LinkType::Raw | LinkType::Ipv4 | LinkType::Ipv6),
        };
        Some(Self {
            key: recognised_by(packet)?,
            content: content(packet),
            time: frame.time.0,
            src: ip.src,
            dst: ip.dst,
            ports: packet.ports(),
            ttl: ip.ttl,
            tunnel: packet.tunnels.first().map(|tunnel| (tunnel.outer.src, tunnel.outer.dst)),
            gate,
            vtep,
            way: cooked.map(|cooked| way(cooked.packet_type)),
            bare,
            says: match &packet.transport {
                Transport::Tcp(tcp) if tcp.has(Tcp::RST) => Says::Resets,
                Transport::Tcp(tcp) if tcp.has(Tcp::SYN) && !tcp.has(Tcp::ACK) => Says::Asks,
                Transport::Tcp(tcp) if tcp.has(Tcp::ACK) && !tcp.has(Tcp::SYN) => Says::Acknowledges,
                Transport::Echo { request: true, .. } => Says::Asks,
                _ => Says::Nothing,
            },
        })
    }
}

/// Tells datagrams apart by their first bytes too, unless captures were cut too short for it: Linux gives most no IP
/// identification that would.
pub(super) fn tell_apart(lanes: &mut [Lane]) {
    let sights = || lanes.iter().flat_map(|lane| &lane.sights);
    let cut = sights().filter(|sight| sight.content.is_none()).count();
    if cut * 100 > sights().count() {
        return;
    }
    for sight in lanes.iter_mut().flat_map(|lane| &mut lane.sights) {
        sight.key ^= sight.content.unwrap_or_default();
    }
}

/// `ee:ee:ee:ee:ee:ee`: Calico's host side of every pod's veth.
const HOST_SIDE: [u8; 6] = [0xee; 6];
/// First byte of the addresses that Felix gives VXLAN devices (`calc/vxlan_resolver.go`).
const VTEP: u8 = 0x66;
/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u16 = 4;

/// Which way a cooked packet of this type went.
pub(super) fn way(packet_type: u16) -> Way {
    if packet_type == OUTGOING { Way::Out } else { Way::In }
}

/// The interface's index on its node, without reading the packet.
pub(super) fn index(frame: &Frame<'_>) -> Option<u32> {
    let bytes = frame.bytes.get(4..8).filter(|_| frame.link == LinkType::LinuxSll2)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// Bytes of a datagram that are looked at.
const CONTENT: usize = 32;

fn content(packet: &Packet<'_>) -> Option<u64> {
    if !matches!(packet.transport, Transport::Udp(_)) {
        return Some(0);
    }
    let wanted = CONTENT.min(usize::try_from(packet.payload_len).unwrap_or(usize::MAX));
    let mut hash = FxHasher::default();
    hash.write(packet.payload.get(..wanted)?);
    Some(hash.finish())
}

/// Fewer fields than what packets are matched by later: it need only find some of them again, and no address or port,
/// which may be translated on the way.
fn recognised_by(packet: &Packet<'_>) -> Option<u64> {
    let ip = packet.ip()?;
    let mut hash = FxHasher::default();
    hash.write_u8(ip.protocol);
    hash.write_u32(packet.payload_len);
    match &packet.transport {
        Transport::None => return None,
        Transport::Tcp(tcp) => {
            hash.write_u32(tcp.seq);
            hash.write_u32(tcp.ack);
            hash.write_u16(tcp.flags & (Tcp::SYN | Tcp::FIN | Tcp::RST | Tcp::ACK));
        }
        Transport::Echo { request, id, seq } => {
            hash.write_u8(u8::from(*request));
            hash.write_u16(*id);
            hash.write_u16(*seq);
        }
        Transport::Udp(udp) => hash.write_u16(udp.len),
        _ => {}
    }
    if !matches!(packet.transport, Transport::Tcp(_)) {
        hash.write_u32(ip.id.unwrap_or(0));
        hash.write_u32(ip.fragment.map_or(0, |fragment| fragment.offset));
    }
    // Its low bits choose the sample.
    let hash = hash.finish();
    Some(hash ^ hash >> 32)
}
