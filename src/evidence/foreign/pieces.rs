//! One collection, sorted: whose line is this? Takes the files of a collection one after the other; keeps the lines of each
//! program together, however many files or sections they came in.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;

use serde_json::Value;

use super::Part;
use super::iproute::Reader;
use super::json::{self, Document};
use super::listing::{Listing, SetListing};
use super::nft;
use crate::evidence::host::{Address, Host, HostRoute, LOCAL, counters};
use crate::evidence::netfilter::not_its_own;

/// What one collection holds.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// Which parts of the state it says something of.
    pub(super) parts: BTreeSet<Part>,
    reader: Reader,
    sysctls: BTreeMap<String, String>,
    counters: BTreeMap<String, u64>,
    /// By the name of the text.
    saved: BTreeMap<String, Saved>,
    /// Listings by family, their tables.
    listed: BTreeMap<bool, Vec<(String, String)>>,
    /// Lines of `ipset save`, each once, in order: all sets are made before any is filled.
    sets: [Vec<String>; 2],
    set_lines: HashSet<String>,
    /// What `nft -j` printed.
    nft: Vec<Value>,
    /// Tables that `nft list ruleset` printed as text, by family and name, as `nft -j` would have printed them; None where a
    /// text makes no sense.
    nft_listed: BTreeMap<(String, String), Option<Vec<Value>>>,
    conntrack: String,
    has_conntrack: bool,
}

/// What a program saved.
#[derive(Debug, Default)]
struct Saved {
    /// What it remarked of tables that are not its own, each once, in order.
    remarks: Vec<String>,
    known: HashSet<String>,
    /// Tables by name.
    tables: Vec<(String, String)>,
}

/// Where the lines of a file are.
#[derive(Default)]
enum Inside {
    #[default]
    Nothing,
    /// `iptables-save`: the table so far.
    Table {
        name: String,
        text: String,
    },
    Listing(Listing),
    Sets(SetListing),
    /// A table in nft's own words.
    Nft {
        family: String,
        name: String,
        text: String,
    },
    /// `/proc/net/snmp`, `netstat`: names, then numbers.
    Pairs(String),
    /// `/proc/net/stat/nf_conntrack`.
    Hex(String),
}

impl Pieces {
    /// Takes a file; gives what was recognised in it, and how many lines were not.
    pub(super) fn take(&mut self, path: &str, text: &str) -> (Vec<&'static str>, usize) {
        let name = path.rsplit('/').next().unwrap_or(path);
        let mut file = File::new(name);
        match json::read(text) {
            Some(Document::Lines(lines)) => {
                for line in lines.lines() {
                    self.of_kernel(line, &mut file);
                }
            }
            Some(Document::Rules(value)) => {
                self.nft.push(value);
                file.count("nftables");
            }
            None => {
                for line in text.lines() {
                    self.line(line.trim_end_matches('\r'), &mut file);
                }
                let inside = std::mem::take(&mut file.inside);
                self.close(inside, &mut file);
                self.remarks(&mut file, "");
            }
        }
        self.reader.end(name);
        (file.found, file.strange)
    }

    fn line(&mut self, line: &str, file: &mut File<'_>) {
        if self.within(line, file)
            || file.remark(line)
            || file.begins(line)
            || self.single(line, file)
            || self.of_kernel(line, file)
        {
            return;
        }
        if !line.trim().is_empty() && !line.starts_with('#') {
            file.strange += 1;
        }
    }

    /// Whether the line belongs to what is under way.
    fn within(&mut self, line: &str, file: &mut File<'_>) -> bool {
        let stays = match &mut file.inside {
            Inside::Nothing => return false,
            Inside::Table { text, .. } => {
                text.push_str(line);
                text.push('\n');
                line.trim() != "COMMIT"
            }
            Inside::Listing(listing) => {
                if listing.line(line) {
                    return true;
                }
                let inside = std::mem::take(&mut file.inside);
                self.close(inside, file);
                return false;
            }
            Inside::Sets(sets) => {
                let mut saved = String::new();
                let taken = sets.line(line, &mut saved);
                for line in saved.lines() {
                    self.set(line);
                }
                if !taken {
                    file.inside = Inside::Nothing;
                }
                return taken;
            }
            Inside::Nft { text, .. } => {
                text.push_str(line);
                text.push('\n');
                line != "}"
            }
            Inside::Pairs(text) => {
                if is_pair(line) {
                    text.push_str(line);
                    text.push('\n');
                    return true;
                }
                let inside = std::mem::take(&mut file.inside);
                self.close(inside, file);
                return false;
            }
            Inside::Hex(text) => {
                if !line.is_empty()
                    && line.split_whitespace().all(|word| u64::from_str_radix(word, 16).is_ok())
                {
                    text.push_str(line);
                    text.push('\n');
                    return true;
                }
                let inside = std::mem::take(&mut file.inside);
                self.close(inside, file);
                return false;
            }
        };
        if !stays {
            let inside = std::mem::take(&mut file.inside);
            self.close(inside, file);
        }
        true
    }

