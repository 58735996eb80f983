//! Agent pods: one on each node of the path, made by name on its node, with just the rights that the work needs, and
//! spoken to through the API server. Gives streams; what is said on them is [`crate::gather::agent`]'s.
//!
//! Nothing stays: the pod ends when its standard input does, or at its deadline; this side deletes it; and a process
//! of its own ([`sweep`]) deletes it when this side dies without a word.

pub(crate) mod left;
mod manifest;
mod start;
pub(crate) mod sweep;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kube::api::AttachedProcess;
use serde_json::{Value, json};
use tokio::io::{ReadHalf, SimplexStream, WriteHalf};

use super::{Access, Api, ApiError, node_path, pod_path, segment};
use crate::gather::clock::now;
use sweep::Sweeper;

pub(crate) use manifest::Manifest;

/// What the pods look like.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Where they live.
    pub(crate) namespace: String,
    /// Where the program comes from.
    pub(crate) program: Program,
    /// `Always`, `IfNotPresent` or `Never`.
    pub(crate) pull_policy: String,
    /// The secret that the image is pulled with.
    pub(crate) pull_secret: Option<String>,
    /// Pods' own namespaces are entered.
    pub(crate) enter_pods: bool,
    /// The kernel is listened to.
    pub(crate) kernel: bool,
    /// After which Kubernetes ends them, whatever happens here.
    pub(crate) deadline: Duration,
    /// How long one may take to run.
    pub(crate) patience: Duration,
}

/// Where the program in the pod comes from.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    /// An image that holds it.
    Image(String),
    /// An image that the node has already, calico-node's, and this file sent through the stream.
    Upload(PathBuf),
}

/// Why there is no agent pod, or no stream to it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodError {
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The rules of the namespace.
    #[error(
        "namespace {namespace} does not admit the agent's pod: {why}; choose one that admits privileged pods with \
         --agent-namespace"
    )]
    Admission {
        /// Where.
        namespace: String,
        /// The server's words.
        why: String,
    },
    /// Nothing starts on such a node.
    #[error(
        "node {node} is not ready ({why}): no agent pod can start there; reach it with --reach 'ssh root@{{address}}', or mend it first: `kubectl describe node {node}`"
    )]
    NotReady {
        /// Which.
        node: String,
        /// The condition's reason and message.
        why: String,
    },
    /// No such node.
    #[error(
        "there is no node {0} in the cluster any more: its pod must have been left behind; see `kubectl get nodes`"
    )]
    NoNode(String),
    /// calico-node is not there.
    #[error(
        "no calico-node runs on node {0}, whose image would be used for the agent; give one with --agent-image"
    )]
    NoCalico(String),
    /// The image does not come.
    #[error(
        "the agent's image {image} cannot be had on node {node} ({reason}): {message}; check the name, --agent-pull-policy and --agent-pull-secret, or leave out --agent-image to use an image that the node has"
    )]
    Image {
        /// Which.
        image: String,
        /// Where.
        node: String,
        /// `ErrImagePull` and the like.
        reason: String,
        /// The kubelet's words.
        message: String,
    },
    /// It does not start.
    #[error(
        "the agent pod {pod} does not start on node {node} ({reason}): {message}; see `kubectl describe pod {pod}`"
    )]
    Start {
        /// Namespace and name, as kubectl takes them.
        pod: String,
        /// Where.
        node: String,
        /// Reason of the state.
        reason: String,
        /// Words of the kubelet.
        message: String,
    },
    /// It takes too long.
    #[error(
        "the agent pod {pod} does not run on node {node} after {seconds} s ({state}); see `kubectl describe pod {pod}`, or wait longer with --agent-timeout"
    )]
    Slow {
        /// Namespace and name, as kubectl takes them.
        pod: String,
        /// Where.
        node: String,
        /// How long it had.
        seconds: u64,
        /// What it is at.
        state: String,
    },
    /// No stream.
    #[error("cannot attach to the agent pod {pod} on node {node}: {why}")]
    Attach {
        /// Namespace and name, as kubectl takes them.
        pod: String,
        /// Where.
        node: String,
        /// What came back.
        why: String,
    },
    /// The program to send.
    #[error("cannot send the program {file} to the node: {why}")]
    Upload {
        /// Which.
        file: String,
        /// Why.
        why: String,
    },
}

/// Makes agent pods. One for each trace.
#[derive(Debug)]
pub(crate) struct Pods {
    pub(crate) api: Api,
    wanted: Wanted,
    run: String,
    count: AtomicU32,
    sweeper: Sweeper,
}

