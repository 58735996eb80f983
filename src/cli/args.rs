//! What was typed, nothing resolved: no file is opened and nothing asked of the system here.

pub(super) mod check;
pub(super) mod ipam;
pub(super) mod pcap;
pub(super) mod redact;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::keep::Keeping;
use crate::evidence::case;
use crate::evidence::foreign::Given;
use crate::gather::probe::ProbeKind;

/// Says between which two points packets vanish on the way between two pods, and why.
///
/// Captures at once on every point of the path on both nodes (the pod's veth, the tunnel device, the NIC), takes the
/// tunnel off, recognises each packet at each point, and names the place where packets stop and the rule whose
/// counter moved there.
#[derive(Debug, Parser)]
#[command(
    name = "trace-drop",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    max_term_width = 100,
    after_help = "Exit status: 0 all of it arrived, 1 packets were lost, 2 usage error, 3 no verdict, 4 the work could not be done."
)]
pub(super) struct Typed {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) trace: Trace,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Give the same answer from a saved capture, on any machine, without root
    Replay(Replay),
    Pcap(pcap::Pcap),
    /// Say what changed between two saved cases: verdict, loss, rules, routes, links, objects
    Diff(Diff),
    Redact(redact::Redact),
    /// Show and check Calico's addresses: pools, blocks, leaks; release one
    Ipam(ipam::Ipam),
    Rules(Rules),
    /// Check the nodes' state along a path, on a node, or on all nodes, without capturing
    Check(check::Check),
    /// Show the nodes' tunnels and peers, or save all that can be read of them
    Node(check::Node),
    /// Print the least roles that a user needs, for `kubectl apply -f -`
    Rbac(Rbac),
    /// Remove agent pods that a crash has left
    Cleanup(Cleanup),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page (troff)
    Man,
    /// Capture on this node for a trace-drop that talks over standard input and output
    #[command(hide = true)]
    Agent,
    /// Delete agent pods when the process that made them dies
    #[command(hide = true)]
    Sweep,
}

/// What `rbac` takes.
#[derive(Debug, Args)]
pub(super) struct Rbac {
    /// Who gets it: a user, group:NAME or serviceaccount:NAMESPACE:NAME
    #[arg(long, value_name = "WHO")]
    pub(super) subject: String,
    /// Nodes are reached with --reach, or only `replay`, `ipam` and the like are used: no agent pods
    #[arg(long)]
    pub(super) no_agents: bool,
    /// May change what `ipam release` changes
    #[arg(long)]
    pub(super) ipam_release: bool,
    /// Namespace of the agents' pods
    #[arg(long, value_name = "NS", default_value = "kube-system")]
    pub(super) agent_namespace: String,
}

/// What `diff` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 nothing changed, 1 something did, 2 usage error, 4 a case could not be read."
)]
pub(super) struct Diff {
    /// The case to compare with: of a good day, or from before
    #[arg(value_name = "BEFORE")]
    pub(super) before: PathBuf,
    /// The case of the incident, or from after
    #[arg(value_name = "AFTER")]
    pub(super) after: PathBuf,
    #[command(flatten)]
    pub(super) output: Output,
}

/// What `cleanup` takes.
#[derive(Debug, Args)]
pub(super) struct Cleanup {
    /// Remove those of traces that are under way, too
    #[arg(long)]
    pub(super) all: bool,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) server: Server,
}