    /// Whether the line is one that says all by itself.
    fn single(&mut self, line: &str, file: &mut File<'_>) -> bool {
        if line.contains("src=") && line.contains("dst=") && line.matches("src=").count() == 2 {
            self.conntrack.push_str(line);
            self.conntrack.push('\n');
            self.has_conntrack = true;
            file.count("connections");
            return true;
        }
        if (line.starts_with("add ") || line.starts_with("create ")) && self.set(line) {
            file.count("ipsets");
            return true;
        }
        if line.trim_start().starts_with("{\"nftables\"") {
            if let Ok(value) = serde_json::from_str::<Value>(line) {
                self.nft.push(value);
                file.count("nftables");
                return true;
            }
            return false;
        }
        if let Some((name, value)) = line.split_once(" = ").filter(|(name, _)| name.starts_with("net.")) {
            // A link's name may hold dots: sysctl prints them as slashes.
            self.sysctls.insert(name.replace('/', "."), value.trim().to_owned());
            self.parts.insert(Part::Sysctls);
            file.count("sysctls");
            return true;
        }
        Self::is_other_sysctl(line) || self.counter(line, file)
    }

    /// Those of other rooms of the kernel are passed over.
    fn is_other_sysctl(line: &str) -> bool {
        line.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ') && name.contains('.'))
    }

    /// `nstat`, `/proc/net/snmp6`, `conntrack -S`.
    fn counter(&mut self, line: &str, file: &mut File<'_>) -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut found: Vec<(String, u64)> = Vec::new();
        match words.as_slice() {
            [name, value] if is_v6_counter(name) => {
                found.extend(value.parse().ok().map(|value| ((*name).to_owned(), value)));
            }
            [name, value, rate] if rate.contains('.') && rate.parse::<f64>().is_ok() => {
                let Some(name) = nstat_name(name) else { return false };
                found.extend(value.parse().ok().map(|value| (name, value)));
            }
            [cpu, rest @ ..] if cpu.starts_with("cpu=") => {
                for word in rest {
                    let Some((name, value)) = word.split_once('=') else { return false };
                    found.extend(value.parse().ok().map(|value| (format!("conntrack:{name}"), value)));
                }
            }
            _ => return false,
        }
        if found.is_empty() {
            return false;
        }
        self.add(found, words[0].starts_with("cpu="), file);
        true
    }

    /// Zeros are left out, as everywhere. Numbers of several CPUs are added up.
    fn add(&mut self, found: impl IntoIterator<Item = (String, u64)>, sum: bool, file: &mut File<'_>) {
        for (name, value) in found.into_iter().filter(|(_, value)| *value > 0) {
            let known = self.counters.entry(name).or_default();
            *known = if sum { known.saturating_add(value) } else { value };
        }
        self.parts.insert(Part::Counters);
        file.count("counters");
    }

    /// A line of `ip`, `bridge`, `tc` or `ethtool`.
    fn of_kernel(&mut self, line: &str, file: &mut File<'_>) -> bool {
        let Some(part) = self.reader.line(line) else { return false };
        if std::mem::take(&mut self.reader.was_route) {
            file.strange = file.strange.saturating_sub(1);
        }
        self.parts.insert(part);
        file.count(part.words());
        true
    }

    /// A line of `ipset save`; what comes of a set twice is a copy.
    fn set(&mut self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        let (Some(verb), Some(name), Some(_)) = (words.next(), words.next(), words.next()) else {
            return false;
        };
        let create = verb == "create";
        // Of two copies the header may differ, by its seed or size.
        let key = if create { format!("create {name}") } else { line.to_owned() };
        if self.set_lines.insert(key) {
            self.sets[usize::from(!create)].push(line.to_owned());
        }
        true
    }

