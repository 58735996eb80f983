//! A link type (one byte), a length on the wire (two) and a frame's bytes into a packet, and into what packets are
//! recognised by. What was read must lie inside the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trace_drop::analyze::correlate::fingerprint::{Depth, Fingerprint};
use trace_drop::analyze::correlate::gist::Gist;
use trace_drop::evidence::Direction;
use trace_drop::packet::{Frame, LinkType, MAX_TUNNELS, Packet, Timestamp};

fuzz_target!(|data: &[u8]| {
    let Some((&[link, low, high], bytes)) = data.split_first_chunk::<3>() else { return };
    let longer = u32::from(u16::from_le_bytes([low, high]));
    for more in [0, longer] {
        let wire_len = u32::try_from(bytes.len()).expect("short").saturating_add(more);
        let link = LinkType::from_number(LINKS.get(usize::from(link)).copied().unwrap_or(u16::from(link)));
        look(&Frame { time: Timestamp(0), wire_len, link, bytes });
    }
});

fn look(frame: &Frame<'_>) {
    let packet = Packet::read(frame);
    assert!(packet.tunnels.len() <= MAX_TUNNELS);
    for tunnel in &packet.tunnels {
        assert!(tunnel.inner_at <= frame.bytes.len());
    }
    assert!(packet.payload.len() <= frame.bytes.len());
    if let Some(stop) = &packet.stopped {
        assert!(stop.offset as usize <= frame.bytes.len(), "{stop:?}");
    }
    let _gist = Gist::of(&packet);
    let Some(flow) = packet.flow() else { return };
    for depth in [Depth::default(), Depth { payload: 0, timestamps: false, client_port: false }] {
        let _print = Fingerprint::of(&packet, Direction::Forward, &flow, depth);
        let _print = Fingerprint::of(&packet, Direction::Reply, &flow.reversed(), depth);
    }
}

/// Link types that are understood; further bytes stand for the number itself.
const LINKS: [u16; 12] = [1, 113, 276, 101, 12, 14, 228, 229, 0, 108, 127, 65_535];
