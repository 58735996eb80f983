//! `trace-drop ipam show`, `check` and `release`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::Value;

use super::Failure;
use super::args::Form;
use super::args::ipam::{Ask, Check, Release, Show};
use crate::analyze::ipam::{self, Finding};
use crate::evidence::ipam::Figures;
use crate::evidence::ipam::release::{self, Edit, ReleaseError};
use crate::gather::kubectl::{Kubectl, KubectlError, Stored};
use crate::report;

pub(super) fn run(ask: &Ask) -> Result<ExitCode, Failure> {
    match ask {
        Ask::Show(typed) => show(typed),
        Ask::Check(typed) => check(typed),
        Ask::Release(typed) => release(typed),
    }
}

fn show(typed: &Show) -> Result<ExitCode, Failure> {
    let cluster = super::trace::cluster(&typed.cluster, !typed.output.quiet)?;
    let figures = Figures::of(&cluster);
    let shown = report::ipam::Shown { cluster: &cluster, figures: &figures };
    super::print(|out| match (typed.ip, typed.output.form) {
        (Some(ip), Form::Text) => shown.address(ip, out),
        (Some(ip), Form::Json) => shown.address_json(ip, out),
        (None, Form::Json) => shown.json(out),
        (None, Form::Text) => {
            let parts = report::ipam::Parts {
                blocks: typed.blocks,
                nodes: typed.nodes,
                borrowed: typed.borrowed,
                configuration: typed.configuration,
            };
            shown.text(parts, out)
        }
    })
}

fn check(typed: &Check) -> Result<ExitCode, Failure> {
    let cluster = super::trace::cluster(&typed.cluster, !typed.output.quiet)?;
    let figures = Figures::of(&cluster);
    let checked = ipam::check_with(&cluster, &figures);
    super::print(|out| match typed.output.form {
        Form::Text => report::ipam::checked(&cluster, &figures, &checked, out),
        Form::Json => report::ipam::checked_json(&checked, out),
    })?;
    Ok(ExitCode::from(u8::from(checked.findings.iter().any(Finding::is_fault))))
}

/// Reads everything first, asks, then writes the block over the version that was read: whatever happened to the block
/// while the user thought makes the server refuse.
fn release(typed: &Release) -> Result<ExitCode, Failure> {
    let ip = typed.ip;
    let kubectl = Kubectl { context: typed.context.clone(), kubeconfig: typed.kubeconfig.clone() };
    if !typed.yes && !io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "releasing {ip} must be confirmed, and standard input is no terminal: say --yes"
        )));
    }
    let Some((block, group)) = kubectl.block(ip).map_err(Failure::work)? else {
        return Err(Failure::work_text(format!(
            "{ip} lies in no block of the cluster; `trace-drop ipam show --show-blocks` lists them"
        )));
    };
    let released = match release::from_block(&block.object, ip) {
        Ok(released) => released,
        Err(ReleaseError::NotAssigned(_)) => {
            return super::print(|out| writeln!(out, "{ip} is not assigned: there is nothing to release"));
        }
        Err(error) => return Err(Failure::work_text(format!("{}: {error}", block.path))),
    };
    if let Some(why) = user(&kubectl, typed, &released.attribute).map_err(Failure::work)? {
        super::complain(&format!("trace-drop: {ip} is not released: {why}"));
        return Ok(ExitCode::from(1));
    }
    let owner = report::ipam::owner_words(&released.attribute);
    if !typed.yes
        && !confirmed(&format!("{ip} is allocated to {owner}, and nobody uses it. Release it? [y/N] "))?
    {
        return super::print(|out| writeln!(out, "{ip} is not released"));
    }
    match &released.block {
        Edit::Write(edited) => kubectl.replace(&block.path, edited),
        Edit::Delete => kubectl.delete(&block),
        Edit::Keep => Ok(()),
    }
    .map_err(Failure::work)?;
    let cidr = block.object.pointer("/spec/cidr").and_then(Value::as_str).unwrap_or_default();
    let handle = released.attribute.get("handle_id").and_then(Value::as_str);
    if let Some(handle) = handle {
        count_down(&kubectl, group, handle, cidr).map_err(|error| {
            Failure::work_text(format!(
                "{ip} is released, but its handle {handle} still counts it ({error}); `trace-drop ipam check` finds such handles"
            ))
        })?;
    }
    super::print(|out| writeln!(out, "{ip} is released; it was allocated to {owner}"))
}

/// Who uses the address still; none when nobody does.
fn user(kubectl: &Kubectl, typed: &Release, attribute: &Value) -> Result<Option<String>, KubectlError> {
    let node = attribute.pointer("/secondary/node").and_then(Value::as_str);
    let node = match node {
        Some(name) => kubectl.node(name)?,
        None => None,
    };
    let pods = kubectl.pods()?;
    Ok(ipam::in_use::by(typed.ip, attribute, node.as_ref().map(|node| &node.object), &pods))
}

/// The handle without one address of the block. Somebody else's change of it is no reason to stop: it is read again.
fn count_down(kubectl: &Kubectl, group: &str, handle: &str, cidr: &str) -> Result<(), KubectlError> {
    let mut tries = 5;
    loop {
        let Some(stored) = kubectl.handle(group, handle)? else { return Ok(()) };
        match write_handle(kubectl, &stored, cidr) {
            Err(KubectlError::Conflict { .. }) if tries > 1 => tries -= 1,
            other => return other,
        }
    }
}

fn write_handle(kubectl: &Kubectl, stored: &Stored, cidr: &str) -> Result<(), KubectlError> {
    match release::from_handle(&stored.object, cidr) {
        Ok(Edit::Write(edited)) => kubectl.replace(&stored.path, &edited),
        Ok(Edit::Delete) => kubectl.delete(stored),
        Ok(Edit::Keep) => Ok(()),
        Err(error) => {
            Err(KubectlError::Said { verb: "replace", path: stored.path.clone(), said: error.to_string() })
        }
    }
}

fn confirmed(question: &str) -> Result<bool, Failure> {
    let asked = write!(io::stderr(), "{question}").and_then(|()| io::stderr().flush());
    let mut answer = String::new();
    asked
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| Failure::work_text(format!("cannot ask: {error}; say --yes")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
