//! The state of one node's kernel, or a pod's, in both cases: links, addresses, routes, neighbours, forwarding entries,
//! sysctls, queues, sockets, and counters of losses that grew in one of the two only. What the kernel learns and forgets by
//! itself, as a neighbour that was asked for, is no change.

use std::collections::{BTreeMap, BTreeSet};

use super::alike::{Alike, When};
use super::rules::grown;
use super::{Area, Diff, Side};
use crate::evidence::host::{Host, LOCAL, Link, Neighbour, RouteRule, STATE};
use crate::evidence::{Texts, texts};

pub(super) fn compare(before: Side<'_>, after: Side<'_>, node: &str, alike: &Alike, diff: &mut Diff) {
    for inside in ["", "pod:", "pod2:"] {
        let name = format!("{inside}{STATE}");
        let read = |texts: &Texts, time| {
            let text = texts.find(node, &name, time)?.content.read()?;
            Host::parse(text).ok()
        };
        let newest = |side: Side<'_>| {
            read(side.texts, texts::When::After).or_else(|| read(side.texts, texts::When::Before))
        };
        let (was, is) = match (newest(before), newest(after)) {
            (Some(was), Some(is)) => (was, is),
            (None, None) => continue,
            (was, _) => {
                let which = if was.is_some() { "before" } else { "after" };
                diff.notes.push(format!("{name} of {node} was read {which} only: it is not compared"));
                continue;
            }
        };
        let place = Place { node, inside: if inside.is_empty() { "" } else { "in the pod, " }, alike };
        place.links(&was, &is, diff);
        place.lists(&was, &is, diff);
        place.neighbours(&was, &is, diff);
        place.sysctls(&was, &is, diff);
        let growth = |side: Side<'_>| {
            let first = read(side.texts, texts::When::Before)?;
            Some(losses(&first, &read(side.texts, texts::When::After)?))
        };
        if let (Some(had), Some(has)) = (growth(before), growth(after)) {
            let plain = |all: BTreeMap<String, u64>, when| -> BTreeMap<String, u64> {
                all.into_iter()
                    .map(|(name, count)| (format!("{}{}", place.inside, alike.plain(&name, when)), count))
                    .collect()
            };
            grown(node, &plain(had, When::Before), &plain(has, When::After), diff);
        }
    }
}

struct Place<'p> {
    node: &'p str,
    inside: &'static str,
    alike: &'p Alike,
}