/// Capture on every point of the path between two endpoints.
#[derive(Debug, Args)]
pub(super) struct Trace {
    /// Where the traffic starts: pod, namespace/pod, deploy/x, ds/x, sts/x, job/x, svc/x:port, node/x, or an IP address
    #[arg(long, value_name = "ENDPOINT", required = true)]
    pub(super) from: Option<String>,
    /// Where it goes
    #[arg(long, value_name = "ENDPOINT", required = true, help = "Where it goes: the same")]
    pub(super) to: Option<String>,
    /// Namespace of bare pod names [default: that of the context, else default]
    #[arg(short, long, value_name = "NS")]
    pub(super) namespace: Option<String>,
    #[command(flatten)]
    pub(super) place: Place,
    /// How long to capture: 10s, 2m, 1m30s [default: 10s; with --watch and --until-loss until interrupted]
    #[arg(long, value_name = "D", value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Stop when N packets of the flow have been seen at the first point
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    #[command(flatten)]
    pub(super) watching: Watching,
    #[command(flatten)]
    pub(super) only: Only,
    #[command(flatten)]
    pub(super) family: Family,
    #[command(flatten)]
    pub(super) pairs: Pairs,
    /// Send traffic of our own from the first endpoint: icmp, tcp:PORT or udp:PORT
    #[arg(long, value_name = "KIND", value_parser = probe)]
    pub(super) probe: Option<ProbeKind>,
    /// How many packets or connections the probe sends [default: 10; with --watch and --until-loss no end]
    #[arg(long, value_name = "N", requires = "probe")]
    pub(super) probe_count: Option<u32>,
    /// Time from one to the next
    #[arg(long, value_name = "D", default_value = "100ms", value_parser = duration, requires = "probe")]
    pub(super) probe_interval: Duration,
    /// Payload of each, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 56, requires = "probe")]
    pub(super) probe_size: u16,
    #[command(flatten)]
    pub(super) saving: Saving,
    /// How much of each packet to keep
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub(super) snaplen: u32,
    /// Capture buffer of each point, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=2047))]
    pub(super) buffer: u32,
    /// Do not enter the pods' namespaces: capture on the hosts' interfaces only
    #[arg(long)]
    pub(super) no_pods: bool,
    /// Print the points, the agents' pods and the rights that they take, and make nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not attach to the kernel's drop tracepoint [default: attached where possible]
    #[arg(long)]
    pub(super) no_kernel: bool,
    #[command(flatten)]
    pub(super) output: Output<ReportForm>,
}

impl Trace {
    /// How long capturing lasts at most.
    pub(super) fn lasting(&self) -> Option<Duration> {
        self.duration.or((!self.watching.endless()).then_some(Duration::from_secs(10)))
    }

    /// What is to be kept of it, if anything.
    pub(super) fn keeping(&self) -> Option<Keeping<'_>> {
        let Saving { save, redact } = &self.saving;
        save.as_deref().map(|save| Keeping { save, redact: *redact, quiet: self.output.quiet })
    }
}

/// What is kept.
#[derive(Debug, Args)]
pub(super) struct Saving {
    /// Keep everything as one file (.tgz) or a folder, to attach to a ticket and to replay
    #[arg(long, value_name = "PATH")]
    pub(super) save: Option<PathBuf>,
    /// Keep no payloads, and other addresses and names for all there are; the report is not redacted
    #[arg(long, requires = "save")]
    pub(super) redact: bool,
}

/// A trace that goes on.
#[derive(Debug, Args)]
pub(super) struct Watching {
    /// Keep going and show a live table until interrupted; a line a second where stdout is no terminal
    #[arg(long)]
    pub(super) watch: bool,
    /// Keep going until the first packet is lost
    #[arg(long)]
    pub(super) until_loss: bool,
    /// With --watch and --until-loss: how much of the last part of the capture is kept [default: 30s]
    #[arg(long, value_name = "D", value_parser = duration)]
    pub(super) ring: Option<Duration>,
}

impl Watching {
    /// Whether it goes on until something ends it.
    pub(super) fn endless(&self) -> bool {
        self.watch || self.until_loss
    }
}

/// Analyse a saved case, or captures that anyone took.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 all of it arrived, 1 packets were lost, 2 usage error, 3 no verdict or no such traffic, 4 the work could not be done."
)]
pub(super) struct Replay {
    #[command(flatten)]
    pub(super) recorded: Recorded,
    #[command(flatten)]
    pub(super) output: Output<ReportForm>,
}

