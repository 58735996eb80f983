//! Counts into a verdict: takes the tally of each direction and says between which two points packets vanish. Never
//! says "lost" on the word of a point that lost packets itself: then the stage is widened to the next sure point,
//! or, where there is none, the answer is that it cannot be told. Never asks why.

use crate::evidence::case::Coverage;
use crate::evidence::{Case, Direction, Path, PointId, Role, StageKind};

use super::correlate::answers::{Answered, Answers};
use super::correlate::nat::Nat;
use super::correlate::sift::{Astray, Sift};
use super::correlate::tally::{Tally, Way};
use super::findings::{
    Beyond, Confidence, Elsewhere, LostPacket, Outcome, Place, Route, StageCount, Unanswered, Verdict,
};
use crate::packet::Nanos;

/// What was counted of all packets.
pub struct Counted<'c> {
    /// At each point.
    pub tally: &'c Tally,
    /// Requests and their answers.
    pub answers: &'c Answers,
    /// Those that went ways which were not expected.
    pub sift: &'c Sift,
    /// Which flows are one.
    pub nat: &'c Nat,
    /// Frames that were too short to recognise, at each point of the case.
    pub cut: &'c [u64],
}

/// What one direction's tally says, with the points' own losses taken into account.
pub fn route(case: &Case, path: &Path, counted: &Counted<'_>, clock_error: Option<Nanos>) -> Route {
    let way = counted.tally.way(path.direction);
    let answered = &counted.answers.counts[path.direction as usize];
    let passed = Passed::of(way);
    let (sure, doubtful) = Reliability::of(case, path, way, counted.cut, &passed.unheard).spans(&passed);
    let stages: Vec<StageCount> =
        sure.iter().map(|span| stage(case, path, counted, span, &passed, clock_error)).collect();
    let mut points: Vec<PointId> = sure.iter().map(|span| path.points[span.from]).collect();
    points.extend(path.points.last());
    Route {
        direction: path.direction,
        path: points,
        sent: way.entered.first().copied().unwrap_or(0),
        delivered: way.entered.last().copied().unwrap_or(0),
        stages,
        unjudged: way.unjudged,
        doubtful,
        looped: way.looped,
        unanswered: unanswered(case, path, answered, counted.nat),
        beyond: beyond(path, answered),
        longest_delivered: way.longest_delivered,
        not_followed: way.segmented.saturating_sub(way.extra / 2),
        of_others: way.of_others.clone().into_iter().collect(),
        perhaps_of_others: way.perhaps_of_others.clone().into_iter().collect(),
    }
}

/// The answer for both directions together: where most packets vanish.
pub fn verdict(case: &Case, routes: &[Route]) -> Verdict {
    let mut found: Vec<(Verdict, u64)> = Vec::new();
    for route in routes {
        for stage in route.stages.iter().filter(|stage| stage.lost > 0) {
            found.push((lost_at(case, route, stage), stage.lost));
        }
        if let Some(unanswered) = route.unanswered.as_ref().filter(|unanswered| unanswered.lost() > 0) {
            found.push((lost_behind(route, unanswered), unanswered.lost()));
        }
    }
    // The first of the greatest: forward before reply, and in path order.
    let greatest = found.iter().map(|(_, lost)| *lost).max();
    let worst = found.into_iter().find(|(_, lost)| Some(*lost) == greatest).map(|(verdict, _)| verdict);
    worst.unwrap_or_else(|| nothing_lost(case, routes))
}

/// A stage between two positions that both can be relied on.
struct SureSpan {
    from: usize,
    to: usize,
    /// Packets surely lost between them.
    lost: u64,
}

/// What came to each position, and what vanished behind it. Of packets that vanished while captures between were not listening it
/// is not known where: they are put to a stage there that surely lost half as many, else those captures are not relied on.
struct Passed {
    entered: Vec<u64>,
    lost: Vec<u64>,
    /// Packets that may have passed each position unheard.
    unheard: Vec<u64>,
}

