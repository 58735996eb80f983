use std::net::IpAddr;

use etherparse::{IpFragOffset, PacketBuilder};
use proptest::prelude::*;

use super::*;

const A: [u8; 4] = [10, 1, 0, 5];
const B: [u8; 4] = [10, 2, 0, 9];
const A6: [u8; 16] = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
const B6: [u8; 16] = [0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

fn frame(bytes: &[u8], link: LinkType) -> Frame<'_> {
    Frame { time: Timestamp(0), wire_len: u32::try_from(bytes.len()).unwrap(), link, bytes }
}

fn read(bytes: &[u8]) -> Packet<'_> {
    Packet::read(&frame(bytes, LinkType::Ethernet))
}

fn built(builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

fn udp(payload: &[u8]) -> Vec<u8> {
    built(PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(A, B, 64).udp(4711, 80), payload)
}

fn udp6(payload: &[u8]) -> Vec<u8> {
    built(PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6(A6, B6, 64).udp(4711, 80), payload)
}

fn vxlan(inner: &[u8], port: u16, flags: u8) -> Vec<u8> {
    let payload = [&[flags, 0, 0, 0, 0, 0x10, 0, 0], inner].concat();
    built(
        PacketBuilder::ethernet2([3; 6], [4; 6])
            .ipv4([192, 168, 0, 1], [192, 168, 0, 2], 64)
            .udp(50_000, port),
        &payload,
    )
}

#[test]
fn udp_over_both_families() {
    for (bytes, text) in [
        (udp(b"hello"), "udp 10.1.0.5:4711 > 10.2.0.9:80"),
        (udp6(b"hello"), "udp [fd00:1::5]:4711 > [fd00:2::9]:80"),
    ] {
        let packet = read(&bytes);
        assert_eq!(packet.flow().unwrap().to_string(), text);
        assert_eq!((packet.payload, packet.payload_len), (&b"hello"[..], 5));
        assert_eq!(packet.stopped, None);
        assert_eq!(packet.macs, Some(Macs { src: [1; 6], dst: [2; 6] }));
    }
}

#[test]
fn padding_is_no_payload() {
    let mut bytes = udp(b"x");
    bytes.resize(60, 0);
    assert_eq!(read(&bytes).payload, b"x");
}

#[test]
fn every_link_type_leads_to_the_same_packet() {
    let ethernet = udp(b"hello");
    let ip = &ethernet[14..];
    let sll = [&[0, 4, 0, 1, 0, 6, 1, 1, 1, 1, 1, 1, 0, 0, 8, 0], ip].concat();
    let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 7, 0, 1, 4, 6, 1, 1, 1, 1, 1, 1, 0, 0], ip].concat();
    let tagged = [&ethernet[..12], &[0x81, 0, 0, 42], &ethernet[12..]].concat();
    let twice = [&ethernet[..12], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 42], &ethernet[12..]].concat();
    let cases = [
        (ethernet.clone(), LinkType::Ethernet),
        (ip.to_vec(), LinkType::Raw),
        (ip.to_vec(), LinkType::Ipv4),
        (sll, LinkType::LinuxSll),
        (sll2.clone(), LinkType::LinuxSll2),
        ([&[2, 0, 0, 0], ip].concat(), LinkType::Null),
        ([&[0, 0, 0, 2], ip].concat(), LinkType::Null),
        ([&[0, 0, 0, 2], ip].concat(), LinkType::Loop),
        (tagged, LinkType::Ethernet),
        (twice.clone(), LinkType::Ethernet),
    ];
    for (bytes, link) in cases {
        let packet = Packet::read(&frame(&bytes, link));
        assert_eq!(packet.flow(), read(&ethernet).flow(), "{link}");
        assert_eq!(packet.payload, b"hello", "{link}");
        // What it carries, behind an Ethernet header, is the same again.
        let (ether_type, carried) = frame(&bytes, link).carried().unwrap();
        let again = [&[0; 12], &ether_type.to_be_bytes()[..], carried].concat();
        assert_eq!(read(&again).flow(), packet.flow(), "{link}");
        assert_eq!(
            frame(&bytes[..3], link).carried().is_some(),
            matches!(link, LinkType::Raw | LinkType::Ipv4)
        );
    }
    let cooked = Packet::read(&frame(&sll2, LinkType::LinuxSll2)).cooked;
    assert_eq!(cooked, Some(Cooked { if_index: Some(7), packet_type: 4, hardware: 1, sender: Some([1; 6]) }));
    assert_eq!(read(&twice).vlans, [Some(7), Some(42)]);
    let spanning_tree =
        [&[0, 4, 0, 0, 0, 0, 0, 7, 0, 1, 2, 6, 1, 1, 1, 1, 1, 1, 0, 0], &[0x42; 38][..]].concat();
    assert_eq!(frame(&spanning_tree, LinkType::LinuxSll2).carried(), None);
    assert_eq!(frame(&ethernet, LinkType::Other(147)).carried(), None);
}

