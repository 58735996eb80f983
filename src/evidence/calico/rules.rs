//! What a rule is there for.
//!
//! In: a rule and the chain it stands in. Out: its [`RuleKind`] and the word for the cause of a loss by it. Texts are
//! those of Calico v3.20 to v3.33 (felix's `rules` package); only words that did not change between versions are looked
//! for, so that `Drop`, `Reject`, `pods` and `workloads` are all the same.

use crate::evidence::netfilter::{Chain, Match, Rule, Target};

/// Why a rule that drops or rejects was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RuleKind {
    /// Policies of the tier select the pod and none of them let the packet pass. The tier's name stands in the rule
    /// since v3.30.
    EndOfTier(Option<String>),
    /// A rule of a policy that denies.
    PolicyDeny,
    /// A rule of a profile that denies.
    ProfileDeny,
    /// No profile let the packet pass: Calico does not know the pod's namespace.
    NoProfile,
    /// An interface of Calico's that it has no pod for.
    UnknownInterface,
    /// Connection tracking calls the packet invalid.
    ConntrackInvalid,
    /// The route back to the source is not by the interface that the packet came by.
    ReversePath,
    /// VXLAN from an address that is no known node's.
    VxlanFromUnknownHost,
    /// IP in IP from an address that is no known node's.
    IpipFromUnknownHost,
    /// A pod sent VXLAN itself.
    VxlanFromWorkload,
    /// A pod sent IP in IP itself.
    IpipFromWorkload,
    /// From a pod to its own node, which `defaultEndpointToHostAction` forbids.
    EndpointToHost,
    /// More packets than the pod's annotation allows.
    PacketRateLimit,
    /// More connections than the pod's annotation allows.
    ConnectionLimit,
    /// The endpoint is switched off.
    AdminDisabled,
    /// To a service's address that no service answers to.
    CidrBlock,
    /// To a service without endpoints: kube-proxy's rule.
    NoEndpoints,
    /// Not Calico's, and none of the above.
    NotCalico,
    /// Calico's, and none of the above: most of them drop nothing.
    Other,
}

/// Whether Calico wrote the rule: one comment is `cali:` and the 16 characters of its hash.
pub fn is_calico(rule: &Rule) -> bool {
    rule.comments.iter().filter_map(|comment| comment.strip_prefix("cali:")).any(|hash| {
        hash.len() == 16 && hash.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    })
}

/// What `rule`, which stands in `chain`, is there for.
pub fn rule_kind(chain: &str, rule: &Rule) -> RuleKind {
    let calico = is_calico(rule);
    let chain = super::plain_chain(chain);
    let neither = if calico { RuleKind::Other } else { RuleKind::NotCalico };
    if !matches!(rule.target, Target::Drop | Target::Reject(_)) {
        return neither;
    }
    let own = if calico { of_comments(rule).or_else(|| of_chain(chain)) } else { of_kube_proxy(rule) };
    own.or_else(|| of_matches(rule)).unwrap_or(neither)
}

/// The word for a loss by such a rule, out of the report's list of causes.
pub fn cause_kind(kind: &RuleKind) -> &'static str {
    match kind {
        RuleKind::EndOfTier(_) | RuleKind::PolicyDeny => "network_policy",
        RuleKind::NoProfile | RuleKind::ProfileDeny => "profile",
        RuleKind::ConntrackInvalid => "conntrack_invalid",
        RuleKind::ReversePath => "reverse_path",
        RuleKind::NoEndpoints => "service_no_endpoints",
        RuleKind::NotCalico => "host_firewall",
        RuleKind::UnknownInterface
        | RuleKind::VxlanFromUnknownHost
        | RuleKind::IpipFromUnknownHost
        | RuleKind::VxlanFromWorkload
        | RuleKind::IpipFromWorkload
        | RuleKind::EndpointToHost
        | RuleKind::PacketRateLimit
        | RuleKind::ConnectionLimit
        | RuleKind::AdminDisabled
        | RuleKind::CidrBlock
        | RuleKind::Other => "calico_rule",
    }
}

