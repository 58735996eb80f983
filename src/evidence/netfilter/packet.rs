//! A packet as it comes to the rules: what is known of it from outside, and what connection tracking makes of one that it
//! does not know.

use std::net::IpAddr;

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
