//! Excerpts of the nodes' texts, for who wants to see them beside a report: the rules whose counters moved, routes,
//! neighbours, forwarding databases. Takes a case and its texts; judges nothing, and leaves out what is too much.

use crate::evidence::host::{Host, MAIN};
use crate::evidence::netfilter::{Filters, Moved, delta};
use crate::evidence::{Case, Texts, When};

/// What one node, or the traced pod on it, said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Node.
    pub node: String,
    /// In which namespace, in words; empty for the node's own.
    pub inside: &'static str,
    /// What, in words.
    pub what: &'static str,
    /// The lines.
    pub lines: Vec<String>,
    /// Further ones that were left out.
    pub left_out: usize,
}

/// Lines of one kind.
const MOST_LINES: usize = 200;
/// Characters of one line.
const LONGEST: usize = 500;

/// Namespaces of a node: what stands before the names of their texts, and what they are called.
const INSIDE: [(&str, &str); 3] = [("", ""), ("pod:", "in the pod"), ("pod2:", "in the other pod")];

/// Of every node of the path.
pub fn excerpts(case: &Case, texts: &Texts) -> Vec<Excerpt> {
    let mut nodes: Vec<&str> = Vec::new();
    for point in &case.points {
        if !nodes.contains(&point.node.as_str()) {
            nodes.push(&point.node);
        }
    }
    let places = nodes.iter().flat_map(|node| INSIDE.map(|inside| (*node, inside)));
    places.flat_map(|(node, (prefix, inside))| of_place(texts, node, prefix, inside)).collect()
}

fn of_place(texts: &Texts, node: &str, prefix: &str, inside: &'static str) -> Vec<Excerpt> {
    let [before, after] =
        [When::Before, When::After].map(|when| Filters::read(texts, node, prefix, Some(when)));
    let mut all = Vec::new();
    let mut put = |what: &'static str, lines: Vec<String>| {
        let left_out = lines.len().saturating_sub(MOST_LINES);
        let lines: Vec<String> =
            lines.into_iter().take(MOST_LINES).map(|line| line.chars().take(LONGEST).collect()).collect();
        if !lines.is_empty() {
            let node = node.to_owned();
            all.push(Excerpt { node, inside, what, lines, left_out });
        }
    };
    let mut moved = Vec::new();
    for (name, rules) in &after.rulesets {
        if let Some((_, earlier)) = before.rulesets.iter().find(|(own, _)| own == name) {
            moved.extend(delta(earlier, rules).iter().map(|one| rule(name, one)));
        }
    }
    put("rules whose counters moved while capturing", moved);
    if let Some(host) = after.host.as_ref().or(before.host.as_ref()) {
        put("links", links(host));
        let routes = host.routes.iter().filter(|route| route.table <= MAIN);
        put("routes", routes.map(crate::evidence::host::HostRoute::words).collect());
        put("neighbours", neighbours(host));
        put("forwarding databases", fdb(host));
    }
    all
}

fn rule(text: &str, moved: &Moved) -> String {
    let place = format!("{text} {}/{}", moved.table, moved.chain);
    let words = match (&moved.rule, moved.policy) {
        (Some(rule), _) => format!("rule {}: {}", moved.index + 1, rule.text),
        (None, Some(policy)) => format!("policy {policy:?}"),
        (None, None) => "end of the chain".to_owned(),
    };
    format!("+{} packets, {} bytes: {place} {words}", moved.packets, moved.bytes)
}

fn links(host: &Host) -> Vec<String> {
    let all = host.links.iter().map(|link| {
        let kind = link.kind.as_deref().unwrap_or("card");
        let up = if link.up { "up" } else { "DOWN" };
        let carrier = if link.carrier { "" } else { ", no carrier" };
        let mac = link.mac.as_deref().unwrap_or("no address");
        format!("{}: {kind}, {up}{carrier}, mtu {}, {mac}", link.name, link.mtu)
    });
    all.collect()
}

fn neighbours(host: &Host) -> Vec<String> {
    let all = host.neighbours.iter().map(|entry| {
        let mac = entry.mac.as_deref().unwrap_or("no address");
        format!("{} dev {} {mac} {}", entry.address, entry.link, entry.state)
    });
    all.collect()
}

fn fdb(host: &Host) -> Vec<String> {
    let all = host.fdb.iter().map(|entry| {
        let dst = entry.dst.map(|dst| format!(" dst {dst}")).unwrap_or_default();
        format!("{} dev {}{dst} {}", entry.mac, entry.link, entry.state)
    });
    all.collect()
}
