//! The addresses' book-keeping held against the cluster. Takes the cluster's objects; gives what is exhausted, leaked,
//! used twice or outside its block, and what is merely worth saying. What the file does not hold is not judged, and
//! said. It captures nothing, and does not say why one packet was lost.

mod exhausted;
pub mod in_use;
mod leaks;
mod outside;
mod twice;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::evidence::cluster::{Cluster, Node, Pod};
use crate::evidence::ipam::Figures;

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The `kind` of the report contract: `ipam_exhausted`, `ipam_leak`, `duplicate_address`, `address_outside_block`.
    pub kind: &'static str,
    /// The node it is about; empty when it is about the cluster.
    pub node: String,
    /// Whether it stops traffic, or keeps pods from starting.
    pub breaks: bool,
    /// One line for a person.
    pub summary: String,
    /// What to do.
    pub remedy: String,
    /// What was read.
    pub read: String,
    /// What was expected, and why.
    pub expected: String,
    /// The addresses it is about, all of them.
    pub addresses: Vec<IpAddr>,
}

/// All that the objects say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
    /// What is right, and may surprise.
    pub notes: Vec<String>,
    /// What was not judged, and why.
    pub not_asked: Vec<String>,
}

impl Finding {
    /// Whether the book-keeping is wrong; else it is sound, and short of something.
    pub fn is_fault(&self) -> bool {
        self.breaks || matches!(self.kind, "ipam_leak" | "duplicate_address")
    }
}

/// Checks everything.
pub fn check(cluster: &Cluster) -> Checked {
    check_with(cluster, &Figures::of(cluster))
}

/// The same, with the figures at hand.
pub fn check_with(cluster: &Cluster, figures: &Figures<'_>) -> Checked {
    check_world(&World::of(cluster, figures))
}

fn check_world(world: &World<'_, '_>) -> Checked {
    let mut checked = Checked::default();
    exhausted::check(world, &mut checked);
    leaks::check(world, &mut checked);
    twice::check(world, &mut checked);
    outside::check(world, &mut checked);
    checked.findings.sort_by_key(|finding| (!finding.breaks, !finding.is_fault()));
    checked.not_asked.sort();
    checked.not_asked.dedup();
    checked
}

/// What concerns a traced pair: findings about one of these addresses. For them the objects that were asked for are
/// enough: their blocks, the pods that have them and the nodes of both.
pub fn concerning(cluster: &Cluster, addresses: &[IpAddr]) -> Vec<Finding> {
    let figures = Figures::of(cluster);
    let mut findings = check_world(&World { narrowed_too: true, ..World::of(cluster, &figures) }).findings;
    findings.retain(|finding| finding.addresses.iter().any(|one| addresses.contains(one)));
    findings
}

/// The objects, ready to be asked.
struct World<'c, 'f> {
    cluster: &'c Cluster,
    figures: &'f Figures<'c>,
    pods: FxHashMap<(&'c str, &'c str), &'c Pod>,
    nodes: FxHashMap<&'c str, &'c Node>,
    /// The pods that use an address of their own, by address.
    users: Vec<(IpAddr, &'c Pod)>,
    tunnels: FxHashMap<IpAddr, Vec<&'c Node>>,
    underlay: FxHashMap<IpAddr, &'c Node>,
    /// Judge by kinds of which not all objects were asked for.
    narrowed_too: bool,
}

impl<'c, 'f> World<'c, 'f> {
    fn of(cluster: &'c Cluster, figures: &'f Figures<'c>) -> Self {
        let own = cluster.pods.iter().filter(|pod| !pod.host_network && !pod.is_over());
        let mut users: Vec<(IpAddr, &Pod)> =
            own.flat_map(|pod| pod.addresses.iter().map(move |address| (*address, pod))).collect();
        users.sort_by_key(|(address, _)| *address);
        let mut tunnels: FxHashMap<IpAddr, Vec<&Node>> = FxHashMap::default();
        for node in &cluster.nodes {
            for address in &node.tunnels {
                tunnels.entry(*address).or_default().push(node);
            }
        }
        let underlay =
            cluster.nodes.iter().flat_map(|node| node.underlay().into_iter().map(move |one| (one, node)));
        Self {
            underlay: underlay.collect(),
            cluster,
            figures,
            pods: cluster.pods.iter().map(|pod| ((&*pod.namespace, &*pod.name), pod)).collect(),
            nodes: cluster.nodes.iter().map(|node| (&*node.name, node)).collect(),
            users,
            tunnels,
            narrowed_too: false,
        }
    }

    /// Whether all objects of these kinds are there; else `what` is not judged.
    fn knows(&self, what: &str, kinds: &[&str], checked: &mut Checked) -> bool {
        let missing: Vec<String> = kinds.iter().filter_map(|kind| self.missing(kind)).collect();
        for why in &missing {
            checked.not_asked.push(format!("{what}: {why}"));
        }
        missing.is_empty()
    }

    fn missing(&self, kind: &str) -> Option<String> {
        let narrowed = self.cluster.narrowed.get(kind).filter(|_| !self.narrowed_too);
        let narrowed = narrowed.map(|words| format!("of {kind} only {words} were asked for"));
        narrowed.or_else(|| missing(self.cluster, kind))
    }

    /// Addresses that pods use, in order, with the pods.
    fn used(&self) -> impl Iterator<Item = (IpAddr, &[(IpAddr, &'c Pod)])> {
        self.users.chunk_by(|a, b| a.0 == b.0).map(|pods| (pods[0].0, pods))
    }

    fn is_used(&self, address: IpAddr) -> bool {
        self.users.binary_search_by_key(&address, |(address, _)| *address).is_ok()
    }
}

/// Why not all objects of a kind are there, and what adds them.
pub fn missing(cluster: &Cluster, kind: &str) -> Option<String> {
    if let Some(count) = cluster.left_out.get(kind) {
        return Some(format!("{count} {kind} could not be read"));
    }
    let there = cluster.kinds.iter().any(|read| {
        // `projectcalico.org/v3` calls the IPAMConfig so.
        read == kind || (kind == "IPAMConfig" && read == "IPAMConfiguration")
    });
    // A case of an earlier version names the kinds of its cluster and has not kept their objects.
    let kept = match kind {
        "IPAMBlock" => !cluster.ipam.blocks.is_empty(),
        "BlockAffinity" => !cluster.ipam.affinities.is_empty(),
        "IPAMHandle" => !cluster.ipam.handles.is_empty(),
        _ => true,
    };
    (!there || !kept).then(|| format!("no {kind} in the file; add `{}`", command(kind)))
}

/// What adds the objects of a kind to the file.
fn command(kind: &str) -> String {
    let resource = match kind {
        "Node" => "nodes",
        "Pod" => return "kubectl get pods -A -o yaml".to_owned(),
        "IPPool" => "ippools",
        "IPAMBlock" => "ipamblocks",
        "BlockAffinity" => "blockaffinities",
        "IPAMHandle" => "ipamhandles",
        "IPAMConfig" => "ipamconfigs",
        "IPReservation" => "ipreservations",
        other => other,
    };
    format!("kubectl get {resource} -o yaml")
}

/// Namespace and name.
fn named(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

/// The first of many, and how many more there are.
fn few(words: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = words[..words.len().min(SHOWN)].join(", ");
    match words.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn plural(count: usize, one: &str) -> String {
    match one {
        "address" if count != 1 => format!("{count} addresses"),
        one if count == 1 => format!("1 {one}"),
        one => format!("{count} {one}s"),
    }
}

fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}
