//! Rules for a person and as JSON: what each chain is there for, and the way of a packet through them.

use std::io;

use serde::Serialize;
use serde_json::{Value, json};

use super::Style;
use crate::analyze::rules::journey::{Journey, Leg, Step, Verdict};
use crate::analyze::rules::{ChainRules, NodeRules, RuleLine, TableRules, TextRules};
use crate::evidence::netfilter::Policy;

/// The name and number of the JSON's form.
const SCHEMA: &str = "trace-drop/rules/v1";

/// Writes what the rules of nodes are.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn overview(nodes: &[NodeRules], style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    for (number, node) in nodes.iter().enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        let total: usize = node.texts.iter().map(|text| text.n_rules).sum();
        if node.texts.is_empty() && !node.unread.is_empty() {
            writeln!(out, "{}: not read", node.node)?;
        } else {
            writeln!(out, "{}: {total} rules", node.node)?;
        }
        for text in &node.texts {
            of_text(text, style, out)?;
        }
        if !node.sets.is_empty() {
            let members: u64 = node.sets.iter().map(|(_, count)| u64::from(*count)).sum();
            writeln!(out, "  ipset: {} sets, {members} members", node.sets.len())?;
            for (name, count) in node.sets.iter().filter(|_| style.verbose) {
                writeln!(out, "    {name} {count}")?;
            }
        }
        for why in &node.unread {
            writeln!(out, "  note: {why}")?;
        }
    }
    Ok(())
}

fn of_text(text: &TextRules, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    // Programs that printed nothing but a remark: neither rules nor anything odd.
    if text.tables.is_empty() && text.not_understood.is_empty() && text.warnings.is_empty() {
        return Ok(());
    }
    writeln!(out, "  {}: {} rules in {} tables", text.name, text.n_rules, text.tables.len())?;
    for warning in &text.warnings {
        writeln!(out, "    note: {warning}")?;
    }
    for table in &text.tables {
        of_table(table, style, out)?;
    }
    if !text.partly.is_empty() {
        writeln!(
            out,
            "    {} rules with parts that are kept as text and cannot be evaluated",
            text.partly.len()
        )?;
        for (chain, rule) in text.partly.iter().filter(|_| style.verbose) {
            writeln!(out, "      {chain}: {rule}")?;
        }
    }
    if !text.not_understood.is_empty() {
        writeln!(out, "    {} lines not understood", text.not_understood.len())?;
        for (line, why, whole) in &text.not_understood {
            writeln!(out, "      line {line}: {why}: {whole}")?;
        }
    }
    Ok(())
}

fn of_table(table: &TableRules, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let cut = if table.complete { "" } else { " (the text ends inside it)" };
    writeln!(out, "    {}{cut}", table.name)?;
    for group in &table.groups {
        let (rules, chains) = (group.n_rules(), group.chains.len());
        writeln!(out, "      {:<52} {rules:>5} rules in {chains} chains", group.what)?;
        for chain in &group.chains {
            of_chain(chain, style, out)?;
        }
    }
    Ok(())
}

/// Everything with `-v`; without it what dropped something or counted while being watched.
fn of_chain(chain: &ChainRules, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let policy = match chain.policy {
        Some(Policy::Drop) => " policy DROP",
        Some(Policy::Accept) => " policy ACCEPT",
        None => "",
    };
    if style.verbose {
        let hook = chain.hook.as_ref().map(|hook| format!(", {hook}")).unwrap_or_default();
        writeln!(out, "        {}{hook}{policy}", chain.name)?;
    } else if chain.policy == Some(Policy::Drop) {
        writeln!(out, "        {}{policy}, {} packets", chain.name, chain.policy_packets)?;
    }
    for rule in &chain.rules {
        let dropped = rule.kills && rule.packets.unwrap_or(0) > 0;
        let moved = rule.moved.unwrap_or(0) > 0;
        if style.verbose || dropped || moved {
            let place = if style.verbose { String::new() } else { format!("{} ", chain.name) };
            writeln!(out, "        {place}{}", rule_line(rule, style))?;
        }
    }
    Ok(())
}

