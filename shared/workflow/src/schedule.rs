//! Decides which task of a plan starts next. Pure: the engine does what it says.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::plan::{Awaited, Plan};

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Start this task; it counts as running from now on.
    Start(usize),
    /// This task never starts, since what it depends on did not end well. It has ended with this.
    Skip {
        /// The task.
        task: usize,
        /// The first of its dependencies that kept it from starting.
        because: usize,
    },
    /// This task never starts, since none of the tasks that it waited to fail did. It has ended with this.
    Spare(usize),
    /// This task never starts, since the workflow was stopped. It has ended with this.
    Drop(usize),
    /// Nothing, until a running task ends.
    Wait,
    /// Nothing any more: every task has ended.
    Done,
}

/// What a task's end means for the tasks that depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// They may start: it did its work, found none to do, or its own condition said no.
    Opens,
    /// They are skipped, though nothing failed now: it was skipped itself, or cancelled.
    Blocks,
    /// They are skipped, and the workflow's failure policy applies. Tasks that waited for this failure start.
    Fails,
    /// As [`Self::Fails`], and no further task is started whatever the policy says.
    Aborts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Waits for so many others.
    Waiting(usize),
    Running,
    Opened,
    Blocked,
}

/// Whether tasks are still started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stopped {
    No,
    /// Only those that wait for a failure are.
    AfterFailure,
    Wholly,
}

/// Where a plan stands.
#[derive(Debug)]
pub(crate) struct Scheduler<'a> {
    plan: &'a Plan,
    parallel_max: usize,
    progress: Vec<Progress>,
    ready: BinaryHeap<Reverse<usize>>,
    skipped: BinaryHeap<Reverse<usize>>,
    spared: BinaryHeap<Reverse<usize>>,
    /// Tasks that wait for a failure, and whether one has come. Empty when there is none.
    failure_seen: Vec<Option<bool>>,
    running: usize,
    /// Tasks that have not ended.
    left: usize,
    stopped: Stopped,
    /// Tasks that were dropped in an earlier life of the run.
    dropped: Vec<usize>,
    /// Where the search for tasks to drop goes on.
    drop_from: usize,
}

impl<'a> Scheduler<'a> {
    /// At the plan's beginning. `parallel_max` tasks (at least one) run at a time.
    #[must_use]
    pub(crate) fn new(plan: &'a Plan, parallel_max: usize) -> Self {
        let tasks = 0..plan.tasks().len();
        let progress: Vec<_> = tasks.clone().map(|task| Progress::Waiting(plan.dependencies(task).count())).collect();
        let ready = tasks.filter(|&task| progress[task] == Progress::Waiting(0)).map(Reverse);
        let waits_for_failure = plan.tasks().iter().map(|task| (!task.if_failed.is_empty()).then_some(false));
        Self {
            plan,
            parallel_max: parallel_max.max(1),
            left: progress.len(),
            ready: ready.collect(),
            skipped: BinaryHeap::new(),
            spared: BinaryHeap::new(),
            failure_seen: waits_for_failure.collect(),
            progress,
            running: 0,
            stopped: Stopped::No,
            dropped: Vec::new(),
            drop_from: 0,
        }
    }

