//! What agents report: tasks, runs and logs, each record once.

use serde::{Deserialize, Serialize};
use sloth_core::{Millis, RunId};

/// No generation and no record's number is above this: who says so is not believed, and nothing overflows.
pub const NUMBER_MAX: u64 = 1 << 62;
/// Most bytes of one task's outputs as JSON.
pub const OUTPUT_BYTES_MAX: usize = 32 * 1024;
/// Most bytes of a record's message or lines.
pub const TEXT_BYTES_MAX: usize = 32 * 1024;
/// Most bytes of the name of a workflow or a task in a record.
pub const NAME_BYTES_MAX: usize = 256;
/// Most bytes of a receipt's signature: the four lines of a `.minisig` file that a program makes.
pub const RECEIPT_SIGNATURE_BYTES_MAX: usize = 512;
/// Most bytes of why an update came out as it did.
pub const UPDATE_REASON_BYTES_MAX: usize = 1024;
/// Most bytes of what a version of the agent logged last.
pub const UPDATE_LOG_BYTES_MAX: usize = 2 * 1024;
/// Most bytes of a version of the agent.
pub const UPDATE_VERSION_BYTES_MAX: usize = 64;
/// Most records of one report.
pub const REPORT_RECORDS_MAX: usize = 256;
/// Most bytes of one report's records, by [`Record::weight`].
pub const REPORT_BYTES_MAX: usize = 512 * 1024;

/// A task of a run: its workflow's name and its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskName {
    /// The workflow.
    pub workflow: String,
    /// The task, unique in its workflow.
    pub task: String,
}

impl std::fmt::Display for TaskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.workflow, self.task)
    }
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskStatus {
    /// It did what it should.
    Succeeded,
    /// It did what it should, and nothing had to change.
    Unchanged,
    /// It said so itself, or raised an error.
    Failed,
    /// It took longer than it may.
    TimedOut,
    /// Its condition did not hold, or a task it depends on did not succeed.
    Skipped,
    /// The run was cancelled before it ended.
    Cancelled,
    /// The agent stopped in the middle of it, and it is not one to run twice.
    Interrupted,
}

/// What becomes of a task that was running when the agent stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnInterrupt {
    /// It runs again: it is idempotent, or has retries left.
    Retry,
    /// It ends as [`TaskStatus::Interrupted`].
    Fail,
}

/// A task's end, final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEnd {
    /// Which task.
    pub task: TaskName,
    /// How it ended.
    pub status: TaskStatus,
    /// How often it was begun; zero when it was skipped.
    pub attempts: u32,
    /// What it said of its end; may be empty.
    pub message: String,
    /// Its outputs, a JSON object of at most [`OUTPUT_BYTES_MAX`] bytes.
    pub outputs: String,
    /// When the first attempt began.
    pub started: Millis,
    /// When the last one ended.
    pub ended: Millis,
}

/// How a run ended on one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunOutcome {
    /// Every task succeeded or was rightly skipped.
    Succeeded,
    /// A task failed, or the workflow could not be loaded.
    Failed,
    /// An operator cancelled it.
    Cancelled,
    /// The agent would not run it: a signature, the audience or a limit was against it.
    Refused,
    /// Its deadline passed first.
    Expired,
}

/// A run's end on one agent, final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// How it ended.
    pub outcome: RunOutcome,
    /// Why, when it is not plain success; may be empty.
    pub message: String,
    /// What the workflow exported, a JSON object of at most [`OUTPUT_BYTES_MAX`] bytes.
    pub outputs: String,
}

/// Where a line of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogStream {
    /// A command's standard output.
    Stdout,
    /// A command's standard error.
    Stderr,
    /// `log.debug`.
    Debug,
    /// `log.info` and `print`.
    Info,
    /// `log.warn`.
    Warn,
    /// `log.error`.
    Error,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordBody {
    /// The agent has begun the run.
    RunStarted,
    /// An attempt at a task has begun.
    TaskStarted {
        /// Which task.
        task: TaskName,
        /// The attempt, from 1.
        attempt: u32,
    },
    /// A task has ended.
    TaskEnded(TaskEnd),
    /// The run has ended.
    RunEnded(RunEnd),
    /// Output of the run.
    Log {
        /// The task it came from, or none for the workflow file itself.
        task: Option<TaskName>,
        /// Where it came from.
        stream: LogStream,
        /// One or more whole lines without the last line's end.
        text: String,
    },
    /// What the agent signs of the run's end, right after that.
    Receipt {
        /// The bytes of a [`Receipt`](sloth_trust::Receipt), at most [`sloth_trust::envelope::RECEIPT_BYTES_MAX`].
        payload: Vec<u8>,
        /// The four lines of a `.minisig` file, at most [`RECEIPT_SIGNATURE_BYTES_MAX`] bytes; none before it is sent.
        signature: String,
    },
    /// How far an update of the agent itself got. It belongs to no run. Told from version 2 of the protocol on.
    Update(UpdateReport),
}

