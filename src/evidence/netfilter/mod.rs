//! The iptables rules of one node as `iptables-save -c` and `ip6tables-save -c` print them, by either backend: tables,
//! chains, rules with counters. Takes text, gives a [`Ruleset`]; what is not understood is kept and listed, never
//! dropped. Knows nothing of Calico, and runs nothing.

mod delta;
mod matches;
mod parse;
mod reach;

pub use delta::{Moved, delta};
pub use matches::{Match, What};
pub use reach::{Fits, Meets, Met, reach};

/// All tables of one family and backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruleset {
    /// In the order of the text.
    pub tables: Vec<Table>,
    /// Lines that could not be read: number, from 1, and text.
    pub not_understood: Vec<(usize, String)>,
}

/// `raw`, `mangle`, `nat`, `filter`, `security`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Built-in chains and others.
    pub chains: Vec<Chain>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// Name.
    pub name: String,
    /// What happens at its end; None for chains that are jumped to.
    pub policy: Option<Policy>,
    /// Packets that met its policy.
    pub counters: Counters,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// A built-in chain's policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// ACCEPT.
    Accept,
    /// DROP.
    Drop,
}

/// Packets and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets; a large frame of segmentation offload counts as one.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// As printed, without counters: `-A CHAIN …`.
    pub text: String,
    /// None when they were not printed.
    pub counters: Option<Counters>,
    /// Every `--comment`.
    pub comments: Vec<String>,
    /// What a packet must be for the rule to apply.
    pub matches: Vec<Match>,
    /// What then happens.
    pub target: Target,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// ACCEPT.
    Accept,
    /// DROP.
    Drop,
    /// REJECT, with what is sent back.
    Reject(Option<String>),
    /// RETURN.
    Return,
    /// `-j CHAIN`.
    Jump(String),
    /// `-g CHAIN`.
    Goto(String),
    /// Any other, with its options: MARK, DNAT, LOG, …: it may go on after it.
    Other(String),
    /// No target: the rule only counts.
    None,
}

impl Target {
    /// Whether a packet ends here, undelivered.
    pub fn kills(&self) -> bool {
        matches!(self, Self::Drop | Self::Reject(_))
    }
}

impl Ruleset {
    /// Reads what `iptables-save` printed; with or without counters, cut off or not.
    pub fn parse(text: &str) -> Self {
        parse::parse(text)
    }

    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// A chain by table and name.
    pub fn chain(&self, table: &str, chain: &str) -> Option<&Chain> {
        self.table(table)?.chains.iter().find(|known| known.name == chain)
    }
}

#[cfg(test)]
mod tests;
