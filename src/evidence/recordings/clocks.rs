//! How far the nodes' clocks are apart: takes placed drafts, gives what each one's stamps are ahead of the first node's.
//! Small differences are left alone: matching packets aligns them itself, and better. A difference that cannot be known is
//! said.

use std::collections::BTreeMap;

use crate::evidence::capture_file::CaptureError;

use super::ends::{Ends, Side};
use super::look::{self, Class, Lane, Sample};
use super::mixed;
use super::order::{self, Offset};
use super::place::Draft;
use super::{Recording, node};

/// Less is not touched.
const SMALL: i64 = 200_000_000;
/// Packets of a lane that are looked for elsewhere.
const ENOUGH: u64 = 10_000;

/// What the stamps of each draft are ahead of those of the first one's node.
pub(super) fn shifts(
    given: &[Recording],
    drafts: &[Draft],
    names: &BTreeMap<Side, String>,
    ends: &Ends,
    warnings: &mut Vec<String>,
) -> Result<Vec<i64>, CaptureError> {
    let nodes: Vec<String> = drafts.iter().map(|draft| node(draft, names)).collect();
    let reference = &nodes[0];
    let mut ahead: BTreeMap<&str, i64> = BTreeMap::new();
    for name in &nodes {
        if name == reference || ahead.contains_key(name.as_str()) {
            continue;
        }
        let of = |wanted: &String| -> Vec<&Lane> {
            let lanes =
                drafts.iter().zip(&nodes).filter(|(_, node)| *node == wanted).map(|(draft, _)| &draft.lane);
            lanes.filter(|lane| lane.class != Some(Class::Nothing)).collect()
        };
        let (ours, theirs) = (of(reference), of(name));
        let offset = match order::offset(&ours, &theirs, ends) {
            Some(offset) => Some(offset),
            None => seek(given, &ours, &theirs, ends)?,
        };
        let (by, words) = said(reference, name, offset, &ours, &theirs);
        ahead.insert(name, by);
        warnings.extend(words);
    }
    Ok(nodes.iter().map(|node| ahead.get(node.as_str()).copied().unwrap_or(0)).collect())
}

fn said(
    reference: &str,
    name: &str,
    offset: Option<Offset>,
    ours: &[&Lane],
    theirs: &[&Lane],
) -> (i64, Option<String>) {
    match offset {
        Some(Offset { nanos, .. }) if nanos.abs() < SMALL => (0, None),
        Some(Offset { nanos, packets, both_ways }) => {
            let far = length(nanos.unsigned_abs());
            let how = if nanos > 0 { "ahead of" } else { "behind" };
            let sure = if both_ways { "in both directions" } else { "in one direction only, so not exactly" };
            let words = format!(
                "{name}'s clock is {far} {how} {reference}'s: set right by {packets} packets that were seen on both, {sure}"
            );
            (nanos, Some(words))
        }
        None => {
            let apart = match (span(ours), span(theirs)) {
                (Some((a, b)), Some((c, d))) if b < c || d < a => {
                    "; by their stamps the captures do not overlap in time"
                }
                _ => "",
            };
            let words = format!(
                "no packet is in the captures of both {reference} and {name}: how their clocks stand to each other is not \
                 known, and they are taken to agree{apart}"
            );
            (0, Some(words))
        }
    }
}

fn span(lanes: &[&Lane]) -> Option<(i64, i64)> {
    let spans = lanes.iter().filter_map(|lane| lane.span);
    spans.reduce(|(a, b), (c, d)| (a.min(c), b.max(d)))
}

/// In words: hours, minutes, seconds.
fn length(nanos: u64) -> String {
    let millis = nanos / 1_000_000;
    let (hours, minutes, seconds) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1_000 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}.{:03} s", millis % 1_000),
        (0, _) => format!("{minutes} min {seconds} s"),
        _ => format!("{hours} h {minutes} min {seconds} s"),
    }
}

/// Looks through whole files for packets that both nodes saw: what was looked at first may be of different times.
fn seek(
    given: &[Recording],
    ours: &[&Lane],
    theirs: &[&Lane],
    ends: &Ends,
) -> Result<Option<Offset>, CaptureError> {
    let largest = ours.iter().chain(theirs).map(|lane| lane.frames).max().unwrap_or(0);
    let traffic = |lanes: &[&Lane]| {
        lanes.iter().flat_map(|lane| &lane.sights).any(|sight| ends.way(sight.src, sight.dst).is_some())
    };
    if largest <= ENOUGH || !traffic(ours) || !traffic(theirs) {
        return Ok(None);
    }
    let about = [ends.from, ends.to];
    let sample = Sample { stride: largest / ENOUGH + 1, about: &about };
    let mut lanes = again(given, ours, sample, ends)?;
    let n_ours = lanes.len();
    lanes.extend(again(given, theirs, sample, ends)?);
    look::tell_apart(&mut lanes);
    let lanes: Vec<&Lane> = lanes.iter().collect();
    let (ours, theirs) = lanes.split_at(n_ours);
    Ok(order::offset(ours, theirs, ends))
}

/// The same lanes with another sample of their packets.
fn again(
    given: &[Recording],
    lanes: &[&Lane],
    sample: Sample<'_>,
    ends: &Ends,
) -> Result<Vec<Lane>, CaptureError> {
    let mut all = Vec::new();
    for lane in lanes {
        let mut anew = Lane { sights: Vec::new(), ..(*lane).clone() };
        for file in &lane.files {
            let (seen, _) = sample.look(*file, &given[*file].file)?;
            let same = |other: &Lane| (other.interface, other.index) == (lane.interface, lane.index);
            for part in seen.into_iter().filter(same).flat_map(|lane| mixed::parts(lane, ends)) {
                if part.class == lane.class {
                    anew.sights.extend(part.sights);
                }
            }
        }
        all.push(anew);
    }
    Ok(all)
}
