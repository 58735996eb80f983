//! Sets of addresses, ports and names, and maps from them to verdicts.
//!
//! In: the text of `ipset save`, or the elements of an nftables set. Out: members that are found by hash however many
//! they are: one table for each combination of prefix lengths, the most specific asked first, as the kernel does
//! (`mtype_test_cidrs` of `ip_set_hash_gen.h`). A member that cannot be read makes "not in the set" unknown.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::{Match, Target};

/// Sets by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sets {
    pub(super) by_name: HashMap<String, Set>,
    /// Lines of the text (counted from 1) that made no sense, and why.
    pub not_understood: Vec<(usize, String)>,
}

/// One set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Set {
    /// What its members are made of, in ipset's words (`ip`, `net`, `port`, `iface`, `mark`); empty for an nftables
    /// set, where the rule says it.
    kinds: Vec<String>,
    pub(super) members: Members,
    /// Of a list of sets: their names.
    others: Vec<String>,
}

/// A map from members to verdicts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerdictMap {
    pub(super) keys: Members,
    /// The verdicts, in the order of the text.
    pub verdicts: Vec<Target>,
    /// For maps whose keys are conditions of their own, as states of a connection: one for each verdict.
    pub(super) conditions: Vec<Match>,
}

/// For each field of a member one more than its prefix length, 0 for what is no address.
type Shape = Vec<u8>;

/// Members, found by value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Members {
    /// For each combination of prefix lengths the members, the most specific first.
    by_shape: Vec<(Shape, HashMap<Vec<Cell>, Member>)>,
    /// Members with a range of numbers or an open name, asked one after the other.
    open: Vec<(Vec<Part>, Member)>,
    count: u32,
    /// Some member could not be read.
    incomplete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    number: u32,
    /// It takes its packets out of the set (`nomatch`).
    not: bool,
}

/// A field of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Cell {
    Address(IpAddr),
    Number(u32),
    Name(String),
}

/// A field of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Net(IpNet),
    Number(RangeInclusive<u32>),
    /// A name; a trailing `+` stands for any ending.
    Name(String),
}

/// Whether a packet is in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// As the member of that number.
    In(u32),
    Out,
    Unknown,
}

/// Prefixes that one member may stand for.
pub(super) const MOST_VARIANTS: usize = 4_096;
/// Members of a set that are looked through one by one for a packet of which too little is known.
const MOST_LOOKED_THROUGH: u32 = 10_000;

impl Members {
    /// A member that stands for a whole range of addresses comes as several calls with the same number.
    pub(super) fn add(&mut self, parts: Vec<Part>, number: u32, not: bool) {
        let member = Member { number, not };
        self.count = self.count.max(number + 1);
        let mut shape = Vec::with_capacity(parts.len());
        let mut key = Vec::with_capacity(parts.len());
        for part in &parts {
            match part {
                Part::Net(net) => {
                    shape.push(net.prefix_len() + 1);
                    key.push(Cell::Address(net.network()));
                }
                Part::Number(range) if range.start() == range.end() => {
                    shape.push(0);
                    key.push(Cell::Number(*range.start()));
                }
                Part::Name(name) if !name.ends_with('+') => {
                    shape.push(0);
                    key.push(Cell::Name(name.clone()));
                }
                _ => {
                    self.open.push((parts, member));
                    return;
                }
            }
        }
        let at = match self.by_shape.binary_search_by(|(known, _)| shape.cmp(known)) {
            Ok(at) => at,
            Err(at) => {
                self.by_shape.insert(at, (shape, HashMap::new()));
                at
            }
        };
        self.by_shape[at].1.insert(key, member);
    }

    pub(super) fn leave_out(&mut self) {
        self.incomplete = true;
    }

