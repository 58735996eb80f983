//! Calico's addresses for programs. Takes the same figures as the tables, gives them as JSON; what rests on objects that were not
//! read is null.

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
        let read = self.has_blocks();
        let blocks = |of: &dyn Fn(&BlockUse<'_>) -> bool| {
            let used = self.figures.blocks.iter().filter(|used| of(used));
            read.then(|| used.map(BlockOut::of).collect::<Vec<_>>())
        };
        let pools = self
            .figures
            .pools
            .iter()
            .enumerate()
            .map(|(index, pool)| PoolOut::of(pool, blocks(&|used| used.pool == Some(index))));
        let borrowed = self.figures.borrowed().map(|(ip, block, owner)| BorrowedOut {
            ip,
            block: block.cidr.to_string(),
            owner: affinity(block),
            attribute: Owner::of(owner),
        });
        // Where there is none to read, Calico's defaults hold.
        let defaults = || missing(self.cluster, "IPAMConfig").is_none().then(IpamConfig::default);
        let all = All {
            schema: "trace-drop/ipam-show/v1",
            pools: self.has("IPPool").then(|| pools.collect()),
            blocks_outside_pools: blocks(&|used| used.pool.is_none()),
            nodes: self.figures.nodes.iter().map(|node| NodeOut::of(node, read, self.has("Node"))).collect(),
            borrowed: read.then(|| borrowed.collect()),
            configuration: self.cluster.ipam.config.clone().or_else(defaults),
            not_asked: self.gaps(),
        };
        serde_json::to_writer_pretty(&mut *out, &all)?;
        writeln!(out)
    }
}

#[derive(Serialize)]
struct All<'a> {
    schema: &'static str,
    pools: Option<Vec<PoolOut<'a>>>,
    blocks_outside_pools: Option<Vec<BlockOut>>,
    nodes: Vec<NodeOut<'a>>,
    borrowed: Option<Vec<BorrowedOut<'a>>>,
    configuration: Option<IpamConfig>,
    not_asked: Vec<String>,
}

/// What is null rests on blocks.
#[derive(Serialize)]
struct CountOut {
    total: u128,
    in_use: Option<u128>,
    windows: Option<u128>,
    borrowed: Option<u128>,
    reserved: u128,
    free: Option<u128>,
}

impl CountOut {
    fn of(count: &Count, blocks_read: bool) -> Self {
        let read = |number: u128| blocks_read.then_some(number);
        Self {
            total: count.total,
            in_use: read(count.in_use),
            windows: read(count.windows),
            borrowed: read(count.borrowed),
            reserved: count.reserved,
            free: read(count.free()),
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
    blocks_free: Option<u128>,
    blocks: Option<Vec<BlockOut>>,
}

impl<'a> PoolOut<'a> {
    fn of(pool: &PoolUse<'a>, blocks: Option<Vec<BlockOut>>) -> Self {
        Self {
            name: &pool.pool.name,
            cidr: pool.pool.cidr.to_string(),
            disabled: pool.pool.disabled,
            addresses: CountOut::of(&pool.count, blocks.is_some()),
            block_size: pool.block_size,
            blocks_possible: pool.blocks_possible,
            blocks_free: blocks.is_some().then(|| pool.blocks_free()),
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
            addresses: CountOut::of(&used.count, true),
        }
    }
}

#[derive(Serialize)]
struct NodeOut<'a> {
    name: &'a str,
    family: u8,
    exists: Option<bool>,
    blocks: Option<u128>,
    addresses: Option<CountOut>,
    borrowed_from_others: Option<u128>,
    lent_to_others: Option<u128>,
}

impl<'a> NodeOut<'a> {
    fn of(node: &NodeUse<'a>, blocks_read: bool, nodes_read: bool) -> Self {
        let read = |number: u128| blocks_read.then_some(number);
        Self {
            name: node.node,
            family: if node.v6 { 6 } else { 4 },
            exists: nodes_read.then_some(node.exists),
            blocks: read(node.blocks),
            addresses: blocks_read.then(|| CountOut::of(&node.count, true)),
            borrowed_from_others: read(node.borrows),
            lent_to_others: read(node.count.borrowed),
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
