//! Calico's addresses for a person, in tables as calicoctl draws them, and as JSON. Takes figures and what was checked;
//! judges nothing. What the cluster's file does not hold is called "not asked".

use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use crate::analyze::ipam::{Checked, Finding, missing};
use crate::evidence::cluster::Cluster;
use crate::evidence::cluster::ipam::{Affinity, Attribute, IpamBlock, IpamConfig};
use crate::evidence::ipam::{BlockUse, Count, Figures, NodeUse, PoolUse, is_borrowed};

/// What is shown.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'s, 'c> {
    /// The objects.
    pub cluster: &'c Cluster,
    /// Added up.
    pub figures: &'s Figures<'c>,
}

/// Tables beside that of the pools.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a table of its own")]
pub struct Parts {
    /// A row a block.
    pub blocks: bool,
    /// A row a node.
    pub nodes: bool,
    /// A row a borrowed address.
    pub borrowed: bool,
    /// The settings.
    pub configuration: bool,
}

const KINDS: [&str; 5] = ["IPPool", "IPAMBlock", "IPAMConfig", "IPReservation", "Node"];
const NOT_ASKED: &str = "not asked";

impl Shown<'_, '_> {
    /// The tables.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written to.
    pub fn text(&self, parts: Parts, out: &mut dyn Write) -> io::Result<()> {
        self.pools(parts.blocks, out)?;
        self.pool_blocks(out)?;
        if parts.nodes {
            self.nodes(out)?;
        }
        if parts.borrowed {
            self.borrowed(out)?;
        }
        if parts.configuration {
            self.configuration(out)?;
        }
        for gap in self.gaps() {
            writeln!(out, "{NOT_ASKED}: {gap}")?;
        }
        Ok(())
    }

    fn gaps(&self) -> Vec<String> {
        KINDS.iter().filter_map(|kind| missing(self.cluster, kind)).collect()
    }

    /// Whether the blocks are known at all; without them nothing is known to be in use.
    fn has_blocks(&self) -> bool {
        self.cluster.kinds.iter().any(|kind| kind == "IPAMBlock")
    }

    fn cells(&self, count: &Count) -> [String; 4] {
        let [in_use, free] = if self.has_blocks() {
            [share(count.in_use, count.total), share(count.free(), count.total)]
        } else {
            [NOT_ASKED.to_owned(), NOT_ASKED.to_owned()]
        };
        [five(count.total), in_use, five(count.reserved), free]
    }

