//! What a packet is walked through, and what comes of it: the rules of one host in, the rules met and the possible ends out.

use super::hook::HookPoint;
use super::packet::Meets;
use super::sets::Sets;
use super::view::Fits;
use super::{Chain, Rule, Ruleset, Table};
use crate::evidence::host::Host;

/// Everything of one host that decides on packets of one address family.
#[derive(Debug, Default)]
pub struct World<'a> {
    /// Rulesets, each with the name of its text: of iptables only those of the packet's family.
    pub rulesets: Vec<(String, &'a Ruleset)>,
    /// Members of ipsets.
    pub sets: Option<&'a Sets>,
    /// Addresses and routes.
    pub host: Option<&'a Host>,
    /// What could not be read, in words: nothing is certain then.
    pub unread: Vec<String>,
}

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Number of the ruleset in the [`World`].
    pub ruleset: usize,
    /// Number of the table in it.
    pub table: usize,
    /// Number of the chain in the table.
    pub chain: usize,
    /// Number of the rule in the chain; `None` for the chain's policy.
    pub rule: Option<usize>,
}

/// A rule that the packet fits, or a policy that it meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Where.
    pub place: Place,
    /// The hook under which it came there first.
    pub point: HookPoint,
    /// Whether it fits surely; never [`Fits::No`].
    pub fits: Fits,
    /// Whether the packet comes to this rule whatever is unknown before it.
    pub certain: bool,
}

/// What may become of the packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct End {
    /// What.
    pub what: Ending,
    /// The rule or policy that does it; none when it passes.
    pub place: Option<Place>,
}

/// Ways to end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Comes out at the end of its course.
    Passes,
    /// Dropped, silently.
    Dropped,
    /// Dropped, and the sender is told; how.
    Rejected(String),
    /// Given to a program, or to what is not known here.
    Elsewhere(String),
}

/// The walk's result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Walked {
    /// In the order of the first visit.
    pub met: Vec<Met>,
    /// Each once.
    pub ends: Vec<End>,
    /// Why nothing is certain, beside unknown matches.
    pub doubts: Vec<String>,
    /// The packet as it comes out, if it may: what differs between its ways is unknown. Its mark is also what a tunnel
    /// begins with, on the way in and on the way out (`skb_scrub_packet` within one namespace).
    pub out: Meets,
}

impl Walked {
    /// The only end that is possible.
    pub fn certain(&self) -> Option<&End> {
        match self.ends.as_slice() {
            [end] if self.doubts.is_empty() => Some(end),
            _ => None,
        }
    }
}

impl<'a> World<'a> {
    /// The chain of a place.
    pub fn chain(&self, place: &Place) -> Option<(&'a Table, &'a Chain)> {
        let table = self.rulesets.get(place.ruleset)?.1.tables.get(place.table)?;
        Some((table, table.chains.get(place.chain)?))
    }

    /// The rule of a place; none for a policy.
    pub fn rule(&self, place: &Place) -> Option<&'a Rule> {
        self.chain(place)?.1.rules.get(place.rule?)
    }

    /// Why nothing that is said of a packet there is certain.
    pub(super) fn doubts(&self) -> Vec<String> {
        let mut doubts = self.unread.clone();
        for (name, ruleset) in &self.rulesets {
            if !ruleset.not_understood.is_empty() {
                doubts.push(format!("{} lines of {name} were not understood", ruleset.not_understood.len()));
            }
            for table in ruleset.tables.iter().filter(|table| !table.complete) {
                doubts.push(format!("{name} ends inside table {}", table.name));
            }
        }
        doubts
    }
}