/// Place of the rule that stands for what the policy says, given the place of the rule that drops. Since v3.30 a
/// denying rule only marks the packet, and a rule without a match of its own drops what is marked.
pub fn deny_rule(chain: &Chain, drops: usize) -> usize {
    let Some([Match::Mark { value, mask, not: false }]) =
        chain.rules.get(drops).map(|rule| rule.matches.as_slice())
    else {
        return drops;
    };
    let sets = format!("--set-xmark {value:#x}/{mask:#x}");
    chain.rules[..drops]
        .iter()
        .rposition(|rule| !matches!(&rule.target, Target::Other(_) | Target::Log(_)) && !only_logs(rule))
        .filter(|&at| {
            let rule = &chain.rules[at];
            rule.before.iter().chain([&rule.target]).any(|action| *action == Target::Mark(sets.clone()))
        })
        .unwrap_or(drops)
}

/// An nftables rule that logs and does nothing else.
fn only_logs(rule: &Rule) -> bool {
    rule.target == Target::None
        && !rule.before.is_empty()
        && rule.before.iter().all(|action| matches!(action, Target::Log(_)))
}

fn of_comments(rule: &Rule) -> Option<RuleKind> {
    rule.comments.iter().find_map(|comment| {
        let holds = |words: &str| comment.contains(words);
        Some(if holds("no policies passed") {
            let tier = comment.strip_prefix("End of tier ").and_then(|rest| rest.rsplit_once(". "));
            RuleKind::EndOfTier(tier.map(|(tier, _)| tier.to_owned()))
        } else if holds("no profiles matched") {
            RuleKind::NoProfile
        } else if holds("Unknown interface") || holds("Unknown endpoint") {
            RuleKind::UnknownInterface
        } else if holds("VXLAN packets from non-") {
            RuleKind::VxlanFromUnknownHost
        } else if holds("IPIP packets from non-") {
            RuleKind::IpipFromUnknownHost
        } else if holds("VXLAN encapped") {
            RuleKind::VxlanFromWorkload
        } else if holds("IPinIP encapped") {
            RuleKind::IpipFromWorkload
        } else if holds("DefaultEndpointToHostAction") {
            RuleKind::EndpointToHost
        } else if holds("packet rate limit") {
            RuleKind::PacketRateLimit
        } else if holds("connection limit") {
            RuleKind::ConnectionLimit
        } else if holds("admin disabled") {
            RuleKind::AdminDisabled
        } else {
            return None;
        })
    })
}

fn of_chain(chain: &str) -> Option<RuleKind> {
    if chain == "cali-cidr-block" {
        return Some(RuleKind::CidrBlock);
    }
    if ["cali-pi-", "cali-po-"].iter().any(|prefix| chain.starts_with(prefix)) {
        return Some(RuleKind::PolicyDeny);
    }
    ["cali-pri-", "cali-pro-"].iter().any(|prefix| chain.starts_with(prefix)).then_some(RuleKind::ProfileDeny)
}

/// kube-proxy's comments since it rejects at all: `… has no endpoints`, `… has no local endpoints`.
fn of_kube_proxy(rule: &Rule) -> Option<RuleKind> {
    let none =
        |comment: &String| comment.ends_with("no endpoints") || comment.ends_with("no local endpoints");
    rule.comments.iter().any(none).then_some(RuleKind::NoEndpoints)
}

