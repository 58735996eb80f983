use serde_json::{Value, json};

use super::*;

fn cluster(items: &[Value]) -> Cluster {
    let (cluster, warnings) = Cluster::parse(&json!({"items": items}).to_string()).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    cluster
}

fn crd(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "crd.projectcalico.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn node(name: &str, tunnel: Option<&str>) -> Value {
    let annotations = json!({"projectcalico.org/IPv4VXLANTunnelAddr": tunnel.unwrap_or_default()});
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": annotations}})
}

fn pod(namespace: &str, name: &str, node: &str, address: &str) -> Value {
    let addresses: Vec<Value> =
        address.split(',').filter(|one| !one.is_empty()).map(|one| json!({"ip": one})).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node}, "status": {"phase": "Running", "podIPs": addresses}})
}

/// A block of four addresses: `pod@node` or a tunnel address `@node` by ordinal.
fn block(cidr: &str, owner: &str, owners: [&str; 4]) -> Value {
    let mut attributes = Vec::new();
    let allocations: Vec<Value> = owners
        .iter()
        .map(|owner| match owner.split_once('@') {
            None => Value::Null,
            Some((pod, node)) => {
                attributes.push(match pod.split_once('/') {
                    Some((namespace, pod)) => json!({"handle_id": owner, "secondary": {"namespace": namespace, "pod": pod, "node": node}}),
                    None => json!({"handle_id": owner, "secondary": {"type": "vxlanTunnelAddress", "node": node}}),
                });
                json!(attributes.len() - 1)
            }
        })
        .collect();
    let affinity = if owner.is_empty() { Value::Null } else { json!(format!("host:{owner}")) };
    crd(
        "IPAMBlock",
        cidr,
        &json!({"cidr": cidr, "affinity": affinity, "allocations": allocations, "attributes": attributes}),
    )
}

fn pool(cidr: &str, size: u8) -> Value {
    crd("IPPool", cidr, &json!({"cidr": cidr, "blockSize": size}))
}

/// Kind, node, whether it breaks.
fn found(items: &[Value]) -> Vec<(&'static str, String, bool)> {
    check(&cluster(items)).findings.into_iter().map(|one| (one.kind, one.node, one.breaks)).collect()
}

fn sound() -> Vec<Value> {
    vec![
        node("a", Some("10.0.0.0")),
        node("b", Some("10.0.0.4")),
        pool("10.0.0.0/28", 30),
        block("10.0.0.0/30", "a", ["@a", "s/one@a", "", "s/lent@b"]),
        block("10.0.0.4/30", "b", ["@b", "", "s/two@b", ""]),
        pod("s", "one", "a", "10.0.0.1"),
        pod("s", "lent", "b", "10.0.0.3"),
        pod("s", "two", "b", "10.0.0.6"),
        pod("t", "starting", "b", ""),
    ]
}

fn with(more: &[Value]) -> Vec<Value> {
    let mut all = sound();
    all.extend_from_slice(more);
    all
}

#[test]
fn a_sound_cluster_has_no_finding() {
    let checked = check(&cluster(&sound()));
    assert_eq!(checked.findings, []);
    assert_eq!(
        checked.notes,
        ["1 address borrowed, each with a route of its own: 10.0.0.3 (block of a, used on b)"]
    );
}

#[test]
fn a_pod_that_is_gone_leaks_until_another_uses_its_address() {
    let gone = block("10.0.0.8/30", "a", ["s/gone@a", "", "", ""]);
    assert_eq!(found(&with(std::slice::from_ref(&gone))), [("ipam_leak", "a".to_owned(), false)]);
    let heir = pod("s", "heir", "a", "10.0.0.8");
    assert_eq!(found(&with(&[gone, heir])), [("duplicate_address", "a".to_owned(), false)]);
}

