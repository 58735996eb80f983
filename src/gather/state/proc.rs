//! Sysctls, protocol counters, connection tracking, softnet and sockets, from `/proc` of the calling thread's namespace.
//! Takes the kernel's tables of names and values as they are (`net/ipv4/proc.c`); gives them as counters by name.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::evidence::host::{Host, Listener, counters};

/// Sysctls of the whole namespace that decide about forwarding.
const SYSCTLS: [&str; 9] = [
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.ip_default_ttl",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_checksum",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.core.rmem_max",
    "net.core.netdev_max_backlog",
];
/// Sysctls of each link, and of `all` and `default`.
const OF_LINKS: [(&str, &str); 6] = [
    ("ipv4", "forwarding"),
    ("ipv4", "rp_filter"),
    ("ipv4", "proxy_arp"),
    ("ipv4", "accept_local"),
    ("ipv6", "forwarding"),
    ("ipv6", "proxy_ndp"),
];

/// Adds what `/proc` says to what is known.
pub(super) fn read(host: &mut Host, inside_pod: bool) {
    sysctls(host);
    for (name, parse) in [
        ("netstat", counters::named as fn(&str) -> Vec<(String, u64)>),
        ("snmp", counters::named),
        ("snmp6", counters::plain),
    ] {
        match fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
            Ok(text) => host.counters.extend(parse(&text)),
            // A kernel without IPv6 has no snmp6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => host.unread.push(format!("/proc/net/{name}: {error}")),
        }
    }
    match fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack") {
        Ok(text) => host.counters.extend(counters::conntrack(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => host.unread.push(format!("/proc/net/stat/nf_conntrack: {error}")),
    }
    if inside_pod {
        for (name, protocol) in [("tcp", 6), ("tcp6", 6), ("udp", 17), ("udp6", 17)] {
            match fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
                Ok(text) => host.listening.extend(sockets(&text, protocol)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => host.unread.push(format!("/proc/net/{name}: {error}")),
            }
        }
    } else if let Ok(text) = fs::read_to_string("/proc/net/softnet_stat") {
        // One for all namespaces of the machine.
        host.counters.insert("softnet:dropped".to_owned(), softnet(&text));
    }
}

fn sysctls(host: &mut Host) {
    let mut names: Vec<(String, String)> = SYSCTLS
        .iter()
        .map(|name| ((*name).to_owned(), format!("/proc/sys/{}", name.replace('.', "/"))))
        .collect();
    let links = host.links.iter().map(|link| link.name.as_str()).chain(["all", "default"]);
    for link in links {
        for (family, name) in OF_LINKS {
            names.push((
                format!("net.{family}.conf.{link}.{name}"),
                format!("/proc/sys/net/{family}/conf/{link}/{name}"),
            ));
        }
    }
    for (name, path) in names {
        // Those of modules that are not loaded do not exist.
        if let Ok(value) = fs::read_to_string(path) {
            host.sysctls.insert(name, value.trim().to_owned());
        }
    }
}

/// The second column of each CPU's line counts packets that the backlog had no room for.
fn softnet(text: &str) -> u64 {
    let dropped = text.lines().filter_map(|line| line.split_whitespace().nth(1));
    dropped.map(|value| u64::from_str_radix(value, 16).unwrap_or(0)).sum()
}

/// Listening TCP sockets and bound UDP sockets.
fn sockets(text: &str, protocol: u8) -> Vec<Listener> {
    let listening = text.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words.get(1)?.split_once(':')?;
        let state = *words.get(3)?;
        // TCP_LISTEN is 10; a UDP socket that is not connected stands in TCP_CLOSE, 7.
        if !(protocol == 6 && state == "0A" || protocol == 17 && state == "07") {
            return None;
        }
        let drops = match protocol {
            6 => u64::from_str_radix(words.get(4)?.split_once(':')?.1, 16).ok()?,
            _ => words.get(12).and_then(|drops| drops.parse().ok()).unwrap_or(0),
        };
        Some(Listener {
            protocol,
            address: address_of(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            drops,
        })
    });
    listening.collect()
}

/// Addresses stand there as 32-bit words in the machine's own byte order.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::from(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for part in 0..4 {
                bytes[part * 4..part * 4 + 4].copy_from_slice(&word(part * 8)?);
            }
            Some(IpAddr::from(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backlogs_drops_are_added_up() {
        assert_eq!(softnet("0001 0000000f 0\n0001 00000001 0\n"), 16);
    }

    #[test]
    fn sockets_that_listen_are_kept() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                   0: 0100007F:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1\n\
                   1: 0100007F:1F91 0100007F:0001 01 00000000:00000000 00:00000000 00000000     0        0 1\n\
                   2: half a line\n";
        let found = sockets(tcp, 6);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].port, found[0].drops), (8080, 2));
        assert_eq!(found[0].address, "127.0.0.1".parse::<IpAddr>().unwrap());
        let udp = "head\n  1: 00000000:1388 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 9\n";
        assert_eq!(sockets(udp, 17)[0].drops, 9);
        assert_eq!(sockets(udp, 17)[0].port, 5000);
    }
}
