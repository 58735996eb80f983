//! The checks of the troubleshooting guide, on what the nodes' kernels said: takes the recorded state of the nodes and
//! pods on a path, and gives, for one direction, every [`Fault`] that would stop or lose its packets, each with what was
//! read, what was expected, and the stage where packets would vanish. It looks at no capture: whether a fault is the
//! cause of a loss is for [`explain`](super::explain) to say. Nothing is a fault that was not read.

mod checkup;
mod destination;
mod firewall;
mod hooks;
mod local;
mod node;
mod path;
mod peers;
mod pods;
mod source;
mod status;
mod tunnel;

use std::net::IpAddr;

pub use checkup::{Checkup, Ground, Made, check};
pub use status::{Device, NodeStatus, PeerStatus, Read, status};

use crate::analyze::ipam::Finding;
use crate::evidence::host::{Host, Link, Queue, STATE};
use crate::evidence::{Case, Direction, Known, Role, StageKind, Texts, When};

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The `kind` of the report contract.
    pub kind: &'static str,
    /// Node.
    pub node: String,
    /// Where packets vanish through it; none when they never start.
    pub stage: Option<StageKind>,
    /// Whether it stops traffic; else it may.
    pub breaks: bool,
    /// Only IP packets longer than this many bytes.
    pub longer_than: Option<u32>,
    /// One line for a person.
    pub summary: String,
    /// What to do.
    pub remedy: String,
    /// `route`, `neighbour`, `fdb`, `link`, `sysctl`, …
    pub source: &'static str,
    /// What was read.
    pub read: String,
    /// What was expected, and why.
    pub expected: String,
    /// Counters that grow with every packet that it takes, and by how much they grew.
    pub counters: Vec<(String, u64)>,
    /// Each of its packets is counted there: without growth it took none.
    pub counts_each: bool,
}

/// One namespace, before and after.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Before capturing; empty when it was not read.
    pub before: Host,
    /// After it.
    pub after: Host,
    /// It was read once, nobody knows how long before or after: nothing can have grown.
    pub once: bool,
}

/// One direction of a path, with what is known of its places.
#[derive(Debug)]
pub struct Way<'s> {
    /// Which.
    pub direction: Direction,
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// The source's node.
    pub from: Side<'s>,
    /// The destination's.
    pub to: Side<'s>,
    /// Whether packets go through the tunnel.
    pub encapsulated: bool,
    /// The cluster's tunnel port.
    pub vxlan_port: u16,
}

/// One end of a direction.
#[derive(Debug, Clone, Copy)]
pub struct Side<'s> {
    /// Node's name.
    pub node: &'s str,
    /// Its addresses on the underlay.
    pub addresses: &'s [IpAddr],
    /// The node's namespace.
    pub host: Option<&'s Seen>,
    /// The pod's.
    pub pod: Option<&'s Seen>,
    /// The pod's interface on the node.
    pub veth: Option<&'s str>,
    /// The node's tunnel device.
    pub tunnel: &'s str,
    /// The node's card.
    pub nic: Option<&'s str>,
}

