//! What tools on a node print about its rules, sets and connections, and the state of its kernel. Runs programs side by
//! side, in the node's namespace or a pod's, for a limited time. Understands of the output no more than is needed to choose: which
//! tables iptables did not print, whether one is dormant, which connections are those of the traced addresses. Nothing is
//! changed: all these programs only read.

use std::borrow::Cow;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::evidence::case::MOST_CONNECTIONS;
use crate::evidence::host::STATE;
use crate::evidence::netfilter::not_its_own;
use crate::evidence::{Known, Text, When};
use crate::gather::clock::instant;
use crate::gather::filter::Pair;
use crate::gather::netns::Namespace;
use crate::gather::nftables::{self, TableName};
use crate::gather::state::{self, Place};

/// Where texts are read.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// The node's name.
    pub(crate) node: String,
    /// The node's own namespace.
    pub(crate) namespace: Namespace,
    /// The namespaces of the traced pods that could be entered, and what the names of their texts begin with.
    pub(crate) pods: Vec<(String, Namespace)>,
    /// Whose connections, and what the names of their texts begin with.
    pub(crate) pairs: Vec<(String, Pair)>,
}

/// Reads everything that is wanted at that time of a trace.
pub(crate) fn read(site: &Site, when: When) -> Vec<Text> {
    gather(site, when, when == When::Before, when == When::After)
}

/// Reads everything at once, for who does not capture; the texts say [`When::Before`].
pub(crate) fn read_once(site: &Site) -> Vec<Text> {
    gather(site, When::Before, true, true)
}

fn gather(site: &Site, when: When, with_sets: bool, with_connections: bool) -> Vec<Text> {
    let text = |(name, content)| Text { node: site.node.clone(), name, when, content };
    let mut texts: Vec<Text> = Vec::new();
    let pods = site.pods.iter().map(|(prefix, namespace)| (namespace, prefix.as_str()));
    let places: Vec<(&Namespace, &str)> = std::iter::once((&site.namespace, "")).chain(pods).collect();
    for (turn, places) in places.chunks(PLACES_AT_ONCE).enumerate() {
        let read = thread::scope(|scope| {
            let mut readings = Vec::new();
            for (namespace, prefix) in places {
                let named = move |read: Vec<(String, Known<String>)>| {
                    read.into_iter().map(|(name, content)| (format!("{prefix}{name}"), content)).collect()
                };
                readings.push(scope.spawn(move || {
                    let mut read: Vec<_> = thread::scope(|scope| {
                        let tools = TOOLS.map(|tool| scope.spawn(move || rules(tool, namespace)));
                        tools.into_iter().flat_map(|reading| reading.join().unwrap_or_default()).collect()
                    });
                    let tables = tables(namespace, &read);
                    read.push(("nft".to_owned(), tables));
                    named(read)
                }));
                let ends = site.pairs.iter().map(|(_, pair)| (pair.from, pair.to));
                let place = if prefix.is_empty() { Place::Node(ends.collect()) } else { Place::Pod };
                readings.push(
                    scope.spawn(move || named(vec![(STATE.to_owned(), kernel_state(namespace, &place))])),
                );
            }
            if with_sets && turn == 0 {
                readings.push(scope.spawn(|| vec![("ipset".to_owned(), sets(&site.namespace))]));
            }
            if with_connections && turn == 0 && !site.pairs.is_empty() {
                readings.push(scope.spawn(|| connections(&site.namespace, &site.pairs)));
            }
            let read: Vec<Vec<(String, Known<String>)>> =
                readings.into_iter().map(|reading| reading.join().unwrap_or_default()).collect();
            read
        });
        texts.extend(read.into_iter().flatten().map(text));
    }
    texts
}

/// The node and so many pods are read at once: each takes some five programs.
const PLACES_AT_ONCE: usize = 8;
/// The families of iptables: each may be there in two variants, of which both may hold rules.
const TOOLS: [&str; 2] = ["iptables", "ip6tables"];
/// A program that takes longer is ended.
const LIMIT: Duration = Duration::from_secs(10);
/// How often is looked whether a program that says nothing more has ended.
const NAP: Duration = Duration::from_millis(2);

