//! What is said of placed drafts: which file is taken for what and why, which places nobody captured, and why files make no
//! case. Takes drafts and what their nodes are called, gives sentences; decides nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::evidence::Role;

use super::ends::Side;
use super::look::Class;
use super::place::{self, Draft};
use super::{Recording, RecordingsError, node, point_id};

/// Places of the path that nobody captured, in words.
pub(super) fn gaps(drafts: &[Draft], names: &BTreeMap<Side, String>, encapsulated: bool) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(first) = drafts.first().filter(|first| matches!(first.role, Some(Role::Tunnel | Role::Nic))) {
        words.push(format!(
            "no capture before {}: what is lost on the way there is not seen",
            point_id(first, names)
        ));
    }
    for pair in drafts.windows(2) {
        let [one, other] = pair else { continue };
        let (Some(a), Some(b)) = (one.role, other.role) else { continue };
        let same_node = node(one, names) == node(other, names);
        let (nic, tunnel) = ("the NIC", "the tunnel device");
        let out: &[&str] = match a {
            Role::Pod | Role::Veth if encapsulated => &[tunnel, nic],
            Role::Pod | Role::Veth | Role::Tunnel => &[nic],
            Role::Nic => &[],
        };
        let back: &[&str] = match b {
            Role::Pod | Role::Veth if encapsulated => &[nic, tunnel],
            Role::Pod | Role::Veth | Role::Tunnel => &[nic],
            Role::Nic => &[],
        };
        let of = |what: &[&str], node: &str| {
            (!what.is_empty()).then(|| format!("{} of {node}", what.join(" and ")))
        };
        let missing: Vec<String> = if same_node {
            // On one node only what is between the two, and nothing between two veths.
            let between = [tunnel].into_iter().filter(|_| encapsulated);
            let veth = |role| matches!(role, Role::Pod | Role::Veth);
            let skips = (veth(a) && b == Role::Nic) || (a == Role::Nic && veth(b));
            between.filter(|_| skips).map(|what| format!("{what} of {}", node(one, names))).collect()
        } else {
            of(out, &node(one, names)).into_iter().chain(of(back, &node(other, names))).collect()
        };
        if !missing.is_empty() {
            words.push(format!(
                "no capture between {} and {} ({}): what is lost there can only be said to be lost between the two",
                point_id(one, names),
                point_id(other, names),
                missing.join(", ")
            ));
        }
    }
    words
}

/// The files of a draft, and which interface of them.
pub(super) fn files(given: &[Recording], draft: &Draft) -> String {
    let mut words: String = match draft.lane.files.as_slice() {
        [] => String::new(),
        [one] => short(given, *one),
        [first, .., last] => {
            format!("{} to {} ({} files)", short(given, *first), short(given, *last), draft.lane.files.len())
        }
    };
    if let Some(index) = draft.lane.index {
        words = format!("interface {index} of {words}");
    } else if let Some(name) = draft.lane.name.as_ref().filter(|_| draft.lane.class.is_none()) {
        words = format!("{name} of {words}");
    }
    match draft.lane.class {
        Some(Class::Tunnelled) => format!("what is in a tunnel in {words}"),
        Some(Class::Plain) => format!("what is in no tunnel in {words}"),
        Some(Class::NearFrom | Class::NearTo) => {
            format!("what goes one way through the node in {words}")
        }
        Some(Class::Nothing) | None => words,
    }
}

/// A file's name, with its folder where another has the same.
fn short(given: &[Recording], number: usize) -> String {
    let file = &given[number].file;
    let name = file.file_name();
    let alone = given.iter().filter(|other| other.file.file_name() == name).count() == 1;
    match name.filter(|_| alone) {
        Some(name) => name.to_string_lossy().into_owned(),
        None => file.display().to_string(),
    }
}

/// Whether nothing else of its files is used.
pub(super) fn alone_in_its_files(draft: &Draft, drafts: &[Draft]) -> bool {
    let file = draft.lane.files.first();
    let mut same = drafts.iter().filter(|other| other.lane.files.first() == file);
    let first = same.clone().next().is_some_and(|first| std::ptr::eq(first, draft));
    first && same.all(|other| other.useless.is_some())
}

pub(super) fn guess(given: &[Recording], draft: &Draft, names: &BTreeMap<Side, String>) -> String {
    let mut because: Vec<&str> = Vec::new();
    for why in draft.because.iter().copied() {
        if !because.contains(&why) {
            because.push(why);
        }
    }
    format!(
        "{} is {}, {}: {}",
        files(given, draft),
        point_id(draft, names),
        place::words(draft.side, draft.role),
        because.join("; ")
    )
}

pub(super) fn no_packet(given: &[Recording], about: &[IpAddr]) -> RecordingsError {
    let about = match about {
        [] => "between two hosts".to_owned(),
        [one] => format!("of {one}"),
        all => format!("between {}", all.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" and ")),
    };
    RecordingsError::NoPacket { about, files: listed(given) }
}

/// The first files by name, and how many there are besides.
fn listed(given: &[Recording]) -> String {
    let mut names: Vec<String> = given.iter().map(|one| one.file.display().to_string()).collect();
    names.dedup();
    let others = names.len().saturating_sub(FEW_FILES);
    names.truncate(FEW_FILES);
    let names = names.join(", ");
    if others == 0 { names } else { format!("{names} and {others} others") }
}

/// Files that a message names.
const FEW_FILES: usize = 4;

pub(super) fn too_few(
    given: &[Recording],
    drafts: &[Draft],
    names: &BTreeMap<Side, String>,
    warnings: &[String],
) -> RecordingsError {
    let found = match drafts {
        [one] => format!(
            "{} is the only capture that could be placed ({})",
            files(given, one),
            point_id(one, names)
        ),
        _ => format!("no capture could be placed on the path of {}", listed(given)),
    };
    let because = warnings.iter().fold(String::new(), |all, why| all + "\n  " + why);
    RecordingsError::TooFew { found, because }
}
