//! Calico's address management as objects: blocks with who has which address, whose block it is, handles, settings and
//! reservations. Takes one decoded object; gives the fields named here and a remark for each that has the wrong type
//! and counts as absent. Adds nothing up: that is [`ipam`](crate::evidence::ipam).

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::decode::{Metadata, Object, net};
use super::{Encapsulation, IpPool};

/// All objects of address management but the pools.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// Blocks.
    pub blocks: Vec<IpamBlock>,
    /// Which node claimed which block.
    pub affinities: Vec<BlockAffinity>,
    /// Handles.
    pub handles: Vec<IpamHandle>,
    /// The one named `default`.
    pub config: Option<IpamConfig>,
    /// Addresses that are never handed out.
    pub reservations: Vec<IpReservation>,
}

/// Which state of an object was read; writing compares it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Version {
    /// `metadata.resourceVersion`.
    pub resource_version: Option<String>,
    /// `metadata.uid`.
    pub uid: Option<String>,
}

/// Calico's `IPAMBlock`: a part of a pool, and who has its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamBlock {
    /// Name.
    pub name: String,
    /// What was read.
    pub version: Version,
    /// Its addresses.
    pub cidr: IpNet,
    /// Whose block it is.
    pub affinity: Affinity,
    /// By ordinal (address less first address): none, or the index of an attribute.
    pub allocations: Vec<Option<u32>>,
    /// Owners.
    pub attributes: Vec<Attribute>,
    /// Free ordinals, in the order in which they will be handed out.
    pub unallocated: Vec<u32>,
    /// `spec.deleted`: between being marked and being gone.
    pub deleted: bool,
}

/// Whose block it is: `spec.affinity`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Affinity {
    /// `host:NODE`.
    Node(String),
    /// `virtual:load-balancer`, and what is not known.
    Other(String),
    /// The owner is gone, addresses are still in use.
    #[default]
    Nobody,
}

/// Whose an address is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attribute {
    /// `handle_id`.
    pub handle: Option<String>,
    /// `secondary.namespace`.
    pub namespace: Option<String>,
    /// `secondary.pod`.
    pub pod: Option<String>,
    /// `secondary.node`: where it is used.
    pub node: Option<String>,
    /// `secondary.type`, of a tunnel address.
    pub kind: Option<String>,
    /// `secondary.service`, of a load balancer's address.
    pub service: Option<String>,
    /// `secondary.timestamp`, as written.
    pub timestamp: Option<String>,
    /// `releasedAt`: released, and not yet handed out again.
    pub released: Option<String>,
}

/// Calico's `BlockAffinity`: a node's claim of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockAffinity {
    /// Name.
    pub name: String,
    /// The block.
    pub cidr: IpNet,
    /// The node.
    pub node: String,
    /// `pending`, `confirmed`, `pendingDeletion`.
    pub state: String,
    /// `spec.deleted`.
    pub deleted: bool,
}

/// Calico's `IPAMHandle`: the blocks in which one owner has addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamHandle {
    /// `spec.handleID`, else the object's name.
    pub id: String,
    /// What was read.
    pub version: Version,
    /// Blocks, and how many addresses in each.
    pub blocks: Vec<(IpNet, u64)>,
    /// `spec.deleted`.
    pub deleted: bool,
}

/// Calico's `IPAMConfig` (`IPAMConfiguration` in `projectcalico.org/v3`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpamConfig {
    /// Nodes use their own blocks alone.
    pub strict_affinity: bool,
    /// Nodes claim new blocks.
    pub auto_allocate_blocks: bool,
    /// Blocks a node may have; 0 is no limit of its own.
    pub max_blocks_per_host: u32,
}

impl Default for IpamConfig {
    fn default() -> Self {
        Self { strict_affinity: false, auto_allocate_blocks: true, max_blocks_per_host: 0 }
    }
}

/// Calico's `IPReservation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpReservation {
    /// Name.
    pub name: String,
    /// Its addresses.
    pub cidrs: Vec<IpNet>,
}

impl IpamBlock {
    /// Whose an address of the block is. The outer part is none when it is free, the inner when its owner is not
    /// among the attributes.
    pub fn owner(&self, ordinal: usize) -> Option<Option<&Attribute>> {
        let index = (*self.allocations.get(ordinal)?)?;
        Some(usize::try_from(index).ok().and_then(|index| self.attributes.get(index)))
    }

    /// The node whose block it is.
    pub fn node(&self) -> Option<&str> {
        match &self.affinity {
            Affinity::Node(node) => Some(node),
            Affinity::Other(_) | Affinity::Nobody => None,
        }
    }
}

impl IpPool {
    /// The length of its blocks' prefix: what is written, else Calico's default.
    pub fn block_len(&self) -> u8 {
        self.block_size.unwrap_or(if self.cidr.addr().is_ipv4() { 26 } else { 122 })
    }

    /// Whether a pod that asks for nothing special may get an address of it.
    pub fn serves_pods(&self) -> bool {
        let allowed = self.allowed_uses.is_empty() || self.allowed_uses.iter().any(|used| used == "Workload");
        allowed && !self.disabled && !self.deleting && !self.manual
    }

