//! Calico's addresses: figures against a table worked out by hand, what is found in objects that are wrong, and the
//! `ipam` commands as their users meet them.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use trace_drop::analyze::ipam;
use trace_drop::evidence::cluster::Cluster;
use trace_drop::evidence::ipam::{Figures, PoolUse};

/// One stanza of figures.txt as objects.
#[derive(Default)]
struct Stanza {
    items: Vec<Value>,
    nodes: BTreeSet<String>,
    expect: String,
}

impl Stanza {
    fn cluster(&self) -> Cluster {
        let mut items = self.items.clone();
        items.push(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": "other"}}),
        );
        for node in &self.nodes {
            items.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}));
        }
        let (cluster, warnings) = Cluster::parse(&json!({"items": items}).to_string()).expect("objects");
        assert_eq!(warnings, Vec::<String>::new());
        cluster
    }

    fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').expect("a word and more");
        let mut words = rest.split(' ');
        let mut next = || words.next().unwrap_or_default().to_owned();
        match word {
            "pool" => {
                let (cidr, size) = (next(), next().parse::<u8>().expect("a length"));
                self.add("IPPool", "pool", &json!({"cidr": cidr, "blockSize": size}));
            }
            "reserve" => {
                let cidr = next();
                self.add("IPReservation", &cidr, &json!({"reservedCIDRs": [cidr]}));
            }
            "block" => {
                let (cidr, owner) = (next(), next());
                self.block(&cidr, &owner, words);
            }
            "expect" => rest.clone_into(&mut self.expect),
            other => panic!("{other}"),
        }
    }

    fn add(&mut self, kind: &str, name: &str, spec: &Value) {
        let version = "crd.projectcalico.org/v1";
        self.items
            .push(json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}));
    }

    fn block<'w>(&mut self, cidr: &str, owner: &str, words: impl Iterator<Item = &'w str>) {
        let net: ipnet::IpNet = cidr.parse().expect("a prefix");
        let size = 1_usize << (net.max_prefix_len() - net.prefix_len());
        let mut allocations = vec![Value::Null; size];
        let mut attributes = Vec::new();
        let mut taken = Vec::new();
        for word in words.filter(|word| *word != "-") {
            let windows = word.ends_with('w');
            let gone = word.ends_with('!');
            let (range, node) =
                word.trim_end_matches(['!', 'w']).split_once('@').unwrap_or((word.trim_end_matches('w'), ""));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let place = |text: &str| text.parse::<usize>().expect("an ordinal");
            for ordinal in place(first)..=place(last) {
                taken.push((ordinal, attributes.len()));
                let pod = format!("p{}-{ordinal}", cidr.replace(['.', ':', '/'], "-"));
                attributes.push(if windows {
                    json!({"handle_id": "windows-reserved-ipam-handle", "secondary": {"note": "ipam"}})
                } else {
                    json!({"handle_id": pod, "secondary": {"namespace": "d", "pod": pod, "node": node}})
                });
                if !windows && !gone {
                    let address = trace_drop::evidence::ipam::address(net, ordinal);
                    self.items.push(
                        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "namespace": "d"},
                        "spec": {"nodeName": node}, "status": {"podIPs": [{"ip": address}]}}),
                    );
                }
                if !node.is_empty() {
                    self.nodes.insert(node.to_owned());
                }
            }
        }
        for (ordinal, index) in taken {
            allocations[ordinal] = json!(index);
        }
        let affinity = if owner == "-" { Value::Null } else { json!(format!("host:{owner}")) };
        if owner != "-" {
            self.nodes.insert(owner.to_owned());
        }
        let free: Vec<usize> = (0..size).filter(|place| allocations[*place].is_null()).collect();
        let spec = json!({"cidr": cidr, "affinity": affinity, "allocations": allocations, "attributes": attributes,
            "unallocated": free, "strictAffinity": false});
        self.add("IPAMBlock", &cidr.replace(['.', ':', '/'], "-"), &spec);
    }
}

fn words_of(pool: &PoolUse<'_>, leaked: usize) -> String {
    let count = &pool.count;
    format!(
        "{} {} {} {} {} {} | {} {} {} | {leaked}",
        count.total,
        count.in_use,
        count.windows,
        count.borrowed,
        count.reserved,
        count.free(),
        pool.blocks_possible,
        pool.blocks.len(),
        pool.blocks_free(),
    )
}

