//! `trace-drop --from … --to …`: plan, capture, save, analyse, report.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::place::{self, Found, Purpose};
use super::progress::Progress;
use super::watch::{self, Watch};
use super::{Failure, args, keep};
use crate::analyze::{self, Evidence};
use crate::evidence::bundle::{self, Scratch};
use crate::evidence::capture_file::{CaptureError, FrameSource};
use crate::evidence::case::Only;
use crate::evidence::cluster::Cluster;
use crate::evidence::plan::{EndName, Plan, PlanOptions};
use crate::gather;
use crate::gather::capture::Settings;
use crate::gather::kubernetes::Api;
use crate::gather::probe::{Probe, ProbeKind};

pub(super) fn run(typed: &args::Trace) -> Result<ExitCode, Failure> {
    let (Some(from), Some(to)) = (&typed.from, &typed.to) else {
        return Err(Failure::usage("--from and --to are needed".to_owned()));
    };
    refuse_contradictions(typed, from)?;
    if typed.pairs.all {
        return super::pairs::run(typed, (from, to));
    }
    let (Found { cluster, api }, plan) = plan(typed, (from, to))?;
    if typed.dry_run {
        return super::pods::dry_run(typed, &[plan], &[], api.as_ref());
    }
    if let Some(save) = &typed.saving.save {
        keep::refuse_to_overwrite(save)?;
    }
    let scratch = keep::scratch()?;
    let done = trace(typed, plan, (&cluster, api.as_ref()), &scratch);
    keep::or_leave(scratch, typed.saving.save.is_some(), done)
}

/// Flags that do not go together, whatever the cluster is.
fn refuse_contradictions(typed: &args::Trace, from: &str) -> Result<(), Failure> {
    let in_pod = !matches!(EndName::read(from, ""), EndName::Node(_));
    let why = if typed.no_pods && typed.probe.is_some() && in_pod {
        "--probe sends from inside the pod, which --no-pods forbids: leave out one of them"
    } else if typed.watching.ring.is_some() && !typed.watching.endless() {
        "--ring says how much a trace without an end keeps: use it with --watch or --until-loss"
    } else {
        return Ok(());
    };
    Err(Failure::usage(why.to_owned()))
}

/// The plan in hand: the work, with `scratch` to gather in.
fn trace(
    typed: &args::Trace,
    plan: Plan,
    (cluster, api): (&Cluster, Option<&Api>),
    scratch: &Scratch,
) -> Result<ExitCode, Failure> {
    let request = request(typed, vec![plan], api, scratch.path())?;
    let enough = request.watch.as_ref().map(|watch| watch.enough.clone());
    let (mut watch, mut progress) = match enough.map(|enough| Watch::new(typed, enough)) {
        Some((watch, progress)) => (Some(watch), progress),
        None => (None, Progress::new(typed.output.quiet).verbose(typed.output.verbose)),
    };
    let gathered = gather::run::run(&request, &mut |event| {
        progress.show(&event);
        if let Some(words) = watch.as_mut().and_then(|watch| watch.take(&event)) {
            progress.say(&words);
        }
    });
    if let Some(watch) = &watch {
        watch.done();
    }
    progress.done();
    let gathered = gathered.map_err(Failure::work)?;
    let frames = || -> Result<Box<dyn FrameSource>, CaptureError> {
        Ok(Box::new(bundle::frames(&scratch.path().join(bundle::CAPTURE), &gathered.case)?))
    };
    let mut evidence =
        Evidence { case: &gathered.case, texts: &gathered.texts, cluster: Some(cluster), frames: &frames };
    let (findings, marks) = match (&gathered.whole, watch.and_then(Watch::live)) {
        // Frames of the last part only were kept: what was counted on the way is the whole.
        (Some(whole), Some(live)) => {
            evidence.case = whole;
            let mut findings = live.conclude(&evidence);
            watch::note_what_is_kept(
                &mut findings,
                gathered.case.window.as_ref(),
                typed.saving.save.is_some(),
            );
            (findings, None)
        }
        _ if typed.saving.save.is_some() => {
            let done = analyze::run_with_marks(&evidence).map_err(Failure::work)?;
            (done.0, Some(done.1))
        }
        _ => (analyze::run(&evidence).map_err(Failure::work)?, None),
    };
    // The report first: packing takes its time.
    let code = super::show(&findings, &gathered.texts, &typed.output)?;
    if let Some(keeping) = typed.keeping() {
        if let Some(marks) = marks {
            super::pcap::comment(&evidence, &findings, marks, &scratch.path().join(bundle::CAPTURE))?;
        }
        keep::keep(&gathered, None, cluster, scratch, keeping)?;
        super::saved(keeping.save, &typed.output)?;
    }
    Ok(code)
}

