//! The raw texts that tools on the nodes printed, kept as they came: parsing happens on reading, so that a parser
//! mended today mends last month's case.

use serde::{Deserialize, Serialize};

use super::known::Known;

/// All texts of one case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Texts(pub Vec<Text>);

/// What one program printed on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// Node.
    pub node: String,
    /// The program, as `iptables-nft-save`, `ip6tables-legacy-save`, `conntrack`, `ipset`, `nft` (tables that are not
    /// iptables', one JSON document a line) or `state` ([`Host`](super::host::Host) as JSON); with `pod:` before it
    /// when it was run in the namespace of the pod traced on that node, `pod2:` for the second of two.
    pub name: String,
    /// When, relative to capturing.
    pub when: When,
    /// What it printed, or why it could not be run.
    pub content: Known<String>,
}

/// When a text was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Before the first packet was captured.
    Before,
    /// After the last one.
    After,
}

impl Texts {
    /// The text of `name` on `node`, at that time.
    pub fn find(&self, node: &str, name: &str, when: When) -> Option<&Text> {
        self.0.iter().find(|text| text.node == node && text.name == name && text.when == when)
    }

    /// The newest text of `name` on `node`.
    pub fn newest(&self, node: &str, name: &str) -> Option<&Text> {
        self.find(node, name, When::After).or_else(|| self.find(node, name, When::Before))
    }
}
