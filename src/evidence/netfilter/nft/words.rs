//! nft's JSON back into words, near enough to nft's own that a rule is recognised in `nft list ruleset`. The same
//! expression always gives the same words.

use serde_json::Value;

/// A whole rule, without its counter.
pub(super) fn rule(parts: &[Value]) -> String {
    let words = parts.iter().filter(|part| part.get("counter").is_none()).map(part);
    words.collect::<Vec<_>>().join(" ")
}

/// One statement.
pub(super) fn part(part: &Value) -> String {
    let Some((key, body)) = part.as_object().and_then(|part| part.iter().next()) else { return value(part) };
    match key.as_str() {
        "match" => condition(body),
        "jump" | "goto" => format!("{key} {}", body["target"].as_str().unwrap_or_default()),
        "mangle" => format!("{} set {}", value(&body["key"]), value(&body["value"])),
        "vmap" => format!("{} vmap {}", value(&body["key"]), value(&body["data"])),
        "log" => ["prefix", "level", "group", "snaplen"].iter().fold("log".to_owned(), |words, key| {
            match &body[key] {
                Value::Null => words,
                own => format!("{words} {key} {}", value(own)),
            }
        }),
        "limit" => {
            let over = if body["inv"] == true { "over " } else { "" };
            format!("limit rate {over}{}/{}", value(&body["rate"]), value(&body["per"]))
        }
        "reject" => match (body["type"].as_str(), body["expr"].as_str()) {
            (Some(kind), Some(expr)) => format!("reject with {kind} {expr}"),
            (Some(kind), None) => format!("reject with {kind}"),
            _ => "reject".to_owned(),
        },
        "dnat" | "snat" | "redirect" | "masquerade" | "tproxy" => {
            let port = match &body["port"] {
                Value::Null => String::new(),
                port => format!(":{}", value(port)),
            };
            match &body["addr"] {
                Value::Null if port.is_empty() => key.clone(),
                Value::Null => format!("{key} to {port}"),
                address => format!("{key} to {}{port}", value(address)),
            }
        }
        _ => match body {
            Value::Null => key.clone(),
            body => format!("{key} {}", value(body)),
        },
    }
}

/// `left operator right`.
pub(super) fn condition(body: &Value) -> String {
    let operator = match body["op"].as_str() {
        None | Some("==" | "in") => " ".to_owned(),
        Some(other) => format!(" {other} "),
    };
    format!("{}{operator}{}", value(&body["left"]), value(&body["right"]))
}

/// A value or an expression.
pub(super) fn value(value_of: &Value) -> String {
    match value_of {
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(value).collect::<Vec<_>>().join(","),
        Value::Object(object) => match object.iter().next() {
            Some((key, body)) if object.len() == 1 => of_kind(key, body),
            _ => value_of.to_string(),
        },
        other => other.to_string(),
    }
}

fn of_kind(key: &str, body: &Value) -> String {
    let sides = |joined: &str| {
        body.as_array().map(|all| all.iter().map(value).collect::<Vec<_>>().join(joined)).unwrap_or_default()
    };
    let word = |key: &str| body[key].as_str().unwrap_or_default();
    match key {
        "payload" => format!("{} {}", word("protocol"), word("field")),
        "meta" => match word("key") {
            key @ ("iifname" | "oifname" | "iif" | "oif") => key.to_owned(),
            key => format!("meta {key}"),
        },
        "ct" => format!("ct {}", word("key")),
        "fib" => format!("fib {} {}", value(&body["flags"]).replace(',', " . "), word("result")),
        "prefix" => format!("{}/{}", word("addr"), body["len"]),
        "range" => sides("-"),
        "concat" => sides(" . "),
        "set" => {
            let pair = |element: &Value| match element.as_array().map(Vec::as_slice) {
                Some([key, verdict]) => format!("{} : {}", value(key), part(verdict)),
                _ => value(element),
            };
            let all = body.as_array().map(|all| all.iter().map(pair).collect::<Vec<_>>().join(", "));
            format!("{{ {} }}", all.unwrap_or_default())
        }
        "elem" => value(&body["val"]),
        "&" | "|" | "^" | "<<" | ">>" => sides(&format!(" {key} ")),
        "numgen" => format!("numgen {} mod {}", word("mode"), body["mod"]),
        "jump" | "goto" | "accept" | "drop" | "return" => {
            format!("{key} {}", word("target")).trim_end().to_owned()
        }
        _ => format!("{key} {body}"),
    }
}
