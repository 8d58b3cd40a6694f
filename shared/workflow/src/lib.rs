//! The workflow language: sandboxed Luau, builders, plan, scheduler, engine and modules.
//!
//! [`load`] evaluates a file for its plan and touches nothing; [`run`] evaluates it and runs its tasks.
//! One run has one Lua machine on one thread; its tasks and goroutines are coroutines on it.

mod artifacts;
mod beneath;
mod cancel;
pub mod capability;
pub mod describe;
mod dsl;
mod engine;
mod host;
pub mod limits;
mod load;
pub mod modules;
mod needs;
pub mod plan;
pub mod process;
mod schedule;
mod session;
mod signal;
pub mod source;
pub mod testing;
mod vm;
mod watch;

pub use cancel::{CancelSignal, Canceller, cancel_pair};
pub use capability::{Capabilities, Capability, Grant};
pub use engine::{Elsewhere, Outcome, Resume, RunEnd, RunInput, SEARCH_PATH, Selection, run};
pub use host::{
    Attempt, Holder, Host, Level, Lifetime, LocalFuture, LockQueue, LogLine, MemoryHost, MemoryState, OnInterrupt,
    Place, StateError, StateOperation, StateReply, StateStats, Stop, Stream, TaskEnd, TaskName, TaskStatus,
    values as state_values,
};
pub use limits::Limits;
pub use load::{LoadError, Validation, load, load_and_warn, validate};
pub use modules::AgentInfo;
pub use needs::needs;
pub use plan::{Plan, PlanError, TaskSpec, WorkflowSpec};
pub use session::{Reply, Session, SessionInput};
pub use signal::{Event, Sample, SampleKind};
pub use watch::{Stuck, Watch};
