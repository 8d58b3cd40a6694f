//! Updates on one host: the real supervisor, programs of all kinds, and whatever can go wrong in between.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, and tell which trial they are at"
)]

mod agents;
mod bricks;
mod host;
mod manager;
mod orders;
