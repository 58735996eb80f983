//! From a created pod to a stream: waits until its container runs, tells what is in the way, attaches, and sends the
//! program where the image has none.

use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::api::AttachParams;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{PodError, Program, Stream, Wanted};
use crate::gather::clock::instant;
use crate::gather::kubernetes::{Api, error, node_path, segment};

/// A pod that was created.
pub(super) struct Pod<'a> {
    pub(super) api: &'a Api,
    pub(super) path: &'a str,
    pub(super) node: &'a str,
    pub(super) image: &'a str,
    pub(super) wanted: &'a Wanted,
}

/// How often the pod is looked at.
const LOOK: Duration = Duration::from_millis(120);
/// Reasons for which a container waits that do not pass soon.
const STUCK: [&str; 9] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];
/// Of these, those about the image.
const OF_IMAGE: usize = 6;
/// Bytes of a stream that may wait on this side.
const BUFFER: usize = 1 << 20;

impl Pod<'_> {
    /// As kubectl takes it.
    pub(super) fn name(&self) -> String {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        format!("-n {} {name}", self.wanted.namespace)
    }

    pub(super) async fn attach(&self) -> Result<Stream, PodError> {
        self.until_running().await?;
        self.stream().await
    }

    /// The stream to its container, which runs, with the program sent through it. Neither the API server nor the
    /// kubelet behind it bounds how long that takes.
    async fn stream(&self) -> Result<Stream, PodError> {
        let pods: kube::Api<PodObject> = kube::Api::namespaced(self.api.client(), &self.wanted.namespace);
        let name = self.path.rsplit('/').next().unwrap_or_default();
        let options = AttachParams {
            stdin: true,
            stdout: true,
            stderr: true,
            max_stdin_buf_size: Some(BUFFER),
            max_stdout_buf_size: Some(BUFFER),
            ..AttachParams::default()
        };
        let attaching = self.in_time("no stream was opened", pods.attach(name, &options)).await?;
        let mut attached = attaching.map_err(|error| self.refused(error::chain(&error)))?;
        let mut input = attached.stdin();
        if let (Program::Upload(file), Some(input)) = (&self.wanted.program, &mut input) {
            let program = fs::read(file).map_err(|error| unusable(file, error.to_string()))?;
            let sending = self.in_time("the program was not taken", input.write_all(&program)).await?;
            sending.map_err(|error| self.refused(error.to_string()))?;
        }
        Ok(Stream { attached, input })
    }

    /// What comes of some work, if it comes within the time that a pod has to start; `what` says what did not.
    async fn in_time<T>(&self, what: &str, work: impl Future<Output = T>) -> Result<T, PodError> {
        let patience = self.wanted.patience;
        timeout(patience, work).await.map_err(|_| {
            let seconds = patience.as_secs();
            self.refused(format!("{what} within {seconds} s; wait longer with --agent-timeout"))
        })
    }

    fn refused(&self, why: String) -> PodError {
        PodError::Attach { pod: self.name(), node: self.node.to_owned(), why }
    }

    async fn until_running(&self) -> Result<(), PodError> {
        let begun = instant();
        let mut state = "nothing is known of it".to_owned();
        loop {
            if let Some(pod) = self.api.get(self.path).await? {
                match State::of(&pod) {
                    State::Running => return Ok(()),
                    State::Stuck { reason, message } => return Err(self.stuck(reason, message)),
                    State::Coming(now) => state = now,
                }
            }
            if begun.elapsed() > self.wanted.patience {
                return Err(PodError::Slow {
                    pod: self.name(),
                    node: self.node.to_owned(),
                    seconds: self.wanted.patience.as_secs(),
                    state,
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn stuck(&self, reason: String, message: String) -> PodError {
        if STUCK[..OF_IMAGE].contains(&reason.as_str()) {
            let (image, node) = (self.image.to_owned(), self.node.to_owned());
            return PodError::Image { image, node, reason, message };
        }
        PodError::Start { pod: self.name(), node: self.node.to_owned(), reason, message }
    }
}

/// What a pod is at.
enum State {
    Running,
    Stuck { reason: String, message: String },
    Coming(String),
}

impl State {
    fn of(pod: &Value) -> Self {
        let text = |at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let container = "/status/containerStatuses/0/state";
        if pod.pointer(&format!("{container}/running")).is_some() {
            return Self::Running;
        }
        let phase = text("/status/phase");
        if matches!(phase.as_str(), "Failed" | "Succeeded")
            || pod.pointer(&format!("{container}/terminated")).is_some()
        {
            return Self::Stuck { reason: phase, message: fate(pod) };
        }
        let reason = text(&format!("{container}/waiting/reason"));
        if STUCK.contains(&reason.as_str()) {
            return Self::Stuck { reason, message: text(&format!("{container}/waiting/message")) };
        }
        Self::Coming(if reason.is_empty() { format!("phase {phase}") } else { reason })
    }
}

/// What became of a pod's container, in the kubelet's words.
pub(super) fn fate(pod: &Value) -> String {
    let text = |at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let ended = "/status/containerStatuses/0/state/terminated";
    let words = [
        text("/status/reason"),
        text("/status/message"),
        text(&format!("{ended}/reason")),
        text(&format!("{ended}/message")),
    ];
    let code = pod.pointer(&format!("{ended}/exitCode")).map(|code| format!("exit code {code}"));
    let mut words: Vec<String> =
        words.iter().filter(|word| !word.is_empty()).map(ToString::to_string).collect();
    words.extend(code);
    words.dedup();
    if words.is_empty() { format!("its pod's phase is {}", text("/status/phase")) } else { words.join(", ") }
}

/// Fails when the node takes no pods now.
pub(super) async fn ready(api: &Api, node: &str) -> Result<(), PodError> {
    let Some(object) = api.get(&node_path(node)).await? else {
        return Err(PodError::NoNode(node.to_owned()));
    };
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let text = |condition: &Value, key: &str| {
        condition.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let ready = conditions.into_iter().find(|condition| text(condition, "type") == "Ready");
    match ready {
        Some(condition) if text(condition, "status") != "True" => Err(PodError::NotReady {
            node: node.to_owned(),
            why: format!(
                "{}: {} since {}",
                text(condition, "reason"),
                text(condition, "message"),
                text(condition, "lastTransitionTime")
            ),
        }),
        _ => Ok(()),
    }
}

/// The image that calico-node runs from on a node: it is there already.
pub(super) async fn calico_image(api: &Api, node: &str) -> Result<String, PodError> {
    let path = format!(
        "/api/v1/pods?labelSelector=k8s-app%3Dcalico-node&fieldSelector=spec.nodeName%3D{}&resourceVersion=0",
        segment(node)
    );
    let pods = api.list(&path).await?.unwrap_or_default();
    let containers = pods.iter().filter_map(|pod| pod.pointer("/spec/containers")?.as_array()).flatten();
    let mut images = containers.filter_map(|container| {
        let text = |key: &str| container.get(key)?.as_str();
        Some((text("name")? == "calico-node", text("image")?.to_owned()))
    });
    images.find(|(own, _)| *own).map(|(_, image)| image).ok_or_else(|| PodError::NoCalico(node.to_owned()))
}

/// The size of a program that can be sent: one that needs nothing of the image that it will run in.
pub(super) fn size(file: &Path) -> Result<u64, PodError> {
    let program = fs::read(file).map_err(|error| unusable(file, error.to_string()))?;
    if !program.starts_with(b"\x7fELF") {
        return Err(unusable(file, "it is no program for Linux".to_owned()));
    }
    if is_dynamic(&program) {
        let why = "it needs libraries that the image there does not have; give one that is linked statically with \
                   --agent-binary (scripts/static makes it), or an image with --agent-image";
        return Err(unusable(file, why.to_owned()));
    }
    Ok(program.len() as u64)
}

fn unusable(file: &Path, why: String) -> PodError {
    PodError::Upload { file: file.display().to_string(), why }
}

/// Whether a 64-bit ELF names an interpreter (a program header of type `PT_INTERP`, 3).
fn is_dynamic(program: &[u8]) -> bool {
    let number = |at: usize, length: usize| {
        let bytes = program.get(at..at + length)?;
        Some(bytes.iter().rev().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let headers = || Some((number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?));
    let Some((offset, size, count)) = headers() else { return false };
    (0..count).any(|index| number(offset.saturating_add(index * size), 4) == Some(3))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gather::kubernetes::Access;

    #[test]
    fn what_a_pod_is_at() {
        let of = |state: Value, phase: &str| {
            State::of(&json!({"status": {"phase": phase, "containerStatuses": [{"state": state}]}}))
        };
        assert!(matches!(of(json!({"running": {}}), "Running"), State::Running));
        assert!(
            matches!(of(json!({"waiting": {"reason": "ContainerCreating"}}), "Pending"), State::Coming(words) if words == "ContainerCreating")
        );
        assert!(
            matches!(of(json!({"waiting": {"reason": "ErrImagePull", "message": "no such host"}}), "Pending"),
            State::Stuck { reason, message } if reason == "ErrImagePull" && message == "no such host")
        );
        assert!(matches!(of(json!({"terminated": {"exitCode": 3, "reason": "Error"}}), "Running"),
            State::Stuck { message, .. } if message == "Error, exit code 3"));
        assert!(matches!(State::of(&json!({})), State::Coming(_)));
    }

    /// A kubelet that takes connections and never answers.
    #[test]
    fn a_stream_that_does_not_open_is_waited_for_so_long_only() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, users: [], contexts: [{{name: c, context: {{cluster: c}}}}], \
             clusters: [{{name: c, cluster: {{server: 'http://{}'}}}}]}}",
            silent.local_addr().unwrap()
        );
        fs::write(kubeconfig.path(), text).unwrap();
        let access = Access { kubeconfig: Some(kubeconfig.path().to_owned()), ..Access::default() };
        let api = Api::connect(&access).unwrap();
        let wanted = Wanted {
            namespace: "kube-system".to_owned(),
            program: Program::Image("td:1".to_owned()),
            pull_policy: "IfNotPresent".to_owned(),
            pull_secret: None,
            enter_pods: false,
            kernel: false,
            deadline: Duration::from_mins(5),
            patience: Duration::from_millis(200),
        };
        let pod = Pod { api: &api, path: "/pods/td-1", node: "n1", image: "td:1", wanted: &wanted };
        let done = api.wait(async { timeout(Duration::from_secs(20), pod.stream()).await });
        let error = done.expect("an end of waiting").err().expect("no stream").to_string();
        assert!(error.contains("no stream was opened") && error.contains("--agent-timeout"), "{error}");
    }

    #[test]
    fn only_a_static_program_is_sent() {
        let own = std::env::current_exe().unwrap();
        let error = size(&own).unwrap_err().to_string();
        assert!(error.contains("--agent-binary"), "{error}");
        assert!(size(Path::new("/etc/passwd")).unwrap_err().to_string().contains("no program"));
        assert!(!is_dynamic(b"\x7fELF"));
    }
}