    /// Whether a packet of which some fields are not known may be in the set.
    fn may_hold(&self, fields: &[Option<Cell>]) -> bool {
        // Not worth looking through all of many.
        if self.count > MOST_LOOKED_THROUGH {
            return true;
        }
        let cell = |cell: &Cell, length: u8, field: &Option<Cell>| match (cell, field) {
            (_, None) => true,
            (Cell::Address(net), Some(Cell::Address(own))) => {
                length > 0 && IpNet::new(*net, length - 1).is_ok_and(|net| net.contains(own))
            }
            (cell, Some(own)) => cell == own,
        };
        let listed = self.by_shape.iter().any(|(shape, members)| {
            shape.len() == fields.len()
                && members.keys().any(|key| {
                    key.iter().zip(shape).zip(fields).all(|((own, length), field)| cell(own, *length, field))
                })
        });
        let part =
            |(part, field): (&Part, &Option<Cell>)| field.as_ref().is_none_or(|field| part.holds(field));
        listed
            || self
                .open
                .iter()
                .any(|(parts, _)| parts.len() == fields.len() && parts.iter().zip(fields).all(part))
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// `None` is a field that is not known.
    pub(super) fn find(&self, fields: &[Option<Cell>]) -> Found {
        let miss = if self.incomplete { Found::Unknown } else { Found::Out };
        if self.by_shape.is_empty() && self.open.is_empty() {
            return miss;
        }
        let Some(fields) = fields.iter().cloned().collect::<Option<Vec<Cell>>>() else {
            return if self.may_hold(fields) { Found::Unknown } else { miss };
        };
        let hit = |member: &Member| match (member.not, self.incomplete) {
            (false, false) => Found::In(member.number),
            (true, false) => Found::Out,
            // What could not be read may be more specific.
            (_, true) => Found::Unknown,
        };
        for (shape, members) in &self.by_shape {
            if let Some(member) = masked(&fields, shape).and_then(|key| members.get(&key)) {
                return hit(member);
            }
        }
        let fits = |parts: &[Part]| {
            parts.len() == fields.len() && parts.iter().zip(&fields).all(|(part, field)| part.holds(field))
        };
        self.open.iter().find(|(parts, _)| fits(parts)).map_or(miss, |(_, member)| hit(member))
    }
}

impl Part {
    fn holds(&self, field: &Cell) -> bool {
        match (self, field) {
            (Self::Net(net), Cell::Address(address)) => net.contains(address),
            (Self::Number(range), Cell::Number(number)) => range.contains(number),
            (Self::Name(name), Cell::Name(own)) => match name.strip_suffix('+') {
                Some(start) => own.starts_with(start),
                None => own == name,
            },
            _ => false,
        }
    }
}

/// The fields with their addresses cut to the lengths of a shape.
fn masked(fields: &[Cell], shape: &[u8]) -> Option<Vec<Cell>> {
    if fields.len() != shape.len() {
        return None;
    }
    let cut = |(field, length): (&Cell, &u8)| match (field, length) {
        (Cell::Address(address), 1..) => {
            Some(Cell::Address(IpNet::new(*address, length - 1).ok()?.network()))
        }
        (Cell::Address(_), 0) => None,
        (other, 0) => Some(other.clone()),
        _ => None,
    };
    fields.iter().zip(shape).map(cut).collect()
}

impl Sets {
    /// Reads what `ipset save` printed. Cannot fail; what made no sense is in
    /// [`not_understood`](Self::not_understood).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut sets = Self::default();
        let cut = !text.is_empty() && !text.ends_with('\n');
        let mut last: Option<String> = None;
        for (index, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let read = match words.as_slice() {
                [] => Ok(()),
                ["create", name, kind, options @ ..] => {
                    last = Some((*name).to_owned());
                    let mut set = Set::of_kind(kind);
                    // Addresses are cut to that length before they are looked for, which is not done here.
                    if options.contains(&"netmask") || options.contains(&"bitmask") {
                        set.members.leave_out();
                    }
                    sets.by_name.insert((*name).to_owned(), set);
                    Ok(())
                }
                ["add", name, member, options @ ..] => match sets.by_name.get_mut(*name) {
                    Some(set) => set.add(member, options.contains(&"nomatch")),
                    None => Err(format!("there is no set {name} above")),
                },
                _ => Err("neither a set nor a member".to_owned()),
            };
            if let Err(why) = read {
                sets.not_understood.push((index + 1, why));
            }
        }
        // The last member may have lost its end, and others may be missing.
        if let Some(set) = last.filter(|_| cut).and_then(|name| sets.by_name.get_mut(&name)) {
            set.members.leave_out();
            sets.not_understood.push((text.lines().count(), "the text ends inside this line".to_owned()));
        }
        sets
    }

