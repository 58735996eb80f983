//! The tunnel between two nodes: next hop, neighbour entry, forwarding database, and whether both ends agree on
//! network identifier, port and MAC. What the source believes is held against what the destination says of itself.

use super::source::tunnel_works;
use super::{Fault, Side, Way};
use crate::evidence::StageKind;
use crate::evidence::host::{Link, Question};

/// From the tunnel device of one node to that of the other.
pub(super) fn check(way: &Way<'_>, all: &mut Vec<Fault>) {
    let known = all.len();
    if let Some(hop) = next_hop(way, all) {
        neighbour(way, hop, all);
    }
    // A node that cannot even send has no part in what its peer does not take.
    let _ = known;
    if tunnel_works(&way.to, way.dst.is_ipv6(), StageKind::Decapsulate, all) {
        agreement(way, all);
    }
    outer_size(way, all);
}

/// The address of the peer's tunnel that the route names.
fn next_hop(way: &Way<'_>, all: &mut Vec<Fault>) -> Option<std::net::IpAddr> {
    let side = &way.from;
    let host = &side.host?.after;
    let found = host.lookup(&Question { dst: way.dst, src: Some(way.src), iif: side.veth });
    let route = found.route.filter(|route| found.certain && route.dev.as_deref() == Some(side.tunnel))?;
    let via = route.via?;
    let peer: Vec<_> = way
        .to
        .host?
        .after
        .addresses
        .iter()
        .filter(|address| address.link == way.to.tunnel && address.address.addr().is_ipv6() == via.is_ipv6())
        .map(|address| address.address.addr())
        .collect();
    if peer.is_empty() || peer.contains(&via) {
        return Some(via);
    }
    // Set down, a link keeps its IPv4 addresses and loses those of IPv6.
    let right = peer.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    all.push(Fault {
        summary: format!("the route to {} leads to another node's tunnel, not to {}'s", way.dst, way.to.node),
        remedy: format!(
            "on {}: `ip route get {}`; compare with `kubectl get ipamblocks` for the owner of the block, and look at Felix's log",
            side.node, way.dst
        ),
        read: format!("`{}`", route.words()),
        expected: format!("via {right}, the tunnel address of {}", way.to.node),
        ..side.fault("wrong_route", StageKind::Encapsulate, "route")
    });
    None
}

