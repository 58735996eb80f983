//! Addresses that two parties use, or that one uses while the blocks say otherwise. Takes what pods and nodes have; never
//! asks whether the address can be routed.

use std::net::IpAddr;

use super::{Checked, Finding, World, few, named};
use crate::evidence::cluster::Pod;
use crate::evidence::ipam::{address, allocations};

pub(super) fn check(world: &World<'_, '_>, checked: &mut Checked) {
    if world.knows("addresses used twice", &["Pod"], checked) {
        for (address, pods) in world.used() {
            between_pods(address, pods, checked);
            with_nodes(world, address, pods, checked);
        }
        if world.knows("addresses that another pod uses", &["IPAMBlock"], checked) {
            against_blocks(world, checked);
        }
    }
    between_nodes(world, checked);
    between_blocks(world, checked);
}

fn between_pods(address: IpAddr, pods: &[(IpAddr, &Pod)], checked: &mut Checked) {
    // One that is being deleted may have given its address back already.
    let staying: Vec<&Pod> = pods.iter().map(|(_, pod)| *pod).filter(|pod| !pod.deleting).collect();
    if staying.len() < 2 {
        return;
    }
    let words: Vec<String> = staying
        .iter()
        .map(|pod| format!("{} on {}", named(pod), pod.node.as_deref().unwrap_or("no node")))
        .collect();
    checked.findings.push(Finding {
        node: staying[0].node.clone().unwrap_or_default(),
        breaks: true,
        summary: format!("{address} is used by {} pods: {}", staying.len(), few(&words)),
        remedy: "delete the pods, let them be made again, and see how the address became free while in use"
            .to_owned(),
        read: format!("status.podIPs of {}", few(&words)),
        expected: "one pod: packets reach whichever of them the routes lead to".to_owned(),
        ..twice(address)
    });
}

fn with_nodes(world: &World<'_, '_>, address: IpAddr, pods: &[(IpAddr, &Pod)], checked: &mut Checked) {
    let (_, pod) = pods[0];
    let tunnel = world.tunnels.get(&address).and_then(|nodes| nodes.first());
    let (node, what) = match (tunnel, world.underlay.get(&address)) {
        (Some(node), _) => (node.name.as_str(), "tunnel address"),
        (None, Some(node)) => (node.name.as_str(), "address"),
        (None, None) => return,
    };
    checked.findings.push(Finding {
        node: node.to_owned(),
        breaks: true,
        summary: format!("{address} is used by pod {} and is the {what} of {node}", named(pod)),
        remedy: format!("delete the pod {}; it gets another address", named(pod)),
        read: format!("status.podIPs of {}; the Node {node}", named(pod)),
        expected: format!("one owner: {node} takes packets to the pod for its own"),
        ..twice(address)
    });
}

/// Allocated to one, used by another; or used and free.
fn against_blocks(world: &World<'_, '_>, checked: &mut Checked) {
    for (address, pods) in world.used() {
        let Some(holder) = world.figures.holder(address) else { continue };
        let (_, pod) = pods[0];
        let is = |namespace: &str, name: &str| {
            pods.iter().any(|(_, pod)| pod.namespace == namespace && pod.name == name)
        };
        let (read, risk) = match &holder.owner {
            None if pods.iter().all(|(_, pod)| pod.deleting) => continue,
            None => ("is free".to_owned(), "another pod will get it"),
            Some(Some(owner)) => match (&owner.namespace, &owner.pod, &owner.kind) {
                (Some(namespace), Some(name), None) if !is(namespace, name) => (
                    format!("is allocated to pod {namespace}/{name}"),
                    "when that one gives it back, another pod gets it",
                ),
                (_, _, Some(kind)) => {
                    let node = owner.node.as_deref().unwrap_or("a node");
                    // With the tunnel there, the nodes' own check has said so.
                    if world.tunnels.contains_key(&address) {
                        continue;
                    }
                    (format!("is allocated to {node} as {kind}"), "the node may take it up any time")
                }
                _ => continue,
            },
            Some(None) => continue,
        };
        let block = holder.block.block;
        checked.findings.push(Finding {
            node: pod.node.clone().unwrap_or_default(),
            summary: format!("{address} is used by pod {} and {read} in block {}", named(pod), block.cidr),
            remedy: format!(
                "read the objects once more (the two were not read at one moment); if it stays, delete the pod {}",
                named(pod)
            ),
            read: format!("IPAMBlock {}: {address} {read}", block.cidr),
            expected: format!("allocated to {}: {risk}, and two have one address", named(pod)),
            ..twice(address)
        });
    }
}

fn between_nodes(world: &World<'_, '_>, checked: &mut Checked) {
    let mut shared: Vec<_> = world.tunnels.iter().filter(|(_, nodes)| nodes.len() > 1).collect();
    shared.sort_by_key(|(address, _)| **address);
    for (address, nodes) in shared {
        let words: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        checked.findings.push(Finding {
            node: words[0].clone(),
            breaks: true,
            summary: format!("{address} is the tunnel address of {} nodes: {}", nodes.len(), few(&words)),
            remedy: "take the annotation off all but one node and restart calico-node there".to_owned(),
            read: format!("annotations of {}", few(&words)),
            expected: "one node: the others send its packets to whichever they learnt last".to_owned(),
            ..twice(*address)
        });
    }
}

/// Blocks that overlap: both may give out the same address.
fn between_blocks(world: &World<'_, '_>, checked: &mut Checked) {
    let blocks: Vec<_> = world.figures.blocks.iter().map(|used| used.block).collect();
    for pair in blocks.windows(2).filter(|pair| pair[0].cidr.contains(&pair[1].cidr)) {
        let inner = allocations(pair[1]).map(|(ordinal, _)| address(pair[1].cidr, ordinal));
        let both: Vec<IpAddr> = inner
            .filter(|one| {
                let ordinal = crate::evidence::ipam::ordinal(pair[0].cidr, *one);
                ordinal.is_some_and(|ordinal| pair[0].owner(ordinal).is_some())
            })
            .collect();
        let words: Vec<String> = both.iter().map(ToString::to_string).collect();
        checked.findings.push(Finding {
            breaks: !both.is_empty(),
            summary: format!("blocks {} and {} overlap", pair[0].cidr, pair[1].cidr),
            remedy:
                "empty one of them and delete it: a pool's blockSize cannot be changed while it is in use"
                    .to_owned(),
            read: if both.is_empty() {
                "no address is allocated in both".to_owned()
            } else {
                format!("allocated in both: {}", few(&words))
            },
            expected: "blocks that share no address".to_owned(),
            addresses: both,
            ..twice(pair[0].cidr.network())
        });
    }
}

fn twice(address: IpAddr) -> Finding {
    Finding {
        kind: "duplicate_address",
        node: String::new(),
        breaks: false,
        summary: String::new(),
        remedy: String::new(),
        read: String::new(),
        expected: String::new(),
        addresses: vec![address],
    }
}
