//! Rules of nftables' own tables at the place where packets vanish: somebody else's firewall, or a hook before all others.
//! A rule with a counter is held against the number of lost packets; without one only its matches speak.

use crate::analyze::Evidence;
use crate::analyze::findings::{Cause, Confidence, Findings, Proof};
use crate::analyze::state::{Side, Way};
use crate::evidence::netfilter::Meets;
use crate::evidence::nft::{NftChain, NftPacket, NftRule, NftVerdict, parse};
use crate::evidence::{Direction, Known, StageKind, When};

use super::Scope;
use super::rules::{inner, outer};

/// A place where such a chain may hang, and the packet there.
struct Scene<'w> {
    node: &'w str,
    inside: &'static str,
    hooks: &'static [&'static str],
    meets: Meets,
    enters: Option<&'w str>,
    leaves: Option<&'w str>,
}

/// Hooks of a forwarded packet.
const FORWARDED: &[&str] = &["prerouting", "forward", "postrouting", "ingress", "egress"];

/// Adds a cause for each rule that fits; gives what was looked at.
pub(super) fn explain(
    findings: &Findings,
    evidence: &Evidence<'_>,
    way: &Way<'_>,
    scope: &Scope,
) -> (Vec<Cause>, Vec<Proof>) {
    let (mut causes, mut looked) = (Vec::new(), Vec::new());
    for scene in scope.kinds.iter().flat_map(|kind| scenes(findings, way, *kind)) {
        let name = format!("{}nft", scene.inside);
        let read = |when| match evidence.texts.find(scene.node, &name, when).map(|text| &text.content) {
            Some(Known::Read(text)) => Some(parse(text).0),
            _ => None,
        };
        let Some(after) = read(When::After) else { continue };
        let before = read(When::Before).unwrap_or_default();
        looked.push(Proof {
            source: "nftables",
            detail: format!("{} chains of other nftables tables on {}", after.len(), scene.node),
        });
        for base in after.iter().filter(|chain| hangs(chain, &scene)) {
            for (chain, rule) in endings(&after, base, 0) {
                causes.extend(judge(&scene, base, chain, rule, &before, scope.lost));
            }
        }
    }
    (causes, looked)
}

fn scenes<'w>(findings: &Findings, way: &Way<'w>, kind: StageKind) -> Vec<Scene<'w>> {
    let direction = way.direction;
    let inner = inner(findings, direction);
    let outer = outer(&findings.case, direction);
    let scene = |side: &Side<'w>, hooks, meets: &Meets, enters, leaves| Scene {
        node: side.node,
        inside: "",
        hooks,
        meets: meets.clone(),
        enters,
        leaves,
    };
    let (from, to) = (&way.from, &way.to);
    let same = from.node == to.node;
    let exit = if same {
        to.veth
    } else if way.encapsulated {
        Some(from.tunnel)
    } else {
        from.nic
    };
    let entry = if way.encapsulated { Some(to.tunnel) } else { to.nic };
    match kind {
        StageKind::Forward => vec![scene(from, FORWARDED, &inner, from.veth, exit)],
        StageKind::Encapsulate => {
            vec![scene(from, &["output", "postrouting", "egress"], &outer, None, from.nic)]
        }
        StageKind::Decapsulate => vec![scene(to, &["prerouting", "input", "ingress"], &outer, to.nic, None)],
        StageKind::Deliver => vec![scene(to, FORWARDED, &inner, entry, to.veth)],
        StageKind::EnterPod | StageKind::Pod => {
            let inside = if same && direction == Direction::Forward { "pod2:" } else { "pod:" };
            let mut answer = inner.clone();
            std::mem::swap(&mut answer.src, &mut answer.dst);
            std::mem::swap(&mut answer.src_port, &mut answer.dst_port);
            vec![
                Scene {
                    inside,
                    ..scene(to, &["prerouting", "input", "ingress"], &inner, Some("eth0"), None)
                },
                Scene {
                    inside,
                    ..scene(to, &["output", "postrouting", "egress"], &answer, None, Some("eth0"))
                },
            ]
        }
        StageKind::LeavePod | StageKind::Underlay => Vec::new(),
    }
}

