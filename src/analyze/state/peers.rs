//! A node against all others that the cluster's objects name: for each of them a route for every block and pod, a permanent
//! neighbour entry with the right MAC, and an FDB entry to the right address; and entries that lead to no node any more.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::checkup::{Checkup, Place};
use super::node::{not_plain, own_blocks, tunnel_addresses, uses_vxlan, wanted_mac};
use super::{Fault, source};
use crate::evidence::StageKind;
use crate::evidence::cluster::{Cluster, Node};
use crate::evidence::host::{HostRoute, Question};
use crate::evidence::netfilter::Sets;
use crate::evidence::plan;

/// Every other node of the cluster, in both families.
pub(super) fn check(place: &Place<'_>, all: &[Place<'_>], checkup: &mut Checkup) {
    let Some(cluster) = place.cluster_with("Node").filter(|cluster| not_plain(Some(cluster)).is_none())
    else {
        return;
    };
    for v6 in [false, true] {
        let place = place.in_family(v6);
        let side = &place.side;
        // Without the device nothing of this can be there: its absence is told already.
        if !side.link(side.tunnel).is_some_and(|link| link.up) || !uses_vxlan(&place, v6).unwrap_or(true) {
            continue;
        }
        let mut told = Vec::new();
        for peer in peers(&place, all, cluster, v6) {
            let what = |words: &str| format!("{words} of {} ({})", peer.object.name, side.tunnel);
            let entries = peer.entries(&place);
            let routes = peer.routes(&place, cluster);
            told.extend(entries.iter().chain(&routes).map(|fault| fault.read.clone()));
            if place.host().has_read("neighbours") && place.host().has_read("forwarding databases") {
                checkup.add(side.node, what("neighbour and FDB entry"), entries);
            }
            if !place.host().routes.is_empty() && place.host().has_read("routes") {
                checkup.add(side.node, what("routes to blocks and pods"), routes);
            }
        }
        let mut left = leftovers(&place, cluster);
        left.retain(|fault| !told.iter().any(|read| fault.read.contains(read.trim_matches('`'))));
        checkup.add(side.node, format!("{} leads to nodes that exist only", side.tunnel), left);
    }
}

/// Felix lets tunnel packets in from the addresses of one ipset only (`felix/rules/static.go`): every other node's must be
/// in it.
pub(super) fn senders(place: &Place<'_>, checkup: &mut Checkup) {
    let (side, case) = (&place.side, place.ground.case);
    let text = place.ground.texts.newest(side.node, "ipset").and_then(|text| text.content.read());
    let Some(sets) = text.map(|text| Sets::parse(text)) else { return };
    let others = case.nodes.iter().filter(|other| other.name != side.node);
    // A path concerns its own nodes.
    let others = others.filter(|other| case.paths.is_empty() || other.on_path);
    // A node that runs no Calico sends nothing through the tunnel.
    let has_tunnel = |name: &str, v6: bool| {
        let object = place.ground.cluster.and_then(|cluster| cluster.node(name));
        object.is_none_or(|object| object.tunnels.iter().any(|address| address.is_ipv6() == v6))
    };
    let mut faults = Vec::new();
    let mut asked = false;
    for (other, address) in others.flat_map(|other| other.addresses.iter().map(move |one| (other, *one))) {
        let set = if address.is_ipv6() { "cali60all-vxlan-net" } else { "cali40all-vxlan-net" };
        if !has_tunnel(&other.name, address.is_ipv6()) {
            continue;
        }
        let Some(held) = sets.holds(set, address).filter(|_| sets.n_members(set) > Some(0)) else { continue };
        asked = true;
        if !held {
            faults.push(Fault {
                summary: format!("{} lets in no tunnel packets from {}", side.node, other.name),
                remedy: format!(
                    "look whether {} has its annotations projectcalico.org/IPv4Address and IPv4VXLANTunnelAddr, and at calico-node's log on {}",
                    other.name, side.node
                ),
                read: format!("{address} is not in the ipset {set}"),
                expected: "every other node's address: packets from others are dropped in INPUT".to_owned(),
                ..side.fault("calico_rule", StageKind::Decapsulate, "ipset")
            });
        }
    }
    if asked {
        checkup.add(side.node, "tunnel packets of the other nodes are let in", faults);
    }
}

