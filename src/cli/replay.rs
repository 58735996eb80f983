//! `trace-drop replay`: a saved case, or captures taken by hand, through the same analysis as a live run.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use super::args;
use super::saved::Saved;
use super::{Failure, show};
use crate::analyze::{self, Evidence};
use crate::evidence::capture_file::{self, CaptureError, FrameSource, Reader};
use crate::evidence::cluster::Cluster;
use crate::evidence::recordings::{Recording, Recordings, RecordingsError};
use crate::evidence::{Case, Texts};
use crate::packet::Packet;

pub(super) fn run(typed: &args::Replay) -> Result<ExitCode, Failure> {
    let answer = |evidence: &Evidence<'_>, texts: &Texts| {
        let findings = analyze::run(evidence).map_err(Failure::work)?;
        show(&findings, texts, &typed.output)
    };
    let Some(saved) = saved(&typed.recorded)? else {
        return with_files(&typed.recorded, typed.output.quiet, answer);
    };
    let saved = Saved::open(saved, typed.output.quiet)?;
    match saved.bundle.more() {
        Some(_) if !typed.recorded.state.is_empty() => Err(Failure::usage(
            "--state is for one pair: this case holds several, with the states of their nodes".to_owned(),
        )),
        Some(more) => super::pairs::replay(&saved, more, typed),
        None => with_saved(saved, &typed.recorded, typed.output.quiet, answer),
    }
}

/// Opens what was recorded, and does something with it.
pub(super) fn with_evidence<T>(
    recorded: &args::Recorded,
    quiet: bool,
    work: impl FnOnce(&Evidence<'_>, &Texts) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match saved(recorded)? {
        Some(path) => with_saved(Saved::open(path, quiet)?.first_pair(path, quiet), recorded, quiet, work),
        None => with_files(recorded, quiet, work),
    }
}

/// The saved case that was given; None when captures were. Told by the contents, whatever the names.
fn saved(recorded: &args::Recorded) -> Result<Option<&Path>, Failure> {
    let case = recorded.files.iter().find(|file| !capture_file::is_capture(file));
    match (case, recorded.files.as_slice()) {
        (None, _) => Ok(None),
        (Some(saved), [_]) if recorded.at.is_empty() => {
            if recorded.from.is_some() || recorded.to.is_some() {
                return Err(Failure::usage(format!(
                    "{}: --from and --to are for captures; a saved case has its own two ends",
                    saved.display()
                )));
            }
            Ok(Some(saved))
        }
        (Some(other), _) => Err(Failure::usage(format!(
            "{}: no pcap or pcapng; give one saved case alone, or captures only",
            other.display()
        ))),
    }
}

fn with_saved<T>(
    mut saved: Saved,
    recorded: &args::Recorded,
    quiet: bool,
    work: impl FnOnce(&Evidence<'_>, &Texts) -> Result<T, Failure>,
) -> Result<T, Failure> {
    narrow(&mut saved.case, &recorded.only, saved.cluster.as_ref());
    super::state::add(&recorded.state, &mut saved.case, &mut saved.texts, quiet)?;
    let Saved { case, texts, cluster, .. } = &saved;
    let frames = || saved.frames();
    work(&Evidence { case, texts, cluster: cluster.as_ref(), frames: &frames }, texts)
}

/// Takes only part of the traffic. Through a Service the same packets have another port on the other side of its translation.
pub(super) fn narrow(case: &mut Case, only: &args::Only, cluster: Option<&Cluster>) {
    let wanted = only.wanted();
    case.only.protocol = wanted.protocol.or(case.only.protocol);
    if let Some(port) = wanted.port {
        let also =
            cluster.and_then(|cluster| cluster.translated_port(&case.aliases.to, case.to.address, port));
        (case.only.port, case.only.also) = (Some(port), also);
    }
}

fn with_files<T>(
    recorded: &args::Recorded,
    quiet: bool,
    work: impl FnOnce(&Evidence<'_>, &Texts) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let said =
        recorded.at.iter().map(|(point, file)| Recording { file: file.clone(), point: Some(point.clone()) });
    let plain = recorded.files.iter().map(|file| Recording { file: file.clone(), point: None });
    let given: Vec<Recording> = said.chain(plain).collect();
    let most = analyze::correlate::MAX_POSITIONS;
    let Recordings { mut case, guesses, openings } =
        Recordings::read(&given, recorded.from, recorded.to, most)
            .map_err(|error| failure(error, recorded))?;
    if !quiet {
        for guess in &guesses {
            super::complain(guess);
        }
        for warning in &case.warnings {
            super::complain(&format!("warning: {warning}"));
        }
    }
    // In the report it is to be read what the answer rests on.
    case.warnings.extend(guesses.into_iter().map(|guess| format!("guessed: {guess}")));
    narrow(&mut case, &recorded.only, None);
    let mut texts = Texts::default();
    super::state::add(&recorded.state, &mut case, &mut texts, quiet)?;
    let open = || -> Result<Box<dyn FrameSource + '_>, CaptureError> { openings.open() };
    work(&Evidence { case: &case, texts: &texts, cluster: None, frames: &open }, &texts)
}

/// No traffic of the two is an answer, and no fault of what was typed.
fn failure(error: RecordingsError, recorded: &args::Recorded) -> Failure {
    let unseen = recorded.from.zip(recorded.to).filter(|ends| {
        let at = recorded.at.iter().map(|(_, file)| file);
        matches!(error, RecordingsError::TooFew { .. })
            && !recorded.files.iter().chain(at).any(|file| holds(file, *ends))
    });
    match (error, unseen) {
        (RecordingsError::Capture(error), _) => Failure::work(error),
        (error @ RecordingsError::NoPacket { .. }, _) => Failure::no_traffic(error.to_string()),
        (_, Some((from, to))) => Failure::no_traffic(format!(
            "no IP packet between {from} and {to} is in any of the captures: say --from and --to as the packets have them"
        )),
        (other, _) => Failure::usage(other.to_string()),
    }
}

/// Whether a capture has a packet of the two. One that cannot be read was refused before.
fn holds(file: &Path, (from, to): (IpAddr, IpAddr)) -> bool {
    let Ok(mut reader) = Reader::open(file) else { return false };
    while let Ok(Some(record)) = reader.next_record() {
        let packet = Packet::read(&record.frame);
        if packet.ip().is_some_and(|ip| [(from, to), (to, from)].contains(&(ip.src, ip.dst))) {
            return true;
        }
    }
    false
}