#[test]
fn vxlan_is_taken_off_on_any_port() {
    for port in [4789, 8472, 4799, 9000] {
        let bytes = vxlan(&udp(b"hello world, this is long enough"), port, 8);
        let packet = read(&bytes);
        assert_eq!(packet.tunnels.len(), 1, "{port}");
        assert_eq!(packet.tunnels[0].kind, TunnelKind::Vxlan { vni: 4096, flag_i: true });
        assert_eq!(packet.tunnels[0].outer.dst, IpAddr::from([192, 168, 0, 2]));
        assert_eq!(packet.tunnels[0].inner_macs, Some(Macs { src: [1; 6], dst: [2; 6] }));
        assert_eq!(packet.flow().unwrap().dst_port, 80);
    }
    assert!(read(&vxlan(&udp(b"x"), 9000, 0)).tunnels.is_empty(), "not without its flag on another port");
    let unset = read(&vxlan(&udp(b"x"), 4789, 0)).tunnels[0].kind;
    assert_eq!(unset, TunnelKind::Vxlan { vni: 4096, flag_i: false });
    assert!(read(&udp(&[8; 200])).tunnels.is_empty(), "random bytes are no tunnel");
}

#[test]
fn other_tunnels() {
    let inner = udp(b"hello");
    let ip = |protocol: u8, payload: &[u8]| {
        let header =
            etherparse::Ipv4Header::new(u16::try_from(payload.len()).unwrap(), 64, protocol.into(), A, B)
                .unwrap();
        [&[4; 6][..], &[3; 6], &[8, 0], &header.to_bytes(), payload].concat()
    };
    let gre = [&[0x20, 0, 8, 0, 0, 0, 0, 9], &inner[14..]].concat();
    let bridged = [&[0, 0, 0x65, 0x58], &inner[..]].concat();
    let geneve = [&[1, 0, 0x65, 0x58, 0, 0, 5, 0, 1, 2, 3, 4], &inner[..]].concat();
    let geneve = built(PacketBuilder::ethernet2([3; 6], [4; 6]).ipv4(A, B, 64).udp(5, 6081), &geneve);
    for (bytes, kind) in [
        (ip(4, &inner[14..]), TunnelKind::IpIp),
        (ip(47, &gre), TunnelKind::Gre { key: Some(9) }),
        (ip(47, &bridged), TunnelKind::Gre { key: None }),
        (geneve, TunnelKind::Geneve { vni: 5 }),
    ] {
        let packet = read(&bytes);
        assert_eq!(packet.tunnels.first().map(|tunnel| tunnel.kind), Some(kind));
        assert_eq!(packet.payload, b"hello", "{kind:?}");
    }
}

