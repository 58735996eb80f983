//! A path of eight points on paper: packets are sent over it, lost where the test says, and analysed as captured
//! frames. Real kernels are in the root tests; here the laws are tried on many more cases than a kernel has time for.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::IpAddr;

use etherparse::PacketBuilder;
use trace_drop::analyze::findings::{Fate, Findings, FlowSeen, Route, SeenAt};
use trace_drop::analyze::{self, Evidence, Mark};
use trace_drop::evidence::capture_file::{CaptureError, FrameSource};
use trace_drop::evidence::case::{Aliases, Coverage, NodeFacts, Only};
use trace_drop::evidence::{
    CapturePoint, Case, Direction, Endpoint, Known, Path, PointId, Role, StageKind, Texts,
};
use trace_drop::packet::{Frame, LinkType, Timestamp};

pub(crate) const CLIENT: [u8; 4] = [10, 244, 1, 2];
pub(crate) const SERVER: [u8; 4] = [10, 244, 2, 2];
const NODES: [[u8; 4]; 2] = [[192, 168, 50, 11], [192, 168, 50, 12]];
/// Length of an Ethernet header.
const ETHERNET: usize = 14;
pub(crate) const START: i64 = 1_800_000_000_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000_000;

pub(crate) const STAGES: [StageKind; 7] = [
    StageKind::LeavePod,
    StageKind::Forward,
    StageKind::Encapsulate,
    StageKind::Underlay,
    StageKind::Decapsulate,
    StageKind::Deliver,
    StageKind::EnterPod,
];

/// A captured frame on paper.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) point: PointId,
    pub(crate) time: i64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) wire_len: u32,
}

/// What a packet carries.
#[derive(Debug, Clone)]
pub(crate) enum Load {
    Udp {
        id: u16,
        payload: Vec<u8>,
    },
    Echo {
        seq: u16,
        reply: bool,
    },
    Tcp {
        seq: u32,
        len: usize,
    },
    /// A datagram from a port of its own to port 53, and its answer.
    Query {
        port: u16,
    },
}

/// The path and what was captured on it.
#[derive(Debug, Clone)]
pub(crate) struct Lab {
    pub(crate) case: Case,
    pub(crate) taken: Vec<Taken>,
    pub(crate) snaplen: usize,
    /// The second node's clock minus the first's.
    pub(crate) offset: i64,
}

