//! What a capture's file name tells: the interface, the node, and which part of a rotated capture it is. Takes a path,
//! gives words; nothing is opened, and a name that tells nothing is none.

use std::path::Path;

use crate::evidence::Role;

/// What was read of a file's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Told {
    /// The node, as far as it stands there.
    pub(super) node: Option<String>,
    /// The interface, in its own spelling.
    pub(super) interface: Option<String>,
    /// The name without what rotation appends: equal for all files of one capture.
    pub(super) series: String,
    /// The number that `tcpdump -C` appends; the first file has none.
    pub(super) number: Option<u64>,
    /// The name without endings.
    pub(super) stem: String,
}

impl Told {
    /// Reads a path's last part; a folder that names a node counts when the file does not.
    pub(super) fn by(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let plain = [".gz", ".zst", ".zstd"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        let (whole, number) = without_ending(plain);
        let stem = without_stamps(whole);
        let (rest, interface) = interface_in(stem);
        let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let node =
            node_in(&rest).or_else(|| folder.as_deref().filter(|_| interface.is_some()).and_then(node_in));
        let parent = path.parent().map(|parent| parent.display().to_string()).unwrap_or_default();
        Self { node, interface, series: format!("{parent}/{stem}"), number, stem: stem.to_owned() }
    }

    /// The node that a file of all its interfaces is named after.
    pub(super) fn node_of_all(stem: &str) -> Option<String> {
        node_in(stem)
    }
}

/// What an interface of this name usually is; None when the name is nobody's habit.
pub(super) fn usual_role(interface: &str) -> Option<Role> {
    let begins = |words: &[&str]| words.iter().any(|word| interface.starts_with(word));
    if begins(&["pod"]) {
        Some(Role::Pod)
    } else if begins(&["cali", "veth", "lxc"]) {
        Some(Role::Veth)
    } else if begins(&["vxlan", "tunl", "tunnel", "flannel", "ipip", "wireguard"]) {
        Some(Role::Tunnel)
    } else if begins(&["eth", "ens", "enp", "eno", "enx", "em", "bond", "nic", "wlan", "br", "team"]) {
        Some(Role::Nic)
    } else {
        None
    }
}

/// What an interface is taken for when its name is all that is known.
pub(super) fn role(interface: &str) -> Role {
    usual_role(interface).unwrap_or(Role::Nic)
}

/// Without `.pcap` and the like, and the number behind it.
fn without_ending(name: &str) -> (&str, Option<u64>) {
    let lower = name.to_ascii_lowercase();
    for end in [".pcapng", ".pcap", ".cap", ".dmp", ".ntar"] {
        if let Some(at) = lower.rfind(end) {
            let behind = &name[at + end.len()..];
            if behind.bytes().all(|byte| byte.is_ascii_digit()) {
                return (&name[..at], behind.parse().ok());
            }
        }
    }
    (name, None)
}

/// Without the times and long numbers that `tcpdump -G` and `dumpcap -b` write.
fn without_stamps(mut stem: &str) -> &str {
    loop {
        let cut = stem.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, 'T' | 'Z'));
        let digits = stem[cut.len()..].bytes().filter(u8::is_ascii_digit).count();
        let before = cut.trim_end_matches(SEPARATORS);
        // Two digits count behind a longer number only: a date or a time, written apart.
        let stamp = digits >= 4 && before.len() < cut.len() && !before.is_empty();
        if !stamp {
            return stem;
        }
        stem = before;
    }
}

const SEPARATORS: [char; 8] = ['-', '_', '.', ' ', '@', '+', ':', ','];

/// Finds an interface's name; gives what is left around it.
fn interface_in(stem: &str) -> (String, Option<String>) {
    let starts = stem
        .char_indices()
        .filter(|(at, _)| stem[..*at].chars().next_back().is_none_or(|before| SEPARATORS.contains(&before)));
    for (at, _) in starts {
        let Some((length, name)) = interface_at(&stem[at..]) else { continue };
        let before = stem[..at].trim_end_matches(SEPARATORS);
        let behind = stem[at + length..].trim_start_matches(SEPARATORS);
        for pod in ["pod", "pod1", "pod2"] {
            if let Some(node) =
                before.strip_suffix(pod).filter(|node| node.is_empty() || node.ends_with(SEPARATORS))
            {
                let rest = node.trim_end_matches(SEPARATORS);
                return (rest.to_owned(), Some(format!("pod:{name}")));
            }
        }
        let rest = if before.is_empty() { behind } else { before };
        return (rest.to_owned(), Some(name));
    }
    (stem.to_owned(), None)
}

