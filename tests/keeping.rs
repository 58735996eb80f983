//! What was gathered is there afterwards: where the user wants it, or, when it cannot be put there, where the error says.

#![expect(clippy::disallowed_methods, reason = "the program is run as its users run it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use trace_drop::evidence::bundle::Bundle;

fn diags(temporary: &Path, save: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trace-drop"))
        .args(["node", "diags", "--reach", "env A={node}", "--cluster", "tests/data/cluster.yaml", "--save"])
        .arg(save)
        .args(more)
        .env("TMPDIR", temporary)
        .output()
        .expect("the program runs")
}

fn in_folder(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
#[ignore = "needs root"]
fn a_case_that_cannot_be_put_where_it_is_wanted_is_left_and_said() {
    let scratch = tempfile::tempdir().expect("a folder");
    let [temporary, file] = ["tmp", "file"].map(|name| scratch.path().join(name));
    fs::create_dir(&temporary).expect("a folder");
    fs::write(&file, "no folder").expect("a file");
    for more in [&[][..], &["--redact"]] {
        for name in ["case.tgz", "case"] {
            let done = diags(&temporary, &file.join(name), more);
            let said = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.code(), Some(4), "{said}");
            let left = in_folder(&temporary);
            let [left] = left.as_slice() else { panic!("{left:?} after {said}") };
            assert!(said.contains(&format!("is left in {}", left.display())), "{said}");
            assert!(!Bundle::open(left).expect("a whole case").texts().expect("texts").0.is_empty());
            fs::remove_dir_all(left).expect("it is ours");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn nothing_is_left_when_it_is_where_it_is_wanted() {
    let scratch = tempfile::tempdir().expect("a folder");
    let [temporary, wanted] = ["tmp", "wanted"].map(|name| scratch.path().join(name));
    for folder in [&temporary, &wanted] {
        fs::create_dir(folder).expect("a folder");
    }
    for (name, more) in [("a.tgz", &[][..]), ("b", &[]), ("c.tgz", &["--redact"]), ("d", &["--redact", "-q"])]
    {
        let done = diags(&temporary, &wanted.join(name), more);
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
        Bundle::open(&wanted.join(name)).expect("a whole case");
        assert_eq!(in_folder(&temporary), Vec::<PathBuf>::new());
    }
}