    /// Decides. Every answer but [`Step::Wait`] and [`Step::Done`] changes where the plan stands.
    pub(crate) fn step(&mut self) -> Step {
        if self.left == 0 {
            return Step::Done;
        }
        // What stopped the workflow then may not do so now; then nothing else ends what depends on them.
        while self.stopped == Stopped::No
            && let Some(task) = self.dropped.pop()
        {
            let waiting = self.plan.awaiting(task).filter(|(_, awaited)| *awaited == Awaited::Success);
            self.skipped.extend(waiting.map(|(dependent, _)| Reverse(dependent)));
        }
        // What depends on a failure is skipped for its sake, also where the rest is dropped because of it.
        while self.stopped != Stopped::Wholly
            && let Some(Reverse(task)) = self.skipped.pop()
        {
            if matches!(self.progress[task], Progress::Waiting(_)) {
                let because = self.blocker(task);
                self.end(task, Ended::Blocks);
                return Step::Skip { task, because };
            }
        }
        if let Some(task) = self.next_drop() {
            return Step::Drop(task);
        }
        while let Some(Reverse(task)) = self.spared.pop() {
            if self.progress[task] == Progress::Waiting(0) {
                self.end(task, Ended::Opens);
                return Step::Spare(task);
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

    /// Takes the end of a task that was started, that is not to be started, or that ended in an earlier life of the run.
    pub(crate) fn end(&mut self, task: usize, ended: Ended) {
        self.end_for(task, ended, |_, _| true);
    }

    /// As [`Self::end`]; of the tasks that depend on one that blocks, only those that `skips` takes are skipped.
    fn end_for(&mut self, task: usize, ended: Ended, skips: impl Fn(&Self, usize) -> bool) {
        match self.progress[task] {
            Progress::Waiting(_) => {}
            Progress::Running => self.running -= 1,
            Progress::Opened | Progress::Blocked => return,
        }
        self.left -= 1;
        self.progress[task] = if ended == Ended::Opens { Progress::Opened } else { Progress::Blocked };
        let failed = matches!(ended, Ended::Fails | Ended::Aborts);
        let plan = self.plan;
        for (dependent, awaited) in plan.awaiting(task) {
            match awaited {
                Awaited::Success if ended == Ended::Opens => self.open(dependent),
                Awaited::Success if skips(self, dependent) => self.skipped.push(Reverse(dependent)),
                Awaited::Success => {}
                Awaited::Failure => {
                    self.failure_seen[dependent] = self.failure_seen[dependent].map(|seen| seen || failed);
                    self.open(dependent);
                }
            }
        }
        if ended == Ended::Aborts || failed && plan.spec().on_task_failure.stops() {
            self.stop_at(Stopped::AfterFailure);
        }
    }

    /// Takes the end of a task that was dropped in an earlier life of the run: what depends on it is dropped as well.
    pub(crate) fn dropped(&mut self, task: usize) {
        self.end_for(task, Ended::Blocks, |this, dependent| this.failure_seen[dependent].is_some());
        self.dropped.push(task);
    }

    /// Starts no task any more.
    pub(crate) fn stop(&mut self) {
        self.stop_at(Stopped::Wholly);
    }

    /// Whether a task that was skipped in an earlier life of the run was so for its own condition's sake, or because
    /// nothing failed. What it waits for must have been given to [`Self::end`] before.
    #[must_use]
    pub(crate) fn skipped_by_condition(&self, task: usize) -> bool {
        self.plan.awaited(task).all(|(other, awaited)| match awaited {
            Awaited::Success => self.progress[other] == Progress::Opened,
            Awaited::Failure => true,
        })
    }

    fn stop_at(&mut self, stopped: Stopped) {
        if self.stopped < stopped {
            self.stopped = stopped;
            self.drop_from = 0;
        }
    }

    fn open(&mut self, task: usize) {
        if let Progress::Waiting(missing) = &mut self.progress[task] {
            *missing -= 1;
            if *missing == 0 {
                let spared = self.failure_seen[task] == Some(false);
                let queue = if spared { &mut self.spared } else { &mut self.ready };
                queue.push(Reverse(task));
            }
        }
    }

    fn next_drop(&mut self) -> Option<usize> {
        if self.stopped == Stopped::No {
            return None;
        }
        while self.drop_from < self.progress.len() {
            let task = self.drop_from;
            self.drop_from += 1;
            if matches!(self.progress[task], Progress::Waiting(_)) && !self.stays(task) {
                // The others that wait are dropped as well.
                self.end_for(task, Ended::Blocks, Self::stays);
                return Some(task);
            }
        }
        None
    }

    /// Whether a task that waits may still start though the workflow was stopped.
    fn stays(&self, task: usize) -> bool {
        self.stopped == Stopped::AfterFailure && self.failure_seen[task].is_some()
    }

    fn blocker(&self, task: usize) -> usize {
        let needed = self.plan.awaited(task).filter(|(_, awaited)| *awaited == Awaited::Success);
        needed.map(|(other, _)| other).filter(|&other| self.progress[other] == Progress::Blocked).min().unwrap_or(task)
    }
}

#[cfg(test)]
mod tests;
