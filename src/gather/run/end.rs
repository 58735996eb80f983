//! When capturing ends: the time, the count, the probe, an interrupt, whichever comes first. After a count or a
//! probe a grace is left, so that its last packets do not stand at the edge of the window. An interrupt after that is
//! nobody's here, and ends the process.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Ending;
use crate::gather::clock::instant;

/// What is left of a capture's time.
#[derive(Debug)]
pub(super) struct Clockwork {
    due: Option<(Instant, Ending)>,
}

/// How long the last packets of a count or a probe have to reach the last point.
const GRACE: Duration = Duration::from_secs(1);
/// After a loss it goes on so long: what follows it belongs to the picture.
const AFTER_LOSS: Duration = Duration::from_millis(2500);

impl Clockwork {
    /// Starts now; without a duration only other reasons end it.
    pub(super) fn start(duration: Option<Duration>) -> Self {
        let now = Instant::from_std(instant());
        // A duration beyond what the clock can count is none.
        let due = duration.and_then(|duration| now.checked_add(duration));
        Self { due: due.map(|due| (due, Ending::Duration)) }
    }

    /// The count is reached or the probe is through: ends after the grace, if not before.
    pub(super) fn reached(&mut self, why: Ending) {
        let grace = match why {
            Ending::Loss => AFTER_LOSS,
            // Nobody waits for more.
            Ending::Interrupted => Duration::ZERO,
            _ => GRACE,
        };
        let grace = Instant::from_std(instant()) + grace;
        if self.due.is_none_or(|(due, _)| grace < due) {
            self.due = Some((grace, why));
        }
    }

    /// Waits for the end.
    pub(super) async fn end(&self) -> Ending {
        match self.due {
            Some((due, why)) => {
                tokio::time::sleep_until(due).await;
                why
            }
            None => std::future::pending().await,
        }
    }
}

/// Interrupts by the terminal and by others. While these are there, such a signal is what [`next`](Self::next) gives;
/// after them it ends the process again, as it did before.
#[derive(Debug)]
pub(super) struct Interrupts(Option<Signals>);

impl Interrupts {
    /// From now on these signals do not end the process.
    pub(super) fn watch() -> std::io::Result<Self> {
        // Those of the gathering before lose nothing that came in between.
        let earlier = guard().take().and_then(Guard::relieve);
        Ok(Self(Some(earlier.map_or_else(Signals::open, Ok)?)))
    }

    /// The next one.
    pub(super) async fn next(&mut self) {
        match &mut self.0 {
            Some(signals) => drop(signals.next().await),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        *guard() = self.0.take().and_then(Guard::post);
    }
}

/// The signals that mean that somebody does not want to wait.
#[derive(Debug)]
struct Signals([(SignalKind, Signal); 3]);

impl Signals {
    fn open() -> std::io::Result<Self> {
        let open = |kind| Ok::<_, std::io::Error>((kind, signal(kind)?));
        Ok(Self([
            open(SignalKind::interrupt())?,
            open(SignalKind::terminate())?,
            open(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) -> SignalKind {
        let [(interrupt, a), (terminate, b), (hangup, c)] = &mut self.0;
        tokio::select! {
            _ = a.recv() => *interrupt,
            _ = b.recv() => *terminate,
            _ = c.recv() => *hangup,
        }
    }
}

/// A thread that ends the process at a signal. tokio never gives a signal back to the kernel once it was watched, and
/// doing that here would be unsafe code.
struct Guard {
    /// Dropped when it is to go.
    relief: oneshot::Sender<()>,
    thread: JoinHandle<Option<Signals>>,
}

impl Guard {
    /// None where the system gives no thread: then the signals stay without effect.
    fn post(mut signals: Signals) -> Option<Self> {
        let (relief, relieved) = oneshot::channel::<()>();
        let stand = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = relieved => {}
                    kind = signals.next() => end_process(kind),
                }
            });
            Some(signals)
        };
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(stand).ok()?;
        Some(Self { relief, thread })
    }

    /// What it watched.
    fn relieve(self) -> Option<Signals> {
        drop(self.relief);
        self.thread.join().ok()?
    }
}

/// The one of this process.
fn guard() -> MutexGuard<'static, Option<Guard>> {
    static GUARD: Mutex<Option<Guard>> = Mutex::new(None);
    GUARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// With the status that a shell gives to a program that a signal ended.
#[expect(clippy::exit, reason = "what the kernel would do at this signal")]
fn end_process(kind: SignalKind) {
    std::process::exit(128 + kind.as_raw_value());
}
