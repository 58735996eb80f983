//! The rights that the work takes at the API server: what for, whether we have them, and the role that gives them.
//! Asks the server (`SelfSubjectAccessReview`); grants nothing.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Api, ApiError};

/// One right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Right {
    /// Verbs.
    pub(crate) verbs: &'static [&'static str],
    /// API group; empty is the core.
    pub(crate) group: &'static str,
    /// `pods` or `pods/attach`.
    pub(crate) resource: &'static str,
    /// What for.
    pub(crate) reason: &'static str,
    /// In the agents' namespace alone; else everywhere.
    pub(crate) agents: bool,
}

const fn read(group: &'static str, resource: &'static str, reason: &'static str) -> Right {
    Right { verbs: &["get", "list"], group, resource, reason, agents: false }
}

/// To find the path.
const OBJECTS: [Right; 13] = [
    read("", "pods", "the two ends, and whose an address is"),
    read("", "nodes", "their nodes: addresses, tunnels, readiness"),
    read("", "services", "svc/NAME, and addresses that stand for a pod"),
    read("discovery.k8s.io", "endpointslices", "the endpoints of a Service"),
    read("apps", "deployments", "the pods of deploy/NAME"),
    read("apps", "daemonsets", "the pods of ds/NAME"),
    read("apps", "statefulsets", "the pods of sts/NAME"),
    read("apps", "replicasets", "the pods of rs/NAME"),
    read("batch", "jobs", "the pods of job/NAME"),
    read("networking.k8s.io", "networkpolicies", "the name of the policy behind a rule"),
    read(CALICO, "ippools", "which traffic is encapsulated"),
    read(CALICO, "ipamblocks", "whose an address is, and which node's"),
    read(CALICO, "felixconfigurations", "port and VNI of the tunnel"),
];

/// To name policies, and for checks of the whole cluster.
const MORE: [Right; 7] = [
    read(CALICO, "networkpolicies", "the name of the policy behind a rule"),
    read(CALICO, "globalnetworkpolicies", "the name of the policy behind a rule"),
    read(CALICO, "blockaffinities", "`check` and `ipam`: the blocks of a node"),
    read(CALICO, "ipamhandles", "`ipam check`: handles that hold nothing"),
    read(CALICO, "ipamconfigs", "`ipam show`"),
    read(CALICO, "ipreservations", "`ipam show`"),
    read(CALICO, "ipamconfigurations", "`ipam show`"),
];

const CALICO: &str = "crd.projectcalico.org";

/// To start agents.
const AGENTS: [Right; 2] = [
    Right {
        verbs: &["create", "get", "delete", "list"],
        group: "",
        resource: "pods",
        reason: "one agent pod on each node of the path, and `cleanup`",
        agents: true,
    },
    Right {
        verbs: &["get", "create"],
        group: "",
        resource: "pods/attach",
        reason: "the stream to an agent: `get` up to Kubernetes 1.34, `create` after",
        agents: true,
    },
];

/// To write what `ipam release` changes, beside the rights to read; both objects go when nothing is left in them.
pub(crate) const RELEASE: [Right; 2] = [
    Right {
        verbs: &["update", "delete"],
        group: CALICO,
        resource: "ipamblocks",
        reason: "`ipam release`: the block of the address",
        agents: false,
    },
    Right {
        verbs: &["update", "delete"],
        group: CALICO,
        resource: "ipamhandles",
        reason: "`ipam release`: the handle of the address",
        agents: false,
    },
];

/// All rights of a trace; with agents unless the nodes are reached otherwise.
pub(crate) fn needed(agents: bool) -> Vec<Right> {
    let all = OBJECTS.into_iter().chain(MORE);
    if agents { all.chain(AGENTS).collect() } else { all.collect() }
}

/// A right that is not given, as verb and resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denied {
    /// The right.
    pub(crate) right: Right,
    /// Which of its verbs.
    pub(crate) verb: &'static str,
    /// What the authorizer says, if anything.
    pub(crate) why: String,
}

