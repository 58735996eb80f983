//! Events into counts: equal ones are one entry with a number, so that a storm of drops takes no memory. Knows no
//! names: those are put in at the end, once.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use super::event::Event;
use super::{btf, symbols};
use crate::evidence::kernel::{GivenUp, Icmp, Outer, Within};

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Numbers of the namespaces that are listened in.
    within: Vec<(u32, Within)>,
    entries: FxHashMap<Key, Entry>,
    left_out: u64,
}

/// What makes two events the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    reason: u32,
    stack: Vec<u64>,
    within: Within,
    interface: Option<String>,
    source: IpAddr,
    destination: IpAddr,
    outer: Option<(IpAddr, IpAddr, u32)>,
    protocol: u8,
    icmp_type: u8,
    /// Ports, or an echo's identifier alone.
    numbers: (u16, u16),
    fragment: bool,
    late: bool,
}

#[derive(Debug)]
struct Entry {
    events: u64,
    packets: u64,
    length: (u32, u32),
    echo_numbers: (u16, u16),
    ttl: u8,
    time: (i64, i64),
}

/// More kinds of events are only counted: about 2 MB.
const MOST: usize = 4096;

impl Counts {
    pub(super) fn new(within: Vec<(u32, Within)>) -> Self {
        Self { within, ..Self::default() }
    }

    pub(super) fn take(&mut self, event: &Event, late: bool) {
        let Some((_, within)) = self.within.iter().find(|(number, _)| *number == event.namespace) else {
            return;
        };
        let is_icmp = matches!(event.protocol, 1 | 58);
        let key = Key {
            reason: event.reason,
            stack: event.stack.clone(),
            within: *within,
            interface: event.interface.clone(),
            source: event.source,
            destination: event.destination,
            outer: event.outer,
            protocol: event.protocol,
            icmp_type: event.icmp_type,
            numbers: if is_icmp { (event.numbers.0, 0) } else { event.numbers },
            fragment: event.fragment,
            late,
        };
        if self.entries.len() >= MOST && !self.entries.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let number = event.numbers.1;
        let entry = self.entries.entry(key).or_insert(Entry {
            events: 0,
            packets: 0,
            length: (event.length, event.length),
            echo_numbers: (number, number),
            ttl: event.ttl,
            time: (event.time, event.time),
        });
        entry.events += 1;
        entry.packets += u64::from(event.segments.max(1));
        entry.length = (entry.length.0.min(event.length), entry.length.1.max(event.length));
        entry.echo_numbers = (entry.echo_numbers.0.min(number), entry.echo_numbers.1.max(number));
        entry.ttl = entry.ttl.min(event.ttl);
        entry.time = (entry.time.0.min(event.time), entry.time.1.max(event.time));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Events of too many kinds.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// All return addresses.
    pub(super) fn addresses(&self) -> Vec<u64> {
        self.entries.keys().flat_map(|key| key.stack.iter().copied()).collect()
    }

    /// As evidence, the first heard first.
    pub(super) fn name(self, symbols: &symbols::Names, reasons: &btf::Names) -> Vec<GivenUp> {
        let function =
            |address: &u64| symbols.get(address).cloned().unwrap_or_else(|| format!("{address:#x}"));
        let named = self.entries.into_iter().map(|(key, entry)| {
            let mut stack = key.stack.iter().map(function);
            let reason = reasons.get(&key.reason).map(|name| {
                name.strip_prefix("SKB_DROP_REASON_").or(name.strip_prefix("SKB_")).unwrap_or(name).to_owned()
            });
            let is_icmp = matches!(key.protocol, 1 | 58);
            let has_ports = matches!(key.protocol, 6 | 17 | 132) && key.numbers != (0, 0);
            GivenUp {
                reason: reason.unwrap_or_else(|| format!("reason {}", key.reason)),
                function: stack.next().unwrap_or_default(),
                callers: stack.collect(),
                within: key.within,
                interface: key.interface,
                source: key.source,
                destination: key.destination,
                protocol: key.protocol,
                ports: has_ports.then_some(key.numbers),
                icmp: is_icmp.then_some(Icmp {
                    kind: key.icmp_type,
                    id: key.numbers.0,
                    numbers: entry.echo_numbers,
                }),
                outer: key.outer.map(|(source, destination, vni)| Outer { source, destination, vni }),
                fragment: key.fragment,
                length: entry.length,
                ttl: entry.ttl,
                events: entry.events,
                packets: entry.packets,
                first: entry.time.0,
                last: entry.time.1,
                late: key.late,
            }
        });
        let mut all: Vec<GivenUp> = named.collect();
        all.sort_by(|a, b| (a.first, &a.function).cmp(&(b.first, &b.function)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(namespace: u32, port: u16, segments: u16) -> Event {
        Event {
            time: i64::from(port),
            stack: vec![16, 32],
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            outer: None,
            interface: Some("eth0".to_owned()),
            reason: 8,
            namespace,
            length: 100 + u32::from(port),
            numbers: (port, 80),
            segments,
            protocol: 6,
            ttl: 63,
            icmp_type: 0,
            fragment: false,
        }
    }

    #[test]
    fn equal_events_are_one_entry_and_other_namespaces_none() {
        let mut counts = Counts::new(vec![(5, Within::Node), (6, Within::Pod)]);
        for (namespace, segments) in [(5, 0), (5, 3), (6, 1), (7, 1)] {
            counts.take(&event(namespace, 1, segments), false);
        }
        counts.take(&event(5, 1, 1), true);
        let symbols = [(16, "ip_error".to_owned())].into_iter().collect();
        let reasons = [(8, "SKB_DROP_REASON_NETFILTER_DROP".to_owned())].into_iter().collect();
        let mut all = counts.name(&symbols, &reasons);
        all.sort_by_key(|one| (one.within, one.late));
        let numbers: Vec<_> = all.iter().map(|one| (one.within, one.late, one.events, one.packets)).collect();
        assert_eq!(
            numbers,
            [(Within::Node, false, 2, 4), (Within::Node, true, 1, 1), (Within::Pod, false, 1, 1)]
        );
        assert_eq!((all[0].reason.as_str(), all[0].function.as_str()), ("NETFILTER_DROP", "ip_error"));
        assert_eq!(all[0].callers, ["0x20"]);
    }

    #[test]
    fn memory_is_bounded_and_what_is_left_out_counted() {
        let mut counts = Counts::new(vec![(5, Within::Node)]);
        for port in 0..5000 {
            counts.take(&event(5, port, 1), false);
        }
        assert_eq!((counts.entries.len(), counts.left_out()), (MOST, 5000 - MOST as u64));
        counts.take(&event(5, 0, 1), false);
        assert_eq!(counts.left_out(), 5000 - MOST as u64);
    }
}