/// How far an update of the agent got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateReport {
    /// The release's number; none when nobody ordered it, as after a command on the host.
    pub counter: Option<u64>,
    /// The version that ran before, at most [`UPDATE_VERSION_BYTES_MAX`] bytes.
    pub from: String,
    /// The version that it was to go to.
    pub to: String,
    /// How far it got.
    pub verdict: UpdateVerdict,
    /// Why, when it is not plain success; at most [`UPDATE_REASON_BYTES_MAX`] bytes.
    pub reason: String,
    /// What a version that failed logged last; at most [`UPDATE_LOG_BYTES_MAX`] bytes, the last ones.
    pub log_tail: String,
}

/// How far an update of the agent got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateVerdict {
    /// The binary is on the disk and was tried; the old version runs.
    Staged,
    /// The supervisor was asked to start the new version.
    Switched,
    /// The new version runs, has come back to the coordinator, and stays.
    Confirmed,
    /// The new version failed, and the one before runs again.
    RolledBack,
    /// Something was wrong with the order or with what it brought.
    Refused,
    /// The host's own rules are against it.
    Held,
    /// It was taken back before the new version was started.
    Withdrawn,
}

/// One thing to report, under a number that is never used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Above every number that this agent ever gave in this lane.
    pub seq: u64,
    /// When it happened, by the agent's clock.
    pub at: Millis,
    /// The run it belongs to; [`RunId::NIL`] for what the agent tells of itself.
    pub run: RunId,
    /// What happened.
    pub body: RecordBody,
}

/// Records are sent and counted in two lanes, so that results never wait behind logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// What became of runs and tasks.
    Results,
    /// What they printed.
    Logs,
}

/// How dear a record is: when space runs out, the lowest class goes first and the oldest of it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Class {
    /// Output.
    Log,
    /// That something has begun.
    Progress,
    /// How a task ended.
    Task,
    /// How a run ended and the receipt for it, or how far an update got.
    Run,
}

/// How many records an agent has ever given up for want of space, by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dropped {
    /// Output.
    pub logs: u64,
    /// That something has begun.
    pub progress: u64,
    /// How a task ended.
    pub tasks: u64,
    /// How a run ended, and receipts.
    pub runs: u64,
}

/// Where a run stands on one agent, as the coordinator knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobState {
    /// The agent has not been told, or has not confirmed that it was.
    Pending,
    /// The agent has it on its disk.
    Accepted,
    /// The agent has begun it.
    Running,
    /// See [`RunOutcome::Succeeded`].
    Succeeded,
    /// See [`RunOutcome::Failed`].
    Failed,
    /// See [`RunOutcome::Cancelled`].
    Cancelled,
    /// See [`RunOutcome::Refused`].
    Refused,
    /// See [`RunOutcome::Expired`]; also when the agent was never reached in time.
    Expired,
}

impl Lane {
    /// Every lane, in order of importance.
    pub const ALL: [Self; 2] = [Self::Results, Self::Logs];

    /// The lane's place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Results => 0,
            Self::Logs => 1,
        }
    }
}

impl JobState {
    /// Every state, in the order of their tags.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Accepted,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Refused,
        Self::Expired,
    ];

    /// Whether nothing more is expected.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Accepted | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Refused | Self::Expired => true,
        }
    }
}

impl From<RunOutcome> for JobState {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Succeeded => Self::Succeeded,
            RunOutcome::Failed => Self::Failed,
            RunOutcome::Cancelled => Self::Cancelled,
            RunOutcome::Refused => Self::Refused,
            RunOutcome::Expired => Self::Expired,
        }
    }
}

