//! Where the kernel enters a chain, and in which order it comes to the chains of one place.

/// Where a base chain hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The place.
    pub point: HookPoint,
    /// Lower comes first (`NF_IP_PRI_*` of `include/uapi/linux/netfilter_ipv4.h`).
    pub priority: i32,
    /// Only asked about the first packet of a connection.
    pub nat: bool,
    /// Of ingress and egress chains: the devices that they hang at.
    pub devices: Vec<String>,
}

/// A place on a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookPoint {
    /// From a device, before anything else.
    Ingress,
    /// Came in, not routed yet.
    Prerouting,
    /// For the host itself.
    Input,
    /// Passes through.
    Forward,
    /// From the host itself.
    Output,
    /// About to leave.
    Postrouting,
    /// To a device, after everything else.
    Egress,
}

/// A packet's way through a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Course {
    /// From one interface to another.
    Forwarded,
    /// From an interface to the host itself.
    Received,
    /// From the host itself to an interface.
    Sent,
}

impl Course {
    /// The places in the order in which the packet comes to them.
    pub fn points(self) -> &'static [HookPoint] {
        match self {
            Self::Forwarded => &[
                HookPoint::Ingress,
                HookPoint::Prerouting,
                HookPoint::Forward,
                HookPoint::Postrouting,
                HookPoint::Egress,
            ],
            Self::Received => &[HookPoint::Ingress, HookPoint::Prerouting, HookPoint::Input],
            Self::Sent => &[HookPoint::Output, HookPoint::Postrouting, HookPoint::Egress],
        }
    }
}

impl HookPoint {
    /// As nft writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Egress => "egress",
        }
    }

    /// From nft's word.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        ALL.into_iter().find(|point| point.word() == word)
    }
}

const ALL: [HookPoint; 7] = [
    HookPoint::Ingress,
    HookPoint::Prerouting,
    HookPoint::Input,
    HookPoint::Forward,
    HookPoint::Output,
    HookPoint::Postrouting,
    HookPoint::Egress,
];

/// Connection tracking looks at a packet here (`NF_IP_PRI_CONNTRACK`).
pub(super) const CONNTRACK: i32 = -200;

impl Hook {
    /// The hook of a built-in chain of iptables.
    pub(super) fn of_iptables(table: &str, chain: &str) -> Option<Self> {
        let point = match chain {
            "PREROUTING" => HookPoint::Prerouting,
            "INPUT" => HookPoint::Input,
            "FORWARD" => HookPoint::Forward,
            "OUTPUT" => HookPoint::Output,
            "POSTROUTING" => HookPoint::Postrouting,
            _ => return None,
        };
        let priority = match table {
            "raw" => -300,
            "mangle" => -150,
            "nat" => dispatcher(point),
            "filter" => 0,
            "security" => 50,
            _ => return None,
        };
        Some(Self { point, priority, nat: table == "nat", devices: Vec::new() })
    }

    /// What chains of one place are sorted by. All chains of type nat are asked by one entry of the kernel's
    /// (`nf_nat_inet_fn`), which hangs at a fixed place: their own priority only tells them apart.
    pub(super) fn order(&self) -> (i32, i32) {
        if self.nat { (dispatcher(self.point), self.priority) } else { (self.priority, 0) }
    }

    /// Whether connection tracking has looked at the packet before this chain.
    pub(super) fn tracked(&self) -> bool {
        match self.point {
            HookPoint::Ingress => false,
            HookPoint::Prerouting | HookPoint::Output => self.order().0 > CONNTRACK,
            _ => true,
        }
    }
}

/// `NF_IP_PRI_NAT_DST` and `NF_IP_PRI_NAT_SRC`.
fn dispatcher(point: HookPoint) -> i32 {
    match point {
        HookPoint::Input | HookPoint::Postrouting => 100,
        _ => -100,
    }
}
