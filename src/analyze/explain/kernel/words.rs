//! The kernel's events in words: what was given up, why that is a loss, and what to do about it. Takes events and the kinds of
//! causes that they were found to mean; decides nothing.

use super::is_unanswered;
use crate::evidence::kernel::{GivenUp, Hook, Within};

/// An event, for a person.
pub(super) fn words(event: &GivenUp) -> String {
    let families = [("nft_do_chain_inet", "inet"), ("nft_do_chain_netdev", "netdev")];
    let family = families.iter().find(|(function, _)| event.passes(function));
    let family = family.map(|(_, name)| format!(", an nftables table of family {name}")).unwrap_or_default();
    let hook = event.hook().filter(|_| event.reason == "NETFILTER_DROP");
    let hook = hook.map(|hook| format!(" at {}{family}", hook.word())).unwrap_or_default();
    let interface = event.interface.as_ref().map(|name| format!(" on {name}")).unwrap_or_default();
    let inside = if event.within == Within::Node { "" } else { " in the pod" };
    let tunnel = event.outer.map(|outer| format!(", in VXLAN {} to {}", outer.vni, outer.destination));
    let tunnel = tunnel.unwrap_or_default();
    let (shortest, longest) = event.length;
    let length = if shortest == longest { shortest.to_string() } else { format!("{shortest} to {longest}") };
    format!(
        "{} in {}{hook}{interface}{inside}: {} times, {length} bytes, TTL {}{tunnel}",
        event.reason, event.function, event.events, event.ttl
    )
}

/// Why packets were given up, after "the kernel gave up 3 packets: ".
pub(super) fn reason_in_words(kind: &str, event: &GivenUp) -> &'static str {
    match kind {
        "early_hook" => {
            "a program or rule at the device itself dropped them (XDP, or an nftables netdev hook)"
        }
        "reverse_path" => "the route back to their source leads elsewhere (rp_filter)",
        "no_route" if is_unanswered(event) => {
            "they were routed to the node's own interface, where nobody answers for the next hop"
        }
        "no_route" => "there is no route for them",
        "blackhole_route" => "the route for them is a blackhole or otherwise forbids them",
        "ip_forward_off" => "forwarding is off where they came in",
        "checksum" => "their checksum is wrong",
        "proxy_arp_off" => "nobody answered the pod's question for its gateway's MAC address",
        "neighbour_missing" => "nobody answered for the next hop's MAC address",
        "underlay_blocked" => "the other node did not answer for its MAC address",
        "fdb_wrong" => "the tunnel sends them to an address that is no node's, and nobody answers there",
        "fdb_missing" => "the tunnel knows no node for the next hop's MAC address (FDB)",
        "tunnel_mismatch" if event.reason == "LOCAL_MAC" => {
            "they bear this tunnel device's own MAC address as their source: both nodes have the same"
        }
        "tunnel_mismatch" => "no tunnel device here has their VXLAN network identifier",
        "tunnel_down" => "no tunnel device listens for them: it is down, missing, or on another port",
        "conntrack_full" | "conntrack_invalid" if event.function.starts_with("nf_hook_slow") => {
            "no rule but connection tracking itself refused them, as it does when its table is full"
        }
        "no_listener" => "no socket in the pod listens for them",
        "neighbour_wrong" => "their destination MAC address is not this interface's",
        "queue_overflow" => "the queue was full",
        "tc_filter" => "a tc filter or program dropped them",
        "socket_overflow" => "the receiving socket's buffer was full",
        "fragment_loss" => "fragments of them never came",
        "mtu" => "they are larger than the MTU",
        "ttl_expired" => "their TTL ran out",
        "pod_firewall" => "a rule inside the pod dropped them",
        // Where there may be rules of the older backend: its drops look like those of connection tracking.
        _ if event.function.starts_with("nf_hook_slow") && event.hook() == Some(Hook::Prerouting) => {
            "a rule at PREROUTING or connection tracking itself dropped them"
        }
        _ if event.function.starts_with("nf_hook_slow") && event.hook() == Some(Hook::Output) => {
            "a rule at OUTPUT or connection tracking itself dropped them"
        }
        _ => match event.hook() {
            Some(Hook::Prerouting) => "a rule at PREROUTING dropped them",
            Some(Hook::Input) => "a rule at INPUT dropped them",
            Some(Hook::Forward) => "a rule at FORWARD dropped them",
            Some(Hook::Output) => "a rule at OUTPUT dropped them",
            Some(Hook::Postrouting) => "a rule at POSTROUTING dropped them",
            _ => "a rule dropped them",
        },
    }
}

/// What to do about it.
pub(super) fn remedy(kind: &str, node: &str, event: Option<&GivenUp>) -> String {
    let address = event.map(|one| one.destination.to_string()).unwrap_or_default();
    let source = event.map(|one| one.source.to_string()).unwrap_or_default();
    let interface = event.and_then(|one| one.interface.clone()).unwrap_or_else(|| "the interface".to_owned());
    match kind {
        "early_hook" => {
            format!("on {node}: `ip -d link show {interface}` (xdp) and `nft list ruleset netdev`")
        }
        "reverse_path" => format!(
            "on {node}: `ip route get {source}` must lead to {interface}, or set net.ipv4.conf.{interface}.rp_filter to 2"
        ),
        "no_route" | "blackhole_route" => {
            format!("on {node}: `ip route get {address}` and `ip route show table all`")
        }
        "ip_forward_off" => {
            format!("on {node}: `sysctl net.ipv4.ip_forward net.ipv4.conf.{interface}.forwarding`")
        }
        "checksum" => "recompute it in the saved capture; look at checksum offload: `ethtool -k`".to_owned(),
        "proxy_arp_off" => {
            format!("on {node}: `sysctl net.ipv4.conf` of the pod's cali interface: proxy_arp must be 1")
        }
        "neighbour_missing" => format!("on {node}: `ip neigh show dev {interface}`"),
        "underlay_blocked" => {
            format!("on {node}: `ip neigh show`; look whether the other node is up and reachable")
        }
        "fdb_wrong" | "fdb_missing" => {
            format!("on {node}: `bridge fdb show dev vxlan.calico` and `ip neigh show dev vxlan.calico`")
        }
        "tunnel_mismatch" => {
            format!("compare `ip -d link show vxlan.calico` on {node} with the other node's")
        }
        "tunnel_down" => format!("on {node}: `ip -d link show vxlan.calico` and `ss -lun`"),
        "no_listener" => {
            "look whether the program in the pod listens on that port: `ss -lntu` in the pod".to_owned()
        }
        "neighbour_wrong" => {
            format!("compare `ip neigh` on the sending side with `ip link show {interface}` on {node}")
        }
        "queue_overflow" => format!("on {node}: `tc -s qdisc show dev {interface}`"),
        "tc_filter" => format!("on {node}: `tc filter show dev {interface} ingress` and `egress`"),
        "socket_overflow" => "the program in the pod reads too slowly: `ss -um` in the pod".to_owned(),
        "fragment_loss" => format!("find out who drops fragments: MTU and firewalls on the way to {node}"),
        "mtu" => format!("on {node}: `ip link show {interface}`; compare the MTUs along the path"),
        "ttl_expired" => format!("look for a routing loop: `ip route get {address}` on both nodes"),
        "pod_firewall" => {
            "look at the rules inside the pod's namespace: `iptables-save -c`, `nft list ruleset`".to_owned()
        }
        _ => format!("on {node}: `nft list ruleset` and `iptables-save -c`, twice: whose counter moves?"),
    }
}