/// The rules with their counters: of both variants; where neither is installed, of the one without a variant.
fn rules(tool: &str, namespace: &Namespace) -> Vec<(String, Known<String>)> {
    let mut read = Vec::new();
    for variant in ["nft", "legacy"] {
        let name = format!("{tool}-{variant}-save");
        match print(&[&name, "-c"], namespace) {
            Ok(printed) => read.push((name, Known::Read(printed))),
            Err(Failure::Missing) => {}
            Err(failure) => read.push((name.clone(), Known::Unreadable(failure.about(&name)))),
        }
    }
    if read.is_empty() {
        let name = format!("{tool}-save");
        let content = match print(&[&name, "-c"], namespace) {
            Ok(printed) => Known::Read(printed),
            Err(failure) => Known::Unreadable(format!(
                "{}; nor {tool}-nft-save or {tool}-legacy-save",
                failure.about(&name)
            )),
        };
        read.push((name, content));
    }
    read
}

/// The state of the kernel, as JSON.
fn kernel_state(namespace: &Namespace, place: &Place) -> Known<String> {
    let read = state::read(namespace, place).map_err(|error| error.to_string());
    match read.and_then(|host| serde_json::to_string(&host).map_err(|error| error.to_string())) {
        Ok(text) => Known::Read(text),
        Err(why) => Known::Unreadable(why),
    }
}

/// The members of all sets.
fn sets(namespace: &Namespace) -> Known<String> {
    match print(&["ipset", "save"], namespace) {
        Ok(printed) => Known::Read(printed),
        Err(failure) => Known::Unreadable(failure.about("ipset save")),
    }
}

/// nftables' tables that iptables did not print, or not all of, one JSON document a line.
fn tables(namespace: &Namespace, saved: &[(String, Known<String>)]) -> Known<String> {
    let list = || match namespace.run(nftables::tables) {
        Ok(Ok(listed)) => Ok(listed),
        Ok(Err(error)) => Err(format!("the names of nftables' tables: {error}")),
        Err(error) => Err(error.to_string()),
    };
    let listed = match list() {
        Ok(listed) => listed,
        Err(why) => return Known::Unreadable(why),
    };
    let mut printed = String::new();
    for table in listed.iter().filter(|table| !is_printed(table, saved)) {
        match print(&["nft", "-j", "list", "table", table.family, &table.name], namespace) {
            Ok(text) => {
                printed.push_str(&with_flags(text.trim_end(), table));
                printed.push('\n');
            }
            // Somebody may just have removed it.
            Err(_) if list().is_ok_and(|listed| !listed.contains(table)) => {}
            Err(failure) => {
                let command = format!("nft -j list table {} {}", table.family, table.name);
                return Known::Unreadable(failure.about(&command));
            }
        }
    }
    Known::Read(printed)
}

/// Whether iptables printed the whole of a table. Of one that somebody else made under the name of one of its own it prints what
/// it understands, or nothing, and says so.
fn is_printed(table: &TableName, saved: &[(String, Known<String>)]) -> bool {
    let tool = match table.family {
        "ip" => "iptables",
        "ip6" => "ip6tables",
        _ => return false,
    };
    let of_nftables = |(name, text): &(String, Known<String>)| match text.read() {
        Some(text) if *name == format!("{tool}-nft-save") => Some(text.clone()),
        // Before 1.8.3 it called itself xtables-save.
        Some(text) if *name == format!("{tool}-save") => {
            (text.contains("(nf_tables)") || text.contains("xtables-save")).then(|| text.clone())
        }
        _ => None,
    };
    saved.iter().filter_map(of_nftables).any(|text| {
        text.lines().any(|line| line.strip_prefix('*') == Some(&table.name))
            && !text.lines().any(|line| not_its_own(line) == Some(&table.name))
    })
}

/// What nft printed of a table, and that it is dormant: nft 1.0.6 prints the table's name in the place of its flags.
fn with_flags<'t>(printed: &'t str, table: &TableName) -> Cow<'t, str> {
    let (true, Ok(mut document)) = (table.dormant, serde_json::from_str::<Value>(printed)) else {
        return printed.into();
    };
    let entries = document.get_mut("nftables").and_then(Value::as_array_mut);
    for own in entries.into_iter().flatten().filter_map(|entry| entry.get_mut("table")?.as_object_mut()) {
        own.insert("flags".to_owned(), json!(["dormant"]));
    }
    document.to_string().into()
}

