//! The parts of a rule: what a packet must be ([`Match`]) and what then happens ([`Target`]).
//!
//! In: the words of a rule after `-A chain`, as `iptables-save` prints them (`libxtables`' save functions) and as
//! people write them. Out: typed parts. A part of an unknown kind, or a known one with a value that makes no sense,
//! is kept as text: nothing is left out, because a match left out would make a rule look wider than it is.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::parse::Word;

/// One condition of a rule. With `not` it must not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of each kind say what their variant says")]
pub enum Match {
    /// Source address.
    Source { net: IpNet, not: bool },
    /// Destination address.
    Destination { net: IpNet, not: bool },
    /// Interface it came by; a trailing `+` stands for any ending.
    In { interface: String, not: bool },
    /// Interface it leaves by; a trailing `+` stands for any ending.
    Out { interface: String, not: bool },
    /// IP protocol; 0 stands for any.
    Protocol { protocol: u8, not: bool },
    /// Source port in one of the ranges.
    SourcePorts { ports: Vec<RangeInclusive<u16>>, not: bool },
    /// Destination port in one of the ranges.
    DestinationPorts { ports: Vec<RangeInclusive<u16>>, not: bool },
    /// Source or destination port in one of the ranges (multiport's `--ports`).
    EitherPort { ports: Vec<RangeInclusive<u16>>, not: bool },
    /// TCP flags: of those in `mask` exactly `set`.
    TcpFlags { mask: Vec<String>, set: Vec<String>, not: bool },
    /// ICMP or `ICMPv6` type, with its code after a slash, or its name.
    IcmpType { kind: String, not: bool },
    /// Packet mark, masked.
    Mark { value: u32, mask: u32, not: bool },
    /// Connection state: any of these.
    CtState { states: Vec<String>, not: bool },
    /// Goes the way in which its connection began, or against it.
    CtDirection { reply: bool, not: bool },
    /// Member of an ipset, `dirs` says which of its fields (`src`, `dst`); or of an nftables set, whose fields are
    /// named `src`, `dst`, `sport`, `dport`, `proto`, `iif`, `oif`, `mark`, or by what cannot be evaluated.
    Set { name: String, dirs: Vec<String>, not: bool },
    /// Kind of source or destination address: `LOCAL`, `BROADCAST`, …; as the incoming or outgoing interface alone has
    /// it, if it says so.
    AddrType { source: bool, types: Vec<String>, only_at: Option<HookSide>, not: bool },
    /// The route back to the source leaves by the interface it came by; with `not`, it does not.
    RpFilter { not: bool },
    /// Not more often than this.
    Limit(String),
    /// One in so many, or by chance.
    Statistic(String),
    /// Length of the IP packet.
    Length { range: RangeInclusive<u16>, not: bool },
    /// Anything else, as text.
    Unknown(String),
}

/// Which of a packet's two interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookSide {
    /// The one it came by.
    In,
    /// The one it leaves by.
    Out,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Lets the packet pass this table's hook.
    Accept,
    /// Drops it.
    Drop,
    /// Drops it and answers; how (`icmp-port-unreachable`, `tcp-reset`), empty if the text does not say.
    Reject(String),
    /// Back to the chain that jumped here.
    Return,
    /// Into a chain, and back at its end.
    Jump(String),
    /// Into a chain, and at its end back to where this chain came from.
    Goto(String),
    /// Changes the packet's mark; how.
    Mark(String),
    /// Rewrites the destination; how.
    Dnat(String),
    /// Rewrites the source; how.
    Snat(String),
    /// Rewrites the source to that of the interface; how.
    Masquerade(String),
    /// Takes the packet out of connection tracking.
    NoTrack,
    /// Writes a line to the kernel log; how.
    Log(String),
    /// What a verdict map of the table says for these fields of the packet; nothing if it has no entry.
    Map {
        /// The map's name in its table.
        name: String,
        /// As in [`Match::Set`].
        fields: Vec<String>,
    },
    /// Any other target with its options, as text.
    Other(String),
    /// Nothing: the rule only counts.
    None,
}

