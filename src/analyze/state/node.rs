//! One node by itself: its tunnel devices against what the cluster's objects say and against the devices of the other
//! nodes that were read, forwarding, the card, connection tracking, and what hangs on the links.

use std::net::IpAddr;

use super::checkup::{Checkup, Place};
use super::{Fault, Side, hooks, source, tunnel};
use crate::evidence::StageKind;
use crate::evidence::calico::vtep_mac;
use crate::evidence::cluster::{Cluster, Encapsulation, Felix};
use crate::evidence::host::{Host, Link, Question, Vxlan};

/// Everything about one node; `all` are those that it is held against.
pub(super) fn check(place: &Place<'_>, all: &[Place<'_>], checkup: &mut Checkup) {
    let name = place.side.node;
    for v6 in [false, true] {
        if let Some(why) = not_plain(place.ground.cluster) {
            checkup.unread.push(why.to_owned());
            break;
        }
        device(&place.in_family(v6), all, v6, checkup);
    }
    if !place.host().sysctls.is_empty() {
        checkup.add(name, "forwarding of packets is on", forwarding(place));
        let mut full = Vec::new();
        hooks::conntrack(&place.side, StageKind::Forward, &mut full);
        checkup.add(name, "room in connection tracking", full);
    }
    if place.side.nic.is_some() {
        let mut faults = Vec::new();
        hooks::on_links(&place.side, &mut faults);
        checkup.add(name, "the card is up; no XDP program or tc filter on card and tunnel", faults);
        checkup.add(name, "underlay routes to the other nodes", underlay(place));
    } else if !place.side.addresses.is_empty() {
        checkup.unread.push(format!("{name}: no link holds the node's address, so its card is not known"));
    }
}

/// Why tunnels are made in another way here, and are not judged.
pub(super) fn not_plain(cluster: Option<&Cluster>) -> Option<&'static str> {
    let felix = felix(cluster?)?;
    if felix.bpf {
        return Some(
            "Felix runs in eBPF mode: tunnels, routes and entries are in its maps, and are not judged",
        );
    }
    felix
        .wireguard
        .then_some("WireGuard is on: it takes packets before the tunnel, whose entries are not judged")
}

/// The settings that hold for all nodes.
fn felix(cluster: &Cluster) -> Option<&Felix> {
    cluster.felix.get("default").or_else(|| cluster.felix.values().next())
}

/// Whether any pool of the family uses VXLAN; none when the cluster's file has no pools.
pub(super) fn uses_vxlan(place: &Place<'_>, v6: bool) -> Option<bool> {
    let cluster = place.cluster_with("IPPool")?;
    let own = cluster.pools.iter().filter(|pool| pool.cidr.addr().is_ipv6() == v6);
    Some(own.into_iter().any(|pool| pool.vxlan != Encapsulation::Never))
}

/// The tunnel addresses of a node's object in one family.
pub(super) fn tunnel_addresses(object: &crate::evidence::cluster::Node, v6: bool) -> Vec<IpAddr> {
    object.tunnels.iter().copied().filter(|address| address.is_ipv6() == v6).collect()
}

/// One tunnel device.
fn device(place: &Place<'_>, all: &[Place<'_>], v6: bool, checkup: &mut Checkup) {
    let side = &place.side;
    let there = side.link(side.tunnel);
    if place.host().links.is_empty()
        || !place.host().has_read("links")
        || !uses_vxlan(place, v6).unwrap_or(there.is_some())
    {
        return;
    }
    let what = |words: &str| format!("{} {words}", side.tunnel);
    let mut faults = Vec::new();
    let works = source::tunnel_works(side, v6, StageKind::Forward, &mut faults);
    checkup.add(side.node, what("exists and is up"), faults);
    let (true, Some(link)) = (works, there) else { return };
    if let Some(nic) = side.nic.and_then(|nic| side.link(nic)) {
        checkup.add(
            side.node,
            what("fits into the card's MTU"),
            tunnel::outer_size_of(side, link, nic, v6).into_iter().collect(),
        );
    }
    let broken = place.ground.cluster.and_then(felix).and_then(|felix| felix.checksum_offload_broken);
    if let (Some(true), Some(offloads)) = (broken, link.leaves_checksums()) {
        let faults = offloads.then(|| offload(side)).into_iter().collect();
        checkup.add(side.node, what("computes its checksums itself, as Felix was told"), faults);
    }
    if let Some(vxlan) = &link.vxlan {
        let peers: Vec<&Vxlan> = others(place, all, v6).filter_map(|(_, link)| link.vxlan.as_ref()).collect();
        checkup.add(side.node, what("has the cluster's VNI and port"), settings(place, vxlan, &peers));
        checkup.add(side.node, what("sends from the node's address"), local(place, vxlan, v6));
    }
    if let Some(object) = place.object.filter(|_| place.host().has_read("addresses")) {
        checkup.add(
            side.node,
            what("bears the node's tunnel address"),
            address(place, &tunnel_addresses(object, v6), v6),
        );
    }
    if let Some(mac) = &link.mac {
        checkup.add(side.node, what("has the MAC that its peers believe in"), own_mac(place, all, mac, v6));
    }
}

