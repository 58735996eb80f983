//! A packet as rules see it: what is known of it from outside ([`Meets`]), what rules have made of it on its way
//! ([`State`]), and whether a match of a rule holds for it. What is not known makes a match unknown.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::hook::{Hook, HookPoint};
use super::matches::HookSide;
use super::sets::{Cell, Found, Sets};
use super::{Course, Match};
use crate::evidence::host::{Host, Question};

/// What is known of a packet when it comes in, or when the host sends it; `None` is unknown. An interface that the
/// packet does not have is the empty name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meets {
    /// Source address.
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Source port.
    pub src_port: Option<u16>,
    /// Destination port.
    pub dst_port: Option<u16>,
    /// TCP flags, as the header's byte holds them.
    pub tcp_flags: Option<u8>,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
    /// Length of the IP packet.
    pub length: Option<u32>,
    /// What connection tracking says of it.
    pub state: Option<CtState>,
    /// Whether it goes against the way in which its connection began.
    pub reply: Option<bool>,
    /// Mark that it begins with: zero when it came by an interface.
    pub mark: Option<u32>,
    /// Interface it came by.
    pub in_interface: Option<String>,
    /// Interface it leaves by, if nothing changes its destination.
    pub out_interface: Option<String>,
}

/// What connection tracking says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CtState {
    /// Begins a connection.
    New,
    /// Of one that both sides have spoken in.
    Established,
    /// Begins one that another brought about, or is an error about another.
    Related,
    /// Of none that makes sense.
    Invalid,
}

/// Whether a packet fits a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fits {
    /// Every match holds.
    Yes,
    /// None fails, and these cannot be evaluated.
    Unknown(Vec<String>),
    /// One fails.
    No,
}

/// What connection tracking makes of a packet of which it knows no connection (`tcp_new` of
/// `nf_conntrack_proto_tcp.c`, `icmp_new`). `loose` is the sysctl `nf_conntrack_tcp_loose`.
pub fn first_state(
    protocol: u8,
    tcp_flags: Option<u8>,
    icmp: Option<(u8, u8)>,
    loose: bool,
) -> Option<CtState> {
    const ECN: u8 = 0xc0;
    Some(match protocol {
        6 => match tcp_flags? & !ECN & !PSH {
            SYN => CtState::New,
            ACK | ACK_URG if loose => CtState::New,
            _ => CtState::Invalid,
        },
        // Echo, timestamp, information and address mask requests begin something; errors belong to something.
        1 => match icmp?.0 {
            8 | 13 | 15 | 17 => CtState::New,
            _ => CtState::Invalid,
        },
        58 => match icmp?.0 {
            128 | 139 => CtState::New,
            // Neighbour discovery and multicast listening are not tracked at all.
            130..=137 | 143 => return None,
            _ => CtState::Invalid,
        },
        _ => CtState::New,
    })
}

const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ACK_URG: u8 = 0x30;

/// What has become of a packet on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct State {
    pub(super) mark: Bits,
    /// The connection's mark.
    pub(super) ct_mark: Bits,
    pub(super) src: Option<IpAddr>,
    pub(super) dst: Option<IpAddr>,
    pub(super) src_port: Option<u16>,
    pub(super) dst_port: Option<u16>,
    /// Where it goes, when it was translated.
    pub(super) leads: Leads,
    /// Its destination was translated here.
    pub(super) dnat: bool,
    /// Its source was.
    pub(super) snat: bool,
    /// Taken out of connection tracking.
    pub(super) untracked: bool,
}

/// Where a packet goes after what rules have made of its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Leads {
    /// To its destination, as far as that is known.
    ToDestination,
    /// To an address of the host itself.
    ToHost,
    /// To an address that the rule does not say.
    Anywhere,
}

/// A number of which some bits may be unknown. Unknown ones are zero in `value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Bits {
    pub(super) value: u32,
    pub(super) known: u32,
}

impl Bits {
    pub(super) const UNKNOWN: Self = Self { value: 0, known: 0 };

    pub(super) fn exactly(value: u32) -> Self {
        Self { value, known: u32::MAX }
    }

    /// `(self & !mask) ^ value`, which is what `--set-xmark value/mask` does.
    pub(super) fn set_xmark(self, value: u32, mask: u32) -> Self {
        let known = self.known | mask;
        Self { value: ((self.value & !mask) ^ value) & known, known }
    }

