use super::journey::{Nodes, Request, Side, Verdict, travel};
use super::*;
use crate::evidence::Text;

fn data(name: &str) -> String {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("test data")
}

fn texts(of: &[(&str, When, String)]) -> Texts {
    let text = |(name, when, content): &(&str, When, String)| Text {
        node: "node-b".to_owned(),
        name: (*name).to_owned(),
        when: *when,
        content: Known::Read(content.clone()),
    };
    Texts(of.iter().map(text).collect())
}

#[test]
fn every_rule_is_in_a_group_or_listed() {
    for (name, file) in [
        ("iptables-nft-save", "netfilter/calico-3.30-nft.txt"),
        ("iptables-legacy-save", "netfilter/calico-3.22-legacy.txt"),
        ("iptables-nft-save", "netfilter/odd-v4-nft.txt"),
        ("ip6tables-nft-save", "netfilter/odd-v6-nft.txt"),
        ("nft", "nft/calico-new.json"),
        ("nft", "nft/calico-old.json"),
        ("nft", "nft/odd.json"),
    ] {
        let whole = data(file);
        let rules =
            if name == "nft" { whole.matches("{\"rule\":").count() } else { whole.matches(" -A ").count() };
        let nodes = overview(&texts(&[(name, When::Before, whole)]), None, None);
        let text = &nodes[0].texts[0];
        let grouped: usize = text.tables.iter().flat_map(|table| &table.groups).map(Group::n_rules).sum();
        assert_eq!((grouped, text.n_rules, text.not_understood.len()), (rules, rules, 0), "{file}");
    }
    let broken = "*filter\n:FORWARD ACCEPT [0:0]\n[1:2] -A FORWARD -j DROP\nwhat is this\n[x] -A FORWARD -j DROP\nCOMMIT\n";
    let nodes = overview(&texts(&[("iptables-save", When::Before, broken.to_owned())]), None, None);
    let text = &nodes[0].texts[0];
    assert_eq!(text.n_rules, 1);
    let odd: Vec<_> = text.not_understood.iter().map(|(line, _, whole)| (*line, whole.as_str())).collect();
    assert_eq!(odd, [(4, "what is this"), (5, "[x] -A FORWARD -j DROP")]);
}

#[test]
fn chains_are_named_after_pods_and_policies() {
    let yaml = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-0, namespace: shop}\nspec: {nodeName: node-b}\n\
                ---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: deny-all, namespace: shop}\nspec: {podSelector: {}}\n";
    let (cluster, _) = Cluster::parse(yaml).unwrap();
    let ruleset = data("netfilter/calico-3.30-nft.txt");
    let nodes = overview(&texts(&[("iptables-nft-save", When::Before, ruleset)]), Some(&cluster), None);
    let filter = nodes[0].texts[0].tables.iter().find(|table| table.name == "filter").unwrap();
    let headings: Vec<&str> = filter.groups.iter().map(|group| group.what.as_str()).collect();
    assert!(headings.contains(&"Calico, pod shop/web-0"), "{headings:?}");
    assert!(headings.contains(&"Calico, KubernetesNetworkPolicy shop/deny-all"), "{headings:?}");
}

#[test]
fn counters_that_move_between_two_readings() {
    let text = |n: u64| {
        format!(
            "*filter\n:FORWARD ACCEPT [0:0]\n[{n}:0] -A FORWARD -j DROP\n[7:0] -A FORWARD -j LOG\nCOMMIT\n"
        )
    };
    let both = texts(&[("iptables-save", When::Before, text(5)), ("iptables-save", When::After, text(9))]);
    let nodes = overview(&both, None, None);
    let rules = &nodes[0].texts[0].tables[0].groups[0].chains[0].rules;
    assert_eq!((rules[0].packets, rules[0].moved, rules[1].moved), (Some(9), Some(4), Some(0)));
}

