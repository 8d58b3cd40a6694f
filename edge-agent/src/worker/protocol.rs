//! What the daemon and a worker say to each other over their socket.
//!
//! ```text
//! daemon  Begin  Resume*  Run            Go            Noted        StateReply   Cancel
//! worker                       Starting       Ended         State   Log          RunEnded
//! ```
//!
//! Both are the same binary, so these messages need no versions. A frame is a big-endian `u32` length and that many
//! bytes of postcard.

use serde::{Deserialize, Serialize};
use sloth_core::{Labels, RunId};
use sloth_protocol::wire::{LogStream, OnInterrupt, RunEnd, TaskEnd, TaskName};

/// Most bytes of a frame: what a script's state may answer, and room for the rest.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first message: what to run.
    Begin(Box<Begin>),
    /// Before [`ToWorker::Run`]: what an earlier worker of this run did.
    Resume(Resume),
    /// All was told: run it.
    Run,
    /// The attempt that [`FromWorker::Starting`] asked for is in the journal; it may begin.
    Go {
        /// Which task.
        task: TaskName,
    },
    /// The task's end is in the journal.
    Noted {
        /// Which task.
        task: TaskName,
    },
    /// End the run, in order.
    Cancel,
    /// The answer to [`FromWorker::State`].
    StateReply {
        /// Which question.
        id: u64,
        /// A `StateReply` in JSON, or a sentence for the script.
        reply: Result<String, String>,
    },
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The run.
    pub run: RunId,
    /// Where the bundle's files are.
    pub bundle_dir: String,
    /// The workflow file, relative to the bundle.
    pub file: String,
    /// One workflow of the file, or all.
    pub workflow: Option<String>,
    /// A JSON object.
    pub values: String,
    /// What the workflows may use.
    pub capabilities: Vec<String>,
    /// The run's scratch directory.
    pub workdir: String,
    /// The agent's name.
    pub agent: String,
    /// The agent's labels.
    pub labels: Labels,
    /// Most bytes of output that one task may report.
    pub log_bytes_per_task: u64,
}

/// What an earlier worker of this run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resume {
    /// It ended this task.
    Ended(TaskEnd),
    /// It began attempts at this task; the last one was cut off.
    Begun {
        /// Which task.
        task: TaskName,
        /// How many.
        attempts: u32,
    },
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// It wants to begin an attempt, and waits for [`ToWorker::Go`].
    Starting {
        /// At which task.
        task: TaskName,
        /// The attempt, from 1.
        attempt: u32,
        /// What becomes of it when it is cut off.
        on_interrupt: OnInterrupt,
    },
    /// A task has ended; what depends on it waits for [`ToWorker::Noted`].
    Ended(TaskEnd),
    /// The run has ended. The last message.
    RunEnded(RunEnd),
    /// Something was printed.
    Log {
        /// By which task; none outside tasks.
        task: Option<TaskName>,
        /// Where to.
        stream: LogStream,
        /// Whole lines without the last one's end.
        text: String,
    },
    /// A script asks for its state, and waits for [`ToWorker::StateReply`].
    State {
        /// Names the question.
        id: u64,
        /// A `StateOperation` in JSON.
        operation: String,
    },
}
