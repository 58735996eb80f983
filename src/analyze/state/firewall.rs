//! Other hands in the packet filter: both backends of iptables in use, firewalld, ufw, Docker's FORWARD policy, rules that
//! drop before Calico's are reached. It says who is there; whether one packet is dropped is for the rules' own walk.

use std::collections::HashSet;

use super::Fault;
use super::checkup::{Checkup, Place};
use crate::evidence::StageKind;
use crate::evidence::netfilter::{Chain, Filters, HookPoint, Policy, Rule, Ruleset, Target};

/// One node's rules, as far as they were read.
pub(super) fn check(place: &Place<'_>, checkup: &mut Checkup) {
    let node = place.side.node;
    for family in ["iptables", "ip6tables"] {
        let read: Vec<(&str, Ruleset)> = ["nft", "legacy"]
            .into_iter()
            .filter_map(|variant| Some((variant, rules(place, &format!("{family}-{variant}-save"))?)))
            .collect();
        if read.len() == 2 {
            checkup.add(node, format!("one backend of {family} holds rules"), backends(place, family, &read));
        }
        let sets: Vec<Ruleset> = if read.is_empty() {
            rules(place, &format!("{family}-save")).into_iter().collect()
        } else {
            read.into_iter().map(|(_, ruleset)| ruleset).collect()
        };
        if !sets.is_empty() {
            let faults = sets.iter().flat_map(|ruleset| hands(place, family, ruleset)).collect();
            checkup.add(node, format!("no other firewall in {family}"), faults);
        }
    }
    let filters = Filters::read(place.ground.texts, node, "", None);
    if let Some((_, all)) = filters.rulesets.iter().find(|(name, _)| name == "nft") {
        checkup.add(node, "no other firewall in nftables", tables(place, all));
    }
}

fn text<'g>(place: &Place<'g>, name: &str) -> Option<&'g String> {
    place.ground.texts.newest(place.side.node, name)?.content.read()
}

fn rules(place: &Place<'_>, name: &str) -> Option<Ruleset> {
    text(place, name).map(|text| Ruleset::parse(text))
}

fn chains(ruleset: &Ruleset) -> impl Iterator<Item = (&str, &Chain)> {
    ruleset.tables.iter().flat_map(|table| table.chains.iter().map(|chain| (table.name.as_str(), chain)))
}

/// Rules in both variants: each sees all packets, and what one accepts the other may drop.
fn backends(place: &Place<'_>, family: &str, read: &[(&str, Ruleset)]) -> Vec<Fault> {
    let count = |ruleset: &Ruleset| chains(ruleset).map(|(_, chain)| chain.rules.len()).sum::<usize>();
    let counts: Vec<(&str, usize)> =
        read.iter().map(|(variant, ruleset)| (*variant, count(ruleset))).collect();
    if counts.iter().any(|(_, count)| *count == 0) {
        return Vec::new();
    }
    let calico: Vec<&str> = read
        .iter()
        .filter(|(_, ruleset)| {
            chains(ruleset).any(|(_, chain)| chain.name.starts_with("cali-") && !chain.rules.is_empty())
        })
        .map(|(variant, _)| *variant)
        .collect();
    let words = counts
        .iter()
        .map(|(variant, count)| format!("{count} rules in {family}-{variant}"))
        .collect::<Vec<_>>();
    let stale = calico.len() > 1;
    vec![Fault {
        breaks: false,
        summary: if stale {
            format!("Calico's rules are in both backends of {family} on {}: one of them is stale", place.side.node)
        } else {
            format!("both backends of {family} hold rules on {}", place.side.node)
        },
        remedy: "let all use one (FelixConfiguration iptablesBackend, kube-proxy, the host's firewall), remove what is left in the other".to_owned(),
        read: format!("{}; Calico's are in {}", words.join(", "), if calico.is_empty() { "neither".to_owned() } else { calico.join(" and ") }),
        expected: "rules in one: the kernel runs both, and what one accepts the other may drop".to_owned(),
        ..place.side.fault("host_firewall", StageKind::Forward, "iptables")
    }]
}

