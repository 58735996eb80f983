//! What targets make of a packet: marks, translated addresses, the end of connection tracking. What a target's text does not
//! fix is unknown afterwards.

use std::net::IpAddr;

use super::Target;
use super::matches::masked;
use super::packet::{Bits, State};

/// A packet after a target that changes it.
pub(super) fn changed(mut state: State, target: &Target) -> State {
    match target {
        Target::Mark(how) => state.mark = marked(state.mark, how, state.ct_mark),
        Target::NoTrack => state.untracked = true,
        Target::Dnat(how) => {
            let to = Translation::read(how, "--to-destination");
            state.dst = to.address;
            match to.port {
                Port::Same => {}
                Port::Fixed(port) => state.dst_port = Some(port),
                Port::Unknown => state.dst_port = None,
            }
            state.dnat = true;
        }
        Target::Snat(how) => {
            (state.src, state.src_port, state.snat) =
                (Translation::read(how, "--to-source").address, None, true);
        }
        Target::Masquerade(_) => (state.src, state.src_port, state.snat) = (None, None, true),
        Target::Other(text) if text.starts_with("CONNMARK") => connection_marked(&mut state, text),
        // It may have written anything anywhere.
        Target::Other(_) => {
            (state.mark, state.ct_mark) = (Bits::UNKNOWN, Bits::UNKNOWN);
            (state.src, state.dst, state.src_port, state.dst_port) = (None, None, None, None);
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

/// What a packet is translated to.
struct Translation {
    /// `None` when the text does not fix one.
    address: Option<IpAddr>,
    port: Port,
}

/// The port of a translation.
enum Port {
    Same,
    Fixed(u16),
    Unknown,
}

impl Translation {
    /// From `--to-… address[:port]`.
    fn read(how: &str, option: &str) -> Self {
        let mut words = how.split(' ').skip_while(|word| *word != option);
        let Some(to) = words.nth(1) else { return Self { address: None, port: Port::Unknown } };
        if let Ok(address) = to.parse::<IpAddr>() {
            return Self { address: Some(address), port: Port::Same };
        }
        let (address, port) = match to.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => (address, port.strip_prefix(':')),
            None => to.rsplit_once(':').map_or((to, None), |(address, port)| (address, Some(port))),
        };
        let port = match port.map(str::parse) {
            None => Port::Same,
            Some(Ok(port)) => Port::Fixed(port),
            Some(Err(_)) => Port::Unknown,
        };
        Self { address: address.parse().ok(), port }
    }
}
