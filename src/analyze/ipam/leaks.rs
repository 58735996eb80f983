//! Addresses, blocks and handles that are held for somebody who is gone. Takes every allocation and asks whether its
//! owner still exists and still has the address. An address that somebody else uses meanwhile is not for here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Checked, Finding, World, few, plural};
use crate::evidence::cluster::ipam::{Affinity, Attribute};
use crate::evidence::ipam::{address, allocations, is_windows};

pub(super) fn check(world: &World<'_, '_>, checked: &mut Checked) {
    if !world.knows("leaked addresses", &["IPAMBlock"], checked) {
        return;
    }
    addresses(world, checked);
    if world.knows("blocks of nodes that are gone", &["Node"], checked) {
        blocks(world, checked);
    }
    if world.knows("handles that hold nothing", &["IPAMHandle"], checked) {
        handles(world, checked);
    }
}

fn addresses(world: &World<'_, '_>, checked: &mut Checked) {
    let judge = Judge {
        world,
        pods: world.knows("addresses of pods that are gone", &["Pod"], checked)
            && all_namespaces(world, checked),
        nodes: world.knows("tunnel addresses of nodes that are gone", &["Node"], checked),
    };
    let mut leaked: BTreeMap<&str, Vec<(IpAddr, IpNet, String)>> = BTreeMap::new();
    for used in &world.figures.blocks {
        let block = used.block;
        for (ordinal, owner) in allocations(block) {
            let Some(owner) = owner else { continue };
            let Some(why) = judge.leak(owner, || address(block.cidr, ordinal)) else { continue };
            let node = owner.node.as_deref().or(block.node()).unwrap_or_default();
            leaked.entry(node).or_default().push((address(block.cidr, ordinal), block.cidr, why));
        }
    }
    for (node, all) in leaked {
        let words: Vec<String> = all.iter().map(|(address, _, why)| format!("{address} ({why})")).collect();
        let mut blocks: Vec<String> = all.iter().map(|(_, block, _)| block.to_string()).collect();
        blocks.dedup();
        let of = if node.is_empty() { String::new() } else { format!(" of {node}") };
        checked.findings.push(Finding {
            summary: format!("{}{of} leaked: {}", plural(all.len(), "address"), few(&words)),
            remedy:
                "`trace-drop ipam release --ip IP` for each; see why calico-kube-controllers did not (it \
                     waits 15 minutes, and needs its node controller)"
                    .to_owned(),
            read: format!("allocated in IPAMBlock {}", few(&blocks)),
            expected: "an address goes back when its pod or node goes; what stays makes its pool smaller"
                .to_owned(),
            addresses: all.into_iter().map(|(address, ..)| address).collect(),
            ..leak(node)
        });
    }
}

/// Pods of one namespace alone say nothing about those of others.
fn all_namespaces(world: &World<'_, '_>, checked: &mut Checked) -> bool {
    let mut there: FxHashSet<&str> = FxHashSet::default();
    there.extend(world.cluster.pods.iter().map(|pod| pod.namespace.as_str()));
    let [only] = there.iter().copied().collect::<Vec<_>>()[..] else { return true };
    let blocks = world.figures.blocks.iter();
    let mut owners =
        blocks.flat_map(|used| &used.block.attributes).filter_map(|one| one.namespace.as_deref());
    let others = owners.any(|namespace| namespace != only);
    if others {
        checked.not_asked.push(format!(
            "addresses of pods that are gone: the file holds pods of namespace {only} alone; make it with `{}`",
            super::command("Pod")
        ));
    }
    !others
}

struct Judge<'w, 'c, 'f> {
    world: &'w World<'c, 'f>,
    pods: bool,
    nodes: bool,
}

