//! Which policy stands behind a chain.
//!
//! In: a chain's name, the comments of its rules, and the policies that the cluster is known to have. Out: the policy,
//! named as its owner would name it. A hashed name cannot be turned back: it is found by making the names of all known
//! policies in each of the three ways that Calico has had, else by the comment on the chain's first rule.

use crate::evidence::cluster::Policy;

use super::names::chain_name;

/// Kinds of policy that become chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// `networking.k8s.io` `NetworkPolicy`.
    KubernetesNetworkPolicy,
    /// `policy.networking.k8s.io` `ClusterNetworkPolicy`.
    KubernetesClusterNetworkPolicy,
    /// `projectcalico.org` `NetworkPolicy`.
    NetworkPolicy,
    /// `projectcalico.org` `GlobalNetworkPolicy`.
    GlobalNetworkPolicy,
    /// `projectcalico.org` `Profile`, among them those that Calico makes of namespaces (`kns.…`) and service accounts
    /// (`ksa.…`).
    Profile,
}

/// A policy as the cluster's objects name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PolicyName {
    /// Kind.
    pub kind: PolicyKind,
    /// Namespace; `None` for the kinds without.
    pub namespace: Option<String>,
    /// Name, with or without its tier before a dot.
    pub name: String,
}

/// The policy of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PolicyRef {
    /// Kind.
    pub kind: PolicyKind,
    /// Namespace; `None` for the kinds without.
    pub namespace: Option<String>,
    /// Name; without `default.` when it was not taken from known objects.
    pub name: String,
    /// Which of its rules the chain holds.
    pub direction: PolicyDirection,
}

/// Seen from the pod that the policy selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PolicyDirection {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl PolicyName {
    /// A policy of the cluster as chains are named after it.
    pub fn of(policy: &Policy) -> Option<Self> {
        let kinds =
            [PolicyKind::KubernetesNetworkPolicy, PolicyKind::NetworkPolicy, PolicyKind::GlobalNetworkPolicy];
        let kind = kinds.into_iter().find(|kind| kind.word() == policy.kind)?;
        Some(Self { kind, namespace: policy.namespace.clone(), name: policy.name.clone() })
    }
}

impl PolicyKind {
    /// The word in the comments of v3.32 and later.
    pub fn word(self) -> &'static str {
        match self {
            Self::KubernetesNetworkPolicy => "KubernetesNetworkPolicy",
            Self::KubernetesClusterNetworkPolicy => "KubernetesClusterNetworkPolicy",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::Profile => "Profile",
        }
    }

    /// The letters in the names of chains of v3.32 and later.
    fn code(self) -> &'static str {
        match self {
            Self::KubernetesNetworkPolicy => "knp",
            Self::KubernetesClusterNetworkPolicy => "kcnp",
            Self::NetworkPolicy => "np",
            Self::GlobalNetworkPolicy => "gnp",
            Self::Profile => "",
        }
    }
}

impl PolicyDirection {
    fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Every name that a chain of this policy may have, the newest family first: `kind/[namespace/]name` since v3.32,
/// `tier/[namespace/]tier.name` in v3.29 to v3.31, `[namespace/]tier.name` before; each hashed when too long.
pub fn policy_chains(policy: &PolicyName, direction: PolicyDirection) -> Vec<String> {
    let PolicyName { kind, namespace, name } = policy;
    let prefix = match (kind, direction) {
        (PolicyKind::Profile, PolicyDirection::Ingress) => "cali-pri-",
        (PolicyKind::Profile, PolicyDirection::Egress) => "cali-pro-",
        (_, PolicyDirection::Ingress) => "cali-pi-",
        (_, PolicyDirection::Egress) => "cali-po-",
    };
    if *kind == PolicyKind::Profile {
        return vec![chain_name(prefix, name)];
    }
    let within = namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let mut ids = vec![format!("{}/{within}{name}", kind.code())];
    let in_tier = if *kind == PolicyKind::KubernetesNetworkPolicy {
        vec![("default", format!("knp.default.{name}"))]
    } else {
        let tier = name.split_once('.').map(|(tier, _)| (tier, name.clone()));
        tier.into_iter().chain([("default", format!("default.{name}"))]).collect()
    };
    ids.extend(in_tier.iter().map(|(tier, name)| format!("{tier}/{within}{name}")));
    ids.extend(in_tier.iter().map(|(_, name)| format!("{within}{name}")));
    ids.push(format!("{within}{name}"));
    ids.iter().map(|id| chain_name(prefix, id)).collect()
}

/// What a chain of Calico's is there for, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainKind {
    /// Where Calico's rules begin, and everything that is the same on every node.
    Static,
    /// Sends packets on by interface.
    Dispatch,
    /// A pod's, by its host interface; `to_pod` for what goes to it, else for what comes from it.
    Workload {
        /// Host interface.
        interface: String,
        /// Which way.
        to_pod: bool,
    },
    /// An interface of the host itself.
    HostEndpoint,
    /// Rules of one policy, several policies of one selector, or a profile.
    Policy,
}

