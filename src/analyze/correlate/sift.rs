//! Whose packet it is: takes a packet seen at a point and says whether it belongs to the two ends, which way it
//! goes, where on the path it was seen, and whether it is on a way that it should not take. Notes ARP and ICMP
//! errors about the two ends beside. Judges nothing but membership.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::evidence::{Case, Direction, PointId, Role};
use crate::packet::{Flow, Ip, Network, Packet, Plain, PlainTransport, Tcp, Transport};

/// Knows the two ends and the paths between them, and what was noted.
#[derive(Debug)]
pub struct Sift {
    members: Members,
    /// Ways that packets took although they should not, in the order of their first sighting.
    pub astray: Vec<Astray>,
    /// ICMP errors that quote the traffic, with how many were seen at the point that saw most.
    pub errors: BTreeMap<ErrorNote, BTreeMap<PointId, u64>>,
    /// ARP requests and replies: by point and the address asked for.
    pub arps: BTreeMap<(PointId, std::net::Ipv4Addr), ArpNote>,
}

/// Knows the two ends and the paths between them.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    from: End,
    to: End,
    protocol: Option<u8>,
    /// None: all.
    ports: Vec<u16>,
    points: Vec<Place>,
}

/// What a packet at a point is to the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sifted {
    /// Which way it goes.
    pub direction: Direction,
    /// Where on that direction's path.
    pub position: u8,
    /// Its five-tuple, oriented forward.
    pub flow: Flow,
    /// Index into [`Sift::astray`].
    pub astray: Option<u8>,
}

/// A way that is not the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Astray {
    /// On a NIC without the encapsulation that it should have.
    Unencapsulated {
        /// Where.
        point: PointId,
        /// Which way it went.
        direction: Direction,
    },
    /// Encapsulated to an address that is not the destination's node.
    To {
        /// Where.
        point: PointId,
        /// Which way it went.
        direction: Direction,
        /// The outer destination.
        address: IpAddr,
    },
}

/// An ICMP error about the traffic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorNote {
    /// Who sent it.
    pub by: IpAddr,
    /// Type and code.
    pub kind: (u8, u8),
    /// Whether it is `ICMPv6`.
    pub v6: bool,
    /// The next hop's MTU, if it says one.
    pub mtu: Option<u32>,
    /// What it quotes.
    pub about: About,
}

/// Which packet an ICMP error quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// One between the two ends; true from `from` to `to`.
    Traffic(bool),
    /// The outer packet of the tunnel between their nodes.
    Tunnel,
}

/// ARP about one address at one point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArpNote {
    /// Requests.
    pub requests: u64,
    /// Replies.
    pub replies: u64,
}

#[derive(Debug, Clone)]
struct End {
    address: IpAddr,
    aliases: Vec<IpAddr>,
    /// Underlay addresses of its node; empty when they are not known.
    node: Vec<IpAddr>,
}

#[derive(Debug, Clone)]
struct Place {
    role: Role,
    /// On the forward and the reply path.
    positions: [Option<u8>; 2],
    /// Whether packets here should be encapsulated.
    encapsulated: bool,
}

/// Distinct notes kept of each kind: garbage must not fill the memory.
const MOST_NOTES: usize = 256;

