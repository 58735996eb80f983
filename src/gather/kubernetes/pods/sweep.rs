//! A process of its own that deletes agent pods when the tracing side dies without a word: a kill -9 leaves nobody else
//! to do it. It hears on its standard input the path of each pod before it is made (`+path`), and after it was deleted
//! (`-path`); what is left when its input ends it deletes.

use std::io::{self, BufRead, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::gather::clock::instant;
use crate::gather::kubernetes::{Access, Api, ApiError};

/// The tracing side's end.
#[derive(Debug)]
pub(super) struct Sweeper {
    access: Access,
    child: Mutex<Option<(Child, ChildStdin)>>,
}

/// How long it goes on: a server that is away comes back in this time, or the pods' deadline ends them.
const PATIENCE: Duration = Duration::from_mins(1);
/// A pod may have been under way when its maker died.
const AGAIN: [u64; 4] = [0, 1, 3, 6];

impl Sweeper {
    pub(super) fn new(access: Access) -> Self {
        Self { access, child: Mutex::default() }
    }

    /// Minds a pod that is about to be made. Without such a process the trace goes on: the pod has a deadline.
    pub(super) fn mind(&self, path: &str) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.is_none() {
            *child = spawn().ok().and_then(|mut child| {
                let mut input = child.stdin.take()?;
                let access = serde_json::to_string(&self.access).ok()?;
                writeln!(input, "{access}").ok()?;
                Some((child, input))
            });
        }
        tell(&mut child, &format!("+{path}"));
    }

    /// A pod is deleted: there is nothing more to do for it.
    pub(super) fn forget(&self, path: &str) {
        tell(&mut self.child.lock().unwrap_or_else(PoisonError::into_inner), &format!("-{path}"));
    }
}

fn tell(child: &mut Option<(Child, ChildStdin)>, words: &str) {
    if let Some((_, input)) = child.as_mut() {
        let _ = writeln!(input, "{words}").and_then(|()| input.flush());
    }
}

#[expect(clippy::disallowed_methods, reason = "what minds the pods must outlive this process")]
fn spawn() -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    // A group of its own: Ctrl-C in the terminal is not meant for it.
    std::process::Command::new(std::env::current_exe()?)
        .arg("sweep")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// The process itself: hears paths until its input ends, then deletes what they name.
pub(crate) fn sweep(input: impl BufRead) -> Result<(), ApiError> {
    let mut lines = input.lines().map_while(Result::ok);
    let Some(access) = lines.next().and_then(|line| serde_json::from_str(&line).ok()) else { return Ok(()) };
    let mut paths = Vec::new();
    for line in lines {
        match line.split_at_checked(1) {
            Some(("+", path)) => paths.push(path.to_owned()),
            Some(("-", path)) => paths.retain(|minded| minded != path),
            _ => {}
        }
    }
    if paths.is_empty() {
        return Ok(());
    }
    let begun = instant();
    for pause in AGAIN {
        thread::sleep(Duration::from_secs(pause));
        while !delete_all(&access, &paths)? && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_secs(1));
        }
    }
    Ok(())
}

/// Whether every deletion was taken. A connection that broke is made anew.
fn delete_all(access: &Access, paths: &[String]) -> Result<bool, ApiError> {
    let api = Api::connect(access)?;
    let mut all = true;
    for path in paths {
        all &= !matches!(api.wait(super::delete(&api, path)), Err(error) if error.is_passing());
    }
    Ok(all)
}
