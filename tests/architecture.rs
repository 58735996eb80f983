//! Holds the source to the order of rooms that docs/architecture.md draws.

use std::fs;
use std::path::{Path, PathBuf};

/// Reading order: a file may name only rooms that stand above its own.
const ORDER: &[&str] = &[
    "packet",
    "evidence::known",
    "evidence::case",
    "evidence::texts",
    "evidence::host",
    "evidence::kernel",
    "evidence::netfilter",
    "evidence::cluster",
    "evidence::ipam",
    "evidence::calico",
    "evidence::plan",
    "evidence::capture_file",
    "evidence::recordings",
    "evidence::bundle",
    "evidence::foreign",
    "evidence::redact",
    "evidence",
    "analyze::ipam",
    "analyze::state",
    "analyze::rules",
    "analyze::correlate",
    "analyze::findings",
    "analyze::locate",
    "analyze::explain",
    "analyze",
    "report",
    "gather::privilege",
    "gather::netns",
    "gather::filter",
    "gather::capture",
    "gather::kernel",
    "gather::probe",
    "gather::state",
    "gather::texts",
    "gather::kubernetes",
    "gather::agent",
    "gather::run",
    "gather",
    "cli",
    "fuzzing",
];

/// Pairs that never meet, whatever the order allows.
const APART: &[(&str, &str)] = &[("gather", "analyze"), ("gather", "report")];

#[test]
fn rooms_use_only_rooms_above_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = Vec::new();
    for file in rust_files(&src) {
        let own =
            room(&file.strip_prefix(&src).unwrap().with_extension("").to_string_lossy().replace('/', "::"));
        let Some(own) = own else { continue };
        let text = fs::read_to_string(&file).expect("readable source");
        for (number, line) in text.lines().enumerate() {
            let line = line.split("//").next().unwrap_or("");
            if line.contains("crate::{") {
                broken.push(format!(
                    "{}:{}: write one `use crate::room::…` per room",
                    file.display(),
                    number + 1
                ));
            }
            for used in line.match_indices("crate::").filter_map(|(at, _)| room(&line[at + 7..])) {
                let inside = used == own
                    || used.starts_with(&format!("{own}::"))
                    || own.starts_with(&format!("{used}::"));
                let apart = APART.iter().any(|(a, b)| own.starts_with(a) && used.starts_with(b));
                if apart || (!inside && rank(used) > rank(own)) {
                    broken.push(format!("{}:{}: {own} may not use {used}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The longest entry of ORDER that `path` begins with.
fn room(path: &str) -> Option<&'static str> {
    ORDER
        .iter()
        .copied()
        .filter(|name| {
            path.strip_prefix(name)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
        .max_by_key(|name| name.len())
}

fn rank(name: &str) -> usize {
    ORDER.iter().position(|entry| *entry == name).expect("a room of ORDER")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("readable folder") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}
