//! What Calico means by its names: interfaces, chains and the rules in them. Takes a rule or a chain's name, gives the
//! role that Felix gave it and the policy it comes from (felix/rules/*.go, libcalico-go/lib/hash/unique_id.go; texts
//! of versions 3.20 to 3.33). Judges nothing.

mod names;

pub use names::{chain_name, policy_of_chain, veth_name};

use crate::evidence::netfilter::{Match, Rule, What};

/// What a rule is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleKind {
    /// No policy of the tier accepted the packet.
    EndOfTier,
    /// A policy's deny rule.
    PolicyDeny,
    /// No profile accepted it.
    NoProfile,
    /// Felix knows no endpoint behind the interface.
    UnknownInterface,
    /// Connection tracking calls the packet invalid.
    ConntrackInvalid,
    /// The way back to the sender does not lead to the interface it came from.
    ReversePath,
    /// VXLAN from a host that is not in the set of allowed ones.
    VxlanFromUnknownHost,
    /// A pod sends encapsulated packets itself.
    EncapsulatedByWorkload,
    /// A pod talks to its own node.
    EndpointToHost,
    /// A packet rate or connection limit of the pod.
    QosLimit,
    /// The endpoint is switched off.
    AdminDisabled,
    /// A Service address that nobody translated.
    ServiceLoop,
    /// kube-proxy: a Service without endpoints.
    NoEndpoints,
    /// Calico's, but none of these.
    OtherCalico,
    /// Not Calico's.
    Foreign,
}

/// Whether Felix wrote the rule: each of its rules bears a hash.
pub fn is_calico(rule: &Rule) -> bool {
    rule.comments.iter().any(|comment| comment.starts_with("cali:"))
}

/// The role of a rule that drops, by its chain, its comments and its matches.
pub fn rule_kind(chain: &str, rule: &Rule) -> RuleKind {
    let says = |text: &str| rule.comments.iter().any(|comment| comment.contains(text));
    let asks = |wanted: &dyn Fn(&Match) -> bool| rule.matches.iter().any(wanted);
    if says("has no endpoints") || says("has no local endpoints") {
        return RuleKind::NoEndpoints;
    }
    let by_text = [
        ("VXLAN packets from non-", RuleKind::VxlanFromUnknownHost),
        ("IPIP packets from non-", RuleKind::VxlanFromUnknownHost),
        ("encapped packets originating in", RuleKind::EncapsulatedByWorkload),
        ("no polic", RuleKind::EndOfTier),
        ("no profile", RuleKind::NoProfile),
        ("Unknown interface", RuleKind::UnknownInterface),
        ("DefaultEndpointToHostAction", RuleKind::EndpointToHost),
        ("packet rate limit", RuleKind::QosLimit),
        ("connection limit", RuleKind::QosLimit),
        ("admin disabled", RuleKind::AdminDisabled),
    ];
    if let Some((_, kind)) = by_text.into_iter().find(|(text, _)| says(text)) {
        return kind;
    }
    if !is_calico(rule) && !chain.starts_with("cali-") {
        return RuleKind::Foreign;
    }
    if asks(&|m| matches!(&m.what, What::State(states) if states.iter().any(|state| state == "INVALID"))) {
        return RuleKind::ConntrackInvalid;
    }
    if asks(
        &|m| matches!(&m.what, What::Unknown(text) if text.contains("invert") || text.contains("validmark")),
    ) {
        return RuleKind::ReversePath;
    }
    match chain {
        "cali-cidr-block" => RuleKind::ServiceLoop,
        name if name.starts_with("cali-pi-") || name.starts_with("cali-po-") => RuleKind::PolicyDeny,
        _ => RuleKind::OtherCalico,
    }
}

impl RuleKind {
    /// The cause of the report contract that a drop by such a rule is.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::EndOfTier | Self::PolicyDeny => "network_policy",
            Self::NoProfile => "profile",
            Self::ConntrackInvalid => "conntrack_invalid",
            Self::NoEndpoints => "service_no_endpoints",
            Self::Foreign => "host_firewall",
            Self::UnknownInterface
            | Self::ReversePath
            | Self::VxlanFromUnknownHost
            | Self::EncapsulatedByWorkload
            | Self::EndpointToHost
            | Self::QosLimit
            | Self::AdminDisabled
            | Self::ServiceLoop
            | Self::OtherCalico => "calico_rule",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::netfilter::{Ruleset, Target};

    #[test]
    fn the_labs_drops_have_their_roles() {
        let ruleset = Ruleset::parse(include_str!("../../../tests/data/iptables-nft-save.txt"));
        let mut kinds = Vec::new();
        for chain in ruleset.tables.iter().flat_map(|table| &table.chains) {
            for rule in chain.rules.iter().filter(|rule| rule.target == Target::Drop) {
                let kind = rule_kind(&chain.name, rule);
                assert_ne!(kind, RuleKind::Foreign, "{}", rule.text);
                kinds.push(kind);
            }
        }
        for kind in [
            RuleKind::ReversePath,
            RuleKind::EndOfTier,
            RuleKind::NoProfile,
            RuleKind::UnknownInterface,
            RuleKind::ConntrackInvalid,
            RuleKind::VxlanFromUnknownHost,
            RuleKind::EncapsulatedByWorkload,
        ] {
            assert!(kinds.contains(&kind), "{kind:?} in {kinds:?}");
        }
    }
}
