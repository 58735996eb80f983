//! One object into the cluster. A field of the wrong type costs its object, with a warning; an unknown kind is passed
//! over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::{Cluster, Encapsulation, EndpointSlice, Felix, IpPool, Node, Pod, Policy, Service, ServicePort};

/// Adds one object.
pub(super) fn take(cluster: &mut Cluster, object: &Value, warnings: &mut Vec<String>) {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    if kind.is_empty() {
        warnings.push("an object without a kind was left out".to_owned());
        return;
    }
    let done = match (kind, version.contains("projectcalico.org")) {
        ("Node", false) => decode(object, node).map(|node| cluster.nodes.push(node)),
        ("Pod", false) => decode(object, pod).map(|pod| cluster.pods.push(pod)),
        ("Service", false) => decode(object, service).map(|service| cluster.services.push(service)),
        ("EndpointSlice", false) => decode(object, slice).map(|slice| cluster.slices.push(slice)),
        ("NetworkPolicy", false) => decode(object, |o: Object<Value>| policy("KubernetesNetworkPolicy", o))
            .map(|p| cluster.policies.push(p)),
        ("NetworkPolicy" | "GlobalNetworkPolicy", true) => {
            decode(object, |o: Object<Value>| policy(kind, o)).map(|p| cluster.policies.push(p))
        }
        ("IPPool", true) => decode(object, pool).map(|pool| cluster.pools.push(pool)),
        ("FelixConfiguration", true) => decode(object, felix).map(|(name, felix)| {
            cluster.felix.insert(name, felix);
        }),
        _ => Ok(()),
    };
    if !cluster.kinds.iter().any(|known| known == kind) {
        cluster.kinds.push(kind.to_owned());
    }
    if let Err(why) = done {
        let named =
            |key: &str| object.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or("?");
        warnings.push(format!("{kind} {}/{} was left out: {why}", named("namespace"), named("name")));
    }
}

fn decode<'v, S: Deserialize<'v>, T>(
    object: &'v Value,
    turn: impl FnOnce(S) -> Result<T, String>,
) -> Result<T, String> {
    S::deserialize(object).map_err(|error| error.to_string()).and_then(turn)
}

#[derive(Deserialize)]
struct Object<S> {
    metadata: Metadata,
    spec: Option<S>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
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

fn net(text: &str) -> Result<IpNet, String> {
    text.parse().or_else(|_| address(text).map(IpNet::from))
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
    Ok(Pod {
        namespace: object.metadata.namespace(),
        addresses: texts.into_iter().map(address).collect::<Result<_, _>>()?,
        node: object.spec.node_name,
        host_network: object.spec.host_network.unwrap_or(false),
        phase: object.status.phase,
        labels: object.metadata.labels.unwrap_or_default(),
        name: object.metadata.name,
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    ports: Option<Vec<PortSpec>>,
}

#[derive(Deserialize)]
struct PortSpec {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

fn service(object: Object<ServiceSpec>) -> Result<Service, String> {
    let spec = object.spec.unwrap_or_default();
    let addresses = spec.cluster_ips.or(spec.cluster_ip.map(|one| vec![one])).unwrap_or_default();
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
        addresses: addresses
            .iter()
            .filter(|text| !text.is_empty() && *text != "None")
            .map(|text| address(text))
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PoolSpec {
    cidr: String,
    vxlan_mode: Option<Encapsulation>,
    ipip_mode: Option<Encapsulation>,
}

fn pool(object: Object<PoolSpec>) -> Result<IpPool, String> {
    let spec = object.spec.ok_or("it has no spec")?;
    Ok(IpPool {
        name: object.metadata.name,
        cidr: net(&spec.cidr)?,
        vxlan: spec.vxlan_mode.unwrap_or_default(),
        ipip: spec.ipip_mode.unwrap_or_default(),
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
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for all decoders")]
fn felix(object: Object<FelixSpec>) -> Result<(String, Felix), String> {
    let spec = object.spec.unwrap_or_default();
    let felix = Felix {
        vxlan_port: spec.vxlan_port,
        vxlan_vni: spec.vxlan_vni,
        bpf: spec.bpf_enabled.unwrap_or(false),
        wireguard: spec.wireguard_enabled.unwrap_or(false),
    };
    Ok((object.metadata.name, felix))
}