    fn equals(self, value: u32, mask: u32) -> Option<bool> {
        let known = self.known & mask;
        // A bit outside of the mask that is asked for can never be there.
        if (self.value ^ value) & known != 0 || value & !mask != 0 {
            return Some(false);
        }
        (known == mask).then_some(true)
    }

    /// What both have in common.
    pub(super) fn common(self, other: Self) -> Self {
        let known = self.known & other.known & !(self.value ^ other.value);
        Self { value: self.value & known, known }
    }
}

impl State {
    pub(super) fn of(meets: &Meets, course: Course) -> Self {
        let mark = match (meets.mark, course) {
            (Some(mark), _) => Bits::exactly(mark),
            (None, _) => Bits::UNKNOWN,
        };
        let fresh = meets.state == Some(CtState::New);
        Self {
            mark,
            ct_mark: if fresh { Bits::exactly(0) } else { Bits::UNKNOWN },
            src: meets.src,
            dst: meets.dst,
            src_port: meets.src_port,
            dst_port: meets.dst_port,
            leads: Leads::ToDestination,
            dnat: false,
            snat: false,
            untracked: false,
        }
    }
}

impl State {
    /// What both have in common; where a packet was translated or untracked on one of the ways, it counts as the
    /// first has it.
    pub(super) fn common(self, other: &Self) -> Self {
        Self {
            mark: self.mark.common(other.mark),
            ct_mark: self.ct_mark.common(other.ct_mark),
            src: self.src.filter(|src| Some(*src) == other.src),
            dst: self.dst.filter(|dst| Some(*dst) == other.dst),
            src_port: self.src_port.filter(|port| Some(*port) == other.src_port),
            dst_port: self.dst_port.filter(|port| Some(*port) == other.dst_port),
            ..self
        }
    }
}

/// What a packet is held against at one base chain.
pub(super) struct View<'a> {
    pub(super) meets: &'a Meets,
    pub(super) course: Course,
    pub(super) hook: &'a Hook,
    /// Sets of the table at hand, then of the host.
    pub(super) sets: [Option<&'a Sets>; 2],
    pub(super) host: Option<&'a Host>,
}

