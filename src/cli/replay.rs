//! `trace-drop replay`: a saved case, or captures taken by hand, through the same analysis as a live run.

use std::path::Path;
use std::process::ExitCode;

use super::args;
use super::{Failure, show};
use crate::analyze::{self, Evidence};
use crate::evidence::bundle::Bundle;
use crate::evidence::capture_file::{CaptureError, FileSource, FrameSource, Merge, Reader};
use crate::evidence::case::{Aliases, Coverage};
use crate::evidence::cluster::Cluster;
use crate::evidence::{CapturePoint, Case, Endpoint, Known, PointId, Role, Texts, plan};
use crate::packet::{Flow, Packet};

pub(super) fn run(typed: &args::Replay) -> Result<ExitCode, Failure> {
    let answer = |evidence: &Evidence<'_>, texts: &Texts| {
        let findings = analyze::run(evidence).map_err(Failure::work)?;
        show(&findings, texts, &typed.output)
    };
    let Some(saved) = &typed.recorded.saved else {
        return with_files(&typed.recorded, typed.output.quiet, answer);
    };
    let bundle = Bundle::open(saved).map_err(Failure::work)?;
    match bundle.more() {
        Some(more) => super::pairs::replay(&bundle, more, typed),
        None => with_saved(&bundle, &typed.recorded, answer),
    }
}

/// Opens what was recorded, and does something with it.
pub(super) fn with_evidence<T>(
    recorded: &args::Recorded,
    quiet: bool,
    work: impl FnOnce(&Evidence<'_>, &Texts) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match &recorded.saved {
        Some(saved) => with_saved(&Bundle::open(saved).map_err(Failure::work)?, recorded, work),
        None => with_files(recorded, quiet, work),
    }
}

