//! What an analysis found, as plain data for a report: counts with their points, the verdict, and why. Every number
//! here was counted from sightings or read from a node's counters.

use std::net::IpAddr;

use super::correlate::chronicle::Course;
use super::correlate::gist::Gist;
use crate::evidence::{Case, Direction, PointId, StageKind};
use crate::packet::{Flow, Nanos, Timestamp};

/// All that is reported.
#[derive(Debug, Clone)]
pub struct Findings {
    /// The facts that it is about.
    pub case: Case,
    /// Frames of the traced traffic at each point of the case.
    pub frames: Vec<u64>,
    /// Forward, then reply.
    pub routes: Vec<Route>,
    /// The answer.
    pub verdict: Verdict,
    /// Why, the likeliest first.
    pub causes: Vec<Cause>,
    /// Where addresses changed.
    pub translations: Vec<Translation>,
    /// ICMP errors about the traffic, most first.
    pub errors: Vec<ErrorSeen>,
    /// The offset of the destination's node's clock, estimated from packets or measured.
    pub clock: Option<Clock>,
    /// What could not be read or counted, and why.
    pub warnings: Vec<String>,
    /// Packets, flows and times to look at.
    pub account: Account,
}

/// Some of what the counts were made of, bounded however long the capture: to be looked at, not to be added up.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Packets that vanished by time, then packets that arrived.
    pub samples: Vec<Sample>,
    /// Loss and delay over time. Packets stand in the bin of their first sighting.
    pub courses: Vec<(Direction, Course)>,
    /// Flows that lost most first, then those that sent most.
    pub flows: Vec<FlowSeen>,
    /// Packets sent and lost by flows that are not listed.
    pub flows_left_out: (u64, u64),
}

/// One packet over the points.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Which way it went.
    pub direction: Direction,
    /// When it was first seen, by the clock of the source's node.
    pub time: Timestamp,
    /// Addresses and ports, as it last bore them.
    pub addresses: Flow,
    /// Its flow in [`Account::flows`], if that is listed.
    pub flow: Option<usize>,
    /// What it is.
    pub gist: Gist,
    /// IP length where it was first seen.
    pub ip_len: u32,
    /// What became of it.
    pub fate: Fate,
    /// At each point of the direction's path.
    pub at: Vec<SeenAt>,
}

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It arrived.
    Delivered,
    /// It vanished.
    Lost {
        /// The last point that saw it.
        after: PointId,
        /// The first that should have and did not.
        before: PointId,
    },
    /// It is missing where captures lost frames themselves.
    Doubtful,
}

/// Whether a point saw a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenAt {
    /// So long after its first sighting; less than nothing where clocks or captures were out of step.
    After(Nanos),
    /// Its bytes, in larger or smaller frames.
    InOthers,
    /// No.
    Never,
}

/// One flow, under all the addresses that it bore.
#[derive(Debug, Clone)]
pub struct FlowSeen {
    /// From the one end to the other, as one of the points saw it.
    pub flow: Flow,
    /// Packets sent, forward and reply.
    pub sent: [u64; 2],
    /// Of these, lost.
    pub lost: [u64; 2],
}

/// One direction.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which.
    pub direction: Direction,
    /// The points that were judged, in order.
    pub path: Vec<PointId>,
    /// Packets that entered the path.
    pub sent: u64,
    /// Packets that left it at its end.
    pub delivered: u64,
    /// Between the points of `path`.
    pub stages: Vec<StageCount>,
    /// Packets too near to an edge of a capture to be judged.
    pub unjudged: u64,
    /// Packets that were lost unless the captures lost them, which cannot be told.
    pub doubtful: u64,
    /// Packets that passed one point several times with a falling TTL.
    pub looped: u64,
    /// Requests that reached the end of the path unanswered.
    pub unanswered: Option<Unanswered>,
    /// Set when the way goes on beyond the last captured point.
    pub beyond: Option<Beyond>,
    /// The longest IP packet that left the path at its end; 0 when none did.
    pub longest_delivered: u32,
    /// Large UDP packets that vanished where segmentation offload may have cut them, without as many pieces appearing behind.
    pub not_followed: u64,
    /// Packets that bore an address which others share, and were theirs: by that address.
    pub of_others: Vec<(IpAddr, u64)>,
    /// Packets that vanished and may have been of others, who share the address with an end: by that address.
    pub perhaps_of_others: Vec<(IpAddr, u64)>,
}

