//! A redacted case says the same as the original, and nothing else of it: every saved case is redacted by the program, replayed, and
//! searched for what it must not hold.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use trace_drop::evidence::bundle::Bundle;
use trace_drop::evidence::capture_file::FrameSource;
use trace_drop::packet::{Network, Packet, Transport};

fn of_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn archives(folder: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(of_root(folder)).expect("a folder of cases");
    let mut found: Vec<PathBuf> = files.map(|file| file.expect("a readable entry").path()).collect();
    found.retain(|file| file.extension().is_some_and(|end| end == "tgz"));
    found.sort();
    assert!(!found.is_empty(), "{folder}");
    found
}

fn run(words: &[&str], case: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trace-drop"));
    command.args(words).arg(case).output().expect("the program runs")
}

fn redacted(case: &Path, to: &Path) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_trace-drop"))
        .args(["redact", "-o"])
        .args([to, case])
        .output()
        .expect("the program runs");
    let said = String::from_utf8(done.stderr).expect("UTF-8");
    assert!(done.status.success(), "{}: {said}", case.display());
    said
}

fn json(words: &[&str], case: &Path) -> (Value, Option<i32>) {
    let done = run(words, case);
    let text = String::from_utf8(done.stdout).expect("UTF-8");
    (
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words:?}: {error}: {text}")),
        done.status.code(),
    )
}

/// Both have the same shape, the same numbers, and the same words where words are the report's own.
fn same(path: &str, old: &Value, new: &Value) {
    match (old, new) {
        (Value::Object(one), Value::Object(other)) => {
            assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{path}");
            one.iter().for_each(|(key, value)| same(&format!("{path}/{key}"), value, &other[key]));
        }
        (Value::Array(one), Value::Array(other)) => {
            assert_eq!(one.len(), other.len(), "{path}: {old} {new}");
            one.iter()
                .zip(other)
                .enumerate()
                .for_each(|(at, (one, other))| same(&format!("{path}/{at}"), one, other));
        }
        (Value::String(one), Value::String(other)) => {
            let own = [
                "kind",
                "confidence",
                "outcome",
                "stage",
                "direction",
                "role",
                "source",
                "protocol",
                "fate",
                "result",
            ];
            if own.iter().any(|key| path.ends_with(&format!("/{key}"))) {
                assert_eq!(one, other, "{path}");
            }
            let words = |text: &str| text.split_whitespace().count();
            assert_eq!(words(one), words(other), "{path}: {one} | {other}");
        }
        _ => assert_eq!(old, new, "{path}"),
    }
}

#[test]
fn the_verdict_of_every_saved_case_stays() {
    for case in archives("captures") {
        let scratch = tempfile::tempdir().expect("a folder");
        let to = scratch.path().join("given.tgz");
        let said = redacted(&case, &to);
        assert!(said.starts_with("wrote ") && said.lines().count() == 1, "{}: {said}", case.display());
        let (old, new) = (json(&["replay", "-o", "json"], &case), json(&["replay", "-o", "json"], &to));
        assert_eq!(old.1, new.1, "{}", case.display());
        same(&case.display().to_string(), &old.0, &new.0);
        let words = |case: &Path| String::from_utf8(run(&["replay"], case).stdout).expect("UTF-8");
        assert_eq!(words(&case).lines().count(), words(&to).lines().count(), "{}", case.display());
    }
}

#[test]
fn checks_and_rules_say_the_same() {
    for case in archives("tests/data/check").into_iter().chain([of_root("captures/deliver.tgz")]) {
        let scratch = tempfile::tempdir().expect("a folder");
        let to = scratch.path().join("given");
        redacted(&case, &to);
        for words in [&["check", "-o", "json", "--case"][..], &["rules", "-o", "json", "--case"]] {
            let (old, new) = (json(words, &case), json(words, &to));
            assert_eq!(old.1, new.1, "{}", case.display());
            same(&format!("{} {words:?}", case.display()), &old.0, &new.0);
        }
    }
}

/// Everything that names something or someone in a case.
#[derive(Default)]
struct Told {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    cards: BTreeSet<[u8; 6]>,
}

