//! The parts of an nftables rule: matches, what it does, and the sets and maps that it brings along.

use serde_json::Value;

use super::super::matches::{HookSide, protocol_number};
use super::super::sets::{MOST_VARIANTS, Members, Part, VerdictMap, range_of};
use super::super::{Counters, Match, Table, Target};
use super::words;

/// What was read of one rule.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) counters: Option<Counters>,
    pub(super) matches: Vec<Match>,
    pub(super) before: Vec<Target>,
    pub(super) target: Target,
}

/// Reads a rule's expressions. Unnamed sets and maps become the table's, under their own text.
pub(super) fn read(parts: &[Value], table: &mut Table) -> Parts {
    let mut read = Parts { counters: None, matches: Vec::new(), before: Vec::new(), target: Target::None };
    for part in parts {
        // `notrack` and the like may come as a bare word.
        let (key, value) = match part {
            Value::String(key) => (key.as_str(), &Value::Null),
            _ => match part.as_object().and_then(|part| part.iter().next()) {
                Some((key, value)) => (key.as_str(), value),
                None => continue,
            },
        };
        match key {
            "match" => matches_of(value, table, &mut read.matches),
            "counter" => read.counters = counters(value).or(read.counters),
            "limit" => read.matches.push(Match::Limit(words::part(part))),
            "quota" | "ct count" | "connlimit" | "meter" => {
                read.matches.push(Match::Unknown(words::part(part)));
            }
            "xt" => {
                read.matches.push(Match::Unknown(words::part(part)));
                read.before.push(Target::Other(words::part(part)));
            }
            "mangle" => read.before.push(mangle(value)),
            "notrack" => read.before.push(Target::NoTrack),
            "log" => read.before.push(Target::Log(words::part(part))),
            "set" | "flow" | "dup" | "map" | "ct helper" | "ct timeout" | "ct expectation" | "secmark"
            | "last" | "comment" => {
                read.before.push(Target::Other(format!("set {}", words::part(part))));
            }
            "vmap" => read.target = vmap(value, table),
            key => {
                if let Some(target) = verdict(key, value) {
                    read.target = target;
                } else {
                    // It may do anything to the packet.
                    read.matches.push(Match::Unknown(words::part(part)));
                    read.before.push(Target::Other(words::part(part)));
                }
            }
        }
    }
    read.before.retain(|action| !matches!(action, Target::Other(text) if text.starts_with("set ")));
    read
}

/// A statement that decides.
fn verdict(key: &str, value: &Value) -> Option<Target> {
    let target = || value["target"].as_str().unwrap_or_default().to_owned();
    Some(match key {
        "accept" => Target::Accept,
        "drop" => Target::Drop,
        "continue" => Target::None,
        "return" => Target::Return,
        "jump" => Target::Jump(target()),
        "goto" => Target::Goto(target()),
        "reject" => Target::Reject(reject(value)),
        "dnat" => Target::Dnat(translation("--to-destination", value)),
        "snat" => Target::Snat(translation("--to-source", value)),
        "masquerade" => Target::Masquerade(String::new()),
        "redirect" => Target::Other("REDIRECT".to_owned()),
        "queue" => Target::Other("queue".to_owned()),
        "fwd" => Target::Other("fwd".to_owned()),
        "tproxy" => Target::Other("TPROXY".to_owned()),
        "synproxy" => Target::Other("SYNPROXY".to_owned()),
        _ => return None,
    })
}

/// As iptables' `--reject-with` says it.
fn reject(value: &Value) -> String {
    match (value["type"].as_str(), value["expr"].as_str()) {
        (Some("tcp reset"), _) => "tcp-reset".to_owned(),
        (Some("icmpx"), Some(expr)) => format!("icmpx-{expr}"),
        (_, Some(expr)) => format!("icmp-{expr}"),
        _ => String::new(),
    }
}

/// `--to-… address:port`, either of which may be missing, or be words of which nothing can be read.
fn translation(option: &str, value: &Value) -> String {
    let said = |key: &str| match &value[key] {
        Value::Null => String::new(),
        said => words::value(said),
    };
    let (address, port) = (said("addr"), said("port"));
    match (port.as_str(), address.contains(':')) {
        ("", _) => format!("{option} {address}"),
        (port, true) => format!("{option} [{address}]:{port}"),
        (port, false) => format!("{option} {address}:{port}"),
    }
}

fn counters(value: &Value) -> Option<Counters> {
    Some(Counters { packets: value["packets"].as_u64()?, bytes: value["bytes"].as_u64()? })
}