/// A saved case or captures.
#[derive(Debug, Args)]
pub(super) struct Recorded {
    /// A case saved with --save (a .tgz or a folder), or capture files of two places or more: where they were taken is guessed
    #[arg(value_name = "SAVED|FILE", required_unless_present = "at")]
    pub(super) files: Vec<PathBuf>,
    /// A capture and where it was taken, in path order; POINT is node/interface, node/any for all interfaces of a node
    #[arg(long, value_name = "POINT=FILE", value_parser = at)]
    pub(super) at: Vec<(String, PathBuf)>,
    /// What somebody collected of a node: a sosreport, calicoctl's diags, a folder or a file of iptables-save, ip, …; twice for
    /// one node: before and after; NODE/pod: inside the traced pod there
    #[arg(long, value_name = "NODE=PATH", value_parser = state)]
    pub(super) state: Vec<Given>,
    /// With captures: where the traffic starts [default: of the two who talk most, the one who begins]
    #[arg(long, value_name = "IP")]
    pub(super) from: Option<IpAddr>,
    /// With captures: where it goes
    #[arg(long, value_name = "IP")]
    pub(super) to: Option<IpAddr>,
    #[command(flatten)]
    pub(super) only: Only,
}

/// Make the rules of nodes readable, or follow a packet through them.
///
/// Without endpoints: for each node its tables and chains, grouped by what they are there for, with the rules that
/// dropped something or count right now. With two endpoints: the way of the first packet of a connection through
/// the rules of both nodes, and the rule that ends it.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 it was read, and with endpoints the packet passes; 1 a rule stops it, 2 usage error, 3 what becomes of it cannot be told, 4 the work could not be done."
)]
pub(super) struct Rules {
    /// Only this node
    #[arg(long, value_name = "NODE", conflicts_with_all = ["from", "to"])]
    pub(super) node: Option<String>,
    /// Follow a packet from here: pod, namespace/pod, an IP address, or node/NAME
    #[arg(long, value_name = "ENDPOINT", requires = "to")]
    pub(super) from: Option<String>,
    /// To here
    #[arg(long, value_name = "ENDPOINT", requires = "from", help = "To here: the same")]
    pub(super) to: Option<String>,
    /// From a saved case, without asking any node
    #[arg(long, value_name = "SAVED", conflicts_with_all = ["cluster", "reach", "agent_path", "kubeconfig", "context"])]
    pub(super) case: Option<PathBuf>,
    /// With --case: follow a packet between the two that were traced
    #[arg(long, requires = "case", conflicts_with_all = ["from", "node"])]
    pub(super) path: bool,
    /// Namespace of bare pod names [default: that of the context, else default]
    #[arg(short, long, value_name = "NS")]
    pub(super) namespace: Option<String>,
    #[command(flatten)]
    pub(super) place: Place,
    /// How long to wait for counters to move, for an overview; 0 reads once
    #[arg(long, value_name = "D", default_value = "1s", value_parser = duration_or_none)]
    pub(super) interval: Duration,
    #[command(flatten)]
    pub(super) only: Only,
    #[command(flatten)]
    pub(super) family: Family,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The cluster and how its nodes are reached.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Read the cluster from a file, not from the API server: what `kubectl get … -o yaml` prints
    #[arg(long, value_name = "FILE")]
    pub(super) cluster: Option<PathBuf>,
    #[command(flatten)]
    pub(super) server: Server,
    /// How to run a program on a node; {node} and {address} are filled in [default: an agent pod, or this very host]
    #[arg(long, value_name = "CMD")]
    pub(super) reach: Option<String>,
    /// With --reach: where this program is on the nodes [default: where it is here]
    #[arg(long, value_name = "PATH")]
    pub(super) agent_path: Option<String>,
    #[command(flatten)]
    pub(super) agents: Agents,
}

