//! Lines and words of `iptables-save`.
//!
//! In: the whole text, whatever is in it: any line ends, cut off anywhere, with or without counters. Out: a
//! [`Ruleset`]. Rules are kept under the chain that they name even if no line declared it.

use std::collections::HashMap;

use super::{Chain, Counters, Hook, Policy, Rule, Ruleset, Table, matches, not_its_own};

impl Ruleset {
    /// Reads what a save program printed. Cannot fail; what made no sense is in
    /// [`not_understood`](Self::not_understood).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut reader = Reader::default();
        let cut = !text.ends_with(['\n', '\r']);
        let mut lines = text.lines().enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            let line = line.trim();
            let last = cut && lines.peek().is_none();
            let read = if last && !line.is_empty() && line != "COMMIT" && !line.starts_with('#') {
                Err("the text ends inside this line".to_owned())
            } else {
                reader.line(line)
            };
            if let Err(why) = read {
                reader.ruleset.not_understood.push((index + 1, why));
            }
        }
        reader.ruleset
    }
}

/// One word of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) quoted: bool,
}

impl Word {
    /// As it should stand in a text for people.
    pub(super) fn shown(&self) -> String {
        if self.quoted { format!("\"{}\"", self.text) } else { self.text.clone() }
    }
}

#[derive(Default)]
struct Reader {
    ruleset: Ruleset,
    /// Whether lines now belong to the last table.
    inside: bool,
    /// Where the chains of the table at hand stand, and whether a line declared them.
    places: HashMap<String, (usize, bool)>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(remark) = line.strip_prefix('#') {
            let remark = remark.trim();
            if remark.starts_with("Warning") || not_its_own(remark).is_some() {
                self.ruleset.warnings.push(remark.to_owned());
            }
            return Ok(());
        }
        if line.is_empty() {
            return Ok(());
        }
        if let Some(name) = line.strip_prefix('*') {
            self.begin(name);
            return Ok(());
        }
        let table = self.ruleset.tables.last_mut().filter(|_| self.inside).ok_or("outside of a table")?;
        if line == "COMMIT" {
            table.complete = true;
            self.inside = false;
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix(':') {
            let Chain { name, policy, counters, .. } = chain(rest)?;
            let at = place(table, &mut self.places, &name, true);
            (table.chains[at].policy, table.chains[at].counters) = (policy, counters);
            return Ok(());
        }
        let is_chain = |name: &str| self.places.get(name).is_some_and(|(_, declared)| *declared);
        let (name, rule) = rule(line, &is_chain)?;
        let at = place(table, &mut self.places, &name, false);
        table.chains[at].rules.push(rule);
        Ok(())
    }

    fn begin(&mut self, name: &str) {
        self.ruleset.tables.push(Table { name: name.trim().to_owned(), ..Table::default() });
        self.inside = true;
        self.places.clear();
    }
}

/// Where the chain of that name stands in the table, which gets it if it has none.
fn place(
    table: &mut Table,
    places: &mut HashMap<String, (usize, bool)>,
    name: &str,
    declared: bool,
) -> usize {
    if let Some((at, known)) = places.get_mut(name) {
        *known |= declared;
        return *at;
    }
    let at = table.chains.len();
    let hook = Hook::of_iptables(&table.name, name);
    table.chains.push(Chain { name: name.to_owned(), hook, ..Chain::default() });
    places.insert(name.to_owned(), (at, declared));
    at
}

/// `name policy [packets:bytes]`, after the colon.
fn chain(text: &str) -> Result<Chain, String> {
    let mut words = text.split_whitespace();
    let name = words.next().ok_or("a chain without a name")?.to_owned();
    let policy = match words.next() {
        Some("ACCEPT") => Some(Policy::Accept),
        Some("DROP") => Some(Policy::Drop),
        Some("-") | None => None,
        Some(other) => return Err(format!("{other:?} is no policy of a chain")),
    };
    let counters = words.next().map_or(Ok(Counters::default()), |text| {
        counters(text.trim_matches(['[', ']'])).ok_or_else(|| format!("{text:?} are no counters"))
    })?;
    Ok(Chain { name, policy, counters, ..Chain::default() })
}

/// `[packets:bytes] -A chain …`, the counters being optional: the chain's name and the rule.
fn rule(line: &str, is_chain: &dyn Fn(&str) -> bool) -> Result<(String, Rule), String> {
    let (counters, text) = match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, text)) => {
            let counters = counters(inside).ok_or_else(|| format!("[{inside}] are no counters"))?;
            (Some(counters), text.trim_start())
        }
        None => (None, line),
    };
    let words = words(text)?;
    let [command, name, rest @ ..] = words.as_slice() else {
        return Err("neither a table, a chain, a rule nor a remark".to_owned());
    };
    if !matches!(command.text.as_str(), "-A" | "--append") {
        return Err(format!("{:?} is no line of a saved ruleset", command.text));
    }
    let parts = matches::read(rest, is_chain);
    let rule = Rule {
        text: text.to_owned(),
        counters,
        comments: parts.comments,
        matches: parts.matches,
        before: Vec::new(),
        target: parts.target,
    };
    Ok((name.text.clone(), rule))
}

