//! Guesses from packets on paper, also odd and broken ones. Real captures in all forms: `scripts/by-hand`.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::evidence::Known;
use crate::evidence::capture_file::{InterfaceSpec, PcapNgWriter, Statistics};
use crate::packet::{Frame, LinkType, Timestamp};

const CLIENT: [u8; 4] = [10, 244, 1, 2];
const SERVER: [u8; 4] = [10, 244, 2, 2];
const NODES: [[u8; 4]; 2] = [[192, 168, 50, 11], [192, 168, 50, 12]];
const POD: [u8; 6] = [10, 88, 10, 244, 1, 2];
const GATE: [u8; 6] = [0xee; 6];
const MICRO: i64 = 1_000;
const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_700_000_000 * SECOND;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A classic pcap with nanoseconds.
    fn write(&self, name: &str, link: u32, frames: &[(i64, Vec<u8>)]) -> PathBuf {
        let mut bytes = Vec::new();
        for number in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, link] {
            bytes.extend(number.to_le_bytes());
        }
        for (time, frame) in frames {
            let length = u32::try_from(frame.len()).unwrap();
            let (seconds, rest) = (time.div_euclid(SECOND), time.rem_euclid(SECOND));
            for number in [u32::try_from(seconds).unwrap(), u32::try_from(rest).unwrap(), length, length] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(frame);
        }
        let file = self.0.path().join(name);
        fs::write(&file, bytes).unwrap();
        file
    }
}

/// An echo packet inside the given MAC addresses.
fn echo(seq: u16, reply: bool, ttl: u8, macs: [[u8; 6]; 2]) -> Vec<u8> {
    let (src, dst) = if reply { (SERVER, CLIENT) } else { (CLIENT, SERVER) };
    let [from, to] = if reply { [macs[1], macs[0]] } else { macs };
    let builder = PacketBuilder::ethernet2(from, to).ipv4(src, dst, ttl);
    let mut bytes = Vec::new();
    let builder = if reply { builder.icmpv4_echo_reply(7, seq) } else { builder.icmpv4_echo_request(7, seq) };
    builder.write(&mut bytes, &[7; 32]).unwrap();
    bytes
}

fn tunnelled(seq: u16, reply: bool) -> Vec<u8> {
    let (from, to) = if reply { (NODES[1], NODES[0]) } else { (NODES[0], NODES[1]) };
    let mut payload = vec![8, 0, 0, 0, 0, 0x10, 0, 0];
    payload.extend(echo(seq, reply, 63, [[0x66; 6]; 2]));
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([6; 6], [8; 6])
        .ipv4(from, to, 64)
        .udp(50_000, 8_472)
        .write(&mut bytes, &payload)
        .unwrap();
    bytes
}

/// A frame as a Linux cooked capture, version 2, has it.
fn cooked(index: u32, out: bool, sender: [u8; 6], frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![8, 0, 0, 0];
    bytes.extend(index.to_be_bytes());
    bytes.extend([0, 1, if out { 4 } else { 0 }, 6]);
    bytes.extend(sender);
    bytes.extend([0, 0]);
    bytes.extend(&frame[14..]);
    bytes
}

/// Twenty pings and their answers as a place sees them: microseconds after the start of each, there and back.
fn pings(there: i64, back: i64, offset: i64, of: impl Fn(u16, bool) -> Vec<u8>) -> Vec<(i64, Vec<u8>)> {
    let at = |seq: u16, micros: i64| START + i64::from(seq) * SECOND / 2 + micros * MICRO + offset;
    (0..20).flat_map(|seq| [(at(seq, there), of(seq, false)), (at(seq, back), of(seq, true))]).collect()
}

fn veth(from_side: bool) -> impl Fn(u16, bool) -> Vec<u8> {
    let macs = if from_side { [POD, GATE] } else { [GATE, POD] };
    move |seq, reply| echo(seq, reply, if from_side == reply { 62 } else { 64 }, macs)
}

fn plain(files: &[&Path]) -> Vec<Recording> {
    files.iter().map(|file| Recording { file: file.to_path_buf(), point: None }).collect()
}

fn read(given: &[Recording]) -> Result<Recordings, RecordingsError> {
    Recordings::read(given, None, None, 12)
}

fn order(recordings: &Recordings) -> Vec<(String, Role)> {
    recordings.case.points.iter().map(|point| (point.id.clone(), point.role)).collect()
}

