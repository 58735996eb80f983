//! Makes captures to measure with: traffic of two pods at the points of their path (veth, tunnel device and NIC of one
//! node, or of both), as one pcap file a point with nanosecond stamps. Deterministic. `scripts/bench` runs it; it prints
//! the files in the order of the path and what was lost behind each, as JSON.

#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const START: u64 = 1_800_000_000_000_000_000;
/// Between two packets of the sender.
const GAP: u64 = 4_000;
/// A lost segment comes again after this many packets.
const AGAIN: u64 = 50_000;
/// Each point: its file, nanoseconds after the first one, hops behind it, and whether frames are in VXLAN there.
const POINTS: [(&str, u64, u8, bool); 6] = [
    ("veth.pcap", 0, 0, false),
    ("tunnel.pcap", 30_000, 1, false),
    ("nic.pcap", 50_000, 1, true),
    ("peer-nic.pcap", 80_000, 1, true),
    ("peer-tunnel.pcap", 85_000, 1, false),
    ("peer-veth.pcap", 120_000, 2, false),
];

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: u64| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)).map_or(default, |value| value.parse().expect("a number"))
    };
    let folder = PathBuf::from(words.first().expect("a folder"));
    let n_points = option("--points", 3).clamp(2, POINTS.len() as u64);
    let maker = Maker {
        flows: option("--flows", 5_000),
        // Of 10,000 packets.
        loss: option("--loss", 50),
        small: words.iter().any(|word| word == "--small-packets"),
        chance: 0x9e37_79b9_7f4a_7c15,
    };
    maker.make(option("--packets", 7_800_000) / n_points, n_points, &folder)
}

struct Maker {
    flows: u64,
    loss: u64,
    small: bool,
    chance: u64,
}

struct Sent {
    frame: Vec<u8>,
    tcp: bool,
}

impl Maker {
    fn make(mut self, packets: u64, n_points: u64, folder: &Path) -> io::Result<()> {
        let points = &POINTS[..usize::try_from(n_points).expect("few points")];
        let mut files = Vec::new();
        for (name, ..) in points {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.join(name))?);
            for field in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1] {
                file.write_all(&field.to_le_bytes())?;
            }
            files.push(file);
        }
        let mut next = vec![0_u32; usize::try_from(self.flows).expect("few flows")];
        let mut lost = vec![0_u64; points.len() - 1];
        let mut again: VecDeque<(u64, Sent)> = VecDeque::new();
        for index in 0..packets {
            let due = again.front().is_some_and(|(due, _)| *due <= index);
            let sent =
                if due { again.pop_front().expect("it is due").1 } else { self.packet(index, &mut next) };
            let fate = self.random() % 10_000;
            let stages = n_points - 1;
            let last = if fate < self.loss { fate * stages / self.loss } else { stages };
            for (place, (_, later, hops, wrapped)) in (0..=last).zip(points) {
                let file = &mut files[usize::try_from(place).expect("few points")];
                record(file, START + index * GAP + later, &sent.frame, 64 - hops, *wrapped)?;
            }
            if last < stages {
                lost[usize::try_from(last).expect("few stages")] += 1;
                if sent.tcp {
                    again.push_back((index + AGAIN, sent));
                }
            }
        }
        for mut file in files {
            file.flush()?;
        }
        let names: Vec<_> = points.iter().map(|(name, ..)| format!("\"{name}\"")).collect();
        println!("{{\"sent\": {packets}, \"files\": [{}], \"lost\": {lost:?}}}", names.join(", "));
        Ok(())
    }

    fn packet(&mut self, index: u64, next: &mut [u32]) -> Sent {
        let flow = index % self.flows;
        // By the lengths of IP packets: seven of 40 bytes, four of 576 and one that fills a tunnel's MTU of 1,450.
        let ip_len = match (self.small, self.random() % 12) {
            (true, _) => 50,
            (_, 0..=6) => 40,
            (_, 7..=10) => 576,
            _ => 1_450,
        };
        let sequence = &mut next[usize::try_from(flow).expect("few flows")];
        let (protocol, header) = match flow % 10 {
            0..=5 => (6_u8, 20),
            6..=8 => (17, 8),
            _ => (1, 8),
        };
        let payload = ip_len - 20 - header;
        let mut frame = vec![0_u8; 14 + ip_len];
        frame[12] = 8;
        let ip = &mut frame[14..];
        ip[0] = 0x45;
        put16(ip, 2, ip_len);
        put16(ip, 4, usize::try_from(index & 0xffff).expect("16 bits"));
        ip[9] = protocol;
        ip[12..16].copy_from_slice(&[10, 244, 1, 2]);
        ip[16..20].copy_from_slice(&[10, 244, 2, 2]);
        // More flows than a port has numbers go to other ports of the server.
        let port = 10_000 + usize::try_from(flow % 50_000).expect("16 bits");
        let server = 5_000 + usize::try_from(flow / 50_000).expect("few flows");
        match protocol {
            1 => {
                ip[20] = 8;
                put16(ip, 24, port);
                put16(ip, 26, usize::try_from(*sequence & 0xffff).expect("16 bits"));
                *sequence += 1;
            }
            17 => {
                put16(ip, 20, port);
                put16(ip, 22, server);
                put16(ip, 24, 8 + payload);
                ip[28..36].copy_from_slice(&index.to_be_bytes());
            }
            _ => {
                put16(ip, 20, port);
                put16(ip, 22, server);
                ip[24..28].copy_from_slice(&sequence.to_be_bytes());
                // An acknowledgement that grows, so that bare ones differ.
                ip[28..32]
                    .copy_from_slice(&u32::try_from(index & 0xffff_ffff).expect("32 bits").to_be_bytes());
                ip[32] = 0x50;
                ip[33] = 0x10;
                *sequence = sequence.wrapping_add(u32::try_from(payload).expect("short"));
            }
        }
        Sent { frame, tcp: protocol == 6 && payload > 0 }
    }

    /// xorshift64
    fn random(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance >> 11
    }
}

fn put16(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 2].copy_from_slice(&u16::try_from(value).expect("16 bits").to_be_bytes());
}

/// One record, wrapped into VXLAN or not.
fn record(file: &mut impl Write, time: u64, frame: &[u8], ttl: u8, wrapped: bool) -> io::Result<()> {
    let outer = if wrapped { vxlan(frame.len()) } else { Vec::new() };
    let len = u32::try_from(outer.len() + frame.len()).expect("short");
    let seconds = u32::try_from(time / 1_000_000_000).expect("until 2106");
    let nanos = u32::try_from(time % 1_000_000_000).expect("below a second");
    for field in [seconds, nanos, len, len] {
        file.write_all(&field.to_le_bytes())?;
    }
    file.write_all(&outer)?;
    file.write_all(&frame[..22])?;
    file.write_all(&[ttl])?;
    file.write_all(&frame[23..])
}

fn vxlan(inner: usize) -> Vec<u8> {
    let mut outer = vec![0_u8; 50];
    outer[12] = 8;
    outer[14] = 0x45;
    put16(&mut outer, 16, 36 + inner);
    outer[22] = 64;
    outer[23] = 17;
    outer[26..30].copy_from_slice(&[192, 168, 50, 11]);
    outer[30..34].copy_from_slice(&[192, 168, 50, 12]);
    put16(&mut outer, 34, 50_000);
    put16(&mut outer, 36, 4_789);
    put16(&mut outer, 38, 16 + inner);
    outer[42] = 8;
    outer[47] = 0x10;
    outer
}
