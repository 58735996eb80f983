//! What the kernel itself said about packets of the traced pair that it gave up: the reason, the function, where and how
//! often (tracepoint `skb:kfree_skb`). Written by a node's agent as the text `kernel`, one JSON document a line, and
//! read here. Lines that cannot be read are kept as such; nothing here judges, and an event is not yet a loss: the
//! kernel also gives up copies, duplicates and what a closing socket had not read.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The name of the text that holds it.
pub const KERNEL: &str = "kernel";

/// An agent keeps no more kinds of events.
const MOST: usize = 4096;

/// All that one node's kernel said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelWord {
    /// How listening went.
    pub heard: Heard,
    /// Equal events, each with their number.
    pub given_up: Vec<GivenUp>,
    /// Lines that could not be read.
    pub broken: Vec<String>,
}

/// How listening went.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Heard {
    /// Nanoseconds since 1970 by the node's clock when listening began.
    pub from: i64,
    /// When the captures ended; what came after is [`GivenUp::late`].
    pub captured_until: i64,
    /// When listening ended.
    pub until: i64,
    /// Events that found no room in the kernel's ring.
    pub unheard: u64,
    /// Events that were heard and not kept, for there were too many kinds of them.
    pub left_out: u64,
    /// Why functions or reasons have no names.
    pub nameless: Vec<String>,
}

/// Packets that were given up in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// As the running kernel calls it, without `SKB_DROP_REASON_`; `reason 7` when it has no name.
    pub reason: String,
    /// The kernel's function that gave them up; the address when it has no name.
    pub function: String,
    /// Its callers, the nearest first.
    pub callers: Vec<String>,
    /// In whose namespace.
    pub within: Within,
    /// The interface there that the packets belonged to.
    pub interface: Option<String>,
    /// Source address of the pair's packet.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination port.
    #[serde(default)]
    pub ports: Option<(u16, u16)>,
    /// What an ICMP packet was.
    #[serde(default)]
    pub icmp: Option<Icmp>,
    /// The tunnel's packet around it.
    #[serde(default)]
    pub outer: Option<Outer>,
    /// Whether they were fragments.
    #[serde(default)]
    pub fragment: bool,
    /// Shortest and longest, bytes from the IP header on.
    pub length: (u32, u32),
    /// The least TTL; a hop that forwards has already taken one off.
    pub ttl: u8,
    /// How many times.
    pub events: u64,
    /// How many packets: a large frame counts as the segments that it would have been cut into.
    pub packets: u64,
    /// Nanoseconds since 1970 by the node's clock.
    pub first: i64,
    /// Likewise.
    pub last: i64,
    /// After the captures had ended.
    #[serde(default)]
    pub late: bool,
}

/// Whose namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Within {
    /// The node's own.
    Node,
    /// That of the pod traced on that node, `pod:` before its texts.
    Pod,
    /// That of the second of two, `pod2:`.
    SecondPod,
}

/// What an ICMP packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// An echo's identifier.
    pub id: u16,
    /// Least and greatest number of an echo.
    pub numbers: (u16, u16),
}

/// A tunnel's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Outer {
    /// From this node
    pub source: IpAddr,
    /// to that.
    pub destination: IpAddr,
    /// VXLAN network identifier.
    pub vni: u32,
}

/// A place in the kernel where rules are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// For the host itself.
    Input,
    /// Through the host.
    Forward,
    /// From the host itself.
    Output,
    /// After routing.
    Postrouting,
    /// At a device, inbound.
    Ingress,
    /// At a device, outbound.
    Egress,
    /// In a bridge.
    Bridge,
}

impl Hook {
    /// As iptables and nft call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Bridge => "the bridge",
        }
    }
}

impl GivenUp {
    /// The hook from which the function was called: the nearest caller that is the stack's own.
    pub fn hook(&self) -> Option<Hook> {
        std::iter::once(&self.function).chain(&self.callers).find_map(|name| hook_of(name))
    }

    /// Whether the function, or one of its callers, begins with this.
    pub fn passes(&self, function: &str) -> bool {
        std::iter::once(&self.function).chain(&self.callers).any(|name| name.starts_with(function))
    }
}

/// The functions that call netfilter's hooks (`NF_HOOK` in `net/ipv4`, `net/ipv6`, `net/core/dev.c`).
fn hook_of(function: &str) -> Option<Hook> {
    let name = function.split('.').next().unwrap_or(function);
    Some(match name {
        "ip_rcv" | "ip_list_rcv" | "ip_sublist_rcv" | "ipv6_rcv" | "ipv6_list_rcv" | "ip6_sublist_rcv" => {
            Hook::Prerouting
        }
        "ip_local_deliver" | "ip6_input" => Hook::Input,
        "ip_forward" | "ip6_forward" => Hook::Forward,
        "__ip_local_out" | "__ip6_local_out" | "ip_local_out" | "ip6_xmit" | "raw_sendmsg"
        | "rawv6_sendmsg" => Hook::Output,
        "ip_output" | "ip6_output" | "ip_mc_output" => Hook::Postrouting,
        "__netif_receive_skb_core" => Hook::Ingress,
        "__dev_queue_xmit" => Hook::Egress,
        _ if name.starts_with("br_") || name.starts_with("__br_") => Hook::Bridge,
        _ => return None,
    })
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Heard(Heard),
    GivenUp(GivenUp),
}