#[test]
fn packets_alone_tell_the_places_whatever_the_clocks_say() {
    let folder = Folder::new();
    let hour = 3_600 * SECOND;
    let files = [
        folder.write("1.pcap", 1, &pings(90, 200, hour, tunnelled)),
        folder.write("2.pcap", 1, &pings(130, 150, hour, veth(false))),
        folder.write("3.pcap", 1, &pings(10, 280, 0, veth(true))),
        folder.write("4.pcap", 1, &pings(50, 240, 0, tunnelled)),
    ];
    // Nothing says of which node each NIC is but the order in which packets come by.
    let given: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let recordings = read(&plain(&given)).unwrap();
    let (one, other) = (Ipv4Addr::from(NODES[0]), Ipv4Addr::from(NODES[1]));
    assert_eq!(
        order(&recordings),
        [
            (format!("{one}/veth"), Role::Veth),
            (format!("{one}/nic"), Role::Nic),
            (format!("{other}/nic"), Role::Nic),
            (format!("{other}/veth"), Role::Veth),
        ]
    );
    assert_eq!(recordings.case.from.address, IpAddr::from(CLIENT));
    assert_eq!(recordings.case.vxlan_port, 8_472);
    assert!(
        recordings.case.warnings.iter().any(|words| words.contains("1 h 0 min 0 s ahead")),
        "{:?}",
        recordings.case.warnings
    );
    // All of the second node's frames come by the first one's clock.
    let mut frames = recordings.openings.open().unwrap();
    let mut last = 0;
    while let Some((_, frame)) = frames.next_frame().unwrap() {
        assert!((START..START + 20 * SECOND).contains(&frame.time.0) && frame.time.0 >= last);
        last = frame.time.0;
    }
}

#[test]
fn an_empty_file_does_not_count_when_packets_must_have_come_by() {
    let folder = Folder::new();
    let veth1 = folder.write("n1_cali1.pcap", 1, &pings(10, 280, 0, veth(true)));
    let nic2 = folder.write("n2_eth0.pcap", 1, &pings(90, 200, 0, tunnelled));
    let veth2 = folder.write("n2_cali2.pcap", 1, &[]);
    let recordings = read(&plain(&[&veth1, &nic2, &veth2])).unwrap();
    assert_eq!(recordings.case.points.len(), 2, "{:?}", order(&recordings));
    assert!(recordings.case.warnings.iter().any(|words| words.contains("n2_cali2.pcap is left out")));
    assert!(recordings.case.paths[0].open_end && !recordings.case.paths[1].open_end);
}

#[test]
fn an_empty_file_runs_with_the_others_of_its_node() {
    let folder = Folder::new();
    let asked = |_: u16, reply: bool| !reply;
    let only_there = |frames: Vec<(i64, Vec<u8>)>| {
        let wanted = frames.into_iter().enumerate().filter(|(index, _)| asked(0, index % 2 == 1));
        wanted.map(|(_, frame)| frame).collect::<Vec<_>>()
    };
    let veth1 = folder.write("n1_cali1.pcap", 1, &only_there(pings(10, 280, 0, veth(true))));
    let nic2 = folder.write("n2_eth0.pcap", 1, &only_there(pings(90, 200, 0, tunnelled)));
    let veth2 = folder.write("n2_cali2.pcap", 1, &[]);
    let recordings = read(&plain(&[&veth1, &nic2, &veth2])).unwrap();
    let of = |index: usize| {
        recordings.case.points[index].state.read().map(|coverage| (coverage.started, coverage.stopped))
    };
    assert_eq!(recordings.case.points.len(), 3);
    assert_eq!(of(2), of(1));
    assert!(recordings.case.warnings.iter().any(|words| words.contains("n2/cali2 holds no packet")));
}

/// A pcapng as dumpcap writes it: an interface without a packet stands in it, with its counts.
#[test]
fn an_interface_that_saw_nothing_is_a_place_unless_several_may_be_it() {
    let folder = Folder::new();
    let spec = |name: &str| InterfaceSpec {
        name: name.to_owned(),
        description: None,
        link: LinkType::Ethernet,
        snaplen: 0,
        filter: None,
    };
    let node = |name: &str, veths: &[&str]| {
        let specs: Vec<_> = ["eth0"].iter().chain(veths).map(|name| spec(name)).collect();
        let mut writer = PcapNgWriter::new(Vec::new(), &specs).unwrap();
        for (time, bytes) in pings(90, 200, 0, tunnelled).iter().step_by(2) {
            let wire_len = u32::try_from(bytes.len()).unwrap();
            let frame = Frame { time: Timestamp(*time), wire_len, link: LinkType::Ethernet, bytes };
            writer.write(0, &frame, None).unwrap();
        }
        let counts = Statistics { start: Some(Timestamp(START)), ..Statistics::default() };
        let bytes = writer.finish(&vec![Some(counts); specs.len()]).unwrap();
        let file = folder.0.path().join(name);
        fs::write(&file, bytes).unwrap();
        file
    };
    let veth1 = folder.write(
        "worker-1_cali1.pcap",
        1,
        &pings(10, 280, 0, veth(true)).into_iter().step_by(2).collect::<Vec<_>>(),
    );
    let one = read(&plain(&[&veth1, &node("worker-2.pcapng", &["cali2"])])).unwrap();
    let wanted = ["worker-1/cali1", "worker-2/eth0", "worker-2/cali2"];
    assert_eq!(order(&one).into_iter().map(|(id, _)| id).collect::<Vec<_>>(), wanted);
    let several = read(&plain(&[&veth1, &node("worker-2.pcapng", &["cali2", "cali3"])])).unwrap();
    assert_eq!(order(&several).into_iter().map(|(id, _)| id).collect::<Vec<_>>(), wanted[..2]);
}

