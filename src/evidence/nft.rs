//! nftables' own tables, those that iptables does not show: takes what `nft -j list table` printed, one JSON document a
//! line (schema libnftables-json(5)); gives chains with their hooks and the rules that end a packet. A match that is not
//! known here is kept as unknown, never as a fit.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NftChain {
    /// `ip`, `ip6`, `inet`, `netdev`, …
    pub family: String,
    /// Table.
    pub table: String,
    /// Name.
    pub name: String,
    /// `forward`, `ingress`, …; none for chains that others jump to.
    pub hook: Option<String>,
    /// Of `netdev` chains; empty where the printing program did not say.
    pub devices: Vec<String>,
    /// Whether a packet that no rule decided is dropped.
    pub drops: bool,
    /// Rules in order.
    pub rules: Vec<NftRule>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NftRule {
    /// Number in its table: the same in both readings.
    pub handle: u64,
    /// What a packet must be.
    pub matches: Vec<NftMatch>,
    /// What then happens.
    pub verdict: NftVerdict,
    /// Packets counted; none without a counter.
    pub packets: Option<u64>,
    /// Comment.
    pub comment: Option<String>,
}

/// What a packet must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NftMatch {
    /// Source address within a prefix.
    Src(IpNet),
    /// Destination address within a prefix.
    Dst(IpNet),
    /// Source port.
    SrcPort(u16),
    /// Destination port.
    DstPort(u16),
    /// Upper protocol.
    Protocol(u8),
    /// Incoming interface; a trailing `*` stands for anything.
    In(String),
    /// Outgoing interface.
    Out(String),
    /// Anything else, or the contrary of something, as JSON.
    Other(String),
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NftVerdict {
    /// Drops.
    Drop,
    /// Drops and tells the sender.
    Reject,
    /// Lets pass.
    Accept,
    /// Goes on in another chain.
    Jump(String),
    /// Anything else.
    Other,
}

/// A packet.
#[derive(Debug, Clone, Default)]
pub struct NftPacket<'p> {
    /// Source.
    pub src: Option<IpAddr>,
    /// Destination.
    pub dst: Option<IpAddr>,
    /// Upper protocol.
    pub protocol: Option<u8>,
    /// Ports, source and destination.
    pub ports: (Option<u16>, Option<u16>),
    /// Interfaces, incoming and outgoing.
    pub links: (Option<&'p str>, Option<&'p str>),
}

/// All chains of a text, and the lines that made no sense.
pub fn parse(text: &str) -> (Vec<NftChain>, Vec<String>) {
    let mut chains: Vec<NftChain> = Vec::new();
    let mut odd = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let document: Value = match serde_json::from_str(line) {
            Ok(document) => document,
            Err(error) => {
                odd.push(format!("line {}: {error}", number + 1));
                continue;
            }
        };
        for entry in document["nftables"].as_array().into_iter().flatten() {
            if let Some(chain) = entry.get("chain") {
                chains.push(chain_of(chain));
            } else if let Some(rule) = entry.get("rule") {
                let [family, table, name] = ["family", "table", "chain"].map(|key| word(rule, key));
                match chains.iter_mut().find(|c| c.family == family && c.table == table && c.name == name) {
                    Some(chain) => chain.rules.push(rule_of(rule)),
                    None => odd.push(format!("line {}: a rule of an unknown chain {name}", number + 1)),
                }
            }
        }
    }
    (chains, odd)
}

