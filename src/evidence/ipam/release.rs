//! What releasing one address changes. Takes a block's or handle's JSON as the API server gives it; gives the JSON to
//! write back, with every other field as it was, `resourceVersion` too: a write on top of somebody else's is refused by
//! the server. Reads and writes nothing itself.
//!
//! As libcalico-go/lib/ipam/ipam_block.go does it: the ordinal goes to the end of `unallocated`, its sequence number is
//! forgotten, an attribute that no address uses any more is taken out and the indices above it move down, and the
//! block's own sequence number grows.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::ordinal;

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// It is written so.
    Write(Value),
    /// It is not needed any more.
    Delete,
    /// It says nothing about the address.
    Keep,
}

/// A block without the address.
#[derive(Debug, Clone, PartialEq)]
pub struct Released {
    /// The block.
    pub block: Edit,
    /// Whose the address was, with `handle_id` and `secondary` as written.
    pub attribute: Value,
}

/// Why an object cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// It is free.
    #[error("{0} is not assigned")]
    NotAssigned(IpAddr),
    /// Not the block's.
    #[error("{address} does not lie in block {cidr}")]
    Elsewhere {
        /// The address.
        address: IpAddr,
        /// The block.
        cidr: String,
    },
    /// The object is not what it should be.
    #[error(
        "the object's {field} is not what it should be ({found}): nothing is changed in an object that is not understood"
    )]
    Odd {
        /// Which field.
        field: &'static str,
        /// What stands there.
        found: String,
    },
}

/// The block with the address free.
///
/// # Errors
///
/// When the address is free already, lies elsewhere, or the block contradicts itself.
pub fn from_block(block: &Value, address: IpAddr) -> Result<Released, ReleaseError> {
    let mut edited = block.clone();
    let spec = edited.get_mut("spec").and_then(Value::as_object_mut).ok_or_else(|| odd("spec", block))?;
    let cidr = spec.get("cidr").and_then(Value::as_str).unwrap_or_default().to_owned();
    let net: IpNet = cidr.parse().map_err(|_| odd("spec.cidr", &json!(cidr)))?;
    let place = ordinal(net, address).ok_or(ReleaseError::Elsewhere { address, cidr })?;
    let (index, attribute) = take(spec, place, address)?;
    drop_unused(spec, index)?;
    let free = list(spec, "unallocated", "spec.unallocated")?;
    if free.iter().any(|one| one.as_u64() == Some(place as u64)) {
        return Err(odd("spec.unallocated", &json!(format!("holds {place}, which is allocated"))));
    }
    free.push(json!(place));
    count(spec, place)?;
    // An empty block that belongs to nobody is deleted, as Calico does it.
    let empty = list(spec, "allocations", "spec.allocations")?.iter().all(Value::is_null);
    let owned = spec.get("affinity").and_then(Value::as_str).is_some_and(|owner| !owner.is_empty());
    let block = if empty && !owned { Edit::Delete } else { Edit::Write(edited) };
    Ok(Released { block, attribute })
}

/// Frees the ordinal; gives the index of its attribute, and the attribute.
fn take(
    spec: &mut Map<String, Value>,
    place: usize,
    address: IpAddr,
) -> Result<(usize, Value), ReleaseError> {
    let slot = list(spec, "allocations", "spec.allocations")?.get_mut(place);
    let slot = slot.ok_or_else(|| odd("spec.allocations", &json!(format!("has no place {place}"))))?;
    let index = match slot.take() {
        Value::Null => return Err(ReleaseError::NotAssigned(address)),
        found => found
            .as_u64()
            .and_then(|index| usize::try_from(index).ok())
            .ok_or_else(|| odd("spec.allocations", &found))?,
    };
    let attributes = list(spec, "attributes", "spec.attributes")?;
    let attribute = attributes.get(index).cloned();
    let attribute =
        attribute.ok_or_else(|| odd("spec.attributes", &json!(format!("has no entry {index}"))))?;
    Ok((index, attribute))
}

/// Takes an attribute out if no address uses it; the indices above it move down.
fn drop_unused(spec: &mut Map<String, Value>, index: usize) -> Result<(), ReleaseError> {
    let index_of = |value: &Value| value.as_u64().and_then(|index| usize::try_from(index).ok());
    let allocations = list(spec, "allocations", "spec.allocations")?;
    if allocations.iter().any(|one| index_of(one) == Some(index)) {
        return Ok(());
    }
    for one in allocations.iter_mut().filter(|one| index_of(one).is_some_and(|other| other > index)) {
        if let Some(other) = index_of(one) {
            *one = json!(other - 1);
        }
    }
    list(spec, "attributes", "spec.attributes")?.remove(index);
    Ok(())
}