/// What a chain is there for; `None` for one that Calico did not name.
pub fn chain_kind(chain: &str) -> Option<ChainKind> {
    let rest = plain_chain(chain).strip_prefix("cali-")?;
    let workload = |rest: &str, to_pod| ChainKind::Workload { interface: rest.to_owned(), to_pod };
    let begins = |starts: &[&str]| starts.iter().any(|start| rest.starts_with(start));
    Some(if let Some(interface) = rest.strip_prefix("tw-") {
        workload(interface, true)
    } else if let Some(interface) = rest.strip_prefix("fw-") {
        workload(interface, false)
    } else if begins(&["pi-", "po-", "pri-", "pro-", "gi-", "go-"]) {
        ChainKind::Policy
    } else if begins(&["fh-", "th-", "fhfw-", "thfw-"]) {
        ChainKind::HostEndpoint
    } else if rest.contains("-dispatch") {
        ChainKind::Dispatch
    } else {
        ChainKind::Static
    })
}

/// A chain's name without the table that nftables mode puts before it (`tableName` of felix's nftables package).
pub fn plain_chain(chain: &str) -> &str {
    let tables = ["filter-", "nat-", "mangle-", "raw-"];
    tables
        .iter()
        .find_map(|table| chain.strip_prefix(table))
        .filter(|rest| rest.starts_with("cali-"))
        .unwrap_or(chain)
}

/// The policy whose rules `chain` holds. `comments` are those of its rules. `None` for a chain that holds none, and
/// for a hashed one that neither known policies nor comments explain.
pub fn policy_of_chain(chain: &str, comments: &[String], known: &[PolicyName]) -> Option<PolicyRef> {
    let chain = plain_chain(chain);
    let (id, direction, profile) = split(chain)?;
    // In nftables mode names may be longer, and are then not hashed.
    let whole = |policy: &PolicyName| {
        chain.len() > 28
            && !profile
            && of_id(id)
                == PolicyName {
                    kind: policy.kind,
                    namespace: policy.namespace.clone(),
                    name: policy.name.clone(),
                }
    };
    let found = known
        .iter()
        .find(|policy| policy_chains(policy, direction).iter().any(|name| name == chain) || whole(policy))
        .cloned()
        .or_else(|| comments.iter().find_map(|comment| of_comment(comment, direction)))
        .or_else(|| match (id.starts_with('_'), profile) {
            (true, _) => None,
            (false, true) => Some(profile_named(id)),
            (false, false) => Some(of_id(id)),
        })?;
    Some(PolicyRef { kind: found.kind, namespace: found.namespace, name: found.name, direction })
}

/// What follows the prefix of a policy's or profile's chain, the direction, and whether it is a profile's.
fn split(chain: &str) -> Option<(&str, PolicyDirection, bool)> {
    [
        ("cali-pi-", PolicyDirection::Ingress, false),
        ("cali-po-", PolicyDirection::Egress, false),
        ("cali-pri-", PolicyDirection::Ingress, true),
        ("cali-pro-", PolicyDirection::Egress, true),
    ]
    .into_iter()
    .find_map(|(prefix, direction, profile)| Some((chain.strip_prefix(prefix)?, direction, profile)))
}

