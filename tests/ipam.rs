//! Calico's addresses: figures against a table worked out by hand, what is found in objects that are wrong, and the
//! `ipam` commands as their users meet them.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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

/// The cluster of the example behind a stand-in for kubectl, in a folder of its own.
struct Server {
    folder: tempfile::TempDir,
}

impl Server {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = fs::read_to_string(EXAMPLE).expect("the example");
        let list: Value = serde_json::from_str(&text).expect("JSON");
        let mut objects = serde_json::Map::new();
        for item in list["items"].as_array().expect("a list") {
            let name = item["metadata"]["name"].as_str().expect("a name");
            let group = item["apiVersion"].as_str().expect("a version");
            let path = match item["kind"].as_str().expect("a kind") {
                "Node" => format!("/api/v1/nodes/{name}"),
                "Pod" => format!(
                    "/api/v1/namespaces/{}/pods/{name}",
                    item["metadata"]["namespace"].as_str().expect("one")
                ),
                kind => format!("/apis/{group}/{}s/{name}", kind.to_lowercase()),
            };
            objects.insert(path, item.clone());
        }
        fs::write(folder.path().join("objects.json"), Value::Object(objects).to_string()).expect("a file");
        fs::copy("tests/data/ipam/kubectl", folder.path().join("kubectl")).expect("the stand-in");
        Self { folder }
    }

    fn command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env("STANDIN", self.folder.path());
        command
    }

    fn release(&self, words: &[&str]) -> String {
        let words: Vec<&str> = ["ipam", "release"].iter().chain(words).copied().collect();
        let mut command = self.command(env!("CARGO_BIN_EXE_trace-drop"));
        all(&command.args(&words).stdin(Stdio::null()).output().expect("the program runs"), &words)
    }

    fn object(&self, path: &str) -> Option<Value> {
        let text = fs::read_to_string(self.folder.path().join("objects.json")).expect("the objects");
        let mut objects: Value = serde_json::from_str(&text).expect("JSON");
        objects.get_mut(path).map(Value::take)
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.folder.path().join("calls.txt")).unwrap_or_default()
    }

    fn race(&self, path: &str) {
        fs::write(self.folder.path().join("race"), path).expect("a file");
    }
}

const BLOCK: &str = "/apis/crd.projectcalico.org/v1/ipamblocks/10-42-0-64-29";
const HANDLE: &str = "/apis/crd.projectcalico.org/v1/ipamhandles/k8s-pod-network.shop-gone-1";
const GONE: [&str; 3] = ["--ip", "10.42.0.67", "--yes"];

#[test]
fn a_leaked_address_is_released() {
    let server = Server::new();
    let before = server.object(BLOCK).expect("the block");
    insta::assert_snapshot!(
        "release",
        server.release(&[&GONE[..], &["--context", "prod", "--kubeconfig", "k.yaml"]].concat())
    );
    let after = server.object(BLOCK).expect("the block");
    // By hand: ordinal 3 was attribute 2; of [0,-,1,2,3,-,-,4] remain [0,-,1,-,2,-,-,3]; 1, 5 and 6 were free.
    assert_eq!(after["spec"]["allocations"], json!([0, null, 1, null, 2, null, null, 3]));
    assert_eq!(after["spec"]["unallocated"], json!([1, 5, 6, 3]));
    assert_eq!(after["spec"]["attributes"].as_array().map(Vec::len), Some(4));
    assert_eq!(after["metadata"]["resourceVersion"], "813");
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["spec"]["affinity"], before["spec"]["affinity"]);
    assert_eq!(server.object(HANDLE), None);
    assert!(
        server.calls().lines().all(|call| call.contains("--context prod --kubeconfig k.yaml")),
        "{}",
        server.calls()
    );
    // Ten pods in pages of three.
    assert_eq!(server.calls().matches("/api/v1/pods?").count(), 4);
    insta::assert_snapshot!("release_again", server.release(&GONE));
}

