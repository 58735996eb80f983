//! The agent's entry: greets, answers pings, takes its work, and lets the desk do it while listening. It writes no
//! file and changes no setting, and it returns when its input ends, whatever its threads hang on: nothing stays on
//! the node when the tracing side dies.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigSet, Signal};

use super::desk::{self, Desk, Heard};
use super::pipe::Pipe;
use super::wire::{self, Decoder, FromAgent, Reading, Received, ToAgent, Work};
use crate::gather::clock::{instant, now};

/// Why an agent ended before its work was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// Its output is gone.
    #[error("cannot write to the tracing side: {0}")]
    Output(#[source] io::Error),
    /// What came in makes no sense.
    #[error("cannot understand the tracing side: {0}")]
    Wire(#[from] wire::WireError),
    /// No file descriptors are left.
    #[error("cannot make a pipe: {0}")]
    Pipe(#[source] io::Error),
}

/// Serves over this process's standard input and output. The output is written as it is: Rust's own standard
/// output would look for line ends in it.
pub(crate) fn over_standard_streams() -> Result<(), ServeError> {
    let output = io::stdout().as_fd().try_clone_to_owned().map_err(ServeError::Output)?;
    // More room means fewer waits for the reader; something else than a pipe refuses.
    let _refused = fcntl(&output, FcntlArg::F_SETPIPE_SZ(PIPE));
    serve(io::stdin(), File::from(output))
}

/// Bytes that the pipe to the tracing side may hold: as many as the kernel grants to anybody.
const PIPE: i32 = 1 << 20;

/// Serves one trace, from greeting to farewell. Returns when all was said, or soon after `input` has ended; the
/// caller then ends the process.
pub(crate) fn serve(
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
) -> Result<(), ServeError> {
    ignore_interrupts();
    let (ended, end) = mpsc::channel();
    let input = Input {
        pipe: input,
        decoder: Decoder::default(),
        buffer: vec![0; 64 << 10],
        early: None,
        heard: Arc::new(Mutex::new(instant())),
    };
    let told = ended.clone();
    thread::spawn(move || {
        let _ = told.send(Ending::Over(converse(input, output, &ended)));
    });
    match end.recv() {
        Ok(Ending::Over(result)) => result,
        Ok(Ending::InputEnded) | Err(_) => {
            // The desk sees `gone` at its next step; threads that hang on a pipe or a program end with the process.
            let _ = end.recv_timeout(GRACE);
            Ok(())
        }
    }
}

/// From the greeting to the end of the work.
fn converse(
    mut input: Input<impl Read + Send + 'static>,
    mut output: impl Write + Send + 'static,
    ended: &Sender<Ending>,
) -> Result<(), ServeError> {
    // The other side speaks first: what is said before it has attached to a pod is lost.
    let greeted = input.greeted();
    output.write_all(&wire::greeting()).and_then(|()| output.flush()).map_err(ServeError::Output)?;
    let gone = Arc::<AtomicBool>::default();
    mind_silence(&input.heard, &gone, ended);
    let introduced = match greeted {
        Ok(true) => introduce(&mut input, &mut output),
        Ok(false) => Ok(None),
        Err(error) => Err(error.into()),
    };
    let task = match introduced {
        Ok(Some(task)) => task,
        Ok(None) => return Ok(()),
        Err(error) => {
            let said = wire::control(&FromAgent::Failed(error.to_string()));
            let _ = output.write_all(&said).and_then(|()| output.flush());
            return Err(error);
        }
    };
    let pipe = Pipe::start(output, Arc::clone(&gone));
    match task {
        Task::Trace(work) => {
            let desk = Desk::new(work, pipe, Arc::clone(&gone)).map_err(ServeError::Pipe)?;
            listen(input, desk.ear(), gone, ended.clone());
            desk.work();
        }
        Task::Read(reading) => {
            // Soon over by itself: nothing that comes is of interest, as long as something comes.
            let (ear, _unheard) = mpsc::channel();
            listen(input, ear, gone, ended.clone());
            desk::read_once(&reading, &pipe);
        }
    }
    Ok(())
}

/// How long the desk has to end its captures once the input has ended.
const GRACE: Duration = Duration::from_millis(700);

/// What an agent was started for.
enum Task {
    Trace(Work),
    Read(Reading),
}

enum Ending {
    /// All was said, or it could not begin.
    Over(Result<(), ServeError>),
    /// The tracing side is gone.
    InputEnded,
}

/// Ctrl-C in a terminal that the agent shares with the tracing side is that side's to handle. Threads and programs
/// started later inherit the mask.
fn ignore_interrupts() {
    let mut interrupts = SigSet::empty();
    interrupts.add(Signal::SIGINT);
    interrupts.add(Signal::SIGQUIT);
    // Without the mask an interrupt ends the agent early, which the tracing side reports.
    let _ = interrupts.thread_block();
}

/// Answers pings until the work comes. None if the input ends first.
fn introduce(input: &mut Input<impl Read>, output: &mut impl Write) -> Result<Option<Task>, ServeError> {
    loop {
        match input.next()? {
            Some(ToAgent::Ping(ping)) => {
                let answer = wire::control(&FromAgent::Pong { ping, time: now() });
                output.write_all(&answer).and_then(|()| output.flush()).map_err(ServeError::Output)?;
            }
            Some(ToAgent::Work(work)) => return Ok(Some(Task::Trace(work))),
            Some(ToAgent::Read(reading)) => return Ok(Some(Task::Read(reading))),
            Some(ToAgent::Stop) | None => return Ok(None),
            Some(ToAgent::Probe(..) | ToAgent::Alive) => {}
        }
    }
}

/// Hands messages to the desk; when the input ends or makes no sense, everything ends.
fn listen(
    mut input: Input<impl Read + Send + 'static>,
    desk: Sender<Heard>,
    gone: Arc<AtomicBool>,
    ended: Sender<Ending>,
) {
    thread::spawn(move || {
        while let Ok(Some(message)) = input.next() {
            if desk.send(Heard::Message(message)).is_err() {
                break;
            }
        }
        gone.store(true, Ordering::Relaxed);
        let _ = desk.send(Heard::InputEnded);
        let _ = ended.send(Ending::InputEnded);
    });
}

/// Ends everything when nothing was heard for too long: a connection that broke on its way here shows by silence alone.
fn mind_silence(heard: &Arc<Mutex<Instant>>, gone: &Arc<AtomicBool>, ended: &Sender<Ending>) {
    let (heard, gone, ended) = (Arc::clone(heard), Arc::clone(gone), ended.clone());
    thread::spawn(move || {
        while !gone.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
            if heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > SILENCE {
                gone.store(true, Ordering::Relaxed);
                let _ = ended.send(Ending::InputEnded);
            }
        }
    });
}

/// The tracing side says every two seconds that it is there; a stopped one (Ctrl-Z) is let go too.
const SILENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(1);

/// Messages from a pipe.
struct Input<R> {
    pipe: R,
    decoder: Decoder,
    buffer: Vec<u8>,
    /// Came together with the greeting.
    early: Option<ToAgent>,
    /// When the last message came.
    heard: Arc<Mutex<Instant>>,
}

impl<R: Read> Input<R> {
    /// Waits for the other side's greeting. Whether it came before the end.
    fn greeted(&mut self) -> Result<bool, wire::WireError> {
        self.early = self.next()?;
        Ok(self.early.is_some())
    }

    /// The next message; None when the pipe has ended or broken.
    fn next(&mut self) -> Result<Option<ToAgent>, wire::WireError> {
        if let Some(early) = self.early.take() {
            return Ok(Some(early));
        }
        loop {
            match self.decoder.next()? {
                Some(Received::Message(message)) => {
                    *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = instant();
                    return Ok(Some(message));
                }
                Some(Received::Batch(_)) => {}
                None => match self.pipe.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => return Ok(None),
                    Ok(length) => self.decoder.push(&self.buffer[..length]),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    /// Not a test of its own: the other tests start this program as their agent by this name alone. Run with the others
    /// it says nothing.
    #[test]
    #[ignore = "needs root"]
    fn as_an_agent() {
        if std::env::args().any(|word| word == "--exact") {
            // An agent that loses its pipe while greeting has nobody to tell.
            let _ = super::over_standard_streams();
        }
    }
}
