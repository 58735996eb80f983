//! The state of namespaces made for the test, held against how they were made and against what the kernel itself says.

use std::collections::BTreeMap;

use super::Place;
use crate::evidence::foreign::{self, Given};
use crate::evidence::host::{Host, HostRoute, Link, Question, Said};
use crate::gather::netns::Namespace;
use crate::gather::rig::Rig;

fn state(rig: &Rig, name: &str) -> Host {
    let namespace = Namespace::open(format!("/run/netns/{}", rig.ns(name))).unwrap();
    let place = if name.starts_with('p') { Place::Pod } else { Place::Node(Vec::new()) };
    super::read(&namespace, &place).unwrap()
}

#[test]
#[ignore = "needs root"]
fn reads_what_was_set_up() {
    let rig = Rig::two_nodes_vxlan();
    rig.run(
        "n1",
        "ip route add blackhole 10.244.1.0/26; ip rule add from 10.9.0.0/16 table 77 priority 100; ip route add 10.8.0.0/16 dev eth0 table 77
         tc qdisc add dev cali1 root tbf rate 200kbit burst 2000 limit 4000; tc qdisc add dev eth0 clsact; tc filter add dev eth0 ingress protocol ip u32 match ip dst 9.9.9.9/32 flowid 1:1
         ip -6 addr add fd00::1/64 dev eth0 nodad; ip -6 route add fd99::/64 via fd00::2",
    );
    let n1 = state(&rig, "n1");
    assert_eq!(n1.unread, Vec::<String>::new());
    let tunnel = n1.link("vxlan.calico").unwrap();
    assert_eq!((tunnel.kind.as_deref(), tunnel.up, tunnel.mtu), (Some("vxlan"), true, 1450));
    assert_eq!(tunnel.leaves_checksums(), Some(true));
    assert_eq!(n1.link("cali1").unwrap().checksums, None);
    assert_eq!(tunnel.mac.as_deref(), Some("66:00:00:00:00:01"));
    let vxlan = tunnel.vxlan.as_ref().unwrap();
    assert_eq!((vxlan.vni, vxlan.port, vxlan.learning), (4096, 4789, false));
    assert_eq!(vxlan.local, Some("192.168.50.1".parse().unwrap()));
    let peer = n1.neighbour("vxlan.calico", "10.244.2.0".parse().unwrap()).unwrap();
    assert_eq!((peer.mac.as_deref(), peer.state.as_str()), (Some("66:00:00:00:00:02"), "permanent"));
    let entry = n1.fdb.iter().find(|entry| entry.mac == "66:00:00:00:00:02").unwrap();
    assert_eq!((entry.link.as_str(), entry.dst), ("vxlan.calico", Some("192.168.50.2".parse().unwrap())));
    assert!(
        n1.routes.iter().any(|route| route.kind == "blackhole" && route.dst.to_string() == "10.244.1.0/26")
    );
    assert!(n1.routes.iter().any(|route| route.dst.to_string() == "fd99::/64" && route.via.is_some()));
    assert!(n1.rules.iter().any(|rule| rule.table == 77 && rule.priority == 100 && !rule.other));
    assert!(n1.queues.iter().any(|queue| queue.kind == "tbf" && queue.link == "cali1"));
    assert_eq!(n1.filters.len(), 1, "{:?}", n1.filters);
    assert_eq!((n1.filters[0].hook.as_str(), n1.filters[0].kind.as_str()), ("ingress", "u32"));
    assert_eq!(n1.sysctl("net.ipv4.ip_forward"), Some(1));
    assert_eq!(n1.sysctl("net.ipv4.conf.cali1.proxy_arp"), Some(1));

    let pod = Namespace::open(format!("/run/netns/{}", rig.ns("p2"))).unwrap();
    let listener = pod.run(|| std::net::TcpListener::bind("0.0.0.0:7777")).unwrap().unwrap();
    let p2 = state(&rig, "p2");
    drop(listener);
    assert!(
        p2.listening.iter().any(|socket| (socket.protocol, socket.port) == (6, 7777)),
        "{:?}",
        p2.listening
    );
    assert_eq!(Host::parse(&serde_json::to_string(&p2).unwrap()).unwrap(), p2);
}

