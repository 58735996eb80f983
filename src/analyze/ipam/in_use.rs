//! Whether an address may be released. Takes the attribute under which it is allocated, the node that the attribute names
//! and all pods, as the API server gives them; gives who uses it still. In doubt somebody does.

use std::net::IpAddr;

use serde_json::Value;

use super::named;
use crate::evidence::cluster::Cluster;

/// Who uses the address, in words; none when nobody does.
pub fn by(address: IpAddr, attribute: &Value, node: Option<&Value>, pods: &[Value]) -> Option<String> {
    let owner = |key: &str| attribute.pointer(&format!("/secondary/{key}")).and_then(Value::as_str);
    let handle = attribute.get("handle_id").and_then(Value::as_str).unwrap_or_default();
    if handle.eq_ignore_ascii_case("windows-reserved-ipam-handle") {
        return Some("Windows nodes keep it for themselves".to_owned());
    }
    if let Some(service) = owner("service") {
        return Some(format!("it belongs to Service {service}; delete the Service instead"));
    }
    if let Some(machine) = owner("vmi-name").or(owner("vm-uid")) {
        return Some(format!("it belongs to the virtual machine {machine}, which keeps it while it moves"));
    }
    let (cluster, unread) = read(node, pods);
    if let Some(node) = cluster.nodes.first() {
        let own = node.underlay().contains(&address) || node.tunnels.contains(&address);
        // WireGuard's addresses are not among those that a Node's tunnels are read from.
        if own || owner("type").is_some_and(|kind| kind.starts_with("wireguard")) {
            return Some(format!("node {} uses it as {}", node.name, owner("type").unwrap_or("its own")));
        }
    }
    let using = cluster.pods.iter().find(|pod| !pod.is_over() && pod.addresses.contains(&address));
    if let Some(pod) = using {
        return Some(format!("pod {} on {} uses it", named(pod), pod.node.as_deref().unwrap_or("no node")));
    }
    let starting = cluster.pods.iter().find(|pod| {
        let same = Some(&*pod.namespace) == owner("namespace") && Some(&*pod.name) == owner("pod");
        same && !pod.is_over() && !pod.addresses.iter().any(|one| one.is_ipv6() == address.is_ipv6())
    });
    if let Some(pod) = starting {
        return Some(format!("pod {} is there and has no address in its status yet", named(pod)));
    }
    unread.first().map(|why| format!("not all objects could be read: {why}"))
}

fn read(node: Option<&Value>, pods: &[Value]) -> (Cluster, Vec<String>) {
    let mut cluster = Cluster::default();
    let mut warnings = Vec::new();
    for object in node.into_iter().chain(pods) {
        cluster.add(object, &mut warnings);
    }
    (cluster, warnings)
}
