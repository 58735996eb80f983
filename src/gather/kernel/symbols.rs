//! Names of the kernel's functions, from the text of `/proc/kallsyms`. Pure: text and addresses in, names out.

use rustc_hash::FxHashMap;

/// By return address.
pub(super) type Names = FxHashMap<u64, String>;

/// The function that each address lies in.
pub(super) fn names(text: &str, addresses: &[u64]) -> Result<Names, String> {
    let mut functions: Vec<(u64, &str)> = text.lines().filter_map(function).collect();
    if !functions.iter().any(|(address, _)| *address != 0) {
        return Err("all addresses are hidden (kernel.kptr_restrict, or no CAP_SYSLOG)".to_owned());
    }
    functions.sort_unstable_by_key(|(address, _)| *address);
    let found = addresses.iter().filter_map(|address| {
        // A return address may be the first one behind a function that never returns: look before it.
        let before = address.checked_sub(1)?;
        let behind = functions.partition_point(|(start, _)| *start <= before);
        let (start, _) = functions.get(behind.checked_sub(1)?)?;
        let first = functions.partition_point(|(other, _)| other < start);
        Some((*address, functions[first].1.to_owned()))
    });
    Ok(found.collect())
}

/// A line about a function: `ffffffff81a0 T ip_rcv`, with `\t[module]` behind it for a module's.
fn function(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_ascii_whitespace();
    let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
    let is_code = matches!(kind, "t" | "T" | "w" | "W");
    let address = u64::from_str_radix(address, 16).ok().filter(|_| is_code)?;
    Some((address, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "0000000000001000 T ip_rcv\n0000000000001100 t ip_error\n0000000000001100 t ip_error_alias\n\
                        0000000000001180 d ip_table\n0000000000002000 t nft_do_chain\t[nf_tables]\nnonsense\n";

    #[test]
    fn an_address_lies_in_the_function_before_it() {
        let found = names(TEXT, &[0x1005, 0x1100, 0x1190, 0x2fff, 0x10]).unwrap();
        let name = |address: u64| found.get(&address).map(String::as_str);
        assert_eq!(name(0x1005), Some("ip_rcv"));
        assert_eq!(name(0x1100), Some("ip_rcv"));
        assert_eq!(name(0x1190), Some("ip_error"));
        assert_eq!(name(0x2fff), Some("nft_do_chain"));
        assert_eq!(name(0x10), None);
    }

    #[test]
    fn hidden_addresses_are_said() {
        assert!(names("0000000000000000 T ip_rcv\n", &[5]).unwrap_err().contains("kptr_restrict"));
        assert!(names("", &[5]).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_borne(text in "\\PC{0,300}", addresses in prop::collection::vec(any::<u64>(), 0..4)) {
            let _ = names(&text, &addresses);
            let _ = names(&format!("{TEXT}{text}"), &addresses);
        }
    }
}
