//! The filter against crafted frames, compiled as libpcap compiles it for an Ethernet interface.

use pcap::{BpfProgram, Capture, Linktype};

use super::*;

const A: &str = "10.244.1.2";
const B: &str = "10.244.2.2";
const A6: &str = "fd00:1::2";
const B6: &str = "fd00:2::2";
const N1: &str = "192.168.50.1";
const N2: &str = "192.168.50.2";
const N3: &str = "192.168.50.3";
const N1_6: &str = "fd50::1";
const N2_6: &str = "fd50::2";
const N3_6: &str = "fd50::3";
const SERVICE: &str = "10.96.0.10";
const TUNNEL: &str = "10.244.1.0";
const OTHER: &str = "10.244.1.99";
const OTHER6: &str = "fd00:1::99";
const TCP: u8 = 6;
const UDP: u8 = 17;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pair() -> Pair {
    Pair {
        from: ip(A),
        from_aliases: vec![ip(TUNNEL), ip(N1)],
        to: ip(B),
        to_aliases: vec![ip(SERVICE)],
        nodes: [N1, N2, N1_6, N2_6].map(ip).into(),
        vxlan_port: 4789,
        only: Only::default(),
    }
}

fn pair6() -> Pair {
    Pair { from: ip(A6), from_aliases: vec![], to: ip(B6), to_aliases: vec![], ..pair() }
}

fn only(pair: Pair, protocol: Option<u8>, port: Option<u16>) -> Pair {
    Pair { only: Only { protocol, port, also: None }, ..pair }
}

fn compile(text: &str, link: i32) -> BpfProgram {
    Capture::dead(Linktype(link))
        .unwrap()
        .compile(text, true)
        .unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn program(pair: &Pair, role: Role) -> BpfProgram {
    compile(&expression(pair, role, true), 1)
}

// Frames, from the outside in.

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x66, 0, 0, 0, 0, 2, 0x66, 0, 0, 0, 0, 1];
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn frame(packet: &[u8]) -> Vec<u8> {
    ethernet(if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 }, packet)
}

fn tagged(untagged: &[u8]) -> Vec<u8> {
    [&untagged[..12], &[0x81, 0, 0, 100], &untagged[12..]].concat()
}

/// An IP packet of the family of its addresses; with `fragment` the offset in eights.
fn packet_with(
    source: &str,
    destination: &str,
    protocol: u8,
    payload: &[u8],
    fragment: Option<u16>,
) -> Vec<u8> {
    match (ip(source), ip(destination)) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = u16::try_from(20 + payload.len()).unwrap();
            let mut packet = vec![0x45, 0];
            packet.extend_from_slice(&length.to_be_bytes());
            packet.extend_from_slice(&[0, 1]);
            packet.extend_from_slice(&fragment.unwrap_or(0x4000).to_be_bytes());
            packet.extend_from_slice(&[64, protocol, 0, 0]);
            packet.extend_from_slice(&source.octets());
            packet.extend_from_slice(&destination.octets());
            packet.extend_from_slice(payload);
            packet
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let extension = fragment.map(|at| {
                let mut header = vec![protocol, 0];
                header.extend_from_slice(&(at << 3).to_be_bytes());
                header.extend_from_slice(&[0, 0, 0, 1]);
                header
            });
            let next = if extension.is_some() { 44 } else { protocol };
            let extension = extension.unwrap_or_default();
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend_from_slice(&u16::try_from(extension.len() + payload.len()).unwrap().to_be_bytes());
            packet.extend_from_slice(&[next, 64]);
            packet.extend_from_slice(&source.octets());
            packet.extend_from_slice(&destination.octets());
            packet.extend_from_slice(&extension);
            packet.extend_from_slice(payload);
            packet
        }
        _ => panic!("one family"),
    }
}

fn packet(source: &str, destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    packet_with(source, destination, protocol, payload, None)
}

