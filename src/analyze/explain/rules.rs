//! The iptables rules of the place where packets vanish: of the chains that such a packet meets there, those that drop
//! and whose counters moved while capturing. A counter alone proves little on a busy node, so its growth is held
//! against the number of lost packets, and the rule's matches against a lost packet.

use std::collections::BTreeSet;

use crate::analyze::Evidence;
use crate::analyze::findings::{Cause, Confidence, Findings, Proof};
use crate::evidence::calico::{self, PolicyKind, PolicyName, PolicyRef, RuleKind};
use crate::evidence::netfilter::{Fits, Meets, Met, Moved, Policy, Ruleset, Target, delta, reach};
use crate::evidence::{Case, Direction, Known, Path, PointId, Role, StageKind, Texts, When};
use crate::packet::Flow;

/// Hooks that a forwarded packet meets (`nf_hooks` of `net/ipv4/ip_input.c`, `ip_forward.c` and `ip_output.c`).
const FORWARDED: &[(&str, &str)] = &[
    ("raw", "PREROUTING"),
    ("mangle", "PREROUTING"),
    ("nat", "PREROUTING"),
    ("mangle", "FORWARD"),
    ("filter", "FORWARD"),
    ("security", "FORWARD"),
    ("mangle", "POSTROUTING"),
    ("nat", "POSTROUTING"),
];
/// Hooks of a packet that the node itself sends: the tunnel's outer packet.
const SENT: &[(&str, &str)] = &[
    ("raw", "OUTPUT"),
    ("mangle", "OUTPUT"),
    ("nat", "OUTPUT"),
    ("filter", "OUTPUT"),
    ("security", "OUTPUT"),
    ("mangle", "POSTROUTING"),
    ("nat", "POSTROUTING"),
];
/// Hooks of a packet for the node, or the pod, itself.
const RECEIVED: &[(&str, &str)] = &[
    ("raw", "PREROUTING"),
    ("mangle", "PREROUTING"),
    ("nat", "PREROUTING"),
    ("mangle", "INPUT"),
    ("filter", "INPUT"),
    ("security", "INPUT"),
    ("nat", "INPUT"),
];

/// A ruleset to look into: where, under which hooks, for which packet.
struct Scene {
    node: String,
    /// Put before the texts' names: `pod:` inside the pod.
    inside: &'static str,
    hooks: Vec<(&'static str, &'static str)>,
    meets: Meets,
    v6: bool,
}

/// Adds a cause for every rule that fits; gives what was looked at.
pub(super) fn explain(findings: &mut Findings, evidence: &Evidence<'_>) -> Vec<Proof> {
    let (causes, looked) = examine(scenes(findings), findings.verdict.lost, findings, evidence);
    findings.causes.extend(causes);
    looked
}

/// The causes of packets that no point saw: rules in the pod that sends.
pub(super) fn before(findings: &mut Findings, evidence: &Evidence<'_>, missing: u64) -> Vec<Cause> {
    let case = &findings.case;
    let Some(node) = case.from.node.clone() else { return Vec::new() };
    let meets = Meets { src: Some(case.from.address), dst: Some(case.to.address), ..Meets::default() };
    let v6 = case.from.address.is_ipv6();
    let scene = Scene { node, inside: "pod:", hooks: SENT.to_vec(), meets, v6 };
    examine(vec![scene], missing, findings, evidence).0
}

fn examine(
    scenes: Vec<Scene>,
    lost: u64,
    findings: &mut Findings,
    evidence: &Evidence<'_>,
) -> (Vec<Cause>, Vec<Proof>) {
    let mut causes = Vec::new();
    let mut unread = BTreeSet::new();
    let mut looked = Vec::new();
    for scene in scenes {
        for backend in ["-nft", "-legacy", ""] {
            let family = if scene.v6 { "ip6tables" } else { "iptables" };
            let name = format!("{}{family}{backend}-save", scene.inside);
            match rulesets(evidence.texts, &scene.node, &name) {
                Ok(Some((before, after))) => {
                    let met = reach(&after, &scene.hooks, &scene.meets);
                    if !met.is_empty() {
                        let detail =
                            format!("{name} on {}: {} rules that such a packet meets", scene.node, met.len());
                        looked.push(Proof { source: "iptables", detail });
                    }
                    judge(&scene, &name, (&before, &after), &met, lost, evidence, &mut causes);
                }
                Ok(None) => {}
                Err(why) => {
                    unread.insert(format!("no counters of {name} on {}: {why}", scene.node));
                }
            }
        }
    }
    findings.warnings.extend(unread);
    (causes, looked)
}

