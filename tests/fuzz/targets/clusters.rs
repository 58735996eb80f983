//! The cluster's objects, as `kubectl get -o yaml` or JSON gives them: parsed, planned over, their addresses counted,
//! checked and released. What was saved as JSON reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trace_drop::analyze;
use trace_drop::evidence::cluster::Cluster;
use trace_drop::evidence::ipam::{self, Figures, release};
use trace_drop::evidence::plan::{Pairs, Plan, PlanOptions};
use trace_drop::report;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Ok(object) = serde_json::from_str(&text) {
        let _block = release::from_block(&object, [10, 244, 1, 2].into());
        let _handle = release::from_handle(&object, "10-244-1-0-26");
    }
    let Ok((cluster, _warnings)) = Cluster::parse(&text) else { return };
    let again = Cluster::from_json(&cluster.to_json()).expect("what was saved");
    assert_eq!(again.to_json(), cluster.to_json());
    let mut ends: Vec<String> = Vec::new();
    ends.extend(cluster.pods.iter().take(2).map(|pod| format!("{}/{}", pod.namespace, pod.name)));
    ends.extend(cluster.nodes.iter().take(2).map(|node| format!("node/{}", node.name)));
    ends.extend(cluster.services.iter().take(2).map(|svc| format!("svc/{}/{}", svc.namespace, svc.name)));
    ends.push("10.244.2.2".to_owned());
    for (from, to) in ends.iter().flat_map(|from| ends.iter().map(move |to| (from, to))) {
        for family in [None, Some(6)] {
            let options = PlanOptions { family, in_pod: true, ..PlanOptions::default() };
            if let Ok(plan) = Plan::make(&cluster, from, to, &options) {
                assert!(plan.points.iter().all(|point| !point.find.words().is_empty()));
                let resolved = plan.resolve(&trace_drop::evidence::Texts::default());
                let _case = plan.into_case(&resolved);
            }
            let _pairs = Pairs::make(&cluster, (from, to), &options, 4);
        }
    }
    addresses(&cluster);
});

fn addresses(cluster: &Cluster) {
    let figures = Figures::of(cluster);
    let checked = analyze::ipam::check_with(cluster, &figures);
    let out = &mut Vec::new();
    report::ipam::checked(cluster, &figures, &checked, out).expect("memory");
    let shown = report::ipam::Shown { cluster, figures: &figures };
    let parts = report::ipam::Parts { blocks: true, nodes: true, borrowed: true, configuration: true };
    shown.text(parts, out).expect("memory");
    shown.json(out).expect("memory");
    shown.address([10, 244, 1, 2].into(), out).expect("memory");
    report::ipam::checked_json(&checked, out).expect("memory");
    for block in cluster.ipam.blocks.iter().take(8) {
        for (ordinal, _) in ipam::allocations(block).take(16) {
            let _address = ipam::address(block.cidr, ordinal);
        }
        let _size = ipam::size(block.cidr);
    }
    let _borrowed = figures.borrowed().count();
    let _holder = figures.holder([10, 244, 1, 2].into()).is_some();
}
