//! What changed between two cases: an incident against a good day, or after against before. Takes both cases with their
//! findings, texts and objects; gives changes, grouped by node, those that bear on the traffic first. Nodes go by their
//! names; the two ends by their role, so that a pod that was made anew is the same pod with another address and another
//! interface. Numbers that only went on counting are no change. It says what differs, never which of it is to blame: the causes of
//! both findings are compared as they are.

mod alike;
mod objects;
mod rules;
mod state;
mod traffic;

use std::collections::BTreeSet;

use crate::analyze::findings::Findings;
use crate::evidence::Texts;
use crate::evidence::cluster::Cluster;

use alike::Alike;

/// One of the two cases.
#[derive(Debug, Clone, Copy)]
pub struct Side<'s> {
    /// What was found.
    pub findings: &'s Findings,
    /// What programs printed on the nodes.
    pub texts: &'s Texts,
    /// The cluster's objects.
    pub cluster: Option<&'s Cluster>,
}

/// All that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// In the order in which they should be read.
    pub changes: Vec<Change>,
    /// What stands in the way of comparing, in words: what only one of the two says something of, other traffic.
    pub notes: Vec<String>,
}

/// One change: what was is [`before`](Self::before), what is is [`after`](Self::after); only one of them for what went or came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The node; none for the trace and the cluster's objects.
    pub node: Option<String>,
    /// What it is about.
    pub area: Area,
    /// Of what: a chain, a link, a stage.
    pub subject: String,
    /// What was.
    pub before: Option<String>,
    /// What is.
    pub after: Option<String>,
    /// Whether the traced packets meet it, as far as its words tell.
    pub bears: bool,
}

/// What a change is about, in the order of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each says it by its name")]
pub enum Area {
    Verdict,
    Cause,
    End,
    Path,
    Loss,
    Latency,
    Object,
    Rule,
    Set,
    Route,
    Neighbour,
    Fdb,
    Link,
    Sysctl,
    Queue,
    Socket,
    Counter,
}

impl Area {
    /// The word of the report's schema.
    pub fn word(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Cause => "cause",
            Self::End => "end",
            Self::Path => "path",
            Self::Loss => "loss",
            Self::Latency => "latency",
            Self::Object => "object",
            Self::Rule => "rule",
            Self::Set => "set",
            Self::Route => "route",
            Self::Neighbour => "neighbour",
            Self::Fdb => "fdb",
            Self::Link => "link",
            Self::Sysctl => "sysctl",
            Self::Queue => "queue",
            Self::Socket => "socket",
            Self::Counter => "counter",
        }
    }
}

/// Compares two cases.
pub fn compare(before: Side<'_>, after: Side<'_>) -> Diff {
    let alike = Alike::of(before, after);
    let mut diff = Diff::default();
    traffic::compare(before, after, &alike, &mut diff);
    objects::compare(before, after, &mut diff);
    let nodes = |side: Side<'_>| {
        let nodes = side.findings.case.nodes.iter();
        nodes.filter(|node| node.on_path).map(|node| node.name.clone()).collect::<BTreeSet<String>>()
    };
    let (was, is) = (nodes(before), nodes(after));
    for node in was.symmetric_difference(&is) {
        let which = if is.contains(node) { "after" } else { "before" };
        diff.notes.push(format!("{node} is on the path {which} only: nothing of it is compared"));
    }
    for node in was.intersection(&is) {
        rules::compare(before, after, node, &alike, &mut diff);
        state::compare(before, after, node, &alike, &mut diff);
    }
    diff.changes
        .sort_by_key(|change| (change.node.is_some(), change.node.clone(), change.area, !change.bears));
    diff
}

impl Diff {
    /// Whether nothing changed.
    pub fn is_same(&self) -> bool {
        self.changes.is_empty()
    }

    /// What most of all should be read, at most `most`: the verdict, causes that came, then what bears on the traffic.
    pub fn headline(&self, most: usize) -> Vec<&Change> {
        let rank = |change: &&Change| match change.area {
            Area::Verdict => 0,
            Area::Cause if change.after.is_some() => 1,
            Area::End | Area::Path => 2,
            Area::Cause | Area::Loss => 4,
            Area::Counter | Area::Latency => 5,
            _ if change.bears => 3,
            _ => 6,
        };
        let mut all: Vec<&Change> = self.changes.iter().collect();
        all.sort_by_key(rank);
        all.truncate(most);
        all
    }

    fn push(
        &mut self,
        node: Option<&str>,
        area: Area,
        bears: bool,
        change: (&str, Option<String>, Option<String>),
    ) {
        let (subject, before, after) = change;
        let (node, subject) = (node.map(str::to_owned), subject.to_owned());
        self.changes.push(Change { node, area, subject, before, after, bears });
    }
}

#[cfg(test)]
mod tests;