#[test]
fn a_node_without_any_packet_says_nothing() {
    let folder = Folder::new();
    let veth1 = folder.write("n1_cali1.pcap", 1, &pings(10, 280, 0, veth(true)));
    let veth2 = folder.write("n2_cali2.pcap", 1, &[]);
    let error = read(&plain(&[&veth1, &veth2])).unwrap_err().to_string();
    assert!(error.contains("nothing shows that they were captured at that time"), "{error}");
}

#[test]
fn two_places_in_one_interface_are_found_out() {
    let folder = Folder::new();
    let mut both = [pings(50, 240, 0, tunnelled), pings(90, 200, 0, tunnelled)].concat();
    both.sort_by_key(|(time, _)| *time);
    let nics = folder.write("nics.pcap", 1, &both);
    let veth1 = folder.write("veth1.pcap", 1, &pings(10, 280, 0, veth(true)));
    let error = read(&plain(&[&veth1, &nics])).unwrap_err().to_string();
    assert!(error.contains("packets come by it twice"), "{error}");
    // One in a tunnel and one in none can be told apart.
    let mut both = [pings(50, 240, 0, tunnelled), pings(10, 280, 0, veth(true))].concat();
    both.sort_by_key(|(time, _)| *time);
    let mixed = folder.write("mixed.pcap", 1, &both);
    let recordings = read(&plain(&[&mixed])).unwrap();
    let roles: Vec<Role> = recordings.case.points.iter().map(|point| point.role).collect();
    assert_eq!(roles, [Role::Veth, Role::Nic]);
}

/// A datagram without an IP identification, and its answer of the same length, inside the given MAC addresses.
fn datagram(server: [u8; 4], seq: u16, reply: bool, ttl: u8, macs: [[u8; 6]; 2]) -> Vec<u8> {
    let (src, dst) = if reply { (server, CLIENT) } else { (CLIENT, server) };
    let [from, to] = if reply { [macs[1], macs[0]] } else { macs };
    let builder = PacketBuilder::ethernet2(from, to).ipv4(src, dst, ttl);
    let builder = if reply { builder.udp(53, 40_000) } else { builder.udp(40_000, 53) };
    let mut payload = vec![server[2], u8::from(reply), 0, 0];
    payload.extend(seq.to_be_bytes());
    // Only two packets each way are of one length.
    payload.resize(8 + usize::from(seq / 2), 0);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &payload).unwrap();
    bytes
}

/// A client of two servers: that datagrams are of one length makes neither the servers one, nor two places of one file.
#[test]
fn datagrams_of_one_length_are_told_apart_by_what_is_in_them() {
    let folder = Folder::new();
    let seen = |servers: &[[u8; 4]], there: i64, ttl: u8, macs: [[u8; 6]; 2]| {
        let frames = servers.iter().flat_map(|server| {
            pings(there, 1_000 - there, 0, move |seq, reply| datagram(*server, seq, reply, ttl, macs))
        });
        let mut frames: Vec<_> = frames.collect();
        frames.sort_by_key(|(time, _)| *time);
        frames
    };
    let near = folder.write("1.pcap", 1, &seen(&[SERVER, [10, 244, 3, 3]], 10, 64, [POD, GATE]));
    let far = folder.write("2.pcap", 1, &seen(&[SERVER], 200, 62, [GATE, POD]));
    let (client, server) = (IpAddr::from(CLIENT), IpAddr::from(SERVER));
    let recordings = Recordings::read(&plain(&[&near, &far]), Some(client), Some(server), 12).unwrap();
    assert_eq!(recordings.case.aliases, Aliases::default(), "{:?}", recordings.guesses);
    assert_eq!(recordings.case.points.len(), 2);
}

