//! The fleet in one process: see [`sim`].

#![allow(clippy::expect_used, reason = "this crate is tests: what cannot happen fails the test")]

pub mod sim;
