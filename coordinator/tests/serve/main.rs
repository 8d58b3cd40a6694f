//! A coordinator that serves, with visitors on loopback.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    missing_docs,
    reason = "these are tests"
)]

mod agents;
mod commands;
mod enrolment;
mod harness;
mod hostile;
mod operators;
mod trust;
