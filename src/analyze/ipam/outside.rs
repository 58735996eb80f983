//! Addresses to which no route of Calico's leads, or one that leads to another node. Takes what pods and nodes have, and
//! asks which node the blocks' routes lead to: Felix makes them from blocks and allocations, never from pods.

use std::net::IpAddr;

use super::{Checked, Finding, World, family, few, named, plural};
use crate::evidence::cluster::Pod;
use crate::evidence::ipam::Holder;

pub(super) fn check(world: &World<'_, '_>, checked: &mut Checked) {
    let blocks = world.knows("addresses outside their block", &["IPAMBlock"], checked);
    let pools = world.knows("addresses outside any pool", &["IPPool"], checked);
    let pods = world.knows("addresses of pods outside a block", &["Pod"], checked);
    if blocks && pods {
        for (address, pods) in world.used() {
            // Of several, the other check speaks.
            if let [(_, pod)] = pods {
                of_pod(world, pools, address, pod, checked);
            }
        }
    }
    if blocks && world.knows("tunnel addresses outside a block", &["Node"], checked) {
        tunnels(world, checked);
    }
    let borrowed: Vec<String> = world
        .figures
        .borrowed()
        .map(|(address, block, owner)| {
            let owned = block.node().unwrap_or("nobody");
            format!("{address} (block of {owned}, used on {})", owner.node.as_deref().unwrap_or("?"))
        })
        .collect();
    if !borrowed.is_empty() {
        let count = plural(borrowed.len(), "address");
        checked.notes.push(format!("{count} borrowed, each with a route of its own: {}", few(&borrowed)));
    }
}

/// Where the routes to an address lead: the node of the allocation, else of the block.
fn leads_to<'h>(holder: &Holder<'_, 'h>) -> Option<&'h str> {
    let owner = holder.owner.flatten();
    owner.and_then(|owner| owner.node.as_deref()).or(holder.block.block.node())
}

fn of_pod(world: &World<'_, '_>, pools: bool, address: IpAddr, pod: &Pod, checked: &mut Checked) {
    let node = pod.node.clone().unwrap_or_default();
    let remedy = format!("delete the pod {}; it gets another address", named(pod));
    let finding = |summary: String, read: String, expected: String| Finding {
        node: node.clone(),
        summary,
        remedy: remedy.clone(),
        read,
        expected,
        ..outside(address)
    };
    let Some(holder) = world.figures.holder(address) else {
        let pool = match world.figures.pool(address) {
            _ if !pools => "",
            Some(_) => "",
            None => " and in no pool",
        };
        checked.findings.push(finding(
            format!(
                "{address} of pod {} lies in no block{pool}: no other node has a route to it",
                named(pod)
            ),
            format!("it lies in none of {}", family_blocks(world, address)),
            "a block of its node, from which the other nodes make their route".to_owned(),
        ));
        return;
    };
    let cidr = holder.block.block.cidr;
    if pools && world.figures.pool(address).is_none() {
        checked.findings.push(finding(
            format!("{address} of pod {} lies in no pool: packets to it are not encapsulated", named(pod)),
            format!("block {cidr} lies in none of {} pools", world.figures.pools.len()),
            "an IPPool around it (a disabled one will do): Felix takes the encapsulation from there"
                .to_owned(),
        ));
    }
    let Some(own) = pod.node.as_deref() else { return };
    let leads = leads_to(&holder);
    if leads != Some(own) {
        let place = leads.map_or_else(|| "to no node".to_owned(), |node| format!("to {node}"));
        let owner = holder.owner.flatten().and_then(|owner| owner.node.as_deref());
        checked.findings.push(finding(
            format!("{address} of pod {} on {own}: the routes to it lead {place}", named(pod)),
            format!(
                "block {cidr} of {}; the address is allocated on {}",
                holder.block.block.node().unwrap_or("nobody"),
                owner.unwrap_or("no node")
            ),
            format!("a block of {own}, or an allocation on {own} (borrowed)"),
        ));
    }
}

fn family_blocks(world: &World<'_, '_>, address: IpAddr) -> String {
    let v6 = address.is_ipv6();
    let count = world.figures.blocks.iter().filter(|used| used.block.cidr.addr().is_ipv6() == v6).count();
    plural(count, &format!("{} block", family(v6)))
}

fn tunnels(world: &World<'_, '_>, checked: &mut Checked) {
    for node in &world.cluster.nodes {
        for address in &node.tunnels {
            let holder = world.figures.holder(*address);
            let owner = holder.as_ref().and_then(|holder| holder.owner.flatten());
            if owner.is_some_and(|owner| owner.node.as_deref() == Some(&node.name)) {
                continue;
            }
            let (read, breaks) = match &holder {
                None => (format!("it lies in none of {}", family_blocks(world, *address)), true),
                Some(holder) => {
                    let block = holder.block.block;
                    let held = match (&holder.owner, owner) {
                        (None, _) => "is free".to_owned(),
                        (Some(_), Some(owner)) => format!("is allocated to {}", who(owner)),
                        (Some(_), None) => "has no known owner".to_owned(),
                    };
                    (
                        format!("in block {} of {} it {held}", block.cidr, block.node().unwrap_or("nobody")),
                        leads_to(holder) != Some(&node.name),
                    )
                }
            };
            checked.findings.push(Finding {
                node: node.name.clone(),
                breaks,
                summary: format!("the tunnel address {address} of {} is not allocated to it: {read}", node.name),
                remedy: format!("restart calico-node on {}: it takes a new tunnel address", node.name),
                read,
                expected: format!(
                    "an address of a block, allocated to {} (replies to the node itself come back to it; a pod could get it)",
                    node.name
                ),
                ..outside(*address)
            });
        }
    }
}

fn who(owner: &crate::evidence::cluster::ipam::Attribute) -> String {
    match (&owner.namespace, &owner.pod, &owner.node) {
        (Some(namespace), Some(pod), _) => format!("pod {namespace}/{pod}"),
        (_, _, Some(node)) => node.clone(),
        _ => owner.handle.clone().unwrap_or_else(|| "somebody".to_owned()),
    }
}

fn outside(address: IpAddr) -> Finding {
    Finding {
        kind: "address_outside_block",
        node: String::new(),
        breaks: true,
        summary: String::new(),
        remedy: String::new(),
        read: String::new(),
        expected: String::new(),
        addresses: vec![address],
    }
}
