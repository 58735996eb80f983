//! The rules of nodes made readable: what each chain is there for, whose it is, and which rules count. Takes the texts of
//! nodes and, where it is known, the cluster; accounts for every line: a rule in a group, or not understood and listed
//! as it stood. The way of one packet through two nodes is in [`journey`].

pub mod journey;

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

use crate::evidence::calico::{self, ChainKind, PolicyName};
use crate::evidence::cluster::{Cluster, Pod};
use crate::evidence::netfilter::{Chain, Filters, Moved, Policy, Rule, Ruleset, Sets, Table, Target, delta};
use crate::evidence::{Known, Texts, When};

/// One node's rules.
#[derive(Debug, Clone)]
pub struct NodeRules {
    /// Node.
    pub node: String,
    /// By text.
    pub texts: Vec<TextRules>,
    /// Sets of ipset with the number of their members, by name.
    pub sets: Vec<(String, u32)>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// One text.
#[derive(Debug, Clone)]
pub struct TextRules {
    /// The program.
    pub name: String,
    /// What it warned of.
    pub warnings: Vec<String>,
    /// How many rules it holds.
    pub n_rules: usize,
    /// Tables.
    pub tables: Vec<TableRules>,
    /// Lines that made no sense: number, why, and the line itself.
    pub not_understood: Vec<(usize, String, String)>,
    /// Rules with parts that cannot be evaluated for a packet: their chain and text.
    pub partly: Vec<(String, String)>,
}

/// One table.
#[derive(Debug, Clone)]
pub struct TableRules {
    /// Name; with its family before it for one of nftables.
    pub name: String,
    /// False when the text ends inside it.
    pub complete: bool,
    /// Chains by what they are there for.
    pub groups: Vec<Group>,
}

/// Chains that are there for the same.
#[derive(Debug, Clone)]
pub struct Group {
    /// For what, as a heading.
    pub what: String,
    /// The chains.
    pub chains: Vec<ChainRules>,
}

/// One chain.
#[derive(Debug, Clone)]
pub struct ChainRules {
    /// Name.
    pub name: String,
    /// Hook and priority of a base chain, in words.
    pub hook: Option<String>,
    /// Policy of a base chain.
    pub policy: Option<Policy>,
    /// Packets that met the policy.
    pub policy_packets: u64,
    /// Its rules.
    pub rules: Vec<RuleLine>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct RuleLine {
    /// Place in its chain, from 1.
    pub number: usize,
    /// The whole text.
    pub text: String,
    /// What it asks for and does.
    pub words: String,
    /// What its writer said of it.
    pub said: Vec<String>,
    /// Counted so far; none without a counter.
    pub packets: Option<u64>,
    /// Counted between two readings.
    pub moved: Option<u64>,
    /// It drops or rejects.
    pub kills: bool,
}

impl Group {
    /// How many rules all its chains have.
    pub fn n_rules(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules.len()).sum()
    }
}

/// The rules of the nodes that texts are there of, in their order.
pub fn overview(texts: &Texts, cluster: Option<&Cluster>, only: Option<&str>) -> Vec<NodeRules> {
    let mut nodes: Vec<&str> = Vec::new();
    for text in &texts.0 {
        if !nodes.contains(&text.node.as_str()) && only.is_none_or(|only| only == text.node) {
            nodes.push(&text.node);
        }
    }
    nodes.into_iter().map(|node| of_node(texts, cluster, node)).collect()
}

fn of_node(texts: &Texts, cluster: Option<&Cluster>, node: &str) -> NodeRules {
    let newest = Filters::read(texts, node, "", None);
    let before = Filters::read(texts, node, "", Some(When::Before));
    let twice = texts.0.iter().any(|text| text.node == node && text.when == When::After);
    let names = Names::new(cluster);
    let by_text = newest.rulesets.iter().map(|(name, ruleset)| {
        let earlier = before.rulesets.iter().find(|(own, _)| own == name).filter(|_| twice);
        let moved = earlier.map(|(_, earlier)| delta(earlier, ruleset));
        let text = texts.newest(node, name).and_then(|text| match &text.content {
            Known::Read(text) => Some(text.as_str()),
            _ => None,
        });
        of_text(name, ruleset, moved.as_deref(), text.unwrap_or_default(), &names)
    });
    let mut sets: Vec<(String, u32)> = newest.sets.iter().flat_map(Sets::sizes).collect();
    sets.sort();
    let unread = newest.unreadable.iter().map(|(_, why)| why.clone()).collect();
    NodeRules { node: node.to_owned(), texts: by_text.collect(), sets, unread }
}

fn of_text(
    name: &str,
    ruleset: &Ruleset,
    moved: Option<&[Moved]>,
    text: &str,
    names: &Names<'_>,
) -> TextRules {
    let lines: Vec<&str> = text.lines().collect();
    let odd = ruleset.not_understood.iter().map(|(line, why)| {
        let whole = lines.get(line - 1).copied().unwrap_or_default();
        // A document of nftables is one line, however long.
        (*line, why.clone(), whole.chars().take(LONGEST).collect())
    });
    let mut partly = Vec::new();
    for chain in ruleset.tables.iter().flat_map(|table| &table.chains) {
        for rule in chain.rules.iter().filter(|rule| rule.has_unknown_parts()) {
            partly.push((chain.name.clone(), rule.text.clone()));
        }
    }
    TextRules {
        name: name.to_owned(),
        warnings: ruleset.warnings.clone(),
        n_rules: ruleset.n_rules(),
        tables: ruleset
            .tables
            .iter()
            .enumerate()
            .map(|(at, table)| of_table(at, table, moved, names))
            .collect(),
        not_understood: odd.collect(),
        partly,
    }
}

/// So much of a line is shown.
const LONGEST: usize = 400;

fn of_table(at: usize, table: &Table, moved: Option<&[Moved]>, names: &Names<'_>) -> TableRules {
    let mut groups: BTreeMap<(u8, String), Vec<ChainRules>> = BTreeMap::new();
    let moved: Option<HashMap<(usize, usize), u64>> = moved.map(|moved| {
        let here = moved.iter().filter(|one| one.at.0 == at && one.rule.is_some());
        here.map(|one| ((one.at.1, one.index), one.packets)).collect()
    });
    for (number, chain) in table.chains.iter().enumerate() {
        let by_rule = |index| Some(moved.as_ref()?.get(&(number, index)).copied().unwrap_or_default());
        let rules = chain.rules.iter().enumerate().map(|(index, rule)| line(index, rule, by_rule(index)));
        let hook = chain.hook.as_ref().map(|hook| format!("{} at {}", hook.point.word(), hook.priority));
        groups.entry(names.group(table, chain)).or_default().push(ChainRules {
            name: chain.name.clone(),
            hook,
            policy: chain.policy,
            policy_packets: chain.counters.packets,
            rules: rules.collect(),
        });
    }
    let family = table.family.as_ref().map(|family| format!("{family} ")).unwrap_or_default();
    TableRules {
        name: format!("{family}{}", table.name),
        complete: table.complete,
        groups: groups.into_iter().map(|((_, what), chains)| Group { what, chains }).collect(),
    }
}

fn line(index: usize, rule: &Rule, moved: Option<u64>) -> RuleLine {
    RuleLine {
        number: index + 1,
        text: rule.text.clone(),
        words: rule.words(),
        said: rule.said().map(str::to_owned).collect(),
        packets: rule.counters.map(|counters| counters.packets),
        moved: moved.filter(|_| rule.counters.is_some()),
        kills: matches!(rule.target, Target::Drop | Target::Reject(_)),
    }
}

/// Names out of the cluster: whose interface, which policy.
pub(crate) struct Names<'c> {
    cluster: Option<&'c Cluster>,
    policies: Vec<PolicyName>,
    /// Pods by their host interface, once one is asked for.
    pods: OnceCell<HashMap<String, &'c Pod>>,
}

