#![expect(clippy::disallowed_methods, reason = "what other programs read and write is the test")]

use std::io::Cursor;
use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A frame with its bytes, to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    interface: usize,
    time: i64,
    wire_len: u32,
    bytes: Vec<u8>,
}

fn kept(interface: usize, time: i64, bytes: &[u8]) -> Kept {
    Kept { interface, time, wire_len: u32::try_from(bytes.len()).unwrap(), bytes: bytes.to_vec() }
}

fn spec(name: &str) -> InterfaceSpec {
    InterfaceSpec {
        name: name.to_owned(),
        description: Some(format!("{name} of a test")),
        link: LinkType::Ethernet,
        snaplen: 262_144,
        filter: Some("host 10.0.0.1".to_owned()),
    }
}

fn written(names: &[&str], frames: &[Kept]) -> Vec<u8> {
    let specs: Vec<_> = names.iter().map(|name| spec(name)).collect();
    let mut writer = PcapNgWriter::new(Vec::new(), &specs).unwrap();
    for Kept { interface, time, wire_len, bytes } in frames {
        let link = LinkType::Ethernet;
        let frame = Frame { time: Timestamp(*time), wire_len: *wire_len, link, bytes };
        let comment = (bytes.len() % 2 == 0).then_some("même");
        writer.write(*interface, &frame, comment).unwrap();
    }
    let counts = Statistics { received: Some(7), dropped: Some(1), start: Some(Timestamp(5)), end: None };
    writer.finish(&vec![Some(counts); names.len()]).unwrap()
}

fn reader(bytes: Vec<u8>) -> Result<Reader, CaptureError> {
    Reader::new(Box::new(Cursor::new(bytes)), "test")
}

fn rest(reader: &mut Reader) -> Result<Vec<Kept>, CaptureError> {
    let mut all = Vec::new();
    while let Some(Record { interface, frame }) = reader.next_record()? {
        let Frame { time, wire_len, bytes, .. } = frame;
        all.push(Kept { interface, time: time.0, wire_len, bytes: bytes.to_vec() });
    }
    Ok(all)
}

fn some_frames() -> Vec<Kept> {
    let mut frame = [0; 42];
    frame[12..14].copy_from_slice(&[8, 6]);
    let base = 1_700_000_000_123_456_000;
    (0..5).map(|n| kept(0, base + n * 1_000_000, &frame[..42 - usize::try_from(n).unwrap()])).collect()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned() + &said
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        frames in vec((0_usize..3, 0_i64..i64::MAX, vec(any::<u8>(), 0..200), 0_u32..2000), 0..40)
    ) {
        let frames: Vec<_> = frames.into_iter().map(|(interface, time, bytes, more)| {
            let kept = kept(interface, time, &bytes);
            Kept { wire_len: kept.wire_len + more, ..kept }
        }).collect();
        let mut reader = reader(written(&["a/x", "b/y", "c/z"], &frames)).unwrap();
        prop_assert_eq!(reader.interfaces()[1].name.as_deref(), Some("b/y"));
        prop_assert_eq!(reader.interfaces()[1].description.as_deref(), Some("b/y of a test"));
        prop_assert_eq!(rest(&mut reader).unwrap(), frames);
        prop_assert_eq!(reader.truncated(), None);
        let counts = reader.interfaces()[2].statistics.unwrap();
        prop_assert_eq!((counts.received, counts.dropped, counts.start), (Some(7), Some(1), Some(Timestamp(5))));
    }

    #[test]
    fn no_bytes_make_it_panic(start in 0_usize..9, noise in vec(any::<u8>(), 0..600)) {
        let starts: [&[u8]; 9] = [
            b"", &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0], &[0xa1, 0xb2, 0x3c, 0x4d, 0, 2, 0, 4],
            &[0x34, 0xcd, 0xb2, 0xa1, 2, 0, 4, 0], &[0x0a, 0x0d, 0x0d, 0x0a], &[0x1f, 0x8b, 8, 0],
            &[0x28, 0xb5, 0x2f, 0xfd],
            &[10, 13, 13, 10, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255,
              255, 255, 28, 0, 0, 0],
            &[10, 13, 13, 10, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0, 255, 255, 255, 255, 255, 255,
              255, 255, 0, 0, 0, 28, 0, 0, 0, 1, 0, 0, 0, 32],
        ];
        let bytes = [starts[start], &noise].concat();
        if let Ok(mut reader) = reader(bytes) {
            let _ = rest(&mut reader);
        }
    }

    #[test]
    fn a_changed_byte_does_not_make_it_panic(at in 0_usize..600, value in any::<u8>()) {
        let mut bytes = written(&["a/x"], &some_frames());
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(mut reader) = reader(bytes) {
            let _ = rest(&mut reader);
        }
    }
}