impl Lab {
    /// The frames of packets that vanished, with what is said of them.
    pub(crate) fn marks(&self) -> Vec<(PointId, Mark)> {
        let mut taken = self.taken.clone();
        taken.sort_by_key(|taken| taken.time - if taken.point.0 >= 4 { self.offset } else { 0 });
        let open = || -> Result<Box<dyn FrameSource + '_>, CaptureError> {
            Ok(Box::new(Frames { taken: &taken, next: 0 }))
        };
        let evidence = Evidence { case: &self.case, texts: &Texts::default(), cluster: None, frames: &open };
        let (_, mut marks) = analyze::run_with_marks(&evidence).expect("frames in memory can be read");
        let mut source = Frames { taken: &taken, next: 0 };
        let mut all = Vec::new();
        while let Some((point, frame)) = source.next_frame().expect("frames in memory can be read") {
            all.extend(marks.of(point, &frame).map(|mark| (point, mark)));
        }
        all
    }

    /// Captures of `seconds`.
    pub(crate) fn new(seconds: i64) -> Self {
        let roles = [
            (1, Role::Pod),
            (1, Role::Veth),
            (1, Role::Tunnel),
            (1, Role::Nic),
            (2, Role::Nic),
            (2, Role::Tunnel),
            (2, Role::Veth),
            (2, Role::Pod),
        ];
        let name = |role| match role {
            Role::Pod => "pod:eth0",
            Role::Veth => "cali0",
            Role::Tunnel => "vxlan.calico",
            Role::Nic => "eth0",
        };
        let points = roles.map(|(node, role)| CapturePoint {
            id: format!("worker-{node}/{}", name(role)),
            node: format!("worker-{node}"),
            interface: name(role).to_owned(),
            role,
            state: Known::Read(Coverage {
                started: Some(START - SECOND),
                stopped: Some(START + seconds * SECOND),
                snaplen: 262_144,
                ..Coverage::default()
            }),
        });
        let path = |direction, reversed: bool| {
            let mut points: Vec<PointId> = (0..8).map(PointId).collect();
            if reversed {
                points.reverse();
            }
            Path { direction, points, stages: STAGES.to_vec(), encapsulated: true, open_end: false }
        };
        let end = |name: &str, address: [u8; 4], node: &str| Endpoint {
            name: name.to_owned(),
            address: IpAddr::from(address),
            node: Some(node.to_owned()),
        };
        let node = |index: usize| NodeFacts {
            name: format!("worker-{}", index + 1),
            addresses: vec![IpAddr::from(NODES[index])],
            on_path: true,
        };
        let case = Case {
            from: end("default/client", CLIENT, "worker-1"),
            to: end("default/server", SERVER, "worker-2"),
            aliases: Aliases::default(),
            nodes: vec![node(0), node(1)],
            points: points.into(),
            paths: vec![path(Direction::Forward, false), path(Direction::Reply, true)],
            vxlan_port: 4789,
            window: None,
            clocks: Vec::new(),
            only: Only::default(),
            probe: None,
            conntrack: Vec::new(),
            warnings: Vec::new(),
        };
        Self { case, taken: Vec::new(), snaplen: 262_144, offset: 0 }
    }

    /// The second node's clock is `nanos` ahead.
    pub(crate) fn set_offset(&mut self, nanos: i64) {
        self.offset = nanos;
        for point in self.case.points.iter_mut().filter(|point| point.node == "worker-2") {
            if let Known::Read(coverage) = &mut point.state {
                coverage.started = coverage.started.map(|time| time + nanos);
                coverage.stopped = coverage.stopped.map(|time| time + nanos);
            }
        }
    }

    /// The capture at a point lost this many frames.
    pub(crate) fn set_dropped(&mut self, point: usize, dropped: u64) {
        if let Known::Read(coverage) = &mut self.case.points[point].state {
            coverage.dropped = dropped;
        }
    }

    /// A packet leaves at `time`; it is not seen behind stage `lost` (0 is the first).
    pub(crate) fn send(&mut self, direction: Direction, load: &Load, time: i64, lost: Option<usize>) {
        for position in 0..8 {
            if lost.is_some_and(|stage| position > stage) {
                break;
            }
            self.see(
                direction,
                position,
                load,
                time + [0, 2_600, 37_000, 53_000, 62_000, 62_500, 100_000, 101_000][position],
            );
        }
    }

    /// A frame of the packet is captured at one position of its path.
    pub(crate) fn see(&mut self, direction: Direction, position: usize, load: &Load, time: i64) {
        let forward = direction == Direction::Forward;
        let (src, dst) = if forward { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        let ttl = 64 - u8::from(position >= 2) - u8::from(position >= 6);
        self.take(direction, position, frame(src, dst, ttl, load), time);
    }

    /// The client's node answers a packet of the client with an ICMP error; both are seen in the client's pod alone.
    pub(crate) fn refuse(&mut self, load: &Load, error: etherparse::Icmpv4Type, time: i64) {
        let refused = frame(CLIENT, SERVER, 64, load);
        let mut told = Vec::new();
        PacketBuilder::ethernet2([4; 6], [2; 6])
            .ipv4(NODES[0], CLIENT, 64)
            .icmpv4(error)
            .write(&mut told, &refused[ETHERNET..])
            .expect("written to memory");
        for (position, later) in [(0, 0), (1, 1_000)] {
            self.take(Direction::Forward, position, refused.clone(), time + later);
            self.take(Direction::Forward, position, told.clone(), time + 10_000 - later);
        }
    }

    /// Bytes of a frame of the pods are captured at one position of a path, in the tunnel where that is between the nodes.
    fn take(&mut self, direction: Direction, position: usize, mut bytes: Vec<u8>, time: i64) {
        let forward = direction == Direction::Forward;
        let index = if forward { position } else { 7 - position };
        if index == 3 || index == 4 {
            let (from, to) = if forward { (NODES[0], NODES[1]) } else { (NODES[1], NODES[0]) };
            bytes = vxlan(from, to, &bytes);
        }
        let wire_len = u32::try_from(bytes.len()).expect("a short frame");
        bytes.truncate(self.snaplen);
        let time = if index >= 4 { time + self.offset } else { time };
        self.taken.push(Taken {
            point: PointId(u8::try_from(index).expect("a position")),
            time,
            bytes,
            wire_len,
        });
    }

    /// Sorted as a capture gives them, then analysed.
    pub(crate) fn analyse(&self) -> Findings {
        let mut taken = self.taken.clone();
        taken.sort_by_key(|taken| taken.time - if taken.point.0 >= 4 { self.offset } else { 0 });
        analyse(&self.case, &taken)
    }
}

impl Taken {
    /// As an analysis takes it.
    pub(crate) fn frame(&self) -> Frame<'_> {
        Frame {
            time: Timestamp(self.time),
            wire_len: self.wire_len,
            link: LinkType::Ethernet,
            bytes: &self.bytes,
        }
    }
}

/// Analyses frames in the order given.
pub(crate) fn analyse(case: &Case, taken: &[Taken]) -> Findings {
    let open =
        || -> Result<Box<dyn FrameSource + '_>, CaptureError> { Ok(Box::new(Frames { taken, next: 0 })) };
    let evidence = Evidence { case, texts: &Texts::default(), cluster: None, frames: &open };
    let findings = analyze::run(&evidence).expect("frames in memory can be read");
    adds_up(&findings);
    findings
}

