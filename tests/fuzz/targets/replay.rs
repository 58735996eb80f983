//! Captured frames of a path of eight points, analysed and reported in every form. The counts must agree with each
//! other whatever was captured. A frame is: its point (one byte), steps of a microsecond since the last (four, so that
//! time may jump), bytes that the snap length cut off (two), the length kept (two), the bytes.
#![no_main]

#[path = "../../support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use support::{Lab, START, Taken, analyse};
use trace_drop::evidence::PointId;
use trace_drop::report::{self, Style};

fuzz_target!(|data: &[u8]| {
    let (mut lab, mut rest, mut time) = (Lab::new(10), data, START);
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let [point, a, b, c, d, cut_low, cut_high, low, high] = *head;
        let kept = usize::from(u16::from_le_bytes([low, high])).min(after.len());
        let (bytes, after) = after.split_at(kept);
        time = time.saturating_add(i64::from(i32::from_le_bytes([a, b, c, d])) * 1_000);
        let cut = u32::from(u16::from_le_bytes([cut_low, cut_high]));
        let wire_len = u32::try_from(kept).expect("at most 65535") + cut;
        lab.taken.push(Taken { point: PointId(point % 8), time, bytes: bytes.to_vec(), wire_len });
        rest = after;
    }
    let findings = analyse(&lab.case, &lab.taken);
    let out = &mut Vec::new();
    report::text(&findings, Style { color: false, verbose: true }, out).expect("memory");
    report::json(&findings, out).expect("memory");
    report::markdown(&findings, out).expect("memory");
    report::svg(&findings, out).expect("memory");
    report::page(&findings, &[], out).expect("memory");
    let _marks = lab.marks();
});
