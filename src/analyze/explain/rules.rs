//! The iptables rules of the place where packets vanish: of the chains that such a packet meets there, those that drop
//! and whose counters moved while capturing. A counter alone proves little on a busy node, so its growth is held
//! against the number of lost packets, and the rule's matches against a lost packet.

use std::collections::{BTreeSet, HashMap};

use super::scene::{Scene, scenes};
use crate::analyze::Evidence;
use crate::analyze::findings::{Cause, Confidence, Findings, Proof};
use crate::analyze::rules::Names;
use crate::evidence::calico::{self, RuleKind};
use crate::evidence::cluster::Cluster;
use crate::evidence::host::STATE;
use crate::evidence::netfilter::{
    Course, CtState, End, Filters, Fits, HookPoint, Meets, Met, Moved, Policy, Ruleset, Target, Walked,
    World, delta, walk,
};
use crate::evidence::{Texts, When};

/// What decided on packets there, before and after.
struct Stand {
    before: Filters,
    after: Filters,
    /// The ways that the lost packets may have gone.
    wide: Walked,
    /// The only end that they can have come to.
    surely: Option<End>,
}

/// Adds a cause for every rule that fits; gives what was looked at.
pub(super) fn explain(findings: &mut Findings, evidence: &Evidence<'_>) -> Vec<Proof> {
    let route = findings.routes.iter().find(|route| route.direction == findings.verdict.direction);
    let lost = Lost { sure: findings.verdict.lost, perhaps: route.map_or(0, |route| route.unjudged) };
    let (causes, looked) = examine(scenes(findings), lost, findings, evidence);
    findings.causes.extend(causes);
    looked
}

/// The causes of packets that no point saw: rules in the pod that sends.
pub(super) fn before(findings: &mut Findings, evidence: &Evidence<'_>, missing: u64) -> Vec<Cause> {
    let case = &findings.case;
    let Some(node) = case.from.node.clone() else { return Vec::new() };
    let meets = Meets { src: Some(case.from.address), dst: Some(case.to.address), ..Meets::default() };
    let v6 = case.from.address.is_ipv6();
    let scene = Scene { node, inside: "pod:", course: Course::Sent, meets, v6, begins: true };
    examine(vec![scene], Lost { sure: missing, perhaps: 0 }, findings, evidence).0
}

/// How many packets a rule's counter is held against.
#[derive(Debug, Clone, Copy)]
struct Lost {
    sure: u64,
    /// Too near to an edge of a capture to be judged: lost too, if the rule took them.
    perhaps: u64,
}

impl Lost {
    fn agrees(self, counted: u64) -> bool {
        (self.sure..=self.sure + self.perhaps).contains(&counted)
    }
}

fn examine(
    scenes: Vec<Scene>,
    lost: Lost,
    findings: &mut Findings,
    evidence: &Evidence<'_>,
) -> (Vec<Cause>, Vec<Proof>) {
    let mut causes = Vec::new();
    let mut unread = BTreeSet::new();
    let mut looked = Vec::new();
    for scene in scenes {
        let stand = Stand::take(&scene, evidence.texts);
        for (name, _) in &stand.after.rulesets {
            let number = stand.met(&stand.after.world(scene.v6), name).count();
            if number > 0 {
                let detail = format!("{name} on {}: {number} rules that such a packet meets", scene.node);
                looked.push(Proof { source: source_of(name), detail });
            }
        }
        for filters in [&stand.before, &stand.after] {
            // Of the state it is told where the state is read.
            let rules = filters.unreadable(scene.v6).filter(|(name, _)| !name.ends_with(STATE));
            unread.extend(rules.map(|(_, why)| format!("no counters of rules on {}: {why}", scene.node)));
        }
        stand.judge(&scene, lost, evidence.cluster, &mut causes);
    }
    findings.warnings.extend(unread);
    (causes, looked)
}

/// The report's word for where a ruleset comes from.
fn source_of(name: &str) -> &'static str {
    if name.ends_with("-save") { "iptables" } else { "nftables" }
}

