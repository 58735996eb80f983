//! The cluster's objects as a trace needs them. Takes what `kubectl get … -o yaml` (or `-o json`) prints: one List,
//! several documents, or outputs appended to each other; gives typed objects and a warning for each that is not
//! what it should be. Keeps only the fields named here, so that no secret comes along. Judges nothing.

mod decode;
pub mod ipam;
mod many;
mod split;
mod yaml;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::calico::veth_name;

use self::ipam::Ipam;

/// What was read of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cluster {
    /// Kinds that the text held at all: a kind that is missing was not asked for.
    pub kinds: Vec<String>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Pods.
    pub pods: Vec<Pod>,
    /// Services.
    pub services: Vec<Service>,
    /// `EndpointSlices`.
    pub slices: Vec<EndpointSlice>,
    /// Network policies of Kubernetes and Calico, by name.
    pub policies: Vec<Policy>,
    /// Calico's IP pools.
    pub pools: Vec<IpPool>,
    /// Calico's `FelixConfigurations`, by name.
    pub felix: BTreeMap<String, Felix>,
    /// Calico's address management.
    #[serde(default)]
    pub ipam: Ipam,
    /// By kind, how many objects could not be read: what is missing may be among them.
    #[serde(default)]
    pub left_out: BTreeMap<String, u32>,
    /// By kind, what was asked for of it, where that was not all there is: nothing follows from what is missing.
    #[serde(default)]
    pub narrowed: BTreeMap<String, String>,
}

/// A Kubernetes Node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Node {
    /// Name.
    pub name: String,
    /// `status.addresses` of type `InternalIP`.
    pub addresses: Vec<IpAddr>,
    /// Annotation `projectcalico.org/IPv4Address`: address and prefix.
    pub ipv4: Option<IpNet>,
    /// Annotation `projectcalico.org/IPv6Address`.
    pub ipv6: Option<IpNet>,
    /// Tunnel addresses: annotations `IPv4VXLANTunnelAddr`, `IPv6VXLANTunnelAddr`, `IPv4IPIPTunnelAddr`.
    pub tunnels: Vec<IpAddr>,
    /// Annotation `VXLANTunnelMACAddr`, normally absent.
    pub vtep_mac: Option<String>,
    /// Annotation `VXLANTunnelMACAddrV6`.
    pub vtep_mac_v6: Option<String>,
}

/// A Pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `status.podIPs`, else `status.podIP`, else the annotation `cni.projectcalico.org/podIPs`.
    pub addresses: Vec<IpAddr>,
    /// `status.phase`.
    pub phase: Option<String>,
    /// It is being deleted: its address may be free already.
    #[serde(default)]
    pub deleting: bool,
    /// Labels: which workload it belongs to, and Calico's own; as one of them what its `WorkloadEndpoint` calls its interface.
    pub labels: BTreeMap<String, String>,
    /// Kind and name of the owner that controls it.
    #[serde(default)]
    pub owner: Option<(String, String)>,
}

/// What runs several pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// `deploy/`: its pods belong to a `ReplicaSet` of it.
    Deployment,
    /// `ds/`.
    DaemonSet,
    /// `sts/`.
    StatefulSet,
    /// `rs/`.
    ReplicaSet,
    /// `job/`.
    Job,
}

impl WorkloadKind {
    /// As kubectl abbreviates it.
    pub fn read(word: &str) -> Option<Self> {
        Some(match word {
            "deploy" | "deployment" | "deployments" => Self::Deployment,
            "ds" | "daemonset" | "daemonsets" => Self::DaemonSet,
            "sts" | "statefulset" | "statefulsets" => Self::StatefulSet,
            "rs" | "replicaset" | "replicasets" => Self::ReplicaSet,
            "job" | "jobs" => Self::Job,
            _ => return None,
        })
    }

    /// Its `kind`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
            Self::StatefulSet => "StatefulSet",
            Self::ReplicaSet => "ReplicaSet",
            Self::Job => "Job",
        }
    }
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `spec.clusterIPs` without "None", then `spec.externalIPs` and `status.loadBalancer.ingress`.
    pub addresses: Vec<IpAddr>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServicePort {
    /// Name.
    pub name: Option<String>,
    /// `TCP`, `UDP`, `SCTP`.
    pub protocol: String,
    /// Port.
    pub port: u16,
}