/// Connection tracking's entries about each pair.
fn connections(namespace: &Namespace, pairs: &[(String, Pair)]) -> Vec<(String, Known<String>)> {
    let (names, pairs): (Vec<String>, Vec<Pair>) = pairs.iter().cloned().unzip();
    let content: Vec<Known<String>> = match entries(namespace, &pairs.into()) {
        Ok(entries) => entries.into_iter().map(Known::Read).collect(),
        Err(why) => vec![Known::Unreadable(why); names.len()],
    };
    names.into_iter().map(|prefix| format!("{prefix}conntrack")).zip(content).collect()
}

/// The entries about each pair, from the tool or from the kernel's own list.
fn entries(namespace: &Namespace, pairs: &Arc<[Pair]>) -> Result<Vec<String>, String> {
    let mut all = vec![String::new(); pairs.len()];
    for (family, is_ipv4) in [("ipv4", true), ("ipv6", false)] {
        // The kernel goes through its whole table for each.
        if pairs.iter().all(|pair| pair.from.is_ipv4() != is_ipv4) {
            continue;
        }
        let own = Arc::clone(pairs);
        let take = move |outlet: &mut dyn Read| about(outlet, &own).unwrap_or_default();
        match print_through(&["conntrack", "-L", "-f", family], namespace, take) {
            Ok(found) => all.iter_mut().zip(found).for_each(|(all, found)| all.push_str(&found)),
            Err(failure) => {
                let listed = namespace.run(|| {
                    let list = fs::File::open("/proc/thread-self/net/nf_conntrack");
                    list.and_then(|mut list| about(&mut list, pairs))
                });
                return match listed {
                    Ok(Ok(found)) => Ok(found),
                    Ok(Err(error)) => {
                        Err(format!("{}; /proc/net/nf_conntrack: {error}", failure.about("conntrack -L")))
                    }
                    Err(error) => Err(error.to_string()),
                };
            }
        }
    }
    Ok(all)
}

/// Of each pair the lines that name both of its ends, each by any of its addresses. The others are many, and not kept.
fn about(entries: &mut dyn Read, pairs: &[Pair]) -> io::Result<Vec<String>> {
    let mut found = vec![(String::new(), 0); pairs.len()];
    let mut entries = BufReader::new(entries);
    let mut bytes = Vec::new();
    while entries.read_until(b'\n', &mut bytes)? > 0 {
        let line = String::from_utf8_lossy(&bytes);
        let addresses = line.split_whitespace().filter_map(|word| {
            word.strip_prefix("src=").or_else(|| word.strip_prefix("dst="))?.parse::<IpAddr>().ok()
        });
        let addresses: Vec<IpAddr> = addresses.collect();
        let names = |first: IpAddr, aliases: &[IpAddr]| {
            addresses.iter().any(|address| *address == first || aliases.contains(address))
        };
        for (pair, (lines, n_lines)) in pairs.iter().zip(&mut found) {
            let own = names(pair.from, &pair.from_aliases) && names(pair.to, &pair.to_aliases);
            if own && *n_lines < MOST_CONNECTIONS {
                lines.push_str(line.trim_end_matches(['\n', '\r']));
                lines.push('\n');
                *n_lines += 1;
            }
        }
        bytes.clear();
    }
    Ok(found.into_iter().map(|(lines, _)| lines).collect())
}

/// Why a program printed nothing of use.
#[derive(Debug)]
enum Failure {
    /// It is not installed.
    Missing,
    /// It could not be run or said that it failed.
    Said(String),
    /// It took too long.
    Late,
}

impl Failure {
    fn about(&self, program: &str) -> String {
        match self {
            Self::Missing => format!("{program}: not installed on this node"),
            Self::Said(why) => format!("{program}: {why}"),
            Self::Late => format!("{program}: no end after {} s", LIMIT.as_secs()),
        }
    }
}

