//! How slow a download may be before it is dropped.
//!
//! A peer that sends a byte now and then would hold a place among the downloads, and the runs that wait for it, for
//! ever. What came until then is kept, and the download goes on from there when it is tried again.

use std::time::Duration;

use tokio::time::Instant;

/// How long a download is watched at a time.
pub(super) const PACE_WINDOW: Duration = Duration::from_secs(60);
/// Fewest bytes of one download in a second, on the average of a window. Eight of them side by side make 1 KiB.
pub(super) const PACE_BYTES_PER_SECOND: u64 = 128;

/// Watches one download.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    /// Counts what came; whether the download is still fast enough.
    pub(super) fn keeps_up(&mut self, now: Instant, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if now.duration_since(self.since) < PACE_WINDOW {
            return true;
        }
        let enough = PACE_BYTES_PER_SECOND.saturating_mul(PACE_WINDOW.as_secs()) <= self.bytes;
        *self = Self::new(now);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For how many seconds a peer is listened to that sends `bytes` every `every` seconds.
    fn listened(every: u64, bytes: usize) -> Option<u64> {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut beats = (1..=600 / every).map(|beat| beat * every);
        beats.find(|second| !pace.keeps_up(start + Duration::from_secs(*second), bytes))
    }

    #[test]
    fn a_trickle_is_dropped_after_a_window_and_a_slow_link_is_not() {
        for (name, every, bytes, dropped) in [
            ("a byte now and then", 29, 1, Some(87)),
            ("a drop a second", 1, 64, Some(60)),
            ("just too little", 1, 127, Some(60)),
            ("just enough", 1, 128, None),
            ("a burst every ten seconds", 10, 1280, None),
        ] {
            assert_eq!(listened(every, bytes), dropped, "{name}");
        }
    }

    #[test]
    fn who_was_fast_once_has_no_credit_for_ever() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(pace.keeps_up(start + Duration::from_secs(1), 1 << 30));
        assert!(pace.keeps_up(start + Duration::from_secs(60), 1));
        assert!(!pace.keeps_up(start + Duration::from_secs(120), 1));
    }
}
