//! trace-drop says between which two capture points packets vanish on their way between two
//! Kubernetes pods, and why.
//!
//! Facts flow one way: [`gather`] reads the machines, [`evidence`] is what was read, [`analyze`] turns it
//! into findings, [`report`] lays them out. A live run and the replay of a saved case go through the same
//! [`analyze::run`]. The rooms stand here in reading order; a file uses only rooms above its own
//! (`tests/architecture.rs`).

pub mod packet;

pub mod evidence;

pub mod analyze;

pub mod report;

mod gather;

mod cli;

#[doc(hidden)]
pub mod fuzzing;

pub use cli::run;
