//! The kernel's tables of names and numbers in `/proc/net` (`net/ipv4/proc.c`, `nf_conntrack_standalone.c`), as counters by
//! name. Takes a table's text; zeros are left out, and so is what makes no sense.

/// Lines in pairs, names and values: `Ip: InReceives …` and `Ip: 12 …`. Zeros are left out.
pub fn named(text: &str) -> Vec<(String, u64)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut all = Vec::new();
    for pair in lines.chunks_exact(2) {
        let (mut names, mut values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
        let (Some(group), Some(_)) = (names.next(), values.next()) else { continue };
        for (name, value) in names.zip(values) {
            if let Ok(value @ 1..) = value.parse() {
                all.push((format!("{group}{name}"), value));
            }
        }
    }
    all
}

/// `Ip6InReceives   12`.
pub fn plain(text: &str) -> Vec<(String, u64)> {
    let pairs = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        Some((name.to_owned(), value.trim().parse().ok().filter(|value| *value > 0)?))
    });
    pairs.collect()
}

/// A line of names, then one of hexadecimal numbers for each CPU; `entries` is the same in all.
pub fn conntrack(text: &str) -> Vec<(String, u64)> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let mut sums = vec![0_u64; names.len()];
    for line in lines {
        for (sum, value) in sums.iter_mut().zip(line.split_whitespace()) {
            *sum = sum.saturating_add(u64::from_str_radix(value, 16).unwrap_or(0));
        }
    }
    let named = names.iter().zip(sums).filter(|(name, sum)| **name != "entries" && *sum > 0);
    named.map(|(name, sum)| (format!("conntrack:{name}"), sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_come_by_name() {
        let text =
            "Ip: Forwarding InReceives InNoRoutes\nIp: 1 20 0\nUdp: NoPorts InErrors\nUdp: 3 -1\nTcp: odd\n";
        assert_eq!(
            named(text),
            [
                ("Ip:Forwarding".to_owned(), 1),
                ("Ip:InReceives".to_owned(), 20),
                ("Udp:NoPorts".to_owned(), 3)
            ]
        );
        assert_eq!(
            plain("Ip6InReceives  \t 7\nIp6InNoRoutes 0\nnonsense\n"),
            [("Ip6InReceives".to_owned(), 7)]
        );
        let text = "entries  found drop\n00000005 00000000 0000000a\n00000005 00000001 00000002\n";
        assert_eq!(conntrack(text), [("conntrack:found".to_owned(), 1), ("conntrack:drop".to_owned(), 12)]);
    }
}
