use std::process::Command;

use proptest::prelude::*;

use super::*;

fn specs(n: usize) -> Vec<InterfaceSpec> {
    let spec = |index| InterfaceSpec {
        name: format!("worker-{index}/eth0"),
        description: Some("a point".to_owned()),
        link: LinkType::Ethernet,
        snaplen: 256,
        filter: Some("host 10.0.0.1".to_owned()),
    };
    (0..n).map(spec).collect()
}

fn written(frames: &[(usize, i64, Vec<u8>)]) -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new(), &specs(2)).unwrap();
    for (interface, time, bytes) in frames {
        let wire_len = u32::try_from(bytes.len()).unwrap() + 10;
        let frame = Frame { time: Timestamp(*time), wire_len, link: LinkType::Ethernet, bytes };
        writer.write(*interface, &frame, (time % 2 == 0).then_some("even")).unwrap();
    }
    let statistics = Statistics { received: Some(9), dropped: Some(1), start: Some(Timestamp(5)), end: None };
    writer.finish(&[Some(statistics), None]).unwrap()
}

fn read(bytes: &[u8]) -> Result<Vec<(usize, i64, Vec<u8>)>, CaptureError> {
    let mut reader = Reader::new(Box::new(std::io::Cursor::new(bytes.to_vec())), "test")?;
    let mut all = Vec::new();
    while let Some(record) = reader.next_record()? {
        all.push((record.interface, record.frame.time.0, record.frame.bytes.to_vec()));
    }
    Ok(all)
}

const SOME: i64 = 1_800_000_000_123_456_789;

fn some() -> Vec<(usize, i64, Vec<u8>)> {
    (0..20).map(|n| (n % 2, SOME + n as i64, vec![n as u8; 60 + n])).collect()
}

#[test]
fn statistics_and_names_come_back() {
    let mut reader = Reader::new(Box::new(std::io::Cursor::new(written(&some()))), "test").unwrap();
    assert_eq!(reader.interfaces()[1].name.as_deref(), Some("worker-1/eth0"));
    while reader.next_record().unwrap().is_some() {}
    assert_eq!(reader.interfaces()[0].statistics.unwrap().dropped, Some(1));
    assert_eq!(reader.interfaces()[0].statistics.unwrap().start, Some(Timestamp(5)));
}

#[test]
fn a_file_cut_anywhere_gives_what_was_whole() {
    let whole = written(&some());
    let mut before = 0;
    for len in 0..whole.len() {
        match read(&whole[..len]) {
            Ok(found) => {
                assert!(found.len() >= before, "cut at {len}");
                before = found.len();
                assert_eq!(found, some()[..found.len()]);
            }
            Err(CaptureError::NotACapture { .. }) => assert!(len < 4, "cut at {len}"),
            Err(error) => panic!("cut at {len}: {error}"),
        }
    }
}

/// Other programs' files of the same frames: every format that they write comes back.
#[test]
fn other_programs_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("ours.pcapng");
    std::fs::write(&ours, written(&some())).unwrap();
    let path = |name: &str| folder.path().join(name);
    for (format, exact) in [("pcap", false), ("nsecpcap", true), ("pcapng", true)] {
        let theirs = path(format);
        run(Command::new("editcap").args(["-F", format]).arg(&ours).arg(&theirs));
        run(Command::new("gzip").arg("-kf").arg(&theirs));
        run(Command::new("zstd").args(["-qf"]).arg(&theirs));
        for end in ["", ".gz", ".zst"] {
            let bytes = std::fs::read(path(&format!("{format}{end}"))).unwrap();
            let found = read(&bytes).unwrap();
            assert_eq!(found.len(), 20, "{format}{end}");
            for (found, wrote) in found.iter().zip(some()) {
                assert_eq!(found.2, wrote.2, "{format}{end}");
                let near = if exact { wrote.1 } else { wrote.1 / 1_000 * 1_000 };
                assert_eq!(found.1, near, "{format}{end}");
            }
        }
    }
    let said = run(Command::new("capinfos").arg("-c").arg(&ours));
    assert!(said.contains("20"), "{said}");
    let names = run(Command::new("tshark").args(["-r"]).arg(&ours).args([
        "-T",
        "fields",
        "-e",
        "frame.interface_name",
    ]));
    assert_eq!(names.lines().next(), Some("worker-0/eth0"));
}

#[expect(clippy::disallowed_methods, reason = "tests prove the files on other programs")]
fn run(command: &mut Command) -> String {
    let done = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/setup test installs it"));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[test]
fn big_endian_pcap_is_read() {
    let mut file = Vec::new();
    for field in [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 96, 1, 7, 8, 2, 60] {
        file.extend_from_slice(&field.to_be_bytes());
    }
    file.extend_from_slice(&[1, 2]);
    assert_eq!(read(&file).unwrap(), [(0, 7_000_008_000, vec![1, 2])]);
}

#[test]
fn nonsense_is_said_with_its_place() {
    let text = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(text(b"hello world").contains("68 65 6c 6c"));
    assert!(text(b"").contains("empty"));
    let mut long = Vec::new();
    for field in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 96, 1, 7, 8, u32::MAX, 60] {
        long.extend_from_slice(&field.to_le_bytes());
    }
    assert!(text(&long).contains("damaged at byte 24"), "{}", text(&long));
}

proptest! {
    #[test]
    fn what_is_written_is_read(frames in prop::collection::vec((0_usize..2, 0..i64::MAX / 2, prop::collection::vec(any::<u8>(), 0..300)), 0..40)) {
        prop_assert_eq!(read(&written(&frames)).unwrap(), frames);
    }

    #[test]
    fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), magic in 0_usize..5) {
        let magics: [&[u8]; 5] = [&[0xd4, 0xc3, 0xb2, 0xa1], &[0xa1, 0xb2, 0xc3, 0xd4], &pcapng::SECTION, &[0x1f, 0x8b], &[]];
        bytes.splice(..0, magics[magic].iter().copied());
        let _whatever = read(&bytes);
    }

    #[test]
    fn no_damage_panics(at in 0_usize..1_000, with in any::<u8>()) {
        let mut bytes = written(&some());
        let at = at % bytes.len();
        bytes[at] = with;
        let _whatever = read(&bytes);
    }
}