    fn pools(&self, blocks: bool, out: &mut dyn Write) -> io::Result<()> {
        let mut head = vec!["GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE"];
        if blocks {
            head.push("OWNER");
        }
        let row = |grouping: &str, cidr: String, count: &Count, owner: String| {
            let mut cells = vec![grouping.to_owned(), cidr];
            cells.extend(self.cells(count));
            if blocks {
                cells.push(owner);
            }
            cells
        };
        let block = |used: &BlockUse<'_>| {
            row("Block", used.block.cidr.to_string(), &used.count, owner_of(used.block))
        };
        let mut rows = Vec::new();
        for pool in &self.figures.pools {
            rows.push(row("IP Pool", pool.pool.cidr.to_string(), &pool.count, String::new()));
            if blocks {
                rows.extend(
                    pool.blocks.iter().filter_map(|index| self.figures.blocks.get(*index)).map(block),
                );
            }
        }
        // Those of no pool are shown in any case: they are a surprise.
        rows.extend(self.figures.blocks.iter().filter(|used| used.pool.is_none()).map(block));
        table(&head, &rows, out)
    }

    fn pool_blocks(&self, out: &mut dyn Write) -> io::Result<()> {
        let head =
            ["IP POOL", "BLOCK SIZE", "BLOCKS TOTAL", "BLOCKS IN USE", "BLOCKS FREE", "BORROWED", "WINDOWS"];
        let rows = self.figures.pools.iter().map(|pool| {
            let mut cells = vec![
                format!("{}{}", pool.pool.name, if pool.pool.disabled { " (disabled)" } else { "" }),
                format!("/{} ({})", pool.pool.block_len(), five(pool.block_size)),
                five(pool.blocks_possible),
            ];
            let taken = pool.blocks.len() as u128;
            cells.extend(if self.has_blocks() {
                [
                    share(taken, pool.blocks_possible),
                    share(pool.blocks_free(), pool.blocks_possible),
                    five(pool.count.borrowed),
                    five(pool.count.windows),
                ]
            } else {
                [(); 4].map(|()| NOT_ASKED.to_owned())
            });
            cells
        });
        table(&head, &rows.collect::<Vec<_>>(), out)
    }

    fn nodes(&self, out: &mut dyn Write) -> io::Result<()> {
        let head =
            ["NODE", "FAMILY", "BLOCKS", "IPS TOTAL", "IPS IN USE", "IPS FREE", "BORROWED FROM", "LENT TO"];
        let rows = self.figures.nodes.iter().map(|node| {
            let known = self.cluster.kinds.iter().any(|kind| kind == "Node");
            let gone = if node.exists || !known { "" } else { " (gone)" };
            let [total, in_use, _, free] = self.cells(&node.count);
            vec![
                format!("{}{gone}", node.node),
                if node.v6 { "IPv6" } else { "IPv4" }.to_owned(),
                node.blocks.to_string(),
                total,
                in_use,
                free,
                five(node.borrows),
                five(node.count.borrowed),
            ]
        });
        table(&head, &rows.collect::<Vec<_>>(), out)
    }

    fn borrowed(&self, out: &mut dyn Write) -> io::Result<()> {
        let head = ["IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"];
        let rows = self.figures.borrowed().map(|(address, block, owner)| {
            let kind = owner.kind.clone();
            vec![
                address.to_string(),
                owner.node.clone().unwrap_or_default(),
                block.cidr.to_string(),
                owner_of(block),
                kind.unwrap_or_else(|| if owner.pod.is_some() { "pod" } else { "" }.to_owned()),
                allocated_to(owner),
            ]
        });
        table(&head, &rows.collect::<Vec<_>>(), out)
    }

    fn configuration(&self, out: &mut dyn Write) -> io::Result<()> {
        let default = IpamConfig::default();
        let config = self.cluster.ipam.config.as_ref().unwrap_or(&default);
        let rows = [
            ("StrictAffinity", config.strict_affinity.to_string()),
            ("AutoAllocateBlocks", config.auto_allocate_blocks.to_string()),
            ("MaxBlocksPerHost", config.max_blocks_per_host.to_string()),
        ];
        table(&["PROPERTY", "VALUE"], &rows.map(|(name, value)| vec![name.to_owned(), value]), out)
    }

    /// One address.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written to.
    pub fn address(&self, address: IpAddr, out: &mut dyn Write) -> io::Result<()> {
        let about = self.about(address);
        match (&about.attribute, about.in_use) {
            (_, None) => writeln!(out, "{address}: {NOT_ASKED} ({})", about.not_asked.join("; "))?,
            (_, Some(false)) => writeln!(out, "{address} is not assigned")?,
            (None, Some(true)) => writeln!(out, "IP {address} is in use; its block does not say by whom")?,
            (Some(attribute), Some(true)) => {
                writeln!(out, "IP {address} is in use")?;
                writeln!(out, "Handle ID: {}", attribute.handle_id.unwrap_or("none"))?;
                writeln!(out, "Active Owner Attributes:")?;
                for (key, value) in attribute.pairs() {
                    writeln!(out, "  {key}: {value}")?;
                }
            }
        }
        match (&about.block, &about.affine_to) {
            (Some(block), Some(owner)) => writeln!(out, "Block: {block}, affine to {owner}")?,
            (Some(block), None) => writeln!(out, "Block: {block}, affine to no node")?,
            (None, _) if about.in_use.is_some() => writeln!(out, "Block: none")?,
            (None, _) => {}
        }
        match &about.pool {
            Some(pool) => writeln!(out, "IP Pool: {} ({})", pool.name, pool.cidr)?,
            None if missing(self.cluster, "IPPool").is_none() => writeln!(out, "IP Pool: none")?,
            None => writeln!(out, "IP Pool: {NOT_ASKED}")?,
        }
        if let Some(borrowed) = about.borrowed {
            writeln!(out, "Borrowed: {}", if borrowed { "yes" } else { "no" })?;
        }
        match &about.used_by {
            None => writeln!(out, "Used by: {NOT_ASKED} (no Pod in the file)")?,
            Some(users) if users.is_empty() => writeln!(out, "Used by: nobody")?,
            Some(users) => writeln!(out, "Used by: {}", users.join(", "))?,
        }
        Ok(())
    }

    /// One address, as JSON.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written to.
    pub fn address_json(&self, address: IpAddr, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, &self.about(address))?;
        writeln!(out)
    }

    fn about(&self, address: IpAddr) -> Address<'_> {
        let holder = self.figures.holder(address);
        let owner = holder.as_ref().and_then(|holder| holder.owner.flatten());
        let used = || {
            let pods = self.cluster.pods.iter().filter(|pod| !pod.is_over() && !pod.host_network);
            let pods = pods.filter(|pod| pod.addresses.contains(&address)).map(|pod| {
                format!("pod {}/{} on {}", pod.namespace, pod.name, pod.node.as_deref().unwrap_or("no node"))
            });
            let nodes = self.cluster.nodes.iter().filter(|node| node.tunnels.contains(&address));
            pods.chain(nodes.map(|node| format!("node {} (tunnel address)", node.name))).collect()
        };
        Address {
            schema: "trace-drop/ipam-address/v1",
            ip: address,
            in_use: self.has_blocks().then(|| holder.as_ref().is_some_and(|holder| holder.owner.is_some())),
            attribute: owner.map(Owner::of),
            block: holder.as_ref().map(|holder| holder.block.block.cidr.to_string()),
            affine_to: holder.as_ref().and_then(|holder| affinity(holder.block.block)),
            pool: self
                .figures
                .pool(address)
                .map(|pool| PoolName { name: pool.pool.name.clone(), cidr: pool.pool.cidr.to_string() }),
            borrowed: holder
                .as_ref()
                .zip(owner)
                .map(|(holder, owner)| is_borrowed(holder.block.block, owner)),
            used_by: self.cluster.kinds.iter().any(|kind| kind == "Pod").then(used),
            not_asked: ["IPAMBlock", "IPPool", "Pod"]
                .iter()
                .filter_map(|kind| missing(self.cluster, kind))
                .collect(),
        }
    }

    /// All tables, as JSON.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written to.
    pub fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        let default = IpamConfig::default();
        let blocks = |of: &dyn Fn(&BlockUse<'_>) -> bool| {
            self.figures.blocks.iter().filter(|used| of(used)).map(BlockOut::of).collect::<Vec<_>>()
        };
        let all = All {
            schema: "trace-drop/ipam-show/v1",
            pools: self
                .figures
                .pools
                .iter()
                .enumerate()
                .map(|(index, pool)| PoolOut::of(pool, blocks(&|used| used.pool == Some(index))))
                .collect(),
            blocks_outside_pools: blocks(&|used| used.pool.is_none()),
            nodes: self.figures.nodes.iter().map(NodeOut::of).collect(),
            borrowed: self
                .figures
                .borrowed()
                .map(|(ip, block, owner)| BorrowedOut {
                    ip,
                    block: block.cidr.to_string(),
                    owner: affinity(block),
                    attribute: Owner::of(owner),
                })
                .collect(),
            configuration: self.cluster.ipam.config.as_ref().unwrap_or(&default),
            not_asked: self.gaps(),
        };
        serde_json::to_writer_pretty(&mut *out, &all)?;
        writeln!(out)
    }
}

