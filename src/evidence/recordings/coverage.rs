//! From when to when each point was captured, as far as files tell, and which files prove too little to be relied on. A
//! file that shows the traffic was captured from its own first packet to its last: what came before or after is nobody's
//! loss. One that shows none of it is taken to have run with the others of its node.

use std::collections::BTreeMap;

use crate::evidence::case::Coverage;
use crate::evidence::{CapturePoint, Direction, Known, Role};

use super::ends::Side;
use super::look::{Class, Lane};
use super::place::Draft;
use super::{node, point_id};

/// Leaves out what cannot be relied on: nodes without any packet, and NICs whose filter may have hidden tunnels.
pub(super) fn without_proof(drafts: &mut [Draft], encapsulated: bool) {
    let of = |draft: &Draft| (draft.side, draft.node().map(str::to_owned));
    let mut frames: BTreeMap<(Option<Side>, Option<String>), u64> = BTreeMap::new();
    for draft in drafts.iter().filter(|draft| draft.useless.is_none()) {
        *frames.entry(of(draft)).or_default() += draft.lane.frames;
    }
    let one_is_tunnelled = drafts.iter().any(|draft| draft.role == Some(Role::Nic) && draft.is_tunnelled());
    for draft in drafts.iter_mut().filter(|draft| draft.useless.is_none()) {
        if frames.get(&of(draft)) == Some(&0) {
            draft.useless = Some(
                "no file of its node holds a packet: nothing shows that they were captured at that time"
                    .to_owned(),
            );
        } else if encapsulated
            && draft.role == Some(Role::Nic)
            && !draft.has_traffic()
            && !draft.lane.tunnels
            && !draft.lane.arps
            && !one_is_tunnelled
        {
            draft.useless = Some(
                "no tunnel's packet is in it, and a filter by pod addresses does not match what is in a tunnel: capture \
                 there with `udp port 4789` or without a filter"
                    .to_owned(),
            );
        }
    }
}

/// Leaves out what must have seen packets and shows none, and notes where one direction is missing. The drafts are in path
/// order: a packet that came to a later place of its way has come by all before it.
pub(super) fn without_blind(drafts: &mut [Draft]) {
    for index in 0..drafts.len() {
        if drafts[index].useless.is_some() {
            continue;
        }
        let passed = |direction| {
            let beyond = drafts.iter().enumerate().filter(|(other, draft)| {
                draft.useless.is_none()
                    && if direction == Direction::Forward { *other > index } else { *other < index }
            });
            beyond.map(|(_, draft)| draft.shows(direction)).max().unwrap_or(0) >= 3
        };
        let unseen: Vec<Direction> = [Direction::Forward, Direction::Reply]
            .into_iter()
            .filter(|direction| drafts[index].shows(*direction) == 0)
            .filter(|direction| passed(*direction) || drafts[index].acknowledges(*direction))
            .collect();
        let blind = !drafts[index].has_traffic();
        let draft = &mut drafts[index];
        match unseen.as_slice() {
            [] => {}
            _ if blind => {
                draft.useless = Some(
                    "packets must have come by, as other captures show, and none is in it: it was not capturing then, or \
                     its filter hid them"
                        .to_owned(),
                );
            }
            [only, ..] => draft.lacks = Some(*only),
        }
    }
}

