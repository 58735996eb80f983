//! The destination's node: does it take what comes out of the tunnel, and does it have the pod where the address says?

use super::source::refusal;
use super::{Fault, Side, Way, incoming};
use crate::evidence::StageKind;
use crate::evidence::host::{HostRoute, Question};

/// From the tunnel device, or the card, to the pod's veth.
pub(super) fn check(way: &Way<'_>, all: &mut Vec<Fault>) {
    let side = &way.to;
    let Some(seen) = side.host else { return };
    let (stage, enters) = if way.from.node == way.to.node {
        (StageKind::Forward, way.from.veth)
    } else if way.encapsulated {
        (StageKind::Deliver, Some(side.tunnel))
    } else {
        (StageKind::Deliver, side.nic)
    };
    if let Some(enters) =
        enters.filter(|link| way.from.node != way.to.node && side.link(link).is_some_and(|link| link.up))
    {
        incoming(side, way, enters, stage, all);
    }
    let veth = side.veth.and_then(|veth| side.link(veth));
    // With the link goes its route: the link is the fault.
    if veth.is_some_and(|link| !link.up) {
        return;
    }
    route(side, way, stage, enters, all);
    // A pod whose interface is down answers nothing: the interface is the fault.
    let deaf = side.pod.and_then(|pod| pod.after.link_of(way.dst)).is_some_and(|own| !own.up);
    if let Some(veth) = side.veth.filter(|_| !deaf)
        && let Some(entry) = seen.after.neighbour(veth, way.dst)
        && matches!(entry.state.as_str(), "failed" | "incomplete")
    {
        all.push(Fault {
            summary: format!(
                "the pod does not answer {} for {} on {veth}",
                if way.dst.is_ipv6() { "neighbour solicitations (NDP)" } else { "ARP" },
                way.dst
            ),
            remedy: format!(
                "look into the pod: is its interface up, does it have {}? (`ip neigh show dev {veth}` on {})",
                way.dst, side.node
            ),
            read: format!("neighbour {} on {veth}: {}", way.dst, entry.state),
            expected: "reachable, with the pod's MAC".to_owned(),
            ..side.fault("neighbour_missing", stage, "neighbour")
        });
    }
}

/// The pod's host route.
fn route(side: &Side<'_>, way: &Way<'_>, stage: StageKind, enters: Option<&str>, all: &mut Vec<Fault>) {
    let (Some(seen), Some(veth)) = (side.host, side.veth) else { return };
    if seen.after.routes.is_empty() || !seen.after.has_read("routes") {
        return;
    }
    let found = seen.after.routed(&Question { dst: way.dst, src: Some(way.src), iif: enters });
    if !found.certain || found.route.and_then(|route| route.dev.as_deref()) == Some(veth) {
        return;
    }
    let v6 = way.dst.is_ipv6();
    let kind = found.route.map_or("no_route", |route| refusal(route).unwrap_or("wrong_route"));
    let summary = match kind {
        "blackhole_route" => format!(
            "the pod's own route is missing on {}: the block's blackhole route takes its packets",
            side.node
        ),
        "no_route" => format!("{} has no route to its pod {}", side.node, way.dst),
        _ => format!("on {} the route to {} does not lead to the pod's {veth}", side.node, way.dst),
    };
    all.push(Fault {
        summary,
        remedy: format!(
            "on {}: `ip route get {}`; Felix writes `{} dev {veth} scope link`: look at its log, or restart calico-node",
            side.node, way.dst, way.dst
        ),
        read: found.route.map_or_else(|| "no route matches".to_owned(), |route| format!("`{}`", HostRoute::words(route))),
        expected: format!("`{} dev {veth} scope link`", way.dst),
        counters: seen.moved(&[Side::counter(v6, "IpExt:InNoRoutes", "Ip6InNoRoutes")]),
        ..side.fault(kind, stage, "route")
    });
}