/// What was checked, for a person.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn checked(
    cluster: &Cluster,
    figures: &Figures<'_>,
    checked: &Checked,
    out: &mut dyn Write,
) -> io::Result<()> {
    let in_use: u128 = figures.blocks.iter().map(|used| used.count.in_use).sum();
    writeln!(out, "Checking IPAM for inconsistencies...")?;
    writeln!(
        out,
        "Found {} IP pools, {} IPAM blocks with {in_use} addresses in use, {} nodes, {} pods.",
        cluster.pools.len(),
        figures.blocks.len(),
        cluster.nodes.len(),
        cluster.pods.len()
    )?;
    for finding in &checked.findings {
        let word = if finding.is_fault() { "PROBLEM" } else { "WARNING" };
        let node = if finding.node.is_empty() { String::new() } else { format!(" on {}", finding.node) };
        writeln!(out, "\n{word} {}{node}: {}", finding.kind, finding.summary)?;
        writeln!(
            out,
            "  read:     {}\n  expected: {}\n  do:       {}",
            finding.read, finding.expected, finding.remedy
        )?;
    }
    if !(checked.notes.is_empty() && checked.not_asked.is_empty()) {
        writeln!(out)?;
    }
    for note in &checked.notes {
        writeln!(out, "note: {note}")?;
    }
    for gap in &checked.not_asked {
        writeln!(out, "{NOT_ASKED}: {gap}")?;
    }
    let problems = checked.findings.iter().filter(|finding| finding.is_fault()).count();
    let warnings = checked.findings.len() - problems;
    writeln!(
        out,
        "\nCheck complete; found {} and {}.",
        plural(problems, "problem"),
        plural(warnings, "warning")
    )
}

