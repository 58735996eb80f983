//! Which rules a packet may meet.
//!
//! In: a ruleset, the built-in chains that the packet passes, and what is known of it. Out: every rule on its ways
//! through jumps and gotos whose matches do not exclude it, and the policies at their ends. Marks, sets, connection
//! states and limits are not evaluated: a rule with such a match may fit, and after it both ways are followed. Each
//! chain is walked at most twice, so the work grows with the number of rules alone. A rewritten address is not
//! followed: ask again with the new one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::{Chain, Match, Rule, Ruleset, Target};

/// What is known of a packet; `None` is unknown. An interface that the packet does not have (the incoming one in
/// `OUTPUT`) is the empty name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meets {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Source port.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
    /// Interface it came by.
    pub in_interface: Option<String>,
    /// Interface it leaves by.
    pub out_interface: Option<String>,
}

/// A rule or a policy that the packet may meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Table.
    pub table: String,
    /// Chain.
    pub chain: String,
    /// Place of the rule in its chain; `None` for the chain's policy.
    pub index: Option<usize>,
    /// Whether the rule's own matches fit; never [`Fits::No`].
    pub fits: Fits,
    /// Whether the packet comes to this rule whatever the unknown matches before it are.
    pub certain: bool,
}

/// Whether a packet fits a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fits {
    /// Every match holds.
    Yes,
    /// None fails, and these cannot be evaluated.
    Unknown(Vec<String>),
    /// One fails.
    No,
}

/// What the packet may meet on its way through `hooks`, pairs of table and built-in chain, in the order of the first
/// visit. A hook that the text does not have is passed over.
pub fn reach(ruleset: &Ruleset, hooks: &[(&str, &str)], meets: &Meets) -> Vec<Met> {
    let all = ruleset.tables.iter().flat_map(|table| table.chains.iter().map(move |chain| (table, chain)));
    let mut walk = Walk {
        chains: all.map(|(table, chain)| ((&*table.name, &*chain.name), chain)).collect(),
        meets,
        met: Vec::new(),
        places: HashMap::new(),
        walked: HashMap::new(),
    };
    for &(table, hook) in hooks {
        let Some(chain) = walk.chains.get(&(table, hook)).copied() else { continue };
        let passage = walk.chain(table, hook, true, 0);
        if chain.policy.is_some() && passage != Passage::Never {
            walk.meet(table, hook, None, Fits::Yes, passage == Passage::Always);
        }
    }
    walk.met
}

impl Meets {
    /// Whether a packet like this fits the matches of `rule`.
    pub fn fits(&self, rule: &Rule) -> Fits {
        let mut unknown = Vec::new();
        for one in &rule.matches {
            match self.holds(one) {
                Some(true) => {}
                Some(false) => return Fits::No,
                None => unknown.push(one.to_string()),
            }
        }
        if unknown.is_empty() { Fits::Yes } else { Fits::Unknown(unknown) }
    }

    /// Whether one match holds, its `not` included; `None` if that cannot be said.
    fn holds(&self, one: &Match) -> Option<bool> {
        let within =
            |ports: &[RangeInclusive<u16>], port: u16| ports.iter().any(|range| range.contains(&port));
        let (holds, not) = match one {
            Match::Source { net, not } => (net.contains(&self.src?), not),
            Match::Destination { net, not } => (net.contains(&self.dst?), not),
            Match::In { interface, not } => (named(interface, self.in_interface.as_deref()?), not),
            Match::Out { interface, not } => (named(interface, self.out_interface.as_deref()?), not),
            Match::Protocol { protocol: 0, not } => (true, not),
            Match::Protocol { protocol, not } => (*protocol == self.protocol?, not),
            Match::SourcePorts { ports, not } => (within(ports, self.src_port?), not),
            Match::DestinationPorts { ports, not } => (within(ports, self.dst_port?), not),
            Match::EitherPort { ports, not } => {
                (within(ports, self.src_port?) || within(ports, self.dst_port?), not)
            }
            _ => return None,
        };
        Some(holds != *not)
    }
}

