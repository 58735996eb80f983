//! Which checksums a device leaves to others, over ethtool's netlink. Takes the namespace's links; adds the names of the
//! transmit checksum features that are active, to tunnels and cards. That one is active is normal, and judged elsewhere.

use std::io;

use rtnetlink::sys::{Socket, protocols::NETLINK_GENERIC};

use crate::evidence::host::Host;
use crate::gather::netlink::{self, NLA_F_NESTED, Wanted, attribute, inside};

/// Adds what can be read; that ethtool's netlink is not there (before Linux 5.6) is noted.
pub(super) fn read(host: &mut Host) {
    if let Err(why) = features(host) {
        host.unread.push(format!("checksum offload over ethtool's netlink: {why}"));
    }
}

fn features(host: &mut Host) -> io::Result<()> {
    let socket = netlink::socket(NETLINK_GENERIC)?;
    let name = attribute(CTRL_ATTR_FAMILY_NAME, b"ethtool\0");
    let said = ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name)?;
    let family = inside(&said).find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID);
    let family = family.and_then(|(_, id)| Some(u16::from_ne_bytes(id.try_into().ok()?)));
    let family = family.ok_or_else(|| io::Error::other("the kernel does not say its number"))?;
    for link in &mut host.links {
        if link.vxlan.is_none() && (link.kind.is_some() || link.name == "lo") {
            continue;
        }
        let name = attribute(ETHTOOL_A_HEADER_DEV_NAME, &[link.name.as_bytes(), b"\0"].concat());
        let header = attribute(ETHTOOL_A_FEATURES_HEADER | NLA_F_NESTED, &name);
        let said = ask(&socket, family, ETHTOOL_MSG_FEATURES_GET, &header)?;
        link.checksums = active(&said)
            .map(|names| names.into_iter().filter(|name| name.starts_with("tx-checksum")).collect());
    }
    Ok(())
}

/// The names of the features that are active. A list without a mask names those that are set.
fn active(said: &[u8]) -> Option<Vec<String>> {
    let (_, set) = inside(said).find(|(kind, _)| *kind == ETHTOOL_A_FEATURES_ACTIVE)?;
    let (_, bits) = inside(set).find(|(kind, _)| *kind == ETHTOOL_A_BITSET_BITS)?;
    let name = |bit| inside(bit).find(|(kind, _)| *kind == ETHTOOL_A_BITSET_BIT_NAME);
    let names = inside(bits).filter_map(|(_, bit)| name(bit));
    Some(names.map(|(_, name)| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()).collect())
}

/// One question and the attributes of its answer.
fn ask(socket: &Socket, family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let said = netlink::ask(socket, family, &[&[command, 1, 0, 0], attributes].concat(), Wanted::One)?;
    let said = said.first().and_then(|message| message.get(4..));
    said.map(<[u8]>::to_vec).ok_or_else(|| io::Error::other("the kernel says nothing"))
}

// Of include/uapi/linux/genetlink.h and ethtool_netlink.h.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_features_come_by_name() {
        let bit = |name: &str| {
            let name = attribute(ETHTOOL_A_BITSET_BIT_NAME, &[name.as_bytes(), b"\0"].concat());
            attribute(1 | NLA_F_NESTED, &[attribute(1, &[7, 0, 0, 0]), name].concat())
        };
        let bits = attribute(ETHTOOL_A_BITSET_BITS, &[bit("tx-checksum-ip-generic"), bit("rx-gro")].concat());
        let said = attribute(ETHTOOL_A_FEATURES_ACTIVE | NLA_F_NESTED, &bits);
        assert_eq!(active(&said).unwrap(), ["tx-checksum-ip-generic", "rx-gro"]);
        for cut in 0..said.len() {
            let _whatever = active(&said[..cut]);
        }
        assert_eq!(active(&[]), None);
    }
}