/// What a program prints when run in a namespace.
fn print(words: &[&str], namespace: &Namespace) -> Result<String, Failure> {
    print_through(words, namespace, whole)
}

/// All of it, as text.
fn whole(outlet: &mut dyn Read) -> String {
    let mut bytes = Vec::new();
    let _ = outlet.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What `take` makes of what a program prints, while it prints.
fn print_through<T: Send + 'static>(
    words: &[&str],
    namespace: &Namespace,
    take: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
) -> Result<T, Failure> {
    let child = namespace.run(|| spawn(words)).map_err(|error| Failure::Said(error.to_string()))?;
    match child {
        Ok(child) => within(child, LIMIT, take),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::Missing),
        Err(error) => Err(Failure::Said(error.to_string())),
    }
}

/// Starts a program. Over ssh the search path may leave out where administrators' tools are.
fn spawn(words: &[&str]) -> io::Result<Child> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut started = spawn_at(program, arguments);
    for folder in ["/usr/sbin", "/sbin", "/usr/local/sbin"] {
        if matches!(&started, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            started = spawn_at(&format!("{folder}/{program}"), arguments);
        }
    }
    started
}

#[expect(clippy::disallowed_methods, reason = "this room runs the programs of a node")]
fn spawn_at(program: &str, arguments: &[&str]) -> io::Result<Child> {
    Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

/// Waits for a program's output and end; ends it when the time is up.
fn within<T: Send + 'static>(
    mut child: Child,
    limit: Duration,
    take: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
) -> Result<T, Failure> {
    let end = instant() + limit;
    let printed = child.stdout.take().map(|pipe| aside(pipe, take));
    let complaint = child.stderr.take().map(|pipe| aside(pipe, whole));
    let left = || end.saturating_duration_since(instant());
    let printed = printed.and_then(|printed| printed.recv_timeout(left()).ok());
    let complaint = complaint.and_then(|complaint| complaint.recv_timeout(left()).ok());
    let (Some(printed), Some(complaint)) = (printed, complaint) else { return Err(ended(child)) };
    // It may have closed both and go on.
    while matches!(child.try_wait(), Ok(None)) {
        if instant() >= end {
            return Err(ended(child));
        }
        thread::sleep(NAP);
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(printed),
        Ok(status) => Err(Failure::Said(format!("{status}: {}", complaint.trim()))),
        Err(error) => Err(Failure::Said(error.to_string())),
    }
}

/// Reads a pipe in a thread of its own.
fn aside<T: Send + 'static>(
    mut pipe: impl Read + Send + 'static,
    take: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
) -> mpsc::Receiver<T> {
    let (said, hear) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more when the time was up.
        let _ = said.send(take(&mut pipe));
    });
    hear
}