/// `meta mark set …` in MARK's words; a change of what no rule asks for is nothing.
fn mangle(value: &Value) -> Target {
    let key = &value["key"];
    if key["meta"]["key"] == "mark" {
        return Target::Mark(match xmark(&value["value"]) {
            Some((value, mask)) => format!("--set-xmark {value:#x}/{mask:#x}"),
            None if value["value"]["ct"]["key"] == "mark" => "--set-ctmark 0x0".to_owned(),
            None => words::value(&value["value"]),
        });
    }
    if key["ct"]["key"] == "mark" {
        return Target::Other(if value["value"]["meta"]["key"] == "mark" {
            "CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff".to_owned()
        } else {
            "CONNMARK".to_owned()
        });
    }
    // An address or a port that is written over cannot be followed; MARK of what cannot be read forgets the mark too,
    // which is more than need be.
    if key["payload"].is_object() {
        return Target::Other(format!("payload {}", words::value(key)));
    }
    Target::Other("set".to_owned())
}

/// An expression of the mark as `(mark & !mask) ^ value`.
fn xmark(value: &Value) -> Option<(u32, u32)> {
    if let Some(number) = number(value) {
        return Some((number, u32::MAX));
    }
    if value["meta"]["key"] == "mark" {
        return Some((0, 0));
    }
    let (operator, sides) = value.as_object()?.iter().next()?;
    let [left, right] = sides.as_array()?.as_slice() else { return None };
    let (own, mask) = xmark(left)?;
    let by = number(right)?;
    Some(match operator.as_str() {
        "&" => (own & by, mask | !by),
        "|" => ((own & !by) | by, mask | by),
        "^" => (own ^ by, mask),
        _ => return None,
    })
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| number.try_into().ok())
}

/// Adds what one `match` says. What a match implies (a port: its protocol) is added too.
fn matches_of(value: &Value, table: &mut Table, matches: &mut Vec<Match>) {
    let (left, right) = (&value["left"], &value["right"]);
    let not = match value["op"].as_str() {
        Some("==") => false,
        // Any of several bits, which for states means any of several states.
        Some("in") if left["ct"].is_object() => false,
        Some("!=") if left["ct"]["key"] != "status" => true,
        // None of these bits.
        Some("!") if left["ct"]["key"] == "status" => true,
        _ => {
            matches.push(Match::Unknown(words::condition(value)));
            return;
        }
    };
    if let Some(implied) = implied(left) {
        matches.push(Match::Protocol { protocol: implied, not: false });
    }
    let simple = simple(left, right, not);
    match simple.or_else(|| among(left, right, not, table)) {
        Some(found) => matches.push(found),
        None => matches.push(Match::Unknown(words::condition(value))),
    }
}

/// The protocol that a header's field is of.
fn implied(left: &Value) -> Option<u8> {
    let left = left["&"].get(0).unwrap_or(left);
    match left["payload"]["protocol"].as_str()? {
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmp" => Some(1),
        "icmpv6" => Some(58),
        "sctp" => Some(132),
        _ => None,
    }
}

