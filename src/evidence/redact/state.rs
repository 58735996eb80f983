//! The kernel's state and its word on dropped packets: texts that are JSON of our own. In: the text. Out: the same with names and
//! addresses turned; keys that this version does not know are gone; a text that is no such JSON is left out, with the reason.

use crate::evidence::host::{Answer, Host, HostRoute, Link, Said};
use crate::evidence::kernel::{GivenUp, KernelWord};

use super::Redactor;
use super::vocabulary::is_sentence_word;
use super::words::{is_number, mac, mac_text};

impl Redactor {
    /// The text `state`.
    pub(super) fn state(&mut self, text: &str) -> Result<String, String> {
        let host = Host::parse(text).map_err(|_| "left out when redacting: not understood".to_owned())?;
        let host = self.host(host);
        serde_json::to_string(&host).map_err(|error| error.to_string())
    }

    fn host(&mut self, mut host: Host) -> Host {
        // All of it: a part that is added must be turned here.
        let Host {
            links: _,
            addresses: _,
            routes: _,
            rules: _,
            answers: _,
            neighbours: _,
            fdb: _,
            queues: _,
            filters: _,
            sysctls: _,
            counters: _,
            listening: _,
            unread: _,
        } = &host;
        host.links = host.links.into_iter().map(|link| self.link(link)).collect();
        for at in &mut host.addresses {
            at.link = self.names.interface(&at.link);
            at.address = self.addresses.with_prefix(at.address);
        }
        host.routes = host.routes.into_iter().map(|route| self.route(route)).collect();
        for rule in &mut host.rules {
            rule.src = rule.src.map(|net| self.addresses.net(net));
            rule.dst = rule.dst.map(|net| self.addresses.net(net));
            rule.iif = rule.iif.as_ref().map(|name| self.names.interface(name));
            rule.action = self.term(&rule.action);
        }
        host.answers = host.answers.into_iter().map(|answer| self.answer(answer)).collect();
        for entry in &mut host.neighbours {
            entry.link = self.names.interface(&entry.link);
            entry.address = self.addresses.ip(entry.address);
            entry.mac = entry.mac.as_ref().map(|text| self.mac(text));
            entry.state = self.term(&entry.state);
        }
        for entry in &mut host.fdb {
            entry.link = self.names.interface(&entry.link);
            entry.mac = self.mac(&entry.mac);
            entry.dst = entry.dst.map(|address| self.addresses.ip(address));
            entry.state = self.term(&entry.state);
        }
        for queue in &mut host.queues {
            queue.link = self.names.interface(&queue.link);
            queue.kind = self.term(&queue.kind);
            queue.parent = self.term(&queue.parent);
        }
        for filter in &mut host.filters {
            filter.link = self.names.interface(&filter.link);
            filter.kind = self.term(&filter.kind);
            filter.hook = self.term(&filter.hook);
        }
        for socket in &mut host.listening {
            socket.address = self.addresses.ip(socket.address);
        }
        let is_numbers = |value: &str| value.split_whitespace().all(|word| word.parse::<i64>().is_ok());
        let sysctls = host.sysctls.into_iter().filter(|(_, value)| is_numbers(value));
        host.sysctls = sysctls.filter_map(|(name, value)| Some((self.sysctl(&name)?, value))).collect();
        host.counters.retain(|name, _| is_counter(name));
        host.unread = host.unread.iter().map(|why| self.unread(why)).collect();
        host
    }

    fn link(&mut self, mut link: Link) -> Link {
        link.name = self.names.interface(&link.name);
        link.kind = link.kind.map(|kind| self.term(&kind));
        link.mac = link.mac.map(|text| self.mac(&text));
        if let Some(vxlan) = &mut link.vxlan {
            vxlan.local = vxlan.local.map(|address| self.addresses.ip(address));
        }
        link.xdp = link.xdp.map(|how| self.term(&how));
        link.checksums = link.checksums.map(|names| names.iter().map(|name| self.term(name)).collect());
        link.stats.retain(|name, _| is_counter(name));
        link
    }

    fn route(&mut self, mut route: HostRoute) -> HostRoute {
        route.dst = self.addresses.net(route.dst);
        route.kind = self.term(&route.kind);
        route.via = route.via.map(|via| self.addresses.ip(via));
        route.dev = route.dev.map(|dev| self.names.interface(&dev));
        route
    }

    fn answer(&mut self, answer: Answer) -> Answer {
        Answer {
            dst: self.addresses.ip(answer.dst),
            src: answer.src.map(|src| self.addresses.ip(src)),
            iif: answer.iif.map(|iif| self.names.interface(&iif)),
            said: match answer.said {
                Said::Route(route) => Said::Route(self.route(route)),
                Said::Error(number) => Said::Error(number),
            },
        }
    }