/// What was checked, as JSON.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn checked_json(checked: &Checked, out: &mut dyn Write) -> io::Result<()> {
    let report = CheckedOut {
        schema: "trace-drop/ipam-check/v1",
        sound: !checked.findings.iter().any(Finding::is_fault),
        findings: checked.findings.iter().map(FindingOut::of).collect(),
        notes: &checked.notes,
        not_asked: &checked.not_asked,
    };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

/// Whose an allocation is, from its attribute as the API gives it.
pub fn owner_words(attribute: &Value) -> String {
    let owner = |key: &str| attribute.pointer(&format!("/secondary/{key}")).and_then(Value::as_str);
    let handle = attribute.get("handle_id").and_then(Value::as_str).unwrap_or("none");
    let since = owner("timestamp").map(|stamp| format!(", since {stamp}")).unwrap_or_default();
    let who = match (owner("namespace"), owner("pod"), owner("node"), owner("type")) {
        (Some(namespace), Some(pod), ..) => format!("pod {namespace}/{pod}"),
        (_, _, Some(node), Some(kind)) => format!("node {node} ({kind})"),
        (_, _, Some(node), None) => format!("node {node}"),
        _ => "an unknown owner".to_owned(),
    };
    format!("{who} (handle {handle}{since})")
}

fn plural(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

fn allocated_to(owner: &Attribute) -> String {
    match (&owner.namespace, &owner.pod) {
        (Some(namespace), Some(pod)) => format!("{namespace}/{pod}"),
        _ => owner.handle.clone().unwrap_or_default(),
    }
}

fn affinity(block: &IpamBlock) -> Option<String> {
    match &block.affinity {
        Affinity::Node(node) => Some(node.clone()),
        Affinity::Other(text) => Some(text.clone()),
        Affinity::Nobody => None,
    }
}

fn owner_of(block: &IpamBlock) -> String {
    affinity(block).unwrap_or_else(|| "none".to_owned())
}

/// Numbers in five digits, as calicoctl prints them: 65536, 1.8447e+19.
fn five(count: u128) -> String {
    if count < 100_000 {
        return count.to_string();
    }
    let exact = count.to_string();
    let digits: Vec<u32> = exact.chars().filter_map(|digit| digit.to_digit(10)).collect();
    let (mut exponent, kept) = (digits.len() - 1, &digits[..5]);
    let mut rounded = kept.iter().fold(0_u32, |all, digit| all * 10 + digit);
    // Half to even, as Go rounds a number that is exactly between.
    let rest = digits[5..].iter().any(|digit| *digit != 0);
    let beyond = digits[6.min(digits.len())..].iter().any(|digit| *digit != 0);
    let up = match digits.get(5) {
        Some(5) if rest && !beyond => rounded % 2 == 1,
        Some(digit) => *digit >= 5,
        None => false,
    };
    rounded += u32::from(up);
    if rounded == 100_000 {
        (rounded, exponent) = (10_000, exponent + 1);
    }
    let text = rounded.to_string();
    let (first, others) = text.split_at(1);
    let others = others.trim_end_matches('0');
    let point = if others.is_empty() { "" } else { "." };
    format!("{first}{point}{others}e+{exponent:02}")
}

/// A number and its share of the whole, in the nearest percent.
#[expect(clippy::cast_precision_loss, reason = "a percentage is for reading")]
fn share(part: u128, whole: u128) -> String {
    let percent = if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 };
    format!("{} ({percent:.0}%)", five(part))
}

