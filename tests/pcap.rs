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
            // What an end does not answer was seen everywhere.
            if [&report["from"]["name"], &report["to"]["name"]].contains(&&stage["to"]) {
                continue;
            }
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

/// When, in seconds and microseconds, and what.
type Record = ([u32; 2], Vec<u8>);

/// The frames that a capture holds of an interface.
fn records(whole: &Path, point: &str, folder: &Path) -> Vec<Record> {
    let part = folder.join("part.pcap");
    let filter = format!("frame.interface_name == \"{point}\"");
    quiet("tshark", &["-r", path(whole), "-Y", &filter, "-F", "pcap", "-w", path(&part)]);
    let bytes = std::fs::read(&part).expect("tshark wrote it");
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let (mut records, mut at) = (Vec::new(), 24);
    while at < bytes.len() {
        let end = at + 16 + number(at + 8) as usize;
        records.push(([number(at), number(at + 4)], bytes[at + 16..end].to_vec()));
        at = end;
    }
    records
}

/// A pcap of these frames, in the order of their times, cut at the snap length.
fn pcap(link: u32, snaplen: u32, mut records: Vec<Record>) -> Vec<u8> {
    records.sort_by_key(|(time, _)| *time);
    let mut words = vec![0xa1b2_c3d4, 0x0004_0002, 0, 0, snaplen, link];
    let mut pcap = Vec::new();
    for ([seconds, micros], frame) in records {
        let length = u32::try_from(frame.len()).expect("a frame's length");
        words.extend([seconds, micros, length.min(snaplen), length]);
        pcap.extend(words.drain(..).flat_map(u32::to_le_bytes));
        pcap.extend(frame.into_iter().take(snaplen as usize));
    }
    pcap
}

/// The case of packets that the second node does not give to the pod, as pcapng.
fn undelivered(folder: &Path) -> PathBuf {
    let whole = folder.join("whole.pcapng");
    quiet(PROGRAM, &["pcap", path(&captures().join("deliver.tgz")), "-q", "-o", path(&whole)]);
    whole
}

/// What `pcap --decap` makes of two files, without leaving anything out.
fn without_tunnel(files: &[PathBuf; 2], out: &Path) {
    let words = ["pcap", path(&files[0]), path(&files[1]), "--decap", "-o", path(out)];
    let done = Command::new(PROGRAM).args(words).output().expect("it runs");
    let said = String::from_utf8(done.stderr).expect("UTF-8");
    assert!(done.status.success() && !said.contains("left out"), "{said}");
}

#[test]
fn captures_of_all_interfaces_keep_their_frames_without_the_tunnel() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = undelivered(folder.path());
    // As `tcpdump -i any` has them: interface index, and 0 for what came in, 4 for what was sent.
    let nodes = [
        (
            "node1",
            &[("worker-1/calia7a3e029a7b", 5, 0), ("worker-1/vxlan.calico", 6, 4), ("worker-1/eth0", 2, 4)][..],
        ),
        ("node2", &[("worker-2/eth0", 2, 0), ("worker-2/vxlan.calico", 6, 0)]),
    ];
    let files = nodes.map(|(name, interfaces)| {
        let of = |(point, index, kind): &(&str, u8, u8)| {
            let (index, kind) = (*index, *kind);
            records(&whole, point, folder.path()).into_iter().map(move |(time, frame)| {
                let header = [&frame[12..14], &[0, 0, 0, 0, 0, index, 0, 1, kind, 6], &frame[6..12], &[0, 0]];
                (time, [&header.concat(), &frame[14..]].concat())
            })
        };
        let file = folder.path().join(format!("{name}-any.pcap"));
        std::fs::write(&file, pcap(276, 262_144, interfaces.iter().flat_map(of).collect())).expect("a file");
        file
    });
    let out = folder.path().join("out.pcapng");
    without_tunnel(&files, &out);
    let fields = ["-e", "frame.interface_name", "-e", "eth.src", "-e", "frame.protocols"];
    let shown = quiet("tshark", &[&["-r", path(&out), "-T", "fields"], &fields[..]].concat());
    let count = |line: &str| shown.lines().filter(|shown| *shown == line).count();
    // Of what was no Ethernet frame, the sender's address is known; of what the tunnel carried, the whole header.
    assert_eq!(count("node1/if5\t0a:58:0a:f4:01:02\teth:ethertype:ip:tcp"), 30, "{shown}");
    assert_eq!(count("node1/if5\t0a:58:0a:f4:01:02\teth:ethertype:arp"), 1, "{shown}");
    for point in ["node1/if6", "node1/if2", "node2/if2", "node2/if6"] {
        let ends = |line: &str| line.starts_with(point) && line.ends_with("\teth:ethertype:ip:tcp");
        assert_eq!(shown.lines().filter(|line| ends(line)).count(), 30, "{point}: {shown}");
    }
    assert_eq!(shown.lines().count(), 152, "{shown}");
}

#[test]
fn packets_without_a_link_header_get_one_that_tcpdump_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = undelivered(folder.path());
    // LINKTYPE_RAW, cut short: with the header each is longer than it was captured.
    let files = ["worker-1/vxlan.calico", "worker-2/vxlan.calico"].map(|point| {
        let bare = records(&whole, point, folder.path()).into_iter();
        let bare = bare.map(|(time, frame)| (time, frame[14..].to_vec())).collect();
        let file = folder.path().join(format!("{}.pcap", point.replace('/', "-")));
        std::fs::write(&file, pcap(101, 48, bare)).expect("a file");
        file
    });
    let out = folder.path().join("out.pcapng");
    without_tunnel(&files, &out);
    let read =
        Command::new("tcpdump").args(["-enr", path(&out)]).output().expect("scripts/setup test installs it");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let printed = String::from_utf8(read.stdout).expect("UTF-8");
    let made_up = "00:00:00:00:00:00 > 00:00:00:00:00:00, ethertype IPv4";
    assert_eq!(printed.lines().filter(|line| line.contains(made_up)).count(), 60, "{printed}");
}