impl View<'_> {
    /// Whether one match holds, its `not` included; `None` if that cannot be said.
    pub(super) fn holds(&self, state: &State, one: &Match) -> Option<bool> {
        let within =
            |ports: &[RangeInclusive<u16>], port: u16| ports.iter().any(|range| range.contains(&port));
        let (holds, not) = match one {
            Match::Source { net, not } => return Some(within_net(*net, *not, state.src?)),
            Match::Destination { net, not } => return Some(within_net(*net, *not, state.dst?)),
            Match::In { interface, not } => (named(interface, &self.enters()?), not),
            Match::Out { interface, not } => (named(interface, &self.leaves(state)?), not),
            Match::Protocol { protocol: 0, not } => (true, not),
            Match::Protocol { protocol, not } => (*protocol == self.meets.protocol?, not),
            Match::SourcePorts { ports, not } => (within(ports, state.src_port?), not),
            Match::DestinationPorts { ports, not } => (within(ports, state.dst_port?), not),
            Match::EitherPort { ports, not } => {
                let either =
                    [state.src_port, state.dst_port].map(|port| port.map(|port| within(ports, port)));
                (any(either)?, not)
            }
            Match::TcpFlags { mask, set, not } => {
                let (mask, set) = (flags(mask)?, flags(set)?);
                (self.meets.tcp_flags? & mask == set, not)
            }
            Match::IcmpType { kind, not } => {
                (icmp_is(kind, self.meets.protocol? == 58, self.meets.icmp?)?, not)
            }
            Match::Mark { value, mask, not } => (state.mark.equals(*value, *mask)?, not),
            Match::CtState { states, not } => (any(states.iter().map(|word| self.ct_is(state, word)))?, not),
            Match::CtDirection { reply, not } => (self.goes_back(state)? == *reply, not),
            Match::Set { name, dirs, not } => match self.find(state, name, dirs) {
                Found::In(_) => (true, not),
                Found::Out => (false, not),
                Found::Unknown => return None,
            },
            Match::AddrType { source, types, only_at, not } => {
                let address = if *source { state.src? } else { state.dst? };
                let at = match only_at {
                    None => None,
                    Some(HookSide::In) => Some(self.enters()?),
                    Some(HookSide::Out) => Some(self.leaves(state)?),
                };
                (any(types.iter().map(|word| self.address_is(address, at.as_deref(), word)))?, not)
            }
            Match::RpFilter { not } => (self.way_back(state)?, not),
            Match::Length { range, not } => {
                let length = self.meets.length?;
                (u32::from(*range.start()) <= length && length <= u32::from(*range.end()), not)
            }
            Match::Limit(_) | Match::Statistic(_) | Match::Unknown(_) => return None,
        };
        Some(holds != *not)
    }

    /// Whether it is in a set of the table, or of the host.
    fn find(&self, state: &State, name: &str, dirs: &[String]) -> Found {
        let holding = self.sets.into_iter().flatten().find(|sets| sets.n_members(name).is_some());
        holding.map_or(Found::Unknown, |sets| sets.find(name, dirs, &|field| self.field(state, field)))
    }

    /// A field of the packet by the names of [`Match::Set`].
    pub(super) fn field(&self, state: &State, name: &str) -> Option<Cell> {
        Some(match name {
            "src" => Cell::Address(state.src?),
            "dst" => Cell::Address(state.dst?),
            "proto" => Cell::Number(self.meets.protocol?.into()),
            "sport" => Cell::Number(state.src_port?.into()),
            "dport" => Cell::Number(state.dst_port?.into()),
            "iif" => Cell::Name(self.enters()?),
            "oif" => Cell::Name(self.leaves(state)?),
            "mark" if state.mark.known == u32::MAX => Cell::Number(state.mark.value),
            "icmp" => Cell::Number(self.meets.icmp?.0.into()),
            _ => return None,
        })
    }

    /// The interface that the packet came by, as this hook knows it.
    fn enters(&self) -> Option<String> {
        match (self.course, self.hook.point) {
            (Course::Sent, _) => Some(String::new()),
            // Whether it still says depends on the kernel's version.
            (_, HookPoint::Postrouting | HookPoint::Egress) => None,
            _ => self.meets.in_interface.clone(),
        }
    }

    /// The interface that it leaves by: elsewhere when its destination was changed.
    pub(super) fn leaves(&self, state: &State) -> Option<String> {
        if matches!(self.hook.point, HookPoint::Ingress | HookPoint::Prerouting | HookPoint::Input) {
            return Some(String::new());
        }
        if state.dst.is_some() && state.dst == self.meets.dst {
            return self.meets.out_interface.clone();
        }
        let found = self.host?.lookup(&Question {
            dst: state.dst?,
            src: state.src,
            iif: self.meets.in_interface.as_deref(),
        });
        let route =
            found.route.filter(|route| found.certain && route.kind == "unicast" && !route.multipath)?;
        route.dev.clone()
    }

    /// Whether it goes against its connection; of a packet without one that is no question.
    fn goes_back(&self, state: &State) -> Option<bool> {
        if state.untracked || !self.hook.tracked() {
            return None;
        }
        match self.meets.state? {
            CtState::New => Some(false),
            CtState::Established | CtState::Related => self.meets.reply,
            CtState::Invalid => None,
        }
    }

    fn ct_is(&self, state: &State, word: &str) -> Option<bool> {
        let known = |state| self.meets.state.map(|own| own == state);
        let word = word.to_ascii_uppercase();
        if state.untracked {
            return Some(word == "UNTRACKED");
        }
        if !self.hook.tracked() {
            // Nothing was looked up yet, which counts as invalid (`conntrack_mt`, `nft_ct_get_eval`).
            return Some(word == "INVALID");
        }
        match word.as_str() {
            "NEW" => known(CtState::New),
            "ESTABLISHED" => known(CtState::Established),
            "RELATED" => known(CtState::Related),
            "INVALID" => known(CtState::Invalid),
            "UNTRACKED" => self.meets.state.map(|_| false),
            "DNAT" | "SNAT" => match self.meets.state? {
                CtState::Invalid => Some(false),
                CtState::New => Some(if word == "DNAT" { state.dnat } else { state.snat }),
                CtState::Established if word == "DNAT" && self.meets.reply == Some(false) => Some(state.dnat),
                CtState::Established | CtState::Related => None,
            },
            _ => None,
        }
    }

    /// Whether an address is of that kind, as the routing table of `at` alone has it, or of all interfaces
    /// (`inet_addr_type`, `inet_dev_addr_type`).
    fn address_is(&self, address: IpAddr, at: Option<&str>, word: &str) -> Option<bool> {
        let word = word.to_ascii_uppercase();
        if address.is_multicast() {
            return Some(word == "MULTICAST");
        }
        let host = self.host?;
        let mut here = host.addresses.iter().filter(|own| at.is_none_or(|link| own.link == link));
        let own = (at.is_none_or(|link| link == "lo") && address.is_loopback())
            || here.clone().any(|at| at.address.addr() == address);
        let all = here.any(|at| {
            matches!(at.address, ipnet::IpNet::V4(net) if net.prefix_len() < 31 && IpAddr::V4(net.broadcast()) == address)
        }) || address == IpAddr::from([255, 255, 255, 255]);
        match word.as_str() {
            "LOCAL" => Some(own),
            "BROADCAST" => Some(all),
            "MULTICAST" => Some(false),
            "UNICAST" => Some(!own && !all),
            _ => None,
        }
    }

    /// Whether the way back to the source leaves by the interface that the packet came by (`rpfilter_mt`).
    fn way_back(&self, state: &State) -> Option<bool> {
        let enters = self.meets.in_interface.as_deref()?;
        if enters == "lo" {
            return Some(true);
        }
        let src = state.src?;
        if src.is_unspecified() || src.is_multicast() {
            return None;
        }
        let host = self.host?;
        let found = host.lookup(&Question { dst: src, src: None, iif: None });
        if !found.certain {
            return None;
        }
        match found.route {
            None => Some(false),
            Some(route) if route.multipath => None,
            Some(route) => Some(route.kind == "unicast" && route.dev.as_deref() == Some(enters)),
        }
    }
}

