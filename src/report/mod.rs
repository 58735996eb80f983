//! Findings into text, JSON, markdown, a picture or a page, into a given writer: layout, never judgement.

pub mod check;
pub mod diff;
pub mod ipam;
mod json;
mod markdown;
pub mod node;
mod page;
mod pairs;
mod picture;
pub mod rules;
mod sentences;
mod shown;
mod text;
mod watch;
mod words;

pub use json::json;
pub use markdown::markdown;
pub use page::page;
pub use pairs::{pairs_json, pairs_text};
pub use picture::svg;
pub use sentences::comment;
pub use shown::{Shown, harmless};
pub use text::{Style, text};
pub use watch::{line, table};