/// An `EndpointSlice`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// Namespace.
    pub namespace: String,
    /// The Service it belongs to: label `kubernetes.io/service-name`.
    pub service: Option<String>,
    /// Endpoints: address and whether it is ready.
    pub endpoints: Vec<(IpAddr, bool)>,
    /// Ports by name.
    pub ports: Vec<(Option<String>, u16)>,
}

/// A policy's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// `KubernetesNetworkPolicy`, `NetworkPolicy` (Calico's), `GlobalNetworkPolicy`.
    pub kind: String,
    /// Namespace; None for global ones.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

/// A Calico `IPPool`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpPool {
    /// Name.
    pub name: String,
    /// Addresses.
    pub cidr: IpNet,
    /// `spec.vxlanMode`.
    pub vxlan: Encapsulation,
    /// `spec.ipipMode`.
    pub ipip: Encapsulation,
    /// `spec.blockSize`: the length of a block's prefix.
    #[serde(default)]
    pub block_size: Option<u8>,
    /// `spec.disabled`: no new addresses.
    #[serde(default)]
    pub disabled: bool,
    /// `spec.nodeSelector`, as written.
    #[serde(default)]
    pub node_selector: String,
    /// `spec.allowedUses`; empty is all.
    #[serde(default)]
    pub allowed_uses: Vec<String>,
    /// `spec.assignmentMode` Manual: only for those who ask for it.
    #[serde(default)]
    pub manual: bool,
    /// It is being deleted.
    #[serde(default)]
    pub deleting: bool,
}

/// When packets are encapsulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Encapsulation {
    /// Never.
    #[default]
    Never,
    /// Always.
    Always,
    /// Between nodes that are not in one subnet.
    CrossSubnet,
}

/// Of a Calico `FelixConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Felix {
    /// `spec.vxlanPort`.
    pub vxlan_port: Option<u16>,
    /// `spec.vxlanVNI`.
    pub vxlan_vni: Option<u32>,
    /// `spec.bpfEnabled`.
    pub bpf: bool,
    /// `spec.wireguardEnabled`.
    pub wireguard: bool,
    /// `ChecksumOffloadBroken` in `spec.featureDetectOverride`: whether Felix is to switch the tunnel's offload off.
    #[serde(default)]
    pub checksum_offload_broken: Option<bool>,
}

/// The text is not what kubectl prints.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Neither YAML nor JSON.
    #[error(
        "object {number} of the text is not valid {form}: {why}; the file should be what `kubectl get … -o yaml` prints"
    )]
    Syntax {
        /// Which document, from 1.
        number: usize,
        /// YAML or JSON.
        form: &'static str,
        /// What the parser said.
        why: String,
    },
    /// No object at all.
    #[error(
        "the text holds no Kubernetes object; make it with `kubectl get nodes,pods,services,endpointslices -A -o yaml`"
    )]
    Empty,
}

impl Cluster {
    /// Reads kubectl's output. The second part says what was left out of it and why.
    ///
    /// # Errors
    ///
    /// When the text is no YAML or JSON, or holds no object.
    pub fn parse(text: &str) -> Result<(Self, Vec<String>), ClusterError> {
        let (mut cluster, warnings) = many::decode(text)?;
        if cluster.kinds.is_empty() {
            return Err(ClusterError::Empty);
        }
        cluster.once();
        Ok((cluster, warnings))
    }

    /// Adds one object of the API. What is wrong with it is said in `warnings`.
    pub fn add(&mut self, object: &Value, warnings: &mut Vec<String>) {
        decode::take(self, &split::Item::Parsed(object.clone()), warnings);
    }

    /// Notes that a kind was asked for: all there is of it, or what `narrowed` says.
    pub fn note(&mut self, kind: &str, narrowed: Option<&str>) {
        let known = self.kinds.iter().any(|known| known == kind);
        match narrowed {
            None => drop(self.narrowed.remove(kind)),
            Some(words) if !known => drop(self.narrowed.insert(kind.to_owned(), words.to_owned())),
            // What was there before may have been all.
            Some(_) => {}
        }
        if !known {
            self.kinds.push(kind.to_owned());
        }
    }

    /// Takes back that a kind was asked for: the answer did not come.
    pub fn forget(&mut self, kind: &str) {
        self.kinds.retain(|known| known != kind);
        self.narrowed.remove(kind);
    }

