//! Names of chains, sets and tables. In: a name. Out: the same for those that every node has; Calico's others made anew from the
//! new names of what they were made from; hashes that nobody knows become other hashes; the rest `chain-4`, `set-2`.

use crate::evidence::calico::{self, PolicyKind, PolicyName, PolicyRef};
use crate::evidence::netfilter::Ruleset;

use super::Redactor;
use super::key::{BASE32, Purpose};
use super::names::Class;
use super::vocabulary::is_static_name;

impl Redactor {
    /// Learns which policies stand behind hashed names of chains.
    pub(super) fn learn_chains(&mut self, rules: &Ruleset) {
        for chain in rules.tables.iter().flat_map(|table| &table.chains) {
            let (_, name) = plain(&chain.name);
            let id = ["cali-pi-", "cali-po-", "cali-pri-", "cali-pro-"]
                .iter()
                .find_map(|kind| name.strip_prefix(kind));
            if !id.is_some_and(|id| id.starts_with('_')) {
                continue;
            }
            let first = chain.rules.first().map(|rule| rule.comments.as_slice()).unwrap_or_default();
            let Some(policy) = calico::policy_of_chain(name, first, &self.policies) else { continue };
            let PolicyRef { kind, namespace, name: own, direction } = policy;
            let old = PolicyName { kind, namespace, name: own };
            let new = self.policy_name(&old);
            let family = calico::policy_chains(&old, direction).iter().position(|made| made == name);
            let made =
                family.and_then(|family| calico::policy_chains(&new, direction).into_iter().nth(family));
            if let Some(made) = made {
                self.chains.insert(name.to_owned(), made);
            }
        }
    }

    /// A policy's or profile's new name.
    pub(super) fn policy_name(&mut self, old: &PolicyName) -> PolicyName {
        let name = match old.kind {
            PolicyKind::Profile => self.names.profile(&old.name),
            _ => self.names.policy(old.namespace.as_deref(), &old.name),
        };
        let namespace = old.namespace.as_ref().map(|namespace| self.names.namespace(namespace));
        PolicyName { kind: old.kind, namespace, name }
    }

    /// A chain's name.
    pub(super) fn chain(&mut self, name: &str) -> String {
        let (table, own) = plain(name);
        if let Some(made) = self.chains.get(own) {
            return format!("{table}{made}");
        }
        if is_static_name(own) {
            return name.to_owned();
        }
        if let Some(rest) = own.strip_prefix("cali-") {
            return format!("{table}cali-{}", self.of_calico(rest));
        }
        if let Some((kind, hash)) =
            own.rsplit_once('-').filter(|(kind, _)| kind.starts_with("KUBE-") && is_kube(kind))
        {
            return format!("{table}{kind}-{}", self.key.word(Purpose::Hashed, hash, hash.len(), BASE32));
        }
        format!("{table}{}", self.names.of(Class::Chain, own))
    }

    /// What follows `cali-`.
    fn of_calico(&mut self, rest: &str) -> String {
        for kind in ["tw-", "fw-", "th-", "fh-", "thfw-", "fhfw-", "sm-"] {
            if let Some(interface) = rest.strip_prefix(kind) {
                let interface = match interface.strip_prefix('_') {
                    Some(hash) => format!("_{}", self.hashed(hash)),
                    None => self.names.interface(interface),
                };
                return format!("{kind}{interface}");
            }
        }
        for (kind, profile) in
            [("pi-", false), ("po-", false), ("pri-", true), ("pro-", true), ("gi-", false), ("go-", false)]
        {
            let Some(id) = rest.strip_prefix(kind) else { continue };
            if let Some(hash) = id.strip_prefix('_') {
                return format!("{kind}_{}", self.hashed(hash));
            }
            let id = if profile { self.names.profile(id) } else { self.policy_id(id) };
            return format!("{kind}{id}");
        }
        // Of the dispatch chains, the one for interfaces that begin so.
        if let Some((kind, beginning)) = rest.rsplit_once('-')
            && is_static_name(kind)
            && beginning.len() <= 5
            && beginning.chars().all(|c| c.is_ascii_hexdigit())
        {
            return rest.to_owned();
        }
        self.names.of(Class::Chain, rest)
    }

    /// `knp/namespace/name`, `tier/namespace/tier.name`, `namespace/tier.name` or `tier.name`.
    fn policy_id(&mut self, id: &str) -> String {
        let parts: Vec<&str> = id.split('/').collect();
        match parts.as_slice() {
            [kind @ ("knp" | "kcnp" | "np" | "gnp"), namespace, name] => {
                format!(
                    "{kind}/{}/{}",
                    self.names.namespace(namespace),
                    self.names.policy(Some(namespace), name)
                )
            }
            [kind @ ("kcnp" | "gnp"), name] => format!("{kind}/{}", self.names.policy(None, name)),
            [tier, namespace, name] => format!(
                "{}/{}/{}",
                self.names.tier(tier),
                self.names.namespace(namespace),
                self.names.policy(Some(namespace), name)
            ),
            [tier, name] if name.starts_with(&format!("{tier}.")) => {
                format!("{}/{}", self.names.tier(tier), self.names.policy(None, name))
            }
            [namespace, name] => {
                format!("{}/{}", self.names.namespace(namespace), self.names.policy(Some(namespace), name))
            }
            _ => self.names.policy(None, id),
        }
    }

    /// A set's or map's name.
    pub(super) fn set(&mut self, name: &str) -> String {
        for family in ["cali40", "cali60"] {
            let Some(rest) = name.strip_prefix(family) else { continue };
            if is_static_name(rest) {
                return name.to_owned();
            }
            let mark = rest.get(1..2).filter(|mark| matches!(*mark, ":" | "-"));
            let kept = if mark.is_some() { 2 } else { 0 };
            let Some((kind, hash)) = rest.split_at_checked(kept) else { break };
            return format!("{family}{kind}{}", self.hashed(hash));
        }
        if is_static_name(name) {
            return name.to_owned();
        }
        if name.starts_with("cali-") || plain(name).1.starts_with("cali-") {
            return self.chain(name);
        }
        self.names.of(Class::Set, name)
    }

    /// A table's name.
    pub(super) fn table(&mut self, name: &str) -> String {
        match name {
            "filter" | "nat" | "mangle" | "raw" | "security" | "calico" | "kube-proxy" | "firewalld" => {
                name.to_owned()
            }
            _ => self.names.of(Class::Table, name),
        }
    }
}

/// A chain's name in two: the table that nftables mode puts before it, and the rest.
pub(super) fn plain(name: &str) -> (&str, &str) {
    let own = calico::plain_chain(name);
    if own.len() < name.len() {
        return name.split_at(name.len() - own.len());
    }
    let table = ["filter-", "nat-", "mangle-", "raw-"].iter().find(|table| {
        name.strip_prefix(**table)
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_uppercase()) && is_static_name(rest))
    });
    table.map_or(("", name), |table| name.split_at(table.len()))
}

/// Whether a hash of kube-proxy's follows.
fn is_kube(kind: &str) -> bool {
    matches!(kind, "KUBE-SVC" | "KUBE-SEP" | "KUBE-FW" | "KUBE-EXT" | "KUBE-XLB" | "KUBE-SVL")
}
