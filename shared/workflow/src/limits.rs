//! Every bound of a run, by name.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Most bytes of the Lua heap of one run.
pub const MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most bytes of one workflow file or module.
pub const SCRIPT_BYTES_MAX: usize = 1024 * 1024;
/// Most tasks of one file, over all its workflows.
pub const TASKS_MAX: usize = 10_000;
/// Most bytes of one task's outputs, as JSON.
pub const OUTPUT_BYTES_PER_TASK_MAX: usize = 32 * 1024;
/// Most bytes of one log line; the rest is cut off.
pub const LOG_LINE_BYTES_MAX: usize = 8 * 1024;
/// Most bytes of a command's output that are given back to Lua, for each of its two streams.
pub const CAPTURE_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of a task's message.
pub const MESSAGE_BYTES_MAX: usize = 2 * 1024;
/// How long a file may take to be evaluated where nothing but computing is allowed.
pub const PLAN_MS: u64 = 5_000;
/// How long a file's top level may take in a run, where it may call modules.
pub const TOP_LEVEL_MS: u64 = 60_000;
/// How long an attempt may take when the task does not say.
pub const TASK_TIMEOUT_MS: u64 = 600_000;
/// How long a hook may take.
pub const HOOK_TIMEOUT_MS: u64 = 60_000;
/// Most retries of a task.
pub const RETRIES_MAX: u32 = 100;
/// Most goroutines that one task has at a time.
pub const GOROUTINES_MAX: usize = 10_000;
/// Most commands that one run has at a time; more wait for their turn.
pub const PROCESSES_MAX: usize = 256;
/// Most bytes of a text times bytes of the pattern that is looked for in it.
pub const MATCH_STEPS_MAX: usize = 1 << 30;
/// Most numbers that are sorted without a place to stop in between.
pub const SORTED_NUMBERS_MAX: usize = 1 << 20;
/// Most elements that `table.move` moves.
pub const MOVED_ELEMENTS_MAX: usize = 1 << 24;
/// Most values of a text of JSON, YAML or TOML that is read.
pub const TEXT_VALUES_MAX: usize = 1_000_000;
/// Most bytes that a task's artifacts take together.
pub const ARTIFACT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Most bytes of a Lua value that is turned into JSON, roughly.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of a key of the `state` module, and of a lock's name.
pub const STATE_KEY_BYTES_MAX: usize = 512;
/// Most bytes of a value of the `state` module, as JSON.
pub const STATE_VALUE_BYTES_MAX: usize = 1024 * 1024;
/// How many levels of tables are followed where Lua values are turned into JSON and back.
pub const VALUE_DEPTH_MAX: usize = 64;

/// The longest span that anything waits: longer ones, which the clock cannot add, are as good as this.
const SPAN_SECONDS_MAX: u64 = 100 * 366 * 24 * 3600;

/// The moment at which `time` is over.
pub(crate) fn deadline(time: Duration) -> Instant {
    Instant::now() + time.min(Duration::from_secs(SPAN_SECONDS_MAX))
}

/// The bounds of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most bytes of the Lua heap.
    pub memory_bytes: usize,
    /// Most bytes of one workflow file or module.
    pub script_bytes: usize,
    /// Most tasks of one file.
    pub tasks_max: usize,
    /// Most bytes of one task's outputs, as JSON.
    pub output_bytes_per_task: usize,
    /// Most bytes of one log line.
    pub log_line_bytes: usize,
    /// Most bytes of a command's output that Lua gets, for each stream.
    pub capture_bytes: usize,
    /// How long a file may take to be evaluated by [`crate::load`].
    pub plan_time: Duration,
    /// How long a file's top level may take in a run.
    pub top_level_time: Duration,
    /// The timeout of an attempt when the task does not say.
    pub task_timeout: Duration,
    /// The wait after the first failed attempt at a task.
    pub retry_wait: Duration,
    /// How many tasks run at a time when the workflow does not say.
    pub parallel_tasks: usize,
    /// Most goroutines of one task.
    pub goroutines_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: MEMORY_BYTES_MAX,
            script_bytes: SCRIPT_BYTES_MAX,
            tasks_max: TASKS_MAX,
            output_bytes_per_task: OUTPUT_BYTES_PER_TASK_MAX,
            log_line_bytes: LOG_LINE_BYTES_MAX,
            capture_bytes: CAPTURE_BYTES_MAX,
            plan_time: Duration::from_millis(PLAN_MS),
            top_level_time: Duration::from_millis(TOP_LEVEL_MS),
            task_timeout: Duration::from_millis(TASK_TIMEOUT_MS),
            retry_wait: Duration::from_millis(crate::plan::RETRY_WAIT_MS),
            parallel_tasks: std::thread::available_parallelism().map_or(1, usize::from),
            goroutines_max: GOROUTINES_MAX,
        }
    }
}
