//! One object into the cluster. A field of the wrong type costs its object, with a warning; an unknown kind is passed
//! over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::split::Item;
use super::{Cluster, EndpointSlice, Felix, INTERFACE, Node, Pod, Policy, Service, ServicePort, ipam};

/// Adds one object.
pub(super) fn take(cluster: &mut Cluster, object: &Item<'_>, warnings: &mut Vec<String>) {
    let (kind, version) = object.kind();
    if kind.is_empty() {
        warnings.push("an object without a kind was left out".to_owned());
        return;
    }
    let mut remarks = Vec::new();
    let done = if version.contains("projectcalico.org") {
        calico(cluster, &kind, object, &mut remarks)
    } else {
        kubernetes(cluster, &kind, object)
    };
    if !cluster.kinds.contains(&kind) {
        cluster.kinds.push(kind.clone());
    }
    if done.is_err() || !remarks.is_empty() {
        let name = object.name();
        warnings.extend(remarks.into_iter().map(|remark| format!("{kind} {name}: {remark}")));
        if let Err(why) = done {
            warnings.push(format!("{kind} {name} was left out: {why}"));
            *cluster.left_out.entry(kind).or_default() += 1;
        }
    }
}

fn kubernetes(cluster: &mut Cluster, kind: &str, object: &Item<'_>) -> Result<(), String> {
    match kind {
        "Node" => decode(object, node).map(|node| cluster.nodes.push(node)),
        "Pod" => decode(object, pod).map(|pod| cluster.pods.push(pod)),
        "Service" => decode(object, service).map(|service| cluster.services.push(service)),
        "EndpointSlice" => decode(object, slice).map(|slice| cluster.slices.push(slice)),
        "NetworkPolicy" => decode(object, |o: Object<Value>| policy("KubernetesNetworkPolicy", o))
            .map(|p| cluster.policies.push(p)),
        _ => Ok(()),
    }
}

fn calico(
    cluster: &mut Cluster,
    kind: &str,
    object: &Item<'_>,
    remarks: &mut Vec<String>,
) -> Result<(), String> {
    let all = &mut cluster.ipam;
    match kind {
        "NetworkPolicy" | "GlobalNetworkPolicy" => {
            decode(object, |o: Object<Value>| policy(kind, o)).map(|p| cluster.policies.push(p))
        }
        "FelixConfiguration" => decode(object, felix).map(|(name, felix)| {
            cluster.felix.insert(name, felix);
        }),
        "IPPool" => decode(object, |o| ipam::pool(o, remarks)).map(|pool| cluster.pools.push(pool)),
        "IPAMBlock" => decode(object, |o| ipam::block(o, remarks)).map(|block| all.blocks.push(block)),
        "BlockAffinity" => decode(object, |o| ipam::affinity(o, remarks)).map(|one| all.affinities.push(one)),
        "IPAMHandle" => decode(object, |o| ipam::handle(o, remarks)).map(|one| all.handles.push(one)),
        "IPAMConfig" | "IPAMConfiguration" => {
            decode(object, |o| ipam::config(o, remarks)).map(|config| all.config = Some(config))
        }
        "WorkloadEndpoint" => decode(object, endpoint).map(|one| cluster.pods.extend(one)),
        "IPReservation" => decode(object, ipam::reservation).map(|one| all.reservations.push(one)),
        _ => Ok(()),
    }
}

fn decode<'v, S: Deserialize<'v>, T>(
    object: &'v Item<'_>,
    turn: impl FnOnce(S) -> Result<T, String>,
) -> Result<T, String> {
    object.read().and_then(turn)
}

#[derive(Deserialize)]
pub(super) struct Object<S> {
    pub(super) metadata: Metadata,
    pub(super) spec: Option<S>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    namespace: Option<String>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) deletion_timestamp: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    owner_references: Option<Vec<Owner>>,
}

#[derive(Deserialize)]
struct Owner {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    controller: bool,
}

