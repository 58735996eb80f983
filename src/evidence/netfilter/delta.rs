//! What moved between two readings of one ruleset: rules and policies whose counters grew, matched by their text and
//! not by their number.

use std::collections::HashMap;

use super::{Chain, Counters, Policy, Rule, Ruleset};

/// A rule or a chain's policy whose counter moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Table.
    pub table: String,
    /// Chain.
    pub chain: String,
    /// Position in the chain, from 0; None for the policy.
    pub index: Option<usize>,
    /// The rule; None for the policy.
    pub rule: Option<Rule>,
    /// The policy, for built-in chains.
    pub policy: Option<Policy>,
    /// Packets more than before.
    pub packets: u64,
    /// Bytes more than before.
    pub bytes: u64,
    /// The chain was written anew in between (a backend of nft flushes a changed chain): only what it counted since
    /// is known.
    pub restarted: bool,
}

/// All that moved from `before` to `after`.
pub fn delta(before: &Ruleset, after: &Ruleset) -> Vec<Moved> {
    let mut moved = Vec::new();
    for table in &after.tables {
        for chain in &table.chains {
            let old = before.chain(&table.name, &chain.name);
            chain_delta(&table.name, chain, old, &mut moved);
        }
    }
    moved
}

fn chain_delta(table: &str, chain: &Chain, old: Option<&Chain>, moved: &mut Vec<Moved>) {
    let mut add = |index, rule: Option<&Rule>, then: Counters, now: Counters| {
        let restarted = now.packets < then.packets;
        let base = if restarted { Counters::default() } else { then };
        let packets = now.packets - base.packets;
        if packets > 0 {
            moved.push(Moved {
                table: table.to_owned(),
                chain: chain.name.clone(),
                index,
                rule: rule.cloned(),
                policy: chain.policy,
                packets,
                bytes: now.bytes.saturating_sub(base.bytes),
                restarted,
            });
        }
    };
    // Equal rules are told apart by their order.
    let mut known: HashMap<&str, Vec<Counters>> = HashMap::new();
    for rule in old.iter().flat_map(|old| &old.rules).rev() {
        known.entry(&rule.text).or_default().push(rule.counters.unwrap_or_default());
    }
    for (index, rule) in chain.rules.iter().enumerate() {
        let then = known.get_mut(rule.text.as_str()).and_then(Vec::pop).unwrap_or_default();
        add(Some(index), Some(rule), then, rule.counters.unwrap_or_default());
    }
    if chain.policy.is_some() {
        add(None, None, old.map(|old| old.counters).unwrap_or_default(), chain.counters);
    }
}
