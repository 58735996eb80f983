//! What became of the traffic in both cases: the verdict, the ends, the way, loss and delay at each stage, causes. A few
//! packets or microseconds more are no change.

use std::collections::BTreeSet;

use super::alike::{Alike, When};
use super::{Area, Diff, Side};
use crate::analyze::findings::{Cause, Findings, Outcome, Route, StageCount};
use crate::evidence::{Case, Direction, Endpoint, StageKind};
use crate::packet::Nanos;

pub(super) fn compare(before: Side<'_>, after: Side<'_>, alike: &Alike, diff: &mut Diff) {
    let (was, is) = (before.findings, after.findings);
    verdict(was, is, alike, diff);
    causes(was, is, diff);
    end(&was.case.from, &is.case.from, "from", diff);
    end(&was.case.to, &is.case.to, "to", diff);
    let by = |case: &Case| {
        let all: Vec<String> = case.aliases.to.iter().map(ToString::to_string).collect();
        (!all.is_empty()).then(|| all.join(", "))
    };
    let (was_by, is_by) = (by(&was.case), by(&is.case));
    if was_by != is_by {
        diff.push(None, Area::End, true, ("to's address for clients", was_by, is_by));
    }
    let (was_asked, is_asked) = (traffic(&was.case), traffic(&is.case));
    if was_asked != is_asked {
        diff.notes.push(format!("the two are of different traffic: {was_asked}; {is_asked}"));
    }
    for direction in [Direction::Forward, Direction::Reply] {
        path(&was.case, &is.case, direction, alike, diff);
        let of = |findings: &'_ Findings| {
            findings
                .routes
                .iter()
                .find(|route| route.direction == direction)
                .filter(|route| route.sent > 0)
                .cloned()
        };
        if let (Some(was), Some(is)) = (of(was), of(is)) {
            stages(&was, &is, diff);
        }
    }
    if was.case.vxlan_port != is.case.vxlan_port {
        let ports = [was, is].map(|findings| Some(findings.case.vxlan_port.to_string()));
        let [was, is] = ports;
        diff.push(None, Area::Path, true, ("the tunnel's UDP port", was, is));
    }
}

/// What was asked for.
fn traffic(case: &Case) -> String {
    let probe = case.probe.as_ref().map(|probe| format!("probe {}", probe.kind));
    let protocol = case.only.protocol.map(|number| format!("protocol {number}"));
    let port = case.only.port.map(|port| format!("port {port}"));
    let asked: Vec<String> = [probe, protocol, port].into_iter().flatten().collect();
    if asked.is_empty() { "all that there was".to_owned() } else { asked.join(", ") }
}

/// In words that hold for both: what, which way, where.
fn verdict(was: &Findings, is: &Findings, alike: &Alike, diff: &mut Diff) {
    let words = |findings: &Findings| {
        let verdict = &findings.verdict;
        let outcome = match verdict.outcome {
            Outcome::Delivered => "delivered",
            Outcome::Dropped => "dropped",
            Outcome::Diverted => "diverted",
            Outcome::NoTraffic => "no traffic",
            Outcome::Inconclusive => "cannot be told",
        };
        let Some(place) = &verdict.place else { return outcome.to_owned() };
        let point = |point: crate::evidence::PointId| findings.case.points[point.index()].id.as_str();
        let to = place.to.map_or("the end", point);
        let way = if verdict.direction == Direction::Forward { "" } else { ", the replies" };
        format!("{outcome}{way} between {} and {to} ({})", point(place.from), place.kind.name())
    };
    let (was, is) = (words(was), words(is));
    if alike.plain(&was, When::Before) != alike.plain(&is, When::After) {
        diff.push(None, Area::Verdict, true, ("", Some(was), Some(is)));
    }
}

