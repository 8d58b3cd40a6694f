//! The coordinator: `serve`, which agents come to, and the operator's command line.
//!
//! What is decided is decided by `sloth_protocol::coordinator`; here it is carried out. One task owns the machine,
//! one thread the store, and every change is on the disk before anybody is told of it. `serve` runs no Lua and holds
//! no key that can sign work.

pub mod cli;
pub mod config;
pub mod events;
pub mod paths;
pub mod serve;
pub mod store;
