//! Calico's addresses for a person, in tables as calicoctl draws them; for programs and what was checked, in files of their own.
//! Takes figures; judges nothing. What the cluster's file does not hold is called "not asked".

pub mod checked;
mod json;
mod table;

use std::io::{self, Write};
use std::net::IpAddr;

use serde_json::Value;

use crate::analyze::ipam::missing;
use crate::evidence::cluster::Cluster;
use crate::evidence::cluster::ipam::{Affinity, Attribute, IpamBlock, IpamConfig};
use crate::evidence::ipam::{BlockUse, Count, Figures};
use table::{five, share, table};

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

    /// Whether objects of that kind are known at all.
    fn has(&self, kind: &str) -> bool {
        self.cluster.kinds.iter().any(|known| known == kind)
    }

    /// Whether the blocks are known at all; without them nothing is known to be in use.
    fn has_blocks(&self) -> bool {
        self.has("IPAMBlock")
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
            let gone = if node.exists || !self.has("Node") { "" } else { " (gone)" };
            let [total, in_use, _, free] = self.cells(&node.count);
            let mut cells =
                vec![format!("{}{gone}", node.node), if node.v6 { "IPv6" } else { "IPv4" }.to_owned()];
            cells.extend(if self.has_blocks() {
                [node.blocks.to_string(), total, in_use, free, five(node.borrows), five(node.count.borrowed)]
            } else {
                [(); 6].map(|()| NOT_ASKED.to_owned())
            });
            cells
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
