use super::super::{Course, CtState, Match, Meets, Target, World, walk};
use super::*;

fn listed(name: &str) -> String {
    let path = format!("{}/tests/data/nft/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("test data")
}

fn syn(dst_port: u16) -> Meets {
    Meets {
        src: "10.244.1.2".parse().ok(),
        dst: "10.244.2.2".parse().ok(),
        protocol: Some(6),
        src_port: Some(40000),
        dst_port: Some(dst_port),
        tcp_flags: Some(2),
        length: Some(60),
        state: Some(CtState::New),
        mark: Some(0),
        in_interface: Some("vxlan.calico".into()),
        out_interface: Some("cali7715d358f22".into()),
        ..Meets::default()
    }
}

/// What becomes of a packet: its only end with the text and comment of the rule that makes it, or all ends.
fn end(ruleset: &Ruleset, meets: &Meets) -> String {
    let world = World { rulesets: vec![("nft".to_owned(), ruleset)], ..World::default() };
    let walked = walk(&world, Course::Forwarded, meets);
    match walked.certain() {
        Some(end) => {
            let rule = end.place.as_ref().and_then(|place| world.rule(place));
            let words =
                rule.map(|rule| format!(": {} {}", rule.text, rule.comments.join(" "))).unwrap_or_default();
            format!("{:?}{words}", end.what)
        }
        None => format!("{:?} {:?}", walked.ends, walked.doubts),
    }
}

#[test]
fn every_rule_is_there_and_typed_or_kept_as_unknown() {
    for name in ["calico-new", "calico-old", "odd"] {
        let text = listed(name);
        let ruleset = Ruleset::parse_nft(&text);
        assert_eq!(ruleset.not_understood, [], "{name}");
        assert_eq!(ruleset.n_rules(), text.matches("{\"rule\":").count(), "{name}");
        let chains: usize = ruleset.tables.iter().map(|table| table.chains.len()).sum();
        assert_eq!(chains, text.matches("{\"chain\":").count(), "{name}");
        if name == "odd" {
            continue;
        }
        for table in &ruleset.tables {
            for chain in &table.chains {
                for rule in &chain.rules {
                    let unknown = rule.matches.iter().find(|one| matches!(one, Match::Unknown(_)));
                    assert!(unknown.is_none(), "{}: {unknown:?}", rule.text);
                    assert!(!matches!(rule.target, Target::Other(_)), "{}", rule.text);
                    if let Target::Jump(to) | Target::Goto(to) = &rule.target {
                        assert!(table.chain(to).is_some(), "{to}");
                    }
                    if table.name == "calico" {
                        assert!(rule.comments[0].starts_with("cali:"), "{}", rule.text);
                    }
                }
            }
        }
    }
}

#[test]
fn a_pod_behind_a_policy() {
    for layout in ["calico-new", "calico-old"] {
        let ruleset = Ruleset::parse_nft(&listed(layout));
        assert_eq!(end(&ruleset, &syn(80)), "Passes", "{layout}");
        let denied = end(&ruleset, &syn(81));
        assert!(
            denied.starts_with("Dropped: ") && denied.contains("no policies passed"),
            "{layout}: {denied}"
        );
        let stranger = Meets { src: "10.244.3.2".parse().ok(), ..syn(80) };
        assert!(end(&ruleset, &stranger).contains("no policies passed"));
        let invalid = Meets { state: Some(CtState::Invalid), ..syn(80) };
        assert!(end(&ruleset, &invalid).contains("ct state invalid"));
        let elsewhere = Meets { out_interface: Some("cali00000000000".into()), ..syn(80) };
        assert!(end(&ruleset, &elsewhere).contains("Unknown interface"));
        let odd_service = Meets { dst: "10.96.0.10".parse().ok(), ..syn(99) };
        assert!(end(&ruleset, &odd_service).contains("icmp-port-unreachable"));
        let tunnelled = Meets {
            protocol: Some(17),
            dst_port: Some(4789),
            in_interface: Some("cali7715d358f22".into()),
            ..syn(1)
        };
        // Whether its source is its own is a matter of routes, which are not known here.
        assert!(end(&ruleset, &tunnelled).contains("Dropped"));
    }
}

#[test]
fn somebody_elses_table() {
    let ruleset = Ruleset::parse_nft(&listed("odd"));
    let from = |src: &str, meets: Meets| Meets { src: src.parse().ok(), ..meets };
    assert!(end(&ruleset, &from("10.9.1.1", syn(80))).contains("blocked nets"));
    assert!(end(&ruleset, &from("10.10.0.9", syn(80))).contains("blocked nets"));
    // Whoever was heard lately is in a set that changes with every packet.
    let open = end(&ruleset, &syn(81));
    assert!(open.starts_with('['), "{open}");
    let known = Meets { state: Some(CtState::Established), ..syn(81) };
    assert_eq!(end(&ruleset, &known), "Passes");
    let table = &ruleset.tables[0];
    let forward = table.chain("forward").unwrap();
    assert_eq!(forward.policy, Some(Policy::Drop));
    assert_eq!(forward.hook.as_ref().unwrap().priority, 10);
    let marked = forward.rules.iter().find(|rule| rule.text.contains("set 5")).unwrap();
    assert_eq!(marked.before, [Target::Mark("--set-xmark 0x5/0xffffffff".to_owned())]);
    assert_eq!(marked.target, Target::Accept);
    let early = ruleset.tables.iter().find(|table| table.name == "early").unwrap();
    // nft 1.0.6 does not print the device: whether the chain is met is not known.
    assert!(early.chains[0].hook.as_ref().unwrap().devices.is_empty());
    let outer = Meets {
        src: "192.168.50.66".parse().ok(),
        protocol: Some(17),
        dst_port: Some(4789),
        in_interface: Some("lo".into()),
        ..syn(1)
    };
    assert!(end(&ruleset, &outer).starts_with("[End { what: Dropped"));
    let told = listed("odd").replace("\"hook\":\"ingress\"", "\"hook\":\"ingress\",\"dev\":\"lo\"");
    let told = told.replace("\"hook\": \"ingress\"", "\"hook\": \"ingress\", \"dev\": \"lo\"");
    assert!(end(&Ruleset::parse_nft(&told), &outer).starts_with("Dropped: udp dport 4789"));
}

/// As `nft -j` 1.0.6 prints them.
#[test]
fn translations_of_every_form() {
    for (statement, ends) in [
        (r#"{"redirect":{"port":8080}}"#, "Elsewhere(\"redirected to the host itself\")"),
        (r#"{"redirect":null}"#, "Elsewhere(\"redirected to the host itself\")"),
        (r#"{"dnat":{"addr":"10.244.2.2","port":8080}}"#, "Passes"),
        (r#"{"dnat":{"port":8080}}"#, "Passes"),
        (r#"{"dnat":{"addr":"10.244.2.2","port":{"range":[8080,8090]}}}"#, "perhaps dropped"),
        (r#"{"dnat":{"addr":{"range":["10.244.2.2","10.244.2.9"]},"port":8080}}"#, "perhaps elsewhere"),
        (
            r#"{"dnat":{"addr":{"prefix":{"addr":"10.1.0.0","len":16}},"flags":"netmap","type_flags":"prefix"}}"#,
            "perhaps elsewhere",
        ),
        (
            r#"{"dnat":{"addr":{"map":{"key":{"numgen":{"mode":"random","mod":2,"offset":0}},"data":{"set":[[0,"10.1.1.1"],[1,"10.1.1.2"]]}}}}}"#,
            "perhaps elsewhere",
        ),
    ] {
        let chain = |name: &str, kind: &str, hook: &str, priority: i32, policy: &str| {
            format!(
                r#"{{"chain":{{"family":"ip","table":"x","name":"{name}","handle":1,"type":"{kind}","hook":"{hook}","prio":{priority},"policy":"{policy}"}}}}"#
            )
        };
        let text = format!(
            r#"{{"nftables":[{{"table":{{"family":"ip","name":"x","handle":1}}}},{},{},
            {{"rule":{{"family":"ip","table":"x","chain":"p","handle":3,"expr":[{statement}]}}}},
            {{"rule":{{"family":"ip","table":"x","chain":"f","handle":4,"expr":[
            {{"match":{{"op":"==","left":{{"payload":{{"protocol":"ip","field":"daddr"}}}},"right":"10.244.2.2"}}}},
            {{"match":{{"op":"==","left":{{"payload":{{"protocol":"tcp","field":"dport"}}}},"right":8080}}}},{{"accept":null}}]}}}}]}}"#,
            chain("p", "nat", "prerouting", -100, "accept"),
            chain("f", "filter", "forward", 0, "drop"),
        );
        let ruleset = Ruleset::parse_nft(&text.replace('\n', ""));
        assert_eq!(ruleset.n_rules(), 2, "{statement}");
        let end = end(&ruleset, &syn(80));
        let is = match ends {
            "perhaps dropped" => end.starts_with("[End { what: Dropped") && end.contains("Passes"),
            "perhaps elsewhere" => {
                end.starts_with("[End { what: Elsewhere(\"translated to an address that is not")
            }
            certain => end == certain,
        };
        assert!(is, "{statement}: {end}");
    }
}

#[test]
fn broken_documents_are_told_and_the_rest_is_kept() {
    let whole = listed("odd");
    let half = &whole[..whole.len() / 2];
    let text = format!(
        "{half}\n{}\n{{\"nftables\":[{{\"rule\":{{\"chain\":\"x\"}}}},{{}}]}}\n[]\nnull\n",
        whole.trim_end()
    );
    let ruleset = Ruleset::parse_nft(&text);
    let lines: Vec<usize> = ruleset.not_understood.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 3, 3, 4, 5]);
    assert_eq!(ruleset.n_rules(), whole.matches("{\"rule\":").count());
    let world = World { rulesets: vec![("nft".to_owned(), &ruleset)], ..World::default() };
    assert!(walk(&world, Course::Forwarded, &syn(80)).certain().is_none());
}

#[test]
fn ranges_of_every_field_take_no_time() {
    let range = r#"{"range":["fd00::1","fdff::fffe"]}"#;
    let text = format!(
        r#"{{"nftables":[{{"set":{{"family":"ip6","table":"t","name":"n","type":[{}],"elem":[{{"concat":[{}]}}]}}}}]}}"#,
        [r#""ipv6_addr""#; 5].join(","),
        [range; 5].join(",")
    );
    let ruleset = Ruleset::parse_nft(&text);
    assert_eq!((ruleset.tables[0].sets.n_members("n"), ruleset.not_understood.len()), (Some(0), 0));
}

#[test]
fn a_table_of_a_hundred_thousand_members() {
    let elements: Vec<String> =
        (0..100_000_u32).map(|n| format!("\"{}\"", std::net::Ipv4Addr::from(0x0b00_0000 + n))).collect();
    let text = format!(
        "{{\"nftables\":[{{\"table\":{{\"family\":\"ip\",\"name\":\"t\"}}}},\
         {{\"set\":{{\"family\":\"ip\",\"table\":\"t\",\"name\":\"big\",\"type\":\"ipv4_addr\",\"elem\":[{}]}}}},\
         {{\"chain\":{{\"family\":\"ip\",\"table\":\"t\",\"name\":\"c\",\"type\":\"filter\",\"hook\":\"forward\",\"prio\":0,\"policy\":\"drop\"}}}},\
         {{\"rule\":{{\"family\":\"ip\",\"table\":\"t\",\"chain\":\"c\",\"expr\":[{{\"match\":{{\"op\":\"==\",\"left\":\
         {{\"payload\":{{\"protocol\":\"ip\",\"field\":\"saddr\"}}}},\"right\":\"@big\"}}}},{{\"accept\":null}}]}}}}]}}",
        elements.join(",")
    );
    let ruleset = Ruleset::parse_nft(&text);
    for _ in 0..100 {
        assert_eq!(end(&ruleset, &Meets { src: "11.0.1.2".parse().ok(), ..syn(1) }), "Passes");
        assert_eq!(end(&ruleset, &syn(1)), "Dropped");
    }
}

proptest::proptest! {
    #[test]
    fn any_cut_and_any_change_of_a_real_document_is_read(at in 0_usize..40_000, word in "[a-z0-9\\[\\]{}\":,]{0,6}") {
        let text = listed("odd");
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let _ = Ruleset::parse_nft(&text[..at]);
        let changed = format!("{}{word}{}", &text[..at], &text[at..]);
        let ruleset = Ruleset::parse_nft(&changed);
        let _ = end(&ruleset, &syn(80));
    }
}
