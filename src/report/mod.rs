//! Findings into text, into a given writer: layout, never judgement.

mod json;
pub mod rules;
mod text;
mod words;

pub use json::json;
pub use text::{Style, text};
