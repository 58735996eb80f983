//! The cluster's objects. In: what was read of a cluster. Out: the same objects under other names and addresses, without labels but
//! those that tell which workload a pod belongs to. The ordinals of a block's addresses move with the addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::evidence::cluster::ipam::{Affinity, Attribute, Ipam, IpamBlock, Version};
use crate::evidence::cluster::{Cluster, EndpointSlice, IpPool, Node, Pod, Policy, Service};

use super::Redactor;
use super::key::{HEX, Purpose};
use super::names::Class;
use super::words::{mac, mac_text};

impl Redactor {
    /// The cluster anew.
    #[must_use]
    pub fn cluster(&mut self, cluster: &Cluster) -> Cluster {
        let narrowed = cluster.narrowed.iter();
        Cluster {
            kinds: cluster.kinds.iter().map(|kind| self.kind(kind)).collect(),
            nodes: cluster.nodes.iter().map(|node| self.node(node)).collect(),
            pods: cluster.pods.iter().map(|pod| self.pod(pod)).collect(),
            services: cluster.services.iter().map(|service| self.service(service)).collect(),
            slices: cluster.slices.iter().map(|slice| self.slice(slice)).collect(),
            policies: cluster.policies.iter().map(|policy| self.policy(policy)).collect(),
            pools: cluster.pools.iter().map(|pool| self.pool(pool)).collect(),
            felix: cluster.felix.iter().map(|(name, felix)| (self.felix_name(name), felix.clone())).collect(),
            ipam: self.ipam(&cluster.ipam),
            left_out: cluster.left_out.iter().map(|(kind, count)| (self.kind(kind), *count)).collect(),
            narrowed: narrowed.map(|(kind, words)| (self.kind(kind), self.sentence(words))).collect(),
        }
    }

    /// A kind that the case may hold; another one's name may tell of the site.
    fn kind(&mut self, kind: &str) -> String {
        const KINDS: &[&str] = &[
            "Node",
            "Pod",
            "Service",
            "EndpointSlice",
            "NetworkPolicy",
            "GlobalNetworkPolicy",
            "IPPool",
            "FelixConfiguration",
            "IPAMConfig",
            "IPAMConfiguration",
            "IPAMBlock",
            "BlockAffinity",
            "IPAMHandle",
            "IPReservation",
            "ClusterNetworkPolicy",
        ];
        if KINDS.contains(&kind) { kind.to_owned() } else { self.names.of(Class::Object, kind) }
    }

    fn node(&mut self, node: &Node) -> Node {
        let derived = |text: &String| mac(text).map(|mac| mac_text(self.addresses.mac(mac)));
        let (vtep_mac, vtep_mac_v6) =
            (node.vtep_mac.as_ref().and_then(derived), node.vtep_mac_v6.as_ref().and_then(derived));
        Node {
            name: self.names.node(&node.name),
            addresses: self.all(&node.addresses),
            ipv4: node.ipv4.map(|at| self.addresses.with_prefix(at)),
            ipv6: node.ipv6.map(|at| self.addresses.with_prefix(at)),
            tunnels: self.all(&node.tunnels),
            vtep_mac,
            vtep_mac_v6,
        }
    }

    fn pod(&mut self, pod: &Pod) -> Pod {
        let hash = pod.labels.get(HASH).filter(|hash| !hash.is_empty());
        let mut labels = BTreeMap::new();
        if let Some(hash) = hash {
            labels.insert(HASH.to_owned(), self.key.word(Purpose::Hashed, hash, 10, HEX));
        }
        // How Calico's own pods are found.
        if pod.labels.get("k8s-app").is_some_and(|app| app == "calico-node") {
            labels.insert("k8s-app".to_owned(), "calico-node".to_owned());
        }
        let owner = pod.owner.as_ref().map(|(kind, name)| {
            let of_deployment = hash.and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            let name = match (of_deployment, labels.get(HASH)) {
                (Some(own), Some(hash)) => {
                    format!("{}-{hash}", self.names.within(Class::Workload, &pod.namespace, own))
                }
                _ => self.names.within(Class::Workload, &pod.namespace, name),
            };
            let known = ["ReplicaSet", "DaemonSet", "StatefulSet", "Job", "Node"].contains(&kind.as_str());
            (if known { kind.clone() } else { self.names.of(Class::Object, kind) }, name)
        });
        Pod {
            name: self.names.pod(&pod.namespace, &pod.name),
            namespace: self.names.namespace(&pod.namespace),
            node: pod.node.as_ref().map(|node| self.names.node(node)),
            host_network: pod.host_network,
            addresses: self.all(&pod.addresses),
            phase: pod.phase.as_ref().map(|phase| self.sentence(phase)),
            deleting: pod.deleting,
            labels,
            owner,
        }
    }

