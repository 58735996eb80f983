//! What hangs on the links of a path before or behind the IP layer: XDP programs, `tc` filters, queues; and the tables of
//! connection tracking and of sockets. Where a packet is lost by one of them follows from where the captures listen:
//! XDP takes it before the link's own capture sees it, an ingress filter after that, an egress filter or a queue before
//! it (`__netif_receive_skb_core` and `__dev_queue_xmit` of `net/core/dev.c`).

use super::{Fault, Side, Way};
use crate::evidence::StageKind;
use crate::evidence::host::Link;

/// Everything on one direction.
pub(super) fn check(way: &Way<'_>, all: &mut Vec<Fault>) {
    for passage in passages(way) {
        link(&passage, all);
    }
    let same_node = way.from.node == way.to.node;
    let mut sides = vec![(&way.from, vec![StageKind::Forward])];
    if same_node {
        // One node, one table.
    } else if way.encapsulated {
        sides[0].1.push(StageKind::Encapsulate);
        sides.push((&way.to, vec![StageKind::Decapsulate, StageKind::Deliver]));
    } else {
        sides.push((&way.to, vec![StageKind::Deliver]));
    }
    for (side, stages) in sides {
        for stage in stages {
            conntrack(side, stage, all);
            checksums(side, way, stage, all);
        }
    }
    sockets(way, all);
}

/// One link that packets come in by or leave by.
struct Passage<'w> {
    side: &'w Side<'w>,
    link: &'w str,
    /// Comes in by it; else leaves.
    enters: bool,
    /// The stage that ends at this link's capture.
    before: Option<StageKind>,
    /// The stage that begins there.
    after: Option<StageKind>,
}

fn passages<'w>(way: &'w Way<'w>) -> Vec<Passage<'w>> {
    let (from, to) = (&way.from, &way.to);
    let passage = |side, link: Option<&'w str>, enters, before, after| {
        link.map(|link| Passage { side, link, enters, before, after })
    };
    let mut all = vec![passage(from, from.veth, true, Some(StageKind::LeavePod), Some(StageKind::Forward))];
    if from.node == to.node {
        all.push(passage(to, to.veth, false, Some(StageKind::Forward), Some(StageKind::EnterPod)));
    } else {
        let tunnel = |side: &Side<'w>| way.encapsulated.then_some(side.tunnel);
        let out = if way.encapsulated { StageKind::Encapsulate } else { StageKind::Forward };
        let inward = if way.encapsulated { StageKind::Decapsulate } else { StageKind::Deliver };
        all.extend([
            passage(from, tunnel(from), false, Some(StageKind::Forward), Some(StageKind::Encapsulate)),
            passage(from, from.nic, false, Some(out), Some(StageKind::Underlay)),
            passage(to, to.nic, true, Some(StageKind::Underlay), Some(inward)),
            passage(to, tunnel(to), true, Some(StageKind::Decapsulate), Some(StageKind::Deliver)),
            passage(to, to.veth, false, Some(StageKind::Deliver), Some(StageKind::EnterPod)),
        ]);
    }
    all.into_iter().flatten().collect()
}

/// The card and the tunnel device of a node by themselves, in both directions.
pub(super) fn on_links(side: &Side<'_>, all: &mut Vec<Fault>) {
    for name in side.nic.into_iter().chain(["vxlan.calico", "vxlan-v6.calico"]) {
        for enters in [true, false] {
            // No stages: what matters is that something hangs there.
            let stage = Some(StageKind::Forward);
            link(&Passage { side, link: name, enters, before: stage, after: stage }, all);
        }
    }
}

