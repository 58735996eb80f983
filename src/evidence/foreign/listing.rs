//! What `iptables -nvL` and `ipset list` print for people, turned into what `iptables-save -c` and `ipset save` print: that is
//! what the parsers read. A word that is not known becomes a match that nobody can evaluate, so that no rule looks wider
//! than it is.

use std::fmt::Write;

/// The listing of one table, chain by chain.
#[derive(Debug, Default)]
pub(super) struct Listing {
    chains: Vec<(String, Option<String>, Vec<String>)>,
    /// Whether an address said the family.
    pub(super) v6: Option<bool>,
}

impl Listing {
    /// `Chain FORWARD (policy DROP 12 packets, 840 bytes)` or `Chain cali-FORWARD (1 references)`.
    pub(super) fn begins(line: &str) -> bool {
        line.starts_with("Chain ") && line.ends_with(')') && (line.contains(" references)") || line.contains("(policy "))
    }

    /// Takes a line; says whether it belongs here.
    pub(super) fn line(&mut self, line: &str) -> bool {
        if Self::begins(line) {
            let mut words = line.split_whitespace().skip(1);
            let name = words.next().unwrap_or_default().to_owned();
            let policy = line.split_once("(policy ").map(|(_, rest)| {
                let mut rest = rest.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
                let (policy, packets) = (rest.next().unwrap_or("ACCEPT"), rest.next().unwrap_or("0"));
                let bytes = rest.nth(1).unwrap_or("0");
                format!("{policy} [{}:{}]", count(packets).unwrap_or(0), count(bytes).unwrap_or(0))
            });
            self.chains.push((name, policy, Vec::new()));
            return true;
        }
        let Some((chain, _, rules)) = self.chains.last_mut() else { return false };
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() || words.starts_with(&["pkts", "bytes"]) {
            return true;
        }
        let Some((rule, v6)) = rule(chain, &words) else { return false };
        self.v6 = self.v6.or(v6);
        rules.push(rule);
        true
    }

    /// As `iptables-save -c` would have printed it. Its table is told by the chains that it has.
    pub(super) fn saved(&self) -> Option<(&'static str, String)> {
        let has = |name: &str| self.chains.iter().any(|(own, policy, _)| own == name && policy.is_some());
        let table = match (has("FORWARD"), has("PREROUTING"), has("POSTROUTING"), has("OUTPUT")) {
            (true, true, ..) => "mangle",
            (true, false, ..) => "filter",
            (false, true, true, _) => "nat",
            (false, true, false, _) => "raw",
            _ => return None,
        };
        let mut text = format!("*{table}\n");
        for (name, policy, _) in &self.chains {
            let policy = policy.as_deref().unwrap_or("- [0:0]");
            let _ = writeln!(text, ":{name} {policy}");
        }
        for rule in self.chains.iter().flat_map(|(_, _, rules)| rules) {
            text.push_str(rule);
            text.push('\n');
        }
        text.push_str("COMMIT\n");
        Some((table, text))
    }
}

/// A row, and the family if it says one.
fn rule(chain: &str, words: &[&str]) -> Option<(String, Option<bool>)> {
    let (packets, bytes) = (count(words.first()?)?, count(words.get(1)?)?);
    // The column of the target may be empty; that of options is, in older ip6tables.
    let (target, at) = [(words.get(2).copied(), 3), (None, 2)].into_iter().find(|(_, at)| row(words, *at).is_some())?;
    let Row { protocol, fragment, input, output, source, destination, rest } = row(words, at)?;
    let mut text = format!("[{packets}:{bytes}] -A {chain}");
    let mut option = |name: &str, value: &str, any: &[&str]| {
        if any.contains(&value) {
            return;
        }
        let (not, value) = value.strip_prefix('!').map_or(("", value), |value| (" !", value));
        let _ = write!(text, "{not} {name} {value}");
    };
    option("-s", source, &["0.0.0.0/0", "::/0", "anywhere"]);
    option("-d", destination, &["0.0.0.0/0", "::/0", "anywhere"]);
    option("-i", input, &["*", "any"]);
    option("-o", output, &["*", "any"]);
    option("-p", protocol, &["0", "all"]);
    if let Some(fragment) = fragment {
        let _ = write!(text, " -m listed --listed \"{fragment}\"");
    }
    let v6 = [source, destination].iter().find_map(|net| match (net.contains(':'), net.contains('.')) {
        (false, false) => None,
        (v6, _) => Some(v6),
    });
    let jump = if rest.first() == Some(&"[goto]") { "-g" } else { "-j" };
    let options = matches(&rest[usize::from(jump == "-g")..], target.unwrap_or_default(), &mut text);
    if let Some(target) = target {
        let _ = write!(text, " {jump} {target}{options}");
    }
    Some((text, v6))
}