impl fmt::Display for Match {
    /// As `iptables-save` would print it, without the module's name.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans = |ranges: &[RangeInclusive<u16>]| {
            let one = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
                (low, high) if low == high => low.to_string(),
                (low, high) => format!("{low}:{high}"),
            };
            ranges.iter().map(one).collect::<Vec<_>>().join(",")
        };
        let (not, text) = match self {
            Self::Source { net, not } => (*not, format!("-s {net}")),
            Self::Destination { net, not } => (*not, format!("-d {net}")),
            Self::In { interface, not } => (*not, format!("-i {interface}")),
            Self::Out { interface, not } => (*not, format!("-o {interface}")),
            Self::Protocol { protocol, not } => (*not, format!("-p {protocol}")),
            Self::SourcePorts { ports, not } => (*not, format!("--sports {}", spans(ports))),
            Self::DestinationPorts { ports, not } => (*not, format!("--dports {}", spans(ports))),
            Self::EitherPort { ports, not } => (*not, format!("--ports {}", spans(ports))),
            Self::TcpFlags { mask, set, not } => {
                (*not, format!("--tcp-flags {} {}", mask.join(","), set.join(",")))
            }
            Self::IcmpType { kind, not } => (*not, format!("--icmp-type {kind}")),
            Self::Mark { value, mask, not } => (*not, format!("--mark {value:#x}/{mask:#x}")),
            Self::CtDirection { reply, not } => {
                (*not, format!("--ctdir {}", if *reply { "REPLY" } else { "ORIGINAL" }))
            }
            Self::CtState { states, not } => (*not, format!("--ctstate {}", states.join(","))),
            Self::Set { name, dirs, not } => (*not, format!("--match-set {name} {}", dirs.join(","))),
            Self::AddrType { source, types, only_at, not } => {
                let limit = match only_at {
                    None => "",
                    Some(HookSide::In) => " --limit-iface-in",
                    Some(HookSide::Out) => " --limit-iface-out",
                };
                (*not, format!("--{}-type {}{limit}", if *source { "src" } else { "dst" }, types.join(",")))
            }
            Self::RpFilter { not } => (false, format!("rpfilter{}", if *not { " --invert" } else { "" })),
            Self::Limit(text) | Self::Statistic(text) | Self::Unknown(text) => (false, text.clone()),
            Self::Length { range, not } => (*not, format!("--length {}:{}", range.start(), range.end())),
        };
        write!(out, "{}{text}", if not { "! " } else { "" })
    }
}

impl fmt::Display for Target {
    /// As `iptables-save` would print it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |name: &str, options: &str| format!("-j {name} {options}").trim_end().to_owned();
        let text = match self {
            Self::Accept => "-j ACCEPT".to_owned(),
            Self::Drop => "-j DROP".to_owned(),
            Self::Reject(how) if how.is_empty() => "-j REJECT".to_owned(),
            Self::Reject(how) => format!("-j REJECT --reject-with {how}"),
            Self::Return => "-j RETURN".to_owned(),
            Self::Jump(chain) => format!("-j {chain}"),
            Self::Goto(chain) => format!("-g {chain}"),
            Self::Mark(how) => with("MARK", how),
            Self::Dnat(how) => with("DNAT", how),
            Self::Snat(how) => with("SNAT", how),
            Self::Masquerade(how) => with("MASQUERADE", how),
            Self::NoTrack => "-j NOTRACK".to_owned(),
            Self::Log(how) => with("LOG", how),
            Self::Map { name, fields } => format!("{} vmap @{name}", fields.join(" . ")),
            Self::Other(text) => format!("-j {text}"),
            Self::None => String::new(),
        };
        write!(out, "{text}")
    }
}

/// The parts of one rule.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) comments: Vec<String>,
    pub(super) matches: Vec<Match>,
    pub(super) target: Target,
}

/// Reads the words after `-A chain`. `is_chain` tells a jump from a target of the kernel's.
pub(super) fn read(words: &[Word], is_chain: &dyn Fn(&str) -> bool) -> Parts {
    let mut reader =
        Reader { words, at: 0, module: None, untyped: Vec::new(), comments: vec![], matches: vec![] };
    let target = reader.run(is_chain);
    reader.end_module();
    Parts { comments: reader.comments, matches: reader.matches, target }
}

struct Reader<'a> {
    words: &'a [Word],
    at: usize,
    /// The module that `-m` named last, and whether one of its options became a [`Match`].
    module: Option<(String, bool)>,
    /// Options of this module that are kept as text.
    untyped: Vec<String>,
    comments: Vec<String>,
    matches: Vec<Match>,
}

