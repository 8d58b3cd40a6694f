//! What coordinator and agents say to each other, and what each of them decides.
//!
//! Nothing here opens a socket, reads a file or a clock, starts a thread or asks the system for randomness. A
//! machine takes the time and an event and returns an output: the writes to commit in one transaction, then the
//! effects to carry out, and when to be woken. The driver **commits the writes first**; when a commit fails it
//! drops the machine and restores it from the disk. `restore` is the only constructor, so that every test of a
//! machine is a test of its recovery too.
//!
//! A machine changes its durable state in one way only, by a write that is applied to its own copy and handed to
//! the driver; what it has in memory is therefore what a restart would read.

pub mod agent;
pub mod coordinator;
pub mod random;
pub mod receipts;
pub mod rollout;
pub mod update;
pub mod wire;
