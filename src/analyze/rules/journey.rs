//! The way of one packet through the rules of two nodes, leg by leg: forwarded at the source, sent in a tunnel, received
//! from it, forwarded at the destination. Takes the texts of both nodes and what the packet is; gives for each leg the
//! rules that it fits, with what they counted, and what becomes of it. It knows of no loss outside of rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Names;
use crate::evidence::calico::veth_name;
use crate::evidence::cluster::Cluster;
use crate::evidence::host::Question;
use crate::evidence::netfilter::{
    Course, CtState, End, Ending, Filters, Fits, Meets, Met, Policy, Rule, Walked, World, walk,
};
use crate::evidence::plan::{Find, Plan};
use crate::evidence::{Case, Endpoint, Role, Texts};

/// One side of the journey.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// The end's name.
    pub name: String,
    /// Node; none outside of the cluster.
    pub node: Option<String>,
    /// Its own address.
    pub address: Option<IpAddr>,
    /// Host end of the pod's veth; none for the node itself.
    pub veth: Option<String>,
    /// Tunnel device.
    pub tunnel: Option<String>,
    /// NIC.
    pub nic: Option<String>,
    /// The node's address on the underlay.
    pub underlay: Option<IpAddr>,
    /// The node's own packets go through the tunnel too.
    pub by_tunnel: bool,
}

/// Where from, where to, and how.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Where it starts.
    pub from: Side,
    /// Where it goes.
    pub to: Side,
    /// What is in its destination field at first: a Service's address, or the end's own.
    pub dst: Option<IpAddr>,
    /// Whether packets between the nodes are encapsulated.
    pub encapsulated: bool,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Destination port.
    pub port: Option<u16>,
    /// The packet itself, when more is known of it than its ends, protocol and port.
    pub packet: Option<Meets>,
}

/// The whole way.
#[derive(Debug, Clone)]
pub struct Journey {
    /// What was asked.
    pub request: Request,
    /// In order; the last is the one that the packet surely ends in, if there is one.
    pub legs: Vec<Leg>,
    /// Taken together.
    pub verdict: Verdict,
}

/// What becomes of the packet as far as rules decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Comes to its end.
    Passes,
    /// Surely ends in the last leg.
    Ends,
    /// Cannot be told.
    Unknown,
}

/// One passage through one host.
#[derive(Debug, Clone)]
pub struct Leg {
    /// Node.
    pub node: String,
    /// In words.
    pub what: String,
    /// Rules and policies that it fits, in order.
    pub steps: Vec<Step>,
    /// What may become of it there.
    pub ends: Vec<LegEnd>,
    /// Whether there is just one end and nothing was unread.
    pub certain: bool,
    /// Why not, beside unknown matches.
    pub doubts: Vec<String>,
}

/// A rule or policy on the way.
#[derive(Debug, Clone)]
pub struct Step {
    /// The text that it stands in.
    pub text: String,
    /// Table.
    pub table: String,
    /// Chain.
    pub chain: String,
    /// Whose chain it is.
    pub of: Option<String>,
    /// Place in the chain, from 1; none for its policy.
    pub number: Option<usize>,
    /// What it asks for and does.
    pub words: String,
    /// What its writer said of it.
    pub said: Vec<String>,
    /// Counted so far.
    pub packets: Option<u64>,
    /// What could not be evaluated; empty when it fits surely.
    pub unknown: Vec<String>,
    /// The packet surely comes to it.
    pub certain: bool,
    /// It ends the packet's way.
    pub ends: bool,
}

/// A way to end.
#[derive(Debug, Clone)]
pub struct LegEnd {
    /// `passes`, `dropped`, `rejected`, `elsewhere`.
    pub what: &'static str,
    /// In words.
    pub words: String,
    /// Number of the step that does it.
    pub step: Option<usize>,
}

