//! What a run needs from whoever hosts it: a worker process, a standalone run, a test.

mod locks;
mod memory_host;
mod memory_state;
pub mod values;

pub use locks::LockQueue;
pub use memory_host::MemoryHost;
pub use memory_state::MemoryState;

use std::{fmt, future::Future, pin::Pin};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sloth_core::Millis;

use crate::signal::{Event, Sample};

/// A future of the one thread that a run lives on.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// The world outside a run. Object safe; held as `Rc<dyn Host>`.
pub trait Host {
    /// The time now.
    fn now(&self) -> Millis;

    /// Sixteen random bytes.
    fn random(&self) -> u128;

    /// Takes one line of output. Never blocks.
    fn log(&self, line: LogLine);

    /// Takes the plans of the run, once, before its first attempt. Hosts that do not show plans ignore it.
    fn planned(&self, plans: &[crate::Plan]) {
        let _ = plans;
    }

    /// Takes an event that the run tells of. Never blocks. Hosts that pass it on to nobody show it to whoever looks for a
    /// fault.
    fn event(&self, event: &Event) {
        self.log(LogLine { task: event.task.clone(), stream: Stream::Log(Level::Debug), text: event.to_string() });
    }

    /// Takes a value that the run measured. Never blocks. Hosts that keep none show it to whoever looks for a fault.
    fn sample(&self, sample: &Sample) {
        self.log(LogLine { task: sample.task.clone(), stream: Stream::Log(Level::Debug), text: sample.to_string() });
    }

    /// Asks to begin an attempt; resolves when the intent is durable. `Err` stops the run.
    fn starting<'a>(&'a self, attempt: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>>;

    /// Hands over a task's end; resolves when it is durable. Dependents start only after it. `Err` stops the run.
    fn finished<'a>(&'a self, end: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>>;

    /// The storage of the `state` module: keys to JSON values.
    fn state<'a>(&'a self, operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>>;
}

/// One line that a run printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Which task printed it; `None` outside tasks.
    pub task: Option<TaskName>,
    /// Where it came from.
    pub stream: Stream,
    /// The line without its end.
    pub text: String,
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The script's own log.
    Log(Level),
    /// Standard output of a command.
    Stdout,
    /// Standard error of a command.
    Stderr,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Only for whoever looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// Something that may need a look.
    Warn,
    /// Something failed.
    Error,
}

/// A task of a run, by its workflow and its own name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskName {
    /// The workflow it belongs to.
    pub workflow: String,
    /// Its name, unique in the workflow.
    pub task: String,
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workflow, self.task)
    }
}

/// One try at a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The task.
    pub task: TaskName,
    /// Which try it is, counted from 1 and over restarts of the run.
    pub number: u32,
    /// What to do when the attempt is cut off by a crash.
    pub on_interrupt: OnInterrupt,
}

/// What becomes of a task whose attempt was cut off by a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnInterrupt {
    /// It is begun again: it is idempotent, or has retries left.
    Retry,
    /// It ends as interrupted: nobody said that it may be run twice.
    #[default]
    Fail,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// It did its work.
    Succeeded,
    /// It found nothing to do: its outputs say `changed = false`.
    Unchanged,
    /// It failed for good, after all its attempts.
    Failed,
    /// Its last attempt outlived its timeout.
    TimedOut,
    /// Its condition said no, or what it depends on failed.
    Skipped,
    /// The run ended before it did.
    Cancelled,
    /// A crash cut it off and it may not be run again.
    Interrupted,
}

impl TaskStatus {
    /// Whether it makes the run a failure.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Failed | Self::TimedOut | Self::Interrupted => true,
            Self::Succeeded | Self::Unchanged | Self::Skipped | Self::Cancelled => false,
        }
    }

    /// The status in one word, as it is shown and recorded.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for TaskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The end of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskEnd {
    /// The task.
    pub task: TaskName,
    /// How it ended.
    pub status: TaskStatus,
    /// How many attempts were begun, over restarts of the run; zero when it never started.
    pub attempts: u32,
    /// What it said of its end; empty when it said nothing.
    pub message: String,
    /// What it hands to the tasks that depend on it.
    pub outputs: Map<String, Value>,
    /// When its first attempt began, or when it was decided not to begin.
    pub started: Millis,
    /// When it ended.
    pub ended: Millis,
}