#[test]
fn a_file_cut_anywhere_gives_its_whole_records() {
    let frames = some_frames();
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("ours.pcapng");
    std::fs::write(&ours, written(&["a/x"], &frames)).unwrap();
    for form in ["pcapng", "pcap", "nsecpcap", "modpcap"] {
        let path = folder.path().join(form);
        run("editcap", &["-F", form, ours.to_str().unwrap(), path.to_str().unwrap()]);
        let whole = std::fs::read(&path).unwrap();
        let mut most = 0;
        for end in 0..whole.len() {
            let Ok(mut reader) = reader(whole[..end].to_vec()) else {
                assert!(end < 300, "{form} cut at {end} did not open");
                continue;
            };
            let got = rest(&mut reader).unwrap();
            assert_eq!(got, frames[..got.len()], "{form} cut at {end}");
            assert!(got.len() >= most, "{form} cut at {end}");
            most = got.len();
        }
    }
}

#[test]
fn files_of_other_programs_are_read() {
    let frames = some_frames();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let ours = at("ours.pcapng");
    std::fs::write(&ours, written(&["a/x"], &frames)).unwrap();
    let mut made = Vec::new();
    for form in ["pcapng", "pcap", "nsecpcap", "modpcap"] {
        run("editcap", &["-F", form, &ours, &at(form)]);
        run("gzip", &["-k", &at(form)]);
        run("zstd", &["-q", &at(form)]);
        made.extend([form.to_owned(), format!("{form}.gz"), format!("{form}.zst")]);
    }
    run("tcpdump", &["-r", &at("pcap"), "-w", &at("tcpdump")]);
    run("tcpdump", &["--time-stamp-precision=nano", "-r", &at("nsecpcap"), "-w", &at("tcpdump-ns")]);
    made.extend(["tcpdump".to_owned(), "tcpdump-ns".to_owned()]);
    for name in made {
        let mut reader = Reader::open(Path::new(&at(&name))).unwrap();
        assert_eq!(rest(&mut reader).unwrap(), frames, "{name}");
        assert_eq!(reader.truncated(), None, "{name}");
        assert_eq!(reader.interfaces()[0].link, LinkType::Ethernet, "{name}");
    }
    run("mergecap", &["-w", &at("merged"), &at("pcap"), &ours]);
    let mut merged = Reader::open(Path::new(&at("merged"))).unwrap();
    assert_eq!(rest(&mut merged).unwrap().len(), 2 * frames.len());
    assert_eq!(merged.interfaces().len(), 2);
}

#[test]
fn a_compressed_file_cut_gives_what_can_be_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("ours.pcapng");
    let frames: Vec<_> =
        (0..2000_u32).map(|n| kept(0, i64::from(n), &n.wrapping_mul(2_654_435_761).to_be_bytes())).collect();
    std::fs::write(&plain, written(&["a/x"], &frames)).unwrap();
    run("gzip", &["-k", plain.to_str().unwrap()]);
    let packed = std::fs::read(folder.path().join("ours.pcapng.gz")).unwrap();
    let mut reader = reader(packed[..packed.len() / 2].to_vec()).unwrap();
    let got = rest(&mut reader).unwrap();
    assert!(!got.is_empty() && got.len() < frames.len());
    assert_eq!(got, frames[..got.len()]);
    assert!(reader.truncated().is_some());
}

#[test]
fn other_programs_read_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ours.pcapng");
    std::fs::write(&path, written(&["a/x", "b/y"], &some_frames())).unwrap();
    let path = path.to_str().unwrap();
    let info = run("capinfos", &["-M", path]);
    for words in ["Number of packets:   5", "Name = b/y", "trace-drop", "Number of interfaces in file: 2"] {
        assert!(info.contains(words), "{words}: {info}");
    }
    let lines = run("tshark", &["-r", path, "-T", "fields", "-e", "frame.time_epoch"]);
    assert!(lines.contains("1700000000.123456"), "{lines}");
    assert!(!lines.to_lowercase().contains("malformed") && !lines.contains("cut short"), "{lines}");
}

#[test]
fn both_byte_orders_and_odd_resolutions_are_read() {
    let block = |kind: u32, body: &[u8]| {
        let length = u32::try_from(body.len() + 12).unwrap().to_be_bytes();
        [&kind.to_be_bytes()[..], &length, body, &length].concat()
    };
    let section = [&0x1a2b_3c4d_u32.to_be_bytes()[..], &[0, 1, 0, 0], &[0xff; 8]].concat();
    // 2^-10 s, ten seconds later; SPB, old packet block, unknown block.
    let interface = [0, 1, 0, 0, 0, 0, 0, 3, 0, 9, 0, 1, 0x8a, 0, 0, 0, 0, 14, 0, 8, 0, 0, 0, 0, 0, 0, 0, 10];
    let old = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 2, 0, 0, 0, 9, 7, 7, 0, 0];
    let simple = [0, 0, 0, 9, 1, 2, 3, 0];
    let big = [
        block(pcapng::SECTION, &section),
        block(1, &interface),
        block(0xbad, &[1, 2, 3, 4]),
        block(2, &old),
        block(3, &simple),
    ]
    .concat();
    let own = written(&["a/x"], &some_frames()[..1]);
    let mut reader = reader([big, own].concat()).unwrap();
    let got = rest(&mut reader).unwrap();
    assert_eq!(got[0], Kept { interface: 0, time: 11_000_000_000, wire_len: 9, bytes: vec![7, 7] });
    assert_eq!(got[1], Kept { interface: 0, time: 0, wire_len: 9, bytes: vec![1, 2, 3] });
    assert_eq!(got[2], Kept { interface: 1, ..some_frames()[0].clone() });
}

