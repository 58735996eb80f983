use std::net::IpAddr;

use super::*;
use crate::evidence::host::{HostRoute, Question};
use crate::evidence::netfilter::Filters;

/// What `text` says of a node, in a file of that name.
fn of(name: &str, text: &str) -> (Pieces, Vec<&'static str>) {
    let mut pieces = Pieces::default();
    let (what, _) = pieces.take(name, text);
    (pieces, what)
}

fn host(texts: &[(&str, &str)]) -> Host {
    let mut pieces = Pieces::default();
    for (name, text) in texts {
        pieces.take(name, text);
    }
    let mut host = Host::default();
    for part in PARTS {
        pieces.give(*part, &mut host);
    }
    host
}

fn words(routes: &[HostRoute]) -> Vec<String> {
    routes.iter().map(HostRoute::words).collect()
}

const ROUTES: &str = "\
default via 192.168.50.1 dev eth0 proto dhcp src 192.168.50.11 metric 100
default via fd00:50::1 dev eth0 metric 1024 pref medium
blackhole 10.244.1.0/26 proto 80
10.244.1.2 dev cali1 scope link
10.244.2.0/26 via 10.244.2.0 dev vxlan.calico onlink
10.9.0.0/16 proto static metric 7
\tnexthop via 10.0.0.1 dev a weight 1 dead linkdown
\tnexthop via 10.0.0.2 dev b weight 1
local 192.168.50.11 dev eth0 table local proto kernel scope host src 192.168.50.11
unreachable default dev lo metric 4294967295 pref medium error -101
10.7.0.0/16 dev eth0 table calico scope link
10.1.2.3 dev eth0 went down again
";

#[test]
fn routes_are_read_with_their_next_hops() {
    let host = host(&[("x", ROUTES)]);
    let calico = host.routes[8].table;
    assert!(calico > 255, "a name's table is nobody else's");
    assert_eq!(
        words(&host.routes),
        [
            "0.0.0.0/0 via 192.168.50.1 dev eth0 metric 100".to_owned(),
            "::/0 via fd00:50::1 dev eth0 metric 1024".to_owned(),
            "blackhole 10.244.1.0/26".to_owned(),
            "10.244.1.2/32 dev cali1".to_owned(),
            "10.244.2.0/26 via 10.244.2.0 dev vxlan.calico onlink".to_owned(),
            "10.9.0.0/16 via 10.0.0.2 dev b metric 7".to_owned(),
            "local 192.168.50.11/32 dev eth0 table 255".to_owned(),
            "unreachable ::/0 dev lo metric 4294967295".to_owned(),
            format!("10.7.0.0/16 dev eth0 table {calico}"),
        ]
    );
    assert_eq!((host.routes[2].protocol, host.routes[0].protocol), (80, 16));
    let to = |dst: &str| {
        let found = host.lookup(&Question { dst: dst.parse().unwrap(), src: None, iif: None });
        found.route.and_then(|route| route.dev.clone())
    };
    assert_eq!((to("10.244.2.9").as_deref(), to("10.9.1.1").as_deref()), (Some("vxlan.calico"), Some("b")));
}

#[test]
fn copies_add_nothing_and_next_hops_make_another_route() {
    let text = "default proto static metric 9\n\tnexthop via 10.0.0.1 dev a weight 1\n\tnexthop via 10.0.0.2 dev b weight 1\n";
    let six = "default proto static metric 9\n\tnexthop via fd00::1 dev a weight 1\n\tnexthop via fd00::2 dev b weight 1\n";
    let one = "10.1.0.0/16 dev a proto kernel scope link\n10.2.0.0/16 dev a\n10.1.0.0/16 dev a proto kernel scope link\n";
    let host = host(&[("x", &[one, text, six, one].concat()), ("y", one)]);
    assert_eq!(
        words(&host.routes),
        [
            "10.1.0.0/16 dev a",
            "10.2.0.0/16 dev a",
            "0.0.0.0/0 via 10.0.0.1 dev a metric 9",
            "::/0 via fd00::1 dev a metric 9"
        ]
    );
    assert!(host.routes[2].multipath && host.routes[3].multipath && !host.routes[0].multipath);
}