/// What others print with iproute2 and hand over is the same as what is read here; in words as in JSON.
#[test]
#[ignore = "needs root"]
fn what_iproute2_prints_says_the_same() {
    let rig = Rig::two_nodes_vxlan();
    rig.run(
        "n1",
        "ip route add blackhole 10.244.1.0/26; ip rule add from 10.9.0.0/16 table 77 priority 100; ip rule add fwmark 0x10/0xff iif eth0 table 77
         ip route add 10.8.0.0/16 dev eth0 table 77; ip route add unreachable 10.7.0.0/16; ip route add 10.6.0.0/16 via 192.168.50.2 metric 50 proto static
         ip route add 10.5.0.0/16 nexthop via 192.168.50.2 dev eth0 nexthop via 192.168.50.3 dev eth0; ip neigh add 192.168.50.77 dev eth0 nud failed
         tc qdisc add dev cali1 root tbf rate 200kbit burst 2000 limit 4000; ip -6 addr add fd00::1/64 dev eth0 nodad
         ip -6 route add fd99::/64 via fd00::2; ip -6 rule add from fd98::/64 table 78 priority 200; ip link add x1 type veth peer name x2; ip link set x1 arp off",
    );
    let sets: [&[&str]; 2] = [
        &[
            "ip -s -d link",
            "ip -d addr",
            "ip route show table all",
            "ip -6 route show table all",
            "ip -4 rule",
            "ip -6 rule",
            "ip neigh",
            "bridge fdb show",
            "tc -s qdisc show",
        ],
        &[
            "ip -j -s -d link",
            "ip -j addr",
            "ip -j route show table all",
            "ip -j -6 route show table all",
            "ip -j neigh",
            "bridge -j fdb show",
        ],
    ];
    for commands in sets {
        let folder = tempfile::tempdir().unwrap();
        for command in commands {
            let printed = rig.run("n1", command).stdout;
            std::fs::write(folder.path().join(command.replace(' ', "_")), printed).unwrap();
        }
        let node = "n1".to_owned();
        let collected =
            foreign::collect(&[Given { node, inside: "", path: folder.path().to_owned() }]).unwrap();
        let text = collected.texts.newest("n1", "state").unwrap();
        let theirs = Host::parse(text.content.read().unwrap()).unwrap();
        let ours = state(&rig, "n1");
        let links = |host: &Host| {
            let plain = |link: &Link| Link { stats: BTreeMap::new(), checksums: None, ..link.clone() };
            host.links.iter().map(plain).collect::<Vec<_>>()
        };
        assert_eq!(links(&theirs), links(&ours), "{commands:?}");
        assert_eq!(sorted(&theirs.addresses), sorted(&ours.addresses));
        // Routes of the tables that the kernel keeps for itself are of no weight beyond their words.
        let routes = |host: &Host| sorted(&host.routes.iter().map(HostRoute::words).collect::<Vec<_>>());
        assert_eq!(routes(&theirs), routes(&ours));
        let of_main = |host: &Host| {
            let own = host.routes.iter().filter(|route| route.table == 254 || route.table == 77);
            sorted(&own.cloned().collect::<Vec<_>>())
        };
        assert_eq!(of_main(&theirs), of_main(&ours));
        // `ip neigh` leaves out what needs no asking.
        let asked = |host: &Host| {
            let own = host.neighbours.iter().filter(|own| own.state != "noarp");
            sorted(&own.cloned().collect::<Vec<_>>())
        };
        assert_eq!(asked(&theirs), asked(&ours));
        let tunnel = |host: &Host| {
            let own = host.fdb.iter().filter(|own| own.dst.is_some());
            sorted(&own.map(|own| (&own.link, &own.mac, own.dst)).collect::<Vec<_>>())
        };
        assert_eq!(tunnel(&theirs), tunnel(&ours));
        if !theirs.rules.is_empty() {
            assert_eq!(sorted(&theirs.rules), sorted(&ours.rules));
            assert_eq!(sorted(&theirs.queues), sorted(&ours.queues));
        }
    }
}

/// Order is of no matter.
fn sorted<T: std::fmt::Debug>(all: &[T]) -> Vec<String> {
    let mut words: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
    words.sort();
    words
}

/// As `ethtool -k` says it, before and after `ethtool -K`.
#[test]
#[ignore = "needs root"]
fn checksum_offload_is_read_as_it_is_set() {
    let rig = Rig::two_nodes_vxlan();
    for (word, on) in [("off", false), ("on", true)] {
        rig.run("n1", &format!("ethtool -K vxlan.calico tx-checksum-ip-generic {word}"));
        let said = String::from_utf8(rig.run("n1", "ethtool -k vxlan.calico").stdout).unwrap();
        assert!(said.contains(&format!("tx-checksum-ip-generic: {word}")), "{said}");
        let n1 = state(&rig, "n1");
        assert_eq!((n1.link("vxlan.calico").unwrap().leaves_checksums(), n1.unread.len()), (Some(on), 0));
    }
}

