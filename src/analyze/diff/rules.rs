//! The rules of one node in both cases: chain by chain what came and went, under the name of the policy; members of sets; rules that
//! drop and counted in one of the two only. Texts are compared without Calico's hashes, which change with every rule
//! before them, and without counters.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::alike::{Alike, When};
use super::{Area, Diff, Side};
use crate::analyze::rules::Names;
use crate::evidence::netfilter::{Chain, Filters, Policy, Rule, Ruleset, Sets, Table, Target, delta};
use crate::evidence::texts::When as Time;

/// Both cases' rules of one place.
struct Pair<'p> {
    node: &'p str,
    alike: &'p Alike,
    names: [Names<'p>; 2],
}

pub(super) fn compare(before: Side<'_>, after: Side<'_>, node: &str, alike: &Alike, diff: &mut Diff) {
    let pair = Pair { node, alike, names: [Names::new(before.cluster), Names::new(after.cluster)] };
    for inside in ["", "pod:", "pod2:"] {
        let read = |side: Side<'_>, time| Filters::read(side.texts, node, inside, time);
        let (was, is) = (read(before, None), read(after, None));
        let named = |filters: &Filters| {
            filters.rulesets.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
        };
        let (had, has) = (named(&was), named(&is));
        for name in had.symmetric_difference(&has) {
            let which = if has.contains(name) { "after" } else { "before" };
            let rules = if has.contains(name) { &is } else { &was };
            // A variant of iptables that holds nothing may not have been printed.
            if rules.rulesets.iter().any(|(own, rules)| own == name && rules.n_rules() > 0) {
                diff.notes.push(format!("{name} of {node} was read {which} only: it is not compared"));
            }
        }
        for (name, was) in &was.rulesets {
            if let Some((_, is)) = is.rulesets.iter().find(|(own, _)| own == name) {
                pair.tables(name, was, is, diff);
            }
        }
        let twice = |side: Side<'_>| (read(side, Some(Time::Before)), read(side, Some(Time::After)));
        pair.counted(&twice(before), &twice(after), diff);
    }
    let sets =
        |side: Side<'_>| side.texts.newest(node, "ipset").and_then(|text| text.content.read()).cloned();
    match (sets(before), sets(after)) {
        (Some(was), Some(is)) => pair.sets(&was, &is, diff),
        (None, None) => {}
        _ => diff.notes.push(format!("ipset of {node} was read in one of the two only: it is not compared")),
    }
}