    /// What was under way has ended.
    fn close(&mut self, inside: Inside, file: &mut File<'_>) {
        match inside {
            Inside::Table { name, text } => {
                self.remarks(file, &text);
                let tables = &mut self.saved.entry(text_name(file, &text)).or_default().tables;
                if tables.iter().any(|(own, _)| *own == name) {
                    file.count("a second copy of rules, left out");
                } else {
                    tables.push((name, text));
                    file.count("iptables' rules");
                }
            }
            Inside::Listing(listing) => {
                let v6 = listing.v6.unwrap_or(file.name.contains("ip6tables"));
                let Some((table, text)) = listing.saved() else { return };
                let tables = self.listed.entry(v6).or_default();
                // The same table may have been listed twice, once rounded: the longer one counts.
                match tables.iter_mut().find(|(own, _)| own == table) {
                    Some((_, known)) if known.len() >= text.len() => {}
                    Some((_, known)) => *known = text,
                    None => tables.push((table.to_owned(), text)),
                }
                file.count("listed rules of iptables");
            }
            Inside::Pairs(text) => {
                let found = counters::named(&text);
                self.add(found, false, file);
            }
            Inside::Hex(text) => {
                let found = counters::conntrack(&text);
                self.add(found, true, file);
            }
            Inside::Nft { family, name, text } => {
                let objects = nft::table(&text);
                file.count(if objects.is_some() { "nftables" } else { NFT_UNREAD });
                // A whole copy counts, wherever another one was cut off.
                let known = self.nft_listed.entry((family, name)).or_default();
                *known = objects.or_else(|| known.take());
            }
            Inside::Nothing | Inside::Sets(_) => {}
        }
    }

    /// What iptables remarked of tables stands in its text before them.
    fn remarks(&mut self, file: &mut File<'_>, table: &str) {
        if file.remarks.is_empty() {
            return;
        }
        let saved = self.saved.entry(text_name(file, table)).or_default();
        for remark in file.remarks.drain(..) {
            if saved.known.insert(remark.clone()) {
                saved.remarks.push(remark);
            }
        }
    }

    /// The texts of programs, by their name in a case.
    pub(super) fn texts(&self) -> Vec<(String, String)> {
        let joined =
            |tables: &[(String, String)]| tables.iter().map(|(_, text)| text.as_str()).collect::<String>();
        let saved = self.saved.iter().map(|(name, saved)| {
            let remarks = saved.remarks.iter().flat_map(|remark| [remark, "\n"]);
            (name.clone(), remarks.collect::<String>() + &joined(&saved.tables))
        });
        let mut texts: Vec<(String, String)> = saved.collect();
        for (v6, tables) in &self.listed {
            let family = if *v6 { "ip6tables" } else { "iptables" };
            let known: Vec<&str> = self
                .saved
                .iter()
                .filter(|(name, _)| name.starts_with(&format!("{family}-")))
                .flat_map(|(_, saved)| saved.tables.iter().map(|(table, _)| table.as_str()))
                .collect();
            let more: Vec<_> =
                tables.iter().filter(|(table, _)| !known.contains(&table.as_str())).cloned().collect();
            if !more.is_empty() {
                let name = format!("{family}-save");
                match texts.iter_mut().find(|(own, _)| own.starts_with(&format!("{family}-"))) {
                    Some((_, text)) => text.push_str(&joined(&more)),
                    None => texts.push((name, joined(&more))),
                }
            }
        }
        texts.extend(self.nft_text().map(|text| ("nft".to_owned(), text)));
        if !self.sets[0].is_empty() {
            let lines = self.sets.iter().flatten().map(|line| format!("{line}\n"));
            texts.push(("ipset".to_owned(), lines.collect()));
        }
        if self.has_conntrack {
            texts.push((super::CONNTRACK.to_owned(), self.conntrack.clone()));
        }
        texts
    }

