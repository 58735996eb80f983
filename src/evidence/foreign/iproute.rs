//! What iproute2 and its kin print (`ip`, `bridge`, `tc`, `ethtool -k`), line by line into a [`Host`]. Takes a line that may
//! be anything; adds what it says, or says that it is none of theirs. A word that is not known makes a line somebody else's:
//! logs are full of addresses. Nothing is judged.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Part;
use super::places::Places;
use crate::evidence::host::{
    Address, FdbEntry, Host, HostRoute, LOCAL, Link, MAIN, Neighbour, Queue, RouteRule, Vxlan,
};

/// Reads lines; what they say is in [`host`](Self::host).
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) host: Host,
    /// What lines that are set in belong to.
    under: Under,
    /// Which of the two directions the next line of numbers is about, and what its columns are.
    columns: Option<(&'static str, Vec<String>)>,
    /// A prefix alone on its line: a route, if next hops follow.
    prefix: Option<HostRoute>,
    /// Next hops just followed: the line before was one of theirs after all.
    pub(super) was_route: bool,
    /// Rules whose family their text does not say, by their place.
    open: Vec<usize>,
    index: Index,
}

/// Where what was read stands: links by their name, neighbours by link and address, all else by all that it says.
#[derive(Debug, Default)]
struct Index {
    links: Places,
    addresses: Places,
    neighbours: Places,
    fdb: Places,
    routes: Places,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Under {
    #[default]
    Nothing,
    Link(usize),
    Prefix,
    Route(usize),
    Queue(usize),
    Features(usize),
}

impl Reader {
    /// Another text begins; the one before had this name.
    pub(super) fn end(&mut self, name: &str) {
        self.under = Under::Nothing;
        self.columns = None;
        // Only IPv4 has the table `default`.
        let open = std::mem::take(&mut self.open);
        let says = ["-6", "_6", "v6"].iter().any(|six| name.contains(six));
        let v4 = open.iter().any(|at| self.host.rules[*at].table == DEFAULT);
        for at in open {
            self.host.rules[at].v6 = says || !v4;
        }
    }

    /// What the line is a part of; none when it is none of theirs.
    pub(super) fn line(&mut self, line: &str) -> Option<Part> {
        if line.starts_with(char::is_whitespace) {
            return self.indented(line);
        }
        if let (Under::Features(_), [name, "on" | "off", ..]) =
            (self.under, line.split_whitespace().collect::<Vec<_>>().as_slice())
            && name.ends_with(':')
        {
            return self.indented(line);
        }
        self.columns = None;
        self.under = Under::Nothing;
        let words: Vec<&str> = line.split_whitespace().collect();
        let first = *words.first()?;
        if first == "qdisc" {
            return self.queue(&words);
        }
        if let Some(link) = line.strip_prefix("Features for ").and_then(|rest| rest.trim().strip_suffix(':'))
        {
            let at = self.link(link);
            self.host.links[at].checksums.get_or_insert_default();
            self.under = Under::Features(at);
            return Some(Part::Offload);
        }
        if let Some(number) = first.strip_suffix(':').and_then(|number| number.parse::<u32>().ok()) {
            return match words.get(1)? {
                &"from" | &"not" => self.rule(number, &words[1..]),
                _ => self.numbered(number, line),
            };
        }
        if is_mac(first) && words.get(1) == Some(&"dev") {
            return self.forwarding(&words);
        }
        self.neighbour(&words).or_else(|| self.route(&words))
    }

    /// `2: eth0@if5: <UP> mtu 1500 …`, or one line of `ip -o`.
    fn numbered(&mut self, index: u32, line: &str) -> Option<Part> {
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
    fn link(&mut self, name: &str) -> usize {
        let links = &mut self.host.links;
        self.index.links.find(name, |at| links[at].name == name).unwrap_or_else(|| {
            self.index.links.note(name, links.len());
            links.push(Link { name: name.to_owned(), arp: true, ..Link::default() });
            links.len() - 1
        })
    }

    fn indented(&mut self, line: &str) -> Option<Part> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match self.under {
            Under::Nothing => None,
            Under::Link(at) => self.of_link(at, &words),
            Under::Prefix => {
                let route = self.prefix.take().filter(|_| words.first() == Some(&"nexthop"))?;
                let at = self.add(route);
                self.was_route = true;
                self.under = Under::Route(at);
                self.hop(at, &words)
            }
            Under::Route(at) => self.hop(at, &words),
            Under::Queue(at) => {
                self.sent(at, line);
                Some(Part::Queues)
            }
            Under::Features(at) => {
                if let [name, "on", ..] = words.as_slice() {
                    let name = name.trim_end_matches(':');
                    let known = self.host.links[at].checksums.get_or_insert_default();
                    if name.starts_with("tx-checksum-") && !known.iter().any(|own| own == name) {
                        known.push(name.to_owned());
                    }
                }
                Some(Part::Offload)
            }
        }
    }

