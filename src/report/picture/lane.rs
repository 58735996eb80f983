//! What stands on a stage: for each direction one arrow between two neighbouring boxes, with what passed, how long it
//! took and what was lost. A stage that leaves points out (they could not be relied on) is drawn over all of them, its
//! words once. Takes findings and the layout; counts nothing itself.

use super::is_forward;
use super::layout::{Box as Place, Layout};
use crate::analyze::findings::{Findings, Outcome, Route, StageCount};
use crate::evidence::{Direction, PointId};
use crate::report::sentences;

/// One arrow.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) from: (i64, i64),
    pub(super) to: (i64, i64),
    pub(super) mark: Mark,
    /// Lines of text, the weightiest first.
    pub(super) words: Vec<String>,
    /// A line without a head: it only joins.
    pub(super) plain: bool,
    forward: bool,
}

/// What became of packets here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// None came by.
    Idle,
    /// All passed.
    Passed,
    /// Some or all were lost.
    Lost,
    /// The place that the verdict names.
    Here,
}

/// The arrows' distance from the middle.
const ASIDE: i64 = 22;
/// Characters of a line beside a column.
const WIDEST: usize = 17;

impl Lane {
    pub(super) fn middle(&self) -> (i64, i64) {
        (i64::midpoint(self.from.0, self.to.0), i64::midpoint(self.from.1, self.to.1))
    }

    /// The direction, one step along an axis.
    pub(super) fn step(&self) -> (i64, i64) {
        ((self.to.0 - self.from.0).signum(), (self.to.1 - self.from.1).signum())
    }

    /// Where a line of its words stands, and which end of it.
    pub(super) fn words_at(&self, number: usize) -> ((i64, i64), &'static str) {
        let (x, y) = self.middle();
        let row = i64::try_from(number).unwrap_or(0) * 14;
        let rows = i64::try_from(self.words.len()).unwrap_or(0) * 14;
        let beside = if self.mark == Mark::Here { 20 } else { 14 };
        match (self.step(), self.forward) {
            // Along the wire: forward above, replies below.
            ((_, 0), true) => ((x, y - beside - rows + row + 10), "middle"),
            ((_, 0), false) => ((x, y + beside + row + 10), "middle"),
            // Beside a column: forward on the left, replies on the right.
            (_, true) => ((x - beside, y + 4 - rows / 2 + row + 7), "end"),
            (_, false) => ((x + beside, y + 4 - rows / 2 + row + 7), "start"),
        }
    }
}

/// All arrows of the picture.
pub(super) fn lanes(findings: &Findings, layout: &Layout<'_>) -> Vec<Lane> {
    let mut all = Vec::new();
    for pair in layout.points.windows(2) {
        let busy = findings.routes.iter().filter(|route| route.sent > 0 || route.doubtful > 0);
        let mut any = false;
        for route in busy {
            all.extend(of_route(findings, layout, route, (&pair[0], &pair[1])));
            any = true;
        }
        if !any {
            all.push(plain(&pair[0].1, &pair[1].1, 0));
        }
    }
    all.extend([true, false].into_iter().filter_map(|first| to_end(findings, layout, first)));
    all
}

fn of_route(
    findings: &Findings,
    layout: &Layout<'_>,
    route: &Route,
    ((first, first_box), (second, second_box)): (&(PointId, Place), &(PointId, Place)),
) -> Option<Lane> {
    let forward = is_forward(route.direction);
    let number = |id: PointId| layout.number(id);
    let (low, high) = (number(*first)?, number(*second)?);
    let covers = |stage: &&StageCount| {
        let ends = (number(stage.from), number(stage.to));
        let ends = if forward { ends } else { (ends.1, ends.0) };
        matches!(ends, (Some(begin), Some(end)) if begin <= low && high <= end)
    };
    let stage = route.stages.iter().find(covers)?;
    let begins = stage.from == if forward { *first } else { *second };
    let (from, to) = if forward { (first_box, second_box) } else { (second_box, first_box) };
    let (from, to) = line(from, to, if forward { -ASIDE } else { ASIDE });
    let mark = mark(findings, route.direction, stage);
    let words = if begins { stage_words(findings, route.direction, stage, mark) } else { Vec::new() };
    // Of a stage over several points only its beginning bears the mark.
    let mark = if begins || mark == Mark::Idle { mark } else { Mark::Passed };
    Some(Lane { from, to, mark, words, plain: false, forward })
}