impl Passed {
    fn of(way: &Way) -> Self {
        let mut lost: Vec<u64> = way.stages.iter().map(|stage| stage.lost).collect();
        for ((from, _), packets) in &way.unheard {
            lost[*from] = lost[*from].saturating_sub(*packets);
        }
        let surely = lost.clone();
        let mut passed = Self { entered: way.entered.clone(), lost, unheard: vec![0; way.entered.len()] };
        for (&(from, to), packets) in &way.unheard {
            // The first of the greatest.
            let worst = (from..to).rev().max_by_key(|stage| surely[*stage]).unwrap_or(from);
            let (at, between) = if surely[worst].saturating_mul(2) >= *packets {
                (worst, &mut passed.entered[from + 1..=worst])
            } else {
                (from, &mut passed.unheard[from + 1..to])
            };
            passed.lost[at] += packets;
            for count in between {
                *count += packets;
            }
        }
        passed
    }
}

/// Which positions of a path can be relied on.
struct Reliability {
    /// Packets that the capture itself may have lost at each position.
    may_have_missed: Vec<u64>,
    blind: Vec<bool>,
}

impl Reliability {
    fn of(case: &Case, path: &Path, way: &Way, cut: &[u64], unheard: &[u64]) -> Self {
        // One lost frame may have been a large one that offload made of many packets.
        let per_frame: u64 = if way.has_large_frames() { 64 } else { 1 };
        let may_have_missed = path.points.iter().map(|point| {
            let coverage = case.points[point.index()].state.read();
            let cut = cut.get(point.index()).copied().unwrap_or(0);
            coverage.map_or(0, Coverage::lost).saturating_add(cut).saturating_mul(per_frame)
        });
        let last = path.points.len().saturating_sub(1);
        // A point within the path that did not see what came to the points behind it may have missed as many of the lost.
        let may_have_missed = may_have_missed.enumerate().map(|(position, frames)| {
            let missed = if position == last { 0 } else { way.missed[position] };
            frames.saturating_add(missed).saturating_add(unheard[position])
        });
        let blind = (0..path.points.len()).map(|position| {
            let missed = way.missed[position];
            position != 0 && position != last && missed > 0 && missed * 2 > way.entered[position]
        });
        Self { may_have_missed: may_have_missed.collect(), blind: blind.collect() }
    }

    /// The stages between sure positions, and how many losses cannot be told from the captures' own.
    fn spans(&self, passed: &Passed) -> (Vec<SureSpan>, u64) {
        let n = passed.entered.len();
        let mut spans: Vec<SureSpan> = Vec::new();
        let mut doubtful = 0;
        let mut from = 0;
        let mut lost = 0;
        for to in 1..n {
            lost += passed.lost[to - 1];
            let unsure = lost > 0 && self.may_have_missed[to] >= lost;
            let last = to == n - 1;
            if (self.blind[to] || unsure) && !last {
                continue;
            }
            // At the end of the path no later point can vouch for what this one missed.
            let doubt = if last { self.may_have_missed[to].min(lost) } else { 0 };
            doubtful += doubt;
            spans.push(SureSpan { from, to, lost: lost - doubt });
            from = to;
            lost = 0;
        }
        (spans, doubtful)
    }
}

fn stage(
    case: &Case,
    path: &Path,
    counted: &Counted<'_>,
    span: &SureSpan,
    passed: &Passed,
    clock_error: Option<Nanos>,
) -> StageCount {
    let way = counted.tally.way(path.direction);
    let parts = &way.stages[span.from..span.to];
    let (from, to) = (path.points[span.from], path.points[span.to]);
    let across = case.points[from.index()].node != case.points[to.index()].node;
    let examples = parts.iter().flat_map(|part| &part.examples).map(|example| {
        let flow = counted.nat.flow(example.flow);
        LostPacket {
            time: example.time,
            flow: if path.direction == Direction::Forward { flow } else { flow.reversed() },
            ip_len: example.ip_len,
        }
    });
    let astray = parts.iter().flat_map(|part| &part.astray).filter_map(|(index, count)| {
        counted.sift.astray.get(usize::from(*index)).map(|way| (elsewhere(case, way), *count))
    });
    let single = parts.len() == 1;
    StageCount {
        from,
        to,
        kind: path.stages[span.from],
        entered: passed.entered[span.from],
        lost: span.lost,
        astray: astray.collect(),
        lost_len: merged(parts.iter().filter_map(|part| part.lost_len)),
        lost_time: merged(parts.iter().filter_map(|part| part.lost_time)),
        lost_fragmented: parts.iter().map(|part| part.lost_fragmented).sum(),
        examples: examples.collect(),
        latency: parts[0].latency().filter(|_| single && (!across || clock_error.is_some())),
        clock_error: clock_error.filter(|_| across),
    }
}

