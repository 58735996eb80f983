//! The matches of a rule (iptables(8), iptables-extensions(8)), as far as a packet's addresses, ports, protocol and
//! interfaces decide them. All others are kept by their text.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// One match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Preceded by `!`.
    pub not: bool,
    /// What is asked.
    pub what: What,
}

/// What a match asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// `-s`
    Source(IpNet),
    /// `-d`
    Destination(IpNet),
    /// `-i`, perhaps with a trailing `+`
    In(String),
    /// `-o`
    Out(String),
    /// `-p`, as a number
    Protocol(u8),
    /// `--sport`, `--sports`
    SourcePorts(Vec<RangeInclusive<u16>>),
    /// `--dport`, `--dports`
    DestinationPorts(Vec<RangeInclusive<u16>>),
    /// `--ports`: either
    Ports(Vec<RangeInclusive<u16>>),
    /// `--ctstate`, `--state`: any of these
    State(Vec<String>),
    /// `--match-set NAME src|dst…`
    Set(String, String),
    /// `--mark VALUE/MASK`
    Mark(u32, u32),
    /// Anything else, as printed
    Unknown(String),
}

/// Reads one match from the beginning of `words`; gives how many words it took.
pub(super) fn take(words: &[String], found: &mut Vec<Match>) -> usize {
    let not = words[0] == "!";
    let skip = usize::from(not);
    let Some(option) = words.get(skip) else {
        found.push(Match { not: false, what: What::Unknown("!".to_owned()) });
        return 1;
    };
    if option == "-m" {
        return skip + 2;
    }
    let value = words.get(skip + 1).map(String::as_str).unwrap_or_default();
    let (what, taken) = match option.as_str() {
        "-s" => (net(value).map(What::Source), 2),
        "-d" => (net(value).map(What::Destination), 2),
        "-i" => (Some(What::In(value.to_owned())), 2),
        "-o" => (Some(What::Out(value.to_owned())), 2),
        "-p" => (protocol(value).map(What::Protocol), 2),
        "--sport" | "--sports" => (ports(value).map(What::SourcePorts), 2),
        "--dport" | "--dports" => (ports(value).map(What::DestinationPorts), 2),
        "--ports" => (ports(value).map(What::Ports), 2),
        "--ctstate" | "--state" => (Some(What::State(value.split(',').map(str::to_owned).collect())), 2),
        "--mark" => (mark(value), 2),
        "--match-set" => {
            let dirs = words.get(skip + 2).cloned().unwrap_or_default();
            (Some(What::Set(value.to_owned(), dirs)), 3)
        }
        _ => (None, 1 + values(&words[skip + 1..])),
    };
    let taken = (skip + taken).min(words.len());
    let what = what.unwrap_or_else(|| What::Unknown(words[skip..taken].join(" ")));
    found.push(Match { not, what });
    taken
}

/// How many words belong to an option that is not known: those up to the next option.
fn values(words: &[String]) -> usize {
    words.iter().take_while(|word| !word.starts_with('-') && *word != "!").count()
}

fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => 1,
        "ipencap" | "ipv4" => 4,
        "tcp" => 6,
        "udp" => 17,
        "ipv6" => 41,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "ipv6-icmp" | "icmpv6" => 58,
        "sctp" => 132,
        "udplite" => 136,
        number => return number.parse().ok(),
    })
}

fn ports(list: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let range = |text: &str| match text.split_once(':') {
        Some((low, high)) => {
            let low = if low.is_empty() { Some(0) } else { low.parse().ok() }?;
            let high = if high.is_empty() { Some(u16::MAX) } else { high.parse().ok() }?;
            Some(low..=high)
        }
        None => text.parse().ok().map(|port| port..=port),
    };
    list.split(',').map(range).collect()
}

fn mark(text: &str) -> Option<What> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    Some(What::Mark(number(value)?, number(mask)?))
}