#[test]
fn figures_are_those_worked_out_by_hand() {
    let text = fs::read_to_string("tests/data/ipam/figures.txt").expect("the table");
    let mut stanzas = 0;
    let mut wrong = String::new();
    for paragraph in text.split("\n\n") {
        let mut stanza = Stanza::default();
        for line in paragraph.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            stanza.line(line);
        }
        if stanza.expect.is_empty() {
            continue;
        }
        stanzas += 1;
        let cluster = stanza.cluster();
        let figures = Figures::of(&cluster);
        let checked = ipam::check_with(&cluster, &figures);
        let leaks = checked.findings.iter().filter(|finding| finding.kind == "ipam_leak");
        let found = words_of(&figures.pools[0], leaks.map(|leak| leak.addresses.len()).sum());
        if found != stanza.expect {
            let cidr = figures.pools[0].pool.cidr;
            writeln!(wrong, "{cidr}\n  by hand  {}\n  reckoned {found}", stanza.expect).expect("memory");
        }
        // The pods that are there have what they should: nothing else may be found but leaks and full pools.
        for finding in &checked.findings {
            assert!(matches!(finding.kind, "ipam_leak" | "ipam_exhausted"), "{finding:?}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_eq!(stanzas, 16);
}

/// The example, object by object: whatever one field of one object becomes, nothing panics, and the others are kept.
#[test]
fn one_broken_field_costs_no_other_object() {
    let text = fs::read_to_string(Path::new("tests/data/ipam/cluster.json")).expect("the example");
    let whole: Value = serde_json::from_str(&text).expect("JSON");
    let items = whole["items"].as_array().expect("a list");
    let sizes = |cluster: &Cluster| {
        let all = &cluster.ipam;
        cluster.nodes.len()
            + cluster.pods.len()
            + cluster.pools.len()
            + all.blocks.len()
            + all.affinities.len()
            + all.handles.len()
            + all.reservations.len()
            + usize::from(all.config.is_some())
    };
    let (cluster, warnings) = Cluster::parse(&text).expect("the example");
    assert_eq!((sizes(&cluster), warnings.len()), (items.len(), 0), "{warnings:?}");
    let mut tried = 0;
    let mut kinds: Vec<&Value> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        // One of each kind will do.
        if kinds.contains(&&item["kind"]) {
            continue;
        }
        kinds.push(&item["kind"]);
        for path in paths(item) {
            for nonsense in [
                json!({"a": [1]}),
                json!([{"b": null}]),
                json!(-7),
                json!("nonsense"),
                json!(true),
                Value::Null,
            ] {
                let mut broken = whole.clone();
                *broken["items"][index].pointer_mut(&path).expect("the path") = nonsense.clone();
                let (cluster, warnings) = Cluster::parse(&broken.to_string()).expect("objects");
                assert!(sizes(&cluster) + 1 >= items.len(), "{index} {path} {nonsense}: {warnings:?}");
                if sizes(&cluster) < items.len()
                    && path != "/kind"
                    && path != "/apiVersion"
                    && !path.starts_with("/metadata/name")
                {
                    assert!(!warnings.is_empty(), "{index} {path} {nonsense}");
                }
                let _found = ipam::check(&cluster);
                tried += 1;
            }
        }
    }
    assert!(kinds.len() == 8 && tried > 500, "{kinds:?} {tried}");
}

/// The paths of all maps' and lists' entries, two of each list.
fn paths(value: &Value) -> Vec<String> {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            map.iter().map(|(key, inner)| (key.replace('~', "~0").replace('/', "~1"), inner)).collect()
        }
        Value::Array(list) => {
            list.iter().take(2).enumerate().map(|(index, inner)| (index.to_string(), inner)).collect()
        }
        _ => Vec::new(),
    };
    let mut all = Vec::new();
    for (key, inner) in inner {
        all.push(format!("/{key}"));
        all.extend(paths(inner).into_iter().map(|path| format!("/{key}{path}")));
    }
    all
}

const EXAMPLE: &str = "tests/data/ipam/cluster.json";

/// Exit code, stdout and stderr as one text.
fn all(done: &Output, words: &[&str]) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    format!(
        "$ trace-drop {}\nexit {}\n--- stdout\n{}--- stderr\n{}",
        words.join(" "),
        done.status.code().expect("an exit code"),
        text(&done.stdout),
        text(&done.stderr)
    )
}

fn trace_drop(words: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_trace-drop")).args(words).output().expect("the program runs");
    all(&done, words)
}

