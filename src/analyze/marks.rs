//! Which frames belong to packets that vanished: knows the lost trails of one analysis, bounded, and tells for a frame
//! of the same captures whether it is of one of them, where that was seen last and where it never came. Frames are
//! recognised exactly as the analysis recognised them.

use crate::evidence::{Case, Direction, PointId};
use crate::packet::{Frame, LinkType, Nanos, Packet};

use super::account::stage_after;
use super::correlate::chronicle::LostTrail;
use super::correlate::fingerprint::{Depth, Fingerprint};
use super::correlate::sift::Sift;
use super::findings::Findings;

/// The lost trails of an analysis.
#[derive(Debug)]
pub struct Marks {
    sift: Sift,
    depth: Depth,
    shift: Vec<Nanos>,
    /// Of each direction, by key.
    ways: [Way; 2],
    links: Vec<Option<LinkType>>,
    left_out: u64,
}

#[derive(Debug, Default)]
struct Way {
    trails: Vec<LostTrail>,
    points: Vec<PointId>,
    /// What follows each position, if that is judged.
    behind: Vec<Option<Behind>>,
}

#[derive(Debug, Clone, Copy)]
struct Behind {
    last: PointId,
    never: PointId,
    sure: bool,
}

/// What a frame has to do with a packet that vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which way it went.
    pub direction: Direction,
    /// The last point that saw the packet.
    pub last: PointId,
    /// The first that should have and did not.
    pub never: PointId,
    /// This frame is that last sighting.
    pub here: bool,
    /// Only a part of what this frame carries vanished, further on.
    pub part: bool,
    /// False where the captures may have lost it themselves.
    pub sure: bool,
}

/// What an analysis kept for it.
pub(super) struct Kept {
    pub(super) sift: Sift,
    pub(super) depth: Depth,
    pub(super) shift: Vec<Nanos>,
    pub(super) links: Vec<Option<LinkType>>,
    pub(super) trails: [Vec<LostTrail>; 2],
    pub(super) left_out: u64,
}

impl Marks {
    pub(super) fn new(case: &Case, findings: &Findings, kept: Kept) -> Self {
        let mut marks = Self {
            sift: kept.sift,
            depth: kept.depth,
            shift: kept.shift,
            ways: [Way::default(), Way::default()],
            links: kept.links,
            left_out: kept.left_out,
        };
        let [forward, reply] = kept.trails;
        for (direction, mut trails) in [(Direction::Forward, forward), (Direction::Reply, reply)] {
            // A large frame of which several parts vanished stands there once, with the first place.
            trails.sort_unstable();
            trails.dedup_by_key(|trail| (trail.key, trail.earliest));
            let Some(path) = case.paths.iter().find(|path| path.direction == direction) else { continue };
            let route = findings.routes.iter().find(|route| route.direction == direction);
            let behind = (0..path.points.len()).map(|position| {
                let stage = stage_after(path, route?, position)?;
                Some(Behind { last: path.points[position], never: stage.to, sure: stage.lost > 0 })
            });
            marks.ways[direction as usize] =
                Way { trails, points: path.points.clone(), behind: behind.collect() };
        }
        marks
    }

    /// What the frame has to do with a packet that vanished; None if nothing. Each frame is asked about once: a packet was
    /// seen once at a point.
    pub fn of(&mut self, point: PointId, frame: &Frame<'_>) -> Option<Mark> {
        let packet = Packet::read(frame);
        let sifted = self.sift.sift(point, &packet)?;
        let way = &mut self.ways[sifted.direction as usize];
        if way.trails.is_empty() {
            return None;
        }
        let print = Fingerprint::of(&packet, sifted.direction, &sifted.flow, self.depth)?;
        let time = frame.time - self.shift.get(point.index()).copied().unwrap_or_default();
        let begin = way.trails.partition_point(|trail| trail.key < print.key);
        let own = way.trails[begin..].iter_mut().take_while(|trail| trail.key == print.key);
        let mut own = own.filter(|trail| trail.earliest <= time && time <= trail.latest);
        let place = 1_u16.checked_shl(u32::from(sifted.position))?;
        let trail = own.find(|trail| sifted.position <= trail.last_itself && trail.found & place == 0)?;
        trail.found |= place;
        let behind = way.behind.get(usize::from(trail.last)).copied().flatten()?;
        Some(Mark {
            direction: sifted.direction,
            last: behind.last,
            never: behind.never,
            here: way.points.get(usize::from(trail.last)) == Some(&point),
            part: trail.last_itself < trail.last,
            sure: behind.sure,
        })
    }

    /// The link type of a point's first frame.
    pub fn link(&self, point: PointId) -> Option<LinkType> {
        self.links.get(point.index()).copied().flatten()
    }

    /// Packets that vanished.
    pub fn n_trails(&self) -> usize {
        self.ways.iter().map(|way| way.trails.len()).sum()
    }

    /// Packets that vanished and are not marked: there were too many to keep.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}
