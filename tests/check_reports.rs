//! `trace-drop check` on saved readings of the lab's nodes and on traced cases: text, JSON and exit codes are those reviewed.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn check(words: &[&str], case: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trace-drop"))
        .args(["check", "--case"])
        .arg(case)
        .args(words)
        .output()
        .expect("the program runs")
}

fn of_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Exit code, stdout and stderr as one text.
fn all(done: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let code = done.status.code().expect("an exit code");
    format!("{}--- exit {code}, stderr: {}", text(&done.stdout), text(&done.stderr))
}

#[test]
fn reports_are_those_reviewed() {
    for (name, more) in [("healthy", &["-v"][..]), ("fdb_missing", &[]), ("tunnel_down_destination", &[])] {
        let case = of_root(&format!("tests/data/check/{name}.tgz"));
        insta::assert_snapshot!(format!("{name}.txt"), all(&check(more, &case)));
    }
    let case = of_root("tests/data/check/fdb_missing.tgz");
    insta::assert_snapshot!("fdb_missing.json", all(&check(&["-o", "json"], &case)));
    insta::assert_snapshot!("path.txt", all(&check(&[], &of_root("captures/encapsulate.tgz"))));
}

#[test]
fn reports_on_traced_cases_are_those_reviewed() {
    for name in ["healthy", "encapsulate", "decapsulate", "enter_pod", "unknown"] {
        for form in ["text", "json"] {
            let done = check(&["-o", form], &of_root(&format!("captures/{name}.tgz")));
            insta::assert_snapshot!(format!("{name}.{form}"), all(&done));
        }
    }
}

/// A healthy path raises no finding; a fault that a trace finds in the state is found without it.
#[test]
fn saved_traces_are_checked_too() {
    for (name, code, kind) in [
        ("healthy", 0, None),
        ("service", 0, None),
        ("encapsulate", 1, Some("fdb_wrong")),
        ("forward", 1, Some("no_route")),
        ("reverse_path", 1, Some("reverse_path")),
        ("leave_pod", 0, Some("mtu")),
        ("enter_pod", 0, Some("mtu")),
    ] {
        let done = check(&["-o", "json"], &of_root(&format!("captures/{name}.tgz")));
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("a JSON report");
        assert_eq!(report["schema"], "trace-drop/check/v1");
        let findings = report["findings"].as_array().expect("findings");
        let kinds: Vec<&str> = findings.iter().filter_map(|finding| finding["kind"].as_str()).collect();
        assert_eq!(done.status.code(), Some(code), "{name}: {kinds:?}");
        match kind {
            Some(kind) => assert!(kinds.contains(&kind), "{name}: {kinds:?}"),
            None => assert!(kinds.is_empty(), "{name}: {kinds:?}"),
        }
        assert_eq!(report["sound"], code == 0, "{name}");
    }
}

/// Nothing that could be judged is a failure, never a clean bill of health.
#[test]
fn a_case_without_state_is_not_sound() {
    let done = check(&[], &of_root("captures/unknown.tgz"));
    assert_eq!(done.status.code(), Some(4), "{}", all(&done));
}
