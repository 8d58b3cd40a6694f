//! The fleet of real binaries: the main job, networks, kills, outages, bad input and hostile peers.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, and tell which row they are at"
)]

mod agent_rollouts;
mod audit;
mod bad_input;
mod clocks;
mod copies;
mod disks;
mod drills;
mod hostile;
mod kills;
mod main_job;
mod nat;
mod operators;
mod outages;
mod parameters;
mod rollouts;
mod scripts;
mod secrets;
mod token_file;
