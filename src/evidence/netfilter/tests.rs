use super::*;

const REAL: &str = include_str!("../../../tests/data/iptables-nft-save.txt");
const LEGACY: &str = include_str!("../../../tests/data/iptables-legacy-save.txt");

#[test]
fn every_line_of_real_outputs_is_understood() {
    for text in [REAL, LEGACY] {
        let ruleset = Ruleset::parse(text);
        assert_eq!(ruleset.not_understood, []);
        assert_eq!(ruleset.tables.len(), 4);
        let rules: usize =
            ruleset.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
        assert_eq!(rules, text.lines().filter(|line| line.contains(" -A ")).count());
        for table in &ruleset.tables {
            for chain in &table.chains {
                for rule in &chain.rules {
                    if let Target::Jump(to) | Target::Goto(to) = &rule.target {
                        assert!(ruleset.chain(&table.name, to).is_some(), "{to} is a chain: {}", rule.text);
                    }
                }
            }
        }
    }
}

#[test]
fn a_rule_is_taken_apart() {
    let text = "*filter\n:INPUT ACCEPT [1:2]\n[3:4] -A INPUT ! -s 10.0.0.0/8 -i cali+ -p udp -m comment --comment \
                \"cali:x\" -m comment --comment \"a \\\"b\\\" c\" -m multiport --dports 4789,5000:5010 -m set ! \
                --match-set s src -m limit --limit 5/sec -j DROP\nCOMMIT\n";
    let ruleset = Ruleset::parse(text);
    let rule = &ruleset.chain("filter", "INPUT").unwrap().rules[0];
    assert_eq!(rule.comments, ["cali:x", "a \"b\" c"]);
    assert_eq!(rule.counters, Some(Counters { packets: 3, bytes: 4 }));
    assert!(rule.target.kills());
    assert_eq!(rule.matches[0], Match { not: true, what: What::Source("10.0.0.0/8".parse().unwrap()) });
    assert_eq!(rule.matches[3].what, What::DestinationPorts(vec![4789..=4789, 5000..=5010]));
    assert_eq!(rule.matches[4], Match { not: true, what: What::Set("s".to_owned(), "src".to_owned()) });
    assert_eq!(rule.matches[5].what, What::Unknown("--limit 5/sec".to_owned()));
}

#[test]
fn moved_counters_are_found_by_text() {
    let before = Ruleset::parse(
        "*filter\n:FORWARD DROP [5:0]\n[1:0] -A FORWARD -j DROP\n[7:0] -A FORWARD -j DROP\nCOMMIT\n",
    );
    let after = Ruleset::parse(
        "*filter\n:FORWARD DROP [6:0]\n[9:0] -A FORWARD -s 10.0.0.1/32 -j DROP\n[1:0] -A FORWARD -j DROP\n[3:0] -A FORWARD -j DROP\n",
    );
    let moved: Vec<_> =
        delta(&before, &after).into_iter().map(|m| (m.index, m.packets, m.restarted)).collect();
    assert_eq!(moved, [(Some(0), 9, false), (Some(2), 3, true), (None, 1, false)]);
}

#[test]
fn only_fitting_rules_are_met() {
    let ruleset = Ruleset::parse(
        "*filter\n:FORWARD ACCEPT [0:0]\n:a - [0:0]\n:b - [0:0]\n-A FORWARD -i cali+ -j a\n-A FORWARD -i eth0 -j b\n\
         -A a -p tcp -m tcp --dport 80 -j DROP\n-A a -m mark --mark 0x1/0x1 -j DROP\n-A a -j a\n-A b -j DROP\n",
    );
    let meets = Meets {
        protocol: Some(6),
        dst_port: Some(443),
        in_interface: Some("cali123".to_owned()),
        ..Meets::default()
    };
    let met = reach(&ruleset, &[("filter", "FORWARD")], &meets);
    let places: Vec<_> = met.iter().map(|met| (met.chain.as_str(), met.index)).collect();
    assert_eq!(
        places,
        [
            ("FORWARD", Some(0)),
            ("a", Some(0)),
            ("a", Some(1)),
            ("a", Some(2)),
            ("FORWARD", Some(1)),
            ("FORWARD", None)
        ]
    );
    assert!(matches!(met[1].fits, Fits::No(_)));
    assert_eq!(met[2].fits, Fits::Unknown(vec!["mark 0x1/0x1".to_owned()]));
}

#[test]
fn broken_input_is_listed() {
    let ruleset = Ruleset::parse("[1:2] -A X -j DROP\n*filter\n:A B\nnonsense\n[x] -A A\n-A A \"open\n");
    assert_eq!(ruleset.not_understood.len(), 5);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(\\*filter\n)?[:\\[\\]A-Za-z0-9 !\"\\\\/.-]*(\n[-:\\[][ -~]*)*") {
        let ruleset = Ruleset::parse(&text);
        let _whatever = delta(&ruleset, &ruleset);
        let _whatever = reach(&ruleset, &[("filter", "FORWARD")], &Meets::default());
    }
}
