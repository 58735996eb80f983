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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::rig::{PODS, Rig};

    fn inside(rig: &Rig, node: &str, find: &Find) -> Result<Located, NetnsError> {
        let namespace = Namespace::open(format!("/run/netns/{}", rig.ns(node))).unwrap();
        namespace.run(|| locate(find)).unwrap()
    }

    fn inode(namespace: &Namespace) -> u64 {
        namespace.file.metadata().unwrap().ino()
    }

    #[test]
    #[ignore = "needs root"]
    fn the_right_pod_among_clusters_with_equal_addresses() {
        let rigs = [Rig::two_nodes_vxlan(), Rig::two_nodes_vxlan()];
        for rig in &rigs {
            for own in [1, 2] {
                let find =
                    Find::InsidePod { veth: format!("cali{own}"), address: PODS[own - 1].parse().unwrap() };
                let found = inside(rig, &format!("n{own}"), &find).unwrap();
                assert_eq!(found.label(), "pod:eth0");
                let pod = fs::metadata(format!("/run/netns/{}", rig.ns(&format!("p{own}")))).unwrap();
                assert_eq!(inode(&found.namespace), pod.ino());
            }
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn interfaces_of_the_node_by_name_and_address() {
        let rig = Rig::two_nodes_vxlan();
        let node = fs::metadata(format!("/run/netns/{}", rig.ns("n1"))).unwrap().ino();
        let nic = inside(&rig, "n1", &Find::Holding("192.168.50.1".parse().unwrap())).unwrap();
        assert_eq!((nic.label().as_str(), inode(&nic.namespace)), ("eth0", node));
        let tunnel = inside(&rig, "n1", &Find::Name("vxlan.calico".to_owned())).unwrap();
        assert_eq!((tunnel.label().as_str(), inode(&tunnel.namespace)), ("vxlan.calico", node));
    }

    #[test]
    #[ignore = "needs root"]
    fn what_is_not_there_is_said() {
        let rig = Rig::two_nodes_vxlan();
        let said = |find: &Find| inside(&rig, "n1", find).unwrap_err().to_string();
        let pod = |veth: &str, address: &str| Find::InsidePod {
            veth: veth.to_owned(),
            address: address.parse().unwrap(),
        };
        let unknown = said(&Find::Name("cali9".to_owned()));
        assert!(unknown.contains("cali9") && unknown.contains("vxlan.calico"), "{unknown}");
        assert!(said(&Find::Holding("192.0.2.7".parse().unwrap())).contains("192.0.2.7"));
        assert!(said(&pod("vxlan.calico", PODS[0])).contains("no peer"));
        let other = said(&pod("cali1", "10.244.1.77"));
        assert!(other.contains("10.244.1.77") && other.contains(PODS[0]), "{other}");
    }
}