/// What is kept of a trace without an end.
const RING: Duration = Duration::from_secs(30);

/// What the agents of a trace do.
pub(super) fn purpose(typed: &args::Trace) -> Purpose {
    Purpose { enter_pods: !typed.no_pods, kernel: !typed.no_kernel, lasting: typed.lasting() }
}

/// What to gather: of all plans at once.
pub(super) fn request(
    typed: &args::Trace,
    plans: Vec<Plan>,
    api: Option<&Api>,
    folder: &Path,
) -> Result<gather::run::Request, Failure> {
    let mut probed = Vec::new();
    for mut plan in plans {
        let probe = typed.probe.map(|kind| probe(kind, typed, &plan));
        // A probe that does not go to the Service's port is to be seen all the same.
        if typed.only.port.is_none() && probe.as_ref().is_some_and(|probe| !covers(plan.only, probe.kind)) {
            plan.only = typed.only.wanted();
        }
        probed.push((plan, probe));
    }
    let more = probed.split_off(probed.len().min(1));
    let (plan, probe) =
        probed.pop().ok_or_else(|| Failure::work_text("there is no pair to trace".to_owned()))?;
    Ok(gather::run::Request {
        plan,
        more,
        reach: place::reach(&typed.place, api, purpose(typed))?,
        duration: typed.lasting(),
        count: typed.count,
        probe,
        settings: Settings { snaplen: typed.snaplen, buffer: typed.buffer << 20 },
        kernel: !typed.no_kernel,
        watch: typed.watching.endless().then(|| gather::run::Watch {
            ring: typed.watching.ring.unwrap_or(RING),
            enough: gather::run::Enough::default(),
        }),
        folder: folder.to_owned(),
    })
}

/// Whether a probe is of this traffic.
fn covers(only: Only, kind: ProbeKind) -> bool {
    let (protocol, port) = match kind {
        ProbeKind::Icmp => (1, None),
        ProbeKind::Tcp(port) => (6, Some(port)),
        ProbeKind::Udp(port) => (17, Some(port)),
    };
    only.protocol.is_none_or(|own| own == protocol)
        && (only.port.is_none() || port.is_some_and(|port| only.ports().any(|own| own == port)))
}

/// What the plan may choose; the namespace comes with the cluster.
pub(super) fn options(typed: &args::Trace) -> PlanOptions {
    PlanOptions {
        namespace: String::new(),
        family: typed.family.number(),
        only: typed.only.wanted(),
        in_pod: !typed.no_pods,
    }
}

fn plan(typed: &args::Trace, (from, to): (&str, &str)) -> Result<(Found, Plan), Failure> {
    let mut options = options(typed);
    let namespace = typed.namespace.as_ref();
    let found =
        place::of_path(&typed.place, (from, to), None, namespace, &mut options, typed.output.voice())?;
    let plan = Plan::make(&found.cluster, from, to, &options).map_err(Failure::unplanned)?;
    Ok((found, plan))
}

/// Through a Service the probe goes to the Service's own address.
fn probe(kind: ProbeKind, typed: &args::Trace, plan: &Plan) -> Probe {
    let to = EndName::read(typed.to.as_deref().unwrap_or_default(), "");
    let through = match to {
        EndName::Service { .. } => plan.aliases.to.first().copied(),
        EndName::Address(address) => Some(address).filter(|address| plan.aliases.to.contains(address)),
        _ => None,
    };
    let target = through.filter(|_| kind != ProbeKind::Icmp);
    Probe {
        kind,
        target: target.unwrap_or(plan.to.address),
        count: typed.probe_count.unwrap_or(if typed.watching.endless() { u32::MAX } else { 10 }),
        size: u32::from(typed.probe_size),
        interval: typed.probe_interval,
    }
}