fn mark(findings: &Findings, direction: Direction, stage: &StageCount) -> Mark {
    let verdict = &findings.verdict;
    let here = verdict.place.as_ref().is_some_and(|place| {
        verdict.direction == direction && place.from == stage.from && place.to == Some(stage.to)
    });
    match (stage.entered, stage.lost) {
        (0, 0) => Mark::Idle,
        (_, 0) => Mark::Passed,
        _ if here => Mark::Here,
        _ => Mark::Lost,
    }
}

fn stage_words(findings: &Findings, direction: Direction, stage: &StageCount, mark: Mark) -> Vec<String> {
    let took = stage.latency.filter(|_| stage.lost < stage.entered);
    let took = took.map(|(median, _)| format!("median {}", sentences::duration(median)));
    let changed = findings
        .translations
        .iter()
        .any(|change| change.direction == direction && change.from == stage.from && change.to == stage.to);
    let changed = changed.then(|| "addresses change".to_owned());
    let first = match mark {
        Mark::Idle => return Vec::new(),
        Mark::Passed => format!("{} passed", stage.entered),
        Mark::Here if findings.verdict.outcome == Outcome::Diverted => {
            format!("{} of {} astray", stage.lost, stage.entered)
        }
        Mark::Lost | Mark::Here => format!("{} of {} lost", stage.lost, stage.entered),
    };
    let kind = matches!(mark, Mark::Lost | Mark::Here).then(|| stage.kind.name().to_owned());
    // Beside a column there is room for so much.
    let (first, rest) = match first.split_once(" of ") {
        Some((count, rest)) if first.len() > WIDEST => {
            let (all, what) = rest.split_once(' ').unwrap_or((rest, ""));
            (format!("{count} {what}"), Some(format!("of {all}")))
        }
        _ => (first, None),
    };
    [Some(first), rest, kind, took, changed].into_iter().flatten().collect()
}

/// Between an end and the point next to it: packets that came to the end and were refused or not answered.
fn to_end(findings: &Findings, layout: &Layout<'_>, first: bool) -> Option<Lane> {
    let end = layout.end(first)?;
    let (id, place) = if first { layout.points.first() } else { layout.points.last() }?;
    let direction = if first { Direction::Reply } else { Direction::Forward };
    let route = findings.routes.iter().find(|route| route.direction == direction);
    let unanswered = route
        .and_then(|route| route.unanswered.as_ref())
        .filter(|unanswered| unanswered.at == *id && unanswered.lost() > 0);
    let Some(unanswered) = unanswered else { return Some(plain(place, &end, 0)) };
    let verdict = &findings.verdict;
    let here = verdict.direction == direction
        && verdict.place.as_ref().is_some_and(|place| place.to.is_none() && place.from == *id);
    let (from, to) = line(place, &end, if first { ASIDE } else { -ASIDE });
    let words = [
        (unanswered.refused, format!("{} of {} refused", unanswered.refused, unanswered.arrived)),
        (unanswered.silent, format!("{} of {} unanswered", unanswered.silent, unanswered.arrived)),
    ];
    let words = words.into_iter().filter(|(count, _)| *count > 0).map(|(_, words)| words).collect();
    Some(Lane {
        from,
        to,
        mark: if here { Mark::Here } else { Mark::Lost },
        words,
        plain: false,
        forward: !first,
    })
}

/// Joins two boxes and says nothing.
fn plain(from: &Place, to: &Place, aside: i64) -> Lane {
    let (from, to) = line(from, to, aside);
    Lane { from, to, mark: Mark::Idle, words: Vec::new(), plain: true, forward: true }
}

/// From the edge of one box to that of another, along the axis on which they are apart.
fn line(from: &Place, to: &Place, aside: i64) -> ((i64, i64), (i64, i64)) {
    if from.middle() == to.middle() {
        let x = from.middle() + aside;
        return if from.y < to.y {
            ((x, from.y + from.height), (x, to.y))
        } else {
            ((x, from.y), (x, to.y + to.height))
        };
    }
    let (begin, end) = (from.height_middle() + aside / 2, to.height_middle() + aside / 2);
    if from.x < to.x {
        ((from.x + from.width, begin), (to.x, end))
    } else {
        ((from.x, begin), (to.x + to.width, end))
    }
}