    /// The pods of a workload.
    pub fn pods_of(&self, kind: WorkloadKind, namespace: &str, name: &str) -> impl Iterator<Item = &Pod> {
        let owned = move |pod: &Pod| match kind {
            // One of a Deployment can be asked for, too.
            WorkloadKind::ReplicaSet => {
                pod.owner.as_ref().is_some_and(|(kind, own)| kind == "ReplicaSet" && own == name)
            }
            _ => pod.workload() == Some((kind, name)),
        };
        let of = move |pod: &&Pod| pod.namespace == namespace && !pod.is_over() && owned(pod);
        self.pods.iter().filter(of)
    }

    /// Adds the objects of another part.
    pub fn append(&mut self, part: Self) {
        many::append(self, part);
    }

    /// A `WorkloadEndpoint` is read as a pod without a state: what it calls the interface is the pod's.
    fn take_interfaces(&mut self) {
        let mut interfaces = BTreeMap::new();
        self.pods.retain_mut(|pod| {
            let is_pod =
                !pod.labels.contains_key(INTERFACE) || pod.phase.is_some() || !pod.addresses.is_empty();
            if !is_pod {
                let labels = std::mem::take(&mut pod.labels);
                interfaces.insert((pod.namespace.clone(), pod.name.clone()), labels);
            }
            is_pod
        });
        for pod in &mut self.pods {
            if let Some(interface) = interfaces.get(&(pod.namespace.clone(), pod.name.clone())) {
                pod.labels.extend(interface.clone());
            }
        }
    }

    /// Keeps the first of objects that appended outputs, or both of Calico's API groups, gave twice.
    pub fn once(&mut self) {
        self.take_interfaces();
        let mut seen = FxHashSet::default();
        self.nodes.retain(|node| seen.insert(node.name.clone()));
        let mut seen = FxHashSet::default();
        self.pods.retain(|pod| seen.insert((pod.namespace.clone(), pod.name.clone())));
        let mut seen = FxHashSet::default();
        self.pools.retain(|pool| seen.insert(pool.name.clone()));
        let mut seen = FxHashSet::default();
        self.services.retain(|service| seen.insert((service.namespace.clone(), service.name.clone())));
        let mut seen = FxHashSet::default();
        self.policies.retain(|one| seen.insert((one.kind.clone(), one.namespace.clone(), one.name.clone())));
        let mut seen = FxHashSet::default();
        self.ipam.blocks.retain(|block| seen.insert(block.cidr));
        let mut seen = FxHashSet::default();
        self.ipam.affinities.retain(|affinity| seen.insert((affinity.cidr, affinity.node.clone())));
        let mut seen = FxHashSet::default();
        self.ipam.handles.retain(|handle| seen.insert(handle.id.clone()));
        let mut seen = FxHashSet::default();
        self.ipam.reservations.retain(|reservation| seen.insert(reservation.name.clone()));
    }

    /// For a saved case: exactly what was read.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("maps with text keys")
    }

    /// From a saved case.
    ///
    /// # Errors
    ///
    /// When it is not what [`Cluster::to_json`] made.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// A pod by namespace and name.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.namespace == namespace && pod.name == name)
    }

    /// The running pod that has an address of its own.
    pub fn pod_of(&self, address: IpAddr) -> Option<&Pod> {
        self.pods.iter().find(|pod| !pod.host_network && !pod.is_over() && pod.addresses.contains(&address))
    }

    /// The Service that an address stands for.
    pub fn service_of(&self, address: IpAddr) -> Option<&Service> {
        self.services.iter().find(|service| service.addresses.contains(&address))
    }

    /// The other port that packets to `port` bear on their way through a Service: behind its translation, or before it. None when
    /// none of `services` (addresses) leads to `endpoint`, or they keep the port.
    pub fn translated_port(&self, services: &[IpAddr], endpoint: IpAddr, port: u16) -> Option<u16> {
        let services =
            self.services.iter().filter(|service| service.addresses.iter().any(|own| services.contains(own)));
        let mut pairs = services.flat_map(|service| {
            let own = move |slice: &&EndpointSlice| {
                slice.namespace == service.namespace
                    && slice.service.as_deref() == Some(&service.name)
                    && slice.endpoints.iter().any(|(address, _)| *address == endpoint)
            };
            let slices = self.slices.iter().filter(own);
            slices.flat_map(|slice| {
                let with_target = |port: &ServicePort| Some((port.port, slice.port(port)?));
                service.ports.iter().filter_map(with_target)
            })
        });
        pairs.find_map(|(before, behind)| match (before == port, behind == port) {
            (true, false) => Some(behind),
            (false, true) => Some(before),
            _ => None,
        })
    }

    /// A Service by namespace and name.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.namespace == namespace && service.name == name)
    }

    /// The addresses of a Service's endpoints that are ready, each with the slice that has it.
    pub fn ready_endpoints(&self, service: &Service) -> impl Iterator<Item = (IpAddr, &EndpointSlice)> {
        let own = move |slice: &&EndpointSlice| {
            slice.namespace == service.namespace && slice.service.as_deref() == Some(&service.name)
        };
        let all = self.slices.iter().filter(own);
        let all = all.flat_map(|slice| slice.endpoints.iter().map(move |endpoint| (endpoint, slice)));
        all.filter(|((_, ready), _)| *ready).map(|((address, _), slice)| (*address, slice))
    }

    /// The node that has an address, on the underlay or of a tunnel.
    pub fn node_of(&self, address: IpAddr) -> Option<&Node> {
        self.nodes.iter().find(|node| node.underlay().contains(&address) || node.tunnels.contains(&address))
    }
}

