//! Texts of `iptables-save`, `ipset save` and `conntrack -L`. In: the text. Out: the same lines, each word turned; counters, numbers
//! and options stay. A line that is none of these programs' becomes a remark.

use crate::evidence::netfilter::{Word, words};

use super::Redactor;
use super::names::Class;
use super::vocabulary::{is_option, is_rule_word};
use super::words::is_number;

impl Redactor {
    /// What `iptables-save -c` printed.
    pub(super) fn rules(&mut self, text: &str) -> String {
        // Declared chains are names, whatever they are called.
        let declared =
            text.lines().filter_map(|line| line.trim().strip_prefix(':')?.split_whitespace().next());
        self.declared = declared.map(str::to_owned).collect();
        let turned = self.lines(text, Self::rule_line);
        self.declared.clear();
        turned
    }

    /// What `ipset save` printed.
    pub(super) fn sets(&mut self, text: &str) -> String {
        self.lines(text, |this, line| {
            let words = words(line).ok()?;
            let [command, set, rest @ ..] = words.as_slice() else {
                return line.is_empty().then(String::new);
            };
            if !matches!(command.text.as_str(), "create" | "add") {
                return None;
            }
            let mut turned = vec![command.text.clone(), this.set(&set.text)];
            let mut before = "";
            for word in rest {
                let is_set = command.text == "add" && turned.len() == 2 && this.lists.contains(&set.text);
                turned.push(match before {
                    "comment" if word.quoted => quoted(&this.comment(&word.text)),
                    _ if is_set => this.set(&word.text),
                    _ => this.bare(word),
                });
                before = &word.text;
            }
            if turned.get(2).is_some_and(|kind| kind == "list:set") {
                this.lists.insert(set.text.clone());
            }
            Some(turned.join(" "))
        })
    }

    /// What `conntrack -L` printed.
    pub(super) fn connections(&mut self, text: &str) -> String {
        self.lines(text, |this, line| {
            let words: Vec<String> = line.split(' ').map(|word| this.word(word)).collect();
            Some(words.join(" "))
        })
    }

    /// Line by line; what cannot be turned becomes a remark.
    fn lines(&mut self, text: &str, mut turn: impl FnMut(&mut Self, &str) -> Option<String>) -> String {
        let mut turned = Vec::new();
        for line in text.split('\n') {
            turned.push(turn(self, line.trim_end_matches('\r')).unwrap_or_else(|| {
                self.note(super::LINES);
                "# left out".to_owned()
            }));
        }
        turned.join("\n")
    }

    fn rule_line(&mut self, line: &str) -> Option<String> {
        if let Some(remark) = line.strip_prefix('#') {
            return Some(format!("#{}", self.sentence(remark)));
        }
        if line.is_empty() || line == "COMMIT" {
            return Some(line.to_owned());
        }
        if let Some(table) = line.strip_prefix('*') {
            return Some(format!("*{}", self.table(table.trim())));
        }
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let name = words.next()?;
            let rest: Vec<&str> = words.collect();
            let fits = rest.iter().all(|word| *word == "-" || is_rule_word(word) || is_counters(word));
            return fits.then(|| format!(":{} {}", self.chain(name), rest.join(" ")).trim_end().to_owned());
        }
        let (counters, rule) = match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((counters, rule)) if is_number(counters) => (format!("[{counters}] "), rule.trim_start()),
            Some(_) => return None,
            None => (String::new(), line),
        };
        let words = words(rule).ok()?;
        let mut turned = Vec::new();
        let mut option = "";
        for word in &words {
            turned.push(self.of_rule(option, word));
            if word.text != "!" {
                option = if word.quoted { "" } else { &word.text };
            }
        }
        (words.first()?.text == "-A").then(|| counters + &turned.join(" "))
    }

    /// A word of a rule, after the option `before`.
    fn of_rule(&mut self, before: &str, word: &Word) -> String {
        let text = word.text.as_str();
        let turned = match before {
            "-A" | "--append" => self.chain(text),
            "-j" | "--jump" | "-g" | "--goto" if self.declared.contains(text) || !is_rule_word(text) => {
                self.chain(text)
            }
            "-i" | "-o" | "--in-interface" | "--out-interface" | "--physdev-in" | "--physdev-out" => {
                self.names.interface(text)
            }
            "--comment" => self.comment(text),
            "--match-set" | "--add-set" | "--del-set" | "--map-set" => self.set(text),
            option if FREE.contains(&option) => self.names.of(Class::Word, text),
            // What is loaded is a name, though it begins with dashes.
            "-m" | "--match" => return self.bare(word),
            _ if !word.quoted && is_option(text) => text.to_owned(),
            // An option that nobody knows stays one.
            _ if !word.quoted && text.starts_with("--") => format!("--{}", self.names.of(Class::Word, text)),
            _ => return self.bare(word),
        };
        if word.quoted { quoted(&turned) } else { turned }
    }

    fn bare(&mut self, word: &Word) -> String {
        if word.quoted { quoted(&self.sentence(&word.text)) } else { self.word(&word.text) }
    }
}

fn is_counters(word: &str) -> bool {
    word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(is_number)
}

/// As iptables quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Options whose values are free: what people write there may be anything.
const FREE: &[&str] = &[
    "--log-prefix",
    "--nflog-prefix",
    "--ulog-prefix",
    "--string",
    "--hex-string",
    "--name",
    "--hashlimit-name",
    "--helper",
    "--timeout",
    "--path",
    "--cgroup",
    "--genre",
    "--u32",
    "--bytecode",
    "--object-pinned",
    "--label",
    "--nfacct-name",
    "--rateest-name",
    "--rateest1",
    "--rateest2",
    "--led-trigger-id",
    "--selctx",
    "--uid-owner",
    "--gid-owner",
    "--set-label",
    "--realm",
];
