//! Where the cluster is and how its nodes are reached: a file or the API server; a command, agent pods, or this very
//! host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::args::Voice;
use super::progress::Progress;
use super::{Failure, args, complain};
use crate::evidence::case::NodeFacts;
use crate::evidence::cluster::{Cluster, Node};
use crate::evidence::host::STATE;
use crate::evidence::plan::PlanOptions;
use crate::evidence::{Known, Text, Texts, When};
use crate::gather;
use crate::gather::agent::client::Reach;
use crate::gather::kubernetes::pods::{Pods, Program, Wanted};
use crate::gather::kubernetes::{Access, Api, objects, rights};
use crate::gather::run::ReadRequest;

/// A cluster, and the server that it came from.
pub(super) struct Found {
    pub(super) cluster: Cluster,
    pub(super) api: Option<Api>,
}

/// What agents are wanted for: it decides what their pods may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose {
    pub(super) enter_pods: bool,
    pub(super) kernel: bool,
    /// How long their work takes; None until interrupted.
    pub(super) lasting: Option<Duration>,
}

/// To read what is there.
pub(super) const READING: Purpose =
    Purpose { enter_pods: true, kernel: false, lasting: Some(Duration::from_mins(1)) };

/// The API server, by kubectl's flags and files.
pub(super) fn api(server: &args::Server) -> Result<Api, Failure> {
    Api::connect(&access(server)).map_err(Failure::work)
}

fn access(server: &args::Server) -> Access {
    Access {
        kubeconfig: server.kubeconfig.clone(),
        context: server.context.clone(),
        impersonate: server.impersonate.clone(),
        groups: server.groups.clone(),
        timeout: Some(server.request_timeout).filter(|timeout| !timeout.is_zero()),
    }
}

/// The cluster of a file; what was left out of it is said on demand.
fn cluster(file: &Path, warn: bool) -> Result<Cluster, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::work_text(format!(
            "cannot read the cluster from {}: {error}; make it with `kubectl get … -o yaml`",
            file.display()
        ))
    })?;
    let (cluster, warnings) = Cluster::parse(&text).map_err(Failure::work)?;
    if warn {
        for warning in &warnings {
            complain(&format!("warning: {}: {warning}", file.display()));
        }
    }
    Ok(cluster)
}

/// Everything, from a file or from the server.
pub(super) fn whole(file: Option<&Path>, server: &args::Server, voice: Voice) -> Result<Cluster, Failure> {
    match file {
        Some(file) => cluster(file, voice != Voice::Quiet),
        None => Ok(all(objects::whole(&api(server)?), voice)?),
    }
}

/// All nodes and what belongs to them, or to one.
pub(super) fn of_nodes(place: &args::Place, only: Option<&str>, voice: Voice) -> Result<Found, Failure> {
    if let Some(file) = &place.cluster {
        return Ok(Found { cluster: cluster(file, voice == Voice::Verbose)?, api: None });
    }
    let api = api(&place.server)?;
    let cluster = all(objects::of_nodes(&api, only), voice)?;
    Ok(Found { cluster, api: Some(api) })
}

/// What a path between two ends needs, or paths between at most `most` pairs of their pods; `options` gets the context's
/// namespace where none was typed.
pub(super) fn of_path(
    place: &args::Place,
    ends: (&str, &str),
    most: Option<usize>,
    namespace: Option<&String>,
    options: &mut PlanOptions,
    voice: Voice,
) -> Result<Found, Failure> {
    if let Some(file) = &place.cluster {
        options.namespace = namespace.cloned().unwrap_or_else(|| "default".to_owned());
        return Ok(Found { cluster: cluster(file, voice == Voice::Verbose)?, api: None });
    }
    let api = api(&place.server)?;
    options.namespace.clone_from(namespace.unwrap_or(&api.namespace));
    let read = objects::of_path(&api, ends, options, most).map_err(Failure::work)?;
    if voice == Voice::Verbose {
        let (requests, bytes) = api.asked();
        complain(&format!("read of the cluster: {requests} requests, {bytes} bytes, from {}", api.server));
    }
    let cluster = all(read, voice)?;
    Ok(Found { cluster, api: Some(api) })
}

/// What is said of a cluster without nodes.
pub(super) const NO_NODE: &str = "there is no Node in the cluster's file; add `kubectl get nodes -o yaml`";

/// All nodes; those that are meant, one or all, are on the path.
pub(super) fn nodes(cluster: &Cluster, only: Option<&str>) -> Result<Vec<NodeFacts>, Failure> {
    let meant = |node: &Node| only.is_none_or(|only| only == node.name);
    if cluster.nodes.iter().any(meant) {
        let facts = |node: &Node| NodeFacts {
            name: node.name.clone(),
            addresses: node.underlay(),
            on_path: meant(node),
        };
        return Ok(cluster.nodes.iter().map(facts).collect());
    }
    let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    Err(match only {
        Some(only) if !names.is_empty() => {
            Failure::usage(format!("there is no node {only} in the cluster; it has {}", names.join(", ")))
        }
        _ => Failure::work_text(NO_NODE.to_owned()),
    })
}

