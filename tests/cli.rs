//! The command line as its users meet it: help, errors and their exit codes, exactly.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn trace_drop(words: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_trace-drop");
    Command::new(program)
        .env("KUBECONFIG", "/nonexistent/kubeconfig")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .args(words)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the program runs")
}

/// Exit code, stdout and stderr as one text.
fn all(words: &[&str]) -> String {
    let done = trace_drop(words);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    format!(
        "$ trace-drop {}\nexit {}\n--- stdout\n{}--- stderr\n{}",
        words.join(" "),
        done.status.code().expect("an exit code"),
        text(&done.stdout),
        text(&done.stderr)
    )
}

#[test]
fn help() {
    insta::assert_snapshot!("help", all(&["-h"]));
    insta::assert_snapshot!("help_replay", all(&["replay", "-h"]));
    insta::assert_snapshot!("help_check", all(&["check", "-h"]));
    insta::assert_snapshot!("help_node_status", all(&["node", "status", "-h"]));
    insta::assert_snapshot!("help_node_diags", all(&["node", "diags", "-h"]));
    insta::assert_snapshot!("help_rules", all(&["rules", "-h"]));
    insta::assert_snapshot!("help_pcap", all(&["pcap", "-h"]));
    insta::assert_snapshot!("help_diff", all(&["diff", "-h"]));
    insta::assert_snapshot!("help_redact", all(&["redact", "-h"]));
}

const CLUSTER: &str = "tests/data/cluster.yaml";

#[test]
fn errors_say_what_to_do() {
    let cases: &[(&str, &[&str])] = &[
        ("no_words", &[]),
        ("no_cluster", &["--from", "a", "--to", "b"]),
        ("cluster_missing", &["--cluster", "nowhere.yaml", "--from", "a", "--to", "b"]),
        ("cluster_nonsense", &["--cluster", "Cargo.toml", "--from", "a", "--to", "b"]),
        ("pod_misspelt", &["--cluster", CLUSTER, "--from", "client", "--to", "servr"]),
        ("node_misspelt", &["--cluster", CLUSTER, "--from", "client", "--to", "node/worker-9"]),
        (
            "probe_nonsense",
            &["--cluster", CLUSTER, "--from", "client", "--to", "server", "--probe", "tcp:http"],
        ),
        (
            "probe_no_pods",
            &[
                "--cluster",
                CLUSTER,
                "--from",
                "client",
                "--to",
                "server",
                "--no-pods",
                "--probe",
                "icmp",
                "--dry-run",
            ],
        ),
        (
            "probe_port_zero",
            &["--cluster", CLUSTER, "--from", "client", "--to", "server", "--dry-run", "--probe", "tcp:0"],
        ),
        ("pcap_flow_nonsense", &["pcap", "captures/deliver.tgz", "-o", "-", "--flow", "tcp http"]),
        ("pcap_exists", &["pcap", "captures/deliver.tgz", "-o", "captures"]),
        ("duration_zero", &["--cluster", CLUSTER, "--from", "client", "--to", "server", "--duration", "0s"]),
        (
            "ring_alone",
            &["--cluster", CLUSTER, "--from", "client", "--to", "server", "--ring", "5s", "--dry-run"],
        ),
        ("save_exists", &["--cluster", CLUSTER, "--from", "client", "--to", "server", "--save", "captures"]),
        ("check_no_cluster", &["check"]),
        ("check_half_a_path", &["check", "--cluster", CLUSTER, "--from", "client"]),
        ("check_node_misspelt", &["check", "--cluster", CLUSTER, "--node", "worker-9"]),
        ("node_status_misspelt", &["node", "status", "--cluster", CLUSTER, "--node", "worker-9"]),
        ("check_case_missing", &["check", "--case", "nowhere.tgz"]),
        ("diags_nowhere", &["node", "diags", "--cluster", CLUSTER]),
        ("one_end", &["--cluster", CLUSTER, "--from", "client", "--to", "10.244.1.2"]),
        ("replay_nothing", &["replay"]),
        ("replay_missing", &["replay", "nowhere.tgz"]),
        ("replay_no_case", &["replay", "Cargo.toml"]),
        ("replay_one_file", &["replay", "--at", "worker-1/eth0=nowhere.pcap"]),
        ("replay_bad_point", &["replay", "--at", "eth0=nowhere.pcap"]),
        ("rules_nothing", &["rules"]),
        ("rules_one_end", &["rules", "--cluster", CLUSTER, "--from", "client"]),
        ("rules_node_misspelt", &["rules", "--cluster", CLUSTER, "--node", "worker-9"]),
        ("rules_case_node_misspelt", &["rules", "--case", "captures/deliver.tgz", "--node", "worker-9"]),
        ("rules_case_missing", &["rules", "--case", "nowhere.tgz"]),
    ];
    for (name, words) in cases {
        insta::assert_snapshot!(format!("error_{name}"), all(words));
    }
}

