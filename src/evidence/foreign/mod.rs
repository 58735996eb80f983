//! What others collected of a node: the plain output of `ip`, `bridge`, `tc`, `iptables`, `nft`, `ipset`, `conntrack` and `sysctl`,
//! single or as a sosreport or `calicoctl … diags`. Takes folders, archives and files; gives [`Texts`] as a case
//! has them, and says of each file what was recognised in it. Files are told by their lines, not by their names. What is
//! not recognised is left out and named. Nothing is judged.

mod files;
mod iproute;
mod json;
mod listing;
mod nft;
mod pieces;
mod places;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::evidence::bundle::BundleError;
use crate::evidence::case::{Case, ConntrackText, NodeFacts, Role};
use crate::evidence::host::{Host, STATE};
use crate::evidence::known::Known;
use crate::evidence::texts::{Text, Texts, When};

use pieces::Pieces;

/// A collection, and of which node it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The node.
    pub node: String,
    /// Put before the texts' names: `pod:` when it was collected inside the traced pod on that node.
    pub inside: &'static str,
    /// A folder, an archive or a file.
    pub path: PathBuf,
}

/// What was collected.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// As a case has them. What was read once is [`When::After`].
    pub texts: Texts,
    /// For each collection what was recognised, in words.
    pub notes: Vec<String>,
}

/// Why nothing could be taken from a collection.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// It cannot be opened.
    #[error("what was collected of {node} cannot be read")]
    Open {
        /// The node.
        node: String,
        /// Why.
        source: BundleError,
    },
    /// It holds nodes, but not this one.
    #[error("{} holds the nodes {nodes}, and not {node}: say --state NODE={} with one of them", path.display(), path.display())]
    OtherNodes {
        /// The node that was asked for.
        node: String,
        /// Those that are there.
        nodes: String,
        /// Where.
        path: PathBuf,
    },
    /// Nothing in it is of use.
    #[error(
        "nothing in {} is known here ({files} files): want the output of iptables-save -c, ip, bridge, nft, ipset, conntrack -L or sysctl -a, a sosreport, or calicoctl's diags",
        path.display()
    )]
    Nothing {
        /// Where.
        path: PathBuf,
        /// How many were looked into.
        files: usize,
    },
}

/// A part of a node's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Links,
    Addresses,
    Routes,
    Rules,
    Neighbours,
    Fdb,
    Queues,
    Offload,
    Sysctls,
    Counters,
}

impl Part {
    /// In words, as [`Host::unread`] calls them.
    fn words(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Addresses => "addresses",
            Self::Routes => "routes",
            Self::Rules => "routing rules",
            Self::Neighbours => "neighbours",
            Self::Fdb => "forwarding databases",
            Self::Queues => "queueing disciplines",
            Self::Offload => "checksum offload",
            Self::Sysctls => "sysctls",
            Self::Counters => "protocol counters",
        }
    }
}

/// Those whose absence must be told, or it would pass for a finding.
const WANTED: &[Part] =
    &[Part::Links, Part::Addresses, Part::Routes, Part::Neighbours, Part::Fdb, Part::Sysctls];

/// Reads all collections, those of one node in the order of time.
///
/// # Errors
///
/// When one cannot be read or holds nothing that is known.
pub fn collect(all: &[Given]) -> Result<Collected, ForeignError> {
    let mut collected = Collected::default();
    let mut places: BTreeMap<(&str, &str), Vec<Pieces>> = BTreeMap::new();
    for given in all {
        let (pieces, notes) = take(given)?;
        collected.notes.extend(notes);
        places.entry((&given.node, given.inside)).or_default().push(pieces);
    }
    for ((node, inside), readings) in places {
        let texts = in_time(&readings).into_iter().map(|(name, when, content)| Text {
            node: node.to_owned(),
            name: format!("{inside}{name}"),
            when,
            content: Known::Read(content),
        });
        collected.texts.0.extend(texts);
    }
    Ok(collected)
}

/// What one text alone holds, of a node that is called `node`.
pub(crate) fn read(name: &str, text: &str) -> Texts {
    let mut pieces = Pieces::default();
    pieces.take(name, text);
    let found = in_time(&[pieces]).into_iter().map(|(name, when, content)| Text {
        node: "node".to_owned(),
        name,
        when,
        content: Known::Read(content),
    });
    Texts(found.collect())
}

