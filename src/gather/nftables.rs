//! nftables' tables by name, from the kernel itself: `nft list tables` (seen with 1.0.6) reads all rules of all tables
//! for that, those of iptables-nft too, which are many thousands on a node. Gives family, name and whether a table is
//! dormant; what is in them is the tool's to print.

use std::io;

use nix::errno::Errno;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::netlink::{self, Wanted, inside};

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableName {
    /// As nft calls it: `ip`, `ip6`, `inet`, `arp`, `bridge` or `netdev`.
    pub(super) family: &'static str,
    pub(super) name: String,
    /// No packet passes it.
    pub(super) dormant: bool,
}

/// All tables of the calling thread's namespace. A kernel without nftables has none.
pub(super) fn tables() -> io::Result<Vec<TableName>> {
    let nothing = [Errno::EPROTONOSUPPORT, Errno::EINVAL].map(|number| Some(number as i32));
    let socket = match netlink::socket(NETLINK_NETFILTER) {
        Err(error) if nothing.contains(&error.raw_os_error()) => return Ok(Vec::new()),
        made => made?,
    };
    let mut tries = 0;
    loop {
        match netlink::ask(&socket, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, &[0; 4], Wanted::All) {
            Ok(said) => return Ok(said.iter().filter_map(|message| table(message)).collect()),
            Err(error) if nothing.contains(&error.raw_os_error()) => return Ok(Vec::new()),
            // Tables were made or removed meanwhile. What is left of that answer must not be taken for the next one.
            Err(error) if error.kind() == io::ErrorKind::Interrupted && tries < TRIES => {
                tries += 1;
                while socket.recv_from_full().is_ok() {}
            }
            Err(error) => return Err(error),
        }
    }
}

fn table(message: &[u8]) -> Option<TableName> {
    let (header, attributes) = message.split_first_chunk::<4>()?;
    let family = match header[0] {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => return None,
    };
    let of = |wanted: u16| inside(attributes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let name = String::from_utf8_lossy(of(NFTA_TABLE_NAME)?).trim_end_matches('\0').to_owned();
    let flags = of(NFTA_TABLE_FLAGS).and_then(|flags| flags.try_into().ok()).map_or(0, u32::from_be_bytes);
    Some(TableName { family, name, dormant: flags & NFT_TABLE_F_DORMANT != 0 })
}

/// How often is asked again.
const TRIES: u32 = 5;

// Of include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETTABLE: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFT_TABLE_F_DORMANT: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::netns::Namespace;
    use crate::gather::rig::Rig;

    #[test]
    #[ignore = "needs root"]
    fn the_kernel_names_the_tables_that_nft_lists() {
        let rig = Rig::two_nodes_vxlan();
        let here = Namespace::open(format!("/run/netns/{}", rig.ns("n1"))).unwrap();
        assert_eq!(here.run(tables).unwrap().unwrap(), []);
        rig.run(
            "n1",
            "iptables-nft -A FORWARD -j ACCEPT
             for family in ip ip6 inet arp bridge netdev; do nft add table $family mine-$family; done
             nft 'add table inet asleep { flags dormant; }'",
        );
        let named = here.run(tables).unwrap().unwrap();
        let asleep: Vec<_> =
            named.iter().filter(|table| table.dormant).map(|table| table.name.as_str()).collect();
        assert_eq!(asleep, ["asleep"]);
        let listed = rig.run("n1", "nft list tables | sort").stdout;
        let lines = named.iter().map(|table| format!("table {} {}", table.family, table.name));
        let mut lines: Vec<String> = lines.collect();
        lines.sort_unstable();
        assert_eq!(lines, String::from_utf8(listed).unwrap().lines().collect::<Vec<_>>());
    }
}