fn link(passage: &Passage<'_>, all: &mut Vec<Fault>) {
    let (side, name) = (passage.side, passage.link);
    let (Some(seen), Some(link)) = (side.host, side.link(name)) else { return };
    if let (true, Some(mode), Some(stage)) = (passage.enters, &link.xdp, passage.before) {
        all.push(Fault {
            breaks: false,
            summary: format!("an XDP program on {name} sees packets before any capture does, and may drop them"),
            remedy: format!(
                "on {}: `ip link show {name}` names the program, `bpftool net show dev {name}` its owner; try without it",
                side.node
            ),
            read: format!("XDP ({mode}) on {name}"),
            expected: "none, or one that lets these packets pass: no counter tells".to_owned(),
            ..side.fault("early_hook", stage, "link")
        });
    }
    if let (false, Some(stage)) = (link.up && link.carrier, passage.before)
        && Some(name) == side.nic
    {
        all.push(Fault {
            summary: format!("{name}, the card of {}, is down or has no carrier", side.node),
            remedy: format!(
                "on {}: `ip -d link show {name}`; look at the cable, the switch's port, the bond",
                side.node
            ),
            read: format!("{name}: up {}, carrier {}", link.up, link.carrier),
            expected: "up, with a carrier".to_owned(),
            ..side.fault("link_down", stage, "link")
        });
    }
    let hook = if passage.enters { "ingress" } else { "egress" };
    let stage = if passage.enters { passage.after } else { passage.before };
    let Some(stage) = stage else { return };
    let filters: Vec<&str> = seen
        .after
        .filters
        .iter()
        .filter(|filter| {
            filter.link == name && (filter.hook == hook || (!passage.enters && filter.hook == "root"))
        })
        .map(|filter| filter.kind.as_str())
        .collect();
    let drops = seen.overflown().into_iter().filter(|(queue, _)| queue.link == name);
    let (acted, full): (Vec<_>, Vec<_>) =
        drops.partition(|(queue, _)| matches!(queue.kind.as_str(), "clsact" | "ingress"));
    let counted = |drops: Vec<(&crate::evidence::host::Queue, u64)>| -> Vec<(String, u64)> {
        drops.into_iter().map(|(queue, drops)| (format!("qdisc:{name} {}", queue.kind), drops)).collect()
    };
    if !filters.is_empty() {
        let counters = counted(acted);
        all.push(Fault {
            breaks: false,
            summary: format!("a tc filter on {name} ({hook}) drops packets or takes them elsewhere"),
            remedy: format!("on {}: `tc -s filter show dev {name} {hook}`; find out who set it", side.node),
            read: format!("tc {hook} of {name}: {}", filters.join(", ")),
            expected: "no filter, or one that lets these packets pass".to_owned(),
            counters,
            ..side.fault("tc_filter", stage, "tc")
        });
    }
    if !passage.enters && !full.is_empty() {
        all.push(Fault {
            breaks: false,
            counts_each: true,
            summary: format!("the queue of {name} is full and throws packets away"),
            remedy: format!(
                "on {}: `tc -s qdisc show dev {name}`; a rate limit (bandwidth plugin, tbf) or a slow card: raise it, or send less",
                side.node
            ),
            read: format!("qdisc {} on {name}", full[0].0.kind),
            expected: "no drops while these packets pass".to_owned(),
            counters: counted(full),
            ..side.fault("queue_overflow", stage, "qdisc")
        });
    }
}

/// A full table refuses every new connection, without a rule that would count it; one with room refuses those that clash with
/// another when they are entered (`__nf_conntrack_confirm`).
pub(super) fn conntrack(side: &Side<'_>, stage: StageKind, all: &mut Vec<Fault>) {
    let Some(seen) = side.host else { return };
    let read = |name: &str| seen.after.sysctl(&format!("net.netfilter.nf_conntrack_{name}"));
    let (Some(count), Some(max)) = (read("count"), read("max")) else { return };
    let refused = seen.moved(&["conntrack:drop", "conntrack:early_drop", "conntrack:insert_failed"]);
    let full = max > 0 && count * 100 >= max * 95;
    let moved = |wanted: &str| refused.iter().find(|(name, _)| name == wanted).map_or(0, |(_, by)| *by);
    let (dropped, clashed) = (moved("conntrack:drop"), moved("conntrack:insert_failed"));
    if dropped == 0 && !full {
        return;
    }
    let read = format!("nf_conntrack_count {count}, nf_conntrack_max {max}");
    if !full && clashed >= dropped {
        all.push(Fault {
            summary: format!(
                "connection tracking has room ({count} of {max} entries), and dropped {dropped} packets that clashed with another \
                 connection"
            ),
            remedy: format!(
                "on {}: `conntrack -S` (insert_failed); find what sends the same packet twice: a network that copies, parallel \
                 queries from one socket",
                side.node
            ),
            read,
            expected: "no clashes while these packets pass".to_owned(),
            counters: refused,
            ..side.fault("unknown", stage, "conntrack")
        });
        return;
    }
    all.push(Fault {
        breaks: full,
        summary: if full {
            format!("connection tracking is full: {count} of {max} entries, new connections are dropped")
        } else {
            format!("connection tracking was full: it dropped {dropped} packets, and has {count} of {max} entries now")
        },
        remedy: format!(
            "on {}: `sysctl -w net.netfilter.nf_conntrack_max={}`; find what opens so many (`conntrack -L`)",
            side.node,
            max.saturating_mul(2)
        ),
        read,
        expected: "room for new connections".to_owned(),
        counters: refused,
        ..side.fault("conntrack_full", stage, "conntrack")
    });
}

