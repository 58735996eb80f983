//! Cases that somebody made to do harm: each is refused with a clear word, in bounded memory, and nothing of it is left or lies
//! outside of where it belongs.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tar::EntryType as Kind;

/// What a refused case may cost, bytes.
const MEMORY: u64 = 300 << 20;

/// A place with a folder for what the program unpacks.
struct Place {
    scratch: tempfile::TempDir,
}

/// What the program did.
struct Done {
    code: Option<i32>,
    out: String,
    said: String,
}

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a folder");
        fs::create_dir(scratch.path().join("tmp")).expect("a folder");
        Self { scratch }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn with(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.at(name), bytes).expect("a file");
        self.at(name)
    }

    /// Replays it; holds memory and what is left against what may be.
    fn replay(&self, case: &Path) -> Done {
        let before = names(self.scratch.path());
        let [out, said] = ["out", "said"].map(|name| self.at("tmp").join(format!("../{name}")));
        let mut child = Command::new(env!("CARGO_BIN_EXE_trace-drop"))
            .arg("replay")
            .arg(case)
            .env("TMPDIR", self.at("tmp"))
            .stdin(Stdio::null())
            .stdout(File::create(&out).expect("a file"))
            .stderr(File::create(&said).expect("a file"))
            .spawn()
            .expect("the program starts");
        let mut peak = 0;
        let code = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status.code();
            }
            peak = peak.max(resident(child.id()));
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(peak < MEMORY, "{}: {peak} bytes", case.display());
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).expect("a file")).into_owned();
        let done = Done { code, out: read(&out), said: read(&said) };
        fs::remove_file(out).expect("a file");
        fs::remove_file(said).expect("a file");
        assert_eq!(names(&self.at("tmp")), Vec::<String>::new(), "{}: nothing stays", case.display());
        assert_eq!(names(self.scratch.path()), before, "{}: nothing is written beside it", case.display());
        assert!(!done.said.contains('\x1b') && !done.out.contains('\x1b'), "no command for a terminal");
        done
    }

    /// It is refused with these words.
    fn refused(&self, case: &Path, words: &str) {
        let done = self.replay(case);
        assert_eq!((done.code, done.out.as_str()), (Some(4), ""), "{words}: {}", done.said);
        assert!(done.said.contains(words), "{words}: {}", done.said);
        assert!(done.said.len() < 10_000 && done.said.starts_with("trace-drop: "), "{}", done.said);
    }
}

