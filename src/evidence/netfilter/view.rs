//! What a packet is held against at one base chain, and which of its ways a rule there takes. What is not known makes a match
//! unknown, and a way with an unknown match is both taken and left.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::hook::{Hook, HookPoint};
use super::matches::HookSide;
use super::packet::{CtState, Meets};
use super::sets::{Cell, Found, Sets};
use super::ways::{State, States};
use super::{Course, Match, Rule};
use crate::evidence::host::{Host, Question};

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

/// The ways at one rule.
pub(super) struct Sorted {
    pub(super) taken: States,
    pub(super) rest: States,
    pub(super) fits: Fits,
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
    /// Sorts ways by whether a rule's matches hold; one on which that cannot be said is among both.
    pub(super) fn sort(&self, rule: &Rule, alive: States) -> Sorted {
        let (mut taken, mut rest) = (States::new(), States::new());
        let (mut open, mut failing) = (Vec::new(), Vec::new());
        'ways: for state in alive {
            let mut unknown = Vec::new();
            for one in &rule.matches {
                match self.holds(&state, one) {
                    Some(true) => {}
                    Some(false) => {
                        failing.push(one);
                        rest.insert(state);
                        continue 'ways;
                    }
                    None => unknown.push(one),
                }
            }
            if !unknown.is_empty() {
                open.extend(unknown);
                rest.insert(state.clone());
            }
            taken.insert(state);
        }
        if rest.is_empty() || taken.is_empty() {
            return Sorted { taken, rest, fits: Fits::Yes };
        }
        open.extend(failing);
        let mut words: Vec<String> = Vec::new();
        for one in open {
            let text = one.to_string();
            if !words.contains(&text) {
                words.push(text);
            }
        }
        Sorted { taken, rest, fits: Fits::Unknown(words) }
    }

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
