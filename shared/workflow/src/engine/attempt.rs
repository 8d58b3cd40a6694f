//! One task from its conditions over its attempts to its end.

use std::{path::PathBuf, rc::Rc, time::Duration};

use mlua::{IntoLuaMulti, MultiValue, Table, Value};
use serde_json::{Map, Value as Json};

use super::{
    Called, Engine, Halt,
    hooks::{HOOK_TIME, outputs},
    verdict::{Verdict, in_vain},
    workflow::Course,
};
use crate::{
    Attempt, OnInterrupt, TaskEnd, TaskName, TaskStatus, artifacts,
    dsl::{Action, TaskDraft, TaskHook, WorkflowHook},
    limits::{self, HOOK_TIMEOUT_MS, MESSAGE_BYTES_MAX},
    modules::{self, Phase, Scope, Voice, cut, speak},
    plan::{RETRY_WAIT_MS_MAX, TaskSpec},
    schedule::Ended,
    vm::{FaultKind, convert},
};

/// The message of a task whose `abort_if` holds.
pub(super) const ABORTED: &str = "`abort_if` holds";
/// How many things that a task would change are named in its message.
const CHANGES_SHOWN_MAX: usize = 3;

/// A task under way.
pub(super) struct Job<'a> {
    pub(super) course: &'a Course<'a>,
    pub(super) spec: &'a TaskSpec,
    pub(super) draft: &'a TaskDraft,
    pub(super) name: TaskName,
    pub(super) workdir: PathBuf,
    pub(super) params: Table,
    pub(super) deps: Table,
}

/// How one attempt ended.
pub(super) enum Tried {
    Good(String, Map<String, Json>),
    Bad(String),
    TimedOut,
    Halted,
}

/// How a task ended.
struct Close {
    status: TaskStatus,
    message: String,
    outputs: Map<String, Json>,
    ended: Ended,
}

impl Close {
    fn new(status: TaskStatus, message: impl Into<String>, ended: Ended) -> Self {
        Self { status, message: message.into(), outputs: Map::new(), ended }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::new(TaskStatus::Failed, message, Ended::Fails)
    }
}

impl Engine {
    /// Runs a task to its end.
    pub(super) async fn task(&self, course: &Course<'_>, task: usize) -> (TaskEnd, Ended) {
        let started = self.context.host.now();
        let name = course.task_name(task);
        let mut attempts = course.attempts.get(&name).copied().unwrap_or(0);
        let close = match self.job(course, task, name.clone()) {
            Ok(job) => self.conduct(&job, &mut attempts).await,
            Err(error) => Close::failed(self.explained(&error)),
        };
        let Close { status, message, outputs, ended } = close;
        let message = cut(&self.context.settings.masked(&message), MESSAGE_BYTES_MAX).to_owned();
        (TaskEnd { task: name, status, attempts, message, outputs, started, ended: self.context.host.now() }, ended)
    }

    pub(super) fn job<'a>(&self, course: &'a Course<'a>, task: usize, name: TaskName) -> mlua::Result<Job<'a>> {
        let lua = &self.prepared.machine.lua;
        let (spec, draft) = (&course.plan.tasks()[task], &*course.finished.tasks[task]);
        let own = spec.workdir.as_ref().or(course.plan.spec().workdir.as_ref());
        let user = spec.user.as_deref();
        let workdir = own.map_or_else(
            // Nobody else may enter the run's scratch directory.
            || user.and_then(modules::beginning_of).unwrap_or_else(|| self.context.workdir.clone()),
            |dir| self.context.workdir.join(modules::at_home(dir, user).unwrap_or_else(|| dir.into())),
        );
        let params = self.params(course.finished)?;
        for (key, value) in &draft.params {
            params.raw_set(key.as_str(), value.as_str())?;
        }
        params.raw_set("task_name", name.task.as_str())?;
        params.raw_set("group_name", name.workflow.as_str())?;
        params.raw_set("workdir", workdir.to_string_lossy())?;
        let deps = lua.create_table()?;
        for end in course.plan.dependencies(task).filter_map(|dependency| course.end(dependency)) {
            if !end.outputs.is_empty() {
                deps.raw_set(end.task.task.as_str(), outputs(lua, &end)?)?;
            }
        }
        if 0 < course.plan.dependencies(task).count() {
            deps.set_metatable(Some(lua.create_table_from([("__index", course.further(lua, task)?)])?))?;
        }
        Ok(Job { course, spec, draft, name, workdir, params, deps })
    }

