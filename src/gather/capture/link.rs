//! Whether one interface is up, many times: asks the kernel for it alone, where `getifaddrs` would list all interfaces of a
//! node and their addresses.

use std::io;

use rtnetlink::sys::{Socket, protocols::NETLINK_ROUTE};

use crate::gather::netlink::{self, Wanted, attribute};

/// An interface of the namespace that the thread was in when this was made.
pub(super) struct Watched {
    socket: Socket,
    question: Vec<u8>,
}

impl Watched {
    pub(super) fn new(interface: &str) -> io::Result<Self> {
        let name = attribute(IFLA_IFNAME, &[interface.as_bytes(), b"\0"].concat());
        Ok(Self {
            socket: netlink::socket(NETLINK_ROUTE)?,
            question: [&[0; IFINFOMSG], name.as_slice()].concat(),
        })
    }

    /// None if there is no such interface.
    pub(super) fn is_up(&self) -> Option<bool> {
        let said = netlink::ask(&self.socket, RTM_GETLINK, &self.question, Wanted::One).ok()?;
        let flags = said.first()?.get(FLAGS..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*flags) & IFF_UP != 0)
    }
}

// Of include/uapi/linux/rtnetlink.h and if.h.
const RTM_GETLINK: u16 = 18;
const IFINFOMSG: usize = 16;
/// Where the flags stand in it.
const FLAGS: usize = 8;
const IFLA_IFNAME: u16 = 3;
const IFF_UP: u32 = 1;