/// The host cannot go on: its journal takes no more, or it has gone away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Stop {
    /// Why, in one sentence.
    pub reason: String,
}

/// What the `state` module asks of its storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum StateOperation {
    /// The value of a key, answered with [`StateReply::Value`].
    Get {
        /// The key.
        key: String,
    },
    /// Sets a key, answered with [`StateReply::Done`].
    Set {
        /// The key.
        key: String,
        /// Its new value.
        value: Value,
        /// How long it lives; `None` = for good.
        ttl: Option<Millis>,
    },
    /// Removes a key; answered with [`StateReply::Done`], true when there was one.
    Delete {
        /// The key.
        key: String,
    },
    /// Every key that begins with the prefix, answered with [`StateReply::Keys`].
    Keys {
        /// The prefix; empty = all.
        prefix: String,
    },
    /// Adds to a number, a missing key being zero; answered with [`StateReply::Number`], the sum.
    Increment {
        /// The key.
        key: String,
        /// What to add.
        by: f64,
    },
    /// Sets a key only when it holds what is expected; answered with [`StateReply::Done`], true when it did.
    CompareAndSwap {
        /// The key.
        key: String,
        /// What it must hold; `None` = the key must be missing.
        expected: Option<Value>,
        /// Its new value.
        value: Value,
    },
    /// Removes every key, answered with [`StateReply::Done`].
    Clear,
    /// Sets how long a key lives; answered with [`StateReply::Done`], true when there is one.
    Expire {
        /// The key.
        key: String,
        /// How long it lives from now on; `None` = for good.
        ttl: Option<Millis>,
    },
    /// How long a key lives, answered with [`StateReply::Lifetime`].
    Lifetime {
        /// The key.
        key: String,
    },
    /// Adds a value at the end of a list, a missing key being an empty one; answered with [`StateReply::Number`], the
    /// list's length.
    Push {
        /// The key.
        key: String,
        /// What to add.
        value: Value,
    },
    /// Takes the last value off a list; answered with [`StateReply::Value`].
    Pop {
        /// The key.
        key: String,
    },
    /// Adds a text at the end of one, a missing key being an empty one; answered with [`StateReply::Number`], the
    /// text's length in bytes.
    Append {
        /// The key.
        key: String,
        /// What to add.
        text: String,
    },
    /// What is stored, in figures; answered with [`StateReply::Stats`].
    Stats,
    /// Asks for a lock, or whether one that is waited for is had by now; answered with [`StateReply::Place`].
    Lock {
        /// Its name.
        name: String,
        /// Who asks, the same each time.
        holder: Holder,
        /// How long it is held at most; `None` = until it is given back or the holder's process ends.
        ttl: Option<Millis>,
        /// Whether to stand in its queue.
        wait: bool,
    },
    /// Gives a lock back, or leaves its queue; answered with [`StateReply::Done`], true when it was held.
    Unlock {
        /// Its name.
        name: String,
        /// Who held it, by [`Holder::id`].
        id: String,
    },
}

/// Who holds a lock, or waits for it. Nobody does any more when the process has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Names this holding; never used twice.
    pub id: String,
    /// The run.
    pub run: String,
    /// The process that the run lives in.
    pub process: u32,
    /// When that process began, in the kernel's count; tells it from a later one of the same number.
    pub started: Option<u64>,
}

/// How long a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// There is no such key.
    Missing,
    /// For good.
    Forever,
    /// So long from now.
    Left(Millis),
}

/// What is stored, in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StateStats {
    /// How many keys there are.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// When anything was changed last, if ever.
    pub modified: Option<Millis>,
}

/// Where one stands in the queue of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// How many come before; 0 = it is had.
    pub ahead: u64,
    /// Who has it, when somebody else does.
    pub held_by: Option<Holder>,
}

/// What the storage answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum StateReply {
    /// A key's value, if there is one.
    Value(Option<Value>),
    /// Keys with their values, in the order of the keys.
    Keys(Vec<(String, Value)>),
    /// A sum.
    Number(f64),
    /// Whether something was done.
    Done(bool),
    /// How long a key lives.
    Lifetime(Lifetime),
    /// What is stored, in figures.
    Stats(StateStats),
    /// Where one stands in the queue of a lock.
    Place(Place),
}

/// The storage could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StateError {
    /// What was tried and why it did not work, in one sentence.
    pub message: String,
}
