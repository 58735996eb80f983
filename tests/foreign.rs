//! Captures by plain tcpdump and what others collected of the nodes, as tests/data/foreign/ has them (made by scripts/foreign):
//! each replays to the report that was reviewed, with what was recognised.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/foreign").join(name)
}

fn replay(name: &str, more: &[&str]) -> Output {
    let words = std::fs::read_to_string(folder(name).join("replay")).expect("the words of the replay");
    run(name, &words.lines().chain(more.iter().copied()).collect::<Vec<_>>())
}

fn run(name: &str, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trace-drop"))
        .arg("replay")
        .args(words)
        .current_dir(folder(name))
        .output()
        .expect("the program runs")
}

/// The first cause: its kind, node and confidence.
fn cause(output: &Output) -> (String, String, String) {
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a JSON report");
    let word = |key: &str| report["causes"][0][key].as_str().unwrap_or_default().to_owned();
    (word("kind"), word("node"), word("confidence"))
}

#[test]
fn reports_are_those_reviewed() {
    let cases = [
        ("forward_reject", "host_firewall", "worker-1"),
        ("block_route_missing", "no_route", "worker-1"),
        ("neighbour_missing", "neighbour_missing", "worker-1"),
        ("fdb_missing", "fdb_missing", "worker-1"),
        ("tunnel_mtu", "mtu", "worker-1"),
        ("rp_filter", "reverse_path", "worker-1"),
        ("ingress_policy", "network_policy", "worker-2"),
        ("input_drop", "host_firewall", "worker-2"),
        ("foreign_nft_table", "host_firewall", "worker-1"),
    ];
    for (name, kind, node) in cases {
        let text = replay(name, &[]);
        let (words, said) = (String::from_utf8_lossy(&text.stdout), String::from_utf8_lossy(&text.stderr));
        insta::assert_snapshot!(format!("foreign_{name}"), format!("{words}--- stderr\n{said}"));
        // Only what was read before and after can be sure.
        let sure = if name == "input_drop" { "confirmed" } else { "likely" };
        let found = cause(&replay(name, &["-o", "json"]));
        assert_eq!(found, (kind.to_owned(), node.to_owned(), sure.to_owned()), "{name}");
    }
}

/// Without the texts the same captures name no cause: it is they that do.
#[test]
fn without_what_was_collected_there_is_no_cause() {
    let words = std::fs::read_to_string(folder("fdb_missing").join("replay")).expect("the words");
    let words: Vec<&str> = words.lines().collect();
    let captures = &words[..words.iter().position(|word| *word == "--state").expect("a state")];
    let output = run("fdb_missing", &[captures, &["-o", "json"]].concat());
    assert_eq!(cause(&output).0, "unknown");
}

#[test]
fn says_what_it_cannot_use() {
    let words = std::fs::read_to_string(folder("rp_filter").join("replay")).expect("the words");
    let words: Vec<&str> = words.lines().collect();
    let captures = &words[..words.iter().position(|word| *word == "--state").expect("a state")];
    let said = |state: &str| {
        let output = run("rp_filter", &[captures, &["--state", state]].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, words) = said("worker-3=calico-diagnostics.tar.gz");
    assert!(code == Some(2) && words.contains("worker-1, worker-2"), "{words}");
    let (code, words) = said("worker-1=nowhere");
    assert!(code == Some(4) && words.contains("nowhere"), "{words}");
    let (code, words) = said("worker-1=worker-1-eth0.pcap");
    assert!(code == Some(4) && words.contains("nothing in worker-1-eth0.pcap is known here"), "{words}");
}
