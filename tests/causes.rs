//! Every kind of cause has its page in docs/causes, code that can name it, and a fault of the lab that shows it; or it is
//! said, here and on its page, why not.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use trace_drop::analyze::findings::KINDS;

/// What a page says whose kind no code names.
const NOT_NAMED: &str = "no cause in a trace's report has this kind";

/// Kinds that no fault of the lab can show, and the saved case that does.
const SHOWN_BY_A_CASE: &[(&str, &str)] = &[("unknown", "unknown.tgz")];

/// Kinds about the cluster's objects: no packet is lost by them in a lab that has no Kubernetes.
const OF_OBJECTS: &[&str] = &["ipam_exhausted", "ipam_leak", "duplicate_address", "address_outside_block"];

const HEADINGS: &[&str] = &[
    "## What you see",
    "## What trace-drop takes as evidence",
    "## What to do",
    "## Easily confused with",
    "## Source",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn page(kind: &str) -> String {
    read(format!("docs/causes/{kind}.md"))
}

#[test]
fn every_kind_has_its_page_and_every_page_its_kind() {
    let files = fs::read_dir(root().join("docs/causes")).expect("docs/causes");
    let names = files.map(|file| file.expect("an entry").file_name().to_string_lossy().into_owned());
    let pages: BTreeSet<String> = names
        .filter_map(|name| Some(name.strip_suffix(".md")?.to_owned()))
        .filter(|name| name != "README")
        .collect();
    let kinds: BTreeSet<String> = KINDS.iter().map(ToString::to_string).collect();
    assert_eq!(kinds.len(), KINDS.len(), "a kind stands twice in the list");
    assert_eq!(pages, kinds);
    let readme = read("docs/causes/README.md");
    for kind in KINDS {
        let rows =
            readme.lines().filter(|line| line.starts_with(&format!("| [{kind}]({kind}.md) |"))).count();
        assert_eq!(rows, 1, "docs/causes/README.md has one row for {kind}");
    }
}

#[test]
fn pages_have_one_form_and_their_links_lead_somewhere() {
    for kind in KINDS {
        let text = page(kind);
        assert!(text.starts_with(&format!("# `{kind}`: ")), "the title of {kind}");
        let found: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(found, HEADINGS, "{kind}");
        assert!((20..=52).contains(&text.lines().count()), "{kind} has {} lines", text.lines().count());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().expect("a first part");
            assert!(root().join("docs/causes").join(file).is_file(), "{kind} links to {link}");
        }
    }
}

#[test]
fn code_names_only_known_kinds() {
    let mut named = 0;
    for (file, text) in sources() {
        for marker in ["kind: \"", ".fault(\"", ".fault(\n\""] {
            for literal in text.split(marker).skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(KINDS.contains(&literal), "{}: {literal} is no kind of cause", file.display());
                named += 1;
            }
        }
    }
    let rules = read("src/evidence/calico/rules.rs");
    let (_, words) = rules.split_once("pub fn cause_kind").expect("the words for Calico's rules");
    let (words, _) = words.split_once("\n}").expect("its end");
    for literal in words.split('"').skip(1).step_by(2) {
        assert!(KINDS.contains(&literal), "cause_kind: {literal} is no kind of cause");
        named += 1;
    }
    assert!(named > 30, "the patterns find the kinds in the source: {named}");
}

#[test]
fn pages_say_which_kinds_no_code_names() {
    let all: String = sources().into_iter().map(|(_, text)| text).collect();
    for kind in KINDS {
        let named = all.contains(&format!("\"{kind}\""));
        let told = page(kind).replace('\n', " ").contains(NOT_NAMED);
        assert_eq!(named, !told, "{kind}: named by code {named}, the page says that it is not: {told}");
    }
}

/// That the first cause is this kind is what `scripts/faults` asks of each of them on the real datapath.
#[test]
fn every_kind_is_the_cause_of_a_fault_of_the_lab() {
    let faults = read("scripts/faults.toml");
    let causes: BTreeSet<&str> =
        faults.lines().filter_map(|line| line.strip_prefix("cause = \"")?.strip_suffix('"')).collect();
    for cause in &causes {
        assert!(KINDS.contains(cause) || *cause == "none", "scripts/faults.toml: {cause} is no kind");
    }
    for kind in KINDS {
        let elsewhere = OF_OBJECTS.contains(kind) || SHOWN_BY_A_CASE.iter().any(|(shown, _)| shown == kind);
        assert_eq!(causes.contains(kind), !elsewhere, "{kind}: a fault of the lab, or a line in this test");
    }
}

/// The lab's faults that a page names exist, and have the page's kind.
#[test]
fn faults_named_on_a_page_are_of_its_kind() {
    let faults = read("scripts/faults.toml");
    for kind in KINDS {
        let text = page(kind);
        let (_, source) = text.split_once("## Source").expect("a source");
        let Some((_, names)) = source.split_once("Lab:") else { continue };
        let names = names.split('`').skip(1).step_by(2).filter(|name| !name.contains('…'));
        for name in names {
            let fault = faults.split(&format!("\n[{name}]\n")).nth(1);
            let fault = fault.unwrap_or_else(|| panic!("{kind}: there is no fault {name}"));
            let cause = fault.split("\ncause = \"").nth(1).and_then(|rest| rest.split('"').next());
            assert_eq!(cause, Some(*kind), "{name}");
        }
    }
}

#[test]
fn saved_cases_show_what_no_fault_can() {
    for (kind, case) in SHOWN_BY_A_CASE {
        let replay = Command::new(env!("CARGO_BIN_EXE_trace-drop"))
            .args(["replay", "-o", "json"])
            .arg(root().join("captures").join(case))
            .output()
            .expect("the program runs");
        let report: serde_json::Value = serde_json::from_slice(&replay.stdout).expect("a JSON report");
        assert_eq!(report["causes"][0]["kind"], *kind, "{case}");
    }
}

/// The files that make causes.
fn sources() -> Vec<(PathBuf, String)> {
    let folders =
        ["src/analyze/explain", "src/analyze/state", "src/analyze/ipam"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder of the source"));
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "rs"));
    paths.push(root().join("src/evidence/calico/rules.rs"));
    let lines = |text: String| text.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
    paths.into_iter().map(|path| (path.clone(), lines(read(path)))).collect()
}
