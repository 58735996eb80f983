//! What targets make of a packet: marks, translated addresses, the end of connection tracking. What a target's text does not
//! fix is unknown afterwards.

use std::net::IpAddr;
use std::str::FromStr;

use super::Target;
use super::matches::masked;
use super::ways::{Bits, Leads, State};

/// A packet after a target that changes it.
pub(super) fn changed(mut state: State, target: &Target) -> State {
    match target {
        Target::Mark(how) => state.mark = marked(state.mark, how, state.ct_mark),
        Target::NoTrack => state.untracked = true,
        Target::Dnat(how) => {
            let to = Translation::read(how, "--to-destination");
            match to.address {
                Said::Nothing => {}
                Said::One(address) => (state.dst, state.leads) = (Some(address), Leads::ToDestination),
                Said::Unknown => (state.dst, state.leads) = (None, Leads::Anywhere),
            }
            state.dst_port = to.port.or(state.dst_port);
            state.dnat = true;
        }
        Target::Snat(how) => {
            let to = Translation::read(how, "--to-source");
            (state.src, state.src_port, state.snat) = (to.address.or(state.src), None, true);
        }
        Target::Masquerade(_) => (state.src, state.src_port, state.snat) = (None, None, true),
        // To the first address of the interface that it came by, of what the host sends to 127.0.0.1 (`nf_nat_redirect`).
        Target::Other(text) if named(text, "REDIRECT") => {
            (state.dst, state.dst_port, state.dnat) = (None, None, true);
            state.leads = Leads::ToHost;
        }
        Target::Other(text) if named(text, "NETMAP") => {
            (state.dst, state.dst_port, state.dnat) = (None, None, true);
            (state.src, state.snat) = (None, true);
            state.leads = Leads::Anywhere;
        }
        Target::Other(text) if text.starts_with("CONNMARK") => connection_marked(&mut state, text),
        // It may have written anything anywhere.
        Target::Other(text) => {
            (state.mark, state.ct_mark) = (Bits::UNKNOWN, Bits::UNKNOWN);
            (state.src, state.dst, state.src_port, state.dst_port) = (None, None, None, None);
            if matches!(text.as_str(), "payload ip daddr" | "payload ip6 daddr") {
                state.leads = Leads::Anywhere;
            }
        }
        _ => {}
    }
    state
}

/// The options of MARK (`mark_tg` and the old forms).
fn marked(mark: Bits, how: &str, ct_mark: Bits) -> Bits {
    let mut words = how.split(' ');
    let (Some(option), Some(number)) = (words.next(), words.next()) else { return Bits::UNKNOWN };
    let Some((value, mask)) = masked(number) else { return Bits::UNKNOWN };
    match option {
        "--set-xmark" => mark.set_xmark(value, mask),
        "--set-mark" => mark.set_xmark(value, mask | value),
        "--and-mark" => mark.set_xmark(0, !value),
        "--or-mark" => mark.set_xmark(value, value),
        "--xor-mark" => mark.set_xmark(value, 0),
        "--set-ctmark" => ct_mark,
        _ => Bits::UNKNOWN,
    }
}

/// CONNMARK: `ct mark` from and into the packet's.
fn connection_marked(state: &mut State, text: &str) {
    let words: Vec<&str> = text.split(' ').collect();
    let option = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        masked(words.get(at + 1)?)
    };
    let mask = |name: &str| option(name).map_or(u32::MAX, |(value, _)| value);
    let (nf_mask, ct_mask) = match option("--mask") {
        Some((both, _)) => (both, both),
        None => (mask("--nfmask"), mask("--ctmask")),
    };
    // `(into & !its mask) ^ (from & its mask)`, bit by bit known or not.
    let mixed = |into: Bits, cleared: u32, from: Bits, kept: u32| {
        let from = Bits { value: from.value & kept, known: from.known | !kept };
        let base = into.set_xmark(0, cleared);
        let known = base.known & from.known;
        Bits { value: (base.value ^ from.value) & known, known }
    };
    if words.contains(&"--restore-mark") {
        state.mark = mixed(state.mark, nf_mask, state.ct_mark, ct_mask);
    } else if words.contains(&"--save-mark") {
        state.ct_mark = mixed(state.ct_mark, ct_mask, state.mark, nf_mask);
    } else if let Some((value, mask)) = option("--set-xmark") {
        state.ct_mark = state.ct_mark.set_xmark(value, mask);
    } else {
        state.ct_mark = Bits::UNKNOWN;
    }
}

fn named(target: &str, name: &str) -> bool {
    target.split(' ').next() == Some(name)
}

/// What a packet is translated to.
struct Translation {
    address: Said<IpAddr>,
    port: Said<u16>,
}

/// What a translation says of an address or a port.
enum Said<T> {
    /// That it stays.
    Nothing,
    One(T),
    /// More than one, or what is not understood.
    Unknown,
}

impl<T> Said<T> {
    /// Of one that was this before.
    fn or(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Nothing => before,
            Self::One(value) => Some(value),
            Self::Unknown => None,
        }
    }

    fn read(text: &str) -> Self
    where
        T: FromStr,
    {
        if text.is_empty() { Self::Nothing } else { text.parse().map_or(Self::Unknown, Self::One) }
    }
}

impl Translation {
    /// From `--to-… address:port`, of which either may be missing.
    fn read(how: &str, option: &str) -> Self {
        let mut words = how.split(' ').skip_while(|word| *word != option);
        let Some(to) = words.nth(1).filter(|to| !to.is_empty()) else {
            return Self { address: Said::Unknown, port: Said::Unknown };
        };
        let (address, port) = match to.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => (address, port.strip_prefix(':').unwrap_or(port)),
            // More colons than one are those of IPv6 addresses, which have no port without brackets.
            None if to.matches(':').count() > 1 => (to, ""),
            None => to.split_once(':').unwrap_or((to, "")),
        };
        Self { address: Said::read(address), port: Said::read(port) }
    }
}
