//! The source's node: does it forward, and where to? The route that the kernel would take, and the tunnel device that it
//! must lead to.

use super::{Fault, Side, Way, incoming};
use crate::evidence::StageKind;
use crate::evidence::host::{Host, HostRoute, Question};

/// From the pod's veth to the tunnel device, or to the card.
pub(super) fn check(way: &Way<'_>, all: &mut Vec<Fault>) {
    let side = &way.from;
    let Some(seen) = side.host else { return };
    if let Some(veth) = side.veth {
        incoming(side, way, veth, StageKind::Forward, all);
    }
    if way.from.node == way.to.node {
        return;
    }
    if way.encapsulated && !tunnel_works(side, way.dst.is_ipv6(), StageKind::Forward, all) {
        return;
    }
    route(side, way, &seen.after, all);
    if way.encapsulated {
        tunnel_mtu(side, way, all);
        for peer in way.to.addresses.iter().filter(|peer| peer.is_ipv6() == way.dst.is_ipv6()) {
            link_neighbour(side, *peer, None, StageKind::Encapsulate, all);
        }
    } else {
        link_neighbour(side, way.dst, side.veth, StageKind::Forward, all);
    }
}

/// The next hop on the underlay, a router or the destination itself, must answer ARP or NDP.
fn link_neighbour(
    side: &Side<'_>,
    dst: std::net::IpAddr,
    iif: Option<&str>,
    stage: StageKind,
    all: &mut Vec<Fault>,
) {
    let Some(seen) = side.host else { return };
    let found = seen.after.lookup(&Question { dst, src: None, iif });
    let Some((route, dev)) = found.route.and_then(|route| Some((route, route.dev.as_deref()?))) else {
        return;
    };
    let hop = route.via.unwrap_or(dst);
    let Some(entry) = seen.after.neighbour(dev, hop) else { return };
    if !found.certain || !matches!(entry.state.as_str(), "failed" | "incomplete") {
        return;
    }
    let asks = if hop.is_ipv6() { "NDP" } else { "ARP" };
    all.push(Fault {
        summary: format!("{hop}, the next hop to {dst}, does not answer {asks} on {dev}"),
        remedy: format!(
            "is {hop} up and in the same network? on {}: `ip neigh show {hop}`, `arping -I {dev} {hop}`",
            side.node
        ),
        read: format!("neighbour {hop} on {dev}: {}", entry.state),
        expected: format!("reachable: the route is `{}`", route.words()),
        ..side.fault("neighbour_missing", stage, "neighbour")
    });
}

/// Whether the tunnel device is there and up.
pub(super) fn tunnel_works(side: &Side<'_>, v6: bool, stage: StageKind, all: &mut Vec<Fault>) -> bool {
    let Some(seen) = side.host else { return true };
    // Without its links nothing was read.
    if seen.after.links.is_empty() {
        return true;
    }
    let counters = seen.moved(&[Side::counter(v6, "Udp:NoPorts", "Udp6NoPorts")]);
    match side.link(side.tunnel) {
        None => all.push(Fault {
            summary: format!("{} does not exist", side.tunnel),
            remedy: format!(
                "on {}: calico-node makes it when a pool uses VXLAN: look whether it runs, and at its log",
                side.node
            ),
            read: format!("no link {}", side.tunnel),
            expected: "a VXLAN device, up".to_owned(),
            counters,
            ..side.fault("tunnel_missing", stage, "link")
        }),
        Some(link) if !link.up => all.push(Fault {
            summary: format!("{} is down", side.tunnel),
            remedy: format!(
                "on {}: `ip link set {} up`; then Felix must write its routes again",
                side.node, side.tunnel
            ),
            read: format!("{}: administratively down", side.tunnel),
            expected: "up (its operational state UNKNOWN is healthy)".to_owned(),
            counters,
            ..side.fault("tunnel_down", stage, "link")
        }),
        Some(_) => return true,
    }
    false
}