    /// The members of `ipset save` as they stand there, for who compares two texts.
    pub fn as_text(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut sets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("create"), Some(name), _) => drop(sets.entry(name).or_default()),
                (Some("add"), Some(name), Some(member)) => _ = sets.entry(name).or_default().insert(member),
                _ => {}
            }
        }
        sets
    }

    /// How many sets.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Whether an address is in a set of addresses; none when the set is not there or cannot tell.
    pub fn holds(&self, name: &str, address: IpAddr) -> Option<bool> {
        match self.find(name, &["src".to_owned()], &|_| Some(Cell::Address(address))) {
            Found::In(_) => Some(true),
            Found::Out => Some(false),
            Found::Unknown => None,
        }
    }

    /// How many members a set has; none if there is no such set.
    pub fn n_members(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).map(|set| set.members.count)
    }

    /// Names and numbers of members, in no order.
    pub fn sizes(&self) -> impl Iterator<Item = (String, u32)> {
        self.by_name.iter().map(|(name, set)| (name.clone(), set.members.count))
    }

    /// An nftables set.
    pub(super) fn put(&mut self, name: String, members: Members) {
        self.by_name.insert(name, Set { members, ..Set::default() });
    }

    /// Whether a packet is in the set of that name; `field` gives its fields by name.
    pub(super) fn find(&self, name: &str, dirs: &[String], field: &dyn Fn(&str) -> Option<Cell>) -> Found {
        self.by_name.get(name).map_or(Found::Unknown, |set| self.find_within(set, dirs, field))
    }

    fn find_within(&self, set: &Set, dirs: &[String], field: &dyn Fn(&str) -> Option<Cell>) -> Found {
        if set.kinds.is_empty() {
            let fields: Vec<Option<Cell>> = dirs.iter().map(|name| field(name)).collect();
            return set.members.find(&fields);
        }
        if set.kinds == ["set"] {
            // The kernel takes no lists into lists (`list_set_uadd`).
            let plain = |name| self.by_name.get(name).filter(|other| other.kinds != ["set"]);
            let found = set.others.iter().map(|other| match plain(other) {
                Some(other) => self.find_within(other, dirs, field),
                None => Found::Unknown,
            });
            return found.fold(Found::Out, |all, one| match (all, one) {
                (Found::In(n), _) | (_, Found::In(n)) => Found::In(n),
                (Found::Out, Found::Out) => Found::Out,
                _ => Found::Unknown,
            });
        }
        let mut fields = Vec::new();
        for (kind, dir) in set.kinds.iter().zip(dirs.iter().map(String::as_str)) {
            match (kind.as_str(), dir) {
                ("ip" | "net", dir) => fields.push(field(dir)),
                ("port", "src") => fields.extend([field("proto"), field("sport")]),
                ("port", "dst") => fields.extend([field("proto"), field("dport")]),
                ("iface", "src") => fields.push(field("iif")),
                ("iface", "dst") => fields.push(field("oif")),
                ("mark", _) => fields.push(field("mark")),
                _ => return Found::Unknown,
            }
        }
        if dirs.len() < set.kinds.len() { Found::Unknown } else { set.members.find(&fields) }
    }
}

impl Set {
    /// Of a type in ipset's words, as `hash:ip,port`.
    fn of_kind(kind: &str) -> Self {
        let kinds = kind.split_once(':').map_or(kind, |(_, kinds)| kinds);
        let kinds: Vec<String> = kinds.split(',').map(str::to_owned).collect();
        Self { kinds, ..Self::default() }
    }

    fn add(&mut self, member: &str, not: bool) -> Result<(), String> {
        let number = self.members.count;
        if self.kinds == ["set"] {
            self.others.push(member.to_owned());
            return Ok(());
        }
        let Some(variants) = parts_of(&self.kinds, member) else {
            self.members.leave_out();
            return Err(format!("{member} is no member that is understood here"));
        };
        for parts in variants {
            self.members.add(parts, number, not);
        }
        Ok(())
    }
}

/// A member's fields: several alternatives when an address is a range.
fn parts_of(kinds: &[String], member: &str) -> Option<Vec<Vec<Part>>> {
    let words: Vec<&str> = member.split(',').collect();
    if words.len() != kinds.len() {
        return None;
    }
    let mut variants = vec![Vec::new()];
    for (kind, word) in kinds.iter().zip(words) {
        let choices: Vec<Vec<Part>> = match kind.as_str() {
            "ip" | "net" => nets(word)?.into_iter().map(|net| vec![Part::Net(net)]).collect(),
            "port" => vec![port(word)?],
            "iface" => {
                vec![vec![Part::Name(word.strip_prefix("physdev:").map_or(Some(word), |_| None)?.to_owned())]]
            }
            "mark" => {
                let mark = word
                    .strip_prefix("0x")
                    .map_or_else(|| word.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())?;
                vec![vec![Part::Number(mark..=mark)]]
            }
            _ => return None,
        };
        let extend = |known: &Vec<Part>| {
            choices.iter().map(|choice| [known.as_slice(), choice.as_slice()].concat()).collect::<Vec<_>>()
        };
        // `ipset save` prints ranges of one field at most; of several, each may be hundreds of prefixes.
        if variants.len() * choices.len() > MOST_VARIANTS {
            return None;
        }
        variants = variants.iter().flat_map(extend).collect();
    }
    Some(variants)
}