#[test]
fn a_packet_to_a_denied_port_ends_at_the_policy() {
    let state = r#"{"addresses":[{"link":"eth0","address":"192.0.2.12/24"}],"routes":[]}"#;
    let sets = [
        "cali40s:oy593DLyi5BRwxLRqXScOfE",
        "cali40s:n5MAdiB8NISc09JOdYHtATr",
        "cali40all-vxlan-net",
        "cali40masq-ipam-pools",
        "cali40all-ipam-pools",
    ]
    .iter()
    .map(|name| format!("create {name} hash:net family inet\nadd {name} 0.0.0.0/1\n"))
    .collect::<Vec<_>>()
    .concat();
    let all = |nft: &str| {
        texts(&[
            ("iptables-nft-save", When::Before, data("netfilter/calico-3.30-nft.txt")),
            ("ipset", When::Before, sets.clone()),
            ("state", When::Before, state.to_owned()),
            ("nft", When::Before, nft.to_owned()),
        ])
    };
    let side = |name: &str, address: &str, node: Option<&str>, veth: Option<&str>| Side {
        name: name.to_owned(),
        node: node.map(str::to_owned),
        address: address.parse().ok(),
        veth: veth.map(str::to_owned),
        tunnel: Some("vxlan.calico".to_owned()),
        nic: Some("eth0".to_owned()),
        underlay: "192.0.2.12".parse().ok(),
        by_tunnel: false,
    };
    let ask = |port, nft: &str| {
        let request = Request {
            from: side("shop/client", "10.42.0.66", None, None),
            to: side("shop/web-0", "10.42.1.5", Some("node-b"), Some("calia4fc3c48bd8")),
            dst: "10.42.1.5".parse().ok(),
            encapsulated: false,
            vxlan_port: 4789,
            protocol: 6,
            port,
            packet: None,
        };
        travel(request, &Nodes::read(&all(nft)), None)
    };
    let denied = ask(Some(81), "");
    assert_eq!(denied.verdict, Verdict::Ends, "{:?}", denied.legs);
    let leg = &denied.legs[0];
    let step = &leg.steps[leg.ends[0].step.unwrap()];
    assert!(step.ends && step.chain == "cali-tw-calia4fc3c48bd8", "{step:?}");
    assert_eq!(step.of.as_deref(), Some("to the pod behind calia4fc3c48bd8"));
    assert_eq!(ask(Some(80), "").verdict, Verdict::Passes);
    assert_eq!(ask(None, "").verdict, Verdict::Unknown);
    // A reading that failed takes all certainty.
    let missing = texts(&[("iptables-nft-save", When::Before, data("netfilter/calico-3.30-nft.txt"))]);
    assert_eq!(travel(denied.request, &Nodes::read(&missing), None).verdict, Verdict::Unknown);
}

#[test]
fn a_pod_and_its_own_node_share_no_interface() {
    use crate::evidence::plan::{Plan, PlanOptions};
    let yaml = "apiVersion: v1\nkind: Node\nmetadata: {name: node-b}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.12}]}\n\
                ---\napiVersion: v1\nkind: Pod\nmetadata: {name: web-0, namespace: shop}\nspec: {nodeName: node-b}\n\
                status: {phase: Running, podIPs: [{ip: 10.42.1.5}]}\n";
    let (cluster, _) = Cluster::parse(yaml).unwrap();
    let ends = |from, to| {
        let plan = Plan::make(&cluster, from, to, &PlanOptions::default()).unwrap();
        let request = Request::of_plan(&plan, &Nodes::default());
        (request.from.veth, request.to.veth)
    };
    let veth = || Some("calia4fc3c48bd8".to_owned());
    assert_eq!(ends("shop/web-0", "node/node-b"), (veth(), None));
    assert_eq!(ends("node/node-b", "10.42.1.5"), (None, veth()));
}

/// A saved case knows all addresses of a node, its own first; the tunnel's is on the NIC.
#[test]
fn the_address_of_the_captured_nic_is_the_underlays() {
    use crate::evidence::host::{Address, Host, Link, STATE};
    use crate::evidence::plan::{Plan, PlanOptions};
    let node = |name: &str, number: u8| {
        format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, annotations: {{projectcalico.org/IPv4Address: \
             192.0.2.{number}/24}}}}\nstatus: {{addresses: [{{type: InternalIP, address: 10.0.0.{number}}}]}}\n"
        )
    };
    let (cluster, _) = Cluster::parse(&(node("node-a", 11) + &node("node-b", 12))).unwrap();
    let plan = Plan::make(&cluster, "node/node-b", "node/node-a", &PlanOptions::default()).unwrap();
    let link = |name: &str| Link { name: name.to_owned(), ..Link::default() };
    let holds =
        |link: &str, address: &str| Address { link: link.to_owned(), address: address.parse().unwrap() };
    let host = Host {
        links: vec![link("eth0"), link("eth1")],
        addresses: vec![holds("eth0", "10.0.0.12/24"), holds("eth1", "192.0.2.12/24")],
        ..Host::default()
    };
    let texts = texts(&[(STATE, When::Before, serde_json::to_string(&host).unwrap())]);
    let resolved = plan.resolve(&texts);
    assert_eq!(resolved[0], Known::Read("eth1".to_owned()));
    let case = plan.into_case(&resolved);
    let request = Request::of_case(&case, &Nodes::read(&texts));
    assert_eq!(request.from.underlay, "192.0.2.12".parse().ok());
    assert_eq!(request.to.underlay, "10.0.0.11".parse().ok(), "of a node that was not read, its first");
}