fn rule_line(rule: &RuleLine, style: Style) -> String {
    let packets = rule.packets.map_or("-".to_owned(), |packets| packets.to_string());
    let moved = rule.moved.filter(|moved| *moved > 0).map(|moved| format!(" (+{moved})")).unwrap_or_default();
    let said =
        if rule.said.is_empty() { String::new() } else { format!("  \"{}\"", rule.said.join("\", \"")) };
    let words = paint(&rule.words, rule.kills, style);
    format!("{:>3} {:>9}{moved}  {words}{said}", rule.number, packets)
}

fn paint(words: &str, kills: bool, style: Style) -> String {
    if kills && style.color { format!("\x1b[31m{words}\x1b[0m") } else { words.to_owned() }
}

/// Writes the way of a packet.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn journey(journey: &Journey, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let (paint, plain) = match (style.color, journey.verdict) {
        (false, _) => ("", ""),
        (_, Verdict::Passes) => ("\x1b[1;32m", "\x1b[0m"),
        (_, Verdict::Ends) => ("\x1b[1;31m", "\x1b[0m"),
        (_, Verdict::Unknown) => ("\x1b[1;33m", "\x1b[0m"),
    };
    let word = verdict_word(journey.verdict).to_uppercase();
    writeln!(out, "{paint}{word}{plain}: {}", sentence(journey))?;
    for (number, leg) in (1..).zip(&journey.legs) {
        of_leg(number, leg, style, out)?;
    }
    Ok(())
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passes => "passes",
        Verdict::Ends => "ends",
        Verdict::Unknown => "unknown",
    }
}

/// The packet and what becomes of it.
fn sentence(journey: &Journey) -> String {
    let request = &journey.request;
    let protocol = match request.protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => format!("protocol {other}"),
    };
    let port = match (request.protocol, request.port) {
        (6 | 17, Some(port)) => format!(" port {port}"),
        (6 | 17, None) => ", any port".to_owned(),
        _ => String::new(),
    };
    let packet =
        format!("the first packet from {} to {} ({protocol}{port})", request.from.name, request.to.name);
    match (journey.verdict, journey.legs.last()) {
        (Verdict::Passes, _) => format!("{packet} meets no rule that stops it"),
        (Verdict::Ends, Some(leg)) => {
            let how = leg.ends.first().map(|end| end.words.clone()).unwrap_or_default();
            let by = leg.ends.first().and_then(|end| leg.steps.get(end.step?));
            let by = by.map(|step| format!(" by {}", place(step))).unwrap_or_default();
            format!("{packet} is {how} on {}{by}", leg.node)
        }
        _ => format!("{packet} may be stopped, which depends on what is not known here"),
    }
}

fn place(step: &Step) -> String {
    let number = step.number.map_or("its policy".to_owned(), |number| format!("rule {number}"));
    let of = step.of.as_ref().map(|of| format!(" ({of})")).unwrap_or_default();
    format!("{number} of {}/{}{of}", step.table, step.chain)
}

fn of_leg(number: usize, leg: &Leg, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "\n{number}  {}, {}", leg.node, leg.what)?;
    let mut chain = String::new();
    for step in &leg.steps {
        let here = format!("{}/{}", step.table, step.chain);
        if here != chain {
            let of = step.of.as_ref().map(|of| format!("  ({of})")).unwrap_or_default();
            writeln!(out, "     {here}{of}")?;
            chain = here;
        }
        of_step(step, style, out)?;
    }
    for end in &leg.ends {
        let by = end.step.and_then(|step| leg.steps.get(step)).map(place);
        let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
        let sure = if leg.certain { "" } else { "perhaps " };
        writeln!(out, "     => {sure}{}{by}", end.words)?;
    }
    for doubt in &leg.doubts {
        writeln!(out, "     note: {doubt}")?;
    }
    Ok(())
}

