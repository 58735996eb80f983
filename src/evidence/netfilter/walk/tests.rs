use proptest::prelude::{prop, proptest};

use super::super::{End, Met, Ruleset, Sets};
use std::collections::BTreeSet;

use super::*;
use crate::evidence::host::Host;

fn saved(name: &str) -> String {
    let path = format!("{}/tests/data/netfilter/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("test data")
}

fn filter(lines: &str) -> Ruleset {
    Ruleset::parse(&format!("*filter\n:FORWARD DROP [0:0]\n:a - [0:0]\n:b - [0:0]\n{lines}\nCOMMIT\n"))
}

fn through(ruleset: &Ruleset, sets: Option<&Sets>, meets: &Meets) -> Walked {
    let world = World { rulesets: vec![("rules".to_owned(), ruleset)], sets, host: None, unread: Vec::new() };
    walk(&world, Course::Forwarded, meets)
}

/// `chain#index`, with a question mark where it is not certain, `policy` for a chain's policy.
fn ways(ruleset: &Ruleset, meets: &Meets) -> Vec<String> {
    let walked = through(ruleset, None, meets);
    let show = |met: &Met| {
        let chain = &ruleset.tables[met.place.table].chains[met.place.chain];
        let place = met.place.rule.map_or("policy".to_owned(), |index| index.to_string());
        format!("{}#{place}{}", chain.name, if met.certain { "" } else { "?" })
    };
    walked.met.iter().map(show).collect()
}

/// What may become of the packet: `passes`, or the rule's text or `policy` that ends it.
fn ends(ruleset: &Ruleset, sets: Option<&Sets>, meets: &Meets) -> Vec<String> {
    let world = World { rulesets: vec![("rules".to_owned(), ruleset)], sets, host: None, unread: Vec::new() };
    let show = |end: &End| match &end.place {
        None => "passes".to_owned(),
        Some(place) => world.rule(place).map_or("policy".to_owned(), |rule| rule.text.clone()),
    };
    through(ruleset, sets, meets).ends.iter().map(show).collect()
}

fn syn() -> Meets {
    Meets {
        src: Some("10.42.0.66".parse().unwrap()),
        dst: Some("10.42.1.5".parse().unwrap()),
        protocol: Some(6),
        src_port: Some(40000),
        dst_port: Some(80),
        tcp_flags: Some(2),
        state: Some(CtState::New),
        mark: Some(0),
        in_interface: Some("vxlan.calico".into()),
        out_interface: Some("calia4fc3c48bd8".into()),
        ..Meets::default()
    }
}

/// Every set that the texts name, with the client in it.
fn sets(text: &str) -> Sets {
    let names: BTreeSet<&str> = text
        .match_indices("--match-set ")
        .filter_map(|(at, word)| text[at + word.len()..].split(' ').next())
        .collect();
    let lines =
        names.iter().map(|name| format!("create {name} hash:net family inet\nadd {name} 10.42.0.0/16\n"));
    Sets::parse(&lines.collect::<String>())
}

#[test]
fn a_packet_that_a_policy_allows_passes_and_another_port_ends_at_the_tier() {
    for name in
        ["calico-3.30-nft.txt", "calico-3.30-legacy.txt", "calico-3.22-nft.txt", "calico-3.22-legacy.txt"]
    {
        let text = saved(name);
        let (ruleset, sets) = (Ruleset::parse(&text), sets(&text));
        let walked = through(&ruleset, Some(&sets), &syn());
        assert_eq!(walked.certain().map(|end| &end.what), Some(&Ending::Passes), "{name}: {:?}", walked.ends);
        let met = |chain: &str| {
            walked.met.iter().any(|met| ruleset.tables[met.place.table].chains[met.place.chain].name == chain)
        };
        assert!(met("cali-tw-calia4fc3c48bd8") && met("cali-pi-knp/shop/allow-web"), "{name}");
        assert!(!met("cali-tw-caliaa50613ef2d") && !met("cali-fw-caliaa50613ef2d"), "{name}");
        let denied = Meets { dst_port: Some(81), ..syn() };
        let ends = ends(&ruleset, Some(&sets), &denied);
        assert!(
            matches!(&ends[..], [only] if only.contains("no policies passed packet")),
            "{name}: {ends:?}"
        );
        let invalid = Meets { state: Some(CtState::Invalid), ..syn() };
        let ends = self::ends(&ruleset, Some(&sets), &invalid);
        assert!(matches!(&ends[..], [only] if only.contains("--ctstate INVALID")), "{name}: {ends:?}");
    }
}

#[test]
fn without_its_sets_or_state_nothing_is_certain() {
    let ruleset = Ruleset::parse(&saved("calico-3.30-nft.txt"));
    for (sets, meets) in [(None, syn()), (None, Meets { state: None, ..syn() })] {
        let walked = through(&ruleset, sets, &meets);
        assert!(walked.certain().is_none());
        assert!(walked.ends.iter().any(|end| end.what == Ending::Passes));
        assert!(walked.ends.iter().any(|end| end.what == Ending::Dropped));
    }
}

#[test]
fn half_a_ruleset_makes_nothing_certain() {
    let text = saved("calico-3.30-nft.txt");
    let sets = sets(&text);
    for at in (0..text.len()).step_by(997) {
        let half = Ruleset::parse(&text[..at]);
        let whole = half.tables.iter().any(|table| table.name == "filter" && table.complete);
        if !whole && !half.tables.is_empty() && half.tables.iter().any(|table| !table.complete) {
            assert!(through(&half, Some(&sets), &syn()).certain().is_none(), "cut at {at}");
        }
    }
    let odd = filter("-A FORWARD -j ACCEPT\n-A FORWARD \"open");
    assert!(through(&odd, None, &syn()).certain().is_none());
}

#[test]
fn a_rule_that_decides_ends_the_way() {
    let ruleset = filter("-A FORWARD -s 10.42.0.0/16 -j ACCEPT\n-A FORWARD -j DROP");
    assert_eq!(ways(&ruleset, &syn()), ["FORWARD#0"]);
    let unknown = filter("-A FORWARD -m mark --mark 0x1 -j ACCEPT\n-A FORWARD -j DROP");
    assert_eq!(ways(&unknown, &Meets { mark: None, ..syn() }), ["FORWARD#0", "FORWARD#1?"]);
    assert_eq!(ways(&unknown, &syn()), ["FORWARD#1"]);
}

#[test]
fn returns_and_gotos() {
    let returns = filter("-A FORWARD -j a\n-A a -j RETURN\n-A a -j DROP\n-A FORWARD -j LOG");
    assert_eq!(ways(&returns, &syn()), ["FORWARD#0", "a#0", "FORWARD#1", "FORWARD#policy"]);
    let goto = filter("-A FORWARD -j a\n-A a -g b\n-A a -j DROP\n-A b -j MARK --set-xmark 0x1/0x1");
    assert_eq!(ways(&goto, &syn()), ["FORWARD#0", "a#0", "b#0", "FORWARD#policy"]);
    let perhaps = filter("-A FORWARD -j a\n-A a -m u32 --u32 x -j RETURN\n-A a -j DROP");
    assert_eq!(ways(&perhaps, &syn()), ["FORWARD#0", "a#0", "a#1?", "FORWARD#policy?"]);
}

#[test]
fn a_chain_met_first_by_chance_and_then_for_sure() {
    let ruleset = filter("-A FORWARD -m u32 --u32 x -j a\n-A FORWARD -j a\n-A a -j LOG");
    assert_eq!(ways(&ruleset, &syn()), ["FORWARD#0", "a#0", "FORWARD#1", "FORWARD#policy"]);
}

#[test]
fn loops_and_missing_chains_come_to_an_end() {
    let ruleset = filter("-A FORWARD -j a\n-A a -j b\n-A b -j a\n-A b -j nowhere");
    assert_eq!(ways(&ruleset, &syn()), ["FORWARD#0", "a#0", "b#0", "b#1?", "FORWARD#policy?"]);
    assert!(through(&ruleset, None, &syn()).certain().is_none());
    let mut deep = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j c0\n".to_owned();
    for n in 0..50_000 {
        deep.extend(["-A c", &n.to_string(), " -j c", &(n + 1).to_string(), "\n"]);
    }
    let deep = Ruleset::parse(&(deep + "COMMIT\n"));
    assert!(ways(&deep, &syn()).len() < 200);
    assert_eq!(through(&deep, None, &syn()).doubts, ["jumps lead deeper than the kernel allows"]);
    // Twice as many ways with every chain, were they not walked together.
    let mut tangled = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j c0\n".to_owned();
    for n in 0..100 {
        let jump = format!(
            "-A c{n} -m u32 --u32 x -j MARK --set-xmark {:#x}/0x0\n-A c{n} -j c{}\n",
            1 << (n % 32),
            n + 1
        );
        tangled += &jump.repeat(2);
    }
    tangled += "-A c100 -m u32 --u32 y -j DROP\nCOMMIT\n";
    assert!(through(&Ruleset::parse(&tangled), None, &syn()).certain().is_none());
}

#[test]
fn what_is_not_known_excludes_nothing() {
    let ruleset = filter("-A FORWARD -s 10.0.0.0/8 -i eth0 -p tcp -m tcp ! --dport 80 -j DROP");
    let walked = through(&ruleset, None, &Meets::default());
    let texts = ["-s 10.0.0.0/8", "-i eth0", "-p 6", "! --dports 80"].map(str::to_owned);
    assert_eq!(walked.met[0].fits, Fits::Unknown(texts.to_vec()));
    assert_eq!(ways(&ruleset, &Meets { in_interface: Some(String::new()), ..Meets::default() }).len(), 1);
}

#[test]
fn marks_are_followed_bit_by_bit() {
    for (lines, passes) in [
        (
            "-A FORWARD -j MARK --set-xmark 0x10000/0x10000\n-A FORWARD -m mark --mark 0x10000/0x30000 -j ACCEPT",
            true,
        ),
        (
            "-A FORWARD -j MARK --set-xmark 0x3/0xf\n-A FORWARD -j MARK --set-xmark 0x0/0x1\n-A FORWARD -m mark --mark 0x2 -j ACCEPT",
            true,
        ),
        (
            "-A FORWARD -j MARK --set-xmark 0x1/0x0\n-A FORWARD -j MARK --set-xmark 0x1/0x0\n-A FORWARD -m mark --mark 0x1/0x1 -j ACCEPT",
            false,
        ),
        ("-A FORWARD -m mark ! --mark 0x0/0x1 -j ACCEPT", false),
        (
            "-A FORWARD -j CONNMARK --restore-mark --nfmask 0xffff --ctmask 0xffff\n-A FORWARD -m mark --mark 0x0 -j ACCEPT",
            true,
        ),
        (
            "-A FORWARD -j MARK --set-xmark 0x5/0xffffffff\n-A FORWARD -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff\n\
          -A FORWARD -j MARK --set-xmark 0x0/0xffffffff\n-A FORWARD -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff\n\
          -A FORWARD -m mark --mark 0x5 -j ACCEPT",
            true,
        ),
    ] {
        let expected = if passes { "passes" } else { "policy" };
        assert_eq!(ends(&filter(lines), None, &syn()), [expected], "{lines}");
    }
    let restored = filter("-A FORWARD -j CONNMARK --restore-mark\n-A FORWARD -m mark --mark 0x0 -j ACCEPT");
    let later = Meets { state: Some(CtState::Established), ..syn() };
    assert_eq!(ends(&restored, None, &later), ["policy", "passes"]);
}

#[test]
fn tables_are_asked_in_the_order_of_their_hooks() {
    let ruleset = Ruleset::parse(
        "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m mark --mark 0x7 -j DROP\nCOMMIT\n\
         *nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.96.0.10 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.42.1.5:8080\nCOMMIT\n\
         *mangle\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n-A PREROUTING -m conntrack --ctstate UNTRACKED -j DROP\n\
         -A POSTROUTING -d 10.42.1.5 -p tcp -m tcp --dport 8080 -m conntrack --ctstate DNAT -j DROP\nCOMMIT\n\
         *raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -m conntrack --ctstate INVALID -j MARK --set-xmark 0x7/0x7\n\
         -A PREROUTING -s 10.42.0.67 -j NOTRACK\nCOMMIT\n",
    );
    // Before connection tracking every packet is invalid, which marks it.
    assert_eq!(ends(&ruleset, None, &syn()), ["-A FORWARD -m mark --mark 0x7 -j DROP"]);
    let untracked = Meets { src: "10.42.0.67".parse().ok(), ..syn() };
    assert!(ends(&ruleset, None, &untracked)[0].contains("UNTRACKED"));
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.96.0.10 -j DNAT --to-destination 10.42.1.5:8080\nCOMMIT\n\
        *filter\n:FORWARD DROP [0:0]\n-A FORWARD -d 10.42.1.5 -p tcp -m tcp --dport 8080 -m conntrack --ctstate DNAT -j ACCEPT\nCOMMIT\n";
    let service = Ruleset::parse(text);
    let to_service = Meets { dst: "10.96.0.10".parse().ok(), ..syn() };
    assert_eq!(ends(&service, None, &to_service), ["passes"]);
    let established = Meets { state: Some(CtState::Established), ..to_service };
    assert_eq!(ends(&service, None, &Meets { reply: Some(false), ..established.clone() }), ["passes"]);
    assert_eq!(ends(&service, None, &Meets { reply: Some(true), ..established.clone() }), ["policy"]);
    assert_eq!(ends(&service, None, &established), ["policy", "passes"]);
}

#[test]
fn chance_and_unknown_targets_leave_it_open() {
    let chance =
        filter("-A FORWARD -m statistic --mode random --probability 0.5 -j DROP\n-A FORWARD -j ACCEPT");
    assert_eq!(ends(&chance, None, &syn()).len(), 2);
    let queue = filter("-A FORWARD -j NFQUEUE --queue-num 1\n-A FORWARD -j ACCEPT");
    assert!(matches!(&through(&queue, None, &syn()).ends[..], [End { what: Ending::Elsewhere(_), .. }]));
    let strange = filter("-A FORWARD -j MAGIC --wand 1\n-A FORWARD -j ACCEPT");
    assert!(through(&strange, None, &syn()).certain().is_none());
    let harmless = filter("-A FORWARD -j TCPMSS --clamp-mss-to-pmtu\n-A FORWARD -j ACCEPT");
    assert_eq!(ends(&harmless, None, &syn()), ["passes"]);
}

/// What may become of a packet that a rule of table nat translates where it comes in, and that FORWARD lets pass to port 8080
/// of where it was meant to go.
fn translated(rule: &str, course: Course, meets: &Meets) -> Vec<Ending> {
    let chain = if course == Course::Sent { "OUTPUT" } else { "PREROUTING" };
    let ruleset = Ruleset::parse(&format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A {chain} {rule}\nCOMMIT\n\
         *filter\n:FORWARD DROP [0:0]\n-A FORWARD -d 10.42.1.5/32 -p tcp -m tcp --dport 8080 -j ACCEPT\nCOMMIT\n"
    ));
    let rulesets = vec![("rules".to_owned(), &ruleset)];
    let walked = walk(&World { rulesets, ..World::default() }, course, meets);
    assert_eq!(walked.doubts, Vec::<String>::new());
    walked.ends.into_iter().map(|end| end.what).collect()
}