/// The next hop's MAC, and where frames to that MAC are sent.
fn neighbour(way: &Way<'_>, hop: std::net::IpAddr, all: &mut Vec<Fault>) {
    let side = &way.from;
    let Some(seen) = side.host else { return };
    let host = &seen.after;
    if !host.has_read("neighbours") || !host.has_read("forwarding databases") {
        return;
    }
    let peer = way.to.link(way.to.tunnel).and_then(|link| link.mac.clone());
    let peer_words =
        peer.clone().unwrap_or_else(|| format!("the MAC of {}'s {}", way.to.node, way.to.tunnel));
    let lost = seen.link_moved(side.tunnel, "tx_dropped");
    let entry = host.neighbour(side.tunnel, hop);
    let Some(mac) = entry.and_then(|entry| entry.mac.clone()) else {
        let state = entry.map_or("no entry", |entry| entry.state.as_str());
        all.push(Fault {
            summary: format!("{} does not know the MAC of {}'s tunnel: no neighbour entry for {hop}", side.node, way.to.node),
            remedy: format!(
                "on {}: Felix writes it (`ip neigh show dev {}`): restart calico-node there, or add `ip neigh replace {hop} lladdr {peer_words} dev {} nud permanent`",
                side.node, side.tunnel, side.tunnel
            ),
            read: format!("neighbour {hop} on {}: {state}", side.tunnel),
            expected: format!("{peer_words}, permanent: the tunnel learns nothing by itself"),
            counters: lost,
            ..side.fault("neighbour_missing", StageKind::Forward, "neighbour")
        });
        return;
    };
    let fdb = host.fdb.iter().find(|entry| entry.link == side.tunnel && entry.mac == mac);
    let Some(fdb) = fdb else {
        let wrong = peer.as_ref().is_some_and(|peer| *peer != mac);
        let kind = if wrong { "neighbour_wrong" } else { "fdb_missing" };
        all.push(Fault {
            summary: if wrong {
                format!("{} believes in a wrong MAC of {}'s tunnel, and no FDB entry knows it", side.node, way.to.node)
            } else {
                format!("{} does not know where to send frames for {}'s tunnel: no FDB entry", side.node, way.to.node)
            },
            remedy: format!(
                "on {}: Felix writes both (`ip neigh show dev {}`, `bridge fdb show dev {}`): restart calico-node there",
                side.node, side.tunnel, side.tunnel
            ),
            read: format!("neighbour {hop} has {mac}; no FDB entry of {} for it", side.tunnel),
            expected: format!("{peer_words}, with an FDB entry to {}", addresses(way)),
            counters: lost,
            ..side.fault(kind, StageKind::Encapsulate, if wrong { "neighbour" } else { "fdb" })
        });
        return;
    };
    if let Some(dst) = fdb.dst
        && !way.to.addresses.is_empty()
        && !way.to.addresses.contains(&dst)
    {
        all.push(Fault {
            summary: format!("frames for {}'s tunnel are sent to {dst}, which is not its address", way.to.node),
            remedy: format!(
                "on {}: `bridge fdb replace {mac} dev {} dst {} self permanent`; Felix takes it from the node's projectcalico.org/IPv4Address",
                side.node, side.tunnel, addresses(way)
            ),
            read: format!("FDB of {}: {mac} dst {dst}", side.tunnel),
            expected: format!("dst {}", addresses(way)),
            ..side.fault("fdb_wrong", StageKind::Encapsulate, "fdb")
        });
    } else if let (Some(peer), Some(to)) = (peer, way.to.host)
        && peer != mac
        && side.link(side.tunnel).and_then(|link| link.mac.clone()).as_ref() != Some(&peer)
    {
        all.push(Fault {
            node: way.to.node.to_owned(),
            summary: format!("{}'s tunnel has another MAC than its peers believe: it takes the packets for somebody else's", way.to.node),
            remedy: format!(
                "on {}: restart calico-node, which gives {} its MAC and tells the peers (annotation projectcalico.org/VXLANTunnelMACAddr)",
                way.to.node, way.to.tunnel
            ),
            read: format!("{} of {} has {peer}; {} sends to {mac}", way.to.tunnel, way.to.node, side.node),
            expected: "the same on both".to_owned(),
            counters: to.link_moved(way.to.tunnel, "rx_otherhost_dropped"),
            ..side.fault("neighbour_wrong", StageKind::Deliver, "neighbour")
        });
    }
}

fn addresses(way: &Way<'_>) -> String {
    let fit = way.to.addresses.iter().find(|address| address.is_ipv6() == way.dst.is_ipv6());
    fit.or(way.to.addresses.first()).map_or_else(|| way.to.node.to_owned(), ToString::to_string)
}

