//! `trace-drop check`: read the nodes, or a saved case, and check what was read.

use std::process::ExitCode;

use super::args;
use super::args::Place;
use super::place::{self, Found, Purpose, READING};
use super::saved::Saved;
use super::{Failure, print};
use crate::analyze::check::check;
use crate::analyze::state::{Checkup, Ground};
use crate::evidence::case::Only;
use crate::evidence::cluster::Cluster;
use crate::evidence::plan::{Plan, PlanOptions};
use crate::evidence::{Case, Texts};
use crate::gather::run::ReadRequest;
use crate::report;

pub(super) fn run(typed: &args::check::Check) -> Result<ExitCode, Failure> {
    let (case, texts, cluster) = match &typed.case {
        Some(path) => {
            let quiet = typed.output.quiet;
            let Saved { case, texts, cluster, .. } = Saved::open(path, quiet)?.first_pair(path, quiet);
            (case, texts, cluster)
        }
        None => read(typed)?,
    };
    let checkup = check(&Ground { case: &case, texts: &texts, cluster: cluster.as_ref() });
    show(&case, &checkup, &typed.output)
}

fn show(case: &Case, checkup: &Checkup, output: &args::Output) -> Result<ExitCode, Failure> {
    print(|out| match output.form {
        args::Form::Text => report::check::text(case, checkup, super::style(output), out),
        args::Form::Json => report::check::json(case, checkup, out),
    })?;
    if checkup.nodes.is_empty() {
        return Err(Failure::work_text("the state of no node could be read".to_owned()));
    }
    Ok(ExitCode::from(u8::from(checkup.breaks())))
}

fn read(typed: &args::check::Check) -> Result<(Case, Texts, Option<Cluster>), Failure> {
    let (Some(from), Some(to)) = (&typed.from, &typed.to) else {
        let found = place::of_nodes(&typed.place, typed.node.as_deref(), typed.output.voice())?;
        let (case, texts) = nodes(&found, typed.node.as_deref(), &typed.place, typed.output.quiet)?;
        return Ok((case, texts, Some(found.cluster)));
    };
    let mut options = PlanOptions {
        namespace: String::new(),
        family: typed.family.number(),
        only: Only::default(),
        in_pod: !typed.no_pods,
    };
    let namespace = typed.namespace.as_ref();
    let found =
        place::of_path(&typed.place, (from, to), None, namespace, &mut options, typed.output.voice())?;
    let plan = Plan::make(&found.cluster, from, to, &options).map_err(Failure::unplanned)?;
    let purpose = Purpose { enter_pods: !typed.no_pods, ..READING };
    let request = ReadRequest::of_plan(&plan, place::reach(&typed.place, found.api.as_ref(), purpose)?);
    let texts = place::texts(&request, typed.output.quiet)?;
    let resolved = plan.resolve(&texts);
    Ok((plan.into_case(&resolved), texts, Some(found.cluster)))
}

/// Everything that can be read of one node, or of all.
pub(super) fn nodes(
    found: &Found,
    only: Option<&str>,
    place: &Place,
    quiet: bool,
) -> Result<(Case, Texts), Failure> {
    let nodes = place::nodes(&found.cluster, only)?;
    let request = ReadRequest {
        nodes: nodes.iter().filter(|node| node.on_path).cloned().collect(),
        reach: place::reach(place, found.api.as_ref(), Purpose { enter_pods: false, ..READING })?,
        pods: Vec::new(),
        pair: None,
    };
    let texts = place::texts(&request, quiet)?;
    let case = Case::of_nodes(nodes).ok_or_else(|| Failure::work_text(place::NO_NODE.to_owned()))?;
    Ok((case, texts))
}