/// The rules as iptables-save prints them.
#[test]
fn who_is_translated_to_another_address_may_go_another_way() {
    let to_host = || Ending::Elsewhere("redirected to the host itself".to_owned());
    let perhaps = || Ending::Elsewhere("translated to an address that is not known here".to_owned());
    let redirect = "-p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080";
    assert_eq!(translated(redirect, Course::Forwarded, &syn()), [to_host()]);
    assert_eq!(translated(redirect, Course::Sent, &syn()), [to_host()]);
    assert_eq!(translated(redirect, Course::Received, &syn()), [Ending::Passes]);
    let established = Meets { state: Some(CtState::Established), reply: Some(false), ..syn() };
    assert_eq!(translated(redirect, Course::Forwarded, &established), [to_host()]);
    for rule in [
        "-p tcp -m tcp --dport 80 -j DNAT --to-destination 10.42.1.5-10.42.1.9:8080",
        "-d 10.42.1.0/24 -j NETMAP --to 10.10.0.0/24",
    ] {
        let ends = translated(rule, Course::Forwarded, &syn());
        assert_eq!(ends, [perhaps(), Ending::Dropped, Ending::Passes], "{rule}");
    }
    // Without an address the destination stays.
    let port = "-p tcp -m tcp --dport 80 -j DNAT --to-destination :8080";
    assert_eq!(translated(port, Course::Forwarded, &syn()), [Ending::Passes]);
    // The last group of an address is no port.
    let six = Meets { src: "fd00::9".parse().ok(), dst: "fd00::1".parse().ok(), ..syn() };
    let range = "-p tcp -m tcp --dport 80 -j DNAT --to-destination fd00::5-fd00::8080";
    let ends = translated(range, Course::Forwarded, &six);
    assert_eq!(ends, [perhaps(), Ending::Dropped], "{range}");
}

