//! The cluster's objects from the API. For a path: the two ends, what leads to them, their nodes, the blocks of their
//! addresses, and the policies of their namespaces, by name or by selector, so that the size of the cluster does not
//! matter. For a check of everything: whole lists in pages. A list that is forbidden or not served costs the findings
//! that need it, and is told of.

use std::net::IpAddr;

use futures_util::future::join_all;
use serde_json::Value;

use super::lists::{
    ALL, BLOCK, CALICO_POLICY, FELIX, GLOBAL_POLICY, Kind, List, NODE, POD, POLICY, POOL, RESERVATION,
    SERVICE, SLICE, ask,
};
use super::{Api, ApiError, node_path, pod_path, segment};
use crate::evidence::cluster::ipam::IpamBlock;
use crate::evidence::cluster::{Cluster, WorkloadKind};
use crate::evidence::ipam::ordinal;
use crate::evidence::plan::{EndName, Pairs, Plan, PlanOptions};

/// What was read, and what could not be.
#[derive(Debug)]
pub(crate) struct Objects {
    /// The objects.
    pub(crate) cluster: Cluster,
    /// What was left out and why.
    pub(crate) warnings: Vec<String>,
}

/// Nodes read at once: a cluster of up to so many is known whole.
const FEW_NODES: u32 = 100;
/// Names offered when one is not found.
const FEW_NAMES: u32 = 500;
/// Pods behind a Service that are read one by one when all are wanted; of others only the addresses are known.
const MOST_ENDPOINTS: usize = 100;
/// All objects, for a check of everything.
pub(crate) fn whole(api: &Api) -> Objects {
    let mut reader = Reader::new(api);
    api.wait(async { reader.lists(ALL.into_iter().map(List::all).collect()).await });
    reader.finish()
}

/// Nodes, and what is checked of them without their pods: of a node its own pods too.
pub(crate) fn of_nodes(api: &Api, only: Option<&str>) -> Objects {
    let Some(node) = only else { return whole(api) };
    let mut reader = Reader::new(api);
    let mut lists: Vec<List> = ALL.into_iter().filter(|kind| kind.plural != "pods").map(List::all).collect();
    let own = format!("fieldSelector=spec.nodeName%3D{}", segment(node));
    lists.push(List::all(POD).selected(own, &format!("those of {node}")));
    api.wait(async { reader.lists(lists).await });
    reader.finish()
}

/// What a trace between two endpoints needs, or traces between all of their pods: at most so many pairs.
///
/// # Errors
///
/// When one of the ends could not be asked for: without it there is nothing to trace.
pub(crate) fn of_path(
    api: &Api,
    (from, to): (&str, &str),
    options: &PlanOptions,
    most: Option<usize>,
) -> Result<Objects, ApiError> {
    let mut reader = Reader::new(api);
    api.wait(async {
        let ends = [from, to].map(|typed| EndName::read(typed, &options.namespace));
        let nodes = List { limit: Some(FEW_NODES), ..List::all(NODE) };
        reader.lists([nodes].into_iter().chain([POOL, FELIX, GLOBAL_POLICY].map(List::all)).collect()).await;
        for end in &ends {
            reader.end(end, if most.is_some() { MOST_ENDPOINTS } else { 1 }).await?;
        }
        let plans = match most {
            Some(most) => Pairs::make(&reader.cluster, (from, to), options, most).map(|pairs| pairs.plans),
            None => Plan::make(&reader.cluster, from, to, options).map(|plan| vec![plan]),
        };
        // What cannot be planned is told when it is planned again, by the same words.
        if let Ok(plans) = plans {
            reader.around(&plans).await;
        }
        Ok::<_, ApiError>(())
    })?;
    Ok(reader.finish())
}

