//! The raw texts that tools on the nodes printed, kept as they came: parsing happens on reading, so that a parser
//! mended today mends last month's case.

use serde::{Deserialize, Serialize};

use super::case::{Case, Role};
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
    /// iptables', one JSON document a line), `state` ([`Host`](super::host::Host) as JSON) or, after capturing,
    /// `kernel` ([`KernelWord`](super::kernel::KernelWord), one JSON document a line); with `pod:` before it when it was
    /// run in the namespace of the pod traced on that node, `pod2:` for the second of two.
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

/// What the names of a pair's own texts begin with where several pairs are traced at once.
pub fn of_pair(number: u16) -> String {
    format!("{PAIR}{number}:")
}

/// What the names of the texts of a pod begin with there, by the host's end of its veth.
pub fn of_pod(veth: &str) -> String {
    format!("{POD}{veth}:")
}

const PAIR: &str = "pair@";
const POD: &str = "pod@";

impl Texts {
    /// The texts of one pair of several that were traced at once, by the names that they have when it is traced alone: those
    /// of its nodes, of its pods, and its own. Names without a mark stay.
    #[must_use]
    pub fn of(&self, number: u16, case: &Case) -> Self {
        let own = of_pair(number);
        let named = |text: &Text| {
            if !case.points.iter().any(|point| point.node == text.node)
                && !case.nodes.iter().any(|node| node.on_path && node.name == text.node)
            {
                return None;
            }
            if let Some(marked) = text.name.strip_prefix(POD) {
                let (veth, rest) = marked.split_once(':')?;
                let veths =
                    case.points.iter().filter(|point| point.role == Role::Veth && point.node == text.node);
                let place = veths.zip(["pod:", "pod2:"]).find(|(point, _)| point.interface == veth);
                return place.map(|(_, prefix)| format!("{prefix}{rest}"));
            }
            if text.name.starts_with(PAIR) {
                return text.name.strip_prefix(&own).map(str::to_owned);
            }
            Some(text.name.clone())
        };
        let own = self.0.iter().filter_map(|text| Some(Text { name: named(text)?, ..text.clone() }));
        Self(own.collect())
    }

    /// The text of `name` on `node`, at that time.
    pub fn find(&self, node: &str, name: &str, when: When) -> Option<&Text> {
        self.0.iter().find(|text| text.node == node && text.name == name && text.when == when)
    }

    /// The newest text of `name` on `node`.
    pub fn newest(&self, node: &str, name: &str) -> Option<&Text> {
        self.find(node, name, When::After).or_else(|| self.find(node, name, When::Before))
    }
}
