//! Which counters moved between two texts of the same node.
//!
//! A rule is the same rule when table, chain and text agree, and among equal texts the occurrence: numbers shift
//! when a rule is put in before others. Rules that stand in one text only count from zero when new and are left
//! out when gone.

use std::collections::HashMap;

use super::{Counters, Policy, Rule, Ruleset};

/// A rule or a chain's policy whose counter moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Table.
    pub table: String,
    /// Chain.
    pub chain: String,
    /// Numbers of the table and of the chain in the later text.
    pub at: (usize, usize),
    /// The rule; `None` for the chain's policy.
    pub rule: Option<Rule>,
    /// The policy of the chain, if it has one.
    pub policy: Option<Policy>,
    /// Place of the rule in the later text; the number of rules for a policy.
    pub index: usize,
    /// By how many packets.
    pub packets: u64,
    /// By how many bytes.
    pub bytes: u64,
    /// The counter was lower after than before: the chain was rewritten in between and the numbers count from then.
    pub restarted: bool,
}

/// The counters of `after` that differ from those of `before`, in the order of `after`.
pub fn delta(before: &Ruleset, after: &Ruleset) -> Vec<Moved> {
    let earlier = counters_by_rule(before);
    let mut moved = Vec::new();
    for (table_at, table) in after.tables.iter().enumerate() {
        for (chain_at, chain) in table.chains.iter().enumerate() {
            let mut seen: HashMap<&str, usize> = HashMap::new();
            for (index, rule) in chain.rules.iter().enumerate() {
                let occurrence = seen.entry(&rule.text).and_modify(|n| *n += 1).or_insert(0);
                let key =
                    (&*table.name, table.family.as_deref(), &*chain.name, Some((&*rule.text, *occurrence)));
                let Some(now) = rule.counters else { continue };
                if let Some((counters, restarted)) = difference(earlier.get(&key), now) {
                    moved.push(Moved {
                        table: table.name.clone(),
                        chain: chain.name.clone(),
                        at: (table_at, chain_at),
                        rule: Some(rule.clone()),
                        policy: chain.policy,
                        index,
                        packets: counters.packets,
                        bytes: counters.bytes,
                        restarted,
                    });
                }
            }
            let key = (&*table.name, table.family.as_deref(), &*chain.name, None);
            if let Some((counters, restarted)) = difference(earlier.get(&key), chain.counters) {
                moved.push(Moved {
                    table: table.name.clone(),
                    chain: chain.name.clone(),
                    at: (table_at, chain_at),
                    rule: None,
                    policy: chain.policy,
                    index: chain.rules.len(),
                    packets: counters.packets,
                    bytes: counters.bytes,
                    restarted,
                });
            }
        }
    }
    moved
}

/// Table and its family, chain, and the rule's text with its occurrence (`None`: the policy).
type Key<'a> = (&'a str, Option<&'a str>, &'a str, Option<(&'a str, usize)>);

fn counters_by_rule(ruleset: &Ruleset) -> HashMap<Key<'_>, Counters> {
    let mut known = HashMap::new();
    for table in &ruleset.tables {
        for chain in &table.chains {
            let mut seen: HashMap<&str, usize> = HashMap::new();
            for rule in &chain.rules {
                let occurrence = seen.entry(&rule.text).and_modify(|n| *n += 1).or_insert(0);
                let key: Key<'_> =
                    (&table.name, table.family.as_deref(), &chain.name, Some((&rule.text, *occurrence)));
                if let Some(counters) = rule.counters {
                    known.insert(key, counters);
                }
            }
            known.insert((&table.name, table.family.as_deref(), &chain.name, None), chain.counters);
        }
    }
    known
}

/// How far a counter went and whether it began anew; nothing when it stood still.
fn difference(before: Option<&Counters>, after: Counters) -> Option<(Counters, bool)> {
    let before = before.copied().unwrap_or_default();
    let restarted = after.packets < before.packets || after.bytes < before.bytes;
    let by = if restarted {
        after
    } else {
        Counters { packets: after.packets - before.packets, bytes: after.bytes - before.bytes }
    };
    (restarted || by != Counters::default()).then_some((by, restarted))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn text(rules: &[(&str, u64, u64)], policy: u64) -> Ruleset {
        let mut text = format!("*filter\n:FORWARD DROP [{policy}:{}]\n", policy * 60);
        for (rule, packets, bytes) in rules {
            writeln!(text, "[{packets}:{bytes}] -A FORWARD {rule}").unwrap();
        }
        Ruleset::parse(&(text + "COMMIT\n"))
    }

    #[test]
    fn equal_texts_are_told_apart_by_occurrence_and_shifts_do_no_harm() {
        let before = text(&[("-j DROP", 1, 60), ("-j DROP", 5, 300)], 2);
        let after = text(&[("-i eth9 -j DROP", 0, 0), ("-j DROP", 1, 60), ("-j DROP", 8, 480)], 4);
        let moved = delta(&before, &after);
        assert_eq!(moved.len(), 2);
        assert_eq!((moved[0].index, moved[0].packets, moved[0].bytes), (2, 3, 180));
        assert_eq!((moved[1].rule.is_none(), moved[1].policy), (true, Some(Policy::Drop)));
        assert_eq!((moved[1].packets, moved[1].restarted), (2, false));
    }

    #[test]
    fn a_lower_counter_began_anew() {
        let moved = delta(&text(&[("-j DROP", 9, 900)], 0), &text(&[("-j DROP", 4, 400)], 0));
        assert_eq!((moved[0].packets, moved[0].bytes, moved[0].restarted), (4, 400, true));
        let cleared = delta(&text(&[("-j DROP", 9, 900)], 0), &text(&[("-j DROP", 0, 0)], 0));
        assert_eq!((cleared[0].packets, cleared[0].restarted), (0, true));
    }

    #[test]
    fn a_new_rule_counts_from_zero_and_a_lost_one_is_left_out() {
        let moved = delta(&text(&[("-i a -j DROP", 9, 900)], 0), &text(&[("-i b -j DROP", 4, 400)], 0));
        assert_eq!(moved.len(), 1);
        assert_eq!((moved[0].packets, moved[0].restarted), (4, false));
    }
}
