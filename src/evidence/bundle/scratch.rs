//! Folders for a case on its way: where it is gathered, rewritten or unpacked. Only its user can look into one; it is locked as
//! long as its process lives, and goes with it. What a killed process left goes when the next one is made; no folder that
//! another process holds, or that somebody else named, is ever touched.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Such a folder, in the system's folder of temporary files.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    /// Its lock says that somebody lives here, also to processes that do not see ours (containers that share `/tmp`).
    _lock: File,
}

impl Scratch {
    /// Makes one, and removes what killed processes left.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn new() -> io::Result<Self> {
        Self::sweep();
        Self::new_in(&std::env::temp_dir())
    }

    fn new_in(above: &Path) -> io::Result<Self> {
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(above)?;
        let lock = File::open(folder.path())?;
        // Where folders cannot be locked nobody else can lock them either: there nothing is swept.
        let _unlocked = lock.try_lock();
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves it to the user, under another name, which is given back.
    pub fn keep(self) -> PathBuf {
        let path = self.folder.keep();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(PREFIX));
        let kept = path.with_file_name(format!("{KEPT}{}", name.unwrap_or_default()));
        fs::rename(&path, &kept).map_or(path, |()| kept)
    }

    /// Removes what killed processes left. Whether there is more whose process cannot be seen but holds it still: it may be about
    /// to end, or live where we cannot see it.
    pub fn sweep() -> bool {
        sweep(&std::env::temp_dir())
    }
}

fn sweep(above: &Path) -> bool {
    let mut held = false;
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || !pid.is_some_and(is_gone) {
            continue;
        }
        if is_unlocked(&entry.path()) {
            // Somebody else's cannot be removed, and need not be.
            let _left = fs::remove_dir_all(entry.path());
        } else {
            held = true;
        }
    }
    held
}

/// Whether a process has ended, also when nobody has taken notice yet: then it has no program any more.
fn is_gone(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe"));
    program.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn is_unlocked(folder: &Path) -> bool {
    File::open(folder).is_ok_and(|folder| folder.try_lock().is_ok())
}

/// Before the process's number. Hidden, and no name that anybody gives a folder of their own.
const PREFIX: &str = ".trace-drop-scratch-";
/// What is left to the user.
const KEPT: &str = "trace-drop-kept-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_killed_process_left_is_swept() {
        let above = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = above.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("capture.pcapng"), "frames").unwrap();
            folder
        };
        let living = Scratch::new_in(above.path()).unwrap();
        // No process has so high a number.
        let left = folder(&format!("{PREFIX}4194999-a"));
        let locked = folder(&format!("{PREFIX}4194999-b"));
        let lock = File::open(&locked).unwrap();
        lock.try_lock().unwrap();
        let own = ["trace-drop-20250114-web", "trace-drop-4194999", ".trace-drop-scratch-mine"].map(folder);
        fs::write(above.path().join(format!("{PREFIX}4194999-file")), "x").unwrap();
        assert!(sweep(above.path()));
        assert!(!left.exists());
        assert!(locked.exists() && living.path().exists() && own.iter().all(|own| own.exists()));
        drop(lock);
        assert!(!sweep(above.path()));
        assert!(!locked.exists());
        let gone = living.path().to_owned();
        drop(living);
        assert!(!gone.exists());
    }

    #[test]
    fn what_is_kept_stays() {
        let above = tempfile::tempdir().unwrap();
        let scratch = Scratch::new_in(above.path()).unwrap();
        fs::write(scratch.path().join("capture.pcapng"), "frames").unwrap();
        let kept = scratch.keep();
        sweep(above.path());
        assert_eq!(fs::read(kept.join("capture.pcapng")).unwrap(), b"frames");
        assert!(kept.file_name().unwrap().to_str().unwrap().starts_with(KEPT), "{kept:?}");
    }
}
