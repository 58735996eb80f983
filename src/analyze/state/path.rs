//! The checks of both directions of a path, counted: which were made, and which of the faults is whose. A check is
//! made where the state that it needs was read.

use super::checkup::{Checkup, Ground};
use super::{Fault, Side, Way, World, faults};
use crate::evidence::Direction;

/// Both directions.
pub(super) fn check(ground: &Ground<'_>, world: &World, checkup: &mut Checkup) {
    for direction in [Direction::Forward, Direction::Reply] {
        let Some(way) = world.way(ground.case, direction) else {
            let ends = "the path's ends are not both on nodes of the cluster: what lies on it is not judged";
            checkup.unread.push(ends.to_owned());
            return;
        };
        let mut found = faults(&way);
        for row in rows(&way) {
            let (own, rest): (Vec<Fault>, Vec<Fault>) = found
                .into_iter()
                .partition(|fault| fault.node == row.node && row.kinds.contains(&fault.kind));
            found = rest;
            if row.ready || !own.is_empty() {
                checkup.add(row.node, row.what, own);
            }
        }
        for fault in found {
            checkup.add(&fault.node.clone(), fault.source, vec![fault]);
        }
    }
}

/// A check, by the kinds of fault that it finds.
struct Row<'w> {
    node: &'w str,
    what: String,
    kinds: &'static [&'static str],
    /// Whether what it needs was read.
    ready: bool,
}

fn rows<'w>(way: &Way<'w>) -> Vec<Row<'w>> {
    let mut all = Vec::new();
    let crosses = way.from.node != way.to.node;
    for (side, sends) in [(way.from, true), (way.to, false)] {
        let mut row = |what: String, kinds, ready| all.push(Row { node: side.node, what, kinds, ready });
        let read =
            |has: fn(&crate::evidence::host::Host) -> bool| side.host.is_some_and(|seen| has(&seen.after));
        let links = read(|host| !host.links.is_empty());
        let routes = read(|host| !host.routes.is_empty());
        let sysctls = read(|host| !host.sysctls.is_empty());
        let tunnel = side.tunnel;
        ends(&side, way, sends, links, &mut row);
        row(
            "forwarding and reverse path where the path comes in".to_owned(),
            &["ip_forward_off", "reverse_path"],
            sysctls,
        );
        row(
            "XDP programs and tc filters on the links of the path".to_owned(),
            &["early_hook", "tc_filter"],
            links,
        );
        row("queues of the links of the path".to_owned(), &["queue_overflow"], links);
        row("room in connection tracking".to_owned(), &["conntrack_full"], sysctls);
        row("MTUs along the path".to_owned(), &["mtu"], links);
        row(format!("route to {}", way.dst), &["no_route", "wrong_route", "blackhole_route"], routes);
        row(
            "the kernel's own word on the way agrees with the routes as read".to_owned(),
            &[],
            side.host
                .is_some_and(|seen| !seen.after.answers.is_empty() && seen.after.disagreements().is_empty()),
        );
        if crosses {
            row("the card is up".to_owned(), &["link_down"], links && side.nic.is_some());
        }
        if crosses && way.encapsulated {
            row(format!("{tunnel} exists and is up"), &["tunnel_missing", "tunnel_down"], links);
            let agree = way.from.link(way.from.tunnel).is_some() && way.to.link(way.to.tunnel).is_some();
            row(
                format!("VNI, port, address and MAC of {tunnel} agree with the peer's"),
                &["tunnel_mismatch", "tunnel_address"],
                agree,
            );
            row(
                "neighbour and FDB entries of the peer's tunnel".to_owned(),
                &["neighbour_missing", "neighbour_wrong", "fdb_missing", "fdb_wrong"],
                sends && side.host.is_some(),
            );
        }
        // Only growth would show these: without a capture between two readings they are found in no check.
        row("checksums and sockets".to_owned(), &["checksum", "socket_overflow"], false);
    }
    all
}

/// What belongs to the pod at this end.
fn ends(
    side: &Side<'_>,
    way: &Way<'_>,
    sends: bool,
    links: bool,
    row: &mut impl FnMut(String, &'static [&'static str], bool),
) {
    let (address, v6) = if sends { (way.src, way.src.is_ipv6()) } else { (way.dst, way.dst.is_ipv6()) };
    if let Some(veth) = side.veth {
        row(
            format!("{veth} and the pod's interface are up"),
            &["link_down", "pod_link_down"],
            links && side.link(veth).is_some(),
        );
        if sends && !v6 {
            row(format!("proxy ARP on {veth}"), &["proxy_arp_off"], links);
        }
        if !sends {
            row(
                format!("the pod's neighbour entry for {address}"),
                &["neighbour_missing", "neighbour_wrong"],
                side.host.is_some(),
            );
        }
    }
}
