//! What iproute2 and its kin print (`ip`, `bridge`, `tc`, `ethtool -k`), line by line into a [`Host`]. Takes a line that may
//! be anything; adds what it says, or says that it is none of theirs. A word that is not known makes a line somebody else's:
//! logs are full of addresses. Nothing is judged.

mod links;
mod routes;

use std::net::IpAddr;

use ipnet::IpNet;

use super::Part;
use super::places::Places;
use crate::evidence::host::{Host, HostRoute};
use routes::DEFAULT;

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
