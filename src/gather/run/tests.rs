//! Whole traces in network namespaces.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::evidence::case::{CapturePoint, Coverage};
use crate::evidence::{Known, When};
use crate::gather::clock::instant;
use crate::gather::probe::ProbeKind;
use crate::gather::rig::{self, PODS, Rig};

fn request(rig: &Rig, folder: &tempfile::TempDir) -> Request {
    Request {
        plan: rig.plan(),
        reach: rig::reach("ip netns exec {node}"),
        duration: Some(Duration::from_secs(20)),
        count: None,
        probe: Some(Probe {
            kind: ProbeKind::Icmp,
            target: PODS[1].parse().unwrap(),
            count: 5,
            size: 56,
            interval: Duration::from_millis(20),
        }),
        settings: Settings::default(),
        folder: folder.path().to_owned(),
    }
}

fn read(point: &CapturePoint) -> &Coverage {
    match &point.state {
        Known::Read(coverage) => coverage,
        other => panic!("{}: {other:?}", point.id),
    }
}

fn ids(gathered: &Gathered) -> Vec<&str> {
    gathered.case.points.iter().map(|point| point.id.split_once('/').unwrap().1).collect()
}

#[test]
#[ignore = "needs root"]
fn a_probe_is_seen_at_every_point() {
    let rig = Rig::two_nodes_vxlan();
    let folder = tempfile::tempdir().unwrap();
    let begin = instant();
    let mut events = Vec::new();
    let gathered = run(&request(&rig, &folder), &mut |event| events.push((begin.elapsed(), event))).unwrap();
    let end = begin.elapsed();
    for (at, event) in &events {
        if !matches!(event, Event::Counts(_)) {
            eprintln!("{at:?} {event:?}");
        }
    }
    eprintln!("{end:?} {:#?}", gathered.case);
    assert_eq!(
        ids(&gathered),
        ["pod:eth0", "cali1", "vxlan.calico", "eth0", "eth0", "vxlan.calico", "cali2", "pod:eth0"]
    );
    for point in &gathered.case.points {
        let coverage = read(point);
        assert!(coverage.received >= 10 && coverage.dropped == 0 && coverage.failed.is_none(), "{point:?}");
    }
    assert_eq!(gathered.case.warnings, Vec::<String>::new());
    let probe = gathered.case.probe.as_ref().unwrap();
    assert_eq!((probe.sent, probe.answered), (5, 5));
    assert!(gathered.texts.find(&rig.ns("n1"), "iptables-nft-save", When::Before).is_some());
    assert!(gathered.texts.find(&rig.ns("n2"), "pod:ip6tables-nft-save", When::After).is_some());
}
