//! `trace-drop ipam show`, `check` and `release`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::Value;

use super::Failure;
use super::args::ipam::{Ask, Check, Release, Show};
use super::args::{Form, Voice};
use crate::analyze::ipam::{self, Finding};
use crate::evidence::ipam::Figures;
use crate::evidence::ipam::release::{self, Edit, ReleaseError};
use crate::gather::kubernetes::ipam::{self as stored, Stored};
use crate::gather::kubernetes::{Api, ApiError, node_path};
use crate::report;

pub(super) fn run(ask: &Ask) -> Result<ExitCode, Failure> {
    match ask {
        Ask::Show(typed) => show(typed),
        Ask::Check(typed) => check(typed),
        Ask::Release(typed) => release(typed),
    }
}

fn show(typed: &Show) -> Result<ExitCode, Failure> {
    let cluster =
        super::place::whole(typed.cluster.as_deref(), &typed.server, Voice::of(typed.output.quiet, false))?;
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
    let cluster =
        super::place::whole(typed.cluster.as_deref(), &typed.server, Voice::of(typed.output.quiet, false))?;
    let figures = Figures::of(&cluster);
    let checked = ipam::check_with(&cluster, &figures);
    super::print(|out| match typed.output.form {
        Form::Text => report::ipam::checked::text(&cluster, &figures, &checked, out),
        Form::Json => report::ipam::checked::json(&checked, out),
    })?;
    Ok(ExitCode::from(u8::from(checked.findings.iter().any(Finding::is_fault))))
}

/// Reads everything first, asks, then writes the block over the version that was read: whatever happened to the block
/// while the user thought makes the server refuse.
fn release(typed: &Release) -> Result<ExitCode, Failure> {
    let ip = typed.ip;
    if !typed.yes && !io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "releasing {ip} must be confirmed, and standard input is no terminal: say --yes"
        )));
    }
    let api = super::place::api(&typed.server)?;
    let Some((block, group)) = api.wait(stored::block(&api, ip)).map_err(Failure::work)? else {
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
    if let Some(why) = user(&api, typed, &released.attribute).map_err(Failure::work)? {
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
        Edit::Write(edited) => api.wait(api.replace(&block.path, edited)).map(drop),
        Edit::Delete => api.wait(stored::delete(&api, &block)),
        Edit::Keep => Ok(()),
    }
    .map_err(Failure::work)?;
    let cidr = block.object.pointer("/spec/cidr").and_then(Value::as_str).unwrap_or_default();
    let handle = released.attribute.get("handle_id").and_then(Value::as_str);
    if let Some(handle) = handle {
        count_down(&api, group, handle, cidr).map_err(|error| {
            Failure::work_text(format!(
                "{ip} is released, but its handle {handle} still counts it ({}); `trace-drop ipam check` finds such handles",
                error.text
            ))
        })?;
    }
    super::print(|out| writeln!(out, "{ip} is released; it was allocated to {owner}"))
}

/// Who uses the address still; none when nobody does.
fn user(api: &Api, typed: &Release, attribute: &Value) -> Result<Option<String>, ApiError> {
    let node = attribute.pointer("/secondary/node").and_then(Value::as_str);
    let node = match node {
        Some(name) => api.wait(api.get(&node_path(name)))?,
        None => None,
    };
    // All of them, of all namespaces: no field selector finds a second family's address.
    let pods = api.wait(api.list("/api/v1/pods"))?.unwrap_or_default();
    Ok(ipam::in_use::by(typed.ip, attribute, node.as_ref(), &pods))
}

/// The handle without one address of the block. Somebody else's change of it is no reason to stop: it is read again.
fn count_down(api: &Api, group: &str, handle: &str, cidr: &str) -> Result<(), Failure> {
    let mut tries = 5;
    loop {
        let found = api.wait(stored::handle(api, group, handle)).map_err(Failure::work)?;
        let Some(found) = found else { return Ok(()) };
        let edit = release::from_handle(&found.object, cidr)
            .map_err(|error| Failure::work_text(format!("{}: {error}", found.path)))?;
        match write_handle(api, &found, &edit) {
            Err(error) if error.is_conflict() && tries > 1 => tries -= 1,
            other => return other.map_err(Failure::work),
        }
    }
}

fn write_handle(api: &Api, stored: &Stored, edit: &Edit) -> Result<(), ApiError> {
    match edit {
        Edit::Write(edited) => api.wait(api.replace(&stored.path, edited)).map(drop),
        Edit::Delete => api.wait(stored::delete(api, stored)),
        Edit::Keep => Ok(()),
    }
}

fn confirmed(question: &str) -> Result<bool, Failure> {
    let asked = write!(io::stderr(), "{}", super::fit(question)).and_then(|()| io::stderr().flush());
    let mut answer = String::new();
    asked
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| Failure::work_text(format!("cannot ask: {error}; say --yes")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