#[test]
fn tcp_options_and_flags() {
    let mut bytes = Vec::new();
    let options = [
        etherparse::TcpOptionElement::MaximumSegmentSize(1390),
        etherparse::TcpOptionElement::Timestamp(7, 9),
    ];
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4(A, B, 64)
        .tcp(1, 2, 1_000, 512)
        .syn()
        .options(&options)
        .unwrap();
    builder.write(&mut bytes, b"abc").unwrap();
    let packet = read(&bytes);
    let Transport::Tcp(tcp) = &packet.transport else { panic!("{packet:?}") };
    assert!(tcp.has(Tcp::SYN) && !tcp.has(Tcp::ACK));
    assert_eq!((tcp.seq, tcp.mss, tcp.timestamps), (1_000, Some(1390), Some((7, 9))));
    assert_eq!(packet.payload, b"abc");
    // Cut within the options: the header's twenty bytes are never lost, and the payload's length is still known.
    let cut = Frame { bytes: &bytes[..14 + 20 + 24], ..frame(&bytes, LinkType::Ethernet) };
    let packet = Packet::read(&cut);
    let Transport::Tcp(tcp) = &packet.transport else { panic!("{packet:?}") };
    assert_eq!((tcp.seq, tcp.mss, tcp.timestamps, packet.payload_len), (1_000, Some(1390), None, 3));
    assert!(matches!(
        packet.stopped,
        Some(Stop { layer: Layer::Transport, offset: 34, why: StopReason::Cut { .. } })
    ));
}

#[test]
fn fragments_keep_what_they_are_part_of() {
    let fragment = |offset: u16, more, payload: &[u8]| {
        let mut header =
            etherparse::Ipv4Header::new(u16::try_from(payload.len()).unwrap(), 64, 17.into(), A, B).unwrap();
        header.identification = 77;
        header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        header.more_fragments = more;
        [&[4; 6][..], &[3; 6], &[8, 0], &header.to_bytes(), payload].concat()
    };
    let first = fragment(0, true, &[&[0, 9, 0, 80, 0x1f, 0x48, 0, 0], &[1; 24][..]].concat());
    let packet = read(&first);
    assert_eq!((packet.ports(), packet.payload_len), (Some((9, 80)), 0x1f48 - 8));
    assert_eq!(packet.ip().unwrap().fragment, Some(Fragment { offset: 0, more: true }));
    let later = fragment(4, false, &[1; 24]);
    let packet = read(&later);
    assert_eq!(packet.transport, Transport::LaterFragment);
    assert_eq!(packet.ip().unwrap().fragment, Some(Fragment { offset: 32, more: false }));
    assert_eq!(packet.ip().unwrap().id, Some(77));
}

#[test]
fn ipv6_extension_headers_are_walked() {
    // Hop-by-hop, then a fragment header with offset 0 and more, then UDP.
    let body = [
        &[44_u8, 0, 1, 4, 0, 0, 0, 0][..],
        &[17, 0, 0, 1, 0, 0, 0, 5],
        &[0, 9, 0, 80, 0, 12, 0, 0, 1, 2, 3, 4],
    ]
    .concat();
    let header = etherparse::Ipv6Header {
        payload_length: u16::try_from(body.len()).unwrap(),
        next_header: 0.into(),
        hop_limit: 63,
        source: A6,
        destination: B6,
        ..Default::default()
    };
    let bytes = [&[4; 6][..], &[3; 6], &[0x86, 0xdd], &header.to_bytes(), &body].concat();
    let packet = read(&bytes);
    let ip = packet.ip().unwrap();
    assert_eq!((ip.protocol, ip.id, ip.fragment), (17, Some(5), Some(Fragment { offset: 0, more: true })));
    assert_eq!(packet.ports(), Some((9, 80)));
}

