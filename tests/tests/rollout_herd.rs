//! Rollouts over a large fleet. `SLOTH_HERD_AGENTS=100000` takes a larger one.

#![allow(clippy::panic, clippy::print_stdout, reason = "tests fail by panicking, and tell what they saw")]

use sloth_protocol::{
    rollout::EVERYTHING,
    wire::{RolloutStatus, Share},
};
use sloth_tests::rollout_herd::{Kind, Quality, Rolled, roll_out};

const AGENTS: usize = 10_000;
/// A good release takes every host through every wave, and each step is checked: a smaller fleet for that.
const GOOD_DIVISOR: usize = 10;
/// What most of a budget leaves unproven: hosts that failed.
const FAILED_MAX_DIVISOR: usize = 50;

fn agents() -> usize {
    std::env::var("SLOTH_HERD_AGENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(AGENTS)
}

fn rolled(agents: usize, kind: Kind, quality: Quality, unproven_max: Share, seed: u64) -> Rolled {
    let rolled = roll_out(agents, kind, quality, unproven_max, seed).unwrap_or_else(|broken| panic!("{broken}"));
    println!("{kind:?}, {quality:?}, seed {seed}: {rolled:?}");
    rolled
}

#[test]
fn a_bad_release_reaches_no_more_than_the_first_waves_budget() {
    stays_in_its_budget(Kind::Bundle, 1);
}

#[test]
fn a_bad_release_of_the_agent_reaches_no_more_than_the_first_waves_budget() {
    stays_in_its_budget(Kind::Agent, 4);
}

fn stays_in_its_budget(kind: Kind, seed: u64) {
    let all = rolled(agents(), kind, Quality::Bad, Share::Hundredths(EVERYTHING), seed);
    assert_eq!(all.status, RolloutStatus::Halted);
    assert!(all.reached <= all.first_wave, "{all:?}");
    let few = rolled(agents(), kind, Quality::Bad, Share::Count(20), seed + 1);
    assert_eq!(few.status, RolloutStatus::Halted);
    assert!(few.reached <= 20, "{few:?}");
}

#[test]
fn a_good_release_reaches_everybody() {
    arrives(Kind::Bundle);
    arrives(Kind::Agent);
}

fn arrives(kind: Kind) {
    let agents = agents() / GOOD_DIVISOR;
    let rolled = rolled(agents, kind, Quality::Good, Share::Hundredths(EVERYTHING), 3);
    assert_eq!(rolled.status, RolloutStatus::Complete);
    assert!(agents - agents / FAILED_MAX_DIVISOR <= rolled.proven, "{rolled:?}");
    assert!(0 < rolled.restarts && 0 < rolled.cuts, "{rolled:?}");
}
