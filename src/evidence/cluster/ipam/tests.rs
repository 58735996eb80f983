use serde_json::json;

use super::*;
use crate::evidence::cluster::Cluster;

fn parse(items: &[Value]) -> (Cluster, Vec<String>) {
    Cluster::parse(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).unwrap()
}

fn object(version: &str, kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x", "resourceVersion": "7", "uid": "u"}, "spec": spec})
}

const CRD: &str = "crd.projectcalico.org/v1";
const V3: &str = "projectcalico.org/v3";

fn all(version: &str, config: &str, deleted: &Value) -> Vec<Value> {
    vec![
        object(
            version,
            "IPPool",
            &json!({"cidr": "10.42.0.0/16", "disabled": true, "nodeSelector": "zone == 'a'"}),
        ),
        object(
            version,
            "IPAMBlock",
            &json!({"cidr": "10.42.0.64/30", "affinity": "host:node-a", "allocations": [0, null, 1, null], "unallocated": [1, 3],
                "attributes": [{"handle_id": "h", "secondary": {"node": "node-a", "type": "vxlanTunnelAddress"}},
                    {"handle_id": "p", "secondary": {"namespace": "shop", "pod": "web", "node": "node-b", "timestamp": "t"}, "releasedAt": "r"}],
                "deleted": false, "strictAffinity": false}),
        ),
        object(
            version,
            "BlockAffinity",
            &json!({"cidr": "10.42.0.64/30", "node": "node-a", "state": "confirmed", "deleted": deleted}),
        ),
        object(
            version,
            "IPAMHandle",
            &json!({"handleID": "p", "block": {"10.42.0.64/30": 1}, "deleted": false}),
        ),
        object(
            version,
            config,
            &json!({"strictAffinity": true, "autoAllocateBlocks": false, "maxBlocksPerHost": 4}),
        ),
        object(version, "IPReservation", &json!({"reservedCIDRs": ["10.42.0.0/30", "10.42.9.9"]})),
    ]
}

/// Both groups say the same, but for a kind's name and the type of `deleted`; both at once are no more than one.
#[test]
fn both_groups_are_read() {
    let old = all(CRD, "IPAMConfig", &json!("true"));
    let new = all(V3, "IPAMConfiguration", &json!(true));
    let (cluster, warnings) = parse(&old);
    assert_eq!(warnings, Vec::<String>::new());
    let ipam = &cluster.ipam;
    let block = &ipam.blocks[0];
    assert_eq!(block.node(), Some("node-a"));
    assert_eq!(block.version, Version { resource_version: Some("7".to_owned()), uid: Some("u".to_owned()) });
    assert_eq!(block.owner(1), None);
    assert_eq!(block.owner(9), None);
    let owner = block.owner(2).unwrap().unwrap();
    assert_eq!((owner.pod.as_deref(), owner.released.as_deref()), (Some("web"), Some("r")));
    assert!(ipam.affinities[0].deleted);
    assert_eq!(ipam.handles[0].blocks, [("10.42.0.64/30".parse().unwrap(), 1)]);
    assert_eq!(
        ipam.config,
        Some(IpamConfig { strict_affinity: true, auto_allocate_blocks: false, max_blocks_per_host: 4 })
    );
    assert_eq!(ipam.reservations[0].cidrs.len(), 2);
    let pool = &cluster.pools[0];
    assert_eq!((pool.block_len(), pool.serves_pods(), pool.selects_all_nodes()), (26, false, false));
    assert_eq!(parse(&new).0.ipam, cluster.ipam);
    let (both, _) = parse(&[old, new].concat());
    assert_eq!((&both.ipam, &both.pools), (&cluster.ipam, &cluster.pools));
}

#[test]
fn yaml_and_json_say_the_same() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": all(CRD, "IPAMConfig", &json!("false"))});
    let yaml = Cluster::parse(&serde_yaml_ng::to_string(&list).unwrap()).unwrap();
    assert_eq!(yaml, Cluster::parse(&list.to_string()).unwrap());
    let bare = object(CRD, "IPAMHandle", &json!({"handleID": "p", "block": {}}));
    let (cluster, _) = Cluster::parse(&format!(" {bare}\n{list}\n{bare}")).unwrap();
    assert_eq!((cluster.ipam.handles.len(), cluster.ipam.blocks.len()), (1, 1));
}

