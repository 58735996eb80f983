//! `--all-pairs`: plans all pairs, gathers them in one go, analyses each by itself, and ranks them; and the same from a
//! saved case.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use super::place::{self, Found};
use super::progress::Progress;
use super::saved::Saved;
use super::trace;
use super::{Failure, args, keep};
use crate::analyze::findings::Findings;
use crate::analyze::{self, Evidence};
use crate::evidence::bundle::{self, More, Scratch};
use crate::evidence::capture_file::{CaptureError, FrameSource};
use crate::evidence::cluster::Cluster;
use crate::evidence::plan::{Pairs, Plan};
use crate::evidence::{Case, Texts};
use crate::gather;
use crate::gather::agent::wire::MOST_HEARD;
use crate::report;

/// Traces all pairs.
pub(super) fn run(typed: &args::Trace, (from, to): (&str, &str)) -> Result<ExitCode, Failure> {
    let most = usize::from(typed.pairs.most);
    refuse_forms(&typed.output)?;
    let mut options = trace::options(typed);
    let namespace = typed.namespace.as_ref();
    let found =
        place::of_path(&typed.place, (from, to), Some(most), namespace, &mut options, typed.output.voice())?;
    let Pairs { plans, mut notes } =
        Pairs::make(&found.cluster, (from, to), &options, most).map_err(Failure::unplanned)?;
    notes.extend(unheard(&plans).filter(|_| !typed.no_kernel));
    if typed.dry_run {
        return super::pods::dry_run(typed, &plans, &notes, found.api.as_ref());
    }
    if let Some(save) = &typed.saving.save {
        keep::refuse_to_overwrite(save)?;
    }
    if !typed.output.quiet {
        say(&plans, &notes);
    }
    let scratch = keep::scratch()?;
    let done = trace(typed, plans, (notes, &found), &scratch);
    keep::or_leave(scratch, typed.saving.save.is_some(), done)
}

/// The plans in hand: the work, with `scratch` to gather in.
fn trace(
    typed: &args::Trace,
    plans: Vec<Plan>,
    (notes, found): (Vec<String>, &Found),
    scratch: &Scratch,
) -> Result<ExitCode, Failure> {
    let request = trace::request(typed, plans, found.api.as_ref(), scratch.path())?;
    let mut progress = Progress::new(typed.output.quiet);
    let gathered = gather::run::run(&request, &mut |event| progress.show(&event));
    progress.done();
    let gathered = gathered.map_err(Failure::work)?;
    let cases: Vec<&Case> = std::iter::once(&gathered.case).chain(&gathered.more).collect();
    let code = answer(&cases, &gathered.texts, Some(&found.cluster), &notes, scratch.path(), &typed.output)?;
    if let Some(keeping) = typed.keeping() {
        let more = More { cases: gathered.more.clone(), notes };
        keep::keep(&gathered, Some(more), &found.cluster, scratch, keeping)?;
        super::saved(keeping.save, &typed.output)?;
    }
    Ok(code)
}

/// That not every pair has the kernel's own word.
fn unheard(plans: &[Plan]) -> Option<String> {
    let mut pairs: BTreeMap<&str, usize> = BTreeMap::new();
    for node in plans.iter().flat_map(|plan| plan.nodes.iter().filter(|node| node.on_path)) {
        *pairs.entry(&node.name).or_default() += 1;
    }
    pairs.values().any(|pairs| *pairs > MOST_HEARD).then(|| {
        format!("the kernel's own word about dropped packets is taken for {MOST_HEARD} pairs of each node, not for all")
    })
}

/// Which pairs were chosen.
fn say(plans: &[Plan], notes: &[String]) {
    for note in notes {
        super::complain(note);
    }
    for plan in plans {
        super::complain(&format!("  {} to {}", plan.from.name, plan.to.name));
    }
}

/// The same answer from a saved case of several pairs.
pub(super) fn replay(saved: &Saved, more: &More, typed: &args::Replay) -> Result<ExitCode, Failure> {
    refuse_forms(&typed.output)?;
    let mut cases: Vec<Case> = std::iter::once(&saved.case).chain(&more.cases).cloned().collect();
    for case in &mut cases {
        super::replay::narrow(case, &typed.recorded.only, saved.cluster.as_ref());
    }
    let cases: Vec<&Case> = cases.iter().collect();
    let Saved { bundle, texts, cluster, .. } = saved;
    answer(&cases, texts, cluster.as_ref(), &more.notes, bundle.folder(), &typed.output)
}

/// The forms that show one pair.
fn refuse_forms(output: &args::Output<args::ReportForm>) -> Result<(), Failure> {
    match output.form {
        args::ReportForm::Text | args::ReportForm::Json => Ok(()),
        _ => {
            let why = "many pairs are reported as text or json; trace the worst pair alone for a page of it";
            Err(Failure::usage(why.to_owned()))
        }
    }
}

/// Analyses each pair by itself, then all together.
fn answer(
    cases: &[&Case],
    texts: &Texts,
    cluster: Option<&Cluster>,
    notes: &[String],
    folder: &Path,
    output: &args::Output<args::ReportForm>,
) -> Result<ExitCode, Failure> {
    let mut findings: Vec<Findings> = Vec::new();
    for (pair, case) in cases.iter().enumerate() {
        let own = texts.of(u16::try_from(pair).unwrap_or(u16::MAX), case);
        let capture = folder.join(bundle::capture_of(pair));
        let frames = || -> Result<Box<dyn FrameSource>, CaptureError> {
            Ok(Box::new(bundle::frames(&capture, case)?))
        };
        let evidence = Evidence { case, texts: &own, cluster, frames: &frames };
        findings.push(analyze::run(&evidence).map_err(Failure::work)?);
    }
    let ranking = analyze::pairs::rank(&findings);
    let style = super::style(output);
    super::print(|out| match output.form {
        args::ReportForm::Json => report::pairs_json(&findings, &ranking, notes, out),
        _ => report::pairs_text(&findings, &ranking, notes, style, out),
    })?;
    Ok(super::exit_code(ranking.outcome))
}