/// The points, in the order of the drafts.
pub(super) fn points(
    drafts: &[Draft],
    names: &BTreeMap<Side, String>,
    ahead: &[i64],
    warnings: &mut Vec<String>,
) -> Vec<CapturePoint> {
    let spans: Vec<Option<(i64, i64)>> = drafts
        .iter()
        .zip(ahead)
        .map(|(draft, ahead)| {
            let (first, last) = of_file(draft, drafts)?;
            Some((first.saturating_sub(*ahead), last.saturating_sub(*ahead)))
        })
        .collect();
    let nodes: Vec<String> = drafts.iter().map(|draft| node(draft, names)).collect();
    let mut points: Vec<CapturePoint> = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        let of_node = || {
            let all = (0..drafts.len()).filter(|other| nodes[*other] == nodes[index]);
            all.filter_map(|other| spans[other]).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))
        };
        let own = spans[index];
        // A few stray frames tell less of when a capture ran than the others of its node do.
        let tells = draft.has_traffic()
            || draft.lane.class == Some(Class::Nothing)
            || draft.lane.frames >= ENOUGH
            || own.is_some_and(|own| apart(own, drafts, ahead));
        let span = if tells { own } else { of_node() };
        let id = unique(&points, point_id(draft, names));
        if let Some(lacks) = draft.lacks {
            let which =
                if lacks == Direction::Forward { "where the traffic starts" } else { "where it goes" };
            warnings.push(format!(
                "{id} shows no packet that comes from {which}, although some must have come by (a filter, or `-Q`): it does not \
                 count for that direction"
            ));
        }
        if draft.lane.frames == 0 {
            warnings.push(format!(
                "{id} holds no packet: it is taken to have been captured together with the others of {}",
                nodes[index]
            ));
        }
        points.push(CapturePoint {
            node: nodes[index].clone(),
            interface: id.split_once('/').map_or_else(String::new, |(_, interface)| interface.to_owned()),
            id,
            role: draft.role.unwrap_or(Role::Nic),
            state: Known::Read(coverage(&draft.lane, span, ahead[index])),
        });
    }
    points
}

/// Frames that tell when a capture ran, also of others' traffic.
const ENOUGH: u64 = 10;

/// Whether a capture was over before the traffic began anywhere, or began when that had ended.
fn apart((first, last): (i64, i64), drafts: &[Draft], ahead: &[i64]) -> bool {
    let traffic = drafts.iter().zip(ahead).filter_map(|(draft, ahead)| {
        let (from, to) = draft.traffic()?;
        Some((from.saturating_sub(*ahead), to.saturating_sub(*ahead)))
    });
    let whole = traffic.reduce(|(a, b), (c, d)| (a.min(c), b.max(d)));
    whole.is_some_and(|(from, to)| last < from || to < first)
}

/// From the first to the last frame of a file that one program wrote for several interfaces; else of the lane alone.
fn of_file(draft: &Draft, drafts: &[Draft]) -> Option<(i64, i64)> {
    if !draft.is_cooked() {
        return draft.lane.span;
    }
    let same = drafts.iter().filter(|other| other.lane.files == draft.lane.files);
    same.filter_map(|other| other.lane.span).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))
}

fn coverage(lane: &Lane, span: Option<(i64, i64)>, ahead: i64) -> Coverage {
    let statistics = lane.statistics.unwrap_or_default();
    let counted = statistics.start.zip(statistics.end).map(|(start, end)| (start.0, end.0));
    // Stamps that were changed afterwards do not fit what the file says of its whole.
    let fits = |(start, end): &(i64, i64)| {
        start < end && lane.span.is_none_or(|(first, last)| *start <= first && last <= *end)
    };
    let sure =
        counted.filter(fits).map(|(start, end)| (start.saturating_sub(ahead), end.saturating_sub(ahead)));
    let span = sure.or(span);
    Coverage {
        started: span.map(|(first, _)| first),
        stopped: span.map(|(_, last)| last),
        snaplen: lane.snaplen,
        received: lane.frames,
        dropped: statistics.dropped.unwrap_or(0),
        guessed: true,
        ..Coverage::default()
    }
}

/// A point's name that no other has.
fn unique(points: &[CapturePoint], id: String) -> String {
    let taken = |id: &str| points.iter().any(|point| point.id == id);
    if !taken(&id) {
        return id;
    }
    (2..=points.len() + 2).map(|number| format!("{id}-{number}")).find(|id| !taken(id)).unwrap_or(id)
}
