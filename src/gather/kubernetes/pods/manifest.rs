//! An agent's pod as an object. Pure: what is wanted in, JSON out. Each right and each mount is there for one part of
//! the work, and only when that part is asked for.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Wanted;

/// One pod on one node.
#[derive(Debug)]
pub(crate) struct Manifest<'a> {
    pub(crate) name: &'a str,
    pub(crate) node: &'a str,
    /// The node's: it owns the pod, so that the pod goes with it.
    pub(crate) uid: Option<&'a str>,
    pub(crate) run: &'a str,
    pub(crate) wanted: &'a Wanted,
}

/// What every agent's pod is found by.
pub(super) const LABELS: [(&str, &str); 2] =
    [("app.kubernetes.io/name", "trace-drop"), ("app.kubernetes.io/component", "agent")];
/// Where a program that is sent is put: memory of the pod.
const FOLDER: &str = "/trace-drop";

impl Manifest<'_> {
    /// The image holds the program.
    pub(crate) fn with_image(&self, image: &str) -> Value {
        self.with(image, &self.wanted.pull_policy, &json!(["trace-drop", "agent"]), &json!([]), &json!([]))
    }

    /// The program comes first on the standard input, then what is said to it.
    pub(crate) fn with_upload(&self, image: &str, size: u64) -> Value {
        let file = format!("{FOLDER}/trace-drop");
        // The first that there is takes exactly so many bytes.
        let script = format!(
            "{{ head -c {size} || dd bs={size} count=1 iflag=fullblock; }} >{file} && chmod 700 {file} && exec {file} agent"
        );
        let volume = json!([{"name": "program", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}]);
        let mount = json!([{"name": "program", "mountPath": FOLDER}]);
        self.with(image, "Never", &json!(["sh", "-c", script]), &volume, &mount)
    }

    fn with(&self, image: &str, pull: &str, command: &Value, volumes: &Value, mounts: &Value) -> Value {
        let wanted = self.wanted;
        let mut security = json!({
            "runAsUser": 0,
            "runAsNonRoot": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": self.capabilities()},
        });
        if wanted.enter_pods {
            // The runtimes' default profiles forbid to look into other processes' namespaces.
            security["appArmorProfile"] = json!({"type": "Unconfined"});
        } else {
            security["allowPrivilegeEscalation"] = json!(false);
        }
        let mut labels: BTreeMap<&str, &str> = BTreeMap::from(LABELS);
        labels.insert("trace-drop/run", self.run);
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": wanted.namespace,
                "labels": labels,
            },
            "spec": {
                "nodeName": self.node,
                "hostNetwork": true,
                "hostPID": wanted.enter_pods,
                "dnsPolicy": "Default",
                "restartPolicy": "Never",
                "activeDeadlineSeconds": wanted.deadline.as_secs().max(1),
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{
                    "name": "agent",
                    "image": image,
                    "imagePullPolicy": pull,
                    "command": command,
                    "stdin": true,
                    "stdinOnce": true,
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                    "securityContext": security,
                    "volumeMounts": mounts,
                }],
                "volumes": volumes,
            },
        });
        if let Some(secret) = &wanted.pull_secret {
            pod["spec"]["imagePullSecrets"] = json!([{"name": secret}]);
        }
        if let Some(uid) = self.uid {
            pod["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": uid}]);
        }
        pod
    }

    fn capabilities(&self) -> Vec<&'static str> {
        let mut all = vec!["NET_RAW", "NET_ADMIN"];
        if self.wanted.enter_pods {
            all.extend(["SYS_ADMIN", "SYS_PTRACE"]);
        }
        if self.wanted.kernel {
            all.extend(["BPF", "PERFMON", "SYSLOG"]);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::gather::kubernetes::pods::Program;

    fn wanted(enter_pods: bool, kernel: bool) -> Wanted {
        Wanted {
            namespace: "kube-system".to_owned(),
            program: Program::Image("td:1".to_owned()),
            pull_policy: "IfNotPresent".to_owned(),
            pull_secret: None,
            enter_pods,
            kernel,
            deadline: Duration::from_mins(5),
            patience: Duration::from_mins(1),
        }
    }

    #[test]
    fn rights_only_for_what_is_asked() {
        let pod = |enter, kernel| {
            let wanted = wanted(enter, kernel);
            Manifest { name: "p", node: "n", uid: None, run: "r", wanted: &wanted }.with_image("td:1")
        };
        let rights = |pod: &Value| {
            pod.pointer("/spec/containers/0/securityContext/capabilities/add").unwrap().to_string()
        };
        let least = pod(false, false);
        assert_eq!(rights(&least), r#"["NET_RAW","NET_ADMIN"]"#);
        assert_eq!(least.pointer("/spec/hostPID"), Some(&json!(false)));
        assert_eq!(rights(&pod(true, false)), r#"["NET_RAW","NET_ADMIN","SYS_ADMIN","SYS_PTRACE"]"#);
        assert_eq!(rights(&pod(false, true)), r#"["NET_RAW","NET_ADMIN","BPF","PERFMON","SYSLOG"]"#);
        assert_eq!(pod(true, true).pointer("/spec/hostPID"), Some(&json!(true)));
    }

    #[test]
    fn a_pod_that_ends_by_itself_and_runs_on_any_taint() {
        let wanted = wanted(false, false);
        let pod = Manifest { name: "p", node: "n", uid: Some("u"), run: "r", wanted: &wanted }
            .with_upload("calico:1", 5);
        assert_eq!(pod.pointer("/spec/activeDeadlineSeconds"), Some(&json!(300)));
        assert_eq!(pod.pointer("/spec/tolerations"), Some(&json!([{"operator": "Exists"}])));
        assert_eq!(pod.pointer("/metadata/ownerReferences/0/uid"), Some(&json!("u")));
        assert_eq!(pod.pointer("/spec/containers/0/imagePullPolicy"), Some(&json!("Never")));
        assert!(
            pod.pointer("/spec/containers/0/command/2").unwrap().as_str().unwrap().contains("head -c 5 ")
        );
    }
}
