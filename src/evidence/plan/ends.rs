//! What an endpoint's name means: a pod, an address, a Service or a node of the cluster.

use std::net::IpAddr;

use super::PlanOptions;
use super::name::EndName;
use crate::evidence::case::Only;
use crate::evidence::cluster::{Cluster, Node, Pod, Service, ServicePort, WorkloadKind};

/// One end, before an address family was chosen.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) node: Option<String>,
    pub(super) kind: Kind,
    /// Addresses of the Service that it was named by.
    pub(super) service: Vec<IpAddr>,
    /// The traffic to the Service's port that was typed.
    pub(super) only: Option<Only>,
}

/// What stands at the end of a path.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A pod behind a veth of this name.
    Pod { veth: String },
    /// The node itself, or a pod on its network.
    Host,
    /// Somebody outside the cluster.
    Outside,
}

/// Why a trace cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No such object.
    #[error("there is no {what} in the cluster{}", did_you_mean(.nearest))]
    Missing {
        /// What was looked for.
        what: String,
        /// Names like it.
        nearest: Vec<String>,
    },
    /// A pod without an address.
    #[error(
        "pod {pod} has no address yet (phase {phase}): it cannot be traced before it runs; see `kubectl describe pod`"
    )]
    NoAddress {
        /// Which.
        pod: String,
        /// Its phase.
        phase: String,
    },
    /// A pod without a node.
    #[error("pod {0} is not scheduled on a node; see `kubectl describe pod`")]
    NotScheduled(String),
    /// A Service without an endpoint, or without one that has the port.
    #[error(
        "Service {0} has no ready endpoint: its traffic is rejected on every node; see `kubectl get endpointslices`"
    )]
    NoEndpoint(String),
    /// A Service without the port that was typed.
    #[error("Service {service} has no port {port}; it has {}", .ports.join(", "))]
    NoPort {
        /// Which.
        service: String,
        /// As typed.
        port: String,
        /// Those that it has, as `80/TCP (http)`.
        ports: Vec<String>,
    },
    /// One pod, and nothing to pair it with.
    #[error("{from} and {to} are the same single pod: there is no pair to trace")]
    Alone {
        /// As typed.
        from: String,
        /// As typed.
        to: String,
    },
    /// Both ends are one.
    #[error(
        "the two ends are one: {from} and {to} have the address {address}, and what it sends to itself passes no point of a path; name another end"
    )]
    OneEnd {
        /// One end.
        from: String,
        /// The other.
        to: String,
        /// Its address.
        address: IpAddr,
    },
    /// No common family.
    #[error("{from} and {to} have no {family} address in common")]
    NoFamily {
        /// One end.
        from: String,
        /// The other.
        to: String,
        /// What was wanted.
        family: &'static str,
    },
}

