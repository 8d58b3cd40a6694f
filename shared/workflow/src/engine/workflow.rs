//! One workflow from its first task to its last.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use mlua::{Function, Lua, Value};
use serde_json::Map;

use super::{Engine, Halt, Resume, attempt::ABORTED, hooks::outputs};
use crate::{
    TaskEnd, TaskName, TaskStatus,
    dsl::{Finished, WorkflowHook},
    modules::Busy,
    plan::{OnTaskFailure, Plan},
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
    ends: Rc<RefCell<Vec<Option<TaskEnd>>>>,
    /// Their places, in the order in which they ended.
    completed: RefCell<Vec<usize>>,
    /// Why a task is left out; `None` = it is run.
    left_out: &'a [Option<String>],
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

    /// How a task ended, once it has.
    pub(super) fn end(&self, task: usize) -> Option<TaskEnd> {
        self.ends.borrow()[task].clone()
    }

    /// Whether each task ended well: it did its work, or was not to do any. Not so what a failure kept from starting.
    pub(super) fn good(&self) -> Vec<bool> {
        let ends = self.ends.borrow();
        let mut good = vec![false; ends.len()];
        for &task in self.plan.order() {
            good[task] = match ends[task].as_ref().map(|end| end.status) {
                Some(TaskStatus::Succeeded | TaskStatus::Unchanged) => true,
                Some(TaskStatus::Skipped) => {
                    self.left_out[task].is_some() || self.plan.dependencies(task).all(|before| good[before])
                }
                Some(TaskStatus::Failed | TaskStatus::TimedOut | TaskStatus::Cancelled | TaskStatus::Interrupted)
                | None => false,
            };
        }
        good
    }

    /// The outputs, by name, of the tasks that `task` waits for through others. Only what is asked for is converted.
    pub(super) fn further(&self, lua: &Lua, task: usize) -> mlua::Result<Function> {
        let direct: BTreeSet<usize> = self.plan.dependencies(task).collect();
        let (mut seen, mut left) = (BTreeSet::new(), direct.iter().copied().collect::<Vec<_>>());
        while let Some(next) = left.pop() {
            left.extend(self.plan.dependencies(next).filter(|before| seen.insert(*before)));
        }
        let ends = Rc::clone(&self.ends);
        lua.create_function(move |lua, (_, name): (Value, Value)| {
            let Some(name) = name.as_string().map(mlua::LuaString::to_string_lossy) else { return Ok(Value::Nil) };
            let ends = ends.borrow();
            let end = seen.iter().filter_map(|place| ends[*place].as_ref()).find(|end| end.task.task == name);
            match end.filter(|end| !end.outputs.is_empty()) {
                Some(end) => outputs(lua, end).map(Value::Table),
                None => Ok(Value::Nil),
            }
        })
    }

    /// How all tasks ended that have, in the order of the file.
    pub(super) fn all_ends(&self) -> Vec<TaskEnd> {
        self.ends.borrow().iter().flatten().cloned().collect()
    }

    /// The tasks that have ended, the last one first.
    pub(super) fn completed_last_first(&self) -> Vec<usize> {
        self.completed.borrow().iter().rev().copied().collect()
    }

    /// The tasks that have ended, in the order in which they did.
    pub(super) fn completed(&self) -> Vec<usize> {
        self.completed.borrow().clone()
    }

    /// Whether what a stopped workflow drops was stopped by an abortion.
    fn aborted(&self) -> Option<String> {
        let ends = self.ends.borrow();
        ends.iter().flatten().find(|end| is_abortion(end)).map(|end| end.task.task.clone())
    }
}

impl Engine {
    pub(super) async fn workflow(
        &self,
        finished: &Finished,
        left_out: &[Option<String>],
        before: &mut Before,
    ) -> WorkflowEnd {
        let plan = &finished.plan;
        let parallel = plan.spec().max_parallel_tasks.unwrap_or(self.context.limits.parallel_tasks);
        let mut scheduler = Scheduler::new(plan, parallel);
        let ends = restore(plan, &mut scheduler, left_out, &mut before.ended);
        let course = Course {
            finished,
            plan,
            name: plan.name().into(),
            attempts: &before.attempts,
            completed: RefCell::new(in_order_of_ends(plan, &ends)),
            ends: Rc::new(RefCell::new(ends)),
            left_out,
        };
        match self.params(finished) {
            Ok(params) => self.hooks(finished, WorkflowHook::Start, params).await,
            Err(error) => self.context.warn(&format!("hooks cannot be called: {error}")),
        }
        self.drive(&course, &mut scheduler).await;
        self.context.current.workflow_ends(None);
        let message = self.judged(plan.name(), &course.all_ends());
        let message = self.wind_up(&course, message).await;
        WorkflowEnd { tasks: course.all_ends(), message }
    }

    /// What follows the last task. Gives why the workflow failed, with what was undone because of it.
    async fn wind_up(&self, course: &Course<'_>, mut message: Option<String>) -> Option<String> {
        // What follows, and the next workflow, have a time of their own.
        let timed_out = self.halt.send_if_modified(|halt| {
            let over = matches!(halt, Some(Halt::Workflow(_)));
            if over {
                *halt = None;
            }
            over
        });
        if let (Some(message), false) = (&mut message, self.is_halted())
            && let Some(undone) = self.roll_back(course).await
        {
            message.push_str("; ");
            message.push_str(&undone);
        }
        let finished = course.finished;
        if timed_out {
            self.end_hooks(course, WorkflowHook::Timeout, message.as_deref()).await;
        }
        let outcome = if message.is_none() { WorkflowHook::Success } else { WorkflowHook::Failure };
        for hook in [outcome, WorkflowHook::Complete] {
            self.end_hooks(course, hook, message.as_deref()).await;
        }
        if !self.is_halted() {
            self.clean_up(course).await;
        }
        self.end_hooks(course, WorkflowHook::Cleanup, message.as_deref()).await;
        self.background_ended().await;
        if finished.clean_workdir.is_some() && !self.is_halted() {
            self.clean_workdir(course, message.as_deref()).await;
        }
        message
    }