impl RecordBody {
    /// How dear it is.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Log { .. } => Class::Log,
            Self::RunStarted | Self::TaskStarted { .. } => Class::Progress,
            Self::TaskEnded(_) => Class::Task,
            Self::RunEnded(_) | Self::Receipt { .. } | Self::Update(_) => Class::Run,
        }
    }

    /// Itself within its bounds: texts are cut, and outputs that are too long are left out. Whatever a worker said, a
    /// record then fits a report, and whatever an agent says, it fits an answer to those who look at the run.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        match &mut self {
            // Of a receipt no byte may go: one that is too long is not taken.
            Self::RunStarted | Self::Receipt { .. } => {}
            Self::TaskStarted { task, .. } => task.fit(),
            Self::TaskEnded(end) => end.fit(),
            Self::RunEnded(end) => end.fit(),
            Self::Update(report) => report.fit(),
            Self::Log { task, text, .. } => {
                task.iter_mut().for_each(TaskName::fit);
                cut(text, TEXT_BYTES_MAX);
            }
        }
        self
    }

    /// The lane it travels in.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self.class() {
            Class::Log => Lane::Logs,
            Class::Progress | Class::Task | Class::Run => Lane::Results,
        }
    }

    /// About how many bytes it takes, for bounds on queues and frames.
    #[must_use]
    pub const fn weight(&self) -> usize {
        const FIXED: usize = 64;
        match self {
            Self::RunStarted => FIXED,
            Self::TaskStarted { task, .. } => FIXED + task.workflow.len() + task.task.len(),
            Self::TaskEnded(end) => {
                FIXED + end.task.workflow.len() + end.task.task.len() + end.message.len() + end.outputs.len()
            }
            Self::RunEnded(end) => FIXED + end.message.len() + end.outputs.len(),
            Self::Log { task: Some(task), text, .. } => FIXED + task.workflow.len() + task.task.len() + text.len(),
            Self::Log { task: None, text, .. } => FIXED + text.len(),
            // As much before it is signed as after.
            Self::Receipt { payload, .. } => FIXED + payload.len() + RECEIPT_SIGNATURE_BYTES_MAX,
            Self::Update(report) => {
                FIXED + report.from.len() + report.to.len() + report.reason.len() + report.log_tail.len()
            }
        }
    }
}

impl UpdateReport {
    fn fit(&mut self) {
        cut(&mut self.from, UPDATE_VERSION_BYTES_MAX);
        cut(&mut self.to, UPDATE_VERSION_BYTES_MAX);
        cut(&mut self.reason, UPDATE_REASON_BYTES_MAX);
        let excess = self.log_tail.len().saturating_sub(UPDATE_LOG_BYTES_MAX);
        self.log_tail.drain(..self.log_tail.ceil_char_boundary(excess));
    }
}

impl UpdateVerdict {
    /// Whether nothing more is expected.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Staged | Self::Switched => false,
            Self::Confirmed | Self::RolledBack | Self::Refused | Self::Held | Self::Withdrawn => true,
        }
    }
}

impl TaskEnd {
    /// Itself within its bounds, as it is reported.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        self.fit();
        self
    }

    fn fit(&mut self) {
        self.task.fit();
        cut(&mut self.message, TEXT_BYTES_MAX);
        fit_outputs(&mut self.outputs);
    }
}

impl RunEnd {
    /// Itself within its bounds, as it is reported.
    #[must_use]
    pub fn fitted(mut self) -> Self {
        self.fit();
        self
    }

    fn fit(&mut self) {
        cut(&mut self.message, TEXT_BYTES_MAX);
        fit_outputs(&mut self.outputs);
    }
}

impl TaskName {
    fn fit(&mut self) {
        cut(&mut self.workflow, NAME_BYTES_MAX);
        cut(&mut self.task, NAME_BYTES_MAX);
    }
}

impl Record {
    /// See [`RecordBody::weight`].
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.body.weight()
    }
}

impl Dropped {
    /// Counts one more of `class`.
    pub const fn add(&mut self, class: Class) {
        let count = match class {
            Class::Log => &mut self.logs,
            Class::Progress => &mut self.progress,
            Class::Task => &mut self.tasks,
            Class::Run => &mut self.runs,
        };
        *count = count.saturating_add(1);
    }
}

fn cut(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

/// The start of a JSON object is none.
fn fit_outputs(outputs: &mut String) {
    if OUTPUT_BYTES_MAX < outputs.len() {
        *outputs = "{}".to_owned();
    }
}