/// A look at each for each took hours.
#[test]
fn hundreds_of_thousands_of_lines_are_no_burden() {
    use std::fmt::Write;
    let address = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 + n);
    let (mut routes, mut others) = (String::new(), String::new());
    for n in 0..300_000 {
        let _ =
            writeln!(routes, "{} via 192.168.50.12 dev eth0 proto bird table {}", address(n), 1000 + n % 3);
    }
    for n in 0..5_000 {
        let (mac, at) = (format!("66:00:00:00:{:02x}:{:02x}", n >> 8, n & 0xff), address(n));
        let _ = write!(
            others,
            "{n}: cali{n}@if2: <BROADCAST,UP,LOWER_UP> mtu 1450\n    inet {at}/32 scope global cali{n}\n\
             {at} dev vxlan.calico lladdr {mac} PERMANENT\n{mac} dev vxlan.calico dst {at} self permanent\n"
        );
    }
    // Some twice, as in a collection that holds the same output in two places.
    let again = &routes[..routes.len() / 10];
    let host = host(&[("routes", &routes), ("others", &others), ("some", again), ("others", &others)]);
    let routes: Vec<_> = host.routes.iter().filter(|route| route.kind == "unicast").collect();
    assert_eq!(routes.len(), 300_000);
    assert!(routes.iter().zip(0..).all(|(route, n)| route.dst.addr() == IpAddr::from(address(n))));
    // No link has the number 0.
    let counts = [host.links.len(), host.addresses.len(), host.neighbours.len(), host.fdb.len()];
    assert_eq!(counts, [4_999, 5_000, 5_000, 5_000]);
    assert_eq!(host.neighbours[4_999].address, IpAddr::from(address(4_999)));
    assert_eq!((host.fdb[300].dst, host.links[299].name.as_str()), (Some(address(300).into()), "cali300"));
}

#[test]
fn json_of_ip_says_the_same_as_its_words() {
    let json = r#"[{"dst":"default","gateway":"192.168.50.1","dev":"eth0","flags":[]},
        {"type":"blackhole","dst":"10.244.1.0/26","protocol":"80","flags":[]},
        {"dst":"10.244.2.0/26","gateway":"10.244.2.0","dev":"vxlan.calico","flags":["onlink"]},
        {"dst":"10.9.0.0/16","nexthops":[{"gateway":"10.0.0.1","dev":"a","flags":["dead"]},{"gateway":"10.0.0.2","dev":"b","flags":[]}]}]"#;
    let text = "default via 192.168.50.1 dev eth0\nblackhole 10.244.1.0/26 proto 80\n\
                10.244.2.0/26 via 10.244.2.0 dev vxlan.calico onlink\n\
                10.9.0.0/16\n\tnexthop via 10.0.0.1 dev a dead\n\tnexthop via 10.0.0.2 dev b\n";
    assert_eq!(words(&host(&[("j", json)]).routes)[..3], words(&host(&[("t", text)]).routes)[..3]);
    let links = r#"[{"ifindex":5,"ifname":"vxlan.calico","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1450,"link_type":"ether",
        "address":"66:89:b3:e7:19:6b","linkinfo":{"info_kind":"vxlan","info_data":{"id":4096,"local":"192.168.50.11","port":4789,"learning":false}},
        "stats64":{"rx":{"bytes":1,"packets":2,"errors":0,"dropped":3},"tx":{"bytes":0,"packets":0,"errors":0,"dropped":4,"carrier_errors":5}},
        "addr_info":[{"family":"inet","local":"10.244.1.0","prefixlen":32}]}]"#;
    let text = "5: vxlan.calico: <BROADCAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UNKNOWN\n\
                \x20   link/ether 66:89:b3:e7:19:6b brd ff:ff:ff:ff:ff:ff promiscuity 0\n\
                \x20   vxlan id 4096 local 192.168.50.11 dev eth0 srcport 0 0 dstport 4789 nolearning ttl auto\n\
                \x20   RX:  bytes packets errors dropped  missed   mcast\n\
                \x20            1       2      0       3       0       0\n\
                \x20   TX:  bytes packets errors dropped carrier collsns\n\
                \x20            0       0      0       4       5       0\n\
                \x20   inet 10.244.1.0/32 scope global vxlan.calico\n\
                \x20      valid_lft forever preferred_lft forever\n";
    let (json, text) = (host(&[("j", links)]), host(&[("t", text)]));
    assert_eq!((&json.links, &json.addresses), (&text.links, &text.addresses));
    let link = &text.links[0];
    assert_eq!(link.stats["rx_dropped"] + link.stats["tx_dropped"] + link.stats["tx_carrier_errors"], 12);
    assert_eq!(link.vxlan.as_ref().unwrap().port, 4789);
}

