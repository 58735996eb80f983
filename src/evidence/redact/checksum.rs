//! Internet checksums of headers whose addresses changed. In: the sum that was stored, bytes before and after. Out: the sum to be
//! stored, as wrong as it was (RFC 1624, equation 3): what lies beyond the captured bytes need not be known.

/// The stored checksum after `changed.0` became `changed.1`; the two bytes at `own`, the checksum's, do not count.
pub(super) fn updated(stored: u16, changed: (&[u8], &[u8]), own: Option<usize>) -> u16 {
    let mut sum = u32::from(!stored);
    let pairs = changed.0.chunks(2).zip(changed.1.chunks(2)).enumerate();
    for (number, (old, new)) in pairs.filter(|(_, (old, new))| old != new) {
        if own != Some(number * 2) {
            sum = folded(sum + u32::from(!word(old)) + u32::from(word(new)));
        }
    }
    !u16::try_from(folded(sum)).unwrap_or(0)
}

/// The folded sum of `rest` and the words of `bytes`, not complemented: what stands in the field of a packet whose checksum the card
/// is to fill in.
pub(super) fn sum(rest: u32, bytes: &[u8]) -> u16 {
    let sum = bytes.chunks(2).fold(folded(rest), |sum, pair| folded(sum + u32::from(word(pair))));
    u16::try_from(sum).unwrap_or(0)
}

fn folded(mut sum: u32) -> u32 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

fn word(pair: &[u8]) -> u16 {
    u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::*;

    proptest! {
        #[test]
        fn right_stays_right_and_wrong_as_wrong(
            old in prop::collection::vec(any::<u8>(), 2..60),
            new in prop::collection::vec(any::<u8>(), 60),
            error: u16,
        ) {
            let new = &new[..old.len()];
            let stored = !sum(0, &old) ^ error;
            let after = updated(stored, (&old, new), None);
            // What is off is off by the same: both sums differ from their bytes' by one number.
            let off = |stored: u16, bytes: &[u8]| (u32::from(stored) + u32::from(sum(0, bytes))) % 0xffff;
            proptest::prop_assert_eq!(off(stored, &old), off(after, new));
        }
    }
}
