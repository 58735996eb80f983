//! What a capture point lets through: pcap-filter text for the traffic between the two ends of a trace. Pure; made
//! for libpcap 1.10, which has no `vxlan` keyword, so packets inside VXLAN are found by their offsets.
//!
//! The text lets everything through that may belong to the pair and as little else as can be told from headers:
//! later fragments carry no ports, and an outer fragment does not show whose packet it is part of.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::evidence::Role;
use crate::evidence::case::Only;
use crate::evidence::plan::Plan;

/// Whose traffic is captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pair {
    /// The address of the one end.
    pub(crate) from: IpAddr,
    /// What it may be translated to on the way: node and tunnel addresses.
    pub(crate) from_aliases: Vec<IpAddr>,
    /// The address of the other end.
    pub(crate) to: IpAddr,
    /// What it may be reached by: Service addresses.
    pub(crate) to_aliases: Vec<IpAddr>,
    /// Underlay addresses of the path's nodes.
    pub(crate) nodes: Vec<IpAddr>,
    /// VXLAN's UDP port in this cluster.
    pub(crate) vxlan_port: u16,
    /// Only this traffic.
    pub(crate) only: Only,
}

impl Pair {
    /// The ends of a plan.
    pub(crate) fn of(plan: &Plan) -> Self {
        let on_path = plan.nodes.iter().filter(|node| node.on_path);
        Self {
            from: plan.from.address,
            from_aliases: plan.aliases.from.clone(),
            to: plan.to.address,
            to_aliases: plan.aliases.to.clone(),
            nodes: on_path.flat_map(|node| node.addresses.iter().copied()).collect(),
            vxlan_port: plan.vxlan_port,
            only: plan.only,
        }
    }

    /// Both ends with all their aliases.
    fn ends(&self) -> impl Iterator<Item = IpAddr> {
        let aliases = self.from_aliases.iter().chain(&self.to_aliases).copied();
        [self.from, self.to].into_iter().chain(aliases)
    }
}

/// The filter for a point. `ethernet` is false on links without Ethernet headers (`tunl0`), where libpcap refuses
/// to compile what looks at them.
pub(crate) fn expression(pair: &Pair, role: Role, ethernet: bool) -> String {
    let mut any = native(pair, role);
    if ethernet {
        any.extend(neighbours(pair, role));
    }
    if role != Role::Nic {
        return or(&any);
    }
    any.extend(encapsulated(pair));
    any.extend(outer_fragments(&pair.nodes));
    any.extend(outer_errors(pair));
    let plain = or(&any);
    // `vlan` moves the offsets of all that stands after it: the tagged form must come last. Without it frames
    // whose tag the kernel has taken off match too, for the filter runs on what is left.
    if ethernet { format!("{plain} or (vlan and {plain})") } else { plain }
}

/// The pod's gateway on a Calico node: never routed, the same in every pod.
const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Ports on which nodes speak VXLAN by mistake: a wrong one must be seen, not vanish before the filter.
pub(crate) const VXLAN_PORTS: [u16; 2] = [4789, 8472];

/// A place in a frame from which offsets count: libpcap's accessor and what lies between its start and the header.
#[derive(Debug, Clone, Copy)]
struct Base {
    accessor: &'static str,
    start: u32,
}

impl Base {
    fn at(self, offset: u32, size: u32) -> String {
        format!("{}[{}:{size}]", self.accessor, self.start + offset)
    }

    fn byte(self, offset: u32) -> String {
        format!("{}[{}]", self.accessor, self.start + offset)
    }

    fn skip(self, bytes: u32) -> Self {
        Self { start: self.start + bytes, ..self }
    }
}

const IPV4: Base = Base { accessor: "ip", start: 0 };
const IPV6: Base = Base { accessor: "ip6", start: 0 };
const ICMP: Base = Base { accessor: "icmp", start: 0 };
/// The frame inside VXLAN over IPv4: `udp[…]` steps over IPv4 options and never matches later fragments.
const IN_UDP4: Base = Base { accessor: "udp", start: 16 };
/// The frame inside VXLAN over IPv6 without extension headers.
const IN_UDP6: Base = Base { accessor: "ip6", start: 40 + 16 };
/// An Ethernet header.
const ETHERNET: u32 = 14;