fn did_you_mean(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

impl End {
    pub(super) fn find(
        cluster: &Cluster,
        typed: &str,
        options: &PlanOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Self, PlanError> {
        match EndName::read(typed, &options.namespace) {
            EndName::Address(address) => {
                let service = Self::by_service_address(cluster, address, warnings);
                Ok(service.unwrap_or_else(|| Self::by_address(cluster, address)))
            }
            EndName::Node(name) => Self::by_node(cluster, &name),
            EndName::Service { namespace, name, port } => {
                Self::by_service(cluster, (&namespace, &name, port.as_deref()), options.only, warnings)
            }
            EndName::Pod { namespace, name } => Self::by_pod(cluster, &namespace, &name, warnings),
            EndName::Workload { kind, namespace, name } => {
                Self::by_workload(cluster, kind, (&namespace, &name), warnings)
            }
        }
    }

    /// All ends that a name stands for: the running pods of a workload, the ready endpoints of a Service; one else.
    pub(super) fn find_all(
        cluster: &Cluster,
        typed: &str,
        options: &PlanOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Self>, PlanError> {
        // Its words about the one that is chosen are of no use here.
        let mut unsaid = Vec::new();
        let first = Self::find(cluster, typed, options, &mut unsaid)?;
        match EndName::read(typed, &options.namespace) {
            EndName::Workload { kind, namespace, name } => {
                let mut pods: Vec<&Pod> =
                    cluster.pods_of(kind, &namespace, &name).filter(|pod| pod.is_running()).collect();
                pods.sort_by_key(|pod| &pod.name);
                let mut ends = Vec::new();
                for pod in pods {
                    match Self::of_pod(pod) {
                        Ok(end) => ends.push(end),
                        Err(error) => warnings.push(error.to_string()),
                    }
                }
                Ok(if ends.is_empty() { vec![first] } else { ends })
            }
            EndName::Service { namespace, name, port } => {
                let mut ends: Vec<Self> = Vec::new();
                let named = (namespace.as_str(), name.as_str(), port.as_deref());
                let (service, endpoints) = endpoints(cluster, named, options.only)?;
                for (address, only) in endpoints {
                    let end = Self::of_endpoint(cluster, address, service, only);
                    // A pod has an endpoint in each family's slice.
                    if !ends.iter().any(|known| known.name == end.name) {
                        ends.push(end);
                    }
                }
                ends.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(ends)
            }
            EndName::Pod { .. } | EndName::Node(_) | EndName::Address(_) => {
                warnings.append(&mut unsaid);
                Ok(vec![first])
            }
        }
    }

    /// The node that the end lives on.
    pub(super) fn node<'c>(&self, cluster: &'c Cluster) -> Option<&'c Node> {
        cluster.node(self.node.as_ref()?)
    }

    /// An address of each end, of one family.
    pub(super) fn addresses(
        from: &Self,
        to: &Self,
        family: Option<u8>,
    ) -> Result<(IpAddr, IpAddr), PlanError> {
        let of = |end: &Self, v4: bool| end.addresses.iter().copied().find(|address| address.is_ipv4() == v4);
        let wanted: &[bool] = match family {
            Some(4) => &[true],
            Some(6) => &[false],
            _ => &[true, false],
        };
        let found = wanted.iter().find_map(|v4| Some((of(from, *v4)?, of(to, *v4)?)));
        let (one, other) = (from.name.clone(), to.name.clone());
        match found {
            Some((address, same)) if address == same => {
                Err(PlanError::OneEnd { from: one, to: other, address })
            }
            Some(found) => Ok(found),
            None => {
                let family = match family {
                    Some(4) => "IPv4",
                    Some(6) => "IPv6",
                    _ => "IP",
                };
                Err(PlanError::NoFamily { from: one, to: other, family })
            }
        }
    }

    fn of_pod(pod: &Pod) -> Result<Self, PlanError> {
        let name = format!("{}/{}", pod.namespace, pod.name);
        if pod.addresses.is_empty() {
            let phase = pod.phase.clone().unwrap_or_else(|| "unknown".to_owned());
            return Err(PlanError::NoAddress { pod: name, phase });
        }
        let node = pod.node.clone().ok_or_else(|| PlanError::NotScheduled(name.clone()))?;
        let kind = if pod.host_network { Kind::Host } else { Kind::Pod { veth: pod.veth() } };
        let addresses = pod.addresses.clone();
        Ok(Self { name, addresses, node: Some(node), kind, service: Vec::new(), only: None })
    }

    fn by_pod(
        cluster: &Cluster,
        namespace: &str,
        name: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Self, PlanError> {
        let pod = cluster.pod(namespace, name).ok_or_else(|| {
            let all = cluster.pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name));
            let wanted = format!("{namespace}/{name}");
            PlanError::Missing { nearest: like(&wanted, all), what: format!("pod {wanted}") }
        })?;
        warn_of(pod, warnings);
        Self::of_pod(pod)
    }

    /// One of the pods that a workload runs: of those that run, the first by name.
    fn by_workload(
        cluster: &Cluster,
        kind: WorkloadKind,
        (namespace, name): (&str, &str),
        warnings: &mut Vec<String>,
    ) -> Result<Self, PlanError> {
        let wanted = format!("{} {namespace}/{name}", kind.word());
        let mut pods: Vec<&Pod> = cluster.pods_of(kind, namespace, name).collect();
        if pods.is_empty() {
            let here = cluster.pods.iter().filter(|pod| pod.namespace == namespace);
            let all = here.filter_map(|pod| pod.workload().filter(|(owner, _)| *owner == kind));
            let nearest = like(name, all.map(|(_, name)| name.to_owned()));
            return Err(PlanError::Missing { what: format!("pod of {wanted}"), nearest });
        }
        pods.sort_by_key(|pod| (!pod.is_running(), pod.deleting, &pod.name));
        let chosen = pods[0];
        if pods.len() > 1 {
            let on = chosen.node.as_deref().unwrap_or("no node yet");
            warnings.push(format!(
                "{wanted} has {} pods: {namespace}/{} on {on} is traced",
                pods.len(),
                chosen.name
            ));
        }
        warn_of(chosen, warnings);
        Self::of_pod(chosen)
    }

    fn by_address(cluster: &Cluster, address: IpAddr) -> Self {
        if let Some(end) = cluster.pod_of(address).and_then(|pod| Self::of_pod(pod).ok()) {
            return Self { addresses: vec![address], ..end };
        }
        let node = cluster.node_of(address).map(|node| node.name.clone());
        let kind = if node.is_some() { Kind::Host } else { Kind::Outside };
        let (name, addresses) = (address.to_string(), vec![address]);
        Self { name, addresses, node, kind, service: Vec::new(), only: None }
    }

    /// A Service's own address, when something is behind it: packets to it end at an endpoint of its family.
    fn by_service_address(cluster: &Cluster, address: IpAddr, warnings: &mut Vec<String>) -> Option<Self> {
        let service = cluster.service_of(address)?;
        let named = (service.namespace.as_str(), service.name.as_str(), None);
        let mut end = Self::by_service(cluster, named, Only::default(), warnings).ok()?;
        end.addresses.retain(|own| own.is_ipv4() == address.is_ipv4());
        end.service = vec![address];
        (!end.addresses.is_empty()).then_some(end)
    }

    fn by_node(cluster: &Cluster, name: &str) -> Result<Self, PlanError> {
        let node = cluster.node(name).ok_or_else(|| {
            let all = cluster.nodes.iter().map(|node| node.name.clone());
            PlanError::Missing { nearest: like(name, all), what: format!("node {name}") }
        })?;
        Ok(Self {
            name: format!("node/{name}"),
            addresses: node.underlay(),
            node: Some(name.to_owned()),
            kind: Kind::Host,
            service: Vec::new(),
            only: None,
        })
    }

    fn by_service(
        cluster: &Cluster,
        named: (&str, &str, Option<&str>),
        only: Only,
        warnings: &mut Vec<String>,
    ) -> Result<Self, PlanError> {
        let (service, endpoints) = endpoints(cluster, named, only)?;
        let (address, only) = endpoints[0];
        let end = Self::of_endpoint(cluster, address, service, only);
        let wanted = format!("{}/{}", service.namespace, service.name);
        warnings.push(format!("Service {wanted} is traced to its endpoint {} ({address})", end.name));
        Ok(end)
    }

    /// What is behind a Service at one of its endpoints: a pod with all its addresses, or the address itself.
    fn of_endpoint(cluster: &Cluster, address: IpAddr, service: &Service, only: Option<Only>) -> Self {
        let end = Self::by_address(cluster, address);
        let pod = cluster.pod_of(address).map(|pod| pod.addresses.clone());
        let addresses = pod.unwrap_or_else(|| vec![address]);
        Self { service: service.addresses.clone(), addresses, only, ..end }
    }
}