impl Service {
    /// The ports that a number or a name stands for: several when one number is of several protocols.
    pub fn ports_called(&self, typed: &str) -> impl Iterator<Item = &ServicePort> {
        let called =
            move |port: &&ServicePort| port.port.to_string() == typed || port.name.as_deref() == Some(typed);
        self.ports.iter().filter(called)
    }
}

impl ServicePort {
    /// The protocol's number.
    pub fn number(&self) -> Option<u8> {
        match self.protocol.as_str() {
            "TCP" => Some(6),
            "UDP" => Some(17),
            "SCTP" => Some(132),
            _ => None,
        }
    }
}

impl EndpointSlice {
    /// The number that a port of its Service has at its endpoints. The only port of a Service may have no name, which a slice
    /// writes as an empty one.
    pub fn port(&self, port: &ServicePort) -> Option<u16> {
        let name = |name: &Option<String>| name.as_deref().unwrap_or_default().to_owned();
        self.ports.iter().find(|(own, _)| name(own) == name(&port.name)).map(|(_, number)| *number)
    }
}

impl Node {
    /// Its addresses on the underlay, each once: Kubernetes' own first, by which it is reached, then Calico's.
    pub fn underlay(&self) -> Vec<IpAddr> {
        let calico = [self.ipv4, self.ipv6].into_iter().flatten().map(|net| net.addr());
        let mut all: Vec<IpAddr> = Vec::new();
        for address in self.addresses.iter().copied().chain(calico) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    /// Where its traffic with other nodes starts and ends: Calico's address of the family, which is the tunnel's local
    /// one, else Kubernetes'.
    pub fn tunnel_end(&self, v6: bool) -> Option<IpAddr> {
        let calico = if v6 { self.ipv6 } else { self.ipv4 };
        let own = || self.addresses.iter().copied().find(|address| address.is_ipv6() == v6);
        calico.map(|net| net.addr()).or_else(own)
    }
}

/// The label of a pod's interface.
const INTERFACE: &str = "interfaceName";

impl Pod {
    /// The host end of its veth pair: as a `WorkloadEndpoint` names it, else as Calico's plugin makes it by itself.
    pub fn veth(&self) -> String {
        let named = self.labels.get(INTERFACE).cloned();
        named.unwrap_or_else(|| veth_name(&self.namespace, &self.name))
    }

    /// Whether its containers run.
    pub fn is_running(&self) -> bool {
        self.phase.as_deref() == Some("Running")
    }

    /// The workload that it belongs to. A Deployment's pod belongs to a `ReplicaSet` whose name is the Deployment's and
    /// the hash that the pod has as label.
    pub fn workload(&self) -> Option<(WorkloadKind, &str)> {
        let (kind, name) = self.owner.as_ref()?;
        let hash = self.labels.get("pod-template-hash").map(String::as_str).unwrap_or_default();
        Some(match kind.as_str() {
            "ReplicaSet" => match name.strip_suffix(hash).and_then(|rest| rest.strip_suffix('-')) {
                Some(deployment) if !hash.is_empty() => (WorkloadKind::Deployment, deployment),
                _ => (WorkloadKind::ReplicaSet, name),
            },
            "DaemonSet" => (WorkloadKind::DaemonSet, name),
            "StatefulSet" => (WorkloadKind::StatefulSet, name),
            "Job" => (WorkloadKind::Job, name),
            _ => return None,
        })
    }

