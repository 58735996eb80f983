//! Why a capture could not be read.

use std::io;

/// What was tried, on what, and what came back.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file could not be opened or read.
    #[error("cannot read {file}: {source}")]
    Io {
        /// Which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Not a capture.
    #[error(
        "{file} is no capture: it begins with {found}; want pcap or pcapng, plain or compressed with gzip or zstd"
    )]
    NotACapture {
        /// Which file.
        file: String,
        /// Its first bytes.
        found: String,
    },
    /// A capture that makes no sense at some place.
    #[error(
        "{file} is damaged at byte {offset}: {what}; `editcap {file} repaired.pcapng` may save what stands before"
    )]
    Damaged {
        /// Which file.
        file: String,
        /// Where, in the uncompressed bytes.
        offset: u64,
        /// What was found there.
        what: String,
    },
}
