//! Which rules a packet may meet: walks from the hooks' chains through jumps whose matches do not exclude it. Matches
//! that cannot be decided from the packet alone (marks, sets, connection state) exclude nothing and are listed.

use std::net::IpAddr;

use super::matches::{Match, What};
use super::{Rule, Ruleset, Target};

/// What is known of the packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meets {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// Protocol number.
    pub protocol: Option<u8>,
    /// Source port.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
    /// Where it came in.
    pub in_interface: Option<String>,
    /// Where it goes out.
    pub out_interface: Option<String>,
}

/// Whether a rule's matches fit the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fits {
    /// All of them.
    Yes,
    /// None contradicts, but these cannot be decided.
    Unknown(Vec<String>),
    /// This one contradicts.
    No(String),
}

/// A rule that the packet may meet, or (without index) the policy at a built-in chain's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Table.
    pub table: String,
    /// Chain.
    pub chain: String,
    /// Position in the chain; None for the policy.
    pub index: Option<usize>,
    /// Whether the rule applies to the packet.
    pub fits: Fits,
}

/// Rules met in order, each chain once.
pub fn reach(ruleset: &Ruleset, hooks: &[(&str, &str)], meets: &Meets) -> Vec<Met> {
    let mut met = Vec::new();
    for (table, chain) in hooks {
        let mut visited = Vec::new();
        walk(ruleset, table, chain, meets, &mut visited, &mut met);
    }
    met
}

fn walk(
    ruleset: &Ruleset,
    table: &str,
    name: &str,
    meets: &Meets,
    visited: &mut Vec<String>,
    met: &mut Vec<Met>,
) {
    let Some(chain) = ruleset.chain(table, name) else { return };
    if visited.iter().any(|known| known == name) {
        return;
    }
    visited.push(name.to_owned());
    for (index, rule) in chain.rules.iter().enumerate() {
        let fits = fits(rule, meets);
        let enters = !matches!(fits, Fits::No(_));
        let place = Met { table: table.to_owned(), chain: name.to_owned(), index: Some(index), fits };
        met.push(place);
        if let (true, Target::Jump(to) | Target::Goto(to)) = (enters, &rule.target) {
            walk(ruleset, table, to, meets, visited, met);
        }
    }
    if chain.policy.is_some() {
        met.push(Met { table: table.to_owned(), chain: name.to_owned(), index: None, fits: Fits::Yes });
    }
}

fn fits(rule: &Rule, meets: &Meets) -> Fits {
    let mut unknown = Vec::new();
    for one in &rule.matches {
        match decide(&one.what, meets) {
            Some(holds) if holds == one.not => return Fits::No(words(one)),
            Some(_) => {}
            None => unknown.push(words(one)),
        }
    }
    if unknown.is_empty() { Fits::Yes } else { Fits::Unknown(unknown) }
}

/// Whether a match holds, not minding its `!`; None when the packet's known fields do not tell.
fn decide(what: &What, meets: &Meets) -> Option<bool> {
    let within = |ports: &[std::ops::RangeInclusive<u16>], port: Option<u16>| {
        port.map(|port| ports.iter().any(|range| range.contains(&port)))
    };
    let named = |pattern: &str, name: &Option<String>| {
        name.as_ref().map(|name| match pattern.strip_suffix('+') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        })
    };
    match what {
        What::Source(net) => meets.src.map(|address| net.contains(&address)),
        What::Destination(net) => meets.dst.map(|address| net.contains(&address)),
        What::In(pattern) => named(pattern, &meets.in_interface),
        What::Out(pattern) => named(pattern, &meets.out_interface),
        What::Protocol(number) => meets.protocol.map(|protocol| protocol == *number),
        What::SourcePorts(ports) => within(ports, meets.src_port),
        What::DestinationPorts(ports) => within(ports, meets.dst_port),
        What::Ports(ports) => Some(within(ports, meets.src_port)? || within(ports, meets.dst_port)?),
        What::State(_) | What::Set(..) | What::Mark(..) | What::Unknown(_) => None,
    }
}

fn words(one: &Match) -> String {
    let what = match &one.what {
        What::Source(net) => format!("source {net}"),
        What::Destination(net) => format!("destination {net}"),
        What::In(name) => format!("in {name}"),
        What::Out(name) => format!("out {name}"),
        What::Protocol(number) => format!("protocol {number}"),
        What::SourcePorts(_) => "source ports".to_owned(),
        What::DestinationPorts(_) => "destination ports".to_owned(),
        What::Ports(_) => "ports".to_owned(),
        What::State(states) => format!("connection state {}", states.join(",")),
        What::Set(name, dirs) => format!("set {name} {dirs}"),
        What::Mark(value, mask) => format!("mark {value:#x}/{mask:#x}"),
        What::Unknown(text) => text.clone(),
    };
    if one.not { format!("not {what}") } else { what }
}
