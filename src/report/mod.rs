//! Findings into text, into a given writer: layout, never judgement.