/// Both readings; None when nobody asked for them.
fn rulesets(texts: &Texts, node: &str, name: &str) -> Result<Option<(Ruleset, Ruleset)>, String> {
    let (Some(before), Some(after)) =
        (texts.find(node, name, When::Before), texts.find(node, name, When::After))
    else {
        return Ok(None);
    };
    match (&before.content, &after.content) {
        (Known::Read(before), Known::Read(after)) => {
            Ok(Some((Ruleset::parse(before), Ruleset::parse(after))))
        }
        (Known::Unreadable(why), _) | (_, Known::Unreadable(why)) => Err(why.clone()),
        _ => Ok(None),
    }
}

/// The rulesets that a packet meets at the place of the verdict.
fn scenes(findings: &Findings) -> Vec<Scene> {
    let case = &findings.case;
    let (Some(place), way) = (&findings.verdict.place, findings.verdict.direction) else { return Vec::new() };
    let from = &case.points[place.from.index()];
    let to = place.to.map(|to| &case.points[to.index()]);
    let inner = inner(findings, way);
    let outer = outer(case, way);
    let v6 = case.from.address.is_ipv6();
    let scene = |node: &str,
                 hooks: &[&[(&'static str, &'static str)]],
                 mut meets: Meets,
                 inside,
                 enters: Option<&str>,
                 leaves: Option<&str>| {
        meets.in_interface = enters.map(str::to_owned);
        meets.out_interface = leaves.map(str::to_owned);
        Scene { node: node.to_owned(), inside, hooks: hooks.concat(), meets, v6 }
    };
    let path = case.paths.iter().find(|path| path.direction == way);
    let crosses = |end: &crate::evidence::CapturePoint| end.role == Role::Nic;
    match place.kind {
        StageKind::Forward => {
            let leaves = expected_exit(case, path, place.from);
            let mut all =
                vec![scene(&from.node, &[FORWARDED], inner, "", Some(&from.interface), leaves.as_deref())];
            // Without a capture on the tunnel the outer packet may be what was lost.
            if path.is_some_and(|path| path.encapsulated) && to.is_some_and(crosses) {
                all.push(scene(&from.node, &[SENT], outer, "", None, to.map(|to| to.interface.as_str())));
            }
            all
        }
        StageKind::Encapsulate => {
            vec![scene(&from.node, &[SENT], outer, "", None, to.map(|to| to.interface.as_str()))]
        }
        StageKind::Decapsulate => {
            let node = to.map_or(&from.node, |to| &to.node);
            let mut all = vec![scene(node, &[RECEIVED], outer, "", Some(&from.interface), None)];
            if let Some(veth) = to.filter(|to| to.role != Role::Tunnel) {
                all.push(scene(node, &[FORWARDED], inner, "", None, Some(&veth.interface)));
            }
            all
        }
        StageKind::Deliver => {
            let node = to.map_or(&from.node, |to| &to.node);
            vec![scene(
                node,
                &[FORWARDED],
                inner,
                "",
                Some(&from.interface),
                to.map(|to| to.interface.as_str()),
            )]
        }
        StageKind::Pod | StageKind::EnterPod => {
            let mut answer = inner.clone();
            std::mem::swap(&mut answer.src, &mut answer.dst);
            std::mem::swap(&mut answer.src_port, &mut answer.dst_port);
            vec![
                scene(&from.node, &[RECEIVED], inner, "pod:", None, None),
                scene(&from.node, &[SENT], answer, "pod:", None, None),
            ]
        }
        StageKind::LeavePod | StageKind::Underlay => Vec::new(),
    }
}

/// Where a packet should leave the node that it was last seen entering.
fn expected_exit(case: &Case, path: Option<&Path>, from: PointId) -> Option<String> {
    let path = path?;
    let at = path.points.iter().position(|point| *point == from)?;
    let next = &case.points[path.points.get(at + 1)?.index()];
    (next.node == case.points[from.index()].node).then(|| next.interface.clone())
}