/// The agents' pods.
#[derive(Debug, Args)]
pub(super) struct Agents {
    /// Run agents from this image [default: this program is sent to pods of calico-node's image, which the nodes have]
    #[arg(id = "agent_image", long = "agent-image", value_name = "IMAGE", help_heading = "Agent pods")]
    pub(super) image: Option<String>,
    /// Send this program to pods of calico-node's image: nothing is pulled (the default)
    #[arg(
        id = "agent_upload",
        long = "agent-upload",
        conflicts_with = "agent_image",
        help_heading = "Agent pods"
    )]
    pub(super) upload: bool,
    /// The program to send: statically linked, for the nodes' processors [default: this one]
    #[arg(
        id = "agent_binary",
        long = "agent-binary",
        value_name = "FILE",
        conflicts_with = "agent_image",
        help_heading = "Agent pods"
    )]
    pub(super) binary: Option<PathBuf>,
    /// Namespace of the agents' pods: it must admit privileged ones
    #[arg(
        id = "agent_namespace",
        long = "agent-namespace",
        value_name = "NS",
        default_value = "kube-system",
        help_heading = "Agent pods"
    )]
    pub(super) namespace: String,
    /// When the image is pulled
    #[arg(id = "agent_pull_policy", long = "agent-pull-policy", value_name = "POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"], help_heading = "Agent pods")]
    pub(super) pull_policy: String,
    /// Secret of that namespace to pull the image with
    #[arg(
        id = "agent_pull_secret",
        long = "agent-pull-secret",
        value_name = "NAME",
        requires = "agent_image",
        help_heading = "Agent pods"
    )]
    pub(super) pull_secret: Option<String>,
    /// How long an agent's pod may take to run
    #[arg(id = "agent_timeout", long = "agent-timeout", value_name = "D", default_value = "60s", value_parser = duration, help_heading = "Agent pods")]
    pub(super) timeout: Duration,
}

/// The API server, as kubectl finds it.
#[derive(Debug, Args)]
pub(super) struct Server {
    /// The kubeconfig, as for kubectl
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context, as for kubectl
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub(super) context: Option<String>,
    /// Act as this user, as for kubectl
    #[arg(long = "as", value_name = "USER", help_heading = "Cluster")]
    pub(super) impersonate: Option<String>,
    /// Act as a member of this group; may be repeated
    #[arg(long = "as-group", value_name = "GROUP", requires = "impersonate", help_heading = "Cluster")]
    pub(super) groups: Vec<String>,
    /// How long to wait for each answer of the API server; 0 for ever
    #[arg(long, value_name = "D", default_value = "30s", value_parser = duration_or_none, help_heading = "Cluster")]
    pub(super) request_timeout: Duration,
}

/// Which addresses of the two ends.
#[derive(Debug, Args)]
pub(super) struct Family {
    /// Use IPv4
    #[arg(short = '4', conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6
    #[arg(short = '6')]
    ipv6: bool,
}

impl Family {
    /// 4 or 6, if one was asked for.
    pub(super) fn number(&self) -> Option<u8> {
        match (self.ipv4, self.ipv6) {
            (true, _) => Some(4),
            (_, true) => Some(6),
            _ => None,
        }
    }
}

/// Which pods of two names that stand for several.
#[derive(Debug, Args)]
pub(super) struct Pairs {
    /// Trace all running pods of --from to all of --to at once, and rank pairs and nodes by loss
    #[arg(long = "all-pairs", conflicts_with_all = ["watch", "until_loss"])]
    pub(super) all: bool,
    /// With --all-pairs: at most so many pairs, spread over the nodes
    #[arg(long = "max-pairs", value_name = "N", default_value_t = 64, requires = "all", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) most: u16,
}

/// Which traffic between the two endpoints.
#[derive(Debug, Args)]
pub(super) struct Only {
    /// Only this protocol
    #[arg(long, value_name = "PROTOCOL")]
    pub(super) protocol: Option<Protocol>,
    /// Only this port, at either end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Option<u16>,
}