fn of_step(step: &Step, style: Style, out: &mut dyn io::Write) -> io::Result<()> {
    let packets = step.packets.map_or("-".to_owned(), |packets| packets.to_string());
    let number = step.number.map_or("end".to_owned(), |number| number.to_string());
    let said =
        if step.said.is_empty() { String::new() } else { format!("  \"{}\"", step.said.join("\", \"")) };
    let open = if step.unknown.is_empty() {
        String::new()
    } else {
        format!("  [not known: {}]", step.unknown.join(", "))
    };
    let perhaps = if step.certain && step.unknown.is_empty() { ' ' } else { '?' };
    let words = paint(&step.words, step.ends, style);
    writeln!(out, "     {perhaps} {number:>4} {packets:>9}  {words}{said}{open}")
}

/// Writes an overview as JSON.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn overview_json(nodes: &[NodeRules], out: &mut dyn io::Write) -> io::Result<()> {
    let nodes: Vec<Value> = nodes.iter().map(node_json).collect();
    write(&json!({"schema": SCHEMA, "nodes": nodes}), out)
}

fn node_json(node: &NodeRules) -> Value {
    let rule = |rule: &RuleLine| {
        json!({"number": rule.number, "text": rule.text, "comments": rule.said, "packets": rule.packets,
               "moved": rule.moved, "drops": rule.kills})
    };
    let chain = |chain: &ChainRules| {
        json!({"name": chain.name, "hook": chain.hook,
               "policy": chain.policy.map(|policy| if policy == Policy::Drop { "drop" } else { "accept" }),
               "policy_packets": chain.policy_packets, "rules": chain.rules.iter().map(rule).collect::<Vec<_>>()})
    };
    let table = |table: &TableRules| {
        let groups = table.groups.iter().map(|group| {
            json!({"what": group.what, "n_rules": group.n_rules(), "chains": group.chains.iter().map(chain).collect::<Vec<_>>()})
        });
        json!({"name": table.name, "complete": table.complete, "groups": groups.collect::<Vec<_>>()})
    };
    let text = |text: &TextRules| {
        let odd = text
            .not_understood
            .iter()
            .map(|(line, why, whole)| json!({"line": line, "why": why, "text": whole}));
        let partly = text.partly.iter().map(|(chain, rule)| json!({"chain": chain, "text": rule}));
        json!({"name": text.name, "n_rules": text.n_rules, "warnings": text.warnings,
               "tables": text.tables.iter().map(table).collect::<Vec<_>>(),
               "not_understood": odd.collect::<Vec<_>>(), "not_evaluated": partly.collect::<Vec<_>>()})
    };
    let sets = node.sets.iter().map(|(name, count)| json!({"name": name, "members": count}));
    json!({"node": node.node, "texts": node.texts.iter().map(text).collect::<Vec<_>>(),
           "sets": sets.collect::<Vec<_>>(), "unread": node.unread})
}

/// Writes a packet's way as JSON.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn journey_json(journey: &Journey, out: &mut dyn io::Write) -> io::Result<()> {
    let step = |step: &Step| {
        json!({"text": step.text, "table": step.table, "chain": step.chain, "of": step.of, "number": step.number,
               "rule": step.words, "comments": step.said, "packets": step.packets, "unknown": step.unknown,
               "certain": step.certain, "ends": step.ends})
    };
    let leg = |leg: &Leg| {
        let ends = leg.ends.iter().map(|end| json!({"what": end.what, "how": end.words, "step": end.step}));
        json!({"node": leg.node, "what": leg.what, "certain": leg.certain, "doubts": leg.doubts,
               "steps": leg.steps.iter().map(step).collect::<Vec<_>>(), "ends": ends.collect::<Vec<_>>()})
    };
    let request = &journey.request;
    let report = json!({
        "schema": SCHEMA,
        "from": {"name": request.from.name, "address": request.from.address, "node": request.from.node},
        "to": {"name": request.to.name, "address": request.dst, "node": request.to.node},
        "protocol": request.protocol,
        "port": request.port,
        "verdict": verdict_word(journey.verdict),
        "legs": journey.legs.iter().map(leg).collect::<Vec<_>>(),
    });
    write(&report, out)
}

fn write(report: &impl Serialize, out: &mut dyn io::Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}
