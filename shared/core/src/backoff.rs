//! How long to wait before trying again.

use crate::Millis;

/// Exponential backoff with full jitter: an even draw between zero and `base · 2^attempt`, capped at `cap`.
///
/// The jitter is applied after the cap: added before it, every waiter ends on the same beat once the cap is
/// reached, and a fleet comes back from an outage as one.
#[must_use]
pub fn full_jitter(attempt: u32, base: Millis, cap: Millis, random: u64) -> Millis {
    let factor = 1_u64.checked_shl(attempt).unwrap_or(u64::MAX);
    let ceiling = base.as_u64().saturating_mul(factor).min(cap.as_u64());
    Millis::from_u64(match ceiling.checked_add(1) {
        Some(count) => random % count,
        None => random,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_under_the_cap_and_are_spread_at_the_cap() {
        let (base, cap) = (Millis::from_u64(500), Millis::from_secs(60));
        assert!(full_jitter(0, base, cap, 12_345) <= base);
        let at_cap: Vec<_> = (0..1000_u64).map(|i| full_jitter(40, base, cap, i * 7_919 * 6_007)).collect();
        assert!(at_cap.iter().all(|wait| *wait <= cap));
        let early = at_cap.iter().filter(|wait| **wait < Millis::from_secs(30)).count();
        assert!((400..600).contains(&early), "{early} of 1000 in the first half");
    }

    #[test]
    fn no_attempt_overflows() {
        assert_eq!(full_jitter(u32::MAX, Millis::MAX, Millis::MAX, 9), Millis::from_u64(9));
    }
}
