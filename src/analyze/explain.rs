//! Why packets vanish: takes the place and the nodes' texts; gives the causes that their evidence supports.

use super::Evidence;
use super::correlate::sift::{ErrorNote, Sift};
use super::findings::Findings;

/// Adds the causes to the findings.
pub(super) fn explain(_findings: &mut Findings, _evidence: &Evidence<'_>, _sift: &Sift) {}

/// An ICMP error in words, with its type and code.
pub(super) fn icmp_words(note: &ErrorNote) -> String {
    let (kind, code) = note.kind;
    let words = match (note.v6, kind, code) {
        (false, 3, 0) => "network unreachable",
        (false, 3, 1) | (true, 1, 3) => "host unreachable",
        (false, 3, 2) => "protocol unreachable",
        (false, 3, 3) | (true, 1, 4) => "port unreachable",
        (false, 3, 4) => "fragmentation needed",
        (false, 3, 9 | 10 | 13) | (true, 1, 1) => "administratively prohibited",
        (true, 1, 0) => "no route",
        (true, 2, _) => "packet too big",
        (false, 11, 0) | (true, 3, 0) => "TTL exceeded",
        (false, 11, 1) | (true, 3, 1) => "fragment reassembly time exceeded",
        (false, 5, _) => "redirect",
        (false, 12, _) | (true, 4, _) => "parameter problem",
        _ => "ICMP error",
    };
    let mtu = note.mtu.filter(|mtu| *mtu > 0).map(|mtu| format!(", mtu {mtu}")).unwrap_or_default();
    let name = if note.v6 { "ICMPv6" } else { "ICMP" };
    format!("{name} {kind}/{code} {words}{mtu}")
}