impl Only {
    /// As it was typed.
    pub(super) fn wanted(&self) -> case::Only {
        case::Only { protocol: self.protocol.map(Protocol::number), port: self.port, also: None }
    }
}

/// Protocols that can be asked for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl Protocol {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp => 1,
        }
    }
}

/// How to report: in a [`Form`], or a trace in a [`ReportForm`].
#[derive(Debug, Args)]
pub(super) struct Output<F: ValueEnum + Send + Sync + 'static = Form> {
    /// Form of the report
    #[arg(short = 'o', long = "output", value_name = "FORM", default_value = "text")]
    pub(super) form: F,
    /// Say more
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// No progress, no warnings on stderr
    #[arg(short, long, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// When to colour the report
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(super) color: When,
}

/// How much is said on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    Quiet,
    Plain,
    Verbose,
}

impl Voice {
    /// As two flags that exclude each other say it.
    pub(super) fn of(quiet: bool, verbose: bool) -> Self {
        match (quiet, verbose) {
            (true, _) => Self::Quiet,
            (_, true) => Self::Verbose,
            _ => Self::Plain,
        }
    }
}

impl<F: ValueEnum + Send + Sync> Output<F> {
    pub(super) fn voice(&self) -> Voice {
        Voice::of(self.quiet, self.verbose)
    }
}

/// Forms of every report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    Text,
    Json,
}

/// Forms of a trace's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportForm {
    Text,
    Json,
    Markdown,
    Html,
    Svg,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    Auto,
    Always,
    Never,
}

/// `10s`, `2m`, `1m30s`, `500ms`, or seconds.
fn duration(typed: &str) -> Result<Duration, String> {
    let duration = if let Ok(seconds) = typed.parse::<f64>() {
        Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?
    } else {
        let span: jiff::SignedDuration = typed.parse().map_err(|error: jiff::Error| error.to_string())?;
        Duration::try_from(span).map_err(|error| error.to_string())?
    };
    if duration.is_zero() { Err("must be longer than nothing".to_owned()) } else { Ok(duration) }
}

/// The same, or nothing at all.
fn duration_or_none(typed: &str) -> Result<Duration, String> {
    if typed == "0" { Ok(Duration::ZERO) } else { duration(typed) }
}

fn probe(typed: &str) -> Result<ProbeKind, String> {
    let port = |text: &str| match text.parse::<u16>() {
        Ok(0) | Err(_) => Err(format!("{text} is no port (1 to 65535)")),
        Ok(port) => Ok(port),
    };
    match typed.split_once(':') {
        Some(("tcp", text)) => Ok(ProbeKind::Tcp(port(text)?)),
        Some(("udp", text)) => Ok(ProbeKind::Udp(port(text)?)),
        None if typed == "icmp" => Ok(ProbeKind::Icmp),
        _ => Err("want icmp, tcp:PORT or udp:PORT".to_owned()),
    }
}

fn state(typed: &str) -> Result<Given, String> {
    let (node, path) = typed
        .split_once('=')
        .filter(|(node, path)| !node.is_empty() && !path.is_empty())
        .ok_or("want NODE=PATH, for example worker-1=sosreport-worker-1.tar.xz")?;
    let (node, inside) = match node.split_once('/') {
        None => (node, ""),
        Some((node, "pod")) if !node.is_empty() => (node, "pod:"),
        Some(_) => return Err("want NODE=PATH or NODE/pod=PATH".to_owned()),
    };
    Ok(Given { node: node.to_owned(), inside, path: PathBuf::from(path) })
}

fn at(typed: &str) -> Result<(String, PathBuf), String> {
    match typed.split_once('=') {
        Some((point, file)) if point.contains('/') && !file.is_empty() => {
            Ok((point.to_owned(), PathBuf::from(file)))
        }
        _ => {
            Err("want POINT=FILE with POINT as node/interface, for example worker-1/eth0=nic.pcap".to_owned())
        }
    }
}
