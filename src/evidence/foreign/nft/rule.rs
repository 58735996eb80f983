//! One rule of nft's own language, statement by statement, and the elements of sets and maps.

use serde_json::{Map, Value, json};

use super::tokens::{Token, Tokens};

/// The statements of the rule that begins here, up to the end of its line, and its comment; of a table of that family.
pub(super) fn read(tokens: &mut Tokens<'_>, family: &str) -> Option<(Vec<Value>, Option<String>)> {
    let line = tokens.rest_of_line();
    tokens.peek()?;
    let mut rule = Rule { family, rest: &line, parts: Vec::new(), comment: None };
    while !rule.rest.is_empty() {
        let before = rule.rest;
        if rule.statement().is_none() {
            rule.rest = before;
            rule.unknown();
        }
    }
    Some((rule.parts, rule.comment))
}

/// The elements of a set, or of a map with what it gives for each.
pub(super) fn elements(tokens: &[Token<'_>]) -> Option<Vec<Value>> {
    let mut rule = Rule { family: "", rest: tokens, parts: Vec::new(), comment: None };
    let mut all = Vec::new();
    while !rule.rest.is_empty() {
        all.push(rule.element()?);
    }
    Some(all)
}

/// What is left of a rule, and what was read of it.
struct Rule<'r, 't> {
    family: &'r str,
    rest: &'r [Token<'t>],
    parts: Vec<Value>,
    comment: Option<String>,
}

/// Words that begin a statement wherever they stand.
const BEGIN: [&str; 12] = [
    "accept",
    "drop",
    "reject",
    "return",
    "jump",
    "goto",
    "continue",
    "counter",
    "comment",
    "masquerade",
    "log",
    "queue",
];

