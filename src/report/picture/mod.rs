//! The path as a picture (SVG): both ends, their nodes, every point between them, and on each stage what passed, how
//! long it took and what was lost. Takes findings; gives one `svg` element, or a file of its own. The places come from
//! [`layout`]; what stands on a stage is [`lane`]'s. Meaning never rests on colour alone.

mod lane;
mod layout;

use std::io;

use maud::{Markup, PreEscaped, html};

use super::{sentences, words};
use crate::analyze::findings::Findings;
use crate::evidence::{Direction, Endpoint, Known, PointId};

use lane::{Lane, Mark};
use layout::{Box as Place, Layout};

/// Colours and letters, for light and dark.
pub(super) const STYLE: &str = include_str!("picture.css");

/// Writes the path as a file of its own.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn svg(findings: &Findings, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "{}", draw(findings, Some(STYLE)).into_string())
}

/// The picture as an element of a page that has [`STYLE`].
pub(super) fn picture(findings: &Findings) -> Markup {
    draw(findings, None)
}

fn draw(findings: &Findings, style: Option<&str>) -> Markup {
    let layout = Layout::of(&findings.case);
    let title = format!("{}: {}", sentences::outcome(findings), sentences::verdict(findings));
    html! {
        svg class="picture" xmlns="http://www.w3.org/2000/svg" role="img"
            viewBox={ "0 0 " (layout.width) " " (layout.height) }
            width=(layout.width) height=(layout.height)
            aria-labelledby="picture-title" aria-describedby="picture-words" {
            title id="picture-title" { (words::shown(&title)) }
            desc id="picture-words" { (words::shown(&spoken(findings))) }
            @if let Some(style) = style {
                style { (PreEscaped(style)) }
                rect class="paper" width="100%" height="100%" {}
            }
            @for node in &layout.nodes {
                rect class="node" x=(node.place.x) y=(node.place.y) width=(node.place.width)
                    height=(node.place.height) rx="10" {}
                text class="node-name" x=(node.place.x + 12) y=(node.place.y + 20) {
                    "node " (words::short(&node.name, 36))
                }
            }
            @for lane in lane::lanes(findings, &layout) { (stage(&lane)) }
            @for (end, place, first) in &layout.ends { (endpoint(end, place, *first)) }
            @for (id, place) in &layout.points { (point(findings, *id, place)) }
        }
    }
}

/// What the picture shows, for who cannot see it.
fn spoken(findings: &Findings) -> String {
    let mut all = Vec::new();
    for route in findings.routes.iter().filter(|route| route.sent > 0) {
        for stage in &route.stages {
            let (from, to) =
                (words::point(&findings.case, stage.from), words::point(&findings.case, stage.to));
            let took = stage.latency.map(|(median, _)| format!(", median {}", sentences::duration(median)));
            all.push(format!(
                "{}, {from} to {to}: {} packets, {} lost{}.",
                route.direction.name(),
                stage.entered,
                stage.lost,
                took.unwrap_or_default()
            ));
        }
    }
    all.join(" ")
}

fn endpoint(end: &Endpoint, place: &Place, first: bool) -> Markup {
    let is_host = end.name.starts_with("node/");
    let what = if first { "from" } else { "to" };
    html! {
        g class="end" {
            title { (words::shown(&sentences::end(end))) }
            rect x=(place.x) y=(place.y) width=(place.width) height=(place.height)
                rx=(if is_host { 2 } else { 20 }) {}
            text x=(place.middle()) y=(place.y + 18) {
                tspan class="small" { (what) " " }
                (words::short(&end.name, 24))
            }
            text class="small" x=(place.middle()) y=(place.y + 34) { (end.address) }
        }
    }
}

fn point(findings: &Findings, id: PointId, place: &Place) -> Markup {
    let point = &findings.case.points[id.index()];
    let role = words::role(point.role);
    let (class, counted) = match &point.state {
        Known::Unreadable(_) => ("point unread", "not captured".to_owned()),
        _ => ("point", format!("{} frames", findings.frames.get(id.index()).copied().unwrap_or(0))),
    };
    html! {
        g class=(class) {
            title {
                (words::shown(&point.id))
                @if let Known::Unreadable(why) = &point.state { ": " (words::shown(why)) }
            }
            rect x=(place.x) y=(place.y) width=(place.width) height=(place.height) rx="4" {}
            text x=(place.middle()) y=(place.y + 18) { (words::short(&point.interface, 24)) }
            text class="small" x=(place.middle()) y=(place.y + 34) { (role) " · " (counted) }
        }
    }
}

fn stage(lane: &Lane) -> Markup {
    let class = match lane.mark {
        Mark::Idle => "lane idle",
        Mark::Passed => "lane",
        Mark::Lost | Mark::Here => "lane lossy",
    };
    let (x, y) = lane.middle();
    let (dx, dy) = lane.step();
    // The head of the arrow, a triangle with its point at the end of the line.
    let head = format!(
        "{},{} {},{} {},{}",
        lane.to.0,
        lane.to.1,
        lane.to.0 - dx * 9 - dy * 5,
        lane.to.1 - dy * 9 - dx * 5,
        lane.to.0 - dx * 9 + dy * 5,
        lane.to.1 - dy * 9 + dx * 5
    );
    let radius = if lane.mark == Mark::Here { 13 } else { 9 };
    let arm = radius / 2;
    html! {
        g class=(class) {
            line x1=(lane.from.0) y1=(lane.from.1) x2=(lane.to.0) y2=(lane.to.1) {}
            @if !lane.plain { polygon points=(head) {} }
            @if matches!(lane.mark, Mark::Lost | Mark::Here) {
                circle cx=(x) cy=(y) r=(radius) {}
                path d={ "M" (x - arm) " " (y - arm) "L" (x + arm) " " (y + arm)
                    "M" (x + arm) " " (y - arm) "L" (x - arm) " " (y + arm) } {}
            }
            @for (number, words) in lane.words.iter().enumerate() {
                @let (at, side) = lane.words_at(number);
                text class=(if number == 0 { "first" } else { "small" }) x=(at.0) y=(at.1)
                    text-anchor=(side) { (words) }
            }
            @if lane.mark == Mark::Here { title { "Packets vanish here" } }
        }
    }
}

/// Which way an arrow points from end to end of the path.
fn is_forward(direction: Direction) -> bool {
    direction == Direction::Forward
}

#[cfg(test)]
mod tests;