/// What `ipam show -o json` says of the example without the objects of some kinds.
fn shown_without(kinds: &[&str]) -> Value {
    let text = fs::read_to_string(EXAMPLE).expect("the example");
    let mut left: Value = serde_json::from_str(&text).expect("JSON");
    let items = left["items"].as_array_mut().expect("a list");
    items.retain(|item| !kinds.contains(&item["kind"].as_str().expect("a kind")));
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), left.to_string()).expect("it can be written");
    let words = ["ipam", "show", "-o", "json", "--cluster", file.path().to_str().expect("UTF-8")];
    let done = Command::new(env!("CARGO_BIN_EXE_trace-drop")).args(words).output().expect("the program runs");
    serde_json::from_slice(&done.stdout).expect("JSON")
}

#[test]
fn json_says_null_of_what_was_not_read() {
    let all = shown_without(&[]);
    let blocks = shown_without(&["IPAMBlock"]);
    assert_eq!(blocks["pools"][0]["addresses"]["total"], all["pools"][0]["addresses"]["total"]);
    for path in [
        "/pools/0/addresses/in_use",
        "/pools/0/addresses/windows",
        "/pools/0/addresses/borrowed",
        "/pools/0/addresses/free",
        "/pools/0/blocks_free",
        "/pools/0/blocks",
        "/blocks_outside_pools",
        "/borrowed",
        "/nodes/0/blocks",
        "/nodes/0/addresses",
        "/nodes/0/borrowed_from_others",
        "/nodes/0/lent_to_others",
    ] {
        assert!(all.pointer(path).is_some_and(|value| !value.is_null()), "{path}");
        assert_eq!(blocks.pointer(path), Some(&Value::Null), "{path}");
    }
    assert_eq!(blocks["nodes"][0]["exists"], true);
    let nodes = shown_without(&["Node"]);
    for node in nodes["nodes"].as_array().expect("nodes that own blocks") {
        assert!(node["exists"].is_null() && node["blocks"].is_u64(), "{node}");
    }
    let settings = shown_without(&["IPAMConfig"]);
    assert!(all["configuration"].is_object() && settings["configuration"].is_null(), "{settings}");
    let pools = shown_without(&["IPPool"]);
    assert!(pools["pools"].is_null() && pools["blocks_outside_pools"][0]["addresses"]["in_use"].is_u64());
}

#[test]
fn the_commands_as_their_users_meet_them() {
    for (name, words) in [
        ("show", &["show", "--cluster", EXAMPLE][..]),
        ("show_blocks", &["show", "--show-blocks", "--cluster", EXAMPLE]),
        ("show_nodes", &["show", "--show-nodes", "--cluster", EXAMPLE]),
        ("show_borrowed", &["show", "--show-borrowed", "--show-configuration", "--cluster", EXAMPLE]),
        ("show_json", &["show", "-o", "json", "--cluster", EXAMPLE]),
        ("show_ip", &["show", "--ip", "10.42.0.66", "--cluster", EXAMPLE]),
        ("show_ip_borrowed", &["show", "--ip", "10.42.0.71", "--cluster", EXAMPLE]),
        ("show_ip_tunnel", &["show", "--ip", "fd00:42::40", "--cluster", EXAMPLE]),
        ("show_ip_free", &["show", "--ip", "10.42.0.70", "--cluster", EXAMPLE]),
        ("show_ip_outside", &["show", "--ip", "172.20.0.9", "--cluster", EXAMPLE]),
        ("show_ip_json", &["show", "--ip", "10.42.0.71", "-o", "json", "--cluster", EXAMPLE]),
        ("check", &["check", "--cluster", EXAMPLE]),
        ("check_json", &["check", "-o", "json", "--cluster", EXAMPLE]),
        // A file without any of Calico's addresses.
        ("show_json_not_asked", &["show", "-o", "json", "--cluster", "tests/data/cluster.yaml"]),
        ("show_nodes_not_asked", &["show", "--show-nodes", "--cluster", "tests/data/cluster.yaml"]),
        ("show_not_asked", &["show", "--cluster", "tests/data/cluster.yaml"]),
        ("show_ip_not_asked", &["show", "--ip", "10.244.1.2", "--cluster", "tests/data/cluster.yaml"]),
        ("check_not_asked", &["check", "--cluster", "tests/data/cluster.yaml"]),
        ("help", &["--help"]),
        ("help_show", &["show", "--help"]),
        ("help_check", &["check", "--help"]),
        ("help_release", &["release", "--help"]),
    ] {
        let words: Vec<&str> = ["ipam"].iter().chain(words).copied().collect();
        insta::assert_snapshot!(name, trace_drop(&words));
    }
}
