//! Saved cases against each other: what is said to have changed is what was reviewed.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::path::Path;
use std::process::{Command, Output};

fn diff(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trace-drop"))
        .arg("diff")
        .args(words)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("captures"))
        .output()
        .expect("the program runs")
}

#[test]
fn changes_are_those_reviewed() {
    for (was, is) in [
        ("healthy", "forward"),
        ("healthy", "encapsulate"),
        ("healthy", "decapsulate"),
        ("healthy", "deliver"),
        ("healthy", "leave_pod"),
        ("healthy", "reverse_path"),
        ("healthy", "service"),
        ("healthy", "masquerade"),
        ("forward", "deliver"),
    ] {
        let (was_file, is_file) = (format!("{was}.tgz"), format!("{is}.tgz"));
        let text = diff(&[&was_file, &is_file]);
        let (words, said) = (String::from_utf8_lossy(&text.stdout), String::from_utf8_lossy(&text.stderr));
        let code = text.status.code().expect("an exit code");
        insta::assert_snapshot!(
            format!("diff_{was}_{is}.txt"),
            format!("{words}--- exit {code}, stderr: {said}")
        );
        if was == "healthy" && matches!(is, "forward" | "deliver") {
            let json = diff(&[&was_file, &is_file, "-o", "json"]);
            insta::assert_snapshot!(format!("diff_{was}_{is}.json"), String::from_utf8_lossy(&json.stdout));
            assert_eq!(json.status.code(), Some(code));
        }
    }
}

#[test]
fn a_case_is_the_same_as_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let files = std::fs::read_dir(folder).expect("the folder of saved cases");
    let paths = files.map(|file| file.expect("an entry").path());
    for path in paths.filter(|path| path.extension().is_some_and(|end| end == "tgz")) {
        let name = path.to_string_lossy().into_owned();
        let output = diff(&[&name, &name, "-o", "json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a JSON report");
        assert_eq!(report["schema"], "trace-drop/diff/v1");
        assert_eq!((&report["same"], &report["changes"]), (&true.into(), &serde_json::json!([])), "{name}");
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn trouble_is_told_from_a_difference() {
    let missing = diff(&["healthy.tgz", "nowhere.tgz"]);
    assert_eq!(missing.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("nowhere.tgz"));
    let no_case = diff(&["healthy.tgz", "README.md"]);
    assert_eq!(no_case.status.code(), Some(4));
    assert_eq!(diff(&["healthy.tgz"]).status.code(), Some(2));
}