/// The most that a process has had in memory.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The header of an entry, made without the library's checks.
fn header(name: &[u8], kind: Kind, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    if matches!(kind, Kind::Symlink | Kind::Link) {
        header.set_link_name("/etc/passwd").expect("a short name");
    }
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn entry(name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, Kind::Regular, content.len() as u64);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

fn saved(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("captures").join(name)
}

#[test]
fn entries_that_no_case_has() {
    let place = Place::new();
    let long = [b"././@LongLink".as_slice()].concat();
    let with_long_name = |name: &[u8]| {
        let mut bytes = header(&long, Kind::GNULongName, name.len() as u64);
        bytes.extend_from_slice(name);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(entry(b"short", b"x"));
        bytes
    };
    for (bytes, words) in [
        (entry(b"../out", b"x"), "out of the case"),
        (entry(b"case/../../out", b"x"), "out of the case"),
        (entry(b"/tmp/trace-drop-was-here", b"x"), "out of the case"),
        (header(b"case/link", Kind::Symlink, 0), "neither file nor folder"),
        (
            [header(b"case/link", Kind::Symlink, 0), entry(b"case/link/x", b"x")].concat(),
            "neither file nor folder",
        ),
        (header(b"case/link", Kind::Link, 0), "neither file nor folder"),
        (header(b"case/pipe", Kind::Fifo, 0), "neither file nor folder"),
        (header(b"case/disk", Kind::Block, 0), "neither file nor folder"),
        (header(b"case/tty", Kind::Char, 0), "neither file nor folder"),
        (header(b"case/holes", Kind::GNUSparse, 0), "sparse"),
        ([entry(b"case/x", b"1"), entry(b"case/x", b"2")].concat(), "there twice"),
        ([entry(b"case/x", b"1"), entry(b"case/./x", b"2")].concat(), "there twice"),
        (entry(b"case/\x1b]0;owned\x07", b"x"), "characters that no name"),
        (entry(b"case/\x9b31m", b"x"), "characters that no name"),
        (with_long_name(b"case/with\0nul"), "characters that no name"),
        (with_long_name(&b"d/".repeat(1900)), "folders deep"),
    ] {
        let hostile = place.with("case.tar", &[bytes.clone(), vec![0; 1024]].concat());
        place.refused(&hostile, words);
        place.refused(&place.with("case.tgz", &gzipped(&[bytes, vec![0; 1024]].concat())), words);
        for name in ["case.tar", "case.tgz"] {
            fs::remove_file(place.at(name)).expect("a file");
        }
    }
    assert!(!Path::new("/tmp/trace-drop-was-here").exists());
}

#[test]
fn too_many_entries() {
    let place = Place::new();
    let many: Vec<u8> =
        (0..50_001).flat_map(|n| header(format!("f{n}").as_bytes(), Kind::Regular, 0)).collect();
    place.refused(&place.with("case.tgz", &gzipped(&many)), "more than 50000 entries");
    let many: Vec<u8> =
        (0..50_001).flat_map(|n| header(format!("d{n}/").as_bytes(), Kind::Directory, 0)).collect();
    place.refused(&place.with("dirs.tgz", &gzipped(&many)), "more than 50000 entries");
}

/// Gigabytes out of a few kilobytes: refused by what the headers say, and where they lie by what comes.
#[test]
fn bombs() {
    let place = Place::new();
    // A gzip of many members unpacks to all of them.
    let zeros = gzipped(&vec![0; 1 << 20]);
    let bomb = |start: &[u8], members: usize| [gzipped(start), zeros.repeat(members)].concat();
    let large = header(b"case/capture.pcapng", Kind::Regular, 4 << 30);
    place.refused(&place.with("one.tgz", &bomb(&large, 4096)), "bytes so far, more than the");
    // Each within bounds, all together not.
    let piece = bomb(&header(b"case/a", Kind::Regular, 2 << 20), 2);
    let pieces = [piece, bomb(&header(b"case/b", Kind::Regular, 255 << 20), 255)].concat();
    place.refused(&place.with("two.tgz", &pieces), "bytes so far, more than the");
    // In places that are no file's content: a name, a folder, a remark.
    for (kind, words) in [
        (Kind::GNULongName, "longer than any case has"),
        (Kind::XHeader, "longer than any case has"),
        (Kind::Directory, "longer than any case has"),
        (Kind::XGlobalHeader, "longer than any case has"),
    ] {
        let place = Place::new();
        place.refused(&place.with("name.tgz", &bomb(&header(b"case/", kind, 100 << 20), 200)), words);
    }
    let place = Place::new();
    place.refused(&place.with("nothing.tgz", &zeros.repeat(4096)), "it holds nothing");
    // The same by zstd.
    let packed = |bytes: &[u8], zeros: u64| {
        let mut packed = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
        packed.write_all(bytes).expect("memory");
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), zeros), &mut packed).expect("memory");
        packed.finish().expect("memory")
    };
    place.refused(&place.with("one.tar.zst", &packed(&large, 64 << 20)), "bytes so far, more than the");
    place.refused(&place.with("nothing.tar.zst", &packed(&[], 64 << 20)), "it holds nothing");
    // A window of two gigabytes.
    let mut wide = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    wide.window_log(31).expect("a window");
    wide.write_all(&entry(b"case/x", b"x")).expect("memory");
    place.refused(&place.with("wide.tar.zst", &wide.finish().expect("memory")), "cannot unpack");
}

#[test]
fn broken_archives() {
    let place = Place::new();
    let whole = fs::read(saved("pod.tgz")).expect("a saved case");
    for end in [1, 17, 600, whole.len() / 2, whole.len() - 60] {
        place.refused(&place.with("cut.tgz", &whole[..end]), "cut.tgz");
        fs::remove_file(place.at("cut.tgz")).expect("a file");
    }
    // A size that is not there, a checksum that is wrong, a number that is none.
    place.refused(&place.with("short.tar", &entry(b"case/x", &[7; 700])[..1000]), "short.tar");
    let mut wrong = entry(b"case/x", b"x");
    wrong[5] ^= 1;
    place.refused(&place.with("wrong.tar", &wrong), "wrong.tar");
    let mut odd = entry(b"case/x", b"x");
    odd[124..135].fill(b'z');
    place.refused(&place.with("odd.tar", &odd), "odd.tar");
    place.refused(&place.with("empty.tgz", b""), "neither a tar");
}

