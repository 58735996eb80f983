//! Findings into text, into a given writer: layout, never judgement.

pub mod check;
pub mod ipam;
mod json;
pub mod node;
mod pairs;
pub mod rules;
mod text;
mod words;

pub use json::json;
pub use pairs::{pairs_json, pairs_text};
pub use text::{Style, text};
