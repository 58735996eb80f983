//! What `ip -j`, `bridge -j` and `nft -j` print: objects of the first two in the words of the same programs without `-j`, which
//! are then read as such. Takes one document, whatever is in it.

use std::fmt::Write;

use serde_json::Value;

/// A document.
pub(super) enum Document {
    /// Lines of `ip` or `bridge`.
    Lines(String),
    /// What nft printed.
    Rules(Value),
}

/// The document in a text, if it is one of theirs.
pub(super) fn read(text: &str) -> Option<Document> {
    if !text.trim_start().starts_with(['[', '{']) {
        return None;
    }
    let value: Value = serde_json::from_str(text).ok()?;
    if value["nftables"].is_array() {
        return Some(Document::Rules(value));
    }
    let mut lines = String::new();
    for object in value.as_array()? {
        line(object, &mut lines);
    }
    (!lines.is_empty()).then_some(Document::Lines(lines))
}

fn line(object: &Value, lines: &mut String) {
    let has = |key: &str| !object[key].is_null();
    if has("mac") && has("ifname") {
        let _ = write!(lines, "{} dev {}", word(object, "mac"), word(object, "ifname"));
        put(lines, object, &[("dst", "dst")]);
        let _ = writeln!(lines, " {}", word(object, "state"));
    } else if has("ifname") && has("ifindex") {
        link(object, lines);
    } else if has("dst") && object["state"].is_array() {
        let _ = write!(lines, "{} dev {}", word(object, "dst"), word(object, "dev"));
        put(lines, object, &[("lladdr", "lladdr")]);
        let state = object["state"].as_array().and_then(|states| states.last()).and_then(Value::as_str);
        let _ = writeln!(lines, " {}", state.unwrap_or("NONE"));
    } else if has("priority") && (has("src") || has("table")) {
        let _ = write!(lines, "{}: from {}", word(object, "priority"), prefix(object, "src"));
        if has("dst") {
            let _ = write!(lines, " to {}", prefix(object, "dst"));
        }
        put(lines, object, &[("iif", "iif"), ("oif", "oif"), ("fwmark", "fwmark")]);
        if has("fwmask") {
            let _ = write!(lines, "/{}", word(object, "fwmask"));
        }
        put(lines, object, &[("table", "lookup")]);
        lines.push('\n');
    } else if has("dst") && (has("dev") || has("type") || has("gateway") || has("nexthops") || has("via")) {
        route(object, lines);
    }
}

fn route(object: &Value, lines: &mut String) {
    let kind = word(object, "type");
    let kind = if kind.is_empty() { kind } else { format!("{kind} ") };
    let _ = write!(lines, "{kind}{}", word(object, "dst"));
    hop(object, lines);
    let keys = [
        ("table", "table"),
        ("protocol", "proto"),
        ("scope", "scope"),
        ("metric", "metric"),
        ("pref", "pref"),
    ];
    put(lines, object, &keys);
    lines.push('\n');
    for next in object["nexthops"].as_array().into_iter().flatten() {
        lines.push_str("\tnexthop");
        hop(next, lines);
        lines.push('\n');
    }
}

/// A next hop with its flags.
fn hop(object: &Value, lines: &mut String) {
    if object["via"]["host"].is_string() {
        put(lines, &object["via"], &[("host", "via")]);
    }
    put(lines, object, &[("gateway", "via"), ("dev", "dev")]);
    for flag in object["flags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if matches!(flag, "onlink" | "dead" | "linkdown") {
            let _ = write!(lines, " {flag}");
        }
    }
}

fn link(object: &Value, lines: &mut String) {
    let flags = object["flags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let flags: Vec<&str> = flags.collect();
    let (index, name) = (word(object, "ifindex"), word(object, "ifname"));
    let _ = write!(lines, "{index}: {name}: <{}> mtu {}", flags.join(","), word(object, "mtu"));
    lines.push_str(if object["xdp"].is_null() { "\n" } else { " xdp\n" });
    if object["address"].is_string() {
        let _ = writeln!(lines, "    link/{} {}", word(object, "link_type"), word(object, "address"));
    }
    let (kind, data) = (word(&object["linkinfo"], "info_kind"), &object["linkinfo"]["info_data"]);
    if !kind.is_empty() {
        let _ = write!(lines, "    {kind}");
        put(lines, data, &[("id", "id"), ("local", "local"), ("local6", "local"), ("port", "dstport")]);
        lines.push_str(if data["learning"] == Value::Bool(true) { " learning\n" } else { " nolearning\n" });
    }
    for (direction, title) in [("rx", "RX"), ("tx", "TX")] {
        let numbers = object["stats64"][direction].as_object().or(object["stats"][direction].as_object());
        let Some(numbers) = numbers else { continue };
        let names: Vec<&str> = numbers.keys().map(|name| column(name)).collect();
        let values: Vec<String> = numbers.values().map(Value::to_string).collect();
        let _ = writeln!(lines, "    {title}: {}\n      {}", names.join(" "), values.join(" "));
    }
    for address in object["addr_info"].as_array().into_iter().flatten() {
        let _ = write!(lines, "    {} {}", word(address, "family"), word(address, "local"));
        if address["address"].is_string() {
            let _ = write!(lines, " peer {}", word(address, "address"));
        }
        let _ = writeln!(lines, "/{}", word(address, "prefixlen"));
    }
}

/// The name of a number in the columns of `ip -s`.
fn column(name: &str) -> &str {
    match name {
        "over_errors" => "overrun",
        "carrier_errors" => "carrier",
        name => name,
    }
}

/// ` word value` for each key that is there.
fn put(lines: &mut String, object: &Value, keys: &[(&str, &str)]) {
    for (key, name) in keys {
        let value = word(object, key);
        if !value.is_empty() {
            let _ = write!(lines, " {name} {value}");
        }
    }
}

/// An address with its length, which stands apart.
fn prefix(object: &Value, key: &str) -> String {
    let length = word(object, &format!("{key}len"));
    if length.is_empty() { word(object, key) } else { format!("{}/{length}", word(object, key)) }
}

/// A value in one word; empty when it is not there or is no word.
fn word(object: &Value, key: &str) -> String {
    match &object[key] {
        Value::String(text) if !text.contains(char::is_whitespace) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}
