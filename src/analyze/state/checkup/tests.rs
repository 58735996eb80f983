use super::*;
use crate::evidence::calico::{veth_name, vtep_mac};
use crate::evidence::case::NodeFacts;
use crate::evidence::host::{
    Address, FdbEntry, Host, HostRoute, Link, MAIN, Neighbour, STATE, TcFilter, Vxlan,
};
use crate::evidence::{Text, When};

const CLUSTER: &str = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata: {name: a, annotations: {projectcalico.org/IPv4Address: 192.168.50.11/24, projectcalico.org/IPv4VXLANTunnelAddr: 10.244.1.0}}
- apiVersion: v1
  kind: Node
  metadata: {name: b, annotations: {projectcalico.org/IPv4Address: 192.168.50.12/24, projectcalico.org/IPv4VXLANTunnelAddr: 10.244.2.0}}
- apiVersion: v1
  kind: Pod
  metadata: {name: client, namespace: default}
  spec: {nodeName: a}
  status: {phase: Running, podIP: 10.244.1.2}
- apiVersion: v1
  kind: Pod
  metadata: {name: server, namespace: default}
  spec: {nodeName: b}
  status: {phase: Running, podIP: 10.244.2.2}
- apiVersion: crd.projectcalico.org/v1
  kind: IPPool
  metadata: {name: p}
  spec: {cidr: 10.244.0.0/16, vxlanMode: Always}
- apiVersion: crd.projectcalico.org/v1
  kind: FelixConfiguration
  metadata: {name: default}
  spec: {vxlanVNI: 4096, vxlanPort: 4789}
";

fn mac(node: &str) -> String {
    vtep_mac(node, false).map(|byte| format!("{byte:02x}")).join(":")
}

fn route(dst: &str, via: Option<&str>, dev: &str, kind: &str) -> HostRoute {
    HostRoute {
        dst: dst.parse().unwrap(),
        kind: kind.to_owned(),
        via: via.map(|via| via.parse().unwrap()),
        dev: (!dev.is_empty()).then(|| dev.to_owned()),
        table: MAIN,
        metric: 0,
        protocol: if kind == "blackhole" { 80 } else { 3 },
        onlink: false,
        dead: false,
        multipath: false,
    }
}

/// A healthy node: `own` is 1 or 2, its peer the other.
fn host(own: u8) -> Host {
    let (peer, peer_name) = if own == 1 { (2, "b") } else { (1, "a") };
    let (name, pod) = if own == 1 { ("a", "client") } else { ("b", "server") };
    let veth = veth_name("default", pod);
    let link = |name: &str, kind: Option<&str>, mtu| Link {
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        up: true,
        carrier: true,
        mtu,
        ..Link::default()
    };
    let vxlan = Vxlan {
        vni: 4096,
        port: 4789,
        local: Some(format!("192.168.50.1{own}").parse().unwrap()),
        learning: false,
    };
    let at =
        |link: &str, address: String| Address { link: link.to_owned(), address: address.parse().unwrap() };
    Host {
        links: vec![
            link("eth0", None, 1500),
            Link { mac: Some(mac(name)), vxlan: Some(vxlan), ..link("vxlan.calico", Some("vxlan"), 1450) },
            link(&veth, Some("veth"), 1450),
        ],
        addresses: vec![
            at("eth0", format!("192.168.50.1{own}/24")),
            at("vxlan.calico", format!("10.244.{own}.0/32")),
        ],
        routes: vec![
            route("0.0.0.0/0", Some("192.168.50.1"), "eth0", "unicast"),
            route("192.168.50.0/24", None, "eth0", "unicast"),
            route(&format!("10.244.{own}.0/26"), None, "", "blackhole"),
            route(&format!("10.244.{own}.2/32"), None, &veth, "unicast"),
            route(
                &format!("10.244.{peer}.0/26"),
                Some(&format!("10.244.{peer}.0")),
                "vxlan.calico",
                "unicast",
            ),
        ],
        neighbours: vec![Neighbour {
            link: "vxlan.calico".to_owned(),
            address: format!("10.244.{peer}.0").parse().unwrap(),
            mac: Some(mac(peer_name)),
            state: "permanent".to_owned(),
        }],
        fdb: vec![FdbEntry {
            link: "vxlan.calico".to_owned(),
            mac: mac(peer_name),
            dst: Some(format!("192.168.50.1{peer}").parse().unwrap()),
            state: "permanent".to_owned(),
        }],
        sysctls: [
            ("net.ipv4.ip_forward".to_owned(), "1".to_owned()),
            ("net.ipv4.conf.vxlan.calico.forwarding".to_owned(), "1".to_owned()),
            (format!("net.ipv4.conf.{veth}.forwarding"), "1".to_owned()),
            (format!("net.ipv4.conf.{veth}.proxy_arp"), "1".to_owned()),
            ("net.netfilter.nf_conntrack_count".to_owned(), "10".to_owned()),
            ("net.netfilter.nf_conntrack_max".to_owned(), "1000".to_owned()),
        ]
        .into(),
        ..Host::default()
    }
}

