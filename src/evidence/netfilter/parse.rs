//! Lines of iptables-save into rules: `*table`, `:CHAIN POLICY [p:b]`, `[p:b] -A CHAIN …`, `COMMIT`, `# comment`.

use super::matches::{self, Match};
use super::{Chain, Counters, Policy, Rule, Ruleset, Table, Target};

pub(super) fn parse(text: &str) -> Ruleset {
    let mut ruleset = Ruleset::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        let understood = match line.chars().next() {
            None | Some('#') => true,
            Some('*') => {
                ruleset.tables.push(Table { name: line[1..].to_owned(), chains: Vec::new() });
                true
            }
            Some(':') => ruleset.tables.last_mut().and_then(|table| head(&line[1..], table)).is_some(),
            Some('[' | '-') => ruleset.tables.last_mut().and_then(|table| rule(line, table)).is_some(),
            Some(_) => line == "COMMIT",
        };
        if !understood {
            ruleset.not_understood.push((number, line.to_owned()));
        }
    }
    ruleset
}

/// `FORWARD ACCEPT [12:3456]`
fn head(line: &str, table: &mut Table) -> Option<()> {
    let mut words = line.split(' ');
    let (name, policy) = (words.next()?, words.next()?);
    let policy = match policy {
        "ACCEPT" => Some(Policy::Accept),
        "DROP" => Some(Policy::Drop),
        "-" => None,
        _ => return None,
    };
    let counters = words.next().and_then(counters).unwrap_or_default();
    table.chains.push(Chain { name: name.to_owned(), policy, counters, rules: Vec::new() });
    Some(())
}

fn counters(word: &str) -> Option<Counters> {
    let (packets, bytes) = word.strip_prefix('[')?.strip_suffix(']')?.split_once(':')?;
    Some(Counters { packets: packets.parse().ok()?, bytes: bytes.parse().ok()? })
}

fn rule(line: &str, table: &mut Table) -> Option<()> {
    let (counts, text) = match line.split_once(' ') {
        Some((first, rest)) if first.starts_with('[') => (Some(counters(first)?), rest),
        _ => (None, line),
    };
    let words = words(text)?;
    let [append, chain, rest @ ..] = words.as_slice() else { return None };
    if append != "-A" {
        return None;
    }
    let (matches, target, comments) = body(rest);
    let rule = Rule { text: text.to_owned(), counters: counts, comments, matches, target };
    let known = table.chains.iter().position(|known| known.name == *chain);
    let index = known.unwrap_or_else(|| {
        table.chains.push(Chain { name: chain.clone(), ..Chain::default() });
        table.chains.len() - 1
    });
    table.chains[index].rules.push(rule);
    Some(())
}

fn body(words: &[String]) -> (Vec<Match>, Target, Vec<String>) {
    let mut comments = Vec::new();
    let mut found = Vec::new();
    let mut target = Target::None;
    let mut at = 0;
    while at < words.len() {
        match (words[at].as_str(), words.get(at + 1)) {
            ("-m", Some(name)) if name == "comment" => at += 2,
            ("--comment", Some(comment)) => {
                comments.push(comment.clone());
                at += 2;
            }
            ("-j", Some(name)) => {
                target = jump(name, &words[at + 2..]);
                break;
            }
            ("-g", Some(name)) => {
                target = Target::Goto(name.clone());
                break;
            }
            _ => {
                let taken = matches::take(&words[at..], &mut found);
                at += taken.max(1);
            }
        }
    }
    (found, target, comments)
}

fn jump(name: &str, options: &[String]) -> Target {
    const KNOWN: [&str; 22] = [
        "MARK",
        "CONNMARK",
        "DNAT",
        "SNAT",
        "MASQUERADE",
        "REDIRECT",
        "NOTRACK",
        "CT",
        "LOG",
        "NFLOG",
        "TRACE",
        "QUEUE",
        "NFQUEUE",
        "TCPMSS",
        "DSCP",
        "TOS",
        "TTL",
        "HL",
        "SET",
        "CLASSIFY",
        "CHECKSUM",
        "TPROXY",
    ];
    match name {
        "ACCEPT" => Target::Accept,
        "DROP" => Target::Drop,
        "RETURN" => Target::Return,
        "REJECT" => {
            let with =
                options.iter().position(|word| word == "--reject-with").and_then(|at| options.get(at + 1));
            Target::Reject(with.cloned())
        }
        other if KNOWN.contains(&other) => Target::Other([&[other.to_owned()], options].concat().join(" ")),
        chain => Target::Jump(chain.to_owned()),
    }
}

/// Words as a shell would see them: quotes hold spaces, a backslash takes the next character as it is.
fn words(text: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut begun = false;
    let mut quoted = false;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if quoted => word.push(letters.next()?),
            '"' => {
                quoted = !quoted;
                begun = true;
            }
            ' ' if !quoted => {
                if begun || !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            other => word.push(other),
        }
    }
    if begun || !word.is_empty() {
        all.push(word);
    }
    (!quoted).then_some(all)
}