#[test]
fn a_handle_with_other_addresses_stays() {
    let server = Server::new();
    // shop/moved: two addresses in one block, the first one leaked.
    assert!(server.release(&["--ip", "10.42.0.75", "--yes"]).contains("exit 0"));
    let handle = server.object("/apis/crd.projectcalico.org/v1/ipamhandles/k8s-pod-network.shop-moved");
    assert_eq!(handle.expect("the handle")["spec"]["block"], json!({"10.42.0.72/29": 1}));
}

#[test]
fn the_last_address_of_a_block_of_nobody_takes_the_block_along() {
    let server = Server::new();
    assert!(server.release(&["--ip", "10.42.0.94", "--yes"]).contains("exit 0"));
    assert_eq!(server.object("/apis/crd.projectcalico.org/v1/ipamblocks/10-42-0-88-29"), None);
}

#[test]
fn nothing_in_use_is_released() {
    let server = Server::new();
    let before = fs::read_to_string(server.folder.path().join("objects.json")).expect("the objects");
    for (name, words) in [
        ("pod", &["--ip", "10.42.0.71", "--yes"][..]),
        ("other_pod", &["--ip", "10.42.0.77", "--yes"]),
        ("second_family", &["--ip", "fd00:42::42", "--yes"]),
        ("tunnel", &["--ip", "10.42.0.64", "--yes"]),
        ("windows", &["--ip", "10.42.0.79", "--yes"]),
        ("nowhere", &["--ip", "172.20.0.9", "--yes"]),
        ("unconfirmed", &["--ip", "10.42.0.67"]),
    ] {
        insta::assert_snapshot!(format!("release_refused_{name}"), server.release(words));
    }
    let after = fs::read_to_string(server.folder.path().join("objects.json")).expect("the objects");
    assert_eq!(before, after);
    assert!(!server.calls().contains("replace") && !server.calls().contains("delete"));
}

#[test]
fn a_block_that_changed_meanwhile_is_not_written() {
    let server = Server::new();
    server.race(BLOCK);
    insta::assert_snapshot!("release_conflict", server.release(&GONE));
    assert_eq!(server.object(BLOCK).expect("the block")["spec"]["allocations"][3], 2);
    assert!(server.object(HANDLE).is_some());
    // Read again, it is released.
    assert!(server.release(&GONE).contains("exit 0"));
}

#[test]
fn a_handle_that_changed_meanwhile_is_read_again() {
    let server = Server::new();
    server.race(HANDLE);
    assert!(server.release(&GONE).contains("exit 0"));
    assert_eq!(server.object(HANDLE), None);
    assert_eq!(server.calls().matches("delete").count(), 2);
}

/// On a terminal it asks; only yes is yes.
#[test]
fn a_terminal_is_asked() {
    for (answer, released) in [("n\n", false), ("\n", false), ("y\n", true)] {
        let server = Server::new();
        let line = format!("{} ipam release --ip 10.42.0.67", env!("CARGO_BIN_EXE_trace-drop"));
        let mut script = server.command("script");
        let script = script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().expect("script, which every Debian has");
        child.stdin.take().expect("a pipe").write_all(answer.as_bytes()).expect("an answer");
        let done = child.wait_with_output().expect("the program ends");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.contains("is allocated to pod shop/gone-1") && said.contains("[y/N]"), "{said}");
        assert_eq!(said.contains("10.42.0.67 is released"), released, "{said}");
        assert_eq!(server.object(HANDLE).is_none(), released, "{said}");
    }
}

#[test]
fn a_missing_kubectl_is_said() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trace-drop"));
    let words = ["ipam", "release", "--ip", "10.42.0.67", "--yes"];
    let done = command.args(words).env("PATH", "/nowhere").output().expect("the program runs");
    insta::assert_snapshot!("release_no_kubectl", all(&done, &words));
}
