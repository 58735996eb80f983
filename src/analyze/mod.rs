//! Evidence into findings. Pure: takes a case, the texts read from its nodes and its captured frames; gives what was
//! lost, where, and why. No socket, no path, no clock: a live run and a case from last month go through the same
//! [`run`].

pub mod findings;

pub mod ipam;

pub mod correlate;

pub mod locate;

pub mod explain;

pub mod rules;
pub mod state;

pub mod check;

pub use excerpts::{Excerpt, excerpts};
pub use marks::{Mark, Marks};

pub mod live;

pub mod pairs;

pub mod diff;

mod account;

mod lanes;

mod pass;

mod survey;

mod excerpts;

mod marks;

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::evidence::capture_file::{CaptureError, FrameSource};
use crate::evidence::case::Coverage;
use crate::evidence::{Case, Direction, Texts};
use crate::packet::Timestamp;

use correlate::Settings;
use correlate::nat::Nat;
use correlate::reassembly::OuterFragments;
use correlate::sift::{About, Sift};
use correlate::tally::Tally;
use findings::{Account, ErrorSeen, Findings, Translation};
use locate::Counted;
use marks::Kept;
use pass::Pass;
use survey::Survey;

/// What one analysis may use.
pub struct Evidence<'e> {
    /// The facts.
    pub case: &'e Case,
    /// What programs printed on the nodes.
    pub texts: &'e Texts,
    /// The cluster's policies, to call a chain by its policy's name.
    pub cluster: Option<&'e crate::evidence::cluster::Cluster>,
    /// Opens the captured frames; called more than once.
    pub frames: &'e dyn Fn() -> Result<Box<dyn FrameSource + 'e>, CaptureError>,
}

/// Analyses a case.
///
/// # Errors
///
/// When the frames cannot be read.
pub fn run(evidence: &Evidence<'_>) -> Result<Findings, CaptureError> {
    analyse(evidence, false).map(|(findings, _)| findings)
}

/// Analyses a case, and keeps what tells the frames of packets that vanished: at most a million of them.
///
/// # Errors
///
/// When the frames cannot be read.
pub fn run_with_marks(evidence: &Evidence<'_>) -> Result<(Findings, Marks), CaptureError> {
    let (findings, kept) = analyse(evidence, true)?;
    let marks = Marks::new(evidence.case, &findings, kept);
    Ok((findings, marks))
}

fn analyse(evidence: &Evidence<'_>, keep: bool) -> Result<(Findings, Kept), CaptureError> {
    let survey = Survey::take(evidence.case, (evidence.frames)()?.as_mut())?;
    let mut pass = Pass::new(evidence.case, &survey, Settings::default());
    if keep {
        pass.correlator.tally.keep_lost_trails();
    }
    let mut source = (evidence.frames)()?;
    let parts = source.parts();
    if !parts.is_empty() {
        lanes::read(parts, &mut pass)?;
        return Ok(pass.conclude(evidence, &survey));
    }
    drop(parts);
    while let Some((point, frame)) = source.next_frame()? {
        pass.take(point, &frame);
    }
    Ok(pass.conclude(evidence, &survey))
}

impl Pass {
    fn conclude(mut self, evidence: &Evidence<'_>, survey: &Survey) -> (Findings, Kept) {
        let case = evidence.case;
        let correlator = &mut self.correlator;
        self.fragments.advance(Timestamp(i64::MAX), |late| {
            correlator.push(&late);
        });
        self.answers.finish(survey.stop(case).unwrap_or(self.latest));
        let (mut tally, mut nat) = self.correlator.finish();
        let counted =
            Counted { tally: &tally, answers: &self.answers, sift: &self.sift, nat: &nat, cut: &self.cut };
        let mut findings = findings(case, survey, &counted, self.frames);
        let error = survey.clock_error(case);
        findings.account =
            account::account(case, &findings.routes, &findings.verdict, &tally, &mut nat, error);
        warn(&mut findings, &self.cut, &self.fragments, survey);
        warn_of_ways(&mut findings, &tally, &self.sift);
        explain::explain(&mut findings, evidence, &self.sift);
        let (trails, left_out) = tally.take_lost_trails();
        let kept = Kept {
            sift: self.sift,
            depth: self.depth,
            shift: self.shift,
            links: self.links,
            trails,
            left_out,
        };
        (findings, kept)
    }
}

