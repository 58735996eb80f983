//! The files of a collection: a folder, an archive or a single file. Reads those that can hold what a program printed, and
//! trusts nothing: no links, no more files and bytes than a collection can have. What is in them is for others.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::evidence::bundle::{self, BundleError};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Path in the collection, and text.
    pub(super) texts: Vec<(String, String)>,
    /// Files that hold something else, by their place or their bytes.
    pub(super) skipped: usize,
    bytes: u64,
}

/// Reads all files at `path`.
pub(super) fn read(path: &Path) -> Result<Found, BundleError> {
    let kind = fs::metadata(path).map_err(BundleError::io("open", path))?;
    let mut found = Found::default();
    if kind.is_dir() {
        let sos = path.join("sos_commands").is_dir();
        walk(path, path, sos, 0, &mut found)?;
        return Ok(found);
    }
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEAD).read_to_end(&mut head))
        .map_err(BundleError::io("read", path))?;
    if !bundle::is_archive(&head) {
        let file = File::open(path).map_err(BundleError::io("read", path))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        found.take(name, file).map_err(BundleError::io("read", path))?;
        return Ok(found);
    }
    bundle::each_entry(path, &mut |name, bytes| {
        if wanted(name, false) && found.has_room() {
            found.take(name.to_owned(), bytes)
        } else {
            found.skipped += 1;
            Ok(())
        }
    })?;
    Ok(found)
}

/// All files below a folder, sorted; links are not followed.
fn walk(root: &Path, folder: &Path, sos: bool, depth: u8, found: &mut Found) -> Result<(), BundleError> {
    let entries = fs::read_dir(folder).map_err(BundleError::io("read", folder))?;
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth < DEEPEST {
            walk(root, &path, sos, depth + 1, found)?;
        } else if kind.is_file() {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if !wanted(&name, sos) || !found.has_room() {
                found.skipped += 1;
                continue;
            }
            // Some of what may not be read is of no use here.
            match File::open(&path).and_then(|file| found.take(name, file)) {
                Ok(()) => {}
                Err(_) => found.skipped += 1,
            }
        }
    }
    Ok(())
}

impl Found {
    fn has_room(&self) -> bool {
        self.bytes < MOST_BYTES && self.texts.len() < MOST_FILES
    }

    /// Takes a file if it is text.
    fn take(&mut self, name: String, file: impl Read) -> std::io::Result<()> {
        let mut file = file.take(LONGEST);
        let mut bytes = Vec::new();
        file.by_ref().take(HEAD).read_to_end(&mut bytes)?;
        if bytes.is_empty() || bytes.contains(&0) {
            self.skipped += 1;
            return Ok(());
        }
        file.read_to_end(&mut bytes)?;
        self.bytes += bytes.len() as u64;
        self.texts.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        Ok(())
    }
}

/// Whether a file of that path may hold what a program printed in the node's own namespace.
fn wanted(path: &str, sos: bool) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let name = parts.last().copied().unwrap_or_default();
    // Other namespaces' routes are not the node's.
    let elsewhere =
        parts.iter().any(|part| matches!(*part, "namespaces" | "netns")) || name.contains("ip_netns");
    let other = Path::new(name).extension().is_some_and(|end| end == "log" || end == "yaml");
    if elsewhere || other {
        return false;
    }
    let Some(at) = parts.iter().position(|part| part.starts_with("sosreport-")).or(sos.then_some(0)) else {
        return true;
    };
    let below = &parts[at..];
    let has =
        |one: &str, other: &[&str]| below.windows(2).any(|pair| pair[0] == one && other.contains(&pair[1]));
    has("sos_commands", SOS_PLUGINS) || (has("proc", &["net"]) && SOS_COUNTERS.contains(&name))
}

/// Those of sos' plugins that print what is read here.
const SOS_PLUGINS: &[&str] = &[
    "networking",
    "firewall_tables",
    "netfilter",
    "iptables",
    "nftables",
    "ipset",
    "conntrack",
    "conntrackd",
    "firewalld",
    "kernel",
    "kubernetes",
    "calico",
];

const SOS_COUNTERS: &[&str] = &["snmp", "snmp6", "netstat", "nf_conntrack"];

/// What is looked at to tell text from other bytes.
const HEAD: u64 = 1024;
/// Of a longer text only the beginning is read.
const LONGEST: u64 = 64 << 20;
/// More is left out.
const MOST_BYTES: u64 = 256 << 20;
const MOST_FILES: usize = 50_000;
const DEEPEST: u8 = 32;
