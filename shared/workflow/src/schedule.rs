//! Decides which task of a plan starts next. Pure: the engine does what it says.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::plan::{OnTaskFailure, Plan};

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Start this task; it counts as running from now on.
    Start(usize),
    /// This task never starts, since what it depends on did not end well. It has ended with this.
    Skip {
        /// The task.
        task: usize,
        /// The first of its dependencies that kept it from starting.
        because: usize,
    },
    /// This task never starts, since the workflow was stopped. It has ended with this.
    Drop(usize),
    /// Nothing, until a running task ends.
    Wait,
    /// Nothing any more: every task has ended.
    Done,
}

/// What a task's end means for the tasks that depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// They may start: it did its work, found none to do, or its own condition said no.
    Opens,
    /// They are skipped, though nothing failed now: it was skipped itself, or cancelled.
    Blocks,
    /// They are skipped, and the workflow's failure policy applies.
    Fails,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Waits for so many dependencies.
    Waiting(usize),
    Running,
    Opened,
    Blocked,
}

/// Where a plan stands.
#[derive(Debug)]
pub struct Scheduler<'a> {
    plan: &'a Plan,
    parallel_max: usize,
    progress: Vec<Progress>,
    ready: BinaryHeap<Reverse<usize>>,
    skipped: BinaryHeap<Reverse<usize>>,
    running: usize,
    /// Tasks that have not ended.
    left: usize,
    stopped: bool,
    /// Where the search for tasks to drop goes on.
    drop_from: usize,
}

impl<'a> Scheduler<'a> {
    /// At the plan's beginning. `parallel_max` tasks (at least one) run at a time.
    #[must_use]
    pub fn new(plan: &'a Plan, parallel_max: usize) -> Self {
        let tasks = 0..plan.tasks().len();
        let progress: Vec<_> = tasks.clone().map(|task| Progress::Waiting(plan.dependencies(task).count())).collect();
        let ready = tasks.filter(|&task| progress[task] == Progress::Waiting(0)).map(Reverse);
        Self {
            plan,
            parallel_max: parallel_max.max(1),
            left: progress.len(),
            ready: ready.collect(),
            skipped: BinaryHeap::new(),
            progress,
            running: 0,
            stopped: false,
            drop_from: 0,
        }
    }

    /// Decides. Every answer but [`Step::Wait`] and [`Step::Done`] changes where the plan stands.
    pub fn step(&mut self) -> Step {
        if self.left == 0 {
            return Step::Done;
        }
        if self.stopped {
            return self.next_drop();
        }
        while let Some(Reverse(task)) = self.skipped.pop() {
            if matches!(self.progress[task], Progress::Waiting(_)) {
                let because = self.blocker(task);
                self.end(task, Ended::Blocks);
                return Step::Skip { task, because };
            }
        }
        if self.parallel_max <= self.running {
            return Step::Wait;
        }
        while let Some(Reverse(task)) = self.ready.pop() {
            if self.progress[task] == Progress::Waiting(0) {
                self.progress[task] = Progress::Running;
                self.running += 1;
                return Step::Start(task);
            }
        }
        Step::Wait
    }

    /// Takes the end of a task that was started, or that ended in an earlier life of the run.
    pub fn end(&mut self, task: usize, ended: Ended) {
        match self.progress[task] {
            Progress::Waiting(_) => {}
            Progress::Running => self.running -= 1,
            Progress::Opened | Progress::Blocked => return,
        }
        self.left -= 1;
        let plan = self.plan;
        match ended {
            Ended::Opens => {
                self.progress[task] = Progress::Opened;
                for dependent in plan.dependents(task) {
                    self.open(dependent);
                }
            }
            Ended::Blocks | Ended::Fails => {
                self.progress[task] = Progress::Blocked;
                self.skipped.extend(plan.dependents(task).map(Reverse));
                let policy = self.plan.spec().on_task_failure;
                self.stopped |= ended == Ended::Fails && policy == OnTaskFailure::Stop;
            }
        }
    }

    /// Starts no task any more.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether a task that was skipped in an earlier life of the run was so for its own condition's sake. Its
    /// dependencies must have been given to [`Self::end`] before.
    #[must_use]
    pub fn skipped_by_condition(&self, task: usize) -> bool {
        self.plan.dependencies(task).all(|dependency| self.progress[dependency] == Progress::Opened)
    }

    fn open(&mut self, task: usize) {
        if let Progress::Waiting(missing) = &mut self.progress[task] {
            *missing -= 1;
            if *missing == 0 {
                self.ready.push(Reverse(task));
            }
        }
    }

    fn next_drop(&mut self) -> Step {
        while self.drop_from < self.progress.len() {
            let task = self.drop_from;
            self.drop_from += 1;
            if matches!(self.progress[task], Progress::Waiting(_)) {
                self.progress[task] = Progress::Blocked;
                self.left -= 1;
                return Step::Drop(task);
            }
        }
        Step::Wait
    }

    fn blocker(&self, task: usize) -> usize {
        self.plan.dependencies(task).filter(|&d| self.progress[d] == Progress::Blocked).min().unwrap_or(task)
    }
}

#[cfg(test)]
mod tests;
