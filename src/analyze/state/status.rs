//! What each node's tunnels, blocks and peers look like, and as much of Felix's work as shows. Takes the same ground as the
//! checks; gives a table's worth of facts, with the checks' word on each peer.

use std::net::IpAddr;

use ipnet::IpNet;

use super::checkup::{Ground, Place};
use super::node::{not_plain, own_blocks};
use super::{Fault, World, peers};
use crate::evidence::Known;
use crate::evidence::host::STATE;
use crate::evidence::netfilter::Ruleset;

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// Its addresses on the underlay.
    pub addresses: Vec<IpAddr>,
    /// What was read of it; why not otherwise.
    pub read: Known<Read>,
    /// The other nodes' tunnels, as it knows them.
    pub peers: Vec<PeerStatus>,
}

/// What was read of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Its tunnel devices.
    pub devices: Vec<Device>,
    /// The blocks that are its own, by its blackhole routes.
    pub blocks: Vec<IpNet>,
    /// Routes of the main table through its tunnel devices.
    pub tunnel_routes: usize,
    /// Host routes to `cali…` links.
    pub pods: usize,
    /// Calico's chains by the program that shows them; none where nothing was read.
    pub chains: Vec<(String, usize)>,
    /// `calico-node` pods on it, with their phase.
    pub agents: Vec<(String, String)>,
}

/// A tunnel device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its MAC.
    pub mac: Option<String>,
    /// Bytes.
    pub mtu: u32,
    /// Network identifier and port.
    pub vni_port: Option<(u32, u16)>,
    /// Whether it leaves checksums to others; none where that was not read.
    pub leaves_checksums: Option<bool>,
}

/// Another node's tunnel, as one node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// The other node.
    pub node: String,
    /// The device that leads there.
    pub device: String,
    /// Its tunnel address.
    pub address: IpAddr,
    /// The neighbour entry's MAC and state.
    pub neighbour: Option<(Option<String>, String)>,
    /// Where frames to that MAC are sent.
    pub underlay: Option<IpAddr>,
    /// Routes by way of its tunnel address.
    pub routes: usize,
    /// What is not as it must be.
    pub faults: Vec<Fault>,
}

impl PeerStatus {
    /// Whether traffic to it is broken.
    pub fn breaks(&self) -> bool {
        self.faults.iter().any(|fault| fault.breaks)
    }
}

/// All nodes that were asked.
pub fn status(ground: &Ground<'_>) -> Vec<NodeStatus> {
    let world = World::of(ground.case, ground.texts);
    let asked = ground.case.nodes.iter().filter(|facts| facts.on_path);
    let places: Vec<Place<'_>> =
        asked.clone().filter_map(|facts| Place::of(ground, &world, &facts.name)).collect();
    let of = |facts: &crate::evidence::case::NodeFacts| {
        let place = places.iter().find(|place| place.side.node == facts.name);
        let why = match ground.texts.newest(&facts.name, STATE).map(|text| &text.content) {
            Some(Known::Unreadable(why)) => why.clone(),
            _ => "its state was not read".to_owned(),
        };
        NodeStatus {
            node: facts.name.clone(),
            addresses: facts.addresses.clone(),
            read: place.map_or(Known::Unreadable(why), |place| Known::Read(read(place))),
            peers: place.map(|place| tunnels(place, &places)).unwrap_or_default(),
        }
    };
    asked.map(of).collect()
}

fn read(place: &Place<'_>) -> Read {
    let host = place.host();
    let vxlan = host.links.iter().filter(|link| link.vxlan.is_some() && link.name.ends_with(".calico"));
    let devices = vxlan.map(|link| Device {
        name: link.name.clone(),
        up: link.up,
        addresses: host
            .addresses
            .iter()
            .filter(|at| at.link == link.name)
            .map(|at| at.address.addr())
            .collect(),
        mac: link.mac.clone(),
        mtu: link.mtu,
        leaves_checksums: link.leaves_checksums(),
        vni_port: link.vxlan.as_ref().map(|vxlan| (vxlan.vni, vxlan.port)),
    });
    let devices: Vec<Device> = devices.collect();
    let leads =
        |name: Option<&String>| name.is_some_and(|name| devices.iter().any(|device| device.name == *name));
    let pods = host.routes.iter().filter(|route| {
        route.dst.prefix_len() == route.dst.max_prefix_len()
            && route.dev.as_deref().is_some_and(|dev| dev.starts_with("cali"))
            && route.table == crate::evidence::host::MAIN
    });
    Read {
        blocks: [false, true].into_iter().flat_map(|v6| own_blocks(host, v6)).collect(),
        tunnel_routes: host
            .routes
            .iter()
            .filter(|route| route.via.is_some() && leads(route.dev.as_ref()))
            .count(),
        pods: pods.count(),
        chains: chains(place),
        agents: agents(place),
        devices,
    }
}

/// Calico's chains in each of the texts that have any.
fn chains(place: &Place<'_>) -> Vec<(String, usize)> {
    let node = place.side.node;
    let texts = place.ground.texts.0.iter().filter(|text| text.node == node && text.name.ends_with("-save"));
    let counted = texts.filter_map(|text| {
        let ruleset = Ruleset::parse(text.content.read()?);
        let own = ruleset
            .tables
            .iter()
            .flat_map(|table| &table.chains)
            .filter(|chain| chain.name.starts_with("cali-"));
        Some((text.name.clone(), own.count()))
    });
    let mut all: Vec<(String, usize)> = counted.collect();
    if all.iter().any(|(_, count)| *count > 0) {
        all.retain(|(_, count)| *count > 0);
    }
    all.dedup_by(|a, b| a.0 == b.0);
    all
}

fn agents(place: &Place<'_>) -> Vec<(String, String)> {
    let pods = place.ground.cluster.map(|cluster| cluster.pods.as_slice()).unwrap_or_default();
    let own = pods.iter().filter(|pod| {
        pod.node.as_deref() == Some(place.side.node)
            && pod.labels.get("k8s-app").is_some_and(|app| app == "calico-node")
    });
    own.map(|pod| {
        let phase = pod.phase.clone().unwrap_or_else(|| "unknown".to_owned());
        (format!("{}/{}", pod.namespace, pod.name), phase)
    })
    .collect()
}

fn tunnels(place: &Place<'_>, places: &[Place<'_>]) -> Vec<PeerStatus> {
    let Some(cluster) = place.cluster_with("Node").filter(|cluster| not_plain(Some(cluster)).is_none())
    else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for v6 in [false, true] {
        let place = place.in_family(v6);
        let (device, host) = (place.side.tunnel, place.host());
        if place.side.link(device).is_none() {
            continue;
        }
        for peer in peers::peers(&place, places, cluster, v6) {
            let neighbour =
                host.neighbour(device, peer.address).map(|entry| (entry.mac.clone(), entry.state.clone()));
            let mac = neighbour.as_ref().and_then(|(mac, _)| mac.clone());
            let fdb = host.fdb.iter().find(|entry| entry.link == device && Some(&entry.mac) == mac.as_ref());
            let mut faults = peer.entries(&place);
            faults.extend(peer.routes(&place, cluster));
            all.push(PeerStatus {
                node: peer.object.name.clone(),
                device: device.to_owned(),
                address: peer.address,
                neighbour,
                underlay: fdb.and_then(|entry| entry.dst),
                routes: host.routes.iter().filter(|route| route.via == Some(peer.address)).count(),
                faults,
            });
        }
    }
    all
}
