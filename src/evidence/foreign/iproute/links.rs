//! Links, and what hangs at them: addresses, neighbours, forwarding entries, queues.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::Part;
use super::{Reader, Under, is_mac, net};
use crate::evidence::host::{Address, FdbEntry, Link, Neighbour, Queue, Vxlan};

impl Reader {
    /// `2: eth0@if5: <UP> mtu 1500 …`, or one line of `ip -o`.
    pub(super) fn numbered(&mut self, index: u32, line: &str) -> Option<Part> {
        let mut lines = line.split('\\');
        let head = lines.next()?;
        let words: Vec<&str> = head.split_whitespace().collect();
        let name = words.get(1)?.split('@').next()?.trim_end_matches(':');
        let has_head = words.get(2)?.starts_with('<');
        if !has_head && !matches!(words.get(2), Some(&("inet" | "inet6"))) {
            return None;
        }
        let part = if has_head {
            let flags = words[2].strip_prefix('<')?.strip_suffix('>')?;
            let has = |flag: &str| flags.split(',').any(|own| own == flag);
            let after =
                |key: &str| words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1));
            let mtu = after("mtu")?.parse().ok()?;
            let at = self.link(name);
            let link = &mut self.host.links[at];
            link.index = index;
            (link.up, link.carrier, link.arp) = (has("UP"), has("LOWER_UP"), !has("NOARP"));
            link.mtu = mtu;
            link.xdp = link.xdp.take().or_else(|| words.iter().find_map(|word| xdp(word)));
            self.under = Under::Link(at);
            Part::Links
        } else {
            self.address(name, &words[2..])?
        };
        for more in lines {
            self.indented(&format!(" {more}"));
        }
        Some(part)
    }

    /// The place of the link of that name.
    pub(super) fn link(&mut self, name: &str) -> usize {
        let links = &mut self.host.links;
        self.index.links.find(name, |at| links[at].name == name).unwrap_or_else(|| {
            self.index.links.note(name, links.len());
            links.push(Link { name: name.to_owned(), arp: true, ..Link::default() });
            links.len() - 1
        })
    }

    pub(super) fn of_link(&mut self, at: usize, words: &[&str]) -> Option<Part> {
        let first = *words.first()?;
        if let Some((direction, columns)) = self.columns.take() {
            let link = &mut self.host.links[at];
            for (name, value) in columns.iter().zip(words) {
                let Some(name) = statistic(direction, name) else { continue };
                if let Ok(value @ 1..) = value.parse() {
                    link.stats.insert(name.to_owned(), value);
                }
            }
            return Some(Part::Links);
        }
        if let Some(direction) = match first {
            "RX:" | "RX" => Some("rx"),
            "TX:" | "TX" => Some("tx"),
            _ => None,
        } {
            let errors = words.get(1).is_some_and(|word| word.starts_with("errors:"));
            let columns = &words[if errors { 2 } else { 1 }..];
            let columns =
                columns.iter().map(|name| if errors { format!("{name}_errors") } else { (*name).to_owned() });
            self.columns = Some((direction, columns.collect()));
            return Some(Part::Links);
        }
        if first == "inet" || first == "inet6" {
            let name = self.host.links[at].name.clone();
            return self.address(&name, words);
        }
        let link = &mut self.host.links[at];
        if first.starts_with("link/") {
            link.mac =
                words.get(1).filter(|mac| is_mac(mac)).map(|mac| mac.to_lowercase()).or(link.mac.take());
        } else if first == "vxlan" {
            link.kind = Some(first.to_owned());
            link.vxlan = Some(vxlan(words));
        } else if KINDS.contains(&first) {
            link.kind.get_or_insert_with(|| first.to_owned());
        } else if first == "prog/xdp" {
            link.xdp.get_or_insert_with(|| "driver".to_owned());
        }
        Some(Part::Links)
    }

    /// `inet 10.0.0.1/24 …`, `inet 10.0.0.1 peer 10.0.0.2/32 …`.
    fn address(&mut self, link: &str, words: &[&str]) -> Option<Part> {
        let own = *words.get(1)?;
        let length = match words.get(2) {
            Some(&"peer") => words.get(3)?.split_once('/').map(|(_, length)| length),
            _ => None,
        };
        let address = match length {
            Some(length) => IpNet::new(own.parse().ok()?, length.parse().ok()?).ok()?,
            None => net(own)?,
        };
        let address = Address { link: link.to_owned(), address };
        let addresses = &mut self.host.addresses;
        if self.index.addresses.find(&address, |at| addresses[at] == address).is_none() {
            self.index.addresses.note(&address, addresses.len());
            addresses.push(address);
        }
        Some(Part::Addresses)
    }

    pub(super) fn neighbour(&mut self, words: &[&str]) -> Option<Part> {
        let address: IpAddr = words.first()?.parse().ok()?;
        let state = words.last()?;
        if words.get(1) != Some(&"dev") || !NEIGHBOUR_STATES.contains(state) {
            return None;
        }
        let mac = words.iter().position(|word| *word == "lladdr").and_then(|at| words.get(at + 1));
        let entry = Neighbour {
            link: (*words.get(2)?).to_owned(),
            address,
            mac: mac.filter(|mac| is_mac(mac)).map(|mac| mac.to_lowercase()),
            state: state.to_lowercase(),
        };
        let neighbours = &mut self.host.neighbours;
        let key = (&entry.link, address);
        let is = |at: usize| (&neighbours[at].link, neighbours[at].address) == key;
        if self.index.neighbours.find(key, is).is_none() {
            self.index.neighbours.note(key, neighbours.len());
            neighbours.push(entry);
        }
        Some(Part::Neighbours)
    }

    pub(super) fn forwarding(&mut self, words: &[&str]) -> Option<Part> {
        let after = |key: &str| words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1));
        let state = ["permanent", "static", "stale"].into_iter().find(|state| words.contains(state));
        let entry = FdbEntry {
            link: (*words.get(2)?).to_owned(),
            mac: words[0].to_lowercase(),
            dst: after("dst").and_then(|dst| dst.parse().ok()),
            state: match state {
                Some("static") => "noarp",
                Some(state) => state,
                None => "reachable",
            }
            .to_owned(),
        };
        let fdb = &mut self.host.fdb;
        if self.index.fdb.find(&entry, |at| fdb[at] == entry).is_none() {
            self.index.fdb.note(&entry, fdb.len());
            fdb.push(entry);
        }
        Some(Part::Fdb)
    }

    /// `qdisc fq_codel 0: dev eth0 root refcnt 2 …`; its numbers stand on the next line.
    pub(super) fn queue(&mut self, words: &[&str]) -> Option<Part> {
        let after = |key: &str| words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1));
        let kind = (*words.get(1)?).to_owned();
        let link = (*after("dev")?).to_owned();
        let parent = match after("parent") {
            Some(parent) => (*parent).to_owned(),
            None if matches!(kind.as_str(), "clsact" | "ingress") => "ffff:fff1".to_owned(),
            None => "ffff:ffff".to_owned(),
        };
        self.host.queues.push(Queue { link, kind, parent, drops: 0, overlimits: 0 });
        self.under = Under::Queue(self.host.queues.len() - 1);
        Some(Part::Queues)
    }

    /// `Sent 0 bytes 0 pkt (dropped 0, overlimits 0 requeues 0)`.
    pub(super) fn sent(&mut self, at: usize, line: &str) {
        let after = |key: &str| {
            let rest = line.split_once(key)?.1.trim_start();
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let queue = &mut self.host.queues[at];
        if let (Some(drops), Some(overlimits)) = (after("(dropped "), after("overlimits ")) {
            (queue.drops, queue.overlimits) = (drops, overlimits);
        }
    }
}