/// Whoever set the override has seen checksums go wrong.
fn offload(side: &Side<'_>) -> Fault {
    Fault {
        breaks: false,
        summary: format!(
            "{} leaves checksums to the card, and Felix was told that this is broken",
            side.tunnel
        ),
        remedy: format!(
            "on {}: `ethtool -K {} tx-checksum-ip-generic off`; Felix does it when it makes the device: look whether it runs",
            side.node, side.tunnel
        ),
        read: format!("tx-checksum-ip-generic is on on {}", side.tunnel),
        expected: "off: featureDetectOverride has ChecksumOffloadBroken=true".to_owned(),
        ..side.fault("checksum", StageKind::Decapsulate, "link")
    }
}

/// The same device on the other nodes that were read.
fn others<'p>(
    place: &'p Place<'_>,
    all: &'p [Place<'_>],
    v6: bool,
) -> impl Iterator<Item = (Place<'p>, &'p Link)> {
    let peers =
        all.iter().filter(|peer| peer.side.node != place.side.node).map(move |peer| peer.in_family(v6));
    peers.filter_map(|peer| Some((peer, peer.side.link(peer.side.tunnel)?)))
}

/// Network identifier and port, against `FelixConfiguration` where it speaks, else against what most peers have.
fn settings(place: &Place<'_>, own: &Vxlan, peers: &[&Vxlan]) -> Vec<Fault> {
    let felix = place.cluster_with("FelixConfiguration").and_then(felix);
    let said =
        [felix.and_then(|felix| felix.vxlan_vni), felix.and_then(|felix| felix.vxlan_port.map(u32::from))];
    let pairs = [("VNI", own.vni, said[0], 4096), ("port", u32::from(own.port), said[1], 4789)];
    let mut faults = Vec::new();
    for (what, value, said, default) in pairs {
        let of = |peer: &&Vxlan| if what == "VNI" { peer.vni } else { u32::from(peer.port) };
        let same = peers.iter().map(of).filter(|theirs| *theirs == value).count();
        let common = peers.iter().map(of).max_by_key(|theirs| {
            (peers.iter().map(of).filter(|other| other == theirs).count(), *theirs == default)
        });
        let wanted = match (said, common) {
            (Some(said), _) => said,
            // Of two that differ, the one with Calico's default is taken to be right.
            (None, Some(_)) if value == default && peers.len() == 1 => value,
            (None, Some(common)) if same * 2 < peers.len() => common,
            _ => continue,
        };
        if wanted == value {
            continue;
        }
        let whose = if said.is_some() { "as FelixConfiguration says" } else { "as the other nodes have" };
        faults.push(Fault {
            breaks: same < peers.len() || peers.is_empty(),
            summary: format!("{} of {} has {what} {value}, not {wanted}", place.side.tunnel, place.side.node),
            remedy: format!(
                "make it the same on all nodes (FelixConfiguration vxlanVNI, vxlanPort), then restart calico-node on {}",
                place.side.node
            ),
            read: format!("{what} {value} on {}", place.side.tunnel),
            expected: format!("{wanted}, {whose}: what comes with another is thrown away, and no counter moves"),
            ..place.side.fault("tunnel_mismatch", StageKind::Decapsulate, "link")
        });
    }
    faults
}

/// The source address of outer packets.
fn local(place: &Place<'_>, vxlan: &Vxlan, v6: bool) -> Vec<Fault> {
    let (side, own) = (&place.side, place.side.addresses);
    let Some(local) = vxlan.local.filter(|local| !own.is_empty() && !own.contains(local)) else {
        return Vec::new();
    };
    let fits = own.iter().find(|address| address.is_ipv6() == v6).or(own.first());
    let fits = fits.map_or_else(String::new, ToString::to_string);
    vec![Fault {
        // An address that the node does not have at all cannot be sent from, nor is anything taken that comes to it.
        breaks: place.host().link_of(local).is_none() && !place.host().addresses.is_empty(),
        summary: format!(
            "{} of {} sends from {local}, which is not the node's address",
            side.tunnel, side.node
        ),
        remedy: format!(
            "on {}: set the node's address right (projectcalico.org/IPv4Address), restart calico-node",
            side.node
        ),
        read: format!("{} local {local}", side.tunnel),
        expected: format!("local {fits}: peers take the tunnel's packets from the nodes' own addresses only"),
        ..side.fault("tunnel_address", StageKind::Encapsulate, "link")
    }]
}

