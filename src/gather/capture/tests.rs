//! Captures in network namespaces.

use std::sync::mpsc::{self, Receiver, Sender};

use super::*;
use crate::evidence::Role;
use crate::evidence::case::Only;
use crate::evidence::plan::Find;
use crate::gather::filter::{self, Pair};
use crate::gather::netns::{self, Namespace};
use crate::gather::rig::{PODS, Rig};

/// What came out, for a test to look at.
enum Out {
    Batch(Vec<u8>),
    News(News),
}

struct Collect(Sender<Out>);

impl Outlet for Collect {
    fn offer(&mut self, batch: Vec<u8>) -> Result<(), Vec<u8>> {
        let _ = self.0.send(Out::Batch(batch));
        Ok(())
    }

    fn tell(&mut self, news: News) {
        let _ = self.0.send(Out::News(news));
    }
}

/// Takes nothing.
struct Deaf(Sender<Out>);

impl Outlet for Deaf {
    fn offer(&mut self, batch: Vec<u8>) -> Result<(), Vec<u8>> {
        Err(batch)
    }

    fn tell(&mut self, news: News) {
        let _ = self.0.send(Out::News(news));
    }
}

fn located(rig: &Rig, name: &str, interface: &str) -> Located {
    let namespace = Namespace::open(format!("/run/netns/{}", rig.ns(name))).unwrap();
    namespace.run(|| netns::locate(&Find::Name(interface.to_owned()))).unwrap().unwrap()
}

fn order(at: Located, filter: &str) -> Order {
    let filter = Filter { ethernet: filter.to_owned(), bare: filter.to_owned() };
    Order { point: 3, at, filter, settings: Settings::default() }
}

fn begin(order: Order, outlet: impl FnOnce(Sender<Out>) -> Box<dyn Outlet>) -> (Arc<Stop>, Receiver<Out>) {
    let stop = Arc::new(Stop::new().unwrap());
    let (told, heard) = mpsc::channel();
    start(order, Arc::clone(&stop), outlet(told)).unwrap();
    (stop, heard)
}

impl Outlet for Box<dyn Outlet> {
    fn offer(&mut self, batch: Vec<u8>) -> Result<(), Vec<u8>> {
        (**self).offer(batch)
    }

    fn tell(&mut self, news: News) {
        (**self).tell(news);
    }
}

fn collect(told: Sender<Out>) -> Box<dyn Outlet> {
    Box::new(Collect(told))
}

fn started(heard: &Receiver<Out>) {
    match heard.recv_timeout(Duration::from_secs(5)).unwrap() {
        Out::News(News::Started { .. }) => {}
        Out::News(other) => panic!("{other:?}"),
        Out::Batch(_) => panic!("frames before the start"),
    }
}

/// Frames and the end.
fn rest(heard: &Receiver<Out>) -> (Vec<Vec<u8>>, Coverage) {
    let mut frames = Vec::new();
    loop {
        match heard.recv_timeout(Duration::from_secs(5)).unwrap() {
            Out::Batch(batch) => {
                let mut rest = batch.as_slice();
                while let Some(frame) = batch::take(&mut rest) {
                    assert_eq!(frame.point, 3);
                    frames.push(frame.bytes.to_vec());
                }
            }
            Out::News(News::Ended(coverage)) => return (frames, coverage),
            Out::News(_) => {}
        }
    }
}

#[test]
#[ignore = "needs root"]
fn every_frame_is_handed_over_with_its_time() {
    let rig = Rig::two_nodes_vxlan();
    let (stop, heard) = begin(order(located(&rig, "n2", "cali2"), "icmp"), collect);
    started(&heard);
    rig.run("p1", "ping -q -c 50 -i 0.002 10.244.2.2");
    stop.say();
    let (frames, coverage) = rest(&heard);
    assert_eq!(frames.len(), 100);
    assert_eq!((coverage.received, coverage.dropped, coverage.failed), (100, 0, None));
    assert!(coverage.started.unwrap() < coverage.stopped.unwrap());
}

