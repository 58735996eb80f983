//! What a terminal is given. In: a report's bytes. Out: the same, but characters that would move the cursor, change the title or turn
//! the direction of what follows, which names and rules of a case may hold, are replaced. Our own colours pass.

use std::io::{self, Write};

use super::words::shown;

/// Passes lines on to a terminal or a file.
#[derive(Debug)]
pub struct Shown<W: Write> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> Shown<W> {
    /// Before `out`.
    pub fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }

    fn pass(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        self.out.write_all(harmless(&String::from_utf8_lossy(&line)).as_bytes())
    }
}

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.line.split_off(end + 1);
            self.pass()?;
            self.line = rest;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass()?;
        self.out.flush()
    }
}

/// The text without characters that a terminal obeys, but for our colours.
pub fn harmless(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let mut passed = shown(parts.next().unwrap_or_default());
    for part in parts {
        let own = COLOURS.iter().find_map(|colour| Some((*colour, part.strip_prefix(colour)?)));
        let (colour, rest) = own.unwrap_or(("", part));
        passed.push(if colour.is_empty() { char::REPLACEMENT_CHARACTER } else { '\x1b' });
        passed.push_str(colour);
        passed.push_str(&shown(rest));
    }
    passed
}

/// All that reports paint with.
const COLOURS: &[&str] = &["[0m", "[31m", "[33m", "[1;31m", "[1;32m", "[1;33m"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_command_a_terminal() {
        let mut out = Vec::new();
        let mut shown = Shown::new(&mut out);
        write!(shown, "pod \x1b]0;title\x07 \x1b[2J \x1b[1;31mred\x1b[0m \u{9b}1m \u{202e}").unwrap();
        writeln!(shown, "\ttab\r\nnext ü").unwrap();
        shown.flush().unwrap();
        let passed = String::from_utf8(out).unwrap();
        let expected = "pod \u{fffd}]0;title\u{fffd} \u{fffd}[2J \x1b[1;31mred\x1b[0m \u{fffd}1m \u{fffd}\ttab\u{fffd}\nnext ü\n";
        assert_eq!(passed, expected);
    }

    #[test]
    fn characters_written_in_pieces_stay_whole() {
        let mut out = Vec::new();
        let mut shown = Shown::new(&mut out);
        for byte in "µs — ü\n".bytes() {
            shown.write_all(&[byte]).unwrap();
        }
        shown.flush().unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "µs — ü\n");
    }
}
