//! The agent: a daemon that works for a coordinator, a worker process for each run, and runs without a coordinator.
//!
//! What an agent decides is in `sloth_protocol::agent`; here it is carried out. The daemon's one loop takes events to
//! the machine, commits what the machine writes, and only then does what it says. A run's Lua lives in a worker
//! process, so that what it does to itself it does to nobody else.

pub mod cli;
pub mod config;
mod convert;
pub mod daemon;
pub mod enrolment;
pub mod leftovers;
pub mod paths;
pub mod platform;
pub mod store;
mod stuck;
mod trim;
pub mod update;
pub mod worker;

/// The release of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