/// What was counted, before anything is said of why.
fn findings(case: &Case, survey: &Survey, counted: &Counted<'_>, frames: Vec<u64>) -> Findings {
    let error = survey.clock_error(case);
    let route = |path| locate::route(case, path, counted, error);
    let routes: Vec<_> = case.paths.iter().map(route).collect();
    Findings {
        case: case.clone(),
        frames,
        verdict: locate::verdict(case, &routes),
        causes: Vec::new(),
        translations: translations(case, counted.nat),
        errors: errors(counted.sift),
        clock: survey.clock(case),
        warnings: case.warnings.clone(),
        account: Account::default(),
        routes,
    }
}

fn translations(case: &Case, nat: &Nat) -> Vec<Translation> {
    let point = |direction, position: u8| {
        let path = case.paths.iter().find(|path| path.direction == direction)?;
        path.points.get(usize::from(position)).copied()
    };
    let all = nat.changes().into_iter().filter_map(|change| {
        Some(Translation {
            direction: change.direction,
            from: point(change.direction, change.after_position)?,
            to: point(change.direction, change.position)?,
            before: change.before,
            after: change.after,
            packets: change.packets,
        })
    });
    all.collect()
}

fn errors(sift: &Sift) -> Vec<ErrorSeen> {
    let mut all: Vec<ErrorSeen> = sift
        .errors
        .iter()
        .filter_map(|(note, points)| {
            let (at, count) = points.iter().max_by_key(|(_, count)| **count)?;
            Some(ErrorSeen {
                by: note.by,
                what: explain::icmp_words(note),
                mtu: note.mtu.filter(|mtu| *mtu > 0),
                about: match note.about {
                    About::Traffic(true) => Some(Direction::Forward),
                    About::Traffic(false) => Some(Direction::Reply),
                    About::Tunnel => None,
                },
                at: *at,
                count: *count,
            })
        })
        .collect();
    all.sort_by_key(|error| std::cmp::Reverse(error.count));
    all
}

/// What packets did on their way although none of it was a loss.
fn warn_of_ways(findings: &mut Findings, tally: &Tally, sift: &Sift) {
    let mut of_others: BTreeMap<IpAddr, u64> = BTreeMap::new();
    for (address, packets) in findings.routes.iter().flat_map(|route| &route.of_others) {
        *of_others.entry(*address).or_default() += packets;
    }
    for (address, packets) in of_others {
        findings.warnings.push(format!(
            "{packets} packets with the address {address} were of others than {} and {}: not counted",
            findings.case.from.name, findings.case.to.name
        ));
    }
    for way in &tally.ways {
        for (index, packets) in &way.detours {
            if let Some(astray) = sift.astray.get(usize::from(*index)) {
                let where_ = locate::elsewhere(&findings.case, astray).words(&findings.case);
                findings
                    .warnings
                    .push(format!("{packets} packets took another way, and came back: {where_}"));
            }
        }
        if way.segmented > 0 {
            findings.warnings.push(format!(
                "{} large UDP or SCTP frames were cut into packets by the card (segmentation offload) and not followed beyond it",
                way.segmented
            ));
        }
    }
}

/// What the captures themselves fell short of.
fn warn(findings: &mut Findings, cut: &[u64], fragments: &OuterFragments, survey: &Survey) {
    for (point, cut) in findings.case.points.iter().zip(cut).filter(|(_, cut)| **cut > 0) {
        findings.warnings.push(format!(
            "{}: {cut} frames were cut too short to recognise them; capture with a larger --snaplen",
            point.id
        ));
    }
    if survey.own_tunnels > 0 {
        findings.warnings.push(format!(
            "{} or more frames between {} and {} are of a tunnel that they have made themselves: these are not followed",
            survey.own_tunnels, findings.case.from.name, findings.case.to.name
        ));
    }
    for point in &findings.case.points {
        let lost = point.state.read().map_or(0, Coverage::lost);
        if lost > 0 {
            findings.warnings.push(format!(
                "{}: the capture itself lost {lost} frames; a larger --buffer or a smaller --snaplen loses fewer",
                point.id
            ));
        }
        if let Some(why) = point.state.read().and_then(|coverage| coverage.failed.as_ref()) {
            findings.warnings.push(format!("{}: the capture ended early: {why}", point.id));
        }
    }
    for point in &fragments.first_only {
        findings.warnings.push(format!(
            "{}: tunnel packets were fragmented and the capture shows first fragments only; loss of later ones \
             cannot be seen there",
            findings.case.points[point.index()].id
        ));
    }
    if survey.depth.payload < 8 {
        findings.warnings.push(format!(
            "the captures were cut so short that only {} bytes of payload could be compared",
            survey.depth.payload
        ));
    }
}
