//! The frames of recordings: which frame of a file belongs to which point, files that follow each other in one row, and
//! stamps of clocks that are far off set right. Takes placed drafts; decides nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::evidence::PointId;
use crate::evidence::capture_file::{CaptureError, FrameSource, Merge, Part, Record, Row};
use crate::packet::{Nanos, Packet, Transport};

use super::Recording;
use super::ends::{Ends, Side, near};
use super::look::{self, Class};
use super::place::Draft;

/// How the frames are got at.
#[derive(Debug)]
pub struct Openings {
    rows: Vec<Vec<Unit>>,
    ends: Ends,
}

/// What is taken of one file: lanes whose clocks are off by the same.
#[derive(Debug)]
struct Unit {
    file: PathBuf,
    ahead: i64,
    span: (i64, i64),
    lanes: Vec<Assigned>,
}

/// A lane's point.
#[derive(Debug, Clone, Copy)]
struct Assigned {
    interface: usize,
    index: Option<u32>,
    class: Option<Class>,
    point: PointId,
}

impl Openings {
    /// For drafts that are the points in their order, each with what its clock is ahead.
    pub(super) fn new(given: &[Recording], drafts: &[Draft], ahead: &[i64], ends: Ends) -> Self {
        let mut units: BTreeMap<(usize, i64), Unit> = BTreeMap::new();
        let ids = (0..=u8::MAX).map(PointId);
        for ((draft, ahead), point) in drafts.iter().zip(ahead).zip(ids) {
            let lane = &draft.lane;
            if lane.class == Some(Class::Nothing) {
                continue;
            }
            for (file, span) in lane.files.iter().zip(&lane.spans) {
                let Some((first, last)) = span else { continue };
                let span = (first.saturating_sub(*ahead), last.saturating_sub(*ahead));
                let unit = units.entry((*file, *ahead)).or_insert_with(|| Unit {
                    file: given[*file].file.clone(),
                    ahead: *ahead,
                    span,
                    lanes: Vec::new(),
                });
                unit.span = (unit.span.0.min(span.0), unit.span.1.max(span.1));
                unit.lanes.push(Assigned {
                    interface: lane.interface,
                    index: lane.index,
                    class: lane.class,
                    point,
                });
            }
        }
        let mut units: Vec<Unit> = units.into_values().collect();
        units.sort_by_key(|unit| unit.span);
        let mut rows: Vec<Vec<Unit>> = Vec::new();
        for unit in units {
            let ended = rows.iter_mut().find(|row| row.last().is_none_or(|last| last.span.1 <= unit.span.0));
            match ended {
                Some(row) => row.push(unit),
                None => rows.push(vec![unit]),
            }
        }
        Self { rows, ends }
    }

    /// Opens them. Stamps of a node whose clock is far off are by the first node's.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn open(&self) -> Result<Box<dyn FrameSource + '_>, CaptureError> {
        Ok(Box::new(Merge::new(self.rows.iter().map(|units| self.row(units)).collect())))
    }

    fn row<'r>(&'r self, units: &'r [Unit]) -> Box<dyn FrameSource + Send + 'r> {
        let parts = units.iter().map(|unit| Part {
            file: unit.file.clone(),
            whole: unit.whole(),
            point: Box::new(|record| unit.point(record, &self.ends)),
            ahead: Nanos(unit.ahead),
        });
        Box::new(Row::new(parts.collect()))
    }
}

impl Unit {
    /// The points of interfaces whose every frame is of one.
    fn whole(&self) -> Vec<Option<PointId>> {
        let most = self.lanes.iter().map(|lane| lane.interface + 1).max().unwrap_or(0);
        let of = |interface| {
            let mut here = self.lanes.iter().filter(|lane| lane.interface == interface);
            let one = here.next().filter(|lane| lane.index.is_none() && lane.class.is_none());
            one.filter(|_| here.next().is_none()).map(|lane| lane.point)
        };
        (0..most).map(of).collect()
    }

    fn point(&self, record: &Record<'_>, ends: &Ends) -> Option<PointId> {
        let index = look::index(&record.frame);
        let here = |lane: &&Assigned| lane.interface == record.interface && lane.index == index;
        let lane = self.lanes.iter().find(here)?;
        if lane.class.is_none() {
            return Some(lane.point);
        }
        let packet = Packet::read(&record.frame);
        // A later fragment of a tunnel's packet shows no tunnel.
        let piece = packet.transport == Transport::LaterFragment
            && packet.ip().is_some_and(|ip| ends.way(ip.src, ip.dst).is_none());
        let tunnelled = piece || !packet.tunnels.is_empty();
        let nearer = || {
            let ip = packet.ip()?;
            near(ends.way(ip.src, ip.dst)?, packet.cooked.map(|cooked| look::way(cooked.packet_type)))
        };
        let fits = |class: Option<Class>| match class {
            Some(Class::Tunnelled) => tunnelled,
            Some(Class::Plain) => !tunnelled,
            Some(Class::NearFrom) => !tunnelled && nearer() == Some(Side::From),
            Some(Class::NearTo) => !tunnelled && nearer() == Some(Side::To),
            Some(Class::Nothing) => false,
            None => true,
        };
        self.lanes.iter().filter(here).find(|lane| fits(lane.class)).map(|lane| lane.point)
    }
}
