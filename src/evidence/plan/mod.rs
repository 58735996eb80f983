//! Which points to capture for two endpoints, before any node has been asked: from the cluster's objects alone.
//! Pure. The agents turn a [`Find`] into an interface's name; [`Plan::into_case`] then fixes points and paths.

mod ends;
mod name;
mod pairs;
mod paths;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use ends::PlanError;
pub use name::EndName;
pub use pairs::Pairs;
pub use paths::paths;

use super::case::{Aliases, CapturePoint, Case, Direction, Endpoint, NodeFacts, Only, Role};
use super::cluster::{Cluster, Encapsulation, Node};
use super::host::{Host, STATE};
use super::known::Known;
use super::texts::Texts;
use ends::{End, Kind};

/// Where to capture, and for whose traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where the traffic starts.
    pub from: Endpoint,
    /// Where it goes.
    pub to: Endpoint,
    /// Other addresses of the two ends.
    pub aliases: Aliases,
    /// Nodes: those of the path first, then those only known by name.
    pub nodes: Vec<NodeFacts>,
    /// Points in path order from `from` to `to`.
    pub points: Vec<PlannedPoint>,
    /// Whether packets between the NICs should be encapsulated.
    pub encapsulated: bool,
    /// UDP port of VXLAN in this cluster.
    pub vxlan_port: u16,
    /// Only this traffic.
    pub only: Only,
    /// What the plan could not know, in words.
    pub warnings: Vec<String>,
}

/// One point that should be captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPoint {
    /// Node.
    pub node: String,
    /// What kind of point.
    pub role: Role,
    /// How the agent finds the interface.
    pub find: Find,
}

/// How an agent finds an interface on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Find {
    /// By name.
    Name(String),
    /// The one that holds this address.
    Holding(IpAddr),
    /// The pod's end of the veth pair whose host end is named here, in the pod's own network namespace.
    InsidePod {
        /// Host end.
        veth: String,
        /// An address that it must hold.
        address: IpAddr,
    },
}

/// What a plan may choose.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// Namespace of bare pod names.
    pub namespace: String,
    /// 4 or 6; the first address that both ends have otherwise.
    pub family: Option<u8>,
    /// Only this traffic; without a port here, that of a Service's port when an endpoint names one.
    pub only: Only,
    /// Capture on the pods' own interfaces too.
    pub in_pod: bool,
}

impl Plan {
    /// Plans a trace between two endpoints: `pod`, `namespace/pod`, an address, `svc/[namespace/]name[:port]` or
    /// `node/NAME`.
    ///
    /// # Errors
    ///
    /// When an endpoint does not exist, has no address, or both have none of one family.
    pub fn make(cluster: &Cluster, from: &str, to: &str, options: &PlanOptions) -> Result<Self, PlanError> {
        let mut warnings = Vec::new();
        let from = End::find(cluster, from, options, &mut warnings)?;
        let to = End::find(cluster, to, options, &mut warnings)?;
        Self::between(cluster, from, to, options, warnings)
    }

    fn between(
        cluster: &Cluster,
        from: End,
        to: End,
        options: &PlanOptions,
        warnings: Vec<String>,
    ) -> Result<Self, PlanError> {
        let (from_address, to_address) = End::addresses(&from, &to, options.family)?;
        let (from_node, to_node) = (from.node(cluster), to.node(cluster));
        let tunnel = match (from_node, to_node) {
            (Some(a), Some(b)) if a.name != b.name => tunnel(cluster, (a, from_address), (b, to_address)),
            _ => None,
        };
        let mut points = Vec::new();
        let crosses = from.node.is_none() || to.node.is_none() || from.node != to.node;
        side(&mut points, &from, from_address, from_node, tunnel, crosses, options.in_pod);
        let mut back = Vec::new();
        side(&mut back, &to, to_address, to_node, tunnel, crosses, options.in_pod);
        points.extend(back.into_iter().rev());
        let felix = cluster.felix.get("default").or_else(|| cluster.felix.values().next());
        let port = felix.and_then(|felix| felix.vxlan_port).unwrap_or(4789);
        let aliases = aliases(cluster, &to, to_address, from_node, from_address);
        let typed = options.only;
        let only = match (typed.port, to.only.or(from.only)) {
            (None, Some(of_service)) => {
                Only { protocol: typed.protocol.or(of_service.protocol), ..of_service }
            }
            (port, _) => Only {
                also: port.and_then(|port| cluster.translated_port(&aliases.to, to_address, port)),
                ..typed
            },
        };
        Ok(Self {
            aliases,
            nodes: nodes(cluster, &from, &to),
            from: Endpoint { name: from.name, address: from_address, node: from.node },
            to: Endpoint { name: to.name, address: to_address, node: to.node },
            encapsulated: tunnel.is_some(),
            points,
            vxlan_port: port,
            only,
            warnings,
        })
    }