    /// Whether it is for every node.
    pub fn selects_all_nodes(&self) -> bool {
        let words: String = self.node_selector.chars().filter(|c| !c.is_whitespace()).collect();
        words.is_empty() || words == "all()"
    }
}

/// A field, or the fact that something else stood there.
#[derive(Default)]
enum Lenient<T> {
    #[default]
    Absent,
    Wrong,
    Read(T),
}

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Value::deserialize(from)? {
            Value::Null => Self::Absent,
            read => T::deserialize(read).map_or(Self::Wrong, Self::Read),
        })
    }
}

impl<T> Lenient<T> {
    fn take(self, name: &str, remarks: &mut Vec<String>) -> Option<T> {
        let mut wrong = 0;
        let value = self.counted(&mut wrong);
        if wrong > 0 {
            remarks.push(format!("{name} has the wrong type and counts as absent"));
        }
        value
    }

    fn counted(self, wrong: &mut u32) -> Option<T> {
        match self {
            Self::Absent => None,
            Self::Wrong => {
                *wrong += 1;
                None
            }
            Self::Read(value) => Some(value),
        }
    }
}

fn version(metadata: Metadata) -> (String, Version) {
    (metadata.name, Version { resource_version: metadata.resource_version, uid: metadata.uid })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PoolSpec {
    cidr: String,
    vxlan_mode: Option<Encapsulation>,
    ipip_mode: Option<Encapsulation>,
    #[serde(default)]
    block_size: Lenient<u8>,
    #[serde(default)]
    disabled: Lenient<bool>,
    #[serde(default)]
    node_selector: Lenient<String>,
    #[serde(default)]
    allowed_uses: Lenient<Vec<String>>,
    #[serde(default)]
    assignment_mode: Lenient<String>,
}

pub(super) fn pool(object: Object<PoolSpec>, remarks: &mut Vec<String>) -> Result<IpPool, String> {
    let spec = object.spec.ok_or(NO_SPEC)?;
    let cidr = net(&spec.cidr)?.trunc();
    let mut block_size = spec.block_size.take("spec.blockSize", remarks);
    if let Some(size) = block_size.filter(|size| !(cidr.prefix_len()..=cidr.max_prefix_len()).contains(size))
    {
        remarks.push(format!("spec.blockSize {size} does not fit {cidr} and counts as absent"));
        block_size = None;
    }
    Ok(IpPool {
        cidr,
        vxlan: spec.vxlan_mode.unwrap_or_default(),
        ipip: spec.ipip_mode.unwrap_or_default(),
        block_size,
        disabled: spec.disabled.take("spec.disabled", remarks).unwrap_or(false),
        node_selector: spec.node_selector.take("spec.nodeSelector", remarks).unwrap_or_default(),
        allowed_uses: spec.allowed_uses.take("spec.allowedUses", remarks).unwrap_or_default(),
        manual: spec
            .assignment_mode
            .take("spec.assignmentMode", remarks)
            .is_some_and(|mode| mode == "Manual"),
        deleting: object.metadata.deletion_timestamp.is_some(),
        name: object.metadata.name,
    })
}

#[derive(Deserialize)]
pub(super) struct BlockSpec {
    cidr: String,
    #[serde(default)]
    affinity: Lenient<String>,
    allocations: Vec<Option<u32>>,
    #[serde(default)]
    attributes: Option<Vec<AttributeSpec>>,
    #[serde(default)]
    unallocated: Option<Vec<u32>>,
    #[serde(default)]
    deleted: Lenient<Flag>,
}

#[derive(Deserialize)]
struct AttributeSpec {
    #[serde(default)]
    handle_id: Lenient<String>,
    #[serde(default)]
    secondary: Option<Owner>,
    #[serde(default, rename = "releasedAt")]
    released: Lenient<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Owner {
    namespace: Lenient<String>,
    pod: Lenient<String>,
    node: Lenient<String>,
    #[serde(rename = "type")]
    kind: Lenient<String>,
    service: Lenient<String>,
    timestamp: Lenient<String>,
}

/// `true`, or the text "true" as `BlockAffinity` has it in `crd.projectcalico.org/v1`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Text(String),
}

fn set(flag: Option<Flag>) -> bool {
    match flag {
        Some(Flag::Bool(set)) => set,
        Some(Flag::Text(text)) => text == "true",
        None => false,
    }
}

pub(super) fn block(object: Object<BlockSpec>, remarks: &mut Vec<String>) -> Result<IpamBlock, String> {
    let spec = object.spec.ok_or(NO_SPEC)?;
    let cidr = net(&spec.cidr)?.trunc();
    let bits = cidr.max_prefix_len() - cidr.prefix_len();
    let size = 1_usize.checked_shl(u32::from(bits)).filter(|_| bits <= 16);
    if size.is_none_or(|size| size < spec.allocations.len()) {
        return Err(format!("{} allocations do not fit into {cidr}", spec.allocations.len()));
    }
    if size != Some(spec.allocations.len()) {
        remarks.push(format!("{cidr} lists {} allocations only", spec.allocations.len()));
    }
    let mut wrong = 0;
    let attributes: Vec<Attribute> =
        spec.attributes.unwrap_or_default().into_iter().map(|one| attribute(one, &mut wrong)).collect();
    if wrong > 0 {
        remarks.push(format!("{wrong} fields of its attributes have the wrong type and count as absent"));
    }
    let beyond = |index: &u32| usize::try_from(*index).is_ok_and(|index| index >= attributes.len());
    let ownerless = spec.allocations.iter().flatten().filter(|index| beyond(index)).count();
    if ownerless > 0 {
        remarks.push(format!("{ownerless} of its allocations name an attribute that is not there"));
    }
    let affinity = spec.affinity.take("spec.affinity", remarks).filter(|text| !text.is_empty());
    let (name, version) = version(object.metadata);
    Ok(IpamBlock {
        name,
        version,
        cidr,
        affinity: affinity.map_or(Affinity::Nobody, |text| match text.strip_prefix("host:") {
            Some(node) => Affinity::Node(node.to_owned()),
            None => Affinity::Other(text),
        }),
        allocations: spec.allocations,
        attributes,
        unallocated: spec.unallocated.unwrap_or_default(),
        deleted: set(spec.deleted.take("spec.deleted", remarks)),
    })
}

fn attribute(spec: AttributeSpec, wrong: &mut u32) -> Attribute {
    let owner = spec.secondary.unwrap_or_default();
    Attribute {
        handle: spec.handle_id.counted(wrong),
        namespace: owner.namespace.counted(wrong),
        pod: owner.pod.counted(wrong),
        node: owner.node.counted(wrong),
        kind: owner.kind.counted(wrong),
        service: owner.service.counted(wrong),
        timestamp: owner.timestamp.counted(wrong),
        released: spec.released.counted(wrong),
    }
}

#[derive(Deserialize)]
pub(super) struct AffinitySpec {
    cidr: String,
    node: String,
    #[serde(default)]
    state: Lenient<String>,
    #[serde(default)]
    deleted: Lenient<Flag>,
}

pub(super) fn affinity(
    object: Object<AffinitySpec>,
    remarks: &mut Vec<String>,
) -> Result<BlockAffinity, String> {
    let spec = object.spec.ok_or(NO_SPEC)?;
    Ok(BlockAffinity {
        name: object.metadata.name,
        cidr: net(&spec.cidr)?.trunc(),
        node: spec.node,
        state: spec.state.take("spec.state", remarks).unwrap_or_default(),
        deleted: set(spec.deleted.take("spec.deleted", remarks)),
    })
}

#[derive(Deserialize)]
pub(super) struct HandleSpec {
    #[serde(default, rename = "handleID")]
    id: Lenient<String>,
    #[serde(default)]
    block: Option<BTreeMap<String, u64>>,
    #[serde(default)]
    deleted: Lenient<Flag>,
}

pub(super) fn handle(object: Object<HandleSpec>, remarks: &mut Vec<String>) -> Result<IpamHandle, String> {
    let spec = object.spec.ok_or(NO_SPEC)?;
    let (name, version) = version(object.metadata);
    let blocks = spec.block.unwrap_or_default().into_iter();
    Ok(IpamHandle {
        id: spec.id.take("spec.handleID", remarks).unwrap_or(name),
        version,
        blocks: blocks
            .map(|(cidr, count)| Ok((net(&cidr)?.trunc(), count)))
            .collect::<Result<_, String>>()?,
        deleted: set(spec.deleted.take("spec.deleted", remarks)),
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ConfigSpec {
    strict_affinity: Lenient<bool>,
    auto_allocate_blocks: Lenient<bool>,
    max_blocks_per_host: Lenient<u32>,
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for all decoders")]
pub(super) fn config(object: Object<ConfigSpec>, remarks: &mut Vec<String>) -> Result<IpamConfig, String> {
    let spec = object.spec.unwrap_or_default();
    let default = IpamConfig::default();
    let strict = spec.strict_affinity.take("spec.strictAffinity", remarks);
    let auto = spec.auto_allocate_blocks.take("spec.autoAllocateBlocks", remarks);
    let most = spec.max_blocks_per_host.take("spec.maxBlocksPerHost", remarks);
    Ok(IpamConfig {
        strict_affinity: strict.unwrap_or(default.strict_affinity),
        auto_allocate_blocks: auto.unwrap_or(default.auto_allocate_blocks),
        max_blocks_per_host: most.unwrap_or(default.max_blocks_per_host),
    })
}

#[derive(Deserialize, Default)]
pub(super) struct ReservationSpec {
    #[serde(default, rename = "reservedCIDRs")]
    cidrs: Option<Vec<String>>,
}

pub(super) fn reservation(object: Object<ReservationSpec>) -> Result<IpReservation, String> {
    let cidrs = object.spec.unwrap_or_default().cidrs.unwrap_or_default();
    Ok(IpReservation {
        name: object.metadata.name,
        cidrs: cidrs.iter().map(|text| net(text).map(|net| net.trunc())).collect::<Result<_, _>>()?,
    })
}

const NO_SPEC: &str = "it has no spec";

#[cfg(test)]
mod tests;