#[test]
fn where_the_host_routes_is_not_known_without_its_routes() {
    let ruleset = Ruleset::parse(
        "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j DNAT --to-destination 10.42.1.9\nCOMMIT\n",
    );
    let walked = |host| {
        let rulesets = vec![("rules".to_owned(), &ruleset)];
        walk(&World { rulesets, host, ..World::default() }, Course::Forwarded, &syn())
    };
    let host = Host::default();
    assert_eq!(walked(Some(&host)).certain().map(|end| &end.what), Some(&Ending::Passes));
    let unread = walked(None);
    assert_eq!(unread.certain(), None);
    assert_eq!(unread.doubts, ["translated to 10.42.1.9, and where the host routes that was not read"]);
}

#[test]
fn too_many_rules_are_no_deep_jumps() {
    let ruleset = filter("-A FORWARD -j a\n-A a -j ACCEPT");
    let world = World { rulesets: vec![("rules".to_owned(), &ruleset)], ..World::default() };
    let meets = syn();
    let mut walk = Walk::of(&world, Course::Forwarded, &meets);
    walk.steps = MOST_STEPS + 1;
    walk.hook(HookPoint::Forward, States::from([State::of(&meets)]));
    assert_eq!(walk.told.walked.doubts, [TANGLED]);
}

