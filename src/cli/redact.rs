//! `trace-drop redact`, and `--redact` beside `--save`: a saved case anew, without payloads and under other names. Draws the key,
//! opens and writes the files, and holds the verdict against the original's.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::ExitCode;

use super::keep::{self, Keeping};
use super::{Failure, args, pcap};
use crate::analyze::findings::{Findings, Route};
use crate::analyze::{self, Evidence};
use crate::evidence::bundle::{self, Bundle, BundleError, More, Writer};
use crate::evidence::capture_file::{
    CaptureError, FrameSource, InterfaceSpec, PcapNgWriter, Reader, Statistics,
};
use crate::evidence::cluster::Cluster;
use crate::evidence::redact::Redactor;
use crate::evidence::{Case, Texts};

pub(super) fn run(typed: &args::redact::Redact) -> Result<ExitCode, Failure> {
    let output = &typed.output;
    if output.exists() {
        let why = format!("-o {}: it exists already; choose another name", output.display());
        return Err(Failure::usage(why));
    }
    let bundle = Bundle::open(&typed.saved).map_err(Failure::work)?;
    let scratch = keep::scratch()?;
    let (new, notes) = rewrite(&bundle, scratch.path())?;
    keep::pass_on(new, output)?;
    if !typed.quiet {
        say(&notes);
        super::complain(&format!("wrote {}, redacted", output.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts the case, redacted, where the user wants it.
pub(super) fn pass_on(bundle: &Bundle, keeping: Keeping<'_>) -> Result<(), Failure> {
    let scratch = keep::scratch()?;
    let (new, notes) = rewrite(bundle, scratch.path())?;
    if !keeping.quiet {
        say(&notes);
    }
    keep::pass_on(new, keeping.save)
}

fn say(notes: &[String]) {
    for note in notes {
        super::complain(&format!("warning: {note}"));
    }
}

/// All of a case but its frames.
struct Parts {
    case: Case,
    more: Option<More>,
    texts: Texts,
    cluster: Option<Cluster>,
}

impl Parts {
    fn cases(&self) -> Vec<&Case> {
        std::iter::once(&self.case).chain(self.more.iter().flat_map(|more| &more.cases)).collect()
    }

    /// The findings of each pair; none where nothing was captured. With comments on the frames of lost packets, as a saved case has.
    fn findings(&self, folder: &Path, comment: bool) -> Result<Vec<Findings>, Failure> {
        let captured = self
            .cases()
            .into_iter()
            .enumerate()
            .map(|(pair, case)| (pair, case, folder.join(bundle::capture_of(pair))));
        captured
            .filter(|(.., capture)| capture.is_file())
            .map(|(pair, case, capture)| {
                let own = self.texts_of(pair, case);
                let frames = || -> Result<Box<dyn FrameSource>, CaptureError> {
                    Ok(Box::new(bundle::frames(&capture, case)?))
                };
                let evidence =
                    Evidence { case, texts: &own, cluster: self.cluster.as_ref(), frames: &frames };
                let (findings, marks) = analyze::run_with_marks(&evidence).map_err(Failure::work)?;
                if comment && self.more.is_none() {
                    pcap::comment(&evidence, &findings, marks, &capture)?;
                }
                Ok(findings)
            })
            .collect()
    }

    fn texts_of(&self, pair: usize, case: &Case) -> Texts {
        match &self.more {
            Some(_) => self.texts.of(u16::try_from(pair).unwrap_or(u16::MAX), case),
            None => self.texts.clone(),
        }
    }
}

/// Writes the case anew into `folder`, and what is to be said of it.
fn rewrite(bundle: &Bundle, folder: &Path) -> Result<(Bundle, Vec<String>), Failure> {
    let cluster = bundle.cluster_text().map_err(Failure::work)?;
    let old = Parts {
        case: bundle.case().clone(),
        more: bundle.more().cloned(),
        texts: bundle.texts().map_err(Failure::work)?,
        cluster: cluster.as_deref().and_then(|text| Cluster::from_json(text).ok()),
    };
    let mut redactor = Redactor::new(&key()?, &old.cases(), &old.texts, old.cluster.as_ref());
    let mut new = Parts {
        case: redactor.case(&old.case),
        more: old.more.as_ref().map(|more| redactor.more(more)),
        cluster: old.cluster.as_ref().map(|cluster| redactor.cluster(cluster)),
        texts: redactor.texts(&old.texts),
    };
    for (pair, case) in new.cases().into_iter().enumerate() {
        let name = bundle::capture_of(pair);
        let capture = bundle.folder().join(&name);
        if capture.is_file() {
            frames(&capture, &folder.join(name), case, &mut redactor)?;
        }
    }
    let mut notes = redactor.notes();
    if cluster.is_some() && old.cluster.is_none() {
        notes.push("redacted: the cluster's objects are not understood, and were left out".to_owned());
    }
    let judged = judge(&old.findings(bundle.folder(), false)?, &new.findings(folder, true)?);
    notes.extend(judged);
    new.case.warnings.extend(notes.iter().cloned());
    let mut writer = Writer::create(folder).map_err(Failure::work)?;
    writer.put_texts(&new.texts).map_err(Failure::work)?;
    if let Some(cluster) = &new.cluster {
        writer.put_cluster(&cluster.to_json()).map_err(Failure::work)?;
    }
    if let Some(more) = new.more {
        writer.put_more(more);
    }
    Ok((writer.finish(&new.case).map_err(Failure::work)?, notes))
}

/// Copies a capture's frames, redacted. Comments and names of the old one are not taken over.
fn frames(from: &Path, to: &Path, case: &Case, redactor: &mut Redactor) -> Result<(), Failure> {
    let unwritable = |error| Failure::work(BundleError::io("write", to)(error));
    let mut reader = Reader::open(from).map_err(Failure::work)?;
    let interfaces: Vec<InterfaceSpec> = case
        .points
        .iter()
        .zip(reader.interfaces())
        .map(|(point, interface)| InterfaceSpec::of(point, interface.link, interface.snaplen))
        .collect();
    let file = File::create_new(to).map_err(unwritable)?;
    let mut writer =
        PcapNgWriter::new(BufWriter::with_capacity(BUFFER, file), &interfaces).map_err(unwritable)?;
    writer.names(&case.names()).map_err(unwritable)?;
    while let Some(record) = reader.next_record().map_err(Failure::work)? {
        let frame = redactor.frame(&record.frame);
        writer.write(record.interface, &frame, None).map_err(unwritable)?;
    }
    let statistics: Vec<Option<Statistics>> =
        case.points.iter().map(|point| point.state.read().map(Statistics::of)).collect();
    writer.finish(&statistics).map(drop).map_err(unwritable)
}

/// That the verdict is another one than the original's, if it is.
fn judge(old: &[Findings], new: &[Findings]) -> Option<String> {
    let differ = old.iter().zip(new).any(|(old, new)| !agree(old, new));
    (differ || old.len() != new.len()).then(|| {
        "redacted: what was left out changes the verdict; the original case says something else than this one".to_owned()
    })
}

/// Whether both say the same: what became of the packets, where, of how many, and why, as surely.
fn agree(old: &Findings, new: &Findings) -> bool {
    let verdicts = (&old.verdict, &new.verdict);
    let causes = |findings: &Findings| -> Vec<_> {
        findings.causes.iter().map(|cause| (cause.kind, cause.confidence)).collect()
    };
    let counts = |findings: &Findings| -> Vec<_> {
        let routes = findings.routes.iter();
        let lost =
            |route: &Route| route.stages.iter().map(|stage| (stage.kind, stage.lost)).collect::<Vec<_>>();
        routes.map(|route| (route.sent, route.delivered, lost(route))).collect()
    };
    verdicts.0.outcome == verdicts.1.outcome
        && verdicts.0.direction == verdicts.1.direction
        && verdicts.0.place == verdicts.1.place
        && verdicts.0.confidence == verdicts.1.confidence
        && causes(old) == causes(new)
        && counts(old) == counts(new)
}

/// A new key. It goes with this process.
fn key() -> Result<[u8; 32], Failure> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| {
        Failure::work_text(format!("the system gives no random bytes for a key: {error}"))
    })?;
    Ok(key)
}

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;