/// `Policy …`, `Profile …` (v3.22 and later) or the kind's word (v3.32 and later), the name, the direction.
fn of_comment(comment: &str, direction: PolicyDirection) -> Option<PolicyName> {
    let (kind, rest) = comment.split_once(' ')?;
    let (name, said) = rest.rsplit_once(' ')?;
    if said != direction.word() || name.is_empty() {
        return None;
    }
    if kind == "Policy" {
        return Some(of_name_in_tier(name));
    }
    if kind == "Profile" {
        return Some(profile_named(name));
    }
    let kind = KINDS.iter().copied().find(|known| known.word() == kind)?;
    Some(with_namespace(kind, name))
}

/// A name that was short enough not to be hashed, of any family.
fn of_id(id: &str) -> PolicyName {
    let Some((first, rest)) = id.split_once('/') else { return of_name_in_tier(id) };
    if let Some(kind) = KINDS.iter().copied().find(|kind| kind.code() == first) {
        return with_namespace(kind, rest);
    }
    let with_tier = rest.contains('/') || rest.starts_with(&format!("{first}."));
    of_name_in_tier(if with_tier { rest } else { id })
}

/// `[namespace/]tier.name`, as policies were named up to v3.31.
fn of_name_in_tier(name: &str) -> PolicyName {
    let kind = match name.split_once('/') {
        Some((_, name)) if name.starts_with("knp.default.") => PolicyKind::KubernetesNetworkPolicy,
        Some(_) => PolicyKind::NetworkPolicy,
        None => PolicyKind::GlobalNetworkPolicy,
    };
    let mut policy = with_namespace(kind, name);
    let own = policy.name.strip_prefix("knp.default.").or_else(|| policy.name.strip_prefix("default."));
    if let Some(own) = own {
        policy.name = own.to_owned();
    }
    policy
}

fn with_namespace(kind: PolicyKind, name: &str) -> PolicyName {
    let (namespace, name) = name.split_once('/').map_or((None, name), |(space, name)| (Some(space), name));
    PolicyName { kind, namespace: namespace.map(str::to_owned), name: name.to_owned() }
}

fn profile_named(name: &str) -> PolicyName {
    PolicyName { kind: PolicyKind::Profile, namespace: None, name: name.to_owned() }
}

