#![expect(clippy::disallowed_methods, reason = "archives of the system's own tar are opened too")]

use std::process::Command;

use super::*;
use crate::evidence::capture_file::{FrameSource, InterfaceSpec, Statistics};
use crate::evidence::case::{
    Aliases, CapturePoint, Coverage, Direction, Endpoint, Only, Path as Way, Role, StageKind, Window,
};
use crate::evidence::texts::When;
use crate::packet::{Frame, LinkType, Timestamp};

fn point(id: &str) -> CapturePoint {
    let (node, interface) = id.split_once('/').unwrap();
    CapturePoint {
        id: id.to_owned(),
        node: node.to_owned(),
        interface: interface.to_owned(),
        role: Role::Veth,
        state: Known::Read(Coverage { received: 3, ..Coverage::default() }),
    }
}

fn some_case() -> Case {
    let end = |name: &str, last| Endpoint {
        name: name.to_owned(),
        address: std::net::Ipv4Addr::new(10, 0, 0, last).into(),
        node: Some("a".to_owned()),
    };
    Case {
        from: end("default/x", 1),
        to: end("default/y", 2),
        aliases: Aliases::default(),
        nodes: Vec::new(),
        points: vec![point("a/cali1"), point("b/cali2")],
        paths: vec![Way {
            direction: Direction::Forward,
            points: vec![PointId(0), PointId(1)],
            stages: vec![StageKind::Underlay],
            encapsulated: false,
            open_end: false,
        }],
        vxlan_port: 4789,
        window: Some(Window { start: 1_700_000_000_000_000_000, seconds: 1.5 }),
        clocks: Vec::new(),
        only: Only::default(),
        probe: None,
        conntrack: Vec::new(),
        warnings: vec!["nothing of note".to_owned()],
    }
}

fn some_texts() -> Texts {
    let text = |node: &str, name: &str, when, content| Text {
        node: node.to_owned(),
        name: name.to_owned(),
        when,
        content,
    };
    Texts(vec![
        text("a", "iptables-nft-save", When::Before, Known::Read("*filter\nCOMMIT\n".to_owned())),
        text("a", "iptables-nft-save", When::After, Known::Read("*filter\n-A ü\n".to_owned())),
        text("a", "pod:ip route", When::After, Known::Read("default".to_owned())),
        text("a", "pod_ip route", When::After, Known::Read("other".to_owned())),
        text("../../etc", "..", When::After, Known::Read("inside".to_owned())),
        text("b", "conntrack", When::Before, Known::Unreadable("no such program".to_owned())),
        text("b", "nft", When::Before, Known::NotAsked),
    ])
}

fn saved(folder: &Path) -> Bundle {
    let mut writer = Writer::create(folder).unwrap();
    let spec = |name: &str| InterfaceSpec {
        name: name.to_owned(),
        description: None,
        link: LinkType::Ethernet,
        snaplen: 96,
        filter: None,
    };
    let mut capture = writer.capture(&[spec("a/cali1"), spec("b/cali2")]).unwrap();
    for n in 0..10_u8 {
        let time = Timestamp(i64::from(n));
        let frame = Frame { time, wire_len: 60, link: LinkType::Ethernet, bytes: &[n; 20] };
        capture.write(usize::from(n % 2), &frame, None).unwrap();
    }
    capture.finish(&[Some(Statistics::default()), None]).unwrap();
    writer.put_texts(&some_texts()).unwrap();
    writer.put_cluster("{\"items\":[]}").unwrap();
    writer.finish(&some_case()).unwrap()
}

