use std::path::Path;

use super::*;
use crate::analyze::{self, Evidence};
use crate::evidence::Known;
use crate::evidence::bundle::Bundle;
use crate::evidence::capture_file::{CaptureError, FrameSource};

struct Opened {
    findings: Findings,
    texts: Texts,
    cluster: Option<Cluster>,
}

impl Opened {
    fn of(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("captures/{name}.tgz"));
        let bundle = Bundle::open(&path).unwrap();
        let texts = bundle.texts().unwrap();
        let cluster = bundle.cluster_text().unwrap().map(|text| Cluster::from_json(&text).unwrap());
        let frames = || -> Result<Box<dyn FrameSource + '_>, CaptureError> { Ok(Box::new(bundle.frames()?)) };
        let evidence =
            Evidence { case: bundle.case(), texts: &texts, cluster: cluster.as_ref(), frames: &frames };
        Self { findings: analyze::run(&evidence).unwrap(), cluster, texts }
    }

    fn side(&self) -> Side<'_> {
        Side { findings: &self.findings, texts: &self.texts, cluster: self.cluster.as_ref() }
    }

    /// The same with other names everywhere.
    fn renamed(mut self, names: &[(&str, &str)]) -> Self {
        let other = |text: &str| names.iter().fold(text.to_owned(), |text, (was, is)| text.replace(was, is));
        let case = serde_json::to_string(&self.findings.case).unwrap();
        self.findings.case = serde_json::from_str(&other(&case)).unwrap();
        self.cluster = self.cluster.map(|cluster| Cluster::from_json(&other(&cluster.to_json())).unwrap());
        self.write(None, &other);
        self
    }

    /// Other texts: those of that name, or all.
    fn write(&mut self, name: Option<&str>, other: &dyn Fn(&str) -> String) {
        for text in self.texts.0.iter_mut().filter(|text| name.is_none_or(|name| text.name == name)) {
            if let Known::Read(content) = &mut text.content {
                *content = other(content);
            }
        }
    }
}

fn areas(diff: &Diff) -> Vec<Area> {
    let mut areas: Vec<Area> = diff.changes.iter().map(|change| change.area).collect();
    areas.dedup();
    areas
}

#[test]
fn a_pod_that_was_made_anew_is_the_same_pod() {
    let names = [
        ("10.244.2.2", "10.244.2.77"),
        ("fd00:10:244:2::2\"", "fd00:10:244:2::77\""),
        ("fd00:10:244:2::2/", "fd00:10:244:2::77/"),
        ("fd00:10:244:2::2]", "fd00:10:244:2::77]"),
        ("fd00:10:244:2::2\n", "fd00:10:244:2::77\n"),
        ("fd00:10:244:2::2 ", "fd00:10:244:2::77 "),
        ("cali7715d358f22", "cali0123456789a"),
    ];
    let (was, is) = (Opened::of("healthy"), Opened::of("healthy").renamed(&names));
    let diff = compare(was.side(), is.side());
    assert_eq!(areas(&diff), [Area::End], "{:#?}", diff.changes);
    assert_eq!(diff.changes[0].after.as_deref(), Some("10.244.2.77"));
}

#[test]
fn counters_and_hashes_alone_are_no_change() {
    let (was, mut is) = (Opened::of("healthy"), Opened::of("healthy"));
    is.write(Some("iptables-nft-save"), &|text| {
        let more = |line: &str| match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((_, rule)) => format!("[777777:7]{}\n", rule.replace("cali:", "cali:x")),
            None => format!("{line}\n"),
        };
        text.lines().map(more).collect()
    });
    assert!(compare(was.side(), is.side()).is_same());
}

#[test]
fn rules_come_go_and_change_their_order() {
    let (was, mut is) = (Opened::of("healthy"), Opened::of("healthy"));
    is.write(Some("iptables-nft-save"), &|text| {
        let (head, tail) = text.split_once("*filter\n").unwrap();
        let tail = tail.replacen("COMMIT", "[0:0] -A FORWARD -s 10.9.9.9/32 -j DROP\nCOMMIT", 1);
        format!("{head}*filter\n:mine - [0:0]\n{}", tail.replace(":FORWARD ACCEPT", ":FORWARD DROP"))
    });
    let diff = compare(was.side(), is.side());
    assert!(diff.changes.iter().all(|change| change.area == Area::Rule), "{:#?}", diff.changes);
    let of = |node: &str| -> Vec<(String, Option<String>, Option<String>)> {
        let own = diff.changes.iter().filter(|change| change.node.as_deref() == Some(node));
        own.map(|change| (change.subject.clone(), change.before.clone(), change.after.clone())).collect()
    };
    let worker = of("worker-1");
    let has = |part: &str| worker.iter().any(|change| format!("{change:?}").contains(part));
    assert!(
        has("policy of") && has("ACCEPT") && has("DROP") && has("-s 10.9.9.9/32 -j DROP") && has("/mine"),
        "{worker:#?}"
    );
    let back = compare(is.side(), was.side());
    assert_eq!(back.changes.len(), diff.changes.len());
    assert!(back.changes.iter().zip(&diff.changes).all(|(back, there)| (
        back.after.is_some(),
        back.before.is_some()
    ) == (
        there.before.is_some(),
        there.after.is_some()
    )));
}

#[test]
fn what_one_case_alone_has_read_is_not_compared() {
    let (was, mut is) = (Opened::of("healthy"), Opened::of("healthy"));
    is.texts.0.retain(|text| text.node != "worker-2" || !text.name.ends_with("state"));
    let diff = compare(was.side(), is.side());
    assert!(diff.is_same());
    assert_eq!(
        diff.notes,
        [
            "state of worker-2 was read before only: it is not compared",
            "pod:state of worker-2 was read before only: it is not compared"
        ]
    );
}

#[test]
fn the_headline_begins_with_verdict_and_cause() {
    let (was, is) = (Opened::of("healthy"), Opened::of("forward"));
    let diff = compare(was.side(), is.side());
    let headline: Vec<Area> = diff.headline(3).iter().map(|change| change.area).collect();
    assert_eq!(headline, [Area::Verdict, Area::Cause, Area::Route]);
}
