//! When capturing ends: the time, the count, the probe, an interrupt, whichever comes first. After a count or a
//! probe a grace is left, so that its last packets do not stand at the edge of the window.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
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

/// Interrupts by the terminal and by others.
#[derive(Debug)]
pub(super) struct Interrupts([Signal; 3]);

impl Interrupts {
    /// From now on these signals do not end the process.
    pub(super) fn watch() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// The next one.
    pub(super) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