/// Calico's rules against invalid connections and wrong ways carry no text, and other firewalls have the like.
fn of_matches(rule: &Rule) -> Option<RuleKind> {
    rule.matches.iter().find_map(|one| match one {
        Match::CtState { states, not: false } if states == &["INVALID"] => Some(RuleKind::ConntrackInvalid),
        Match::RpFilter { not: true } => Some(RuleKind::ReversePath),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::netfilter::Ruleset;

    const HASH: &str = r#"-m comment --comment "cali:Fqb84BpxxPmLbJAm" "#;

    fn chain(name: &str, rules: &[String]) -> Chain {
        let mut text = "*filter\n".to_owned();
        for rule in rules {
            text.extend(["-A ", name, " ", rule, "\n"]);
        }
        Ruleset::parse(&(text + "COMMIT\n")).tables[0].chains[0].clone()
    }

    fn kind(name: &str, rule: &str) -> RuleKind {
        rule_kind(name, &chain(name, &[rule.to_owned()]).rules[0])
    }

    fn said(text: &str) -> RuleKind {
        kind("cali-tw-calia4fc3c48bd8", &format!("{HASH}-m comment --comment \"{text}\" -j DROP"))
    }

    #[test]
    fn texts_of_all_versions() {
        for (text, expected) in [
            (
                "End of tier default. Drop if no policies passed packet",
                RuleKind::EndOfTier(Some("default".into())),
            ),
            ("End of tier a.b. Reject if no policies passed packet", RuleKind::EndOfTier(Some("a.b".into()))),
            ("Drop if no policies passed packet", RuleKind::EndOfTier(None)),
            ("Drop if no profiles matched", RuleKind::NoProfile),
            ("Reject if no profiles matched", RuleKind::NoProfile),
            ("Unknown interface", RuleKind::UnknownInterface),
            ("Drop IPv4 VXLAN packets from non-allowed hosts", RuleKind::VxlanFromUnknownHost),
            ("Drop IPv4 VXLAN packets from non-whitelisted hosts", RuleKind::VxlanFromUnknownHost),
            ("Drop VXLAN packets from non-whitelisted hosts", RuleKind::VxlanFromUnknownHost),
            ("Reject IPv6 VXLAN packets from non-allowed hosts", RuleKind::VxlanFromUnknownHost),
            ("Drop IPIP packets from non-Calico hosts", RuleKind::IpipFromUnknownHost),
            ("Drop VXLAN encapped packets originating in pods", RuleKind::VxlanFromWorkload),
            ("Drop VXLAN encapped packets originating in workloads", RuleKind::VxlanFromWorkload),
            ("Drop IPinIP encapped packets originating in workloads", RuleKind::IpipFromWorkload),
            ("Configured DefaultEndpointToHostAction", RuleKind::EndpointToHost),
            ("Drop packets over ingress packet rate limit", RuleKind::PacketRateLimit),
            ("Reject connections over egress connection limit", RuleKind::ConnectionLimit),
            ("Endpoint admin disabled", RuleKind::AdminDisabled),
        ] {
            assert_eq!(said(text), expected, "{text}");
        }
    }

    #[test]
    fn rules_without_a_text() {
        let hashed = |rest: &str| format!("{HASH}{rest}");
        for (chain, rule, expected, cause) in [
            ("cali-pi-knp/a/b", hashed("-s 1.2.3.4/32 -j DROP"), RuleKind::PolicyDeny, "network_policy"),
            ("cali-pri-p", hashed("-j DROP"), RuleKind::ProfileDeny, "profile"),
            ("cali-cidr-block", hashed("-d 10.96.0.0/12 -j REJECT"), RuleKind::CidrBlock, "calico_rule"),
            (
                "cali-fw-cali1",
                hashed("-m conntrack --ctstate INVALID -j DROP"),
                RuleKind::ConntrackInvalid,
                "conntrack_invalid",
            ),
            (
                "cali-PREROUTING",
                hashed("-m mark --mark 0x80000/0x80000 -m rpfilter --validmark --invert -j DROP"),
                RuleKind::ReversePath,
                "reverse_path",
            ),
            ("cali-FORWARD", hashed("-i cali+ -j cali-from-wl-dispatch"), RuleKind::Other, "calico_rule"),
            ("FORWARD", "-s 10.0.0.0/8 -j DROP".into(), RuleKind::NotCalico, "host_firewall"),
            (
                "KUBE-FORWARD",
                "-m conntrack --ctstate INVALID -j DROP".into(),
                RuleKind::ConntrackInvalid,
                "conntrack_invalid",
            ),
            (
                "KUBE-SERVICES",
                r#"-p tcp -m comment --comment "shop/web:http has no endpoints" -j REJECT"#.into(),
                RuleKind::NoEndpoints,
                "service_no_endpoints",
            ),
            (
                "INPUT",
                r#"-m comment --comment "Unknown interface" -j DROP"#.into(),
                RuleKind::NotCalico,
                "host_firewall",
            ),
        ] {
            let found = kind(chain, &rule);
            assert_eq!((cause_kind(&found), found), (cause, expected), "{chain}: {rule}");
        }
    }

    #[test]
    fn every_drop_of_a_real_node_has_a_kind() {
        for name in ["calico-3.22-legacy", "calico-3.30-nft"] {
            let path = format!("{}/tests/data/netfilter/{name}.txt", env!("CARGO_MANIFEST_DIR"));
            let ruleset = Ruleset::parse(&std::fs::read_to_string(path).expect("test data"));
            for chain in ruleset.tables.iter().flat_map(|table| &table.chains) {
                for rule in chain.rules.iter().filter(|rule| rule.target == Target::Drop) {
                    let kind = rule_kind(&chain.name, rule);
                    assert!(!matches!(kind, RuleKind::Other | RuleKind::NotCalico), "{}", rule.text);
                }
            }
        }
    }

    #[test]
    fn every_drop_of_nftables_mode_has_a_kind() {
        for name in ["calico-new", "calico-old"] {
            let path = format!("{}/tests/data/nft/{name}.json", env!("CARGO_MANIFEST_DIR"));
            let ruleset = Ruleset::parse_nft(&std::fs::read_to_string(path).expect("test data"));
            let tables = ruleset.tables.iter().filter(|table| table.name == "calico");
            let mut drops = 0;
            for chain in tables.flat_map(|table| &table.chains) {
                for rule in chain.rules.iter().filter(|rule| rule.target == Target::Drop) {
                    let kind = rule_kind(&chain.name, rule);
                    assert!(
                        !matches!(kind, RuleKind::Other | RuleKind::NotCalico),
                        "{}: {}",
                        chain.name,
                        rule.text
                    );
                    drops += 1;
                }
            }
            assert!(drops > 20, "{drops}");
        }
        let denies = r#"{"nftables":[{"rule":{"family":"ip","table":"calico","chain":"filter-cali-po-x","expr":[{"mangle":
            {"key":{"meta":{"key":"mark"}},"value":{"|":[{"meta":{"key":"mark"}},262144]}}}]}},
            {"rule":{"family":"ip","table":"calico","chain":"filter-cali-po-x","comment":"cali:Fqb84BpxxPmLbJAm;","expr":[{"match":
            {"op":"==","left":{"&":[{"meta":{"key":"mark"}},262144]},"right":262144}},{"drop":null}]}}]}"#;
        let chain = Ruleset::parse_nft(&denies.replace('\n', "")).tables[0].chains[0].clone();
        assert_eq!(rule_kind(&chain.name, &chain.rules[1]), RuleKind::PolicyDeny);
        // The rule that marks does it before its target, which is none.
        assert_eq!(deny_rule(&chain, 1), 0);
    }

    #[test]
    fn the_rule_behind_a_drop() {
        let hashed = |rest: &str| format!("{HASH}{rest}");
        let new = chain(
            "cali-pi-x",
            &[
                hashed("-s 1.2.3.4/32 -j MARK --set-xmark 0x40000/0x40000"),
                hashed("-j NFLOG --nflog-prefix DPI0 --nflog-group 1"),
                hashed("-m mark --mark 0x40000/0x40000 -j DROP"),
            ],
        );
        assert_eq!(deny_rule(&new, 2), 0);
        let old = chain("cali-pi-x", &[hashed("-j MARK --set-xmark 0x0/0x40000"), hashed("-j DROP")]);
        assert_eq!((deny_rule(&old, 1), deny_rule(&old, 7)), (1, 7));
    }
}