/// The nodes that have a tunnel address in a family, without this one.
pub(super) fn peers<'p, 'g>(
    place: &Place<'_>,
    all: &'p [Place<'g>],
    cluster: &'p Cluster,
    v6: bool,
) -> Vec<Peer<'p, 'g>> {
    let objects = cluster.nodes.iter().filter(|object| object.name != place.side.node);
    let known = objects.filter_map(|object| {
        let address = tunnel_addresses(object, v6).first().copied()?;
        Some(Peer { object, address, read: all.iter().find(|peer| peer.side.node == object.name), v6 })
    });
    known.collect()
}

/// Another node, as this one must know it.
pub(super) struct Peer<'p, 'g> {
    pub(super) object: &'p Node,
    pub(super) address: IpAddr,
    read: Option<&'p Place<'g>>,
    v6: bool,
}

impl Peer<'_, '_> {
    /// The MACs that lead to it: its device's own where that was read, and what Calico gives it.
    fn macs(&self) -> Vec<String> {
        let own = self.read.and_then(|read| {
            let read = read.in_family(self.v6);
            read.side.link(read.side.tunnel)?.mac.clone()
        });
        own.into_iter().chain([wanted_mac(&self.object.name, Some(self.object), self.v6)]).collect()
    }

    fn underlay(&self) -> Vec<IpAddr> {
        self.object.underlay().into_iter().filter(|address| address.is_ipv6() == self.v6).collect()
    }

    /// Neighbour and forwarding entry.
    pub(super) fn entries(&self, place: &Place<'_>) -> Vec<Fault> {
        let (side, host) = (&place.side, place.host());
        let (peer, address, device) = (&self.object.name, self.address, side.tunnel);
        let macs = self.macs();
        let wanted = macs.last().map(String::as_str).unwrap_or_default();
        let underlay = self.underlay();
        let target = self.object.tunnel_end(self.v6).map_or_else(|| peer.clone(), |end| end.to_string());
        let mend = format!(
            "on {}: Felix writes it (`ip neigh show dev {device}`, `bridge fdb show dev {device}`): look at its log, or restart calico-node",
            side.node
        );
        if !host.has_read("neighbours") || !host.has_read("forwarding databases") {
            return Vec::new();
        }
        let Some(entry) = host.neighbour(device, address) else {
            return vec![self.missing(place, "no entry", wanted, mend)];
        };
        let Some(mac) = &entry.mac else {
            return vec![self.missing(place, &entry.state, wanted, mend)];
        };
        let mut faults = Vec::new();
        if !macs.contains(mac) {
            faults.push(Fault {
                summary: format!("{} believes in a wrong MAC of {peer}'s tunnel", side.node),
                remedy: mend.clone(),
                read: format!("neighbour {address} on {device}: {mac}, {}", entry.state),
                expected: format!(
                    "{wanted}, permanent: {peer} takes frames to another MAC for somebody else's"
                ),
                ..side.fault("neighbour_wrong", StageKind::Encapsulate, "neighbour")
            });
        } else if entry.state != "permanent" {
            faults.push(Fault {
                breaks: false,
                summary: format!(
                    "the neighbour entry of {peer}'s tunnel is not Felix's: it is {}",
                    entry.state
                ),
                remedy: mend.clone(),
                read: format!("neighbour {address} on {device}: {mac}, {}", entry.state),
                expected:
                    "permanent: the tunnel learns nothing by itself, and what is not permanent goes away"
                        .to_owned(),
                ..side.fault("neighbour_wrong", StageKind::Encapsulate, "neighbour")
            });
        }
        match host.fdb.iter().find(|entry| entry.link == device && entry.mac == *mac) {
            // A frame to an unknown MAC is told with the MAC.
            None if faults.is_empty() => faults.push(Fault {
                summary: format!(
                    "{} does not know where to send frames for {peer}'s tunnel: no FDB entry",
                    side.node
                ),
                remedy: mend,
                read: format!("no FDB entry of {device} for {mac}"),
                expected: format!(
                    "{mac} dst {target}, permanent: without it frames are dropped (tx_dropped of {device})"
                ),
                ..side.fault("fdb_missing", StageKind::Encapsulate, "fdb")
            }),
            Some(entry) if entry.dst.is_some_and(|dst| !underlay.is_empty() && !underlay.contains(&dst)) => {
                let dst = entry.dst.map(|dst| dst.to_string()).unwrap_or_default();
                faults.push(Fault {
                    summary: format!("frames for {peer}'s tunnel are sent to {dst}, which is not its address"),
                    remedy: format!(
                        "on {}: `bridge fdb replace {mac} dev {device} dst {target} self permanent`; Felix takes it from the node's projectcalico.org/IPv4Address",
                        side.node
                    ),
                    read: format!("FDB of {device}: {mac} dst {dst}"),
                    expected: format!("dst {target}"),
                    ..side.fault("fdb_wrong", StageKind::Encapsulate, "fdb")
                });
            }
            _ => {}
        }
        faults
    }

