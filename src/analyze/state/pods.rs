//! The pods' own ends: their interfaces, the size that fits through the veth pair, the gateway's ARP, and what listens.

use super::{Fault, Side, Way};
use crate::evidence::StageKind;

/// From the source pod to its node.
pub(super) fn leaving(way: &Way<'_>, all: &mut Vec<Fault>) {
    let side = &way.from;
    veth(side, StageKind::LeavePod, all);
    if let (Some(seen), Some(veth)) = (side.host, side.veth) {
        let name = format!("net.ipv4.conf.{veth}.proxy_arp");
        let knows_gateway = side.pod.is_some_and(|pod| {
            let gateway = std::net::IpAddr::from([169, 254, 1, 1]);
            pod.after.neighbours.iter().any(|entry| entry.address == gateway && entry.state == "permanent")
        });
        if !way.src.is_ipv6() && seen.after.sysctl(&name) == Some(0) && !knows_gateway {
            all.push(Fault {
                stage: None,
                summary: format!("nobody answers the pod's ARP for its gateway: proxy ARP is off on {veth}"),
                remedy: format!(
                    "on {}: `sysctl -w {name}=1`; Felix sets it when it adds the pod: look at its log",
                    side.node
                ),
                read: format!("{name} = 0"),
                expected: "1: the pod's gateway 169.254.1.1 exists on no link, the node answers for it"
                    .to_owned(),
                ..side.fault("proxy_arp_off", StageKind::LeavePod, "sysctl")
            });
        }
    }
    if let Some((pod_mtu, veth_mtu)) = mtus(side, way.src)
        && pod_mtu > veth_mtu
    {
        all.push(too_long(
            side,
            StageKind::LeavePod,
            veth_mtu,
            &format!("the host's side of the veth takes {veth_mtu} bytes, the pod sends up to {pod_mtu}"),
        ));
    }
}

/// From the destination's node into the pod.
pub(super) fn entering(way: &Way<'_>, all: &mut Vec<Fault>) {
    let side = &way.to;
    veth(side, StageKind::Deliver, all);
    let Some(pod) = side.pod else { return };
    let Some(own) = pod.after.link_of(way.dst) else { return };
    if let Some((pod_mtu, veth_mtu)) = mtus(side, way.dst)
        && veth_mtu > pod_mtu
    {
        let mut fault = too_long(
            side,
            StageKind::EnterPod,
            pod_mtu,
            &format!(
                "the pod's interface takes {pod_mtu} bytes, the host's side of the veth sends up to {veth_mtu}"
            ),
        );
        fault.counters = pod.link_moved(&own.name, "rx_dropped");
        all.push(fault);
    }
    if let (Some(seen), Some(veth)) = (side.host, side.veth)
        && let Some(entry) = seen.after.neighbour(veth, way.dst)
        && let (Some(believed), Some(real)) = (&entry.mac, &own.mac)
        && believed != real
    {
        all.push(Fault {
            summary: "the node sends to a wrong MAC: the pod takes the packets for somebody else's"
                .to_string(),
            remedy: format!(
                "on {}: `ip neigh del {} dev {veth}`, then the node asks anew",
                side.node, way.dst
            ),
            read: format!("neighbour {} on {veth}: {believed}, {}", way.dst, entry.state),
            expected: format!("{real}, the MAC of the pod's {}", own.name),
            counters: pod.link_moved(&own.name, "rx_otherhost_dropped"),
            ..side.fault("neighbour_wrong", StageKind::Pod, "neighbour")
        });
    }
}

/// Both ends of the pair must be up.
fn veth(side: &Side<'_>, stage: StageKind, all: &mut Vec<Fault>) {
    if let Some(link) = side.veth.and_then(|veth| side.link(veth))
        && !link.up
    {
        all.push(Fault {
            summary: format!("{}, the host's side of the pod's veth, is down", link.name),
            remedy: format!(
                "on {}: `ip link set {} up`, and find out what set it down",
                side.node, link.name
            ),
            read: format!("{}: administratively down", link.name),
            expected: "up; with it goes the pod's route".to_owned(),
            ..side.fault("link_down", stage, "link")
        });
    }
    let Some(own) = side.pod.and_then(|pod| pod.after.links.iter().find(|link| link.name == "eth0")) else {
        return;
    };
    if !own.up {
        all.push(Fault {
            summary: "the pod's own interface is down".to_owned(),
            remedy: format!(
                "restart the pod; in its namespace on {}: `ip link set {} up`",
                side.node, own.name
            ),
            read: format!("{} in the pod: administratively down", own.name),
            expected: "up".to_owned(),
            ..side.fault("pod_link_down", stage, "link")
        });
    }
}

/// The MTU of the pod's interface and of its other end.
fn mtus(side: &Side<'_>, address: std::net::IpAddr) -> Option<(u32, u32)> {
    let own = side.pod?.after.link_of(address)?;
    Some((own.mtu, side.link(side.veth?)?.mtu))
}

fn too_long(side: &Side<'_>, stage: StageKind, mtu: u32, summary: &str) -> Fault {
    Fault {
        breaks: false,
        longer_than: Some(mtu),
        summary: summary.to_owned(),
        remedy: format!(
            "on {}: give both ends of the pair one MTU (Calico's vethMTU; `ip link set … mtu`)",
            side.node
        ),
        read: summary.to_owned(),
        expected: "equal MTUs: a veth drops what is longer than its other end takes, without a word"
            .to_owned(),
        ..side.fault("mtu", stage, "link")
    }
}
