//! From a planned point to an interface: by name, by an address it holds, or through a pod's veth pair. Takes a
//! [`Find`] and the namespace of the calling thread, gives the interface and the namespace it is in; never guesses
//! by equal addresses, because several clusters may live on one machine.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::evidence::plan::Find;

use super::links::{self, Link};
use super::{Namespace, NetnsError};

/// An interface that was found.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    /// Its name in its namespace.
    pub(crate) interface: String,
    /// Where it is.
    pub(crate) namespace: Namespace,
    /// Whether that is a pod's namespace and not the node's.
    pub(crate) inside_pod: bool,
}

impl Located {
    /// The interface as the id of a capture point writes it.
    pub(crate) fn label(&self) -> String {
        if self.inside_pod { format!("pod:{}", self.interface) } else { self.interface.clone() }
    }
}

/// Finds an interface from the namespace of the calling thread.
pub(crate) fn locate(find: &Find) -> Result<Located, NetnsError> {
    let links = links::all()?;
    match find {
        Find::Name(name) => here(by_name(&links, name)?),
        Find::Holding(address) => here(holder(&links, *address)?),
        Find::InsidePod { veth, address } => inside_pod(by_name(&links, veth)?, *address),
    }
}

fn here(link: &Link) -> Result<Located, NetnsError> {
    Ok(Located { interface: link.name.clone(), namespace: Namespace::here()?, inside_pod: false })
}

fn by_name<'a>(links: &'a [Link], name: &str) -> Result<&'a Link, NetnsError> {
    links.iter().find(|link| link.name == name).ok_or_else(|| NetnsError::NoInterface {
        name: name.to_owned(),
        there: links.iter().map(|link| link.name.clone()).collect(),
    })
}

/// The interface with that address; a loopback interface only if no other has it.
fn holder(links: &[Link], address: IpAddr) -> Result<&Link, NetnsError> {
    links
        .iter()
        .filter(|link| link.addresses.contains(&address))
        .min_by_key(|link| link.loopback)
        .ok_or(NetnsError::NoHolder { address })
}

/// The other end of `veth`, in whichever namespace it is.
fn inside_pod(veth: &Link, address: IpAddr) -> Result<Located, NetnsError> {
    let Some(peer) = veth.peer else { return Err(NetnsError::NoPeer { veth: veth.name.clone() }) };
    let candidates = match veth.peer_namespace {
        None => vec![Namespace::here()?],
        Some(_) => candidates(),
    };
    let tried = candidates.len();
    for namespace in known_as(veth.peer_namespace, candidates)? {
        let links = namespace.run(links::all)??;
        let end = links.iter().find(|link| link.index == peer && link.peer == Some(veth.index));
        let Some(end) = end else { continue };
        if !end.addresses.contains(&address) {
            return Err(NetnsError::OtherPod {
                veth: veth.name.clone(),
                interface: end.name.clone(),
                address,
                there: end.addresses.iter().map(ToString::to_string).collect(),
            });
        }
        return Ok(Located { interface: end.name.clone(), namespace, inside_pod: true });
    }
    Err(NetnsError::NoNamespace { veth: veth.name.clone(), tried })
}

/// Those of the candidates that the calling thread's namespace knows by `id`: one, or none. Without an id the peer
/// is in this very namespace.
fn known_as(id: Option<i32>, mut candidates: Vec<Namespace>) -> Result<Vec<Namespace>, NetnsError> {
    if id.is_some() {
        let ids = links::ids_of(&candidates)?;
        let mut ids = ids.into_iter();
        candidates.retain(|_| ids.next().flatten() == id);
    }
    Ok(candidates)
}

/// Every network namespace that can be seen, once each: those with a name, and those of processes. Entries that
/// vanish while being looked at are passed over.
fn candidates() -> Vec<Namespace> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for path in paths() {
        let Ok(meta) = fs::metadata(&path) else { continue };
        if !seen.insert((meta.dev(), meta.ino())) {
            continue;
        }
        if let Ok(namespace) = Namespace::open(&path) {
            found.push(namespace);
        }
    }
    found
}

/// Where namespaces are: `ip netns` and the container runtimes bind them in /run/netns (seen from an agent's pod
/// below the host's root), processes have them in /proc.
fn paths() -> impl Iterator<Item = PathBuf> {
    let named =
        ["/run/netns", "/var/run/docker/netns", "/proc/1/root/run/netns"].into_iter().flat_map(entries);
    let processes = entries("/proc")
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        })
        .map(|path| path.join("ns/net"));
    named.chain(processes)
}

fn entries(folder: &str) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
