//! The state of a network namespace's kernel, as [`Host`]: over rtnetlink and from `/proc`, from inside. Reads only, needs
//! no program on the node, and keeps going when a part cannot be had: that part is named with the reason.

mod netlink;
mod proc;

use crate::evidence::host::Host;
use crate::gather::netns::{Namespace, NetnsError};

/// Reads everything in a namespace; inside a pod its listening sockets too.
pub(crate) fn read(namespace: &Namespace, inside_pod: bool) -> Result<Host, NetnsError> {
    namespace.run(|| {
        let mut host = Host::default();
        netlink::read(&mut host);
        proc::read(&mut host, inside_pod);
        host
    })
}

#[cfg(test)]
mod tests;
