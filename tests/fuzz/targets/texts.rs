//! Three texts of a node, parted by zero bytes: its state, conntrack, the kernel's events. Each is parsed; the state
//! answers questions.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use trace_drop::analyze::correlate::nat::Nat;
use trace_drop::evidence::Direction;
use trace_drop::evidence::host::{Host, Question};
use trace_drop::evidence::kernel::KernelWord;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0').chain(std::iter::repeat(""));
    let mut next = || parts.next().unwrap_or_default();
    let (state, conntrack, kernel) = (next(), next(), next());
    if let Ok(host) = Host::parse(state) {
        ask(&host);
    }
    let mut nat = Nat::default();
    nat.read_conntrack(conntrack, |flow| {
        Some(if flow.src_port < flow.dst_port { Direction::Forward } else { Direction::Reply })
    });
    let _changes = nat.changes();
    let word = KernelWord::parse(kernel);
    for event in &word.given_up {
        let _hook = (event.hook(), event.passes("nft_do_chain"));
    }
    let again = KernelWord::parse(&word.to_text().expect("it is JSON"));
    assert_eq!((&again.heard, &again.given_up), (&word.heard, &word.given_up));
    assert_eq!(again.broken.len(), 0);
});

fn ask(host: &Host) {
    let addresses = ["10.244.2.2", "192.168.50.12", "0.0.0.0", "fd00::2", "::"];
    for dst in addresses.map(|text| text.parse::<IpAddr>().expect("an address")) {
        for iif in [None, Some("eth0")] {
            for src in [None, Some(dst)] {
                let question = Question { dst, src, iif };
                let (found, said) = (host.lookup(&question), host.routed(&question));
                for route in [found.route, said.route].into_iter().flatten() {
                    assert!(!route.words().is_empty());
                }
            }
        }
        for link in &host.links {
            let _neighbour = host.neighbour(&link.name, dst);
        }
        let _link = host.link_of(dst);
    }
    let _disagreements = host.disagreements();
    for link in &host.links {
        assert!(host.link(&link.name).is_some());
        let _checksums = link.leaves_checksums();
        for name in link.stats.keys() {
            let _grown = host.link_grown(host, &link.name, name);
        }
    }
    for name in host.counters.keys() {
        assert_eq!(host.grown(host, name), 0);
    }
}