#[test]
fn rotated_files_are_one_place_and_a_missing_one_is_noticed() {
    let folder = Folder::new();
    let all = pings(10, 280, 0, veth(true));
    let piece = |name: &str, range: std::ops::Range<usize>| folder.write(name, 1, &all[range]);
    let pieces =
        [piece("n1_cali1.pcap", 0..10), piece("n1_cali1.pcap1", 10..20), piece("n1_cali1.pcap2", 20..40)];
    let nic2 = folder.write("n2_eth0.pcap", 1, &pings(90, 200, 0, tunnelled));
    let whole = read(&plain(&[&pieces[2], &nic2, &pieces[0], &pieces[1]])).unwrap();
    assert_eq!(whole.case.points[0].state.read().unwrap().received, 40);
    let mut frames = whole.openings.open().unwrap();
    let mut n = 0;
    while frames.next_frame().unwrap().is_some() {
        n += 1;
    }
    assert_eq!(n, 80);
    let gap = read(&plain(&[&pieces[0], &pieces[2], &nic2])).unwrap();
    assert_eq!(gap.case.points[0].state.read().unwrap().received, 20);
    assert!(gap.case.warnings.iter().any(|words| words.contains("is missing")), "{:?}", gap.case.warnings);
}

#[test]
fn points_in_the_wrong_order_are_refused() {
    let folder = Folder::new();
    let veth1 = folder.write("a.pcap", 1, &pings(10, 280, 0, veth(true)));
    let veth2 = folder.write("b.pcap", 1, &pings(130, 150, 0, veth(false)));
    let said =
        |point: &str, file: &Path| Recording { file: file.to_path_buf(), point: Some(point.to_owned()) };
    let given = [said("n2/cali2", &veth2), said("n1/cali1", &veth1)];
    let error =
        Recordings::read(&given, Some(CLIENT.into()), Some(SERVER.into()), 12).unwrap_err().to_string();
    assert!(error.contains("turn the order"), "{error}");
    // Without the ends the order is what tells them.
    let turned = read(&given).unwrap();
    assert_eq!(turned.case.from.address, IpAddr::from(SERVER));
    let twice = [said("n1/cali1", &veth1), said("n1/cali1", &veth2)];
    assert!(read(&twice).unwrap_err().to_string().contains("at the same time"));
}

#[test]
fn cooked_captures_of_all_interfaces_are_taken_apart() {
    let folder = Folder::new();
    // The first node: veth 5, tunnel device 6, NIC 2.
    let mut frames = [
        pings(10, 280, 0, |seq, reply| {
            let frame = veth(true)(seq, reply);
            cooked(5, reply, if reply { GATE } else { POD }, &frame)
        }),
        pings(40, 250, 0, |seq, reply| cooked(6, !reply, [0x66; 6], &echo(seq, reply, 63, [[0x66; 6]; 2]))),
        pings(50, 240, 0, |seq, reply| cooked(2, !reply, [6; 6], &tunnelled(seq, reply))),
    ]
    .concat();
    frames.sort_by_key(|(time, _)| *time);
    let file = folder.write("worker-1-any.pcap", 276, &frames);
    let recordings = read(&plain(&[&file])).unwrap();
    let wanted = [("worker-1/if5", Role::Veth), ("worker-1/if6", Role::Tunnel), ("worker-1/if2", Role::Nic)];
    assert_eq!(order(&recordings), wanted.map(|(id, role)| (id.to_owned(), role)));
    // Version 1 has no index: direction and tunnel tell.
    let v1 = frames.iter().map(|(time, frame)| {
        let mut bytes = vec![0, frame[10], 0, 1, 0, 6];
        bytes.extend(&frame[12..20]);
        bytes.extend([8, 0]);
        bytes.extend(&frame[20..]);
        (*time, bytes)
    });
    let file = folder.write("worker-1.pcap", 113, &v1.collect::<Vec<_>>());
    let recordings = read(&plain(&[&file])).unwrap();
    let wanted =
        [("worker-1/veth", Role::Veth), ("worker-1/tunnel", Role::Tunnel), ("worker-1/nic", Role::Nic)];
    assert_eq!(order(&recordings), wanted.map(|(id, role)| (id.to_owned(), role)));
}

