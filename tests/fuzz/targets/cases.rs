//! A saved case whose checksums are right and whose contents may be anything: opened, analysed, checked, reported in
//! every form, and redacted. Parts of the bytes, none of which UTF-8 has: 0xff begins another text, 0xfe the capture. The
//! first text is the case's JSON, the second the cluster's, the others are headed by a line `node name when`.
#![no_main]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use trace_drop::analyze::rules::journey::{Nodes, Request, travel};
use trace_drop::analyze::rules::overview;
use trace_drop::analyze::state::{Ground, check};
use trace_drop::analyze::{self, Evidence, excerpts};
use trace_drop::evidence::bundle::Bundle;
use trace_drop::evidence::capture_file::{CaptureError, FrameSource};
use trace_drop::evidence::cluster::Cluster;
use trace_drop::evidence::redact::Redactor;
use trace_drop::report::{self, Style};

fuzz_target!(|data: &[u8]| {
    let (texts, capture) = match data.iter().position(|byte| *byte == 0xfe) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let folder = tempfile::tempdir().expect("a folder");
    save(folder.path(), texts, capture);
    let Ok(bundle) = Bundle::open(folder.path()) else { return };
    let texts = bundle.texts().expect("they were written a moment ago");
    let cluster = bundle.cluster_text().expect("likewise").and_then(|text| Cluster::from_json(&text).ok());
    let frames = || -> Result<Box<dyn FrameSource + '_>, CaptureError> { Ok(Box::new(bundle.frames()?)) };
    let case = bundle.case();
    let evidence = Evidence { case, texts: &texts, cluster: cluster.as_ref(), frames: &frames };
    let out = &mut Vec::new();
    if let Ok((findings, mut marks)) = analyze::run_with_marks(&evidence) {
        let style = Style { color: true, verbose: true };
        report::text(&findings, style, out).expect("memory");
        report::json(&findings, out).expect("memory");
        report::markdown(&findings, out).expect("memory");
        report::svg(&findings, out).expect("memory");
        report::page(&findings, &excerpts(case, &texts), out).expect("memory");
        let mut source = frames().expect("it was read before");
        while let Ok(Some((point, frame))) = source.next_frame() {
            if let Some(mark) = marks.of(point, &frame) {
                assert!(!report::comment(&findings, &mark).is_empty());
            }
        }
    }
    let checkup = check(&Ground { case, texts: &texts, cluster: cluster.as_ref() });
    report::check::json(case, &checkup, out).expect("memory");
    let nodes = overview(&texts, cluster.as_ref(), None);
    report::rules::overview_json(&nodes, out).expect("memory");
    let journey = Request { dst: Some(case.to.address), protocol: 6, port: Some(80), ..Request::default() };
    let journey = travel(journey, &Nodes::read(&texts), cluster.as_ref());
    report::rules::journey_json(&journey, out).expect("memory");
    let mut redactor = Redactor::new(&[7; 32], &[case], &texts, cluster.as_ref());
    let _case = redactor.case(case);
    let _objects = cluster.as_ref().map(|cluster| redactor.cluster(cluster));
    assert_eq!(redactor.texts(&texts).0.len(), texts.0.len());
    if let Ok(mut source) = frames() {
        while let Ok(Some((_, frame))) = source.next_frame() {
            assert_eq!(redactor.frame(&frame).bytes.len(), frame.bytes.len());
        }
    }
    let _notes = redactor.notes();
});

/// The case as a folder, its manifest around the given case.
fn save(folder: &Path, texts: &[u8], capture: &[u8]) {
    let mut parts = texts.split(|byte| *byte == 0xff);
    let case = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let mut files = Vec::new();
    let mut put = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).expect("written");
        let sha256 = Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("memory");
            hex
        });
        files.push(serde_json::json!({ "path": name, "bytes": bytes.len(), "sha256": sha256 }));
    };
    if let Some(cluster) = parts.next().filter(|cluster| !cluster.is_empty()) {
        put("cluster.json", cluster);
    }
    if !capture.is_empty() {
        put("capture.pcapng", capture);
    }
    let mut entries = Vec::new();
    for (number, part) in parts.enumerate().take(64) {
        let text = String::from_utf8_lossy(part);
        let (head, content) = text.split_once('\n').unwrap_or((&text, ""));
        let mut words = head.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (node, name, when) = (word(), word(), word());
        let when = if when == "before" { when } else { "after" };
        let path = format!("{number}.txt");
        put(&path, content.as_bytes());
        let read = serde_json::json!({ "read": path });
        entries.push(serde_json::json!({ "node": node, "name": name, "when": when, "content": read }));
    }
    let (files, entries) = (serde_json::json!(files), serde_json::json!(entries));
    let manifest = format!(
        "{{\"format\":\"trace-drop/case/v1\",\"version\":\"0\",\"case\":{case},\"files\":{files},\"texts\":{entries}}}"
    );
    fs::write(folder.join("manifest.json"), manifest).expect("written");
}
