//! A file's bytes as the archive of a case: tar, plain or compressed. It opens or is refused with a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trace_drop::evidence::bundle::Bundle;

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = folder.path().join("case.tgz");
    std::fs::write(&archive, data).expect("written");
    match Bundle::open(&archive) {
        Ok(bundle) => {
            let _texts = bundle.texts();
            let _cluster = bundle.cluster_text();
            let _frames = bundle.frames().map(drop);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let left = std::fs::read_dir(folder.path()).expect("readable").count();
    assert_eq!(left, 1, "nothing is written beside an archive");
});