struct Reader<'a> {
    api: &'a Api,
    cluster: Cluster,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(api: &'a Api) -> Self {
        Self { api, cluster: Cluster::default(), warnings: Vec::new() }
    }

    fn finish(mut self) -> Objects {
        self.cluster.once();
        self.warnings.sort();
        self.warnings.dedup();
        Objects { cluster: self.cluster, warnings: self.warnings }
    }

    fn add(&mut self, object: &Value) {
        self.cluster.add(object, &mut self.warnings);
    }

    /// Asks for lists, all at once.
    async fn lists(&mut self, lists: Vec<List>) {
        let api = self.api;
        let answers = join_all(lists.iter().map(|list| ask(api, list))).await;
        for (list, answer) in lists.into_iter().zip(answers) {
            match answer {
                Ok(Some(part)) => {
                    let narrowed = list.narrowed.as_deref().or((!part.whole).then_some(FIRST));
                    self.cluster.note(list.kind.name, narrowed);
                    self.cluster.append(part.cluster);
                    self.warnings.extend(part.warnings);
                }
                // A Calico that has no such kind has no such object.
                Ok(None) if list.kind.plural == RESERVATION.plural => self.cluster.note(list.kind.name, None),
                Ok(None) => {}
                Err(error) => self.warnings.push(format!("without {}: {error}", list.kind.plural)),
            }
        }
    }

    /// The object at a path, if there is one.
    async fn one(&mut self, path: &str) -> Result<bool, ApiError> {
        let found = self.api.get(path).await?;
        if let Some(object) = &found {
            self.add(object);
        }
        Ok(found.is_some())
    }

    /// The objects by which an end is found, of a Service at most so many pods. An end that is not there brings the
    /// names like it.
    async fn end(&mut self, end: &EndName, most: usize) -> Result<(), ApiError> {
        let words = "those that the trace asks for";
        match end {
            EndName::Pod { namespace, name } => {
                self.cluster.note(POD.name, Some(words));
                if !self.one(&pod_path(namespace, name)).await? {
                    self.names(POD, namespace).await;
                }
            }
            EndName::Node(name) => {
                if self.cluster.node(name).is_none() {
                    self.one(&node_path(name)).await?;
                }
            }
            EndName::Address(address) => {
                self.holders(&[*address]).await;
                if self.cluster.pod_of(*address).is_none() {
                    self.service(*address, most).await?;
                }
            }
            EndName::Service { namespace, name, port } => {
                let path = format!("/api/v1/namespaces/{}/services/{}", segment(namespace), segment(name));
                self.cluster.note(SERVICE.name, Some(words));
                if self.one(&path).await? {
                    self.behind(namespace, name, port.as_deref(), most).await?;
                } else {
                    self.names(SERVICE, namespace).await;
                }
            }
            EndName::Workload { kind, namespace, name } => {
                let selector = self.selector(*kind, namespace, name).await?;
                let list = List::within(POD, namespace);
                self.lists(vec![match selector {
                    Some(selector) => list.selected(format!("labelSelector={}", segment(&selector)), words),
                    None => List { limit: Some(FEW_NAMES), ..list },
                }])
                .await;
            }
        }
        Ok(())
    }

    async fn names(&mut self, kind: Kind, namespace: &str) {
        self.lists(vec![List { limit: Some(FEW_NAMES), ..List::within(kind, namespace) }]).await;
    }

    /// By which labels a workload finds its pods. None when the workload cannot be read.
    async fn selector(
        &mut self,
        kind: WorkloadKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<String>, ApiError> {
        let (group, plural) = match kind {
            WorkloadKind::Deployment => ("/apis/apps/v1", "deployments"),
            WorkloadKind::DaemonSet => ("/apis/apps/v1", "daemonsets"),
            WorkloadKind::StatefulSet => ("/apis/apps/v1", "statefulsets"),
            WorkloadKind::ReplicaSet => ("/apis/apps/v1", "replicasets"),
            WorkloadKind::Job => ("/apis/batch/v1", "jobs"),
        };
        let path = format!("{group}/namespaces/{}/{plural}/{}", segment(namespace), segment(name));
        match self.api.get(&path).await {
            Ok(object) => Ok(object.as_ref().and_then(label_selector)),
            // Its pods say themselves whose they are.
            Err(error) if error.is_denied() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A Service's endpoints, and the pods behind the first that are ready; with a port, the first that have it.
    async fn behind(
        &mut self,
        namespace: &str,
        service: &str,
        port: Option<&str>,
        most: usize,
    ) -> Result<(), ApiError> {
        let label = segment(&format!("kubernetes.io/service-name={service}"));
        let list = List::within(SLICE, namespace)
            .selected(format!("labelSelector={label}"), "those of the Services that the trace asks for");
        let slices = self.api.list(&list.path("/apis/discovery.k8s.io/v1")).await?.unwrap_or_default();
        self.cluster.note(SLICE.name, list.narrowed.as_deref());
        for slice in &slices {
            self.add(slice);
        }
        let named: Option<Vec<&str>> =
            self.cluster.service(namespace, service).zip(port).map(|(service, port)| {
                service.ports_called(port).map(|port| port.name.as_deref().unwrap_or_default()).collect()
            });
        let serves = |slice: &&Value| named.as_ref().is_none_or(|named| has_port(slice, named));
        let endpoints = slices.iter().filter(serves);
        let endpoints = endpoints.filter_map(|slice| slice.get("endpoints")?.as_array()).flatten();
        let ready = |endpoint: &&Value| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false));
        let pods: Vec<String> = endpoints
            .filter(ready)
            .filter_map(|endpoint| {
                let target = endpoint.get("targetRef")?;
                let text = |key: &str| target.get(key)?.as_str();
                (text("kind") == Some("Pod"))
                    .then(|| pod_path(text("namespace").unwrap_or(namespace), text("name")?).into())?
            })
            .take(most)
            .collect();
        let api = self.api;
        for found in join_all(pods.iter().map(|path| api.get(path))).await {
            if let Some(object) = found? {
                self.add(&object);
            }
        }
        Ok(())
    }

    /// The pods that have an address: those that the server finds by it, and the one that it is allocated to.
    async fn holders(&mut self, addresses: &[IpAddr]) {
        let by_address = |address: &IpAddr| {
            let selector = format!("fieldSelector=status.podIP%3D{}", segment(&address.to_string()));
            List::all(POD).selected(selector, "those that the trace asks for")
        };
        self.lists(addresses.iter().map(by_address).collect()).await;
        for address in addresses {
            self.block(*address).await;
        }
    }

    /// The Service that an address stands for, and what is behind it. The server finds one by its first address only: of
    /// its others and of external ones all Services must tell, unless the address is a pool's.
    async fn service(&mut self, address: IpAddr, most: usize) -> Result<(), ApiError> {
        let selector = format!("fieldSelector=spec.clusterIP%3D{}", segment(&address.to_string()));
        let list = List::all(SERVICE).selected(selector, "those that the trace asks for");
        match ask(self.api, &list).await {
            Ok(answer) => {
                self.cluster.note(SERVICE.name, list.narrowed.as_deref());
                if let Some(part) = answer {
                    self.cluster.append(part.cluster);
                    self.warnings.extend(part.warnings);
                }
            }
            Err(error) => {
                self.warnings.push(format!("without knowing whether {address} is a Service's: {error}"));
            }
        }
        let pooled = self.cluster.pools.iter().any(|pool| pool.cidr.contains(&address));
        if self.cluster.service_of(address).is_none() && !pooled {
            let add = |found: &mut Cluster, page: Vec<Value>| {
                let mut all = Cluster::default();
                for object in &page {
                    all.add(object, &mut Vec::new());
                }
                all.services.retain(|service| service.addresses.contains(&address));
                found.services.append(&mut all.services);
            };
            match self.api.fold("/api/v1/services", Cluster::default, add).await {
                Ok(found) => self.cluster.append(found.unwrap_or_default()),
                Err(error) => {
                    self.warnings.push(format!("without knowing whether {address} is a Service's: {error}"));
                }
            }
        }
        let found = self.cluster.service_of(address).map(|one| (one.namespace.clone(), one.name.clone()));
        match found {
            Some((namespace, name)) => self.behind(&namespace, &name, None, most).await,
            None => Ok(()),
        }
    }

    /// The block of an address, the pod that it is allocated to, and the nodes that both belong to.
    async fn block(&mut self, address: IpAddr) {
        self.cluster.note(BLOCK.name, Some("those of the two ends"));
        if self.block_of(address).is_none() {
            match super::ipam::block(self.api, address).await {
                Ok(found) => found.iter().for_each(|(block, _)| self.add(&block.object)),
                Err(error) => {
                    self.warnings.push(format!("without the block of {address}: {error}"));
                    self.cluster.forget(BLOCK.name);
                }
            }
        }
        let Some((pod, nodes)) = self.block_of(address).map(|block| allocated(block, address)) else {
            return;
        };
        let mut paths: Vec<String> = Vec::new();
        paths.extend(
            pod.filter(|(namespace, name)| self.cluster.pod(namespace, name).is_none())
                .map(|(namespace, name)| pod_path(&namespace, &name)),
        );
        let unknown = nodes.into_iter().filter(|node| self.cluster.node(node).is_none());
        paths.extend(unknown.map(|node| node_path(&node)));
        for path in paths {
            if let Err(error) = self.one(&path).await {
                self.warnings.push(error.to_string());
            }
        }
    }

    /// The block of an address, if it was read: neighbours share one.
    fn block_of(&self, address: IpAddr) -> Option<&IpamBlock> {
        self.cluster.ipam.blocks.iter().find(|block| block.cidr.contains(&address))
    }

    /// What surrounds planned pairs: each namespace, address and node is asked for once.
    async fn around(&mut self, plans: &[Plan]) {
        let mut lists = Vec::new();
        let mut namespaces = Vec::new();
        let mut reached = Vec::new();
        for end in plans.iter().flat_map(|plan| [&plan.from, &plan.to]) {
            let namespace =
                end.name.split_once('/').filter(|(kind, _)| *kind != "node").map(|(name, _)| name);
            if let Some(namespace) = namespace.filter(|name| !namespaces.contains(name)) {
                namespaces.push(namespace);
                lists.push(List::within(POLICY, namespace));
                lists.push(List::within(CALICO_POLICY, namespace));
            }
        }
        // Services by which the destination may be reached.
        for plan in plans {
            let namespace = plan.to.name.split_once('/').filter(|(kind, _)| *kind != "node");
            if let Some((namespace, _)) = namespace.filter(|(name, _)| !reached.contains(name)) {
                reached.push(namespace);
                lists.push(List::within(SERVICE, namespace));
                lists.push(List::within(SLICE, namespace));
            }
        }
        self.lists(lists).await;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in plans.iter().flat_map(|plan| [plan.from.address, plan.to.address]) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        self.holders(&addresses).await;
        for node in plans.iter().flat_map(|plan| [&plan.from.node, &plan.to.node]).flatten() {
            if self.cluster.node(node).is_none()
                && let Err(error) = self.one(&node_path(node)).await
            {
                self.warnings.push(error.to_string());
            }
        }
    }
}

