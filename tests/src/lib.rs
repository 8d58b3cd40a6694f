//! The fleet in one process: see [`sim`] and [`herd`]; and the readers of others' bytes for a fuzzer: see [`fuzz`].

#![allow(clippy::expect_used, reason = "this crate is tests: what cannot happen fails the test")]

pub mod fuzz;
pub mod herd;
pub mod rollout_herd;
pub mod sim;
