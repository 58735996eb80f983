//! Many frames in one run of bytes, as they go from the capturing thread over the wire to the file: each point,
//! time, length on the wire, length kept (all little-endian), then the bytes kept. Reading never panics, whatever
//! the bytes claim.

/// One frame of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Framed<'a> {
    /// The number of its point.
    pub(crate) point: u16,
    /// Nanoseconds since 1970 by the clock of its node.
    pub(crate) time: i64,
    /// Bytes it had on the wire.
    pub(crate) wire_len: u32,
    /// The bytes kept.
    pub(crate) bytes: &'a [u8],
}

/// Appends a frame.
pub(crate) fn put(batch: &mut Vec<u8>, point: u16, time: i64, wire_len: u32, bytes: &[u8]) {
    batch.extend_from_slice(&point.to_le_bytes());
    batch.extend_from_slice(&time.to_le_bytes());
    batch.extend_from_slice(&wire_len.to_le_bytes());
    batch.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    batch.extend_from_slice(bytes);
}

/// Takes the first frame and leaves the rest; None at the end, and where the bytes are no frame.
pub(crate) fn take<'a>(rest: &mut &'a [u8]) -> Option<Framed<'a>> {
    let (point, after) = rest.split_first_chunk::<2>()?;
    let (time, after) = after.split_first_chunk::<8>()?;
    let (wire_len, after) = after.split_first_chunk::<4>()?;
    let (kept, after) = after.split_first_chunk::<4>()?;
    let kept = usize::try_from(u32::from_le_bytes(*kept)).ok()?;
    let (bytes, after) = after.split_at_checked(kept)?;
    *rest = after;
    Some(Framed {
        point: u16::from_le_bytes(*point),
        time: i64::from_le_bytes(*time),
        wire_len: u32::from_le_bytes(*wire_len),
        bytes,
    })
}

/// The time of the first frame; None where there is none.
pub(crate) fn first_time(mut rest: &[u8]) -> Option<i64> {
    take(&mut rest).map(|frame| frame.time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_is_taken(
            frames in prop::collection::vec((any::<u16>(), any::<i64>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..80)), 0..9)
        ) {
            let mut batch = Vec::new();
            for (point, time, wire_len, bytes) in &frames {
                put(&mut batch, *point, *time, *wire_len, bytes);
            }
            let mut rest = batch.as_slice();
            for (point, time, wire_len, bytes) in &frames {
                prop_assert_eq!(first_time(rest), Some(*time));
                let expected = Framed { point: *point, time: *time, wire_len: *wire_len, bytes };
                prop_assert_eq!(take(&mut rest), Some(expected));
            }
            prop_assert_eq!(take(&mut rest), None);
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut rest = bytes.as_slice();
            while take(&mut rest).is_some() {}
            first_time(rest);
        }
    }
}
