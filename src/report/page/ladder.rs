//! Sample packets over the points: a row a packet, a column a point, in each cell when it came by after its first
//! sighting. Lost ones first. Rows bear their flow's number, for the filter.

use maud::{Markup, html};

use crate::analyze::findings::{Fate, Findings, Sample, SeenAt};
use crate::evidence::{Direction, Path, PointId};
use crate::packet::Timestamp;
use crate::report::words::{self, shown};

pub(super) fn ladder(findings: &Findings) -> Markup {
    let account = &findings.account;
    if account.samples.is_empty() {
        return html! {};
    }
    html! {
        section aria-labelledby="packets" {
            h2 id="packets" { "Packets over the points" }
            p {
                "Some of the packets, lost ones first. In each column: microseconds since the packet was first seen; "
                "✕ where it should have come next and never did; ◐ where its bytes came by in other frames, cut or "
                "joined."
            }
            p id="filter" hidden {
                label for="flow" { "Only this flow: " }
                select id="flow" {
                    option value="" { "all flows" }
                    @for (number, flow) in account.flows.iter().enumerate() {
                        option value=(number) {
                            (flow.flow) " (" (flow.lost[0] + flow.lost[1]) " of " (flow.sent[0] + flow.sent[1]) " lost)"
                        }
                    }
                }
                " " output id="shown" for="flow" {}
            }
            @for path in named_first(findings) {
                @let rows: Vec<&Sample> =
                    account.samples.iter().filter(|sample| sample.direction == path.direction).collect();
                @if !rows.is_empty() { (table(findings, path.direction, &path.points, &rows)) }
            }
        }
    }
}

/// The direction that the verdict is about, then the other.
fn named_first(findings: &Findings) -> Vec<&Path> {
    let mut paths: Vec<&Path> = findings.case.paths.iter().collect();
    paths.sort_by_key(|path| path.direction != findings.verdict.direction);
    paths
}

fn table(findings: &Findings, way: Direction, points: &[PointId], rows: &[&Sample]) -> Markup {
    let (from, to) = words::ends(findings, way);
    let name = format!("{}: from {from} to {to}", way.name());
    let node = |id: &PointId| findings.case.points[id.index()].node.as_str();
    let nodes: Vec<&[PointId]> = points.chunk_by(|a, b| node(a) == node(b)).collect();
    html! {
        div class="scroll" tabindex="0" role="group" aria-label={ "Packets, " (shown(&name)) } {
            table class="ladder" {
                caption { (shown(&name)) }
                thead {
                    tr {
                        td colspan="2" {}
                        @for points in nodes { th scope="colgroup" colspan=(points.len()) { (shown(node(&points[0]))) } }
                    }
                    tr {
                        th scope="col" { "time (UTC)" }
                        th scope="col" { "packet" }
                        @for id in points {
                            @let point = &findings.case.points[id.index()];
                            th scope="col" {
                                (words::short(&point.interface, 13)) br; span class="faint" { (words::role(point.role)) }
                            }
                        }
                    }
                }
                tbody { @for sample in rows { (row(sample)) } }
            }
        }
    }
}

fn row(sample: &Sample) -> Markup {
    let last = sample.at.iter().rposition(|at| *at != SeenAt::Never);
    let next = last.map_or(0, |last| last + 1);
    html! {
        tr class={ "packet " (if sample.fate == Fate::Delivered { "" } else { "lossy" }) }
            data-flow={ @if let Some(number) = sample.flow { (number) } @else { "other" } } {
            td { (clock(sample.time)) }
            th scope="row" {
                (sample.addresses) " "
                span class="gist" { (sample.gist) " " span class="faint" { (sample.ip_len) " bytes" } }
            }
            @for (position, at) in sample.at.iter().enumerate() {
                @match at {
                    SeenAt::After(after) => td class="seen" {
                        span aria-hidden="true" { "●" } " " (format!("{:.1}", after.as_micros()))
                    }
                    SeenAt::InOthers => td class="seen" { span aria-hidden="true" { "◐" } span class="spoken" { "in other frames" } }
                    SeenAt::Never if position == next && sample.fate == Fate::Doubtful => td class="gone" { "? missing" }
                    SeenAt::Never if position == next => td class="gone" {
                        span aria-hidden="true" { "✕" } " " (if sample.fate == Fate::Delivered { "not seen" } else { "never" })
                    }
                    SeenAt::Never => td class="faint" { span aria-hidden="true" { "·" } span class="spoken" { "not seen" } }
                }
            }
        }
    }
}

/// Time of day, in microseconds.
fn clock(time: Timestamp) -> String {
    let whole = words::time(time);
    let of_day = whole.split_once('T').map_or(whole.as_str(), |(_, of_day)| of_day);
    of_day.chars().take("00:00:00.000000".len()).collect()
}