fn merged<T: Ord + Copy>(ranges: impl Iterator<Item = (T, T)>) -> Option<(T, T)> {
    ranges.reduce(|(low, high), (least, most)| (low.min(least), high.max(most)))
}

/// Where a way that was not expected leads.
pub fn elsewhere(case: &Case, way: &Astray) -> Elsewhere {
    match way {
        Astray::Unencapsulated { point, .. } => Elsewhere::Unencapsulated(*point),
        Astray::To { point, address, .. } => {
            let node = case.nodes.iter().find(|node| node.addresses.contains(address));
            Elsewhere::To(*point, *address, node.map(|node| node.name.clone()))
        }
    }
}

/// Requests that came to the path's end, if the end is there: what the NIC of a pod's node saw may yet have been lost on the
/// way up.
fn unanswered(case: &Case, path: &Path, counts: &Answered, nat: &Nat) -> Option<Unanswered> {
    let at = *path.points.last()?;
    let kind = match case.points[at.index()].role {
        _ if case.end(path.direction).is_node(&case.nodes) => StageKind::Pod,
        Role::Pod => StageKind::Pod,
        Role::Veth => StageKind::EnterPod,
        Role::Tunnel | Role::Nic => return None,
    };
    let orient = |flow: crate::packet::Flow| {
        if path.direction == Direction::Forward { flow } else { flow.reversed() }
    };
    let back = case.paths.iter().find(|back| back.direction != path.direction)?;
    let missed = back.points.iter().map(|point| {
        let coverage = case.points[point.index()].state.read();
        coverage.map_or(0, Coverage::lost)
    });
    let may_have_answered = missed.min().unwrap_or(0);
    (counts.arrived > 0).then(|| Unanswered {
        at,
        kind,
        arrived: counts.arrived,
        refused: counts.refused,
        silent: counts.silent.saturating_sub(may_have_answered),
        examples: counts.examples.iter().map(|flow| orient(nat.flow(*flow))).collect(),
    })
}

fn beyond(path: &Path, counts: &Answered) -> Option<Beyond> {
    let after = *path.points.last().filter(|_| path.open_end)?;
    Some(Beyond { after, requests: counts.arrived, answered: counts.answered })
}

fn lost_at(case: &Case, route: &Route, stage: &StageCount) -> Verdict {
    let astray: u64 = stage.astray.iter().map(|(_, count)| count).sum();
    let outcome = if astray * 2 > stage.lost { Outcome::Diverted } else { Outcome::Dropped };
    let mut doubts = Vec::new();
    for point in [stage.from, stage.to] {
        let at = &case.points[point.index()];
        match at.state.read() {
            None => doubts.push(format!("how long the capture at {} lasted is not known", at.id)),
            Some(coverage) if coverage.guessed => {
                doubts.push(format!(
                    "when the capture at {} began and ended is only guessed from its packets",
                    at.id
                ));
            }
            Some(coverage) if coverage.lost() > 0 => {
                doubts.push(format!("the capture at {} lost {} frames itself", at.id, coverage.lost()));
            }
            Some(_) => {}
        }
    }
    Verdict {
        outcome,
        direction: route.direction,
        place: Some(Place { from: stage.from, to: Some(stage.to), kind: stage.kind }),
        sent: route.sent,
        lost: stage.lost,
        confidence: if doubts.is_empty() { Confidence::Confirmed } else { Confidence::Likely },
        doubts,
    }
}

