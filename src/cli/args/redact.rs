//! What `redact` takes.

use std::path::PathBuf;

use clap::Args;

/// Take payloads, addresses and names out of a saved case, so that it can be given away.
///
/// Payloads are gone. Addresses and names are others, the same everywhere: in headers, packets that ICMP errors quote, rules, routes,
/// neighbours, sets, connections, objects. Prefixes still contain what they contained. Lengths, sequence numbers, ports, counters
/// and times stay, and so does the verdict, which is held against the original's. The key is drawn for this one run and
/// forgotten: the same case redacted twice gives two different ones.
#[derive(Debug, Args)]
pub(in crate::cli) struct Redact {
    /// A case saved with --save: a .tgz or a folder
    #[arg(value_name = "SAVED")]
    pub(in crate::cli) saved: PathBuf,
    /// Where to: a new .tgz, or a folder
    #[arg(short = 'o', long = "output", value_name = "PATH")]
    pub(in crate::cli) output: PathBuf,
    /// Do not say on stderr what was written
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}