/// A transport header with ports and enough bytes behind them.
fn ports(source: u16, destination: u16) -> Vec<u8> {
    let mut header = source.to_be_bytes().to_vec();
    header.extend_from_slice(&destination.to_be_bytes());
    header.resize(60, 0);
    header
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = source.to_be_bytes().to_vec();
    datagram.extend_from_slice(&destination.to_be_bytes());
    datagram.extend_from_slice(&u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    datagram
}

fn tcp(source: &str, destination: &str) -> Vec<u8> {
    packet(source, destination, TCP, &ports(40000, 80))
}

fn vxlan_datagram(port: u16, inner: &[u8]) -> Vec<u8> {
    let mut header = vec![8, 0, 0, 0, 0, 0x10, 0, 0];
    header.extend_from_slice(&frame(inner));
    udp(51111, port, &header)
}

fn vxlan(source: &str, destination: &str, inner: &[u8]) -> Vec<u8> {
    packet(source, destination, UDP, &vxlan_datagram(4789, inner))
}

/// An ICMP or `ICMPv6` error with its quotation cut to `kept` bytes.
fn error(source: &str, destination: &str, kind: u8, quoted: &[u8], kept: usize) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&quoted[..kept.min(quoted.len())]);
    packet(source, destination, if ip(source).is_ipv6() { 58 } else { 1 }, &message)
}

fn arp(sender: &str, target: &str) -> Vec<u8> {
    let octets = |text: &str| match ip(text) {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => panic!("ARP is IPv4's"),
    };
    let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1];
    request.extend_from_slice(&octets(sender));
    request.extend_from_slice(&[0; 6]);
    request.extend_from_slice(&octets(target));
    ethernet(0x0806, &request)
}

fn solicitation(source: &str, target: &str) -> Vec<u8> {
    let IpAddr::V6(target) = ip(target) else { panic!("ND is IPv6's") };
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&target.octets());
    frame(&packet(source, "ff02::1:ff00:2", 58, &message))
}

#[track_caller]
fn passes(program: &BpfProgram, frames: &[(&str, Vec<u8>)]) {
    for (what, frame) in frames {
        assert!(program.filter(frame), "should pass: {what}");
    }
}

#[track_caller]
fn stops(program: &BpfProgram, frames: &[(&str, Vec<u8>)]) {
    for (what, frame) in frames {
        assert!(!program.filter(frame), "should not pass: {what}");
    }
}

const ROLES: [Role; 4] = [Role::Pod, Role::Veth, Role::Tunnel, Role::Nic];

#[test]
fn native_packets_of_the_pair_pass_everywhere() {
    for role in ROLES {
        let filter = program(&pair(), role);
        passes(
            &filter,
            &[
                ("forward", frame(&tcp(A, B))),
                ("reply", frame(&tcp(B, A))),
                ("to the Service", frame(&tcp(A, SERVICE))),
                ("from the Service", frame(&tcp(SERVICE, A))),
                ("after SNAT", frame(&tcp(TUNNEL, B))),
                ("to the SNAT address", frame(&tcp(B, TUNNEL))),
                ("a later fragment", frame(&packet_with(A, B, UDP, &[0; 40], Some(185)))),
                ("an unknown protocol", frame(&packet(A, B, 200, &[]))),
            ],
        );
        stops(
            &filter,
            &[
                ("from another pod", frame(&tcp(OTHER, B))),
                ("to another pod", frame(&tcp(A, OTHER))),
                ("the node to the Service", frame(&tcp(N1, SERVICE))),
                ("the Service to the other end", frame(&tcp(SERVICE, B))),
                ("nothing of ours", frame(&tcp(N1, N2))),
                ("the other family", frame(&packet(A6, B6, TCP, &ports(1, 80)))),
            ],
        );
    }
}

#[test]
fn native_ipv6_packets_pass_everywhere() {
    for role in ROLES {
        let filter = program(&pair6(), role);
        passes(
            &filter,
            &[
                ("forward", frame(&tcp(A6, B6))),
                ("reply", frame(&tcp(B6, A6))),
                ("a fragment", frame(&packet_with(A6, B6, UDP, &[0; 40], Some(100)))),
            ],
        );
        stops(
            &filter,
            &[
                ("another pod", frame(&tcp(OTHER6, B6))),
                ("to another pod", frame(&tcp(A6, OTHER6))),
                ("IPv4", frame(&tcp(A, B))),
            ],
        );
    }
}

