//! Other names for names. In: a name and what it is the name of. Out: `node-1`, `pod-3`, the same for the same, never one that the
//! case itself has for something else. Of an interface's name remains what tells of no site: `eth0`, `vxlan.calico`; names that
//! Calico makes from other names by hash are made anew from the new names.

use std::collections::{HashMap, HashSet};

use crate::evidence::calico::veth_name;

use super::key::{HEX, Key, Purpose};

/// What a name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Class {
    Node,
    Namespace,
    Pod,
    Service,
    Policy,
    Tier,
    Workload,
    Account,
    Pool,
    Port,
    Interface,
    Chain,
    Set,
    Table,
    Object,
    Word,
}

/// Turns names.
#[derive(Debug)]
pub(super) struct Names {
    key: Key,
    given: HashMap<(Class, String), String>,
    count: HashMap<Class, u32>,
    /// Names that the case has.
    own: HashSet<String>,
    /// By the host's ends of pods.
    veths: HashMap<String, String>,
    /// What rules say of interfaces by the beginnings of their names (`cali7+`): new names begin alike.
    beginnings: Vec<String>,
}

impl Class {
    fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Namespace => "namespace",
            Self::Pod => "pod",
            Self::Service => "service",
            Self::Policy => "policy",
            Self::Tier => "tier",
            Self::Workload => "workload",
            Self::Account => "account",
            Self::Pool => "pool",
            Self::Port => "port",
            Self::Interface => "if",
            Self::Chain => "chain",
            Self::Set => "set",
            Self::Table => "table",
            Self::Object => "object",
            Self::Word => "word",
        }
    }
}

impl Names {
    pub(super) fn new(key: Key) -> Self {
        Self {
            key,
            given: HashMap::new(),
            count: HashMap::new(),
            own: HashSet::new(),
            veths: HashMap::new(),
            beginnings: Vec::new(),
        }
    }

    /// A name of the case, which no other is to get.
    pub(super) fn own(&mut self, name: &str) {
        self.own.insert(name.to_owned());
    }

    /// Whether the case has something of that name.
    pub(super) fn is_own(&self, name: &str) -> bool {
        self.own.contains(name)
    }

    /// Notes the beginnings of interfaces' names that a text speaks of; before any name is given.
    pub(super) fn learn_beginnings(&mut self, text: &str) {
        for (at, _) in text.match_indices("cali") {
            let rest = &text[at + 4..];
            let digits = rest.chars().take_while(char::is_ascii_hexdigit).count();
            if (1..=MOST_ALIKE).contains(&digits) && rest[digits..].starts_with(['+', '*']) {
                let beginning = &text[at..at + 4 + digits];
                if !self.beginnings.iter().any(|known| known == beginning) {
                    self.beginnings.push(beginning.to_owned());
                }
            }
        }
    }

    /// The new name.
    pub(super) fn of(&mut self, class: Class, name: &str) -> String {
        let key = (class, name.to_owned());
        if let Some(given) = self.given.get(&key) {
            return given.clone();
        }
        let fresh = self.fresh(class);
        self.given.insert(key, fresh.clone());
        fresh
    }

    fn fresh(&mut self, class: Class) -> String {
        loop {
            let count = self.count.entry(class).or_default();
            *count += 1;
            let fresh = format!("{}-{count}", class.word());
            if !self.own.contains(&fresh) {
                return fresh;
            }
        }
    }

    /// Whatever a name is the name of, if it was given one.
    pub(super) fn known(&self, name: &str) -> Option<&str> {
        let classes = [
            Class::Node,
            Class::Namespace,
            Class::Pool,
            Class::Workload,
            Class::Account,
            Class::Tier,
            Class::Port,
            Class::Interface,
            Class::Chain,
            Class::Set,
            Class::Policy,
        ];
        classes.iter().find_map(|class| self.given.get(&(*class, name.to_owned())).map(String::as_str))
    }

    pub(super) fn node(&mut self, name: &str) -> String {
        self.of(Class::Node, name)
    }

    pub(super) fn namespace(&mut self, name: &str) -> String {
        self.of(Class::Namespace, name)
    }