/// A connection was translated by the rules of its first packet; what comes back is not translated by them.
#[test]
fn an_established_connection_is_translated_as_its_first_packet_was() {
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.96.0.10/32 -p tcp -j DNAT --to-destination 10.42.2.9:8080\nCOMMIT\n\
                *filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack --ctdir REPLY -j ACCEPT\n-A FORWARD -d 10.42.2.9/32 -j DROP\nCOMMIT\n";
    let ruleset = Ruleset::parse(text);
    let packet = |reply| Meets {
        dst: Some("10.96.0.10".parse().unwrap()),
        state: Some(CtState::Established),
        reply,
        ..syn()
    };
    assert_eq!(ways(&ruleset, &packet(Some(false))), ["FORWARD#1"]);
    assert_eq!(ways(&ruleset, &packet(Some(true))), ["FORWARD#0"]);
    // Which way it goes is not known: it may be either.
    assert_eq!(ways(&ruleset, &packet(None)), ["FORWARD#0", "FORWARD#1?", "FORWARD#policy?"]);
}

#[test]
fn a_hundred_thousand_members_are_no_burden() {
    let mut text = "create big hash:ip family inet\n".to_owned();
    for n in 0..100_000_u32 {
        text.extend(["add big ", &std::net::Ipv4Addr::from(0x0b00_0000 + n).to_string(), "\n"]);
    }
    let sets = Sets::parse(&text);
    let ruleset = filter("-A FORWARD -m set --match-set big src -j ACCEPT\n-A FORWARD -j DROP");
    for _ in 0..1000 {
        assert_eq!(ends(&ruleset, Some(&sets), &syn()), ["-A FORWARD -j DROP"]);
    }
}

