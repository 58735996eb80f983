//! `trace-drop node`: what the nodes look like, as a table or as one file.

use std::process::ExitCode;

use super::args;
use super::args::check::{Node, NodeCommand, NodeDiags, NodeStatus};
use super::keep::{self, Keeping};
use super::{Failure, check, place, print};
use crate::analyze::state::{Ground, status};
use crate::gather::run::Gathered;
use crate::report;

pub(super) fn run(typed: &Node) -> Result<ExitCode, Failure> {
    match &typed.what {
        NodeCommand::Status(typed) => show(typed),
        NodeCommand::Diags(typed) => diags(typed),
    }
}

fn show(typed: &NodeStatus) -> Result<ExitCode, Failure> {
    let found = place::of_nodes(&typed.place, typed.node.as_deref(), typed.output.voice())?;
    let (case, texts) = check::nodes(&found, typed.node.as_deref(), &typed.place, typed.output.quiet)?;
    let nodes = status(&Ground { case: &case, texts: &texts, cluster: Some(&found.cluster) });
    print(|out| match typed.output.form {
        args::Form::Text => report::node::text(&nodes, super::style(&typed.output), out),
        args::Form::Json => report::node::json(&nodes, out),
    })?;
    let sound = nodes.iter().all(|node| node.peers.iter().all(|peer| !peer.breaks()));
    Ok(ExitCode::from(u8::from(!sound)))
}

fn diags(typed: &NodeDiags) -> Result<ExitCode, Failure> {
    keep::refuse_to_overwrite(&typed.save)?;
    let voice = args::Voice::of(typed.quiet, false);
    let found = place::of_nodes(&typed.place, typed.node.as_deref(), voice)?;
    let (case, texts) = check::nodes(&found, typed.node.as_deref(), &typed.place, typed.quiet)?;
    let scratch = keep::scratch()?;
    let gathered = Gathered { case, more: Vec::new(), texts, whole: None };
    let keeping = Keeping { save: &typed.save, redact: typed.redact, quiet: typed.quiet };
    let kept = keep::keep(&gathered, None, &found.cluster, &scratch, keeping).and_then(|()| {
        let save = typed.save.display();
        print(|out| writeln!(out, "Saved to {save}; `trace-drop check --case {save}` checks it."))
    });
    keep::or_leave(scratch, true, kept)
}