impl Told {
    fn of(case: &Path) -> Self {
        let bundle = Bundle::open(case).expect("a case");
        let mut told = Self::default();
        for (_, bytes) in files(case) {
            told.addresses_of(&String::from_utf8_lossy(&bytes));
        }
        let mut frames = bundle.frames().expect("frames");
        while let Some((_, frame)) = frames.next_frame().expect("frames") {
            told.packet(&Packet::read(&frame));
        }
        let facts = bundle.case();
        told.names.extend(facts.nodes.iter().map(|node| node.name.clone()));
        told.names.extend(facts.points.iter().map(|point| point.id.clone()));
        told.names.extend(
            facts.points.iter().map(|point| point.interface.clone()).filter(|name| name.starts_with("cali")),
        );
        told.names.extend([facts.from.name.clone(), facts.to.name.clone()]);
        if let Some(text) = bundle.cluster_text().expect("objects") {
            let objects: Value = serde_json::from_str(&text).expect("JSON");
            told.object(&objects);
        }
        // Words that are on every node, whatever it is called.
        told.names.retain(|name| !["default", "", "vxlan", "all", "eth0"].contains(&name.as_str()));
        // Addresses that mean the same everywhere.
        told.addresses.retain(|address| match address {
            IpAddr::V4(v4) => {
                !(v4.is_loopback() || v4.octets()[0] == 0 || v4.octets()[0] >= 224 || v4.is_link_local())
            }
            IpAddr::V6(v6) => {
                let of_calico = v6.to_string() == "fe80::ecee:eeff:feee:eeee";
                let solicited = v6.to_string().starts_with("ff02::1:ff");
                !(v6.octets()[..4] == [0; 4]
                    || (v6.is_multicast() && !solicited)
                    || of_calico
                    || v6.to_string() == "fe80::")
            }
        });
        told.cards.retain(|mac| mac[0] & 1 == 0 && *mac != [0; 6] && *mac != [0xee; 6]);
        told
    }

    fn object(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                let name = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
                if let (Some(namespace), Some(own)) =
                    (name("namespace"), name("name").or_else(|| name("pod")))
                {
                    self.names.insert(format!("{namespace}/{own}"));
                }
                for key in ["name", "namespace", "pod", "node", "handle", "uid", "service", "id", "Node"] {
                    self.names.extend(name(key));
                }
                if let Some(Value::Object(labels)) = fields.get("labels") {
                    self.names.extend(labels.values().filter_map(Value::as_str).map(str::to_owned));
                }
                fields.values().for_each(|value| self.object(value));
            }
            Value::Array(values) => values.iter().for_each(|value| self.object(value)),
            _ => {}
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let macs =
            packet.macs.into_iter().chain(packet.tunnels.iter().filter_map(|tunnel| tunnel.inner_macs));
        self.cards.extend(macs.flat_map(|macs| [macs.src, macs.dst]));
        let outer = packet.tunnels.iter().flat_map(|tunnel| [tunnel.outer.src, tunnel.outer.dst]);
        self.addresses.extend(outer.chain(packet.ip().into_iter().flat_map(|ip| [ip.src, ip.dst])));
        if let Network::Arp(arp) = packet.network {
            self.addresses.extend([IpAddr::V4(arp.sender), IpAddr::V4(arp.target)]);
        }
        if let Transport::IcmpError(error) = &packet.transport {
            self.addresses.extend(error.quoted.iter().flat_map(|quoted| [quoted.ip.src, quoted.ip.dst]));
        }
    }

    fn addresses_of(&mut self, text: &str) {
        let other = |c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':');
        for word in text.split(other) {
            let word = word.trim_matches('.');
            self.addresses.extend(word.parse::<IpAddr>().ok());
            let parts: Vec<u8> =
                word.split(':').filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
            if word.len() == 17 {
                self.cards.extend(<[u8; 6]>::try_from(parts).ok());
            }
        }
    }

    /// What of it is in the files of another case.
    fn found(&self, case: &Path) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let files = files(case);
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let is_digit = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
        let mut words: Vec<(String, IsPart)> = Vec::new();
        words.extend(self.names.iter().map(|name| (letters(name.as_bytes()), is_part as IsPart)));
        for address in self.addresses.iter().map(IpAddr::to_string) {
            words.push((address.replace(['.', ':'], "-"), is_part));
            words.push((address, is_digit));
        }
        words.extend(
            self.cards
                .iter()
                .map(|mac| (mac.map(|byte| format!("{byte:02x}")).join(":"), is_digit as IsPart)),
        );
        let mut bytes: Vec<String> = self.cards.iter().map(|mac| letters(mac)).collect();
        bytes.extend(self.addresses.iter().map(|address| match address {
            IpAddr::V4(v4) => letters(&v4.octets()),
            IpAddr::V6(v6) => letters(&v6.octets()),
        }));
        for (path, content) in &files {
            let content = letters(content);
            let there = words
                .iter()
                .filter(|(word, is_part)| holds(path, word, *is_part) || holds(&content, word, *is_part));
            found.extend(there.map(|(word, _)| format!("{word} in {path}")));
            let there =
                bytes.iter().filter(|bytes| path.ends_with(".pcapng") && content.contains(bytes.as_str()));
            found.extend(
                there.map(|bytes| {
                    format!("{:02x?} in {path}", bytes.chars().map(u32::from).collect::<Vec<_>>())
                }),
            );
        }
        found
    }
}