fn with_saved<T>(
    bundle: &Bundle,
    recorded: &args::Recorded,
    work: impl FnOnce(&Evidence<'_>, &Texts) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut case = bundle.case().clone();
    narrow(&mut case, &recorded.only);
    let texts = bundle.texts().map_err(Failure::work)?;
    let cluster = bundle.cluster_text().map_err(Failure::work)?;
    let cluster = cluster.and_then(|text| Cluster::from_json(&text).ok());
    let frames = || -> Result<Box<dyn FrameSource + '_>, CaptureError> { Ok(Box::new(bundle.frames()?)) };
    work(&Evidence { case: &case, texts: &texts, cluster: cluster.as_ref(), frames: &frames }, &texts)
}

pub(super) fn narrow(case: &mut Case, only: &args::Only) {
    case.only.protocol = only.protocol.map(args::Protocol::number).or(case.only.protocol);
    case.only.port = only.port.or(case.only.port);
}

fn with_files<T>(
    recorded: &args::Recorded,
    quiet: bool,
    work: impl FnOnce(&Evidence<'_>, &Texts) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let case = case_of_files(recorded, quiet)?;
    let texts = Texts::default();
    let open = || -> Result<Box<dyn FrameSource + '_>, CaptureError> {
        let sources = recorded.at.iter().enumerate().map(|(index, (_, file))| {
            let point = PointId(u8::try_from(index).unwrap_or(u8::MAX));
            open_as(file, point)
        });
        Ok(Box::new(Merge::new(sources.collect::<Result<_, _>>()?)))
    };
    work(&Evidence { case: &case, texts: &texts, cluster: None, frames: &open }, &texts)
}

fn open_as(file: &Path, point: PointId) -> Result<Box<dyn FrameSource + Send>, CaptureError> {
    Ok(Box::new(FileSource::all_at(Reader::open(file)?, point)))
}

/// The case that files by hand make: points in the order given, and nothing known of nodes.
fn case_of_files(typed: &args::Recorded, quiet: bool) -> Result<Case, Failure> {
    if typed.at.len() < 2 {
        return Err(Failure::usage(
            "one capture cannot show where packets vanish: give --at at least twice".to_owned(),
        ));
    }
    if typed.at.len() > analyze::correlate::MAX_POSITIONS {
        return Err(Failure::usage(format!(
            "{} captures are more than a path has points: give at most {}",
            typed.at.len(),
            analyze::correlate::MAX_POSITIONS
        )));
    }
    let points = points_of_files(&typed.at)?;
    let flow = match (typed.from, typed.to) {
        (Some(from), Some(to)) => (from, to),
        _ => guess(&typed.at[0].1, typed, quiet)?,
    };
    let encapsulated = points.iter().any(|point| point.role == Role::Tunnel);
    let end = |address: std::net::IpAddr, node: &str| Endpoint {
        name: address.to_string(),
        address,
        node: Some(node.to_owned()),
    };
    let mut case = Case {
        from: end(flow.0, &points[0].node),
        to: end(flow.1, &points[points.len() - 1].node),
        aliases: Aliases::default(),
        nodes: Vec::new(),
        paths: plan::paths(&points, encapsulated),
        points,
        vxlan_port: 4789,
        window: None,
        clocks: Vec::new(),
        only: crate::evidence::case::Only::default(),
        probe: None,
        conntrack: Vec::new(),
        warnings: Vec::new(),
    };
    narrow(&mut case, &typed.only);
    Ok(case)
}

/// The points. From when to when they were captured is learned when the files are read.
fn points_of_files(files: &[(String, std::path::PathBuf)]) -> Result<Vec<CapturePoint>, Failure> {
    let mut points: Vec<CapturePoint> = Vec::new();
    for (id, file) in files {
        let reader = Reader::open(file).map_err(Failure::work)?;
        let snaplen = reader.interfaces().first().map_or(0, |interface| interface.snaplen);
        let (node, interface) = id.split_once('/').expect("checked when it was typed");
        points.push(CapturePoint {
            id: id.clone(),
            node: node.to_owned(),
            interface: interface.to_owned(),
            role: role(interface),
            state: Known::Read(Coverage { guessed: true, snaplen, ..Coverage::default() }),
        });
    }
    Ok(points)
}

/// What an interface of this name usually is.
fn role(interface: &str) -> Role {
    match interface {
        name if name.starts_with("pod:") => Role::Pod,
        name if name.starts_with("cali") || name.starts_with("veth") || name.starts_with("lxc") => Role::Veth,
        name if name.starts_with("vxlan") || name.starts_with("tunl") || name.starts_with("flannel") => {
            Role::Tunnel
        }
        _ => Role::Nic,
    }
}

/// The two addresses between which most packets went in the first capture.
fn guess(
    file: &Path,
    typed: &args::Recorded,
    quiet: bool,
) -> Result<(std::net::IpAddr, std::net::IpAddr), Failure> {
    let mut counts: std::collections::BTreeMap<(std::net::IpAddr, std::net::IpAddr), u64> =
        std::collections::BTreeMap::new();
    let mut reader = Reader::open(file).map_err(Failure::work)?;
    for _ in 0..100_000 {
        let Some(record) = reader.next_record().map_err(Failure::work)? else { break };
        if let Some(Flow { src, dst, .. }) = Packet::read(&record.frame).flow() {
            *counts.entry((src, dst)).or_default() += 1;
        }
    }
    let fits = |(src, dst): &(std::net::IpAddr, std::net::IpAddr)| {
        typed.from.is_none_or(|from| from == *src) && typed.to.is_none_or(|to| to == *dst)
    };
    let most = counts.into_iter().filter(|(pair, _)| fits(pair)).max_by_key(|(_, count)| *count);
    let ((src, dst), count) = most
        .ok_or_else(|| Failure::usage(format!("no IP packet in {}: say --from and --to", file.display())))?;
    if !quiet {
        super::complain(&format!(
            "tracing {src} to {dst}: most packets ({count}) in {}; --from and --to choose others",
            file.display()
        ));
    }
    Ok((src, dst))
}