impl<'c> Names<'c> {
    pub(crate) fn new(cluster: Option<&'c Cluster>) -> Self {
        let all = cluster.map(|cluster| cluster.policies.as_slice()).unwrap_or_default();
        Self { cluster, policies: all.iter().filter_map(PolicyName::of).collect(), pods: OnceCell::new() }
    }

    /// The pod behind a host interface.
    fn pod(&self, interface: &str) -> Option<String> {
        let cluster = self.cluster?;
        let by_veth = || {
            let pods = cluster.pods.iter();
            pods.map(|pod| (pod.veth(), pod)).collect()
        };
        let own = self.pods.get_or_init(by_veth).get(interface)?;
        Some(format!("{}/{}", own.namespace, own.name))
    }

    /// The policy or profile that a chain holds, in words.
    pub(crate) fn policy(&self, chain: &Chain) -> Option<String> {
        let first = chain.rules.first().map(|rule| rule.comments.as_slice()).unwrap_or_default();
        let policy = calico::policy_of_chain(&chain.name, first, &self.policies)?;
        let namespace = policy.namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        Some(format!("{} {namespace}{}", policy.kind.word(), policy.name))
    }

    /// Whose chain it is, in words; `None` for one that says it by its name.
    pub(super) fn of(&self, chain: &Chain) -> Option<String> {
        match calico::chain_kind(&chain.name)? {
            ChainKind::Workload { interface, to_pod } => {
                let pod = self.pod(&interface).unwrap_or_else(|| format!("the pod behind {interface}"));
                Some(format!("{} {pod}", if to_pod { "to" } else { "from" }))
            }
            ChainKind::Policy => self.policy(chain),
            _ => None,
        }
    }

    /// Heading and rank of the group that a chain belongs to.
    fn group(&self, table: &Table, chain: &Chain) -> (u8, String) {
        if chain.hook.is_some() {
            return (0, "hooks".to_owned());
        }
        let kube = chain.name.starts_with("KUBE-") || table.name == "kube-proxy";
        match calico::chain_kind(&chain.name) {
            Some(ChainKind::Static) => (1, "Calico, the same for all".to_owned()),
            Some(ChainKind::Dispatch) => (2, "Calico, dispatch by interface".to_owned()),
            Some(ChainKind::Workload { interface, .. }) => {
                let pod = self.pod(&interface).unwrap_or_else(|| format!("unknown, behind {interface}"));
                (3, format!("Calico, pod {pod}"))
            }
            Some(ChainKind::HostEndpoint) => (4, "Calico, host endpoints".to_owned()),
            Some(ChainKind::Policy) => match self.policy(chain) {
                Some(policy) => (5, format!("Calico, {policy}")),
                None => (6, "Calico, policies whose names are not known".to_owned()),
            },
            None if kube => (7, "kube-proxy and kubelet".to_owned()),
            None => (8, "others".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