/// All namespaces that were read.
#[derive(Debug, Default)]
pub struct World {
    seen: Vec<(String, &'static str, Seen)>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

impl World {
    /// From the recorded texts.
    pub fn of(case: &Case, texts: &Texts) -> Self {
        let mut world = Self::default();
        for node in &case.nodes {
            for inside in ["", "pod:", "pod2:"] {
                let name = format!("{inside}{STATE}");
                let mut read = |when| {
                    let text = texts.find(&node.name, &name, when)?;
                    let parsed = match &text.content {
                        Known::Read(text) => Host::parse(text),
                        Known::Unreadable(why) => Err(why.clone()),
                        Known::NotAsked => return None,
                    };
                    parsed.map_err(|why| world.unread.push(format!("no {name} of {}: {why}", node.name))).ok()
                };
                let (before, after) = (read(When::Before), read(When::After));
                let once = before.is_none();
                let Some(after) = after.or_else(|| before.clone()) else { continue };
                let before = before.unwrap_or_else(|| after.clone());
                let unread = after.unread.iter().map(|why| format!("{}: {why}", node.name));
                world.unread.extend(unread);
                let differ = after.disagreements().into_iter().map(|differ| {
                    format!(
                        "{}: {differ}: the kernel's word counts; what is said of its routes is less sure",
                        node.name
                    )
                });
                world.unread.extend(differ);
                world.seen.push((node.name.clone(), inside, Seen { before, after, once }));
            }
        }
        world.unread.sort();
        world.unread.dedup();
        world
    }

    /// Whether any state was read at all.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// What was read of a node, or of a pod on it (`pod:`, `pod2:`).
    pub fn seen(&self, node: &str, inside: &str) -> Option<&Seen> {
        self.seen.iter().find(|(name, at, _)| name == node && *at == inside).map(|(_, _, seen)| seen)
    }

    /// Whether a node's state is of some other moment than the captures.
    pub fn is_apart(&self, node: &str) -> bool {
        self.seen(node, "").is_some_and(|seen| seen.once)
    }

    /// One direction, as the case's points name its places.
    pub fn way<'s>(&'s self, case: &'s Case, direction: Direction) -> Option<Way<'s>> {
        let path = case.paths.iter().find(|path| path.direction == direction)?;
        let (from, to) = match direction {
            Direction::Forward => (&case.from, &case.to),
            Direction::Reply => (&case.to, &case.from),
        };
        let same_node = from.node == to.node;
        let side = |end: &'s crate::evidence::Endpoint, second: bool, source: bool| {
            // Somebody outside the cluster has no node that could be looked at.
            let node = end.node.as_deref().unwrap_or("");
            let facts = case.nodes.iter().find(|facts| facts.name == node);
            let points = || path.points.iter().map(|point| &case.points[point.index()]);
            let of = |role| {
                let mut here = points().filter(move |point| point.node == node && point.role == role);
                if source { here.next() } else { here.next_back() }
            };
            let inside = if same_node && second { "pod2:" } else { "pod:" };
            Side {
                node,
                addresses: facts.map(|facts| facts.addresses.as_slice()).unwrap_or_default(),
                host: self.seen(node, ""),
                pod: self.seen(node, inside).filter(|pod| pod.after.link_of(end.address).is_some()),
                veth: of(Role::Veth).map(|point| point.interface.as_str()),
                tunnel: of(Role::Tunnel).map_or(
                    if end.address.is_ipv6() { "vxlan-v6.calico" } else { "vxlan.calico" },
                    |point| point.interface.as_str(),
                ),
                nic: of(Role::Nic).map(|point| point.interface.as_str()),
            }
        };
        let reply = direction == Direction::Reply;
        Some(Way {
            direction,
            src: from.address,
            dst: to.address,
            from: side(from, reply, true),
            to: side(to, !reply, false),
            encapsulated: path.encapsulated,
            vxlan_port: case.vxlan_port,
        })
    }
}

/// Every fault on one direction, in path order.
pub fn faults(way: &Way<'_>) -> Vec<Fault> {
    let mut all = Vec::new();
    pods::leaving(way, &mut all);
    hooks::check(way, &mut all);
    source::check(way, &mut all);
    if way.encapsulated {
        tunnel::check(way, &mut all);
    }
    destination::check(way, &mut all);
    pods::entering(way, &mut all);
    all
}

impl From<Finding> for Fault {
    fn from(found: Finding) -> Self {
        Self {
            kind: found.kind,
            node: found.node,
            stage: None,
            breaks: found.breaks,
            longer_than: None,
            summary: found.summary,
            remedy: found.remedy,
            source: "ipam",
            read: found.read,
            expected: found.expected,
            counters: Vec::new(),
            counts_each: false,
        }
    }
}

impl Fault {
    /// Whether through it packets never leave the pod.
    pub fn stops_sending(&self) -> bool {
        self.stage.is_none_or(|stage| stage == StageKind::LeavePod)
    }
}

impl Seen {
    /// Queues that threw packets away meanwhile, and how many. Of `clsact` and `ingress` it is what their filters did.
    pub fn overflown(&self) -> Vec<(&Queue, u64)> {
        let grown = self.after.queues.iter().map(|queue| {
            let same = |before: &&Queue| {
                (&before.link, &before.kind, &before.parent) == (&queue.link, &queue.kind, &queue.parent)
            };
            let before = self.before.queues.iter().find(same).map_or(0, |before| before.drops);
            (queue, queue.drops.saturating_sub(before))
        });
        grown.filter(|(_, grown)| *grown > 0).collect()
    }