impl Stand {
    fn take(scene: &Scene, texts: &Texts) -> Self {
        let read = |when| Filters::read(texts, &scene.node, scene.inside, Some(when));
        let (before, after) = (read(When::Before), read(When::After));
        let world = after.world(scene.v6);
        let wide = walk(&world, scene.course, &scene.meets);
        let narrow = Meets { state: Some(CtState::New), ..scene.meets.clone() };
        let surely = match wide.certain() {
            None if scene.begins => walk(&world, scene.course, &narrow).certain().cloned(),
            end => end.cloned(),
        };
        Self { before, after, wide, surely }
    }

    /// What the packets meet in the ruleset of that name.
    fn met<'s>(&'s self, world: &World<'_>, name: &str) -> impl Iterator<Item = &'s Met> + use<'s> {
        let number = world.rulesets.iter().position(|(own, _)| own == name);
        self.wide.met.iter().filter(move |met| Some(met.place.ruleset) == number)
    }

    /// Adds a cause for every rule that ends packets, may be met by the lost ones, and moved.
    fn judge(&self, scene: &Scene, lost: Lost, cluster: Option<&Cluster>, causes: &mut Vec<Cause>) {
        let world = self.after.world(scene.v6);
        for (number, (name, after)) in world.rulesets.iter().enumerate() {
            let Some((_, before)) = self.before.rulesets.iter().find(|(own, _)| own == name) else {
                causes.extend(self.read_once(scene, &world, number, cluster));
                continue;
            };
            let met: HashMap<_, &Met> = self
                .met(&world, name)
                .map(|met| ((met.place.table, met.place.chain, met.place.rule), met))
                .collect();
            for moved in delta(before, after) {
                let kills = match (&moved.rule, moved.policy) {
                    (Some(rule), _) => matches!(rule.target, Target::Drop | Target::Reject(_)),
                    (None, policy) => policy == Some(Policy::Drop),
                };
                let rule = moved.rule.is_some().then_some(moved.index);
                let met = met.get(&(moved.at.0, moved.at.1, rule)).filter(|_| kills);
                let Some(met) = met.copied() else { continue };
                let surely = self.surely.as_ref().is_some_and(|end| end.place.as_ref() == Some(&met.place));
                causes.push(cause(scene, name, after, &moved, (met, surely), lost, cluster));
            }
        }
        for met in &self.wide.met {
            causes.extend(self.uncounted(scene, &world, met));
        }
    }

    /// Rules that were read once, at some other moment: that such a packet is walked to one that ends it is all there is, and no
    /// counter that moved. One that has never counted is named only where the walk leads nowhere else.
    fn read_once(
        &self,
        scene: &Scene,
        world: &World<'_>,
        number: usize,
        cluster: Option<&Cluster>,
    ) -> Vec<Cause> {
        let here = self.wide.met.iter().filter(|met| met.place.ruleset == number);
        let ends = here.filter_map(|met| {
            let (table, chain) = world.chain(&met.place)?;
            let rule = world.rule(&met.place);
            let kills = match rule {
                Some(rule) => matches!(rule.target, Target::Drop | Target::Reject(_)),
                None => chain.policy == Some(Policy::Drop),
            };
            let counters = if rule.is_some() { rule?.counters? } else { chain.counters };
            let surely = self.surely.as_ref().is_some_and(|end| end.place.as_ref() == Some(&met.place));
            let moved = Moved {
                table: table.name.clone(),
                chain: chain.name.clone(),
                at: (met.place.table, met.place.chain),
                rule: rule.cloned(),
                policy: chain.policy,
                index: met.place.rule.unwrap_or(chain.rules.len()),
                packets: counters.packets,
                bytes: counters.bytes,
                restarted: false,
            };
            (kills && (surely || counters.packets > 0)).then_some((met, surely, moved))
        });
        let mut ends: Vec<_> = ends.collect();
        if ends.iter().any(|(_, surely, _)| *surely) {
            ends.retain(|(_, surely, _)| *surely);
        }
        let (name, after) = &world.rulesets[number];
        let causes = ends.into_iter().map(|(met, surely, moved)| {
            let leads = surely || (met.fits == Fits::Yes && met.certain);
            let confidence =
                if leads && moved.packets > 0 { Confidence::Likely } else { Confidence::Possible };
            once(scene, name, after, &moved, (met, surely), confidence, cluster)
        });
        causes.collect()
    }

    /// nftables counts only where it is told to: of a rule that drops without a counter, its matches alone speak.
    fn uncounted(&self, scene: &Scene, world: &World<'_>, met: &Met) -> Option<Cause> {
        let rule = world.rule(&met.place)?;
        let ends = matches!(rule.target, Target::Drop | Target::Reject(_));
        if !ends || rule.counters.is_some() {
            return None;
        }
        let (name, _) = world.rulesets.get(met.place.ruleset)?;
        let (table, chain) = world.chain(&met.place)?;
        let surely = self.surely.as_ref().is_some_and(|end| end.place.as_ref() == Some(&met.place));
        let kind = calico::rule_kind(&chain.name, rule);
        let family = table.family.as_deref().unwrap_or_default();
        let fits = surely || met.fits == Fits::Yes;
        Some(Cause {
            kind: kind_word(scene, met.point, &kind),
            node: scene.node.clone(),
            confidence: if fits { Confidence::Likely } else { Confidence::Possible },
            summary: format!(
                "{} such packets in table {family} {}, chain {}, and does not count them",
                doer(met.point, &kind, None),
                table.name,
                chain.name
            ),
            remedy: format!(
                "on {}: `nft -a list table {family} {}`; find out who made it and let it accept this traffic",
                scene.node, table.name
            ),
            evidence: vec![
                Proof {
                    source: source_of(name),
                    detail: format!("table {family} {}, chain {}: {}", table.name, chain.name, rule.text),
                },
                Proof {
                    source: source_of(name),
                    detail: format!("no counter; {}", fit_words(&met.fits, surely)),
                },
            ],
        })
    }
}