/// Where the kernel would send the packet, against where Calico would have it go.
fn route(side: &Side<'_>, way: &Way<'_>, host: &Host, all: &mut Vec<Fault>) {
    let packet = Question { dst: way.dst, src: Some(way.src), iif: side.veth };
    let found = host.routed(&packet);
    if !found.certain || host.routes.is_empty() || !host.has_read("routes") {
        return;
    }
    let seen = side.host.expect("the host that was looked up in");
    let v6 = way.dst.is_ipv6();
    let expected = if way.encapsulated {
        format!("the block's route through {} to {}", side.tunnel, way.to.node)
    } else {
        format!("a route to {}", way.to.node)
    };
    let mend = format!(
        "on {}: `ip route get {}`; Felix writes the block's route: look whether it runs and whether the block is affine to {}",
        side.node, way.dst, way.to.node
    );
    let Some(route) = found.route else {
        all.push(Fault {
            summary: format!("{} has no route to {}", side.node, way.dst),
            remedy: mend,
            read: "no route matches, nor a default route".to_owned(),
            expected,
            counters: seen.moved(&[Side::counter(v6, "IpExt:InNoRoutes", "Ip6InNoRoutes")]),
            ..side.fault("no_route", StageKind::Forward, "route")
        });
        return;
    };
    let read = format!("`{}`", route.words());
    match refusal(route) {
        Some(kind) => all.push(Fault {
            summary: format!(
                "the route of {} to {} is {}: packets are thrown away",
                side.node, way.dst, route.kind
            ),
            remedy: mend,
            read,
            expected,
            ..side.fault(kind, StageKind::Forward, "route")
        }),
        None if way.encapsulated && route.dev.as_deref() != Some(side.tunnel) => {
            // Only a default route left is the same as none for the block.
            let kind = if route.dst.prefix_len() == 0 { "no_route" } else { "wrong_route" };
            let dev = route.dev.as_deref().unwrap_or("no link");
            all.push(Fault {
                summary: if kind == "no_route" {
                    format!("{} has no route to the block of {}: its packets leave by the default route, by {dev}", side.node, way.dst)
                } else {
                    format!("another route wins for {}: it leads to {dev}, not into {}", way.dst, side.tunnel)
                },
                remedy: mend,
                read,
                expected,
                ..side.fault(kind, StageKind::Forward, "route")
            });
        }
        None => {}
    }
}

/// The cause that a route which throws packets away stands for.
pub(super) fn refusal(route: &HostRoute) -> Option<&'static str> {
    match route.kind.as_str() {
        "blackhole" => Some("blackhole_route"),
        "unreachable" | "prohibit" => Some("no_route"),
        _ => None,
    }
}

/// What the pod sends must fit into the tunnel.
fn tunnel_mtu(side: &Side<'_>, way: &Way<'_>, all: &mut Vec<Fault>) {
    let (Some(tunnel), Some(seen)) = (side.link(side.tunnel), side.host) else { return };
    let pod = side.pod.and_then(|pod| pod.after.link_of(way.src)).map(|link| link.mtu);
    let Some(sends) = pod.or_else(|| Some(side.link(side.veth?)?.mtu)) else { return };
    if sends > tunnel.mtu {
        all.push(Fault {
            breaks: false,
            longer_than: Some(tunnel.mtu),
            summary: format!("the pod sends up to {sends} bytes, {} takes {}", side.tunnel, tunnel.mtu),
            remedy: format!(
                "let Calico set one MTU for pods and tunnel (vxlanMTU, the installation's mtu), and restart the pod: now {sends} and {}",
                tunnel.mtu
            ),
            read: format!("mtu {} on {}, {sends} in the pod", tunnel.mtu, side.tunnel),
            expected: "not less than the pod's: longer packets that must not be fragmented are refused with an ICMP error".to_owned(),
            counters: seen.moved(&[Side::counter(way.dst.is_ipv6(), "Ip:FragFails", "Ip6InTooBigErrors")]),
            ..side.fault("mtu", StageKind::Forward, "link")
        });
    }
}
