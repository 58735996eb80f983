//! Tables as calicoctl draws them, and its numbers: five digits, shares in percent.

use std::io::{self, Write};

/// Draws a table.
pub(super) fn table(head: &[&str], rows: &[Vec<String>], out: &mut dyn Write) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    let line = format!("+{}+", dashes.join("+"));
    writeln!(out, "{line}")?;
    for (name, width) in head.iter().zip(&widths) {
        write!(out, "| {name:^width$} ")?;
    }
    writeln!(out, "|\n{line}")?;
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            let number = cell.parse::<f64>().is_ok();
            if number {
                write!(out, "| {cell:>width$} ")?;
            } else {
                write!(out, "| {cell:<width$} ")?;
            }
        }
        writeln!(out, "|")?;
    }
    writeln!(out, "{line}")
}

/// Numbers in five digits, as calicoctl prints them: 65536, 1.8447e+19.
pub(super) fn five(count: u128) -> String {
    if count < 100_000 {
        return count.to_string();
    }
    let exact = count.to_string();
    let digits: Vec<u32> = exact.chars().filter_map(|digit| digit.to_digit(10)).collect();
    let (mut exponent, kept) = (digits.len() - 1, &digits[..5]);
    let mut rounded = kept.iter().fold(0_u32, |all, digit| all * 10 + digit);
    // Half to even, as Go rounds a number that is exactly between.
    let rest = digits[5..].iter().any(|digit| *digit != 0);
    let beyond = digits[6.min(digits.len())..].iter().any(|digit| *digit != 0);
    let up = match digits.get(5) {
        Some(5) if rest && !beyond => rounded % 2 == 1,
        Some(digit) => *digit >= 5,
        None => false,
    };
    rounded += u32::from(up);
    if rounded == 100_000 {
        (rounded, exponent) = (10_000, exponent + 1);
    }
    let text = rounded.to_string();
    let (first, others) = text.split_at(1);
    let others = others.trim_end_matches('0');
    let point = if others.is_empty() { "" } else { "." };
    format!("{first}{point}{others}e+{exponent:02}")
}

/// A number and its share of the whole, in the nearest percent.
#[expect(clippy::cast_precision_loss, reason = "a percentage is for reading")]
pub(super) fn share(part: u128, whole: u128) -> String {
    let percent = if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 };
    format!("{} ({percent:.0}%)", five(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go's `%.5g` prints.
    #[test]
    fn numbers_have_five_digits() {
        for (count, text) in [
            (0, "0"),
            (256, "256"),
            (65_536, "65536"),
            (99_999, "99999"),
            (100_000, "1e+05"),
            (131_072, "1.3107e+05"),
            (999_995, "1e+06"),
            (999_985, "9.9998e+05"),
            (123_455, "1.2346e+05"),
            (123_445, "1.2344e+05"),
            (1_048_576, "1.0486e+06"),
            (1 << 64, "1.8447e+19"),
            (1 << 80, "1.2089e+24"),
            (u128::MAX, "3.4028e+38"),
        ] {
            assert_eq!(five(count), text, "{count}");
        }
    }

    #[test]
    fn shares_are_whole_percents() {
        for (part, whole, text) in [
            (0, 0, "0 (0%)"),
            (2, 64, "2 (3%)"),
            (62, 64, "62 (97%)"),
            (1, 200, "1 (0%)"),
            (3, 200, "3 (2%)"),
            (1, 199, "1 (1%)"),
            (65_534, 65_536, "65534 (100%)"),
            (1 << 127, u128::MAX, "1.7014e+38 (50%)"),
            (u128::MAX, u128::MAX, "3.4028e+38 (100%)"),
        ] {
            assert_eq!(share(part, whole), text);
        }
    }
}