/// Whether a base chain sees the packet.
fn hangs(chain: &NftChain, scene: &Scene<'_>) -> bool {
    let Some(hook) = chain.hook.as_deref() else { return false };
    let family = match scene.meets.dst.or(scene.meets.src) {
        Some(address) if address.is_ipv6() => "ip6",
        Some(_) => "ip",
        None => "",
    };
    let link = match hook {
        "ingress" => scene.enters,
        "egress" => scene.leaves,
        _ => None,
    };
    let here =
        link.is_none_or(|link| chain.devices.is_empty() || chain.devices.iter().any(|device| device == link));
    let netdev = matches!(hook, "ingress" | "egress");
    scene.hooks.contains(&hook)
        && here
        && netdev == (chain.family == "netdev" || (netdev && chain.family == "inet"))
        && (matches!(chain.family.as_str(), "inet" | "netdev") || family.is_empty() || chain.family == family)
}

/// The rules that end a packet, in a chain and those it jumps to.
fn endings<'c>(
    all: &'c [NftChain],
    chain: &'c NftChain,
    depth: u8,
) -> Vec<(&'c NftChain, Option<&'c NftRule>)> {
    let mut found = Vec::new();
    for rule in &chain.rules {
        match &rule.verdict {
            NftVerdict::Drop | NftVerdict::Reject => found.push((chain, Some(rule))),
            NftVerdict::Jump(target) if depth < 16 => {
                let next = all
                    .iter()
                    .find(|c| c.family == chain.family && c.table == chain.table && c.name == *target);
                found.extend(next.into_iter().flat_map(|next| endings(all, next, depth + 1)));
            }
            _ => {}
        }
    }
    if chain.drops && chain.hook.is_some() {
        found.push((chain, None));
    }
    found
}

fn judge(
    scene: &Scene<'_>,
    base: &NftChain,
    chain: &NftChain,
    rule: Option<&NftRule>,
    before: &[NftChain],
    lost: u64,
) -> Option<Cause> {
    let packet = NftPacket {
        src: scene.meets.src,
        dst: scene.meets.dst,
        protocol: scene.meets.protocol,
        ports: (scene.meets.src_port, scene.meets.dst_port),
        links: (scene.enters, scene.leaves),
    };
    let fits = rule.and_then(|rule| rule.fits(&packet));
    if fits == Some(false) {
        return None;
    }
    let earlier =
        before.iter().find(|c| c.family == chain.family && c.table == chain.table && c.name == chain.name);
    let counted = rule.and_then(|rule| {
        let earlier =
            earlier.and_then(|chain| chain.rules.iter().find(|earlier| earlier.handle == rule.handle));
        Some(rule.packets?.saturating_sub(earlier.and_then(|rule| rule.packets).unwrap_or(0)))
    });
    let confidence = match (counted, fits) {
        (Some(0), _) => return None,
        (Some(counted), _) if counted == lost => Confidence::Confirmed,
        (Some(counted), Some(true)) if counted >= lost => Confidence::Confirmed,
        (Some(counted), _) if counted * 2 >= lost => Confidence::Likely,
        (None, Some(true)) => Confidence::Likely,
        _ => Confidence::Possible,
    };
    let place = format!("table {} {}, chain {}", chain.family, chain.table, chain.name);
    let what = rule.map_or_else(|| "policy drop".to_owned(), NftRule::words);
    let counted_words = match counted {
        Some(counted) => format!("counted {counted} packets while {lost} were lost"),
        None => "it has no counter; its matches fit the lost packets".to_owned(),
    };
    let early = base.family == "netdev" || matches!(base.hook.as_deref(), Some("ingress" | "egress"));
    let calico = chain.table == "calico";
    let kind = match () {
        () if !scene.inside.is_empty() => "pod_firewall",
        () if early => "early_hook",
        () if calico
            && ["cali-pi", "cali-po", "cali-tw", "cali-fw"].iter().any(|part| chain.name.contains(part)) =>
        {
            "network_policy"
        }
        () if calico => "calico_rule",
        () => "host_firewall",
    };
    let by = match kind {
        "pod_firewall" => "the pod's own nftables rules drop these packets",
        "early_hook" => "a rule at the link's own hook drops these packets before the IP layer sees them",
        "network_policy" | "calico_rule" => "a rule of Calico's nftables table drops these packets",
        _ => "a firewall of somebody else's in nftables drops these packets; iptables does not show it",
    };
    Some(Cause {
        kind,
        node: scene.node.to_owned(),
        confidence,
        summary: format!("{by}: {place}"),
        remedy: format!(
            "on {}: `nft -a list table {} {}`; find out who made it and let it accept this traffic",
            scene.node, chain.family, chain.table
        ),
        evidence: vec![
            Proof {
                source: "nftables",
                detail: format!("{place} (hook {}): {what}", base.hook.as_deref().unwrap_or("none")),
            },
            Proof { source: "nftables", detail: counted_words },
        ],
    })
}