    /// Conditions, then attempts, then the hooks around the task.
    async fn conduct(&self, job: &Job<'_>, attempts: &mut u32) -> Close {
        if 0 < *attempts && job.spec.on_interrupt(*attempts) == OnInterrupt::Fail {
            let message = "it was cut off while it ran, and it is neither idempotent nor to be retried: see what it did, then run it anew";
            return Close::new(TaskStatus::Interrupted, message, Ended::Fails);
        }
        if let Some(close) = self.conditions(job).await {
            return close;
        }
        let finished = job.course.finished;
        self.hooks(finished, WorkflowHook::TaskStart, job.name.task.as_str()).await;
        let close = self.attempts(job, attempts).await;
        let arguments = (job.name.task.as_str(), close.ended == Ended::Opens, close.message.as_str());
        self.hooks(finished, WorkflowHook::TaskComplete, arguments).await;
        close
    }

    /// The end of a task that its conditions keep from starting.
    async fn conditions(&self, job: &Job<'_>) -> Option<Close> {
        let asked = job.draft.abort_if.iter().map(|condition| ("abort_if", condition));
        let asked = asked.chain(job.draft.run_if.iter().map(|condition| ("run_if", condition)));
        for (what, condition) in asked {
            let scope = self.task_scope(job, HOOK_TIME);
            let held = match self.this(job, 1).and_then(|this| self.early(job, &this)) {
                Ok(arguments) => self.holds(&scope, condition, arguments).await,
                Err(error) => Err(Called::Raised(error)),
            };
            scope.stop();
            match held {
                Ok(true) if what == "abort_if" => {
                    return Some(Close::new(TaskStatus::Failed, ABORTED, Ended::Aborts));
                }
                Ok(false) if what == "run_if" => {
                    return Some(Close::new(TaskStatus::Skipped, "`run_if` does not hold", Ended::Opens));
                }
                Ok(true | false) => {}
                Err(Called::TimedOut) => {
                    return Some(Close::failed(format!("`{what}` took longer than {HOOK_TIMEOUT_MS} ms")));
                }
                Err(Called::Raised(error)) => {
                    return Some(Close::failed(format!("`{what}`: {}", self.explained(&error))));
                }
                Err(Called::Halted | Called::Returned(_)) => return Some(self.cancelled()),
            }
        }
        None
    }