    fn missing(&self, place: &Place<'_>, state: &str, wanted: &str, remedy: String) -> Fault {
        let side = &place.side;
        Fault {
            summary: format!(
                "{} does not know the MAC of {}'s tunnel: no neighbour entry for {}",
                side.node, self.object.name, self.address
            ),
            remedy,
            read: format!("neighbour {} on {}: {state}", self.address, side.tunnel),
            expected: format!("{wanted}, permanent: the tunnel learns nothing by itself"),
            ..side.fault("neighbour_missing", StageKind::Forward, "neighbour")
        }
    }

    /// Routes to its blocks and pods, those that fail alike told once.
    pub(super) fn routes(&self, place: &Place<'_>, cluster: &Cluster) -> Vec<Fault> {
        let (side, host) = (&place.side, place.host());
        if host.routes.is_empty() || !host.has_read("routes") {
            return Vec::new();
        }
        let mut wrong: BTreeMap<(&'static str, String), Vec<IpAddr>> = BTreeMap::new();
        for dst in self.targets(cluster) {
            let found = host.lookup(&Question { dst, src: None, iif: None });
            if !found.certain {
                continue;
            }
            let words = found
                .route
                .map_or_else(|| "no route matches".to_owned(), |route| format!("`{}`", route.words()));
            if let Some(kind) = self.judge(place, cluster, dst, found.route) {
                wrong.entry((kind, words)).or_default().push(dst);
            }
        }
        let strict = |name: &str| host.sysctl(&format!("net.ipv4.conf.{name}.rp_filter")).unwrap_or(0);
        let strict = !self.v6 && strict("all").max(strict(side.tunnel)) == 1;
        let mut faults = Vec::new();
        for ((kind, read), targets) in wrong {
            let (first, more) = (targets[0], targets.len() - 1);
            let more = if more > 0 { format!(" and {more} more addresses there") } else { String::new() };
            let first_and_more = format!("{first}{more}");
            let expected = format!(
                "a route through {} to {}, the tunnel address of {}",
                side.tunnel, self.address, self.object.name
            );
            if strict {
                faults.push(Fault {
                    summary: format!("strict reverse-path filtering on {}: the way back to {first_and_more} does not lead there", side.tunnel),
                    remedy: format!("mend the route, or on {}: `sysctl -w net.ipv4.conf.{}.rp_filter=2`", side.node, side.tunnel),
                    read: format!("rp_filter 1 on {}; the route back is {read}", side.tunnel),
                    expected: format!("a route to {first} by {}, by which its packets come in", side.tunnel),
                    ..side.fault("reverse_path", StageKind::Deliver, "sysctl")
                });
            }
            faults.push(Fault {
                summary: match kind {
                    "wrong_route" => format!("the route of {} to {first_and_more} does not lead to {}, where they are", side.node, self.object.name),
                    "blackhole_route" => format!("{} throws away packets to {first_and_more} on {}", side.node, self.object.name),
                    _ => format!("{} has no route to {first_and_more} on {}", side.node, self.object.name),
                },
                remedy: format!(
                    "on {}: `ip route get {first}`; Felix writes the block's route: look whether it runs and whether the block is affine to {}",
                    side.node, self.object.name
                ),
                read,
                expected,
                ..side.fault(kind, StageKind::Forward, "route")
            });
        }
        faults
    }

    /// What is wrong with the route that wins.
    fn judge(
        &self,
        place: &Place<'_>,
        cluster: &Cluster,
        dst: IpAddr,
        route: Option<&HostRoute>,
    ) -> Option<&'static str> {
        let device = plan::tunnel(cluster, (place.object?, dst), (self.object, dst));
        let Some(route) = route else { return Some("no_route") };
        if let Some(kind) = source::refusal(route) {
            return Some(kind);
        }
        // Without encapsulation any router may lead there.
        if device? != place.side.tunnel {
            return None;
        }
        if route.dev.as_deref() != Some(place.side.tunnel) {
            return Some(if route.dst.prefix_len() == 0 { "no_route" } else { "wrong_route" });
        }
        let owner = tunnel_addresses(self.object, self.v6);
        (!route.multipath && route.via.is_some_and(|via| !owner.contains(&via))).then_some("wrong_route")
    }