fn lost_behind(route: &Route, unanswered: &Unanswered) -> Verdict {
    Verdict {
        outcome: Outcome::Dropped,
        direction: route.direction,
        place: Some(Place { from: unanswered.at, to: None, kind: unanswered.kind }),
        sent: unanswered.arrived.max(route.sent),
        lost: unanswered.lost(),
        confidence: if unanswered.refused > 0 { Confidence::Confirmed } else { Confidence::Likely },
        doubts: Vec::new(),
    }
}

fn nothing_lost(case: &Case, routes: &[Route]) -> Verdict {
    let total = |count: fn(&Route) -> u64| routes.iter().map(count).sum::<u64>();

    let guessed = case.points.iter().filter_map(|point| point.state.read()).any(|coverage| coverage.guessed);
    let failed: Vec<String> = case
        .points
        .iter()
        .filter_map(|point| Some(format!("{} ({})", point.id, point.state.read()?.failed.as_ref()?)))
        .collect();
    let (sent, doubtful, unjudged) =
        (total(|route| route.sent), total(|route| route.doubtful), total(|route| route.unjudged));
    let mut doubts = Vec::new();
    let mut open: Vec<String> = routes.iter().filter_map(|route| left_open(case, route)).collect();
    let vanished = total(|route| route.not_followed);
    if vanished > 0 {
        open.push(format!(
            "{vanished} large UDP or SCTP packets were not seen again, neither whole nor in as many pieces as a card makes of them"
        ));
    }
    for (address, packets) in routes.iter().flat_map(|route| &route.perhaps_of_others) {
        open.push(format!(
            "{packets} packets with the address {address} were not seen again: they were lost, or of others than {} and {} who \
             are reached by it too",
            case.from.name, case.to.name
        ));
    }
    let outcome = if doubtful > 0 {
        doubts.push(format!("{doubtful} packets are missing, and the captures lost as many themselves"));
        Outcome::Inconclusive
    } else if !failed.is_empty() && unjudged > 0 {
        doubts.push(format!(
            "{unjudged} packets vanished when nothing was captured any more at {}",
            failed.join(", ")
        ));
        Outcome::Inconclusive
    } else if guessed && unjudged * 20 > sent {
        doubts.push(format!(
            "{unjudged} packets vanished before the first or after the last packet of a later node's captures: they were \
             lost, or those captures began late or ended early"
        ));
        Outcome::Inconclusive
    } else if !open.is_empty() {
        doubts.extend(open);
        Outcome::Inconclusive
    } else if sent > 0 {
        Outcome::Delivered
    } else if unjudged > 0 {
        doubts.push(format!("all {unjudged} packets were seen too near to a capture's edge to be judged"));
        Outcome::Inconclusive
    } else {
        Outcome::NoTraffic
    };
    let forward = routes.iter().find(|route| route.sent > 0).or(routes.first());
    Verdict {
        outcome,
        direction: forward.map_or(Direction::Forward, |route| route.direction),
        place: None,
        sent: forward.map_or(0, |route| route.sent),
        lost: 0,
        confidence: Confidence::Confirmed,
        doubts,
    }
}

/// What cannot be told of packets that went on beyond the last captured point; nothing when all were answered.
fn left_open(case: &Case, route: &Route) -> Option<String> {
    let beyond = route.beyond.as_ref().filter(|_| route.sent > 0)?;
    if beyond.requests > 0 && beyond.answered >= beyond.requests {
        return None;
    }
    let at = &case.points[beyond.after.index()].id;
    let answers = match beyond.requests {
        0 => String::new(),
        requests => format!("; {} of {requests} requests were answered", beyond.answered),
    };
    Some(format!(
        "{} packets passed {at}, and nothing was captured beyond it: what became of them there is not known{answers}",
        route.delivered
    ))
}
