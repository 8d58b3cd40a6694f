//! Numbers of hosts.

use crate::wire::Share;

/// Hundredths of a percent in everything.
pub const EVERYTHING: u32 = 10_000;

impl Share {
    /// So much of `all`, rounded down: for what may go wrong.
    #[must_use]
    pub fn at_most(self, all: usize) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
            Self::Hundredths(part) => scaled(part, all, 0),
        }
    }

    /// So much of `all`, rounded up, and never more than there is: for what shall be there.
    #[must_use]
    pub fn at_least(self, all: usize) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX).min(all),
            Self::Hundredths(part) => scaled(part, all, u64::from(EVERYTHING) - 1).min(all),
        }
    }

    /// Whether it takes everything, however much that is.
    #[must_use]
    pub const fn is_everything(self) -> bool {
        matches!(self, Self::Hundredths(EVERYTHING))
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Hundredths(part) if part % 100 == 0 => write!(f, "{}%", part / 100),
            Self::Hundredths(part) => write!(f, "{}%", f64::from(*part) / 100.0),
        }
    }
}

fn scaled(part: u32, all: usize, round: u64) -> usize {
    let all = u64::try_from(all).unwrap_or(u64::MAX);
    let scaled = all.saturating_mul(u64::from(part)).saturating_add(round) / u64::from(EVERYTHING);
    usize::try_from(scaled).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_rounded_down_and_waves_up() {
        for (share, all, at_most, at_least) in [
            (Share::Hundredths(200), 49, 0, 1),
            (Share::Hundredths(200), 50, 1, 1),
            (Share::Hundredths(200), 99, 1, 2),
            (Share::Hundredths(EVERYTHING), 7, 7, 7),
            (Share::Hundredths(0), 7, 0, 0),
            (Share::Count(3), 2, 3, 2),
            (Share::Count(0), 2, 0, 0),
        ] {
            assert_eq!((share.at_most(all), share.at_least(all)), (at_most, at_least), "{share} of {all}");
        }
        assert_eq!(Share::Hundredths(50).to_string(), "0.5%");
        assert_eq!(Share::Hundredths(5_000).to_string(), "50%");
    }
}