/// Kinds with a word and a code of their own.
const KINDS: &[PolicyKind] = &[
    PolicyKind::KubernetesNetworkPolicy,
    PolicyKind::KubernetesClusterNetworkPolicy,
    PolicyKind::NetworkPolicy,
    PolicyKind::GlobalNetworkPolicy,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(kind: PolicyKind, namespace: &str, name: &str) -> PolicyName {
        let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        PolicyName { kind, namespace, name: name.to_owned() }
    }

    fn deny_all() -> PolicyName {
        policy(PolicyKind::KubernetesNetworkPolicy, "shop", "deny-all")
    }

    fn found(chain: &str, comments: &[&str], known: &[PolicyName]) -> Option<PolicyName> {
        let comments: Vec<String> = comments.iter().map(|&comment| comment.to_owned()).collect();
        let PolicyRef { kind, namespace, name, .. } = policy_of_chain(chain, &comments, known)?;
        Some(PolicyName { kind, namespace, name })
    }

    #[test]
    fn chains_of_nftables_mode() {
        let known = [PolicyName {
            kind: PolicyKind::KubernetesNetworkPolicy,
            namespace: Some("default".to_owned()),
            name: "allow-everything-from-monitoring".to_owned(),
        }];
        let chain = "filter-cali-pi-knp/default/allow-everything-from-monitoring";
        let found = policy_of_chain(chain, &[], &known).expect("a policy");
        assert_eq!(
            (found.name.as_str(), found.direction),
            ("allow-everything-from-monitoring", PolicyDirection::Ingress)
        );
        assert_eq!(
            policy_of_chain("filter-cali-pri-kns.shop", &[], &[]).expect("a profile").name,
            "kns.shop"
        );
        let workload = ChainKind::Workload { interface: "cali0123456789a".to_owned(), to_pod: true };
        assert_eq!(chain_kind("filter-cali-tw-cali0123456789a"), Some(workload));
        for (name, kind) in [
            ("cali-FORWARD", Some(ChainKind::Static)),
            ("cali-to-wl-dispatch-4", Some(ChainKind::Dispatch)),
            ("cali-gi-abc", Some(ChainKind::Policy)),
            ("cali-thfw-eth0", Some(ChainKind::HostEndpoint)),
            ("KUBE-SERVICES", None),
            ("filter-FORWARD", None),
        ] {
            assert_eq!(chain_kind(name), kind, "{name}");
        }
    }

    #[test]
    fn a_known_policy_in_each_family() {
        let others = policy(PolicyKind::NetworkPolicy, "shop", "web");
        let known = [others, deny_all()];
        for chain in
            ["cali-pi-_9wacWKe56SDV-NvyQJV", "cali-pi-_0DHEzKERfLrzxSP2prs", "cali-pi-knp/shop/deny-all"]
        {
            assert_eq!(found(chain, &[], &known), Some(deny_all()), "{chain}");
        }
        let of = policy_of_chain("cali-pi-knp/shop/deny-all", &[], &known).unwrap();
        assert_eq!(of.direction, PolicyDirection::Ingress);
        assert_eq!(found("cali-pi-_unknown9012345678", &[], &known), None);
    }

    #[test]
    fn names_in_tiers() {
        let tiered = policy(PolicyKind::GlobalNetworkPolicy, "", "security.block-egress");
        let chains = policy_chains(&tiered, PolicyDirection::Egress);
        assert!(chains.contains(&chain_name("cali-po-", "security/security.block-egress")));
        assert!(chains.contains(&chain_name("cali-po-", "security.block-egress")));
        let plain = policy(PolicyKind::GlobalNetworkPolicy, "", "block");
        let chains = policy_chains(&plain, PolicyDirection::Egress);
        assert!(chains.contains(&chain_name("cali-po-", "default/default.block")));
        assert!(chains.contains(&"cali-po-default.block".to_owned()));
    }

    #[test]
    fn comments_of_each_family() {
        let hashed = "cali-pi-_hashhashhashhashhas";
        for (comment, expected) in [
            ("Policy shop/knp.default.deny-all ingress", deny_all()),
            ("KubernetesNetworkPolicy shop/deny-all ingress", deny_all()),
            ("Policy shop/default.web ingress", policy(PolicyKind::NetworkPolicy, "shop", "web")),
            ("Policy default.block ingress", policy(PolicyKind::GlobalNetworkPolicy, "", "block")),
            ("Policy sec.block ingress", policy(PolicyKind::GlobalNetworkPolicy, "", "sec.block")),
            ("GlobalNetworkPolicy block ingress", policy(PolicyKind::GlobalNetworkPolicy, "", "block")),
        ] {
            assert_eq!(found(hashed, &["cali:Fqb84BpxxPmLbJAm", comment], &[]), Some(expected), "{comment}");
        }
        assert_eq!(found(hashed, &["Policy default.block egress"], &[]), None);
        assert_eq!(
            found("cali-pri-_u2Tn2rSoAPffvE7JO6", &["Profile ksa.kube-system.coredns ingress"], &[]),
            Some(policy(PolicyKind::Profile, "", "ksa.kube-system.coredns"))
        );
    }

    #[test]
    fn names_short_enough_to_be_read() {
        for (chain, expected) in [
            ("cali-po-gnp/block-egress-all", policy(PolicyKind::GlobalNetworkPolicy, "", "block-egress-all")),
            ("cali-pi-knp/shop/deny-all", deny_all()),
            ("cali-pi-default.block", policy(PolicyKind::GlobalNetworkPolicy, "", "block")),
            ("cali-pi-sec/sec.block", policy(PolicyKind::GlobalNetworkPolicy, "", "sec.block")),
            ("cali-pi-a/default.web", policy(PolicyKind::NetworkPolicy, "a", "web")),
            ("cali-pro-kns.shop", policy(PolicyKind::Profile, "", "kns.shop")),
        ] {
            assert_eq!(found(chain, &[], &[]), Some(expected), "{chain}");
        }
        assert_eq!(found("cali-fw-calia4fc3c48bd8", &[], &[]), None);
        assert_eq!(found("KUBE-FORWARD", &[], &[]), None);
    }
}
