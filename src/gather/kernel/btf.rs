//! Names of an enumeration's values from the running kernel's own types (BTF, `Documentation/bpf/btf.rst`). Pure: the
//! bytes of `/sys/kernel/btf/vmlinux` in, names out; no bytes panic.

use rustc_hash::FxHashMap;

/// By value.
pub(super) type Names = FxHashMap<u32, String>;

const MAGIC: u16 = 0xeb9f;
const ENUM: u32 = 6;

/// The names of all values of an enumeration.
pub(super) fn names(bytes: &[u8], enumeration: &str) -> Result<Names, String> {
    read(bytes, enumeration).ok_or_else(|| "the types cannot be read".to_owned()).and_then(|names| {
        if names.is_empty() { Err(format!("there is no enumeration {enumeration}")) } else { Ok(names) }
    })
}

/// None where the bytes end too early.
fn read(bytes: &[u8], enumeration: &str) -> Option<Names> {
    if short(bytes, 0)? != MAGIC {
        return None;
    }
    let header = word(bytes, 4)?;
    let part = |at: usize| {
        let start = usize::try_from(header.checked_add(word(bytes, at)?)?).ok()?;
        let end = start.checked_add(usize::try_from(word(bytes, at + 4)?).ok()?)?;
        bytes.get(start..end)
    };
    let (types, strings) = (part(8)?, part(16)?);
    let mut at = 0;
    while at < types.len() {
        let (name, info) = (word(types, at)?, word(types, at + 4)?);
        let (kind, members) = (info >> 24 & 0x1f, usize::try_from(info & 0xffff).ok()?);
        at += 12;
        if kind == ENUM && text(strings, name) == Some(enumeration) {
            let values = (0..members).map(|member| {
                let name = text(strings, word(types, at + 8 * member)?)?;
                Some((word(types, at + 8 * member + 4)?, name.to_owned()))
            });
            return values.collect();
        }
        at += match kind {
            // INT, VAR, DECL_TAG
            1 | 14 | 17 => 4,
            // ARRAY
            3 => 12,
            // STRUCT, UNION, DATASEC, ENUM64
            4 | 5 | 15 | 19 => 12 * members,
            // ENUM, FUNC_PROTO
            ENUM | 13 => 8 * members,
            _ => 0,
        };
    }
    Some(Names::default())
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn text(strings: &[u8], at: u32) -> Option<&str> {
    let rest = strings.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An integer, then an enumeration of two values.
    fn types() -> Vec<u8> {
        let strings = b"\0int\0colour\0RED\0BLUE\0";
        let words: [u32; 11] = [1, 1 << 24, 4, 32, 5, (ENUM << 24) | 2, 4, 12, 0, 16, 7];
        let mut bytes = [MAGIC.to_ne_bytes().as_slice(), &[1, 0]].concat();
        for number in [24, 0, 44, 44, u32::try_from(strings.len()).unwrap()] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(words.iter().flat_map(|number| number.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn values_have_their_names() {
        let found = names(&types(), "colour").unwrap();
        assert_eq!(
            (found.get(&0).map(String::as_str), found.get(&7).map(String::as_str)),
            (Some("RED"), Some("BLUE"))
        );
        assert!(names(&types(), "shape").unwrap_err().contains("shape"));
        assert!(names(b"", "colour").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            at in 0usize..100,
            change in any::<u8>(),
        ) {
            let _ = names(&bytes, "colour");
            let mut broken = types();
            let at = at % broken.len();
            broken[at] = change;
            let _ = names(&broken, "colour");
            let _ = names(&broken[..at], "colour");
        }
    }
}
