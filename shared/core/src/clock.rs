//! Time as a number that can be stored, sent and simulated.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A point in time or a span: milliseconds, since the Unix epoch where it is a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Millis(u64);

impl Millis {
    /// The epoch, and the empty span.
    pub const ZERO: Self = Self(0);
    /// Later than any real time.
    pub const MAX: Self = Self(u64::MAX);

    /// A count of milliseconds.
    #[must_use]
    pub const fn from_u64(ms: u64) -> Self {
        Self(ms)
    }

    /// A span of whole seconds; saturates.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// The count of milliseconds.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The span as a [`Duration`].
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// The time from `earlier` to `self`; zero when it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Millis {
    type Output = Self;

    /// Saturates: a far deadline stays far.
    fn add(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for Millis {
    type Output = Self;

    /// Saturates at zero.
    fn sub(self, span: Self) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl From<Duration> for Millis {
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Millis {
    /// As a point in time, RFC 3339 in UTC to the second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = (self.0 / 1000).min(LAST_SECOND);
        let time = std::time::UNIX_EPOCH + Duration::from_secs(secs);
        fmt::Display::fmt(&humantime::format_rfc3339_seconds(time), f)
    }
}

/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can say.
const LAST_SECOND: u64 = 253_402_300_799;

/// The only reader of this machine's clocks.
///
/// It follows the wall clock forward and never back: a clock that is set back stands on the time that passed
/// since (suspend included), so that no timer waits an hour because somebody corrected the time.
#[derive(Debug)]
pub struct Clock {
    begun: Reading,
    last: std::sync::Mutex<Reading>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    given: Millis,
    boot: Millis,
}

impl Clock {
    /// A clock that begins at the wall clock's time.
    #[must_use]
    pub fn new() -> Self {
        let begun = Reading { given: wall(), boot: since_boot() };
        Self { begun, last: std::sync::Mutex::new(begun) }
    }

    /// The time now. Two readings never go down.
    #[must_use]
    pub fn now(&self) -> Millis {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let boot = since_boot();
        let given = (last.given + boot.since(last.boot)).max(wall());
        *last = Reading { given, boot };
        given
    }
}

impl Clock {
    /// The time at which this clock began and what passed since, suspend included, whatever anybody sets the wall clock
    /// to meanwhile: for whoever waits.
    #[must_use]
    pub fn steady(&self) -> Millis {
        self.begun.given + since_boot().since(self.begun.boot)
    }

    /// What the wall clock says, which may jump either way: for whoever judges what has expired.
    #[must_use]
    pub fn wall(&self) -> Millis {
        wall()
    }

    /// By how much [`Clock::now`] is ahead of a wall clock that was set back.
    #[must_use]
    pub fn ahead(&self) -> Millis {
        self.now().since(wall())
    }

    /// Begins anew at the wall clock's time, which may lie before what was given.
    pub fn follow_back(&self) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *last = Reading { given: wall(), boot: since_boot() };
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Asked by way of the C library, unlike the time since the boot: what makes processes believe in another time, as
/// `faketime` does, stands in between there.
#[allow(clippy::disallowed_methods, reason = "this is the one reader of the clock that all others are sent to")]
fn wall() -> Millis {
    // Before 1970 is 1970.
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(Millis::ZERO, Millis::from)
}

fn since_boot() -> Millis {
    from_timespec(rustix::time::clock_gettime(rustix::time::ClockId::Boottime))
}

fn from_timespec(time: rustix::time::Timespec) -> Millis {
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Millis::from_u64(secs.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Millis::MAX + Millis::from_secs(1), Millis::MAX);
        assert_eq!(Millis::from_secs(1) - Millis::from_secs(2), Millis::ZERO);
        assert_eq!(Millis::from_secs(3).since(Millis::from_secs(1)), Millis::from_secs(2));
    }

    #[test]
    fn a_time_is_shown_in_utc() {
        assert_eq!(Millis::from_secs(1_700_000_000).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(Millis::MAX.to_string(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn steady_time_passes_as_the_wall_clocks_does() {
        let clock = Clock::new();
        let (steady, wall) = (clock.steady(), clock.wall());
        assert!(steady.since(wall).max(wall.since(steady)) < Millis::from_secs(5));
        assert!(steady <= clock.steady());
        clock.follow_back();
        assert!(clock.ahead() < Millis::from_secs(5));
    }

    #[test]
    fn the_clock_never_goes_back() {
        let clock = Clock::new();
        let mut last = clock.now();
        for _ in 0..1000 {
            let now = clock.now();
            assert!(last <= now);
            last = now;
        }
    }
}
