//! One diagnosis in facts: who was traced, where captures were taken, when, how well, and the path that the
//! packets should take. Serialised, it is the manifest of a saved case.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::known::Known;

/// Everything but the packets and the raw texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Where the traffic starts.
    pub from: Endpoint,
    /// Where it goes.
    pub to: Endpoint,
    /// Further addresses under which `from` is seen after SNAT (node or tunnel addresses) and `to` before DNAT
    /// (Service addresses).
    #[serde(default)]
    pub aliases: Aliases,
    /// Nodes of the path and the addresses that tunnels to them carry.
    #[serde(default)]
    pub nodes: Vec<NodeFacts>,
    /// All capture points, in path order from `from` to `to`; [`PointId`] is the index here.
    pub points: Vec<CapturePoint>,
    /// The expected ways.
    pub paths: Vec<Path>,
    /// UDP port of VXLAN in this cluster.
    #[serde(default = "vxlan_port")]
    pub vxlan_port: u16,
    /// When capturing had begun on all points, RFC 3339, and how long it lasted.
    #[serde(default)]
    pub window: Option<Window>,
    /// What the nodes' clocks showed, where it was measured.
    #[serde(default)]
    pub clocks: Vec<ClockFact>,
    /// Only this protocol and port were captured.
    #[serde(default)]
    pub only: Only,
    /// Traffic of our own.
    #[serde(default)]
    pub probe: Option<ProbeFacts>,
    /// NAT translations that were read from connection tracking: node and the entry's text.
    #[serde(default)]
    pub conntrack: Vec<ConntrackText>,
    /// What could not be read or went wrong, in words.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Case {
    /// No trace: nodes that were read, those that were meant to be `on_path`. None without a node.
    pub fn of_nodes(nodes: Vec<NodeFacts>) -> Option<Self> {
        let end = |facts: &NodeFacts| Endpoint {
            name: format!("node/{}", facts.name),
            address: facts.addresses.first().copied().unwrap_or(IpAddr::from([0, 0, 0, 0])),
            node: Some(facts.name.clone()),
        };
        let mut read = nodes.iter().filter(|facts| facts.on_path);
        let first = read.next().or(nodes.first())?;
        let (from, to) = (end(first), end(read.next_back().unwrap_or(first)));
        Some(Self {
            from,
            to,
            aliases: Aliases::default(),
            nodes,
            points: Vec::new(),
            paths: Vec::new(),
            vxlan_port: vxlan_port(),
            window: None,
            clocks: Vec::new(),
            only: Only::default(),
            probe: None,
            conntrack: Vec::new(),
            warnings: Vec::new(),
        })
    }
}

impl Case {
    /// What addresses are called: the two ends', and the nodes'.
    pub fn names(&self) -> Vec<(IpAddr, String)> {
        let ends = [&self.from, &self.to].map(|end| (end.address, end.name.clone()));
        let nodes = self.nodes.iter();
        let nodes = nodes.flat_map(|node| node.addresses.iter().map(|address| (*address, node.name.clone())));
        let mut names: Vec<(IpAddr, String)> = Vec::new();
        for (address, name) in ends.into_iter().chain(nodes) {
            // An end of a capture by hand is called by its address.
            if name != address.to_string() && !names.iter().any(|(known, _)| *known == address) {
                names.push((address, name));
            }
        }
        names
    }
}

/// RFC 7348's.
fn vxlan_port() -> u16 {
    4789
}

/// One end of the trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `namespace/pod`, `node/NAME`, or the address.
    pub name: String,
    /// The address that is traced.
    pub address: IpAddr,
    /// The node it lives on, when known.
    pub node: Option<String>,
}

/// Other addresses of the two ends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Aliases {
    /// What `from` may be translated to.
    #[serde(default)]
    pub from: Vec<IpAddr>,
    /// What `to` may be reached by.
    #[serde(default)]
    pub to: Vec<IpAddr>,
}

/// A node of the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Addresses on the underlay, IPv4 and IPv6.
    pub addresses: Vec<IpAddr>,
    /// False for nodes that are only named so that a wrong destination can be called by name.
    pub on_path: bool,
}

/// A place where frames are captured. The id is `node/interface`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturePoint {
    /// `node/interface`; `node/pod:eth0` for a pod's own interface.
    pub id: String,
    /// Node.
    pub node: String,
    /// Interface name.
    pub interface: String,
    /// What it is.
    pub role: Role,
    /// How capturing there went.
    #[serde(default)]
    pub state: Known<Coverage>,
}

/// Index of a point in [`Case::points`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PointId(pub u8);

impl PointId {
    /// As an index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What kind of interface a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The pod's own interface, inside its namespace.
    Pod,
    /// The host's side of the pod's veth.
    Veth,
    /// `vxlan.calico`, `vxlan-v6.calico`, `tunl0`.
    Tunnel,
    /// The node's own interface.
    Nic,
}

