//! What a node's packet filter says of itself: the text of `iptables-save -c` as rules with counters, how the
//! counters moved between two such texts, and which rules a packet may meet.
//!
//! In: the text of any of the four save programs (nft or legacy, IPv4 or IPv6), whole or cut off. Out: plain data.
//! It never fails and never judges; a line that it cannot read is kept in [`Ruleset::not_understood`]. It does not
//! follow marks, sets or connection tracking: what a packet does there is unknown to it and said to be so.

mod delta;
mod matches;
mod parse;
mod reach;

pub use delta::{Moved, delta};
pub use matches::{Match, Target};
pub use reach::{Fits, Meets, Met, reach};

/// All tables of one text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruleset {
    /// Tables in the order of the text.
    pub tables: Vec<Table>,
    /// Lines (counted from 1) that made no sense, and why.
    pub not_understood: Vec<(usize, String)>,
    /// `# Warning:` lines of the program, without the `#`.
    pub warnings: Vec<String>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `raw`, `mangle`, `nat`, `filter`, …
    pub name: String,
    /// Chains in the order of the text.
    pub chains: Vec<Chain>,
    /// Whether `COMMIT` was read: a text that ends without it was cut off.
    pub complete: bool,
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Name, as in the text.
    pub name: String,
    /// What happens at its end; `None` for a chain that users made.
    pub policy: Option<Policy>,
    /// Packets that met the policy. Always zero in a chain that users made.
    pub counters: Counters,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// What a built-in chain does with a packet that no rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Lets it pass.
    Accept,
    /// Drops it.
    Drop,
}

/// Packets and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes, IP header included.
    pub bytes: u64,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The line without its counters, from `-A` on.
    pub text: String,
    /// Absent when the text was saved without `-c`.
    pub counters: Option<Counters>,
    /// Its comments in order, unquoted.
    pub comments: Vec<String>,
    /// What a packet must be, comments left out.
    pub matches: Vec<Match>,
    /// What then happens.
    pub target: Target,
}

impl Ruleset {
    /// The chain of that name in that table.
    pub fn chain(&self, table: &str, chain: &str) -> Option<&Chain> {
        self.tables.iter().filter(|t| t.name == table).find_map(|t| t.chain(chain))
    }
}

impl Table {
    /// The chain of that name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}