/// One stage of a route.
#[derive(Debug, Clone)]
pub struct StageCount {
    /// The last point that saw the packets.
    pub from: PointId,
    /// The first that did not.
    pub to: PointId,
    /// What lies between.
    pub kind: StageKind,
    /// Packets seen at `from`, or further along.
    pub entered: u64,
    /// Packets that never came to `to`.
    pub lost: u64,
    /// Where lost packets were seen instead, with their number.
    pub astray: Vec<(Elsewhere, u64)>,
    /// Shortest and longest of those lost.
    pub lost_len: Option<(u32, u32)>,
    /// First and last time one was lost.
    pub lost_time: Option<(Timestamp, Timestamp)>,
    /// Of those lost, how many the sender had cut into fragments.
    pub lost_fragmented: u64,
    /// Some of those lost.
    pub examples: Vec<LostPacket>,
    /// Median and 99th percentile of the time between the two points.
    pub latency: Option<(Nanos, Nanos)>,
    /// How wrong the latency may be, when the points are on two nodes.
    pub clock_error: Option<Nanos>,
}

/// A way that packets took and should not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// Out of this NIC without encapsulation.
    Unencapsulated(PointId),
    /// Encapsulated at this NIC to another address than the destination's node, called by name if it is known.
    To(PointId, IpAddr, Option<String>),
}

impl Elsewhere {
    /// For a sentence about packets: they were …
    pub fn words(&self, case: &Case) -> String {
        let at = |point: &PointId| &case.points[point.index()].id;
        match self {
            Self::Unencapsulated(point) => format!("seen leaving by {} without encapsulation", at(point)),
            Self::To(point, address, Some(node)) => {
                format!("encapsulated at {} to {address}, which is {node}", at(point))
            }
            Self::To(point, address, None) => {
                format!("encapsulated at {} to {address}, which is no node of the cluster", at(point))
            }
        }
    }
}

/// A packet that vanished.
#[derive(Debug, Clone)]
pub struct LostPacket {
    /// When it was first seen, by the clock of `from`'s node.
    pub time: Timestamp,
    /// Addresses and ports, as it bore them.
    pub flow: Flow,
    /// IP length.
    pub ip_len: u32,
}

/// Requests that reached the end of the path and were not answered.
#[derive(Debug, Clone)]
pub struct Unanswered {
    /// The end of the path.
    pub at: PointId,
    /// What lies behind it.
    pub kind: StageKind,
    /// Requests that came there.
    pub arrived: u64,
    /// Refused: a TCP reset or an ICMP error from the end itself.
    pub refused: u64,
    /// No answer at all.
    pub silent: u64,
    /// Some of them.
    pub examples: Vec<Flow>,
}

impl Unanswered {
    /// Refused or not answered.
    pub fn lost(&self) -> u64 {
        self.refused + self.silent
    }
}

/// A way that goes on where nothing was captured: only answers tell what became of packets there.
#[derive(Debug, Clone)]
pub struct Beyond {
    /// The last captured point.
    pub after: PointId,
    /// Requests that passed it.
    pub requests: u64,
    /// Of these, answered.
    pub answered: u64,
}

