//! Many pairs traced at once: their ranking as text, followed by the worst pair's own report, and as JSON, schema
//! `trace-drop/pairs/v1`, with every pair's own report inside. Layout, never judgement.

use std::io;

use serde::Serialize;

use super::json::Report;
use super::{Style, words};
use crate::analyze::findings::{Findings, Outcome};
use crate::analyze::pairs::{Count, Part, Ranking, Suspect};
use crate::evidence::Direction;

/// Rows of a table that are shown when nobody asks for all.
const FEW: usize = 20;

/// Writes the ranking, then the report of the worst pair if any is not well.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn pairs_text(
    findings: &[Findings],
    ranking: &Ranking,
    notes: &[String],
    style: Style,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    verdict(findings, ranking, style, out)?;
    table(findings, ranking, style, out)?;
    nodes(ranking, style, out)?;
    for note in notes {
        writeln!(out, "note: {note}")?;
    }
    let worst = ranking.order.first().and_then(|first| findings.get(*first));
    let Some(worst) = worst.filter(|worst| worst.verdict.outcome != Outcome::Delivered) else {
        return Ok(());
    };
    writeln!(out, "\nThe worst pair\n")?;
    super::text(worst, style, out)
}

fn verdict(
    findings: &[Findings],
    ranking: &Ranking,
    style: Style,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let (paint, plain) = style.around(ranking.outcome);
    let word = words::outcome(ranking.outcome).to_uppercase().replace('_', " ");
    let (sent, lost) = ranking.packets;
    let all = findings.len();
    write!(out, "{paint}{word}{plain}: ")?;
    match ranking.outcome {
        Outcome::Delivered if ranking.good == all => writeln!(out, "nothing was lost between {all} pairs"),
        Outcome::Delivered => {
            writeln!(
                out,
                "nothing was lost between {} pairs; {} of {all} tell nothing",
                ranking.good,
                all - ranking.good
            )
        }
        Outcome::NoTraffic => writeln!(out, "not one packet was seen between {all} pairs"),
        Outcome::Inconclusive => writeln!(out, "the captures cannot tell for any of {all} pairs"),
        Outcome::Dropped | Outcome::Diverted => {
            let judged = ranking.bad + ranking.good;
            writeln!(out, "{} of {judged} pairs lost packets: {lost} of {sent}", ranking.bad)?;
            if judged < all {
                writeln!(out, "  pairs that tell nothing: {}", all - judged)?;
            }
            writeln!(out, "  {}", suspect(ranking))?;
            shared(ranking, out)
        }
    }
}

/// Which node the bad pairs share, as a sentence.
fn suspect(ranking: &Ranking) -> String {
    match &ranking.suspect {
        Suspect::Nobody => "no node is suspect".to_owned(),
        Suspect::Node(node, part) => {
            format!("{node} {} all that is lost, and of nothing that arrives", part_words(*part))
        }
        Suspect::OneOf(nodes) => {
            let each: Vec<String> =
                nodes.iter().map(|(node, part)| format!("{node} {} all of it", part_words(*part))).collect();
            format!(
                "which node it is cannot be told: {}; pairs of one without the other would tell",
                each.join(", ")
            )
        }
        Suspect::NoContrast(nodes) if nodes.is_empty() => {
            "no node is in all bad pairs, and no pair on the same way is well".to_owned()
        }
        Suspect::NoContrast(nodes) => format!(
            "which node it is cannot be told: no pair on the same way is well; all bad pairs share {}",
            nodes.join(" and ")
        ),
        Suspect::NoOne => {
            "no node alone explains it: each is in something that is well, or not in all that is bad"
                .to_owned()
        }
    }
}

fn part_words(part: Part) -> &'static str {
    match part {
        Part::Source => "is the source of",
        Part::Destination => "is the destination of",
        Part::Either => "is one of the two nodes of",
    }
}

