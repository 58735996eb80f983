//! What `check` and `node` take.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Family, Output, Place};

/// Check the nodes' state along a path, on a node, or on all nodes, without capturing.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 sound, 1 a finding breaks traffic, 2 usage error, 4 nothing could be read."
)]
pub(in crate::cli) struct Check {
    /// Where the path starts: pod, namespace/pod, an IP address, or node/NAME
    #[arg(long, value_name = "ENDPOINT", requires = "to")]
    pub(in crate::cli) from: Option<String>,
    /// Where it goes
    #[arg(help = "Where it goes: the same", long, value_name = "ENDPOINT", requires = "from")]
    pub(in crate::cli) to: Option<String>,
    /// Only this node, against all others that the cluster knows [default: all nodes]
    #[arg(long, value_name = "NODE", conflicts_with = "from")]
    pub(in crate::cli) node: Option<String>,
    /// Check what a saved case holds, instead of asking nodes
    #[arg(long, value_name = "SAVED", conflicts_with_all = ["from", "node", "cluster", "reach", "kubeconfig", "context"])]
    pub(in crate::cli) case: Option<PathBuf>,
    /// Namespace of bare pod names [default: that of the context, else default]
    #[arg(short, long, value_name = "NS")]
    pub(in crate::cli) namespace: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) place: Place,
    #[command(flatten)]
    pub(in crate::cli) family: Family,
    /// Do not enter the pods' namespaces
    #[arg(long)]
    pub(in crate::cli) no_pods: bool,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

/// The nodes themselves.
#[derive(Debug, Args)]
pub(in crate::cli) struct Node {
    #[command(subcommand)]
    pub(in crate::cli) what: NodeCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum NodeCommand {
    /// Show each node's tunnel, blocks and peers, and what shows of Felix
    Status(NodeStatus),
    /// Save everything that can be read of the nodes as one file, for a ticket or for `check --case`
    Diags(NodeDiags),
}

/// Of `node status`.
#[derive(Debug, Args)]
pub(in crate::cli) struct NodeStatus {
    /// Only this node [default: all]
    #[arg(long, value_name = "NODE")]
    pub(in crate::cli) node: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) place: Place,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

/// Of `node diags`.
#[derive(Debug, Args)]
pub(in crate::cli) struct NodeDiags {
    /// Only this node [default: all]
    #[arg(long, value_name = "NODE")]
    pub(in crate::cli) node: Option<String>,
    /// Where to: a .tgz, or a folder
    #[arg(long, value_name = "PATH", required = true)]
    pub(in crate::cli) save: PathBuf,
    /// Keep other addresses and names for all there are
    #[arg(long)]
    pub(in crate::cli) redact: bool,
    #[command(flatten)]
    pub(in crate::cli) place: Place,
    /// No warnings on stderr
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}
