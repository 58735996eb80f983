//! What is known, as plain data: what was captured where, what the nodes said, what the cluster's objects say.
//! Parsers of recorded text live here; files are opened in [`capture_file`], [`bundle`] and [`foreign`] alone. Nothing
//! here judges.

pub mod known;

pub mod case;

pub mod texts;

pub mod kernel;

pub mod host;

pub mod netfilter;

pub mod cluster;

pub mod ipam;

pub mod calico;

pub mod plan;

pub mod capture_file;

pub mod recordings;

pub mod bundle;

pub mod foreign;
pub mod redact;

pub use case::{CapturePoint, Case, ClockFact, Direction, Endpoint, Path, PointId, Role, StageKind};
pub use known::Known;
pub use texts::{Text, Texts, When};
