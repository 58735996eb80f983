//! All checks without a capture: along a path in both directions, on each node by itself, and of each node against
//! the others. Takes a case whose points are known, the texts read on its nodes, and the cluster's objects; gives every
//! check that could be made with what it found, and what could not be read. It reads nothing itself, so a saved
//! case is checked like a live cluster.

use super::{Fault, Side, World, firewall, local, node, path, peers};
use crate::analyze::ipam;
use crate::evidence::cluster::{Cluster, Node};
use crate::evidence::{Case, Known, Texts};

/// What the checks look at.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'g> {
    /// Nodes, and the path where there is one.
    pub case: &'g Case,
    /// What was read on the nodes.
    pub texts: &'g Texts,
    /// The cluster's objects.
    pub cluster: Option<&'g Cluster>,
}

/// What the checks found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkup {
    /// Nodes whose state was read.
    pub nodes: Vec<String>,
    /// The checks that could be made, in the order of nodes.
    pub made: Vec<Made>,
    /// What could not be read or judged, and why.
    pub unread: Vec<String>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Node; empty for what is about the cluster.
    pub node: String,
    /// What was looked at.
    pub what: String,
    /// What is not as it must be; none when all is sound.
    pub faults: Vec<Fault>,
}

/// Makes every check that the ground allows.
pub fn check(ground: &Ground<'_>) -> Checkup {
    let world = World::of(ground.case, ground.texts);
    let mut checkup = Checkup { unread: world.unread.clone(), ..Checkup::default() };
    let places: Vec<Place<'_>> = ground
        .case
        .nodes
        .iter()
        .filter(|facts| facts.on_path)
        .filter_map(|facts| Place::of(ground, &world, &facts.name))
        .collect();
    checkup.nodes = places.iter().map(|place| place.side.node.to_owned()).collect();
    let on_path = !ground.case.paths.is_empty();
    if on_path {
        path::check(ground, &world, &mut checkup);
    }
    let known = checkup.made.len();
    for place in &places {
        node::check(place, &places, &mut checkup);
        firewall::check(place, &mut checkup);
        peers::senders(place, &mut checkup);
        if !on_path {
            peers::check(place, &places, &mut checkup);
            local::check(place, &mut checkup);
        }
    }
    if on_path {
        checkup.forget_repeated(known);
    } else {
        local::owners(&places, &mut checkup);
    }
    addresses(ground, &mut checkup);
    checkup.unread.extend(unreadable_texts(ground));
    checkup.unread.sort();
    checkup.unread.dedup();
    checkup
}

/// Calico's addresses, by the cluster's objects: all, or those of the two ends.
fn addresses(ground: &Ground<'_>, checkup: &mut Checkup) {
    let Some(cluster) = ground.cluster else { return };
    let ends = [ground.case.from.address, ground.case.to.address];
    let findings = if ground.case.paths.is_empty() {
        let checked = ipam::check(cluster);
        checkup.unread.extend(checked.not_asked);
        checked.findings
    } else {
        ipam::concerning(cluster, &ends)
    };
    if cluster.kinds.iter().any(|kind| kind == "IPAMBlock") {
        let faults = findings.into_iter().map(Fault::from).collect();
        checkup.add("", "addresses: pools, blocks, leaks and double use", faults);
    }
}

/// A node that was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'g> {
    pub(super) ground: &'g Ground<'g>,
    /// Its namespace and links; the tunnel is that of IPv4.
    pub(super) side: Side<'g>,
    /// The node's object.
    pub(super) object: Option<&'g Node>,
}

impl<'g> Place<'g> {
    pub(super) fn of(ground: &'g Ground<'g>, world: &'g World, name: &'g str) -> Option<Self> {
        let seen = world.seen(name, "")?;
        let facts = ground.case.nodes.iter().find(|facts| facts.name == name)?;
        let nic = facts.addresses.iter().find_map(|address| seen.after.link_of(*address));
        let side = Side {
            node: &facts.name,
            addresses: &facts.addresses,
            host: Some(seen),
            pod: None,
            veth: None,
            tunnel: "vxlan.calico",
            nic: nic.map(|nic| nic.name.as_str()),
        };
        Some(Self { ground, side, object: ground.cluster.and_then(|cluster| cluster.node(name)) })
    }

    /// The same with the tunnel device of a family.
    pub(super) fn in_family(&self, v6: bool) -> Self {
        let tunnel = if v6 { "vxlan-v6.calico" } else { "vxlan.calico" };
        Self { side: Side { tunnel, ..self.side }, ..*self }
    }

    /// Its state.
    pub(super) fn host(&self) -> &'g crate::evidence::host::Host {
        &self.side.host.expect("a place is made of what was read").after
    }

    /// The cluster's objects, when the file holds any of a kind.
    pub(super) fn cluster_with(&self, kind: &str) -> Option<&'g Cluster> {
        self.ground.cluster.filter(|cluster| cluster.kinds.iter().any(|held| held == kind))
    }
}

impl Checkup {
    /// Every fault.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.made.iter().flat_map(|made| &made.faults)
    }

    /// Whether one of them breaks traffic.
    pub fn breaks(&self) -> bool {
        self.faults().any(|fault| fault.breaks)
    }

    /// Notes a check; one that is made twice is one.
    pub(in crate::analyze) fn add(&mut self, node: &str, what: impl Into<String>, faults: Vec<Fault>) {
        let what = what.into();
        let index = self.made.iter().position(|made| made.node == node && made.what == what);
        let index = index.unwrap_or_else(|| {
            self.made.push(Made { node: node.to_owned(), what, faults: Vec::new() });
            self.made.len() - 1
        });
        let told = &mut self.made[index].faults;
        for fault in faults {
            if !known(told, &fault) {
                told.push(fault);
            }
        }
    }

    /// Takes back what is told better elsewhere.
    pub(in crate::analyze) fn forget(&mut self, kind: &str, node: &str) {
        for made in &mut self.made {
            made.faults.retain(|fault| fault.kind != kind || fault.node != node);
        }
    }

    /// What the path's own checks have found needs no second telling by those of the node, which are from `first` on.
    fn forget_repeated(&mut self, first: usize) {
        let (path, nodes) = self.made.split_at_mut(first);
        let told = |fault: &Fault| {
            path.iter()
                .flat_map(|made| &made.faults)
                .any(|told| told.kind == fault.kind && told.node == fault.node)
        };
        for made in nodes {
            made.faults.retain(|fault| !told(fault));
        }
    }
}

/// The same thing found twice.
fn known(faults: &[Fault], fault: &Fault) -> bool {
    faults.iter().any(|one| one.kind == fault.kind && one.node == fault.node && one.summary == fault.summary)
}

/// Texts that were asked for and could not be had; the state's are in the world.
fn unreadable_texts(ground: &Ground<'_>) -> Vec<String> {
    let why = ground.texts.0.iter().filter_map(|text| match &text.content {
        Known::Unreadable(why) if !text.name.ends_with(crate::evidence::host::STATE) => {
            Some(format!("no {} of {}: {why}", text.name, text.node))
        }
        _ => None,
    });
    why.collect()
}

#[cfg(test)]
mod tests;