struct Row<'w> {
    protocol: &'w str,
    fragment: Option<&'w str>,
    input: &'w str,
    output: &'w str,
    source: &'w str,
    destination: &'w str,
    rest: &'w [&'w str],
}

/// The row from its protocol on, if it can be one.
fn row<'w>(words: &'w [&'w str], at: usize) -> Option<Row<'w>> {
    let protocol = *words.get(at)?;
    let option = words.get(at + 1).filter(|word| matches!(**word, "--" | "-f" | "!f" | "!-f")).copied();
    let rest = words.get(at + 1 + usize::from(option.is_some())..)?;
    let [input, output, source, destination, rest @ ..] = rest else { return None };
    let is_net = |word: &str| {
        let word = word.trim_start_matches('!');
        let address = word.split_once('/').map_or(word, |(address, _)| address);
        word == "anywhere" || address.parse::<std::net::IpAddr>().is_ok()
    };
    let number_or_name = protocol.trim_start_matches('!').chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !number_or_name || protocol == "--" || !is_net(source) || !is_net(destination) {
        return None;
    }
    Some(Row { protocol, fragment: option.filter(|option| *option != "--"), input, output, source, destination, rest })
}

/// Adds the matches behind the columns; gives the options of the target.
fn matches(words: &[&str], target: &str, text: &mut String) -> String {
    let mut options = String::new();
    let mut left: Vec<&str> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let not = if words[at] == "!" && at + 1 < words.len() { " !" } else { "" };
        let here = at + usize::from(!not.is_empty());
        let value = |n: usize| words.get(here + n).copied().unwrap_or_default();
        let mut put = |module: &str, not: &str, option: &str, value: &str| {
            let (not, value) = value.strip_prefix('!').map_or((not, value), |value| (" !", value));
            let _ = write!(text, " -m {module}{not} {option} {value}");
        };
        let taken = match words[here] {
            "/*" => {
                let end = words[here..].iter().position(|word| *word == "*/").unwrap_or(words.len() - 1 - here).max(1);
                let comment = words[here + 1..here + end].join(" ").replace(['"', '\\'], "'");
                let _ = write!(text, " -m comment --comment \"{comment}\"");
                end + 1
            }
            "ctstate" => {
                put("conntrack", not, "--ctstate", value(1));
                2
            }
            "state" => {
                put("state", not, "--state", value(1));
                2
            }
            "mark" if value(1) == "match" => {
                let negated = value(2) == "!";
                put("mark", if negated { " !" } else { not }, "--mark", value(if negated { 3 } else { 2 }));
                if negated { 4 } else { 3 }
            }
            "multiport" if value(1).ends_with("ports") => {
                let option = match value(1) {
                    "dports" => "--dports",
                    "sports" => "--sports",
                    _ => "--ports",
                };
                let negated = value(2) == "!";
                put("multiport", if negated { " !" } else { not }, option, value(if negated { 3 } else { 2 }));
                if negated { 4 } else { 3 }
            }
            "match-set" => {
                let _ = write!(text, " -m set{not} --match-set {} {}", value(1), value(2));
                3
            }
            "ADDRTYPE" if value(1) == "match" => {
                let _ = write!(text, " -m addrtype");
                2
            }
            "dst-type" | "src-type" => {
                let negated = value(1) == "!";
                let kind = value(if negated { 2 } else { 1 });
                let not = if negated { " !" } else { not };
                let _ = write!(text, "{not} --{} {kind}", words[here]);
                if negated { 3 } else { 2 }
            }
            "limit-in" | "limit-out" => {
                let _ = write!(text, " --limit-iface-{}", words[here].trim_start_matches("limit-"));
                1
            }
            "rpfilter" => {
                let named: Vec<&str> = words[here + 1..]
                    .iter()
                    .take_while(|word| matches!(**word, "loose" | "validmark" | "accept-local" | "invert"))
                    .copied()
                    .collect();
                text.push_str(" -m rpfilter");
                for option in &named {
                    let option = if *option == "validmark" { "validmark" } else { option };
                    let _ = write!(text, " --{option}");
                }
                named.len() + 1
            }
            protocol @ ("tcp" | "udp" | "sctp") if !value(1).is_empty() && ports(value(1)).is_some() => {
                let mut n = 1;
                while let Some((option, range)) = ports(value(n)) {
                    put(protocol, "", option, range);
                    n += 1;
                }
                n
            }
            "reject-with" => {
                let _ = write!(options, " --reject-with {}", value(1));
                2
            }
            "MARK" if target == "MARK" => {
                let option = match value(1) {
                    "or" => "--or-mark",
                    "and" => "--and-mark",
                    "xor" => "--xor-mark",
                    "xset" => "--set-xmark",
                    _ => "--set-mark",
                };
                let _ = write!(options, " {option} {}", value(2));
                3
            }
            "CONNMARK" if target == "CONNMARK" => {
                // What it does is not told in options' words: nothing is known of marks behind it.
                let _ = write!(options, " {}", words[here + 1..].join(" "));
                words.len() - here
            }
            to if target == "DNAT" && to.starts_with("to:") => {
                let _ = write!(options, " --to-destination {}", &to[3..]);
                1
            }
            to if target == "SNAT" && to.starts_with("to:") => {
                let _ = write!(options, " --to-source {}", &to[3..]);
                1
            }
            "random-fully" | "random" if matches!(target, "MASQUERADE" | "SNAT" | "DNAT") => {
                let _ = write!(options, " --{}", words[here]);
                1
            }
            "NOTRACK" | "notrack" if target == "CT" => {
                options.push_str(" --notrack");
                1
            }
            "LOG" | "NFLOG" | "nflog-prefix" if matches!(target, "LOG" | "NFLOG") => {
                let _ = write!(options, " {}", words[here + 1..].join(" "));
                words.len() - here
            }
            _ => {
                left.extend(&words[at..=here]);
                1
            }
        };
        at = here + taken;
    }
    if !left.is_empty() {
        let _ = write!(text, " -m listed --listed \"{}\"", left.join(" ").replace(['"', '\\'], "'"));
    }
    options
}