fn check(bundle: &Bundle) {
    assert_eq!(*bundle.case(), some_case());
    assert_eq!(bundle.texts().unwrap(), some_texts());
    assert_eq!(bundle.cluster_text().unwrap().as_deref(), Some("{\"items\":[]}"));
    for _ in 0..2 {
        let mut frames = bundle.frames().unwrap();
        let mut points = Vec::new();
        while let Some((point, frame)) = frames.next_frame().unwrap() {
            assert_eq!(frame.bytes.len(), 20);
            points.push(point.0);
        }
        assert_eq!(points, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
    }
}

fn failure(path: &Path) -> String {
    let error = Bundle::open(path).unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {source}")
}

#[test]
fn what_is_saved_is_opened() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("case");
    saved(&folder);
    check(&Bundle::open(&folder).unwrap());
    assert!(!scratch.path().join("etc").exists());
    assert!(matches!(Writer::create(&folder), Err(BundleError::Occupied(_))));
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn a_case_that_would_not_open_again_is_not_said_to_be_saved() {
    let scratch = tempfile::tempdir().unwrap();
    let mut case = some_case();
    case.warnings = vec!["x".repeat(65 << 20)];
    let told = Writer::create(scratch.path()).unwrap().finish(&case).unwrap_err().to_string();
    assert!(told.contains("would not open again: its manifest has 68"), "{told}");
    assert!(!scratch.path().join("manifest.json").exists());
}

#[test]
fn packed_and_moved_cases_are_the_same() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let [one, two] = ["one", "two"].map(|name| saved(&at(name)));
    fs::create_dir(at("other")).unwrap();
    pack(&one, &at("case.tgz")).unwrap();
    pack(&two, &at("other/case.tgz")).unwrap();
    assert_eq!(fs::read(at("case.tgz")).unwrap(), fs::read(at("other/case.tgz")).unwrap());
    check(&Bundle::open(&at("case.tgz")).unwrap());
    move_to(Bundle::open(&at("case.tgz")).unwrap(), &at("three")).unwrap();
    check(&Bundle::open(&at("three")).unwrap());
    let told = pack(&one, &at("nowhere/case.tgz")).unwrap_err().to_string();
    assert!(told.contains("nowhere"), "{told}");
    assert!(matches!(move_to(one, &at("three")), Err(BundleError::Occupied(_))));
    check(&Bundle::open(&at("one")).unwrap());
    move_to(two, &at("four")).unwrap();
    check(&Bundle::open(&at("four")).unwrap());
    // On another file system than the folder of temporary files.
    if let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") {
        move_to(Bundle::open(&at("four")).unwrap(), &elsewhere.path().join("case")).unwrap();
        check(&Bundle::open(&elsewhere.path().join("case")).unwrap());
    }
}

#[test]
fn archives_of_other_programs_are_opened() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("case");
    saved(&folder);
    let kinds: [(&str, &[&str], &str); 5] = [
        ("a.tgz", &["-z"], "case"),
        ("a.tar.zst", &["--zstd"], "case"),
        ("a.tar", &[], "case"),
        ("pax.tar", &["--format=pax"], "./case"),
        ("flat.tar.gz", &["-z", "-C", "case"], "."),
    ];
    for (name, options, what) in kinds {
        let path = scratch.path().join(name);
        let status = Command::new("tar")
            .current_dir(scratch.path())
            .arg("-cf")
            .arg(&path)
            .args(options)
            .arg(what)
            .status()
            .unwrap();
        assert!(status.success(), "{name}");
        check(&Bundle::open(&path).unwrap_or_else(|error| panic!("{name}: {error}")));
    }
}

#[test]
fn an_unpacked_case_leaves_nothing_behind() {
    let scratch = tempfile::tempdir().unwrap();
    pack(&saved(&scratch.path().join("case")), &scratch.path().join("case.tgz")).unwrap();
    let bundle = Bundle::open(&scratch.path().join("case.tgz")).unwrap();
    let folder = bundle.folder().to_owned();
    assert!(folder.exists());
    drop(bundle);
    assert!(!folder.exists());
}

#[test]
fn changed_files_are_named() {
    for (file, change) in [
        ("capture.pcapng", &b"x"[..]),
        ("cluster.json", b"{\"items\":[1]}"),
        ("texts/a/iptables-nft-save.before.txt", b"*filter\nCOMMIX\n"),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        saved(scratch.path());
        fs::write(scratch.path().join(file), change).unwrap();
        let told = failure(scratch.path());
        assert!(told.contains(file) && told.contains("was changed"), "{told}");
        fs::remove_file(scratch.path().join(file)).unwrap();
        assert!(failure(scratch.path()).contains(file));
    }
}

