//! Calico's addresses added up. Takes the cluster's pools, blocks, settings and reservations; gives, per pool, block and
//! node, how many addresses and blocks there are, are taken, free, reserved and borrowed, and who has an address. It
//! compares nothing with pods and finds nothing wrong.

pub mod release;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::cluster::ipam::{Affinity, Attribute, IpamBlock};
use super::cluster::{Cluster, IpPool};

/// The addresses of a cluster. Counts of addresses saturate at 2^128 - 1.
#[derive(Debug)]
pub struct Figures<'c> {
    /// Pools, in the order in which they were read.
    pub pools: Vec<PoolUse<'c>>,
    /// All blocks, by address.
    pub blocks: Vec<BlockUse<'c>>,
    /// Nodes that exist or have blocks or addresses, by name, IPv4 first.
    pub nodes: Vec<NodeUse<'c>>,
}

/// Addresses of one kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// All of them.
    pub total: u128,
    /// Allocated, to whomever; tunnel addresses, leaked and Windows' reserved ones count.
    pub in_use: u128,
    /// Of these, what Windows nodes keep for themselves in each of their blocks.
    pub windows: u128,
    /// Of those in use, what is used on a node that does not own the block.
    pub borrowed: u128,
    /// In an `IPReservation` and not in use.
    pub reserved: u128,
}

/// A pool in figures.
#[derive(Debug)]
pub struct PoolUse<'c> {
    /// The pool.
    pub pool: &'c IpPool,
    /// Its addresses.
    pub count: Count,
    /// Addresses in each of its blocks: 2^(bits - blockSize).
    pub block_size: u128,
    /// Blocks that it can have: 2^(blockSize - prefix length).
    pub blocks_possible: u128,
    /// Blocks that it has: indices into [`Figures::blocks`].
    pub blocks: Vec<usize>,
}

/// A block in figures.
#[derive(Debug)]
pub struct BlockUse<'c> {
    /// The block.
    pub block: &'c IpamBlock,
    /// Its addresses.
    pub count: Count,
    /// Index of the pool that it lies in.
    pub pool: Option<usize>,
}

/// What a node has of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUse<'c> {
    /// Name.
    pub node: &'c str,
    /// Of IPv6; else of IPv4.
    pub v6: bool,
    /// Whether there is such a Node.
    pub exists: bool,
    /// Its blocks.
    pub blocks: u128,
    /// The addresses of its blocks; `borrowed` are those that other nodes use.
    pub count: Count,
    /// Addresses that it uses in blocks of others.
    pub borrows: u128,
}

/// Who has an address.
#[derive(Debug)]
pub struct Holder<'f, 'c> {
    /// The block that the address lies in.
    pub block: &'f BlockUse<'c>,
    /// Whose it is: none when it is free; the inner part is none when the block does not say.
    pub owner: Option<Option<&'c Attribute>>,
}

impl Count {
    /// Addresses that may still be handed out.
    pub fn free(&self) -> u128 {
        self.total.saturating_sub(self.in_use).saturating_sub(self.reserved)
    }

    fn add(&mut self, other: &Self) {
        self.total = self.total.saturating_add(other.total);
        self.in_use += other.in_use;
        self.windows += other.windows;
        self.borrowed += other.borrowed;
        self.reserved += other.reserved;
    }
}

impl PoolUse<'_> {
    /// Blocks that nobody has yet.
    pub fn blocks_free(&self) -> u128 {
        self.blocks_possible.saturating_sub(self.blocks.len() as u128)
    }
}

impl<'c> Figures<'c> {
    /// Adds up.
    pub fn of(cluster: &'c Cluster) -> Self {
        let all: Vec<IpNet> = cluster.ipam.reservations.iter().flat_map(|one| &one.cidrs).copied().collect();
        let reserved = IpNet::aggregate(&all);
        let mut nodes = BTreeMap::new();
        let mut blocks: Vec<BlockUse<'c>> =
            cluster.ipam.blocks.iter().map(|block| add_up(block, &reserved, &mut nodes)).collect();
        blocks.sort_by_key(|used| used.block.cidr);
        let mut pools: Vec<PoolUse<'c>> =
            cluster.pools.iter().map(|pool| PoolUse::empty(pool, &reserved)).collect();
        for (index, used) in blocks.iter_mut().enumerate() {
            let home = pools.iter().position(|pool| pool.pool.cidr.contains(&used.block.cidr));
            used.pool = home;
            if let Some(pool) = home.and_then(|home| pools.get_mut(home)) {
                pool.take(index, used, &reserved);
            }
        }
        let mut figures = Self { pools, blocks, nodes: Vec::new() };
        figures.add_nodes(cluster, nodes);
        figures
    }

    fn add_nodes(&mut self, cluster: &'c Cluster, mut nodes: BTreeMap<(&'c str, bool), NodeUse<'c>>) {
        let families = [false, true].map(|v6| {
            self.pools.iter().any(|pool| is_v6(pool.pool.cidr) == v6)
                || self.blocks.iter().any(|used| is_v6(used.block.cidr) == v6)
        });
        for node in &cluster.nodes {
            for v6 in [false, true].into_iter().filter(|v6| families[usize::from(*v6)]) {
                let used = nodes.entry((&node.name, v6)).or_insert_with(|| NodeUse::new(&node.name, v6));
                used.exists = true;
            }
        }
        self.nodes = nodes.into_values().collect();
    }

    /// Who has an address; none when it lies in no block.
    pub fn holder(&self, address: IpAddr) -> Option<Holder<'_, 'c>> {
        let after = self.blocks.partition_point(|used| used.block.cidr.network() <= address);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        let ordinal = ordinal(block.block.cidr, address)?;
        Some(Holder { block, owner: block.block.owner(ordinal) })
    }

    /// The pool that an address lies in.
    pub fn pool(&self, address: IpAddr) -> Option<&PoolUse<'c>> {
        self.pools.iter().find(|pool| pool.pool.cidr.contains(&address))
    }

    /// Addresses that are used on another node than the one that owns their block, by address.
    pub fn borrowed(&self) -> impl Iterator<Item = (IpAddr, &'c IpamBlock, &'c Attribute)> {
        let with_some = self.blocks.iter().filter(|used| used.count.borrowed > 0);
        with_some.flat_map(|used| {
            let block = used.block;
            allocations(block).filter_map(move |(ordinal, owner)| {
                let owner = owner.filter(|owner| is_borrowed(block, owner))?;
                Some((address(block.cidr, ordinal), block, owner))
            })
        })
    }
}

