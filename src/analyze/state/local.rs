//! The pods of a node: the route to each leads to its veth, the veth is up and forwards, and no one else has its address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::checkup::{Checkup, Place};
use super::{Fault, source};
use crate::evidence::StageKind;
use crate::evidence::cluster::Pod;
use crate::evidence::host::Question;

/// All pods that the cluster's objects put on this node.
pub(super) fn check(place: &Place<'_>, checkup: &mut Checkup) {
    let Some(cluster) = place.cluster_with("Pod") else { return };
    let host = place.host();
    let whole = host.has_read("links") && host.has_read("routes");
    if host.links.is_empty() || host.routes.is_empty() || !whole {
        return;
    }
    let pods = cluster.pods.iter().filter(|pod| {
        pod.node.as_deref() == Some(place.side.node)
            && !pod.host_network
            && pod.phase.as_deref() == Some("Running")
    });
    for pod in pods {
        let veth = pod.veth();
        let mut faults = link(place, pod, &veth);
        if faults.is_empty() {
            faults.extend(pod.addresses.iter().filter_map(|address| route(place, pod, &veth, *address)));
            faults.extend(pod.addresses.iter().filter_map(|address| neighbour(place, pod, &veth, *address)));
            faults.extend(sysctls(place, pod, &veth));
        }
        checkup.add(
            place.side.node,
            format!("link, routes and settings of pod {}/{}", pod.namespace, pod.name),
            faults,
        );
    }
}

fn link(place: &Place<'_>, pod: &Pod, veth: &str) -> Vec<Fault> {
    let side = &place.side;
    let down = side.link(veth).filter(|link| !link.up);
    let fault = down.map(|link| Fault {
        summary: format!(
            "{}, the host's side of the veth of {}/{}, is down",
            link.name, pod.namespace, pod.name
        ),
        remedy: format!("on {}: `ip link set {veth} up`, and find out what set it down", side.node),
        read: format!("{veth}: administratively down"),
        expected: "up; with it goes the pod's route".to_owned(),
        ..side.fault("link_down", StageKind::Deliver, "link")
    });
    fault.into_iter().collect()
}

fn route(place: &Place<'_>, pod: &Pod, veth: &str, address: IpAddr) -> Option<Fault> {
    let side = &place.side;
    let found = place.host().lookup(&Question { dst: address, src: None, iif: None });
    let dev = found.route.and_then(|route| route.dev.as_deref());
    let exists = side.link(veth).is_some();
    // Interfaces may be called otherwise (interfacePrefix): then any that is no tunnel, card or loopback will do.
    let odd = !exists
        && dev.is_some_and(|dev| {
            side.link(dev).is_some_and(|link| link.kind.as_deref() == Some("veth")) && Some(dev) != side.nic
        });
    if !found.certain || (exists && dev == Some(veth)) || odd {
        return None;
    }
    let kind = found.route.map_or("no_route", |route| source::refusal(route).unwrap_or("wrong_route"));
    let who = format!("{}/{}", pod.namespace, pod.name);
    let summary = match kind {
        "blackhole_route" => format!(
            "the route to {who} is missing on {}: the block's blackhole route takes its packets",
            side.node
        ),
        "no_route" => format!("{} has no route to its pod {who}", side.node),
        _ => format!("on {} the route to {address} does not lead to {who}", side.node),
    };
    let without = if exists { "" } else { "; that link does not exist" };
    Some(Fault {
        summary,
        remedy: format!(
            "on {}: `ip route get {address}`; Felix writes `{address} dev {veth} scope link`: look at its log, or restart calico-node",
            side.node
        ),
        read: found
            .route
            .map_or_else(|| "no route matches".to_owned(), |route| format!("`{}`", route.words())),
        expected: format!("`{address} dev {veth} scope link`{without}"),
        ..side.fault(kind, StageKind::Deliver, "route")
    })
}

