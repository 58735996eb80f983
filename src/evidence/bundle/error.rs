//! Why a case could not be saved or opened: what was tried, on what, what came back, what to do.

use std::io;
use std::path::{Path, PathBuf};

use crate::evidence::capture_file::CaptureError;

/// A case that cannot be saved, opened or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The system refused something.
    #[error("cannot {tried} {}{}", path.display(), advice(source))]
    Io {
        /// A verb: `write`, `read`, `create`.
        tried: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a case already.
    #[error("{} holds a case already; name another folder, or remove it first", .0.display())]
    Occupied(PathBuf),
    /// Neither a folder of a case nor an archive of one.
    #[error(
        "{} is no saved case: {found}; give the folder with manifest.json, or a .tgz, .tar or .tar.zst of it",
        path.display()
    )]
    NotACase {
        /// What was opened.
        path: PathBuf,
        /// What was seen there.
        found: String,
    },
    /// The manifest is not what this version reads.
    #[error("the manifest {} cannot be read; if a newer trace-drop wrote it, open it with that one", .0.display())]
    Manifest(PathBuf, #[source] serde_json::Error),
    /// The manifest contradicts itself or the capture.
    #[error("the manifest {} makes no sense: {found}; take another copy of the case", path.display())]
    Contradiction {
        /// The manifest.
        path: PathBuf,
        /// What does not fit.
        found: String,
    },
    /// What was gathered is more than a case can hold.
    #[error(
        "the case in {} would not open again: {found}; gather less at a time: fewer nodes or pairs",
        path.display()
    )]
    Unreadable {
        /// The case's folder.
        path: PathBuf,
        /// What there is too much of.
        found: String,
    },
    /// A file is not the one that was saved.
    #[error("{} was changed since the case was saved: {found}; take another copy of the case", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What was found and what the manifest says.
        found: String,
    },
    /// An entry of an archive that a case never has.
    #[error("{}: refused at entry {entry:?}: {why}; unpack it yourself if you trust it, and give the folder",
        archive.display())]
    Refused {
        /// The archive.
        archive: PathBuf,
        /// Its entry.
        entry: String,
        /// What is wrong with it.
        why: String,
    },
    /// The capture in the case cannot be read.
    #[error("the case's capture cannot be read")]
    Capture(#[source] CaptureError),
}

impl BundleError {
    /// For `map_err`: what was tried on which file.
    pub fn io(tried: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { tried, path: path.to_owned(), source }
    }
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space there, or name a folder on another disk"
        }
        io::ErrorKind::PermissionDenied => "; name a folder of your own, or ask for the right to it",
        io::ErrorKind::NotFound => "; check the path",
        _ => "",
    }
}