impl Place<'_> {
    fn put(
        &self,
        diff: &mut Diff,
        area: Area,
        bears: bool,
        (subject, was, is): (&str, Option<String>, Option<String>),
    ) {
        let subject = format!("{}{subject}", self.inside);
        let subject = subject.trim_end_matches(", ");
        diff.push(Some(self.node), area, bears, (subject, was, is));
    }

    fn links(&self, was: &Host, is: &Host, diff: &mut Diff) {
        if !was.has_read("links") || !is.has_read("links") || was.links.is_empty() || is.links.is_empty() {
            return;
        }
        let by_name = |host: &'_ Host, when| -> BTreeMap<String, Link> {
            host.links.iter().map(|link| (self.alike.plain(&link.name, when), link.clone())).collect()
        };
        let (had, has) = (by_name(was, When::Before), by_name(is, When::After));
        for name in had.keys().chain(has.keys().filter(|name| !had.contains_key(*name))) {
            match (had.get(name), has.get(name)) {
                (Some(was), Some(is)) => {
                    let bears = self.alike.bears(&is.name, When::After) || !self.inside.is_empty();
                    for ((what, was), (_, is_value)) in fields(was).into_iter().zip(fields(is)) {
                        if was != is_value {
                            self.put(
                                diff,
                                Area::Link,
                                bears,
                                (&format!("{what} of {}", is.name), was, is_value),
                            );
                        }
                    }
                }
                (Some(gone), None) => {
                    let bears = self.alike.bears(&gone.name, When::Before);
                    self.put(
                        diff,
                        Area::Link,
                        bears,
                        (&format!("link {}", gone.name), Some(kind(gone)), None),
                    );
                }
                (None, Some(come)) => {
                    let bears = self.alike.bears(&come.name, When::After);
                    self.put(
                        diff,
                        Area::Link,
                        bears,
                        (&format!("link {}", come.name), None, Some(kind(come))),
                    );
                }
                (None, None) => {}
            }
        }
    }

    /// What is there or is not: each entry is its words.
    fn lists(&self, was: &Host, is: &Host, diff: &mut Diff) {
        let lists: [(Area, &str, &str, List); 7] = [
            (Area::Link, "addresses", "address", addresses),
            (Area::Route, "routes", "", routes),
            (Area::Route, "routing rules", "rule", rules),
            (Area::Fdb, "forwarding databases", "", forwarding),
            (Area::Queue, "queueing disciplines", "queue", queues),
            (Area::Queue, "filters", "tc filter", filters),
            (Area::Socket, "sockets", "listens on", sockets),
        ];
        for (area, part, subject, of) in lists {
            if !was.has_read(part) || !is.has_read(part) {
                continue;
            }
            let (had, has) = (of(was), of(is));
            // A part that one of the two did not know of.
            if matches!(part, "routing rules" | "sockets") && (had.is_empty() != has.is_empty()) {
                continue;
            }
            let keys = |all: &[String], when| {
                all.iter().map(|own| self.alike.plain(own, when)).collect::<BTreeSet<_>>()
            };
            let (had_keys, has_keys) = (keys(&had, When::Before), keys(&has, When::After));
            for gone in had.iter().filter(|own| !has_keys.contains(&self.alike.plain(own, When::Before))) {
                let bears = self.alike.bears(gone, When::Before) || !self.inside.is_empty();
                self.put(diff, area, bears, (subject, Some(gone.clone()), None));
            }
            for come in has.iter().filter(|own| !had_keys.contains(&self.alike.plain(own, When::After))) {
                let bears = self.alike.bears(come, When::After) || !self.inside.is_empty();
                self.put(diff, area, bears, (subject, None, Some(come.clone())));
            }
        }
    }

    fn neighbours(&self, was: &Host, is: &Host, diff: &mut Diff) {
        if !was.has_read("neighbours") || !is.has_read("neighbours") {
            return;
        }
        let of = |host: &'_ Host, when| -> BTreeMap<String, Neighbour> {
            let named = host.neighbours.iter().filter(|own| own.link != "lo" && !own.address.is_multicast());
            named
                .map(|own| (self.alike.plain(&format!("{} on {}", own.address, own.link), when), own.clone()))
                .collect()
        };
        let (had, has) = (of(was, When::Before), of(is, When::After));
        for name in had.keys().chain(has.keys().filter(|name| !had.contains_key(*name))) {
            let (was, is) = (had.get(name), has.get(name));
            let fixed = |own: Option<&Neighbour>| {
                own.is_some_and(|own| matches!(own.state.as_str(), "permanent" | "noarp"))
            };
            let silent = |own: Option<&Neighbour>| {
                own.is_some_and(|own| matches!(own.state.as_str(), "failed" | "incomplete"))
            };
            let other_mac = matches!((was, is), (Some(was), Some(is)) if was.mac.is_some() && is.mac.is_some() && was.mac != is.mac);
            let differ = fixed(was) != fixed(is) || silent(was) != silent(is) || other_mac;
            if differ {
                let words = |own: Option<&Neighbour>| {
                    let own = own?;
                    let state =
                        if fixed(Some(own)) || silent(Some(own)) { own.state.as_str() } else { "resolved" };
                    Some(own.mac.as_ref().map_or(state.to_owned(), |mac| format!("{mac}, {state}")))
                };
                let entry =
                    is.or(was).map(|own| format!("{} on {}", own.address, own.link)).unwrap_or_default();
                let bears = self.alike.bears(&entry, When::After) || self.alike.bears(&entry, When::Before);
                self.put(diff, Area::Neighbour, bears, (&entry, words(was), words(is)));
            }
        }
    }

    fn sysctls(&self, was: &Host, is: &Host, diff: &mut Diff) {
        let named: BTreeMap<String, &String> =
            was.sysctls.iter().map(|(name, value)| (self.alike.plain(name, When::Before), value)).collect();
        for (name, value) in &is.sysctls {
            let Some(before) = named.get(&self.alike.plain(name, When::After)) else { continue };
            // How many connections there are is no setting.
            if *before != value && name != "net.netfilter.nf_conntrack_count" {
                let bears = self.alike.bears(&name.replace('.', " "), When::After) || name.contains(".all.");
                self.put(diff, Area::Sysctl, bears, (name, Some((*before).clone()), Some(value.clone())));
            }
        }
    }
}

/// A part of the state as lines.
type List = fn(&Host) -> Vec<String>;