impl KernelWord {
    /// Reads the text; of more kinds of events than an agent keeps, the others are only counted.
    pub fn parse(text: &str) -> Self {
        let (mut word, mut left_out) = (Self::default(), 0_u64);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match serde_json::from_str(line) {
                Ok(Line::Heard(heard)) => word.heard = heard,
                Ok(Line::GivenUp(given_up)) if word.given_up.len() < MOST => word.given_up.push(given_up),
                Ok(Line::GivenUp(given_up)) => left_out = left_out.saturating_add(given_up.events),
                Err(_) => word.broken.push(line.to_owned()),
            }
        }
        word.heard.left_out = word.heard.left_out.saturating_add(left_out);
        word
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// Never in practice: these types hold nothing that JSON cannot say.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string(&Line::Heard(self.heard.clone()))?;
        text.push('\n');
        for given_up in &self.given_up {
            text.push_str(&serde_json::to_string(&Line::GivenUp(given_up.clone()))?);
            text.push('\n');
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn given_up(function: &str, callers: &[&str]) -> GivenUp {
        GivenUp {
            reason: "NETFILTER_DROP".to_owned(),
            function: function.to_owned(),
            callers: callers.iter().map(|name| (*name).to_owned()).collect(),
            within: Within::Node,
            interface: Some("cali1".to_owned()),
            source: "10.244.1.2".parse().unwrap(),
            destination: "10.244.2.2".parse().unwrap(),
            protocol: 1,
            ports: None,
            icmp: Some(Icmp { kind: 8, id: 7, numbers: (1, 5) }),
            outer: None,
            fragment: false,
            length: (84, 84),
            ttl: 63,
            events: 5,
            packets: 5,
            first: 1,
            last: 2,
            late: false,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let word = KernelWord {
            heard: Heard { from: 1, until: 9, unheard: 3, ..Heard::default() },
            given_up: vec![given_up("nft_do_chain", &["nft_do_chain_ipv4", "nf_hook_slow", "ip_forward"])],
            broken: vec![],
        };
        assert_eq!(KernelWord::parse(&word.to_text().unwrap()), word);
    }

    #[test]
    fn broken_lines_are_kept_and_the_others_read() {
        let word = KernelWord { given_up: vec![given_up("ip_error", &[])], ..KernelWord::default() };
        let text = format!("{}\n{{\"given_up\": 5}}\nnonsense\n", word.to_text().unwrap());
        let read = KernelWord::parse(&text);
        assert_eq!((read.given_up.len(), read.broken.len()), (1, 2));
    }

    #[test]
    fn of_too_many_kinds_the_number_is_kept() {
        let word = KernelWord {
            heard: Heard { left_out: 2, ..Heard::default() },
            given_up: vec![given_up("ip_error", &[]); MOST + 3],
            broken: vec![],
        };
        let read = KernelWord::parse(&word.to_text().unwrap());
        // Three times five, and those that were left out before.
        assert_eq!((read.given_up.len(), read.heard.left_out), (MOST, 17));
    }

    #[test]
    fn the_nearest_function_of_the_stack_is_the_hook() {
        let rule = given_up("nft_do_chain", &["nft_do_chain_ipv4", "nf_hook_slow", "ip_forward", "ip_rcv"]);
        assert_eq!(rule.hook(), Some(Hook::Forward));
        let out = given_up("nf_hook_slow", &["__ip_local_out", "ip_local_out", "iptunnel_xmit"]);
        assert_eq!(out.hook(), Some(Hook::Output));
        assert_eq!(given_up("vxlan_rcv", &["udp_queue_rcv_one_skb"]).hook(), None);
    }

    proptest! {
        #[test]
        fn any_text_is_borne(text in "\\PC{0,200}", lines in prop::collection::vec("[{}\":a-z0-9_,\\[\\] ]{0,60}", 0..6)) {
            let all = format!("{text}\n{}", lines.join("\n"));
            let read = KernelWord::parse(&all);
            let kept = all.lines().filter(|line| !line.trim().is_empty()).count();
            prop_assert!(read.given_up.len() + read.broken.len() <= kept);
        }

        #[test]
        fn a_cut_text_loses_at_most_its_last_line(at in 0usize..2000) {
            let word = KernelWord {
                given_up: vec![given_up("ip_error", &["ip_rcv"]); 3],
                ..KernelWord::default()
            };
            let text = word.to_text().unwrap();
            let cut = text.get(..at.min(text.len())).unwrap_or("");
            let read = KernelWord::parse(cut);
            prop_assert!(read.broken.len() <= 1);
            prop_assert!(read.given_up.iter().all(|one| one == &word.given_up[0]));
        }
    }
}
