//! What `pcap` writes is read by Wireshark's own tools without a complaint, and says what the report says.

#![expect(clippy::disallowed_methods, reason = "the programs are run as their users run them")]

use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_trace-drop");

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures")
}

fn cases() -> Vec<PathBuf> {
    let files = std::fs::read_dir(captures()).expect("the folder of saved cases");
    let mut found: Vec<PathBuf> = files.map(|file| file.expect("a readable entry").path()).collect();
    found.retain(|file| file.extension().is_some_and(|end| end == "tgz"));
    found.sort();
    found
}

/// Runs a program that must succeed and say nothing on stderr; gives what it printed.
fn quiet(program: &str, words: &[&str]) -> String {
    let done = Command::new(program).args(words).output().expect("scripts/setup test installs it");
    let said = String::from_utf8_lossy(&done.stderr);
    let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("Running as user")).collect();
    assert!(done.status.success() && said.is_empty(), "{program} {words:?}: {said:?}");
    String::from_utf8(done.stdout).expect("UTF-8")
}

fn path(file: &Path) -> &str {
    file.to_str().expect("UTF-8")
}

#[test]
fn wireshark_and_the_report_agree() {
    let folder = tempfile::tempdir().expect("a folder");
    for case in cases() {
        let name = case.file_stem().expect("a name").to_string_lossy().into_owned();
        let out = folder.path().join(format!("{name}.pcapng"));
        quiet(PROGRAM, &["pcap", path(&case), "-q", "-o", path(&out)]);
        let interfaces = quiet("capinfos", &[path(&out)]);
        assert!(interfaces.contains("Description = the node's interface, on worker-1"), "{name}");
        let fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment"];
        let shown = quiet("tshark", &[&["-r", path(&out)], &fields[..]].concat());
        let report =
            Command::new(PROGRAM).args(["replay", path(&case), "-o", "json"]).output().expect("it runs");
        let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("a JSON report");
        for point in report["points"].as_array().expect("points") {
            assert!(
                interfaces.contains(&format!("Name = {}\n", point["id"].as_str().expect("an id"))),
                "{name}"
            );
        }
        let stages = report["directions"].as_array().expect("directions").iter();
        for stage in stages.flat_map(|way| way["stages"].as_array().expect("stages")) {
            let (from, to) = (stage["from"].as_str().expect("from"), stage["to"].as_str().expect("to"));
            let line = format!("{from}\tlast seen here; never at {to}");
            let marked = shown.lines().filter(|shown| *shown == line).count() as u64;
            let lost = stage["lost"].as_u64().expect("a count");
            // Of a fragmented packet each lost fragment is marked, of one that went astray what was seen on the way.
            assert!(marked >= lost, "{name}: {marked} frames are marked `{line}`, {lost} packets lost");
            assert_eq!(marked > 0, lost > 0, "{name}: {line}");
        }
        let only = folder.path().join(format!("{name}.lost.pcapng"));
        quiet(PROGRAM, &["pcap", path(&case), "-q", "--lost", "--decap", "-o", path(&only)]);
        let shown = quiet(
            "tshark",
            &["-r", path(&only), "-T", "fields", "-e", "frame.comment", "-e", "frame.protocols"],
        );
        for line in shown.lines() {
            let (comment, protocols) = line.split_once('\t').expect("two fields");
            assert!(comment.contains("never at") && !protocols.contains("vxlan"), "{name}: {line}");
        }
    }
}

#[test]
fn pods_have_names_and_flows_are_chosen() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("flow.pcapng");
    let case = captures().join("service.tgz");
    let words = ["pcap", path(&case), "-q", "--flow", "tcp 10.96.0.10:80", "-o", path(&out)];
    quiet(PROGRAM, &words);
    let shown =
        quiet("tshark", &["-r", path(&out), "-N", "n", "-T", "fields", "-e", "ip.addr", "-e", "ip.src_host"]);
    assert!(shown.lines().count() > 10, "{shown}");
    for line in shown.lines() {
        assert!(line.contains("10.96.0.10"), "{line}");
    }
    assert!(shown.contains("\tdefault/client"), "{shown}");
    // It is not written over.
    let again = Command::new(PROGRAM).args(words).output().expect("it runs");
    assert_eq!(again.status.code(), Some(2));
}

#[test]
fn captures_of_plain_tcpdump_are_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole.pcapng");
    quiet(PROGRAM, &["pcap", path(&captures().join("deliver.tgz")), "-q", "-o", path(&whole)]);
    let points = ["worker-1/calia7a3e029a7b", "worker-1/eth0", "worker-2/eth0", "worker-2/cali7715d358f22"];
    let mut words = vec!["pcap".to_owned(), "-q".to_owned()];
    for (number, point) in points.iter().enumerate() {
        let part = folder.path().join(format!("{number}.part"));
        let plain = folder.path().join(format!("{number}.pcap"));
        let filter = format!("frame.interface_name == \"{point}\"");
        quiet("tshark", &["-r", path(&whole), "-Y", &filter, "-F", "pcap", "-w", path(&part)]);
        // tcpdump says what it reads.
        let written = Command::new("tcpdump").args(["-r", path(&part), "-w", path(&plain)]).output();
        assert!(written.expect("scripts/setup test installs it").status.success());
        words.extend(["--at".to_owned(), format!("{point}={}", path(&plain))]);
    }
    let out = folder.path().join("out.pcapng");
    words.extend(["-o".to_owned(), path(&out).to_owned()]);
    quiet(PROGRAM, &words.iter().map(String::as_str).collect::<Vec<_>>());
    quiet("capinfos", &[path(&out)]);
    let shown = quiet(
        "tshark",
        &["-r", path(&out), "-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment"],
    );
    assert!(shown.contains("worker-2/eth0\tlast seen here; never at worker-2/cali7715d358f22"), "{shown}");
}
