//! Network namespaces: runs a closure inside one, on a thread of its own that is thrown away after, and finds the
//! interface that a planned point means, also the one inside a pod.
//!
//! Everything here asks rtnetlink. `/sys/class/net` is never read: in a thread that has changed its namespace it
//! still shows the one where it was mounted.

mod find;
mod links;

pub(crate) use find::{Located, locate};
pub(crate) use links::ask;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::gather::privilege;

/// An open network namespace; stays alive while this exists.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    file: Arc<File>,
    label: String,
}

/// What went wrong in finding or entering a namespace or an interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetnsError {
    /// The file could not be opened.
    #[error("cannot open the network namespace {label}: {source}{}", if_denied(source))]
    Open {
        /// Path.
        label: String,
        /// What the system said.
        source: io::Error,
    },
    /// `setns` refused.
    #[error("cannot enter the network namespace {label}: {source}{}", if_denied(source))]
    Enter {
        /// Path.
        label: String,
        /// What the system said.
        source: io::Error,
    },
    /// The thread for it could not be made, or ended without an answer.
    #[error("cannot run a thread in the network namespace {label}: {why}")]
    Thread {
        /// Path.
        label: String,
        /// What happened.
        why: String,
    },
    /// rtnetlink failed.
    #[error("cannot read {what} over rtnetlink: {why}")]
    Netlink {
        /// What was asked.
        what: &'static str,
        /// What came back.
        why: String,
    },
    /// No such interface.
    #[error("there is no interface {name} here; there are {}", names(there))]
    NoInterface {
        /// The name.
        name: String,
        /// Those that exist.
        there: Vec<String>,
    },
    /// No interface has that address.
    #[error("no interface here holds {address}")]
    NoHolder {
        /// The address.
        address: std::net::IpAddr,
    },
    /// The interface is no end of a veth pair.
    #[error("{veth} has no peer: it is not the host's end of a pod's veth pair")]
    NoPeer {
        /// Its name.
        veth: String,
    },
    /// None of the namespaces that can be seen holds the peer.
    #[error(
        "the pod's namespace behind {veth} was not found: none of the {tried} network namespaces in /run/netns and \
         /proc/*/ns/net holds its peer (in a pod, the agent needs hostPID)"
    )]
    NoNamespace {
        /// The host's end.
        veth: String,
        /// How many namespaces were looked at.
        tried: usize,
    },
    /// The pod's interface has other addresses.
    #[error(
        "{interface} behind {veth} does not hold {address} but {}: the pod there is another one",
        names(there)
    )]
    OtherPod {
        /// The host's end.
        veth: String,
        /// The pod's end.
        interface: String,
        /// The address it should have.
        address: std::net::IpAddr,
        /// Those that it has.
        there: Vec<String>,
    },
}

impl Namespace {
    /// The one that the calling thread is in.
    pub(crate) fn here() -> Result<Self, NetnsError> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// The one that a path names: `/run/netns/NAME`, `/proc/PID/ns/net`.
    pub(crate) fn open(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let label = path.as_ref().display().to_string();
        match File::open(path) {
            Ok(file) => Ok(Self { file: Arc::new(file), label }),
            Err(source) => Err(NetnsError::Open { label, source }),
        }
    }

    /// Moves the calling thread into the namespace. Only for threads that end with their task: there is no way
    /// back.
    pub(crate) fn enter(&self) -> Result<(), NetnsError> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| NetnsError::Enter { label: self.label.clone(), source: errno.into() })
    }

    /// Runs `work` on a new thread inside the namespace and waits for it.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let failed = |why: String| NetnsError::Thread { label: self.label.clone(), why };
        thread::scope(|scope| {
            let inside = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
                self.enter()?;
                Ok(work())
            });
            match inside {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err(failed("it panicked".to_owned()))),
                Err(error) => Err(failed(error.to_string())),
            }
        })
    }

    /// The number by which the kernel tells namespaces apart.
    pub(crate) fn inode(&self) -> io::Result<u32> {
        let number = self.file.metadata()?.ino();
        u32::try_from(number).map_err(io::Error::other)
    }

    /// The descriptor's number, as rtnetlink wants it.
    fn number(&self) -> u32 {
        u32::try_from(self.file.as_raw_fd()).unwrap_or(u32::MAX)
    }
}

fn if_denied(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::PermissionDenied => format!("; {}", privilege::remedy()),
        _ => String::new(),
    }
}

fn names(list: &[String]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}
