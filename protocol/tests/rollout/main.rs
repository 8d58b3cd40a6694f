//! The planner of rollouts: what it says of one situation, and where it leads over time.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod bugs;
mod fleet;
mod table;
mod waves;

use sloth_core::{AgentId, Millis};
use sloth_protocol::{
    rollout::{EVERYTHING, Spec},
    wire::{Approval, OnHalt, RolloutBundle, RolloutSpec, RolloutWhat, Share, WaveMembers, WaveSpec},
};

const NOW: Millis = Millis::from_secs(1_700_000_000);
const TIMEOUT: Millis = Millis::from_secs(3600);
/// A host that is gone for [`SILENT_AFTER`] of these, and the slack, is silent.
const RHYTHM: Millis = Millis::from_secs(60);
const SILENT_AFTER: u32 = 3;

const ALL: Share = Share::Hundredths(EVERYTHING);

fn host(number: u64) -> AgentId {
    AgentId::new(NOW, u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c))
}

fn wave(share: Share, soak: Millis) -> WaveSpec {
    WaveSpec { members: WaveMembers::UpTo(share), soak, approval: Approval::NotNeeded }
}

/// A rollout of these waves, where no host may fail and all may be changed at once.
fn spec(waves: Vec<WaveSpec>) -> RolloutSpec {
    let bundle = RolloutBundle { name: "web".to_owned(), version: None, workflow: None, values: "{}".to_owned() };
    RolloutSpec {
        name: "web-2".to_owned(),
        what: RolloutWhat::Bundle(bundle),
        selector: "*".to_owned(),
        waves,
        errors_per_wave: Share::Count(0),
        errors_in_all: ALL,
        unproven_max: ALL,
        proven_min: Share::Count(1),
        windows: Vec::new(),
        silent_after: SILENT_AFTER,
        timeout: TIMEOUT,
        on_halt: OnHalt::Stop,
    }
}

fn read(spec: &RolloutSpec) -> Spec {
    Spec::new(spec).expect("a specification that makes sense")
}

/// A share as it is written on a command line.
fn share(text: &str) -> Share {
    match text.strip_suffix('%') {
        Some(part) => Share::Hundredths(part.parse::<u32>().expect("a percentage") * 100),
        None => Share::Count(text.parse().expect("a count")),
    }
}