/// A match that iptables has too.
fn simple(left: &Value, right: &Value, not: bool) -> Option<Match> {
    if let Some(sides) = left["&"].as_array() {
        let [side, mask] = sides.as_slice() else { return None };
        if side["meta"]["key"] == "mark" {
            return Some(Match::Mark { value: number(right)?, mask: number(mask)?, not });
        }
        if side["payload"]["protocol"] == "tcp" && side["payload"]["field"] == "flags" {
            return Some(Match::TcpFlags { mask: flag_names(mask)?, set: flag_names(right)?, not });
        }
        // `ct status & dnat == 0` and its contraries.
        let states = states(mask).filter(|all| side["ct"]["key"] == "status" && all.len() == 1)?;
        let none = right.as_u64() == Some(0);
        return (none || right == mask).then_some(Match::CtState { states, not: not != none });
    }
    if let Some(flags) = left["fib"]["flags"].as_array() {
        let flags: Vec<&str> = flags.iter().filter_map(Value::as_str).collect();
        return fib(left["fib"]["result"].as_str()?, &flags, right, not);
    }
    match field_of(left)?.as_str() {
        "src" => Some(Match::Source { net: net(right)?, not }),
        "dst" => Some(Match::Destination { net: net(right)?, not }),
        "iif" => Some(Match::In { interface: interface(right)?, not }),
        "oif" => Some(Match::Out { interface: interface(right)?, not }),
        "proto" => Some(Match::Protocol { protocol: protocol(right)?, not }),
        "sport" => Some(Match::SourcePorts { ports: ports(right)?, not }),
        "dport" => Some(Match::DestinationPorts { ports: ports(right)?, not }),
        "mark" => Some(Match::Mark { value: number(right)?, mask: u32::MAX, not }),
        "ctstate" | "ctstatus" => {
            let states = states(right)?;
            Some(Match::CtState { states, not })
        }
        "ctdirection" => match right.as_str()? {
            "reply" => Some(Match::CtDirection { reply: true, not }),
            "original" => Some(Match::CtDirection { reply: false, not }),
            _ => None,
        },
        "icmp" => Some(Match::IcmpType {
            kind: right.as_str().map(str::to_owned).or_else(|| Some(right.as_u64()?.to_string()))?,
            not,
        }),
        "length" => {
            let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
            let (low, high) = match right["range"].as_array() {
                Some(ends) => (ends.first()?, ends.last()?),
                None => (right, right),
            };
            Some(Match::Length { range: number(low)?..=number(high)?, not })
        }
        // Which family: an address of it is what a packet of it has.
        "nfproto" => {
            let all = if right == "ipv4" { "0.0.0.0/0" } else { "::/0" };
            (!not && (right == "ipv4" || right == "ipv6"))
                .then(|| all.parse().ok())
                .flatten()
                .map(|net| Match::Source { net, not: false })
        }
        "tcpflags" => Some(Match::TcpFlags {
            mask: ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"].map(str::to_owned).to_vec(),
            set: flag_names(right)?,
            not,
        }),
        _ => None,
    }
}

/// The name of a field in [`Match::Set`]; what cannot be evaluated keeps its own words.
fn field_of(left: &Value) -> Option<String> {
    let payload = (left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str());
    let name = match payload {
        (Some("ip" | "ip6"), Some("saddr")) => "src",
        (Some("ip" | "ip6"), Some("daddr")) => "dst",
        (Some("ip"), Some("protocol")) | (Some("ip6"), Some("nexthdr")) => "proto",
        (Some("tcp" | "udp" | "th" | "sctp"), Some("sport")) => "sport",
        (Some("tcp" | "udp" | "th" | "sctp"), Some("dport")) => "dport",
        (Some("icmp" | "icmpv6"), Some("type")) => "icmp",
        (Some("tcp"), Some("flags")) => "tcpflags",
        (Some(_), _) => return None,
        _ => match (left["meta"]["key"].as_str(), left["ct"]["key"].as_str()) {
            (Some("iifname" | "iif"), _) => "iif",
            (Some("oifname" | "oif"), _) => "oif",
            (Some("l4proto"), _) => "proto",
            (Some("nfproto"), _) => "nfproto",
            (Some("mark"), _) => "mark",
            (Some("length"), _) => "length",
            (_, Some("state")) => "ctstate",
            (_, Some("status")) => "ctstatus",
            (_, Some("direction")) => "ctdirection",
            _ => return None,
        },
    };
    // Of the connection's own addresses, not the packet's.
    if left["ct"]["dir"].is_string() {
        return None;
    }
    Some(name.to_owned())
}

/// The way back, or the kind of an address, by the routing table.
fn fib(result: &str, flags: &[&str], right: &Value, not: bool) -> Option<Match> {
    let way_back = flags.contains(&"saddr") && flags.contains(&"iif") && !flags.contains(&"daddr");
    // nft has printed the interface that is none in several ways.
    let missing = right.as_u64() == Some(0) || right == "0" || right == &Value::Bool(false);
    match result {
        "oif" if way_back && missing => Some(Match::RpFilter { not: !not }),
        "oif" if way_back && right == &Value::Bool(true) => Some(Match::RpFilter { not }),
        "type" => {
            let (source, only_at) = match flags {
                ["saddr"] => (true, None),
                ["daddr"] => (false, None),
                ["saddr", "iif"] => (true, Some(HookSide::In)),
                ["daddr", "iif"] => (false, Some(HookSide::In)),
                ["saddr", "oif"] => (true, Some(HookSide::Out)),
                ["daddr", "oif"] => (false, Some(HookSide::Out)),
                _ => return None,
            };
            Some(Match::AddrType { source, types: states(right)?, only_at, not })
        }
        _ => None,
    }
}

