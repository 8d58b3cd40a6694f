//! The return of a fleet after an outage. `SLOTH_HERD_AGENTS=100000` takes a larger one.

use sloth_core::Millis;
use sloth_protocol::coordinator::RECONNECTS_PER_SECOND;
use sloth_tests::herd::{Rooted, new_root, outage};

const AGENTS: usize = 5_000;
const OUTAGE: Millis = Millis::from_secs(30 * 60);
const BACK_WITHIN: Millis = Millis::from_secs(300);
/// Draws overlap: who draws early and fails draws again before the last has drawn once.
const OVERLAP: u64 = 3;

#[test]
fn a_fleet_returns_spread_and_soon() {
    let agents = agents();
    let seen = outage(agents, OUTAGE, 1);
    println!("{agents} agents: {seen:?}");
    assert_eq!(seen.back, agents);
    assert!(seen.all_back_after.is_some_and(|after| after < BACK_WITHIN), "{seen:?}");
    assert!(seen.attempts_per_second_max <= OVERLAP * RECONNECTS_PER_SECOND, "{seen:?}");
}

#[test]
fn a_fleet_takes_on_a_new_root_without_a_failed_poll() {
    let agents = agents();
    assert_eq!(new_root(agents, 1), Rooted { agents, failed: 0 });
}

fn agents() -> usize {
    std::env::var("SLOTH_HERD_AGENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(AGENTS)
}
