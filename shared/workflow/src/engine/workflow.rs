//! One workflow from its first task to its last.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::Map;

use super::{Engine, Halt, Resume};
use crate::{
    TaskEnd, TaskName, TaskStatus,
    dsl::Finished,
    modules::Busy,
    plan::Plan,
    schedule::{Ended, Scheduler, Step},
};

/// What an earlier life of the run has done, by task.
pub(super) struct Before {
    ended: BTreeMap<TaskName, TaskEnd>,
    attempts: BTreeMap<TaskName, u32>,
}

/// How a workflow ended.
pub(super) struct WorkflowEnd {
    pub(super) tasks: Vec<TaskEnd>,
    /// Why it failed; `None` = it did not.
    pub(super) message: Option<String>,
}

/// A workflow under way.
pub(super) struct Course<'a> {
    pub(super) finished: &'a Finished,
    pub(super) plan: &'a Plan,
    pub(super) name: Rc<str>,
    pub(super) attempts: &'a BTreeMap<TaskName, u32>,
    /// The ends of tasks so far, by their places.
    pub(super) ends: std::cell::RefCell<Vec<Option<TaskEnd>>>,
}

/// What is to be done about a task.
enum Errand {
    Run,
    /// It never starts; this is how it ends.
    Tell(TaskStatus, String),
}

impl Before {
    pub(super) fn new(resume: &Resume) -> Self {
        let ended = resume.ended.iter().map(|end| (end.task.clone(), end.clone())).collect();
        Self { ended, attempts: resume.attempts.clone() }
    }
}

impl Course<'_> {
    pub(super) fn task_name(&self, task: usize) -> TaskName {
        TaskName { workflow: self.name.to_string(), task: self.plan.tasks()[task].name.clone() }
    }
}

impl Engine {
    pub(super) async fn workflow(&self, finished: &Finished, before: &mut Before) -> WorkflowEnd {
        let plan = &finished.plan;
        let parallel = plan.spec().max_parallel_tasks.unwrap_or(self.context.limits.parallel_tasks);
        let mut scheduler = Scheduler::new(plan, parallel);
        let ends = restore(plan, &mut scheduler, &mut before.ended);
        let course = Course {
            finished,
            plan,
            name: plan.name().into(),
            attempts: &before.attempts,
            ends: std::cell::RefCell::new(ends),
        };
        if !self.is_halted() {
            self.hooks("the hook `on_start`", &finished.hooks.start, ()).await;
        }
        self.drive(&course, &mut scheduler).await;
        let ends: Vec<TaskEnd> = course.ends.into_inner().into_iter().flatten().collect();
        let message = self.judged(plan.name(), &ends);
        if !finished.hooks.complete.is_empty() && !self.is_halted() {
            match self.results(&ends) {
                Ok(results) => {
                    let arguments = (message.is_none(), results);
                    self.hooks("the hook `on_complete`", &finished.hooks.complete, arguments).await;
                }
                Err(error) => self.context.warn(&format!("the hook `on_complete` cannot be called: {error}")),
            }
        }
        // The next workflow has a time of its own.
        self.halt.send_if_modified(|halt| {
            let over = matches!(halt, Some(Halt::Workflow(_)));
            if over {
                *halt = None;
            }
            over
        });
        WorkflowEnd { tasks: ends, message }
    }

    /// Does what the scheduler says until every task has ended.
    async fn drive(&self, course: &Course<'_>, scheduler: &mut Scheduler<'_>) {
        let current = &self.context.current;
        let mut running = FuturesUnordered::new();
        let limit = course.plan.spec().timeout_ms.map(Duration::from_millis);
        let mut time_over = std::pin::pin!(sleep(limit));
        let mut halted = std::pin::pin!(self.halted());
        let mut stopped = false;
        loop {
            if !stopped && self.is_halted() {
                stopped = true;
                self.note_cancel();
                scheduler.stop();
            }
            match scheduler.step() {
                Step::Start(task) => {
                    running.push(self.errand(course, task, Errand::Run, current.busy()));
                    continue;
                }
                Step::Skip { task, because } => {
                    let message =
                        format!("`{}`, which it depends on, did not end well", course.plan.tasks()[because].name);
                    let errand = Errand::Tell(TaskStatus::Skipped, message);
                    running.push(self.errand(course, task, errand, current.busy()));
                    continue;
                }
                Step::Drop(task) => {
                    let message = self
                        .halt_message()
                        .unwrap_or_else(|| "a task failed, and `on_task_failure` is `stop`".to_owned());
                    let errand = Errand::Tell(TaskStatus::Cancelled, message);
                    running.push(self.errand(course, task, errand, current.busy()));
                    continue;
                }
                Step::Wait | Step::Done => {}
            }
            let idle = current.idle();
            let ended = tokio::select! {
                biased;
                ended = running.next() => match ended {
                    Some(ended) => Some(ended),
                    None => return,
                },
                () = &mut halted, if !stopped => None,
                () = &mut time_over, if !stopped => {
                    self.halt(Halt::Workflow(limit.unwrap_or_default()));
                    None
                }
            };
            drop(idle);
            if let Some((task, Some(ended), _)) = ended {
                scheduler.end(task, ended);
            }
        }
    }