    /// nftables' own tables, one document a line; those that iptables keeps there are read from iptables. None when it is
    /// not known which there are.
    fn nft_text(&self) -> Option<String> {
        let is_v6 = |name: &str| name.starts_with("ip6tables-");
        let read: HashSet<bool> =
            self.saved.keys().map(|name| is_v6(name)).chain(self.listed.keys().copied()).collect();
        // Of a table that somebody else made under that name iptables prints what it understands, or nothing.
        let of_others: HashSet<(bool, &str)> = self
            .saved
            .iter()
            .flat_map(|(name, saved)| saved.remarks.iter().map(|remark| (is_v6(name), remark)))
            .filter_map(|(v6, remark)| Some((v6, not_its_own(remark)?)))
            .collect();
        let rules_read = |v6: bool, table: &str| read.contains(&v6) && !of_others.contains(&(v6, table));
        let kept_by_iptables = |family: &str, name: &str| {
            matches!(family, "ip" | "ip6")
                && matches!(name, "raw" | "mangle" | "nat" | "filter" | "security")
                && rules_read(family == "ip6", name)
        };
        let listed: Vec<&Option<Vec<Value>>> = self
            .nft_listed
            .iter()
            .filter(|((family, name), _)| !kept_by_iptables(family, name))
            .map(|(_, objects)| objects)
            .collect();
        if self.nft.is_empty() {
            let all: Option<Vec<&Vec<Value>>> = listed.into_iter().map(Option::as_ref).collect();
            let entries: Vec<&Value> =
                all.filter(|_| !self.nft_listed.is_empty())?.into_iter().flatten().collect();
            let document = serde_json::json!({ "nftables": entries });
            return Some(if entries.is_empty() { String::new() } else { format!("{document}\n") });
        }
        // JSON says all that a listing says.
        let mut text = String::new();
        for document in &self.nft {
            let own = |entry: &&Value| {
                let Some((kind, body)) = entry.as_object().and_then(|entry| entry.iter().next()) else {
                    return false;
                };
                let name = if kind == "table" { &body["name"] } else { &body["table"] };
                !kept_by_iptables(
                    body["family"].as_str().unwrap_or_default(),
                    name.as_str().unwrap_or_default(),
                )
            };
            let entries: Vec<&Value> =
                document["nftables"].as_array().into_iter().flatten().filter(own).collect();
            let _ = writeln!(text, "{}", serde_json::json!({ "nftables": entries }));
        }
        Some(text)
    }

    /// Puts what was read of a part where it belongs.
    pub(super) fn give(&self, part: Part, to: &mut Host) {
        let host = &self.reader.host;
        match part {
            // A link that only ethtool named has no number.
            Part::Links => to.links = host.links.iter().filter(|link| link.index != 0).cloned().collect(),
            Part::Offload => {
                for link in host.links.iter().filter(|link| link.checksums.is_some()) {
                    if let Some(own) = to.links.iter_mut().find(|own| own.name == link.name) {
                        own.checksums.clone_from(&link.checksums);
                    }
                }
            }
            Part::Addresses => to.addresses.clone_from(&host.addresses),
            Part::Routes => {
                to.routes.clone_from(&host.routes);
                if !host.routes.iter().any(|route| route.table == LOCAL) {
                    to.routes.extend(host.addresses.iter().map(local));
                }
            }
            Part::Rules => to.rules.clone_from(&host.rules),
            Part::Neighbours => to.neighbours.clone_from(&host.neighbours),
            Part::Fdb => to.fdb.clone_from(&host.fdb),
            Part::Queues => {
                // As where they are read from the kernel: no queue at all is left out.
                let own = host.queues.iter().filter(|queue| queue.kind != "noqueue" || queue.drops > 0);
                to.queues = own.cloned().collect();
            }
            Part::Sysctls => to.sysctls.clone_from(&self.sysctls),
            Part::Counters => to.counters.clone_from(&self.counters),
        }
    }
}

/// The route that the kernel itself makes for an address, where the table `local` was not printed.
fn local(address: &Address) -> HostRoute {
    HostRoute {
        dst: address.address.addr().into(),
        kind: "local".to_owned(),
        via: None,
        dev: Some(address.link.clone()),
        table: LOCAL,
        metric: 0,
        protocol: 2,
        onlink: false,
        dead: false,
        multipath: false,
    }
}

