//! What a node's packet filter says of itself: the texts of `iptables-save -c` and of `nft -j list` as rules with
//! counters, how the counters moved between two such texts, and the way of a packet through them.
//!
//! In: the text of any of the four save programs (nft or legacy, IPv4 or IPv6), of nft, of `ipset save`, whole or cut
//! off. Out: plain data. It never fails and never judges; a line that it cannot read is kept in
//! [`Ruleset::not_understood`]. What cannot be evaluated for a packet is unknown, and both ways are followed.

mod change;
mod delta;
mod filters;
mod hook;
mod matches;
mod nft;
mod packet;
mod parse;
mod sets;
mod told;
mod view;
mod walk;
mod ways;
mod world;

pub use delta::{Moved, delta};
pub use filters::Filters;
pub use hook::{Course, Hook, HookPoint};
pub use matches::{HookSide, Match, Target};
pub(crate) use parse::{Word, words};

pub use packet::{CtState, Meets, first_state};
pub use sets::{Sets, VerdictMap};
pub use view::Fits;
pub use walk::walk;
pub use world::{End, Ending, Met, Place, Walked, World};

use std::collections::BTreeMap;

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// `raw`, `mangle`, `nat`, `filter`, …; an nftables table's own name.
    pub name: String,
    /// `ip`, `ip6`, `inet`, `netdev`, … of an nftables table; none for iptables, whose text does not say.
    pub family: Option<String>,
    /// Sets of an nftables table, the unnamed ones under their own text.
    pub sets: Sets,
    /// Verdict maps of an nftables table, the unnamed ones under their own text.
    pub maps: BTreeMap<String, VerdictMap>,
    /// Chains in the order of the text.
    pub chains: Vec<Chain>,
    /// Whether `COMMIT` was read: a text that ends without it was cut off.
    pub complete: bool,
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// Name, as in the text.
    pub name: String,
    /// Where the kernel enters it; `None` for a chain that others jump to.
    pub hook: Option<Hook>,
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
    /// The line without its counters, from `-A` on; an nftables rule in nft's words, without its comment.
    pub text: String,
    /// Absent when the text was saved without `-c`.
    pub counters: Option<Counters>,
    /// Its comments in order, unquoted.
    pub comments: Vec<String>,
    /// What a packet must be, comments left out.
    pub matches: Vec<Match>,
    /// What happens to a packet that fits before the target: an nftables rule may do several things.
    pub before: Vec<Target>,
    /// What then happens.
    pub target: Target,
}

impl Ruleset {
    /// How many rules it has.
    pub fn n_rules(&self) -> usize {
        self.tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum()
    }

    /// Tables of others under the names of iptables' own: it prints what it understands of them, or nothing.
    pub fn incompatible(&self) -> impl Iterator<Item = &str> {
        self.warnings.iter().filter_map(|remark| not_its_own(remark))
    }

    /// The chain of that name in that table.
    pub fn chain(&self, table: &str, chain: &str) -> Option<&Chain> {
        self.tables.iter().filter(|t| t.name == table).find_map(|t| t.chain(chain))
    }
}

/// The table that a remark of `iptables-save` says is not its own (`xtables-save.c`).
pub fn not_its_own(remark: &str) -> Option<&str> {
    let table = remark.trim_start_matches(['#', ' ']).strip_prefix("Table `")?;
    let (table, why) = table.split_once('\'')?;
    why.contains("incompatible").then_some(table)
}

impl Rule {
    /// What it asks for and does, in few words: without `-A chain` and without comments.
    pub fn words(&self) -> String {
        if !self.text.starts_with("-A ") {
            return self.text.clone();
        }
        let matches = self.matches.iter().map(ToString::to_string);
        let words: Vec<String> =
            matches.chain([self.target.to_string()]).filter(|word| !word.is_empty()).collect();
        if words.is_empty() { "(counts only)".to_owned() } else { words.join(" ") }
    }

    /// What its writer said of it, without Calico's hash.
    pub fn said(&self) -> impl Iterator<Item = &str> {
        self.comments.iter().map(String::as_str).filter(|comment| !comment.starts_with("cali:"))
    }

    /// Whether it has parts that are kept as text only.
    pub fn has_unknown_parts(&self) -> bool {
        let unknown = |one: &Match| matches!(one, Match::Unknown(_));
        self.matches.iter().any(unknown) || matches!(self.target, Target::Other(_))
    }
}

impl Table {
    /// The chain of that name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}
