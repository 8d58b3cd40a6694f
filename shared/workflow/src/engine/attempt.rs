//! One task from its conditions over its attempts to its end.

use std::{
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use mlua::{AnyUserData, IntoLuaMulti, MultiValue, Table, Value};
use serde_json::{Map, Value as Json};

use super::{Called, Engine, Halt, this::This, verdict::Verdict, workflow::Course};
use crate::{
    Attempt, OnInterrupt, TaskEnd, TaskName, TaskStatus,
    beneath::Last,
    capability::Capability,
    dsl::{Action, TaskDraft, TaskHook},
    files,
    limits::{HOOK_TIMEOUT_MS, MESSAGE_BYTES_MAX},
    modules::{Scope, cut},
    plan::TaskSpec,
    schedule::Ended,
    vm::{Fault, FaultKind, convert},
};

/// The directory of artifacts in the run's scratch directory.
const ARTIFACTS_DIR: &str = ".artifacts";

/// A task under way.
struct Job<'a> {
    course: &'a Course<'a>,
    spec: &'a TaskSpec,
    draft: &'a TaskDraft,
    name: TaskName,
    workdir: PathBuf,
    params: Table,
    deps: Table,
}

/// How one attempt ended.
enum Tried {
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
        let message = cut(&message, MESSAGE_BYTES_MAX).to_owned();
        (TaskEnd { task: name, status, attempts, message, outputs, started, ended: self.context.host.now() }, ended)
    }

    fn job<'a>(&self, course: &'a Course<'a>, task: usize, name: TaskName) -> mlua::Result<Job<'a>> {
        let lua = &self.prepared.machine.lua;
        let (spec, draft) = (&course.plan.tasks()[task], &*course.finished.tasks[task]);
        let own = spec.workdir.as_ref().or(course.plan.spec().workdir.as_ref());
        let workdir = own.map_or_else(|| self.context.workdir.clone(), |dir| self.context.workdir.join(dir));
        let params = lua.create_table_with_capacity(0, draft.params.len() + 3)?;
        for (key, value) in &draft.params {
            params.raw_set(key.as_str(), value.as_str())?;
        }
        params.raw_set("task_name", name.task.as_str())?;
        params.raw_set("group_name", name.workflow.as_str())?;
        params.raw_set("workdir", workdir.to_string_lossy())?;
        let deps = lua.create_table()?;
        let ends = course.ends.borrow();
        for end in course.plan.dependencies(task).filter_map(|dependency| ends[dependency].as_ref()) {
            if !end.outputs.is_empty() {
                deps.raw_set(end.task.task.as_str(), convert::object_to_lua(lua, &end.outputs)?)?;
            }
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
        let hooks = &job.course.finished.hooks;
        self.hooks("the hook `on_task_start`", &hooks.task_start, job.name.task.as_str()).await;
        let close = self.attempts(job, attempts).await;
        if !hooks.task_complete.is_empty() && !self.is_halted() {
            let arguments = (job.name.task.as_str(), close.ended == Ended::Opens);
            self.hooks("the hook `on_task_complete`", &hooks.task_complete, arguments).await;
        }
        close
    }

    /// The end of a task that its conditions keep from starting.
    async fn conditions(&self, job: &Job<'_>) -> Option<Close> {
        for (condition, wanted) in [(&job.draft.abort_if, false), (&job.draft.run_if, true)] {
            let Some(action) = condition else { continue };
            let what = if wanted { "run_if" } else { "abort_if" };
            let scope = self.task_scope(job, Duration::from_millis(HOOK_TIMEOUT_MS));
            let arguments = (job.params.clone(), job.deps.clone());
            let called = self.act(&scope, action, arguments).await;
            scope.stop();
            let held = match called {
                Called::Returned(values) => is_true(&values),
                Called::Raised(error) => return Some(Close::failed(format!("`{what}`: {}", self.explained(&error)))),
                Called::TimedOut => {
                    return Some(Close::failed(format!("`{what}` took longer than {HOOK_TIMEOUT_MS} ms")));
                }
                Called::Halted => return Some(self.cancelled()),
            };
            match (held, wanted) {
                (true, false) => return Some(Close::failed("`abort_if` holds")),
                (false, true) => return Some(Close::new(TaskStatus::Skipped, "`run_if` does not hold", Ended::Opens)),
                (true, true) | (false, false) => {}
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
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.halted() => return self.cancelled(),
            }
        }
    }

    /// Between half the wait that the strategy says and all of it, so that a fleet does not retry on one beat.
    fn retry_wait(&self, job: &Job<'_>, failed: u32) -> Duration {
        let wait = job.spec.backoff.wait(self.context.limits.retry_wait, failed);
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
                let outputs = |_: &mlua::Lua| convert::object_to_lua(&self.prepared.machine.lua, outputs);
                self.task_hooks(job, TaskHook::Success, number, |this, params| {
                    Ok((this, params, Value::Table(outputs(&self.prepared.machine.lua)?)))
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

    async fn failure_hooks(&self, job: &Job<'_>, number: u32, message: &str) {
        self.task_hooks(job, TaskHook::Failure, number, |this, params| {
            let failure = self.prepared.machine.lua.create_table()?;
            failure.raw_set("error", message)?;
            failure.raw_set("task_name", job.name.task.as_str())?;
            Ok((this, params, Value::Table(failure)))
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
        let before = (this.clone(), job.params.clone(), job.deps.clone());
        if let Some(tried) = self.gates(job, scope, TaskHook::Before, before).await {
            return tried;
        }
        let Some(action) = &job.draft.action else { return Tried::Bad("the task has no command".to_owned()) };
        let arguments = (this.clone(), job.params.clone(), job.deps.clone(), self.session.clone());
        let values = match self.act(scope, action, arguments).await {
            Called::Returned(values) => values,
            Called::Raised(error) => return Tried::Bad(self.explained(&error)),
            Called::TimedOut => return Tried::TimedOut,
            Called::Halted => return Tried::Halted,
        };
        let lua = &self.prepared.machine.lua;
        let limits = &self.context.limits;
        let (message, outputs) = match Verdict::read(lua, &values, MESSAGE_BYTES_MAX, limits.output_bytes_per_task) {
            Verdict::Good { message, outputs } => (message, outputs),
            Verdict::Bad(message) => return Tried::Bad(message),
        };
        let returned = values.get(2).and_then(Value::as_table).cloned();
        if let Some(tried) = self.gates(job, scope, TaskHook::After, (this, job.params.clone(), returned)).await {
            return tried;
        }
        if !job.spec.artifacts.is_empty()
            && let Err(error) = files::keep(&job.workdir, &job.spec.artifacts, &self.store(job))
        {
            return Tried::Bad(sloth_core::error::Chain(&error).to_string());
        }
        Tried::Good(message, outputs)
    }

    /// The directories and files that the task needs.
    fn make_ready(&self, job: &Job<'_>) -> Result<(), String> {
        let (artifacts, consumes) = (!job.spec.artifacts.is_empty(), !job.spec.consumes.is_empty());
        let refused = |error: mlua::Error| Fault::from(&error).message;
        let read = || self.context.may_read(&job.workdir, Last::Followed, "artifacts");
        let write = |what| self.context.may_write(&job.workdir, Last::Followed, what);
        if artifacts {
            read().map_err(refused)?;
        }
        if consumes {
            write("consumes").map_err(refused)?;
        }
        if job.workdir != self.context.workdir && !job.workdir.is_dir() {
            // Whoever may start commands may make it, too.
            if !self.context.capabilities.allows(Capability::Exec) {
                write("workdir").map_err(refused)?;
            }
            std::fs::create_dir_all(&job.workdir)
                .map_err(|error| format!("cannot make the directory `{}`: {error}", job.workdir.display()))?;
        }
        if consumes {
            files::fetch(&self.store(job), &job.spec.consumes, &job.workdir)
                .map_err(|error| sloth_core::error::Chain(&error).to_string())?;
        }
        Ok(())
    }

    fn store(&self, job: &Job<'_>) -> PathBuf {
        self.context.workdir.join(ARTIFACTS_DIR).join(job.name.workflow.replace('/', "_"))
    }

    /// Hooks that can make the attempt a failure: by an error, or by returning `false`.
    async fn gates(
        &self,
        job: &Job<'_>,
        scope: &Rc<Scope>,
        hook: TaskHook,
        arguments: impl IntoLuaMulti + Clone,
    ) -> Option<Tried> {
        let what = if hook == TaskHook::Before { "pre_hook" } else { "post_hook" };
        for function in job.draft.hooks.get(&hook)? {
            match self.call(scope, function, arguments.clone()).await {
                Called::Returned(values) if matches!(values.front(), Some(Value::Boolean(false))) => {
                    let reason = values.get(1).and_then(Value::as_string).map(mlua::LuaString::to_string_lossy);
                    let reason = reason.unwrap_or_else(|| "it returned `false`".to_owned());
                    return Some(Tried::Bad(format!("`{what}`: {reason}")));
                }
                Called::Returned(_) => {}
                Called::Raised(error) => return Some(Tried::Bad(format!("`{what}`: {}", self.explained(&error)))),
                Called::TimedOut => return Some(Tried::TimedOut),
                Called::Halted => return Some(Tried::Halted),
            }
        }
        None
    }

    /// Hooks that only hear what happened.
    async fn task_hooks<A: IntoLuaMulti>(
        &self,
        job: &Job<'_>,
        hook: TaskHook,
        number: u32,
        arguments: impl Fn(AnyUserData, Table) -> mlua::Result<A>,
    ) {
        let Some(functions) = job.draft.hooks.get(&hook) else { return };
        for function in functions {
            let arguments = match self.this(job, number).and_then(|this| arguments(this, job.params.clone())) {
                Ok(arguments) => arguments,
                Err(error) => return self.hook_ended("a hook", Called::Raised(error)),
            };
            let scope = self.task_scope(job, Duration::from_millis(HOOK_TIMEOUT_MS));
            let called = self.call(&scope, function, arguments).await;
            scope.stop();
            self.context.current.with(&scope, || self.hook_ended("a hook of the task", called));
        }
    }

    async fn act(&self, scope: &Rc<Scope>, action: &Action, arguments: impl IntoLuaMulti) -> Called {
        match action.function(&self.prepared.machine.lua) {
            Ok(function) => self.call(scope, &function, arguments).await,
            Err(error) => Called::Raised(error),
        }
    }

    fn this(&self, job: &Job<'_>, attempt: u32) -> mlua::Result<AnyUserData> {
        self.prepared.machine.lua.create_userdata(This {
            context: Rc::clone(&self.context),
            name: job.name.task.as_str().into(),
            workflow: Rc::clone(&job.course.name),
            workdir: job.workdir.clone(),
            attempt,
        })
    }

    fn task_scope(&self, job: &Job<'_>, time: Duration) -> Rc<Scope> {
        let deadline = Instant::now() + time;
        let mut scope = Scope::new(self.next_scope(), Some(job.name.clone()), job.workdir.clone(), deadline);
        scope.env.clone_from(&job.draft.env);
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
    fn explained(&self, error: &mlua::Error) -> String {
        let fault = Fault::from(error);
        if fault.kind == FaultKind::Memory {
            self.halt(Halt::Memory);
            let limit = self.context.limits.memory_bytes;
            return format!("out of memory: a run may have {limit} bytes");
        }
        fault.text()
    }
}

/// What a condition says: `true`, or a command that succeeded.
fn is_true(values: &MultiValue) -> bool {
    match values.front() {
        None | Some(Value::Nil) => false,
        Some(Value::Boolean(held)) => *held,
        // The result of a command.
        Some(Value::Table(result)) => !matches!(result.raw_get("success"), Ok(Value::Boolean(false))),
        Some(_) => true,
    }
}
