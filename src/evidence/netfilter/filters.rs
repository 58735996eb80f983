//! All that was read of one host's packet filter, out of a case's texts: the rulesets of both iptables and of nftables, the
//! members of its sets, its addresses and routes.

use std::collections::{HashMap, HashSet};

use super::{Hook, Ruleset, Sets, Table, World};
use crate::evidence::host::{Host, STATE};
use crate::evidence::{Known, Texts, When};

/// One host's, or one pod's.
#[derive(Debug, Default)]
pub struct Filters {
    /// By the name of the text; those that hold nothing are left out.
    pub rulesets: Vec<(String, Ruleset)>,
    /// Of ipset.
    pub sets: Option<Sets>,
    /// State of its kernel.
    pub host: Option<Host>,
    /// Texts that were asked for and could not be had, by name, and why.
    pub unreadable: Vec<(String, String)>,
}

/// The save programs of one family: one kind of the two, or the one without a kind, is enough.
const KINDS: [&str; 3] = ["-nft", "-legacy", ""];
/// The text of nftables' own tables.
const NFT: &str = "nft";

/// What a text is, without the marks of where and when it was read.
fn kind(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, kind)| kind)
}

/// Whether a text says something of packets of that family: of iptables' two programs one does.
fn concerns(name: &str, v6: bool) -> bool {
    !kind(name).starts_with(if v6 { "iptables-" } else { "ip6tables-" })
}

/// Of a table that iptables and somebody else share, both iptables and nft print iptables' own chains: they are taken from
/// iptables.
fn leave_out_printed(table: &mut Table, saved: &[(String, Ruleset)]) {
    let tool = match table.family.as_deref() {
        Some("ip") => "iptables",
        Some("ip6") => "ip6tables",
        _ => return,
    };
    let of_tool = |name: &str| {
        let name = kind(name);
        name == format!("{tool}-nft-save") || name == format!("{tool}-save")
    };
    let tables = saved.iter().filter(|(name, _)| of_tool(name)).flat_map(|(_, rules)| &rules.tables);
    let mut printed: HashMap<&str, Vec<&Option<Hook>>> = HashMap::new();
    for chain in tables.filter(|own| own.name == table.name).flat_map(|own| &own.chains) {
        printed.entry(&chain.name).or_default().push(&chain.hook);
    }
    // A chain that hangs elsewhere than iptables' own of that name is another one.
    let alike = |one: &Option<Hook>, other: &Option<Hook>| match (one, other) {
        (Some(one), Some(other)) => {
            one.point == other.point && one.nat == other.nat && (one.nat || one.priority == other.priority)
        }
        (one, other) => one.is_none() && other.is_none(),
    };
    table.chains.retain(|chain| {
        !printed.get(chain.name.as_str()).into_iter().flatten().any(|own| alike(own, &chain.hook))
    });
}

impl Filters {
    /// From the texts of a node that were read at that time, or from the newest. `inside` is put before their names: empty
    /// for the node itself, `pod:` for a pod on it.
    pub fn read(texts: &Texts, node: &str, inside: &str, when: Option<When>) -> Self {
        let mut filters = Self::default();
        let mut text = |name: &str| {
            let name = format!("{inside}{name}");
            let found = match when {
                Some(when) => texts.find(node, &name, when),
                None => texts.newest(node, &name),
            };
            match found.map(|text| &text.content) {
                Some(Known::Read(text)) => Some((name, text.as_str())),
                Some(Known::Unreadable(why)) => {
                    filters.unreadable.push((name, why.clone()));
                    None
                }
                _ => None,
            }
        };
        let mut rulesets = Vec::new();
        for family in ["iptables", "ip6tables"] {
            let read = KINDS.into_iter().filter_map(|kind| text(&format!("{family}{kind}-save")));
            rulesets.extend(read.map(|(name, text)| (name, Ruleset::parse(text))));
        }
        if let Some((name, text)) = text(NFT) {
            let mut ruleset = Ruleset::parse_nft(text);
            for table in &mut ruleset.tables {
                leave_out_printed(table, &rulesets);
            }
            rulesets.push((name, ruleset));
        }
        let host = text(STATE).and_then(|(name, text)| {
            Host::parse(text).map_err(|why| filters.unreadable.push((name, why))).ok()
        });
        // Sets are read once, before the capture.
        let sets = texts.newest(node, &format!("{inside}ipset")).and_then(|text| text.content.read());
        filters.sets = sets.map(|text| Sets::parse(text));
        filters.host = host;
        filters.rulesets = rulesets;
        filters
    }

    /// Texts that say something of packets of one family and could not be had, by name, and why.
    pub fn unreadable(&self, v6: bool) -> impl Iterator<Item = (&str, &str)> {
        let all = self.unreadable.iter().map(|(name, why)| (name.as_str(), why.as_str()));
        all.filter(move |(name, _)| concerns(name, v6))
    }

    /// What decides on packets of one family.
    pub fn world(&self, v6: bool) -> World<'_> {
        let family = if v6 { "ip6tables" } else { "iptables" };
        let rulesets: Vec<_> = self
            .rulesets
            .iter()
            .filter(|(name, _)| concerns(name, v6))
            .map(|(name, rules)| (name.clone(), rules))
            .collect();
        let mut unread: Vec<String> = self.unreadable(v6).map(|(_, why)| why.to_owned()).collect();
        let has = |end: &str| rulesets.iter().any(|(name, _)| name.ends_with(end));
        if !has("-save") {
            unread.push(format!("no text of {family}-save"));
        }
        if !has(NFT) {
            unread.push("the tables of nftables were not read".to_owned());
        }
        let family = if v6 { "ip6" } else { "ip" };
        let of_nft: HashSet<&str> = rulesets
            .iter()
            .filter(|(name, _)| name.ends_with(NFT))
            .flat_map(|(_, rules)| &rules.tables)
            .filter(|table| table.family.as_deref() == Some(family))
            .map(|table| table.name.as_str())
            .collect();
        for (name, rules) in rulesets.iter().filter(|(name, _)| name.ends_with("-save")) {
            let others = rules.incompatible().filter(|table| !of_nft.contains(table));
            unread
                .extend(others.map(|table| {
                    format!("{name}: table {table} is not iptables', and nft did not print it")
                }));
        }
        World { rulesets, sets: self.sets.as_ref(), host: self.host.as_ref(), unread }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Text;

    #[test]
    fn what_could_not_be_read_of_one_family_leaves_nothing_open_in_the_other() {
        let saved = "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n".to_owned();
        let text = |name: &str, content| Text {
            node: "n".to_owned(),
            name: format!("pod:{name}"),
            when: When::After,
            content,
        };
        let texts = Texts(vec![
            text("iptables-nft-save", Known::Read(saved)),
            text("ip6tables-nft-save", Known::Unreadable("it is not installed".to_owned())),
            text("nft", Known::Read(String::new())),
            text("state", Known::Read("{".to_owned())),
        ]);
        let filters = Filters::read(&texts, "n", "pod:", None);
        let unread = |v6| filters.unreadable(v6).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(unread(false), ["pod:state"]);
        assert_eq!(unread(true), ["pod:ip6tables-nft-save", "pod:state"]);
        assert_eq!(filters.world(false).unread.len(), 1);
        let v6 = filters.world(true).unread;
        assert_eq!((v6[0].as_str(), v6[2].as_str()), ("it is not installed", "no text of ip6tables-save"));
        assert!(v6[1].starts_with("the recorded state makes no sense: "), "{v6:?}");
    }
}