fn word(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn chain_of(chain: &Value) -> NftChain {
    let device = &chain["dev"];
    let devices = match device {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    NftChain {
        family: word(chain, "family"),
        table: word(chain, "table"),
        name: word(chain, "name"),
        hook: chain["hook"].as_str().map(str::to_owned),
        devices,
        drops: chain["policy"] == "drop",
        rules: Vec::new(),
    }
}

fn rule_of(rule: &Value) -> NftRule {
    let mut read = NftRule {
        handle: rule["handle"].as_u64().unwrap_or(0),
        matches: Vec::new(),
        verdict: NftVerdict::Other,
        packets: None,
        comment: rule["comment"].as_str().map(str::to_owned),
    };
    for part in rule["expr"].as_array().into_iter().flatten() {
        let Some((key, value)) = part.as_object().and_then(|part| part.iter().next()) else { continue };
        match key.as_str() {
            "match" => read.matches.push(match_of(value)),
            "counter" => read.packets = value["packets"].as_u64(),
            "drop" => read.verdict = NftVerdict::Drop,
            "reject" => read.verdict = NftVerdict::Reject,
            "accept" => read.verdict = NftVerdict::Accept,
            "jump" | "goto" => read.verdict = NftVerdict::Jump(word(value, "target")),
            "limit" | "quota" | "xt" | "vmap" | "ct" => read.matches.push(NftMatch::Other(part.to_string())),
            _ => {}
        }
    }
    read
}

fn match_of(value: &Value) -> NftMatch {
    let other = || NftMatch::Other(value.to_string());
    if value["op"] != "==" {
        return other();
    }
    let (left, right) = (&value["left"], &value["right"]);
    let field = (
        left["payload"]["protocol"].as_str(),
        left["payload"]["field"].as_str(),
        left["meta"]["key"].as_str(),
    );
    let number = || right.as_u64().and_then(|number| u16::try_from(number).ok());
    let read = match field {
        (Some("ip" | "ip6"), Some("saddr"), _) => prefix(right).map(NftMatch::Src),
        (Some("ip" | "ip6"), Some("daddr"), _) => prefix(right).map(NftMatch::Dst),
        (Some("tcp" | "udp" | "th"), Some("sport"), _) => number().map(NftMatch::SrcPort),
        (Some("tcp" | "udp" | "th"), Some("dport"), _) => number().map(NftMatch::DstPort),
        (Some("ip"), Some("protocol"), _) | (_, _, Some("l4proto")) => {
            protocol(right).map(NftMatch::Protocol)
        }
        (_, _, Some("iifname" | "iif")) => right.as_str().map(|name| NftMatch::In(name.to_owned())),
        (_, _, Some("oifname" | "oif")) => right.as_str().map(|name| NftMatch::Out(name.to_owned())),
        _ => None,
    };
    read.unwrap_or_else(other)
}

fn prefix(value: &Value) -> Option<IpNet> {
    if let Value::String(text) = value {
        text.parse::<IpAddr>().map(IpNet::from).ok()
    } else {
        let length = u8::try_from(value["prefix"]["len"].as_u64()?).ok()?;
        IpNet::new(value["prefix"]["addr"].as_str()?.parse().ok()?, length).ok()
    }
}

fn protocol(value: &Value) -> Option<u8> {
    match value {
        Value::String(name) => match name.as_str() {
            "icmp" => Some(1),
            "tcp" => Some(6),
            "udp" => Some(17),
            "ipv6-icmp" | "icmpv6" => Some(58),
            "sctp" => Some(132),
            _ => None,
        },
        _ => u8::try_from(value.as_u64()?).ok(),
    }
}

impl NftRule {
    /// Whether a packet fits: `Some(true)` surely, `Some(false)` surely not, None when that cannot be told.
    pub fn fits(&self, packet: &NftPacket<'_>) -> Option<bool> {
        let mut sure = true;
        for part in &self.matches {
            match part.fits(packet) {
                Some(false) => return Some(false),
                Some(true) => {}
                None => sure = false,
            }
        }
        sure.then_some(true)
    }
}

impl NftMatch {
    fn fits(&self, packet: &NftPacket<'_>) -> Option<bool> {
        let within = |net: &IpNet, address: Option<IpAddr>| address.map(|address| net.contains(&address));
        let named = |pattern: &str, link: Option<&str>| {
            link.map(|link| match pattern.strip_suffix('*') {
                Some(start) => link.starts_with(start),
                None => link == pattern,
            })
        };
        match self {
            Self::Src(net) => within(net, packet.src),
            Self::Dst(net) => within(net, packet.dst),
            Self::SrcPort(port) => packet.ports.0.map(|own| own == *port),
            Self::DstPort(port) => packet.ports.1.map(|own| own == *port),
            Self::Protocol(protocol) => packet.protocol.map(|own| own == *protocol),
            Self::In(name) => named(name, packet.links.0),
            Self::Out(name) => named(name, packet.links.1),
            Self::Other(_) => None,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Src(net) => format!("saddr {net}"),
            Self::Dst(net) => format!("daddr {net}"),
            Self::SrcPort(port) => format!("sport {port}"),
            Self::DstPort(port) => format!("dport {port}"),
            Self::Protocol(protocol) => format!("l4proto {protocol}"),
            Self::In(name) => format!("iifname {name}"),
            Self::Out(name) => format!("oifname {name}"),
            Self::Other(text) => text.clone(),
        }
    }
}

impl NftRule {
    /// Near enough to recognise it in `nft list ruleset`.
    pub fn words(&self) -> String {
        let verdict = match &self.verdict {
            NftVerdict::Drop => "drop",
            NftVerdict::Reject => "reject",
            NftVerdict::Accept => "accept",
            NftVerdict::Jump(chain) => chain,
            NftVerdict::Other => "",
        };
        let matches = self.matches.iter().map(NftMatch::words);
        let words: Vec<String> = matches.chain([verdict.to_owned()]).collect();
        format!("{} # handle {}", words.join(" "), self.handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 prints `table inet secops { chain guard { type filter hook forward priority -5; ip daddr 10.244.2.2 udp
    /// dport { 53, 54 } counter drop; ip daddr 10.244.0.0/16 counter drop; jump more } }`.
    const PRINTED: &str = r#"{"nftables":[{"metainfo":{"version":"1.0.6","json_schema_version":1}},{"table":{"family":"inet","name":"secops","handle":9}},{"chain":{"family":"inet","table":"secops","name":"guard","handle":1,"type":"filter","hook":"forward","prio":-5,"policy":"accept"}},{"rule":{"family":"inet","table":"secops","chain":"guard","handle":2,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"10.244.2.2"}},{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":{"set":[53,54]}}},{"counter":{"packets":3,"bytes":9}},{"drop":null}]}},{"rule":{"family":"inet","table":"secops","chain":"guard","handle":3,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":{"prefix":{"addr":"10.244.0.0","len":16}}}},{"counter":{"packets":7,"bytes":9}},{"drop":null}]}},{"rule":{"family":"inet","table":"secops","chain":"guard","handle":4,"expr":[{"jump":{"target":"more"}}]}}]}"#;

    #[test]
    fn rules_fit_or_not_or_cannot_be_told() {
        let (chains, odd) = parse(PRINTED);
        assert_eq!((chains.len(), odd.len()), (1, 0));
        let chain = &chains[0];
        assert_eq!(chain.hook.as_deref(), Some("forward"));
        let to = |dst: &str| NftPacket { dst: dst.parse().ok(), protocol: Some(17), ..NftPacket::default() };
        let fits: Vec<_> = chain.rules.iter().map(|rule| rule.fits(&to("10.244.2.2"))).collect();
        assert_eq!(fits, [None, Some(true), Some(true)]);
        assert_eq!(chain.rules[1].fits(&to("192.0.2.1")), Some(false));
        assert_eq!(chain.rules[1].packets, Some(7));
        assert_eq!(chain.rules[2].verdict, NftVerdict::Jump("more".to_owned()));
    }

    #[test]
    fn broken_lines_are_told_and_the_rest_is_kept() {
        let half = &PRINTED[..PRINTED.len() / 2];
        let (chains, odd) =
            parse(&format!("{half}\n{PRINTED}\n{{\"nftables\":[{{\"rule\":{{\"chain\":\"x\"}}}}]}}\n[]\n"));
        assert_eq!((chains.len(), odd.len()), (1, 2), "{odd:?}");
    }
}