#[test]
fn rules_of_a_saved_case() {
    let case = "captures/deliver.tgz";
    insta::assert_snapshot!("rules_overview", all(&["rules", "--case", case, "--node", "worker-2"]));
    insta::assert_snapshot!("rules_path", all(&["rules", "--case", case, "--path", "--port", "9999"]));
    let done = trace_drop(&["rules", "--case", case, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(json["schema"], "trace-drop/rules/v1");
    for text in json["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .flat_map(|node| node["texts"].as_array().expect("texts"))
    {
        let chains = text["tables"]
            .as_array()
            .expect("tables")
            .iter()
            .flat_map(|table| table["groups"].as_array().expect("groups"));
        let chains = chains.flat_map(|group| group["chains"].as_array().expect("chains"));
        let rules: usize = chains.map(|chain| chain["rules"].as_array().expect("rules").len()).sum();
        assert_eq!(Some(rules as u64), text["n_rules"].as_u64());
    }
    let way = trace_drop(&[
        "rules", "--case", case, "--from", "client", "--to", "server", "--port", "9999", "-o", "json",
    ]);
    let json: serde_json::Value = serde_json::from_slice(&way.stdout).expect("JSON");
    assert_eq!(json["legs"].as_array().expect("legs").len(), 4);
}

/// What can be read is shown, and why the rest cannot.
#[test]
fn rules_tell_of_a_node_that_is_not_reached() {
    let reach = "sh -c 'test {node} = worker-1 && exec \"$@\"' {node}";
    let words = ["--cluster", CLUSTER, "-q", "--interval", "0", "--reach", reach];
    let done = trace_drop(&[&["rules", "-o", "json"], &words[..]].concat());
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let nodes = report["nodes"].as_array().expect("nodes");
    let names: Vec<&str> = nodes.iter().map(|node| node["node"].as_str().expect("a name")).collect();
    assert_eq!(names, ["worker-1", "worker-2"], "{report:#}");
    let said = String::from_utf8(trace_drop(&[&["rules"], &words[..]].concat()).stdout).expect("UTF-8");
    assert!(said.contains("worker-2: not read"), "{said}");
}

/// By its number and by its name.
#[test]
fn a_packet_to_a_services_port() {
    for port in ["80", "http"] {
        let to = format!("svc/default/server-svc:{port}");
        let done =
            trace_drop(&["rules", "--case", "captures/deliver.tgz", "--from", "default/client", "--to", &to]);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.contains("tcp port 80)"), "{said}");
        assert_eq!(done.status.code(), Some(0), "{said}");
    }
}

/// Between its two readings nothing is gathered, and nobody waits for the signal.
#[test]
fn a_signal_ends_it_when_it_does_not_gather() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let scratch = tempfile::tempdir().expect("a folder");
        let read = scratch.path().join("read");
        let reach = format!("sh -c '\"$@\"; touch {}' {{node}}", read.display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_trace-drop"))
            .args([
                "rules",
                "--cluster",
                CLUSTER,
                "--node",
                "worker-1",
                "--interval",
                "30s",
                "--reach",
                &reach,
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        for _ in 0..300 {
            if read.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(read.exists(), "the first reading has ended");
        // Its own last work on that.
        std::thread::sleep(Duration::from_secs(1));
        let begun = Instant::now();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().expect("kill runs").success());
        let status = child.wait().expect("an end");
        assert_eq!(status.code(), Some(code), "{signal}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{signal}: at once");
    }
}

#[test]
fn every_error_has_its_exit_code() {
    assert_eq!(trace_drop(&["--cluster", CLUSTER]).status.code(), Some(2));
    assert_eq!(trace_drop(&["replay", "nowhere.tgz"]).status.code(), Some(4));
    assert_eq!(trace_drop(&["replay", "captures/healthy.tgz"]).status.code(), Some(0));
    assert_eq!(trace_drop(&["replay", "captures/deliver.tgz"]).status.code(), Some(1));
}

#[test]
fn completions_and_manual_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let done = trace_drop(&["completions", shell]);
        assert!(String::from_utf8_lossy(&done.stdout).contains("cluster"), "{shell}");
    }
    let page = String::from_utf8(trace_drop(&["man"]).stdout).expect("UTF-8").replace("\\-", "-");
    assert!(page.contains(".TH trace-drop"));
    // All commands are in it, and no page of another.
    for part in ["TRACE-DROP REPLAY", "TRACE-DROP IPAM SHOW", "--show-blocks", "--all-pairs", "--state"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("trace-drop-") && !page.contains("AGENT\""), "{page}");
}

/// Called as kubectl calls its plugins, the program says so.
#[test]
fn as_a_plugin_its_usage_is_kubectls() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = folder.path().join("kubectl-trace_drop");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_trace-drop"), &plugin).expect("a link");
    for words in [&["--help"][..], &["ipam", "check", "--help"], &["--nothing"]] {
        let done = Command::new(&plugin).args(words).output().expect("the program runs");
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(said.contains("Usage: kubectl trace-drop "), "{said}");
    }
}

#[test]
fn the_manifest_for_krew_is_of_this_version() {
    let text = std::fs::read_to_string("docs/krew.yaml").expect("the manifest");
    let manifest: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).expect("YAML");
    assert_eq!(manifest["metadata"]["name"], "trace-drop");
    assert_eq!(manifest["spec"]["version"], concat!("v", env!("CARGO_PKG_VERSION")));
    let platform = &manifest["spec"]["platforms"][0];
    assert_eq!(
        (&platform["bin"], &platform["files"][0]["from"]),
        (&"trace-drop".into(), &"trace-drop".into())
    );
}

