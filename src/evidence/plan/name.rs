//! An endpoint as typed, taken apart as kubectl does it. Nothing is looked up here.

use std::fmt;
use std::net::IpAddr;

use crate::evidence::cluster::WorkloadKind;

/// What an endpoint's words mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndName {
    /// `pod`, `namespace/pod`, `pod/[namespace/]pod`.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// An IP address.
    Address(IpAddr),
    /// `node/NAME`.
    Node(String),
    /// `svc/[namespace/]name[:port]`.
    Service {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Number or name of a port.
        port: Option<String>,
    },
    /// `deploy/[namespace/]name` and the like: any pod of it.
    Workload {
        /// What it is.
        kind: WorkloadKind,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
}

impl EndName {
    /// Takes the words apart; `namespace` is that of bare names.
    pub fn read(typed: &str, namespace: &str) -> Self {
        if let Ok(address) = typed.parse() {
            return Self::Address(address);
        }
        let Some((kind, rest)) = typed.split_once('/') else {
            return Self::Pod { namespace: namespace.to_owned(), name: typed.to_owned() };
        };
        let (inner, name) = rest.split_once('/').unwrap_or((namespace, rest));
        let (namespace, name) = (inner.to_owned(), name.to_owned());
        match kind {
            "node" | "nodes" | "no" => Self::Node(rest.to_owned()),
            "svc" | "service" | "services" => {
                let (name, port) = match name.split_once(':') {
                    Some((name, port)) => (name.to_owned(), Some(port.to_owned())),
                    None => (name, None),
                };
                Self::Service { namespace, name, port }
            }
            "pod" | "pods" | "po" => Self::Pod { namespace, name },
            _ => match WorkloadKind::read(kind) {
                Some(kind) => Self::Workload { kind, namespace, name },
                None => Self::Pod { namespace: kind.to_owned(), name: rest.to_owned() },
            },
        }
    }
}

impl fmt::Display for EndName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(out, "pod {namespace}/{name}"),
            Self::Address(address) => write!(out, "{address}"),
            Self::Node(name) => write!(out, "node {name}"),
            Self::Service { namespace, name, .. } => write!(out, "Service {namespace}/{name}"),
            Self::Workload { kind, namespace, name } => write!(out, "{} {namespace}/{name}", kind.word()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectls_words_for_things() {
        let read = |typed: &str| EndName::read(typed, "here").to_string();
        assert_eq!(read("web"), "pod here/web");
        assert_eq!(read("shop/web"), "pod shop/web");
        assert_eq!(read("pod/web"), "pod here/web");
        assert_eq!(read("pod/job/web"), "pod job/web");
        assert_eq!(read("10.0.0.1"), "10.0.0.1");
        assert_eq!(read("fd00::1"), "fd00::1");
        assert_eq!(read("node/n1"), "node n1");
        assert_eq!(read("deploy/web"), "Deployment here/web");
        assert_eq!(read("sts/shop/db"), "StatefulSet shop/db");
        assert_eq!(read("ds/agent"), "DaemonSet here/agent");
        let service = EndName::read("svc/shop/db:sql", "here");
        assert!(matches!(service, EndName::Service { port: Some(port), .. } if port == "sql"));
    }
}