/// The block was written once more; the ordinal's own number is forgotten.
fn count(spec: &mut Map<String, Value>, place: usize) -> Result<(), ReleaseError> {
    if let Some(number) = spec.get_mut("sequenceNumber").filter(|number| !number.is_null()) {
        let next = number.as_u64().and_then(|number| number.checked_add(1));
        *number = json!(next.ok_or_else(|| odd("spec.sequenceNumber", number))?);
    }
    match spec.get_mut("sequenceNumberForAllocation") {
        Some(Value::Object(numbers)) => {
            numbers.remove(&place.to_string());
        }
        None | Some(Value::Null) => {}
        Some(other) => return Err(odd("spec.sequenceNumberForAllocation", other)),
    }
    Ok(())
}

/// The handle with one address less in a block: without the block when that was the last one, gone when no block is
/// left.
///
/// # Errors
///
/// When the handle is not what it should be.
pub fn from_handle(handle: &Value, block: &str) -> Result<Edit, ReleaseError> {
    let mut edited = handle.clone();
    let spec = edited.get_mut("spec").and_then(Value::as_object_mut).ok_or_else(|| odd("spec", handle))?;
    let blocks = match spec.get_mut("block") {
        Some(Value::Object(blocks)) => blocks,
        None | Some(Value::Null) => return Ok(Edit::Keep),
        Some(other) => return Err(odd("spec.block", other)),
    };
    let Some(number) = blocks.get_mut(block) else { return Ok(Edit::Keep) };
    match number.as_u64().ok_or_else(|| odd("spec.block", number))? {
        0 | 1 => {
            blocks.remove(block);
        }
        more => *number = json!(more - 1),
    }
    Ok(if blocks.is_empty() { Edit::Delete } else { Edit::Write(edited) })
}

fn list<'s>(
    spec: &'s mut Map<String, Value>,
    key: &str,
    field: &'static str,
) -> Result<&'s mut Vec<Value>, ReleaseError> {
    match spec.get_mut(key) {
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(odd(field, other)),
        None => Err(odd(field, &Value::Null)),
    }
}