#[test]
fn a_case_from_before_addresses_were_read_is_read() {
    let old = r#"{"kinds": ["IPPool"], "nodes": [], "pods": [], "services": [], "slices": [], "policies": [],
        "pools": [{"name": "p", "cidr": "10.0.0.0/16", "vxlan": "Always", "ipip": "Never"}], "felix": {}}"#;
    assert_eq!(Cluster::from_json(old).unwrap().pools[0].block_len(), 26);
    let (cluster, _) = parse(&all(CRD, "IPAMConfig", &json!("false")));
    assert_eq!(Cluster::from_json(&cluster.to_json()).unwrap(), cluster);
}

/// A field that can be done without costs itself; one that cannot costs its object; both are said.
#[test]
fn wrong_types_are_said() {
    let broken = [
        object(
            CRD,
            "IPPool",
            &json!({"cidr": "10.0.0.0/16", "blockSize": "26", "disabled": 1, "nodeSelector": []}),
        ),
        object(CRD, "IPPool", &json!({"cidr": "nonsense"})),
        object(
            CRD,
            "IPAMBlock",
            &json!({"cidr": "10.0.0.0/30", "affinity": 5, "allocations": [7, null], "attributes": [{"handle_id": {}, "secondary": {"pod": 1}}]}),
        ),
        object(CRD, "IPAMBlock", &json!({"cidr": "10.0.0.4/30", "allocations": ["x"]})),
        object(
            CRD,
            "IPAMBlock",
            &json!({"cidr": "10.0.0.8/30", "allocations": [null, null, null, null, null]}),
        ),
        object(CRD, "IPAMBlock", &json!({"cidr": "fd00::/8", "allocations": []})),
        object(CRD, "IPAMHandle", &json!({"handleID": 4, "block": {}})),
        object(CRD, "IPAMHandle", &json!({"handleID": "h", "block": {"10.0.0.0/30": "1"}})),
        object(CRD, "IPAMConfig", &json!({"maxBlocksPerHost": -1})),
        json!({"apiVersion": CRD, "kind": "BlockAffinity", "metadata": {"name": "b"}}),
        json!({"apiVersion": CRD, "kind": ["IPPool"]}),
        json!("IPPool"),
        object(CRD, "IPReservation", &json!({"reservedCIDRs": ["10.0.0.0/40"]})),
    ];
    let (cluster, warnings) = parse(&broken);
    assert_eq!(
        warnings,
        [
            "IPPool ?/x: spec.blockSize has the wrong type and counts as absent",
            "IPPool ?/x: spec.disabled has the wrong type and counts as absent",
            "IPPool ?/x: spec.nodeSelector has the wrong type and counts as absent",
            "IPPool ?/x was left out: nonsense is not a prefix or an IP address",
            "IPAMBlock ?/x: 10.0.0.0/30 lists 2 allocations only",
            "IPAMBlock ?/x: 2 fields of its attributes have the wrong type and count as absent",
            "IPAMBlock ?/x: 1 of its allocations name an attribute that is not there",
            "IPAMBlock ?/x: spec.affinity has the wrong type and counts as absent",
            "IPAMBlock ?/x was left out: invalid type: string \"x\", expected u32",
            "IPAMBlock ?/x was left out: 5 allocations do not fit into 10.0.0.8/30",
            "IPAMBlock ?/x was left out: 0 allocations do not fit into fd00::/8",
            "IPAMHandle ?/x: spec.handleID has the wrong type and counts as absent",
            "IPAMHandle ?/x was left out: invalid type: string \"1\", expected u64",
            "IPAMConfig ?/x: spec.maxBlocksPerHost has the wrong type and counts as absent",
            "BlockAffinity ?/b was left out: it has no spec",
            "an object without a kind was left out",
            "an object without a kind was left out",
            "IPReservation ?/x was left out: 10.0.0.0/40 is not a prefix or an IP address",
        ]
    );
    let left_out: Vec<(&str, u32)> = cluster.left_out.iter().map(|(kind, count)| (&**kind, *count)).collect();
    assert_eq!(
        left_out,
        [("BlockAffinity", 1), ("IPAMBlock", 3), ("IPAMHandle", 1), ("IPPool", 1), ("IPReservation", 1)]
    );
}