/// Packets of the pair that begin with their own IP header, and the errors about them. Where an end is a node
/// itself, VXLAN between nodes is not its traffic.
fn native(pair: &Pair, role: Role) -> Vec<String> {
    let mut any = Vec::new();
    let is_node = role == Role::Nic && pair.ends().any(|end| pair.nodes.contains(&end));
    let no_vxlan = is_node.then(|| format!("not udp dst port {}", pair.vxlan_port));
    if let Some(ends) = pair_v4(pair, IPV4) {
        any.push(and(&[Some(ends), only_v4(pair.only, IPV4), no_vxlan.clone()]));
    }
    any.extend(error_v4(pair, ICMP, "icmp"));
    if let Some(ends) = pair_v6(pair, IPV6) {
        any.push(and(&[Some(ends), only_v6(pair.only, IPV6), no_vxlan]));
    }
    any.extend(error_v6(pair, IPV6.skip(40), &format!("{} = 58", IPV6.byte(6))));
    any
}

/// The same inside VXLAN, over both families, to any outer address: a packet sent to the wrong node is the pair's
/// too.
fn encapsulated(pair: &Pair) -> Vec<String> {
    let mut ports = vec![pair.vxlan_port];
    ports.extend(VXLAN_PORTS.into_iter().filter(|port| *port != pair.vxlan_port));
    let over_ipv4: Vec<String> = ports.iter().map(|port| format!("udp[2:2] = {port}")).collect();
    let over_ipv6: Vec<String> = ports.iter().map(|port| format!("ip6[42:2] = {port}")).collect();
    let Some(inside_ipv4) = inside(pair, IN_UDP4) else { return Vec::new() };
    let Some(inside_ipv6) = inside(pair, IN_UDP6) else { return Vec::new() };
    vec![
        format!("({} and {inside_ipv4})", or(&over_ipv4)),
        format!("(ip6[6] = 17 and {} and {inside_ipv6})", or(&over_ipv6)),
    ]
}

/// The frame inside VXLAN holds a packet of the pair, or an error about one.
fn inside(pair: &Pair, frame: Base) -> Option<String> {
    let kind = frame.at(12, 2);
    let ip = frame.skip(ETHERNET);
    let packet_v4 = pair_v4(pair, ip).map(|ends| and(&[Some(ends), only_v4(pair.only, ip)]));
    let about_v4 = error_v4(pair, ip.skip(20), &format!("{} = 1", ip.byte(9)));
    let packet_v6 = pair_v6(pair, ip).map(|ends| and(&[Some(ends), only_v6(pair.only, ip)]));
    let about_v6 = error_v6(pair, ip.skip(40), &format!("{} = 58", ip.byte(6)));
    let of_v4 =
        packet_v4.zip(about_v4).map(|(packet, about)| format!("({kind} = 0x0800 and ({packet} or {about}))"));
    let of_v6 =
        packet_v6.zip(about_v6).map(|(packet, about)| format!("({kind} = 0x86dd and ({packet} or {about}))"));
    let any: Vec<String> = of_v4.into_iter().chain(of_v6).collect();
    (!any.is_empty()).then(|| or(&any))
}

/// Fragments of what the path's nodes send: of IPv4 all but the first, which `encapsulated` knows by its ports; of
/// IPv6 all, because the fragment header moves the first one's offsets.
fn outer_fragments(nodes: &[IpAddr]) -> Vec<String> {
    let mut any = Vec::new();
    let sent_v4: Vec<String> = v4(nodes).map(|node| format!("ip[12:4] = {}", word(node))).collect();
    if !sent_v4.is_empty() {
        any.push(format!("(ip[6:2] & 0x1fff != 0 and ip[9] = 17 and {})", or(&sent_v4)));
    }
    let sent_v6: Vec<String> = v6(nodes).map(|node| equals_v6(IPV6, 8, node)).collect();
    if !sent_v6.is_empty() {
        any.push(format!("(ip6[6] = 44 and ip6[40] = 17 and {})", or(&sent_v6)));
    }
    any
}