#[test]
fn neighbours_forwarding_rules_and_queues_are_read() {
    let host = host(&[
        (
            "all",
            "10.244.2.0 dev vxlan.calico lladdr 66:2F:bb:36:30:14  used 22/22/22probes 0 PERMANENT \n\
             192.168.50.12 dev eth0  FAILED\n\
             66:2f:bb:36:30:14 dev vxlan.calico dst 192.168.50.12 self permanent\n\
             66:2f:bb:36:30:15 dev vxlan.calico dst fd00::1 self static\n\
             qdisc tbf 8001: dev eth0 root refcnt 2 rate 1Mbit burst 5Kb lat 50ms\n\
             \x20Sent 120 bytes 2 pkt (dropped 7, overlimits 9 requeues 0)\n\
             \x20backlog 0b 0p requeues 0\n\
             Features for eth0:\nrx-checksumming: on\n\ttx-checksum-ip-generic: on\n\ttx-checksum-sctp: off [fixed]\n\
             2: eth0    inet 192.168.50.11/24 brd 192.168.50.255 scope global eth0\\       valid_lft forever\n\
             net.ipv4.conf.vxlan/calico.rp_filter = 1\nkernel.panic = 0\n\
             Ip: Forwarding InReceives InNoRoutes\nIp: 1 20 3\nIp6InNoRoutes   \t 4\n\
             TcpExtListenDrops               5                  0.0\n\
             cpu=0 found=1 drop=2\ncpu=1 found=1 drop=3\n",
        ),
        (
            "ip_-4_rule",
            "0:\tfrom all lookup local\n100:\tfrom 10.0.0.0/8 fwmark 0x1/0xff lookup 7\n32767:\tfrom all lookup default\n",
        ),
        ("ip_-6_rule", "0:\tfrom all lookup local\n32766:\tfrom all lookup main\n"),
    ]);
    assert_eq!(host.neighbours[0].mac.as_deref(), Some("66:2f:bb:36:30:14"));
    assert_eq!(
        (host.neighbours[0].state.as_str(), host.neighbours[1].state.as_str()),
        ("permanent", "failed")
    );
    assert_eq!(host.fdb[0].dst, "192.168.50.12".parse::<IpAddr>().ok());
    assert_eq!(host.fdb[1].state, "noarp");
    assert_eq!(
        (host.queues[0].drops, host.queues[0].overlimits, host.queues[0].parent.as_str()),
        (7, 9, "ffff:ffff")
    );
    assert_eq!(host.addresses[0].address.to_string(), "192.168.50.11/24");
    assert_eq!(host.sysctl("net.ipv4.conf.vxlan.calico.rp_filter"), Some(1));
    assert!(host.sysctl("kernel.panic").is_none());
    let counted = ["Ip:InNoRoutes", "Ip6InNoRoutes", "TcpExt:ListenDrops", "conntrack:drop"]
        .map(|name| host.counter(name));
    assert_eq!(counted, [3, 4, 5, 5]);
    let rules: Vec<(u32, bool, bool)> =
        host.rules.iter().map(|rule| (rule.priority, rule.v6, rule.other)).collect();
    assert_eq!(
        rules,
        [
            (0, false, false),
            (100, false, false),
            (32767, false, false),
            (0, true, false),
            (32766, true, false)
        ]
    );
    // `ip link` did not name it: it is no link.
    assert_eq!(host.links, []);
}

