//! Why a capture could not be read: what was tried, on which file and where in it, what was found, what to do.

use std::io;

/// A capture that cannot be read, or not read on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file did not open.
    #[error("cannot open the capture {file}; check the path and that it may be read")]
    Open {
        /// As the caller named it.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Reading or decompressing failed on the way.
    #[error(
        "cannot read the capture {file} on from byte {offset}; if it is compressed, unpack it and try again, \
         otherwise copy it anew"
    )]
    Read {
        /// As the caller named it.
        file: String,
        /// Of the (decompressed) contents.
        offset: u64,
        /// What the system or the decompressor said.
        source: io::Error,
    },
    /// The bytes are not what the format asks for.
    #[error("{file}: at byte {offset}: {found}; {remedy}")]
    Nonsense {
        /// As the caller named it.
        file: String,
        /// Of the (decompressed) contents.
        offset: u64,
        /// The value that was found and what should have stood there.
        found: String,
        /// What the reader can do.
        remedy: &'static str,
    },
    /// A record of an interface that is no capture point.
    #[error(
        "{file}: a frame of interface {interface}, which belongs to no capture point ({known} are known); say \
         which point each interface of the file is"
    )]
    Unmapped {
        /// As the caller named it.
        file: String,
        /// Index of the interface in the file.
        interface: usize,
        /// How many interfaces were assigned.
        known: usize,
    },
}
