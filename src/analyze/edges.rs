//! From when to when captures taken by hand were listening, learned while they are read: from the first to the last frame
//! of all files of one node. Takes the times of frames and the ends of files; gives the case with what is known by then.
//! Where the case already knows, it is believed.

use crate::evidence::case::Coverage;
use crate::evidence::{Case, Known, PointId};
use crate::packet::{LinkType, Timestamp};

/// What is known by now.
#[derive(Debug)]
pub(super) struct Edges {
    case: Case,
    points: Vec<Edge>,
}

/// What was read of one point.
#[derive(Debug, Clone, Default)]
struct Edge {
    /// Neither beginning nor end stand in the case.
    unknown: bool,
    span: Option<Span>,
    /// Files that showed frames of it and have not ended.
    open: u32,
}

/// Frames of one point in one piece of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) point: PointId,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) frames: u64,
    /// Of the first frame.
    pub(super) link: LinkType,
}

impl Edges {
    pub(super) fn new(case: &Case) -> Self {
        let unknown = |known: &Known<_>| known.read().is_some_and(is_unknown);
        let points =
            case.points.iter().map(|point| Edge { unknown: unknown(&point.state), ..Edge::default() });
        Self { case: case.clone(), points: points.collect() }
    }

    /// The case with the times learned so far.
    pub(super) fn case(&self) -> &Case {
        &self.case
    }

    /// The same, when all files have ended.
    pub(super) fn into_case(self) -> Case {
        self.case
    }

    /// Frames of a file, which shows this point for the first time or not; true when an edge moved that is known now.
    pub(super) fn note(&mut self, span: &Span, new: bool) -> bool {
        let edge = &mut self.points[span.point.index()];
        edge.open += u32::from(new);
        let before = edge.span;
        let known = edge.span.get_or_insert(Span { frames: 0, ..*span });
        known.first = known.first.min(span.first);
        known.last = known.last.max(span.last);
        known.frames += span.frames;
        let moved = edge.unknown && (new || before.is_none_or(|before| span.first < before.first));
        if moved {
            self.update(span.point);
        }
        moved
    }

    /// A file that showed this point has ended, and how it was cut; true when an edge moved.
    pub(super) fn ended(&mut self, point: PointId, cut: Option<&str>) -> bool {
        let edge = &mut self.points[point.index()];
        edge.open = edge.open.saturating_sub(1);
        if !edge.unknown {
            return false;
        }
        if let (Some(why), Known::Read(coverage)) = (cut, &mut self.case.points[point.index()].state) {
            coverage.failed.get_or_insert_with(|| why.to_owned());
        }
        self.update(point);
        true
    }

    /// Captures of one node are taken to have begun and ended together.
    fn update(&mut self, point: PointId) {
        let node = self.case.points[point.index()].node.clone();
        let of_node = || {
            let all = self.case.points.iter().zip(&self.points);
            all.filter(|(point, edge)| point.node == node && edge.unknown).map(|(_, edge)| edge)
        };
        let first = of_node().filter_map(|edge| edge.span).map(|span| span.first.0).min();
        let last = of_node().filter_map(|edge| edge.span).map(|span| span.last.0).max();
        let last = last.filter(|_| of_node().all(|edge| edge.open == 0));
        for (point, edge) in self.case.points.iter_mut().zip(&self.points) {
            if let Known::Read(coverage) = &mut point.state
                && point.node == node
                && edge.unknown
            {
                (coverage.started, coverage.stopped) = (first, last);
                coverage.received = edge.span.map_or(0, |span| span.frames);
            }
        }
    }
}

/// Whether only the file tells when a capture began and ended.
fn is_unknown(coverage: &Coverage) -> bool {
    coverage.guessed && coverage.started.is_none() && coverage.stopped.is_none()
}