#[test]
fn a_pod_without_a_status_yet_or_of_one_family_leaks_nothing() {
    let starting = block("10.0.0.8/30", "b", ["t/starting@b", "", "", ""]);
    assert_eq!(found(&with(&[starting])), []);
    let six = [pool("fd00::/64", 126), block("fd00::/126", "a", ["", "s/one@a", "", ""])];
    assert_eq!(found(&with(&six)), []);
}

#[test]
fn pods_of_one_namespace_say_nothing_about_others() {
    let mut items = with(&[block("10.0.0.8/30", "a", ["s/gone@a", "u/far@a", "", ""])]);
    items.retain(|item| item["metadata"]["name"] != "starting");
    let checked = check(&cluster(&items));
    assert_eq!(checked.findings, []);
    assert!(checked.not_asked.iter().any(|why| why.contains("namespace s alone")), "{checked:?}");
}

#[test]
fn a_node_that_is_gone_leaves_addresses_and_blocks() {
    let dead = block("10.0.0.8/30", "x", ["@x", "", "", ""]);
    let expected = [("ipam_leak", "x".to_owned(), false), ("ipam_leak", "x".to_owned(), false)];
    assert_eq!(found(&with(&[dead])), expected);
    let claim = crd(
        "BlockAffinity",
        "x-10-0-0-12-30",
        &json!({"cidr": "10.0.0.12/30", "node": "x", "state": "pending", "deleted": "false"}),
    );
    assert_eq!(found(&with(&[claim])), [("ipam_leak", "x".to_owned(), false)]);
}

#[test]
fn two_pods_with_one_address() {
    let twin = pod("s", "twin", "b", "10.0.0.1");
    assert_eq!(found(&with(std::slice::from_ref(&twin))), [("duplicate_address", "a".to_owned(), true)]);
    let mut leaving = twin;
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(found(&with(&[leaving])), []);
}

#[test]
fn a_pod_with_a_tunnel_address() {
    let items = with(&[pod("s", "thief", "b", "10.0.0.0")]);
    let all = found(&items);
    assert!(all.contains(&("duplicate_address", "a".to_owned(), true)), "{all:?}");
    assert_eq!(
        found(&with(&[node("c", Some("10.0.0.4"))]))
            .iter()
            .filter(|one| one.0 == "duplicate_address" && one.2)
            .count(),
        1
    );
}

#[test]
fn an_address_whose_routes_lead_elsewhere() {
    // Free in a's block, used on b.
    let all = found(&with(&[pod("s", "lost", "b", "10.0.0.2")]));
    assert!(all.contains(&("address_outside_block", "b".to_owned(), true)), "{all:?}");
    // In a pool, in no block.
    assert_eq!(
        found(&with(&[pod("s", "lost", "b", "10.0.0.13")])),
        [("address_outside_block", "b".to_owned(), true)]
    );
    // In a block of no pool.
    let odd = [block("10.9.0.0/30", "b", ["s/odd@b", "", "", ""]), pod("s", "odd", "b", "10.9.0.0")];
    assert_eq!(found(&with(&odd)), [("address_outside_block", "b".to_owned(), true)]);
    // Allocated on a, runs on b.
    let wandered = [block("10.0.0.8/30", "a", ["s/w@a", "", "", ""]), pod("s", "w", "b", "10.0.0.8")];
    assert_eq!(found(&with(&wandered)), [("address_outside_block", "b".to_owned(), true)]);
}

#[test]
fn a_tunnel_address_that_is_not_the_nodes() {
    assert_eq!(
        found(&with(&[node("c", Some("10.0.0.13"))])),
        [("address_outside_block", "c".to_owned(), true)]
    );
    // Borrowed, and allocated: fine.
    assert_eq!(
        found(&with(&[node("c", Some("10.0.0.8")), block("10.0.0.8/30", "b", ["@c", "", "", ""])])),
        []
    );
    // Free in its own block: right until a pod gets it.
    let free = [node("c", Some("10.0.0.8")), block("10.0.0.8/30", "c", ["", "", "", ""])];
    assert_eq!(found(&with(&free)), [("address_outside_block", "c".to_owned(), false)]);
}

