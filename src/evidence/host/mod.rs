//! What a network namespace's kernel knows, as plain data: links, routes, neighbours, sysctls, counters. Read by the
//! node's agent over netlink and from `/proc`, kept in the case as the JSON of these types (text `state`), and asked by the
//! analysis. It judges nothing; what could not be read stands in [`Host::unread`], so that absence is never
//! taken for a finding.

mod answer;
pub mod counters;
mod lookup;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use answer::{Answer, Said};
pub use lookup::{Lookup, Question};

/// The name of the text that holds it; `pod:state` inside a pod.
pub const STATE: &str = "state";

/// One network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Links, by `RTM_GETLINK`.
    pub links: Vec<Link>,
    /// Addresses with their prefixes.
    pub addresses: Vec<Address>,
    /// Routes of all tables, both families.
    pub routes: Vec<HostRoute>,
    /// Routing policy rules, in the kernel's order.
    pub rules: Vec<RouteRule>,
    /// What the kernel says of the routes of packets between the two ends; none without ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
    /// Neighbours: ARP and NDP.
    pub neighbours: Vec<Neighbour>,
    /// Forwarding database of VXLAN devices and bridges.
    pub fdb: Vec<FdbEntry>,
    /// Queueing disciplines that count something or are not the default.
    pub queues: Vec<Queue>,
    /// Programs and filters of `tc`.
    pub filters: Vec<TcFilter>,
    /// By their dotted name, as `net.ipv4.ip_forward`.
    pub sysctls: BTreeMap<String, String>,
    /// `/proc/net/snmp`, `netstat`, `snmp6` as `Ip:InNoRoutes`; `conntrack:drop`; `softnet:dropped`.
    pub counters: BTreeMap<String, u64>,
    /// Sockets that wait for packets; read inside pods only.
    pub listening: Vec<Listener>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// Index in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `veth`, `vxlan`, `bridge`, …; none for a real card.
    pub kind: Option<String>,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Has a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Answers and asks ARP (no `IFF_NOARP`).
    pub arp: bool,
    /// Bytes.
    pub mtu: u32,
    /// Link-layer address, `aa:bb:cc:dd:ee:ff`.
    pub mac: Option<String>,
    /// Of a VXLAN device.
    pub vxlan: Option<Vxlan>,
    /// An XDP program is attached: in the driver, the generic hook, or the card.
    pub xdp: Option<String>,
    /// Active features by which checksums are left to the device, as `tx-checksum-ip-generic`; none where that was not
    /// read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksums: Option<Vec<String>>,
    /// Statistics that are not zero (`struct rtnl_link_stats64`).
    pub stats: BTreeMap<String, u64>,
}

/// A VXLAN device (`drivers/net/vxlan`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Vxlan {
    /// Network identifier.
    pub vni: u32,
    /// UDP port it sends to and listens on.
    pub port: u16,
    /// Source address of outer packets.
    pub local: Option<IpAddr>,
    /// Whether it learns from what comes in; Calico turns it off.
    pub learning: bool,
}

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Link.
    pub link: String,
    /// Address and prefix length.
    pub address: IpNet,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostRoute {
    /// Destination.
    pub dst: IpNet,
    /// `unicast`, `local`, `blackhole`, `unreachable`, `prohibit`, `throw`, …
    pub kind: String,
    /// Next hop.
    pub via: Option<IpAddr>,
    /// Link.
    pub dev: Option<String>,
    /// 254 is main, 255 local.
    pub table: u32,
    /// Lower wins.
    pub metric: u32,
    /// `RTPROT_*`: 80 is Calico's own.
    pub protocol: u8,
    /// Next hop is taken for on-link.
    pub onlink: bool,
    /// The kernel does not use it: its link is gone.
    pub dead: bool,
    /// Other next hops of the same route exist.
    pub multipath: bool,
}

/// A routing policy rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteRule {
    /// Lower comes first.
    pub priority: u32,
    /// IPv6.
    pub v6: bool,
    /// Source prefix; none is any.
    pub src: Option<IpNet>,
    /// Destination prefix.
    pub dst: Option<IpNet>,
    /// Incoming interface.
    pub iif: Option<String>,
    /// Packet mark.
    pub mark: Option<u32>,
    /// Table looked into.
    pub table: u32,
    /// `table`, `blackhole`, `unreachable`, `prohibit`.
    pub action: String,
    /// It asks for more than is modelled here.
    pub other: bool,
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Link.
    pub link: String,
    /// Address.
    pub address: IpAddr,
    /// Link-layer address, if it is known.
    pub mac: Option<String>,
    /// `permanent`, `reachable`, `stale`, `failed`, `incomplete`, …
    pub state: String,
}

