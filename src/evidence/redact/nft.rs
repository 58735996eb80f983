//! What `nft -j` printed. In: one JSON document a line. Out: the same documents with every name and address turned. A line that is no
//! JSON is left out.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::Redactor;
use super::names::Class;
use super::vocabulary::{is_rule_word, is_static_name};
use super::words::is_number;

impl Redactor {
    /// One JSON document a line.
    pub(super) fn nft(&mut self, text: &str) -> String {
        let mut turned = String::new();
        for line in text.lines() {
            match serde_json::from_str::<Value>(line) {
                Ok(document) => turned.push_str(&self.value("", "", document).to_string()),
                Err(_) if line.trim().is_empty() => {}
                Err(_) => self.note(super::LINES),
            }
            turned.push('\n');
        }
        turned
    }

    /// A value under `key` of an object that stands under `kind`.
    fn value(&mut self, kind: &str, key: &str, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.nft_word(kind, key, &text)),
            Value::Array(values) => {
                // The elements of a list stand where the list stands.
                Value::Array(values.into_iter().map(|value| self.value(kind, key, value)).collect())
            }
            Value::Object(fields) => self.object(key, fields),
            plain => plain,
        }
    }

    fn object(&mut self, key: &str, mut fields: Map<String, Value>) -> Value {
        if let Some(net) = prefix(&fields) {
            let turned = self.addresses.net(net);
            return serde_json::json!({"prefix": {"addr": turned.addr(), "len": turned.prefix_len()}});
        }
        if let Some((first, last)) = range(&fields) {
            let (first, last) = self.range(first, last);
            return serde_json::json!({"range": [first, last]});
        }
        for (of, with) in BESIDE_RAW {
            if fields.get(of).is_some_and(|of| is_raw(of) || (is_integer(of) && with == "elem"))
                && let Some(value) = fields.get_mut(with)
            {
                self.note("values that rules compare with raw bytes were set to 0");
                blank(value);
            }
        }
        let fields = fields.into_iter().map(|(own, value)| {
            let value = self.value(key, &own, value);
            (if is_key(&own) { own } else { self.names.of(Class::Word, &own) }, value)
        });
        Value::Object(fields.collect())
    }

    fn nft_word(&mut self, kind: &str, key: &str, text: &str) -> String {
        match (kind, key) {
            (_, "comment") => self.comment(text),
            (_, "dev" | "devices") => self.names.interface(text),
            (_, "table") | ("table", "name") => self.table(text),
            (_, "chain" | "target") | ("chain", "name") => self.nft_chain(text),
            ("set" | "map" | "element", "name") => self.set(text),
            (_, "prefix") if kind == "log" => self.names.of(Class::Word, text),
            (_, "release_name") => String::new(),
            (_, "version" | "family" | "hook" | "policy") => self.word(text),
            (
                "counter" | "quota" | "limit" | "flowtable" | "ct helper" | "ct timeout" | "synproxy"
                | "secmark",
                _,
            ) if !is_rule_word(text) && self.address(text).is_none() => self.names.of(Class::Object, text),
            _ if text.starts_with('@') => format!("@{}", self.set(&text[1..])),
            // `ip daddr`, `tcp reset`.
            _ if text.contains(' ') => {
                text.split(' ').map(|word| self.word(word)).collect::<Vec<_>>().join(" ")
            }
            _ if text.ends_with(['*', '+']) && text.len() > 1 => self.names.interface(text),
            _ => self.word(text),
        }
    }

    /// Base chains of others may be called anything.
    fn nft_chain(&mut self, name: &str) -> String {
        if is_static_name(name) { name.to_owned() } else { self.chain(name) }
    }
}

/// What holds raw bytes, and what stands beside it: matches, maps, sets, changes of packets, and signs between bytes and a value.
const BESIDE_RAW: [(&str, &str); 6] =
    [("left", "right"), ("key", "data"), ("type", "elem"), ("key", "value"), ("^", "^"), ("|", "|")];

/// Whether bytes at a place of the packet are anywhere in it: they may be an address.
fn is_raw(value: &Value) -> bool {
    match value {
        Value::Object(fields) => value.pointer("/payload/base").is_some() || fields.values().any(is_raw),
        Value::Array(values) => values.iter().any(is_raw),
        _ => false,
    }
}

/// Whether it is the type that older versions of nft print for a set of raw bytes.
fn is_integer(kind: &Value) -> bool {
    match kind {
        Value::Array(kinds) => kinds.iter().any(is_integer),
        kind => kind == "integer",
    }
}

/// Sets every number to 0, also those that are too long for one and come as text. The place of bytes stays.
fn blank(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.iter_mut().filter(|(key, _)| *key != "payload").for_each(|(_, value)| blank(value));
        }
        Value::Array(values) => values.iter_mut().for_each(blank),
        Value::Number(_) => *value = Value::from(0),
        Value::String(text) if is_number(text) => *value = Value::from(0),
        _ => {}
    }
}

fn prefix(fields: &Map<String, Value>) -> Option<IpNet> {
    let prefix = fields.get("prefix").filter(|_| fields.len() == 1)?;
    let address: IpAddr = prefix["addr"].as_str()?.parse().ok()?;
    IpNet::new(address, u8::try_from(prefix["len"].as_u64()?).ok()?).ok()
}

fn range(fields: &Map<String, Value>) -> Option<(IpAddr, IpAddr)> {
    let ends = fields.get("range").filter(|_| fields.len() == 1)?.as_array()?;
    let [first, last] = ends.as_slice() else { return None };
    Some((first.as_str()?.parse().ok()?, last.as_str()?.parse().ok()?))
}

/// Keys are nft's own: short, of small letters, or signs.
fn is_key(key: &str) -> bool {
    let letters = key.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '_' | ' ' | '6' | '4'));
    is_rule_word(key) || (letters && key.split(' ').all(is_rule_word))
}
