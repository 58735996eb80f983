//! The cluster's API server: how it is found, as kubectl finds it, and single calls to it. Takes paths of the API, gives
//! JSON objects. Lists come in pages; every call ends after the request timeout; what came back is counted. What the
//! objects mean is told in [`crate::evidence::cluster`].

mod error;
pub(crate) mod ipam;
mod lists;
pub(crate) mod objects;
pub(crate) mod pods;
pub(crate) mod rights;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Runtime;

pub(crate) use error::ApiError;

/// How the API server is found, in kubectl's words.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Access {
    /// `--kubeconfig`; without it `KUBECONFIG`, then `~/.kube/config`, then the service account of a pod.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub(crate) context: Option<String>,
    /// `--as`.
    pub(crate) impersonate: Option<String>,
    /// `--as-group`.
    pub(crate) groups: Vec<String>,
    /// `--request-timeout`: of each call; None waits for ever.
    pub(crate) timeout: Option<Duration>,
}

/// A connection to the API server. Clones share it.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    runtime: Arc<Runtime>,
    timeout: Option<Duration>,
    tally: Arc<Tally>,
    /// Where it is, for messages.
    pub(crate) server: String,
    /// The context's namespace, else `default`.
    pub(crate) namespace: String,
}

/// What was asked so far.
#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// Objects in one page of a list.
pub(crate) const PAGE: u32 = 500;

