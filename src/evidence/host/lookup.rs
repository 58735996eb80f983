//! What the kernel would do with a packet to an address: the policy rules in order, in each table the longest prefix
//! (`fib_lookup` of `net/ipv4/fib_rules.c`, `fib6_rule_lookup`). Takes a dump; gives the route, or none. It does not know
//! marks set by netfilter; rules that ask for them are passed over and said to be so.

use std::net::IpAddr;

use super::{Host, HostRoute, LOCAL, MAIN, RouteRule};

/// The packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'q> {
    /// Where to.
    pub dst: IpAddr,
    /// Where from.
    pub src: Option<IpAddr>,
    /// Where it came in; none for packets of the host itself.
    pub iif: Option<&'q str>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup<'h> {
    /// The route that wins; none when nothing matches.
    pub route: Option<&'h HostRoute>,
    /// False when a rule was passed over that might have led elsewhere.
    pub certain: bool,
}

impl Host {
    /// The route of a packet.
    pub fn lookup(&self, packet: &Question<'_>) -> Lookup<'_> {
        let v6 = packet.dst.is_ipv6();
        let default = [LOCAL, MAIN].map(|table| RouteRule {
            table,
            v6,
            action: "table".to_owned(),
            ..RouteRule::default()
        });
        let mut rules: Vec<&RouteRule> = self.rules.iter().filter(|rule| rule.v6 == v6).collect();
        if rules.is_empty() {
            rules = default.iter().collect();
        }
        rules.sort_by_key(|rule| rule.priority);
        let mut certain = true;
        for rule in rules {
            if !rule.fits(packet) {
                continue;
            }
            let found = self.best(rule.table, packet.dst);
            if rule.other || rule.mark.is_some() || rule.action != "table" {
                certain &= found.is_none() && rule.action == "table";
                continue;
            }
            if let Some(route) = found.filter(|route| route.kind != "throw") {
                return Lookup { route: Some(route), certain };
            }
        }
        Lookup { route: None, certain }
    }

    /// The longest prefix of a table, then the lowest metric.
    fn best(&self, table: u32, dst: IpAddr) -> Option<&HostRoute> {
        let usable = self.routes.iter().filter(|route| {
            route.table == table
                && !route.dead
                && route.dst.contains(&dst)
                && route.dst.addr().is_ipv6() == dst.is_ipv6()
        });
        usable.min_by_key(|route| (std::cmp::Reverse(route.dst.prefix_len()), route.metric))
    }
}

impl RouteRule {
    /// Whether the packet is one that the rule speaks of, as far as is modelled.
    fn fits(&self, packet: &Question<'_>) -> bool {
        let within = |prefix: Option<ipnet::IpNet>, address: Option<IpAddr>| {
            prefix.is_none_or(|prefix| address.is_some_and(|address| prefix.contains(&address)))
        };
        within(self.dst, Some(packet.dst))
            && within(self.src, packet.src)
            && self.iif.as_deref().is_none_or(|iif| packet.iif == Some(iif))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: &str, kind: &str, dev: &str, table: u32, metric: u32) -> HostRoute {
        HostRoute {
            dst: dst.parse().unwrap(),
            kind: kind.to_owned(),
            via: None,
            dev: Some(dev.to_owned()),
            table,
            metric,
            protocol: 0,
            onlink: false,
            dead: false,
            multipath: false,
        }
    }

    fn ask<'h>(host: &'h Host, dst: &str) -> Lookup<'h> {
        host.lookup(&Question { dst: dst.parse().unwrap(), src: None, iif: None })
    }

    #[test]
    fn the_longest_prefix_wins_then_the_lowest_metric() {
        let host = Host {
            routes: vec![
                route("0.0.0.0/0", "unicast", "eth0", MAIN, 0),
                route("10.244.2.0/26", "unicast", "vxlan.calico", MAIN, 0),
                route("10.244.2.7/32", "unicast", "cali1", MAIN, 10),
                route("10.244.2.7/32", "unicast", "cali2", MAIN, 5),
                route("10.244.2.0/26", "blackhole", "", 100, 0),
                route("::/0", "unicast", "eth6", MAIN, 0),
            ],
            ..Host::default()
        };
        let dev = |dst| ask(&host, dst).route.and_then(|route| route.dev.clone());
        assert_eq!(dev("10.244.2.7").as_deref(), Some("cali2"));
        assert_eq!(dev("10.244.2.8").as_deref(), Some("vxlan.calico"));
        assert_eq!(dev("10.244.3.8").as_deref(), Some("eth0"));
        assert_eq!(dev("fd00::1").as_deref(), Some("eth6"));
    }

    #[test]
    fn rules_choose_tables_and_marks_make_it_uncertain() {
        let rule = |priority, table| RouteRule {
            priority,
            table,
            action: "table".to_owned(),
            ..RouteRule::default()
        };
        let mut host = Host {
            routes: vec![
                route("10.0.0.0/8", "unicast", "eth0", MAIN, 0),
                route("10.0.0.0/8", "blackhole", "", 100, 0),
            ],
            rules: vec![rule(0, LOCAL), rule(32766, MAIN)],
            ..Host::default()
        };
        assert_eq!(ask(&host, "10.1.1.1").route.unwrap().kind, "unicast");
        host.rules.push(RouteRule { mark: Some(1), ..rule(50, 100) });
        assert!(!ask(&host, "10.1.1.1").certain);
        assert_eq!(ask(&host, "10.1.1.1").route.unwrap().kind, "unicast");
        host.rules.push(RouteRule { dst: Some("10.1.0.0/16".parse().unwrap()), ..rule(40, 100) });
        assert_eq!(ask(&host, "10.1.1.1").route.unwrap().kind, "blackhole");
        assert_eq!(ask(&host, "192.0.2.1").route, None);
    }
}