/// The stage and the cause of most bad pairs.
fn shared(ranking: &Ranking, out: &mut dyn io::Write) -> io::Result<()> {
    if let Some((stage, pairs)) = ranking.stages.first() {
        writeln!(out, "  {pairs} of {} bad pairs lose in the stage {}", ranking.bad, stage.name())?;
    }
    if let Some((kind, node, pairs)) = ranking.causes.first() {
        writeln!(out, "  {pairs} of {} have the cause {kind} on {node}", ranking.bad)?;
    }
    Ok(())
}

/// What a row says of a pair.
struct Row {
    from: String,
    to: String,
    sent: u64,
    lost: u64,
    place: String,
    cause: String,
}

fn row(findings: &Findings) -> Row {
    let (case, verdict) = (&findings.case, &findings.verdict);
    let place = match &verdict.place {
        Some(place) => format!(
            "{}{}: {} to {}",
            place.kind.name(),
            if verdict.direction == Direction::Reply { " of replies" } else { "" },
            words::point(case, place.from),
            words::behind(case, place, verdict.direction)
        ),
        None if verdict.outcome == Outcome::Delivered => "-".to_owned(),
        None => words::outcome(verdict.outcome).replace('_', " "),
    };
    let cause = findings.causes.first().filter(|_| verdict.place.is_some());
    Row {
        from: end(&case.from),
        to: end(&case.to),
        sent: verdict.sent,
        lost: verdict.lost,
        place,
        cause: cause.map(|cause| format!("{} on {}", cause.kind, cause.node)).unwrap_or_default(),
    }
}

fn end(end: &crate::evidence::Endpoint) -> String {
    match &end.node {
        Some(node) if end.name != format!("node/{node}") => format!("{} on {node}", end.name),
        _ => end.name.clone(),
    }
}

fn table(findings: &[Findings], ranking: &Ranking, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let rows: Vec<Row> = ranking.order.iter().filter_map(|pair| findings.get(*pair)).map(row).collect();
    let shown = if style.verbose { rows.len() } else { rows.len().min(FEW) };
    let width = |of: fn(&Row) -> &str, least: usize| {
        rows[..shown].iter().map(|row| of(row).chars().count()).max().unwrap_or(0).max(least)
    };
    let (from, to, place) = (width(|row| &row.from, 4), width(|row| &row.to, 2), width(|row| &row.place, 5));
    writeln!(
        out,
        "\n  {:from$}  {:to$}  {:>7}  {:>7}  {:place$}  CAUSE",
        "FROM", "TO", "SENT", "LOST", "WHERE"
    )?;
    for row in &rows[..shown] {
        let (paint, plain) = if style.color && row.lost > 0 { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        let line = format!(
            "  {:from$}  {:to$}  {:>7}  {:>7}  {:place$}  {}",
            row.from, row.to, row.sent, row.lost, row.place, row.cause
        );
        writeln!(out, "{paint}{}{plain}", line.trim_end())?;
    }
    if shown < rows.len() {
        writeln!(out, "  and {} more, none worse; --verbose shows all", rows.len() - shown)?;
    }
    Ok(())
}

fn nodes(ranking: &Ranking, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    if ranking.nodes.is_empty() {
        return Ok(());
    }
    let shown = if style.verbose { ranking.nodes.len() } else { ranking.nodes.len().min(FEW) };
    let width = ranking.nodes[..shown].iter().map(|rank| rank.node.chars().count()).max().unwrap_or(0).max(4);
    let count = |count: Count| match count.bad + count.good {
        0 => "-".to_owned(),
        all => format!("{} of {all}", count.bad),
    };
    writeln!(out, "\n  {:width$}  {:>12}  {:>12}  {:>12}", "NODE", "BAD FROM IT", "BAD TO IT", "BAD PAIRS")?;
    for rank in &ranking.nodes[..shown] {
        writeln!(
            out,
            "  {:width$}  {:>12}  {:>12}  {:>12}",
            rank.node,
            count(rank.source),
            count(rank.destination),
            count(rank.either)
        )?;
    }
    if shown < ranking.nodes.len() {
        writeln!(out, "  and {} more, none worse; --verbose shows all", ranking.nodes.len() - shown)?;
    }
    writeln!(out)
}

/// Writes the ranking and all reports as one JSON object and a newline.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn pairs_json(
    findings: &[Findings],
    ranking: &Ranking,
    notes: &[String],
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let ordered: Vec<&Findings> = ranking.order.iter().filter_map(|pair| findings.get(*pair)).collect();
    let whole = Whole {
        schema: "trace-drop/pairs/v1",
        verdict: Verdict {
            outcome: words::outcome(ranking.outcome),
            pairs: findings.len(),
            bad: ranking.bad,
            good: ranking.good,
            sent: ranking.packets.0,
            lost: ranking.packets.1,
        },
        suspect: SuspectOut::of(&ranking.suspect),
        summary: suspect(ranking),
        nodes: ranking
            .nodes
            .iter()
            .map(|rank| NodeOut {
                node: &rank.node,
                source: rank.source.into(),
                destination: rank.destination.into(),
                either: rank.either.into(),
            })
            .collect(),
        stages: ranking
            .stages
            .iter()
            .map(|(kind, pairs)| StageOut { kind: kind.name(), pairs: *pairs })
            .collect(),
        causes: ranking
            .causes
            .iter()
            .map(|(kind, node, pairs)| CauseOut { kind, node, pairs: *pairs })
            .collect(),
        notes,
        reports: ordered.into_iter().map(Report::of).collect(),
    };
    serde_json::to_writer_pretty(&mut *out, &whole)?;
    writeln!(out)
}

