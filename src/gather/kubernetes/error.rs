//! What can go wrong between us and the API server, in words that say what to do.

use std::error::Error;

/// A call, or the way to the server, that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Neither a kubeconfig nor a pod's service account.
    #[error(
        "no cluster is known: from a kubeconfig: {kubeconfig}; from this pod's service account: {in_cluster}; give \
         --kubeconfig FILE, or --cluster FILE with what `kubectl get … -o yaml` prints"
    )]
    NoWay {
        /// Why not from a file.
        kubeconfig: String,
        /// Why not from inside a cluster.
        in_cluster: String,
    },
    /// A kubeconfig that cannot be used.
    #[error("cannot {what}: {why}")]
    Config {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        why: String,
    },
    /// No answer at all.
    #[error("cannot reach the API server {server} ({verb} {path}): {why}; does `kubectl version` reach it?")]
    Unreachable {
        /// Where.
        server: String,
        /// Method.
        verb: String,
        /// Of what.
        path: String,
        /// The chain of reasons.
        why: String,
    },
    /// No answer in time.
    #[error(
        "the API server {server} did not answer {verb} {path} within {seconds} s; try a longer --request-timeout"
    )]
    Silent {
        /// Where.
        server: String,
        /// Method.
        verb: String,
        /// Of what.
        path: String,
        /// How long it had.
        seconds: f64,
    },
    /// It refuses.
    #[error("the API server refuses {verb} {path} ({code} {reason}): {message}{}", help(*.code))]
    Said {
        /// Method.
        verb: String,
        /// Of what.
        path: String,
        /// HTTP status.
        code: u16,
        /// As in the Status object.
        reason: String,
        /// Its words.
        message: String,
    },
    /// Not JSON.
    #[error("what the API server gives for {path} makes no sense: {why}")]
    Nonsense {
        /// Of what.
        path: String,
        /// Why.
        why: String,
    },
}

fn help(code: u16) -> &'static str {
    match code {
        401 => "; log in again, or choose another --context",
        403 => "; `trace-drop rbac` prints the role that it takes",
        409 => {
            "; somebody else changed it since it was read: nothing was written to it; run the command again"
        }
        _ => "",
    }
}

impl ApiError {
    pub(super) fn config(what: &'static str, error: &dyn Error) -> Self {
        Self::Config { what, why: chain(error) }
    }

    pub(super) fn of(server: &str, verb: &str, path: &str, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Said {
                verb: verb.to_owned(),
                path: path.to_owned(),
                code: status.code,
                reason: status.reason,
                message: status.message,
            },
            other => Self::Unreachable {
                server: server.to_owned(),
                verb: verb.to_owned(),
                path: path.to_owned(),
                why: chain(&other),
            },
        }
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Said { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// There is no such object, or no such kind.
    pub(crate) fn is_absent(&self) -> bool {
        self.code() == Some(404)
    }

    /// The rights do not suffice.
    pub(crate) fn is_denied(&self) -> bool {
        self.code() == Some(403)
    }

    /// Somebody else has written in between.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The next page is not kept any more.
    pub(super) fn is_expired(&self) -> bool {
        self.code() == Some(410)
    }

    /// It may work in a moment: the server restarts, or has too much to do.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            other => matches!(other.code(), Some(429 | 500..)),
        }
    }
}

/// An error and its causes, each said once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = cause.source();
    }
    words
}
