//! Workflow files loaded and run against a host in memory.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail like tests")]

mod dialects;
mod failing;
mod harness;
mod hostile;
mod language;
mod loading;
mod resuming;
mod running;
mod selecting;
mod waiting;
mod watching;