    fn of_link(&mut self, at: usize, words: &[&str]) -> Option<Part> {
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

    fn neighbour(&mut self, words: &[&str]) -> Option<Part> {
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

    fn forwarding(&mut self, words: &[&str]) -> Option<Part> {
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

    fn route(&mut self, words: &[&str]) -> Option<Part> {
        let (kind, rest) = match words.split_first()? {
            (first, rest) if ROUTE_KINDS.contains(first) => (*first, rest),
            _ => ("unicast", words),
        };
        let (prefix, rest) = rest.split_first()?;
        let default = *prefix == "default";
        let dst = if default { net("0.0.0.0/0")? } else { net(prefix)? };
        let mut route = HostRoute {
            dst,
            kind: kind.to_owned(),
            via: None,
            dev: None,
            table: if matches!(kind, "local" | "broadcast" | "anycast") { LOCAL } else { MAIN },
            metric: 0,
            protocol: BOOT,
            onlink: false,
            dead: false,
            multipath: false,
        };
        let v6 = attributes(&mut route, rest)? || route.via.is_some_and(|via| via.is_ipv6());
        if default && v6 {
            route.dst = net("::/0")?;
        }
        let leads = route.dev.is_some() || route.via.is_some() || kind != "unicast";
        if !leads && !default && route.protocol == BOOT {
            self.prefix = Some(route);
            self.under = Under::Prefix;
            return None;
        }
        let routes = &self.host.routes;
        let known = self.index.routes.find(&route, |at| routes[at] == route);
        let at = known.unwrap_or_else(|| self.add(route));
        self.under = Under::Route(at);
        Some(Part::Routes)
    }

    /// Adds a route; gives its place.
    fn add(&mut self, route: HostRoute) -> usize {
        let at = self.host.routes.len();
        self.index.routes.note(&route, at);
        self.host.routes.push(route);
        at
    }

    fn hop(&mut self, at: usize, words: &[&str]) -> Option<Part> {
        let rest = words.strip_prefix(&["nexthop"])?;
        let route = &mut self.host.routes[at];
        let before = route.clone();
        let mut hop = HostRoute { via: None, dev: None, dead: false, ..route.clone() };
        let v6 = attributes(&mut hop, rest)? || hop.via.is_some_and(|via| via.is_ipv6());
        if v6 && route.dst.prefix_len() == 0 {
            route.dst = net("::/0")?;
        }
        route.multipath = route.dev.is_some();
        if route.dev.is_none() && !hop.dead {
            (route.dev, route.via, route.onlink) = (hop.dev, hop.via, hop.onlink);
        }
        if *route != before {
            self.index.routes.forget(&before, at);
            self.index.routes.note(&*route, at);
        }
        Some(Part::Routes)
    }

    /// `0: from all lookup local`.
    fn rule(&mut self, priority: u32, words: &[&str]) -> Option<Part> {
        let mut rule = RouteRule { priority, action: "table".to_owned(), ..RouteRule::default() };
        let mut v6 = None;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "from" | "to" => {
                    let value = *words.next()?;
                    let prefix = if value == "all" { None } else { Some(net(value)?) };
                    v6 = v6.or(prefix.map(|prefix| prefix.addr().is_ipv6()));
                    *(if *word == "from" { &mut rule.src } else { &mut rule.dst }) = prefix;
                }
                "iif" => rule.iif = Some((*words.next()?).to_owned()),
                "fwmark" => {
                    // Whatever its mask, a rule that asks for a mark makes the lookup uncertain.
                    let value = words.next()?;
                    rule.mark = Some(number(value.split_once('/').map_or(*value, |(value, _)| value))?);
                }
                "lookup" | "table" => rule.table = table(words.next()?),
                "proto" => _ = words.next(),
                "blackhole" | "unreachable" | "prohibit" => (*word).clone_into(&mut rule.action),
                "[detached]" | "not" | "l3mdev-table" | "goto" | "nop" | "[l3mdev-table]" => {
                    rule.other = true;
                }
                "oif"
                | "tos"
                | "dsfield"
                | "uidrange"
                | "ipproto"
                | "sport"
                | "dport"
                | "suppress_prefixlength"
                | "suppress_ifgroup"
                | "realms"
                | "map-to"
                | "tun_id" => {
                    rule.other = true;
                    words.next();
                }
                _ => return None,
            }
        }
        rule.v6 = v6.unwrap_or(false);
        if v6.is_none() {
            self.open.push(self.host.rules.len());
        }
        self.host.rules.push(rule);
        Some(Part::Rules)
    }

    /// `qdisc fq_codel 0: dev eth0 root refcnt 2 …`; its numbers stand on the next line.
    fn queue(&mut self, words: &[&str]) -> Option<Part> {
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
    fn sent(&mut self, at: usize, line: &str) {
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

/// The words of a route behind its prefix; whether they say that it is one of IPv6. None when a word is not known.
fn attributes(route: &mut HostRoute, words: &[&str]) -> Option<bool> {
    let mut v6 = false;
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match *word {
            "via" => {
                words.next_if(|next| matches!(**next, "inet" | "inet6"));
                route.via = Some(words.next()?.parse().ok()?);
            }
            "dev" => route.dev = Some((*words.next()?).to_owned()),
            "table" => route.table = table(words.next()?),
            "metric" => route.metric = words.next()?.parse().ok()?,
            "proto" => route.protocol = protocol(words.next()?),
            "onlink" => route.onlink = true,
            "dead" => route.dead = true,
            // The kernel still uses it, unless told otherwise.
            "linkdown" | "pervasive" | "offload" | "rt_offload" | "trap" | "rt_trap" | "cache" | "notify"
            | "unresolved" | "lock" => {}
            "pref" => {
                v6 = true;
                words.next()?;
            }
            "scope" | "src" | "mtu" | "advmss" | "hoplimit" | "rtt" | "rttvar" | "reordering" | "window"
            | "cwnd" | "initcwnd" | "initrwnd" | "ssthresh" | "realm" | "realms" | "rto_min" | "congctl"
            | "features" | "quickack" | "expires" | "error" | "nhid" | "weight" | "users" | "age" | "tos" => {
                // `mtu lock 1400`, `expires 4sec`.
                if words.next()? == &"lock" {
                    words.next()?;
                }
            }
            _ => return None,
        }
    }
    Some(v6)
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

/// A prefix or an address.
fn net(word: &str) -> Option<IpNet> {
    match word.split_once('/') {
        Some(_) => word.parse().ok().or_else(|| short(word)),
        None => word.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

/// Older versions leave zeros at the end out: `10.244/16`.
fn short(word: &str) -> Option<IpNet> {
    let (address, length) = word.split_once('/')?;
    let mut parts: Vec<&str> = address.split('.').collect();
    if address.contains(':') || parts.len() >= 4 {
        return None;
    }
    parts.resize(4, "0");
    format!("{}/{length}", parts.join(".")).parse().ok()
}

fn is_mac(word: &str) -> bool {
    word.len() == 17
        && word.bytes().enumerate().all(|(at, byte)| match at % 3 {
            2 => byte == b':',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

/// The number of a table. One that is called by a name of the administrator's gets a number that no table of a name
/// that is known has: routes and rules still meet there.
fn table(word: &str) -> u32 {
    match word {
        "unspec" => 0,
        "default" => DEFAULT,
        "main" => MAIN,
        "local" => LOCAL,
        name => name.parse().unwrap_or_else(|_| {
            let sum = name.bytes().fold(5381_u32, |sum, byte| sum.wrapping_mul(33) ^ u32::from(byte));
            sum | 0x8000_0000
        }),
    }
}

/// `RTPROT_*` by the names of `/etc/iproute2/rt_protos`.
fn protocol(word: &str) -> u8 {
    match word {
        "redirect" => 1,
        "kernel" => 2,
        "boot" => BOOT,
        "static" => 4,
        "gated" => 8,
        "ra" => 9,
        "zebra" => 11,
        "bird" => 12,
        "dhcp" => 16,
        "keepalived" => 18,
        "bgp" => 186,
        "isis" => 187,
        "ospf" => 188,
        number => number.parse().unwrap_or(0),
    }
}

/// `RT_TABLE_DEFAULT`.
const DEFAULT: u32 = 253;
/// `RTPROT_BOOT`, which `ip` does not print.
const BOOT: u8 = 3;

const ROUTE_KINDS: &[&str] = &[
    "unicast",
    "local",
    "broadcast",
    "multicast",
    "throw",
    "unreachable",
    "prohibit",
    "blackhole",
    "nat",
    "anycast",
];

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