/// What is there to be looked at says the same as the counts, whatever was captured.
fn adds_up(findings: &Findings) {
    let account = &findings.account;
    for route in &findings.routes {
        let lost = route.stages.iter().map(|stage| stage.lost).sum::<u64>() + route.doubtful;
        let course =
            account.courses.iter().find(|(way, _)| *way == route.direction).map(|(_, course)| course);
        let bins = course.map(|course| course.bins.as_slice()).unwrap_or_default();
        let over_time = (bins.iter().map(|bin| bin.sent).sum(), bins.iter().map(|bin| bin.lost).sum());
        assert_eq!(over_time, (route.sent, lost), "{:?} over time", route.direction);
        for sample in account.samples.iter().filter(|sample| sample.direction == route.direction) {
            let last = sample.at.last().expect("a path has points");
            match &sample.fate {
                Fate::Delivered => assert_ne!(*last, SeenAt::Never, "{sample:?}"),
                _ => assert_eq!(*last, SeenAt::Never, "{sample:?}"),
            }
        }
        let n_lost = account.samples.iter().filter(|sample| sample.fate != Fate::Delivered).count();
        assert_eq!(n_lost > 0, findings.routes.iter().any(|route| !no_loss(route)), "{:?}", account.samples);
    }
    let by_flow = |count: fn(&FlowSeen) -> [u64; 2]| {
        account.flows.iter().map(|flow| count(flow).iter().sum::<u64>()).sum::<u64>()
    };
    let sent: u64 = findings.routes.iter().map(|route| route.sent).sum();
    assert_eq!(by_flow(|flow| flow.sent) + account.flows_left_out.0, sent, "by flow");
}

fn no_loss(route: &Route) -> bool {
    route.doubtful == 0 && route.stages.iter().all(|stage| stage.lost == 0)
}

struct Frames<'t> {
    taken: &'t [Taken],
    next: usize,
}

impl FrameSource for Frames<'_> {
    fn next_frame(&mut self) -> Result<Option<(PointId, Frame<'_>)>, CaptureError> {
        let Some(taken) = self.taken.get(self.next) else { return Ok(None) };
        self.next += 1;
        Ok(Some((taken.point, taken.frame())))
    }
}

fn frame(src: [u8; 4], dst: [u8; 4], ttl: u8, load: &Load) -> Vec<u8> {
    let id = match load {
        Load::Udp { id, .. } => *id,
        Load::Echo { seq, .. } => 1_000 + seq,
        Load::Query { port } => *port,
        Load::Tcp { seq, .. } => u16::try_from(seq % 60_000).expect("below 2^16"),
    };
    let mut ip = etherparse::Ipv4Header::new(0, ttl, etherparse::IpNumber(0), src, dst).expect("no payload");
    ip.identification = id;
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
        .ip(etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default()));
    let mut bytes = Vec::new();
    match load {
        Load::Query { port } => {
            let (from, to) = if src == CLIENT { (*port, 53) } else { (53, *port) };
            builder.udp(from, to).write(&mut bytes, &port.to_be_bytes())
        }
        Load::Udp { payload, .. } => builder.udp(4_000, 5_000).write(&mut bytes, payload),
        Load::Echo { seq, reply } => {
            let echo = etherparse::IcmpEchoHeader { id: 77, seq: *seq };
            let kind = if *reply {
                etherparse::Icmpv4Type::EchoReply(echo)
            } else {
                etherparse::Icmpv4Type::EchoRequest(echo)
            };
            builder.icmpv4(kind).write(&mut bytes, &[7; 56])
        }
        Load::Tcp { seq, len } => {
            builder.tcp(4_000, 8_080, *seq, 1_000).ack(1).write(&mut bytes, &vec![1; *len])
        }
    }
    .expect("written to memory");
    bytes
}

fn vxlan(from: [u8; 4], to: [u8; 4], inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0, 0, 0x10, 0, 0];
    payload.extend_from_slice(inner);
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([6; 6], [8; 6])
        .ipv4(from, to, 64)
        .udp(51_000, 4_789)
        .write(&mut bytes, &payload)
        .expect("written to memory");
    bytes
}

/// A Service of which the server is one pod.
pub(crate) const SERVICE: [u8; 4] = [10, 96, 0, 10];

/// Gives the server of a packet the Service's address, as it is before its node has translated it.
pub(crate) fn as_service(bytes: &mut [u8]) {
    if let Some(at) = bytes.windows(4).position(|four| four == SERVER) {
        bytes[at..at + 4].copy_from_slice(&SERVICE);
    }
}

/// Gives the ends of a packet other addresses, inside a tunnel too.
pub(crate) fn rename(bytes: &mut [u8], last: u8) {
    for address in [CLIENT, SERVER] {
        let found: Vec<usize> =
            bytes.windows(4).enumerate().filter(|(_, four)| *four == address).map(|(at, _)| at).collect();
        for at in found {
            bytes[at + 3] = 100 + last % 100;
        }
    }
}
