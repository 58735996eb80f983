//! Findings into text, into a given writer: layout, never judgement.

pub mod check;
pub mod ipam;
mod json;
pub mod node;
pub mod rules;
mod text;
mod watch;
mod words;

pub use json::json;
pub use text::{Style, text};
pub use watch::{line, table};