    /// Whether it has ended: its address may be somebody else's.
    pub fn is_over(&self) -> bool {
        matches!(self.phase.as_deref(), Some("Succeeded" | "Failed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployments_replica_set_has_the_same_pods() {
        let pod = "kind: Pod\nmetadata: {name: web-5c9f-x, namespace: shop, labels: {pod-template-hash: 5c9f}, \
                   ownerReferences: [{kind: ReplicaSet, name: web-5c9f, controller: true}]}";
        let (cluster, _) = Cluster::parse(pod).unwrap();
        let count = |kind, name| cluster.pods_of(kind, "shop", name).count();
        assert_eq!(count(WorkloadKind::Deployment, "web"), 1);
        assert_eq!(count(WorkloadKind::ReplicaSet, "web-5c9f"), 1);
        assert_eq!(count(WorkloadKind::ReplicaSet, "web"), 0);
    }

    const APPENDED: &str = "\
apiVersion: v1
items:
- apiVersion: v1
  kind: Node
  metadata:
    name: worker-1
    annotations:
      projectcalico.org/IPv4Address: 192.168.50.11/24
      projectcalico.org/IPv4VXLANTunnelAddr: 10.244.1.0
  status:
    addresses:
    - {type: InternalIP, address: 192.168.50.11}
    - {type: Hostname, address: worker-1}
- apiVersion: v1
  kind: Pod
  metadata: {name: client, namespace: default, labels: {app: a}}
  spec: {nodeName: worker-1}
  status: {phase: Running, podIPs: [{ip: 10.244.1.2}, {ip: 'fd00::2'}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: [not, a, name]}
kind: List
apiVersion: v1
items:
- apiVersion: crd.projectcalico.org/v1
  kind: IPPool
  metadata: {name: p}
  spec: {cidr: 10.244.0.0/16, vxlanMode: CrossSubnet}
kind: List
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
";

    #[test]
    fn reads_appended_lists_and_documents() {
        let (cluster, warnings) = Cluster::parse(APPENDED).unwrap();
        assert_eq!(cluster.nodes[0].underlay(), ["192.168.50.11".parse::<IpAddr>().unwrap()]);
        assert_eq!(cluster.nodes[0].tunnels, ["10.244.1.0".parse::<IpAddr>().unwrap()]);
        assert_eq!(cluster.pods[0].addresses.len(), 2);
        assert_eq!(cluster.pools[0].vxlan, Encapsulation::CrossSubnet);
        assert_eq!(cluster.policies[0].kind, "KubernetesNetworkPolicy");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("Pod"), "{warnings:?}");
        assert_eq!(Cluster::from_json(&cluster.to_json()).unwrap(), cluster);
    }

    #[test]
    fn reads_json_after_json() {
        let one = r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Service",
            "metadata":{"name":"s","namespace":"d"},"spec":{"clusterIPs":["10.96.0.10"],"ports":[{"port":80}]}}]}"#;
        let other = one.replace(r#""name":"s""#, r#""name":"t""#);
        let (cluster, warnings) = Cluster::parse(&format!("{one}\n{other}\n{one}")).unwrap();
        assert_eq!((cluster.services.len(), warnings.len()), (2, 0));
        assert_eq!(cluster.services[0].ports[0].protocol, "TCP");
    }

    #[test]
    fn a_service_stands_for_its_external_addresses_too() {
        let text = r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"s","namespace":"d"},
            "spec":{"clusterIP":"10.96.0.10","clusterIPs":["10.96.0.10","fd00::a"],"externalIPs":["192.0.2.1"]},
            "status":{"loadBalancer":{"ingress":[{"hostname":"lb.example"},{"ip":"192.0.2.2"}]}}}"#;
        let (cluster, warnings) = Cluster::parse(text).unwrap();
        let addresses: Vec<String> = cluster.services[0].addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            (addresses.join(" "), warnings.len()),
            ("10.96.0.10 fd00::a 192.0.2.1 192.0.2.2".into(), 0)
        );
    }

    #[test]
    fn says_what_is_no_cluster() {
        assert!(matches!(Cluster::parse(""), Err(ClusterError::Empty)));
        assert!(matches!(Cluster::parse("a: [b"), Err(ClusterError::Syntax { number: 1, .. })));
        assert!(matches!(Cluster::parse("{\"a\":"), Err(ClusterError::Syntax { form: "JSON", .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _whatever = Cluster::parse(&text);
        }
    }
}