#[test]
fn protocol_and_port_hold_but_for_fragments_and_errors() {
    for (from, to, filter_pair) in [(A, B, pair()), (A6, B6, pair6())] {
        let segment =
            |source, destination, port| frame(&packet(source, destination, TCP, &ports(40000, port)));
        let filter = program(&only(filter_pair.clone(), Some(TCP), Some(80)), Role::Veth);
        passes(
            &filter,
            &[
                ("to the port", segment(from, to, 80)),
                ("from the port", frame(&packet(to, from, TCP, &ports(80, 40000)))),
                ("a later fragment", frame(&packet_with(from, to, TCP, &[0; 16], Some(20)))),
                (
                    "an error",
                    frame(&error(to, from, if ip(from).is_ipv6() { 1 } else { 3 }, &tcp(from, to), 100)),
                ),
            ],
        );
        stops(
            &filter,
            &[
                ("another port", segment(from, to, 81)),
                ("another protocol", frame(&packet(from, to, UDP, &ports(40000, 80)))),
                ("a fragment of another protocol", frame(&packet_with(from, to, UDP, &[0; 16], Some(20)))),
            ],
        );
        let through_a_service = Only { protocol: Some(TCP), port: Some(80), also: Some(8080) };
        let both = program(&Pair { only: through_a_service, ..filter_pair.clone() }, Role::Veth);
        passes(&both, &[("before", segment(from, to, 80)), ("behind", segment(from, to, 8080))]);
        stops(&both, &[("neither", segment(from, to, 81))]);
        let any_protocol = program(&only(filter_pair.clone(), None, Some(53)), Role::Veth);
        passes(
            &any_protocol,
            &[("UDP", frame(&packet(from, to, UDP, &ports(5, 53)))), ("TCP", segment(from, to, 53))],
        );
        stops(
            &any_protocol,
            &[("no port", frame(&packet(from, to, if ip(from).is_ipv6() { 58 } else { 1 }, &[8; 60])))],
        );
        let icmp = program(&only(filter_pair, Some(1), Some(80)), Role::Veth);
        let own_icmp = if ip(from).is_ipv6() { 58 } else { 1 };
        passes(&icmp, &[("ICMP", frame(&packet(from, to, own_icmp, &[128, 0, 0, 0, 0, 0, 0, 0])))]);
        stops(&icmp, &[("TCP", segment(from, to, 80))]);
    }
    let options = {
        let mut packet = packet(A, B, TCP, &[&[0; 4][..], &ports(40000, 80)].concat());
        packet[0] = 0x46;
        packet
    };
    let filter = program(&only(pair(), Some(TCP), Some(80)), Role::Veth);
    passes(&filter, &[("ports behind IPv4 options", frame(&options))]);
}

#[test]
fn errors_about_the_pair_pass_from_anybody() {
    for role in ROLES {
        let filter = program(&pair(), role);
        passes(
            &filter,
            &[
                ("unreachable from the node", frame(&error(N1, A, 3, &tcp(A, B), 28))),
                ("time exceeded from a router", frame(&error("203.0.113.9", A, 11, &tcp(A, B), 28))),
                ("about a reply", frame(&error(N2, B, 3, &tcp(B, A), 28))),
                ("about a packet to the Service", frame(&error(N1, A, 3, &tcp(A, SERVICE), 28))),
            ],
        );
        stops(
            &filter,
            &[
                ("about others", frame(&error(N1, OTHER, 3, &tcp(OTHER, B), 28))),
                ("an echo request that looks like one", frame(&error(N1, OTHER, 8, &tcp(A, B), 28))),
            ],
        );
        let filter = program(&pair6(), role);
        passes(&filter, &[("packet too big", frame(&error(N1_6, A6, 2, &tcp(A6, B6), 60)))]);
        stops(&filter, &[("about others", frame(&error(N1_6, OTHER6, 2, &tcp(OTHER6, B6), 60)))]);
    }
}