/// The folder of a saved case, with another manifest.
fn with_manifest(place: &Place, change: impl FnOnce(String) -> String) -> PathBuf {
    let folder = place.at("case");
    let packed = File::open(saved("pod.tgz")).expect("a saved case");
    tar::Archive::new(flate2::read::GzDecoder::new(packed))
        .unpack(place.at("unpacked"))
        .expect("a saved case");
    let [only] = names(&place.at("unpacked")).try_into().expect("one folder");
    fs::rename(place.at("unpacked").join(only), &folder).expect("a folder");
    fs::remove_dir(place.at("unpacked")).expect("an empty folder");
    let manifest = fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    fs::write(folder.join("manifest.json"), change(manifest)).expect("a manifest");
    folder
}

/// What becomes of a manifest.
type Change<'c> = Box<dyn FnOnce(String) -> String + 'c>;

#[test]
fn manifests() {
    let listed = r#"{ "path": "x", "bytes": 0, "sha256": "" },"#;
    let file = |manifest: &str| {
        let at = manifest.find(r#""files": ["#).expect("files") + 10;
        (manifest[..at].to_owned(), manifest[at..].to_owned())
    };
    let many = |manifest: String| {
        let (start, end) = file(&manifest);
        let files: String = (0..200_000).map(|n| listed.replace("\"x\"", &format!("\"x{n}\""))).collect();
        start + &files + &end
    };
    let twice = |manifest: String| {
        let (start, end) = file(&manifest);
        start + &listed.repeat(2) + &end
    };
    let deep = |manifest: String| {
        manifest.replacen('{', &format!("{{\"x\": {}{},", "[".repeat(100_000), "]".repeat(100_000)), 1)
    };
    let deep_case = |manifest: String| {
        manifest.replacen("\"warnings\": [", &format!("\"warnings\": {}", "[".repeat(100_000)), 1)
    };
    let long = |manifest: String| manifest + &" ".repeat(65 << 20);
    let outside = |manifest: String| {
        let (start, end) = file(&manifest);
        start + r#"{ "path": "../\u001b[2Jx", "bytes": 0, "sha256": "" },"# + &end
    };
    let absent = |manifest: String| {
        let (start, end) = file(&manifest);
        start + r#"{ "path": "\u001b]0;owned\u0007", "bytes": 0, "sha256": "" },"# + &end
    };
    let kind = |manifest: String| manifest.replacen("\"role\": \"pod\"", "\"role\": \"\\u001b[2J\"", 1);
    let path = |manifest: String| {
        // All texts are one file of them.
        let at = manifest.find("\"read\": \"texts/").expect("a text") + 9;
        let end = at + manifest[at..].find("\" ").or(manifest[at..].find("\"\n")).expect("its end");
        let first = manifest[at..end].to_owned();
        let mut parts = manifest.split("\"read\": \"texts/");
        let mut changed = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let rest = part.split_once('"').expect("its end").1;
            changed += &["\"read\": \"", first.trim_matches('"'), "\"", rest].concat();
        }
        changed
    };
    let changes: [(Change<'_>, &str); 9] = [
        (Box::new(many), "more than 50000"),
        (Box::new(twice), "listed twice"),
        (Box::new(deep), "manifest.json"),
        (Box::new(deep_case), "cannot be read"),
        (Box::new(long), "bytes long, more than"),
        (Box::new(outside), "is not inside the case"),
        (Box::new(absent), "cannot read"),
        (Box::new(kind), "unknown variant"),
        (Box::new(path), "or is two texts"),
    ];
    for (change, words) in changes {
        let place = Place::new();
        if words == "manifest.json" {
            // What no program knows is passed over however deep it is, or refused: never a crash.
            let done = place.replay(&with_manifest(&place, change));
            assert!(matches!(done.code, Some(1 | 4)), "{:?}: {}", done.code, done.said);
            continue;
        }
        place.refused(&with_manifest(&place, change), words);
    }
}

/// Names of a case that is whole may hold anything.
#[test]
fn names_do_not_command_the_terminal() {
    let place = Place::new();
    let evil = "default/\\u001b[2J\\u001b]0;owned\\u0007\\u202e\\u009b31m";
    let case = with_manifest(&place, |manifest| {
        let changed = manifest.replace("\"name\": \"default/client\"", &format!("\"name\": \"{evil}\""));
        assert_ne!(changed, manifest);
        changed.replacen("\"warnings\": []", &format!("\"warnings\": [\"{evil}\"]"), 1)
    });
    let done = place.replay(&case);
    assert_eq!(done.code, Some(1), "{}", done.said);
    assert!(done.out.contains("default/\u{fffd}[2J\u{fffd}]0;owned\u{fffd}"), "{}", done.out);
    for hidden in ['\u{202e}', '\u{9b}', '\x07'] {
        assert!(!done.out.contains(hidden));
    }
}