    /// The points' interfaces, from the state that was read on their nodes. A name is taken as it is: whether the
    /// interface exists is for the checks to say.
    pub fn resolve(&self, texts: &Texts) -> Vec<Known<String>> {
        let host = |node: &str, name: &str| match texts.newest(node, name).map(|text| &text.content) {
            Some(Known::Read(text)) => Host::parse(text),
            Some(Known::Unreadable(why)) => Err(why.clone()),
            Some(Known::NotAsked) | None => Err(format!("no {name} was read on {node}")),
        };
        let holding = |node: &str, name: &str, address: IpAddr| {
            let link = host(node, name).and_then(|host| {
                let link = host.link_of(address).map(|link| link.name.clone());
                link.ok_or_else(|| format!("no interface holds {address}"))
            });
            link.map_or_else(Known::Unreadable, Known::Read)
        };
        let inside = |address: IpAddr, node: &str| {
            let of_pods = ["pod:", "pod2:"].map(|inside| holding(node, &format!("{inside}{STATE}"), address));
            let [first, second] = of_pods;
            if first.read().is_some() {
                first
            } else if second.read().is_some() {
                second
            } else {
                first
            }
        };
        let of = |point: &PlannedPoint| match &point.find {
            Find::Name(name) => Known::Read(name.clone()),
            Find::Holding(address) => holding(&point.node, STATE, *address),
            Find::InsidePod { address, .. } => inside(*address, &point.node),
        };
        self.points.iter().map(of).collect()
    }

    /// Fixes points and paths once the agents have found the interfaces; `resolved` has one entry a planned point.
    /// A point without an interface is left out, with a warning.
    pub fn into_case(self, resolved: &[Known<String>]) -> Case {
        let mut warnings = self.warnings;
        let mut points = Vec::new();
        for (planned, found) in self.points.iter().zip(resolved) {
            let inside = matches!(planned.find, Find::InsidePod { .. });
            match found {
                Known::Read(interface) => points.push(CapturePoint {
                    id: format!("{}/{}{interface}", planned.node, if inside { "pod:" } else { "" }),
                    node: planned.node.clone(),
                    interface: interface.clone(),
                    role: planned.role,
                    state: Known::NotAsked,
                }),
                Known::NotAsked => {}
                Known::Unreadable(why) => {
                    warnings.push(format!(
                        "{} ({}) is not captured: {why}",
                        planned.node,
                        planned.find.words()
                    ));
                }
            }
        }
        let mut paths = paths(&points, self.encapsulated);
        for path in &mut paths {
            let end = if path.direction == Direction::Forward { &self.to } else { &self.from };
            path.open_end = !ends(path.direction, &self.points, resolved, end.is_node(&self.nodes));
        }
        Case {
            from: self.from,
            to: self.to,
            aliases: self.aliases,
            nodes: self.nodes,
            paths,
            points,
            vxlan_port: self.vxlan_port,
            window: None,
            clocks: Vec::new(),
            only: self.only,
            probe: None,
            conntrack: Vec::new(),
            warnings,
        }
    }
}

/// Whether a direction's last planned point was found, and nothing is beyond it: a pod's veth or its own interface, a node's NIC
/// if the node is the end.
fn ends(direction: Direction, planned: &[PlannedPoint], resolved: &[Known<String>], at_node: bool) -> bool {
    let found = planned.iter().zip(resolved).map(|(planned, found)| (planned.role, found.read().is_some()));
    let mut found: Vec<(Role, bool)> = found.collect();
    if direction == Direction::Reply {
        found.reverse();
    }
    let pod = found.iter().rev().take_while(|(role, _)| *role == Role::Pod).any(|(_, found)| *found);
    let end = found.iter().rev().find(|(role, _)| *role != Role::Pod);
    pod || end.is_none_or(|(role, found)| *found && (at_node || *role == Role::Veth))
}

impl Find {
    /// For messages.
    pub fn words(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Holding(address) => format!("the interface that holds {address}"),
            Self::InsidePod { veth, .. } => format!("the pod's end of {veth}"),
        }
    }
}