/// Membership in a set of the table or in one that the rule brings along.
fn among(left: &Value, right: &Value, not: bool, table: &mut Table) -> Option<Match> {
    let dirs = fields_of(left)?;
    if let Some(name) = right.as_str().and_then(|name| name.strip_prefix('@')) {
        return Some(Match::Set { name: name.to_owned(), dirs, not });
    }
    let listed;
    let elements = if let Some(elements) = right["set"].as_array() {
        elements.as_slice()
    } else {
        listed = [right.clone()];
        &listed
    };
    let kinds: Vec<Kind> = dirs.iter().map(|field| Kind::of_field(field)).collect();
    let members = members_of(elements, &kinds);
    let name = words::value(right);
    table.sets.put(name.clone(), members);
    Some(Match::Set { name, dirs, not })
}

/// The fields of one value or a concatenation.
fn fields_of(left: &Value) -> Option<Vec<String>> {
    match left["concat"].as_array() {
        Some(parts) => {
            Some(parts.iter().map(|part| field_of(part).unwrap_or_else(|| words::value(part))).collect())
        }
        None => Some(vec![field_of(left)?]),
    }
}

fn vmap(value: &Value, table: &mut Table) -> Target {
    let key = &value["key"];
    let fields = fields_of(key).unwrap_or_else(|| vec![words::value(key)]);
    let data = &value["data"];
    if let Some(name) = data.as_str().and_then(|name| name.strip_prefix('@')) {
        return Target::Map { name: name.to_owned(), fields };
    }
    let name = words::value(data);
    let elements = data["set"].as_array().map(Vec::as_slice).unwrap_or_default();
    let kinds: Vec<Kind> = fields.iter().map(|field| Kind::of_field(field)).collect();
    let map = map_of(elements, &kinds);
    table.maps.insert(name.clone(), map);
    Target::Map { name, fields }
}

/// What a field of a set's members is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Address,
    Protocol,
    Number,
    Name,
    State,
    Other,
}

impl Kind {
    /// By the names of [`Match::Set`].
    fn of_field(field: &str) -> Self {
        match field {
            "src" | "dst" => Self::Address,
            "proto" => Self::Protocol,
            "sport" | "dport" | "mark" | "length" => Self::Number,
            "iif" | "oif" => Self::Name,
            "ctstate" | "ctstatus" => Self::State,
            _ => Self::Other,
        }
    }

    /// By nft's types: one word, or one for each field.
    pub(super) fn of_types(types: &Value) -> Vec<Self> {
        let kind = |word: &str| match word {
            "ipv4_addr" | "ipv6_addr" => Self::Address,
            "inet_proto" => Self::Protocol,
            "inet_service" | "mark" => Self::Number,
            "ifname" => Self::Name,
            "ct_state" | "ct_status" => Self::State,
            _ => Self::Other,
        };
        super::names(types).iter().map(|word| kind(word)).collect()
    }
}

/// A verdict map.
pub(super) fn map_of(elements: &[Value], kinds: &[Kind]) -> VerdictMap {
    let mut map = VerdictMap::default();
    let by_state = kinds == [Kind::State];
    for (entry, number) in elements.iter().zip(0u32..) {
        let pair = entry.as_array().map(Vec::as_slice);
        let Some([key, verdict_of]) = pair else {
            map.keys.leave_out();
            map.verdicts.push(Target::Other(words::value(entry)));
            continue;
        };
        let read = verdict_of.as_object().and_then(|verdict| verdict.iter().next());
        let target = read.and_then(|(key, value)| verdict(key, value));
        map.verdicts.push(target.unwrap_or_else(|| Target::Other(words::value(verdict_of))));
        if by_state {
            let condition = states(key).map(|states| Match::CtState { states, not: false });
            map.conditions.push(condition.unwrap_or_else(|| Match::Unknown(words::value(key))));
            continue;
        }
        match parts_of(inner(key), kinds) {
            Some(variants) => {
                for parts in variants {
                    map.keys.add(parts, number, false);
                }
            }
            None => map.keys.leave_out(),
        }
    }
    map
}

/// The members of a set.
pub(super) fn members_of(elements: &[Value], kinds: &[Kind]) -> Members {
    let mut members = Members::default();
    for element in elements {
        let number = members.count();
        match parts_of(inner(element), kinds) {
            Some(variants) => {
                for parts in variants {
                    members.add(parts, number, false);
                }
            }
            None => members.leave_out(),
        }
    }
    members
}

/// An element without its timeout, counter and comment.
fn inner(element: &Value) -> &Value {
    match &element["elem"]["val"] {
        Value::Null => element,
        value => value,
    }
}

