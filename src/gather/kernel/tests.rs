//! Real drops in real namespaces, and what the kernel says about them.

use std::collections::BTreeSet;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::*;
use crate::evidence::kernel::{GivenUp, Hook};
use crate::gather::rig::{PODS, Rig};

/// What is heard in a node's namespace, and the pod's that lives there, while `work` is done.
fn heard(rig: &Rig, node: &str, pod: &str, work: impl FnOnce()) -> Vec<GivenUp> {
    let namespace = |name: &str| Namespace::open(Path::new("/run/netns").join(rig.ns(name))).unwrap();
    let pair = Pair::of(&rig.plan());
    let listening = Listening::start(&pair, &namespace(node), &[namespace(pod)]).unwrap();
    work();
    listening.captures_ended();
    let word = KernelWord::parse(&listening.finish().unwrap());
    assert_eq!((word.broken, word.heard.unheard, word.heard.left_out), (Vec::<String>::new(), 0, 0));
    assert_eq!(word.heard.nameless, Vec::<String>::new());
    assert!(word.heard.from <= word.heard.captured_until && word.heard.captured_until <= word.heard.until);
    let times = word.heard.from..=word.heard.until;
    assert!(word.given_up.iter().all(|one| times.contains(&one.first) && one.first <= one.last));
    word.given_up
}

fn ping(rig: &Rig, pod: &str) {
    rig.run(pod, &format!("ping -c 5 -i 0.02 -W 0.3 {} > /dev/null || true", PODS[1]));
}

/// Requests from the first pod to the second.
fn requests(heard: &[GivenUp]) -> Vec<&GivenUp> {
    heard.iter().filter(|one| one.icmp.is_some_and(|icmp| icmp.kind == 8)).collect()
}

#[test]
#[ignore = "needs root"]
fn a_rules_drops_are_heard_in_their_namespace_alone() {
    let rig = Rig::two_nodes_vxlan();
    rig.second_pod_on_first_node();
    rig.run("n1", "iptables-nft -A FORWARD -d 10.244.2.2 -j DROP");
    let all = heard(&rig, "n1", "p1", || ping(&rig, "p1"));
    let [one] = requests(&all)[..] else { panic!("{all:?}") };
    assert_eq!((one.reason.as_str(), one.function.as_str()), ("NETFILTER_DROP", "nft_do_chain"));
    assert_eq!((one.events, one.packets, one.within, one.hook()), (5, 5, Within::Node, Some(Hook::Forward)));
    assert_eq!((one.interface.as_deref(), one.ttl, one.length), (Some("cali1"), 63, (84, 84)));
    assert_eq!([one.source.to_string(), one.destination.to_string()], PODS);
    assert_eq!(one.icmp.map(|icmp| icmp.numbers), Some((1, 5)));
    assert!(one.outer.is_none() && !one.late);

    let foreign = heard(&rig, "n1", "p1", || {
        rig.run(
            "p3",
            "ip route add 169.254.1.1 dev eth0 scope link; ip route add default via 169.254.1.1 dev eth0
             ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0",
        );
        rig.run("n1", "ip link set cali3 address ee:ee:ee:ee:ee:ee");
        ping(&rig, "p3");
    });
    let dropped = rig.run("n1", "iptables-nft -nvxL FORWARD").stdout;
    let dropped = String::from_utf8_lossy(&dropped);
    assert!(dropped.contains(" 10 "), "the foreign pod's packets met the rule too: {dropped}");
    assert_eq!(foreign, vec![]);
    let elsewhere = heard(&rig, "n2", "p2", || ping(&rig, "p1"));
    assert_eq!(requests(&elsewhere), Vec::<&GivenUp>::new());
}

#[test]
#[ignore = "needs root"]
fn a_missing_route_and_the_reverse_path_have_reasons_of_their_own() {
    let rig = Rig::two_nodes_vxlan();
    // Without a default route nobody answers the pod's ARP for its gateway.
    rig.run("p1", "ip neigh add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0");
    rig.run("n1", "ip route del 10.244.2.0/26; ip route del default");
    let all = heard(&rig, "n1", "p1", || ping(&rig, "p1"));
    let [one] = requests(&all)[..] else { panic!("{all:?}") };
    assert_eq!((one.reason.as_str(), one.events, one.within), ("IP_INNOROUTES", 5, Within::Node));

    let rig = Rig::two_nodes_vxlan();
    rig.run("n2", "echo 1 > /proc/sys/net/ipv4/conf/vxlan.calico/rp_filter; ip route del 10.244.1.0/26");
    let all = heard(&rig, "n2", "p2", || ping(&rig, "p1"));
    let [one] = requests(&all)[..] else { panic!("{all:?}") };
    assert_eq!((one.reason.as_str(), one.events), ("IP_RPFILTER", 5));
    assert_eq!(one.interface.as_deref(), Some("vxlan.calico"));
}