impl<'c> PoolUse<'c> {
    fn empty(pool: &'c IpPool, reserved: &[IpNet]) -> Self {
        let bits = pool.cidr.max_prefix_len();
        let held: u128 = reserved.iter().map(|net| overlap(*net, pool.cidr)).sum();
        Self {
            pool,
            count: Count { total: size(pool.cidr), reserved: held, ..Count::default() },
            block_size: power(bits.saturating_sub(pool.block_len())),
            blocks_possible: match pool.block_len().checked_sub(pool.cidr.prefix_len()) {
                Some(length) => power(length),
                None => 0,
            },
            blocks: Vec::new(),
        }
    }

    fn take(&mut self, index: usize, used: &BlockUse<'_>, reserved: &[IpNet]) {
        let before: u128 = reserved.iter().map(|net| overlap(*net, used.block.cidr)).sum();
        self.count.in_use += used.count.in_use;
        self.count.windows += used.count.windows;
        self.count.borrowed += used.count.borrowed;
        // Reserved addresses in use are in use.
        self.count.reserved = self.count.reserved.saturating_sub(before - used.count.reserved);
        self.blocks.push(index);
    }
}

impl<'c> NodeUse<'c> {
    fn new(node: &'c str, v6: bool) -> Self {
        Self { node, v6, exists: false, blocks: 0, count: Count::default(), borrows: 0 }
    }
}

fn add_up<'c>(
    block: &'c IpamBlock,
    reserved: &[IpNet],
    nodes: &mut BTreeMap<(&'c str, bool), NodeUse<'c>>,
) -> BlockUse<'c> {
    let v6 = is_v6(block.cidr);
    let held: u128 = reserved.iter().map(|net| overlap(*net, block.cidr)).sum();
    let mut count = Count { total: size(block.cidr), reserved: held, ..Count::default() };
    for (ordinal, owner) in allocations(block) {
        count.in_use += 1;
        if held > 0 && reserved.iter().any(|net| net.contains(&address(block.cidr, ordinal))) {
            count.reserved -= 1;
        }
        let Some(owner) = owner else { continue };
        if is_windows(owner) {
            count.windows += 1;
        }
        if let Some(node) = owner.node.as_deref().filter(|_| is_borrowed(block, owner)) {
            count.borrowed += 1;
            nodes.entry((node, v6)).or_insert_with(|| NodeUse::new(node, v6)).borrows += 1;
        }
    }
    if let Some(node) = block.node() {
        let used = nodes.entry((node, v6)).or_insert_with(|| NodeUse::new(node, v6));
        used.blocks += 1;
        used.count.add(&count);
    }
    BlockUse { block, count, pool: None }
}

/// The taken addresses of a block: ordinal, and owner as far as the block says it.
pub fn allocations(block: &IpamBlock) -> impl Iterator<Item = (usize, Option<&Attribute>)> {
    (0..block.allocations.len()).filter_map(|ordinal| Some((ordinal, block.owner(ordinal)?)))
}

/// Whether an address is used on a node that does not own its block; one in a block without a node counts.
pub fn is_borrowed(block: &IpamBlock, owner: &Attribute) -> bool {
    let by_node = owner.node.as_deref().is_some_and(|node| block.node() != Some(node));
    by_node && !is_windows(owner) && !matches!(block.affinity, Affinity::Other(_))
}

/// Whether Windows keeps the address for itself.
pub fn is_windows(owner: &Attribute) -> bool {
    owner.handle.as_deref().is_some_and(|handle| handle.eq_ignore_ascii_case("windows-reserved-ipam-handle"))
}

/// An address of a block.
pub fn address(cidr: IpNet, ordinal: usize) -> IpAddr {
    match cidr.network() {
        IpAddr::V4(first) => {
            let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
            IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().saturating_add(ordinal)))
        }
        IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits().saturating_add(ordinal as u128))),
    }
}

/// The place of an address in a block, if it lies in it.
pub fn ordinal(cidr: IpNet, address: IpAddr) -> Option<usize> {
    if !cidr.contains(&address) {
        return None;
    }
    match (cidr.network(), address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => usize::try_from(address.to_bits() - first.to_bits()).ok(),
        (IpAddr::V6(first), IpAddr::V6(address)) => usize::try_from(address.to_bits() - first.to_bits()).ok(),
        _ => None,
    }
}

/// How many addresses a prefix holds.
pub fn size(cidr: IpNet) -> u128 {
    power(cidr.max_prefix_len() - cidr.prefix_len())
}

fn power(bits: u8) -> u128 {
    1_u128.checked_shl(u32::from(bits)).unwrap_or(u128::MAX)
}

fn overlap(a: IpNet, b: IpNet) -> u128 {
    if a.contains(&b) {
        size(b)
    } else if b.contains(&a) {
        size(a)
    } else {
        0
    }
}

fn is_v6(cidr: IpNet) -> bool {
    cidr.addr().is_ipv6()
}