/// Two healthy nodes, and what is changed of them before they are checked.
struct Scene {
    a: Host,
    b: Option<Host>,
    cluster: Cluster,
    texts: Vec<Text>,
}

fn text(node: &str, name: &str, content: &str) -> Text {
    Text {
        node: node.to_owned(),
        name: name.to_owned(),
        when: When::Before,
        content: Known::Read(content.to_owned()),
    }
}

fn checkup(change: impl FnOnce(&mut Scene)) -> Checkup {
    let (cluster, warnings) = Cluster::parse(CLUSTER).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let mut scene = Scene { a: host(1), b: Some(host(2)), cluster, texts: Vec::new() };
    change(&mut scene);
    let state = |node: &str, host: &Host| text(node, STATE, &serde_json::to_string(host).unwrap());
    scene.texts.push(state("a", &scene.a));
    match &scene.b {
        Some(host) => scene.texts.push(state("b", host)),
        None => scene.texts.push(Text {
            content: Known::Unreadable("cannot reach b: timed out".to_owned()),
            ..text("b", STATE, "")
        }),
    }
    let facts = |name: &str, own: u8| NodeFacts {
        name: name.to_owned(),
        addresses: vec![format!("192.168.50.1{own}").parse().unwrap()],
        on_path: true,
    };
    let case = Case::of_nodes(vec![facts("a", 1), facts("b", 2)]).unwrap();
    let texts = Texts(scene.texts);
    check(&Ground { case: &case, texts: &texts, cluster: Some(&scene.cluster) })
}

/// Kind, node and whether it breaks, of all findings but those of IPAM.
fn found(change: impl FnOnce(&mut Scene)) -> Vec<(&'static str, String, bool)> {
    let checkup = checkup(change);
    checkup.faults().map(|fault| (fault.kind, fault.node.clone(), fault.breaks)).collect()
}

fn one(kind: &'static str, node: &str, breaks: bool) -> Vec<(&'static str, String, bool)> {
    vec![(kind, node.to_owned(), breaks)]
}

fn tunnel(host: &mut Host) -> &mut Link {
    host.links.iter_mut().find(|link| link.name == "vxlan.calico").unwrap()
}

fn vxlan(host: &mut Host) -> &mut Vxlan {
    tunnel(host).vxlan.as_mut().unwrap()
}

#[test]
fn healthy_nodes_are_sound() {
    let checkup = checkup(|_| {});
    let faults: Vec<&Fault> = checkup.faults().collect();
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(checkup.made.len() > 20 && !checkup.breaks());
    assert_eq!(checkup.nodes, ["a", "b"]);
}