#[test]
#[ignore = "needs root"]
fn frames_that_nobody_takes_count_as_dropped() {
    let rig = Rig::two_nodes_vxlan();
    let (stop, heard) = begin(order(located(&rig, "n2", "cali2"), "icmp"), |told| Box::new(Deaf(told)));
    started(&heard);
    rig.run("p1", "ping -q -c 20 -i 0.002 10.244.2.2");
    thread::sleep(Duration::from_millis(100));
    stop.say();
    let (frames, coverage) = rest(&heard);
    assert_eq!(frames.len(), 0);
    assert_eq!((coverage.received, coverage.dropped), (40, 40));
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_vanishes_ends_its_capture_alone() {
    let rig = Rig::two_nodes_vxlan();
    let (_, vanishing) = begin(order(located(&rig, "n1", "vxlan.calico"), "ip"), collect);
    let (stop, staying) = begin(order(located(&rig, "n2", "eth0"), "ip"), collect);
    for heard in [&vanishing, &staying] {
        started(heard);
    }
    rig.run("n1", "ip link del vxlan.calico");
    let why = rest(&vanishing).1.failed.unwrap();
    assert!(why.contains("disappeared"), "{why}");
    stop.say();
    assert_eq!(rest(&staying).1.failed, None);
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_goes_down_is_told_of_and_captured_again_when_up() {
    let rig = Rig::two_nodes_vxlan();
    let (stop, heard) = begin(order(located(&rig, "n2", "eth0"), "icmp"), collect);
    started(&heard);
    let mut turns = Vec::new();
    let mut turned = |wanted: bool| loop {
        match heard.recv_timeout(Duration::from_secs(5)).unwrap() {
            Out::News(News::Turned { up }) => {
                turns.push(up);
                assert_eq!(up, wanted);
                break;
            }
            Out::News(News::Ended(coverage)) => panic!("{coverage:?}"),
            _ => {}
        }
    };
    rig.run("n2", "ip link set eth0 down");
    turned(false);
    rig.run("n2", "ip link set eth0 up");
    turned(true);
    rig.run("n1", "ping -q -c 3 -i 0.2 192.168.50.2");
    stop.say();
    let (frames, coverage) = rest(&heard);
    assert_eq!((frames.len(), coverage.failed), (6, None));
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_is_down_or_missing_is_refused_with_the_reason() {
    let rig = Rig::two_nodes_vxlan();
    rig.run("n1", "ip link set cali1 down");
    let at = located(&rig, "n1", "cali1");
    let missing = Located { interface: "cali9".to_owned(), ..at.clone() };
    for (at, reason) in [(at, "up"), (missing, "No such device")] {
        let (_, heard) = begin(order(at, "ip"), collect);
        match heard.recv_timeout(Duration::from_secs(5)).unwrap() {
            Out::News(News::Refused(error)) => {
                let text = error.to_string();
                assert!(text.contains(reason) && text.contains("cannot capture on cali"), "{text}");
            }
            _ => panic!("it should not start"),
        }
    }
}

/// On receipt Linux takes a frame's tag off before the tap, on sending it is still there.
#[test]
#[ignore = "needs root"]
fn tagged_frames_pass_the_filter_of_a_nic_on_both_sides() {
    let rig = Rig::two_nodes_vxlan();
    let pair = Pair {
        from: PODS[0].parse().unwrap(),
        from_aliases: vec![],
        to: PODS[1].parse().unwrap(),
        to_aliases: vec![],
        nodes: ["192.168.50.1".parse().unwrap(), "192.168.50.2".parse().unwrap()].into(),
        vxlan_port: 4789,
        only: Only::default(),
    };
    let text = filter::expression(&pair, Role::Nic, true);
    let sides = ["n1", "n2"].map(|node| begin(order(located(&rig, node, "eth0"), &text), collect));
    for (_, heard) in &sides {
        started(heard);
    }
    // Real frames of the underlay with a tag put in: the capture of one node's own traffic, sent again.
    let at = located(&rig, "n1", "eth0");
    at.namespace
        .run(|| {
            let mut port = Capture::from_device("eth0").unwrap().open().unwrap();
            let inner = hex("ee ee ee ee ee ee 02 00 00 00 00 01 08 00 45 00 00 1c 00 01 40 00 40 11 00 00 0a f4 01 02 0a f4 02 02 00 05 00 35 00 08 00 00");
            let ethernet = hex("66 00 00 00 00 02 66 00 00 00 00 01 81 00 00 64 08 00");
            let outer = hex("45 00 00 4e 00 01 00 00 40 11 00 00 c0 a8 32 01 c0 a8 32 02 c7 a7 12 b5 00 3a 00 00 08 00 00 00 00 10 00 00");
            let foreign = [&ethernet[..], &outer, &inner[..26], &[10, 244, 1, 99], &inner[30..]].concat();
            port.sendpacket([&ethernet[..], &outer, &inner].concat()).unwrap();
            port.sendpacket(foreign).unwrap();
            port.sendpacket([&ethernet[..], &inner[14..]].concat()).unwrap();
        })
        .unwrap();
    thread::sleep(Duration::from_millis(100));
    for (stop, heard) in &sides {
        stop.say();
        let frames = rest(heard).0;
        let lengths: Vec<usize> =
            frames.iter().filter(|frame| frame[12..14] == [0x81, 0]).map(Vec::len).collect();
        assert_eq!(lengths, [96, 46], "VXLAN and native, each tagged");
    }
}

fn hex(text: &str) -> Vec<u8> {
    text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}
