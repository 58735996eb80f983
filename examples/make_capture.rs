//! Makes captures to measure with: traffic of two pods at three points of one node (veth, tunnel device, NIC), as three
//! pcap files with nanosecond stamps. Deterministic. `scripts/bench` runs it; it prints what was lost where, as JSON.

#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

const START: u64 = 1_800_000_000_000_000_000;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: u64| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)).map_or(default, |value| value.parse().expect("a number"))
    };
    let folder = PathBuf::from(words.first().expect("a folder"));
    let maker = Maker {
        flows: option("--flows", 5_000),
        // Of 10,000 packets.
        loss: option("--loss", 50),
        small: words.iter().any(|word| word == "--small-packets"),
        chance: 0x9e37_79b9_7f4a_7c15,
    };
    maker.make(option("--packets", 10_000_000) / 3, &folder)
}

struct Maker {
    flows: u64,
    loss: u64,
    small: bool,
    chance: u64,
}

struct Sent {
    frame: Vec<u8>,
    len: usize,
}

impl Maker {
    fn make(mut self, packets: u64, folder: &std::path::Path) -> io::Result<()> {
        let mut files = Vec::new();
        for name in ["veth.pcap", "tunnel.pcap", "nic.pcap"] {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.join(name))?);
            for field in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 262_144, 1] {
                file.write_all(&field.to_le_bytes())?;
            }
            files.push(file);
        }
        let mut next = vec![0_u32; usize::try_from(self.flows).expect("few flows")];
        let mut lost = [0_u64; 2];
        for index in 0..packets {
            let sent = self.packet(index, &mut next);
            let time = START + index * 4_000;
            record(&mut files[0], time, &sent.frame, 0)?;
            let fate = self.random() % 10_000;
            if fate < self.loss / 2 {
                lost[0] += 1;
                continue;
            }
            let mut frame = sent.frame;
            frame[22] -= 1;
            record(&mut files[1], time + 30_000, &frame, 0)?;
            if fate < self.loss {
                lost[1] += 1;
                continue;
            }
            record(&mut files[2], time + 50_000, &frame, sent.len)?;
        }
        for mut file in files {
            file.flush()?;
        }
        println!("{{\"sent\": {packets}, \"forward\": {}, \"encapsulate\": {}}}", lost[0], lost[1]);
        Ok(())
    }

    fn packet(&mut self, index: u64, next: &mut [u32]) -> Sent {
        let flow = index % self.flows;
        let payload = match (self.small, self.random() % 10) {
            (true, _) => 22,
            (_, 0..=3) => 40,
            (_, 4..=5) => 500,
            _ => 1_340,
        };
        let sequence = &mut next[usize::try_from(flow).expect("few flows")];
        let (protocol, header) = match flow % 10 {
            0..=5 => (6_u8, 20),
            6..=8 => (17, 8),
            _ => (1, 8),
        };
        let total = 20 + header + payload;
        let mut frame = vec![0_u8; 14 + total];
        frame[12] = 8;
        let ip = &mut frame[14..];
        ip[0] = 0x45;
        put16(ip, 2, total);
        put16(ip, 4, usize::try_from(index & 0xffff).expect("16 bits"));
        ip[8] = 64;
        ip[9] = protocol;
        ip[12..16].copy_from_slice(&[10, 244, 1, 2]);
        ip[16..20].copy_from_slice(&[10, 244, 2, 2]);
        let port = 10_000 + usize::try_from(flow % 50_000).expect("16 bits");
        match protocol {
            1 => {
                ip[20] = 8;
                put16(ip, 24, port);
                put16(ip, 26, usize::try_from(*sequence & 0xffff).expect("16 bits"));
                *sequence += 1;
            }
            17 => {
                put16(ip, 20, port);
                put16(ip, 22, 5_000);
                put16(ip, 24, 8 + payload);
                ip[28..36].copy_from_slice(&index.to_be_bytes());
            }
            _ => {
                put16(ip, 20, port);
                put16(ip, 22, 8_080);
                ip[24..28].copy_from_slice(&sequence.to_be_bytes());
                ip[32] = 0x50;
                ip[33] = 0x10;
                *sequence = sequence.wrapping_add(u32::try_from(payload).expect("short"));
            }
        }
        Sent { frame, len: 14 + total }
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

/// One record; with `inner` not 0 the frame is wrapped into VXLAN.
fn record(file: &mut impl Write, time: u64, frame: &[u8], inner: usize) -> io::Result<()> {
    let outer = if inner == 0 { Vec::new() } else { vxlan(inner) };
    let len = u32::try_from(outer.len() + frame.len()).expect("short");
    let seconds = u32::try_from(time / 1_000_000_000).expect("until 2106");
    let nanos = u32::try_from(time % 1_000_000_000).expect("below a second");
    for field in [seconds, nanos, len, len] {
        file.write_all(&field.to_le_bytes())?;
    }
    file.write_all(&outer)?;
    file.write_all(frame)
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