impl Pair<'_> {
    fn tables(&self, ruleset: &str, was: &Ruleset, is: &Ruleset, diff: &mut Diff) {
        let key = |table: &Table| (table.family.clone(), table.name.clone());
        let mut keys: Vec<_> = was.tables.iter().chain(&is.tables).map(key).collect();
        keys.sort();
        keys.dedup();
        let nothing = Table::default();
        for own in keys {
            let find = |rules: &'_ Ruleset| rules.tables.iter().position(|table| key(table) == own);
            let (was, is) = (find(was).map(|at| &was.tables[at]), find(is).map(|at| &is.tables[at]));
            let family = own.0.as_ref().map(|family| format!("{family} ")).unwrap_or_default();
            let v6 = if ruleset.contains("ip6tables") { "IPv6 " } else { "" };
            let inside = if ruleset.starts_with("pod") { "in the pod, " } else { "" };
            let title = format!("{inside}{v6}{family}{}", own.1);
            self.chains(&title, was.unwrap_or(&nothing), is.unwrap_or(&nothing), diff);
        }
    }

    fn chains(&self, title: &str, was: &Table, is: &Table, diff: &mut Diff) {
        let by_name = |table: &'_ Table, when| -> BTreeMap<String, usize> {
            let chains = table.chains.iter().enumerate();
            chains.map(|(at, chain)| (self.alike.plain(&chain.name, when), at)).collect()
        };
        let (had, has) = (by_name(was, When::Before), by_name(is, When::After));
        for name in had.keys().chain(has.keys().filter(|name| !had.contains_key(*name))) {
            match (had.get(name).map(|at| &was.chains[*at]), has.get(name).map(|at| &is.chains[*at])) {
                (Some(was), Some(is)) => self.chain(title, was, is, diff),
                (Some(gone), None) => {
                    let words = Some(whole(gone));
                    diff.push(
                        Some(self.node),
                        Area::Rule,
                        self.chain_bears(gone, When::Before),
                        (&self.subject(title, gone, 0), words, None),
                    );
                }
                (None, Some(come)) => {
                    let words = Some(whole(come));
                    diff.push(
                        Some(self.node),
                        Area::Rule,
                        self.chain_bears(come, When::After),
                        (&self.subject(title, come, 1), None, words),
                    );
                }
                (None, None) => {}
            }
        }
        let sizes = |table: &Table| table.sets.sizes().collect::<BTreeMap<String, u32>>();
        let (had, has) = (sizes(was), sizes(is));
        for (name, count) in &has {
            if let Some(before) = had.get(name).filter(|before| *before != count) {
                let words = |count: u32| Some(format!("{count} members"));
                diff.push(
                    Some(self.node),
                    Area::Set,
                    false,
                    (&format!("{title}, set {name}"), words(*before), words(*count)),
                );
            }
        }
    }

    fn chain_bears(&self, chain: &Chain, when: When) -> bool {
        self.alike.bears(&chain.name, when)
            || chain.rules.iter().any(|rule| self.alike.bears(&rule.text, when))
    }

    /// Table and chain, and whose it is.
    fn subject(&self, title: &str, chain: &Chain, side: usize) -> String {
        match self.names[side].of(chain) {
            Some(whose) => format!("{title}/{} ({whose})", chain.name),
            None => format!("{title}/{}", chain.name),
        }
    }

    fn chain(&self, title: &str, was: &Chain, is: &Chain, diff: &mut Diff) {
        let subject = self.subject(title, is, 1);
        if was.policy != is.policy {
            let words = |policy: Option<Policy>| {
                policy.map(|policy| if policy == Policy::Drop { "DROP" } else { "ACCEPT" }.to_owned())
            };
            diff.push(
                Some(self.node),
                Area::Rule,
                true,
                (&format!("policy of {subject}"), words(was.policy), words(is.policy)),
            );
        }
        let keys = |chain: &Chain, when| -> Vec<String> {
            chain.rules.iter().map(|rule| self.alike.plain(&words(rule), when)).collect()
        };
        let (had, has) = (keys(was, When::Before), keys(is, When::After));
        if had == has {
            return;
        }
        let (gone, come) = (beyond(&had, &has), beyond(&has, &had));
        if gone.is_empty() && come.is_empty() {
            let order = |keys: &[String]| Some(keys.join("; "));
            diff.push(
                Some(self.node),
                Area::Rule,
                true,
                (&format!("order of the rules of {subject}"), order(&had), order(&has)),
            );
            return;
        }
        let bears = |rule: &Rule, when| {
            let kills = matches!(rule.target, Target::Drop | Target::Reject(_));
            kills || self.alike.bears(&rule.text, when) || self.alike.bears(&is.name, When::After)
        };
        for at in gone {
            let rule = &was.rules[at];
            diff.push(
                Some(self.node),
                Area::Rule,
                bears(rule, When::Before),
                (&subject, Some(words(rule)), None),
            );
        }
        for at in come {
            let rule = &is.rules[at];
            diff.push(
                Some(self.node),
                Area::Rule,
                bears(rule, When::After),
                (&subject, None, Some(words(rule))),
            );
        }
    }

    /// Rules that drop, and counted while one case was captured and not while the other was.
    fn counted(&self, was: &(Filters, Filters), is: &(Filters, Filters), diff: &mut Diff) {
        let moved = |(first, last): &(Filters, Filters), when| -> BTreeMap<String, u64> {
            let mut all = BTreeMap::new();
            for (name, last) in &last.rulesets {
                let Some((_, first)) = first.rulesets.iter().find(|(own, _)| own == name) else { continue };
                for moved in delta(first, last) {
                    let what = match &moved.rule {
                        Some(rule) if matches!(rule.target, Target::Drop | Target::Reject(_)) => words(rule),
                        None if moved.policy == Some(Policy::Drop) => "policy DROP".to_owned(),
                        _ => continue,
                    };
                    let key = format!("{}/{}: {what}", moved.table, moved.chain);
                    *all.entry(self.alike.plain(&key, when)).or_default() += moved.packets;
                }
            }
            all
        };
        if [was, is].iter().any(|(first, last)| first.rulesets.is_empty() || last.rulesets.is_empty()) {
            return;
        }
        let (had, has) = (moved(was, When::Before), moved(is, When::After));
        grown(self.node, &had, &has, diff);
    }

    fn sets(&self, was: &str, is: &str, diff: &mut Diff) {
        let (had, has) = (Sets::as_text(was), Sets::as_text(is));
        let nothing = BTreeSet::new();
        let names: BTreeSet<&str> = had.keys().chain(has.keys()).copied().collect();
        // Felix fills a set under another name before it swaps the two.
        let temporary = |name: &str| name.starts_with("cali4t") || name.starts_with("cali6t");
        for name in names.into_iter().filter(|name| !temporary(name)) {
            let plain = |members: &BTreeSet<&str>, when| -> BTreeMap<String, String> {
                members.iter().map(|member| (self.alike.plain(member, when), (*member).to_owned())).collect()
            };
            let had = plain(had.get(name).unwrap_or(&nothing), When::Before);
            let has = plain(has.get(name).unwrap_or(&nothing), When::After);
            let gone: Vec<&str> =
                had.iter().filter(|(key, _)| !has.contains_key(*key)).map(|(_, own)| own.as_str()).collect();
            let come: Vec<&str> =
                has.iter().filter(|(key, _)| !had.contains_key(*key)).map(|(_, own)| own.as_str()).collect();
            let words = |members: &[&str]| (!members.is_empty()).then(|| some(members));
            if !gone.is_empty() || !come.is_empty() {
                let bears = gone.iter().any(|own| self.alike.bears(own, When::Before))
                    || come.iter().any(|own| self.alike.bears(own, When::After))
                    || name.ends_with("all-vxlan-net");
                diff.push(Some(self.node), Area::Set, bears, (name, words(&gone), words(&come)));
            }
        }
    }
}

