//! The texts, each by what it is. In: all texts of a case. Out: the same texts redacted; one of a kind that is not known is left out,
//! with the reason in its place.

use crate::evidence::known::Known;
use crate::evidence::texts::{Text, Texts};

use super::Redactor;

impl Redactor {
    /// All texts anew.
    #[must_use]
    pub fn texts(&mut self, texts: &Texts) -> Texts {
        Texts(texts.0.iter().map(|text| self.text(text)).collect())
    }

    fn text(&mut self, text: &Text) -> Text {
        let (marks, kind) =
            text.name.rsplit_once(':').map_or(("", text.name.as_str()), |(marks, kind)| (marks, kind));
        let known = is_known(kind);
        let content = match &text.content {
            Known::Read(_) if !known => {
                Known::Unreadable("left out when redacting: no text of a known kind".to_owned())
            }
            Known::Read(content) => self.content(kind, content),
            other => self.reason(other.clone()),
        };
        if !known {
            self.note("texts are of no known kind: they were left out");
        }
        let marks = self.marks(marks);
        let name = format!(
            "{marks}{}",
            if known { kind.to_owned() } else { self.names.of(super::Class::Object, kind) }
        );
        Text { node: self.names.node(&text.node), name, when: text.when, content }
    }

    fn content(&mut self, kind: &str, content: &str) -> Known<String> {
        match kind {
            "nft" => Known::Read(self.nft(content)),
            "ipset" => Known::Read(self.sets(content)),
            "conntrack" => Known::Read(self.connections(content)),
            "kernel" => Known::Read(self.kernel(content)),
            "state" => match self.state(content) {
                Ok(state) => Known::Read(state),
                Err(why) => {
                    self.note("texts cannot be read: they were left out");
                    Known::Unreadable(why)
                }
            },
            _ => Known::Read(self.rules(content)),
        }
    }

    /// What stands before a text's name: `pod`, `pod2`, `pair@3`, `pod@VETH`.
    fn marks(&mut self, marks: &str) -> String {
        if marks.is_empty() {
            return String::new();
        }
        let number = |rest: &str| rest.chars().all(|c| c.is_ascii_digit());
        let turned = match marks.split_once('@') {
            Some(("pod", veth)) => format!("pod@{}", self.names.interface(veth)),
            Some(("pair", pair)) if number(pair) => marks.to_owned(),
            None if marks.strip_prefix("pod").is_some_and(number) => marks.to_owned(),
            _ => self.names.of(super::Class::Word, marks),
        };
        format!("{turned}:")
    }
}

/// Whether a text holds rules.
pub(super) fn is_rules(name: &str) -> bool {
    let kind = name.rsplit(':').next().unwrap_or(name);
    kind == "nft" || is_save(kind)
}

fn is_known(kind: &str) -> bool {
    is_save(kind) || matches!(kind, "nft" | "ipset" | "conntrack" | "kernel" | "state")
}

fn is_save(kind: &str) -> bool {
    let rest = kind.strip_prefix("iptables").or_else(|| kind.strip_prefix("ip6tables"));
    rest.is_some_and(|rest| matches!(rest, "-save" | "-nft-save" | "-legacy-save"))
}