#[test]
fn ten_thousand_services_are_walked_even_if_nothing_is_known() {
    use std::fmt::Write;
    let mut text = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n".to_owned();
    for n in 0..10_000 {
        let _ = write!(text, ":KUBE-SVC-{n} - [0:0]\n:KUBE-SEP-{n} - [0:0]\n");
    }
    text += "-A PREROUTING -j KUBE-SERVICES\n";
    for n in 0..10_000_u32 {
        let (service, pod) =
            (std::net::Ipv4Addr::from(0x0a60_0000 + n), std::net::Ipv4Addr::from(0x0af4_0000 + n));
        let _ = write!(
            text,
            "-A KUBE-SERVICES -d {service}/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-{n}\n\
             -A KUBE-SVC-{n} -m statistic --mode random --probability 0.5 -j KUBE-SEP-{n}\n\
             -A KUBE-SVC-{n} -j KUBE-SEP-{n}\n\
             -A KUBE-SEP-{n} -p tcp -m tcp -j DNAT --to-destination {pod}:8080\n"
        );
    }
    text += "COMMIT\n*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -d 10.244.0.7 -j DROP\nCOMMIT\n";
    let ruleset = Ruleset::parse(&text);
    let one = Meets { dst: "10.96.0.7".parse().ok(), ..syn() };
    assert_eq!(ends(&ruleset, None, &one), ["-A FORWARD -d 10.244.0.7 -j DROP"]);
    let walked = through(&ruleset, None, &Meets::default());
    assert!(walked.certain().is_none());
}

