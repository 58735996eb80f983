//! The agent's entry: greets, answers pings, takes its work, and lets the desk do it while listening. It writes no
//! file and changes no setting, and it returns when its input ends, whatever its threads hang on: nothing stays on
//! the node when the tracing side dies.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::desk::{self, Desk, Heard};
use super::pipe::Pipe;
use super::wire::{self, Decoder, FromAgent, Reading, Received, ToAgent, Work};
use crate::gather::clock::now;

/// Why an agent ended before its work was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// Its output is gone.
    #[error("cannot write to the tracing side: {0}")]
    Output(#[source] io::Error),
    /// What came in makes no sense.
    #[error("cannot understand the tracing side: {0}")]
    Wire(#[from] wire::WireError),
}

/// Serves over this process's standard input and output. The output is written as it is: Rust's own standard
/// output would look for line ends in it.
pub(crate) fn over_standard_streams() -> Result<(), ServeError> {
    let output = io::stdout().as_fd().try_clone_to_owned().map_err(ServeError::Output)?;
    serve(io::stdin(), File::from(output))
}

/// Serves one trace, from greeting to farewell. Returns when all was said, or soon after `input` has ended; the
/// caller then ends the process.
pub(crate) fn serve(
    input: impl Read + Send + 'static,
    mut output: impl Write + Send + 'static,
) -> Result<(), ServeError> {
    ignore_interrupts();
    let mut input = Input { pipe: input, decoder: Decoder::default(), buffer: vec![0; 64 << 10] };
    output.write_all(&wire::greeting()).and_then(|()| output.flush()).map_err(ServeError::Output)?;
    let task = match introduce(&mut input, &mut output) {
        Ok(Some(task)) => task,
        Ok(None) => return Ok(()),
        Err(error) => {
            let said = wire::control(&FromAgent::Failed(error.to_string()));
            let _ = output.write_all(&said).and_then(|()| output.flush());
            return Err(error);
        }
    };
    let gone = Arc::<AtomicBool>::default();
    let (ended, end) = mpsc::channel();
    let pipe = Pipe::start(output, Arc::clone(&gone));
    match task {
        Task::Trace(work) => {
            let desk = Desk::new(work, pipe, Arc::clone(&gone));
            listen(input, desk.ear(), Arc::clone(&gone), ended.clone());
            thread::spawn(move || {
                desk.work();
                let _ = ended.send(Ending::WorkDone);
            });
        }
        Task::Read(reading) => {
            let (ear, unheard) = mpsc::channel();
            listen(input, ear, Arc::clone(&gone), ended.clone());
            thread::spawn(move || {
                desk::read_once(&reading, &pipe);
                drop(unheard);
                let _ = ended.send(Ending::WorkDone);
            });
        }
    }
    if let Ok(Ending::InputEnded) = end.recv() {
        // The desk sees `gone` at its next step; threads that hang on a pipe or a program end with the process.
        let _ = end.recv_timeout(GRACE);
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
    WorkDone,
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
            Some(ToAgent::Probe(_)) => {}
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

/// Messages from a pipe.
struct Input<R> {
    pipe: R,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl<R: Read> Input<R> {
    /// The next message; None when the pipe has ended or broken.
    fn next(&mut self) -> Result<Option<ToAgent>, wire::WireError> {
        loop {
            match self.decoder.next()? {
                Some(Received::Message(message)) => return Ok(Some(message)),
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