impl Sift {
    /// For the ends and paths of a case.
    pub fn new(case: &Case) -> Self {
        Self {
            members: Members::new(case),
            astray: Vec::new(),
            errors: BTreeMap::new(),
            arps: BTreeMap::new(),
        }
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// What this packet is to the trace; None when it is not of the two ends or not on the path.
    pub fn sift(&mut self, point: PointId, packet: &Packet<'_>) -> Option<Sifted> {
        self.note(point, packet);
        let sifted = self.members.place(point, packet)?;
        let astray = self.members.astray(point, sifted.direction, packet).and_then(|way| self.number(way));
        Some(Sifted { astray, ..sifted })
    }

    /// Which way a flow goes between the two ends, under any of their addresses.
    pub fn direction(&self, flow: &Flow) -> Option<Direction> {
        self.members.direction(flow)
    }

    /// Whether both are addresses of the two ends.
    pub fn is_between(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.members.between(src, dst).is_some()
    }

    /// The number of a way astray.
    fn number(&mut self, way: Astray) -> Option<u8> {
        let index = self.astray.iter().position(|known| *known == way).or_else(|| {
            (self.astray.len() < MOST_NOTES).then(|| {
                self.astray.push(way);
                self.astray.len() - 1
            })
        });
        u8::try_from(index.unwrap_or(0)).ok()
    }

    fn note(&mut self, point: PointId, packet: &Packet<'_>) {
        if let Network::Arp(arp) = &packet.network {
            let about = if arp.operation == 2 { arp.sender } else { arp.target };
            if self.arps.len() < MOST_NOTES || self.arps.contains_key(&(point, about)) {
                let note = self.arps.entry((point, about)).or_default();
                note.requests += u64::from(arp.operation == 1);
                note.replies += u64::from(arp.operation == 2);
            }
        }
        let (Some(ip), Transport::IcmpError(error)) = (packet.ip(), &packet.transport) else { return };
        let Some(about) = error.quoted.as_ref().and_then(|quoted| self.members.about(&quoted.ip)) else {
            return;
        };
        let note = ErrorNote {
            by: ip.src,
            kind: (error.kind, error.code),
            v6: ip.src.is_ipv6(),
            mtu: error.mtu,
            about,
        };
        if self.errors.len() < MOST_NOTES || self.errors.contains_key(&note) {
            *self.errors.entry(note).or_default().entry(point).or_default() += 1;
        }
    }
}

impl Members {
    fn new(case: &Case) -> Self {
        let node = |name: &Option<String>| {
            let facts = case.nodes.iter().find(|node| node.on_path && Some(&node.name) == name.as_ref());
            facts.map(|node| node.addresses.clone()).unwrap_or_default()
        };
        let position = |direction, id| {
            let path = case.paths.iter().find(|path| path.direction == direction)?;
            path.points.iter().position(|point| *point == id).and_then(|at| u8::try_from(at).ok())
        };
        let encapsulated = case.paths.iter().any(|path| path.encapsulated);
        let points = case.points.iter().enumerate().map(|(index, point)| {
            let id = PointId(u8::try_from(index).unwrap_or(u8::MAX));
            Place {
                role: point.role,
                positions: [position(Direction::Forward, id), position(Direction::Reply, id)],
                encapsulated: encapsulated && point.role == Role::Nic,
            }
        });
        Self {
            from: End {
                address: case.from.address,
                aliases: case.aliases.from.clone(),
                node: node(&case.from.node),
            },
            to: End { address: case.to.address, aliases: case.aliases.to.clone(), node: node(&case.to.node) },
            protocol: case.only.protocol,
            ports: case.only.ports().collect(),
            points: points.collect(),
        }
    }

    /// What this packet is to the trace, wherever it went astray.
    #[inline]
    pub(crate) fn place(&self, point: PointId, packet: &Packet<'_>) -> Option<Sifted> {
        let flow = packet.flow()?;
        let direction = self.direction(&flow)?;
        if !self.wanted(packet, &flow) {
            return None;
        }
        let place = &self.points[point.index()];
        let position = place.positions[direction as usize]?;
        if place.role != Role::Nic && !packet.tunnels.is_empty() {
            return None;
        }
        let flow = if direction == Direction::Forward { flow } else { flow.reversed() };
        Some(Sifted { direction, position, flow, astray: None })
    }