#[test]
fn the_tunnel_device() {
    assert_eq!(
        found(|scene| scene.a.links.retain(|link| link.kind.as_deref() != Some("vxlan"))),
        one("tunnel_missing", "a", true)
    );
    assert_eq!(found(|scene| tunnel(&mut scene.a).up = false), one("tunnel_down", "a", true));
    assert_eq!(found(|scene| tunnel(&mut scene.a).mtu = 1500), one("mtu", "a", false));
    assert_eq!(found(|scene| vxlan(scene.b.as_mut().unwrap()).vni = 4097), one("tunnel_mismatch", "b", true));
    assert_eq!(found(|scene| vxlan(&mut scene.a).port = 8472), one("tunnel_mismatch", "a", true));
    let nowhere = found(|scene| vxlan(&mut scene.a).local = Some("192.168.50.99".parse().unwrap()));
    assert_eq!(nowhere, one("tunnel_address", "a", true));
    assert_eq!(
        found(|scene| tunnel(scene.b.as_mut().unwrap()).mac = Some("66:00:00:00:00:77".to_owned())),
        one("neighbour_wrong", "b", true)
    );
    assert_eq!(
        found(|scene| tunnel(scene.b.as_mut().unwrap()).mac = Some(mac("a"))),
        one("tunnel_mismatch", "b", true)
    );
}

#[test]
fn offload_is_a_finding_only_where_felix_was_told_that_it_is_broken() {
    let scene = |told: Option<bool>, on: bool| {
        found(move |scene| {
            scene.cluster.felix.get_mut("default").unwrap().checksum_offload_broken = told;
            let names = if on { vec!["tx-checksum-ip-generic".to_owned()] } else { Vec::new() };
            tunnel(&mut scene.a).checksums = Some(names);
        })
    };
    assert_eq!(scene(None, true), Vec::new());
    assert_eq!(scene(Some(false), true), Vec::new());
    assert_eq!(scene(Some(true), false), Vec::new());
    assert_eq!(scene(Some(true), true), one("checksum", "a", false));
    let text = "apiVersion: crd.projectcalico.org/v1\nkind: FelixConfiguration\nmetadata: {name: default}\n\
                spec: {featureDetectOverride: 'SNATFullyRandom=true, ChecksumOffloadBroken=true'}\n";
    let (cluster, _) = Cluster::parse(text).unwrap();
    assert_eq!(cluster.felix["default"].checksum_offload_broken, Some(true));
}

#[test]
fn a_setting_that_all_nodes_share_is_no_fault() {
    let all = |port| {
        move |scene: &mut Scene| {
            vxlan(&mut scene.a).port = port;
            vxlan(scene.b.as_mut().unwrap()).port = port;
        }
    };
    let doubtful = found(all(8472));
    assert_eq!(doubtful.len(), 2, "{doubtful:?}");
    assert!(
        doubtful.iter().all(|(kind, _, breaks)| *kind == "tunnel_mismatch" && !breaks),
        "they agree: {doubtful:?}"
    );
    let unsaid = found(|scene| {
        scene.cluster.felix.clear();
        all(8472)(scene);
    });
    assert!(unsaid.is_empty(), "nobody says another: {unsaid:?}");
    let odd = found(|scene| {
        scene.cluster.felix.clear();
        vxlan(&mut scene.a).vni = 7;
    });
    assert_eq!(odd, one("tunnel_mismatch", "a", true));
}

#[test]
fn a_mac_that_the_peers_were_told_of_is_right() {
    let told = |scene: &mut Scene| {
        let b = scene.b.as_mut().unwrap();
        tunnel(b).mac = Some("66:00:00:00:00:77".to_owned());
        scene.a.neighbours[0].mac = Some("66:00:00:00:00:77".to_owned());
        scene.a.fdb[0].mac = "66:00:00:00:00:77".to_owned();
    };
    assert!(found(told).is_empty());
    let recorded = |scene: &mut Scene| {
        told(scene);
        scene.cluster.nodes[1].vtep_mac = Some("66:00:00:00:00:77".to_owned());
    };
    assert!(found(recorded).is_empty());
}