#[test]
fn tens_of_thousands_of_rules_that_may_drop_are_no_burden() {
    let rules: Vec<_> = (0..40_000).map(|n| format!("-A FORWARD -m u32 --u32 {n} -j DROP\n")).collect();
    assert_eq!(ends(&filter(&rules.concat()), None, &syn()).len(), 40_001);
}

proptest! {
    #[test]
    fn any_jumps_come_to_an_end(rules in prop::collection::vec((0..3_usize, 0..7_usize), 0..60)) {
        let chains = ["FORWARD", "a", "b"];
        let ends = ["-j a", "-j b", "-g a", "-m u32 --u32 x -g b", "-j RETURN", "-m u32 --u32 y -j DROP",
                    "-m u32 --u32 z -j MARK --set-xmark 0x3/0x0"];
        let lines: Vec<_> =
            rules.iter().map(|(chain, end)| format!("-A {} {}", chains[*chain], ends[*end])).collect();
        let _ = ways(&filter(&lines.join("\n")), &Meets::default());
    }

    /// Knowing less never excludes an end that knowing more allows.
    #[test]
    fn what_is_not_known_never_excludes_what_happens(
        rules in prop::collection::vec((0..3_usize, 0..9_usize, 0..8_usize), 1..40), hide in 0..32_u8) {
        let matches = ["", "-s 10.42.0.0/16 ", "-p udp ", "-p tcp -m tcp --dport 80 ", "-p tcp -m tcp --dport 443 ",
                       "-m conntrack --ctstate NEW ", "-m mark --mark 0x1/0x1 ", "-i vxlan.calico ", "! -d 10.42.1.5/32 "];
        let targets = ["-j a", "-j b", "-g a", "-j RETURN", "-j DROP", "-j ACCEPT",
                       "-j MARK --set-xmark 0x1/0x1", "-j MARK --set-xmark 0x0/0x1"];
        let chains = ["FORWARD", "a", "b"];
        let lines: Vec<_> = rules.iter().map(|(chain, one, target)| {
            // No jumps backwards: the kernel takes no loops.
            let target = if *target < *chain + 1 && *target < 3 { 3 } else { *target };
            let target = if *chain == 2 && target < 3 { 4 } else if *chain == 1 && target == 2 { 1 } else { target };
            format!("-A {} {}{}", chains[*chain], matches[*one], targets[target])
        }).collect();
        let ruleset = filter(&lines.join("\n"));
        let known = syn();
        let mut less = syn();
        if hide & 1 != 0 { less.src = None; }
        if hide & 2 != 0 { less.dst_port = None; }
        if hide & 4 != 0 { less.state = None; }
        if hide & 8 != 0 { less.mark = None; }
        if hide & 16 != 0 { less.in_interface = None; }
        let (exact, wide) = (through(&ruleset, None, &known), through(&ruleset, None, &less));
        proptest::prop_assert_eq!(exact.ends.len(), 1);
        proptest::prop_assert!(wide.ends.contains(&exact.ends[0]), "{:?} {:?}\n{}", exact.ends, wide.ends, lines.join("\n"));
    }
}
