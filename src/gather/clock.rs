//! The two clocks: the wall clock, which stamps frames, and the one that only goes forward, for time limits.

use std::time::{Instant, SystemTime};

/// This machine's wall clock, nanoseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "captures and windows are dated by the clock that stamps frames"
)]
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Now, for measuring how long something takes.
#[expect(clippy::disallowed_methods, reason = "what is due, and what took too long, goes by elapsed time")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}