#[test]
fn an_icmp_error_quotes_its_cause() {
    let cause = udp(b"hello");
    let message = [&[3, 4, 0, 0, 0, 0, 0x05, 0x78], &cause[14..14 + 28]].concat();
    let header =
        etherparse::Ipv4Header::new(u16::try_from(message.len()).unwrap(), 64, 1.into(), B, A).unwrap();
    let bytes = [&[4; 6][..], &[3; 6], &[8, 0], &header.to_bytes(), &message].concat();
    let Transport::IcmpError(error) = read(&bytes).transport else { panic!("an error") };
    assert_eq!((error.kind, error.code, error.mtu), (3, 4, Some(1400)));
    let quoted = error.quoted.unwrap();
    assert_eq!(quoted.ip.src, IpAddr::from(A));
    assert!(matches!(quoted.transport, Transport::Udp(Udp { dst_port: 80, .. })));
}

#[test]
fn arp_is_read() {
    let body = [0, 1, 8, 0, 6, 4, 0, 1, 1, 1, 1, 1, 1, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 169, 254, 1, 1];
    let bytes = [&[0xff; 6][..], &[1; 6], &[8, 6], &body].concat();
    let Network::Arp(arp) = read(&bytes).network else { panic!("ARP") };
    assert_eq!((arp.operation, arp.target.to_string().as_str()), (1, "169.254.1.1"));
}

/// More bytes never show less.
#[test]
fn cutting_a_frame_only_loses_what_was_cut() {
    for bytes in
        [udp(b"hello"), udp6(b"hello"), vxlan(&udp(b"hello"), 4789, 8), vxlan(&udp6(b"hello"), 4789, 8)]
    {
        let wire_len = u32::try_from(bytes.len()).unwrap();
        let mut known = (0, false, 0);
        for len in 0..=bytes.len() {
            let cut = Frame { time: Timestamp(0), wire_len, link: LinkType::Ethernet, bytes: &bytes[..len] };
            let packet = Packet::read(&cut);
            let now = (packet.tunnels.len(), packet.transport != Transport::None, packet.payload.len());
            assert!(now >= known, "cut at {len}: {now:?} after {known:?}");
            known = now;
            if len < bytes.len() - 5 {
                assert!(
                    matches!(packet.stopped.map(|stop| stop.why), Some(StopReason::Cut { .. })),
                    "cut at {len}"
                );
            }
            if packet.flow().is_some_and(|flow| flow.dst_port == 80) {
                assert_eq!(packet.payload_len, 5, "the length is in the headers, cut at {len}");
            }
        }
        assert_eq!(known.2, 5);
    }
}

/// Frames of the commonest shapes, and their close kin.
fn common() -> Vec<Vec<u8>> {
    let ip = |protocol: u8, payload: &[u8], change: fn(&mut etherparse::Ipv4Header)| {
        let len = u16::try_from(payload.len()).unwrap();
        let mut header = etherparse::Ipv4Header::new(len, 64, protocol.into(), A, B).unwrap();
        change(&mut header);
        [&[4; 6][..], &[3; 6], &[8, 0], &header.to_bytes(), payload].concat()
    };
    let echo = [8, 0, 0, 0, 0, 77, 0, 5, 1, 2, 3, 4];
    let mut tcp = Vec::new();
    let options = [etherparse::TcpOptionElement::Noop, etherparse::TcpOptionElement::Timestamp(7, 9)];
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(A, B, 64).tcp(1, 2, 1_000, 512).ack(9);
    builder.options(&options).unwrap().write(&mut tcp, b"some words of payload").unwrap();
    let plain = [
        udp(b"hello, this is long enough to hold another frame"),
        udp6(b"hello"),
        tcp,
        ip(1, &echo, |_| {}),
        ip(1, &echo, |header| header.dont_fragment = true),
        ip(17, &[0, 9, 0, 80, 0, 12, 0, 0, 1, 2, 3, 4], |header| header.more_fragments = true),
        ip(1, &[3, 1, 0, 0, 0, 0, 0, 0, 0x45, 0, 0, 28], |_| {}),
    ];
    let tunnels = [(4789, 8), (8472, 8), (9000, 8), (4789, 0)];
    let wrapped = plain.iter().flat_map(|inner| tunnels.map(|(port, flags)| vxlan(inner, port, flags)));
    let twice = vxlan(&vxlan(&plain[0], 4789, 8), 4789, 8);
    let mut all: Vec<_> = plain.iter().cloned().chain(wrapped).chain([twice]).collect();
    all.push([&all[0][..], &[0; 9]].concat());
    all
}