#[test]
fn a_tunnel_device_that_the_traffic_does_not_take_is_no_place_of_its_path() {
    let folder = Folder::new();
    let other = |seq| {
        let mut bytes = Vec::new();
        let builder =
            PacketBuilder::ethernet2([0x66; 6], [0x66; 6]).ipv4([10, 244, 1, 0], [10, 244, 3, 0], 64);
        builder.icmpv4_echo_request(9, seq).write(&mut bytes, &[9; 32]).unwrap();
        (START + i64::from(seq) * SECOND, cooked(6, true, [0x66; 6], &bytes))
    };
    let node = |name: &str, from: bool| {
        let (veth_at, nic_at) = if from { ([10, 280], [50, 240]) } else { ([130, 150], [90, 200]) };
        let mut frames = [
            pings(veth_at[0], veth_at[1], 0, |seq, reply| {
                let into_pod = from == reply;
                cooked(5, into_pod, if into_pod { GATE } else { POD }, &veth(from)(seq, reply))
            }),
            pings(nic_at[0], nic_at[1], 0, |seq, reply| {
                cooked(2, from != reply, [6; 6], &echo(seq, reply, 63, [[6; 6], [8; 6]]))
            }),
            (0..3).map(other).collect(),
        ]
        .concat();
        frames.sort_by_key(|(time, _)| *time);
        folder.write(name, 276, &frames)
    };
    let files = [node("worker-1-any.pcap", true), node("worker-2-any.pcap", false)];
    let recordings = read(&plain(&[&files[0], &files[1]])).unwrap();
    let wanted = ["worker-1/if5", "worker-1/if2", "worker-2/if2", "worker-2/if5"];
    assert_eq!(order(&recordings).into_iter().map(|(id, _)| id).collect::<Vec<_>>(), wanted);
    assert!(recordings.case.paths.iter().all(|path| !path.encapsulated));
    assert!(recordings.case.warnings.is_empty(), "{:?}", recordings.case.warnings);
}

#[test]
fn files_without_two_hosts_are_an_error() {
    let folder = Folder::new();
    let empty = folder.write("a.pcap", 1, &[]);
    let other = folder.write("b.pcap", 147, &[(START, vec![1; 60])]);
    let error = read(&plain(&[&empty, &other])).unwrap_err().to_string();
    assert!(error.contains("no IP packet between two hosts is in "), "{error}");
    assert!(matches!(read(&[]), Err(RecordingsError::NoPacket { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Files of anything are read, or refused with a reason; never a panic. What is read can be read to its end, and every
    /// point is on the path.
    #[test]
    fn any_files_are_a_case_or_an_error(
        files in prop::collection::vec(
            (prop::sample::select(vec![1_u32, 113, 276, 101, 0, 108, 228, 147]),
             prop::collection::vec((0_usize..7, any::<u16>(), any::<bool>(), 0_i64..3_000_000, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<prop::sample::Index>()), 0..30)),
            1..5),
        said in prop::collection::vec(prop::option::of(prop::sample::select(vec!["a/eth0", "a/any", "b/cali1", "b/eth0", "a/pod:eth0"])), 5),
    ) {
        let folder = Folder::new();
        let mut given = Vec::new();
        for (number, (link, frames)) in files.iter().enumerate() {
            let frames: Vec<_> = frames.iter().map(|(kind, seq, reply, micros, changes, cut)| {
                let mut bytes = match kind {
                    0 => veth(true)(*seq, *reply),
                    1 => veth(false)(*seq, *reply),
                    2 => tunnelled(*seq, *reply),
                    3 => echo(*seq, *reply, 63, [[0x66; 6]; 2]),
                    4 => tunnelled(*seq, *reply)[14..].to_vec(),
                    5 => [&[8, 0, 0, 0, 0, 0, 0, 7, 0, 1, 4, 6, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0, 0][..], &veth(true)(*seq, *reply)[14..]].concat(),
                    _ => vec![0xff; 40],
                };
                for (index, value) in changes {
                    let at = index.index(bytes.len());
                    bytes[at] = *value;
                }
                if *seq % 5 == 0 {
                    bytes.truncate(cut.index(bytes.len()));
                }
                (START + micros * MICRO, bytes)
            }).collect();
            let file = folder.write(&format!("{number}.pcap"), *link, &frames);
            given.push(Recording { file, point: said[number].map(str::to_owned) });
        }
        if let Ok(recordings) = read(&given) {
            let n = recordings.case.points.len();
            prop_assert!((2..=12).contains(&n));
            prop_assert!(recordings.case.paths.iter().all(|path| path.points.len() == path.stages.len() + 1));
            prop_assert!(recordings.case.points.iter().all(|point| matches!(point.state, Known::Read(_))));
            let mut frames = recordings.openings.open().unwrap();
            while let Some((point, _)) = frames.next_frame().unwrap() {
                prop_assert!(point.index() < n);
            }
        }
    }
}