#[test]
fn neighbours_of_the_ends_pass() {
    for role in [Role::Pod, Role::Veth] {
        let filter = program(&pair(), role);
        passes(&filter, &[("for the gateway", arp(A, "169.254.1.1")), ("for the pod", arp(N1, A))]);
        stops(&filter, &[("for others", arp(N1, OTHER))]);
        passes(&program(&pair6(), role), &[("solicitation", solicitation(A6, "fe80::1"))]);
    }
    passes(
        &program(&pair(), Role::Tunnel),
        &[("for the other node's tunnel address", arp(TUNNEL, "10.244.2.0"))],
    );
    let filter = program(&pair(), Role::Nic);
    passes(
        &filter,
        &[
            ("for a node", arp(N1, N2)),
            ("for the pod, where nobody should ask", arp(N1, B)),
            ("tagged", tagged(&arp(N1, N2))),
            ("solicitation for a node", solicitation(N1_6, N2_6)),
        ],
    );
    stops(&filter, &[("others", arp(N3, "192.168.50.9")), ("others", solicitation(N3_6, "fd50::9"))]);
}

#[test]
fn packets_inside_vxlan_pass_on_a_nic_whoever_gets_them() {
    for (outer_from, outer_to, third) in [(N1, N2, N3), (N1_6, N2_6, N3_6)] {
        for (from, to, other, filter_pair) in [(A, B, OTHER, pair()), (A6, B6, OTHER6, pair6())] {
            let filter = program(&filter_pair, Role::Nic);
            let kind = if ip(from).is_ipv6() { 1 } else { 3 };
            let inside = [
                ("forward", vxlan(outer_from, outer_to, &tcp(from, to))),
                ("reply", vxlan(outer_to, outer_from, &tcp(to, from))),
                ("to a third node", vxlan(outer_from, third, &tcp(from, to))),
                ("from a third node", vxlan(third, outer_from, &tcp(to, from))),
                ("an error inside", vxlan(outer_to, outer_from, &error(to, from, kind, &tcp(from, to), 60))),
                (
                    "on the other well-known port",
                    packet(outer_from, outer_to, UDP, &vxlan_datagram(8472, &tcp(from, to))),
                ),
            ];
            let foreign = [
                ("other pods", vxlan(outer_from, outer_to, &tcp(other, to))),
                (
                    "an error about others",
                    vxlan(outer_to, outer_from, &error(to, other, kind, &tcp(other, to), 60)),
                ),
                ("no VXLAN port", packet(outer_from, outer_to, UDP, &vxlan_datagram(4000, &tcp(from, to)))),
                ("VXLAN's answer port", packet(outer_from, outer_to, UDP, &udp(4789, 51111, &[0; 80]))),
            ];
            for (what, packet) in inside {
                passes(&filter, &[(what, frame(&packet)), ("tagged", tagged(&frame(&packet)))]);
            }
            for (what, packet) in foreign {
                stops(&filter, &[(what, frame(&packet)), ("tagged", tagged(&frame(&packet)))]);
            }
            let with_port = program(&only(filter_pair, Some(TCP), Some(80)), Role::Nic);
            passes(
                &with_port,
                &[
                    ("the port inside", frame(&vxlan(outer_from, outer_to, &tcp(from, to)))),
                    (
                        "an inner fragment",
                        frame(&vxlan(outer_from, outer_to, &packet_with(from, to, TCP, &[0; 40], Some(9)))),
                    ),
                ],
            );
            let other_port = packet(from, to, TCP, &ports(40000, 81));
            stops(&with_port, &[("another port inside", frame(&vxlan(outer_from, outer_to, &other_port)))]);
        }
    }
}