/// Counters that grew in one case and stood still in the other.
pub(super) fn grown(node: &str, had: &BTreeMap<String, u64>, has: &BTreeMap<String, u64>, diff: &mut Diff) {
    let names: BTreeSet<&String> = had.keys().chain(has.keys()).collect();
    for name in names {
        let of = |all: &BTreeMap<String, u64>| all.get(name).copied().filter(|count| *count > 0);
        let words = |count: Option<u64>| {
            Some(count.map_or("stood still".to_owned(), |count| format!("grew by {count}")))
        };
        if of(had).is_some() != of(has).is_some() {
            diff.push(Some(node), Area::Counter, true, (name, words(of(had)), words(of(has))));
        }
    }
}

/// A chain as a whole: how many rules, and what they say if they are few.
fn whole(chain: &Chain) -> String {
    let rules: Vec<String> = chain.rules.iter().take(4).map(words).collect();
    let more = if chain.rules.len() > 4 { "; …" } else { "" };
    match chain.rules.len() {
        0 => "a chain without rules".to_owned(),
        1 => format!("a chain with one rule: {}", rules.join("; ")),
        n => format!("a chain with {n} rules: {}{more}", rules.join("; ")),
    }
}

/// What a rule asks for and does, with what its writer said of it.
fn words(rule: &Rule) -> String {
    let said: Vec<&str> = rule.said().collect();
    if said.is_empty() { rule.words() } else { format!("{} ({})", rule.words(), said.join("; ")) }
}

/// Members in words: all of a few.
fn some(members: &[&str]) -> String {
    let few = members.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    if members.len() > 8 { format!("{few} and {} more", members.len() - 8) } else { few }
}

/// Places of those that are in `one` more often than in `other`.
fn beyond(one: &[String], other: &[String]) -> Vec<usize> {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for key in other {
        *left.entry(key).or_default() += 1;
    }
    let extra = one.iter().enumerate().filter(|(_, key)| match left.get_mut(key.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    extra.map(|(at, _)| at).collect()
}
