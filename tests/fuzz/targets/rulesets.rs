//! Four texts, parted by zero bytes: `iptables-save -c`, nft's JSON, `ipset save`, a node's state. Each is parsed, and
//! packets are walked through all of it. An odd number of bytes in the first line chooses the packet.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use trace_drop::analyze::rules::overview;
use trace_drop::evidence::host::Host;
use trace_drop::evidence::netfilter::{Course, CtState, Meets, Ruleset, Sets, World, delta, walk};
use trace_drop::evidence::{Known, Text, Texts, When};
use trace_drop::report::{Style, rules};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0').chain(std::iter::repeat(""));
    let mut next = || parts.next().unwrap_or_default();
    let (iptables, nft, ipset, state) = (next(), next(), next(), next());
    let read = [Ruleset::parse(iptables), Ruleset::parse_nft(nft)];
    let sets = Sets::parse(ipset);
    let host = Host::parse(state).ok();
    for (name, n_members) in sets.sizes() {
        assert!(sets.n_members(&name).is_some(), "{n_members}");
    }
    for rules in &read {
        let _moved = delta(rules, rules);
        for table in &rules.tables {
            for chain in &table.chains {
                assert!(rules.n_rules() >= chain.rules.len());
            }
        }
    }
    let rulesets = vec![("iptables-nft-save".to_owned(), &read[0]), ("nft".to_owned(), &read[1])];
    let world = World { rulesets, sets: Some(&sets), host: host.as_ref(), unread: Vec::new() };
    for meets in [tcp(), reply(), echo(), Meets::default()] {
        for course in [Course::Forwarded, Course::Received, Course::Sent] {
            let walked = walk(&world, course, &meets);
            assert!(!walked.ends.is_empty() || !walked.doubts.is_empty(), "a packet ends somewhere");
            for met in &walked.met {
                assert!(world.chain(&met.place).is_some());
            }
        }
    }
    let texts = [("iptables-nft-save", iptables), ("nft", nft), ("ipset", ipset), ("state", state)];
    let texts = texts.map(|(name, content)| Text {
        node: "worker-1".to_owned(),
        name: name.to_owned(),
        when: When::After,
        content: Known::Read(content.to_owned()),
    });
    let nodes = overview(&Texts(texts.into()), None, None);
    rules::overview(&nodes, Style { color: false, verbose: true }, &mut Vec::new()).expect("memory");
    rules::overview_json(&nodes, &mut Vec::new()).expect("memory");
});

fn tcp() -> Meets {
    Meets {
        src: Some(CLIENT),
        dst: Some(SERVER),
        protocol: Some(6),
        src_port: Some(40_000),
        dst_port: Some(8_080),
        tcp_flags: Some(2),
        length: Some(60),
        state: Some(CtState::New),
        reply: Some(false),
        mark: Some(0),
        in_interface: Some("cali1".to_owned()),
        out_interface: Some("vxlan.calico".to_owned()),
        ..Meets::default()
    }
}

fn reply() -> Meets {
    Meets {
        src: Some(SERVER),
        dst: Some(CLIENT),
        state: Some(CtState::Established),
        reply: Some(true),
        ..tcp()
    }
}

fn echo() -> Meets {
    let all = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 9_u16]);
    Meets { src: Some(all), dst: Some(all), protocol: Some(58), icmp: Some((128, 0)), ..Meets::default() }
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 1, 2));
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 2, 2));