#[test]
fn odd_manifests_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    saved(scratch.path());
    let path = scratch.path().join("manifest.json");
    let whole = fs::read_to_string(&path).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from}");
        fs::write(&path, whole.replacen(from, to, 1)).unwrap();
        failure(scratch.path())
    };
    assert!(changed("case/v1", "case/v9").contains("case/v9"));
    assert!(changed("\"path\": \"cluster.json\"", "\"path\": \"../x\"").contains("not inside the case"));
    assert!(changed("\"path\": \"cluster.json\"", "\"path\": \"/etc/passwd\"").contains("not inside"));
    let mut manifest: serde_json::Value = serde_json::from_str(&whole).unwrap();
    manifest["files"].as_array_mut().unwrap().retain(|file| file["path"] != "capture.pcapng");
    fs::write(&path, manifest.to_string()).unwrap();
    assert!(failure(scratch.path()).contains("does not list capture.pcapng"));
    assert!(changed("\"id\": \"a/cali1\"", "\"id\": \"a/cali9\"").contains("a/cali9"));
    assert!(changed("\"underlay\"", "\"underlay\", \"underlay\"").contains("2 stages"));
    let path_of = |direction, n_points| Way {
        direction,
        points: vec![PointId(0); n_points],
        stages: vec![StageKind::Underlay; n_points - 1],
        encapsulated: false,
        open_end: false,
    };
    let with_paths = |paths: Vec<Way>| {
        let mut manifest: serde_json::Value = serde_json::from_str(&whole).unwrap();
        manifest["case"]["paths"] = serde_json::to_value(paths).unwrap();
        fs::write(&path, manifest.to_string()).unwrap();
        failure(scratch.path())
    };
    let (forward, reply) = (Direction::Forward, Direction::Reply);
    assert!(with_paths(vec![path_of(reply, 13)]).contains("a path of 13 points, more than 12"));
    let two = vec![path_of(forward, 2), path_of(reply, 2), path_of(forward, 3)];
    assert!(with_paths(two).contains("two paths of the same direction"));
    assert!(changed("{", "[").contains("manifest.json"));
    fs::write(&path, " ".repeat(65 << 20)).unwrap();
    assert!(failure(scratch.path()).contains("bytes long"));
    fs::remove_file(&path).unwrap();
    assert!(failure(scratch.path()).contains("no manifest.json"));
}

/// A tar of one entry, made without the library's checks.
fn hostile(name: &[u8], kind: tar::EntryType, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    if !kind.is_file() && !kind.is_dir() {
        header.set_link_name("target").unwrap();
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(bytes.len() + 2048, 0);
    bytes
}

#[test]
fn hostile_archives_are_refused() {
    use tar::EntryType as Kind;
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("case.tar");
    for (name, kind, size, words) in [
        (&b"/abs"[..], Kind::Regular, 3, "out of the case"),
        (b"a/../../x", Kind::Regular, 3, "out of the case"),
        (b"link", Kind::Symlink, 0, "Symlink"),
        (b"link", Kind::Link, 0, "Link"),
        (b"pipe", Kind::Fifo, 0, "Fifo"),
        (b"disk", Kind::Block, 0, "Block"),
        (b"tty", Kind::Char, 0, "Char"),
        (b"case/manifest.json", Kind::Regular, 65 << 20, "a manifest of"),
        (b"big", Kind::Regular, 65 << 30, "bytes so far"),
    ] {
        // Twelve octal digits hold less than 8 GiB: larger sizes are written in base 256 by the library.
        fs::write(&path, hostile(name, kind, size)).unwrap();
        let told = failure(&path);
        assert!(told.contains(words), "{words}: {told}");
    }
    let many: Vec<u8> = (0..50_001)
        .flat_map(|n| hostile(format!("f{n}").as_bytes(), Kind::Regular, 0)[..512].to_vec())
        .collect();
    fs::write(&path, many).unwrap();
    assert!(failure(&path).contains("more than 50000 entries"));
    // The same file twice.
    let twice = hostile(b"x", Kind::Regular, 0)[..512].repeat(2);
    fs::write(&path, [twice, vec![0; 1024]].concat()).unwrap();
    assert!(failure(&path).contains("there twice"));
    // A name of many megabytes.
    let mut long = hostile(b"././@LongLink", Kind::GNULongName, 64 << 20);
    long.truncate(512);
    long.resize(66 << 20, b'x');
    fs::write(&path, long).unwrap();
    assert!(failure(&path).contains("longer than any case has"));
    fs::write(&path, b"something else").unwrap();
    assert!(failure(&path).contains("neither a tar"));
}

#[test]
fn a_cut_archive_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("case.tgz");
    pack(&saved(&scratch.path().join("case")), &path).unwrap();
    let whole = fs::read(&path).unwrap();
    for end in (0..whole.len() - 40).step_by(37) {
        fs::write(&path, &whole[..end]).unwrap();
        assert!(Bundle::open(&path).is_err(), "cut at {end}");
    }
}

#[test]
fn a_full_disk_is_told_with_the_path() {
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let told = BundleError::io("write", Path::new("/mnt/case/capture.pcapng"))(full).to_string();
    assert!(told.contains("/mnt/case/capture.pcapng") && told.contains("free some space"), "{told}");
}