impl Request {
    /// From a plan that was made of the cluster. The NIC's name is found on the node.
    pub fn of_plan(plan: &Plan, nodes: &Nodes) -> Self {
        let side = |end: &Endpoint| {
            let mut side = Side::of(end);
            for point in plan.points.iter().filter(|point| Some(&point.node) == end.node.as_ref()) {
                match (&point.find, point.role) {
                    (Find::Name(name), Role::Veth) if own_veth(end).as_ref() == Some(name) => {
                        side.veth = Some(name.clone());
                    }
                    (Find::Name(name), Role::Tunnel) => side.tunnel = Some(name.clone()),
                    (Find::Holding(address), Role::Nic) => side.underlay = Some(*address),
                    _ => {}
                }
            }
            side
        };
        let (mut from, mut to) = (side(&plan.from), side(&plan.to));
        for side in [&mut from, &mut to] {
            let Some((node, underlay)) = side.node.clone().zip(side.underlay) else { continue };
            let host = nodes.0.get(&node).and_then(|filters| filters.host.as_ref());
            side.nic = host.and_then(|host| host.link_of(underlay)).map(|link| link.name.clone());
        }
        let mut encapsulated = plan.encapsulated;
        // Which way the packet really goes is what its node's routes say.
        let host = from
            .node
            .as_ref()
            .filter(|_| from.node != to.node)
            .and_then(|node| nodes.0.get(node)?.host.as_ref());
        if let Some(host) = host {
            let question =
                Question { dst: plan.to.address, src: Some(plan.from.address), iif: from.veth.as_deref() };
            let route = host.lookup(&question).route.filter(|route| route.kind == "unicast");
            if let Some(device) = route.and_then(|route| route.dev.clone()) {
                encapsulated = host.link(&device).is_some_and(|link| link.vxlan.is_some())
                    || device.starts_with("tunl")
                    || device.starts_with("wireguard");
                if encapsulated {
                    (from.tunnel, to.tunnel) = (Some(device.clone()), Some(device.clone()));
                } else {
                    from.nic = Some(device.clone());
                }
                // A node's own packet goes out with the address of the device.
                if from.veth.is_none() && encapsulated {
                    let own = host.addresses.iter().find(|at| {
                        at.link == device && at.address.addr().is_ipv6() == plan.to.address.is_ipv6()
                    });
                    from.address = own.map(|at| at.address.addr());
                    from.by_tunnel = true;
                }
            }
        }
        Self {
            from,
            to,
            dst: Some(plan.to.address),
            encapsulated,
            vxlan_port: plan.vxlan_port,
            protocol: plan.only.protocol.unwrap_or(TCP),
            port: plan.only.port,
            packet: None,
        }
    }

    /// From a saved case, whose points have names. Which of its addresses a node's NIC holds is found on the node.
    pub fn of_case(case: &Case, nodes: &Nodes) -> Self {
        let side = |end: &Endpoint| {
            let mut side = Side::of(end);
            let own = case.points.iter().filter(|point| Some(&point.node) == end.node.as_ref());
            for point in own {
                let place = match point.role {
                    Role::Veth if own_veth(end).as_ref() == Some(&point.interface) => &mut side.veth,
                    Role::Tunnel => &mut side.tunnel,
                    Role::Nic => &mut side.nic,
                    Role::Veth | Role::Pod => continue,
                };
                *place = Some(point.interface.clone());
            }
            let facts = case.nodes.iter().find(|facts| Some(&facts.name) == end.node.as_ref());
            let same = |address: &&IpAddr| address.is_ipv6() == end.address.is_ipv6();
            let known: Vec<IpAddr> =
                facts.map(|facts| facts.addresses.iter().filter(same).copied().collect()).unwrap_or_default();
            let host = end
                .node
                .as_ref()
                .and_then(|node| nodes.0.get(node))
                .and_then(|filters| filters.host.as_ref());
            let held = |address: &&IpAddr| {
                let link = host.and_then(|host| host.link_of(**address));
                link.is_some() && link.map(|link| &link.name) == side.nic.as_ref()
            };
            side.underlay = known.iter().find(held).or(known.first()).copied();
            side
        };
        Self {
            from: side(&case.from),
            to: side(&case.to),
            dst: Some(case.to.address),
            encapsulated: case.paths.iter().any(|path| path.encapsulated),
            vxlan_port: case.vxlan_port,
            protocol: case.only.protocol.unwrap_or(TCP),
            port: case.only.port,
            packet: None,
        }
    }

