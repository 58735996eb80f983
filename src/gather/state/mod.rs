//! The state of a network namespace's kernel, as [`Host`]: over rtnetlink and from `/proc`, from inside. Reads only, needs
//! no program on the node, and keeps going when a part cannot be had: that part is named with the reason.

mod netlink;
mod offload;
mod proc;
mod routes;

use std::net::IpAddr;

use crate::evidence::host::Host;
use crate::gather::netns::{Namespace, NetnsError};

/// What is read beside the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A pod: its listening sockets too.
    Pod,
    /// A node: what the kernel says of the way of packets between these pairs of ends as well.
    Node(Vec<(IpAddr, IpAddr)>),
}

/// Reads everything in a namespace.
pub(crate) fn read(namespace: &Namespace, place: &Place) -> Result<Host, NetnsError> {
    namespace.run(|| {
        let mut host = Host::default();
        let ends: &[_] = if let Place::Node(ends) = place { ends } else { &[] };
        netlink::read(&mut host, ends);
        offload::read(&mut host);
        proc::read(&mut host, *place == Place::Pod);
        host
    })
}

#[cfg(test)]
mod tests;