/// An entry of a forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FdbEntry {
    /// Link.
    pub link: String,
    /// Inner destination.
    pub mac: String,
    /// Outer destination, of VXLAN devices.
    pub dst: Option<IpAddr>,
    /// `permanent`, `reachable`, …
    pub state: String,
}

/// A queueing discipline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Link.
    pub link: String,
    /// `fq_codel`, `tbf`, `clsact`, …
    pub kind: String,
    /// Where it hangs, as `tc` counts: major and minor.
    pub parent: String,
    /// Packets dropped so far.
    pub drops: u64,
    /// Packets that found it full or had to wait.
    pub overlimits: u64,
}

/// A `tc` filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcFilter {
    /// Link.
    pub link: String,
    /// `ingress`, `egress` or `root`.
    pub hook: String,
    /// `bpf`, `u32`, `flower`, `matchall`, …
    pub kind: String,
}

/// A socket that waits for packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// 6 or 17.
    pub protocol: u8,
    /// Bound to.
    pub address: IpAddr,
    /// Bound to.
    pub port: u16,
    /// Packets dropped for want of room (UDP), or connections waiting (TCP).
    pub drops: u64,
}

impl Host {
    /// From the JSON of a text.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("the recorded state makes no sense: {error}"))
    }

    /// Whether a part was read whole: `links`, `addresses`, `routes`, `neighbours`, `forwarding databases`. An empty
    /// part that was read is a fact; one that was not is nothing.
    pub fn has_read(&self, part: &str) -> bool {
        !self.unread.iter().any(|why| why.split(" over ").next().is_some_and(|parts| parts.contains(part)))
    }

    /// The link of that name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The neighbour entry of an address on a link.
    pub fn neighbour(&self, link: &str, address: IpAddr) -> Option<&Neighbour> {
        self.neighbours.iter().find(|entry| entry.link == link && entry.address == address)
    }

    /// The link that bears an address.
    pub fn link_of(&self, address: IpAddr) -> Option<&Link> {
        let at = self.addresses.iter().find(|at| at.address.addr() == address)?;
        self.link(&at.link)
    }

    /// A sysctl as a number.
    pub fn sysctl(&self, name: &str) -> Option<i64> {
        self.sysctls.get(name)?.trim().parse().ok()
    }

    /// A counter; zero where the kernel does not know it.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// How much a counter grew since `before`.
    pub fn grown(&self, before: &Self, name: &str) -> u64 {
        self.counter(name).saturating_sub(before.counter(name))
    }

    /// How much a link's statistic grew since `before`.
    pub fn link_grown(&self, before: &Self, link: &str, name: &str) -> u64 {
        let read = |host: &Self| host.link(link).and_then(|link| link.stats.get(name)).copied().unwrap_or(0);
        read(self).saturating_sub(read(before))
    }
}

impl Link {
    /// Whether it leaves checksums to others (`tx-checksum-ip-generic`, the feature that is known to break under
    /// VXLAN); none where that was not read.
    pub fn leaves_checksums(&self) -> Option<bool> {
        Some(self.checksums.as_ref()?.iter().any(|name| name == "tx-checksum-ip-generic"))
    }
}

impl HostRoute {
    /// As `ip route` prints it, near enough to recognise it.
    pub fn words(&self) -> String {
        let kind = if self.kind == "unicast" { String::new() } else { format!("{} ", self.kind) };
        let part = |name: &str, value: Option<String>| {
            value.map(|value| format!(" {name} {value}")).unwrap_or_default()
        };
        [
            kind,
            self.dst.to_string(),
            part("via", self.via.map(|via| via.to_string())),
            part("dev", self.dev.clone()),
            part("table", (self.table != MAIN).then(|| self.table.to_string())),
            part("metric", (self.metric != 0).then(|| self.metric.to_string())),
            if self.onlink { " onlink".to_owned() } else { String::new() },
        ]
        .concat()
    }
}

/// `RT_TABLE_MAIN`.
pub(crate) const MAIN: u32 = 254;
/// `RT_TABLE_LOCAL`.
pub(crate) const LOCAL: u32 = 255;