#[test]
fn nonsense_is_told_with_its_place() {
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    let told = reader(bytes).unwrap().next_record().unwrap_err().to_string();
    assert!(told.contains("test: at byte 32: a frame of 4294967295 bytes"), "{told}");
    let told = reader(b"hello world".to_vec()).unwrap_err().to_string();
    assert!(told.contains("neither pcap nor pcapng"), "{told}");
    assert!(reader(Vec::new()).is_err());
    let told = Reader::open(Path::new("/nowhere/x.pcap")).unwrap_err().to_string();
    assert!(told.contains("/nowhere/x.pcap"), "{told}");
}

#[test]
fn what_would_fill_the_memory_is_refused() {
    let mut packed = zstd::Encoder::new(Vec::new(), 1).unwrap();
    packed.window_log(27).unwrap();
    std::io::Write::write_all(&mut packed, &written(&["eth0"], &some_frames())).unwrap();
    let text = match reader(packed.finish().unwrap()) {
        Ok(_) => panic!("a window of 128 MiB"),
        Err(error) => format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)),
    };
    assert!(text.contains("larger than 64 MiB; unpack it first"), "{text}");
    let long = "n".repeat(60_000);
    let many = written(&vec![long.as_str(); 300], &[]);
    let text = reader(many).err().unwrap().to_string();
    assert!(text.contains("names take more than"), "{text}");
    let mut block = written(&["eth0"], &[]);
    block.extend_from_slice(&[0x0a, 0, 0, 0, 0, 0, 0, 2]);
    block.extend(vec![0; 1 << 20]);
    let text = reader(block).err().unwrap().to_string();
    assert!(text.contains("a block of type 0xa and 33554432 bytes"), "{text}");
}

#[test]
fn the_end_of_a_large_file_tells_when_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    // Nearly in order of time, with a capture in each payload; `cut` bytes are missing at the end.
    let write = |name: &str, cut: usize| {
        let mut bytes = Vec::new();
        let mut push = |numbers: &[u32]| bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        push(&[0xa1b2_3c4d, 0x0004_0002, 0, 0, 262_144, 1]);
        let mut latest = 0;
        for number in 0..4_600 {
            let (seconds, nanos) = (1_000 + number / 10, 999_999_999 - number % 3);
            latest = latest.max(i64::from(seconds) * 1_000_000_000 + i64::from(nanos));
            push(&[seconds, nanos, 1_400, 1_500]);
            for _ in 0..50 {
                push(&[2_000, 1, 12, 12, 3, 3, 3]);
            }
        }
        bytes.truncate(bytes.len() - cut);
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (path, Timestamp(latest))
    };
    let (whole, latest) = write("whole.pcap", 0);
    let mut reader = Reader::open(&whole).unwrap();
    reader.next_record().unwrap();
    let end = reader.end(&whole).unwrap();
    assert_eq!((end.latest, end.read + end.left), (latest, std::fs::metadata(&whole).unwrap().len()));
    // Whatever leaves a doubt is to be read.
    let (cut, _) = write("cut.pcap", 7);
    assert_eq!(Reader::open(&cut).unwrap().end(&cut), None);
    rest(&mut reader).unwrap();
    assert_eq!(reader.end(&whole), None);
}

#[test]
fn sources_merge_by_time_and_keep_their_points() {
    let source = |times: &[i64]| {
        let frames: Vec<_> = times.iter().map(|time| kept(0, *time, &time.to_be_bytes())).collect();
        reader(written(&["a/x"], &frames)).unwrap()
    };
    let mut merge = Merge::new(vec![
        Box::new(FileSource::all_at(source(&[1, 4, 5]), PointId(0))),
        Box::new(FileSource::mapped(source(&[2, 4, 9]), vec![Some(PointId(1))])),
        Box::new(FileSource::mapped(source(&[3]), vec![None])),
        Box::new(FileSource::all_at(source(&[]), PointId(3))),
    ]);
    let mut got = Vec::new();
    while let Some((point, frame)) = merge.next_frame().unwrap() {
        assert_eq!(frame.bytes, frame.time.0.to_be_bytes());
        got.push((frame.time.0, point.0));
    }
    assert_eq!(got, [(1, 0), (2, 1), (4, 0), (4, 1), (5, 0), (9, 1)]);
    let mut unmapped = FileSource::mapped(source(&[3]), Vec::new());
    assert!(unmapped.next_frame().unwrap_err().to_string().contains("interface 0"));
}

#[test]
fn the_writer_refuses_what_would_not_be_read() {
    let mut writer = PcapNgWriter::new(Vec::new(), &[spec("a/x")]).unwrap();
    let frame = Frame { time: Timestamp(1), wire_len: 1, link: LinkType::Raw, bytes: &[0] };
    assert!(writer.write(0, &frame, None).unwrap_err().to_string().contains("Raw"));
    assert!(writer.write(1, &frame, None).unwrap_err().to_string().contains("interface 1"));
}