fn config(strict: bool, auto: bool, most: u32) -> Value {
    crd(
        "IPAMConfig",
        "default",
        &json!({"strictAffinity": strict, "autoAllocateBlocks": auto, "maxBlocksPerHost": most}),
    )
}

#[test]
fn a_pool_with_fewer_blocks_than_nodes() {
    let few = |strict| {
        vec![
            config(strict, true, 0),
            pool("10.0.0.0/29", 30),
            block("10.0.0.0/30", "a", ["", "", "", ""]),
            block("10.0.0.4/30", "b", ["", "", "", ""]),
            node("a", None),
            node("b", None),
            node("c", None),
        ]
    };
    // Too few blocks, and the node without one.
    assert_eq!(found(&few(true)), vec![("ipam_exhausted", String::new(), true); 2]);
    assert_eq!(found(&few(false)), vec![("ipam_exhausted", String::new(), false); 2]);
    let mut selected = few(true);
    selected[1]["spec"]["nodeSelector"] = json!("zone == 'x'");
    let checked = check(&cluster(&selected));
    assert_eq!(checked.findings, []);
    assert!(checked.not_asked.iter().any(|why| why.contains("nodeSelectors")), "{checked:?}");
}

#[test]
fn full_pools() {
    let full = |more: &[Value]| {
        let mut all = vec![
            pool("10.0.0.0/30", 30),
            block("10.0.0.0/30", "a", ["s/p@a", "s/q@a", "@a", ""]),
            crd("IPReservation", "r", &json!({"reservedCIDRs": ["10.0.0.3/32"]})),
        ];
        all.extend_from_slice(more);
        all
    };
    assert_eq!(found(&full(&[])), [("ipam_exhausted", String::new(), true)]);
    assert_eq!(found(&full(&[pool("10.1.0.0/24", 26)])), [("ipam_exhausted", String::new(), false)]);
    let mut off = sound();
    off[2]["spec"]["disabled"] = json!(true);
    assert_eq!(found(&off), [("ipam_exhausted", String::new(), true)]);
}

#[test]
fn a_node_at_its_limit() {
    let mut items = vec![config(true, true, 1), pool("10.0.0.0/28", 30), node("a", None)];
    items.push(block("10.0.0.0/30", "a", ["s/p@a", "s/q@a", "s/r@a", "s/t@a"]));
    assert_eq!(found(&items), [("ipam_exhausted", "a".to_owned(), true)]);
    items[0] = config(true, false, 0);
    assert_eq!(found(&items), [("ipam_exhausted", String::new(), true)]);
    items[0] = config(true, true, 2);
    assert_eq!(found(&items), []);
}

#[test]
fn blocks_that_overlap() {
    let outer = block("10.0.0.0/30", "a", ["@a", "s/one@a", "", "s/lent@b"]);
    let mut items = sound();
    items.push(block("10.0.0.2/31", "b", ["", "", "", ""]));
    items.last_mut().unwrap()["spec"]["allocations"] = json!([null, null]);
    assert!(found(&items).contains(&("duplicate_address", String::new(), false)));
    items.last_mut().unwrap()["spec"] = json!({"cidr": "10.0.0.2/31", "affinity": "host:b", "allocations": [null, 0],
        "attributes": [{"handle_id": "h", "secondary": {"namespace": "s", "pod": "lent", "node": "b"}}]});
    assert!(found(&items).contains(&("duplicate_address", String::new(), true)));
    assert_eq!(outer["kind"], "IPAMBlock");
}