/// The tunnel device between two nodes for this pair of addresses, if their pool is encapsulated there
/// (`felix/calc/l3_route_resolver.go` decides by the pool of the destination).
pub fn tunnel(cluster: &Cluster, from: (&Node, IpAddr), to: (&Node, IpAddr)) -> Option<&'static str> {
    let (vxlan, ipip) = if to.1.is_ipv4() { ("vxlan.calico", "tunl0") } else { ("vxlan-v6.calico", "tunl0") };
    let applies = |mode| match mode {
        Encapsulation::Never => false,
        Encapsulation::Always => true,
        Encapsulation::CrossSubnet => !same_subnet(from.0, to.0, to.1.is_ipv4()),
    };
    let pool = cluster
        .pools
        .iter()
        .filter(|pool| pool.cidr.contains(&to.1))
        .max_by_key(|pool| pool.cidr.prefix_len());
    match pool {
        Some(pool) if applies(pool.vxlan) => Some(vxlan),
        Some(pool) if applies(pool.ipip) => Some(ipip),
        Some(_) => None,
        // An address of no pool, as a node's own, is reached as it is.
        None if !cluster.pools.is_empty() => None,
        // Without pools in the file: a node with a tunnel address of that family has a tunnel.
        None => to.0.tunnels.iter().any(|t| t.is_ipv4() == to.1.is_ipv4()).then_some(vxlan),
    }
}

fn same_subnet(a: &Node, b: &Node, v4: bool) -> bool {
    let (own, peer) = if v4 { (a.ipv4, b.ipv4) } else { (a.ipv6, b.ipv6) };
    matches!((own, peer), (Some(own), Some(peer)) if own.contains(&peer.addr()))
}

/// The points of one side, from its end outwards.
fn side(
    points: &mut Vec<PlannedPoint>,
    end: &End,
    address: IpAddr,
    node: Option<&Node>,
    tunnel: Option<&str>,
    crosses: bool,
    in_pod: bool,
) {
    let Some(name) = &end.node else { return };
    let mut add = |role, find| points.push(PlannedPoint { node: name.clone(), role, find });
    if let Kind::Pod { veth } = &end.kind {
        if in_pod {
            add(Role::Pod, Find::InsidePod { veth: veth.clone(), address });
        }
        add(Role::Veth, Find::Name(veth.clone()));
    }
    if !crosses {
        return;
    }
    if let (Some(tunnel), Kind::Pod { .. }) = (tunnel, &end.kind) {
        add(Role::Tunnel, Find::Name(tunnel.to_owned()));
    }
    // Of the other family where it has none of this one.
    let v6 = address.is_ipv6();
    if let Some(holding) = node.and_then(|node| node.tunnel_end(v6).or_else(|| node.tunnel_end(!v6))) {
        add(Role::Nic, Find::Holding(holding));
    }
}

/// Addresses under which the ends are seen before and after translation.
fn aliases(
    cluster: &Cluster,
    to: &End,
    to_address: IpAddr,
    from_node: Option<&Node>,
    from: IpAddr,
) -> Aliases {
    let serves = |service: &super::cluster::Service| {
        cluster.slices.iter().any(|slice| {
            slice.namespace == service.namespace
                && slice.service.as_ref() == Some(&service.name)
                && slice.endpoints.iter().any(|(address, _)| *address == to_address)
        })
    };
    let services =
        cluster.services.iter().filter(|service| serves(service)).flat_map(|service| &service.addresses);
    let mut others: Vec<IpAddr> = services.copied().collect();
    others.sort_unstable();
    // That of the Service that was typed goes first: it is the one to be asked.
    let mut reached_by: Vec<IpAddr> = Vec::new();
    for address in to.service.iter().copied().chain(others) {
        let same = address.is_ipv4() == to_address.is_ipv4() && address != to_address;
        if same && !reached_by.contains(&address) {
            reached_by.push(address);
        }
    }
    let mut seen_as = from_node.map(Node::underlay).unwrap_or_default();
    seen_as.extend(from_node.map(|node| node.tunnels.clone()).unwrap_or_default());
    seen_as.retain(|address| address.is_ipv4() == from.is_ipv4() && *address != from);
    Aliases { from: seen_as, to: reached_by }
}

/// The nodes of the path first, then all others, so that a wrong destination can be called by name.
fn nodes(cluster: &Cluster, from: &End, to: &End) -> Vec<NodeFacts> {
    let on_path = |node: &Node| [&from.node, &to.node].into_iter().flatten().any(|name| *name == node.name);
    let facts = |node: &Node| NodeFacts {
        name: node.name.clone(),
        addresses: node.underlay(),
        on_path: on_path(node),
    };
    let (path, others): (Vec<_>, Vec<_>) = cluster.nodes.iter().map(facts).partition(|facts| facts.on_path);
    path.into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests;