/// Whether packets come out at the end of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passage {
    Always,
    Perhaps,
    Never,
}

struct Walk<'a> {
    /// By table and name.
    chains: HashMap<(&'a str, &'a str), &'a Chain>,
    meets: &'a Meets,
    met: Vec<Met>,
    /// Where in `met` a rule stands.
    places: HashMap<(String, String, Option<usize>), usize>,
    /// Chains walked, whether by a certain way, and what became of it.
    walked: HashMap<(String, String), (bool, Passage)>,
}

impl Walk<'_> {
    fn meet(&mut self, table: &str, chain: &str, index: Option<usize>, fits: Fits, certain: bool) {
        let place = (table.to_owned(), chain.to_owned(), index);
        if let Some(&at) = self.places.get(&place) {
            self.met[at].certain |= certain;
            return;
        }
        self.met.push(Met { table: table.to_owned(), chain: chain.to_owned(), index, fits, certain });
        self.places.insert(place, self.met.len() - 1);
    }

    fn chain(&mut self, table: &str, name: &str, certain: bool, depth: usize) -> Passage {
        let key = (table.to_owned(), name.to_owned());
        match self.walked.get(&key) {
            Some(&(before, passage)) if before || !certain => return passage,
            _ => {}
        }
        let Some(chain) = self.chains.get(&(table, name)).copied().filter(|_| depth < DEEPEST) else {
            return Passage::Perhaps;
        };
        // Stands for the result while the chain is being walked: the kernel refuses loops, a text may hold one.
        self.walked.insert(key.clone(), (true, Passage::Perhaps));
        let mut way = Way { certain, stops: false, leaves: false };
        let mut end = None;
        for (index, rule) in chain.rules.iter().enumerate() {
            let fits = self.meets.fits(rule);
            if fits == Fits::No {
                continue;
            }
            let surely = fits == Fits::Yes;
            self.meet(table, name, Some(index), fits, way.certain);
            end = self.follow(table, &rule.target, surely, &mut way, depth);
            if end.is_some() {
                break;
            }
        }
        let passage = way.outcome(end.unwrap_or(Passage::Always));
        self.walked.insert(key, (certain, passage));
        passage
    }

    /// What a target makes of the way through its chain; `Some` when nothing comes to the next rule.
    fn follow(
        &mut self,
        table: &str,
        target: &Target,
        surely: bool,
        way: &mut Way,
        depth: usize,
    ) -> Option<Passage> {
        let certain = way.certain && surely;
        let (passage, back) = match target {
            Target::Return => (Passage::Always, false),
            Target::Goto(name) => (self.chain(table, name, certain, depth + 1), false),
            Target::Jump(name) => (self.chain(table, name, certain, depth + 1), true),
            target if decides(target) => (Passage::Never, true),
            _ => return None,
        };
        if surely && (!back || passage == Passage::Never) {
            return Some(passage);
        }
        way.stops |= passage != Passage::Always;
        way.leaves |= !back && passage != Passage::Never;
        way.certain &= back && passage == Passage::Always;
        None
    }
}

/// What has become of the packet on its way through one chain.
struct Way {
    /// It surely comes to the next rule.
    certain: bool,
    /// A rule before may have decided on it.
    stops: bool,
    /// A rule before may have sent it back to the calling chain.
    leaves: bool,
}

impl Way {
    /// Of the whole chain, given what its last rule that was come to does.
    fn outcome(&self, end: Passage) -> Passage {
        match end {
            Passage::Always if self.stops => Passage::Perhaps,
            Passage::Never if self.leaves => Passage::Perhaps,
            end => end,
        }
    }
}

/// Whether no later rule of this hook sees the packet.
fn decides(target: &Target) -> bool {
    match target {
        Target::Accept
        | Target::Drop
        | Target::Reject(_)
        | Target::Dnat(_)
        | Target::Snat(_)
        | Target::Masquerade(_) => true,
        Target::Other(text) => text.split(' ').next().is_some_and(|name| DECIDING.contains(&name)),
        Target::Return
        | Target::Jump(_)
        | Target::Goto(_)
        | Target::Mark(_)
        | Target::NoTrack
        | Target::Log(_)
        | Target::None => false,
    }
}