/// Firewalls that write iptables rules.
fn hands(place: &Place<'_>, family: &str, ruleset: &Ruleset) -> Vec<Fault> {
    let side = &place.side;
    let warn = |summary: String, read: String, remedy: &str| {
        Fault {
        breaks: false,
        summary,
        remedy: remedy.to_owned(),
        read,
        expected: "Calico's and kube-proxy's rules alone: another firewall does not know pods, and may drop their packets".to_owned(),
        ..side.fault("host_firewall", StageKind::Forward, "iptables")
    }
    };
    let builtin = || chains(ruleset).filter(|(_, chain)| chain.policy.is_some());
    let jumps = |prefix: &'static str| {
        builtin().find_map(|(_, chain)| {
            chain.rules.iter().find(|rule| jump(&rule.target).is_some_and(|to| to.starts_with(prefix)))
        })
    };
    let mut faults = Vec::new();
    for (firewall, prefixes) in [("ufw", ["ufw-", "ufw6-"]), ("firewalld", ["FWDI_", "FORWARD_direct"])] {
        if let Some(rule) = prefixes.into_iter().find_map(jumps) {
            faults.push(warn(
                format!("{firewall} is active on {}", side.node),
                format!("{family}: {}", rule.text),
                "turn it off on nodes, or let it pass the pods' addresses and the tunnel's port; Calico's HostEndpoints can do its work",
            ));
        }
    }
    let calico = |chain: &Chain| {
        chain.rules.iter().position(|rule| jump(&rule.target).is_some_and(|to| to.starts_with("cali-")))
    };
    if let Some(forward) =
        ruleset.chain("filter", "FORWARD").filter(|forward| forward.policy == Some(Policy::Drop))
    {
        let docker =
            if chains(ruleset).any(|(_, chain)| chain.name == "DOCKER") { " (Docker sets it)" } else { "" };
        let reached = calico(forward).is_some();
        let mut fault = warn(
            format!(
                "FORWARD drops on {} what no rule accepts{docker}{}",
                side.node,
                if reached { "" } else { ", and Calico's rules are not in it" }
            ),
            format!("{family}: -P FORWARD DROP"),
            "`iptables -P FORWARD ACCEPT`, and let Docker not set it (\"iptables\": false), or leave it to Calico's rules, which accept the pods' packets",
        );
        fault.breaks = !reached && chains(ruleset).any(|(_, chain)| chain.name.starts_with("cali-"));
        faults.push(fault);
    }
    for (table, chain) in builtin() {
        let first = calico(chain).unwrap_or(chain.rules.len());
        let before = chain.rules[..first]
            .iter()
            .filter(|rule| matches!(rule.target, Target::Drop | Target::Reject(_)));
        let before: Vec<&str> = before.map(|rule| rule.text.as_str()).collect();
        if let Some(rule) = before.first() {
            let more =
                if before.len() > 1 { format!(" and {} more", before.len() - 1) } else { String::new() };
            faults.push(warn(
                format!(
                    "a rule of somebody else's drops packets on {} before Calico's rules see them",
                    side.node
                ),
                format!("{family} -t {table}: {rule}{more}"),
                "find who wrote it; `trace-drop rules --from … --to …` says whether a pod's packets meet it",
            ));
        }
    }
    faults
}

fn jump(target: &Target) -> Option<&str> {
    match target {
        Target::Jump(chain) | Target::Goto(chain) => Some(chain),
        _ => None,
    }
}

/// Tables of nftables that are neither iptables' nor Calico's or kube-proxy's.
fn tables(place: &Place<'_>, all: &Ruleset) -> Vec<Fault> {
    let side = &place.side;
    let ends = |rule: &Rule| matches!(rule.target, Target::Drop | Target::Reject(_));
    let based = all.tables.iter().filter(|table| !is_known(&table.name)).flat_map(|table| {
        let any_ends = table.chains.iter().flat_map(|chain| &chain.rules).any(ends);
        let chains = table.chains.iter();
        chains.filter_map(move |chain| Some((table, chain, chain.hook.as_ref()?, any_ends)))
    });
    let mut faults: Vec<Fault> = Vec::new();
    let mut told = HashSet::new();
    for (table, chain, hook, any_ends) in based {
        let drops = chain.policy == Some(Policy::Drop);
        if !drops && !any_ends {
            continue;
        }
        let early = matches!(hook.point, HookPoint::Ingress | HookPoint::Egress);
        let name = format!("{} {}", table.family.as_deref().unwrap_or_default(), table.name);
        let fault = Fault {
            breaks: false,
            summary: if table.name == "firewalld" {
                format!("firewalld is active on {}", side.node)
            } else {
                format!("the nftables table `{name}` on {} drops packets, invisible to iptables", side.node)
            },
            remedy: format!(
                "on {}: `nft list table {name}`; find who wrote it, and let it pass the pods' addresses and the tunnel's port",
                side.node
            ),
            read: format!(
                "chain {} at hook {}{}",
                chain.name,
                format!("{:?}", hook.point).to_lowercase(),
                if drops { ", policy drop" } else { "" }
            ),
            expected: "none, or one that lets the pods' packets pass".to_owned(),
            ..side.fault(if early { "early_hook" } else { "host_firewall" }, StageKind::Forward, "nftables")
        };
        if told.insert(fault.summary.clone()) {
            faults.push(fault);
        }
    }
    faults
}

/// Tables that belong to the cluster.
fn is_known(table: &str) -> bool {
    table == "calico" || table.starts_with("kube-proxy") || table == "kubernetes"
}