/// Those of the rights that we lack; all are asked at once.
pub(crate) fn lacking(api: &Api, namespace: &str, rights: &[Right]) -> Result<Vec<Denied>, ApiError> {
    let each = rights.iter().flat_map(|right| right.verbs.iter().map(move |verb| (*right, *verb)));
    let answers = api.wait(join_all(each.map(|(right, verb)| async move {
        let (resource, sub) = right.resource.split_once('/').unwrap_or((right.resource, ""));
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": verb, "group": right.group, "resource": resource, "subresource": sub,
                "namespace": if right.agents { namespace } else { "" },
            }},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        (right, verb, api.create(path, &review).await)
    })));
    let mut denied = Vec::new();
    for (right, verb, answer) in answers {
        let answer = answer?;
        if answer.pointer("/status/allowed") != Some(&Value::Bool(true)) {
            let why = answer.pointer("/status/reason").and_then(Value::as_str).unwrap_or_default();
            denied.push(Denied { right, verb, why: why.to_owned() });
        }
    }
    Ok(denied)
}

/// The least roles that give the rights, and their bindings to `subject` (a user, `group:NAME`, or
/// `serviceaccount:NAMESPACE:NAME`), as objects for `kubectl apply`.
pub(crate) fn roles(namespace: &str, rights: &[Right], subject: &str) -> Vec<Value> {
    let subject = match subject.split(':').collect::<Vec<_>>()[..] {
        ["group", name] => json!({"kind": "Group", "name": name, "apiGroup": RBAC}),
        ["serviceaccount", namespace, name] => {
            json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
        }
        _ => json!({"kind": "User", "name": subject, "apiGroup": RBAC}),
    };
    let rules = |agents: bool| -> Vec<Value> {
        let own = rights.iter().filter(|right| right.agents == agents);
        own.map(|right| {
            // Of either of Calico's groups, the objects are the same.
            let groups =
                if right.group == CALICO { vec![CALICO, "projectcalico.org"] } else { vec![right.group] };
            json!({"apiGroups": groups, "resources": [right.resource], "verbs": right.verbs})
        })
        .collect()
    };
    let object = |kind: &str, name: &str, namespace: Option<&str>| {
        let mut metadata = json!({"name": name});
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": metadata})
    };
    let with = |mut object: Value, key: &str, value: Value| {
        object[key] = value;
        object
    };
    let bind = |binding: Value, kind: &str, name: &str| {
        let binding = with(binding, "roleRef", json!({"apiGroup": RBAC, "kind": kind, "name": name}));
        with(binding, "subjects", json!([subject]))
    };
    let mut all = vec![
        with(object("ClusterRole", "trace-drop", None), "rules", json!(rules(false))),
        bind(object("ClusterRoleBinding", "trace-drop", None), "ClusterRole", "trace-drop"),
    ];
    if rights.iter().any(|right| right.agents) {
        all.push(with(object("Role", "trace-drop-agents", Some(namespace)), "rules", json!(rules(true))));
        all.push(bind(
            object("RoleBinding", "trace-drop-agents", Some(namespace)),
            "Role",
            "trace-drop-agents",
        ));
    }
    all
}

const RBAC: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_give_what_is_needed_and_no_more() {
        let text = serde_json::to_string(&roles("kube-system", &needed(false), "jane")).unwrap();
        assert!(!text.contains("create") && !text.contains("delete") && !text.contains("secrets"), "{text}");
        let all = roles("kube-system", &needed(true), "serviceaccount:ops:td");
        assert_eq!(all.len(), 4);
        assert_eq!(all[2].pointer("/rules/1/resources/0"), Some(&json!("pods/attach")));
        assert_eq!(all[3].pointer("/subjects/0/namespace"), Some(&json!("ops")));
    }
}