impl Reader<'_> {
    fn run(&mut self, is_chain: &dyn Fn(&str) -> bool) -> Target {
        let mut not = false;
        while let Some(word) = self.next() {
            match word.text.as_str() {
                "!" if !word.quoted => {
                    not = true;
                    continue;
                }
                "-j" | "--jump" => return self.target(is_chain),
                "-g" | "--goto" => {
                    return self.next().map_or(Target::None, |chain| Target::Goto(chain.text.clone()));
                }
                "-m" | "--match" => {
                    self.end_module();
                    self.module = self.next().map(|name| (name.text.clone(), false));
                }
                "--comment" if self.module_is(&["comment"]) => {
                    let text = self.next().map(|word| word.text.clone()).unwrap_or_default();
                    self.comments.push(text);
                }
                option => self.option(option, not),
            }
            not = false;
        }
        Target::None
    }

    fn next(&mut self) -> Option<Word> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word.clone())
    }

    fn module_is(&self, names: &[&str]) -> bool {
        self.module.as_ref().is_some_and(|(name, _)| names.contains(&name.as_str()))
    }

    /// One option with its values: typed if possible, as text otherwise.
    fn option(&mut self, option: &str, not: bool) {
        let limit = match option {
            "--limit-iface-in" => Some(HookSide::In),
            "--limit-iface-out" => Some(HookSide::Out),
            _ => None,
        };
        let of_kind = self.module_is(&["addrtype"]);
        if let (Some(limit), Some(Match::AddrType { only_at, .. }), true) =
            (limit, self.matches.last_mut(), of_kind)
        {
            *only_at = Some(limit);
            return;
        }
        let values: Vec<&str> = self.words[self.at..].iter().take(2).map(|word| word.text.as_str()).collect();
        if let Some(found) = of_packet(option, &values, not) {
            self.at += 1;
            self.matches.push(found);
            return;
        }
        let module = self.module.as_ref().map(|(name, _)| name.as_str());
        if let Some((found, n_values)) = of_module(module, option, &values, not) {
            self.at += n_values;
            self.matches.push(found);
            if let Some((_, typed)) = &mut self.module {
                *typed = true;
            }
            return;
        }
        let mut text = vec![if not { format!("! {option}") } else { option.to_owned() }];
        text.extend(self.values_until_option());
        let text = text.join(" ");
        if self.module.is_none() || !option.starts_with("--") {
            self.matches.push(Match::Unknown(text));
        } else {
            self.untyped.push(text);
        }
    }

    fn values_until_option(&mut self) -> Vec<String> {
        let rest = &self.words[self.at..];
        let n = rest
            .iter()
            .take_while(|word| word.quoted || !(word.text.starts_with('-') || word.text == "!"))
            .count();
        self.at += n;
        rest[..n].iter().map(Word::shown).collect()
    }

    /// Turns what is left of a module into a match.
    fn end_module(&mut self) {
        let options = std::mem::take(&mut self.untyped).join(" ");
        let Some((module, typed)) = self.module.take() else { return };
        let silent = typed || SILENT.contains(&module.as_str());
        match module.as_str() {
            "rpfilter" if options.contains("--loose") || options.contains("--accept-local") => {
                self.matches.push(Match::Unknown(format!("rpfilter {options}")));
            }
            "rpfilter" => self.matches.push(Match::RpFilter { not: options.contains("--invert") }),
            "limit" => self.matches.push(Match::Limit(options)),
            "statistic" => self.matches.push(Match::Statistic(options)),
            _ if options.is_empty() && silent => {}
            _ => self.matches.push(Match::Unknown(format!("{module} {options}").trim_end().to_owned())),
        }
    }

    fn target(&mut self, is_chain: &dyn Fn(&str) -> bool) -> Target {
        let Some(name) = self.next().map(|word| word.text) else { return Target::None };
        let options = self.words[self.at..].iter().map(Word::shown).collect::<Vec<_>>().join(" ");
        self.at = self.words.len();
        match name.as_str() {
            _ if is_chain(&name) => Target::Jump(name),
            "ACCEPT" => Target::Accept,
            "DROP" => Target::Drop,
            "RETURN" => Target::Return,
            "REJECT" => Target::Reject(options.trim_start_matches("--reject-with ").to_owned()),
            "MARK" => Target::Mark(options),
            "DNAT" => Target::Dnat(options),
            "SNAT" => Target::Snat(options),
            "MASQUERADE" => Target::Masquerade(options),
            "NOTRACK" => Target::NoTrack,
            "CT" if options == "--notrack" => Target::NoTrack,
            "LOG" => Target::Log(options),
            _ if options.is_empty() && name.contains(|c: char| c.is_ascii_lowercase()) => Target::Jump(name),
            _ => Target::Other(format!("{name} {options}").trim_end().to_owned()),
        }
    }
}

/// Options that every rule may have.
fn of_packet(option: &str, values: &[&str], not: bool) -> Option<Match> {
    let value = *values.first()?;
    let interface = value.to_owned();
    Some(match option {
        "-s" | "--source" | "--src" => Match::Source { net: network(value)?, not },
        "-d" | "--destination" | "--dst" => Match::Destination { net: network(value)?, not },
        "-i" | "--in-interface" => Match::In { interface, not },
        "-o" | "--out-interface" => Match::Out { interface, not },
        "-p" | "--protocol" | "--proto" => Match::Protocol { protocol: protocol_number(value)?, not },
        _ => return None,
    })
}