    fn service(&mut self, service: &Service) -> Service {
        let mut ports = service.ports.clone();
        for port in &mut ports {
            port.name = port.name.as_ref().map(|name| self.port(name));
            port.protocol = self.word(&port.protocol.to_ascii_lowercase()).to_ascii_uppercase();
        }
        Service {
            name: self.names.within(Class::Service, &service.namespace, &service.name),
            namespace: self.names.namespace(&service.namespace),
            addresses: self.all(&service.addresses),
            ports,
        }
    }

    fn slice(&mut self, slice: &EndpointSlice) -> EndpointSlice {
        let service = slice.service.as_ref();
        let ports = slice.ports.iter();
        EndpointSlice {
            service: service.map(|service| self.names.within(Class::Service, &slice.namespace, service)),
            namespace: self.names.namespace(&slice.namespace),
            endpoints: slice
                .endpoints
                .iter()
                .map(|(address, ready)| (self.addresses.ip(*address), *ready))
                .collect(),
            ports: ports.map(|(name, port)| (name.as_ref().map(|name| self.port(name)), *port)).collect(),
        }
    }

    fn policy(&mut self, policy: &Policy) -> Policy {
        Policy {
            kind: self.sentence(&policy.kind),
            name: self.names.policy(policy.namespace.as_deref(), &policy.name),
            namespace: policy.namespace.as_ref().map(|namespace| self.names.namespace(namespace)),
        }
    }

    fn pool(&mut self, pool: &IpPool) -> IpPool {
        let uses = ["Workload", "Tunnel", "LoadBalancer", "HostSecondaryInterface"];
        let everyone = pool.selects_all_nodes();
        IpPool {
            name: self.names.of(Class::Pool, &pool.name),
            cidr: self.addresses.net(pool.cidr),
            // Which nodes cannot be told any more: their labels are not in a case.
            node_selector: if everyone { pool.node_selector.clone() } else { "(redacted)".to_owned() },
            allowed_uses: pool
                .allowed_uses
                .iter()
                .filter(|name| uses.contains(&name.as_str()))
                .cloned()
                .collect(),
            ..pool.clone()
        }
    }

    /// `default`, `node.NAME`.
    fn felix_name(&mut self, name: &str) -> String {
        match name.strip_prefix("node.") {
            Some(node) => format!("node.{}", self.names.node(node)),
            None if name == "default" => name.to_owned(),
            None => self.names.of(Class::Object, name),
        }
    }

    fn ipam(&mut self, ipam: &Ipam) -> Ipam {
        let mut affinities = ipam.affinities.clone();
        for affinity in &mut affinities {
            affinity.name = self.names.of(Class::Object, &affinity.name);
            affinity.cidr = self.addresses.net(affinity.cidr);
            affinity.node = self.names.node(&affinity.node);
            affinity.state = match affinity.state.as_str() {
                known @ ("pending" | "confirmed" | "pendingDeletion" | "") => known.to_owned(),
                other => self.names.of(Class::Word, other),
            };
        }
        let mut handles = ipam.handles.clone();
        for handle in &mut handles {
            handle.id = self.handle(&handle.id);
            handle.version = Version::default();
            for (cidr, _) in &mut handle.blocks {
                *cidr = self.addresses.net(*cidr);
            }
        }
        let mut reservations = ipam.reservations.clone();
        for reservation in &mut reservations {
            reservation.name = self.names.of(Class::Object, &reservation.name);
            for cidr in &mut reservation.cidrs {
                *cidr = self.addresses.net(*cidr);
            }
        }
        Ipam {
            blocks: ipam.blocks.iter().map(|block| self.block(block)).collect(),
            affinities,
            handles,
            config: ipam.config.clone(),
            reservations,
        }
    }