/// One collection.
fn take(given: &Given) -> Result<(Pieces, Vec<String>), ForeignError> {
    let open = |source| ForeignError::Open { node: given.node.clone(), source };
    let mut found = files::read(&given.path).map_err(open)?;
    let below = |path: &str, node: &str| Path::new(path).iter().any(|part| part == node);
    if found.texts.iter().any(|(path, _)| below(path, &given.node)) {
        found.texts.retain(|(path, _)| below(path, &given.node));
    } else if let Some(nodes) = nodes_of_diags(found.texts.iter().map(|(path, _)| path.as_str())) {
        let (node, path) = (given.node.clone(), given.path.clone());
        return Err(ForeignError::OtherNodes { node, nodes, path });
    }
    let mut pieces = Pieces::default();
    let mut read: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut left: Vec<&str> = Vec::new();
    let mut strange = 0;
    for (path, text) in &found.texts {
        let (what, lines) = pieces.take(path, text);
        if what.is_empty() {
            left.push(path);
            continue;
        }
        strange += lines;
        for what in what {
            match read.iter_mut().find(|(own, _)| *own == what) {
                Some((_, files)) => files.push(path),
                None => read.push((what, vec![path])),
            }
        }
    }
    if read.is_empty() {
        return Err(ForeignError::Nothing {
            path: given.path.clone(),
            files: found.texts.len() + found.skipped,
        });
    }
    Ok((pieces, notes(given, &read, &left, (found.skipped, strange))))
}

/// What was recognised in which files, and what was left out.
fn notes(
    given: &Given,
    read: &[(&str, Vec<&str>)],
    left: &[&str],
    (skipped, strange): (usize, usize),
) -> Vec<String> {
    let short = |path: &&str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let named = |files: &[&str], most: usize| {
        let mut names: Vec<String> = files.iter().take(most).map(short).collect();
        if files.len() > most {
            names.push(format!("{} more", files.len() - most));
        }
        names.join(", ")
    };
    let path = given.path.display();
    let of = if given.inside.is_empty() { given.node.clone() } else { format!("the pod on {}", given.node) };
    let single = given.path.is_file() && read.iter().all(|(_, files)| files.len() == 1) && left.is_empty();
    let what =
        read.iter().map(
            |(what, files)| {
                if single { (*what).to_owned() } else { format!("{what} ({})", named(files, 2)) }
            },
        );
    let mut notes = vec![format!("state of {of} from {path}: {}", what.collect::<Vec<_>>().join(", "))];
    if strange > 0 {
        notes.push(format!("  {strange} lines of these files were not understood"));
    }
    let n_left = left.len() + skipped;
    if n_left > 0 {
        let named = named(left, NAMED);
        let colon = if named.is_empty() { "" } else { ", of those that could have been of use: " };
        notes.push(format!("  {n_left} other files were left out{colon}{named}"));
    }
    notes
}

/// Files that are left out are named up to this number.
const NAMED: usize = 4;

/// The nodes that `calicoctl cluster diags` has a folder of.
fn nodes_of_diags<'p>(paths: impl Iterator<Item = &'p str>) -> Option<String> {
    let mut nodes: Vec<&str> = paths
        .filter_map(|path| {
            let mut parts = path.split('/').skip_while(|part| *part != "nodes").skip(1);
            let node = parts.next()?;
            parts.next().map(|_| node)
        })
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    (!nodes.is_empty()).then(|| nodes.join(", "))
}

/// Several readings of one place as texts: what was read twice is before and after, what was read once is after.
fn in_time(readings: &[Pieces]) -> Vec<(String, When, String)> {
    let mut texts = Vec::new();
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, text) in readings.iter().flat_map(Pieces::texts) {
        by_name.entry(name).or_default().push(text);
    }
    for (name, mut read) in by_name {
        let Some(last) = read.pop() else { continue };
        if let Some(first) = read.into_iter().next() {
            texts.push((name.clone(), When::Before, first));
        }
        texts.push((name, When::After, last));
    }
    let (mut before, mut after, mut twice) = (Host::default(), Host::default(), false);
    for part in PARTS {
        let having: Vec<&Pieces> = readings.iter().filter(|pieces| pieces.parts.contains(part)).collect();
        let (Some(first), Some(last)) = (having.first(), having.last()) else { continue };
        // What was read once has not changed, as far as is known.
        first.give(*part, &mut before);
        last.give(*part, &mut after);
        twice |= having.len() > 1;
    }
    if readings.iter().all(|pieces| pieces.parts.is_empty()) {
        return texts;
    }
    let has = |part: &Part| readings.iter().any(|pieces| pieces.parts.contains(part));
    let missing: Vec<&str> = WANTED.iter().filter(|part| !has(part)).map(|part| part.words()).collect();
    if !missing.is_empty() {
        after.unread.push(format!("{}: not among what was collected", missing.join(", ")));
    }
    if twice {
        before.unread.clone_from(&after.unread);
        texts.extend(state(&before).map(|text| (STATE.to_owned(), When::Before, text)));
    }
    texts.extend(state(&after).map(|text| (STATE.to_owned(), When::After, text)));
    texts
}