/// The short way is taken for what is common.
#[test]
fn common_frames_are_read_the_short_way() {
    let all = common();
    let short = all.iter().filter(|bytes| Plain::find(&frame(bytes, LinkType::Ethernet)).is_some());
    assert_eq!(short.count(), 4 + 4 * 3 + 1);
}

const LINKS: [LinkType; 9] = [
    LinkType::Ethernet,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::Raw,
    LinkType::Ipv4,
    LinkType::Ipv6,
    LinkType::Null,
    LinkType::Loop,
    LinkType::Other(147),
];

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), link in 0_usize..9, more in 0_u32..2_000) {
        let wire_len = u32::try_from(bytes.len()).unwrap() + more;
        let packet = Packet::read(&Frame { time: Timestamp(0), wire_len, link: LINKS[link], bytes: &bytes });
        prop_assert!(packet.payload.len() <= bytes.len());
        let carried = Frame { time: Timestamp(0), wire_len, link: LINKS[link], bytes: &bytes }.carried();
        prop_assert!(carried.is_none_or(|(_, carried)| carried.len() <= bytes.len()));
    }

    /// Damaged frames reach deeper than random ones.
    #[test]
    fn no_damage_panics(at in prop::collection::vec((0_usize..200, any::<u8>()), 0..6), len in 0_usize..200, which in 0_usize..4) {
        let mut bytes = [udp(&[7; 60]), udp6(&[7; 60]), vxlan(&udp(&[7; 60]), 4789, 8), vxlan(&udp6(&[7; 60]), 4789, 8)][which].clone();
        let wire_len = u32::try_from(bytes.len()).unwrap();
        for (at, with) in at {
            let at = at % bytes.len();
            bytes[at] = with;
        }
        bytes.truncate(len);
        let packet = Packet::read(&Frame { time: Timestamp(0), wire_len, link: LinkType::Ethernet, bytes: &bytes });
        prop_assert!(packet.payload.len() <= bytes.len());
    }

    /// The short way and the long one say the same, whatever was done to the frame.
    #[test]
    fn both_ways_read_the_same(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        kept in prop::option::of(0_usize..140),
        more in prop::option::of(0_u32..70_000),
    ) {
        let mut bytes = which.get(&common()).clone();
        let wire_len = u32::try_from(bytes.len()).unwrap() + more.unwrap_or(0);
        for (at, with) in damage {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        bytes.truncate(kept.unwrap_or(usize::MAX));
        let frame = Frame { time: Timestamp(0), wire_len, link: LinkType::Ethernet, bytes: &bytes };
        if let Some(plain) = Plain::find(&frame) {
            prop_assert_eq!(plain.packet(), read::read(&frame));
        }
    }

    #[test]
    fn encapsulation_is_undone(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let inner = udp(&payload);
        let outer = vxlan(&inner, 4789, 8);
        let (plain, wrapped) = (read(&inner), read(&outer));
        prop_assert_eq!(plain.flow(), wrapped.flow());
        prop_assert_eq!(plain.payload, wrapped.payload);
        prop_assert_eq!(plain.ip(), wrapped.ip());
    }
}

#[test]
fn a_length_of_zero_inside_a_fragment_of_a_tunnel_is_no_length_without_end() {
    let mut inner = udp(b"inside");
    inner[16..18].fill(0);
    let mut outer = vxlan(&inner, 4789, 8);
    outer[20] = 0x20; // More fragments follow.
    let packet = read(&outer);
    assert_eq!(packet.tunnels.len(), 1);
    assert!(packet.ip().unwrap().payload_len <= 65_535 && packet.payload_len <= 65_535, "{packet:?}");
}