/// A prefix of the other family never fits, whatever is asked of it.
fn within_net(net: ipnet::IpNet, not: bool, address: IpAddr) -> bool {
    let same = net.addr().is_ipv4() == address.is_ipv4();
    same && net.contains(&address) != not
}

/// Whether one of several holds.
fn any(all: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let mut unknown = false;
    for one in all {
        match one {
            Some(true) => return Some(true),
            Some(false) => {}
            None => unknown = true,
        }
    }
    (!unknown).then_some(false)
}

/// Whether an interface has the name that a rule gives, a trailing `+` standing for any ending.
fn named(pattern: &str, interface: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(start) => interface.starts_with(start),
        None => interface == pattern,
    }
}

fn flags(words: &[String]) -> Option<u8> {
    words.iter().try_fold(0, |all, word| {
        Some(
            all | match word.to_ascii_uppercase().as_str() {
                "FIN" => 0x01,
                "SYN" => 0x02,
                "RST" => 0x04,
                "PSH" => 0x08,
                "ACK" => 0x10,
                "URG" => 0x20,
                "ECE" => 0x40,
                "CWR" => 0x80,
                "ALL" => 0x3f,
                "NONE" => 0,
                _ => return None,
            },
        )
    })
}

/// A type by number, with or without its code, or by the commonest names.
fn icmp_is(kind: &str, v6: bool, own: (u8, u8)) -> Option<bool> {
    let (name, code) = kind.split_once('/').map_or((kind, None), |(name, code)| (name, Some(code)));
    let number = match name {
        "any" | "255" => return Some(true),
        "echo-request" if v6 => 128,
        "echo-reply" if v6 => 129,
        name if v6 => name.parse().ok()?,
        "echo-reply" | "pong" => 0,
        "destination-unreachable" => 3,
        "redirect" => 5,
        "echo-request" | "ping" => 8,
        "router-advertisement" => 9,
        "router-solicitation" => 10,
        "time-exceeded" | "ttl-exceeded" => 11,
        "parameter-problem" => 12,
        "timestamp-request" => 13,
        "timestamp-reply" => 14,
        number => number.parse().ok()?,
    };
    let same_code = match code {
        None => true,
        Some(code) => code.parse::<u8>().ok()? == own.1,
    };
    Some(number == own.0 && same_code)
}
