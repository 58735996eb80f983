//! `nft list ruleset` as people read it, into what `nft -j` prints of the same (libnftables-json(5)), so that both are read by one
//! reader. In: one table, whole. Out: its objects. A statement that is not known here stands there under its own words, which that
//! reader takes for a match that cannot be evaluated; a table that does not hold together gives nothing.

mod rule;
mod tokens;

use serde_json::{Map, Value, json};

use tokens::{Token, Tokens};

/// The objects of one table; None where its text ends too early or makes no sense.
pub(super) fn table(text: &str) -> Option<Vec<Value>> {
    let mut tokens = Tokens::of(text);
    let (Token::Word("table"), Token::Word(family), Token::Word(name), Token::Open) =
        (tokens.next()?, tokens.next()?, tokens.next()?, tokens.next()?)
    else {
        return None;
    };
    let mut table = Table { family, name, sets: Vec::new(), chains: Vec::new(), rules: Vec::new() };
    let mut own = Map::from_iter([("family".to_owned(), family.into()), ("name".to_owned(), name.into())]);
    loop {
        match tokens.next()? {
            Token::Close => break,
            Token::Word("chain") => table.chain(&mut tokens)?,
            Token::Word(kind @ ("set" | "map")) => table.set(kind, &mut tokens)?,
            Token::Word("flags") => {
                own.insert("flags".to_owned(), words_of(&tokens.rest_of_line()).map(Value::from).collect());
            }
            Token::Line | Token::Semicolon => {}
            // Comments, counters, quotas, helpers, flowtables: nothing that decides on packets by itself.
            _ => tokens.skip_statement()?,
        }
    }
    Some(
        [json!({ "table": own })]
            .into_iter()
            .chain(table.sets)
            .chain(table.chains)
            .chain(table.rules)
            .collect(),
    )
}

struct Table<'t> {
    family: &'t str,
    name: &'t str,
    sets: Vec<Value>,
    chains: Vec<Value>,
    rules: Vec<Value>,
}

impl<'t> Table<'t> {
    /// An object of this table.
    fn body(&self) -> Map<String, Value> {
        let words = [("family", self.family), ("table", self.name)];
        words.into_iter().map(|(key, word)| (key.to_owned(), word.into())).collect()
    }

    /// The name and the brace that follow the kind of an object, and the object so far.
    fn opened(&self, tokens: &mut Tokens<'t>) -> Option<(&'t str, Map<String, Value>)> {
        let (Token::Word(name), Token::Open) = (tokens.next()?, tokens.next()?) else { return None };
        let mut object = self.body();
        object.insert("name".to_owned(), name.into());
        Some((name, object))
    }

    fn chain(&mut self, tokens: &mut Tokens<'t>) -> Option<()> {
        let (name, mut chain) = self.opened(tokens)?;
        loop {
            match tokens.peek()? {
                Token::Close => break,
                Token::Line | Token::Semicolon => {
                    tokens.next();
                }
                Token::Word("type") => self.base(tokens, &mut chain)?,
                Token::Word("policy") => {
                    tokens.next();
                    let Token::Word(policy) = tokens.next()? else { return None };
                    chain.insert("policy".to_owned(), policy.into());
                }
                Token::Word("comment" | "flags") => tokens.skip_statement()?,
                _ => {
                    let (parts, comment) = rule::read(tokens, self.family)?;
                    let mut rule = self.body();
                    rule.insert("chain".to_owned(), name.into());
                    rule.insert("expr".to_owned(), parts.into());
                    rule.extend(comment.map(|comment| ("comment".to_owned(), comment.into())));
                    self.rules.push(json!({ "rule": rule }));
                }
            }
        }
        tokens.next();
        self.chains.push(json!({ "chain": chain }));
        Some(())
    }

