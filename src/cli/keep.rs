//! Where a case goes: gathered in a private folder, then put where the user wants it, packed or as a folder, redacted if so
//! wanted. What was gathered is not lost when it cannot be put there: then it is left where it is, and that is said.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use super::{Failure, redact};
use crate::evidence::bundle::{self, Bundle, More, Scratch, Writer};
use crate::evidence::cluster::Cluster;
use crate::gather::run::Gathered;

/// What the user wants kept.
#[derive(Clone, Copy)]
pub(super) struct Keeping<'t> {
    pub(super) save: &'t Path,
    pub(super) redact: bool,
    /// Nothing is said of what redacting changed.
    pub(super) quiet: bool,
}

/// A private folder to gather in. It goes with this process; what a killed one left goes now.
pub(super) fn scratch() -> Result<Scratch, Failure> {
    Scratch::new().map_err(|error| {
        let above = std::env::temp_dir();
        Failure::work_text(format!(
            "cannot make a folder for the captures in {}: {error}; set TMPDIR to a disk with room",
            above.display()
        ))
    })
}

/// Removes what a process left that has just been killed: it may hold it for a moment yet.
pub(super) fn sweep() {
    for _ in 0..TRIES {
        if !Scratch::sweep() {
            break;
        }
        thread::sleep(NAP);
    }
}

const TRIES: u32 = 20;
const NAP: Duration = Duration::from_millis(50);

pub(super) fn refuse_to_overwrite(save: &Path) -> Result<(), Failure> {
    if save.exists() {
        return Err(Failure::usage(format!(
            "--save {}: it exists already; choose another name",
            save.display()
        )));
    }
    Ok(())
}

/// Makes a case of what was gathered, with its captures in `scratch` already, and puts it where the user wants it.
pub(super) fn keep(
    gathered: &Gathered,
    more: Option<More>,
    cluster: &Cluster,
    scratch: &Scratch,
    keeping: Keeping<'_>,
) -> Result<(), Failure> {
    let mut writer = Writer::create(scratch.path()).map_err(Failure::work)?;
    writer.put_texts(&gathered.texts).map_err(Failure::work)?;
    writer.put_cluster(&cluster.to_json()).map_err(Failure::work)?;
    if let Some(more) = more {
        writer.put_more(more);
    }
    let bundle = writer.finish(&gathered.case).map_err(Failure::work)?;
    if keeping.redact {
        return redact::pass_on(&bundle, keeping);
    }
    pass_on(bundle, keeping.save)
}

/// Puts a case where the user wants it: packed, or as a folder.
pub(super) fn pass_on(bundle: Bundle, save: &Path) -> Result<(), Failure> {
    let name = save.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if [".tgz", ".tar.gz"].iter().any(|end| name.ends_with(end)) {
        bundle::pack(&bundle, save).map_err(Failure::work)
    } else {
        bundle::move_to(bundle, save).map_err(Failure::work)
    }
}

/// Ends the work in `scratch`. If it failed and the user wanted a case, what is there is left to them.
pub(super) fn or_leave(
    scratch: Scratch,
    wanted: bool,
    done: Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    let has_something = || fs::read_dir(scratch.path()).is_ok_and(|mut entries| entries.next().is_some());
    match done {
        Err(failure) if wanted && has_something() => {
            let folder = scratch.keep();
            Err(failure.adding(&format!(
                "what was gathered by then is left in {}, as it came (not redacted)",
                folder.display()
            )))
        }
        done => done,
    }
}