impl Metadata {
    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn namespace(&self) -> String {
        self.namespace.clone().unwrap_or_else(|| "default".to_owned())
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.split('/').next().unwrap_or(text);
    bare.parse().map_err(|_| format!("{text} is not an IP address"))
}

pub(super) fn net(text: &str) -> Result<IpNet, String> {
    let alone = |_| text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(alone).map_err(|_| format!("{text} is not a prefix or an IP address"))
}

#[derive(Deserialize)]
struct NodeObject {
    metadata: Metadata,
    status: Option<NodeStatus>,
}

#[derive(Deserialize)]
struct NodeStatus {
    #[serde(default)]
    addresses: Vec<NodeAddress>,
}

#[derive(Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

fn node(object: NodeObject) -> Result<Node, String> {
    let of = |name: &str| object.metadata.annotation(&format!("projectcalico.org/{name}"));
    let tunnels = ["IPv4VXLANTunnelAddr", "IPv6VXLANTunnelAddr", "IPv4IPIPTunnelAddr"];
    let internal =
        object.status.iter().flat_map(|status| &status.addresses).filter(|a| a.kind == "InternalIP");
    Ok(Node {
        addresses: internal.map(|a| address(&a.address)).collect::<Result<_, _>>()?,
        ipv4: of("IPv4Address").map(net).transpose()?,
        ipv6: of("IPv6Address").map(net).transpose()?,
        tunnels: tunnels.into_iter().filter_map(of).map(address).collect::<Result<_, _>>()?,
        vtep_mac: of("VXLANTunnelMACAddr").map(str::to_owned),
        vtep_mac_v6: of("VXLANTunnelMACAddrV6").map(str::to_owned),
        name: object.metadata.name,
    })
}

#[derive(Deserialize)]
struct PodObject {
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
    host_network: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: String,
}

fn pod(object: PodObject) -> Result<Pod, String> {
    let listed: Vec<&str> = object.status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    let single: Vec<&str> = object.status.pod_ip.iter().map(String::as_str).collect();
    let annotated = object.metadata.annotation("cni.projectcalico.org/podIPs");
    let annotated: Vec<&str> = annotated.into_iter().flat_map(|list| list.split(',')).collect();
    let texts = [listed, single, annotated].into_iter().find(|texts| !texts.is_empty()).unwrap_or_default();
    let owners = object.metadata.owner_references.iter().flatten();
    let labels = object.metadata.labels.iter().flatten();
    let labels = labels.filter(|(name, _)| LABELS.contains(&name.as_str()));
    Ok(Pod {
        namespace: object.metadata.namespace(),
        owner: owners.filter(|one| one.controller).map(|one| (one.kind.clone(), one.name.clone())).next(),
        addresses: texts.into_iter().map(address).collect::<Result<_, _>>()?,
        node: object.spec.node_name,
        host_network: object.spec.host_network.unwrap_or(false),
        phase: object.status.phase,
        deleting: object.metadata.deletion_timestamp.is_some(),
        labels: labels.map(|(name, value)| (name.clone(), value.clone())).collect(),
        name: object.metadata.name,
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EndpointSpec {
    pod: Option<String>,
    interface_name: Option<String>,
}

/// The pod of a `WorkloadEndpoint` and its interface; other workloads are none.
#[expect(clippy::unnecessary_wraps, reason = "one shape for all decoders")]
fn endpoint(object: Object<EndpointSpec>) -> Result<Option<Pod>, String> {
    let spec = object.spec.unwrap_or_default();
    Ok(spec.pod.zip(spec.interface_name).map(|(name, interface)| Pod {
        namespace: object.metadata.namespace(),
        name,
        labels: BTreeMap::from([(INTERFACE.to_owned(), interface)]),
        ..Pod::default()
    }))
}

#[derive(Deserialize)]
struct ServiceObject {
    metadata: Metadata,
    #[serde(default)]
    spec: ServiceSpec,
    #[serde(default)]
    status: ServiceStatus,
}

/// Labels that are asked for: others may hold anything, and a case is given away.
const LABELS: &[&str] = &["pod-template-hash", "k8s-app"];

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    ports: Option<Vec<PortSpec>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    load_balancer: LoadBalancer,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Deserialize)]
struct Ingress {
    ip: Option<String>,
}

#[derive(Deserialize)]
struct PortSpec {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

fn service(object: ServiceObject) -> Result<Service, String> {
    let spec = object.spec;
    let own = spec.cluster_ips.or(spec.cluster_ip.map(|one| vec![one])).unwrap_or_default();
    let balanced = object.status.load_balancer.ingress.into_iter().flatten().filter_map(|one| one.ip);
    let ports = spec.ports.unwrap_or_default().into_iter().filter_map(|port| {
        Some(ServicePort {
            name: port.name,
            protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
            port: port.port?,
        })
    });
    Ok(Service {
        namespace: object.metadata.namespace(),
        name: object.metadata.name,
        addresses: own
            .into_iter()
            .chain(spec.external_ips.into_iter().flatten())
            .chain(balanced)
            .filter(|text| !text.is_empty() && text != "None")
            .map(|text| address(&text))
            .collect::<Result<_, _>>()?,
        ports: ports.collect(),
    })
}

#[derive(Deserialize)]
struct SliceObject {
    metadata: Metadata,
    #[serde(default)]
    endpoints: Option<Vec<EndpointObject>>,
    #[serde(default)]
    ports: Option<Vec<PortSpec>>,
}

#[derive(Deserialize)]
struct EndpointObject {
    addresses: Vec<String>,
    conditions: Option<Conditions>,
}

#[derive(Deserialize)]
struct Conditions {
    ready: Option<bool>,
}

fn slice(object: SliceObject) -> Result<EndpointSlice, String> {
    let mut endpoints = Vec::new();
    for endpoint in object.endpoints.iter().flatten() {
        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        for text in &endpoint.addresses {
            endpoints.push((address(text)?, ready));
        }
    }
    let ports = object.ports.unwrap_or_default();
    Ok(EndpointSlice {
        namespace: object.metadata.namespace(),
        service: object.metadata.labels.and_then(|mut labels| labels.remove("kubernetes.io/service-name")),
        endpoints,
        ports: ports.into_iter().filter_map(|port| Some((port.name, port.port?))).collect(),
    })
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for all decoders")]
fn policy(kind: &str, object: Object<Value>) -> Result<Policy, String> {
    let global = kind == "GlobalNetworkPolicy";
    Ok(Policy {
        kind: kind.to_owned(),
        namespace: (!global).then(|| object.metadata.namespace()),
        name: object.metadata.name,
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct FelixSpec {
    vxlan_port: Option<u16>,
    #[serde(rename = "vxlanVNI")]
    vxlan_vni: Option<u32>,
    bpf_enabled: Option<bool>,
    wireguard_enabled: Option<bool>,
    feature_detect_override: Option<String>,
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for all decoders")]
fn felix(object: Object<FelixSpec>) -> Result<(String, Felix), String> {
    let spec = object.spec.unwrap_or_default();
    let felix = Felix {
        vxlan_port: spec.vxlan_port,
        vxlan_vni: spec.vxlan_vni,
        bpf: spec.bpf_enabled.unwrap_or(false),
        wireguard: spec.wireguard_enabled.unwrap_or(false),
        checksum_offload_broken: spec.feature_detect_override.as_deref().and_then(checksum_offload_broken),
    };
    Ok((object.metadata.name, felix))
}

/// Of a list as `SNATFullyRandom=true,ChecksumOffloadBroken=true`.
fn checksum_offload_broken(list: &str) -> Option<bool> {
    let mut pairs = list.split(',').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("ChecksumOffloadBroken"))?;
    value.trim().to_ascii_lowercase().parse().ok()
}