    /// How much a counter grew.
    pub fn grown(&self, name: &str) -> u64 {
        self.after.grown(&self.before, name)
    }

    /// How much a link's statistic grew.
    pub fn link_grown(&self, link: &str, name: &str) -> u64 {
        self.after.link_grown(&self.before, link, name)
    }

    /// Counters by name with their growth, for a fault's evidence; those that stood still are left out.
    fn moved(&self, names: &[&str]) -> Vec<(String, u64)> {
        let grown = names.iter().map(|name| ((*name).to_owned(), self.grown(name)));
        grown.filter(|(_, grown)| *grown > 0).collect()
    }

    /// The same for a link's statistic.
    fn link_moved(&self, link: &str, name: &str) -> Vec<(String, u64)> {
        let grown = self.link_grown(link, name);
        if grown > 0 { vec![(format!("{link} {name}"), grown)] } else { Vec::new() }
    }
}

impl<'s> Side<'s> {
    fn link(&self, name: &str) -> Option<&'s Link> {
        self.host?.after.link(name)
    }

    fn fault(&self, kind: &'static str, stage: StageKind, source: &'static str) -> Fault {
        Fault {
            kind,
            node: self.node.to_owned(),
            stage: Some(stage),
            breaks: true,
            longer_than: None,
            summary: String::new(),
            remedy: String::new(),
            source,
            read: String::new(),
            expected: String::new(),
            counters: Vec::new(),
            counts_each: false,
        }
    }

    /// The name of a per-family counter.
    fn counter(v6: bool, v4_name: &'static str, v6_name: &'static str) -> &'static str {
        if v6 { v6_name } else { v4_name }
    }
}

/// Forwarding and reverse path on the link where packets come in: the same on both nodes.
fn incoming(side: &Side<'_>, way: &Way<'_>, link: &str, stage: StageKind, all: &mut Vec<Fault>) {
    let Some(seen) = side.host else { return };
    let host = &seen.after;
    let v6 = way.dst.is_ipv6();
    let family = if v6 { "ipv6" } else { "ipv4" };
    let forwarding = format!("net.{family}.conf.{link}.forwarding");
    if host.sysctl(&forwarding) == Some(0) {
        all.push(Fault {
            summary: format!("{link} does not forward what comes in by it"),
            remedy: format!(
                "on {}: `sysctl -w {forwarding}=1`, and find out what turned it off (net.{family}.conf.all.forwarding too)",
                side.node
            ),
            read: format!("{forwarding} = 0"),
            expected: "1: a node of the cluster forwards its pods' packets".to_owned(),
            counters: seen.moved(&[Side::counter(v6, "Ip:InAddrErrors", "Ip6InAddrErrors"), "Ip6InDiscards"]),
            ..side.fault("ip_forward_off", stage, "sysctl")
        });
    }
    // IPv6 has no rp_filter (net/ipv4/fib_frontend.c).
    let strict = |name: &str| host.sysctl(&format!("net.ipv4.conf.{name}.rp_filter")).unwrap_or(0);
    let routes = !host.routes.is_empty() && host.has_read("routes");
    if v6 || !routes || strict("all").max(strict(link)) != 1 {
        return;
    }
    let back = host.lookup(&crate::evidence::host::Question { dst: way.src, src: None, iif: None });
    let leads = back.route.and_then(|route| route.dev.as_deref());
    if leads != Some(link) && back.certain {
        let words = back.route.map_or_else(|| "no route".to_owned(), crate::evidence::host::HostRoute::words);
        all.push(Fault {
            summary: format!("strict reverse-path filtering on {link}: the way back to {} does not lead there", way.src),
            remedy: format!(
                "on {}: mend the route to {} (`ip route get {}`), or `sysctl -w net.ipv4.conf.{link}.rp_filter=2`",
                side.node, way.src, way.src
            ),
            read: format!("rp_filter 1 on {link}; the route back is `{words}`"),
            expected: format!("a route to {} by {link}, by which its packets come in", way.src),
            counters: seen.moved(&["TcpExt:IPReversePathFilter"]),
            ..side.fault("reverse_path", stage, "sysctl")
        });
    }
}