    /// Sees a task to its end. Gives what the end means when the scheduler does not know it yet, and that it is busy:
    /// the end may start other tasks.
    async fn errand(
        &self,
        course: &Course<'_>,
        task: usize,
        errand: Errand,
        busy: Busy,
    ) -> (usize, Option<Ended>, Busy) {
        let (end, ended) = match errand {
            Errand::Run => {
                let (end, ended) = Box::pin(self.task(course, task)).await;
                (end, Some(ended))
            }
            Errand::Tell(status, message) => {
                let now = self.context.host.now();
                let name = course.task_name(task);
                let attempts = course.attempts.get(&name).copied().unwrap_or(0);
                let outputs = Map::new();
                (TaskEnd { task: name, status, attempts, message, outputs, started: now, ended: now }, None)
            }
        };
        if !matches!(&*self.halt.borrow(), Some(Halt::Host(_)))
            && let Err(stop) = self.context.host.finished(&end).await
        {
            self.halt(Halt::Host(stop.reason));
        }
        course.ends.borrow_mut()[task] = Some(end);
        (task, ended, busy)
    }

    fn note_cancel(&self) {
        if self.cancel.is_cancelled() {
            self.halt(Halt::Cancelled);
        }
    }

    /// What is said of tasks that end because everything must.
    pub(super) fn halt_message(&self) -> Option<String> {
        if self.cancel.is_cancelled() {
            return Some("the run was cancelled".to_owned());
        }
        self.halt.borrow().as_ref().map(|halt| match halt {
            Halt::Cancelled => "the run was cancelled".to_owned(),
            Halt::Workflow(limit) => format!("the workflow's timeout of {} s is over", limit.as_secs_f64()),
            Halt::Host(reason) => reason.clone(),
            Halt::Memory => "the run is out of memory".to_owned(),
        })
    }

    /// Why a workflow failed, if it did.
    fn judged(&self, workflow: &str, ends: &[TaskEnd]) -> Option<String> {
        let failed: Vec<&TaskEnd> = ends.iter().filter(|end| end.status.is_failure()).collect();
        if let Some(first) = failed.first() {
            let (count, total) = (failed.len(), ends.len());
            let (task, message) = (&first.task.task, first.message.lines().next().unwrap_or_default());
            return Some(format!("workflow `{workflow}`: {count} of {total} tasks failed, first `{task}`: {message}"));
        }
        let dropped = ends.iter().any(|end| end.status == TaskStatus::Cancelled);
        let message = self.halt_message().filter(|_| dropped)?;
        Some(format!("workflow `{workflow}`: {message}"))
    }
}

/// Resolves after `span`; never when there is none.
async fn sleep(span: Option<Duration>) {
    match span {
        Some(span) => tokio::time::sleep(span).await,
        None => std::future::pending().await,
    }
}

/// Tells the scheduler what ended before, in an order in which it can judge what a skip was for.
fn restore(
    plan: &Plan,
    scheduler: &mut Scheduler<'_>,
    ended: &mut BTreeMap<TaskName, TaskEnd>,
) -> Vec<Option<TaskEnd>> {
    let mut ends = vec![None; plan.tasks().len()];
    if ended.is_empty() {
        return ends;
    }
    for &task in plan.order() {
        let name = TaskName { workflow: plan.name().to_owned(), task: plan.tasks()[task].name.clone() };
        let Some(end) = ended.remove(&name) else { continue };
        let meaning = match end.status {
            TaskStatus::Succeeded | TaskStatus::Unchanged => Ended::Opens,
            TaskStatus::Skipped if scheduler.skipped_by_condition(task) => Ended::Opens,
            TaskStatus::Skipped | TaskStatus::Cancelled => Ended::Blocks,
            TaskStatus::Failed | TaskStatus::TimedOut | TaskStatus::Interrupted => Ended::Fails,
        };
        scheduler.end(task, meaning);
        ends[task] = Some(end);
    }
    ends
}