impl<'t> Rule<'_, 't> {
    fn word(&mut self) -> Option<&'t str> {
        let (Token::Word(word) | Token::Quoted(word)) = self.rest.first()? else { return None };
        self.rest = &self.rest[1..];
        Some(*word)
    }

    /// Takes the next word if it is that one.
    fn takes(&mut self, word: &str) -> bool {
        let is_it = self.rest.first() == Some(&Token::Word(word));
        if is_it {
            self.rest = &self.rest[1..];
        }
        is_it
    }

    /// Reads one statement; None where it is not known.
    fn statement(&mut self) -> Option<()> {
        let before = self.rest;
        let word = self.word()?;
        let part = match word {
            "accept" | "drop" | "return" | "continue" | "jump" | "goto" => {
                self.rest = before;
                self.verdict()?
            }
            "counter" if self.takes("packets") => {
                let packets = number(self.word()?)?;
                let bytes = if self.takes("bytes") { number(self.word()?)? } else { return None };
                json!({ "counter": { "packets": packets, "bytes": bytes } })
            }
            // One that has a name counts for several rules; `nft -s` leaves the numbers out.
            "counter" => {
                let name = if self.takes("name") { self.word() } else { None };
                json!({ "counter": name })
            }
            "comment" => {
                self.comment = Some(self.word()?.to_owned());
                return Some(());
            }
            "notrack" => json!({ "notrack": null }),
            "limit" => self.limit()?,
            "log" => self.log(),
            "reject" => self.reject()?,
            "masquerade" | "redirect" => {
                let to = self.takes("to").then(|| self.word()).flatten();
                self.flags();
                match to.map(|to| port(to.strip_prefix(':')?)) {
                    Some(port) => json!({ word: { "port": port? } }),
                    None => json!({ word: null }),
                }
            }
            "dnat" | "snat" => self.translation(word)?,
            "add" | "update" | "delete" => {
                let set = self.word().filter(|set| set.starts_with('@'))?;
                let end = self.rest.iter().position(|token| *token == Token::Close)?;
                self.rest = &self.rest[end + 1..];
                json!({ "set": { "op": word, "set": set } })
            }
            _ => {
                self.rest = before;
                return self.expression();
            }
        };
        self.parts.push(part);
        Some(())
    }

    /// What is not known, in its own words, up to the next statement that is.
    fn unknown(&mut self) {
        let mut depth = 0_usize;
        let begins = |token: &Token<'_>| matches!(token, Token::Word(word) if BEGIN.contains(word));
        let ends = self.rest.iter().enumerate().skip(1).find(|(_, token)| {
            match token {
                Token::Open => depth += 1,
                Token::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && begins(token)
        });
        let (own, rest) = self.rest.split_at(ends.map_or(self.rest.len(), |(at, _)| at));
        let words: Vec<&str> = own.iter().map(|token| token.text()).collect();
        self.parts.push(json!({ words.join(" "): null }));
        self.rest = rest;
    }

    fn verdict(&mut self) -> Option<Value> {
        Some(match self.word()? {
            word @ ("accept" | "drop" | "return" | "continue") => json!({ word: null }),
            word @ ("jump" | "goto") => json!({ word: { "target": self.word()? } }),
            _ => return None,
        })
    }

    /// `limit rate [over] 5/second [burst 7 packets]`.
    fn limit(&mut self) -> Option<Value> {
        if !self.takes("rate") {
            return None;
        }
        let over = self.takes("over");
        let (rate, per) = self.word()?.split_once('/')?;
        let mut limit = Map::from_iter([("rate".to_owned(), number(rate)?), ("per".to_owned(), per.into())]);
        if over {
            limit.insert("inv".to_owned(), true.into());
        }
        if self.takes("burst") {
            limit.insert("burst".to_owned(), number(self.word()?)?);
            if !self.takes("packets") {
                return None;
            }
        }
        Some(json!({ "limit": limit }))
    }

    fn log(&mut self) -> Value {
        let mut log = Map::new();
        while let Some(Token::Word(
            key @ ("prefix" | "level" | "group" | "snaplen" | "queue-threshold" | "flags"),
        )) = self.rest.first()
        {
            self.rest = &self.rest[1..];
            if let Some(word) = self.word() {
                log.insert((*key).to_owned(), value_of(word));
            }
            while self.rest.first() == Some(&Token::Comma) {
                self.rest = &self.rest[1..];
                self.word();
            }
        }
        if log.is_empty() { json!({ "log": null }) } else { json!({ "log": log }) }
    }

    /// `reject [with tcp reset | icmp[x|v6] [type] WORD]`.
    fn reject(&mut self) -> Option<Value> {
        if !self.takes("with") {
            // What is usual is not printed.
            let kind = match self.family {
                "ip" => "icmp",
                "ip6" => "icmpv6",
                _ => "icmpx",
            };
            return Some(json!({ "reject": { "type": kind, "expr": "port-unreachable" } }));
        }
        let kind = self.word()?;
        if kind == "tcp" && self.takes("reset") {
            return Some(json!({ "reject": { "type": "tcp reset" } }));
        }
        self.takes("type");
        let expr = self.word()?;
        matches!(kind, "icmp" | "icmpx" | "icmpv6")
            .then(|| json!({ "reject": { "type": kind, "expr": expr } }))
    }

    /// `dnat [ip|ip6] to ADDRESS[:PORT]`.
    fn translation(&mut self, kind: &str) -> Option<Value> {
        let family = if self.takes("ip") {
            Some("ip")
        } else if self.takes("ip6") {
            Some("ip6")
        } else {
            None
        };
        if !self.takes("to") {
            return None;
        }
        let to = self.word()?;
        self.flags();
        let mut body = Map::new();
        body.extend(family.map(|family| ("family".to_owned(), family.into())));
        let (address, own_port) = if let Ok(address) = to.parse::<std::net::SocketAddr>() {
            (address.ip(), Some(address.port()))
        } else {
            (to.trim_matches(['[', ']']).parse().ok()?, None)
        };
        body.insert("addr".to_owned(), address.to_string().into());
        body.extend(own_port.map(|port| ("port".to_owned(), port.into())));
        Some(json!({ kind: body }))
    }

    /// How a translation chooses: of no account here.
    fn flags(&mut self) {
        while let Some(Token::Comma | Token::Word("random" | "fully-random" | "persistent")) =
            self.rest.first()
        {
            self.rest = &self.rest[1..];
        }
    }

    /// A match, a verdict map, or `set`.
    fn expression(&mut self) -> Option<()> {
        let mut left = self.field()?;
        if self.rest.first() == Some(&Token::Word(".")) {
            let mut all = vec![left];
            while self.takes(".") {
                all.push(self.field()?);
            }
            left = json!({ "concat": all });
        }
        if self.takes("vmap") {
            let data = self.value()?;
            self.parts.push(json!({ "vmap": { "key": left, "data": data } }));
            return Some(());
        }
        if self.takes("set") {
            let value = self.mark()?;
            self.parts.push(json!({ "mangle": { "key": left, "value": value } }));
            return Some(());
        }
        if self.takes("&") {
            let mask = number(self.word()?)?;
            left = json!({ "&": [left, mask] });
            if !matches!(self.rest.first(), Some(Token::Word("==" | "!="))) {
                return None;
            }
        }
        let op = match self.rest.first()? {
            Token::Word(op @ ("==" | "!=" | "<" | ">" | "<=" | ">=" | "!")) => Some(*op),
            _ => None,
        };
        self.rest = &self.rest[usize::from(op.is_some())..];
        let right = self.value()?;
        // Flags that are set, of those that are looked at.
        if self.takes("/") {
            left = json!({ "&": [left, self.value()?] });
        }
        // What follows changes what was compared.
        if matches!(self.rest.first(), Some(Token::Word("&" | "|" | "^" | "."))) {
            return None;
        }
        let op = op.unwrap_or(if right.is_array() { "in" } else { "==" });
        self.parts.push(json!({ "match": { "op": op, "left": left, "right": right } }));
        Some(())
    }

    /// What a match compares.
    fn field(&mut self) -> Option<Value> {
        Some(match self.word()? {
            protocol @ ("ip" | "ip6" | "tcp" | "udp" | "th" | "sctp" | "icmp" | "icmpv6" | "ether"
            | "arp") => {
                let field = self.word().filter(|field| *field != "option")?;
                json!({ "payload": { "protocol": protocol, "field": field } })
            }
            "meta" => json!({ "meta": { "key": self.word()? } }),
            key @ ("iifname" | "oifname" | "iif" | "oif" | "mark") => json!({ "meta": { "key": key } }),
            "ct" => match self.word()? {
                // Of the connection, not of the packet.
                dir @ ("original" | "reply") => {
                    let key = match self.word()? {
                        family @ ("ip" | "ip6") => format!("{family} {}", self.word()?),
                        key => key.to_owned(),
                    };
                    json!({ "ct": { "key": key, "dir": dir } })
                }
                key @ ("state" | "status" | "direction" | "mark") => json!({ "ct": { "key": key } }),
                _ => return None,
            },
            "fib" => {
                let mut flags = vec![self.word()?];
                while self.takes(".") {
                    flags.push(self.word()?);
                }
                json!({ "fib": { "result": self.word()?, "flags": flags } })
            }
            "numgen" => {
                let mode = self.word()?;
                let modulus = if self.takes("mod") { number(self.word()?)? } else { return None };
                json!({ "numgen": { "mode": mode, "mod": modulus, "offset": 0 } })
            }
            _ => return None,
        })
    }

    /// What it is compared with: a word, a list of words, or a set.
    fn value(&mut self) -> Option<Value> {
        if self.rest.first() == Some(&Token::Open) {
            self.rest = &self.rest[1..];
            let mut all = Vec::new();
            while self.rest.first()? != &Token::Close {
                all.push(self.element()?);
            }
            self.rest = &self.rest[1..];
            return Some(json!({ "set": all }));
        }
        let first = value_of(self.word()?);
        if self.rest.first() != Some(&Token::Comma) {
            return Some(first);
        }
        let mut all = vec![first];
        while self.rest.first() == Some(&Token::Comma) {
            self.rest = &self.rest[1..];
            all.push(value_of(self.word()?));
        }
        Some(all.into())
    }

    /// An element and the comma behind it: fields, then perhaps a timeout, a counter, a comment, then what a map gives.
    fn element(&mut self) -> Option<Value> {
        let mut fields = vec![value_of(self.word()?)];
        while self.takes(".") {
            fields.push(value_of(self.word()?));
        }
        let own = match <[Value; 1]>::try_from(fields) {
            Ok([field]) => field,
            Err(fields) => json!({ "concat": fields }),
        };
        let mut gives = None;
        loop {
            match self.rest.first() {
                None | Some(Token::Close) => break,
                Some(Token::Comma) => {
                    self.rest = &self.rest[1..];
                    break;
                }
                Some(Token::Word(":")) => {
                    self.rest = &self.rest[1..];
                    let before = self.rest;
                    gives = self.verdict();
                    if gives.is_none() {
                        self.rest = before;
                        gives = Some(value_of(self.word()?));
                    }
                }
                Some(Token::Word("timeout" | "expires" | "comment")) => {
                    self.rest = &self.rest[1..];
                    self.word()?;
                }
                Some(Token::Word("counter" | "packets" | "bytes" | "last" | "used" | "never")) => {
                    self.rest = &self.rest[1..];
                    if let Some(Token::Word(word)) = self.rest.first()
                        && number(word).is_some()
                    {
                        self.rest = &self.rest[1..];
                    }
                }
                _ => return None,
            }
        }
        Some(gives.map_or(own.clone(), |gives| json!([own, gives])))
    }

    /// What a mark becomes: a number, or the mark itself and one operation.
    fn mark(&mut self) -> Option<Value> {
        if !self.takes("meta") {
            let value = value_of(self.word()?);
            return (!matches!(self.rest.first(), Some(Token::Word("&" | "|" | "^" | "map"))))
                .then_some(value);
        }
        let own = json!({ "meta": { "key": self.word()? } });
        match self.rest.first() {
            Some(Token::Word(operator @ ("&" | "|" | "^"))) => {
                self.rest = &self.rest[1..];
                Some(json!({ *operator: [own, number(self.word()?)?] }))
            }
            _ => Some(own),
        }
    }
}

/// A word as JSON has it: an address with a prefix, a range, a number, or the word itself.
fn value_of(word: &str) -> Value {
    if let Some((address, length)) = word.split_once('/')
        && address.parse::<std::net::IpAddr>().is_ok()
        && let Ok(length) = length.parse::<u8>()
    {
        return json!({ "prefix": { "addr": address, "len": length } });
    }
    if let Some((low, high)) = word.split_once('-') {
        let is_end = |end: &str| number(end).is_some() || end.parse::<std::net::IpAddr>().is_ok();
        if is_end(low) && is_end(high) {
            return json!({ "range": [value_of(low), value_of(high)] });
        }
    }
    match word {
        "exists" => true.into(),
        "missing" => false.into(),
        _ => number(word).unwrap_or_else(|| word.into()),
    }
}

fn number(word: &str) -> Option<Value> {
    let read = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    read.map(Value::from)
}

fn port(word: &str) -> Option<Value> {
    word.parse::<u16>().ok().map(Value::from)
}