/// The device's address, against the node's object and its own blocks.
fn address(place: &Place<'_>, wanted: &[IpAddr], v6: bool) -> Vec<Fault> {
    let side = &place.side;
    let family = if v6 { "IPv6" } else { "IPv4" };
    let held: Vec<IpAddr> = place
        .host()
        .addresses
        .iter()
        .filter(|at| at.link == side.tunnel && at.address.addr().is_ipv6() == v6)
        .map(|at| at.address.addr())
        .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    let words = |all: &[IpAddr]| {
        if all.is_empty() {
            "none".to_owned()
        } else {
            all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
    };
    if wanted.is_empty() {
        return vec![Fault {
            summary: format!(
                "{} has no {family} tunnel address in its Node object: its peers do not know its tunnel",
                side.node
            ),
            remedy: format!(
                "look at calico-node's log on {} for why no address could be allocated (`trace-drop ipam show`)",
                side.node
            ),
            read: format!(
                "no annotation projectcalico.org/{family}VXLANTunnelAddr; {} bears {}",
                side.tunnel,
                words(&held)
            ),
            expected:
                "an address: without it every peer removes this node's routes, neighbour and FDB entries"
                    .to_owned(),
            ..side.fault("tunnel_address", StageKind::Forward, "kubernetes")
        }];
    }
    let Some(right) = wanted.iter().find(|address| held.contains(address)) else {
        return vec![Fault {
            summary: format!("{} of {} does not bear the node's tunnel address", side.tunnel, side.node),
            remedy: format!("on {}: restart calico-node, which gives {} its address", side.node, side.tunnel),
            read: format!("{} on {}", words(&held), side.tunnel),
            expected: format!(
                "{}, as the annotation projectcalico.org/{family}VXLANTunnelAddr says: the node's own packets to other nodes' pods leave with it",
                words(wanted)
            ),
            ..side.fault("tunnel_address", StageKind::Forward, "link")
        }];
    };
    let blocks = own_blocks(place.host(), v6);
    if blocks.is_empty() || blocks.iter().any(|block| block.contains(right)) {
        return Vec::new();
    }
    vec![Fault {
        breaks: false,
        summary: format!("the tunnel address {right} of {} lies in no block of this node", side.node),
        remedy:
            "look for its owner: `trace-drop ipam show --ip`; restart calico-node to have it allocated anew"
                .to_owned(),
        read: format!(
            "blocks of {}: {}",
            side.node,
            blocks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        ),
        expected: format!("{right} within one of them: another node routes the block to itself"),
        ..side.fault("tunnel_address", StageKind::Forward, "route")
    }]
}

/// The blocks that a node has, as its own blackhole routes tell (protocol 80; `felix/dataplane/linux/route_mgr.go`).
pub(super) fn own_blocks(host: &Host, v6: bool) -> Vec<ipnet::IpNet> {
    let own = host.routes.iter().filter(|route| {
        route.kind == "blackhole"
            && route.protocol == 80
            // A block of one address has none.
            && route.dst.prefix_len() < route.dst.max_prefix_len() && route.dst.addr().is_ipv6() == v6
    });
    own.map(|route| route.dst).collect()
}

/// The MAC that Calico gives a node's tunnel device: recorded, or derived from the node's name.
pub(super) fn wanted_mac(name: &str, object: Option<&crate::evidence::cluster::Node>, v6: bool) -> String {
    let recorded =
        object.and_then(|object| if v6 { object.vtep_mac_v6.as_ref() } else { object.vtep_mac.as_ref() });
    recorded.map_or_else(
        || vtep_mac(name, v6).map(|byte| format!("{byte:02x}")).join(":"),
        |recorded| recorded.to_lowercase(),
    )
}

fn own_mac(place: &Place<'_>, all: &[Place<'_>], mac: &str, v6: bool) -> Vec<Fault> {
    let side = &place.side;
    let wanted = wanted_mac(side.node, place.object, v6);
    if mac == wanted {
        return Vec::new();
    }
    if let Some((twin, _)) = others(place, all, v6).find(|(_, link)| link.mac.as_deref() == Some(mac)) {
        return vec![Fault {
            summary: format!(
                "{} of {} has the MAC of {}'s: each takes the other's packets for its own and drops them",
                side.tunnel, side.node, twin.side.node
            ),
            remedy: format!(
                "delete {} on {} and restart calico-node there (cloned machine-id or MAC?)",
                side.tunnel, side.node
            ),
            read: format!("{mac} on {} and on {}", side.node, twin.side.node),
            expected: format!("{wanted}: one MAC a node (vxlan_rcv drops frames from its own MAC)"),
            ..side.fault("tunnel_mismatch", StageKind::Decapsulate, "link")
        }];
    }
    let addresses = place.object.map(|object| tunnel_addresses(object, v6)).unwrap_or_default();
    let believed: Vec<String> = others(place, all, v6)
        .filter_map(|(peer, _)| {
            let entry =
                addresses.iter().find_map(|address| peer.host().neighbour(peer.side.tunnel, *address))?;
            entry.mac.clone()
        })
        .collect();
    if !believed.is_empty() && !believed.contains(&wanted) {
        return Vec::new();
    }
    vec![Fault {
        summary: format!(
            "{}'s tunnel has another MAC than its peers believe: it takes the packets for somebody else's",
            side.node
        ),
        remedy: format!(
            "on {}: restart calico-node, which gives {} its MAC and tells the peers (annotation projectcalico.org/VXLANTunnelMACAddr)",
            side.node, side.tunnel
        ),
        read: format!("{} has {mac}", side.tunnel),
        expected: format!(
            "{wanted}, as the node's annotation says or as Calico derives it from the node's name"
        ),
        ..side.fault("neighbour_wrong", StageKind::Deliver, "link")
    }]
}