#[test]
fn outer_fragments_and_errors_pass_on_a_nic() {
    let filter = program(&pair(), Role::Nic);
    let datagram = vxlan_datagram(4789, &tcp(A, B));
    let carried = vxlan(N1, N2, &tcp(A, B));
    let carried_v6 = vxlan(N1_6, N2_6, &tcp(A, B));
    let inside = [
        ("a first fragment", packet_with(N1, N2, UDP, &datagram, Some(0x2000))),
        ("a later fragment", packet_with(N1, N2, UDP, &[0; 40], Some(185))),
        ("a later fragment to a third node", packet_with(N2, N3, UDP, &[0; 40], Some(185))),
        ("an IPv6 fragment", packet_with(N1_6, N2_6, UDP, &[0; 40], Some(10))),
        ("the first IPv6 fragment", packet_with(N1_6, N2_6, UDP, &datagram, Some(0))),
        ("an error that quotes eight bytes", error("192.168.50.254", N1, 3, &carried, 28)),
        (
            "an error about one to a third node",
            error("192.168.50.254", N1, 3, &vxlan(N1, N3, &tcp(A, B)), 28),
        ),
        ("an IPv6 error", error(N2_6, N1_6, 1, &carried_v6, 60)),
    ];
    let foreign = [
        ("another node's fragment", packet_with(N3, N2, UDP, &[0; 40], Some(185))),
        ("a fragment of another protocol", packet_with(N1, N3, TCP, &[0; 40], Some(185))),
        ("an IPv6 fragment of another protocol", packet_with(N1_6, N3_6, TCP, &[0; 40], Some(185))),
        (
            "an error about other nodes",
            error(N3, "192.168.50.4", 3, &vxlan("192.168.50.4", N3, &tcp(A, B)), 28),
        ),
        ("an error about other traffic", error(N2, N1, 3, &packet(N1, N2, UDP, &ports(5, 53)), 28)),
    ];
    for (what, packet) in inside {
        passes(&filter, &[(what, frame(&packet)), ("tagged", tagged(&frame(&packet)))]);
    }
    for (what, packet) in foreign {
        stops(&filter, &[(what, frame(&packet)), ("tagged", tagged(&frame(&packet)))]);
    }
    for role in [Role::Pod, Role::Veth, Role::Tunnel] {
        stops(&program(&pair(), role), &[("VXLAN beside the NIC", frame(&carried))]);
    }
}

#[test]
fn native_packets_pass_tagged_on_a_nic() {
    let filter = program(&pair(), Role::Nic);
    passes(&filter, &[("tagged", tagged(&frame(&tcp(A, B)))), ("plain", frame(&tcp(A, B)))]);
    stops(&filter, &[("others", tagged(&frame(&tcp(OTHER, B))))]);
}

#[test]
fn vxlan_of_others_is_not_the_traffic_of_a_node() {
    let node = Pair { to: ip(N2), to_aliases: vec![], ..pair() };
    let filter = program(&node, Role::Nic);
    passes(&filter, &[("the pod to the node", frame(&tcp(A, N2))), ("after SNAT", frame(&tcp(N1, N2)))]);
    stops(&filter, &[("other pods between the nodes", frame(&vxlan(N1, N2, &tcp(OTHER, B))))]);
}

#[test]
fn interfaces_without_ethernet_have_a_filter_too() {
    for role in ROLES {
        for pair in [pair(), pair6()] {
            let filter = compile(&expression(&pair, role, false), 12);
            let (from, to) = (pair.from.to_string(), pair.to.to_string());
            passes(&filter, &[("forward", tcp(&from, &to))]);
            stops(&filter, &[("other", tcp(if pair.from.is_ipv6() { OTHER6 } else { OTHER }, &to))]);
        }
    }
}

#[test]
fn the_longest_filter_fits_the_kernel() {
    let many = Pair {
        from_aliases: (1..9).map(|n| ip(&format!("10.1.0.{n}"))).collect(),
        to_aliases: (1..9).map(|n| ip(&format!("10.96.0.{n}"))).collect(),
        ..only(pair(), Some(TCP), Some(80))
    };
    // The kernel takes 4096 instructions; libpcap would filter in the program beyond that.
    for pair in [many, only(pair6(), None, Some(80))] {
        let length = program(&pair, Role::Nic).get_instructions().len();
        assert!(length < 3000, "{length}");
    }
}
