//! Pools and blocks that are used up, or too few for the nodes. Takes the figures; never looks at a single address.

use super::{Checked, Finding, World, command, family, few, plural};
use crate::evidence::cluster::ipam::IpamConfig;
use crate::evidence::ipam::{NodeUse, PoolUse};

pub(super) fn check(world: &World<'_, '_>, checked: &mut Checked) {
    if !world.knows("pools that are used up", &["IPPool", "IPAMBlock"], checked) {
        return;
    }
    if world.missing("IPAMConfig").is_some() {
        let command = command("IPAMConfig");
        let why = format!("settings: no IPAMConfig in the file (`{command}`); Calico's defaults are assumed");
        checked.not_asked.push(why);
    }
    if let Some(why) = world.missing("IPReservation") {
        checked.not_asked.push(format!("reserved addresses: {why}"));
    }
    for v6 in [false, true] {
        let of_family = |pool: &&PoolUse<'_>| pool.pool.cidr.addr().is_ipv6() == v6;
        let pools: Vec<&PoolUse<'_>> = world.figures.pools.iter().filter(of_family).collect();
        if !pools.is_empty() {
            one_family(world, v6, &pools, checked);
        }
    }
}

fn one_family(world: &World<'_, '_>, v6: bool, pools: &[&PoolUse<'_>], checked: &mut Checked) {
    let default = IpamConfig::default();
    let config = world.cluster.ipam.config.as_ref().unwrap_or(&default);
    let serving: Vec<&PoolUse<'_>> = pools.iter().copied().filter(|pool| pool.pool.serves_pods()).collect();
    if serving.is_empty() {
        let words: Vec<String> = pools.iter().map(|pool| pool.pool.name.clone()).collect();
        checked.findings.push(Finding {
            summary: format!("no {} pool gives addresses to pods", family(v6)),
            remedy: "enable a pool, or make one".to_owned(),
            read: format!("disabled, being deleted, manual or not for workloads: {}", few(&words)),
            expected: "a pool that is enabled and allows workloads: new pods get no address".to_owned(),
            ..exhausted(true)
        });
        return;
    }
    let all_full = serving.iter().all(|pool| pool.count.free() == 0);
    for pool in serving.iter().filter(|pool| pool.count.free() == 0) {
        checked.findings.push(full(pool, all_full));
    }
    let nodes: Vec<&NodeUse<'_>> =
        world.figures.nodes.iter().filter(|node| node.exists && node.v6 == v6).collect();
    let without: Vec<String> =
        nodes.iter().filter(|node| node.blocks == 0).map(|node| node.node.to_owned()).collect();
    if !without.is_empty() {
        let count = plural(without.len(), "node");
        checked.notes.push(format!("{count} without an {} block: {}", family(v6), few(&without)));
    }
    if !all_full {
        blocks(config, v6, &serving, &nodes, checked);
    }
    at_limit(config, &nodes, checked);
}

fn full(pool: &PoolUse<'_>, all_full: bool) -> Finding {
    let rest = if all_full { "no other pool of the family has any" } else { "other pools still have some" };
    Finding {
        summary: format!("pool {} has no free address; {rest}", pool.pool.name),
        remedy: "release what leaked (`trace-drop ipam check` lists it), or add a pool".to_owned(),
        read: format!(
            "{}: {} addresses, {} in use, {} reserved",
            pool.pool.cidr, pool.count.total, pool.count.in_use, pool.count.reserved
        ),
        expected: "free addresses: a pod without one stays in ContainerCreating".to_owned(),
        ..exhausted(all_full)
    }
}

/// Free blocks, against the nodes that need one.
fn blocks(
    config: &IpamConfig,
    v6: bool,
    pools: &[&PoolUse<'_>],
    nodes: &[&NodeUse<'_>],
    checked: &mut Checked,
) {
    let possible = pools.iter().fold(0_u128, |sum, pool| sum.saturating_add(pool.blocks_possible));
    let free: u128 = pools.iter().fold(0, |sum, pool| sum.saturating_add(pool.blocks_free()));
    let names: Vec<String> = pools.iter().map(|pool| pool.pool.name.clone()).collect();
    let selected: Vec<String> = pools
        .iter()
        .filter(|pool| !pool.pool.selects_all_nodes())
        .map(|pool| format!("{} ({})", pool.pool.name, pool.pool.node_selector))
        .collect();
    if !selected.is_empty() {
        let why = "nodeSelectors are not evaluated: no node's share of the blocks is judged";
        checked.not_asked.push(format!("{} pools of some nodes: {}; {why}", family(v6), few(&selected)));
        return;
    }
    let strict = config.strict_affinity;
    let (then, why) = if strict {
        (
            "pods there get no address",
            "strictAffinity forbids to borrow: a node without a block has no address",
        )
    } else {
        ("it must borrow", "a node without a block borrows single addresses, each with a route of its own")
    };
    if possible < nodes.len() as u128 {
        checked.findings.push(Finding {
            summary: format!("{} nodes, and {} can have {possible} blocks only", nodes.len(), few(&names)),
            remedy: "add a pool, or one with a longer blockSize: smaller blocks are more blocks".to_owned(),
            read: format!("2^(blockSize - prefix length) = {possible} blocks; strictAffinity {strict}"),
            expected: format!("a block for each of {} nodes: {why}", nodes.len()),
            ..exhausted(strict)
        });
    }
    let needy: Vec<String> = nodes
        .iter()
        .filter(|node| node.count.free() == 0)
        .map(|node| format!("{} ({} of its own)", node.node, plural_blocks(node.blocks)))
        .collect();
    let closed = free == 0 || !config.auto_allocate_blocks;
    if closed && !needy.is_empty() {
        let what = if free == 0 { "no free block is left" } else { "autoAllocateBlocks is off" };
        checked.findings.push(Finding {
            summary: format!(
                "{what}, and {} no free {} address in blocks of its own: {then}",
                if needy.len() == 1 {
                    "a node has".to_owned()
                } else {
                    format!("each of {} nodes has", needy.len())
                },
                family(v6)
            ),
            remedy: "release what leaked, free blocks of nodes that are gone, or add a pool".to_owned(),
            read: few(&needy),
            expected: format!("a free block for each, in {}: {why}", few(&names)),
            ..exhausted(strict)
        });
    }
}

/// Nodes that may have no more blocks.
fn at_limit(config: &IpamConfig, nodes: &[&NodeUse<'_>], checked: &mut Checked) {
    let most = u128::from(config.max_blocks_per_host);
    if most == 0 {
        return;
    }
    for node in nodes.iter().filter(|node| node.blocks >= most && node.count.free() == 0) {
        checked.findings.push(Finding {
            node: node.node.to_owned(),
            summary: format!("{} has as many blocks as a node may have, and all are full", node.node),
            remedy: "raise maxBlocksPerHost in the IPAMConfig, or move pods".to_owned(),
            read: format!("{}, {} addresses in use", plural_blocks(node.blocks), node.count.in_use),
            expected: format!("fewer than maxBlocksPerHost = {most}, or a free address: new pods get none"),
            ..exhausted(config.strict_affinity)
        });
    }
}

fn plural_blocks(count: u128) -> String {
    if count == 1 { "1 block".to_owned() } else { format!("{count} blocks") }
}

fn exhausted(breaks: bool) -> Finding {
    Finding {
        kind: "ipam_exhausted",
        node: String::new(),
        breaks,
        summary: String::new(),
        remedy: String::new(),
        read: String::new(),
        expected: String::new(),
        addresses: Vec::new(),
    }
}
