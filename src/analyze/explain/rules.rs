//! The iptables rules of the place where packets vanish: of the chains that such a packet meets there, those that drop
//! and whose counters moved while capturing. A counter alone proves little on a busy node, so its growth is held
//! against the number of lost packets, and the rule's matches against a lost packet.

use std::collections::{BTreeSet, HashMap};

use super::scene::{Scene, scenes};
use crate::analyze::Evidence;
use crate::analyze::findings::{Cause, Confidence, Findings, Proof};
use crate::analyze::rules::Names;
use crate::evidence::calico::{self, RuleKind};
use crate::evidence::host::STATE;
use crate::evidence::netfilter::{
    Chain, Course, CtState, End, Filters, Fits, HookPoint, Meets, Met, Moved, Policy, Ruleset, Table, Target,
    Walked, World, delta, walk,
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

/// What is known of a rule that is a cause.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ruled {
    /// Where it is met.
    pub(super) point: HookPoint,
    /// How many it counted, if fewer than were lost: others took the rest.
    pub(super) fewer: Option<u64>,
}

/// Adds a cause for every rule that fits, before all others; gives what is known of each, and what was looked at.
pub(super) fn explain(findings: &mut Findings, evidence: &Evidence<'_>) -> (Vec<Ruled>, Vec<Proof>) {
    let route = findings.routes.iter().find(|route| route.direction == findings.verdict.direction);
    let lost = Lost { sure: findings.verdict.lost, perhaps: route.map_or(0, |route| route.unjudged) };
    let (causes, looked) = examine(scenes(findings), lost, findings, evidence);
    debug_assert!(findings.causes.is_empty(), "rules come first");
    let (causes, ruled): (Vec<_>, Vec<_>) = causes.into_iter().unzip();
    findings.causes.extend(causes);
    (ruled, looked)
}