/// In this order parts are put together: links before what belongs to them.
const PARTS: &[Part] = &[
    Part::Links,
    Part::Offload,
    Part::Addresses,
    Part::Routes,
    Part::Rules,
    Part::Neighbours,
    Part::Fdb,
    Part::Queues,
    Part::Sysctls,
    Part::Counters,
];

fn state(host: &Host) -> Option<String> {
    serde_json::to_string(host).ok()
}

impl Collected {
    /// Adds what was collected to a case and its texts: fills what is not there, and never puts aside what was read.
    /// What it did not take for that is said.
    pub fn complete(self, case: &mut Case, texts: &mut Texts) -> Vec<String> {
        let mut notes = self.notes;
        for text in self.texts.0 {
            let known = texts.find(&text.node, &text.name, text.when);
            if known.is_some_and(|known| matches!(known.content, Known::Read(_))) {
                notes.push(format!(
                    "{} of {} is in the case already: what was collected is left out",
                    text.name, text.node
                ));
                continue;
            }
            if let (true, Some(host)) =
                (text.name == STATE, text.content.read().and_then(|text| Host::parse(text).ok()))
            {
                know(case, &text.node, &host);
            }
            if text.name == CONNTRACK
                && let Known::Read(entries) = &text.content
            {
                let known = case.conntrack.iter().any(|known| known.node == text.node);
                if !known {
                    case.conntrack.push(ConntrackText { node: text.node.clone(), text: entries.clone() });
                }
            }
            if !case.nodes.iter().any(|node| node.name == text.node) {
                case.nodes.push(NodeFacts { name: text.node.clone(), addresses: Vec::new(), on_path: true });
            }
            texts.0.retain(|own| (&own.node, &own.name, own.when) != (&text.node, &text.name, text.when));
            texts.0.push(text);
        }
        notes
    }
}

/// What the state of a node says of the node: its addresses on the underlay, if they are not known.
fn know(case: &mut Case, node: &str, host: &Host) {
    let addresses = underlay(case, node, host);
    match case.nodes.iter_mut().find(|facts| facts.name == node) {
        Some(facts) if facts.addresses.is_empty() => facts.addresses = addresses,
        Some(_) => {}
        None => case.nodes.push(NodeFacts { name: node.to_owned(), addresses, on_path: true }),
    }
}

/// Those of the link that was captured; else of the link that the tunnel's packets leave by, else of those with a default
/// route.
fn underlay(case: &Case, node: &str, host: &Host) -> Vec<std::net::IpAddr> {
    let captured = case.points.iter().filter(|point| point.node == node && point.role == Role::Nic);
    let mut links: Vec<&str> = captured.map(|point| point.interface.as_str()).collect();
    if links.is_empty() {
        let local = host.links.iter().filter_map(|link| link.vxlan.as_ref()?.local);
        links.extend(local.filter_map(|local| Some(host.link_of(local)?.name.as_str())));
    }
    if links.is_empty() {
        let default = host.routes.iter().filter(|route| route.dst.prefix_len() == 0);
        links.extend(default.filter_map(|route| route.dev.as_deref()));
    }
    let mut addresses: Vec<_> = host
        .addresses
        .iter()
        .filter(|own| links.contains(&own.link.as_str()))
        .map(|own| own.address.addr())
        .filter(|address| match address {
            std::net::IpAddr::V6(address) => !address.is_unicast_link_local(),
            std::net::IpAddr::V4(_) => true,
        })
        .collect();
    addresses.dedup();
    addresses
}

const CONNTRACK: &str = "conntrack";

#[cfg(test)]
mod tests;