    /// Addresses on that node: the first of each block that it says it has, and all its pods.
    fn targets(&self, cluster: &Cluster) -> Vec<IpAddr> {
        let blocks = self.read.map(|read| own_blocks(read.host(), self.v6)).unwrap_or_default();
        let mut all: Vec<IpAddr> = blocks.iter().map(ipnet::IpNet::addr).collect();
        let pods = cluster.pods.iter().filter(|pod| {
            pod.node.as_ref() == Some(&self.object.name) && !pod.host_network && !pod.is_over()
        });
        all.extend(pods.flat_map(|pod| &pod.addresses).filter(|address| address.is_ipv6() == self.v6));
        all
    }
}

/// Entries of the tunnel device that lead to no node of the cluster.
fn leftovers(place: &Place<'_>, cluster: &Cluster) -> Vec<Fault> {
    let (side, host) = (&place.side, place.host());
    if cluster.narrowed.contains_key("Node") {
        return Vec::new();
    }
    let tunnels: Vec<IpAddr> = cluster.nodes.iter().flat_map(|node| node.tunnels.iter().copied()).collect();
    let underlay: Vec<IpAddr> = cluster.nodes.iter().flat_map(Node::underlay).collect();
    let neighbours = host.neighbours.iter().filter(|entry| {
        entry.link == side.tunnel && entry.state == "permanent" && !tunnels.contains(&entry.address)
    });
    let believed: Vec<&str> = host
        .neighbours
        .iter()
        .filter(|entry| entry.link == side.tunnel && tunnels.contains(&entry.address))
        .filter_map(|entry| entry.mac.as_deref())
        .collect();
    let fdb = host.fdb.iter().filter(|entry| {
        entry.link == side.tunnel
            && entry.dst.is_some_and(|dst| !underlay.contains(&dst))
            && !believed.contains(&entry.mac.as_str())
    });
    let routes = host.routes.iter().filter(|route| {
        route.dev.as_deref() == Some(side.tunnel)
            && route.via.is_some_and(|via| !tunnels.contains(&via))
            && route.kind == "unicast"
    });
    let read = |kind, source, all: Vec<String>| {
        let first = all.first()?.clone();
        let more = if all.len() > 1 { format!(" and {} more", all.len() - 1) } else { String::new() };
        Some(Fault {
            breaks: false,
            summary: format!("{} of {} has entries that lead to no node of the cluster", side.tunnel, side.node),
            remedy: format!("on {}: a node that is gone, or somebody else's entries; restart calico-node, which removes what is not its own", side.node),
            read: format!("{first}{more}"),
            expected: "entries for nodes that the cluster knows; an address of an old node may be another's tomorrow".to_owned(),
            ..side.fault(kind, StageKind::Encapsulate, source)
        })
    };
    let neighbours =
        neighbours.map(|entry| format!("neighbour {} {}", entry.address, entry.mac.as_deref().unwrap_or("")));
    let fdb = fdb.map(|entry| {
        format!("FDB {} dst {}", entry.mac, entry.dst.map(|dst| dst.to_string()).unwrap_or_default())
    });
    [
        read("neighbour_wrong", "neighbour", neighbours.collect()),
        read("fdb_wrong", "fdb", fdb.collect()),
        read("wrong_route", "route", routes.map(HostRoute::words).collect()),
    ]
    .into_iter()
    .flatten()
    .collect()
}