/// Draws a table.
fn table(head: &[&str], rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    let line = format!("+{}+", dashes.join("+"));
    writeln!(out, "{line}")?;
    for (name, width) in head.iter().zip(&widths) {
        write!(out, "| {name:^width$} ")?;
    }
    writeln!(out, "|\n{line}")?;
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            let number = cell.parse::<f64>().is_ok();
            if number {
                write!(out, "| {cell:>width$} ")?;
            } else {
                write!(out, "| {cell:<width$} ")?;
            }
        }
        writeln!(out, "|")?;
    }
    writeln!(out, "{line}")
}

#[derive(Serialize)]
struct All<'a> {
    schema: &'static str,
    pools: Vec<PoolOut<'a>>,
    blocks_outside_pools: Vec<BlockOut>,
    nodes: Vec<NodeOut<'a>>,
    borrowed: Vec<BorrowedOut<'a>>,
    configuration: &'a IpamConfig,
    not_asked: Vec<String>,
}

#[derive(Serialize)]
struct CountOut {
    total: u128,
    in_use: u128,
    windows: u128,
    borrowed: u128,
    reserved: u128,
    free: u128,
}

impl From<&Count> for CountOut {
    fn from(count: &Count) -> Self {
        Self {
            total: count.total,
            in_use: count.in_use,
            windows: count.windows,
            borrowed: count.borrowed,
            reserved: count.reserved,
            free: count.free(),
        }
    }
}

#[derive(Serialize)]
struct PoolOut<'a> {
    name: &'a str,
    cidr: String,
    disabled: bool,
    addresses: CountOut,
    block_size: u128,
    blocks_possible: u128,
    blocks_free: u128,
    blocks: Vec<BlockOut>,
}

impl<'a> PoolOut<'a> {
    fn of(pool: &PoolUse<'a>, blocks: Vec<BlockOut>) -> Self {
        Self {
            name: &pool.pool.name,
            cidr: pool.pool.cidr.to_string(),
            disabled: pool.pool.disabled,
            addresses: CountOut::from(&pool.count),
            block_size: pool.block_size,
            blocks_possible: pool.blocks_possible,
            blocks_free: pool.blocks_free(),
            blocks,
        }
    }
}

#[derive(Serialize)]
struct BlockOut {
    cidr: String,
    owner: Option<String>,
    addresses: CountOut,
}

impl BlockOut {
    fn of(used: &BlockUse<'_>) -> Self {
        Self {
            cidr: used.block.cidr.to_string(),
            owner: affinity(used.block),
            addresses: CountOut::from(&used.count),
        }
    }
}

#[derive(Serialize)]
struct NodeOut<'a> {
    name: &'a str,
    family: u8,
    exists: bool,
    blocks: u128,
    addresses: CountOut,
    borrowed_from_others: u128,
    lent_to_others: u128,
}

impl<'a> NodeOut<'a> {
    fn of(node: &NodeUse<'a>) -> Self {
        Self {
            name: node.node,
            family: if node.v6 { 6 } else { 4 },
            exists: node.exists,
            blocks: node.blocks,
            addresses: CountOut::from(&node.count),
            borrowed_from_others: node.borrows,
            lent_to_others: node.count.borrowed,
        }
    }
}

