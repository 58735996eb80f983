//! The report for a ticket, in markdown with tables as GitHub and Jira render them: the verdict, what every point saw,
//! why, what to do. Short. Whatever was read is escaped, or stands as code: no name can make a heading, a cell or, by Markdown or
//! by an address of a page or a person, a link of its own. A bare host or an issue's key (`b.example`, `ABC-1`) stays as it is: some
//! renderers link these.

use std::io;

use super::{sentences, words};
use crate::analyze::findings::{Findings, Route, StageCount};

/// Writes the report.
///
/// # Errors
///
/// When `out` cannot be written to.
pub fn markdown(findings: &Findings, out: &mut dyn io::Write) -> io::Result<()> {
    let case = &findings.case;
    writeln!(out, "**{}**: {}", sentences::outcome(findings), plain(&sentences::verdict(findings)))?;
    for doubt in &findings.verdict.doubts {
        writeln!(out, "\n_but_: {}", plain(doubt))?;
    }
    writeln!(
        out,
        "\n- from {}\n- to {}",
        plain(&sentences::end(&case.from)),
        plain(&sentences::end(&case.to))
    )?;
    for words in sentences::when(case).into_iter().chain(sentences::probe(case)) {
        writeln!(out, "- {}", plain(&words))?;
    }
    for route in &findings.routes {
        table(findings, route, out)?;
    }
    let notes = sentences::translations(findings).into_iter().take(FEW);
    let notes =
        notes.chain(sentences::errors(findings).into_iter().take(FEW)).chain(sentences::clock(findings));
    list(notes, out)?;
    why(findings, out)?;
    let next = sentences::next(findings);
    if !next.is_empty() {
        writeln!(out, "\n### What next")?;
        list(next.into_iter(), out)?;
    }
    list(findings.warnings.iter().take(MOST).map(|warning| format!("note: {warning}")), out)
}

/// Notes of one kind.
const FEW: usize = 3;
/// Warnings: a ticket is not a log.
const MOST: usize = 10;

fn table(findings: &Findings, route: &Route, out: &mut dyn io::Write) -> io::Result<()> {
    let (from, to) = words::ends(findings, route.direction);
    let way = route.direction.name();
    writeln!(out, "\n### {way} from {} to {}\n", plain(from), plain(to))?;
    if route.sent == 0 {
        return writeln!(out, "no packets");
    }
    writeln!(out, "| point | role | passed | lost | p50 | p99 | |")?;
    writeln!(out, "| --- | --- | ---: | ---: | ---: | ---: | --- |")?;
    for (at, id) in route.path.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &route.stages[before]);
        let passed = route.stages.get(at).map_or(route.delivered, |stage| stage.entered);
        let point = &findings.case.points[id.index()];
        let took = before.filter(|stage| stage.lost < stage.entered).and_then(|stage| stage.latency);
        let (p50, p99) = took.map(|(p50, p99)| (sentences::duration(p50), sentences::duration(p99))).unzip();
        writeln!(
            out,
            "| {} | {} | {passed} | {} | {} | {} | {} |",
            plain(&point.id),
            words::role(point.role),
            before.map_or(String::new(), |stage| stage.lost.to_string()),
            p50.unwrap_or_default(),
            p99.unwrap_or_default(),
            before.filter(|stage| stage.lost > 0).map_or(String::new(), mark)
        )?;
    }
    list(sentences::beside(&findings.case, route).into_iter(), out)
}

fn mark(stage: &StageCount) -> String {
    format!("**{} of {} lost** ({})", stage.lost, stage.entered, plain(stage.kind.name()))
}

fn why(findings: &Findings, out: &mut dyn io::Write) -> io::Result<()> {
    if findings.causes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n### Why")?;
    for cause in &findings.causes {
        writeln!(
            out,
            "\n**{}** on {} ({}): {}\n",
            plain(cause.kind),
            plain(&cause.node),
            words::confidence(cause.confidence),
            plain(&cause.summary)
        )?;
        for proof in &cause.evidence {
            writeln!(out, "- {}: {}", proof.source, plain(&proof.detail))?;
        }
    }
    Ok(())
}

/// A list with a blank line before it, or nothing.
fn list(items: impl Iterator<Item = String>, out: &mut dyn io::Write) -> io::Result<()> {
    for (number, item) in items.enumerate() {
        let gap = if number == 0 { "\n" } else { "" };
        writeln!(out, "{gap}- {}", plain(&item))?;
    }
    Ok(())
}

/// Text that markdown shows as it is, on one line. What GitHub and Jira would make a link of stands as code: they look for links
/// when escapes and entities are gone, and leave only code alone.
fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let ends = |c: char| c.is_whitespace() || ENDS_CODE.contains(&c);
    for piece in words::shown(text).split_inclusive(ends) {
        let word = piece.trim_end_matches(ends);
        if makes_link(word) {
            safe.push('`');
            safe.push_str(word);
            safe.push('`');
        } else {
            escape(word, &mut safe);
        }
        escape(&piece[word.len()..], &mut safe);
    }
    safe
}

/// Cannot stand in code, neither as it is nor escaped: in tables and outside of them, Markdown and Jira do not agree.
const ENDS_CODE: [char; 3] = ['`', '|', '\\'];

/// Addresses of pages and of people, mentions, numbers of issues.
fn makes_link(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let numbered = |(at, _)| lower[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    lower.contains("://")
        || lower.contains("www.")
        || lower.contains('@')
        || lower.match_indices('#').any(numbered)
}

/// A backslash before every character that could mean something (`CommonMark`, 2.4; Jira takes the same ones), entities for those
/// of HTML.
fn escape(text: &str, safe: &mut String) {
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\n' | '\t' => safe.push(' '),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '!' | '~' | '^' => {
                safe.push('\\');
                safe.push(c);
            }
            _ => safe.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn no_name_leaves_its_place() {
        assert_eq!(plain("a|b"), "a\\|b");
        assert_eq!(plain("x\n# y"), "x \\# y");
        assert_eq!(plain("`ip r`"), "\\`ip r\\`");
        assert_eq!(plain("<script>@all</script>"), "`<script>@all</script>`");
        assert_eq!(plain("<b>a</b>"), "&lt;b&gt;a&lt;/b&gt;");
        assert_eq!(plain("[a](http://b)"), "`[a](http://b)`");
        assert_eq!(plain("a\u{202e}b"), "a\u{fffd}b");
    }

    #[test]
    fn no_name_becomes_a_link() {
        for link in [
            "http://b.example/x_y",
            "HTTPS://b.example",
            "(www.b.example)",
            "ftp://b",
            "mailto:bob@b.example",
            "bob@b.example",
            "@all",
            "b/c#12",
        ] {
            assert_eq!(plain(&format!("see {link}, *now*")), format!("see `{link},` \\*now\\*"));
        }
        // What would end the code is outside of it.
        assert_eq!(plain("`ping a@b`"), "\\`ping `a@b`\\`");
        assert_eq!(plain("http://a|b\\c@d"), "`http://a`\\|b\\\\`c@d`");
        assert_eq!(plain("a@b\nc  #"), "`a@b` c  \\#");
        assert_eq!(plain("www b/c http: #x"), "www b/c http: \\#x");
    }
}
