//! The fleet, under many seeds. `SLOTH_SIM_SEEDS=10000` runs more of them, `SLOTH_SEED=17` one with its trace.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use sloth_tests::sim::{Options, Tally, run};

/// Simulations of a usual run of the tests.
const SEEDS: u64 = 200;
/// Simulations run side by side.
const THREADS: u64 = 2;
/// Lines of the trace that a failure shows.
const TRACE_LINES: usize = 60;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
}

/// One simulation; when it fails, how, with the end of its trace.
fn check(seed: u64) -> Result<Tally, String> {
    let again = format!("replay: SLOTH_SEED={seed} cargo test -p sloth-tests --test sim -- --nocapture");
    match catch_unwind(AssertUnwindSafe(|| run(Options { seed, ..Options::default() }))) {
        Ok(Ok(tally)) => Ok(tally),
        Ok(Err(_)) => {
            let failure = run(Options { seed, trace: true, bug: None }).expect_err("the same seed fails again");
            let lines = &failure.trace[failure.trace.len().saturating_sub(TRACE_LINES)..];
            Err(format!("{}\n{failure}\n{again}", lines.join("\n")))
        }
        Err(_) => Err(format!("seed {seed} panicked\n{again}")),
    }
}

fn check_all(first: u64, count: u64) -> Result<Tally, String> {
    let shard = |thread: u64| sum((first..first + count).filter(|seed| seed % THREADS == thread).map(check));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || shard(thread))).collect();
        sum(threads.into_iter().map(|thread| thread.join().expect("a thread that does not panic")))
    })
}

fn sum(tallies: impl Iterator<Item = Result<Tally, String>>) -> Result<Tally, String> {
    let mut sum = Tally::default();
    for tally in tallies {
        sum += tally?;
    }
    Ok(sum)
}

#[test]
fn the_invariants_hold_and_the_fleet_converges() {
    if let Some(seed) = number("SLOTH_SEED") {
        let shown = match run(Options { seed, trace: true, bug: None }) {
            Ok(tally) => format!("seed {seed} holds: {tally:?}"),
            Err(failure) => format!("{}\n{failure}", failure.trace.join("\n")),
        };
        println!("{shown}");
        assert!(shown.contains("holds:"), "seed {seed} fails");
        return;
    }
    let tally = check_all(0, number("SLOTH_SIM_SEEDS").unwrap_or(SEEDS)).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{tally:?}");
    for (what, count) in tally.counts() {
        assert_ne!(count, 0, "the seeds never reach `{what}`");
    }
}

#[test]
fn a_seed_determines_everything() {
    let traced = || {
        let options = Options { seed: 3, trace: true, bug: None };
        run(options).map_err(|failure| failure.to_string())
    };
    assert_eq!(traced(), traced());
}