    /// A pod's new name, by its namespace and name.
    pub(super) fn pod(&mut self, namespace: &str, name: &str) -> String {
        let key = (Class::Pod, format!("{namespace}/{name}"));
        if let Some(given) = self.given.get(&key) {
            return given.clone();
        }
        let within = self.namespace(namespace);
        let veth = veth_name(namespace, name);
        let beginning = self.beginning(&veth).to_owned();
        let fresh = self.fresh(Class::Pod);
        let fits = |name: &String| veth_name(&within, name).starts_with(&beginning);
        let numbered = (0..MOST_TRIES)
            .map(|number| if number == 0 { fresh.clone() } else { format!("{fresh}-{number}") });
        let given = { numbered }.find(fits).unwrap_or_else(|| fresh.clone());
        self.veths.insert(veth, veth_name(&within, &given));
        self.given.insert(key, given.clone());
        given
    }

    /// A new name within a namespace.
    pub(super) fn within(&mut self, class: Class, namespace: &str, name: &str) -> String {
        if class == Class::Pod {
            self.pod(namespace, name)
        } else {
            self.of(class, &format!("{namespace}/{name}"))
        }
    }

    /// What class a name of a namespace was learned as.
    pub(super) fn class_within(&self, namespace: &str, name: &str) -> Option<Class> {
        let name = format!("{namespace}/{name}");
        let classes = [Class::Service, Class::Pod, Class::Policy];
        classes.into_iter().find(|class| self.given.contains_key(&(*class, name.clone())))
    }

    /// A policy's new name: its tier, if there is one before a dot, and itself.
    pub(super) fn policy(&mut self, namespace: Option<&str>, name: &str) -> String {
        let (marks, own) = ["knp.default.", "default."]
            .into_iter()
            .find_map(|marks| Some((marks, name.strip_prefix(marks)?)))
            .unwrap_or(("", name));
        let tier = match own.split_once('.') {
            Some((tier, _)) if !tier.is_empty() => format!("{}.", self.tier(tier)),
            _ => String::new(),
        };
        let own = self.within(Class::Policy, namespace.unwrap_or_default(), own);
        format!("{marks}{tier}{own}")
    }

    /// The tier that everyone has keeps its name.
    pub(super) fn tier(&mut self, name: &str) -> String {
        if matches!(name, "default" | "kube-admin" | "kube-baseline" | "adminnetworkpolicy") {
            name.to_owned()
        } else {
            self.of(Class::Tier, name)
        }
    }

    /// `kns.NAMESPACE`, `ksa.NAMESPACE.ACCOUNT`, or a name.
    pub(super) fn profile(&mut self, name: &str) -> String {
        if let Some(namespace) = name.strip_prefix("kns.") {
            return format!("kns.{}", self.namespace(namespace));
        }
        // A namespace has no dot in its name.
        if let Some((namespace, account)) = name.strip_prefix("ksa.").and_then(|rest| rest.split_once('.')) {
            let account = self.within(Class::Account, namespace, account);
            return format!("ksa.{}.{account}", self.namespace(namespace));
        }
        self.policy(None, name)
    }

    /// An interface, or the beginning of several with `+` or `*` behind it.
    pub(super) fn interface(&mut self, name: &str) -> String {
        if let Some(stem) = name.strip_suffix(['+', '*']) {
            let open = &name[stem.len()..];
            let plain = stem.is_empty() || PLAIN.contains(&stem) || KINDS.contains(&stem);
            if plain || self.beginnings.iter().any(|known| known == stem) {
                return name.to_owned();
            }
            return format!("{}{open}", self.of(Class::Interface, stem));
        }
        if let Some(made) = self.veths.get(name) {
            return made.clone();
        }
        if is_plain(name) {
            return name.to_owned();
        }
        let hashed =
            |rest: &str| (8..=11).contains(&rest.len()) && rest.chars().all(|c| c.is_ascii_hexdigit());
        for kind in ["cali", "veth", "lxc", "tap"] {
            if name.strip_prefix(kind).is_some_and(hashed) {
                let kept = self.beginning(name).len().max(kind.len());
                let rest = self.key.word(Purpose::Hashed, name, name.len() - kept, HEX);
                return format!("{}{rest}", &name[..kept]);
            }
        }
        self.of(Class::Interface, name)
    }

    /// Whether a word is an interface's name, as far as that can be seen.
    pub(super) fn is_interface(&self, word: &str) -> bool {
        let cali = |rest: &str| {
            !rest.is_empty() && rest.trim_end_matches(['+', '*']).chars().all(|c| c.is_ascii_hexdigit())
        };
        self.veths.contains_key(word)
            || is_plain(word)
            || self.given.contains_key(&(Class::Interface, word.to_owned()))
            || word == "cali+"
            || word == "cali*"
            || word.strip_prefix("cali").is_some_and(cali)
    }