/// The answer.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// What became of the traffic.
    pub outcome: Outcome,
    /// Which direction it is about.
    pub direction: Direction,
    /// Where packets vanish.
    pub place: Option<Place>,
    /// Packets sent in that direction.
    pub sent: u64,
    /// Packets that vanished at that place.
    pub lost: u64,
    /// How sure it is.
    pub confidence: Confidence,
    /// What makes it less sure, or cannot be told, in words.
    pub doubts: Vec<String>,
}

/// Where packets vanish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The last point that saw them.
    pub from: PointId,
    /// The first that did not; None for the end itself.
    pub to: Option<PointId>,
    /// What lies between.
    pub kind: StageKind,
}

/// What became of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it arrived.
    Delivered,
    /// Packets vanished.
    Dropped,
    /// Packets went another way.
    Diverted,
    /// Nothing was seen.
    NoTraffic,
    /// The captures cannot tell.
    Inconclusive,
}

/// How sure a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Evidence that fits, among other explanations.
    Possible,
    /// Two kinds of evidence agree.
    Likely,
    /// Nothing else explains what was seen.
    Confirmed,
}

/// Every [`Cause::kind`], in the order of the report's list; `docs/causes/` has a page for each.
pub const KINDS: &[&str] = &[
    "network_policy",
    "profile",
    "host_firewall",
    "calico_rule",
    "conntrack_invalid",
    "service_no_endpoints",
    "no_route",
    "wrong_route",
    "blackhole_route",
    "reverse_path",
    "ip_forward_off",
    "ttl_expired",
    "mtu",
    "tunnel_missing",
    "tunnel_down",
    "tunnel_mismatch",
    "tunnel_address",
    "neighbour_missing",
    "neighbour_wrong",
    "fdb_missing",
    "fdb_wrong",
    "underlay_blocked",
    "underlay_loss",
    "underlay_mtu",
    "checksum",
    "fragment_loss",
    "conntrack_full",
    "queue_overflow",
    "tc_filter",
    "link_down",
    "early_hook",
    "proxy_arp_off",
    "pod_firewall",
    "no_listener",
    "socket_overflow",
    "pod_link_down",
    "ipam_exhausted",
    "ipam_leak",
    "duplicate_address",
    "address_outside_block",
    "unknown",
];

/// Why packets vanish.
#[derive(Debug, Clone)]
pub struct Cause {
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// Node.
    pub node: String,
    /// How sure it is.
    pub confidence: Confidence,
    /// One line for a person.
    pub summary: String,
    /// One line: what to do next.
    pub remedy: String,
    /// What it rests on.
    pub evidence: Vec<Proof>,
}

/// One piece of evidence.
#[derive(Debug, Clone)]
pub struct Proof {
    /// `iptables`, `capture`, …
    pub source: &'static str,
    /// What was read.
    pub detail: String,
}

/// A place where addresses change.
#[derive(Debug, Clone)]
pub struct Translation {
    /// Which way the packets went.
    pub direction: Direction,
    /// Between this point
    pub from: PointId,
    /// and this.
    pub to: PointId,
    /// Addresses and ports before.
    pub before: Flow,
    /// And after.
    pub after: Flow,
    /// Packets that it was seen on.
    pub packets: u64,
}

/// An ICMP error that was seen.
#[derive(Debug, Clone)]
pub struct ErrorSeen {
    /// Who sent it.
    pub by: IpAddr,
    /// In words, with type and code.
    pub what: String,
    /// The size that it says would pass.
    pub mtu: Option<u32>,
    /// About which direction; None when it quotes the tunnel's outer packet.
    pub about: Option<Direction>,
    /// Where.
    pub at: PointId,
    /// How many.
    pub count: u64,
}

/// Two clocks.
#[derive(Debug, Clone)]
pub struct Clock {
    /// The node whose clock it is.
    pub node: String,
    /// Against the source's node's clock.
    pub offset: Nanos,
    /// At most this wrong.
    pub error: Option<Nanos>,
    /// In words: from how many packets, or from the agents' pipes.
    pub source: String,
}