    /// The packet that the first end sends.
    fn packet(&self) -> Meets {
        if let Some(packet) = &self.packet {
            return packet.clone();
        }
        let v6 = self.dst.is_some_and(|dst| dst.is_ipv6());
        let protocol = if self.protocol == ICMP && v6 { ICMP6 } else { self.protocol };
        Meets {
            src: self.from.address,
            dst: self.dst,
            protocol: Some(protocol),
            dst_port: self.port,
            tcp_flags: (protocol == TCP).then_some(SYN),
            icmp: match protocol {
                ICMP => Some((8, 0)),
                ICMP6 => Some((128, 0)),
                _ => None,
            },
            state: Some(CtState::New),
            mark: Some(0),
            ..Meets::default()
        }
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const SYN: u8 = 2;

/// The host end of a pod's veth; an end that is no pod has a name that no interface is derived from.
fn own_veth(end: &Endpoint) -> Option<String> {
    end.name.split_once('/').map(|(namespace, pod)| veth_name(namespace, pod))
}

impl Side {
    fn of(end: &Endpoint) -> Self {
        Self { name: end.name.clone(), node: end.node.clone(), address: Some(end.address), ..Self::default() }
    }

    /// The device by which packets from and to another node go.
    fn outlet(&self, encapsulated: bool) -> Option<String> {
        let by_tunnel = self.veth.is_some() || self.by_tunnel;
        if encapsulated && by_tunnel { self.tunnel.clone() } else { self.nic.clone() }
    }
}

/// What was read of each node, by name.
#[derive(Debug, Default)]
pub struct Nodes(BTreeMap<String, Filters>);

impl Nodes {
    /// All nodes of the texts; the newest of each text.
    pub fn read(texts: &Texts) -> Self {
        let names: BTreeSet<&String> = texts.0.iter().map(|text| &text.node).collect();
        Self(names.into_iter().map(|node| (node.clone(), Filters::read(texts, node, "", None))).collect())
    }
}

/// Walks the packet through both nodes, until a leg surely ends it.
pub fn travel(request: Request, nodes: &Nodes, cluster: Option<&Cluster>) -> Journey {
    let mut course = Travel { nodes, names: Names::new(cluster), legs: Vec::new(), open: true };
    course.all(&request);
    // Where one leg is uncertain, the packet may not have come to the next.
    let certain = !course.legs.is_empty() && course.legs.iter().all(|leg| leg.certain);
    let verdict = match (certain, course.open) {
        (true, true) => Verdict::Passes,
        (true, false) => Verdict::Ends,
        (false, _) => Verdict::Unknown,
    };
    Journey { request, legs: course.legs, verdict }
}

struct Travel<'t> {
    nodes: &'t Nodes,
    names: Names<'t>,
    legs: Vec<Leg>,
    /// The packet may still be under way.
    open: bool,
}

impl Travel<'_> {
    fn all(&mut self, request: &Request) {
        let (from, to) = (&request.from, &request.to);
        let same = from.node.is_some() && from.node == to.node;
        let mut inner = request.packet();
        if let Some(node) = &from.node {
            let out = if same { to.veth.clone() } else { from.outlet(request.encapsulated) };
            let (course, what) = match (&from.veth, &to.veth) {
                (Some(_), None) if same => (Course::Received, "from the pod to its own node"),
                (Some(_), _) => (Course::Forwarded, "from the pod onwards"),
                (None, _) => (Course::Sent, "from the node onwards"),
            };
            inner.in_interface.clone_from(&from.veth);
            inner.out_interface = out;
            inner = self.leg(node, what, course, inner);
            if same {
                return;
            }
        }
        let mut mark = inner.mark;
        let tunnelled = request.encapsulated && (from.tunnel.is_some() || to.tunnel.is_some());
        if tunnelled {
            let mut outer = Meets {
                src: from.underlay,
                dst: to.underlay,
                protocol: Some(UDP),
                dst_port: Some(request.vxlan_port),
                mark,
                out_interface: from.nic.clone(),
                ..Meets::default()
            };
            if let Some(node) = &from.node {
                self.leg(node, "the tunnel's packet, sent", Course::Sent, outer.clone());
            }
            if let Some(node) = &to.node {
                (outer.in_interface, outer.out_interface, outer.mark) = (to.nic.clone(), None, Some(0));
                mark = self.leg(node, "the tunnel's packet, received", Course::Received, outer).mark;
            }
        }
        let Some(node) = &to.node else { return };
        inner.mark = if tunnelled { mark } else { Some(0) };
        // What left the first node by an address that could not be worked out is taken to come to the end asked for.
        inner.dst = inner.dst.or(to.address);
        inner.in_interface = to.outlet(request.encapsulated);
        inner.out_interface.clone_from(&to.veth);
        let (course, what) = match to.veth {
            Some(_) => (Course::Forwarded, "onwards to the pod"),
            None => (Course::Received, "to the node itself"),
        };
        self.leg(node, what, course, inner);
    }