#[test]
fn the_tunnel_address() {
    let other = |scene: &mut Scene| scene.a.addresses[1].address = "10.244.9.0/32".parse().unwrap();
    assert_eq!(found(other), one("tunnel_address", "a", true));
    // Nor do its peers know it then: they are told that no address is recorded.
    assert_eq!(
        found(|scene| scene.cluster.nodes[0].tunnels.clear())[0],
        ("tunnel_address", "a".to_owned(), true)
    );
    let outside = found(|scene| scene.a.routes[2] = route("10.244.7.0/26", None, "", "blackhole"));
    assert!(outside.contains(&("tunnel_address", "a".to_owned(), false)), "{outside:?}");
    assert!(!outside.contains(&("tunnel_address", "a".to_owned(), true)));
    let unknown = found(|scene| scene.a.routes.retain(|route| route.kind != "blackhole"));
    assert!(unknown.is_empty(), "without its blocks nothing is judged: {unknown:?}");
}

#[test]
fn entries_for_each_peer() {
    assert_eq!(found(|scene| scene.a.neighbours.clear()), one("neighbour_missing", "a", true));
    assert_eq!(found(|scene| scene.a.neighbours[0].mac = None), one("neighbour_missing", "a", true));
    assert_eq!(
        found(|scene| scene.a.neighbours[0].mac = Some("66:00:00:00:00:01".to_owned())),
        one("neighbour_wrong", "a", true)
    );
    assert_eq!(
        found(|scene| scene.a.neighbours[0].state = "reachable".to_owned()),
        one("neighbour_wrong", "a", false)
    );
    assert_eq!(found(|scene| scene.a.fdb.clear()), one("fdb_missing", "a", true));
    let elsewhere = found(|scene| scene.a.fdb[0].dst = Some("192.168.50.99".parse().unwrap()));
    assert_eq!(elsewhere, one("fdb_wrong", "a", true));
}

#[test]
fn routes_to_each_peer() {
    assert_eq!(found(|scene| scene.a.routes.truncate(4)), one("no_route", "a", true));
    let black = found(|scene| scene.a.routes.push(route("10.244.2.2/32", None, "", "blackhole")));
    assert_eq!(black, one("blackhole_route", "a", true));
    let away = |scene: &mut Scene| {
        scene.a.routes.push(route("10.244.2.2/32", Some("192.168.50.1"), "eth0", "unicast"));
    };
    assert_eq!(found(away), one("wrong_route", "a", true));
    let strict = found(|scene| {
        away(scene);
        scene.a.sysctls.insert("net.ipv4.conf.vxlan.calico.rp_filter".to_owned(), "1".to_owned());
    });
    assert_eq!(strict.iter().map(|(kind, ..)| *kind).collect::<Vec<_>>(), ["reverse_path", "wrong_route"]);
    // Without encapsulation any router may lead there.
    let plain = found(|scene| {
        scene.cluster.pools[0].vxlan = crate::evidence::cluster::Encapsulation::CrossSubnet;
        away(scene);
    });
    assert!(plain.is_empty(), "{plain:?}");
}

#[test]
fn entries_of_nodes_that_are_gone() {
    let gone = found(|scene| {
        scene.a.neighbours.push(Neighbour {
            link: "vxlan.calico".to_owned(),
            address: "10.244.9.0".parse().unwrap(),
            mac: Some("66:00:00:00:00:09".to_owned()),
            state: "permanent".to_owned(),
        });
        scene.a.fdb.push(FdbEntry {
            link: "vxlan.calico".to_owned(),
            mac: "66:00:00:00:00:09".to_owned(),
            dst: Some("192.168.50.19".parse().unwrap()),
            state: "permanent".to_owned(),
        });
        scene.a.routes.push(route("10.244.9.0/26", Some("10.244.9.0"), "vxlan.calico", "unicast"));
    });
    let kinds: Vec<&str> = gone.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(kinds, ["neighbour_wrong", "fdb_wrong", "wrong_route"]);
    assert!(gone.iter().all(|(.., breaks)| !breaks));
}