    /// `type filter hook input [device …] priority filter + 10`.
    fn base(&self, tokens: &mut Tokens<'t>, chain: &mut Map<String, Value>) -> Option<()> {
        loop {
            match tokens.next()? {
                Token::Line | Token::Semicolon => return Some(()),
                Token::Word(key @ ("type" | "hook")) => {
                    let Token::Word(word) = tokens.next()? else { return None };
                    chain.insert(key.to_owned(), word.into());
                }
                Token::Word("device") => {
                    let (Token::Word(name) | Token::Quoted(name)) = tokens.next()? else { return None };
                    chain.insert("dev".to_owned(), name.into());
                }
                Token::Word("devices") => {
                    let names = tokens.braced()?.into_iter().filter_map(|token| match token {
                        Token::Word(name) | Token::Quoted(name) if name != "=" => Some(Value::from(name)),
                        _ => None,
                    });
                    chain.insert("dev".to_owned(), names.collect());
                }
                Token::Word("priority") => {
                    chain.insert("prio".to_owned(), self.priority(tokens)?.into());
                }
                _ => return None,
            }
        }
    }

    /// A number, or one of nft's names for it, which differ by family, and a distance from it.
    fn priority(&self, tokens: &mut Tokens<'t>) -> Option<i64> {
        let Token::Word(word) = tokens.next()? else { return None };
        let bridge = self.family == "bridge";
        let base = match word {
            "dstnat" if bridge => -300,
            "filter" if bridge => -200,
            "srcnat" if bridge => 300,
            "raw" => -300,
            "mangle" => -150,
            "dstnat" => -100,
            "filter" => 0,
            "security" => 50,
            "out" | "srcnat" => 100,
            number => number.parse().ok()?,
        };
        let sign = match tokens.peek()? {
            Token::Word("+") => 1,
            Token::Word("-") => -1,
            _ => return Some(base),
        };
        tokens.next();
        let Token::Word(distance) = tokens.next()? else { return None };
        Some(base + sign * i64::from(distance.parse::<i32>().ok()?))
    }

    fn set(&mut self, kind: &str, tokens: &mut Tokens<'t>) -> Option<()> {
        let (_, mut set) = self.opened(tokens)?;
        loop {
            match tokens.next()? {
                Token::Close => break,
                Token::Line | Token::Semicolon => {}
                Token::Word(word @ ("type" | "typeof")) => {
                    let line = tokens.rest_of_line();
                    let (key, data) = split(&line, ":");
                    let fields = key.split(|token| *token == Token::Word("."));
                    // `typeof` names fields, which have a type each.
                    let types = fields.map(|field| match word {
                        "typeof" => type_of(field),
                        _ => words_of(field).next().unwrap_or_default(),
                    });
                    set.insert("type".to_owned(), types.map(Value::from).collect());
                    set.extend(words_of(data).next().map(|word| ("map".to_owned(), word.into())));
                }
                Token::Word("flags") => {
                    set.insert(
                        "flags".to_owned(),
                        words_of(&tokens.rest_of_line()).map(Value::from).collect(),
                    );
                }
                Token::Word("elements") => {
                    if tokens.next()? != Token::Word("=") || tokens.peek()? != Token::Open {
                        return None;
                    }
                    set.insert("elem".to_owned(), rule::elements(&tokens.braced()?)?.into());
                }
                _ => tokens.skip_statement()?,
            }
        }
        self.sets.push(json!({ kind: set }));
        Some(())
    }
}

fn words_of<'a>(tokens: &'a [Token<'_>]) -> impl Iterator<Item = &'a str> {
    tokens.iter().filter_map(|token| match token {
        Token::Word(word) | Token::Quoted(word) => Some(*word),
        _ => None,
    })
}

/// What stands before and behind a word; nothing behind where it is not there.
fn split<'a, 't>(tokens: &'a [Token<'t>], at: &str) -> (&'a [Token<'t>], &'a [Token<'t>]) {
    match tokens.iter().position(|token| *token == Token::Word(at)) {
        Some(number) => (&tokens[..number], &tokens[number + 1..]),
        None => (tokens, &[]),
    }
}

/// The type of a field.
fn type_of(field: &[Token<'_>]) -> &'static str {
    let words: Vec<&str> = words_of(field).collect();
    match words.as_slice() {
        ["ip", "saddr" | "daddr"] => "ipv4_addr",
        ["ip6", "saddr" | "daddr"] => "ipv6_addr",
        ["tcp" | "udp" | "th" | "sctp", "sport" | "dport"] => "inet_service",
        ["meta", "l4proto"] | ["ip", "protocol"] | ["ip6", "nexthdr"] => "inet_proto",
        ["iifname" | "oifname"] | ["meta", "iifname" | "oifname"] => "ifname",
        ["mark"] | ["meta", "mark"] => "mark",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests;