#[test]
fn handles_that_hold_nothing() {
    let handle = |id: &str, count: u64| {
        crd(
            "IPAMHandle",
            &id.replace(['/', '@'], "-"),
            &json!({"handleID": id, "block": {"10.0.0.0/30": count}}),
        )
    };
    assert_eq!(found(&with(&[handle("s/one@a", 1)])), []);
    assert_eq!(found(&with(&[handle("s/never@a", 1)])), [("ipam_leak", String::new(), false)]);
    let checked = check(&cluster(&with(&[handle("s/one@a", 3)])));
    assert!(
        checked.findings.is_empty()
            && checked.notes.iter().any(|note| note.contains("s/one@a (3, in blocks 1)")),
        "{checked:?}"
    );
}

/// An object that could not be read may be the one that is missed.
#[test]
fn nothing_is_missed_that_could_not_be_read() {
    let mut items =
        with(&[block("10.0.0.8/30", "x", ["s/gone@a", "@x", "", ""]), pod("s", "far", "b", "10.0.0.13")]);
    items.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 5}}));
    items.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": []}}));
    items.push(crd("IPAMBlock", "b", &json!({"cidr": "10.0.0.12/30"})));
    let (cluster, warnings) = Cluster::parse(&json!({"items": items}).to_string()).unwrap();
    assert_eq!(warnings.len(), 3);
    let checked = check(&cluster);
    assert_eq!(checked.findings, []);
    assert!(
        checked.not_asked.iter().any(|why| why.ends_with("1 IPAMBlock could not be read")),
        "{checked:?}"
    );
}

#[test]
fn a_pair_hears_of_its_own_addresses_alone() {
    let items = with(&[pod("s", "twin", "b", "10.0.0.1"), pod("s", "lost", "b", "10.0.0.13")]);
    let about = |address: &str| concerning(&cluster(&items), &[address.parse().unwrap()]).len();
    assert_eq!([about("10.0.0.1"), about("10.0.0.13"), about("10.0.0.6")], [1, 1, 0]);
}

#[test]
fn who_uses_an_address_that_shall_be_released() {
    let attribute = |secondary: &Value| json!({"handle_id": "h", "secondary": secondary});
    let of_pod = attribute(&json!({"namespace": "s", "pod": "gone", "node": "a"}));
    let by = |address: &str, attribute: &Value, node: Option<&Value>, pods: &[Value]| {
        in_use::by(address.parse().unwrap(), attribute, node, pods)
    };
    assert_eq!(by("10.0.0.1", &of_pod, None, &[pod("s", "other", "a", "10.0.0.2")]), None);
    let used = by("fd00::1", &of_pod, None, &[pod("s", "other", "a", "10.0.0.2,fd00::1")]);
    assert_eq!(used.as_deref(), Some("pod s/other on a uses it"));
    let starting = by("10.0.0.1", &of_pod, None, &[pod("s", "gone", "a", "")]);
    assert!(starting.is_some_and(|why| why.contains("no address in its status yet")));
    let mut over = pod("s", "gone", "a", "10.0.0.1");
    over["status"]["phase"] = json!("Failed");
    assert_eq!(by("10.0.0.1", &of_pod, None, &[over]), None);
    let tunnel = attribute(&json!({"node": "a", "type": "vxlanTunnelAddress"}));
    assert!(by("10.0.0.0", &tunnel, Some(&node("a", Some("10.0.0.0"))), &[]).is_some());
    assert_eq!(by("10.0.0.0", &tunnel, Some(&node("a", Some("10.0.0.9"))), &[]), None);
    assert_eq!(by("10.0.0.0", &tunnel, None, &[]), None);
    for refused in [json!({"service": "s/lb"}), json!({"vmi-name": "vm"})] {
        assert!(by("10.0.0.0", &attribute(&refused), None, &[]).is_some(), "{refused}");
    }
    assert!(by("10.0.0.0", &json!({"handle_id": "Windows-Reserved-IPAM-Handle"}), None, &[]).is_some());
    let odd = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {"podIPs": 5}});
    assert!(by("10.0.0.1", &of_pod, None, &[odd]).is_some_and(|why| why.contains("could be read")));
}
