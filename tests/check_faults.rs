//! What `trace-drop check` finds in recorded states: nothing in sound ones, and each fault that is put into them by hand.

use std::path::{Path, PathBuf};

use trace_drop::analyze::state::{Checkup, Ground, check};
use trace_drop::evidence::bundle::Bundle;
use trace_drop::evidence::cluster::Cluster;
use trace_drop::evidence::host::Host;
use trace_drop::evidence::{Known, Texts};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A recorded cluster of three nodes, as `trace-drop node diags` of the lab saved it, or a traced case.
struct Recorded {
    bundle: Bundle,
    texts: Texts,
    cluster: Option<Cluster>,
}

impl Recorded {
    fn open(path: impl AsRef<Path>) -> Self {
        let bundle = Bundle::open(&root().join(path)).expect("a saved case");
        let texts = bundle.texts().expect("its texts");
        let cluster = bundle
            .cluster_text()
            .expect("its cluster")
            .map(|text| Cluster::from_json(&text).expect("a cluster"));
        Self { bundle, texts, cluster }
    }

    fn check(&self) -> Checkup {
        check(&Ground { case: self.bundle.case(), texts: &self.texts, cluster: self.cluster.as_ref() })
    }

    /// Changes a text of a node, at whatever time it was read.
    fn change(&mut self, node: &str, name: &str, change: &dyn Fn(&str) -> String) {
        let mut changed = 0;
        for text in self.texts.0.iter_mut().filter(|text| text.node == node && text.name == name) {
            if let Known::Read(content) = &mut text.content {
                *content = change(content);
                changed += 1;
            }
        }
        assert!(changed > 0, "no {name} of {node}");
    }

    fn change_state(&mut self, node: &str, change: &dyn Fn(&mut Host)) {
        self.change(node, "state", &|text| {
            let mut host = Host::parse(text).expect("a state");
            let before = host.clone();
            change(&mut host);
            assert_ne!(host, before, "the change changes nothing");
            serde_json::to_string(&host).expect("a state")
        });
    }
}

fn kinds(checkup: &Checkup) -> Vec<(String, &'static str)> {
    checkup.faults().map(|fault| (fault.node.clone(), fault.kind)).collect()
}

#[test]
fn a_sound_cluster_is_sound() {
    let recorded = Recorded::open("tests/data/diags.tgz");
    let checkup = recorded.check();
    assert_eq!(kinds(&checkup), []);
    assert_eq!(checkup.nodes, ["worker-1", "worker-2", "worker-3"]);
    assert!(checkup.made.len() > 60, "{} checks", checkup.made.len());
}