#[test]
fn one_file_may_hold_everything_in_any_order() {
    let text = "===== iptables-save -c =====\n# Generated by ip6tables-save v1.8.9 (nf_tables) on Tue\n*filter\n:INPUT ACCEPT [1:2]\n\
                [3:4] -A INPUT -j DROP\nCOMMIT\n# Completed\n===== ipset list =====\nName: s\nType: hash:net\nRevision: 7\n\
                Header: family inet\nSize in memory: 1\nReferences: 0\nNumber of entries: 1\nMembers:\n10.0.0.0/8\n\n\
                ===== more =====\ntcp 6 9 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1\n\
                {\"nftables\": [{\"table\": {\"family\": \"inet\", \"name\": \"t\"}}, {\"table\": {\"family\": \"ip6\", \"name\": \"filter\"}}]}\n";
    let (pieces, what) = of("all.txt", text);
    assert_eq!(what, ["iptables' rules", "ipsets", "connections", "nftables"]);
    let texts = pieces.texts();
    let named =
        |name: &str| texts.iter().find(|(own, _)| own == name).map(|(_, text)| text.as_str()).unwrap();
    assert!(named("ip6tables-nft-save").contains("[3:4] -A INPUT -j DROP\nCOMMIT\n"));
    assert_eq!(named("ipset"), "create s hash:net family inet\nadd s 10.0.0.0/8\n");
    assert!(named("conntrack").starts_with("tcp 6 9"));
    assert!(named("nft").contains("inet") && !named("nft").contains("ip6"), "{}", named("nft"));
}

#[test]
fn logs_and_other_texts_are_nobodys() {
    for text in [
        "Nov 25 13:00:00 node kernel: 10.0.0.1 dev eth0 lladdr 66:2f:bb:36:30:14 REACHABLE\n",
        "10.0.0.1 - - [25/Nov/2026] \"GET / HTTP/1.1\" 200\n",
        "apiVersion: v1\nkind: List\nitems: []\n",
        "127.0.0.1 localhost\n::1 ip6-localhost\n",
        "[1, 2, 3]",
        "{\"a\": 1}",
        "",
    ] {
        let (_, what) = of("x", text);
        assert!(what.is_empty(), "{text}: {what:?}");
    }
}

#[test]
fn what_is_read_twice_is_before_and_after() {
    let reading = |packets: u64, routes: bool| {
        let mut pieces = Pieces::default();
        pieces.take("s", &format!("*filter\n:INPUT ACCEPT [{packets}:0]\nCOMMIT\nIp6InNoRoutes {packets}\n"));
        if routes {
            pieces.take("r", "10.244.1.2 dev cali1 scope link\n");
        }
        pieces
    };
    let texts = in_time(&[reading(1, false), reading(5, true)]);
    let named: Vec<(&str, When)> = texts.iter().map(|(name, when, _)| (name.as_str(), *when)).collect();
    let (before, after) = (When::Before, When::After);
    assert_eq!(
        named,
        [("iptables-save", before), ("iptables-save", after), ("state", before), ("state", after)]
    );
    let host = |at: usize| Host::parse(&texts[at].2).unwrap();
    assert_eq!(host(3).grown(&host(2), "Ip6InNoRoutes"), 4);
    assert_eq!(host(2).routes, host(3).routes, "what was read once has not changed, as far as is known");
    assert!(!host(3).has_read("neighbours") && host(3).has_read("routes"));
    let once = in_time(&[reading(1, true)]);
    assert!(once.iter().all(|(_, when, _)| *when == When::After));
}

#[test]
fn what_is_in_one_of_two_readings_only_has_not_changed_whichever_it_is() {
    let reading = |texts: &[&str]| {
        let mut pieces = Pieces::default();
        for (number, text) in texts.iter().enumerate() {
            pieces.take(&number.to_string(), text);
        }
        pieces
    };
    let links = "2: eth0: <BROADCAST,UP> mtu 1500 qdisc mq state UP mode DEFAULT group default qlen 1000\n";
    let offload = "Features for eth0:\n\ttx-checksum-ip-generic: on\n";
    let once = ["Ip6InNoRoutes 7\n", "10.244.1.2 dev cali1 scope link\n", "net.ipv4.ip_forward = 1\n"];
    let whole = [&[links, offload][..], &once[..]].concat();
    // The links are in both, and so there is a before.
    for (first, second) in [(&whole[..], &[links][..]), (&[links], &whole), (&[links], &[links, offload])] {
        let texts = in_time(&[reading(first), reading(second)]);
        let [before, after] = [0, 1].map(|at| Host::parse(&texts[at].2).unwrap());
        assert_eq!((texts[0].1, texts[1].1), (When::Before, When::After));
        assert_eq!(before, after);
        assert!(after.links[0].checksums.is_some());
        assert_eq!(after.grown(&before, "Ip6InNoRoutes"), 0);
    }
}