/// Whether a character belongs to the word beside it.
type IsPart = fn(char) -> bool;

/// Whether a word is there, and no part of a longer one.
fn holds(all: &str, word: &str, is_part: IsPart) -> bool {
    all.match_indices(word).any(|(at, _)| {
        let (before, behind) = (&all[..at], &all[at + word.len()..]);
        !before.ends_with(is_part) && !behind.starts_with(is_part)
    })
}

/// Every byte as a character: bytes and words are found alike.
fn letters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The files of an archive, their paths without the folder that is called after the archive.
fn files(case: &Path) -> BTreeMap<String, Vec<u8>> {
    let packed = std::fs::File::open(case).expect("an archive");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("a tar") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        let path = path.split_once('/').map_or(path.clone(), |(_, rest)| rest.to_owned());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its bytes");
        files.insert(path, bytes);
    }
    files
}

/// Twice, under two keys: four bytes may look like an address by chance, but not both times the same ones.
#[test]
fn no_name_and_no_address_of_a_saved_case_is_left() {
    for case in archives("captures") {
        let told = Told::of(&case);
        let counts = (told.names.len(), told.addresses.len(), told.cards.len(), told.found(&case).len());
        assert!(
            counts.0 > 5 && counts.1 > 5 && counts.2 > 0 && counts.3 > 20,
            "{}: {counts:?}",
            case.display()
        );
        let scratch = tempfile::tempdir().expect("a folder");
        let [first, second] = ["one.tgz", "two.tgz"].map(|name| {
            let to = scratch.path().join(name);
            redacted(&case, &to);
            told.found(&to)
        });
        let both: Vec<_> = first.intersection(&second).collect();
        assert!(both.is_empty(), "{}: {both:#?}", case.display());
    }
}

/// Payloads are gone: the probe's, and all that TCP carried.
#[test]
fn no_payload_is_left() {
    for name in ["healthy", "service", "fragments", "pod"] {
        let case = of_root(&format!("captures/{name}.tgz"));
        let scratch = tempfile::tempdir().expect("a folder");
        let to = scratch.path().join("given.tgz");
        redacted(&case, &to);
        let (old, new) = (Bundle::open(&case).expect("a case"), Bundle::open(&to).expect("a case"));
        let (mut before, mut after) = (old.frames().expect("frames"), new.frames().expect("frames"));
        let mut carried = 0;
        while let Some((point, frame)) = before.next_frame().expect("frames") {
            let (place, other) = after.next_frame().expect("frames").expect("as many frames");
            assert_eq!(
                (point, frame.time, frame.wire_len, frame.bytes.len()),
                (place, other.time, other.wire_len, other.bytes.len())
            );
            let (packet, redacted) = (Packet::read(&frame), Packet::read(&other));
            assert_eq!(packet.payload.len(), redacted.payload.len());
            assert_eq!(packet.ports(), redacted.ports());
            let quote = matches!(packet.transport, Transport::IcmpError(_));
            if !quote && packet.payload.len() >= 8 && packet.payload.iter().any(|byte| *byte != 0) {
                carried += 1;
                assert_ne!(packet.payload[..8], redacted.payload[..8]);
                assert!(redacted.payload.iter().skip(32).all(|byte| *byte == 0));
            }
        }
        assert!(after.next_frame().expect("frames").is_none());
        assert!(carried > 10, "{name}: {carried}");
    }
}

#[test]
fn what_is_there_is_not_overwritten() {
    let scratch = tempfile::tempdir().expect("a folder");
    let done = run(&["redact", "-o", scratch.path().to_str().expect("UTF-8")], &of_root("captures/pod.tgz"));
    assert_eq!(done.status.code(), Some(2));
    let done = run(&["redact", "-o", "/nowhere/at/all.tgz"], &of_root("captures/pod.tgz"));
    assert_eq!(done.status.code(), Some(4));
    assert_eq!(run(&["redact", "-o", "x.tgz"], Path::new("/nowhere.tgz")).status.code(), Some(4));
}