    /// The longest beginning that rules speak of.
    fn beginning<'n>(&self, name: &'n str) -> &'n str {
        let fitting = self.beginnings.iter().filter(|beginning| name.starts_with(beginning.as_str()));
        fitting.map(String::len).max().and_then(|length| name.get(..length)).unwrap_or_default()
    }
}

/// Names that every node has, or that only say what kind of card it is.
fn is_plain(name: &str) -> bool {
    if PLAIN.contains(&name) {
        return true;
    }
    let place = |rest: &str, others: &str| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && rest.len() <= 9
            && rest.chars().all(|c| c.is_ascii_digit() || others.contains(c))
    };
    KINDS.iter().any(|kind| name.strip_prefix(kind).is_some_and(|rest| place(rest, ".")))
        || ["ens", "eno", "enp"]
            .iter()
            .any(|kind| name.strip_prefix(kind).is_some_and(|rest| place(rest, ".spfndv")))
}

/// What Calico, Kubernetes and others call theirs on every node.
const PLAIN: &[&str] = &[
    "lo",
    "all",
    "default",
    "cali",
    "vxlan.calico",
    "vxlan-v6.calico",
    "wireguard.cali",
    "wg-v6.cali",
    "kube-ipvs0",
    "nodelocaldns",
    "kube-dummy-if",
    "flannel.1",
    "flannel-v6.1",
    "bpfin.cali",
    "bpfout.cali",
    "istio0",
];

/// Kinds of cards and devices, with a number behind.
const KINDS: &[&str] = &[
    "eth", "bond", "team", "br", "docker", "cni", "tun", "tap", "tunl", "ip6tnl", "sit", "gre", "gretap",
    "erspan", "dummy", "ifb", "wlan", "ib", "vlan", "vxlan", "veth", "ipvlan", "macvlan", "wg",
];

/// Digits of an interface's name that are kept alike.
const MOST_ALIKE: usize = 4;

/// Names that are tried for a pod until its interface begins as it must.
const MOST_TRIES: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new(Key::new(&[1; 32]))
    }

    #[test]
    fn the_same_for_the_same_and_no_other() {
        let mut all = names();
        all.own("node-1");
        assert_eq!(all.node("db-host"), "node-2");
        assert_eq!((all.node("web-host"), all.node("db-host")), ("node-3".into(), "node-2".into()));
        assert_ne!(all.pod("shop", "web"), all.pod("bank", "web"));
        assert_eq!(all.policy(Some("shop"), "knp.default.deny"), "knp.default.policy-1");
        assert_eq!(all.policy(Some("shop"), "deny"), "policy-1");
        assert_eq!(all.policy(None, "security.block"), "tier-1.policy-2");
        assert_eq!(all.profile("kns.shop"), "kns.namespace-1");
        assert_eq!(all.profile("ksa.shop.a.b"), "ksa.namespace-1.account-1");
    }

    #[test]
    fn interfaces_keep_what_tells_nothing() {
        let mut all = names();
        for name in ["eth0", "ens192", "enp3s0f1np0", "bond0.100", "vxlan.calico", "lo", "cali+", "eth+", "+"]
        {
            assert_eq!(all.interface(name), name);
        }
        for name in ["acme-uplink", "enx001122334455", "br-5c1b2d3e4f5a", "eth0acme", "caliacme", "acme+"] {
            assert!(all.interface(name).starts_with("if-"), "{name}: {}", all.interface(name));
        }
        let made = all.interface("cali0123456789a");
        assert!(made != "cali0123456789a" && made.len() == 15, "{made}");
    }

    #[test]
    fn interfaces_of_pods_follow_the_new_names_and_begin_as_rules_say() {
        let mut all = names();
        let old = veth_name("shop", "web");
        all.learn_beginnings(&format!("-A x -i {}+ -j y", &old[..6]));
        let (namespace, pod) = (all.namespace("shop"), all.pod("shop", "web"));
        let new = all.interface(&old);
        assert_eq!(new, veth_name(&namespace, &pod));
        assert!(new != old && new.starts_with(&old[..6]), "{old} {new}");
        assert_eq!(all.interface(&format!("{}+", &old[..6])), format!("{}+", &old[..6]));
        assert!(all.interface(&format!("{}00000000", &old[..6])).starts_with(&old[..6]));
    }
}
