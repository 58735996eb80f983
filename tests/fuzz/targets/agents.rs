//! What comes over an agent's pipe: the first byte says in pieces of which size, the others are the bytes. Both ends
//! read them; how they are cut makes no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((piece, bytes)) = data.split_first() else { return };
    trace_drop::fuzzing::agent_frames(bytes, usize::from(*piece));
});