impl Judge<'_, '_, '_> {
    /// Why an allocation is a leak; none when it is not, or when that is not known.
    fn leak(&self, owner: &Attribute, address: impl Fn() -> IpAddr) -> Option<String> {
        // What is cooling down was released.
        if owner.released.is_some() || owner.service.is_some() || is_windows(owner) {
            return None;
        }
        let why = match (&owner.kind, &owner.namespace, &owner.pod) {
            (Some(kind), ..) => self.tunnel(kind, owner.node.as_deref()?, address()),
            (None, Some(namespace), Some(pod)) => self.pod(namespace, pod, &address),
            _ => self.gone(owner.node.as_deref()?).map(|why| format!("unknown owner, {why}")),
        };
        why.filter(|_| !self.world.is_used(address()))
    }

    fn pod(&self, namespace: &str, name: &str, address: &impl Fn() -> IpAddr) -> Option<String> {
        if !self.pods {
            return None;
        }
        let Some(pod) = self.world.pods.get(&(namespace, name)) else {
            return Some(format!("{namespace}/{name} is gone"));
        };
        let address = address();
        // Its status may not list every family.
        let now = pod.addresses.iter().find(|one| one.is_ipv6() == address.is_ipv6())?;
        let has = pod.addresses.contains(&address);
        (!has).then(|| format!("{namespace}/{name} has {now} now"))
    }

    fn tunnel(&self, kind: &str, node: &str, address: IpAddr) -> Option<String> {
        if let Some(why) = self.gone(node) {
            return Some(format!("{kind}, {why}"));
        }
        let read = self.world.nodes.get(node)?;
        // WireGuard's addresses are not among those that a Node's tunnels are read from.
        if kind.starts_with("wireguard") || read.tunnels.contains(&address) {
            return None;
        }
        let now = read.tunnels.iter().find(|one| one.is_ipv6() == address.is_ipv6())?;
        Some(format!("{kind}, {node} has {now} now"))
    }

    fn gone(&self, node: &str) -> Option<String> {
        (self.nodes && !self.world.nodes.contains_key(node)).then(|| format!("{node} is gone"))
    }
}

/// Blocks whose node does not exist.
fn blocks(world: &World<'_, '_>, checked: &mut Checked) {
    let mut dead: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut claims = FxHashSet::default();
    for used in &world.figures.blocks {
        if let Affinity::Node(node) = &used.block.affinity
            && !world.nodes.contains_key(&**node)
        {
            claims.insert((&**node, used.block.cidr));
            let count = format!("{} ({} of {} in use)", used.block.cidr, used.count.in_use, used.count.total);
            dead.entry(node).or_default().push(count);
        }
    }
    for claim in world.cluster.ipam.affinities.iter().filter(|claim| !claim.deleted) {
        // A claim on behalf of no node (a load balancer's) names none that could be gone.
        let host = claim.name.starts_with(&claim.node) && !claim.node.is_empty();
        let gone = host && claim.node != "load-balancer" && !world.nodes.contains_key(&*claim.node);
        if gone && claims.insert((&*claim.node, claim.cidr)) {
            let state = if claim.state.is_empty() { "claimed" } else { &claim.state };
            dead.entry(&claim.node).or_default().push(format!("{} (affinity {state})", claim.cidr));
        }
    }
    for (node, blocks) in dead {
        checked.findings.push(Finding {
            summary: format!("{} of {node}, which is gone: {}", plural(blocks.len(), "block"), few(&blocks)),
            remedy: "see why calico-kube-controllers did not free them; other nodes take over empty ones"
                .to_owned(),
            read: format!("their affinity is host:{node}; there is no such Node"),
            expected: format!(
                "a Node {node}; its blocks are lost to the others, and routes to them lead nowhere"
            ),
            ..leak(node)
        });
    }
}

/// Handles of which no block knows.
fn handles(world: &World<'_, '_>, checked: &mut Checked) {
    let mut held: FxHashMap<&str, u64> = FxHashMap::default();
    if world.cluster.ipam.handles.is_empty() {
        return;
    }
    for used in &world.figures.blocks {
        for handle in allocations(used.block).filter_map(|(_, owner)| owner?.handle.as_deref()) {
            *held.entry(handle).or_default() += 1;
        }
    }
    let mut empty = Vec::new();
    let mut differ = Vec::new();
    for handle in world.cluster.ipam.handles.iter().filter(|handle| !handle.deleted) {
        let says: u64 = handle.blocks.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
        match held.get(&*handle.id) {
            None => empty.push(handle.id.clone()),
            Some(count) if *count != says => {
                differ.push(format!("{} ({says}, in blocks {count})", handle.id));
            }
            Some(_) => {}
        }
    }
    if !empty.is_empty() {
        checked.findings.push(Finding {
            summary: format!("{} without an address: {}", plural(empty.len(), "handle"), few(&empty)),
            remedy: "`kubectl delete ipamhandle NAME` for each, after reading once more".to_owned(),
            read: "these IPAMHandles, and no attribute of a block that names them".to_owned(),
            expected: "an address with this handle in one of the blocks; they cost no address".to_owned(),
            ..leak("")
        });
    }
    if !differ.is_empty() {
        let count = plural(differ.len(), "handle");
        checked
            .notes
            .push(format!("{count} with another number of addresses than the blocks: {}", few(&differ)));
    }
}

fn leak(node: &str) -> Finding {
    Finding {
        kind: "ipam_leak",
        node: node.to_owned(),
        breaks: false,
        summary: String::new(),
        remedy: String::new(),
        read: String::new(),
        expected: String::new(),
        addresses: Vec::new(),
    }
}