/// An interface's name at the beginning of `text`, up to a separator: how long it is there, and as the kernel spells it.
fn interface_at(text: &str) -> Option<(usize, String)> {
    for (written, name) in [
        ("vxlan.calico", "vxlan.calico"),
        ("vxlan_calico", "vxlan.calico"),
        ("vxlan-calico", "vxlan.calico"),
        ("vxlan-v6.calico", "vxlan-v6.calico"),
        ("vxlan-v6_calico", "vxlan-v6.calico"),
        ("vxlan-v6-calico", "vxlan-v6.calico"),
        ("flannel.1", "flannel.1"),
        ("flannel_1", "flannel.1"),
        ("wireguard.cali", "wireguard.cali"),
    ] {
        if text.strip_prefix(written).is_some_and(|rest| rest.is_empty() || rest.starts_with(SEPARATORS)) {
            return Some((written.len(), name.to_owned()));
        }
    }
    let end = text.find(SEPARATORS).unwrap_or(text.len());
    let word = &text[..end];
    let behind = |prefix: &str| word.strip_prefix(prefix).filter(|rest| !rest.is_empty());
    let digits = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    let numbered = ["eth", "bond", "tunl", "wlan", "em", "br", "team"]
        .iter()
        .any(|prefix| behind(prefix).is_some_and(digits));
    let named = ["cali", "veth", "lxc", "ens", "enp", "eno", "enx"]
        .iter()
        .any(|prefix| behind(prefix).is_some_and(|rest| rest.bytes().any(|byte| byte.is_ascii_digit())));
    let said = matches!(word, "any" | "nic" | "veth" | "tunnel" | "vxlan" | "ipip" | "cali");
    if !numbered && !named && !said {
        return None;
    }
    // A VLAN's device: eth0.100.
    let vlan = text[end..].strip_prefix('.').map(|rest| rest.split(SEPARATORS).next().unwrap_or(""));
    if let Some(vlan) = vlan.filter(|vlan| numbered && (1..=4).contains(&vlan.len()) && digits(vlan)) {
        return Some((end + 1 + vlan.len(), format!("{word}.{vlan}")));
    }
    Some((end, word.to_owned()))
}

/// What is left of a name, if it can be a node's.
fn node_in(rest: &str) -> Option<String> {
    let rest = rest.trim_matches(SEPARATORS);
    let words = [
        "capture", "captures", "dump", "dumps", "tcpdump", "trace", "test", "out", "file", "merged", "pcap",
        "pcaps", "packets", "tmp", "log", "a", "b",
    ];
    let nothing = rest.is_empty()
        || rest.bytes().all(|byte| byte.is_ascii_digit())
        || words.contains(&rest.to_ascii_lowercase().as_str());
    (!nothing).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str) -> (Option<String>, Option<String>) {
        let told = Told::by(Path::new(path));
        (told.node, told.interface)
    }

    fn some(node: &str, interface: &str) -> (Option<String>, Option<String>) {
        (Some(node.to_owned()), Some(interface.to_owned()))
    }

    #[test]
    fn names_that_tell_node_and_interface() {
        assert_eq!(told("worker-1_cali123.pcap"), some("worker-1", "cali123"));
        assert_eq!(told("node1-eth0.pcap"), some("node1", "eth0"));
        assert_eq!(told("worker-1.vxlan.calico.pcap.gz"), some("worker-1", "vxlan.calico"));
        assert_eq!(told("worker-1-vxlan_calico.pcapng"), some("worker-1", "vxlan.calico"));
        assert_eq!(told("eth0@worker-2.pcap"), some("worker-2", "eth0"));
        assert_eq!(told("worker-2/eth0.pcap"), some("worker-2", "eth0"));
        assert_eq!(told("worker-2/tmp/ens192.pcap"), (None, Some("ens192".to_owned())));
        assert_eq!(told("k8s-node-07_bond0.100.pcap"), some("k8s-node-07", "bond0.100"));
        assert_eq!(told("node1-pod-eth0.pcap"), some("node1", "pod:eth0"));
        assert_eq!(told("worker-1-any.pcap"), some("worker-1", "any"));
        assert_eq!(told("node2-nic.pcap"), some("node2", "nic"));
    }

    #[test]
    fn names_that_tell_nothing() {
        assert_eq!(told("a.pcap"), (None, None));
        assert_eq!(told("capture.pcap"), (None, None));
        assert_eq!(told("0001.pcap"), (None, None));
        assert_eq!(told(""), (None, None));
        assert_eq!(told(".pcap"), (None, None));
        assert_eq!(told("eth0.pcap"), (None, Some("eth0".to_owned())));
        assert_eq!(told("\u{202e}é-eth0.pcap").1, Some("eth0".to_owned()));
        // A word that only begins like an interface.
        assert_eq!(told("calico.pcap").1, None);
        assert_eq!(told("ethernet.pcap").1, None);
    }

    #[test]
    fn parts_of_one_capture() {
        let series = |path: &str| {
            let told = Told::by(Path::new(path));
            (told.series, told.number)
        };
        assert_eq!(series("d/n1-eth0.pcap"), ("d/n1-eth0".to_owned(), None));
        assert_eq!(series("d/n1-eth0.pcap12"), ("d/n1-eth0".to_owned(), Some(12)));
        assert_eq!(series("d/n1-eth0.pcap03.gz"), ("d/n1-eth0".to_owned(), Some(3)));
        assert_eq!(series("n1-eth0-20260101-120000.pcap").0, "/n1-eth0");
        assert_eq!(series("n1-eth0_00002_20260101120010.pcapng").0, "/n1-eth0");
    }
}