    fn block(&mut self, block: &IpamBlock) -> IpamBlock {
        let cidr = self.addresses.net(block.cidr);
        let count = block.allocations.len();
        let mut moved: BTreeMap<usize, usize> = BTreeMap::new();
        for ordinal in 0..count {
            let to = nth(block.cidr, ordinal)
                .map(|address| self.addresses.ip(address))
                .and_then(|address| ordinal_of(cidr, address))
                .filter(|to| *to < count);
            moved.insert(ordinal, to.unwrap_or(ordinal));
        }
        let mut allocations = vec![None; count];
        for (from, to) in &moved {
            allocations[*to] = block.allocations[*from];
        }
        let unallocated = block.unallocated.iter().map(|ordinal| {
            let to = usize::try_from(*ordinal).ok().and_then(|ordinal| moved.get(&ordinal));
            to.and_then(|to| u32::try_from(*to).ok()).unwrap_or(*ordinal)
        });
        IpamBlock {
            name: dashed(cidr),
            version: Version::default(),
            cidr,
            affinity: match &block.affinity {
                Affinity::Node(node) => Affinity::Node(self.names.node(node)),
                Affinity::Other(other) if other == "virtual:load-balancer" => Affinity::Other(other.clone()),
                Affinity::Other(other) => Affinity::Other(self.names.of(Class::Object, other)),
                Affinity::Nobody => Affinity::Nobody,
            },
            allocations,
            attributes: block.attributes.iter().map(|attribute| self.attribute(attribute)).collect(),
            unallocated: unallocated.collect(),
            deleted: block.deleted,
        }
    }

    fn attribute(&mut self, attribute: &Attribute) -> Attribute {
        let namespace = attribute.namespace.as_deref().unwrap_or_default();
        let within = |this: &mut Self, class, name: &Option<String>| {
            name.as_ref().map(|name| this.names.within(class, namespace, name))
        };
        let stamp = |text: &Option<String>| {
            let fits = |c: char| c.is_ascii_digit() || " :-+.TZUCm=".contains(c);
            text.clone().filter(|text| text.chars().all(fits))
        };
        Attribute {
            handle: attribute.handle.as_ref().map(|handle| self.handle(handle)),
            pod: within(self, Class::Pod, &attribute.pod),
            service: within(self, Class::Service, &attribute.service),
            namespace: attribute.namespace.as_ref().map(|namespace| self.names.namespace(namespace)),
            node: attribute.node.as_ref().map(|node| self.names.node(node)),
            kind: attribute.kind.as_ref().map(|kind| match kind.as_str() {
                known @ ("vxlanTunnelAddress"
                | "vxlanV6TunnelAddress"
                | "ipipTunnelAddress"
                | "wireguardTunnelAddress"
                | "wireguardV6TunnelAddress") => known.to_owned(),
                other => self.names.of(Class::Word, other),
            }),
            timestamp: stamp(&attribute.timestamp),
            released: stamp(&attribute.released),
        }
    }

    /// `vxlan-tunnel-addr-NODE`, `k8s-pod-network.HASH`.
    fn handle(&mut self, handle: &str) -> String {
        if handle.eq_ignore_ascii_case("windows-reserved-ipam-handle") {
            return handle.to_owned();
        }
        if let Some((kind, node)) = handle.split_once("-tunnel-addr-")
            && matches!(kind, "vxlan" | "vxlan-v6" | "ipip" | "wireguard" | "wireguard-v6")
        {
            return format!("{kind}-tunnel-addr-{}", self.names.node(node));
        }
        if let Some(container) = handle.strip_prefix("k8s-pod-network.") {
            let container: String = (0..2)
                .map(|half| self.key.word(Purpose::Hashed, &format!("{half}{container}"), 32, HEX))
                .collect();
            return format!("k8s-pod-network.{container}");
        }
        self.names.of(Class::Object, handle)
    }

    fn all(&mut self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        addresses.iter().map(|address| self.addresses.ip(*address)).collect()
    }
}

/// The address of that number in a block.
fn nth(cidr: IpNet, ordinal: usize) -> Option<IpAddr> {
    let ordinal = u128::try_from(ordinal).ok()?;
    match cidr.network() {
        IpAddr::V4(first) => {
            u32::from(first).checked_add(u32::try_from(ordinal).ok()?).map(|bits| IpAddr::V4(bits.into()))
        }
        IpAddr::V6(first) => u128::from(first).checked_add(ordinal).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// The number of an address in a block.
fn ordinal_of(cidr: IpNet, address: IpAddr) -> Option<usize> {
    match (cidr.network(), address) {
        (IpAddr::V4(first), IpAddr::V4(own)) => {
            u32::from(own).checked_sub(first.into()).map(|ordinal| ordinal as usize)
        }
        (IpAddr::V6(first), IpAddr::V6(own)) => {
            usize::try_from(u128::from(own).checked_sub(first.into())?).ok()
        }
        _ => None,
    }
}

/// How Calico names a block: `10-244-1-0-26`.
fn dashed(cidr: IpNet) -> String {
    cidr.to_string().replace(['.', ':', '/'], "-")
}

/// The label that is the end of the name of a Deployment's `ReplicaSet`.
const HASH: &str = "pod-template-hash";
