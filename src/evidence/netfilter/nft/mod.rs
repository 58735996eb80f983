//! nftables' own tables, as `nft -j list ruleset` or `nft -j list table` prints them (libnftables-json(5)), into the same
//! model as iptables' rules.
//!
//! In: one JSON document a line, whole or cut off. Out: tables with their base chains' hooks and priorities, sets, maps,
//! and rules in order. An expression that is not known is kept as a match that cannot be evaluated, so that no rule
//! looks wider than it is; a document or an object that makes no sense is listed as not understood.

mod expression;
mod words;

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use expression::Kind;

use super::sets::{Members, VerdictMap};
use super::{Chain, Hook, HookPoint, Policy, Rule, Ruleset, Table};

impl Ruleset {
    /// Reads what nft printed. Cannot fail; what made no sense is in [`not_understood`](Self::not_understood), with the
    /// number of its line.
    #[must_use]
    pub fn parse_nft(text: &str) -> Self {
        let mut reader = Reader::default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let document: Value = match serde_json::from_str(line) {
                Ok(document) => document,
                Err(error) => {
                    reader.ruleset.not_understood.push((index + 1, error.to_string()));
                    continue;
                }
            };
            let Some(entries) = document["nftables"].as_array() else {
                reader.ruleset.not_understood.push((index + 1, "no output of `nft -j`".to_owned()));
                continue;
            };
            // Sets and maps are printed before the rules that name them, chains before theirs.
            for entry in entries {
                if let Err(why) = reader.entry(entry) {
                    reader.ruleset.not_understood.push((index + 1, why));
                }
            }
        }
        reader.ruleset
    }
}

#[derive(Default)]
struct Reader {
    ruleset: Ruleset,
    /// Where tables stand, by family and name.
    tables: HashMap<(String, String), usize>,
    /// Tables that nothing passes: their chains have no hooks.
    dormant: HashSet<usize>,
    /// Where chains stand in the table of that number.
    chains: HashMap<(usize, String), usize>,
}

impl Reader {
    fn entry(&mut self, entry: &Value) -> Result<(), String> {
        let (kind, body) =
            entry.as_object().and_then(|entry| entry.iter().next()).ok_or("an empty object")?;
        match kind.as_str() {
            "table" => {
                let table = self.table(&word(body, "family"), &word(body, "name"));
                // nft 1.0.6 prints the table's name instead: what it has is not known then.
                if names(&body["flags"]).iter().any(|flag| flag == "dormant") {
                    self.dormant.insert(table);
                }
                Ok(())
            }
            "chain" => self.chain(body),
            "rule" => self.rule(body),
            "set" | "map" => self.set(kind == "map", body),
            "element" => self.element(body),
            // Nothing that decides on packets by itself: counters, quotas, helpers, flowtables.
            _ => Ok(()),
        }
    }

    fn table(&mut self, family: &str, name: &str) -> usize {
        let tables = &mut self.ruleset.tables;
        *self.tables.entry((family.to_owned(), name.to_owned())).or_insert_with(|| {
            tables.push(Table {
                name: name.to_owned(),
                family: Some(family.to_owned()),
                complete: true,
                ..Table::default()
            });
            tables.len() - 1
        })
    }

    /// The table that a chain, rule or set belongs to.
    fn table_of(&mut self, body: &Value) -> Result<usize, String> {
        let (family, name) = (word(body, "family"), word(body, "table"));
        if family.is_empty() || name.is_empty() {
            return Err("an object without a table".to_owned());
        }
        Ok(self.table(&family, &name))
    }

    fn chain_at(&mut self, table: usize, name: &str) -> &mut Chain {
        let chains = &mut self.ruleset.tables[table].chains;
        let at = *self.chains.entry((table, name.to_owned())).or_insert_with(|| {
            chains.push(Chain { name: name.to_owned(), ..Chain::default() });
            chains.len() - 1
        });
        &mut chains[at]
    }

    fn chain(&mut self, body: &Value) -> Result<(), String> {
        let table = self.table_of(body)?;
        let name = word(body, "name");
        if name.is_empty() {
            return Err("a chain without a name".to_owned());
        }
        let hook = match body["hook"].as_str().filter(|_| !self.dormant.contains(&table)) {
            None => None,
            Some(hook) => Some(Hook {
                point: HookPoint::of_word(hook)
                    .ok_or_else(|| format!("{hook:?} is no hook that is known here"))?,
                priority: body["prio"].as_i64().and_then(|prio| prio.try_into().ok()).unwrap_or(0),
                nat: body["type"] == "nat",
                devices: names(&body["dev"]),
            }),
        };
        let policy = match (body["policy"].as_str(), &hook) {
            (Some("drop"), _) => Some(Policy::Drop),
            (Some(_), _) | (None, Some(_)) => Some(Policy::Accept),
            (None, None) => None,
        };
        let chain = self.chain_at(table, &name);
        (chain.hook, chain.policy) = (hook, policy);
        Ok(())
    }

    fn rule(&mut self, body: &Value) -> Result<(), String> {
        let table = self.table_of(body)?;
        let name = word(body, "chain");
        let parts = body["expr"].as_array().ok_or_else(|| format!("a rule of {name} without its parts"))?;
        let read = expression::read(parts, &mut self.ruleset.tables[table]);
        let comments = body["comment"].as_str().map(comments).unwrap_or_default();
        let rule = Rule {
            text: words::rule(parts),
            counters: read.counters,
            comments,
            matches: read.matches,
            before: read.before,
            target: read.target,
        };
        self.chain_at(table, &name).rules.push(rule);
        Ok(())
    }

    fn set(&mut self, is_map: bool, body: &Value) -> Result<(), String> {
        let table = self.table_of(body)?;
        let name = word(body, "name");
        let elements = body["elem"].as_array().map(Vec::as_slice).unwrap_or_default();
        let kinds = Kind::of_types(&body["type"]);
        let table = &mut self.ruleset.tables[table];
        if is_map && body["map"] == "verdict" {
            let map = expression::map_of(elements, &kinds);
            table.maps.insert(name, map);
        } else if is_map {
            // A map to addresses or marks: what it gives is not followed.
            table.maps.insert(name, VerdictMap::default());
        } else {
            let mut members = expression::members_of(elements, &kinds);
            // The packet path itself adds and takes away members.
            if names(&body["flags"]).iter().any(|flag| flag == "dynamic" || flag == "timeout") {
                members.leave_out();
            }
            table.sets.put(name, members);
        }
        Ok(())
    }

    /// Elements that are printed apart from their set.
    fn element(&mut self, body: &Value) -> Result<(), String> {
        let table = self.table_of(body)?;
        let mut members = Members::default();
        members.leave_out();
        self.ruleset.tables[table].sets.put(word(body, "name"), members);
        Err(format!("elements of {} apart from it", word(body, "name")))
    }
}

fn word(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// One word or several.
fn names(value: &Value) -> Vec<String> {
    match value {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// Calico puts what are several comments of an iptables rule into one: `cali:<hash>; <text>`.
fn comments(comment: &str) -> Vec<String> {
    match comment.split_once(';') {
        Some((hash, text)) if hash.starts_with("cali:") => {
            let text = text.trim();
            let mut comments = vec![hash.to_owned()];
            if !text.is_empty() {
                comments.push(text.to_owned());
            }
            comments
        }
        _ => vec![comment.to_owned()],
    }
}

#[cfg(test)]
mod tests;
