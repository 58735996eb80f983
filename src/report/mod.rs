//! Findings into text, into a given writer: layout, never judgement.

pub mod check;
mod json;
pub mod node;
mod text;
mod words;

pub use json::json;
pub use text::{Style, text};