/// Options of modules, with the number of values that they took.
fn of_module(module: Option<&str>, option: &str, values: &[&str], not: bool) -> Option<(Match, usize)> {
    let value = values.first().copied();
    let found = match (module, option) {
        (Some("tcp") | None, "--syn") => {
            let words = |text: &str| text.split(',').map(str::to_owned).collect();
            return Some((Match::TcpFlags { mask: words("FIN,SYN,RST,ACK"), set: words("SYN"), not }, 0));
        }
        (Some("tcp") | None, "--tcp-flags") => {
            let (mask, set) = (list(value?), list(values.get(1)?));
            return Some((Match::TcpFlags { mask, set, not }, 2));
        }
        (Some("set"), "--match-set") => {
            let (name, dirs) = (value?.to_owned(), list(values.get(1)?));
            return Some((Match::Set { name, dirs, not }, 2));
        }
        (Some("icmp" | "icmp6") | None, "--icmp-type" | "--icmpv6-type") => {
            Match::IcmpType { kind: value?.to_owned(), not }
        }
        (Some("mark"), "--mark") => {
            let (value, mask) = masked(value?)?;
            Match::Mark { value, mask, not }
        }
        (Some("conntrack"), "--ctstate") | (Some("state"), "--state") => {
            Match::CtState { states: list(value?), not }
        }
        (Some("conntrack"), "--ctdir") => match value? {
            "REPLY" => Match::CtDirection { reply: true, not },
            "ORIGINAL" => Match::CtDirection { reply: false, not },
            _ => return None,
        },
        (Some("addrtype"), "--src-type") => {
            Match::AddrType { source: true, types: list(value?), only_at: None, not }
        }
        (Some("addrtype"), "--dst-type") => {
            Match::AddrType { source: false, types: list(value?), only_at: None, not }
        }
        (Some("length"), "--length") => Match::Length { range: range(value?)?, not },
        (module, option) if module.is_none_or(|name| WITH_PORTS.contains(&name)) => match option {
            "--sport" | "--sports" | "--source-port" | "--source-ports" => {
                Match::SourcePorts { ports: ports(value?)?, not }
            }
            "--dport" | "--dports" | "--destination-port" | "--destination-ports" => {
                Match::DestinationPorts { ports: ports(value?)?, not }
            }
            "--ports" | "--port" => Match::EitherPort { ports: ports(value?)?, not },
            _ => return None,
        },
        _ => return None,
    };
    Some((found, 1))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// An address with a prefix length, a contiguous netmask, or neither.
fn network(text: &str) -> Option<IpNet> {
    let Some((address, mask)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    let address: IpAddr = address.parse().ok()?;
    match mask.parse::<u8>() {
        Ok(length) => IpNet::new(address, length).ok(),
        Err(_) => IpNet::with_netmask(address, mask.parse().ok()?).ok(),
    }
}

/// `value` or `value/mask`, decimal or with `0x`.
pub(super) fn masked(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

fn ports(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    text.split(',').map(range).collect()
}

/// `n`, `n:m`, `:m` or `n:`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let Some((low, high)) = text.split_once(':') else {
        let only = text.parse().ok()?;
        return Some(only..=only);
    };
    let low = if low.is_empty() { 0 } else { low.parse().ok()? };
    let high = if high.is_empty() { u16::MAX } else { high.parse().ok()? };
    Some(low..=high)
}

/// Names as /etc/protocols has had them; `all` is 0.
pub(super) fn protocol_number(name: &str) -> Option<u8> {
    Some(match name {
        "all" | "ip" => 0,
        "icmp" => 1,
        "igmp" => 2,
        "ipencap" | "ipv4" => 4,
        "tcp" => 6,
        "udp" => 17,
        "dccp" => 33,
        "ipv6" => 41,
        "gre" => 47,
        "esp" | "ipv6-crypt" => 50,
        "ah" | "ipv6-auth" => 51,
        "ipv6-icmp" | "icmpv6" | "icmp6" => 58,
        "ospf" => 89,
        "ipip" => 94,
        "pim" => 103,
        "vrrp" => 112,
        "l2tp" => 115,
        "sctp" => 132,
        "udplite" => 136,
        "mptcp" => return None,
        number => number.parse().ok()?,
    })
}

/// Modules that add nothing of their own when none of their options is given.
const SILENT: &[&str] = &["comment", "tcp", "udp", "icmp", "icmp6", "sctp", "dccp", "udplite", "multiport"];

/// Modules with ports.
const WITH_PORTS: &[&str] = &["tcp", "udp", "sctp", "dccp", "udplite", "multiport"];
