//! `trace-drop rules`: the rules of nodes made readable, or the way of a packet through them; live or from a saved case.

use std::path::Path;
use std::process::ExitCode;

use super::place::{self, Purpose, READING};
use super::saved::Saved;
use super::{Failure, args};
use crate::analyze::rules::journey::{Journey, Nodes, Request, Verdict, travel};
use crate::analyze::rules::overview;
use crate::evidence::cluster::Cluster;
use crate::evidence::plan::{EndName, Plan, PlanOptions};
use crate::evidence::{Texts, When};
use crate::gather::run::ReadRequest;
use crate::report;

pub(super) fn run(typed: &args::Rules) -> Result<ExitCode, Failure> {
    match &typed.case {
        Some(saved) => of_case(saved, typed),
        None => live(typed),
    }
}

fn of_case(saved: &Path, typed: &args::Rules) -> Result<ExitCode, Failure> {
    let Saved { case, texts, cluster, .. } = Saved::open(saved, typed.output.quiet)?;
    let endpoints = typed.from.as_deref().zip(typed.to.as_deref());
    let request = match (endpoints, &cluster, typed.path) {
        (Some((from, to)), Some(cluster), _) => Some(asked(cluster, (from, to), &texts, &options(typed))?),
        (Some(_), None, _) => {
            let why =
                "--from and --to: the case holds no cluster to find them in; use --path for the traced two";
            return Err(Failure::usage(why.to_owned()));
        }
        (None, _, true) => Some(narrowed(Request::of_case(&case, &Nodes::read(&texts)), typed)),
        (None, _, false) => None,
    };
    finish(request, &texts, cluster.as_ref(), typed)
}

fn live(typed: &args::Rules) -> Result<ExitCode, Failure> {
    let endpoints = typed.from.as_deref().zip(typed.to.as_deref());
    let mut options = options(typed);
    let voice = typed.output.voice();
    let found = match endpoints {
        Some(ends) => {
            place::of_path(&typed.place, ends, None, typed.namespace.as_ref(), &mut options, voice)?
        }
        None => place::of_nodes(&typed.place, typed.node.as_deref(), voice)?,
    };
    let cluster = found.cluster;
    let reach = place::reach(&typed.place, found.api.as_ref(), Purpose { enter_pods: false, ..READING })?;
    let plan = endpoints.map(|ends| plan(&cluster, ends, &options)).transpose()?;
    let request = if let Some(plan) = &plan {
        ReadRequest { pods: Vec::new(), ..ReadRequest::of_plan(plan, reach) }
    } else {
        let mut nodes = place::nodes(&cluster, typed.node.as_deref())?;
        nodes.retain(|node| node.on_path);
        ReadRequest { nodes, reach, pods: Vec::new(), pair: None }
    };
    let texts = read(&request, typed, plan.is_none())?;
    let request = match endpoints {
        Some(ends) => Some(asked(&cluster, ends, &texts, &options)?),
        None => None,
    };
    finish(request, &texts, Some(&cluster), typed)
}

/// Reads the nodes, for an overview twice: what counted in between is under way.
fn read(request: &ReadRequest, typed: &args::Rules, twice: bool) -> Result<Texts, Failure> {
    let mut texts = place::texts(request, typed.output.quiet)?;
    if twice && !typed.interval.is_zero() {
        std::thread::sleep(typed.interval);
        let mut later = place::texts(request, typed.output.quiet)?;
        later.0.iter_mut().for_each(|text| text.when = When::After);
        texts.0.append(&mut later.0);
    }
    Ok(texts)
}

/// As typed, with the namespace where no server gives another.
fn options(typed: &args::Rules) -> PlanOptions {
    PlanOptions {
        namespace: typed.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        family: typed.family.number(),
        only: typed.only.wanted(),
        in_pod: false,
    }
}

fn plan(cluster: &Cluster, (from, to): (&str, &str), options: &PlanOptions) -> Result<Plan, Failure> {
    Plan::make(cluster, from, to, options).map_err(Failure::unplanned)
}

/// The packet between two endpoints; to a Service it bears the Service's own address.
fn asked(
    cluster: &Cluster,
    ends: (&str, &str),
    texts: &Texts,
    options: &PlanOptions,
) -> Result<Request, Failure> {
    let plan = plan(cluster, ends, options)?;
    let mut request = Request::of_plan(&plan, &Nodes::read(texts));
    let to = EndName::read(ends.1, &options.namespace);
    if let EndName::Service { .. } = to {
        request.dst = plan.aliases.to.first().copied().or(request.dst);
    }
    // A port of the Service where the packet starts is not the one that it goes to.
    if !matches!(to, EndName::Service { port: Some(_), .. }) {
        request.port = options.only.port;
    }
    Ok(request)
}

fn narrowed(mut request: Request, typed: &args::Rules) -> Request {
    if let Some(protocol) = typed.only.protocol {
        request.protocol = protocol.number();
    }
    request.port = typed.only.port.or(request.port);
    request
}

fn finish(
    request: Option<Request>,
    texts: &Texts,
    cluster: Option<&Cluster>,
    typed: &args::Rules,
) -> Result<ExitCode, Failure> {
    let style = super::style(&typed.output);
    let Some(request) = request else {
        let nodes = overview(texts, cluster, typed.node.as_deref());
        if let (true, Some(node), false) = (nodes.is_empty(), &typed.node, texts.0.is_empty()) {
            return Err(Failure::usage(format!("no rules of a node {node} are in the case")));
        }
        if nodes.is_empty() {
            return Err(Failure::work_text("no node's rules are there".to_owned()));
        }
        return super::print(|out| match typed.output.form {
            args::Form::Text => report::rules::overview(&nodes, style, out),
            args::Form::Json => report::rules::overview_json(&nodes, out),
        });
    };
    let journey: Journey = travel(request, &Nodes::read(texts), cluster);
    super::print(|out| match typed.output.form {
        args::Form::Text => report::rules::journey(&journey, style, out),
        args::Form::Json => report::rules::journey_json(&journey, out),
    })?;
    Ok(ExitCode::from(match journey.verdict {
        Verdict::Passes => 0,
        Verdict::Ends => 1,
        Verdict::Unknown => 3,
    }))
}
