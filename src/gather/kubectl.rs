//! Single objects of the cluster through the operator's own `kubectl`, with its contexts and credentials. Takes paths of
//! the API; gives what the server answered. Writes only what carries the version that was read, so that the server
//! refuses a write on top of somebody else's. Uses `--raw` calls alone: no discovery, no schema, the same in every
//! version of kubectl.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use ipnet::IpNet;
use serde_json::{Value, json};

/// The operator's kubectl, as it is called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kubectl {
    /// `--context`.
    pub(crate) context: Option<String>,
    /// `--kubeconfig`.
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// An object as read, and where it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    /// The path.
    pub(crate) path: String,
    /// The object.
    pub(crate) object: Value,
}

/// What went wrong, at which call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubectlError {
    /// No kubectl.
    #[error("cannot run kubectl: {0}; install it, or put it on the PATH")]
    Run(io::Error),
    /// The server has a newer version than the one that was read.
    #[error(
        "{path} was changed by somebody else since it was read: nothing was written to it; run the command again"
    )]
    Conflict {
        /// The object.
        path: String,
    },
    /// Anything else that kubectl said.
    #[error("kubectl {verb} {path}: {said}")]
    Said {
        /// What was done.
        verb: &'static str,
        /// On what.
        path: String,
        /// Its words.
        said: String,
    },
    /// Not JSON.
    #[error("kubectl {verb} {path} did not print an object: {why}")]
    Nonsense {
        /// What was done.
        verb: &'static str,
        /// On what.
        path: String,
        /// What the parser said.
        why: String,
    },
}

/// Calico's groups: of either, the objects are the same.
const GROUPS: [&str; 2] = ["crd.projectcalico.org/v1", "projectcalico.org/v3"];
/// How many objects one call lists.
const PAGE: u32 = 1000;

impl Kubectl {
    /// The block that an address lies in, and the group through which it was read.
    ///
    /// A block is named after its prefix, so that no list of blocks is needed: at most 13 lengths are legal, and the
    /// pool around it says which is likely.
    pub(crate) fn block(&self, address: IpAddr) -> Result<Option<(Stored, &'static str)>, KubectlError> {
        for group in GROUPS {
            let pools = match self.get(format!("/apis/{group}/ippools")) {
                Ok(pools) => pools.map(|pools| pools.object),
                // The blocks can be read without them.
                Err(KubectlError::Said { .. }) => None,
                Err(other) => return Err(other),
            };
            for length in lengths(address, pools.as_ref()) {
                let Ok(net) = IpNet::new(address, length) else { continue };
                let name = net.trunc().to_string().replace(['.', ':', '/'], "-");
                if let Some(found) = self.get(format!("/apis/{group}/ipamblocks/{name}"))? {
                    return Ok(Some((found, group)));
                }
            }
        }
        Ok(None)
    }

    /// A handle.
    pub(crate) fn handle(&self, group: &str, id: &str) -> Result<Option<Stored>, KubectlError> {
        self.get(format!("/apis/{group}/ipamhandles/{}", segment(&id.to_lowercase())))
    }

    /// A node.
    pub(crate) fn node(&self, name: &str) -> Result<Option<Stored>, KubectlError> {
        self.get(format!("/api/v1/nodes/{}", segment(name)))
    }