    /// One passage; gives the packet as it comes out.
    fn leg(&mut self, node: &str, what: &str, course: Course, meets: Meets) -> Meets {
        if !self.open {
            return meets;
        }
        let nothing = Filters::default();
        let filters = self.nodes.0.get(node).unwrap_or(&nothing);
        let v6 = meets.dst.or(meets.src).is_some_and(|address| address.is_ipv6());
        let world = filters.world(v6);
        let walked = walk(&world, course, &meets);
        let ways = [&meets.in_interface, &meets.out_interface]
            .map(|name| name.clone().filter(|name| !name.is_empty()));
        let by = match ways {
            [Some(enters), Some(leaves)] => format!(": {enters} to {leaves}"),
            [Some(enters), None] => format!(": by {enters}"),
            [None, Some(leaves)] => format!(": by {leaves}"),
            [None, None] => String::new(),
        };
        let steps = steps(&world, &walked, &self.names);
        let certain = walked.certain().is_some();
        self.open = !certain || walked.certain().is_some_and(|end| end.what == Ending::Passes);
        let ends = walked.ends.iter().map(|end| leg_end(end, &walked)).collect();
        self.legs.push(Leg {
            node: node.to_owned(),
            what: format!("{what}{by}"),
            steps,
            ends,
            certain,
            doubts: walked.doubts,
        });
        // Without an end that passes the packet cannot come out; the next leg then says what would be.
        if walked.out == Meets::default() { meets } else { walked.out }
    }
}

fn leg_end(end: &End, walked: &Walked) -> LegEnd {
    let step = end.place.as_ref().and_then(|place| walked.met.iter().position(|met| met.place == *place));
    let (what, words) = match &end.what {
        Ending::Passes => ("passes", "passes".to_owned()),
        Ending::Dropped => ("dropped", "dropped".to_owned()),
        Ending::Rejected(how) if how.is_empty() => ("rejected", "rejected".to_owned()),
        Ending::Rejected(how) => ("rejected", format!("rejected with {how}")),
        Ending::Elsewhere(how) => ("elsewhere", how.clone()),
    };
    LegEnd { what, words, step }
}

fn steps(world: &World<'_>, walked: &Walked, names: &Names<'_>) -> Vec<Step> {
    let step = |met: &Met| {
        let (table, chain) = world.chain(&met.place)?;
        let rule = world.rule(&met.place);
        let family = table.family.as_ref().map(|family| format!("{family} ")).unwrap_or_default();
        let policy = match chain.policy {
            Some(Policy::Drop) => "policy DROP",
            _ => "policy ACCEPT",
        };
        Some(Step {
            text: world.rulesets.get(met.place.ruleset)?.0.clone(),
            table: format!("{family}{}", table.name),
            chain: chain.name.clone(),
            of: names.of(chain),
            number: met.place.rule.map(|rule| rule + 1),
            words: rule.map_or_else(|| policy.to_owned(), Rule::words),
            said: rule.into_iter().flat_map(Rule::said).map(str::to_owned).collect(),
            packets: match rule {
                Some(rule) => rule.counters.map(|counters| counters.packets),
                None => table.family.is_none().then_some(chain.counters.packets),
            },
            unknown: match &met.fits {
                Fits::Unknown(open) => open.clone(),
                Fits::Yes | Fits::No => Vec::new(),
            },
            certain: met.certain,
            ends: walked.ends.iter().any(|end| end.place.as_ref() == Some(&met.place)),
        })
    };
    walked.met.iter().filter_map(step).collect()
}