#[derive(Serialize)]
struct BorrowedOut<'a> {
    ip: IpAddr,
    block: String,
    owner: Option<String>,
    attribute: Owner<'a>,
}

#[derive(Serialize)]
struct Address<'a> {
    schema: &'static str,
    ip: IpAddr,
    in_use: Option<bool>,
    attribute: Option<Owner<'a>>,
    block: Option<String>,
    affine_to: Option<String>,
    pool: Option<PoolName>,
    borrowed: Option<bool>,
    used_by: Option<Vec<String>>,
    not_asked: Vec<String>,
}

#[derive(Serialize)]
struct PoolName {
    name: String,
    cidr: String,
}

/// An attribute in the words of the object.
#[derive(Serialize)]
struct Owner<'a> {
    handle_id: Option<&'a str>,
    namespace: Option<&'a str>,
    node: Option<&'a str>,
    pod: Option<&'a str>,
    service: Option<&'a str>,
    timestamp: Option<&'a str>,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    #[serde(rename = "releasedAt")]
    released: Option<&'a str>,
}

impl<'a> Owner<'a> {
    fn of(owner: &'a Attribute) -> Self {
        Self {
            handle_id: owner.handle.as_deref(),
            namespace: owner.namespace.as_deref(),
            node: owner.node.as_deref(),
            pod: owner.pod.as_deref(),
            service: owner.service.as_deref(),
            timestamp: owner.timestamp.as_deref(),
            kind: owner.kind.as_deref(),
            released: owner.released.as_deref(),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let all = [
            ("namespace", self.namespace),
            ("node", self.node),
            ("pod", self.pod),
            ("releasedAt", self.released),
            ("service", self.service),
            ("timestamp", self.timestamp),
            ("type", self.kind),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

#[derive(Serialize)]
struct CheckedOut<'a> {
    schema: &'static str,
    sound: bool,
    findings: Vec<FindingOut<'a>>,
    notes: &'a [String],
    not_asked: &'a [String],
}

#[derive(Serialize)]
struct FindingOut<'a> {
    kind: &'static str,
    node: Option<&'a str>,
    breaks: bool,
    summary: &'a str,
    remedy: &'a str,
    read: &'a str,
    expected: &'a str,
    addresses: &'a [IpAddr],
}

impl<'a> FindingOut<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self {
            kind: finding.kind,
            node: Some(&*finding.node).filter(|node| !node.is_empty()),
            breaks: finding.breaks,
            summary: &finding.summary,
            remedy: &finding.remedy,
            read: &finding.read,
            expected: &finding.expected,
            addresses: &finding.addresses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go's `%.5g` prints.
    #[test]
    fn numbers_have_five_digits() {
        for (count, text) in [
            (0, "0"),
            (256, "256"),
            (65_536, "65536"),
            (99_999, "99999"),
            (100_000, "1e+05"),
            (131_072, "1.3107e+05"),
            (999_995, "1e+06"),
            (999_985, "9.9998e+05"),
            (123_455, "1.2346e+05"),
            (123_445, "1.2344e+05"),
            (1_048_576, "1.0486e+06"),
            (1 << 64, "1.8447e+19"),
            (1 << 80, "1.2089e+24"),
            (u128::MAX, "3.4028e+38"),
        ] {
            assert_eq!(five(count), text, "{count}");
        }
    }

    #[test]
    fn shares_are_whole_percents() {
        for (part, whole, text) in [
            (0, 0, "0 (0%)"),
            (2, 64, "2 (3%)"),
            (62, 64, "62 (97%)"),
            (1, 200, "1 (0%)"),
            (3, 200, "3 (2%)"),
            (1, 199, "1 (1%)"),
            (65_534, 65_536, "65534 (100%)"),
            (1 << 127, u128::MAX, "1.7014e+38 (50%)"),
            (u128::MAX, u128::MAX, "3.4028e+38 (100%)"),
        ] {
            assert_eq!(share(part, whole), text);
        }
    }
}