fn neighbour(place: &Place<'_>, pod: &Pod, veth: &str, address: IpAddr) -> Option<Fault> {
    let side = &place.side;
    let entry = place.host().neighbour(veth, address)?;
    matches!(entry.state.as_str(), "failed" | "incomplete").then(|| Fault {
        summary: format!("pod {}/{} does not answer for its address {address}", pod.namespace, pod.name),
        remedy: format!("look into the pod: is its interface up, does it have {address}? (`ip neigh show dev {veth}` on {})", side.node),
        read: format!("neighbour {address} on {veth}: {}", entry.state),
        expected: "reachable, with the pod's MAC".to_owned(),
        ..side.fault("neighbour_missing", StageKind::Deliver, "neighbour")
    })
}

/// What Felix sets on each pod's link (`felix/dataplane/linux/endpoint_mgr.go`).
fn sysctls(place: &Place<'_>, pod: &Pod, veth: &str) -> Vec<Fault> {
    let side = &place.side;
    let who = format!("{}/{}", pod.namespace, pod.name);
    let has = |v6| pod.addresses.iter().any(|address| address.is_ipv6() == v6);
    let wanted = [
        (
            "ip_forward_off",
            format!("net.ipv4.conf.{veth}.forwarding"),
            has(false),
            format!("{veth} does not forward what {who} sends"),
        ),
        (
            "ip_forward_off",
            format!("net.ipv6.conf.{veth}.forwarding"),
            has(true),
            format!("{veth} does not forward what {who} sends over IPv6"),
        ),
        (
            "proxy_arp_off",
            format!("net.ipv4.conf.{veth}.proxy_arp"),
            has(false),
            format!("nobody answers the ARP of {who} for its gateway: proxy ARP is off on {veth}"),
        ),
    ];
    let off = wanted.into_iter().filter(|(_, name, asked, _)| *asked && place.host().sysctl(name) == Some(0));
    off.map(|(kind, name, _, summary)| Fault {
        summary,
        remedy: format!(
            "on {}: `sysctl -w {name}=1`; Felix sets it when it adds the pod: look at its log",
            side.node
        ),
        read: format!("{name} = 0"),
        expected: "1, as Felix sets it".to_owned(),
        ..side.fault(kind, StageKind::LeavePod, "sysctl")
    })
    .collect()
}

/// Addresses that two places have, as the nodes' routes and links say.
pub(super) fn owners(places: &[Place<'_>], checkup: &mut Checkup) {
    if places.len() < 2 {
        return;
    }
    let mut held: BTreeMap<IpAddr, Vec<(&str, &str)>> = BTreeMap::new();
    for place in places {
        let pods = place.host().routes.iter().filter(|route| {
            route.kind == "unicast"
                && route.via.is_none()
                && route.dst.prefix_len() == route.dst.max_prefix_len()
                && route.dev.as_deref().is_some_and(|dev| dev.starts_with("cali"))
        });
        for route in pods {
            let owner = (place.side.node, route.dev.as_deref().unwrap_or_default());
            let owners = held.entry(route.dst.addr()).or_default();
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        let own = place.host().addresses.iter().filter(|at| {
            !local_only(at.address.addr())
                && !at.link.starts_with("cali")
                && at.link != "kube-ipvs0"
                && at.link != "nodelocaldns"
        });
        for at in own {
            held.entry(at.address.addr()).or_default().push((place.side.node, &at.link));
        }
    }
    let twice = held
        .into_iter()
        .filter(|(_, owners)| owners.len() > 1 && owners.iter().any(|(_, link)| is_of_calico(link)));
    let faults = twice
        .map(|(address, owners)| {
            let words: Vec<String> = owners.iter().map(|(node, link)| format!("{link} of {node}")).collect();
            let place = places.iter().find(|place| place.side.node == owners[0].0).expect("an owner is a place");
            Fault {
                summary: format!("{address} is in two places: {}", words.join(" and ")),
                remedy: format!("find which pod was given it (`trace-drop ipam show --ip {address}`), and delete the other"),
                read: format!("routes and addresses of {address}: {}", words.join(", ")),
                expected: "one owner: packets go to either, by the block's route".to_owned(),
                ..place.side.fault("duplicate_address", StageKind::Deliver, "route")
            }
        })
        .collect();
    checkup.add("", "no pod's or tunnel's address is in two places", faults);
}

fn is_of_calico(link: &str) -> bool {
    link.starts_with("cali") || link.starts_with("vxlan")
}

/// Addresses that many hosts have at once.
fn local_only(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    }
}