    /// Hooks of a workflow's end. `on_failure` gets the reason and the results, `on_success` and `on_timeout` the
    /// results, and the others whether all went well and the results. Last come the workflow's own params.
    async fn end_hooks(&self, course: &Course<'_>, hook: WorkflowHook, failure: Option<&str>) {
        if !course.finished.hooks.contains_key(&hook) {
            return;
        }
        let made = self.results(course).and_then(|results| Ok((results, self.params(course.finished)?)));
        let (results, params) = match made {
            Ok(made) => made,
            Err(error) => return self.context.warn(&format!("hooks cannot be called: {error}")),
        };
        match hook {
            WorkflowHook::Success | WorkflowHook::Timeout => self.hooks(course.finished, hook, (results, params)).await,
            WorkflowHook::Failure => self.hooks(course.finished, hook, (failure, results, params)).await,
            WorkflowHook::Start
            | WorkflowHook::TaskStart
            | WorkflowHook::TaskComplete
            | WorkflowHook::Complete
            | WorkflowHook::Cleanup => self.hooks(course.finished, hook, (failure.is_none(), results, params)).await,
        }
    }

    /// Does what the scheduler says until every task has ended.
    async fn drive(&self, course: &Course<'_>, scheduler: &mut Scheduler<'_>) {
        let current = &self.context.current;
        let mut running = FuturesUnordered::new();
        let limit = course.plan.spec().timeout_ms.map(Duration::from_millis);
        current.workflow_ends(limit.map(crate::limits::deadline));
        let mut time_over = std::pin::pin!(sleep(limit));
        let mut halted = std::pin::pin!(self.halted());
        let mut stopped = false;
        for (task, reason) in course.left_out.iter().enumerate() {
            if let (Some(reason), None) = (reason, course.end(task)) {
                let errand = Errand::Tell(TaskStatus::Skipped, reason.clone());
                running.push(self.errand(course, task, errand, current.busy()));
            }
        }
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
                Step::Spare(task) => {
                    let awaited = course.plan.tasks()[task].if_failed.join("`, `");
                    let message = format!("`{awaited}`, which it waited to fail, did not");
                    let errand = Errand::Tell(TaskStatus::Skipped, message);
                    running.push(self.errand(course, task, errand, current.busy()));
                    continue;
                }
                Step::Drop(task) => {
                    let message = self.halt_message().unwrap_or_else(|| dropped(course));
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
        course.completed.borrow_mut().push(task);
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

/// Why a task is not begun that nothing kept from it but the workflow's policy.
fn dropped(course: &Course<'_>) -> String {
    match (course.aborted(), course.plan.spec().on_task_failure) {
        (Some(task), _) => format!("`abort_if` of `{task}` holds, so nothing more is begun"),
        (None, OnTaskFailure::Rollback) => "a task failed, and `on_task_failure` is `rollback`".to_owned(),
        (None, OnTaskFailure::Stop | OnTaskFailure::Continue) => {
            "a task failed, and `on_task_failure` is `stop`".to_owned()
        }
    }
}

fn is_abortion(end: &TaskEnd) -> bool {
    end.status == TaskStatus::Failed && end.message == ABORTED
}

/// Tells the scheduler what ended before, in an order in which it can judge what a skip was for.
fn restore(
    plan: &Plan,
    scheduler: &mut Scheduler<'_>,
    left_out: &[Option<String>],
    ended: &mut BTreeMap<TaskName, TaskEnd>,
) -> Vec<Option<TaskEnd>> {
    let mut ends = vec![None; plan.tasks().len()];
    let none_left_out = left_out.iter().all(Option::is_none);
    if ended.is_empty() && none_left_out {
        return ends;
    }
    for &task in plan.order() {
        let name = TaskName { workflow: plan.name().to_owned(), task: plan.tasks()[task].name.clone() };
        let end = ended.remove(&name);
        let meaning = match end.as_ref().map(|end| end.status) {
            _ if left_out[task].is_some() => Ended::Opens,
            None => continue,
            Some(TaskStatus::Succeeded | TaskStatus::Unchanged) => Ended::Opens,
            Some(TaskStatus::Skipped) if scheduler.skipped_by_condition(task) => Ended::Opens,
            Some(TaskStatus::Cancelled) => {
                scheduler.dropped(task);
                ends[task] = end;
                continue;
            }
            Some(TaskStatus::Skipped) => Ended::Blocks,
            Some(TaskStatus::Failed) if end.as_ref().is_some_and(is_abortion) => Ended::Aborts,
            Some(TaskStatus::Failed | TaskStatus::TimedOut | TaskStatus::Interrupted) => Ended::Fails,
        };
        scheduler.end(task, meaning);
        ends[task] = end;
    }
    ends
}

/// The places of the tasks that ended in an earlier life of the run, in the order in which they did.
fn in_order_of_ends(plan: &Plan, ends: &[Option<TaskEnd>]) -> Vec<usize> {
    let mut places: Vec<usize> = plan.order().iter().copied().filter(|&task| ends[task].is_some()).collect();
    // Stable: of two that ended in the same millisecond, what was waited for ended first.
    places.sort_by_key(|&task| ends[task].as_ref().map(|end| end.ended));
    places
}
