//! The ways of one packet through rules, side by side: what rules have made of it on each ([`State`]), and what is still known
//! when several are thrown together.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::packet::{CtState, Meets};

/// Ways that differ in what rules have made of the packet.
pub(super) type States = BTreeSet<State>;

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

    pub(super) fn equals(self, value: u32, mask: u32) -> Option<bool> {
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
    /// Before any rule.
    pub(super) fn of(meets: &Meets) -> Self {
        let fresh = meets.state == Some(CtState::New);
        Self {
            mark: meets.mark.map_or(Bits::UNKNOWN, Bits::exactly),
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

/// Ways that agree in all but marks and addresses become one.
pub(super) fn together(states: States) -> States {
    let mut merged: Vec<State> = Vec::new();
    for state in states {
        let same = |one: &&mut State| {
            (one.leads, one.dnat, one.snat, one.untracked)
                == (state.leads, state.dnat, state.snat, state.untracked)
        };
        match merged.iter_mut().find(same) {
            None => merged.push(state),
            Some(one) => *one = one.clone().common(&state),
        }
    }
    merged.into_iter().collect()
}
