//! Netlink as bytes, for families that no crate here knows and for what is asked often: puts one question to the kernel and gives the messages of its answer,
//! and takes attributes apart. What they mean is known where they are asked for.

use std::io;

use rtnetlink::sys::{Socket, SocketAddr};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One thing: the first message of the answer.
    One,
    /// All there is (`NLM_F_DUMP`).
    All,
}

/// A socket of a netlink protocol in the calling thread's namespace.
pub(super) fn socket(protocol: isize) -> io::Result<Socket> {
    let socket = Socket::new(protocol)?;
    // The kernel answers while it is asked: what is not there then never comes.
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// One question: its type, and its family's header with attributes. Gives the messages of the answer, each from its family's
/// header on.
pub(super) fn ask(socket: &Socket, kind: u16, body: &[u8], wanted: Wanted) -> io::Result<Vec<Vec<u8>>> {
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let flags = NLM_F_REQUEST | if wanted == Wanted::All { NLM_F_DUMP } else { 0 };
    let mut question = length.to_ne_bytes().to_vec();
    question.extend_from_slice(&kind.to_ne_bytes());
    question.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number and port are of no use to who asks one thing at a time.
    question.extend_from_slice(&[0; 8]);
    question.extend_from_slice(body);
    socket.send_to(&question, &SocketAddr::new(0, 0), 0)?;
    let mut messages = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        if take(&bytes, &mut messages)? || wanted == Wanted::One {
            return Ok(messages);
        }
    }
}

/// Takes the messages of one datagram; whether the answer ends with it.
fn take(mut bytes: &[u8], messages: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    while let Some((length, kind, flags)) = head(bytes) {
        let Some(body) = bytes.get(HEADER..length) else {
            return Err(io::Error::other("an answer that makes no sense"));
        };
        if flags & NLM_F_DUMP_INTR != 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let number = body.first_chunk().map_or(0, |number| i32::from_ne_bytes(*number));
        match kind {
            NLMSG_DONE | NLMSG_ERROR if number != 0 => {
                return Err(io::Error::from_raw_os_error(number.saturating_neg()));
            }
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {}
            _ => messages.push(body.to_vec()),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Length, type and flags of the first message.
fn head(bytes: &[u8]) -> Option<(usize, u16, u16)> {
    let &[l0, l1, l2, l3, k0, k1, f0, f1, ..] = bytes else { return None };
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
    Some((length, u16::from_ne_bytes([k0, k1]), u16::from_ne_bytes([f0, f1])))
}

/// Kinds and values of attributes; what is cut off is left out.
pub(super) fn inside(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[l0, l1, k0, k1, ..] = bytes else { return None };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value))
    })
}

/// One attribute.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

// Of include/uapi/linux/netlink.h.
const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Of an attribute that holds attributes.
pub(super) const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = (1 << 14) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&[kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn an_answer_ends_with_its_end_or_with_an_error() {
        let two = [message(0xa00, 2, b"one.1"), message(0xa00, 2, b"two.")].concat();
        let mut messages = Vec::new();
        assert!(!take(&two, &mut messages).unwrap());
        assert!(take(&message(NLMSG_DONE, 2, &[0; 4]), &mut messages).unwrap());
        assert_eq!(messages, [b"one.1".to_vec(), b"two.".to_vec()]);
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let refused = take(&message(kind, 0, &(-22_i32).to_ne_bytes()), &mut messages).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(22));
        }
        let changed = take(&message(0xa00, 2 | NLM_F_DUMP_INTR, b"some"), &mut messages).unwrap_err();
        assert_eq!(changed.kind(), io::ErrorKind::Interrupted);
        for cut in 0..two.len() {
            let _whatever = take(&two[..cut], &mut messages);
        }
    }

    #[test]
    fn attributes_come_back_and_what_is_cut_off_is_left_out() {
        let bytes = [attribute(1, b"abcde"), attribute(2 | NLA_F_NESTED, b"")].concat();
        assert_eq!(inside(&bytes).collect::<Vec<_>>(), [(1, b"abcde".as_slice()), (2, b"")]);
        assert_eq!(inside(&bytes[..8]).count(), 0);
    }
}
