//! A file's name and what tools printed into it, parted by a zero byte: whose lines they are, and what they come to.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (name, printed) = text.split_once('\0').unwrap_or(("file", &text));
    trace_drop::fuzzing::collected(name, printed);
});