/// `dpt:80`, `spts:1:2`.
fn ports(word: &str) -> Option<(&'static str, &str)> {
    let (name, range) = word.split_once(':')?;
    let option = match name {
        "dpt" | "dpts" => "--dport",
        "spt" | "spts" => "--sport",
        _ => return None,
    };
    Some((option, range))
}

/// Without `-x` large numbers are rounded: `12K`.
fn count(word: &str) -> Option<u64> {
    let (digits, times) = match word.as_bytes().last()? {
        b'K' => (&word[..word.len() - 1], 1_000),
        b'M' => (&word[..word.len() - 1], 1_000_000),
        b'G' => (&word[..word.len() - 1], 1_000_000_000),
        b'T' => (&word[..word.len() - 1], 1_000_000_000_000),
        _ => (word, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(times)
}

/// `ipset list`, set by set.
#[derive(Debug, Default)]
pub(super) struct SetListing {
    name: String,
    kind: String,
    members: bool,
}

impl SetListing {
    /// Takes a line and writes what `ipset save` would have printed; says whether it belongs here.
    pub(super) fn line(&mut self, line: &str, saved: &mut String) -> bool {
        if let Some(name) = line.strip_prefix("Name: ") {
            *self = Self { name: name.trim().to_owned(), ..Self::default() };
            return true;
        }
        if self.name.is_empty() {
            return false;
        }
        if self.members {
            if line.trim().is_empty() {
                *self = Self::default();
            } else {
                let _ = writeln!(saved, "add {} {}", self.name, line.trim());
            }
            return true;
        }
        match line.split_once(':') {
            Some(("Type", kind)) => kind.trim().clone_into(&mut self.kind),
            Some(("Header", options)) => {
                let _ = writeln!(saved, "create {} {} {}", self.name, self.kind, options.trim());
            }
            Some(("Members", "")) => self.members = true,
            Some(("Revision" | "Size in memory" | "References" | "Number of entries", _)) => {}
            _ => {
                *self = Self::default();
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::netfilter::{Ruleset, Target};

    #[test]
    fn a_listing_reads_as_what_was_saved() {
        let mut listing = Listing::default();
        for line in [
            "Chain FORWARD (policy DROP 12 packets, 840 bytes)",
            " pkts bytes target     prot opt in     out     source               destination         ",
            "  12K  840 DROP       17   --  !eth0  cali+   10.0.0.0/8          !10.244.2.2           /* cali:abc */ /* a \"b\" */ udp dpts:1:2 mark match ! 0x1/0x3",
            "    0     0            0    --  *      *       0.0.0.0/0            0.0.0.0/0            recent: SET",
            "    0     0 MARK       all  --  *      *       0.0.0.0/0            0.0.0.0/0            MARK xset 0x10000/0x10000",
            "    0     0 cali-X     all      *      *       ::/0                 ::/0                [goto]  ctstate INVALID",
            "",
            "Chain INPUT (policy ACCEPT 0 packets, 0 bytes)",
        ] {
            assert!(listing.line(line), "{line}");
        }
        assert!(!listing.line("nonsense"));
        let (table, text) = listing.saved().unwrap();
        assert_eq!(table, "filter");
        let rules = Ruleset::parse(&text);
        assert_eq!(rules.not_understood, [], "{text}");
        let chain = rules.chain("filter", "FORWARD").unwrap();
        assert_eq!(chain.counters.packets, 12);
        assert_eq!(
            chain.rules[0].text,
            "-A FORWARD -s 10.0.0.0/8 ! -d 10.244.2.2 ! -i eth0 -o cali+ -p 17 -m comment --comment \"cali:abc\" \
             -m comment --comment \"a 'b'\" -m udp --dport 1:2 -m mark ! --mark 0x1/0x3 -j DROP"
        );
        assert_eq!(chain.rules[0].counters.unwrap().packets, 12_000);
        assert!(!chain.rules[0].has_unknown_parts());
        assert!(chain.rules[1].has_unknown_parts(), "{:?}", chain.rules[1]);
        assert_eq!(chain.rules[2].target, Target::Mark("--set-xmark 0x10000/0x10000".to_owned()));
        assert_eq!(chain.rules[3].target, Target::Goto("cali-X".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in "(Chain A \\(1 references\\)|[ 0-9KMG]{0,4} [0-9]{1,3} [A-Z*!/:.\\- a-z0-9]{0,80})") {
            let mut listing = Listing::default();
            listing.line("Chain FORWARD (policy DROP 12 packets, 840 bytes)");
            let _whatever = listing.line(&line);
            if let Some((_, text)) = listing.saved() {
                let _whatever = Ruleset::parse(&text);
            }
            let mut saved = String::new();
            let mut sets = SetListing::default();
            sets.line("Name: x", &mut saved);
            sets.line(&line, &mut saved);
        }
    }
}