    async fn attempts(&self, job: &Job<'_>, attempts: &mut u32) -> Close {
        // An attempt that was cut off is not the task's failure: it has one more at least.
        let last = (job.spec.retries + 1).max(attempts.saturating_add(1));
        loop {
            *attempts += 1;
            let on_interrupt = job.spec.on_interrupt(*attempts);
            let attempt = Attempt { task: job.name.clone(), number: *attempts, on_interrupt };
            if let Err(stop) = self.context.host.starting(&attempt).await {
                self.halt(Halt::Host(stop.reason));
                return self.cancelled();
            }
            let (status, message) = match self.attempt(job, *attempts).await {
                Tried::Good(message, outputs) => {
                    let unchanged = outputs.get("changed") == Some(&Json::Bool(false));
                    let status = if unchanged { TaskStatus::Unchanged } else { TaskStatus::Succeeded };
                    return Close { status, message, outputs, ended: Ended::Opens };
                }
                Tried::Halted => return self.cancelled(),
                Tried::Bad(message) => (TaskStatus::Failed, message),
                Tried::TimedOut => {
                    let limit = self.timeout(job).as_secs_f64();
                    (TaskStatus::TimedOut, format!("it was stopped after its timeout of {limit} s"))
                }
            };
            if last <= *attempts {
                return Close::new(status, message, Ended::Fails);
            }
            let wait = self.retry_wait(job, *attempts);
            let (number, secs) = (*attempts, wait.as_secs_f64());
            self.context.current.with(&self.task_scope(job, wait), || {
                self.context.warn(&format!("attempt {number} of {last} failed, next in {secs:.1} s: {message}"));
            });
            self.task_hooks(job, TaskHook::Retry, number, |this, _| Ok((number, message.as_str(), this))).await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.halted() => return self.cancelled(),
            }
        }
    }

    /// Between half the wait that the strategy says and all of it, so that a fleet does not retry on one beat.
    fn retry_wait(&self, job: &Job<'_>, failed: u32) -> Duration {
        let first = job.spec.retry_wait_ms.map_or(self.context.limits.retry_wait, Duration::from_millis);
        let max = Duration::from_millis(job.spec.retry_wait_ms_max.unwrap_or(RETRY_WAIT_MS_MAX));
        let wait = job.spec.backoff.wait(first, failed, max.max(first));
        let half = wait / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        #[expect(clippy::cast_possible_truncation, reason = "64 random bits are enough")]
        let random = self.context.host.random() as u64;
        half + Duration::from_micros(random % spread)
    }

    async fn attempt(&self, job: &Job<'_>, number: u32) -> Tried {
        let scope = self.task_scope(job, self.timeout(job));
        let tried = self.try_once(job, &scope, number).await;
        if matches!(tried, Tried::TimedOut) {
            self.task_hooks(job, TaskHook::Timeout, number, |this, params| Ok((this, params, Value::Nil))).await;
        }
        match &tried {
            Tried::Good(_, outputs) => {
                // Old files are found with `function(params, outputs)`: the second argument is both.
                self.task_hooks(job, TaskHook::Success, number, |this, params| {
                    let outputs = convert::object_to_lua(&self.prepared.machine.lua, outputs)?;
                    Ok((this, self.joined(&params, &outputs)?, outputs))
                })
                .await;
            }
            Tried::Bad(message) => self.failure_hooks(job, number, message).await,
            Tried::TimedOut => self.failure_hooks(job, number, "its time is over").await,
            Tried::Halted => {}
        }
        scope.stop();
        tried
    }

    /// The failure is a table and a text, as `on_failure` and as the old `function(params, error)` expect it.
    async fn failure_hooks(&self, job: &Job<'_>, number: u32, message: &str) {
        let lua = &self.prepared.machine.lua;
        let told = |table: &Table| {
            table.raw_set("error", message)?;
            table.raw_set("message", message)?;
            table.raw_set("task_name", job.name.task.as_str())?;
            speak(lua, table, Voice::Message)
        };
        self.task_hooks(job, TaskHook::Failure, number, |this, params| {
            let (failure, second) = (lua.create_table()?, lua.create_table()?);
            params.for_each(|key: Value, value: Value| second.raw_set(key, value))?;
            told(&failure)?;
            told(&second)?;
            Ok((this, second, Value::Table(failure)))
        })
        .await;
    }

    async fn try_once(&self, job: &Job<'_>, scope: &Rc<Scope>, number: u32) -> Tried {
        if let Err(message) = self.make_ready(job) {
            return Tried::Bad(message);
        }
        let this = match self.this(job, number) {
            Ok(this) => this,
            Err(error) => return Tried::Bad(self.explained(&error)),
        };
        if job.draft.hooks.contains_key(&TaskHook::Before) {
            let before = match self.early(job, &this) {
                Ok(before) => before,
                Err(error) => return Tried::Bad(self.explained(&error)),
            };
            if let Some(tried) = self.gates(job, scope, TaskHook::Before, before).await {
                return tried;
            }
        }
        let Some(action) = &job.draft.action else { return Tried::Bad("the task has no command".to_owned()) };
        let arguments = match self.arguments(job, &this) {
            Ok(arguments) => arguments,
            Err(error) => return Tried::Bad(self.explained(&error)),
        };
        let values = match self.act(scope, action, arguments).await {
            Called::Returned(values) => values,
            Called::Raised(error) => return Tried::Bad(self.explained(&error)),
            Called::TimedOut => return Tried::TimedOut,
            Called::Halted => return Tried::Halted,
        };
        let lua = &self.prepared.machine.lua;
        let limits = &self.context.limits;
        let (silence, most) = (job.draft.silence, limits.output_bytes_per_task);
        let (message, outputs) = match Verdict::read(lua, &values, silence, MESSAGE_BYTES_MAX, most) {
            Verdict::Good { message, outputs } => (message, outputs),
            Verdict::Bad(message) => return Tried::Bad(message),
        };
        if let Some(told) = in_vain(&values) {
            self.context.current.with(scope, || self.context.warn(&told));
        }
        let after = match self.late(job, this, values.get(2).and_then(Value::as_table)) {
            Ok(after) => after,
            Err(error) => return Tried::Bad(self.explained(&error)),
        };
        if let Some(tried) = self.gates(job, scope, TaskHook::After, after).await {
            return tried;
        }
        // In a run that only checks, the files that would be there are not.
        let checking = self.context.phase == Phase::Check;
        if !checking
            && !job.spec.artifacts.is_empty()
            && let Err(error) = artifacts::keep(&job.workdir, &job.spec.artifacts, &self.store(job))
        {
            return Tried::Bad(sloth_core::error::Chain(&error).to_string());
        }
        self.noted(scope, message, outputs)
    }

    /// In a run that only checks, what the task would change stands in its message.
    fn noted(&self, scope: &Scope, message: String, mut outputs: Map<String, Json>) -> Tried {
        let changes = scope.would_change.take();
        if self.context.phase != Phase::Check || changes.is_empty() {
            return Tried::Good(message, outputs);
        }
        let mut told = changes.iter().take(CHANGES_SHOWN_MAX).cloned().collect::<Vec<_>>().join("; ");
        if let Some(more @ 1..) = changes.len().checked_sub(CHANGES_SHOWN_MAX) {
            told.push_str(&format!("; and {more} more"));
        }
        outputs.insert("changed".to_owned(), Json::Bool(true));
        Tried::Good(told, outputs)
    }

    pub(super) async fn act(&self, scope: &Rc<Scope>, action: &Action, arguments: impl IntoLuaMulti) -> Called {
        match action.function(&self.prepared.machine.lua) {
            Ok(function) => self.call(scope, &function, arguments).await,
            Err(error) => Called::Raised(error),
        }
    }

    pub(super) fn task_scope(&self, job: &Job<'_>, time: Duration) -> Rc<Scope> {
        let deadline = limits::deadline(time);
        let mut scope = Scope::new(self.next_scope(), Some(job.name.clone()), job.workdir.clone(), deadline);
        scope.env.clone_from(&job.course.finished.env);
        scope.env.extend(job.draft.env.clone());
        scope.user.clone_from(&job.spec.user);
        Rc::new(scope)
    }

    fn timeout(&self, job: &Job<'_>) -> Duration {
        job.spec.timeout_ms.map_or(self.context.limits.task_timeout, Duration::from_millis)
    }

    fn cancelled(&self) -> Close {
        let message = self.halt_message().unwrap_or_default();
        // A workflow whose time is over has failed; one that was cancelled has not.
        match &*self.halt.borrow() {
            Some(Halt::Workflow(_)) if !self.cancel.is_cancelled() => {
                Close::new(TaskStatus::TimedOut, message, Ended::Fails)
            }
            Some(_) | None => Close::new(TaskStatus::Cancelled, message, Ended::Blocks),
        }
    }

    /// An error in words. After one of memory nothing can go on.
    pub(super) fn explained(&self, error: &mlua::Error) -> String {
        let fault = self.prepared.fault(error);
        if fault.kind == FaultKind::Memory {
            self.halt(Halt::Memory);
            let limit = self.context.limits.memory_bytes;
            return format!("out of memory: a run may have {limit} bytes");
        }
        fault.text()
    }
}

/// What a condition says: `true`, or a command that succeeded.
pub(super) fn is_true(values: &MultiValue) -> bool {
    match values.front() {
        None | Some(Value::Nil) => false,
        Some(Value::Boolean(held)) => *held,
        // The result of a command.
        Some(Value::Table(result)) => !matches!(result.raw_get("success"), Ok(Value::Boolean(false))),
        Some(_) => true,
    }
}
