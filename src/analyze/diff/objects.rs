//! The cluster's objects that bear on a path: policies, pools, Felix' settings, nodes, and the two pods. Takes both
//! clusters as they were read; of a kind that one of them was not asked for nothing follows.

use std::collections::BTreeMap;

use super::{Area, Diff, Side};
use crate::evidence::cluster::{Cluster, Encapsulation, Felix, IpPool, Node, Policy};

pub(super) fn compare(before: Side<'_>, after: Side<'_>, diff: &mut Diff) {
    let (Some(was), Some(is)) = (before.cluster, after.cluster) else {
        if before.cluster.is_some() || after.cluster.is_some() {
            diff.notes.push("one of the two has no objects of the cluster: they are not compared".to_owned());
        }
        return;
    };
    let on_path = |name: &str| {
        let of =
            |side: Side<'_>| side.findings.case.nodes.iter().any(|node| node.on_path && node.name == name);
        of(before) || of(after)
    };
    named(
        was,
        is,
        &["NetworkPolicy", "GlobalNetworkPolicy", "KubernetesNetworkPolicy"],
        policies,
        |_| true,
        diff,
    );
    named(was, is, &["IPPool"], pools, |_| true, diff);
    named(was, is, &["FelixConfiguration"], felix, |_| true, diff);
    named(was, is, &["Node"], nodes, on_path, diff);
    for (was_end, is_end) in [
        (&before.findings.case.from, &after.findings.case.from),
        (&before.findings.case.to, &after.findings.case.to),
    ] {
        let of = |cluster: &Cluster, name: &str| {
            let (namespace, name) = name.split_once('/')?;
            let pod = cluster.pod(namespace, name)?;
            let phase = pod.phase.as_deref().unwrap_or("unknown");
            Some(format!("{phase}{}", if pod.deleting { ", being deleted" } else { "" }))
        };
        let (was, is) = (of(was, &was_end.name), of(is, &is_end.name));
        if was != is && was_end.name == is_end.name {
            diff.push(None, Area::Object, true, (&format!("Pod {}", is_end.name), was, is));
        }
    }
}

/// Objects of some kinds, by name: those that came, went, or say something else.
fn named(
    was: &Cluster,
    is: &Cluster,
    kinds: &[&str],
    of: impl Fn(&Cluster) -> BTreeMap<String, String>,
    bears: impl Fn(&str) -> bool,
    diff: &mut Diff,
) {
    let asked = |cluster: &Cluster| cluster.kinds.iter().any(|kind| kinds.contains(&kind.as_str()));
    let (had, has) = (of(was), of(is));
    if asked(was) != asked(is) && (had.is_empty() || has.is_empty()) {
        diff.notes.push(format!("{} was read in one of the two only: it is not compared", kinds[0]));
        return;
    }
    let names: std::collections::BTreeSet<&String> = had.keys().chain(has.keys()).collect();
    for name in names {
        let (was, is) = (had.get(name).cloned(), has.get(name).cloned());
        if was != is {
            let bears = bears(name.split_once(' ').map_or(name, |(_, name)| name));
            diff.push(None, Area::Object, bears, (name, was, is));
        }
    }
}

fn policies(cluster: &Cluster) -> BTreeMap<String, String> {
    let name = |policy: &Policy| {
        let namespace =
            policy.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        format!("{} {namespace}{}", policy.kind, policy.name)
    };
    cluster.policies.iter().map(|policy| (name(policy), "there".to_owned())).collect()
}

fn pools(cluster: &Cluster) -> BTreeMap<String, String> {
    let mode = |mode: Encapsulation| match mode {
        Encapsulation::Never => "Never",
        Encapsulation::Always => "Always",
        Encapsulation::CrossSubnet => "CrossSubnet",
    };
    let words = |pool: &IpPool| {
        let disabled = if pool.disabled { ", disabled" } else { "" };
        let deleting = if pool.deleting { ", being deleted" } else { "" };
        let size = pool.block_size.map(|size| format!(", blocks of /{size}")).unwrap_or_default();
        format!(
            "{}, vxlanMode {}, ipipMode {}{size}{disabled}{deleting}",
            pool.cidr,
            mode(pool.vxlan),
            mode(pool.ipip)
        )
    };
    cluster.pools.iter().map(|pool| (format!("IPPool {}", pool.name), words(pool))).collect()
}

fn felix(cluster: &Cluster) -> BTreeMap<String, String> {
    let words = |felix: &Felix| {
        let mut all: Vec<String> = Vec::new();
        all.extend(felix.vxlan_port.map(|port| format!("vxlanPort {port}")));
        all.extend(felix.vxlan_vni.map(|vni| format!("vxlanVNI {vni}")));
        all.extend(felix.bpf.then(|| "bpfEnabled".to_owned()));
        all.extend(felix.wireguard.then(|| "wireguardEnabled".to_owned()));
        all.extend(felix.checksum_offload_broken.map(|broken| format!("ChecksumOffloadBroken={broken}")));
        if all.is_empty() { "as by default".to_owned() } else { all.join(", ") }
    };
    cluster.felix.iter().map(|(name, felix)| (format!("FelixConfiguration {name}"), words(felix))).collect()
}

fn nodes(cluster: &Cluster) -> BTreeMap<String, String> {
    let list = |addresses: &[std::net::IpAddr]| {
        let mut addresses = addresses.to_vec();
        addresses.sort_unstable();
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let words = |node: &Node| {
        let mac = node.vtep_mac.iter().chain(&node.vtep_mac_v6).map(|mac| format!(", VTEP {mac}"));
        format!("{}, tunnels {}{}", list(&node.underlay()), list(&node.tunnels), mac.collect::<String>())
    };
    cluster.nodes.iter().map(|node| (format!("Node {}", node.name), words(node))).collect()
}
