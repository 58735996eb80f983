#![expect(clippy::disallowed_methods, reason = "nft itself is held against what is read of it")]

use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::evidence::netfilter::{Rule, Ruleset, Table as Read};

const NAMES: [&str; 3] = ["calico-new", "calico-old", "odd"];

fn data(name: &str) -> String {
    let path = format!("{}/tests/data/nft/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The tables of a listing, through this reader and then the one of `nft -j`.
fn read(listing: &str) -> Ruleset {
    let mut tables: Vec<String> = Vec::new();
    for line in listing.lines() {
        if line.starts_with("table ") {
            tables.push(String::new());
        }
        let table = tables.last_mut().expect("a table first");
        table.push_str(line);
        table.push('\n');
    }
    let objects: Vec<Value> = tables.iter().flat_map(|text| table(text).expect("a whole table")).collect();
    Ruleset::parse_nft(&json!({ "nftables": objects }).to_string())
}

/// Both must come to the same tables; of what neither knows the words may differ.
fn assert_equal(listing: &str, document: &str) {
    let (ours, theirs) = (read(listing), Ruleset::parse_nft(document.trim()));
    assert_eq!(ours.not_understood, theirs.not_understood);
    let named = |ruleset: &Ruleset| -> Vec<_> {
        ruleset.tables.iter().map(|table| (table.family.clone(), table.name.clone())).collect()
    };
    assert_eq!(named(&ours), named(&theirs));
    for (ours, theirs) in ours.tables.iter().zip(&theirs.tables) {
        assert_tables(ours, theirs);
    }
}

fn assert_tables(ours: &Read, theirs: &Read) {
    assert_eq!(ours.sets, theirs.sets, "{}", ours.name);
    assert_eq!(ours.maps, theirs.maps, "{}", ours.name);
    assert_eq!(ours.chains.len(), theirs.chains.len());
    for (ours, theirs) in ours.chains.iter().zip(&theirs.chains) {
        let mut hook = ours.hook.clone();
        if let (Some(ours), Some(theirs)) = (&mut hook, &theirs.hook) {
            // nft 1.0.6 leaves the device out of its JSON where it is one.
            if theirs.devices.is_empty() {
                ours.devices.clear();
            }
        }
        assert_eq!((&ours.name, &hook, ours.policy), (&theirs.name, &theirs.hook, theirs.policy));
        assert_eq!(ours.rules.len(), theirs.rules.len(), "{}", ours.name);
        for (ours, theirs) in ours.rules.iter().zip(&theirs.rules) {
            assert_rules(ours, theirs);
        }
    }
}

fn assert_rules(ours: &Rule, theirs: &Rule) {
    let shape = |rule: &Rule| {
        let matches: Vec<String> = rule.matches.iter().map(|one| format!("{one:?}")).collect();
        let before: Vec<String> = rule.before.iter().map(|one| format!("{one:?}")).collect();
        format!("{:?} {:?} {matches:?} {before:?} {:?}", rule.counters, rule.comments, rule.target)
    };
    assert_eq!(shape(ours), shape(theirs), "{}", theirs.text);
}

#[test]
fn a_listing_and_its_json_are_read_alike() {
    for name in NAMES {
        assert_equal(&data(&format!("{name}.txt")), &data(&format!("{name}.json")));
    }
}

/// What real nft prints of what it printed before, in both forms: none of the two is of another day.
#[test]
#[ignore = "needs root"]
fn this_nft_prints_what_is_read_alike() {
    for name in NAMES {
        let rules = format!("{}/tests/data/nft/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let list = "ip link set lo up && nft -f \"$0\" && nft list ruleset && echo == && nft -j list ruleset";
        let done = Command::new("unshare").args(["-n", "sh", "-c", list, &rules]).output().expect("unshare");
        let (said, complaint) =
            (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{name}: {complaint}");
        let (listing, document) = said.split_once("==\n").expect("both forms");
        assert_equal(listing, document);
    }
}

#[test]
fn what_is_not_known_may_do_anything() {
    let rules = "table inet t {\n\tchain c {\n\t\ttype filter hook input priority mangle - 5; policy drop;\n\t\tosf name \"Linux\" \
                 counter packets 3 bytes 9 drop comment \"a \\\\ b\"\n\t\ttcp option maxseg size set 1400\n\t}\n}\n";
    let ruleset = read(rules);
    let chain = &ruleset.tables[0].chains[0];
    assert_eq!(chain.hook.as_ref().map(|hook| hook.priority), Some(-155));
    let [first, second] = chain.rules.as_slice() else { panic!("two rules: {:?}", chain.rules) };
    assert_eq!((first.matches.len(), first.before.len()), (1, 1), "{first:?}");
    assert!(matches!(first.target, crate::evidence::netfilter::Target::Drop));
    assert_eq!(first.counters.map(|counters| counters.packets), Some(3));
    assert_eq!((second.matches.len(), second.before.len()), (1, 1), "{second:?}");
}

/// Such a rule is as sure as one with numbers.
#[test]
fn a_counter_without_numbers_is_no_unknown_statement() {
    let rules = "table inet t {\n\tchain c {\n\t\tip saddr 10.0.0.1 counter drop\n\t\tcounter name \"n\" drop\n\t}\n}\n";
    let ruleset = read(rules);
    let [stateless, named] = ruleset.tables[0].chains[0].rules.as_slice() else { panic!("two rules") };
    for (rule, n_matches) in [(stateless, 1), (named, 0)] {
        assert_eq!((rule.matches.len(), rule.before.len(), rule.counters), (n_matches, 0, None), "{rule:?}");
        assert!(matches!(rule.target, crate::evidence::netfilter::Target::Drop));
    }
}

#[test]
fn nothing_passes_a_dormant_table() {
    let rules = "table inet t {\n\tflags dormant,owner\n\n\tchain c {\n\t\ttype filter hook input priority 0; policy drop;\n\t\tdrop\n\t}\n}\n";
    let hooks = |rules: &str| read(rules).tables[0].chains[0].hook.is_some();
    assert!(!hooks(rules));
    assert!(hooks(&rules.replace("dormant,", "")));
}

#[test]
fn a_text_that_ends_too_early_is_no_table() {
    let whole = "table ip t { # handle 1\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 10.0.0.1,\n\t\t\t 10.0.0.2 }\n\t}\n\
                 \n\tchain c {\n\t\tip saddr @s drop\n\t}\n}";
    assert_eq!(table(whole).map(|objects| objects.len()), Some(4));
    for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
        assert_eq!(table(&whole[..end]), None, "{}", &whole[..end]);
    }
}

proptest! {
    #[test]
    fn any_order_of_words_ends(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..40)) {
        let text = format!("table ip t {{ chain c {{\n{}\n}} }}", words.join(" "));
        let _whatever = table(&text);
        let _whatever = table(&words.join(" "));
    }
}

const WORDS: &[&str] = &[
    "table",
    "chain",
    "set",
    "map",
    "type",
    "typeof",
    "elements",
    "=",
    "{",
    "}",
    ",",
    ";",
    "\n",
    "\"",
    "#",
    "ip",
    "saddr",
    "daddr",
    "tcp",
    "dport",
    "flags",
    "/",
    "&",
    "==",
    "!=",
    ".",
    "vmap",
    ":",
    "@s",
    "set",
    "meta",
    "mark",
    "ct",
    "original",
    "state",
    "new",
    "fib",
    "oif",
    "counter",
    "packets",
    "bytes",
    "7",
    "0x1",
    "10.0.0.0/8",
    "1-2",
    "limit",
    "rate",
    "over",
    "5/second",
    "burst",
    "log",
    "prefix",
    "reject",
    "with",
    "icmp",
    "dnat",
    "to",
    "10.0.0.1:80",
    "[fd00::1]:80",
    "masquerade",
    "random",
    "drop",
    "jump",
    "add",
    "update",
    "comment",
    "numgen",
    "mod",
    "priority",
    "filter",
    "+",
    "hook",
    "devices",
    "policy",
    "timeout",
    "expires",
    "é",
];