impl Api {
    /// Reads the configuration. Nothing is asked of the server yet.
    pub(crate) fn connect(access: &Access) -> Result<Self, ApiError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ApiError::config("start waiting for the API server", &error))?;
        let (config, client) = runtime.block_on(async {
            let mut config = find(access).await?;
            config.auth_info.impersonate.clone_from(&access.impersonate);
            if !access.groups.is_empty() {
                config.auth_info.impersonate_groups = Some(access.groups.clone());
            }
            let client = Client::try_from(config.clone())
                .map_err(|error| ApiError::config("use the kubeconfig", &error))?;
            Ok::<_, ApiError>((config, client))
        })?;
        Ok(Self {
            client,
            runtime: Arc::new(runtime),
            timeout: access.timeout,
            tally: Arc::default(),
            server: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
            namespace: config.default_namespace,
        })
    }

    /// Waits for calls. Everything that talks to the server runs here, because its connections live here.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Requests sent and bytes of answers so far, after decompression; streams are not counted.
    pub(crate) fn asked(&self) -> (u64, u64) {
        (self.tally.requests.load(Ordering::Relaxed), self.tally.bytes.load(Ordering::Relaxed))
    }

    /// For streams, which have calls of their own.
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// One object; None when there is none, or no such kind.
    pub(crate) async fn get(&self, path: &str) -> Result<Option<Value>, ApiError> {
        match self.call(Method::GET, path, None).await {
            Err(error) if error.is_absent() => Ok(None),
            other => other.map(Some),
        }
    }

    /// All objects of a list. None when there is no such kind.
    pub(crate) async fn list(&self, path: &str) -> Result<Option<Vec<Value>>, ApiError> {
        self.fold(path, Vec::new, |all: &mut Vec<Value>, page| all.extend(page)).await
    }

    /// A list, page by page into what `begin` makes: no more than one page is held. A list that changes too much between
    /// its pages is begun again, once.
    pub(crate) async fn fold<T>(
        &self,
        path: &str,
        begin: impl Fn() -> T,
        take: impl Fn(&mut T, Vec<Value>),
    ) -> Result<Option<T>, ApiError> {
        let mut again = true;
        let (mut all, mut next) = (begin(), None::<String>);
        loop {
            match self.page(path, PAGE, next.as_deref()).await {
                Ok(Some((items, after))) => {
                    take(&mut all, items);
                    if after.is_none() {
                        return Ok(Some(all));
                    }
                    next = after;
                }
                Ok(None) => return Ok(None),
                Err(error) if error.is_expired() && again => (all, next, again) = (begin(), None, false),
                Err(error) => return Err(error),
            }
        }
    }

    /// The first objects of a list, and whether they are all.
    pub(crate) async fn first(&self, path: &str, limit: u32) -> Result<Option<(Vec<Value>, bool)>, ApiError> {
        let page = self.page(path, limit, None).await?;
        Ok(page.map(|(items, after)| (items, after.is_none())))
    }

    /// Creates an object in a collection.
    pub(crate) async fn create(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        self.call(Method::POST, path, Some(object)).await
    }

    /// Writes an object over the version that it carries.
    pub(crate) async fn replace(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        self.call(Method::PUT, path, Some(object)).await
    }

    /// Deletes an object; that it is gone already is no error.
    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<(), ApiError> {
        match self.call(Method::DELETE, path, Some(options)).await {
            Err(error) if error.is_absent() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Items that carry their kind, as single objects do, and where the next page begins.
    async fn page(
        &self,
        path: &str,
        limit: u32,
        next: Option<&str>,
    ) -> Result<Option<(Vec<Value>, Option<String>)>, ApiError> {
        let sign = if path.contains('?') { '&' } else { '?' };
        let next = next.map(|next| format!("&continue={}", segment(next))).unwrap_or_default();
        let Some(mut list) = self.get(&format!("{path}{sign}limit={limit}{next}")).await? else {
            return Ok(None);
        };
        let text = |key: &str| list.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (kind, version) = (text("kind"), text("apiVersion"));
        let kind = kind.strip_suffix("List").unwrap_or(&kind);
        let after = list.pointer("/metadata/continue").and_then(Value::as_str).map(str::to_owned);
        let items = match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        let named = items.into_iter().map(|mut item| {
            if let Some(item) = item.as_object_mut() {
                item.insert("kind".to_owned(), kind.into());
                item.insert("apiVersion".to_owned(), version.clone().into());
            }
            item
        });
        Ok(Some((named.collect(), after.filter(|next| !next.is_empty()))))
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        let verb = method.to_string();
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let request = request
            .body(bytes)
            .map_err(|error| ApiError::Nonsense { path: path.to_owned(), why: error.to_string() })?;
        let asked = self.client.request_text(request);
        let answer = match self.timeout {
            None => asked.await,
            Some(limit) => match tokio::time::timeout(limit, asked).await {
                Ok(answer) => answer,
                Err(_) => {
                    return Err(ApiError::Silent {
                        server: self.server.clone(),
                        verb,
                        path: path.to_owned(),
                        seconds: limit.as_secs_f64(),
                    });
                }
            },
        };
        self.tally.requests.fetch_add(1, Ordering::Relaxed);
        let text = answer.map_err(|error| ApiError::of(&self.server, &verb, path, error))?;
        self.tally.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        serde_json::from_str(&text)
            .map_err(|error| ApiError::Nonsense { path: path.to_owned(), why: error.to_string() })
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Api").field("server", &self.server).finish_non_exhaustive()
    }
}

/// A kubeconfig if there is one, else the service account of this pod. When both ways fail, both reasons are told.
async fn find(access: &Access) -> Result<Config, ApiError> {
    let options = KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
    let kubeconfig = match &access.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let found = match kubeconfig {
        Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
        Err(error) => Err(error),
    };
    let error = match found {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    // Who names a file or a context does not mean the pod that this may be.
    if access.kubeconfig.is_some() || access.context.is_some() {
        return Err(ApiError::config("use the kubeconfig", &error));
    }
    Config::incluster().map_err(|in_cluster| ApiError::NoWay {
        kubeconfig: error::chain(&error),
        in_cluster: error::chain(&in_cluster),
    })
}

/// The path of a pod.
pub(crate) fn pod_path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", segment(namespace), segment(name))
}

/// The path of a node.
pub(crate) fn node_path(name: &str) -> String {
    format!("/api/v1/nodes/{}", segment(name))
}

/// One segment of a path, or one value of a query: nothing in it ends the segment.
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_stays_one() {
        assert_eq!(segment("k8s-pod-network.1f_a"), "k8s-pod-network.1f_a");
        assert_eq!(segment("../pods?x=1&y%"), "..%2Fpods%3Fx%3D1%26y%25");
    }

    #[test]
    fn without_any_way_both_reasons_are_told() {
        let access = Access { kubeconfig: Some("/nonexistent/kubeconfig".into()), ..Access::default() };
        let error = Api::connect(&access).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/kubeconfig"), "{error}");
    }
}
