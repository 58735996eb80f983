//! Agent pods that are in the cluster, whoever made them: found by their labels, and removed one by one.

use serde_json::Value;

use super::manifest::LABELS;
use crate::gather::kubernetes::{Api, ApiError, pod_path, segment};

/// An agent's pod.
#[derive(Debug)]
pub(crate) struct Left {
    /// Namespace, name and node, for a person.
    pub(crate) name: String,
    /// It runs or is about to: it has its trace, or its deadline.
    pub(crate) runs: bool,
    path: String,
}

/// All of them, of all namespaces.
pub(crate) fn all(api: &Api) -> Result<Vec<Left>, ApiError> {
    let labels: Vec<String> = LABELS.iter().map(|(key, value)| segment(&format!("{key}={value}"))).collect();
    let pods = api.wait(api.list(&format!("/api/v1/pods?labelSelector={}", labels.join(","))))?;
    Ok(pods.unwrap_or_default().iter().map(Left::of).collect())
}

impl Left {
    fn of(pod: &Value) -> Self {
        let text = |at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        Self {
            name: format!("{namespace}/{name} on {}", text("/spec/nodeName")),
            runs: matches!(text("/status/phase"), "Running" | "Pending"),
            path: pod_path(namespace, name),
        }
    }

    /// Deletes it.
    pub(crate) fn remove(&self, api: &Api) -> Result<(), ApiError> {
        api.wait(super::delete(api, &self.path))
    }
}