/// The causes of packets that no point saw: rules in the pod, or of the node, that sends.
pub(super) fn before(findings: &mut Findings, evidence: &Evidence<'_>, missing: u64) -> Vec<Cause> {
    let case = &findings.case;
    let Some(node) = case.from.node.clone() else { return Vec::new() };
    let meets = Meets { src: Some(case.from.address), dst: Some(case.to.address), ..Meets::default() };
    let v6 = case.from.address.is_ipv6();
    let inside = if case.from.is_node(&case.nodes) { "" } else { "pod:" };
    let scene = Scene { node, inside, course: Course::Sent, meets, v6, begins: true };
    let (causes, _) = examine(vec![scene], Lost { sure: missing, perhaps: 0 }, findings, evidence);
    causes.into_iter().map(|(cause, _)| cause).collect()
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
) -> (Vec<(Cause, Ruled)>, Vec<Proof>) {
    let mut causes = Vec::new();
    let mut unread = BTreeSet::new();
    let mut looked = Vec::new();
    let names = Names::new(evidence.cluster);
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
        stand.judge(&scene, lost, &names, &mut causes);
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
    fn judge(&self, scene: &Scene, lost: Lost, names: &Names<'_>, causes: &mut Vec<(Cause, Ruled)>) {
        let world = self.after.world(scene.v6);
        for (number, (name, after)) in world.rulesets.iter().enumerate() {
            let Some((_, before)) = self.before.rulesets.iter().find(|(own, _)| own == name) else {
                causes.extend(self.read_once(scene, &world, number, names));
                continue;
            };
            let met: HashMap<_, &Met> = self
                .met(&world, name)
                .map(|met| ((met.place.table, met.place.chain, met.place.rule), met))
                .collect();
            for moved in delta(before, after) {
                let kills = match (&moved.rule, moved.policy) {
                    // What a program makes of queued packets is not known; but that it let none of these pass is.
                    (Some(rule), _) if is_queue(&rule.target) => {
                        lost.agrees(moved.packets) && !moved.restarted
                    }
                    (Some(rule), _) => matches!(rule.target, Target::Drop | Target::Reject(_)),
                    (None, policy) => policy == Some(Policy::Drop),
                };
                let rule = moved.rule.is_some().then_some(moved.index);
                let met = met.get(&(moved.at.0, moved.at.1, rule)).filter(|_| kills);
                let Some(met) = met.copied() else { continue };
                let surely = self.ends_at(met);
                let suspect = Suspect { scene, source: name, after, moved, met, surely, names };
                let Moved { packets, restarted, .. } = suspect.moved;
                let fewer = (packets < lost.sure && !restarted).then_some(packets);
                causes.push((suspect.counted(lost), Ruled { point: met.point, fewer }));
            }
        }
        for met in &self.wide.met {
            let ruled = Ruled { point: met.point, fewer: None };
            causes.extend(self.uncounted(scene, &world, met).map(|cause| (cause, ruled)));
        }
    }

    /// Rules that were read once, at some other moment: that such a packet is walked to one that ends it is all there is, and no
    /// counter that moved. One that has never counted is named only where the walk leads nowhere else.
    fn read_once(
        &self,
        scene: &Scene,
        world: &World<'_>,
        number: usize,
        names: &Names<'_>,
    ) -> Vec<(Cause, Ruled)> {
        let (name, after) = &world.rulesets[number];
        let here = self.wide.met.iter().filter(|met| met.place.ruleset == number);
        let ends = here.filter_map(|met| {
            let (table, chain) = world.chain(&met.place)?;
            let rule = world.rule(&met.place);
            let kills = match rule {
                Some(rule) => matches!(rule.target, Target::Drop | Target::Reject(_)),
                None => chain.policy == Some(Policy::Drop),
            };
            let counters = if rule.is_some() { rule?.counters? } else { chain.counters };
            let surely = self.ends_at(met);
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
            let suspect = Suspect { scene, source: name, after, moved, met, surely, names };
            (kills && (surely || counters.packets > 0)).then_some(suspect)
        });
        let mut ends: Vec<_> = ends.collect();
        if ends.iter().any(|suspect| suspect.surely) {
            ends.retain(|suspect| suspect.surely);
        }
        let ruled = |suspect: &Suspect<'_, '_>| Ruled { point: suspect.met.point, fewer: None };
        ends.iter().map(|suspect| (suspect.once(), ruled(suspect))).collect()
    }

    /// Whether it is where such a packet surely ends.
    fn ends_at(&self, met: &Met) -> bool {
        self.surely.as_ref().is_some_and(|end| end.place.as_ref() == Some(&met.place))
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
        let surely = self.ends_at(met);
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

/// Whether a rule leaves packets to a program: one that does not run loses them.
fn is_queue(target: &Target) -> bool {
    let Target::Other(text) = target else { return false };
    matches!(text.split(' ').next(), Some("NFQUEUE" | "QUEUE" | "queue"))
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

/// A rule or policy that ends packets, and may have ended those that were lost.
struct Suspect<'a, 'c> {
    scene: &'a Scene,
    /// The name of the text.
    source: &'a str,
    after: &'a Ruleset,
    moved: Moved,
    met: &'a Met,
    /// Such a packet ends there and nowhere else.
    surely: bool,
    names: &'a Names<'c>,
}

impl Suspect<'_, '_> {
    /// By what it counted while packets were lost.
    fn counted(&self, lost: Lost) -> Cause {
        let moved = &self.moved;
        let as_many = if moved.packets == lost.sure {
            "as many as were lost".to_owned()
        } else {
            format!("of {} lost", lost.sure)
        };
        let restarted = if moved.restarted {
            "; the chain was rewritten meanwhile, so this is what it counted since"
        } else {
            ""
        };
        self.cause(
            confidence(self.surely, lost.agrees(moved.packets) && !moved.restarted),
            &format!("{} packets, {as_many}", moved.packets),
            format!(
                "counted {} packets while {} were lost; {}{restarted}",
                moved.packets,
                lost.sure,
                fit_words(&self.met.fits, self.surely)
            ),
        )
    }

    /// Of rules that were read once.
    fn once(&self) -> Cause {
        let leads = self.surely || (self.met.fits == Fits::Yes && self.met.certain);
        let (confidence, counted) = match self.moved.packets {
            0 => (Confidence::Possible, "it had counted nothing when it was read".to_owned()),
            packets => (
                if leads { Confidence::Likely } else { Confidence::Possible },
                format!("it had counted {packets} packets when it was read"),
            ),
        };
        let detail = format!("{}; read once, {counted}", fit_words(&self.met.fits, self.surely));
        self.cause(confidence, "such packets", detail)
    }

    /// Whose rule it is, what it says and what to do about it; how many packets it took, and how that is known.
    fn cause(&self, confidence: Confidence, packets: &str, known: String) -> Cause {
        let Self { scene, source, moved, .. } = self;
        let kind =
            moved.rule.as_ref().map_or(RuleKind::NotCalico, |rule| calico::rule_kind(&moved.chain, rule));
        let policy = self.chain().and_then(|chain| self.names.policy(chain));
        let asked = self.policies_asked(&kind);
        let what = match &moved.rule {
            Some(rule) => rule.text.clone(),
            None => format!("policy DROP at the end of {}", moved.chain),
        };
        let marking = self.marking_rule().map(|rule| format!("the policy's own rule marked them: {rule}"));
        let selecting = asked
            .as_ref()
            .map(|asked| format!("policies that select the pod, none of which accepts them: {asked}"));
        let rule = format!("{source}, table {}: {what}", moved.table);
        let evidence = [marking, selecting, Some(rule), Some(known)].into_iter().flatten();
        let inside = if scene.inside.is_empty() { "" } else { " in the pod" };
        Cause {
            kind: kind_word(scene, self.met.point, &kind),
            node: scene.node.clone(),
            confidence,
            summary: format!(
                "{} {packets}, in {}/{}{inside}",
                match &moved.rule {
                    Some(rule) if is_queue(&rule.target) =>
                        "a rule that Calico did not write handed a program".to_owned(),
                    _ => doer(self.met.point, &kind, policy.as_deref()),
                },
                moved.table,
                moved.chain
            ),
            remedy: match &asked {
                Some(asked) => format!(
                    "allow this traffic in one of the pod's policies ({asked}), or in another that selects it"
                ),
                None if moved.rule.as_ref().is_some_and(|rule| is_queue(&rule.target)) => format!(
                    "on {}: `cat /proc/net/netfilter/nfnetlink_queue` shows which queues a program serves; start it, or take the rule out",
                    scene.node
                ),
                None => remedy(&kind, policy.as_deref(), &scene.node),
            },
            evidence: evidence.map(|detail| Proof { source: source_of(source), detail }).collect(),
        }
    }

    fn table(&self) -> Option<&Table> {
        self.after.tables.get(self.moved.at.0)
    }

    fn chain(&self) -> Option<&Chain> {
        self.table()?.chains.get(self.moved.at.1)
    }

    /// Which policies a tier's chain asked before it dropped, in words; none for a rule of another kind.
    fn policies_asked(&self, kind: &RuleKind) -> Option<String> {
        let RuleKind::EndOfTier(_) = kind else { return None };
        let (table, chain) = (self.table()?, self.chain()?);
        let before = &chain.rules[..self.moved.index.min(chain.rules.len())];
        let asked = before.iter().filter_map(|rule| match &rule.target {
            Target::Jump(name) => self.names.policy(table.chain(name)?),
            _ => None,
        });
        let asked: Vec<String> = asked.collect();
        (!asked.is_empty()).then(|| asked.join(", "))
    }

    /// Since Calico 3.30 a policy's deny rule only marks the packet, and the next rule drops what is marked: the rule that
    /// stands for the policy is the one before.
    fn marking_rule(&self) -> Option<&str> {
        self.moved.rule.as_ref()?;
        let chain = self.chain()?;
        let at = calico::deny_rule(chain, self.moved.index);
        (at != self.moved.index).then(|| chain.rules[at].text.as_str())
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
        Stand::take(&scene, &texts).judge(
            &scene,
            Lost { sure: lost, perhaps: 1 },
            &Names::new(None),
            &mut causes,
        );
        let shown = |(cause, _): (Cause, Ruled)| {
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
