//! One trace over all nodes: starts an agent on each, waits until every point captures, sends the probe, waits for
//! the end that was asked for, stops all, and writes what came as a case. A node or point that fails is told of and
//! left out; the others go on.

mod case;
mod end;
mod merge;
mod node;
mod point;
mod read;
mod ring;
mod session;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use crate::evidence::case::{Case, ProbeFacts};
use crate::evidence::plan::Plan;
use crate::evidence::{ClockFact, Texts};
use crate::gather::agent::client::Reach;
use crate::gather::capture::{Counts, Settings};
use crate::gather::probe::Probe;

pub(crate) use read::{ReadRequest, read};
pub(crate) use watch::{Enough, Frames, Watch};

/// What to gather.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Points and ends.
    pub(crate) plan: Plan,
    /// Further pairs that are traced at the same time, each with its probe.
    pub(crate) more: Vec<(Plan, Option<Probe>)>,
    /// How nodes are reached.
    pub(crate) reach: Reach,
    /// At most this long; None until interrupted.
    pub(crate) duration: Option<Duration>,
    /// Until this many packets of the forward direction were seen at the first point of a pair, over all pairs.
    pub(crate) count: Option<u64>,
    /// Traffic of our own; its end is the trace's end.
    pub(crate) probe: Option<Probe>,
    /// Ring and snap length.
    pub(crate) settings: Settings,
    /// Whether the nodes' kernels are listened to, where they can be.
    pub(crate) kernel: bool,
    /// Frames are told of while they come, and only the last of them are kept; None keeps all.
    pub(crate) watch: Option<Watch>,
    /// An existing folder, private to us, that the case is written into.
    pub(crate) folder: PathBuf,
}

impl Request {
    /// The plan of a pair: the first has number 0.
    fn plan(&self, pair: usize) -> &Plan {
        pair.checked_sub(1).and_then(|further| self.more.get(further)).map_or(&self.plan, |(plan, _)| plan)
    }

    fn probe(&self, pair: usize) -> Option<&Probe> {
        match pair.checked_sub(1) {
            None => self.probe.as_ref(),
            Some(further) => self.more.get(further)?.1.as_ref(),
        }
    }
}

/// What was gathered. The packets are in the request's folder.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// The manifest.
    pub(crate) case: Case,
    /// Those of further pairs.
    pub(crate) more: Vec<Case>,
    /// The raw texts, as they are written too. With further pairs they are marked: [`Texts::of`] gives those of one.
    pub(crate) texts: Texts,
    /// The manifest of the whole time, when packets of its last part only were kept.
    pub(crate) whole: Option<Case>,
}

/// What happens on the way, for whoever shows it.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A node answers.
    Reached(ClockFact),
    /// Something fails and the rest goes on.
    Warning(String),
    /// Capturing has begun at these points; traffic counts from now on.
    Capturing(Vec<String>),
    /// What the frames are of, when they are watched: the case as far as it is known.
    Begun(Box<Case>),
    /// Frames that are watched.
    Frames(Frames),
    /// How the points go, by id.
    Counts(Vec<(String, Counts)>),
    /// The probe is through.
    Probed(ProbeFacts),
    /// Capturing ends, and why.
    Stopping(Ending),
}

/// Why capturing ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The time is up.
    Duration,
    /// Enough packets.
    Count,
    /// The probe is through.
    Probe,
    /// A packet was lost.
    Loss,
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// No point captures any more.
    AllLost,
}

/// Why nothing was gathered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatherError {
    /// No runtime.
    #[error("cannot wait for agents: {0}")]
    Runtime(#[source] std::io::Error),
    /// Not one point captures.
    #[error("no point could be captured:\n{}", .0.iter().map(|why| format!("  {why}")).collect::<Vec<_>>().join("\n"))]
    NothingCaptured(Vec<String>),
    /// Not one node could be read.
    #[error("no node could be read:\n{}", .0.iter().map(|why| format!("  {why}")).collect::<Vec<_>>().join("\n"))]
    NothingRead(Vec<String>),
    /// Interrupted before capturing had begun, or twice.
    #[error("interrupted before there was anything to report")]
    Interrupted,
    /// The disk is full, or the like.
    #[error("cannot write the capture after {kept} frames: {source}; set TMPDIR to a disk with room")]
    Write {
        /// How many frames had come.
        kept: u64,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Gathers, from the first agent to the written case.
pub(crate) fn run(request: &Request, events: &mut dyn FnMut(Event)) -> Result<Gathered, GatherError> {
    wait(&request.reach, session::Session::new(request, events).gather())
}

/// Waits for the work of agents: where the connections to the API server live, if it leads to the nodes.
fn wait<T>(reach: &Reach, work: impl Future<Output = Result<T, GatherError>>) -> Result<T, GatherError> {
    if let Some(pods) = &reach.pods {
        return pods.api.wait(work);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(GatherError::Runtime)?;
    let done = runtime.block_on(work);
    // Nothing that may hang is waited for any longer: programs that still run are ended with their tasks.
    runtime.shutdown_background();
    done
}

/// The agent's command line: this very program, or the one at `path` on the nodes.
pub(crate) fn agent_command(path: Option<&str>) -> std::io::Result<Vec<String>> {
    let program = match path {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.display().to_string(),
    };
    Ok(vec![program, "agent".to_owned()])
}

#[cfg(test)]
mod tests;
