//! A file's bytes, plain or compressed, read to the end. What was read is written again, as pcapng, plain and
//! compressed: it must read back the same.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use trace_drop::evidence::capture_file::{Interface, InterfaceSpec, PcapNgWriter, Reader};
use trace_drop::packet::{Frame, LinkType, Timestamp};

type Taken = (usize, Timestamp, u32, LinkType, Vec<u8>);

fuzz_target!(|data: &[u8]| {
    let Some((interfaces, frames)) = read(data.to_vec()) else { return };
    let specs: Vec<_> = interfaces.iter().take(MOST).map(spec).collect();
    let mut writer = PcapNgWriter::new(Vec::new(), &specs).expect("memory");
    let mut expected = Vec::new();
    for (interface, time, wire_len, link, bytes) in frames {
        let frame = Frame { time, wire_len, link, bytes: &bytes };
        let comment = (wire_len % 2 == 1).then_some("a comment");
        let written = writer.write(interface, &frame, comment);
        assert_eq!(written.is_ok(), interface < specs.len(), "{written:?}");
        if written.is_ok() {
            expected.push((interface, Timestamp(time.0.max(0)), wire_len, link, bytes));
        }
    }
    let statistics: Vec<_> = interfaces.iter().map(|interface| interface.statistics).collect();
    let plain = writer.finish(&statistics).expect("memory");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut plain.as_slice(), &mut gzip).expect("memory");
    let gzip = gzip.finish().expect("memory");
    let zstd = zstd::encode_all(plain.as_slice(), 1).expect("memory");
    for bytes in [plain, gzip, zstd] {
        let (again, frames) = read(bytes).expect("what was written is a capture");
        assert_eq!(again.len(), specs.len());
        assert_eq!(frames, expected);
    }
});

/// Everything before the first nonsense; None when it is no capture from the start.
fn read(bytes: Vec<u8>) -> Option<(Vec<Interface>, Vec<Taken>)> {
    let length = bytes.len();
    let mut reader =
        Reader::new(Box::new(Cursor::new(bytes)), "memory").map_err(|error| said(&error)).ok()?;
    let (mut frames, mut held) = (Vec::new(), 0);
    loop {
        match reader.next_record() {
            Ok(None) => break,
            Err(error) => {
                said(&error);
                break;
            }
            Ok(Some(record)) => {
                let frame = record.frame;
                assert!(frame.wire_len as usize >= frame.bytes.len());
                held += frame.bytes.len();
                if held < 1 << 20 {
                    let (time, wire_len) = (frame.time, frame.wire_len);
                    frames.push((record.interface, time, wire_len, frame.link, frame.bytes.to_vec()));
                }
            }
        }
    }
    let interfaces = reader.interfaces().to_vec();
    assert!(interfaces.len() <= length.saturating_mul(1_100), "{} interfaces", interfaces.len());
    Some((interfaces, frames))
}

fn said(error: &trace_drop::evidence::capture_file::CaptureError) {
    assert!(error.to_string().contains("memory"), "an error names its file: {error}");
}

fn spec(interface: &Interface) -> InterfaceSpec {
    InterfaceSpec {
        name: interface.name.clone().unwrap_or_default(),
        description: interface.description.clone(),
        link: interface.link,
        snaplen: interface.snaplen,
        filter: None,
    }
}

/// Interfaces that are written again.
const MOST: usize = 1_000;