    /// The same of a common frame: Ok(None) for one that is nothing to the trace, an error for one that is astray.
    #[inline]
    pub(crate) fn place_plain(
        &self,
        point: PointId,
        plain: &Plain<'_>,
        transport: &PlainTransport,
    ) -> Result<Option<Sifted>, ()> {
        let (src, dst) = (IpAddr::V4(plain.src()), IpAddr::V4(plain.dst()));
        let Some(direction) = self.between(src, dst) else { return Ok(None) };
        let (src_port, dst_port, has_ports) = match *transport {
            PlainTransport::Tcp(Tcp { src_port, dst_port, .. }) | PlainTransport::Udp(src_port, dst_port) => {
                (src_port, dst_port, true)
            }
            PlainTransport::Echo { id, .. } => (id, id, false),
        };
        let protocol = plain.protocol();
        if self.protocol.is_some_and(|wanted| wanted != protocol) {
            return Ok(None);
        }
        let passes = self.ports.is_empty() || (has_ports && self.is_port(src_port, dst_port));
        if !passes {
            return Ok(None);
        }
        let place = &self.points[point.index()];
        let Some(position) = place.positions[direction as usize] else { return Ok(None) };
        let outer = plain.outer_dst();
        if place.role != Role::Nic && outer.is_some() {
            return Ok(None);
        }
        if place.encapsulated && !outer.is_some_and(|dst| self.is_towards(direction, IpAddr::V4(dst))) {
            return Err(());
        }
        let flow = Flow { src, dst, protocol, src_port, dst_port };
        let flow = if direction == Direction::Forward { flow } else { flow.reversed() };
        Ok(Some(Sifted { direction, position, flow, astray: None }))
    }

    fn direction(&self, flow: &Flow) -> Option<Direction> {
        self.between(flow.src, flow.dst)
    }

    #[inline]
    fn between(&self, src: IpAddr, dst: IpAddr) -> Option<Direction> {
        let (from, to) = (&self.from, &self.to);
        let forward = (src == from.address && to.is(dst)) || (dst == to.address && from.is(src));
        if forward {
            return Some(Direction::Forward);
        }
        let reply = (dst == from.address && to.is(src)) || (src == to.address && from.is(dst));
        reply.then_some(Direction::Reply)
    }

    /// Whether the traffic asked for includes this packet. Later fragments have no ports and pass.
    fn wanted(&self, packet: &Packet<'_>, flow: &Flow) -> bool {
        let same = |wanted: u8| flow.protocol == wanted || (wanted == 1 && flow.protocol == 58);
        let is_port = || match packet.transport {
            Transport::LaterFragment => true,
            _ => packet.ports().is_some_and(|(src, dst)| self.is_port(src, dst)),
        };
        self.protocol.is_none_or(same) && (self.ports.is_empty() || is_port())
    }

    /// Whether one of the two is a port that was asked for.
    fn is_port(&self, src: u16, dst: u16) -> bool {
        self.ports.iter().any(|port| *port == src || *port == dst)
    }

    /// Whether a tunnel to this address leads where packets of a direction should go.
    #[inline]
    fn is_towards(&self, direction: Direction, outer_dst: IpAddr) -> bool {
        let towards = if direction == Direction::Forward { &self.to.node } else { &self.from.node };
        towards.is_empty() || towards.contains(&outer_dst)
    }

    /// The way on which a packet of the trace should not be.
    #[inline]
    pub(crate) fn astray(&self, point: PointId, direction: Direction, packet: &Packet<'_>) -> Option<Astray> {
        if !self.points[point.index()].encapsulated {
            return None;
        }
        let Some(tunnel) = packet.tunnels.first() else {
            return Some(Astray::Unencapsulated { point, direction });
        };
        let address = tunnel.outer.dst;
        (!self.is_towards(direction, address)).then_some(Astray::To { point, direction, address })
    }

    /// Whose packet is quoted, if it has to do with the trace.
    fn about(&self, quoted: &Ip) -> Option<About> {
        let flow =
            Flow { src: quoted.src, dst: quoted.dst, protocol: quoted.protocol, src_port: 0, dst_port: 0 };
        if let Some(direction) = self.direction(&flow) {
            return Some(About::Traffic(direction == Direction::Forward));
        }
        let (from, to) = (&self.from.node, &self.to.node);
        let between = (from.contains(&quoted.src) && to.contains(&quoted.dst))
            || (to.contains(&quoted.src) && from.contains(&quoted.dst));
        between.then_some(About::Tunnel)
    }
}

impl End {
    fn is(&self, address: IpAddr) -> bool {
        self.address == address || self.aliases.contains(&address)
    }
}