/// Whether a slice's endpoints have one of the ports with these names.
fn has_port(slice: &Value, names: &[&str]) -> bool {
    let ports = slice.get("ports").and_then(Value::as_array).into_iter().flatten();
    let name = |port: &Value| port.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    ports.into_iter().any(|port| names.contains(&name(port).as_str()))
}

/// What a list that was cut after its first page holds.
const FIRST: &str = "the first ones and those of the path";

/// The pod and the nodes that a block names for an address.
fn allocated(block: &IpamBlock, address: IpAddr) -> (Option<(String, String)>, Vec<String>) {
    let owner = ordinal(block.cidr, address).and_then(|place| block.owner(place)).flatten();
    let node = owner.and_then(|owner| owner.node.as_deref());
    let mut nodes: Vec<String> = block.node().into_iter().chain(node).map(str::to_owned).collect();
    nodes.sort();
    nodes.dedup();
    (owner.and_then(|owner| owner.namespace.clone().zip(owner.pod.clone())), nodes)
}

/// A workload's `spec.selector` as a label selector's text.
fn label_selector(object: &Value) -> Option<String> {
    let selector = object.pointer("/spec/selector")?;
    let mut parts = Vec::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        parts.push(format!("{key}={}", value.as_str()?));
    }
    for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let key = expression.get("key")?.as_str()?;
        let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
        let values: Vec<&str> = values.filter_map(Value::as_str).collect();
        parts.push(match expression.get("operator")?.as_str()? {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_workloads_selector_as_text() {
        let object = json!({"spec": {"selector": {"matchLabels": {"app": "web", "tier": "front"},
            "matchExpressions": [{"key": "env", "operator": "In", "values": ["a", "b"]}, {"key": "x", "operator": "DoesNotExist"}]}}});
        assert_eq!(label_selector(&object).as_deref(), Some("app=web,tier=front,env in (a,b),!x"));
        assert_eq!(
            label_selector(
                &json!({"spec": {"selector": {"matchExpressions": [{"key": "a", "operator": "?"}]}}})
            ),
            None
        );
        assert_eq!(label_selector(&json!({"spec": 5})), None);
    }

    #[test]
    fn whose_an_address_is_by_its_block() {
        let block = json!({"kind": "IPAMBlock", "apiVersion": "crd.projectcalico.org/v1", "metadata": {"name": "b"},
            "spec": {"cidr": "10.0.0.0/30", "affinity": "host:n1", "allocations": [null, 1, 0],
            "attributes": [{"secondary": {"node": "n2", "namespace": "shop", "pod": "web"}}, {"handle_id": "x"}]}});
        let mut cluster = Cluster::default();
        cluster.add(&block, &mut Vec::new());
        let of = |address: &str| allocated(&cluster.ipam.blocks[0], address.parse().unwrap());
        assert_eq!(
            of("10.0.0.2"),
            (Some(("shop".to_owned(), "web".to_owned())), vec!["n1".to_owned(), "n2".to_owned()])
        );
        assert_eq!(of("10.0.0.1"), (None, vec!["n1".to_owned()]));
        assert_eq!(of("10.0.0.3"), (None, vec!["n1".to_owned()]));
        assert_eq!(of("10.0.0.4"), (None, vec!["n1".to_owned()]));
    }
}
