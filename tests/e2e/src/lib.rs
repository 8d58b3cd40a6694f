//! A fleet of the real binaries on this machine, to be run, cut off, killed and looked at.
//!
//! [`Fleet`] keeps a coordinator and its agents in a directory of their own, each process with its output in a file;
//! dropping it ends them all, and tells their last words when the test has failed. [`Room`] is a network or a set of
//! mounts that only the test's own processes see. [`Witness`] reads what tasks wrote down about themselves, and so
//! tells from outside whether a task ran twice.
//!
//! Everything that is waited for has a named limit; nothing is waited for by sleeping a while and hoping.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a harness fails its test by panicking, with what it saw"
)]

mod binaries;
mod bundle;
mod clock;
mod fleet;
mod processes;
mod random;
mod room;
mod running;
mod view;
mod wait;
mod witness;

pub use binaries::{Program, binary};
pub use bundle::Bundle;
pub use fleet::{AgentHost, Fleet, Site};
pub use processes::{alive, children, listens_on, resident_bytes};
pub use random::Random;
pub use room::{Room, Share};
pub use running::{Process, Ran};
pub use view::{JobView, RunView, TaskView};
pub use wait::{COMMAND_LIMIT, CONNECT_LIMIT, RUN_LIMIT, START_LIMIT, until, until_true};
pub use witness::{Mark, Witness};