    /// All pods, of all namespaces: no field selector finds a second family's address.
    pub(crate) fn pods(&self) -> Result<Vec<Value>, KubectlError> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("/api/v1/pods?limit={PAGE}{after}");
            let list = self.get(path.clone())?.ok_or(KubectlError::Said {
                verb: "get",
                path,
                said: "the server has no pods at all".to_owned(),
            })?;
            let mut list = list.object;
            if let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) {
                // Items of a list carry no kind of their own.
                all.extend(items.into_iter().map(|mut pod| {
                    if let Some(pod) = pod.as_object_mut() {
                        pod.insert("kind".to_owned(), json!("Pod"));
                        pod.insert("apiVersion".to_owned(), json!("v1"));
                    }
                    pod
                }));
            }
            match list.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(next) if !next.is_empty() => after = format!("&continue={}", segment(next)),
                _ => return Ok(all),
            }
        }
    }

    /// Writes an object over the version that it carries.
    pub(crate) fn replace(&self, path: &str, object: &Value) -> Result<(), KubectlError> {
        self.call("replace", path, Some(object)).map(|_| ())
    }

    /// Deletes the very object that was read.
    pub(crate) fn delete(&self, stored: &Stored) -> Result<(), KubectlError> {
        let of = |key: &str| stored.object.pointer(&format!("/metadata/{key}")).cloned();
        let options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1",
            "preconditions": {"uid": of("uid"), "resourceVersion": of("resourceVersion")},
        });
        self.call("delete", &stored.path, Some(&options)).map(|_| ())
    }

    fn get(&self, path: String) -> Result<Option<Stored>, KubectlError> {
        match self.call("get", &path, None) {
            Ok(printed) => match serde_json::from_str(&printed) {
                Ok(object) => Ok(Some(Stored { path, object })),
                Err(error) => Err(KubectlError::Nonsense { verb: "get", path, why: error.to_string() }),
            },
            Err(KubectlError::Said { said, .. }) if is_absent(&said) => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn call(&self, verb: &'static str, path: &str, body: Option<&Value>) -> Result<String, KubectlError> {
        let mut command = self.command(verb, path, body.is_some());
        let mut child = command.spawn().map_err(KubectlError::Run)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let writer = child.stdin.take().map(|mut pipe| {
            // One that reads nothing ends with an error of its own.
            thread::spawn(move || drop(pipe.write_all(body.as_bytes())))
        });
        let done = child.wait_with_output().map_err(KubectlError::Run)?;
        if let Some(writer) = writer {
            drop(writer.join());
        }
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        if said.contains("(Conflict)") || said.contains("the object has been modified") {
            return Err(KubectlError::Conflict { path: path.to_owned() });
        }
        Err(KubectlError::Said { verb, path: path.to_owned(), said })
    }

    #[expect(clippy::disallowed_methods, reason = "this room runs programs")]
    fn command(&self, verb: &str, path: &str, body: bool) -> Command {
        let mut command = Command::new("kubectl");
        command.arg(verb).args(["--raw", path]).arg("--request-timeout=30s");
        if body {
            command.args(["-f", "-"]);
        }
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        if let Some(file) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        command.stdin(if body { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// The legal lengths of a block's prefix, the likeliest first.
fn lengths(address: IpAddr, pools: Option<&Value>) -> Vec<u8> {
    let (usual, legal) = if address.is_ipv4() { (26, 20..=32) } else { (122, 116..=128) };
    let pools = pools.and_then(|list| list.get("items")?.as_array()).into_iter().flatten();
    let around = pools.filter_map(|pool| {
        let spec = pool.get("spec")?;
        let cidr: IpNet = spec.get("cidr")?.as_str()?.parse().ok()?;
        let length = spec.get("blockSize")?.as_u64().and_then(|length| u8::try_from(length).ok())?;
        (cidr.contains(&address) && legal.contains(&length)).then_some(length)
    });
    let mut all: Vec<u8> = Vec::new();
    for length in around.chain([usual]).chain(legal.clone()) {
        if !all.contains(&length) {
            all.push(length);
        }
    }
    all
}

/// The server answered that there is no such object, or no such kind.
fn is_absent(said: &str) -> bool {
    said.contains("(NotFound)") || said.contains("could not find the requested resource")
}

/// One segment of a path, or one value of a query: nothing in it ends the segment.
fn segment(text: &str) -> String {
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
    fn the_pools_block_size_is_tried_first() {
        let pools = json!({"items": [{"spec": {"cidr": "10.0.0.0/16", "blockSize": 29}},
            {"spec": {"cidr": "10.1.0.0/16", "blockSize": 20}}, {"spec": 5}, {"spec": {"cidr": "10.0.0.0/8", "blockSize": 300}}]});
        let of = |address: &str, pools| lengths(address.parse().unwrap(), pools);
        assert_eq!(of("10.0.0.1", Some(&pools)), [29, 26, 20, 21, 22, 23, 24, 25, 27, 28, 30, 31, 32]);
        assert_eq!(of("fd00::1", Some(&pools))[..2], [122, 116]);
        assert_eq!(of("10.0.0.1", None).len(), 13);
    }

    #[test]
    fn absence_is_no_error() {
        assert!(is_absent("Error from server (NotFound): ipamblocks \"x\" not found"));
        assert!(is_absent("Error from server (NotFound): the server could not find the requested resource"));
        assert!(!is_absent("Error from server (Forbidden): pods is forbidden"));
    }
}