/// Which program saved this table: by its first line, by the file's name, or by the addresses in it.
fn text_name(file: &File<'_>, text: &str) -> String {
    let generator = file.generator.as_str();
    let named =
        |name: &str| generator.starts_with(name) || (generator.is_empty() && file.name.contains(name));
    let v6 = named("ip6tables")
        || !named("iptables")
            && text.split_whitespace().any(|word| {
                let address = word.split('/').next().unwrap_or(word);
                address.contains("::") && address.parse::<std::net::Ipv6Addr>().is_ok()
            });
    let variant = match generator {
        said if said.contains("nf_tables") => "-nft",
        said if said.contains("legacy") => "-legacy",
        _ if file.name.contains("nft") => "-nft",
        _ if file.name.contains("legacy") => "-legacy",
        _ => "",
    };
    format!("{}{variant}-save", if v6 { "ip6tables" } else { "iptables" })
}

/// A line of `/proc/net/snmp` or `netstat`: a group, then names or numbers.
fn is_pair(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let group = words.next().and_then(|word| word.strip_suffix(':'));
    group.is_some_and(|group| GROUPS.contains(&group)) && words.clone().count() > 1
}

fn is_v6_counter(name: &str) -> bool {
    ["Ip6", "Icmp6", "Udp6", "UdpLite6"].iter().any(|group| name.starts_with(group))
}

/// `IpInReceives` → `Ip:InReceives`.
fn nstat_name(name: &str) -> Option<String> {
    if is_v6_counter(name) {
        return Some(name.to_owned());
    }
    let group = GROUPS.iter().filter(|group| name.starts_with(**group)).max_by_key(|group| group.len())?;
    Some(format!("{group}:{}", &name[group.len()..]))
}

const GROUPS: &[&str] = &["Ip", "Icmp", "IcmpMsg", "Tcp", "Udp", "UdpLite", "TcpExt", "IpExt", "MPTcpExt"];

const NFT_UNREAD: &str = "a table of nftables that is cut off or makes no sense, left out";

/// The file that is being read.
struct File<'f> {
    name: &'f str,
    inside: Inside,
    generator: String,
    /// Remarks of iptables on tables that are not its own, until it is known which program made them.
    remarks: Vec<String>,
    found: Vec<&'static str>,
    /// Lines that nobody claims.
    strange: usize,
}

impl<'f> File<'f> {
    fn new(name: &'f str) -> Self {
        Self {
            name,
            inside: Inside::Nothing,
            generator: String::new(),
            remarks: Vec::new(),
            found: Vec::new(),
            strange: 0,
        }
    }

    /// Whether the line is a remark of iptables on a table.
    fn remark(&mut self, line: &str) -> bool {
        let is = line.starts_with('#') && not_its_own(line).is_some();
        if is {
            self.remarks.push(line.to_owned());
        }
        is
    }

    /// Whether the line begins something of several lines.
    fn begins(&mut self, line: &str) -> bool {
        if let Some(table) = line.strip_prefix('*').map(str::trim)
            && matches!(table, "raw" | "mangle" | "nat" | "filter" | "security")
        {
            self.inside = Inside::Table { name: table.to_owned(), text: format!("{line}\n") };
        } else if Listing::begins(line) {
            let mut listing = Listing::default();
            listing.line(line);
            self.inside = Inside::Listing(listing);
        } else if line.starts_with("Name: ") {
            let mut sets = SetListing::default();
            sets.line(line, &mut String::new());
            self.inside = Inside::Sets(sets);
            self.count("ipsets");
        } else if let ["table", family, name, "{", ..] = line.split(' ').collect::<Vec<_>>().as_slice() {
            let (family, name) = ((*family).to_owned(), (*name).to_owned());
            self.inside = Inside::Nft { family, name, text: format!("{line}\n") };
        } else if is_pair(line) {
            self.inside = Inside::Pairs(format!("{line}\n"));
        } else if line.starts_with("entries ") && line.contains("early_drop") {
            self.inside = Inside::Hex(format!("{line}\n"));
        } else if let Some(rest) = line.strip_prefix("# Generated by ") {
            // It names the program, and so the family.
            rest.split(" on ").next().unwrap_or_default().clone_into(&mut self.generator);
        } else {
            return false;
        }
        true
    }

    fn count(&mut self, what: &'static str) {
        if !self.found.contains(&what) {
            self.found.push(what);
        }
    }
}
