//! Waiting for what must happen, each time with a limit.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a command that answers at once may take. Generous: two cores run many of these tests at a time.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// How long a coordinator may take until it listens.
pub const START_LIMIT: Duration = Duration::from_secs(20);
/// How long an agent may take to be connected, when its attempts are not spread by an earlier failure.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long a run of short tasks may take, with kills and the agents' way back in it.
pub const RUN_LIMIT: Duration = Duration::from_secs(90);

const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// Probes until there is something, and gives it.
///
/// # Panics
///
/// When there is nothing within `limit`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        thread::sleep(PROBE_INTERVAL);
    }
}

/// Probes until it is so.
///
/// # Panics
///
/// When it is not within `limit`.
pub fn until_true(what: &str, limit: Duration, mut probe: impl FnMut() -> bool) {
    until(what, limit, || probe().then_some(()));
}