/// Whether an interface has the name that a rule gives, a trailing `+` standing for any ending.
fn named(pattern: &str, interface: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(start) => interface.starts_with(start),
        None => interface == pattern,
    }
}

/// Targets of extensions that end the walk through a hook; all others let the packet go on to the next rule.
const DECIDING: &[&str] = &["QUEUE", "NFQUEUE", "REDIRECT", "NETMAP", "TPROXY", "SYNPROXY"];

/// Jumps deeper than any ruleset that the kernel takes.
const DEEPEST: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, proptest};

    use super::*;

    fn saved(name: &str) -> Ruleset {
        let path = format!("{}/tests/data/netfilter/{name}", env!("CARGO_MANIFEST_DIR"));
        Ruleset::parse(&std::fs::read_to_string(path).expect("test data"))
    }

    fn filter(lines: &str) -> Ruleset {
        Ruleset::parse(&format!("*filter\n:FORWARD DROP [0:0]\n:a - [0:0]\n:b - [0:0]\n{lines}\nCOMMIT\n"))
    }

    /// `chain#index?`: a question mark where it is not certain, `policy` for a chain's policy.
    fn ways(ruleset: &Ruleset, meets: &Meets) -> Vec<String> {
        reach(ruleset, &[("filter", "FORWARD")], meets)
            .into_iter()
            .map(|met| {
                let place = met.index.map_or("policy".to_owned(), |index| index.to_string());
                format!("{}#{place}{}", met.chain, if met.certain { "" } else { "?" })
            })
            .collect()
    }

    fn syn() -> Meets {
        Meets {
            src: Some("10.42.0.66".parse().unwrap()),
            dst: Some("10.42.1.5".parse().unwrap()),
            protocol: Some(6),
            src_port: Some(40000),
            dst_port: Some(80),
            in_interface: Some("vxlan.calico".into()),
            out_interface: Some("calia4fc3c48bd8".into()),
        }
    }

    #[test]
    fn a_packet_to_a_pod_meets_its_chains_and_no_others() {
        for name in ["calico-3.30-nft.txt", "calico-3.22-legacy.txt"] {
            let ruleset = saved(name);
            let met = reach(&ruleset, &[("raw", "PREROUTING"), ("filter", "FORWARD")], &syn());
            let has = |chain: &str| met.iter().any(|met| met.chain == chain);
            assert!(has("cali-tw-calia4fc3c48bd8") && has("cali-pi-knp/shop/allow-web"), "{name}");
            assert!(!has("cali-tw-caliaa50613ef2d") && !has("cali-from-wl-dispatch"), "{name}");
            let unknown_interface = ruleset.chain("filter", "cali-to-wl-dispatch").unwrap().rules.len() - 1;
            assert!(
                !met.iter()
                    .any(|met| met.chain == "cali-to-wl-dispatch" && met.index == Some(unknown_interface))
            );
            let end_of_tier = met.iter().find(|met| {
                met.index.is_some_and(|index| {
                    let rule = &ruleset.chain(&met.table, &met.chain).unwrap().rules[index];
                    rule.text.contains("End of tier default")
                })
            });
            let fits = &end_of_tier.expect("the end of the tier").fits;
            assert_eq!(*fits, Fits::Unknown(vec!["--mark 0x0/0x20000".into()]), "{name}");
            assert_eq!(met.last().map(|met| (met.index, &*met.chain)), Some((None, "FORWARD")));
        }
    }

    #[test]
    fn another_port_does_not_fit_the_policy() {
        let ruleset = saved("calico-3.30-nft.txt");
        let meets = Meets { dst_port: Some(81), ..syn() };
        let met = reach(&ruleset, &[("filter", "FORWARD")], &meets);
        assert!(!met.iter().any(|met| met.chain == "cali-pi-knp/shop/allow-web"));
        assert!(met.iter().any(|met| met.chain == "cali-pi-knp/shop/deny-all"));
    }

    #[test]
    fn a_rule_that_decides_ends_the_way() {
        let ruleset = filter("-A FORWARD -s 10.42.0.0/16 -j ACCEPT\n-A FORWARD -j DROP");
        assert_eq!(ways(&ruleset, &syn()), ["FORWARD#0"]);
        let unknown = filter("-A FORWARD -m mark --mark 0x1 -j ACCEPT\n-A FORWARD -j DROP");
        assert_eq!(ways(&unknown, &syn()), ["FORWARD#0", "FORWARD#1?"]);
    }

    #[test]
    fn returns_and_gotos() {
        let returns = filter("-A FORWARD -j a\n-A a -j RETURN\n-A a -j DROP\n-A FORWARD -j LOG");
        assert_eq!(ways(&returns, &syn()), ["FORWARD#0", "a#0", "FORWARD#1", "FORWARD#policy"]);
        let goto = filter("-A FORWARD -j a\n-A a -g b\n-A a -j DROP\n-A b -j MARK --set-xmark 0x1/0x1");
        assert_eq!(ways(&goto, &syn()), ["FORWARD#0", "a#0", "b#0", "FORWARD#policy"]);
        let perhaps = filter("-A FORWARD -j a\n-A a -m mark --mark 0x1 -j RETURN\n-A a -j DROP");
        assert_eq!(ways(&perhaps, &syn()), ["FORWARD#0", "a#0", "a#1?", "FORWARD#policy?"]);
    }

    #[test]
    fn a_chain_met_first_by_chance_and_then_for_sure() {
        let ruleset = filter("-A FORWARD -m mark --mark 0x1 -j a\n-A FORWARD -j a\n-A a -j LOG");
        assert_eq!(ways(&ruleset, &syn()), ["FORWARD#0", "a#0", "FORWARD#1", "FORWARD#policy"]);
    }

    #[test]
    fn loops_and_missing_chains_come_to_an_end() {
        let ruleset = filter("-A FORWARD -j a\n-A a -j b\n-A b -j a\n-A b -j nowhere");
        assert_eq!(ways(&ruleset, &syn()), ["FORWARD#0", "a#0", "b#0", "b#1?", "FORWARD#policy?"]);
        let mut deep = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j c0\n".to_owned();
        for n in 0..50_000 {
            deep.extend(["-A c", &n.to_string(), " -j c", &(n + 1).to_string(), "\n"]);
        }
        assert!(ways(&Ruleset::parse(&(deep + "COMMIT\n")), &syn()).len() < 200);
    }

    #[test]
    fn what_is_not_known_excludes_nothing() {
        let ruleset = filter("-A FORWARD -s 10.0.0.0/8 -i eth0 -p tcp -m tcp ! --dport 80 -j DROP");
        let met = reach(&ruleset, &[("filter", "FORWARD")], &Meets::default());
        let texts = ["-s 10.0.0.0/8", "-i eth0", "-p 6", "! --dports 80"].map(str::to_owned);
        assert_eq!(met[0].fits, Fits::Unknown(texts.to_vec()));
        assert_eq!(ways(&ruleset, &Meets { in_interface: Some(String::new()), ..Meets::default() }).len(), 1);
    }

    proptest! {
        #[test]
        fn any_jumps_come_to_an_end(rules in prop::collection::vec((0..3_usize, 0..6_usize), 0..60)) {
            let chains = ["FORWARD", "a", "b"];
            let ends = ["-j a", "-j b", "-g a", "-m mark --mark 0x1 -g b", "-j RETURN", "-m mark --mark 0x1 -j DROP"];
            let lines: Vec<_> =
                rules.iter().map(|(chain, end)| format!("-A {} {}", chains[*chain], ends[*end])).collect();
            let _ = ways(&filter(&lines.join("\n")), &Meets::default());
        }
    }
}