/// ICMP errors that quote VXLAN which a node of the path sent or should have received. A router may quote no more
/// than eight bytes of UDP, so whose packet was inside cannot be asked.
fn outer_errors(pair: &Pair) -> Vec<String> {
    let mut any = Vec::new();
    let port = pair.vxlan_port;
    let quoted = ICMP.skip(8);
    let about_v4: Vec<String> = v4(&pair.nodes)
        .flat_map(|node| [12, 16].map(|at| format!("{} = {}", quoted.at(at, 4), word(node))))
        .collect();
    if !about_v4.is_empty() {
        let vxlan = format!("{} = 17 and {} = {port}", quoted.byte(9), quoted.at(22, 2));
        any.push(format!("({} and {vxlan} and {})", errors_of_icmp(ICMP), or(&about_v4)));
    }
    let quoted = IPV6.skip(48);
    let about_v6: Vec<String> =
        v6(&pair.nodes).flat_map(|node| [8, 24].map(|at| equals_v6(quoted, at, node))).collect();
    if !about_v6.is_empty() {
        let vxlan = format!("{} = 17 and {} = {port}", quoted.byte(6), quoted.at(42, 2));
        let error = errors_of_icmp6(IPV6.skip(40));
        any.push(format!("(ip6[6] = 58 and {error} and {vxlan} and {})", or(&about_v6)));
    }
    any
}

/// ARP and neighbour discovery. A pod's veth carries none but its own, a tunnel none but its node's; on a NIC
/// those about the ends (they should be nowhere there) and about the path's nodes.
fn neighbours(pair: &Pair, role: Role) -> Vec<String> {
    let discovery = "(ip6[6] = 58 and ip6[40] >= 133 and ip6[40] <= 137)";
    let ends = [pair.from, pair.to];
    match role {
        Role::Tunnel => vec!["arp".to_owned(), discovery.to_owned()],
        Role::Pod | Role::Veth => {
            let about = v4(&ends).chain([POD_GATEWAY]).map(|address| format!("arp host {address}"));
            let mut any: Vec<String> = about.collect();
            any.push(discovery.to_owned());
            any
        }
        Role::Nic => {
            let about: Vec<IpAddr> = ends.into_iter().chain(pair.nodes.iter().copied()).collect();
            let mut any: Vec<String> = v4(&about).map(|address| format!("arp host {address}")).collect();
            // Solicitation and advertisement name their target after eight bytes of ICMPv6.
            let targets: Vec<String> =
                v6(&about).map(|address| equals_v6(IPV6.skip(48), 0, address)).collect();
            if !targets.is_empty() {
                any.push(format!("(ip6[6] = 58 and ip6[40] >= 135 and ip6[40] <= 136 and {})", or(&targets)));
            }
            any
        }
    }
}

/// Source and destination are the pair's: the ends themselves, one end and a Service address of the other, or a
/// translated source and the other end. None if no such pair is IPv4.
fn pair_v4(pair: &Pair, ip: Base) -> Option<String> {
    let is = |offset: u32, address: Ipv4Addr| format!("{} = {}", ip.at(offset, 4), word(address));
    either_way(
        v4(&[pair.from]).next(),
        &v4(&pair.from_aliases).collect::<Vec<_>>(),
        v4(&[pair.to]).next(),
        &v4(&pair.to_aliases).collect::<Vec<_>>(),
        |address| is(12, address),
        |address| is(16, address),
    )
}

/// The same for IPv6.
fn pair_v6(pair: &Pair, ip: Base) -> Option<String> {
    either_way(
        v6(&[pair.from]).next(),
        &v6(&pair.from_aliases).collect::<Vec<_>>(),
        v6(&[pair.to]).next(),
        &v6(&pair.to_aliases).collect::<Vec<_>>(),
        |address| equals_v6(ip, 8, address),
        |address| equals_v6(ip, 24, address),
    )
}

/// One family's pairs in both directions.
fn either_way<A: Copy>(
    from: Option<A>,
    from_aliases: &[A],
    to: Option<A>,
    to_aliases: &[A],
    source: impl Fn(A) -> String,
    destination: impl Fn(A) -> String,
) -> Option<String> {
    let mut any = Vec::new();
    let mut both = |one: A, others: Vec<A>| {
        if !others.is_empty() {
            let to_others: Vec<String> = others.iter().map(|other| destination(*other)).collect();
            let from_others: Vec<String> = others.iter().map(|other| source(*other)).collect();
            any.push(format!("({} and {})", source(one), or(&to_others)));
            any.push(format!("({} and {})", destination(one), or(&from_others)));
        }
    };
    if let Some(from) = from {
        both(from, to.into_iter().chain(to_aliases.iter().copied()).collect());
    }
    if let Some(to) = to {
        both(to, from_aliases.to_vec());
    }
    (!any.is_empty()).then(|| or(&any))
}

