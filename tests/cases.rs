//! Every saved case in captures/ replays to the report that was reviewed: text and JSON, stdout and stderr, exit code.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures");
    let files = std::fs::read_dir(folder).expect("the folder of saved cases");
    let mut found: Vec<PathBuf> = files.map(|file| file.expect("a readable entry").path()).collect();
    found.retain(|file| file.extension().is_some_and(|end| end == "tgz"));
    found.sort();
    found
}

fn replay(case: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trace-drop"))
        .arg("replay")
        .arg(case)
        .args(more)
        .output()
        .expect("the program runs")
}

fn name(case: &Path) -> String {
    case.file_stem().expect("a name").to_string_lossy().into_owned()
}

#[test]
fn reports_are_those_reviewed() {
    assert!(cases().len() >= 10, "the saved cases are there");
    for case in cases() {
        let text = replay(&case, &[]);
        let words = String::from_utf8(text.stdout).expect("UTF-8");
        let said = String::from_utf8(text.stderr).expect("UTF-8");
        let code = text.status.code().expect("an exit code");
        insta::assert_snapshot!(
            format!("{}.txt", name(&case)),
            format!("{words}--- exit {code}, stderr: {said}")
        );
        let json = replay(&case, &["-o", "json"]);
        insta::assert_snapshot!(
            format!("{}.json", name(&case)),
            String::from_utf8(json.stdout).expect("UTF-8")
        );
        assert_eq!(json.status.code(), Some(code), "{}", case.display());
        let markdown = replay(&case, &["-o", "markdown"]);
        insta::assert_snapshot!(
            format!("{}.md", name(&case)),
            String::from_utf8(markdown.stdout).expect("UTF-8")
        );
        assert_eq!(markdown.status.code(), Some(code), "{}", case.display());
    }
}

/// One picture of each shape: lost on the way, lost on the way back, refused behind it, a Service, no tunnel.
#[test]
fn pictures_are_those_reviewed() {
    for shape in ["deliver", "reply_loss", "pod", "service", "masquerade"] {
        let case = cases().into_iter().find(|case| name(case) == shape).expect("the case is there");
        let svg = String::from_utf8(replay(&case, &["-o", "svg"]).stdout).expect("UTF-8");
        // One element a line is easier to review.
        insta::assert_snapshot!(format!("{shape}.svg"), svg.replace("><", ">\n<"));
    }
}

/// The page of one case, whole; the others are looked at by scripts/pages.
#[test]
fn a_page_is_the_one_reviewed() {
    let case = cases().into_iter().find(|case| name(case) == "reply_loss").expect("the case is there");
    let page = String::from_utf8(replay(&case, &["-o", "html"]).stdout).expect("UTF-8");
    let again = replay(&case, &["-o", "html"]).stdout;
    assert_eq!(page.as_bytes(), again, "the same case gives the same page");
    let body = page.split_once("<body>").expect("a body").1.replace("><", ">\n<");
    insta::assert_snapshot!("reply_loss.html", body);
}

/// The README's row of each case says what its verdict is.
#[test]
fn rows_tell_the_verdicts() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/README.md");
    let readme = std::fs::read_to_string(readme).expect("captures/README.md");
    for case in cases() {
        let row = readme.lines().find(|line| line.contains(&format!("| {}.tgz |", name(&case))));
        let row = row.unwrap_or_else(|| panic!("captures/README.md has a row for {}", case.display()));
        let json: serde_json::Value =
            serde_json::from_slice(&replay(&case, &["-o", "json"]).stdout).expect("a JSON report");
        let outcome = json["verdict"]["outcome"].as_str().expect("an outcome");
        assert!(row.contains(outcome), "{row}: {outcome}");
        if let Some(stage) = json["verdict"]["stage"]["kind"].as_str() {
            assert!(row.contains(stage), "{row}: {stage}");
        }
    }
}

/// The keys of the report contract are there, whatever else is.
#[test]
fn json_keeps_the_contract() {
    for case in cases() {
        let json: serde_json::Value =
            serde_json::from_slice(&replay(&case, &["-o", "json"]).stdout).expect("a JSON report");
        for key in ["schema", "from", "to", "window", "points", "directions", "verdict", "causes", "warnings"]
        {
            assert!(json.get(key).is_some(), "{key} in {}", case.display());
        }
        assert_eq!(json["schema"], "trace-drop/report/v1");
        let verdict = &json["verdict"];
        if !verdict["stage"].is_null() {
            let ways = json["directions"].as_array().expect("directions").iter();
            let own = ways.filter(|way| way["direction"] == verdict["direction"]);
            let stages = own.flat_map(|way| way["stages"].as_array().expect("stages"));
            let same = |stage: &&serde_json::Value| {
                ["from", "to", "kind"].iter().all(|key| stage[key] == verdict["stage"][key])
            };
            let found: Vec<_> = stages.filter(same).collect();
            assert_eq!(found.len(), 1, "the verdict's stage is one of {}", case.display());
            assert_eq!(found[0]["lost"], verdict["lost"], "{}", case.display());
        }
        for point in json["points"].as_array().expect("points") {
            for key in ["id", "node", "interface", "role", "packets", "capture_dropped"] {
                assert!(point.get(key).is_some(), "point.{key}");
            }
        }
        for way in json["directions"].as_array().expect("directions") {
            let points = way["path"].as_array().expect("path").len();
            // Behind the last point is the end itself, where something is lost there.
            let behind = usize::from(!way["unanswered"].is_null());
            assert_eq!(way["stages"].as_array().expect("stages").len() + 1, points + behind);
        }
    }
}

/// The capture of a case opens in Wireshark: one interface a point, named after it.
#[test]
fn wireshark_reads_a_case() {
    let folder = tempfile::tempdir().expect("a folder");
    let case = cases().into_iter().find(|case| name(case) == "deliver").expect("captures/deliver.tgz");
    let unpacked =
        Command::new("tar").arg("xzf").arg(&case).arg("-C").arg(folder.path()).output().expect("tar");
    assert!(unpacked.status.success());
    let capture = folder.path().join("deliver/capture.pcapng");
    let read = Command::new("tshark")
        .args(["-r"])
        .arg(&capture)
        .args(["-T", "fields", "-e", "frame.interface_name", "-e", "tcp.dstport"])
        .output()
        .expect("tshark: scripts/setup test installs it");
    let (shown, said) = (String::from_utf8_lossy(&read.stdout), String::from_utf8_lossy(&read.stderr));
    assert!(read.status.success() && !said.contains("cut short"), "{said}");
    assert!(shown.lines().any(|line| line == "worker-2/vxlan.calico\t9999"), "{shown}");
}