/// All rules of a node whose `iptables-save`, with what stands before it, and nftables' tables were collected.
fn rules(before: &str, tables: &str) -> Filters {
    let saved = "# Generated by iptables-save v1.8.9 (nf_tables)\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n";
    let (mut pieces, _) = of("iptables-save", &format!("{before}{saved}"));
    pieces.take("nft-ruleset.txt", tables);
    let texts = pieces.texts().into_iter().map(|(name, text)| Text {
        node: "n".to_owned(),
        name,
        when: When::After,
        content: Known::Read(text),
    });
    Filters::read(&Texts(texts.collect()), "n", "", None)
}

#[test]
fn tables_of_iptables_in_nftables_own_words_leave_nothing_open() {
    let read = |tables: &str| rules("", tables).world(false).unread;
    assert_eq!(read("table ip filter { # handle 1\n\tchain INPUT {\n\t}\n}\n"), Vec::<String>::new());
    assert_eq!(read("table inet firewalld {\n}\n"), Vec::<String>::new());
    // What is cut off may hold a rule that drops.
    assert_eq!(read("table inet firewalld {\n\tchain a {\n"), ["the tables of nftables were not read"]);
    // Unless it is there once more, whole.
    let twice = "table inet firewalld {\n}\ntable inet firewalld {\n\tchain a {\n";
    assert_eq!(read(twice), Vec::<String>::new());
}

#[test]
fn what_somebody_else_keeps_in_a_table_of_iptables_is_read_from_nft() {
    let remark = "# Table `filter' contains incompatible base-chains, use 'nft' tool to list them.\n";
    let own = "\tchain own {\n\t\ttype filter hook input priority 5; policy drop;\n\t}\n";
    let moved = "\tchain FORWARD {\n\t\ttype filter hook forward priority -9; policy drop;\n\t}\n";
    let iptables = "\tchain INPUT {\n\t\ttype filter hook input priority 0; policy accept;\n\t}\n";
    let filters = rules(remark, &format!("table ip filter {{\n{iptables}{own}{moved}}}\n"));
    assert_eq!(filters.world(false).unread, Vec::<String>::new());
    let (_, nft) = filters.rulesets.iter().find(|(name, _)| name == "nft").unwrap();
    let names: Vec<&str> = nft.tables[0].chains.iter().map(|chain| chain.name.as_str()).collect();
    assert_eq!(names, ["own", "FORWARD"]);
    // Where nft did not print that table nothing is certain.
    let unread = rules(remark, "table inet other {\n}\n").world(false).unread;
    assert_eq!(unread, ["iptables-nft-save: table filter is not iptables', and nft did not print it"]);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _whatever = of("x", &text);
    }

    #[test]
    fn no_words_of_theirs_panic(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..60)) {
        let (pieces, _) = of("x", &words.concat());
        let _whatever = in_time(&[pieces]);
    }
}

const WORDS: &[&str] = &[
    "\n",
    "\n",
    "\n",
    "\n ",
    " ",
    " ",
    "1: ",
    "2: eth0: <UP> mtu 1500",
    " inet ",
    " inet6 ",
    "10.0.0.1",
    "::1",
    "/24",
    "/99",
    "via ",
    "dev ",
    "eth0",
    "table ",
    "metric ",
    "-1",
    "99999999999",
    "nexthop ",
    "default ",
    "blackhole ",
    "lladdr ",
    "aa:bb:cc:dd:ee:ff",
    " dev ",
    "PERMANENT",
    "*filter",
    "COMMIT",
    "Chain X (policy DROP 1 packets, 2 bytes)",
    "Chain FORWARD (policy ",
    "pkts bytes",
    "0 0 DROP 6 -- * * 0.0.0.0/0 0.0.0.0/0 ",
    "/* ",
    "*/",
    "! ",
    "match-set ",
    "Name: ",
    "Type:",
    "Members:",
    "add ",
    "create ",
    "RX: ",
    "TX: ",
    "packets ",
    "link/ether ",
    "vxlan id ",
    "qdisc ",
    "(dropped 1, overlimits ",
    "from ",
    "all ",
    "lookup ",
    "fwmark ",
    "Ip: ",
    "0x",
    "entries early_drop",
    "ffffffffffffffff",
    "cpu=0 ",
    "drop=18446744073709551615",
    "é",
    "\\",
    "peer ",
    "{\"nftables\":",
    "}",
    "table ip x {",
    "Features for ",
    ":",
    "mtu lock",
];
