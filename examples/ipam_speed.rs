//! How long Calico's addresses take: writes a cluster file of 10,000 blocks (640,000 addresses), then reads it, parses it
//! and checks it, five times, and prints the median of each step.
//!
//!     cargo run --release --example ipam_speed -- [json|yaml] [allocated of each block] [with-pods]

#![expect(clippy::print_stdout, reason = "an example prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "an example that measures reads the clock")]

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use trace_drop::analyze::ipam;
use trace_drop::evidence::cluster::Cluster;
use trace_drop::evidence::ipam::Figures;

const BLOCKS: usize = 10_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let yaml = words.iter().any(|word| word == "yaml");
    let with_pods = words.iter().any(|word| word == "with-pods");
    let allocated = words.iter().find_map(|word| word.parse().ok()).unwrap_or(64).min(64);
    let list = json!({"apiVersion": "v1", "items": objects(allocated, with_pods), "kind": "List"});
    let text = if yaml {
        serde_yaml_ng::to_string(&list).expect("YAML")
    } else {
        serde_json::to_string_pretty(&list).expect("JSON")
    };
    drop(list);
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), &text).expect("a file");
    drop(text);
    let mut runs: Vec<[f64; 4]> = (0..5).map(|_| run(file.path())).collect();
    let mut median = |step: usize| {
        runs.sort_by(|a, b| a[step].total_cmp(&b[step]));
        runs[2][step]
    };
    let size = fs::metadata(file.path()).expect("a file").len() / 1_000_000;
    println!(
        "{size} MB: read {:.3} s, parsed {:.3} s, added up {:.3} s, checked {:.3} s",
        median(0),
        median(1),
        median(2),
        median(3)
    );
}

fn run(file: &std::path::Path) -> [f64; 4] {
    let mut begin = Instant::now();
    let mut lap = || std::mem::replace(&mut begin, Instant::now()).elapsed().as_secs_f64();
    let text = fs::read_to_string(file).expect("a file");
    let read = lap();
    let (cluster, warnings) = Cluster::parse(&text).expect("objects");
    let parsed = lap();
    let figures = Figures::of(&cluster);
    let added = lap();
    let checked = ipam::check_with(&cluster, &figures);
    let judged = lap();
    assert_eq!((figures.blocks.len(), warnings.len()), (BLOCKS, 0));
    assert!(checked.findings.iter().all(|finding| finding.kind == "ipam_exhausted"), "{checked:?}");
    [read, parsed, added, judged]
}

fn objects(allocated: usize, with_pods: bool) -> Vec<Value> {
    let crd = "crd.projectcalico.org/v1";
    let mut items = vec![
        json!({"apiVersion": crd, "kind": "IPPool", "metadata": {"name": "pool"}, "spec": {"cidr": "10.0.0.0/12", "blockSize": 26}}),
    ];
    for number in 0..BLOCKS {
        let node = format!("ip-10-200-{}-{}.example.internal", number / 512, number / 2 % 256);
        let (high, low) = (number / 1024, number % 1024 * 64);
        let address = |ordinal: usize| format!("10.{high}.{}.{}", low / 256, low % 256 + ordinal);
        let name = |ordinal: usize| format!("deployment-7d9c5b8f6-{number}-{ordinal}");
        let attributes: Vec<Value> = (0..allocated)
            .map(|ordinal| {
                json!({"handle_id": format!("k8s-pod-network.{:064x}", number * 64 + ordinal), "secondary": {
                    "namespace": "production", "node": node, "pod": name(ordinal), "timestamp": "2026-11-01 08:00:00.123456789 +0000 UTC"}})
            })
            .collect();
        let allocations: Vec<Option<usize>> =
            (0..64).map(|place| (place < allocated).then_some(place)).collect();
        let cidr = format!("{}/26", address(0));
        items.push(json!({"apiVersion": crd, "kind": "IPAMBlock", "metadata": {"name": cidr.replace(['.', '/'], "-"), "resourceVersion": "1"},
            "spec": {"cidr": cidr, "affinity": format!("host:{node}"), "allocations": allocations, "attributes": attributes,
                "unallocated": (allocated..64).collect::<Vec<_>>(), "strictAffinity": false, "deleted": false}}));
        if number % 2 == 0 {
            items.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}));
        }
        if with_pods {
            items.extend((0..allocated).map(|ordinal| {
                json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name(ordinal), "namespace": "production"}, "spec": {"nodeName": node},
                "status": {"phase": "Running", "podIPs": [{"ip": address(ordinal)}]}})
            }));
        }
    }
    items
}