/// The protocol and port that were asked for; later fragments pass, for they carry no ports.
fn only_v4(only: Only, ip: Base) -> Option<String> {
    let protocols = protocols(only, 1);
    if protocols.is_empty() {
        return None;
    }
    let protocol =
        or(&protocols.iter().map(|number| format!("{} = {number}", ip.byte(9))).collect::<Vec<_>>());
    let ports = ports(only);
    if ports.is_empty() {
        return Some(protocol);
    }
    let start = ip.start;
    let length = format!("(({} & 0xf) << 2)", ip.byte(0));
    let is = |port: u16| [0, 2].map(|at| format!("{}[{} + {length}:2] = {port}", ip.accessor, start + at));
    let ports: Vec<String> = ports.into_iter().flat_map(is).collect();
    Some(format!("({protocol} and ({} & 0x1fff != 0 or {}))", ip.at(6, 2), or(&ports)))
}

/// The same for IPv6. Packets with extension headers pass when only those could say otherwise.
fn only_v6(only: Only, ip: Base) -> Option<String> {
    let protocols = protocols(only, 58);
    if protocols.is_empty() {
        return None;
    }
    let next = ip.byte(6);
    let of = |at: &str| or(&protocols.iter().map(|number| format!("{at} = {number}")).collect::<Vec<_>>());
    let mut protocol = of(&next);
    let is = |port: u16| [40, 42].map(|at| format!("{} = {port}", ip.at(at, 2)));
    let ports: Vec<String> = ports(only).into_iter().flat_map(is).collect();
    if !ports.is_empty() {
        protocol = format!("({protocol} and {})", or(&ports));
    }
    let fragment = format!("({next} = 44 and {})", of(&ip.byte(40)));
    Some(format!("({protocol} or {fragment} or {next} = 0 or {next} = 43 or {next} = 60)"))
}

/// Protocol numbers to let through; none for all. A port alone means those protocols that have ports.
fn protocols(only: Only, icmp: u8) -> Vec<u8> {
    match (only.protocol, only.port) {
        (Some(1 | 58), _) => vec![icmp],
        (Some(protocol), _) => vec![protocol],
        (None, Some(_)) => vec![6, 17, 132, 136],
        (None, None) => Vec::new(),
    }
}

/// The ports to let through; ICMP has none.
fn ports(only: Only) -> Vec<u16> {
    if matches!(only.protocol, Some(1 | 58)) { Vec::new() } else { only.ports().collect() }
}

/// An ICMP error about a packet of the pair; `icmp` is where ICMP begins, `is_icmp` says that it is one.
fn error_v4(pair: &Pair, icmp: Base, is_icmp: &str) -> Option<String> {
    let quoted = pair_v4(pair, icmp.skip(8))?;
    Some(format!("({is_icmp} and {} and {quoted})", errors_of_icmp(icmp)))
}

/// The same for `ICMPv6`.
fn error_v6(pair: &Pair, icmp: Base, is_icmp: &str) -> Option<String> {
    let quoted = pair_v6(pair, icmp.skip(8))?;
    Some(format!("({is_icmp} and {} and {quoted})", errors_of_icmp6(icmp)))
}

/// Unreachable, source quench, redirect, time exceeded, parameter problem.
fn errors_of_icmp(icmp: Base) -> String {
    or(&[3, 4, 5, 11, 12].map(|kind| format!("{} = {kind}", icmp.byte(0))))
}

/// `ICMPv6` errors: 1 to 4.
fn errors_of_icmp6(icmp: Base) -> String {
    format!("({} >= 1 and {} <= 4)", icmp.byte(0), icmp.byte(0))
}

fn equals_v6(ip: Base, offset: u32, address: Ipv6Addr) -> String {
    let mut text = String::from("(");
    let words = address.octets();
    for (at, word) in (0u32..).step_by(4).zip(words.chunks_exact(4)) {
        let value = word.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        let join = if at == 0 { "" } else { " and " };
        let _ = write!(text, "{join}{} = {value:#010x}", ip.at(offset + at, 4));
    }
    text + ")"
}

fn word(address: Ipv4Addr) -> String {
    format!("{:#010x}", u32::from(address))
}

fn v4(addresses: &[IpAddr]) -> impl Iterator<Item = Ipv4Addr> {
    addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}

fn v6(addresses: &[IpAddr]) -> impl Iterator<Item = Ipv6Addr> {
    addresses.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    })
}

fn or(any: &[String]) -> String {
    match any {
        [one] => one.clone(),
        many => format!("({})", many.join(" or ")),
    }
}

fn and(all: &[Option<String>]) -> String {
    let all: Vec<&str> = all.iter().flatten().map(String::as_str).collect();
    format!("({})", all.join(" and "))
}

#[cfg(test)]
mod tests;