fn causes(was: &Findings, is: &Findings, diff: &mut Diff) {
    let key = |cause: &Cause| (cause.kind, cause.node.clone());
    let keys = |findings: &Findings| findings.causes.iter().map(key).collect::<BTreeSet<_>>();
    let (had, has) = (keys(was), keys(is));
    let node =
        |cause: &Cause| if cause.node.is_empty() { String::new() } else { format!(" on {}", cause.node) };
    for cause in was.causes.iter().filter(|cause| !has.contains(&key(cause))) {
        let words = format!("{}{}: {}", cause.kind, node(cause), cause.summary);
        diff.push(None, Area::Cause, true, ("", Some(words), None));
    }
    for cause in is.causes.iter().filter(|cause| !had.contains(&key(cause))) {
        let words = format!("{}{}: {}", cause.kind, node(cause), cause.summary);
        diff.push(None, Area::Cause, true, ("", None, Some(words)));
    }
}

/// A pod that was made anew has another address, or runs elsewhere.
fn end(was: &Endpoint, is: &Endpoint, which: &str, diff: &mut Diff) {
    for (what, was, is) in [
        ("", Some(was.name.clone()), Some(is.name.clone())),
        ("'s node", was.node.clone(), is.node.clone()),
        ("'s address", Some(was.address.to_string()), Some(is.address.to_string())),
    ] {
        if was != is {
            diff.push(None, Area::End, true, (&format!("{which}{what}"), was, is));
        }
    }
}

fn path(was: &Case, is: &Case, direction: Direction, alike: &Alike, diff: &mut Diff) {
    let words = |case: &Case| {
        let path = case.paths.iter().find(|path| path.direction == direction)?;
        let points: Vec<&str> =
            path.points.iter().map(|point| case.points[point.index()].id.as_str()).collect();
        let how = if path.encapsulated { " (encapsulated)" } else { "" };
        Some(format!("{}{how}", points.join(" > ")))
    };
    let (was, is) = (words(was), words(is));
    let plain = |words: &Option<String>, when| words.as_ref().map(|words| alike.plain(words, when));
    if plain(&was, When::Before) != plain(&is, When::After) {
        diff.push(None, Area::Path, true, (direction.name(), was, is));
    }
}

fn stages(was: &Route, is: &Route, diff: &mut Diff) {
    let find =
        |route: &'_ Route, kind: StageKind| route.stages.iter().find(|stage| stage.kind == kind).cloned();
    for here in &is.stages {
        let subject = format!("{} direction, stage {}", is.direction.name(), here.kind.name());
        let Some(before) = find(was, here.kind) else { continue };
        if differ(share(&before), share(here)) {
            let words = |stage: &StageCount| Some(format!("{} of {} lost", stage.lost, stage.entered));
            diff.push(None, Area::Loss, true, (&subject, words(&before), words(here)));
        }
        let doubt =
            [&before, here].into_iter().filter_map(|stage| stage.clock_error).max().unwrap_or(Nanos(0));
        if let (Some((was, _)), Some((is, _))) = (before.latency, here.latency)
            && slower(was, is, doubt)
        {
            let words = |time: Nanos| Some(format!("{} µs in the middle", time.0 / 1000));
            diff.push(None, Area::Latency, true, (&subject, words(was), words(is)));
        }
    }
}

/// Of what came there, how much was lost; none when nothing came.
fn share(stage: &StageCount) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a share, not a count")]
    (stage.entered > 0).then(|| stage.lost as f64 / stage.entered as f64)
}

/// No loss and some are different; so are shares that are a tenth apart.
fn differ(was: Option<f64>, is: Option<f64>) -> bool {
    match (was, is) {
        (Some(was), Some(is)) => (was > 0.0) != (is > 0.0) || (was - is).abs() >= 0.1,
        _ => false,
    }
}

/// Twice as long or half, and by more than what machines and clocks make of themselves.
fn slower(was: Nanos, is: Nanos, doubt: Nanos) -> bool {
    let (short, long) = (was.0.min(is.0).max(0), was.0.max(is.0));
    long / 2 >= short && long - short > LEAST_DELAY.max(doubt.0.saturating_mul(2))
}

/// Nanoseconds.
const LEAST_DELAY: i64 = 500_000;
