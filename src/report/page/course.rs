//! Loss and delay over time, a chart a direction: packets sent upwards, those lost of them downwards; under it the mean
//! time over the whole path, and the longest. The same numbers stand in a folded table.

use maud::{Markup, html};

use crate::analyze::correlate::chronicle::{Bin, Course};
use crate::analyze::findings::Findings;
use crate::evidence::Direction;
use crate::packet::{Nanos, Timestamp};
use crate::report::sentences;
use crate::report::words::{self, shown};

/// Width and height of a chart's bars.
const WIDTH: u64 = 720;
const UP: u64 = 70;
const DOWN: u64 = 40;
/// Left of the bars, for the numbers.
const SCALE: u64 = 70;

pub(super) fn course(findings: &Findings) -> Markup {
    let busy = |course: &Course| course.bins.iter().any(|bin| bin.sent > 0);
    if !findings.account.courses.iter().any(|(_, course)| busy(course)) {
        return html! {};
    }
    html! {
        section aria-labelledby="time" {
            h2 id="time" { "Over time" }
            @for (way, course) in findings.account.courses.iter().filter(|(_, course)| busy(course)) {
                (of_way(findings, *way, course))
            }
        }
    }
}

fn of_way(findings: &Findings, way: Direction, course: &Course) -> Markup {
    let (from, to) = words::ends(findings, way);
    let total = |count: fn(&Bin) -> u64| course.bins.iter().map(count).sum::<u64>();
    let name = format!(
        "{}: from {from} to {to}: {} packets, {} lost, in steps of {}",
        way.name(),
        total(|bin| bin.sent),
        total(|bin| bin.lost),
        sentences::duration(course.width)
    );
    html! {
        h3 { (shown(&name)) }
        div class="scroll" tabindex="0" role="group" aria-label=(shown(&name)) {
            (packets(course, &name))
            @if course.bins.iter().any(|bin| bin.timed > 0) { (delays(course, way)) }
        }
        details {
            summary { "These numbers as a table" }
            (table(course, &name))
        }
    }
}

fn packets(course: &Course, name: &str) -> Markup {
    let most = course.bins.iter().map(|bin| bin.sent).max().unwrap_or(0).max(1);
    let most_lost = course.bins.iter().map(|bin| bin.lost).max().unwrap_or(0);
    let down = if most_lost > 0 { DOWN } else { 0 };
    let height = UP + down + 26;
    html! {
        svg class="chart" role="img" viewBox={ "0 0 " (SCALE + WIDTH + 8) " " (height) }
            width=(SCALE + WIDTH + 8) height=(height) aria-label=(shown(name)) {
            text x=(SCALE - 6) y="16" text-anchor="end" { (most) " sent" }
            line class="axis" x1=(SCALE) y1=(UP + 4) x2=(SCALE + WIDTH) y2=(UP + 4) {}
            @for (number, bin) in course.bins.iter().enumerate() {
                @let (x, width) = slot(course, number);
                @if bin.sent > 0 {
                    @let tall = (bin.sent * UP).div_ceil(most);
                    rect class="sent" x=(x) y=(UP + 4 - tall) width=(width) height=(tall) {
                        title { (span(course, number)) ": " (bin.sent) " sent" }
                    }
                }
                @if bin.lost > 0 {
                    @let deep = (bin.lost * DOWN).div_ceil(most.min(most_lost).max(1));
                    rect class="lost" x=(x) y=(UP + 5) width=(width) height=(deep) {
                        title { (span(course, number)) ": " (bin.lost) " lost" }
                    }
                }
            }
            @if most_lost > 0 {
                text class="lost" x=(SCALE - 6) y=(UP + down) text-anchor="end" { "✕ " (most_lost) " lost" }
            }
            (ends(course, height))
        }
    }
}

fn delays(course: &Course, way: Direction) -> Markup {
    let longest = course.bins.iter().map(|bin| bin.longest.0).max().unwrap_or(0).max(1);
    let most = u64::try_from(longest).unwrap_or(1);
    let y = |time: Nanos| {
        let part = u128::from(u64::try_from(time.0).unwrap_or(0)) * u128::from(UP) / u128::from(most);
        UP + 4 - u64::try_from(part).unwrap_or(UP).min(UP)
    };
    let height = UP + 26;
    let name = format!("{}: time over the whole path, mean and longest", way.name());
    html! {
        svg class="chart" role="img" viewBox={ "0 0 " (SCALE + WIDTH + 8) " " (height) }
            width=(SCALE + WIDTH + 8) height=(height) aria-label=(name) {
            text x=(SCALE - 6) y="16" text-anchor="end" { (sentences::duration(Nanos(longest))) }
            line class="axis" x1=(SCALE) y1=(UP + 4) x2=(SCALE + WIDTH) y2=(UP + 4) {}
            @for (number, bin) in course.bins.iter().enumerate() {
                @let (x, width) = slot(course, number);
                @if let Some(mean) = bin.mean() {
                    line class="longest" x1=(x + width / 2) y1=(y(bin.longest)) x2=(x + width / 2) y2=(UP + 4) {}
                    rect class="mean" x=(x) y=(y(mean).saturating_sub(1)) width=(width) height="3" {
                        title {
                            (span(course, number)) ": mean " (sentences::duration(mean)) ", longest "
                            (sentences::duration(bin.longest))
                        }
                    }
                }
            }
            text x=(SCALE) y=(height - 6) { "time over the whole path: mean (thick), longest (thin)" }
        }
    }
}

/// Where the bar of a bin stands, and how wide it is.
fn slot(course: &Course, number: usize) -> (u64, u64) {
    // Few bins stand for a short time: they do not grow into blocks.
    let n_bins = u64::try_from(course.bins.len()).unwrap_or(1).max(30);
    let number = u64::try_from(number).unwrap_or(0);
    let (from, to) = (number * WIDTH / n_bins, (number + 1) * WIDTH / n_bins);
    (SCALE + from, (to - from).saturating_sub(1).max(1))
}

fn begin(course: &Course, number: usize) -> Timestamp {
    let steps = i64::try_from(number).unwrap_or(i64::MAX);
    course.start + Nanos(course.width.0.saturating_mul(steps))
}

/// A bin's time, after the beginning.
fn span(course: &Course, number: usize) -> String {
    format!("{} on", sentences::duration(begin(course, number) - course.start))
}

fn ends(course: &Course, height: u64) -> Markup {
    html! { text x=(SCALE) y=(height - 6) { "from " (words::time(course.start)) } }
}

fn table(course: &Course, name: &str) -> Markup {
    html! {
        table {
            caption { (shown(name)) }
            thead { tr {
                th scope="col" { "from" }
                th scope="col" class="number" { "sent" } th scope="col" class="number" { "lost" }
                th scope="col" class="number" { "mean" } th scope="col" class="number" { "longest" }
            } }
            tbody {
                @for (number, bin) in course.bins.iter().enumerate().filter(|(_, bin)| bin.sent > 0) {
                    tr class=[(bin.lost > 0).then_some("lossy")] {
                        th scope="row" { (words::time(begin(course, number))) }
                        td class="number" { (bin.sent) } td class="number" { (bin.lost) }
                        td class="number" { @if let Some(mean) = bin.mean() { (sentences::duration(mean)) } }
                        td class="number" { @if bin.timed > 0 { (sentences::duration(bin.longest)) } }
                    }
                }
            }
        }
    }
}