/// The report's word for the cause that a rule is.
fn kind_word(scene: &Scene, point: HookPoint, kind: &RuleKind) -> &'static str {
    match (scene.inside, point, kind) {
        ("", HookPoint::Ingress | HookPoint::Egress, RuleKind::NotCalico) => "early_hook",
        ("", ..) => calico::cause_kind(kind),
        _ => "pod_firewall",
    }
}

/// How a rule's matches fit the lost packets.
fn fit_words(fits: &Fits, surely: bool) -> String {
    match fits {
        _ if surely => "walking such a packet through all rules ends at this one".to_owned(),
        Fits::Yes => "its matches fit the lost packets".to_owned(),
        Fits::Unknown(open) => {
            format!("its matches fit, as far as the packets tell; not known: {}", open.join(", "))
        }
        Fits::No => String::new(),
    }
}

fn cause(
    scene: &Scene,
    source: &str,
    after: &Ruleset,
    moved: &Moved,
    (met, surely): (&Met, bool),
    lost: Lost,
    cluster: Option<&Cluster>,
) -> Cause {
    let mut cause = suspected(scene, source, after, moved, met, cluster);
    cause.confidence = confidence(surely, lost.agrees(moved.packets) && !moved.restarted);
    cause.summary = format!(
        "{} {} packets, {}, in {}",
        cause.summary,
        moved.packets,
        if moved.packets == lost.sure {
            "as many as were lost".to_owned()
        } else {
            format!("of {} lost", lost.sure)
        },
        place_words(scene, moved)
    );
    let restarted = if moved.restarted {
        "; the chain was rewritten meanwhile, so this is what it counted since"
    } else {
        ""
    };
    let detail = format!(
        "counted {} packets while {} were lost; {}{restarted}",
        moved.packets,
        lost.sure,
        fit_words(&met.fits, surely)
    );
    cause.evidence.push(Proof { source: source_of(source), detail });
    cause
}

/// The same of rules that were read once.
fn once(
    scene: &Scene,
    source: &str,
    after: &Ruleset,
    moved: &Moved,
    (met, surely): (&Met, bool),
    confidence: Confidence,
    cluster: Option<&Cluster>,
) -> Cause {
    let mut cause = suspected(scene, source, after, moved, met, cluster);
    cause.confidence = confidence;
    cause.summary = format!("{} such packets, in {}", cause.summary, place_words(scene, moved));
    let counted = match moved.packets {
        0 => "it had counted nothing when it was read".to_owned(),
        packets => format!("it had counted {packets} packets when it was read"),
    };
    let detail = format!("{}; read once, {counted}", fit_words(&met.fits, surely));
    cause.evidence.push(Proof { source: source_of(source), detail });
    cause
}

