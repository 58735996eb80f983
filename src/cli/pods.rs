//! About agent pods: what would be made (`--dry-run`), the rights they take (`rbac`), and the removal of what a crash has
//! left (`cleanup`).

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::Value;

use super::{Failure, args, place, print};
use crate::evidence::plan::Plan;
use crate::gather::kubernetes::pods::left;
use crate::gather::kubernetes::{Api, rights};

/// Prints what a trace would do.
pub(super) fn dry_run(
    typed: &args::Trace,
    plans: &[Plan],
    notes: &[String],
    api: Option<&Api>,
) -> Result<ExitCode, Failure> {
    let api = api.filter(|_| typed.place.reach.is_none());
    let namespace = &typed.place.agents.namespace;
    let nodes = plans.iter().flat_map(|plan| &plan.nodes).filter(|node| node.on_path);
    let mut nodes: Vec<String> = nodes.map(|node| node.name.clone()).collect();
    let mut seen = std::collections::BTreeSet::new();
    nodes.retain(|node| seen.insert(node.clone()));
    let denied = match api {
        Some(api) => rights::lacking(api, namespace, &rights::needed(true)).map_err(Failure::work)?,
        None => Vec::new(),
    };
    let made = match api {
        Some(api) => place::pods(&typed.place, api, super::trace::purpose(typed))?
            .manifests(&nodes)
            .map_err(Failure::work)?,
        None => Vec::new(),
    };
    print(|out| {
        for note in notes {
            writeln!(out, "# {note}")?;
        }
        for plan in plans {
            writeln!(
                out,
                "# {} ({}) to {} ({}), captured at",
                plan.from.name, plan.from.address, plan.to.name, plan.to.address
            )?;
            for point in &plan.points {
                writeln!(out, "#   {}: {}", point.node, point.find.words())?;
            }
            for warning in &plan.warnings {
                writeln!(out, "# {warning}")?;
            }
        }
        match (api, &typed.place.reach) {
            (Some(_), _) => writeln!(out, "# by these pods:")?,
            (None, Some(reach)) => writeln!(out, "# by agents started with: {reach}")?,
            (None, None) => writeln!(out, "# by agents on this very host")?,
        }
        documents(&made, out)?;
        if api.is_some() {
            let all = if denied.is_empty() {
                "# all rights that it takes are given"
            } else {
                "# these rights are denied:"
            };
            writeln!(out, "{all}")?;
        }
        denied.iter().try_for_each(|one| writeln!(out, "#   {}", place::denied_in_words(one, namespace)))
    })
}

/// Prints the roles.
pub(super) fn rbac(typed: &args::Rbac) -> Result<ExitCode, Failure> {
    let mut rights = rights::needed(!typed.no_agents);
    if typed.ipam_release {
        rights.extend(rights::RELEASE);
    }
    let objects = rights::roles(&typed.agent_namespace, &rights, &typed.subject);
    print(|out| documents(&objects, out))
}

fn documents(objects: &[Value], out: &mut dyn Write) -> io::Result<()> {
    for object in objects {
        let text = serde_yaml_ng::to_string(object).map_err(io::Error::other)?;
        write!(out, "---\n{text}")?;
    }
    Ok(())
}

/// Finds agent pods and removes those whose trace is over.
pub(super) fn cleanup(typed: &args::Cleanup) -> Result<ExitCode, Failure> {
    let api = place::api(&typed.server)?;
    let mut lines = Vec::new();
    let mut stays = None;
    for pod in left::all(&api).map_err(Failure::work)? {
        let name = &pod.name;
        lines.push(if pod.runs && !typed.all {
            format!("{name}: its trace is under way; --all removes it too")
        } else if typed.dry_run {
            format!("{name}: would be removed")
        } else if let Err(error) = pod.remove(&api) {
            // The others can go all the same.
            stays = Some(Failure::work(error).adding(&format!("{name} could not be removed")));
            format!("{name}: not removed")
        } else {
            format!("{name}: removed")
        });
    }
    if lines.is_empty() {
        lines.push("no agent pod is left in the cluster".to_owned());
    }
    let told = print(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))?;
    stays.map_or(Ok(told), Err)
}
