//! Routes with their next hops, and the rules that choose a table.

use super::super::Part;
use super::{Reader, Under, net};
use crate::evidence::host::{HostRoute, LOCAL, MAIN, RouteRule};

impl Reader {
    pub(super) fn route(&mut self, words: &[&str]) -> Option<Part> {
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
    pub(super) fn add(&mut self, route: HostRoute) -> usize {
        let at = self.host.routes.len();
        self.index.routes.note(&route, at);
        self.host.routes.push(route);
        at
    }

    pub(super) fn hop(&mut self, at: usize, words: &[&str]) -> Option<Part> {
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
    pub(super) fn rule(&mut self, priority: u32, words: &[&str]) -> Option<Part> {
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
pub(super) const DEFAULT: u32 = 253;
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