/// What of a link can be set, each with its name.
fn fields(link: &Link) -> Vec<(&'static str, Option<String>)> {
    let word = |on: bool, yes: &str, no: &str| Some((if on { yes } else { no }).to_owned());
    let vxlan = link.vxlan.as_ref().map(|own| {
        let local = own.local.map(|local| format!(", local {local}")).unwrap_or_default();
        format!("VNI {}, port {}{local}{}", own.vni, own.port, if own.learning { ", learning" } else { "" })
    });
    vec![
        ("state", word(link.up, "up", "down")),
        ("carrier", word(link.carrier, "there", "none")),
        ("mtu", Some(link.mtu.to_string())),
        ("MAC", link.mac.clone()),
        ("kind", link.kind.clone()),
        ("tunnel", vxlan),
        ("XDP program", link.xdp.clone()),
        ("checksum offload", link.leaves_checksums().and_then(|on| word(on, "on", "off"))),
        ("ARP", word(link.arp, "on", "off")),
    ]
}

fn kind(link: &Link) -> String {
    let kind = link.kind.as_deref().unwrap_or("card");
    format!("{kind}, {}, mtu {}", if link.up { "up" } else { "down" }, link.mtu)
}

fn addresses(host: &Host) -> Vec<String> {
    let own = host.addresses.iter().filter(|own| match own.address.addr() {
        std::net::IpAddr::V6(address) => !address.is_unicast_link_local(),
        std::net::IpAddr::V4(_) => true,
    });
    own.map(|own| format!("{} on {}", own.address, own.link)).collect()
}

/// Without those that the kernel makes of addresses.
fn routes(host: &Host) -> Vec<String> {
    let made = |dst: &ipnet::IpNet| dst.to_string() == "fe80::/64" || dst.to_string() == "ff00::/8";
    let own = host.routes.iter().filter(|route| route.table != LOCAL && !made(&route.dst));
    own.map(|route| format!("{}{}", route.words(), if route.dead { " dead" } else { "" })).collect()
}

fn rules(host: &Host) -> Vec<String> {
    let words = |rule: &RouteRule| {
        let part = |name: &str, value: Option<String>| {
            value.map(|value| format!(" {name} {value}")).unwrap_or_default()
        };
        [
            format!("{}:", rule.priority),
            if rule.v6 { " (IPv6)".to_owned() } else { String::new() },
            part("from", rule.src.map(|net| net.to_string())),
            part("to", rule.dst.map(|net| net.to_string())),
            part("iif", rule.iif.clone()),
            part("fwmark", rule.mark.map(|mark| format!("{mark:#x}"))),
            if rule.action == "table" {
                format!(" lookup {}", rule.table)
            } else {
                format!(" {}", rule.action)
            },
            if rule.other { " and more".to_owned() } else { String::new() },
        ]
        .concat()
    };
    host.rules.iter().map(words).collect()
}

/// Those of tunnels.
fn forwarding(host: &Host) -> Vec<String> {
    let own = host.fdb.iter().filter_map(|entry| Some((entry, entry.dst?)));
    own.map(|(entry, dst)| format!("{} dev {} dst {dst}", entry.mac, entry.link)).collect()
}

fn queues(host: &Host) -> Vec<String> {
    host.queues.iter().map(|queue| format!("{} on {} at {}", queue.kind, queue.link, queue.parent)).collect()
}

fn filters(host: &Host) -> Vec<String> {
    host.filters.iter().map(|filter| format!("{} on {}, {}", filter.kind, filter.link, filter.hook)).collect()
}

fn sockets(host: &Host) -> Vec<String> {
    let own = host.listening.iter().map(|own| {
        let protocol = if own.protocol == 17 { "UDP" } else { "TCP" };
        format!("{protocol} port {}, {}", own.port, own.address)
    });
    own.collect()
}

/// Counters of packets that were lost, with their growth.
fn losses(first: &Host, last: &Host) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let told = |name: &str| LOSSES.iter().any(|part| name.contains(part));
    for name in last.counters.keys().filter(|name| told(name)) {
        all.insert(name.clone(), last.grown(first, name));
    }
    for link in &last.links {
        for name in link.stats.keys().filter(|name| told(name)) {
            all.insert(format!("{name} of {}", link.name), last.link_grown(first, &link.name, name));
        }
    }
    for queue in &last.queues {
        let same = |own: &&crate::evidence::host::Queue| {
            (&own.link, &own.kind, &own.parent) == (&queue.link, &queue.kind, &queue.parent)
        };
        let before = first.queues.iter().find(same).map_or(0, |own| own.drops);
        all.insert(format!("drops of {} on {}", queue.kind, queue.link), queue.drops.saturating_sub(before));
    }
    all
}

/// What the names of such counters have in them.
const LOSSES: &[&str] = &[
    "drop",
    "Drop",
    "Discard",
    "error",
    "Err",
    "NoRoute",
    "NoPort",
    "Fail",
    "Overflow",
    "ReversePath",
    "Prune",
    "InAddrErrors",
    "missed",
    "TooBig",
    "Unknown",
];
