//! The packet that an ICMP error quotes: its IP header, and as much behind it as the router cared to send. In: the error's
//! payload. Out: the fields that are certain.

use super::read::{LONGEST, Reader, be16, tcp_fields};
use super::{Quoted, Tcp, Transport, Udp};

/// The packet that an ICMP error quotes. Its lengths are those it had when it was whole.
pub(super) fn quoted(bytes: &[u8]) -> Option<Quoted> {
    let mut reader = Reader::of(bytes, LONGEST);
    let ip = match bytes.first()? >> 4 {
        4 => reader.ipv4_header().ok()?,
        6 => {
            let ip = reader.ipv6_header().ok()?;
            reader.extensions(ip).unwrap_or(ip)
        }
        _ => return None,
    };
    let rest = reader.rest();
    let first = ip.fragment.is_none_or(|fragment| fragment.offset == 0);
    let transport = match (ip.protocol, rest.len()) {
        _ if !first => Transport::LaterFragment,
        (6, 8..) => Transport::Tcp(quoted_tcp(rest)),
        (17, 8..) => Transport::Udp(Udp {
            src_port: be16(rest, 0),
            dst_port: be16(rest, 2),
            len: be16(rest, 4),
            checksum: be16(rest, 6),
        }),
        (1, 8..) if matches!(rest[0], 0 | 8) => {
            Transport::Echo { request: rest[0] == 8, id: be16(rest, 4), seq: be16(rest, 6) }
        }
        (58, 8..) if matches!(rest[0], 128 | 129) => {
            Transport::Echo { request: rest[0] == 128, id: be16(rest, 4), seq: be16(rest, 6) }
        }
        (6 | 17 | 1 | 58, _) => Transport::None,
        _ => Transport::Opaque,
    };
    Some(Quoted { ip, transport })
}

/// A quoted TCP header: its first eight bytes are certain (RFC 792).
fn quoted_tcp(bytes: &[u8]) -> Tcp {
    let mut fixed = [0; 20];
    let shown = bytes.len().min(20);
    fixed[..shown].copy_from_slice(&bytes[..shown]);
    tcp_fields(&fixed, bytes.get(20..).unwrap_or(&[]))
}