#[derive(Serialize)]
struct Whole<'f> {
    schema: &'static str,
    verdict: Verdict,
    suspect: SuspectOut<'f>,
    summary: String,
    nodes: Vec<NodeOut<'f>>,
    stages: Vec<StageOut>,
    causes: Vec<CauseOut<'f>>,
    notes: &'f [String],
    /// Worst first.
    reports: Vec<Report<'f>>,
}

#[derive(Serialize)]
struct Verdict {
    outcome: &'static str,
    pairs: usize,
    bad: usize,
    good: usize,
    sent: u64,
    lost: u64,
}

#[derive(Serialize)]
struct SuspectOut<'f> {
    known: &'static str,
    nodes: Vec<SuspectNode<'f>>,
}

#[derive(Serialize)]
struct SuspectNode<'f> {
    node: &'f str,
    part: Option<&'static str>,
}

impl<'f> SuspectOut<'f> {
    fn of(suspect: &'f Suspect) -> Self {
        let part = |part: Part| match part {
            Part::Source => "source",
            Part::Destination => "destination",
            Part::Either => "either",
        };
        let named = |node: &'f str, of: Part| SuspectNode { node, part: Some(part(of)) };
        let (known, nodes) = match suspect {
            Suspect::Nobody => ("nobody", Vec::new()),
            Suspect::Node(node, of) => ("node", vec![named(node, *of)]),
            Suspect::OneOf(nodes) => ("one_of", nodes.iter().map(|(node, of)| named(node, *of)).collect()),
            Suspect::NoContrast(nodes) => {
                ("no_contrast", nodes.iter().map(|node| SuspectNode { node, part: None }).collect())
            }
            Suspect::NoOne => ("no_one", Vec::new()),
        };
        Self { known, nodes }
    }
}

#[derive(Serialize)]
struct NodeOut<'f> {
    node: &'f str,
    source: CountOut,
    destination: CountOut,
    either: CountOut,
}

#[derive(Serialize)]
struct CountOut {
    bad: usize,
    good: usize,
}

impl From<Count> for CountOut {
    fn from(count: Count) -> Self {
        Self { bad: count.bad, good: count.good }
    }
}

#[derive(Serialize)]
struct StageOut {
    kind: &'static str,
    pairs: usize,
}

#[derive(Serialize)]
struct CauseOut<'f> {
    kind: &'f str,
    node: &'f str,
    pairs: usize,
}
