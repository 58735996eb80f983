//! The five-tuple that names a flow.

use std::fmt;
use std::net::IpAddr;

/// Addresses, upper protocol and ports of a packet; for an echo both ports are its identifier, for a later fragment
/// and for protocols without ports they are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl Flow {
    /// The flow of the answers.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            protocol: self.protocol,
            src_port: self.dst_port,
            dst_port: self.src_port,
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.protocol {
            1 => "icmp",
            6 => "tcp",
            17 => "udp",
            58 => "icmp6",
            132 => "sctp",
            other => return write!(out, "protocol {other} {} > {}", self.src, self.dst),
        };
        let end = |address: IpAddr, port: u16| match address {
            _ if matches!(self.protocol, 1 | 58) => address.to_string(),
            IpAddr::V4(v4) => format!("{v4}:{port}"),
            IpAddr::V6(v6) => format!("[{v6}]:{port}"),
        };
        write!(out, "{name} {} > {}", end(self.src, self.src_port), end(self.dst, self.dst_port))
    }
}