fn counters(text: &str) -> Option<Counters> {
    let (packets, bytes) = text.split_once(':')?;
    Some(Counters { packets: packets.parse().ok()?, bytes: bytes.parse().ok()? })
}

/// Words between spaces; `"…"` is one word, in which a backslash keeps the next character as it is
/// (`xtables_save_string` of libxtables).
pub(crate) fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        let mut word = Word { text: String::new(), quoted: false };
        while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
            if c != '"' {
                word.text.push(c);
                continue;
            }
            word.quoted = true;
            loop {
                match chars.next().ok_or("a quotation mark is not closed")? {
                    '"' => break,
                    '\\' => word.text.extend(chars.next()),
                    other => word.text.push(other),
                }
            }
        }
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::{any, prop, proptest};

    use super::super::{Match, Target};
    use super::*;

    fn saved(name: &str) -> String {
        let path = format!("{}/tests/data/netfilter/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).expect("test data")
    }

    const SAVED: &[&str] = &[
        "calico-3.22-nft.txt",
        "calico-3.22-legacy.txt",
        "calico-3.30-nft.txt",
        "calico-3.30-legacy.txt",
        "odd-v4-nft.txt",
        "odd-v4-legacy.txt",
        "odd-v6-nft.txt",
        "odd-v6-legacy.txt",
    ];

    /// The only rule of a filter FORWARD chain.
    fn one(rule: &str) -> Rule {
        let text = format!("*filter\n:FORWARD ACCEPT [0:0]\n:mine - [0:0]\n-A FORWARD {rule}\nCOMMIT\n");
        let mut ruleset = Ruleset::parse(&text);
        assert_eq!(ruleset.not_understood, vec![]);
        ruleset.tables[0].chains[0].rules.remove(0)
    }

    #[test]
    fn every_line_of_what_iptables_printed_is_understood() {
        for name in SAVED {
            let text = saved(name);
            let ruleset = Ruleset::parse(&text);
            assert_eq!(ruleset.not_understood, vec![], "{name}");
            let rules = ruleset.tables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.rules);
            let mut n_rules = 0;
            for rule in rules {
                n_rules += 1;
                assert!(rule.counters.is_some(), "{name}: {}", rule.text);
            }
            assert_eq!(n_rules, text.lines().filter(|line| line.contains(" -A ")).count(), "{name}");
            assert!(ruleset.tables.iter().all(|table| table.complete), "{name}");
        }
    }

    #[test]
    fn what_calico_writes_is_typed_throughout() {
        for name in &SAVED[..4] {
            let ruleset = Ruleset::parse(&saved(name));
            for table in &ruleset.tables {
                for rule in table.chains.iter().flat_map(|chain| &chain.rules) {
                    let unknown: Vec<_> =
                        rule.matches.iter().filter(|m| matches!(m, Match::Unknown(_))).collect();
                    assert!(unknown.is_empty(), "{name}: {}: {unknown:?}", rule.text);
                    assert!(!matches!(rule.target, Target::Other(_)), "{name}: {}", rule.text);
                    assert!(rule.comments[0].starts_with("cali:"), "{name}: {}", rule.text);
                }
            }
        }
    }

    #[test]
    fn legacy_and_nft_say_the_same() {
        for (nft, legacy) in [(0, 1), (2, 3), (4, 5), (6, 7)] {
            let (nft, legacy) = (Ruleset::parse(&saved(SAVED[nft])), Ruleset::parse(&saved(SAVED[legacy])));
            for table in &nft.tables {
                for chain in &table.chains {
                    let other = legacy.chain(&table.name, &chain.name).expect("the same chains");
                    let parts = |chain: &Chain| {
                        chain
                            .rules
                            .iter()
                            .map(|rule| (rule.matches.clone(), rule.comments.clone(), rule.target.clone()))
                            .collect::<Vec<_>>()
                    };
                    assert_eq!(parts(chain), parts(other));
                }
            }
        }
    }

    #[test]
    fn quotes_escapes_and_several_comments() {
        let rule =
            one(r#"-m comment --comment "cali:abc" -m comment --comment "a \"b\" \\ \'c\' -j DROP" -j mine"#);
        assert_eq!(rule.comments, ["cali:abc", r#"a "b" \ 'c' -j DROP"#]);
        assert_eq!((rule.matches, rule.target), (vec![], Target::Jump("mine".into())));
    }

    #[test]
    fn negations_wildcards_and_ranges() {
        let rule = one("! -s 10.42.0.0/16 ! -i cali+ -p tcp -m multiport ! --dports 80,1000:2000 -g mine");
        assert_eq!(
            rule.matches,
            [
                Match::Source { net: "10.42.0.0/16".parse().unwrap(), not: true },
                Match::In { interface: "cali+".into(), not: true },
                Match::Protocol { protocol: 6, not: false },
                Match::DestinationPorts { ports: vec![80..=80, 1000..=2000], not: true },
            ]
        );
        assert_eq!(rule.target, Target::Goto("mine".into()));
    }

    #[test]
    fn every_typed_match() {
        let rule = one(
            "-d fd00::1 -o eth0 -p ipv6-icmp -m icmp6 --icmpv6-type 128 -m mark ! --mark 0x10000/0x30000 \
             -m set ! --match-set cali40x src,dst -m addrtype ! --src-type LOCAL,BROADCAST \
             -m conntrack --ctstate RELATED,ESTABLISHED -m rpfilter --validmark --invert \
             -m limit --limit 5/sec --limit-burst 7 -m statistic --mode random --probability 0.5 \
             -m length --length :1400 -m tcp ! --tcp-flags FIN,SYN SYN -m connmark --mark 0x1 -m socket \
             -j REJECT --reject-with tcp-reset",
        );
        let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let address: IpAddr = "fd00::1".parse().unwrap();
        assert_eq!(
            rule.matches,
            [
                Match::Destination { net: address.into(), not: false },
                Match::Out { interface: "eth0".into(), not: false },
                Match::Protocol { protocol: 58, not: false },
                Match::IcmpType { kind: "128".into(), not: false },
                Match::Mark { value: 0x10000, mask: 0x30000, not: true },
                Match::Set { name: "cali40x".into(), dirs: words("src,dst"), not: true },
                Match::AddrType { source: true, types: words("LOCAL,BROADCAST"), only_at: None, not: true },
                Match::CtState { states: words("RELATED,ESTABLISHED"), not: false },
                Match::RpFilter { not: true },
                Match::Limit("--limit 5/sec --limit-burst 7".into()),
                Match::Statistic("--mode random --probability 0.5".into()),
                Match::Length { range: 0..=1400, not: false },
                Match::TcpFlags { mask: words("FIN,SYN"), set: words("SYN"), not: true },
                Match::Unknown("connmark --mark 0x1".into()),
                Match::Unknown("socket".into()),
            ]
        );
        assert_eq!(rule.target, Target::Reject("tcp-reset".into()));
    }

    #[test]
    fn targets() {
        for (text, target) in [
            ("-j CT --notrack", Target::NoTrack),
            ("-j NOTRACK", Target::NoTrack),
            ("-j MARK --set-xmark 0x0/0x1b0000", Target::Mark("--set-xmark 0x0/0x1b0000".into())),
            ("-j LOG --log-prefix \"a b\"", Target::Log("--log-prefix \"a b\"".into())),
            ("-j KUBE-ANY", Target::Other("KUBE-ANY".into())),
            ("-j elsewhere", Target::Jump("elsewhere".into())),
            ("-j REJECT", Target::Reject(String::new())),
            ("", Target::None),
        ] {
            assert_eq!(one(text).target, target, "{text}");
        }
    }

    #[test]
    fn odd_lines_are_named_and_the_rest_is_read() {
        let text = "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\r\n\
                    stray\r\n*filter\r\n:FORWARD DROP [7:420]\r\n[x:1] -A FORWARD -j DROP\r\n\
                    -A FORWARD -m comment --comment \"open -j DROP\r\n-I FORWARD -j DROP\r\n\
                    -A undeclared -s 10.0.0.0/255.0.255.0 -f -j ACCEPT\r\n[3:180] -A FORWARD -j DROP\r\n-A FORW";
        let ruleset = Ruleset::parse(text);
        let lines: Vec<usize> = ruleset.not_understood.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 5, 6, 7, 10]);
        assert_eq!(ruleset.warnings.len(), 1);
        let forward = ruleset.chain("filter", "FORWARD").unwrap();
        assert_eq!((forward.policy, forward.counters.packets), (Some(Policy::Drop), 7));
        assert_eq!(forward.rules.len(), 1);
        assert_eq!(forward.rules[0].counters, Some(Counters { packets: 3, bytes: 180 }));
        let other = &ruleset.chain("filter", "undeclared").unwrap().rules[0];
        assert_eq!(
            other.matches,
            [Match::Unknown("-s 10.0.0.0/255.0.255.0".into()), Match::Unknown("-f".into())]
        );
        assert!(!ruleset.tables[0].complete);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>()) {
            let _ = Ruleset::parse(&text);
        }

        #[test]
        fn any_cut_of_a_real_text_is_read(at in 0_usize..20_000) {
            let text = saved("odd-v4-nft.txt");
            let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let ruleset = Ruleset::parse(&text[..at]);
            assert!(ruleset.not_understood.len() <= 1);
        }

        #[test]
        fn any_order_of_known_words_is_read(words in prop::collection::vec(prop::sample::select(
            vec!["-A", "FORWARD", "!", "-m", "mark", "--mark", "0x1/", "-p", "tcp", "--dport", ":", "-j", "\"",
                 "[1:2]", "--match-set", "set", "--comment", "comment", "-s", "1.2.3.4/99", "-g"]), 0..12)) {
            let _ = Ruleset::parse(&format!("*filter\n{}\nCOMMIT\n", words.join(" ")));
        }
    }
}