#[test]
#[ignore = "needs root"]
fn packets_inside_the_tunnel_are_the_pairs() {
    let rig = Rig::two_nodes_vxlan();
    rig.run("n2", "iptables-legacy -A INPUT -p udp --dport 4789 -j DROP");
    let all = heard(&rig, "n2", "p2", || ping(&rig, "p1"));
    let [one] = requests(&all)[..] else { panic!("{all:?}") };
    assert_eq!((one.reason.as_str(), one.function.as_str()), ("NETFILTER_DROP", "nf_hook_slow"));
    assert_eq!((one.events, one.hook(), one.interface.as_deref()), (5, Some(Hook::Input), Some("eth0")));
    let outer = one.outer.unwrap();
    assert_eq!((outer.source.to_string().as_str(), outer.vni), ("192.168.50.1", 4096));
    assert_eq!([one.source.to_string(), one.destination.to_string()], PODS);

    let rig = Rig::two_nodes_vxlan();
    let all = heard(&rig, "n2", "p2", || {
        rig.run("p1", "timeout 2 python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); [s.sendto(b\"x\", (\"10.244.2.2\", 9)) for _ in range(3)]'");
    });
    let [one] = &all.iter().filter(|one| one.reason == "NO_SOCKET").collect::<Vec<_>>()[..] else {
        panic!("{all:?}")
    };
    assert_eq!((one.within, one.events, one.ports.map(|ports| ports.1)), (Within::Pod, 3, Some(9)));
}

#[test]
#[ignore = "needs root"]
fn nothing_stays_in_the_kernel() {
    let rig = Rig::two_nodes_vxlan();
    let mut during = BTreeSet::new();
    heard(&rig, "n1", "p1", || during = program_ids("/proc/self"));
    assert!(!during.is_empty());
    // Other tests of this process load programs of their own meanwhile: theirs end too.
    let end = crate::gather::clock::instant() + Duration::from_secs(20);
    while !during.is_disjoint(&loaded()) && crate::gather::clock::instant() < end {
        thread::sleep(LOOK);
    }
    assert!(during.is_disjoint(&loaded()), "{during:?}");
}

/// Numbers of the programs that a process holds.
pub(crate) fn program_ids(process: &str) -> BTreeSet<u32> {
    let files = fs::read_dir(format!("{process}/fdinfo")).unwrap();
    let texts = files.flatten().filter_map(|file| fs::read_to_string(file.path()).ok());
    let ids = texts.flat_map(|text| {
        text.lines()
            .filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
            .collect::<Vec<u32>>()
    });
    ids.collect()
}

/// Numbers of all programs in the kernel.
pub(crate) fn loaded() -> BTreeSet<u32> {
    aya::programs::loaded_programs().flatten().map(|program| program.id()).collect()
}

/// The object is made of the source: `scripts/bpf` wrote the checksums of both when it made it.
#[test]
fn the_object_belongs_to_its_source() {
    let sums = include_str!("drops.bpf.sum");
    for (name, bytes) in [("drops.bpf.c", include_bytes!("drops.bpf.c").as_slice()), ("drops.bpf.o", PROGRAM)]
    {
        let line = sums.lines().find(|line| line.ends_with(&format!("  {name}"))).unwrap();
        let sum = Sha256::digest(bytes);
        let told = sum.iter().zip(line.as_bytes().chunks(2));
        let same = told.clone().all(|(byte, hex)| {
            let hex = std::str::from_utf8(hex).unwrap();
            u8::from_str_radix(hex, 16) == Ok(*byte)
        });
        assert!(same && told.count() == 32, "{name} changed: run scripts/bpf");
    }
}

#[test]
fn the_filter_has_the_layout_of_the_source() {
    let mut pair = Pair {
        from: "10.0.0.1".parse().unwrap(),
        from_aliases: vec!["10.9.0.0".parse().unwrap(), "fd00::9".parse().unwrap()],
        to: "10.0.0.2".parse().unwrap(),
        to_aliases: vec![],
        nodes: vec![],
        vxlan_port: 4799,
        only: crate::evidence::case::Only { protocol: Some(17), port: Some(53), also: None },
    };
    let bytes = wanted(&pair, &[7, 8]);
    assert_eq!(bytes.len(), 2 * 16 * ADDRESSES + 4 * NAMESPACES + 8 + 8);
    assert_eq!(bytes[..16], mapped(pair.from));
    assert_eq!(bytes[16..32], mapped("10.9.0.0".parse().unwrap()));
    assert_eq!(bytes[32..48], [0; 16]);
    assert_eq!(bytes[256..272], mapped(pair.to));
    assert_eq!(bytes[512..516], 7u32.to_ne_bytes());
    assert_eq!(bytes[544..546], 4799u16.to_ne_bytes());
    assert_eq!((bytes[552], bytes[550..552].to_vec()), (17, 53u16.to_ne_bytes().to_vec()));
    pair.to_aliases = vec!["10.96.0.1".parse().unwrap(); 40];
    assert_eq!(wanted(&pair, &[7; 20]).len(), bytes.len());
}
