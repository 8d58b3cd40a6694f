//! Runs whose one thread for Lua is kept by a call that nothing interrupts, past the time of the task that made it.
//!
//! Such a process cannot even say so by itself: another thread of it does, and ends it.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use serde_json::Map;
use sloth_core::Millis;
use sloth_workflow::{Attempt, Outcome, Plan, RunEnd, Stuck, TaskEnd, TaskName, TaskStatus, Watch};

/// What becomes of a task that is stuck, for its end.
const TASK: &str = "it was stuck, past its timeout, in a call that nothing interrupts; the process that ran it was ended, and it is not tried again";
/// The same where no task made the call.
const FILE: &str = "the top level of the file or a hook of a workflow was stuck, past its time, in a call that nothing interrupts; the process that ran it was ended";

/// The tasks of a run that have begun and ended, for whoever has to tell of them on another thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// How many attempts were begun, and when the first one was, of those that have not ended.
    begun: BTreeMap<TaskName, (u32, Millis)>,
    /// Without their outputs.
    ended: Vec<TaskEnd>,
    /// All tasks, where the host is told them.
    planned: Vec<TaskName>,
}

impl Ledger {
    pub(crate) fn planned(&self, plans: &[Plan]) {
        let names = plans.iter().flat_map(|plan| {
            plan.tasks().iter().map(|task| TaskName { workflow: plan.name().to_owned(), task: task.name.clone() })
        });
        self.known().planned = names.collect();
    }

    pub(crate) fn begins(&self, attempt: &Attempt, now: Millis) {
        let mut known = self.known();
        known.begun.entry(attempt.task.clone()).or_insert((0, now)).0 = attempt.number;
    }

    pub(crate) fn ends(&self, end: &TaskEnd) {
        let mut known = self.known();
        known.begun.remove(&end.task);
        let (task, message) = (end.task.clone(), end.message.clone());
        known.ended.push(TaskEnd { task, message, outputs: Map::new(), ..*end });
    }

    /// The end of the task that is stuck; `None` when no task is, or its end is known already.
    pub(crate) fn timed_out(&self, stuck: &Stuck, now: Millis) -> Option<TaskEnd> {
        let (known, task) = (self.known(), stuck.task.clone()?);
        if known.ended.iter().any(|end| end.task == task) {
            return None;
        }
        let (attempts, started) = known.begun.get(&task).copied().unwrap_or((0, now));
        let (status, message) = (TaskStatus::TimedOut, TASK.to_owned());
        Some(TaskEnd { task, status, attempts, message, outputs: Map::new(), started, ended: now })
    }

    /// The ends of all tasks that have none yet, when the run ends with its process: of the one that is stuck, of those
    /// that were cut off, and of those that never began.
    pub(crate) fn last_ends(&self, timed_out: Option<&TaskEnd>, now: Millis) -> Vec<TaskEnd> {
        let known = self.known();
        let is_told = |task: &TaskName| {
            timed_out.is_some_and(|end| end.task == *task) || known.ended.iter().any(|end| end.task == *task)
        };
        let end = |task: &TaskName| {
            let (status, message, (attempts, started)) = match known.begun.get(task) {
                Some(begun) => (TaskStatus::Interrupted, "the run ended in the middle of it", *begun),
                None => (TaskStatus::Cancelled, "the run ended before it began", (0, now)),
            };
            let (task, message, outputs) = (task.clone(), message.to_owned(), Map::new());
            TaskEnd { task, status, attempts, message, outputs, started, ended: now }
        };
        timed_out.cloned().into_iter().chain(known.planned.iter().filter(|task| !is_told(task)).map(end)).collect()
    }

    /// The end of a run that ends with its process, after the `last` ends of its tasks.
    pub(crate) fn run_end(&self, timed_out: Option<&TaskEnd>, last: Vec<TaskEnd>) -> RunEnd {
        let message = timed_out.map_or_else(|| FILE.to_owned(), |end| format!("task `{}`: {TASK}", end.task));
        let mut tasks = self.known().ended.clone();
        tasks.extend(last);
        RunEnd { outcome: Outcome::Failed, tasks, outputs: Map::new(), message }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a thread of its own watch, which ends the process with what `end` says once a call is stuck.
///
/// # Errors
///
/// When the system gives no thread.
pub(crate) fn end_when_stuck(watch: Watch, end: impl FnOnce(&Stuck) -> i32 + Send + 'static) -> io::Result<()> {
    let watching = move || std::process::exit(end(&watch.wait()));
    thread::Builder::new().name("watch".to_owned()).spawn(watching).map(drop)
}