/// An address, a prefix or a range `a-b`.
pub(super) fn nets(text: &str) -> Option<Vec<IpNet>> {
    if let Some((first, last)) = text.split_once('-') {
        return range_of(first.parse().ok()?, last.parse().ok()?);
    }
    match text.split_once('/') {
        Some(_) => Some(vec![text.parse().ok()?]),
        None => Some(vec![IpNet::from(text.parse::<IpAddr>().ok()?)]),
    }
}

/// The prefixes that make up a range.
pub(super) fn range_of(first: IpAddr, last: IpAddr) -> Option<Vec<IpNet>> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Some(ipnet::Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Some(ipnet::Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect())
        }
        _ => None,
    }
}

/// `tcp:80`, `udp:1000-2000`, or `80` of a bitmap, where the protocol is left open.
fn port(word: &str) -> Option<Vec<Part>> {
    let (protocol, port) =
        word.split_once(':').map_or((None, word), |(protocol, port)| (Some(protocol), port));
    let (low, high) = port.split_once('-').unwrap_or((port, port));
    let range = low.parse().ok()?..=high.parse().ok()?;
    let protocol = match protocol {
        None => 0..=255,
        Some("icmp" | "icmpv6" | "ipv6-icmp") => return None,
        Some(name) => {
            let number = u32::from(super::matches::protocol_number(name)?);
            number..=number
        }
    };
    Some(vec![Part::Number(protocol), Part::Number(range)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a TCP packet from `src` port 1000 to `dst` port `dport`, in by cali1, is in the set.
    fn find(sets: &Sets, name: &str, dirs: &str, src: &str, dst: &str, dport: u32) -> Found {
        let field = |name: &str| match name {
            "src" => Some(Cell::Address(src.parse().unwrap())),
            "dst" => Some(Cell::Address(dst.parse().unwrap())),
            "proto" => Some(Cell::Number(6)),
            "sport" => Some(Cell::Number(1000)),
            "dport" => Some(Cell::Number(dport)),
            "iif" => Some(Cell::Name("cali1".to_owned())),
            _ => None,
        };
        let dirs: Vec<String> = dirs.split(',').map(str::to_owned).collect();
        sets.find(name, &dirs, &field)
    }

    const SAVED: &str = "create nets hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x1\n\
        add nets 10.0.0.0/8\nadd nets 10.1.0.0/16 nomatch\nadd nets 10.1.2.3 timeout 100 comment \"a b\"\n\
        create ports hash:ip,port family inet hashsize 1024 maxelem 65536\n\
        add ports 10.42.1.5,tcp:8080\nadd ports 10.42.1.6,udp:53\n\
        create pairs hash:net,net family inet\nadd pairs 10.1.0.0/16,10.2.0.0/16\n\
        create ways hash:net,iface family inet\nadd ways 10.0.0.0/8,cali1\n\
        create some bitmap:port range 0-1024\nadd some 80\n\
        create both list:set size 8\nadd both nets\nadd both ports\n\
        create six hash:net family inet6\nadd six fd00::/8\n\
        create odd hash:mac\nadd odd 01:02:03:04:05:06\n";

    #[test]
    fn members_of_every_kind() {
        let sets = Sets::parse(SAVED);
        let is_in = |found| matches!(found, Found::In(_));
        for (name, dirs, src, dst, dport, expected) in [
            ("nets", "src", "10.9.9.9", "1.1.1.1", 1, true),
            ("nets", "src", "10.1.9.9", "1.1.1.1", 1, false),
            ("nets", "src", "10.1.2.3", "1.1.1.1", 1, true),
            ("nets", "dst", "10.9.9.9", "1.1.1.1", 1, false),
            ("ports", "dst,dst", "1.1.1.1", "10.42.1.5", 8080, true),
            ("ports", "dst,dst", "1.1.1.1", "10.42.1.5", 8081, false),
            ("ports", "dst,dst", "1.1.1.1", "10.42.1.6", 53, false),
            ("pairs", "src,dst", "10.1.1.1", "10.2.1.1", 1, true),
            ("pairs", "src,dst", "10.2.1.1", "10.1.1.1", 1, false),
            ("ways", "src,src", "10.2.1.1", "10.1.1.1", 1, true),
            ("some", "dst", "10.2.1.1", "10.1.1.1", 80, true),
            ("some", "dst", "10.2.1.1", "10.1.1.1", 81, false),
            ("both", "src", "10.9.9.9", "1.1.1.1", 1, true),
            ("six", "src", "fd00::1", "fd00::2", 1, true),
            ("six", "src", "fe80::1", "fd00::2", 1, false),
        ] {
            assert_eq!(
                is_in(find(&sets, name, dirs, src, dst, dport)),
                expected,
                "{name} {src} {dst} {dport}"
            );
        }
        assert_eq!(find(&sets, "odd", "src", "1.1.1.1", "1.1.1.2", 1), Found::Unknown);
        assert_eq!(find(&sets, "missing", "src", "1.1.1.1", "1.1.1.2", 1), Found::Unknown);
        assert_eq!(sets.not_understood.len(), 1);
    }

    #[test]
    fn a_port_that_is_not_known_is_looked_for_by_the_rest() {
        let sets = Sets::parse(SAVED);
        let find = |dst: &str, proto| {
            let field = move |name: &str| match name {
                "dst" => Some(Cell::Address(dst.parse().unwrap())),
                "proto" => Some(Cell::Number(proto)),
                _ => None,
            };
            sets.find("ports", &["dst".to_owned(), "dst".to_owned()], &field)
        };
        assert_eq!(find("10.42.1.5", 6), Found::Unknown);
        assert_eq!(find("10.42.1.5", 1), Found::Out);
        assert_eq!(find("10.42.1.9", 6), Found::Out);
    }

    #[test]
    fn what_could_not_be_read_may_hold_the_address() {
        let sets = Sets::parse("create s hash:ip family inet\nadd s 10.0.0.1\nadd s 10.0.0");
        assert_eq!(find(&sets, "s", "src", "10.0.0.1", "1.1.1.1", 1), Found::Unknown);
        assert_eq!(find(&sets, "s", "src", "10.0.0.9", "1.1.1.1", 1), Found::Unknown);
        let cut = Sets::parse("create s hash:ip family inet netmask 24\nadd s 10.0.0.0\n");
        assert_eq!(find(&cut, "s", "src", "10.0.0.9", "1.1.1.1", 1), Found::Unknown);
        let odd = Sets::parse("nonsense\nadd nowhere 1.2.3.4\ncreate s hash:ip\nadd s what\n");
        assert_eq!(odd.not_understood.len(), 3);
        assert_eq!(find(&odd, "s", "src", "10.0.0.9", "1.1.1.1", 1), Found::Unknown);
    }

    #[test]
    fn lists_in_lists_and_ranges_of_every_field_take_no_time() {
        let mut text = "create l list:set size 8\n".to_owned();
        text.extend(std::iter::repeat_n("add l l\n", 1_000));
        let ranges = ["fd00::1-fdff::fffe"; 4].join(",");
        let sets =
            Sets::parse(&format!("{text}create n hash:net,net,net,net family inet6\nadd n {ranges}\n"));
        assert_eq!(find(&sets, "l", "src", "10.0.0.9", "1.1.1.1", 1), Found::Unknown);
        assert_eq!(find(&sets, "n", "src,src,src,src", "fd00::5", "fd00::5", 1), Found::Unknown);
        assert_eq!(sets.not_understood.len(), 1);
    }

    #[test]
    fn a_hundred_thousand_members() {
        let mut text = "create big hash:net family inet\n".to_owned();
        for n in 0..100_000_u32 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + n * 16);
            text.extend(["add big ", &address.to_string(), "/28\n"]);
        }
        let sets = Sets::parse(&text);
        assert_eq!(sets.n_members("big"), Some(100_000));
        for n in 0..1000_u32 {
            let inside = std::net::Ipv4Addr::from(0x0a00_0000 + n * 1600 + 5).to_string();
            assert!(matches!(find(&sets, "big", "src", &inside, "1.1.1.1", 1), Found::In(_)));
        }
        assert_eq!(find(&sets, "big", "src", "11.0.0.1", "1.1.1.1", 1), Found::Out);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "((create|add) [a-c]( (hash:|list:|bitmap:)?(ip|net|set|port|mac|iface|,){0,4}| [-0-9a-f.:/,]*){0,2}\n?){0,8}") {
            let _ = Sets::parse(&text);
        }
    }
}