/// Network identifier, port and MACs of the two ends.
fn agreement(way: &Way<'_>, all: &mut Vec<Fault>) {
    let (Some(from), Some(to)) = (way.from.link(way.from.tunnel), way.to.link(way.to.tunnel)) else { return };
    let (Some(sends), Some(takes)) = (&from.vxlan, &to.vxlan) else { return };
    let remedy = format!(
        "make it the same on all nodes (FelixConfiguration vxlanVNI, vxlanPort), then restart calico-node on {}",
        way.to.node
    );
    for (what, sent, taken) in [
        ("VNI", u64::from(sends.vni), u64::from(takes.vni)),
        ("port", u64::from(sends.port), u64::from(takes.port)),
    ] {
        if sent != taken {
            all.push(Fault {
                summary: format!("the two nodes' tunnels have different {what}s: {sent} and {taken}"),
                remedy: remedy.clone(),
                read: format!("{what} {sent} on {}, {taken} on {}", way.from.node, way.to.node),
                expected: "the same on both: what comes with another is thrown away, and no counter moves"
                    .to_owned(),
                ..way.to.fault("tunnel_mismatch", StageKind::Decapsulate, "link")
            });
        }
    }
    if from.mac.is_some() && from.mac == to.mac {
        let mac = from.mac.as_deref().unwrap_or_default();
        all.push(Fault {
            summary: format!("both tunnels have the MAC {mac}: {} takes the packets for its own and drops them", way.to.node),
            remedy: format!(
                "give {} of {} its own MAC: delete it and restart calico-node there (cloned machine-id or MAC?)",
                way.to.tunnel, way.to.node
            ),
            read: format!("{mac} on {} and on {}", way.from.node, way.to.node),
            expected: "one MAC a node (vxlan_rcv drops frames from its own MAC)".to_owned(),
            ..way.to.fault("tunnel_mismatch", StageKind::Decapsulate, "link")
        });
    }
    sender(way, sends.local, all);
}

/// Peers take tunnel packets from known addresses only.
fn sender(way: &Way<'_>, local: Option<std::net::IpAddr>, all: &mut Vec<Fault>) {
    let side = &way.from;
    let Some(local) = local.filter(|_| !side.addresses.is_empty()) else { return };
    if side.addresses.contains(&local) {
        return;
    }
    let fit = side.addresses.iter().find(|address| address.is_ipv6() == way.dst.is_ipv6());
    all.push(Fault {
        summary: format!(
            "{} of {} sends from {local}, which is not the node's address: its peers do not let it in",
            side.tunnel, side.node
        ),
        remedy: format!(
            "on {}: set the node's address right (annotation projectcalico.org/IPv4Address, or the way Calico detects it), then restart calico-node there",
            side.node
        ),
        read: format!("{} local {local}", side.tunnel),
        expected: format!(
            "local {}",
            fit.or(side.addresses.first()).map_or_else(|| side.node.to_owned(), ToString::to_string)
        ),
        ..side.fault("tunnel_address", StageKind::Decapsulate, "link")
    });
}

/// The card must take the tunnel's packets whole.
fn outer_size(way: &Way<'_>, all: &mut Vec<Fault>) {
    let side = &way.from;
    if let (Some(tunnel), Some(nic)) = (side.link(side.tunnel), side.nic.and_then(|nic| side.link(nic))) {
        all.extend(outer_size_of(side, tunnel, nic, way.dst.is_ipv6()));
    }
}

/// The same for one node's tunnel device and card.
pub(super) fn outer_size_of(side: &Side<'_>, tunnel: &Link, nic: &Link, v6: bool) -> Option<Fault> {
    // Outer Ethernet is not counted in a link's MTU; inner Ethernet, VXLAN, UDP and IP are.
    let around = if v6 { 70 } else { 50 };
    let cut = side.host.map(|seen| seen.moved(&["Ip:FragCreates", "Ip6FragCreates"])).unwrap_or_default();
    // Fragments that arrived would have been put together again.
    let kind = if cut.is_empty() { "mtu" } else { "fragment_loss" };
    (tunnel.mtu + around > nic.mtu).then(|| Fault {
        breaks: false,
        longer_than: Some(nic.mtu.saturating_sub(around)),
        summary: format!(
            "{} takes {} bytes, the tunnel's packets have up to {}: they are fragmented",
            nic.name,
            nic.mtu,
            tunnel.mtu + around
        ),
        remedy: format!(
            "set Calico's vxlanMTU to {} or less, or raise the MTU of {}",
            nic.mtu.saturating_sub(around),
            nic.name
        ),
        read: format!("mtu {} on {}, {} on {}", tunnel.mtu, tunnel.name, nic.mtu, nic.name),
        expected: format!("{around} bytes more on the card than on the tunnel"),
        counters: cut,
        ..side.fault(kind, StageKind::Underlay, "link")
    })
}