/// Reads nodes; one that was not reached stands in the texts with the reason.
pub(super) fn texts(request: &ReadRequest, quiet: bool) -> Result<Texts, Failure> {
    let mut progress = Progress::new(quiet);
    let read = gather::run::read(request, &mut |event| progress.show(&event));
    progress.done();
    let read = read.map_err(Failure::work)?;
    let mut texts = read.texts;
    texts.0.extend(read.unreached.into_iter().map(|(node, why)| Text {
        node,
        name: STATE.to_owned(),
        when: When::Before,
        content: Known::Unreadable(why),
    }));
    Ok(texts)
}

/// The objects, with a warning for each list that could not be read, unless quiet. Without anything there is no cluster.
fn all(read: objects::Objects, voice: Voice) -> Result<Cluster, Failure> {
    if read.cluster.kinds.is_empty() {
        let why = read.warnings.join("\n  ");
        return Err(Failure::work_text(format!("nothing could be read of the cluster:\n  {why}")));
    }
    if voice != Voice::Quiet {
        for warning in &read.warnings {
            complain(&format!("warning: {warning}"));
        }
    }
    Ok(read.cluster)
}

/// How the nodes are reached. Pods need rights, which are asked for before anything is made.
pub(super) fn reach(place: &args::Place, api: Option<&Api>, purpose: Purpose) -> Result<Reach, Failure> {
    let agent = gather::run::agent_command(place.agent_path.as_deref()).map_err(|error| {
        Failure::work_text(format!("cannot tell where this program is: {error}; say it with --agent-path"))
    })?;
    let pods = match api {
        Some(api) if place.reach.is_none() => {
            may_make(api, &place.agents.namespace)?;
            Some(Arc::new(pods(place, api, purpose)?))
        }
        _ => None,
    };
    Ok(Reach { template: place.reach.clone(), pods, agent })
}

/// The maker of agent pods. Makes nothing yet.
pub(super) fn pods(place: &args::Place, api: &Api, purpose: Purpose) -> Result<Pods, Failure> {
    let typed = &place.agents;
    let program = match &typed.image {
        Some(image) => Program::Image(image.clone()),
        None => Program::Upload(own_binary(typed.binary.as_ref())?),
    };
    let lasting = purpose.lasting.unwrap_or(A_DAY);
    let wanted = Wanted {
        namespace: typed.namespace.clone(),
        program,
        pull_policy: typed.pull_policy.clone(),
        pull_secret: typed.pull_secret.clone(),
        enter_pods: purpose.enter_pods,
        kernel: purpose.kernel,
        deadline: lasting + typed.timeout + LEEWAY,
        patience: typed.timeout,
    };
    Ok(Pods::new(api.clone(), &access(&place.server), wanted))
}

/// A trace without an end must end at some time: so does its pods' life.
const A_DAY: Duration = Duration::from_hours(24);
/// For what comes before and after the capture.
const LEEWAY: Duration = Duration::from_mins(2);

fn own_binary(typed: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    match typed {
        Some(file) => Ok(file.clone()),
        None => std::env::current_exe().map_err(|error| {
            Failure::work_text(format!(
                "cannot tell where this program is: {error}; say it with --agent-binary"
            ))
        }),
    }
}

/// Whether agent pods may be made, verb by verb.
fn may_make(api: &Api, namespace: &str) -> Result<(), Failure> {
    let agents: Vec<_> = rights::needed(true).into_iter().filter(|right| right.agents).collect();
    let denied = rights::lacking(api, namespace, &agents).map_err(Failure::work)?;
    // Without the list there is no cleanup; without one of the verbs of a stream the other may do.
    let stops = |one: &rights::Denied| one.verb != "list" && one.right.resource != "pods/attach";
    let attach = denied.iter().filter(|one| one.right.resource == "pods/attach").count() == 2;
    if !attach && !denied.iter().any(stops) {
        return Ok(());
    }
    let lines: Vec<String> =
        denied.iter().map(|one| format!("  {}", denied_in_words(one, namespace))).collect();
    Err(Failure::work_text(format!(
        "agent pods cannot be made in namespace {namespace}; the API server denies:\n{}\n`trace-drop rbac` prints the \
         role that it takes; another namespace is chosen with --agent-namespace, and nodes are reached without pods \
         with --reach",
        lines.join("\n")
    )))
}

/// One denied right.
pub(super) fn denied_in_words(denied: &rights::Denied, namespace: &str) -> String {
    let right = denied.right;
    let place =
        if right.agents { format!("in namespace {namespace}") } else { "in all namespaces".to_owned() };
    let group = if right.group.is_empty() { String::new() } else { format!(".{}", right.group) };
    let why = if denied.why.is_empty() { String::new() } else { format!(" ({})", denied.why) };
    format!("{} {}{group} {place}: {}{why}", denied.verb, right.resource, right.reason)
}
