//! Workflow files loaded and run against a host in memory.

mod dialects;
mod failing;
mod harness;
mod hostile;
mod loading;
mod resuming;
mod running;
