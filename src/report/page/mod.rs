//! The report as one page that opens from a ticket: the verdict first, then the path as a picture, sample packets over
//! the points, the course over time, why, and the nodes' own texts folded. Takes findings and excerpts; gives one HTML
//! file that asks nothing of any network. Everything read is escaped by the templates, and the page's own policy lets
//! run nothing but its one script, which filters by flow; without it everything can be read.

mod course;
mod ladder;

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::words::{self, shown};
use super::{picture, sentences};
use crate::analyze::Excerpt;
use crate::analyze::findings::{Cause, Findings, FlowSeen, Outcome, Route, StageCount};
use crate::evidence::PointId;

const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// Writes the report.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn page(findings: &Findings, excerpts: &[Excerpt], out: &mut dyn io::Write) -> io::Result<()> {
    let style = format!("{STYLE}{}", picture::STYLE);
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        digest(&style),
        digest(SCRIPT)
    );
    let sentence = sentences::verdict(findings);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (sentences::outcome(findings)) ": " (shown(&sentence)) }
                style { (PreEscaped(&style)) }
            }
            body {
                a class="skip" href="#why" { "Skip to the causes" }
                (head(findings, &sentence))
                main {
                    (path(findings))
                    (ladder::ladder(findings))
                    (course::course(findings))
                    (why(findings))
                    (flows(findings))
                    (texts(excerpts))
                    (notes(findings))
                }
                footer { p { "trace-drop " (env!("CARGO_PKG_VERSION")) } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    writeln!(out, "{}", page.into_string())
}

/// As a content security policy names an inline element.
fn digest(content: &str) -> String {
    STANDARD.encode(Sha256::digest(content.as_bytes()))
}

fn head(findings: &Findings, sentence: &str) -> Markup {
    let case = &findings.case;
    let (class, sign) = match findings.verdict.outcome {
        Outcome::Delivered => ("good", "✔"),
        Outcome::Dropped => ("bad", "✕"),
        Outcome::Diverted => ("bad", "↷"),
        Outcome::NoTraffic | Outcome::Inconclusive => ("unsure", "?"),
    };
    html! {
        header class=(class) {
            p class="outcome" { span aria-hidden="true" { (sign) } " " (sentences::outcome(findings)) }
            h1 { (shown(sentence)) }
            @for doubt in &findings.verdict.doubts { p class="doubt" { "but: " (shown(doubt)) } }
            @if let Some(cause) = findings.causes.first() {
                p { strong { "Why: " } (shown(&cause.summary)) " (" (words::confidence(cause.confidence)) ")" }
            }
            @if let Some(step) = sentences::next(findings).first() {
                p { strong { "What next: " } (shown(step)) }
            }
            dl {
                dt { "from" } dd { (shown(&sentences::end(&case.from))) }
                dt { "to" } dd { (shown(&sentences::end(&case.to))) }
                @if let Some(words) = sentences::when(case) { dt { "captured" } dd { (words) } }
                @if let Some(words) = sentences::probe(case) { dt { "traffic" } dd { (shown(&words)) } }
            }
        }
    }
}

fn path(findings: &Findings) -> Markup {
    let mut also = sentences::translations(findings);
    also.extend(sentences::errors(findings));
    also.extend(sentences::clock(findings));
    html! {
        section aria-labelledby="path" {
            h2 id="path" { "The path" }
            div class="scroll" tabindex="0" role="group" aria-label="The path as a picture" {
                (picture::picture(findings))
            }
            @for route in &findings.routes { (table(findings, route)) }
            @if !also.is_empty() {
                ul { @for words in also.iter().take(MOST_NOTES) { li { (shown(words)) } } }
                (left_out(also.len(), MOST_NOTES))
            }
        }
    }
}

const MOST_NOTES: usize = 50;

/// What is not shown of a long list.
fn left_out(all: usize, most: usize) -> Markup {
    html! { @if all > most { p class="faint" { (all - most) " more are left out" } } }
}

fn table(findings: &Findings, route: &Route) -> Markup {
    let (from, to) = words::ends(findings, route.direction);
    let name = format!("{}: from {from} to {to}", route.direction.name());
    if route.sent == 0 {
        return html! { p { (shown(&name)) ": no packets" } };
    }
    html! {
        div class="scroll" tabindex="0" role="group" aria-label=(shown(&name)) {
            table {
                caption { (shown(&name)) }
                thead {
                    tr {
                        th scope="col" { "point" } th scope="col" { "role" }
                        th scope="col" class="number" { "passed" } th scope="col" class="number" { "lost" }
                        th scope="col" class="number" { "median" }
                        th scope="col" class="number" { "99 of 100 within" }
                    }
                }
                tbody {
                    @for (at, id) in route.path.iter().enumerate() {
                        @let before = at.checked_sub(1).map(|before| &route.stages[before]);
                        @let passed = route.stages.get(at).map_or(route.delivered, |stage| stage.entered);
                        (row(findings, *id, before, passed))
                    }
                }
            }
        }
        @let beside = sentences::beside(&findings.case, route);
        @if !beside.is_empty() { ul { @for words in beside { li { (shown(&words)) } } } }
    }
}

fn row(findings: &Findings, id: PointId, before: Option<&StageCount>, passed: u64) -> Markup {
    let point = &findings.case.points[id.index()];
    let lost = before.filter(|stage| stage.lost > 0);
    let took = before.filter(|stage| stage.lost < stage.entered).and_then(|stage| stage.latency);
    html! {
        tr class=[lost.map(|_| "lossy")] {
            th scope="row" { (shown(&point.id)) }
            td { (words::role(point.role)) }
            td class="number" { (passed) }
            td class="number" {
                @if let Some(stage) = lost {
                    strong { "✕ " (stage.lost) " of " (stage.entered) " lost" } " (" (stage.kind.name()) ")"
                } @else if before.is_some() { "0" }
            }
            td class="number" { @if let Some((median, _)) = took { (sentences::duration(median)) } }
            td class="number" { @if let Some((_, most)) = took { (sentences::duration(most)) } }
        }
    }
}

fn why(findings: &Findings) -> Markup {
    let next = sentences::next(findings);
    html! {
        section aria-labelledby="why" {
            h2 id="why" { "Why" }
            @if findings.causes.is_empty() { p { "There is nothing to explain." } }
            @for cause in &findings.causes { (article(cause)) }
            @if !next.is_empty() {
                h2 { "What next" }
                ol { @for step in &next { li { (shown(step)) } } }
            }
        }
    }
}

fn article(cause: &Cause) -> Markup {
    html! {
        article {
            h3 {
                code { (cause.kind) } @if !cause.node.is_empty() { " on " (shown(&cause.node)) }
                " (" (words::confidence(cause.confidence)) ")"
            }
            p { (shown(&cause.summary)) }
            @if !cause.evidence.is_empty() {
                dl class="proofs" {
                    @for proof in &cause.evidence { dt { (proof.source) } dd { (shown(&proof.detail)) } }
                }
            }
            @if !cause.remedy.is_empty() { p { strong { "To do: " } (shown(&cause.remedy)) } }
        }
    }
}

fn flows(findings: &Findings) -> Markup {
    let account = &findings.account;
    let (sent, lost) = account.flows_left_out;
    html! {
        @if !account.flows.is_empty() {
            section aria-labelledby="flows" {
                h2 id="flows" { "Flows" }
                div class="scroll" tabindex="0" role="group" aria-label="Flows" {
                    table {
                        caption { "Packets of each flow, those that lost most first" }
                        thead { tr {
                            th scope="col" { "flow" }
                            th scope="col" class="number" { "sent" } th scope="col" class="number" { "lost" }
                            th scope="col" class="number" { "replies" } th scope="col" class="number" { "lost" }
                        } }
                        tbody { @for (number, flow) in account.flows.iter().enumerate() { (flow_row(number, flow)) } }
                    }
                }
                @if sent > 0 { p class="faint" { "Flows that are not listed: " (sent) " packets, " (lost) " lost" } }
            }
        }
    }
}

fn flow_row(number: usize, flow: &FlowSeen) -> Markup {
    let [lost, lost_replies] = flow.lost;
    html! {
        tr data-flow=(number) class=[(lost + lost_replies > 0).then_some("lossy")] {
            th scope="row" { (flow.flow) }
            td class="number" { (flow.sent[0]) } td class="number" { (lost) }
            td class="number" { (flow.sent[1]) } td class="number" { (lost_replies) }
        }
    }
}

fn texts(excerpts: &[Excerpt]) -> Markup {
    html! {
        @if !excerpts.is_empty() {
            section aria-labelledby="texts" {
                h2 id="texts" { "What the nodes said" }
                @for excerpt in excerpts {
                    details {
                        summary {
                            (shown(&excerpt.node)) @if !excerpt.inside.is_empty() { ", " (excerpt.inside) } ": " (excerpt.what)
                            " (" (excerpt.lines.len() + excerpt.left_out) ")"
                        }
                        pre tabindex="0" { @for line in &excerpt.lines { (shown(line)) "\n" } }
                        @if excerpt.left_out > 0 { p class="faint" { (excerpt.left_out) " more are left out" } }
                    }
                }
            }
        }
    }
}

fn notes(findings: &Findings) -> Markup {
    html! {
        @if !findings.warnings.is_empty() {
            section aria-labelledby="notes" {
                h2 id="notes" { "Notes" }
                ul { @for warning in findings.warnings.iter().take(MOST_NOTES) { li { (shown(warning)) } } }
                (left_out(findings.warnings.len(), MOST_NOTES))
            }
        }
    }
}
