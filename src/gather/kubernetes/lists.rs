//! Lists of the API: which kinds there are and under which paths, how a list is narrowed, and its objects decoded page by
//! page. Lists narrowed by a selector are asked of the server's cache (`resourceVersion=0`), which answers at once where
//! the storage would search all pods. Which lists are wanted is [`super::objects`]' to say.

use serde_json::Value;

use super::{Api, ApiError, segment};
use crate::evidence::cluster::Cluster;

/// Calico's groups: of either, the objects are the same.
pub(super) const GROUPS: [&str; 2] = ["crd.projectcalico.org/v1", "projectcalico.org/v3"];

/// Kinds that one answer of the server may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) plural: &'static str,
    /// None is Calico's.
    group: Option<&'static str>,
}

pub(super) const NODE: Kind = Kind { name: "Node", plural: "nodes", group: Some("/api/v1") };
pub(super) const POD: Kind = Kind { name: "Pod", plural: "pods", group: Some("/api/v1") };
pub(super) const SERVICE: Kind = Kind { name: "Service", plural: "services", group: Some("/api/v1") };
pub(super) const SLICE: Kind =
    Kind { name: "EndpointSlice", plural: "endpointslices", group: Some("/apis/discovery.k8s.io/v1") };
pub(super) const POLICY: Kind =
    Kind { name: "NetworkPolicy", plural: "networkpolicies", group: Some("/apis/networking.k8s.io/v1") };
pub(super) const CALICO_POLICY: Kind = Kind { name: "NetworkPolicy", plural: "networkpolicies", group: None };
pub(super) const GLOBAL_POLICY: Kind =
    Kind { name: "GlobalNetworkPolicy", plural: "globalnetworkpolicies", group: None };
pub(super) const POOL: Kind = Kind { name: "IPPool", plural: "ippools", group: None };
pub(super) const FELIX: Kind =
    Kind { name: "FelixConfiguration", plural: "felixconfigurations", group: None };
pub(super) const BLOCK: Kind = Kind { name: "IPAMBlock", plural: "ipamblocks", group: None };
pub(super) const AFFINITY: Kind = Kind { name: "BlockAffinity", plural: "blockaffinities", group: None };
pub(super) const HANDLE: Kind = Kind { name: "IPAMHandle", plural: "ipamhandles", group: None };
pub(super) const CONFIG: Kind = Kind { name: "IPAMConfig", plural: "ipamconfigs", group: None };
pub(super) const RESERVATION: Kind = Kind { name: "IPReservation", plural: "ipreservations", group: None };

/// Every kind that is read of a whole cluster.
pub(super) const ALL: [Kind; 14] = [
    NODE,
    POD,
    SERVICE,
    SLICE,
    POLICY,
    POOL,
    FELIX,
    BLOCK,
    AFFINITY,
    HANDLE,
    CONFIG,
    RESERVATION,
    CALICO_POLICY,
    GLOBAL_POLICY,
];

/// One list to ask for.
pub(super) struct List {
    pub(super) kind: Kind,
    pub(super) namespace: Option<String>,
    /// `fieldSelector=…` or `labelSelector=…`.
    pub(super) selector: Option<String>,
    /// What the list is narrowed to, in words; None is all there are.
    pub(super) narrowed: Option<String>,
    /// At most so many, by which it may be narrowed too.
    pub(super) limit: Option<u32>,
}

impl List {
    pub(super) fn all(kind: Kind) -> Self {
        Self { kind, namespace: None, selector: None, narrowed: None, limit: None }
    }

    pub(super) fn within(kind: Kind, namespace: &str) -> Self {
        let narrowed = format!("those of namespace {namespace}");
        Self { namespace: Some(namespace.to_owned()), narrowed: Some(narrowed), ..Self::all(kind) }
    }

    pub(super) fn selected(self, selector: String, words: &str) -> Self {
        Self { selector: Some(selector), narrowed: Some(words.to_owned()), ..self }
    }

    pub(super) fn path(&self, group: &str) -> String {
        let namespace =
            self.namespace.as_ref().map(|name| format!("/namespaces/{}", segment(name))).unwrap_or_default();
        // Calico's own API calls the IPAMConfig so.
        let plural = match self.kind.plural {
            "ipamconfigs" if group.contains("/projectcalico.org/") => "ipamconfigurations",
            plural => plural,
        };
        let selector = self.selector.as_ref().map(|selector| format!("?{selector}&resourceVersion=0"));
        format!("{group}{namespace}/{plural}{}", selector.unwrap_or_default())
    }
}

/// The objects of one list.
pub(super) struct Part {
    pub(super) cluster: Cluster,
    pub(super) warnings: Vec<String>,
    /// All there are.
    pub(super) whole: bool,
}

impl Part {
    fn new() -> Self {
        Self { cluster: Cluster::default(), warnings: Vec::new(), whole: true }
    }

    fn add(&mut self, objects: &[Value]) {
        for object in objects {
            self.cluster.add(object, &mut self.warnings);
        }
    }
}

/// A list's objects.
pub(super) async fn ask(api: &Api, list: &List) -> Result<Option<Part>, ApiError> {
    let groups: Vec<String> = match list.kind.group {
        Some(group) => vec![group.to_owned()],
        None => GROUPS.iter().map(|group| format!("/apis/{group}")).collect(),
    };
    let mut refused = None;
    for group in groups {
        let path = list.path(&group);
        let answer = match list.limit {
            Some(limit) => api.first(&path, limit).await.map(|page| {
                page.map(|(objects, whole)| {
                    let mut part = Part { whole, ..Part::new() };
                    part.add(&objects);
                    part
                })
            }),
            None => api.fold(&path, Part::new, |part, page| part.add(&page)).await,
        };
        match answer {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            // Rights may be given for the other group.
            Err(error) if error.is_denied() => refused = refused.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    refused.map_or(Ok(None), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_group_namespace_and_selector() {
        let list = List::within(CONFIG, "a b").selected("fieldSelector=x%3Dy".to_owned(), "x");
        assert_eq!(
            list.path("/apis/projectcalico.org/v3"),
            "/apis/projectcalico.org/v3/namespaces/a%20b/ipamconfigurations?fieldSelector=x%3Dy&resourceVersion=0"
        );
        assert_eq!(List::all(NODE).path("/api/v1"), "/api/v1/nodes");
    }
}