/// A lost packet as it stands inside the tunnel; its ports only when all that were kept agree.
pub(super) fn inner(findings: &Findings, way: Direction) -> Meets {
    let route = findings.routes.iter().find(|route| route.direction == way);
    let stages = route.into_iter().flat_map(|route| &route.stages).filter(|stage| stage.lost > 0);
    let lost = stages.flat_map(|stage| stage.examples.iter().map(|packet| packet.flow));
    let unanswered =
        route.into_iter().filter_map(|route| route.unanswered.as_ref()).flat_map(|u| u.examples.clone());
    let flows: Vec<Flow> = lost.chain(unanswered).collect();
    let common = |field: &dyn Fn(&Flow) -> u16| {
        let mut values = flows.iter().map(field);
        let first = values.next()?;
        values.all(|value| value == first).then_some(first)
    };
    let protocol = flows.first().map(|flow| flow.protocol);
    let has_ports = matches!(protocol, Some(6 | 17 | 132));
    let (src, dst) = match way {
        Direction::Forward => (findings.case.from.address, findings.case.to.address),
        Direction::Reply => (findings.case.to.address, findings.case.from.address),
    };
    let translated = !findings.translations.is_empty();
    Meets {
        src: (!translated).then_some(src),
        dst: (!translated).then_some(dst),
        protocol: protocol.filter(|protocol| flows.iter().all(|flow| flow.protocol == *protocol)),
        src_port: common(&|flow| flow.src_port).filter(|_| has_ports && !translated),
        dst_port: common(&|flow| flow.dst_port).filter(|_| has_ports && !translated),
        in_interface: None,
        out_interface: None,
    }
}

/// The tunnel's outer packet.
pub(super) fn outer(case: &Case, way: Direction) -> Meets {
    let address = |node: &Option<String>| {
        let facts = case.nodes.iter().find(|facts| Some(&facts.name) == node.as_ref())?;
        facts.addresses.iter().copied().find(|address| address.is_ipv6() == case.from.address.is_ipv6())
    };
    let (src, dst) = match way {
        Direction::Forward => (address(&case.from.node), address(&case.to.node)),
        Direction::Reply => (address(&case.to.node), address(&case.from.node)),
    };
    Meets { src, dst, protocol: Some(17), dst_port: Some(case.vxlan_port), ..Meets::default() }
}

fn judge(
    scene: &Scene,
    source: &str,
    (before, after): (&Ruleset, &Ruleset),
    met: &[Met],
    lost: u64,
    evidence: &Evidence<'_>,
    causes: &mut Vec<Cause>,
) {
    for moved in delta(before, after) {
        let kills = match (&moved.rule, moved.policy) {
            (Some(rule), _) => matches!(rule.target, Target::Drop | Target::Reject(_)),
            (None, policy) => policy == Some(Policy::Drop),
        };
        let index = moved.rule.is_some().then_some(moved.index);
        let here =
            met.iter().find(|met| met.table == moved.table && met.chain == moved.chain && met.index == index);
        let Some(fits) = here.map(|met| &met.fits).filter(|_| kills) else { continue };
        causes.push(cause(scene, source, after, &moved, fits, lost, evidence));
    }
}

fn cause(
    scene: &Scene,
    source: &str,
    after: &Ruleset,
    moved: &Moved,
    fits: &Fits,
    lost: u64,
    evidence: &Evidence<'_>,
) -> Cause {
    let marking = marking_rule(after, moved);
    let kind = moved.rule.as_ref().map_or(RuleKind::NotCalico, |rule| calico::rule_kind(&moved.chain, rule));
    let policy = policy_behind(after, moved, evidence);
    let confidence = match (moved.packets == lost && !moved.restarted, moved.packets > lost, fits) {
        (true, _, _) => Confidence::Confirmed,
        (_, true, Fits::Yes) => Confidence::Likely,
        _ if moved.packets * 2 >= lost => Confidence::Likely,
        _ => Confidence::Possible,
    };
    let what = match &moved.rule {
        Some(rule) => rule.text.clone(),
        None => format!("policy DROP at the end of {}", moved.chain),
    };
    let fit_words = match fits {
        Fits::Yes => "its matches fit the lost packets".to_owned(),
        Fits::Unknown(open) => {
            format!("its matches fit, as far as the packets tell; not known: {}", open.join(", "))
        }
        Fits::No => String::new(),
    };
    let restarted = if moved.restarted {
        "; the chain was rewritten meanwhile, so this is what it counted since"
    } else {
        ""
    };
    let place = format!(
        "{}/{} {}",
        moved.table,
        moved.chain,
        if scene.inside.is_empty() { "" } else { "in the pod" }
    );
    Cause {
        kind: if scene.inside.is_empty() { calico::cause_kind(&kind) } else { "pod_firewall" },
        node: scene.node.clone(),
        confidence,
        summary: summary(&kind, policy.as_deref(), place.trim(), moved.packets, lost),
        remedy: remedy(&kind, policy.as_deref(), &scene.node),
        evidence: marking
            .into_iter()
            .map(|rule| Proof {
                source: "iptables",
                detail: format!("the policy's own rule marked them: {rule}"),
            })
            .chain([
                Proof { source: "iptables", detail: format!("{source}, table {}: {what}", moved.table) },
                Proof {
                    source: "iptables",
                    detail: format!(
                        "counted {} packets while {lost} were lost; {fit_words}{restarted}",
                        moved.packets
                    ),
                },
            ])
            .collect(),
    }
}