/// Forwarding of the namespace and of the links by which other nodes' packets come in.
fn forwarding(place: &Place<'_>) -> Vec<Fault> {
    let (side, host) = (&place.side, place.host());
    let off = |name: &String| host.sysctl(name) == Some(0);
    let mut breaking = Vec::new();
    for (family, tunnel) in [("ipv4", "vxlan.calico"), ("ipv6", "vxlan-v6.calico")] {
        if side.link(tunnel).is_some() {
            breaking.push(format!("net.{family}.conf.{tunnel}.forwarding"));
        }
    }
    if side.link("vxlan-v6.calico").is_some() {
        // ip6_forward (net/ipv6/ip6_output.c) asks for the whole namespace's too.
        breaking.push("net.ipv6.conf.all.forwarding".to_owned());
    }
    breaking.retain(off);
    let global = Some("net.ipv4.ip_forward".to_owned()).filter(off);
    let (names, breaks) =
        if breaking.is_empty() { (Vec::from_iter(global), false) } else { (breaking, true) };
    if names.is_empty() {
        return Vec::new();
    }
    vec![Fault {
        breaks,
        summary: if breaks {
            format!("{} does not forward what comes in through the tunnel", side.node)
        } else {
            format!("forwarding is off on {}: links that come up now do not forward", side.node)
        },
        remedy: format!(
            "on {}: {}; find out what turned it off (/etc/sysctl.d, cloud-init, another network manager)",
            side.node,
            names.iter().map(|name| format!("`sysctl -w {name}=1`")).collect::<Vec<_>>().join(" and ")
        ),
        read: names.iter().map(|name| format!("{name} = 0")).collect::<Vec<_>>().join(", "),
        expected: "1: a node of the cluster forwards its pods' packets".to_owned(),
        ..side.fault("ip_forward_off", StageKind::Deliver, "sysctl")
    }]
}

/// The ways to the other nodes' own addresses.
fn underlay(place: &Place<'_>) -> Vec<Fault> {
    let (side, host) = (&place.side, place.host());
    let Some(cluster) = place.ground.cluster.filter(|_| !host.routes.is_empty() && host.has_read("routes"))
    else {
        return Vec::new();
    };
    let mut faults = Vec::new();
    for peer in cluster.nodes.iter().filter(|peer| peer.name != side.node) {
        for address in peer.underlay() {
            let own = side.addresses.iter().any(|own| own.is_ipv6() == address.is_ipv6());
            let found = host.lookup(&Question { dst: address, src: None, iif: None });
            let refused = found.route.map(source::refusal);
            let kind = match refused {
                None => "no_route",
                Some(Some(kind)) => kind,
                Some(None) => continue,
            };
            if !own || !found.certain {
                continue;
            }
            faults.push(Fault {
                summary: format!(
                    "{} has no way to {}: nothing can be sent to {address}",
                    side.node, peer.name
                ),
                remedy: format!("on {}: `ip route get {address}`; mend the node's own network", side.node),
                read: found
                    .route
                    .map_or_else(|| "no route matches".to_owned(), |route| format!("`{}`", route.words())),
                expected: format!("a route to {address}, the node address that the tunnel's packets go to"),
                ..side.fault(kind, StageKind::Encapsulate, "route")
            });
        }
    }
    faults
}
