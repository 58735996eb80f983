//! The chronicle in the findings' words: sample packets over the points, loss and delay over time, flows. Takes what
//! [`correlate`] kept and the routes that [`locate`] made of the counts; chooses, and counts nothing anew.
//!
//! [`correlate`]: super::correlate
//! [`locate`]: super::locate

use std::collections::BTreeMap;

use crate::evidence::{Case, Direction, Path};
use crate::packet::Nanos;

use super::correlate::chronicle::{Course, Witness};
use super::correlate::nat::{FlowId, Nat};
use super::correlate::tally::Tally;
use super::findings::{Account, Fate, FlowSeen, Route, Sample, SeenAt, StageCount, Verdict};

/// Sample packets that vanished.
const MOST_LOST: usize = 40;
/// Sample packets of each direction that arrived.
const MOST_DELIVERED: usize = 5;
/// Flows.
const MOST_FLOWS: usize = 60;

/// What a reader wants to see.
pub(super) fn account(
    case: &Case,
    routes: &[Route],
    verdict: &Verdict,
    tally: &Tally,
    nat: &mut Nat,
    clock_error: Option<Nanos>,
) -> Account {
    let (flows, flows_left_out) = flows(case, tally, nat);
    let mut lost = Vec::new();
    let mut delivered = Vec::new();
    for (path, route) in case.paths.iter().zip(routes) {
        let chronicle = &tally.way(path.direction).chronicle;
        for (position, spread) in chronicle.lost.iter().enumerate() {
            let stage = stage_after(path, route, position);
            let fate = match stage {
                Some(stage) if stage.lost > 0 => Fate::Lost { after: stage.from, before: stage.to },
                _ => Fate::Doubtful,
            };
            let named = stage.is_some_and(|stage| {
                let place = verdict.place.as_ref();
                verdict.direction == path.direction
                    && place.is_some_and(|place| place.from == stage.from && place.to == Some(stage.to))
            });
            let witnesses = spread.kept.iter();
            lost.extend(witnesses.map(|witness| (!named, sample(path, witness, fate.clone(), nat, &flows))));
        }
        let kept = evenly(&chronicle.delivered.kept, MOST_DELIVERED);
        delivered.extend(kept.map(|witness| sample(path, witness, Fate::Delivered, nat, &flows)));
    }
    // Those of the place that the verdict names first: others only where there is room.
    let named = lost.iter().filter(|(elsewhere, _)| !elsewhere).count().min(MOST_LOST);
    let (here, elsewhere): (Vec<_>, Vec<_>) = lost.into_iter().partition(|(elsewhere, _)| !elsewhere);
    let mut samples: Vec<Sample> = evenly(&here, named).map(|(_, sample)| sample.clone()).collect();
    samples.extend(evenly(&elsewhere, MOST_LOST - named).map(|(_, sample)| sample.clone()));
    samples.sort_by_key(|sample| sample.time);
    delivered.sort_by_key(|sample| sample.time);
    samples.extend(delivered);
    let courses = case.paths.iter().map(|path| {
        let mut course = tally.way(path.direction).chronicle.course.clone();
        if clock_error.is_none() {
            without_times(&mut course);
        }
        (path.direction, course)
    });
    Account { samples, courses: courses.collect(), flows: flows.listed, flows_left_out }
}

/// Times between two clocks that are not aligned mean nothing.
fn without_times(course: &mut Course) {
    for bin in &mut course.bins {
        (bin.timed, bin.took, bin.longest) = (0, Nanos(0), Nanos(0));
    }
}

/// At most `most`, from all of them alike.
fn evenly<T>(all: &[T], most: usize) -> impl Iterator<Item = &T> {
    let wanted = most.min(all.len());
    (0..wanted).map(move |number| &all[number * all.len() / wanted])
}

/// The stage of the route that begins at a position of the path or covers it.
pub(super) fn stage_after<'r>(path: &Path, route: &'r Route, position: usize) -> Option<&'r StageCount> {
    let at = |id| path.points.iter().position(|own| *own == id);
    route.stages.iter().find(|stage| {
        matches!((at(stage.from), at(stage.to)), (Some(from), Some(to)) if from <= position && position < to)
    })
}

fn sample(path: &Path, witness: &Witness, fate: Fate, nat: &mut Nat, flows: &Flows) -> Sample {
    let trail = &witness.trail;
    let flow = nat.flow(trail.flow);
    let at = (0..path.points.len()).map(|position| match witness.at(position) {
        Some(after) => SeenAt::After(after),
        None if witness.came_to(position) => SeenAt::InOthers,
        None => SeenAt::Never,
    });
    Sample {
        direction: path.direction,
        time: trail.first,
        addresses: if path.direction == Direction::Forward { flow } else { flow.reversed() },
        flow: flows.numbers.get(&nat.name(witness.flow)).copied(),
        gist: trail.gist,
        ip_len: trail.ip_len,
        fate,
        at: at.collect(),
    }
}

/// Flows that are listed, and each one's number in the list.
struct Flows {
    listed: Vec<FlowSeen>,
    numbers: BTreeMap<FlowId, usize>,
}

/// Flows that lost most first, then those that sent most; and what is not listed: flows, packets sent and lost.
fn flows(case: &Case, tally: &Tally, nat: &mut Nat) -> (Flows, (u64, u64)) {
    let mut by_name: BTreeMap<FlowId, FlowSeen> = BTreeMap::new();
    let mut left_out = (0, 0);
    for path in &case.paths {
        let way = path.direction as usize;
        let counts = &tally.way(path.direction).chronicle.flows;
        left_out.0 += counts.others.0;
        left_out.1 += counts.others.1;
        for (id, (sent, lost)) in counts.all() {
            let name = nat.name(id);
            let flow = nat.flow(name);
            let seen = by_name.entry(name).or_insert(FlowSeen { flow, sent: [0; 2], lost: [0; 2] });
            seen.sent[way] += sent;
            seen.lost[way] += lost;
        }
    }
    let mut all: Vec<(FlowId, FlowSeen)> = by_name.into_iter().collect();
    let weight = |seen: &FlowSeen| (seen.lost.iter().sum::<u64>(), seen.sent.iter().sum::<u64>());
    all.sort_by(|(_, a), (_, b)| weight(b).cmp(&weight(a)).then(a.flow.cmp(&b.flow)));
    for (_, seen) in all.iter().skip(MOST_FLOWS) {
        left_out.0 += seen.sent.iter().sum::<u64>();
        left_out.1 += seen.lost.iter().sum::<u64>();
    }
    all.truncate(MOST_FLOWS);
    let numbers = all.iter().enumerate().map(|(number, (id, _))| (*id, number)).collect();
    (Flows { listed: all.into_iter().map(|(_, seen)| seen).collect(), numbers }, left_out)
}
