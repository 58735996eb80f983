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
        line.starts_with("Chain ")
            && line.ends_with(')')
            && (line.contains(" references)") || line.contains("(policy "))
    }

    /// Takes a line; says whether it belongs here.
    pub(super) fn line(&mut self, line: &str) -> bool {
        if Self::begins(line) {
            let mut words = line.split_whitespace().skip(1);
            let name = words.next().unwrap_or_default().to_owned();
            let policy = line.split_once("(policy ").map(|(_, rest)| {
                let mut rest =
                    rest.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
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
    let (target, at) =
        [(words.get(2).copied(), 3), (None, 2)].into_iter().find(|(_, at)| row(words, *at).is_some())?;
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
    let number_or_name =
        protocol.trim_start_matches('!').chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !number_or_name || protocol == "--" || !is_net(source) || !is_net(destination) {
        return None;
    }
    Some(Row {
        protocol,
        fragment: option.filter(|option| *option != "--"),
        input,
        output,
        source,
        destination,
        rest,
    })
}

/// Adds the matches behind the columns; gives the options of the target.
fn matches(words: &[&str], target: &str, text: &mut String) -> String {
    let mut options = String::new();
    let mut left: Vec<&str> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let not = words[at] == "!" && at + 1 < words.len();
        let here = &words[at + usize::from(not)..];
        let found = plain_match(here, not).or_else(|| match_of_words(here, not));
        let taken = if let Some((words, taken)) = found {
            text.push_str(&words);
            taken
        } else if let Some((words, taken)) = option_of_target(here, target) {
            options.push_str(&words);
            taken
        } else {
            left.extend(&words[at..=at + usize::from(not)]);
            1
        };
        at += usize::from(not) + taken;
    }
    if !left.is_empty() {
        let _ = write!(text, " -m listed --listed \"{}\"", left.join(" ").replace(['"', '\\'], "'"));
    }
    options
}

/// ` -m module ! --option value`; the listing may put the `!` before the value, too.
fn spelled(module: &str, option: &str, values: &[&str], not: bool) -> (String, usize) {
    let (apart, values) = match values {
        ["!", rest @ ..] => (1, rest),
        values => (0, values),
    };
    let value = values.first().copied().unwrap_or_default();
    let (inside, value) = value.strip_prefix('!').map_or((false, value), |value| (true, value));
    let not = if not || apart == 1 || inside { " !" } else { "" };
    (format!(" -m {module}{not} {option} {value}"), apart + 1)
}

/// A match with one value, and how many words it took.
fn plain_match(words: &[&str], not: bool) -> Option<(String, usize)> {
    let (module, option, skip) = match words {
        ["ctstate", ..] => ("conntrack", "--ctstate", 1),
        ["state", ..] => ("state", "--state", 1),
        ["mark", "match", ..] => ("mark", "--mark", 2),
        ["multiport", "dports", ..] => ("multiport", "--dports", 2),
        ["multiport", "sports", ..] => ("multiport", "--sports", 2),
        ["multiport", "ports", ..] => ("multiport", "--ports", 2),
        _ => return None,
    };
    let (text, taken) = spelled(module, option, &words[skip..], not);
    Some((text, skip + taken))
}

/// A match of another form.
fn match_of_words(words: &[&str], not: bool) -> Option<(String, usize)> {
    let sign = if not { " !" } else { "" };
    Some(match words {
        ["/*", ..] => {
            let end = words.iter().position(|word| *word == "*/").unwrap_or(words.len() - 1).max(1);
            let comment = words[1..end].join(" ").replace(['"', '\\'], "'");
            (format!(" -m comment --comment \"{comment}\""), end + 1)
        }
        ["match-set", name, dirs, ..] => (format!(" -m set{sign} --match-set {name} {dirs}"), 3),
        ["ADDRTYPE", "match", ..] => (" -m addrtype".to_owned(), 2),
        [side @ ("dst-type" | "src-type"), "!", kind, ..] => (format!(" ! --{side} {kind}"), 3),
        [side @ ("dst-type" | "src-type"), kind, ..] => (format!("{sign} --{side} {kind}"), 2),
        ["limit-in", ..] => (" --limit-iface-in".to_owned(), 1),
        ["limit-out", ..] => (" --limit-iface-out".to_owned(), 1),
        ["rpfilter", rest @ ..] => {
            let known = |word: &&&str| matches!(**word, "loose" | "validmark" | "accept-local" | "invert");
            let options: Vec<String> =
                rest.iter().take_while(known).map(|word| format!(" --{word}")).collect();
            (format!(" -m rpfilter{}", options.concat()), options.len() + 1)
        }
        [protocol @ ("tcp" | "udp" | "sctp"), rest @ ..] => {
            let parts: Vec<String> = rest
                .iter()
                .map_while(|word| ports(word))
                .map(|(option, range)| spelled(protocol, option, &[range], false).0)
                .collect();
            if parts.is_empty() {
                return None;
            }
            (parts.concat(), parts.len() + 1)
        }
        _ => return None,
    })
}

/// An option of the target.
fn option_of_target(words: &[&str], target: &str) -> Option<(String, usize)> {
    Some(match (target, words) {
        ("REJECT", ["reject-with", how, ..]) => (format!(" --reject-with {how}"), 2),
        ("MARK", ["MARK", how, value, ..]) => {
            let option = match *how {
                "or" => "--or-mark",
                "and" => "--and-mark",
                "xor" => "--xor-mark",
                "xset" => "--set-xmark",
                _ => "--set-mark",
            };
            (format!(" {option} {value}"), 3)
        }
        // What these do is not told in the words of their options.
        ("CONNMARK", ["CONNMARK", rest @ ..])
        | ("LOG" | "NFLOG", ["LOG" | "NFLOG" | "nflog-prefix", rest @ ..]) => {
            (format!(" {}", rest.join(" ")), words.len())
        }
        ("DNAT", [to, ..]) if to.starts_with("to:") => (format!(" --to-destination {}", &to[3..]), 1),
        ("SNAT", [to, ..]) if to.starts_with("to:") => (format!(" --to-source {}", &to[3..]), 1),
        ("MASQUERADE" | "SNAT" | "DNAT", [how @ ("random-fully" | "random"), ..]) => (format!(" --{how}"), 1),
        ("CT", ["NOTRACK" | "notrack", ..]) => (" --notrack".to_owned(), 1),
        _ => return None,
    })
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
