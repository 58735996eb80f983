//! `trace-drop ipam`, as typed.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Form, Server};

/// Calico's addresses.
#[derive(Debug, Args)]
pub(in crate::cli) struct Ipam {
    #[command(subcommand)]
    pub(in crate::cli) what: Ask,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Ask {
    /// Show pools, blocks and who has an address
    Show(Show),
    /// Look for leaks, addresses used twice, blocks of dead nodes, exhausted pools
    #[command(
        after_help = "Exit status: 0 sound, 1 something breaks traffic or leaks, 2 usage error, 4 the work could not be done."
    )]
    Check(Check),
    /// Give an address back that nobody uses
    #[command(
        after_help = "Exit status: 0 released or free already, 1 refused: it is in use, 2 usage error, 4 the work could not be done."
    )]
    Release(Release),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(in crate::cli) struct Show {
    /// Read the cluster from a file, not from the API server: what `kubectl get … -o yaml` prints
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) cluster: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) server: Server,
    /// Each block of each pool
    #[arg(long = "show-blocks")]
    pub(in crate::cli) blocks: bool,
    /// Blocks and addresses of each node
    #[arg(long = "show-nodes")]
    pub(in crate::cli) nodes: bool,
    /// Addresses used on a node that does not own their block
    #[arg(long = "show-borrowed")]
    pub(in crate::cli) borrowed: bool,
    /// The settings
    #[arg(long = "show-configuration")]
    pub(in crate::cli) configuration: bool,
    /// Only this address: who has it, since when, in which block
    #[arg(
        long,
        value_name = "IP",
        conflicts_with_all = ["blocks", "nodes", "borrowed", "configuration"]
    )]
    pub(in crate::cli) ip: Option<IpAddr>,
    #[command(flatten)]
    pub(in crate::cli) output: Plain,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Check {
    /// Read the cluster from a file, not from the API server: what `kubectl get … -o yaml` prints
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) cluster: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) server: Server,
    #[command(flatten)]
    pub(in crate::cli) output: Plain,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Release {
    /// The address
    #[arg(long, value_name = "IP")]
    pub(in crate::cli) ip: IpAddr,
    /// Do not ask
    #[arg(long)]
    pub(in crate::cli) yes: bool,
    #[command(flatten)]
    pub(in crate::cli) server: Server,
}

/// How to print.
#[derive(Debug, Args)]
pub(in crate::cli) struct Plain {
    /// Form of the output
    #[arg(short = 'o', long = "output", value_name = "FORM", default_value = "text")]
    pub(in crate::cli) form: Form,
    /// No warnings on stderr
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}