fn place_words(scene: &Scene, moved: &Moved) -> String {
    let inside = if scene.inside.is_empty() { "" } else { " in the pod" };
    format!("{}/{}{inside}", moved.table, moved.chain)
}

/// A rule that ends packets: whose it is, what it says and what to do about it. How sure that is, and how many packets it
/// took, is for the caller to say; the summary has only who did what.
fn suspected(
    scene: &Scene,
    source: &str,
    after: &Ruleset,
    moved: &Moved,
    met: &Met,
    cluster: Option<&Cluster>,
) -> Cause {
    let marking = marking_rule(after, moved);
    let kind = moved.rule.as_ref().map_or(RuleKind::NotCalico, |rule| calico::rule_kind(&moved.chain, rule));
    let policy = policy_behind(after, moved, cluster);
    let asked = policies_asked(&kind, after, moved, cluster);
    let what = match &moved.rule {
        Some(rule) => rule.text.clone(),
        None => format!("policy DROP at the end of {}", moved.chain),
    };
    Cause {
        kind: kind_word(scene, met.point, &kind),
        node: scene.node.clone(),
        confidence: Confidence::Possible,
        summary: doer(met.point, &kind, policy.as_deref()),
        remedy: match &asked {
            Some(asked) => format!(
                "allow this traffic in one of the pod's policies ({asked}), or in another that selects it"
            ),
            None => remedy(&kind, policy.as_deref(), &scene.node),
        },
        evidence: marking
            .map(|rule| format!("the policy's own rule marked them: {rule}"))
            .into_iter()
            .chain(
                asked.map(|asked| {
                    format!("policies that select the pod, none of which accepts them: {asked}")
                }),
            )
            .chain([format!("{source}, table {}: {what}", moved.table)])
            .map(|detail| Proof { source: source_of(source), detail })
            .collect(),
    }
}

/// Three witnesses: the rule that the packets are walked to, that its counter moved, and by how much.
fn confidence(walked_to: bool, as_many: bool) -> Confidence {
    match (walked_to, as_many) {
        (true, true) => Confidence::Confirmed,
        (true, false) | (false, true) => Confidence::Likely,
        (false, false) => Confidence::Possible,
    }
}

/// The policy whose chain a deny rule stands in, in words.
fn policy_behind(after: &Ruleset, moved: &Moved, cluster: Option<&Cluster>) -> Option<String> {
    Names::new(cluster).policy(after.tables.get(moved.at.0)?.chains.get(moved.at.1)?)
}

/// Which policies a tier's chain asked before it dropped, in words; none for a rule of another kind.
fn policies_asked(
    kind: &RuleKind,
    after: &Ruleset,
    moved: &Moved,
    cluster: Option<&Cluster>,
) -> Option<String> {
    let RuleKind::EndOfTier(_) = kind else { return None };
    let table = after.tables.get(moved.at.0)?;
    let chain = table.chains.get(moved.at.1)?;
    let names = Names::new(cluster);
    let asked =
        chain.rules[..moved.index.min(chain.rules.len())].iter().filter_map(|rule| match &rule.target {
            Target::Jump(name) => names.policy(table.chain(name)?),
            _ => None,
        });
    let asked: Vec<String> = asked.collect();
    (!asked.is_empty()).then(|| asked.join(", "))
}

/// Since Calico 3.30 a policy's deny rule only marks the packet, and the next rule drops what is marked: the rule that
/// stands for the policy is the one before.
fn marking_rule(after: &Ruleset, moved: &Moved) -> Option<String> {
    moved.rule.as_ref()?;
    let chain = after.tables.get(moved.at.0)?.chains.get(moved.at.1)?;
    let at = calico::deny_rule(chain, moved.index);
    (at != moved.index).then(|| chain.rules[at].text.clone())
}