/// An endpoint's address, and the traffic to the port that was typed.
type Reached = (IpAddr, Option<Only>);

/// A Service and its endpoints that are ready, never none. With a port only those that have it, each with the traffic to it.
fn endpoints<'c>(
    cluster: &'c Cluster,
    (namespace, name, port): (&str, &str, Option<&str>),
    only: Only,
) -> Result<(&'c Service, Vec<Reached>), PlanError> {
    let wanted = format!("{namespace}/{name}");
    let service = cluster.service(namespace, name).ok_or_else(|| {
        let all = cluster.services.iter().map(|s| format!("{}/{}", s.namespace, s.name));
        PlanError::Missing { nearest: like(&wanted, all), what: format!("Service {wanted}") }
    })?;
    let ready = cluster.ready_endpoints(service);
    let found: Vec<Reached> = match port {
        None => ready.map(|(address, _)| (address, None)).collect(),
        Some(port) => {
            let ports = ports(service, port, only.protocol)?;
            ready
                .filter_map(|(address, slice)| {
                    let target = ports.iter().find_map(|port| slice.port(port))?;
                    Some((address, Some(traffic(&ports, target))))
                })
                .collect()
        }
    };
    if found.is_empty() {
        return Err(PlanError::NoEndpoint(port.map_or(wanted.clone(), |port| format!("{wanted}:{port}"))));
    }
    Ok((service, found))
}

/// The ports of a Service that are meant: of the protocol that was asked for, where one of them is.
fn ports<'s>(
    service: &'s Service,
    typed: &str,
    protocol: Option<u8>,
) -> Result<Vec<&'s ServicePort>, PlanError> {
    let mut ports: Vec<&ServicePort> = service.ports_called(typed).collect();
    if ports.is_empty() {
        let words = service.ports.iter().map(|own| {
            let name = own.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
            format!("{}/{}{name}", own.port, own.protocol)
        });
        return Err(PlanError::NoPort {
            service: format!("{}/{}", service.namespace, service.name),
            port: typed.to_owned(),
            ports: words.collect(),
        });
    }
    if protocol.is_some() && ports.iter().any(|port| port.number() == protocol) {
        ports.retain(|port| port.number() == protocol);
    }
    Ok(ports)
}

/// The packets to ports of one number that are `target` behind their translation. Of several protocols they are all.
fn traffic(ports: &[&ServicePort], target: u16) -> Only {
    let (first, more) = (ports[0], &ports[1..]);
    let protocol = first.number().filter(|_| more.iter().all(|port| port.protocol == first.protocol));
    Only { protocol, port: Some(first.port), also: Some(target).filter(|target| *target != first.port) }
}

/// A pod that comes or goes.
fn warn_of(pod: &Pod, warnings: &mut Vec<String>) {
    if pod.deleting {
        warnings.push(format!("pod {}/{} is being deleted", pod.namespace, pod.name));
    } else if let Some(phase) = pod.phase.as_ref().filter(|_| !pod.is_running()) {
        warnings.push(format!("pod {}/{} is not running: its phase is {phase}", pod.namespace, pod.name));
    }
}

/// Up to three names that differ least from the one typed.
fn like(typed: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let mut near: Vec<(usize, String)> = names
        .map(|name| (distance(typed, &name), name))
        .filter(|(distance, _)| *distance <= typed.len() / 3 + 1)
        .collect();
    near.sort();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Letters to add, take away or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.iter().enumerate() {
            let cost = corner + usize::from(left != *right);
            corner = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