#[test]
fn pods_of_a_node() {
    let client = veth_name("default", "client");
    let down = found(|scene| scene.a.links.iter_mut().find(|link| link.name == client).unwrap().up = false);
    assert_eq!(down, one("link_down", "a", true));
    let gone = |scene: &mut Scene| scene.a.routes.retain(|route| route.dst.prefix_len() != 32);
    assert_eq!(found(gone), one("blackhole_route", "a", true));
    let turned = found(|scene| {
        gone(scene);
        scene.a.routes.push(route("10.244.1.2/32", None, "eth0", "unicast"));
    });
    assert_eq!(turned, one("wrong_route", "a", true));
    for (name, kind) in [("forwarding", "ip_forward_off"), ("proxy_arp", "proxy_arp_off")] {
        let off = found(|scene| {
            scene.a.sysctls.insert(format!("net.ipv4.conf.{client}.{name}"), "0".to_owned());
        });
        assert_eq!(off, one(kind, "a", true));
    }
    let deaf = found(|scene| {
        scene.a.neighbours.push(Neighbour {
            link: client.clone(),
            address: "10.244.1.2".parse().unwrap(),
            mac: None,
            state: "failed".to_owned(),
        });
    });
    assert_eq!(deaf, one("neighbour_missing", "a", true));
    // A cluster whose interfaces are called otherwise.
    let renamed = found(|scene| {
        for link in &mut scene.a.links {
            if link.name == client {
                "eni1".clone_into(&mut link.name);
            }
        }
        scene.a.routes[3].dev = Some("eni1".to_owned());
    });
    assert!(renamed.is_empty(), "{renamed:?}");
}

#[test]
fn one_address_in_two_places() {
    let twice = found(|scene| {
        scene.b.as_mut().unwrap().routes.push(route("10.244.1.2/32", None, "cali999", "unicast"));
    });
    assert!(twice.contains(&("duplicate_address", "a".to_owned(), true)), "{twice:?}");
    let service = found(|scene| {
        for host in [&mut scene.a, scene.b.as_mut().unwrap()] {
            host.addresses
                .push(Address { link: "kube-ipvs0".to_owned(), address: "10.96.0.1/32".parse().unwrap() });
            host.addresses
                .push(Address { link: "dummy0".to_owned(), address: "10.1.1.1/32".parse().unwrap() });
        }
    });
    assert!(service.is_empty(), "addresses that every node may have: {service:?}");
}

#[test]
fn settings_and_hooks_of_the_node() {
    let off = |name: &'static str| {
        found(move |scene| {
            scene.a.sysctls.insert(name.to_owned(), "0".to_owned());
        })
    };
    assert_eq!(off("net.ipv4.conf.vxlan.calico.forwarding"), one("ip_forward_off", "a", true));
    assert_eq!(off("net.ipv4.ip_forward"), one("ip_forward_off", "a", false));
    let full = found(|scene| {
        scene.a.sysctls.insert("net.netfilter.nf_conntrack_count".to_owned(), "990".to_owned());
    });
    assert_eq!(full, one("conntrack_full", "a", true));
    assert_eq!(found(|scene| scene.a.links[0].carrier = false), one("link_down", "a", true));
    assert_eq!(
        found(|scene| scene.a.links[0].xdp = Some("driver".to_owned())),
        one("early_hook", "a", false)
    );
    let filter = TcFilter { link: "eth0".to_owned(), hook: "ingress".to_owned(), kind: "u32".to_owned() };
    assert_eq!(found(|scene| scene.a.filters.push(filter)), one("tc_filter", "a", false));
    assert_eq!(found(|scene| scene.a.routes.drain(..2).for_each(drop))[0].0, "no_route");
}