/// The policy whose chain a deny rule stands in, in words.
fn policy_behind(after: &Ruleset, moved: &Moved, evidence: &Evidence<'_>) -> Option<String> {
    let chain = after.chain(&moved.table, &moved.chain)?;
    let comments = &chain.rules.first()?.comments;
    let policies = evidence.cluster.map(|cluster| cluster.policies.as_slice()).unwrap_or_default();
    let known: Vec<PolicyName> = policies.iter().filter_map(policy_name).collect();
    let PolicyRef { kind, namespace, name, .. } = calico::policy_of_chain(&moved.chain, comments, &known)?;
    let namespace = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
    Some(format!("{} {namespace}{name}", kind.word()))
}

fn policy_name(policy: &crate::evidence::cluster::Policy) -> Option<PolicyName> {
    let kind = match policy.kind.as_str() {
        "KubernetesNetworkPolicy" => PolicyKind::KubernetesNetworkPolicy,
        "NetworkPolicy" => PolicyKind::NetworkPolicy,
        "GlobalNetworkPolicy" => PolicyKind::GlobalNetworkPolicy,
        _ => return None,
    };
    Some(PolicyName { kind, namespace: policy.namespace.clone(), name: policy.name.clone() })
}

/// Since Calico 3.30 a policy's deny rule only marks the packet, and the next rule drops what is marked: the rule that
/// stands for the policy is the one before.
fn marking_rule(after: &Ruleset, moved: &Moved) -> Option<String> {
    moved.rule.as_ref()?;
    let chain = after.chain(&moved.table, &moved.chain)?;
    let at = calico::deny_rule(chain, moved.index);
    (at != moved.index).then(|| chain.rules[at].text.clone())
}

fn summary(kind: &RuleKind, policy: Option<&str>, place: &str, packets: u64, lost: u64) -> String {
    let what = match (kind, policy) {
        (RuleKind::EndOfTier(_), _) => "no policy of the pod accepted".to_owned(),
        (RuleKind::PolicyDeny, Some(policy)) => format!("{policy} denied"),
        (RuleKind::PolicyDeny, None) => "a policy's deny rule dropped".to_owned(),
        (RuleKind::NoProfile, _) => {
            "Felix does not know the namespace, so that no profile accepted".to_owned()
        }
        (RuleKind::UnknownInterface, _) => {
            "Felix knows no endpoint behind the interface and dropped".to_owned()
        }
        (RuleKind::ConntrackInvalid, _) => "connection tracking called invalid".to_owned(),
        (RuleKind::ReversePath, _) => {
            "the route back to the pod leads elsewhere, so that Calico dropped".to_owned()
        }
        (RuleKind::VxlanFromUnknownHost, _) => {
            "the sender's node is not among the allowed tunnel hosts, so that Calico dropped".to_owned()
        }
        (RuleKind::NotCalico, _) => "a rule that Calico did not write dropped".to_owned(),
        _ => "a rule of Calico's dropped".to_owned(),
    };
    let as_many = if packets == lost { "as many as were lost".to_owned() } else { format!("of {lost} lost") };
    format!("{what} {packets} packets, {as_many}, in {place}")
}

fn remedy(kind: &RuleKind, policy: Option<&str>, node: &str) -> String {
    match (kind, policy) {
        (RuleKind::PolicyDeny, Some(policy)) => format!(
            "look at {policy}: `kubectl get networkpolicies,globalnetworkpolicies.crd.projectcalico.org -A`"
        ),
        (RuleKind::EndOfTier(_) | RuleKind::PolicyDeny, _) => {
            "allow this traffic in a policy that selects the pod: `kubectl get networkpolicies -A`".to_owned()
        }
        (RuleKind::UnknownInterface | RuleKind::NoProfile | RuleKind::AdminDisabled, _) => {
            format!(
                "look whether calico-node runs and is in sync on {node}: `kubectl -n calico-system logs` of its pod"
            )
        }
        (RuleKind::VxlanFromUnknownHost, _) => {
            format!(
                "on {node}: `ipset list cali40all-vxlan-net`; the sender's node needs its projectcalico.org/IPv4Address and IPv4VXLANTunnelAddr annotations"
            )
        }
        (RuleKind::ReversePath, _) => {
            format!("on {node}: `ip route get` to the pod's address must lead to its cali interface")
        }
        (RuleKind::NotCalico, _) => format!(
            "find out who wrote this rule on {node} (firewalld, ufw, Docker, a script) and let it accept this traffic"
        ),
        _ => format!("look at this rule on {node}: `iptables-save -c`"),
    }
}