/// A reader that goes away (`| head`) is no error.
#[test]
fn a_closed_pipe_ends_quietly() {
    let script = format!("{} man | head -n 1; exit ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_trace-drop"));
    let done = Command::new("bash").args(["-c", &script]).output().expect("bash");
    assert_eq!((done.status.code(), done.stderr.len()), (Some(0), 0));
}

/// The frames of a saved case as plain files, taken apart with tshark: each point and its file.
fn taken_apart(folder: &Path) -> Vec<(&'static str, String)> {
    let path = |name: &str| folder.join(name).display().to_string();
    let run = |words: &[&str]| {
        let done = Command::new(words[0])
            .args(&words[1..])
            .output()
            .expect("a tool that scripts/setup test installs");
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("captures/deliver.tgz").display().to_string();
    run(&["tar", "xzf", &case, "-C", &path(".")]);
    let points = [
        "worker-1/calia7a3e029a7b",
        "worker-1/eth0",
        "worker-2/eth0",
        "worker-2/vxlan.calico",
        "worker-2/cali7715d358f22",
    ];
    let taken = points.map(|point| {
        let file = path(&format!("{}.pcap", point.replace('/', "_")));
        let filter = format!("frame.interface_name == \"{point}\"");
        let capture = path("deliver/capture.pcapng");
        run(&["tshark", "-r", &capture, "-Y", &filter, "-F", "nsecpcap", "-w", &file]);
        (point, file)
    });
    taken.into()
}

fn words(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// The same frames as plain files: the same place is named, and what was guessed is said.
#[test]
fn plain_files_give_the_same_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = taken_apart(folder.path());
    let said: Vec<String> =
        taken.iter().flat_map(|(point, file)| ["--at".to_owned(), format!("{point}={file}")]).collect();
    let named: Vec<String> = taken.iter().rev().map(|(_, file)| file.clone()).collect();
    for files in [&said, &named] {
        let done = trace_drop(&[&["replay", "-o", "json"], words(files).as_slice()].concat());
        let json: serde_json::Value = serde_json::from_slice(&done.stdout).expect("a JSON report");
        assert_eq!(json["verdict"]["stage"]["kind"], "deliver", "{json}");
        assert_eq!(json["verdict"]["stage"]["to"], "worker-2/cali7715d358f22");
        // The last ones are too near to the end of what the files show: the capture may have ended.
        let lost = json["verdict"]["lost"].as_u64().expect("a number");
        assert!((15..=30).contains(&lost), "{lost}");
        assert_eq!(json["verdict"]["confidence"], "likely");
    }
    let without = |text: String| text.replace(&folder.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!(
        "replay_of_plain_files",
        without(all(&[&["replay"], words(&named).as_slice()].concat()))
    );
    insta::assert_snapshot!("error_replay_one_capture", without(all(&["replay", &taken[0].1])));
    insta::assert_snapshot!(
        "error_replay_two_nics",
        without(all(&["replay", "--at", &said[1], "--at", &said[1]]))
    );
    insta::assert_snapshot!(
        "error_replay_nobody",
        without(all(&["replay", &taken[0].1, &taken[1].1, "--from", "10.9.9.9"]))
    );
    let others = ["--from", "9.9.9.9", "--to", "8.8.8.8"];
    insta::assert_snapshot!(
        "error_replay_no_traffic",
        without(all(&[&["replay", &taken[0].1], &others[..]].concat()))
    );
    let empty = [1, 2].map(|number| {
        let file = folder.path().join(format!("n{number}_eth0.pcap"));
        let head = [&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0][..], &[0; 8], &[0, 1, 0, 0, 1, 0, 0, 0]].concat();
        std::fs::write(&file, head).expect("a file");
        file.display().to_string()
    });
    let nothing = trace_drop(&["replay", &empty[0], &empty[1]]);
    assert_eq!(nothing.status.code(), Some(3), "{}", String::from_utf8_lossy(&nothing.stderr));
    insta::assert_snapshot!(
        "error_replay_case_and_capture",
        without(all(&["replay", "captures/deliver.tgz", &taken[1].1]))
    );
    insta::assert_snapshot!(
        "error_replay_ends_of_a_case",
        all(&["replay", "captures/deliver.tgz", "--from", "10.9.9.9"])
    );
}

/// On its way through a Service a packet has two ports: asking for either is asking for it.
#[test]
fn a_port_of_a_service_is_both_of_its_ports() {
    for port in ["80", "8080"] {
        let done = trace_drop(&["replay", "captures/service.tgz", "--port", port, "-o", "json"]);
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        assert_eq!(done.status.code(), Some(0), "{port}: {report:#}");
        assert!(report["verdict"]["sent"].as_u64() > Some(10), "{port}: {report:#}");
    }
    assert_eq!(trace_drop(&["replay", "captures/service.tgz", "--port", "81"]).status.code(), Some(3));
}
