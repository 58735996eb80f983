//! Classic pcap (pcap-savefile(5)): one header, then records.

use super::input::Input;
use super::{CaptureError, Found, LONGEST};
use crate::packet::{LinkType, Timestamp};

/// How to read the records that follow.
pub(super) struct Header {
    pub(super) link: LinkType,
    pub(super) snaplen: u32,
    big_endian: bool,
    /// Nanoseconds of one unit of the stamps' fraction.
    unit: i64,
    /// Length of a record's header: Kuznetzov's variant has eight bytes more.
    record: usize,
}

/// Reads the file's header; None when its magic is not pcap's.
pub(super) fn header(input: &mut Input) -> Result<Option<Header>, CaptureError> {
    let Ok(magic) = <[u8; 4]>::try_from(input.peek(4)?) else { return Ok(None) };
    let little = u32::from_le_bytes(magic);
    let known = |magic| match magic {
        0xa1b2_c3d4_u32 => Some((1_000, 16)),
        0xa1b2_3c4d => Some((1, 16)),
        0xa1b2_cd34 => Some((1_000, 24)),
        _ => None,
    };
    let (big_endian, found) = match (known(little), known(little.swap_bytes())) {
        (Some(found), _) => (false, found),
        (None, Some(found)) => (true, found),
        (None, None) => return Ok(None),
    };
    let Some(taken) = input.take(24)? else {
        return Err(input.damaged("the file's header is cut off".to_owned()));
    };
    let bytes = input.lent(taken);
    let field = |at| number(bytes, at, big_endian);
    // The upper bits of the link type tell the frame check sequence's length.
    let link = u16::try_from(field(20) & 0xffff).unwrap_or(u16::MAX);
    Ok(Some(Header {
        link: LinkType::from_number(link),
        snaplen: field(16),
        big_endian,
        unit: found.0,
        record: found.1,
    }))
}

pub(super) fn next(input: &mut Input, header: &Header) -> Result<Option<Found>, CaptureError> {
    let shown = input.peek(header.record)?;
    if shown.len() < header.record {
        return input.take(header.record).map(|_| None);
    }
    let field = |at| number(shown, at, header.big_endian);
    let (seconds, fraction, kept, wire_len) = (field(0), field(4), field(8) as usize, field(12));
    if kept > LONGEST {
        return Err(input.damaged(format!("a frame of {kept} bytes")));
    }
    let Some(taken) = input.take(header.record + kept)? else { return Ok(None) };
    let time = i64::from(seconds) * 1_000_000_000 + i64::from(fraction) * header.unit;
    let kept = u32::try_from(kept).unwrap_or(u32::MAX);
    Ok(Some(Found {
        interface: 0,
        time: Timestamp(time),
        wire_len: wire_len.max(kept),
        bytes: taken.start + header.record..taken.end,
    }))
}

fn number(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let four = <[u8; 4]>::try_from(&bytes[at..at + 4]).expect("four bytes");
    if big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
}