#[test]
fn other_firewalls() {
    const CALICO: &str = "*filter\n:FORWARD ACCEPT [0:0]\n:cali-FORWARD - [0:0]\n-A FORWARD -j cali-FORWARD\n-A cali-FORWARD -j ACCEPT\nCOMMIT\n";
    let with = |texts: &[(&str, &str)]| {
        let texts: Vec<Text> = texts.iter().map(|(name, content)| text("a", name, content)).collect();
        found(move |scene| scene.texts = texts)
    };
    assert!(with(&[("iptables-nft-save", CALICO), ("iptables-legacy-save", "")]).is_empty());
    let both = with(&[("iptables-nft-save", CALICO), ("iptables-legacy-save", CALICO)]);
    assert_eq!(both, one("host_firewall", "a", false));
    let ufw = "*filter\n:FORWARD ACCEPT [0:0]\n:ufw-before-forward - [0:0]\n-A FORWARD -j ufw-before-forward\nCOMMIT\n";
    assert_eq!(with(&[("iptables-nft-save", ufw)]), one("host_firewall", "a", false));
    let idle = "*filter\n:FORWARD ACCEPT [0:0]\n:ufw-before-forward - [0:0]\nCOMMIT\n";
    assert!(with(&[("iptables-nft-save", idle)]).is_empty(), "chains that nothing jumps to");
    let docker = "*filter\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:cali-FORWARD - [0:0]\n-A FORWARD -j DOCKER\nCOMMIT\n";
    assert_eq!(with(&[("iptables-nft-save", docker)]), one("host_firewall", "a", true));
    let behind = "*filter\n:FORWARD DROP [0:0]\n:cali-FORWARD - [0:0]\n-A FORWARD -j cali-FORWARD\nCOMMIT\n";
    assert_eq!(with(&[("iptables-nft-save", behind)]), one("host_firewall", "a", false));
    let before = "*filter\n:INPUT ACCEPT [0:0]\n:cali-INPUT - [0:0]\n-A INPUT -p udp -j DROP\n-A INPUT -j cali-INPUT\nCOMMIT\n";
    assert_eq!(with(&[("iptables-nft-save", before)]), one("host_firewall", "a", false));
    let after = "*filter\n:INPUT ACCEPT [0:0]\n:cali-INPUT - [0:0]\n-A INPUT -j cali-INPUT\n-A INPUT -p udp -j DROP\nCOMMIT\n";
    assert!(with(&[("iptables-nft-save", after)]).is_empty());
}

#[test]
fn a_node_that_was_not_reached_is_told_and_judged_by_nobody() {
    let checkup = checkup(|scene| scene.b = None);
    assert_eq!(checkup.nodes, ["a"]);
    assert!(checkup.unread.iter().any(|why| why.contains("b: timed out")), "{:?}", checkup.unread);
    assert_eq!(checkup.faults().count(), 0);
    assert!(checkup.made.iter().all(|made| made.node != "b"));
}

#[test]
fn nothing_read_is_no_fault() {
    let empty = checkup(|scene| {
        scene.a = Host::default();
        scene.b = Some(Host::default());
    });
    let faults: Vec<&Fault> = empty.faults().collect();
    assert!(faults.is_empty(), "{faults:#?}");
    for (part, words) in [
        ("links", "links"),
        ("addresses", "addresses"),
        ("routes", "routes"),
        ("neighbours", "neighbours"),
        ("fdb", "forwarding databases"),
        ("sysctls", "sysctls"),
    ] {
        let without = checkup(|scene| {
            let mut value = serde_json::to_value(&scene.a).unwrap();
            value.as_object_mut().unwrap().remove(part);
            scene.a = serde_json::from_value(value).unwrap();
            scene.a.unread.push(format!("{words} over rtnetlink: not permitted"));
        });
        let faults: Vec<&Fault> = without.faults().collect();
        assert!(faults.is_empty(), "without {part}: {faults:#?}");
        assert!(without.unread.iter().any(|why| why.contains(words)), "{part}");
    }
}

#[test]
fn other_dataplanes_are_not_judged_as_this_one() {
    let bpf = checkup(|scene| {
        scene.cluster.felix.get_mut("default").unwrap().bpf = true;
        scene.a.fdb.clear();
        scene.a.neighbours.clear();
    });
    assert_eq!(bpf.faults().count(), 0);
    assert!(bpf.unread.iter().any(|why| why.contains("eBPF")));
}