/// How capturing at one point went: from when to when, and what it lost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Coverage {
    /// Nanoseconds since 1970 by the node's clock when capturing had begun; None when only the file is known.
    pub started: Option<i64>,
    /// When it ended, likewise.
    pub stopped: Option<i64>,
    /// Snap length.
    pub snaplen: u32,
    /// Frames that passed the filter.
    pub received: u64,
    /// Frames that passed the filter and were lost for want of buffer (libpcap `ps_drop`).
    pub dropped: u64,
    /// Frames that the interface lost (libpcap `ps_ifdrop`).
    pub dropped_interface: u64,
    /// Beginning and end are only guessed, from the packets of files.
    #[serde(default)]
    pub guessed: bool,
    /// Capturing ended before its time, and why.
    #[serde(default)]
    pub failed: Option<String>,
}

impl Coverage {
    /// Frames that the capture itself lost, for whatever reason.
    pub fn lost(&self) -> u64 {
        self.dropped.saturating_add(self.dropped_interface)
    }
}

/// The way packets should take in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Which direction.
    pub direction: Direction,
    /// Points in the order in which a packet passes them.
    pub points: Vec<PointId>,
    /// The stage after each point: one fewer than points.
    pub stages: Vec<StageKind>,
    /// Whether packets between the two NICs should be encapsulated, and to which addresses.
    #[serde(default)]
    pub encapsulated: bool,
    /// The way goes on beyond the last point, to one that could not be captured.
    #[serde(default)]
    pub open_end: bool,
}

/// Points of one path at most: six, and both pods' own interfaces, with room for paths of replayed captures.
pub const LONGEST_PATH: usize = 12;

impl Case {
    /// Where packets of a direction go.
    pub fn end(&self, direction: Direction) -> &Endpoint {
        match direction {
            Direction::Forward => &self.to,
            Direction::Reply => &self.from,
        }
    }
}

impl Endpoint {
    /// Whether it is a node itself, or what shares the node's network: a pod of the host's.
    pub fn is_node(&self, nodes: &[NodeFacts]) -> bool {
        nodes
            .iter()
            .any(|node| Some(&node.name) == self.node.as_ref() && node.addresses.contains(&self.address))
    }
}

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From `from` to `to`.
    Forward,
    /// Back.
    Reply,
}

impl Direction {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reply => "reply",
        }
    }

    /// The other one.
    #[must_use]
    pub fn back(self) -> Self {
        match self {
            Self::Forward => Self::Reply,
            Self::Reply => Self::Forward,
        }
    }
}

/// Between which two points, in the words of the report contract and in path order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// The pod's own interface and its host-side veth.
    LeavePod,
    /// The source veth and the tunnel device, the NIC, or the other veth of the same node.
    Forward,
    /// The tunnel device and the NIC of the source node.
    Encapsulate,
    /// The NICs of the two nodes.
    Underlay,
    /// The NIC and the tunnel device of the destination node.
    Decapsulate,
    /// The tunnel device or NIC and the destination veth.
    Deliver,
    /// The destination veth and the pod's own interface.
    EnterPod,
    /// After the pod's own interface.
    Pod,
}

impl StageKind {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LeavePod => "leave_pod",
            Self::Forward => "forward",
            Self::Encapsulate => "encapsulate",
            Self::Underlay => "underlay",
            Self::Decapsulate => "decapsulate",
            Self::Deliver => "deliver",
            Self::EnterPod => "enter_pod",
            Self::Pod => "pod",
        }
    }
}

/// When capturing took place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Nanoseconds since 1970 by the tracing machine's clock.
    pub start: i64,
    /// Length.
    pub seconds: f64,
}

/// A node's clock against the tracing machine's, measured over the agent's pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockFact {
    /// Node.
    pub node: String,
    /// Node's clock minus ours, nanoseconds.
    pub offset: i64,
    /// At most this wrong, nanoseconds (half of the quickest round trip).
    pub error: i64,
}

/// The traffic that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Only {
    /// IP protocol number (TCP 6, UDP 17; ICMP 1 stands for `ICMPv6` 58 too).
    #[serde(default)]
    pub protocol: Option<u8>,
    /// Port, at either end.
    #[serde(default)]
    pub port: Option<u16>,
    /// The port that the same packets bear on the other side of a Service's translation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<u16>,
}

impl Only {
    /// The ports; none when packets of all ports were asked for.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.port.into_iter().chain(self.port.and(self.also))
    }
}

/// What the probe did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeFacts {
    /// As typed: `icmp`, `tcp:80`, `udp:53`.
    pub kind: String,
    /// Packets or connections sent.
    pub sent: u64,
    /// Answers: echo replies, connections made, datagrams back.
    pub answered: u64,
    /// Errors that the sending socket met, each with its count.
    #[serde(default)]
    pub errors: Vec<(String, u64)>,
}

/// More connections of a node are not kept.
pub const MOST_CONNECTIONS: usize = 5_000;

/// Lines of `conntrack -L` (or `/proc/net/nf_conntrack`) about the traced addresses on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackText {
    /// Node.
    pub node: String,
    /// The lines.
    pub text: String,
}
