//! Calico's address management through the API: the block and the handle of an address, and the pods that may use it.
//! What is written carries the version that was read, so that the server refuses a write on top of somebody else's.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::lists::GROUPS;
use super::{Api, ApiError, segment};

/// An object as read, and where it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    /// The path.
    pub(crate) path: String,
    /// The object.
    pub(crate) object: Value,
}

/// The block that an address lies in, and the group through which it was read.
///
/// A block is named after its prefix, so that no list of blocks is needed: at most 13 lengths are legal, and the
/// pool around it says which is likely.
pub(crate) async fn block(api: &Api, address: IpAddr) -> Result<Option<(Stored, &'static str)>, ApiError> {
    for group in GROUPS {
        let pools = match api.list(&format!("/apis/{group}/ippools")).await {
            // This group is not served.
            Ok(None) => continue,
            Ok(Some(pools)) => pools,
            // The blocks can be read without them.
            Err(error) if error.is_denied() => Vec::new(),
            Err(error) => return Err(error),
        };
        for length in block_lengths(address, &pools) {
            let Ok(net) = IpNet::new(address, length) else { continue };
            let name = net.trunc().to_string().replace(['.', ':', '/'], "-");
            if let Some(found) = stored(api, format!("/apis/{group}/ipamblocks/{name}")).await? {
                return Ok(Some((found, group)));
            }
        }
    }
    Ok(None)
}

/// A handle.
pub(crate) async fn handle(api: &Api, group: &str, id: &str) -> Result<Option<Stored>, ApiError> {
    stored(api, format!("/apis/{group}/ipamhandles/{}", segment(&id.to_lowercase()))).await
}

/// Deletes the very object that was read.
pub(crate) async fn delete(api: &Api, stored: &Stored) -> Result<(), ApiError> {
    let of = |key: &str| stored.object.pointer(&format!("/metadata/{key}")).cloned();
    let options = json!({
        "kind": "DeleteOptions", "apiVersion": "v1",
        "preconditions": {"uid": of("uid"), "resourceVersion": of("resourceVersion")},
    });
    api.delete(&stored.path, &options).await
}

async fn stored(api: &Api, path: String) -> Result<Option<Stored>, ApiError> {
    Ok(api.get(&path).await?.map(|object| Stored { path, object }))
}

/// The legal lengths of a block's prefix, the likeliest first.
fn block_lengths(address: IpAddr, pools: &[Value]) -> Vec<u8> {
    let (usual, legal) = if address.is_ipv4() { (26, 20..=32) } else { (122, 116..=128) };
    let around = pools.iter().filter_map(|pool| {
        let spec = pool.get("spec")?;
        let cidr: IpNet = spec.get("cidr")?.as_str()?.parse().ok()?;
        let length = spec.get("blockSize")?.as_u64().and_then(|length| u8::try_from(length).ok())?;
        (cidr.contains(&address) && legal.contains(&length)).then_some(length)
    });
    let mut all: Vec<u8> = Vec::new();
    for length in around.chain([usual]).chain(legal.clone()) {
        if !all.contains(&length) {
            all.push(length);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pools_block_size_is_tried_first() {
        let pools = [
            json!({"spec": {"cidr": "10.0.0.0/16", "blockSize": 29}}),
            json!({"spec": {"cidr": "10.1.0.0/16", "blockSize": 20}}),
            json!({"spec": 5}),
            json!({"spec": {"cidr": "10.0.0.0/8", "blockSize": 300}}),
        ];
        let of = |address: &str, pools: &[Value]| block_lengths(address.parse().unwrap(), pools);
        assert_eq!(of("10.0.0.1", &pools), [29, 26, 20, 21, 22, 23, 24, 25, 27, 28, 30, 31, 32]);
        assert_eq!(of("fd00::1", &pools)[..2], [122, 116]);
        assert_eq!(of("10.0.0.1", &[]).len(), 13);
    }
}
