//! What a module knows of the run and of the task that called it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    task::{self, Poll},
    time::Instant,
};

use sloth_core::Labels;

use crate::{
    Level, LogLine, Stream, TaskName, capability::Capabilities, host::Host, limits::Limits, process::Processes,
};

/// What every module of one run shares.
pub struct Context {
    /// The world outside.
    pub host: Rc<dyn Host>,
    /// What the Lua may touch.
    pub capabilities: Rc<Capabilities>,
    /// The bounds of the run.
    pub limits: Rc<Limits>,
    /// The bundle, read only.
    pub bundle_dir: PathBuf,
    /// A scratch directory of the run: where commands run and relative paths lead when a task does not say.
    pub workdir: PathBuf,
    /// The run's identifier.
    pub run_id: String,
    /// The values that the run was given.
    pub values: serde_json::Value,
    /// Which task is running.
    pub current: Rc<CurrentTask>,
    /// The host that runs this.
    pub agent: AgentInfo,
    /// The processes that tasks started.
    pub processes: Rc<Processes>,
    /// What the file is evaluated for.
    pub phase: Phase,
    /// Where programs are looked for, as `PATH` holds it.
    pub search_path: String,
}

/// The host that runs a workflow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentInfo {
    /// Its name; empty when it has none.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

/// What a file is evaluated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// To learn its plan: nothing but computing is allowed.
    Plan,
    /// To say what its tasks would change: everything runs, and what would change the host only says so.
    Check,
    /// To run its tasks.
    Run,
}

impl Context {
    /// Checks that `function` may act on the host now. Every function with an effect, or that waits, begins with
    /// this or with [`Self::allow`].
    ///
    /// # Errors
    ///
    /// When the file is only read for its plan.
    pub fn acting(&self, function: &str) -> mlua::Result<()> {
        match self.phase {
            Phase::Check | Phase::Run => Ok(()),
            Phase::Plan => Err(mlua::Error::runtime(format!(
                "`{function}` cannot be called while the file is only read for its plan: call it inside a task"
            ))),
        }
    }

    /// Logs `text` in the name of the running task, one line a line, each cut at the limit.
    pub fn log(&self, stream: Stream, text: &str) {
        let task = self.current.get().and_then(|scope| scope.task.clone());
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        for line in std::iter::once(first).chain(lines) {
            let text = cut(line, self.limits.log_line_bytes).to_owned();
            self.host.log(LogLine { task: task.clone(), stream, text });
        }
    }

    /// Logs a warning in the name of the running task.
    pub fn warn(&self, text: &str) {
        self.log(Stream::Log(Level::Warn), text);
    }
}

/// The start of `text` of `bytes` bytes at most, at a character's boundary.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Names a [`Scope`]; never used twice in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeId(pub u64);

/// What is known of the Lua that runs: an attempt at a task, a hook, or the top level of a file.
///
/// Goroutines belong to the scope that spawned them and end with it.
pub struct Scope {
    /// Its name among processes.
    pub id: ScopeId,
    /// The task; `None` at the top level of a file and in hooks of a workflow.
    pub task: Option<TaskName>,
    /// Where commands run and relative paths lead.
    pub workdir: PathBuf,
    /// What is added to the environment of commands.
    pub env: BTreeMap<String, String>,
    /// The system user that commands run as; `None` = the one that this process has.
    pub user: Option<String>,
    /// When it must have ended.
    pub deadline: Instant,
    stopped: Cell<bool>,
    goroutines: RefCell<tokio::task::JoinSet<()>>,
}

impl Scope {
    /// A scope that ends at `deadline` at the latest.
    #[must_use]
    pub fn new(id: ScopeId, task: Option<TaskName>, workdir: PathBuf, deadline: Instant) -> Self {
        Self {
            id,
            task,
            workdir,
            env: BTreeMap::new(),
            user: None,
            deadline,
            stopped: Cell::new(false),
            goroutines: RefCell::default(),
        }
    }

    /// Whether its Lua must not run on: it was stopped, or its time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stopped.get() || self.deadline <= Instant::now()
    }

    /// Ends the goroutines and makes every later step of its Lua raise an error. Processes are ended apart, by
    /// [`Processes::kill`].
    pub fn stop(&self) {
        self.stopped.set(true);
        self.goroutines.borrow_mut().abort_all();
    }
}

/// Answers which scope the Lua that runs at this moment belongs to.
///
/// Lua runs only while some future is polled, so every future that runs Lua is wrapped by [`Self::enter`], which
/// names the scope for the time of each poll. That holds for coroutines of the script as well.
#[derive(Default)]
pub struct CurrentTask {
    scope: RefCell<Option<Rc<Scope>>>,
}

impl CurrentTask {
    /// The scope of the Lua that runs; `None` when none does.
    #[must_use]
    pub fn get(&self) -> Option<Rc<Scope>> {
        self.scope.borrow().clone()
    }

    /// Whether the running Lua must not run on.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.scope.borrow().as_ref().is_some_and(|scope| scope.is_over())
    }

    /// `future`, polled in the name of `scope`.
    pub fn enter<F: Future>(self: &Rc<Self>, scope: Rc<Scope>, future: F) -> Entered<F> {
        Entered { current: Rc::clone(self), scope, future: Box::pin(future) }
    }

    /// Calls `f` in the name of `scope`.
    pub fn with<T>(&self, scope: &Rc<Scope>, f: impl FnOnce() -> T) -> T {
        let before = self.scope.replace(Some(Rc::clone(scope)));
        let result = f();
        *self.scope.borrow_mut() = before;
        result
    }

    /// Runs `future` beside the running scope and as part of it. The scope's end ends it.
    ///
    /// # Errors
    ///
    /// When no scope is running, or it has too many goroutines already.
    pub fn spawn(
        self: &Rc<Self>,
        goroutines_max: usize,
        future: impl Future<Output = ()> + 'static,
    ) -> mlua::Result<()> {
        let Some(scope) = self.get() else {
            return Err(mlua::Error::runtime("a goroutine can be started only by a task"));
        };
        let mut goroutines = scope.goroutines.borrow_mut();
        while goroutines.try_join_next().is_some() {}
        if goroutines_max <= goroutines.len() {
            return Err(mlua::Error::runtime(format!("a task can have {goroutines_max} goroutines at most")));
        }
        goroutines.spawn_local(self.enter(Rc::clone(&scope), future));
        Ok(())
    }
}

/// A future that names its scope while it is polled.
pub struct Entered<F> {
    current: Rc<CurrentTask>,
    scope: Rc<Scope>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Entered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let future = this.future.as_mut();
        this.current.with(&this.scope, || future.poll(cx))
    }
}