/// A running agent pod and its stream.
pub(crate) struct PodAgent {
    api: Api,
    path: String,
    /// As kubectl takes it: `-n NAMESPACE NAME`.
    pub(crate) name: String,
    stream: Stream,
}

/// The two ends of an attached container.
pub(super) struct Stream {
    pub(super) attached: AttachedProcess,
    pub(super) input: Option<WriteHalf<SimplexStream>>,
}

impl Pods {
    pub(crate) fn new(api: Api, access: &Access, wanted: Wanted) -> Self {
        let run = format!("{:08x}", now().unsigned_abs() >> 10 & 0xffff_ffff ^ u64::from(std::process::id()));
        let sweeper = Sweeper::new(access.clone());
        Self { api, wanted, run, count: AtomicU32::new(0), sweeper }
    }

    /// The pods as they would be made on these nodes.
    pub(crate) fn manifests(&self, nodes: &[String]) -> Result<Vec<Value>, PodError> {
        let mut made = Vec::new();
        for node in nodes {
            made.push(self.api.wait(self.manifest(node))?.1);
        }
        Ok(made)
    }

    /// Makes a pod on a node, waits until it runs, and attaches to it.
    pub(crate) async fn start(&self, node: &str) -> Result<PodAgent, PodError> {
        start::ready(&self.api, node).await?;
        let (name, manifest) = self.manifest(node).await?;
        let collection = format!("/api/v1/namespaces/{}/pods", segment(&self.wanted.namespace));
        let path = pod_path(&self.wanted.namespace, &name);
        self.sweeper.mind(&path);
        let made = self.api.create(&collection, &manifest).await.map_err(|error| self.refusal(error))?;
        let image = made.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default();
        let pod = start::Pod { api: &self.api, path: &path, node, image, wanted: &self.wanted };
        match pod.attach().await {
            Ok(stream) => {
                let name = pod.name();
                Ok(PodAgent { api: self.api.clone(), path, name, stream })
            }
            Err(error) => {
                // Whatever became of it: it is of no use.
                if delete(&self.api, &path).await.is_ok() {
                    self.sweeper.forget(&path);
                }
                Err(error)
            }
        }
    }

    /// Deletes a pod, also through a server that is away for a moment.
    pub(crate) async fn delete(&self, pod: PodAgent) {
        for pause in [0, 1, 2, 4, 8] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            match delete(&self.api, &pod.path).await {
                Err(error) if error.is_passing() => {}
                Err(_) => return,
                Ok(()) => return self.sweeper.forget(&pod.path),
            }
        }
    }

    fn refusal(&self, error: ApiError) -> PodError {
        match error {
            ApiError::Said { code: 403, message, .. } if message.contains("PodSecurity") => {
                PodError::Admission { namespace: self.wanted.namespace.clone(), why: message }
            }
            other => other.into(),
        }
    }

    async fn manifest(&self, node: &str) -> Result<(String, Value), PodError> {
        let name = format!("trace-drop-{}-{}", self.run, self.count.fetch_add(1, Ordering::Relaxed));
        let node_object = self.api.get(&node_path(node)).await?;
        let uid = node_object.as_ref().and_then(|node| node.pointer("/metadata/uid")?.as_str());
        let manifest = Manifest { name: &name, node, uid, run: &self.run, wanted: &self.wanted };
        let object = match &self.wanted.program {
            Program::Image(image) => manifest.with_image(image),
            Program::Upload(file) => {
                let image = start::calico_image(&self.api, node).await?;
                manifest.with_upload(&image, start::size(file)?)
            }
        };
        Ok((name, object))
    }
}

impl PodAgent {
    /// Its standard input, output and error: each once.
    pub(crate) fn streams(&mut self) -> Option<Streams> {
        let output = self.stream.attached.stdout()?;
        Some((self.stream.input.take()?, output, self.stream.attached.stderr()?))
    }

    /// Why the container is not there any more, in the kubelet's words.
    pub(crate) async fn fate(&self) -> String {
        match self.api.get(&self.path).await {
            Ok(Some(pod)) => start::fate(&pod),
            Ok(None) => "its pod was deleted".to_owned(),
            Err(error) => format!("and its pod cannot be asked for: {error}"),
        }
    }
}

/// Standard input, output and error.
pub(crate) type Streams = (WriteHalf<SimplexStream>, ReadHalf<SimplexStream>, ReadHalf<SimplexStream>);

/// Deletes an agent's pod: the program in it has ended, or is to end now.
async fn delete(api: &Api, path: &str) -> Result<(), ApiError> {
    api.delete(path, &json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 1})).await
}