/// Who did what, before the number of packets.
fn doer(point: HookPoint, kind: &RuleKind, policy: Option<&str>) -> String {
    match (kind, policy) {
        (RuleKind::NotCalico, _) if matches!(point, HookPoint::Ingress | HookPoint::Egress) => {
            "a rule at the link's own hook, beside the IP layer, dropped".to_owned()
        }
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
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Known, Text};

    const STATE: &str = r#"{"addresses":[{"link":"eth0","address":"192.0.2.12/24"}],"routes":[]}"#;

    /// The rules of FORWARD before and after, with the number of packets that each counted.
    fn texts(rules: &[(&str, u64, u64)], whole: bool) -> Texts {
        let ruleset = |after: bool| {
            let line = |(rule, before, later): &(&str, u64, u64)| {
                format!("[{}:0] -A FORWARD {rule}\n", if after { later } else { before })
            };
            let lines: String = rules.iter().map(line).collect::<Vec<_>>().concat();
            format!("*filter\n:FORWARD ACCEPT [0:0]\n{lines}{}", if whole { "COMMIT\n" } else { "" })
        };
        let text = |name: &str, when, content: String| Text {
            node: "n".to_owned(),
            name: name.to_owned(),
            when,
            content: Known::Read(content),
        };
        let both = |when, after| {
            [("iptables-nft-save", ruleset(after)), ("state", STATE.to_owned()), ("nft", String::new())]
                .map(|(name, content)| text(name, when, content))
        };
        Texts(both(When::Before, false).into_iter().chain(both(When::After, true)).collect())
    }

    fn causes(rules: &[(&str, u64, u64)], whole: bool, lost: u64) -> Vec<(String, Confidence)> {
        let scene = Scene {
            node: "n".to_owned(),
            inside: "",
            course: Course::Forwarded,
            meets: Meets {
                src: "10.0.0.1".parse().ok(),
                dst: "10.0.0.2".parse().ok(),
                protocol: Some(17),
                mark: Some(0),
                ..Meets::default()
            },
            v6: false,
            begins: true,
        };
        let mut causes = Vec::new();
        let texts = texts(rules, whole);
        Stand::take(&scene, &texts).judge(&scene, Lost { sure: lost, perhaps: 1 }, None, &mut causes);
        let shown = |cause: Cause| {
            let rule = cause.evidence.iter().find_map(|proof| proof.detail.split("table filter: ").nth(1));
            (rule.unwrap_or_default().to_owned(), cause.confidence)
        };
        causes.into_iter().map(shown).collect()
    }

    #[test]
    fn walk_counter_and_loss_must_agree_for_a_cause_to_be_confirmed() {
        let drop = "-d 10.0.0.2/32 -j DROP";
        let only = |rules: &[(&str, u64, u64)], whole, lost| {
            let found = causes(rules, whole, lost);
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].1
        };
        assert_eq!(only(&[(drop, 3, 13)], true, 10), Confidence::Confirmed);
        // One more was too near to an edge of a capture to be judged.
        assert_eq!(only(&[(drop, 3, 14)], true, 10), Confidence::Confirmed);
        assert_eq!(only(&[(drop, 3, 15)], true, 10), Confidence::Likely);
        // Half a ruleset may hold something else; so may a match that is not known.
        assert_eq!(only(&[(drop, 3, 13)], false, 10), Confidence::Likely);
        assert_eq!(only(&[(drop, 3, 15)], false, 10), Confidence::Possible);
        assert_eq!(only(&[("-m u32 --u32 x -j DROP", 0, 10)], true, 10), Confidence::Likely);
        assert_eq!(only(&[("-m u32 --u32 x -j DROP", 0, 4)], true, 10), Confidence::Possible);
        // What begins a connection meets it; what does not is no witness.
        assert_eq!(only(&[("-m conntrack --ctstate NEW -j DROP", 0, 10)], true, 10), Confidence::Confirmed);
    }

    #[test]
    fn a_rule_that_such_a_packet_does_not_meet_is_no_cause() {
        assert_eq!(causes(&[("-d 10.0.0.9/32 -j DROP", 0, 10)], true, 10), []);
        assert_eq!(causes(&[("-d 10.0.0.2/32 -j ACCEPT", 0, 0), ("-j DROP", 0, 10)], true, 10), []);
        assert_eq!(causes(&[("-m mark --mark 0x1/0x1 -j DROP", 0, 10)], true, 10), []);
        assert_eq!(causes(&[("-d 10.0.0.2/32 -j DROP", 7, 7)], true, 10), []);
    }
}