/// An element's fields: several alternatives when an address is a range.
fn parts_of(element: &Value, kinds: &[Kind]) -> Option<Vec<Vec<Part>>> {
    let single = [element.clone()];
    let words = element["concat"].as_array().map_or(single.as_slice(), Vec::as_slice);
    if words.len() != kinds.len() {
        return None;
    }
    let mut variants = vec![Vec::new()];
    for (word, kind) in words.iter().zip(kinds) {
        let choices = part_of(word, *kind)?;
        let extend = |known: &Vec<Part>| {
            let with = |choice| [known.as_slice(), std::slice::from_ref(choice)].concat();
            choices.iter().map(with).collect::<Vec<_>>()
        };
        if variants.len() * choices.len() > MOST_VARIANTS {
            return None;
        }
        variants = variants.iter().flat_map(extend).collect();
    }
    Some(variants)
}

/// One field, as a value, a prefix or a range.
fn part_of(value: &Value, kind: Kind) -> Option<Vec<Part>> {
    let range = value["range"].as_array().map(Vec::as_slice);
    let single = |number: u32| vec![Part::Number(number..=number)];
    match (kind, range) {
        (Kind::Address, Some([first, last])) => {
            let nets = range_of(first.as_str()?.parse().ok()?, last.as_str()?.parse().ok()?)?;
            Some(nets.into_iter().map(Part::Net).collect())
        }
        (Kind::Address, _) => Some(vec![Part::Net(net(value)?)]),
        (Kind::Number, Some([low, high])) => Some(vec![Part::Number(number(low)?..=number(high)?)]),
        (Kind::Number, _) => Some(single(number(value)?)),
        (Kind::Protocol, None) => Some(single(protocol(value)?.into())),
        (Kind::Name, None) => Some(vec![Part::Name(interface(value)?)]),
        _ => None,
    }
}

fn net(value: &Value) -> Option<ipnet::IpNet> {
    if let Some(text) = value.as_str() {
        return text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from);
    }
    let prefix = &value["prefix"];
    let length = u8::try_from(prefix["len"].as_u64()?).ok()?;
    ipnet::IpNet::new(prefix["addr"].as_str()?.parse().ok()?, length).ok()
}

/// A name; nft's `*` at the end stands for any ending.
fn interface(value: &Value) -> Option<String> {
    let name = value.as_str()?;
    if name.starts_with('@') {
        return None;
    }
    Some(match name.strip_suffix("\\*") {
        Some(_) => return None,
        None => match name.strip_suffix('*') {
            Some(start) => format!("{start}+"),
            None => name.to_owned(),
        },
    })
}

fn protocol(value: &Value) -> Option<u8> {
    match value {
        Value::String(name) => protocol_number(name),
        value => value.as_u64()?.try_into().ok(),
    }
}

/// One port, a range, or a list of them.
fn ports(value: &Value) -> Option<Vec<std::ops::RangeInclusive<u16>>> {
    let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    let one = |value: &Value| match value["range"].as_array().map(Vec::as_slice) {
        Some([low, high]) => Some(port(low)?..=port(high)?),
        _ => port(value).map(|port| port..=port),
    };
    match value["set"].as_array() {
        Some(all) => all.iter().map(|value| one(inner(value))).collect(),
        None => Some(vec![one(value)?]),
    }
}

/// Words, one or several, in capitals as iptables has them.
fn states(value: &Value) -> Option<Vec<String>> {
    let one =
        |value: &Value| value.as_str().filter(|word| !word.starts_with('@')).map(str::to_ascii_uppercase);
    match value {
        Value::Array(all) => all.iter().map(one).collect(),
        Value::Object(_) => value["set"].as_array()?.iter().map(one).collect(),
        value => Some(vec![one(value)?]),
    }
}

/// TCP flags by name, one, several, or joined by `|`.
fn flag_names(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(name) => Some(vec![name.to_ascii_uppercase()]),
        Value::Array(all) => all.iter().map(|flag| Some(flag.as_str()?.to_ascii_uppercase())).collect(),
        Value::Number(number) => {
            let bits = number.as_u64()?;
            let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
            Some(
                names
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| bits >> at & 1 == 1)
                    .map(|(_, name)| (*name).to_owned())
                    .collect(),
            )
        }
        Value::Object(_) => {
            let mut names = Vec::new();
            for side in value["|"].as_array()? {
                names.extend(flag_names(side)?);
            }
            Some(names)
        }
        _ => None,
    }
}