/// What is put into worker-1's recorded state, and the kind that must be found there and must be the only one.
#[test]
fn each_fault_is_found_and_nothing_else() {
    type Change = fn(&mut Host);
    const TUNNEL: &str = "vxlan.calico";
    let faults: &[(&str, &str, Change)] = &[
        ("tunnel_missing", "no device", |host| host.links.retain(|link| link.name != TUNNEL)),
        ("tunnel_down", "device down", |host| tunnel(host).up = false),
        ("tunnel_mismatch", "another VNI", |host| tunnel(host).vxlan.as_mut().expect("VXLAN").vni = 7),
        ("tunnel_mismatch", "another port", |host| tunnel(host).vxlan.as_mut().expect("VXLAN").port = 8472),
        ("tunnel_address", "another local address", |host| {
            tunnel(host).vxlan.as_mut().expect("VXLAN").local = "192.168.50.99".parse().ok();
        }),
        ("mtu", "the card takes less", |host| {
            host.links.iter_mut().find(|link| link.name == "eth0").expect("the card").mtu = 1400;
        }),
        ("neighbour_missing", "no neighbour entry", |host| {
            host.neighbours.retain(|entry| entry.link != TUNNEL || entry.address.to_string() != "10.244.2.0");
        }),
        ("neighbour_wrong", "a wrong MAC", |host| {
            let entry = host.neighbours.iter_mut();
            let mut entry = entry.filter(|entry| entry.address.to_string() == "10.244.2.0");
            entry.next().expect("the entry").mac = Some("66:00:00:00:00:77".to_owned());
        }),
        ("fdb_missing", "no FDB entry", |host| {
            let one = host.fdb.iter().position(|entry| entry.link == TUNNEL).expect("an entry");
            host.fdb.remove(one);
        }),
        ("fdb_wrong", "an FDB entry to nowhere", |host| {
            let mut entries = host.fdb.iter_mut().filter(|entry| entry.link == TUNNEL);
            entries.next().expect("an entry").dst = "192.168.50.99".parse().ok();
        }),
        ("no_route", "no route to a block", |host| {
            host.routes.retain(|route| route.dst.to_string() != "10.244.2.0/26");
        }),
        ("blackhole_route", "another node's block is a blackhole", |host| {
            let mut routes = host.routes.iter_mut().filter(|route| route.dst.to_string() == "10.244.2.0/26");
            routes.next().expect("the route").kind = "blackhole".to_owned();
        }),
        ("ip_forward_off", "forwarding off", |host| {
            host.sysctls.insert("net.ipv4.ip_forward".to_owned(), "0".to_owned());
        }),
        ("conntrack_full", "full connection tracking", |host| {
            host.sysctls.insert("net.netfilter.nf_conntrack_max".to_owned(), "100".to_owned());
            host.sysctls.insert("net.netfilter.nf_conntrack_count".to_owned(), "99".to_owned());
        }),
    ];
    for (kind, what, change) in faults {
        let mut recorded = Recorded::open("tests/data/diags.tgz");
        recorded.change_state("worker-1", &|host| change(host));
        let found = kinds(&recorded.check());
        assert!(found.iter().any(|(_, found)| found == kind), "{what}: {kind} is not in {found:?}");
        assert!(found.iter().all(|(_, found)| found == kind), "{what}: {found:?}");
    }
}

fn tunnel(host: &mut Host) -> &mut trace_drop::evidence::host::Link {
    host.links.iter_mut().find(|link| link.name == "vxlan.calico").expect("the tunnel device")
}

#[test]
fn other_firewalls_and_senders_that_are_not_let_in_are_found() {
    type Change = fn(&str) -> String;
    let faults: &[(&str, &str, &str, Change)] = &[
        ("host_firewall", "iptables-nft-save", "a rule before Calico's", |text| {
            text.replacen("-A FORWARD ", "-A FORWARD -d 10.244.0.0/16 -j DROP\n-A FORWARD ", 1)
        }),
        ("host_firewall", "iptables-legacy-save", "rules in the other backend", |_| {
            "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -s 10.9.9.9/32 -j ACCEPT\nCOMMIT\n".to_owned()
        }),
        ("calico_rule", "ipset", "a node that is not let in", |text| {
            text.replace("add cali40all-vxlan-net 192.168.50.12\n", "")
        }),
    ];
    for (kind, name, what, change) in faults {
        let mut recorded = Recorded::open("tests/data/diags.tgz");
        recorded.change("worker-1", name, change);
        let found = kinds(&recorded.check());
        assert_eq!(found, [("worker-1".to_owned(), *kind)], "{what}");
    }
}

/// What could not be read is said, and is never a finding.
#[test]
fn what_was_not_read_is_no_fault() {
    let mut recorded = Recorded::open("tests/data/diags.tgz");
    for text in recorded.texts.0.iter_mut().filter(|text| text.node == "worker-2") {
        text.content = Known::Unreadable("no such program".to_owned());
    }
    let checkup = recorded.check();
    assert_eq!(kinds(&checkup), []);
    assert_eq!(checkup.nodes, ["worker-1", "worker-3"]);
    assert!(checkup.unread.iter().any(|why| why.contains("worker-2")), "{:?}", checkup.unread);
    recorded.change("worker-1", "state", &|text| text[..text.len() / 2].to_owned());
    assert_eq!(kinds(&recorded.check()), []);
}