fn odd(field: &'static str, found: &Value) -> ReleaseError {
    let mut found = found.to_string();
    if let Some((end, _)) = found.char_indices().nth(80) {
        found.truncate(end);
        found.push('…');
    }
    ReleaseError::Odd { field, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Value {
        json!({
            "apiVersion": "crd.projectcalico.org/v1", "kind": "IPAMBlock",
            "metadata": {"name": "10-42-0-64-29", "resourceVersion": "812", "uid": "u-1"},
            "spec": {
                "cidr": "10.42.0.64/29", "affinity": "host:node-a",
                "allocations": [0, null, 1, 1, null, null, null, 2],
                "unallocated": [1, 4, 5, 6],
                "attributes": [
                    {"handle_id": "vxlan-tunnel-addr-node-a", "secondary": {"node": "node-a"}},
                    {"handle_id": "k8s-pod-network.1f", "secondary": {"pod": "client", "unknown": "kept"}},
                    {"handle_id": "k8s-pod-network.2e", "secondary": {"pod": "web-0"}},
                ],
                "sequenceNumber": 1_770_091_506_000_000_007_u64,
                "sequenceNumberForAllocation": {"0": 1, "2": 4, "3": 5, "7": 6},
                "deleted": false, "newer": {"field": [1]},
            },
        })
    }

    fn written(released: &Released) -> &Value {
        match &released.block {
            Edit::Write(block) => block,
            other => panic!("{other:?}"),
        }
    }

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    /// Two addresses have attribute 1: it stays for the other one.
    #[test]
    fn a_shared_attribute_stays() {
        let released = from_block(&block(), at("10.42.0.66")).unwrap();
        let mut expected = block();
        expected["spec"]["allocations"] = json!([0, null, null, 1, null, null, null, 2]);
        expected["spec"]["unallocated"] = json!([1, 4, 5, 6, 2]);
        expected["spec"]["sequenceNumber"] = json!(1_770_091_506_000_000_008_u64);
        expected["spec"]["sequenceNumberForAllocation"] = json!({"0": 1, "3": 5, "7": 6});
        assert_eq!(written(&released), &expected);
        assert_eq!(released.attribute["handle_id"], "k8s-pod-network.1f");
    }

    /// Attribute 0 goes; 1 and 2 become 0 and 1.
    #[test]
    fn an_unused_attribute_goes_and_indices_move() {
        let released = from_block(&block(), at("10.42.0.64")).unwrap();
        let mut expected = block();
        expected["spec"]["allocations"] = json!([null, null, 0, 0, null, null, null, 1]);
        expected["spec"]["unallocated"] = json!([1, 4, 5, 6, 0]);
        expected["spec"]["attributes"].as_array_mut().unwrap().remove(0);
        expected["spec"]["sequenceNumber"] = json!(1_770_091_506_000_000_008_u64);
        expected["spec"]["sequenceNumberForAllocation"] = json!({"2": 4, "3": 5, "7": 6});
        assert_eq!(written(&released), &expected);
    }

    #[test]
    fn the_last_attribute_moves_nothing() {
        let released = from_block(&block(), at("10.42.0.71")).unwrap();
        assert_eq!(written(&released)["spec"]["allocations"], json!([0, null, 1, 1, null, null, null, null]));
        assert_eq!(written(&released)["spec"]["attributes"].as_array().unwrap().len(), 2);
    }

    /// Whatever is released in whatever order: lengths stay in step and every index finds the same owner.
    #[test]
    fn releasing_all_in_turn_keeps_the_block_whole() {
        for order in [["64", "66", "67", "71"], ["71", "67", "66", "64"], ["66", "71", "64", "67"]] {
            let mut now = block();
            for (done, last) in order.iter().enumerate() {
                let before = now.clone();
                let released = from_block(&now, at(&format!("10.42.0.{last}"))).unwrap();
                now = written(&released).clone();
                let spec = &now["spec"];
                let taken = spec["allocations"].as_array().unwrap().iter().filter(|one| !one.is_null());
                assert_eq!(taken.count() + spec["unallocated"].as_array().unwrap().len(), 8);
                assert_eq!(spec["unallocated"].as_array().unwrap().len(), 5 + done);
                for place in 0..8 {
                    let owner = |block: &Value| {
                        let index = usize::try_from(block["spec"]["allocations"][place].as_u64()?).unwrap();
                        Some(block["spec"]["attributes"][index].clone())
                    };
                    assert!(owner(&now).is_none_or(|one| Some(one) == owner(&before)), "{place}");
                }
            }
            assert_eq!(now["spec"]["attributes"], json!([]));
            assert_eq!(now["spec"]["sequenceNumberForAllocation"], json!({}));
        }
    }

    #[test]
    fn an_empty_block_of_nobody_is_deleted() {
        let mut orphan = block();
        orphan["spec"]["affinity"] = Value::Null;
        orphan["spec"]["allocations"] = json!([null, null, 0, null, null, null, null, null]);
        orphan["spec"]["unallocated"] = json!([0, 1, 3, 4, 5, 6, 7]);
        orphan["spec"]["attributes"] = json!([{"handle_id": "h"}]);
        assert_eq!(from_block(&orphan, at("10.42.0.66")).unwrap().block, Edit::Delete);
    }

    #[test]
    fn ipv6_and_a_block_without_sequence_numbers() {
        let block = json!({"spec": {"cidr": "fd00:10:244::40/122", "affinity": "host:a",
            "allocations": [null, 0], "unallocated": [0], "attributes": [{"handle_id": "h"}]}});
        let released = from_block(&block, at("fd00:10:244::41")).unwrap();
        assert_eq!(
            written(&released)["spec"],
            json!({"cidr": "fd00:10:244::40/122", "affinity": "host:a", "allocations": [null, null],
                "unallocated": [0, 1], "attributes": []})
        );
    }

    #[test]
    fn what_is_not_understood_is_not_changed() {
        assert_eq!(from_block(&block(), at("10.42.0.65")), Err(ReleaseError::NotAssigned(at("10.42.0.65"))));
        assert!(matches!(from_block(&block(), at("10.42.0.72")), Err(ReleaseError::Elsewhere { .. })));
        assert!(matches!(from_block(&block(), at("fd00::1")), Err(ReleaseError::Elsewhere { .. })));
        for (field, nonsense) in [
            ("cidr", json!(5)),
            ("allocations", json!("x")),
            ("allocations", json!([0, null, "x", 1])),
            ("allocations", json!([0, null, 9, 1])),
            ("allocations", json!([0])),
            ("attributes", Value::Null),
            ("unallocated", json!({})),
            ("unallocated", json!([2])),
            ("sequenceNumber", json!("7")),
            ("sequenceNumberForAllocation", json!([1])),
        ] {
            let mut odd = block();
            odd["spec"][field] = nonsense.clone();
            let done = from_block(&odd, at("10.42.0.66"));
            assert!(matches!(done, Err(ReleaseError::Odd { .. })), "{field} {nonsense}: {done:?}");
        }
        assert!(matches!(from_block(&json!([]), at("10.42.0.66")), Err(ReleaseError::Odd { .. })));
    }

    #[test]
    fn a_handle_counts_down_and_goes() {
        let handle = |blocks: Value| json!({"metadata": {"resourceVersion": "3"}, "spec": {"handleID": "h", "block": blocks}});
        let edit = |blocks: Value| from_handle(&handle(blocks), "10.0.0.0/26").unwrap();
        assert_eq!(edit(json!({"10.0.0.0/26": 2})), Edit::Write(handle(json!({"10.0.0.0/26": 1}))));
        assert_eq!(
            edit(json!({"10.0.0.0/26": 1, "fd00::/122": 1})),
            Edit::Write(handle(json!({"fd00::/122": 1})))
        );
        assert_eq!(edit(json!({"10.0.0.0/26": 1})), Edit::Delete);
        assert_eq!(edit(json!({"fd00::/122": 1})), Edit::Keep);
        assert_eq!(edit(Value::Null), Edit::Keep);
        assert!(from_handle(&handle(json!([1])), "10.0.0.0/26").is_err());
        assert!(from_handle(&handle(json!({"10.0.0.0/26": "1"})), "10.0.0.0/26").is_err());
    }
}