fn vxlan(words: &[&str]) -> Vxlan {
    let after = |key: &str| words.iter().position(|word| *word == key).and_then(|at| words.get(at + 1));
    Vxlan {
        vni: after("id").and_then(|id| id.parse().ok()).unwrap_or(0),
        port: after("dstport").and_then(|port| port.parse().ok()).unwrap_or(0),
        local: after("local").and_then(|local| local.parse().ok()),
        learning: !words.contains(&"nolearning"),
    }
}

/// `xdp`, `xdpgeneric/id:7`.
fn xdp(word: &str) -> Option<String> {
    let how = word.strip_prefix("xdp")?.split('/').next()?;
    Some(
        match how {
            "" | "drv" => "driver",
            "generic" => "generic",
            "offload" => "hardware",
            "multi" => "several",
            _ => return None,
        }
        .to_owned(),
    )
}

/// The kernel's name (`struct rtnl_link_stats64`) of a column of `ip -s`.
fn statistic(direction: &str, column: &str) -> Option<&'static str> {
    Some(match (direction, column) {
        ("rx", "packets") => "rx_packets",
        ("tx", "packets") => "tx_packets",
        ("rx", "errors") => "rx_errors",
        ("tx", "errors") => "tx_errors",
        ("rx", "dropped") => "rx_dropped",
        ("tx", "dropped") => "tx_dropped",
        ("rx", "overrun") => "rx_over_errors",
        ("rx", "missed" | "missed_errors") => "rx_missed_errors",
        ("rx", "length_errors") => "rx_length_errors",
        ("rx", "crc_errors") => "rx_crc_errors",
        ("rx", "frame_errors") => "rx_frame_errors",
        ("rx", "otherhost_errors" | "otherhost") => "rx_otherhost_dropped",
        ("tx", "carrier") => "tx_carrier_errors",
        _ => return None,
    })
}

const NEIGHBOUR_STATES: &[&str] =
    &["PERMANENT", "NOARP", "REACHABLE", "STALE", "NONE", "INCOMPLETE", "DELAY", "PROBE", "FAILED"];

/// Kinds of links that `ip -d` names at the beginning of a line.
const KINDS: &[&str] = &[
    "veth",
    "bridge",
    "bond",
    "team",
    "vlan",
    "vrf",
    "dummy",
    "tun",
    "macvlan",
    "macvtap",
    "ipvlan",
    "ipvtap",
    "ipip",
    "sit",
    "gre",
    "gretap",
    "erspan",
    "ip6tnl",
    "ip6gre",
    "ip6gretap",
    "geneve",
    "wireguard",
    "ifb",
    "nlmon",
    "vcan",
    "xfrm",
    "openvswitch",
    "netdevsim",
];
