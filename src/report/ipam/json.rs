//! Calico's addresses for programs. Takes the same figures as the tables, gives them as JSON.

use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;

use super::{Shown, affinity};
use crate::analyze::ipam::missing;
use crate::evidence::cluster::ipam::{Attribute, IpamConfig};
use crate::evidence::ipam::{BlockUse, Count, NodeUse, PoolUse, is_borrowed};

impl Shown<'_, '_> {
    /// One address, as JSON.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written to.
    pub fn address_json(&self, address: IpAddr, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, &self.about(address))?;
        writeln!(out)
    }

    pub(super) fn about(&self, address: IpAddr) -> Address<'_> {
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
pub(super) struct Address<'a> {
    pub(super) schema: &'static str,
    pub(super) ip: IpAddr,
    pub(super) in_use: Option<bool>,
    pub(super) attribute: Option<Owner<'a>>,
    pub(super) block: Option<String>,
    pub(super) affine_to: Option<String>,
    pub(super) pool: Option<PoolName>,
    pub(super) borrowed: Option<bool>,
    pub(super) used_by: Option<Vec<String>>,
    pub(super) not_asked: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct PoolName {
    pub(super) name: String,
    pub(super) cidr: String,
}

/// An attribute in the words of the object.
#[derive(Serialize)]
pub(super) struct Owner<'a> {
    pub(super) handle_id: Option<&'a str>,
    pub(super) namespace: Option<&'a str>,
    pub(super) node: Option<&'a str>,
    pub(super) pod: Option<&'a str>,
    pub(super) service: Option<&'a str>,
    pub(super) timestamp: Option<&'a str>,
    #[serde(rename = "type")]
    pub(super) kind: Option<&'a str>,
    #[serde(rename = "releasedAt")]
    pub(super) released: Option<&'a str>,
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

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
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