/// `ip route get` is what the kernel would do; the lookup from the dump must say the same.
#[test]
#[ignore = "needs root"]
fn looks_routes_up_as_the_kernel_does() {
    let rig = Rig::two_nodes_vxlan();
    rig.run(
        "n1",
        "ip route add 10.244.1.0/26 dev eth0 metric 10; ip route add 10.244.1.64/26 via 192.168.50.2; ip route add 10.244.1.65/32 dev cali1 scope link
         ip route add 10.244.1.0/26 dev cali1 metric 5; ip rule add from 10.244.1.2 to 10.50.0.0/16 table 77 priority 100; ip route add 10.50.0.0/16 via 192.168.50.2 table 77
         ip route add 10.50.7.0/24 dev cali1 table 77; ip rule add iif cali1 table 78 priority 90; ip route add throw 10.51.0.0/16 table 78; ip route add 10.51.0.0/17 dev vxlan.calico table 78",
    );
    let host = state(&rig, "n1");
    let namespace = Namespace::open(format!("/run/netns/{}", rig.ns("n1"))).unwrap();
    let mut compared = 0;
    for dst in [
        "10.244.1.2",
        "10.244.1.9",
        "10.244.1.64",
        "10.244.1.65",
        "10.244.1.70",
        "10.244.2.2",
        "10.244.2.63",
        "10.244.2.64",
        "10.50.1.1",
        "10.50.7.1",
        "10.51.1.1",
        "10.51.200.1",
        "192.168.50.2",
        "192.168.50.99",
        "8.8.8.8",
    ] {
        for from_pod in [false, true] {
            let line = if from_pod {
                format!("ip route get {dst} from 10.244.1.2 iif cali1")
            } else {
                format!("ip route get {dst}")
            };
            let said = String::from_utf8(rig.run("n1", &line).stdout).unwrap();
            let words: Vec<&str> = said.split_whitespace().collect();
            let after = |word| words.iter().position(|w| *w == word).map(|at| words[at + 1]);
            let packet = Question {
                dst: dst.parse().unwrap(),
                src: from_pod.then(|| "10.244.1.2".parse().unwrap()),
                iif: from_pod.then_some("cali1"),
            };
            let found = host.lookup(&packet);
            let route = found.route.unwrap_or_else(|| panic!("no route for {line}: {said}"));
            assert!(found.certain);
            assert_eq!(route.dev.as_deref(), after("dev"), "{line}: {said}: {}", route.words());
            assert_eq!(route.via.map(|via| via.to_string()).as_deref(), after("via"), "{line}: {said}");
            compared += 1;
        }
        // The kernel, asked as an agent asks it, knows the same entries.
        let ends = ("10.244.1.2".parse().unwrap(), dst.parse().unwrap());
        let asked = super::read(&namespace, &Place::Node(vec![ends])).unwrap();
        assert_eq!((asked.disagreements(), asked.unread.len()), (Vec::new(), 0), "{dst}");
        let onward = asked
            .answers
            .iter()
            .find(|answer| answer.dst == ends.1 && answer.iif.as_deref() == Some("cali1"));
        assert!(onward.is_some_and(|answer| matches!(answer.said, Said::Route(_))), "{:?}", asked.answers);
    }
    assert_eq!(compared, 30);
}

/// A dump that says otherwise than the kernel is noticed, and the kernel's route counts.
#[test]
#[ignore = "needs root"]
fn the_kernels_own_word_on_a_route_counts() {
    let rig = Rig::two_nodes_vxlan();
    rig.run("n1", "ip -6 addr add fd00::1/64 dev eth0 nodad; ip -6 route add blackhole fd99::/64; ip route add blackhole 10.99.0.0/16");
    let namespace = Namespace::open(format!("/run/netns/{}", rig.ns("n1"))).unwrap();
    let read = |src: &str, dst: &str| {
        let ends = (src.parse().unwrap(), dst.parse().unwrap());
        super::read(&namespace, &Place::Node(vec![ends])).unwrap()
    };
    for (src, dst) in [("10.244.1.2", "10.99.0.1"), ("fd00::2", "fd99::1"), ("fd00::2", "fd98::1")] {
        let host = read(src, dst);
        assert_eq!(host.disagreements(), Vec::<String>::new());
        assert!(
            host.answers.iter().any(|answer| matches!(answer.said, Said::Error(_))),
            "{:?}",
            host.answers
        );
    }
    let mut host = read("10.244.1.2", "10.244.2.2");
    assert_eq!(host.answers.len(), 4, "{:?}", host.answers);
    for route in host.routes.iter_mut().filter(|route| route.dev.as_deref() == Some("vxlan.calico")) {
        route.dev = Some("eth0".to_owned());
    }
    assert!(!host.disagreements().is_empty());
    let question = Question {
        dst: "10.244.2.2".parse().unwrap(),
        src: Some("10.244.1.2".parse().unwrap()),
        iif: Some("cali1"),
    };
    let device = |route: Option<&HostRoute>| route.and_then(|route| route.dev.clone());
    assert_eq!(device(host.lookup(&question).route).as_deref(), Some("eth0"));
    assert_eq!(device(host.routed(&question).route).as_deref(), Some("vxlan.calico"));
}