    /// A word of the kernel's: `fq_codel`, `permanent`, `other(192)`.
    fn term(&mut self, word: &str) -> String {
        let base = word.split('(').next().unwrap_or_default();
        let numbered = word[base.len()..].chars().all(|c| c.is_ascii_digit() || matches!(c, '(' | ')'));
        let feature =
            |rest: &str| rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let place = |c: char| c.is_ascii_hexdigit() || c == ':';
        let known = TERMS.contains(&base) && numbered
            || ["tx-", "rx-"].iter().any(|kind| word.strip_prefix(kind).is_some_and(feature))
            || word.contains(':') && word.len() <= 9 && word.chars().all(place);
        if known { word.to_owned() } else { self.word(word) }
    }

    fn mac(&mut self, text: &str) -> String {
        mac(text).map_or_else(
            || self.names.of(super::names::Class::Word, text),
            |mac| mac_text(self.addresses.mac(mac)),
        )
    }

    /// `net.ipv4.conf.INTERFACE.rp_filter`, or one without an interface; None for what is no sysctl's name.
    fn sysctl(&mut self, name: &str) -> Option<String> {
        for family in ["net.ipv4.conf.", "net.ipv6.conf.", "net.ipv4.neigh.", "net.ipv6.neigh."] {
            if let Some((interface, last)) = name.strip_prefix(family).and_then(|rest| rest.rsplit_once('.'))
            {
                return is_sysctl(last)
                    .then(|| format!("{family}{}.{last}", self.names.interface(interface)));
            }
        }
        (name.starts_with("net.") && is_sysctl(name)).then(|| name.to_owned())
    }

    /// What could not be read stays readable for the program: the parts before ` over `.
    fn unread(&mut self, why: &str) -> String {
        let files = why.split(' ').map(|word| {
            let file = word.trim_end_matches(':');
            let known = file.starts_with("/proc/net/")
                && file[10..].chars().all(|c| c.is_ascii_alphanumeric() || c == '/' || c == '_');
            if known { word.to_owned() } else { self.sentence(word) }
        });
        files.collect::<Vec<_>>().join(" ")
    }

    /// The text `kernel`.
    pub(super) fn kernel(&mut self, text: &str) -> String {
        if text.trim().is_empty() {
            return String::new();
        }
        let mut word = KernelWord::parse(text);
        if !word.broken.is_empty() {
            self.note(super::LINES);
        }
        word.heard.nameless = word.heard.nameless.iter().map(|why| self.sentence(why)).collect();
        word.given_up = word.given_up.into_iter().map(|event| self.given_up(event)).collect();
        word.to_text().unwrap_or_default()
    }

    fn given_up(&mut self, mut event: GivenUp) -> GivenUp {
        event.reason = symbol(&event.reason);
        event.function = symbol(&event.function);
        event.callers = event.callers.iter().map(|caller| symbol(caller)).collect();
        event.interface = event.interface.map(|name| self.names.interface(&name));
        event.source = self.addresses.ip(event.source);
        event.destination = self.addresses.ip(event.destination);
        if let Some(outer) = &mut event.outer {
            outer.source = self.addresses.ip(outer.source);
            outer.destination = self.addresses.ip(outer.destination);
        }
        event
    }
}

/// A function's name of the kernel's, or a reason; anything else is none. Modules of a site have names too: what stands in
/// brackets behind a function goes.
fn symbol(name: &str) -> String {
    let own = name.split(['[', '+']).next().unwrap_or_default().trim();
    let fits =
        own.len() <= 80 && own.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ' '));
    let reason =
        own.split(' ').count() == 1 || own.split(' ').all(|word| is_sentence_word(word) || is_number(word));
    if fits && reason { own.to_owned() } else { "unknown".to_owned() }
}

fn is_sysctl(name: &str) -> bool {
    name.len() <= 64
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.'))
}

fn is_counter(name: &str) -> bool {
    name.len() <= 48 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
}

/// Words of the kernel's: states, kinds of links, routes, queues and filters.
const TERMS: &[&str] = &[
    "permanent",
    "reachable",
    "stale",
    "failed",
    "incomplete",
    "delay",
    "probe",
    "noarp",
    "none",
    "other",
    "self",
    "router",
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "nat",
    "table",
    "goto",
    "nop",
    "veth",
    "vxlan",
    "bridge",
    "bond",
    "team",
    "vlan",
    "macvlan",
    "ipvlan",
    "dummy",
    "ipip",
    "sit",
    "gre",
    "tun",
    "wireguard",
    "geneve",
    "ifb",
    "vrf",
    "macvtap",
    "ip6tnl",
    "netkit",
    "erspan",
    "fq",
    "fq_codel",
    "pfifo",
    "pfifo_fast",
    "bfifo",
    "tbf",
    "htb",
    "hfsc",
    "netem",
    "mq",
    "noqueue",
    "prio",
    "ingress",
    "egress",
    "clsact",
    "cake",
    "sfq",
    "red",
    "codel",
    "taprio",
    "ets",
    "root",
    "bpf",
    "u32",
    "flower",
    "matchall",
    "basic",
    "fw",
    "route",
    "cgroup",
    "driver",
    "generic",
    "hardware",
    "several",
    "multiq",
    "drr",
    "qfq",
];