fn ended(mut child: Child) -> Failure {
    let _ = child.kill();
    let _ = child.wait();
    Failure::Late
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::case::Only;
    use crate::evidence::netfilter::Ruleset;
    use crate::gather::rig::Rig;

    #[test]
    fn keeps_the_connections_of_the_pair() {
        let pair = Pair {
            from: "10.0.0.1".parse().unwrap(),
            from_aliases: vec![],
            to: "10.0.0.2".parse().unwrap(),
            to_aliases: vec!["10.96.0.10".parse().unwrap()],
            nodes: vec![],
            vxlan_port: 4789,
            only: Only::default(),
        };
        let entries = "tcp 6 9 ESTABLISHED src=10.0.0.1 dst=10.96.0.10 sport=1 dport=80 src=10.0.0.2 dst=10.0.0.1 sport=8080 dport=1\n\
                       udp 17 9 src=10.0.0.1 dst=10.0.0.9 sport=1 dport=53 src=10.0.0.9 dst=10.0.0.1 sport=53 dport=1\n\
                       icmp 1 29 src=10.0.0.2 dst=10.0.0.1 type=8 code=0 id=1 src=10.0.0.1 dst=10.0.0.2 type=0 code=0 id=1\n";
        let kept = |mut entries: &[u8]| about(&mut entries, std::slice::from_ref(&pair)).unwrap().remove(0);
        assert_eq!(
            kept(entries.as_bytes()).lines().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(),
            ["tcp", "icmp"]
        );
        let many = entries.repeat(MOST_CONNECTIONS);
        assert_eq!(kept(many.as_bytes()).lines().count(), MOST_CONNECTIONS);
        // As they come out of a program.
        let own = pair.clone();
        let lines = format!("for i in 1 2 3; do echo '{}'; done", entries.lines().next().unwrap());
        let take = move |outlet: &mut dyn Read| about(outlet, &[own]).unwrap();
        let read = within(spawn(&["sh", "-c", &lines]).unwrap(), LIMIT, take).unwrap();
        assert_eq!(read[0].lines().count(), 3);
    }

    /// What iptables prints in all its variants.
    fn saved(namespace: &Namespace) -> Vec<(String, Known<String>)> {
        TOOLS.into_iter().flat_map(|tool| rules(tool, namespace)).collect()
    }

    #[test]
    #[ignore = "needs root"]
    fn tables_of_others_under_the_names_of_iptables_are_read_too() {
        let rig = Rig::two_nodes_vxlan();
        let node = Namespace::open(format!("/run/netns/{}", rig.ns("n1"))).unwrap();
        let names = || {
            let text = tables(&node, &saved(&node));
            let tables = Ruleset::parse_nft(text.read().unwrap()).tables.into_iter();
            tables.map(|table| format!("{} {}", table.family.unwrap(), table.name)).collect::<Vec<_>>()
        };
        rig.run("n1", "iptables-nft -A FORWARD -j ACCEPT; ip6tables-nft -t nat -A PREROUTING -j ACCEPT");
        assert_eq!(names(), Vec::<String>::new());
        // A chain of one's own in the table that iptables uses, which it does not print; and a table that it does not know.
        rig.run(
            "n1",
            "nft 'add chain ip filter own { type filter hook forward priority 5; policy drop; }'
             nft add table ip6 filter; nft 'add chain ip6 filter own { type filter hook forward priority 5; }'
             nft 'add rule ip6 filter own meta mark 5 counter accept'",
        );
        assert_eq!(names(), ["ip filter", "ip6 filter"]);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_dormant_table_is_said_to_be_dormant_whatever_nft_prints() {
        let rig = Rig::two_nodes_vxlan();
        rig.run(
            "n1",
            "nft 'add table inet asleep { flags dormant; chain c { type filter hook forward priority 0; policy drop; }; }'
             iptables-nft -A FORWARD -j DROP",
        );
        let node = Namespace::open(format!("/run/netns/{}", rig.ns("n1"))).unwrap();
        let text = tables(&node, &saved(&node));
        let ruleset = Ruleset::parse_nft(text.read().unwrap());
        let [table] = ruleset.tables.as_slice() else { panic!("{text:?}") };
        assert_eq!(table.name, "asleep");
        assert!(table.chains.iter().all(|chain| chain.hook.is_none()), "{table:?}");
        rig.run("n1", "nft 'add table inet asleep'");
        let awake = tables(&node, &saved(&node));
        assert!(Ruleset::parse_nft(awake.read().unwrap()).tables[0].chains[0].hook.is_some(), "{awake:?}");
    }

    #[test]
    fn a_program_has_its_time_and_is_ended_after() {
        for lines in ["sleep 20", "exec >&- 2>&-; sleep 20"] {
            let late = within(spawn(&["sh", "-c", lines]).unwrap(), Duration::from_millis(100), whole);
            assert!(matches!(late, Err(Failure::Late)), "{lines}");
        }
        assert_eq!(within(spawn(&["printf", "a b"]).unwrap(), LIMIT, whole).unwrap(), "a b");
        let failed = within(spawn(&["ls", "/nowhere/at/all"]).unwrap(), LIMIT, whole).unwrap_err();
        assert!(failed.about("ls").contains("No such file"), "{failed:?}");
        let missing = Namespace::here().map(|here| print(&["no-such-program-anywhere"], &here));
        // Entering even one's own namespace needs rights; without them the refusal is what comes back.
        assert!(matches!(missing, Ok(Err(Failure::Missing | Failure::Said(_)))));
    }
}