/// Packets with a wrong checksum are thrown away by whoever looks at it.
fn checksums(side: &Side<'_>, way: &Way<'_>, stage: StageKind, all: &mut Vec<Fault>) {
    let Some(seen) = side.host else { return };
    let names: &[&str] = if way.dst.is_ipv6() {
        &["Udp6InCsumErrors", "Udp:InCsumErrors", "Icmp6InCsumErrors"]
    } else {
        &["IpExt:InCsumErrors", "Udp:InCsumErrors", "Tcp:InCsumErrors", "Icmp:InCsumErrors"]
    };
    let counters = seen.moved(names);
    if counters.is_empty() {
        return;
    }
    let sender = &way.from;
    let offload = sender.link(sender.tunnel).filter(|_| way.encapsulated).and_then(Link::leaves_checksums);
    let at = format!("{} of {}", sender.tunnel, sender.node);
    let (remedy, offload) = match offload {
        Some(false) => (
            "checksum offload of the sender's tunnel is off already: look at its card's (`ethtool -k`), and at what lies between".to_owned(),
            format!("; tx-checksum-ip-generic is off on {at}"),
        ),
        read => (
            format!(
                "switch checksum offload of the tunnel off where they are sent: on {}, `ethtool -K {} tx-checksum-ip-generic off`; then look at the card's driver",
                sender.node, sender.tunnel
            ),
            read.map(|_| format!("; tx-checksum-ip-generic is on on {at}")).unwrap_or_default(),
        ),
    };
    all.push(Fault {
        breaks: false,
        counts_each: true,
        summary: format!("{} receives packets with wrong checksums and drops them", side.node),
        remedy,
        read: format!("checksum errors grew{offload}"),
        expected: "none".to_owned(),
        counters,
        ..side.fault("checksum", stage, "snmp")
    });
}

/// The destination's sockets: too few, or too full.
fn sockets(way: &Way<'_>, all: &mut Vec<Fault>) {
    let side = &way.to;
    let Some(pod) = side.pod else { return };
    let mut counters =
        pod.moved(&["TcpExt:ListenOverflows", "TcpExt:ListenDrops", "Udp:RcvbufErrors", "Udp6RcvbufErrors"]);
    for socket in &pod.after.listening {
        let before = pod.before.listening.iter().find(|before| {
            (before.protocol, before.address, before.port) == (socket.protocol, socket.address, socket.port)
        });
        let dropped = socket.drops.saturating_sub(before.map_or(0, |before| before.drops));
        if socket.protocol == 17 && dropped > 0 {
            counters.push((format!("socket:UDP port {} drops", socket.port), dropped));
        }
    }
    if counters.is_empty() {
        return;
    }
    all.push(Fault {
        breaks: false,
        counts_each: true,
        summary: "the pod's program does not take its packets fast enough: its socket is full".to_owned(),
        remedy: "look why the program is slow (CPU limit, a stuck accept loop); a longer backlog or SO_RCVBUF only helps against bursts".to_owned(),
        read: "overflows of the pod's sockets grew".to_owned(),
        expected: "none".to_owned(),
        counters,
        ..side.fault("socket_overflow", StageKind::Pod, "socket")
    });
}
