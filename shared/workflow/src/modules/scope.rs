//! Scopes, the coroutines that run in them, and the order in which they run.
//!
//! A scope is polled as one future. In it, the Lua that was entered and the goroutines that it started take turns in
//! the order in which they became ready. Who waits for another coroutine is known, so that it is seen when all do.

mod entered;
mod queue;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::Instant,
};

pub use entered::Entered;

use crate::{
    TaskName,
    watch::{Watch, Whose},
};
use queue::{Queue, Turn};

/// Names a [`Scope`]; never used twice in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScopeId(pub u64);

/// Names a coroutine of a run; never used twice in it, and greater than those of all that began before.
pub(super) type CoroutineId = u64;

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
    /// What it would change, in a run that only checks.
    pub would_change: RefCell<Vec<String>>,
    /// What other threads see of it.
    shown: Arc<Whose>,
    stopped: Cell<bool>,
    /// Without the one that has its turn.
    goroutines: RefCell<BTreeMap<CoroutineId, Goroutine>>,
    queue: Arc<Queue>,
}

impl Scope {
    /// A scope that ends at `deadline` at the latest.
    #[must_use]
    pub fn new(id: ScopeId, task: Option<TaskName>, workdir: PathBuf, deadline: Instant) -> Self {
        let shown = Arc::new(Whose { task: task.clone(), deadline });
        Self {
            id,
            task,
            workdir,
            env: BTreeMap::new(),
            user: None,
            deadline,
            would_change: RefCell::default(),
            shown,
            stopped: Cell::new(false),
            goroutines: RefCell::default(),
            queue: Arc::default(),
        }
    }

    /// Whether its Lua must not run on: it was stopped, or its time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stopped.get() || self.deadline <= Instant::now()
    }

    /// How many goroutines it has now, without the one that has its turn.
    #[must_use]
    pub fn goroutines(&self) -> usize {
        self.goroutines.borrow().len()
    }

    /// Ends the goroutines and makes every later step of its Lua raise an error. Processes are ended apart, by
    /// [`Processes::kill`](crate::process::Processes::kill).
    pub fn stop(&self) {
        self.stopped.set(true);
        let goroutines = self.goroutines.take();
        drop(goroutines);
    }
}

/// Answers which scope the Lua that runs at this moment belongs to, and knows every coroutine of the run.
///
/// Lua runs only while some future is polled, so every future that runs Lua is wrapped by [`Self::enter`], which
/// names the scope for the time of each poll. That holds for coroutines of the script as well.
pub struct CurrentTask {
    scope: RefCell<Option<Rc<Scope>>>,
    turn: Cell<Option<CoroutineId>>,
    coroutines: RefCell<BTreeMap<CoroutineId, Coroutine>>,
    next: Cell<CoroutineId>,
    scopes: Cell<u64>,
    /// How many coroutines wait for others.
    blocked: Cell<usize>,
    /// How many of those who drive the run do something else than wait for its coroutines.
    busy: Cell<isize>,
    /// The last time that all waited for each other.
    deadlock: RefCell<Rc<Deadlock>>,
    watch: Watch,
}

impl Default for CurrentTask {
    fn default() -> Self {
        Self {
            scope: RefCell::default(),
            turn: Cell::default(),
            coroutines: RefCell::default(),
            next: Cell::new(1),
            scopes: Cell::default(),
            blocked: Cell::default(),
            // Whoever made it, until it waits for what it entered.
            busy: Cell::new(1),
            deadlock: RefCell::default(),
            watch: Watch::default(),
        }
    }
}

/// A coroutine of the run that has not ended.
struct Coroutine {
    turn: Arc<Turn>,
    waker: Waker,
    role: Role,
    task: Option<String>,
    blocked: bool,
    /// It is to hear that all wait for each other.
    deadlocked: bool,
}

/// What a coroutine is in its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The Lua that the engine called.
    Main,
    /// What it started.
    Goroutine,
}

/// A time when all coroutines waited for each other.
#[derive(Default)]
pub(super) struct Deadlock {
    /// Which time it is, counted from 1.
    pub(super) number: u64,
    /// All of them, in the order in which they began.
    pub(super) waiting: Vec<Waiting>,
}

/// A coroutine that waits, for messages.
pub(super) struct Waiting {
    pub(super) id: CoroutineId,
    pub(super) role: Role,
    pub(super) task: Option<String>,
}

impl CurrentTask {
    /// One that shows to `watch` whose Lua runs.
    #[must_use]
    pub(crate) fn shown_to(watch: Watch) -> Self {
        Self { watch, ..Self::default() }
    }

    /// Says when the workflow that runs must have ended, where it must.
    pub(crate) fn workflow_ends(&self, at: Option<Instant>) {
        self.watch.workflow(at);
    }

    /// The name of a new scope.
    #[must_use]
    pub fn next_scope(&self) -> ScopeId {
        let id = self.scopes.get();
        self.scopes.set(id + 1);
        ScopeId(id)
    }

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

    /// `future`, polled in the name of `scope`, and the scope's goroutines with it.
    pub fn enter<F: Future>(self: &Rc<Self>, scope: Rc<Scope>, future: F) -> Entered<F> {
        let id = self.register(&scope, Role::Main);
        Entered::new(self, scope, id, future)
    }

    /// Calls `f` in the name of `scope`.
    pub fn with<T>(&self, scope: &Rc<Scope>, f: impl FnOnce() -> T) -> T {
        let before = self.scope.replace(Some(Rc::clone(scope)));
        self.watch.turn(Some(&scope.shown));
        let result = f();
        self.watch.turn(before.as_ref().map(|before| &before.shown));
        *self.scope.borrow_mut() = before;
        result
    }

    /// Says that something is done that may yet wake a coroutine, until the guard is dropped.
    #[must_use]
    pub(crate) fn busy(self: &Rc<Self>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        Busy(Rc::clone(self))
    }

    /// Says that whoever is busy only waits for coroutines, until the guard is dropped.
    #[must_use]
    pub(crate) fn idle(self: &Rc<Self>) -> Idle {
        self.calm();
        Idle(Rc::clone(self))
    }

    /// Runs `future` beside the running scope and as part of it. The scope's end ends it.
    ///
    /// # Errors
    ///
    /// When no scope is running, or it has too many goroutines already.
    pub(super) fn spawn(
        self: &Rc<Self>,
        goroutines_max: usize,
        future: impl Future<Output = ()> + 'static,
    ) -> mlua::Result<CoroutineId> {
        let Some(scope) = self.get() else {
            return Err(mlua::Error::runtime("a goroutine can be started only by a task"));
        };
        if goroutines_max <= scope.goroutines.borrow().len() {
            return Err(mlua::Error::runtime(format!("a task can have {goroutines_max} goroutines at most")));
        }
        let id = self.register(&scope, Role::Goroutine);
        let goroutine = Goroutine { current: Rc::clone(self), id, future: Box::pin(future) };
        scope.goroutines.borrow_mut().insert(id, goroutine);
        Ok(id)
    }

    /// Ends a goroutine of the running scope.
    pub(super) fn kill(&self, id: CoroutineId) {
        let goroutine = self.get().and_then(|scope| scope.goroutines.borrow_mut().remove(&id));
        drop(goroutine);
    }

    /// Notes that the running coroutine waits for another one, until [`Self::wake`]. `None` when none runs.
    pub(super) fn block(&self) -> Option<CoroutineId> {
        let id = self.turn.get()?;
        if let Some(coroutine) = self.coroutines.borrow_mut().get_mut(&id)
            && !coroutine.blocked
        {
            coroutine.blocked = true;
            self.blocked.set(self.blocked.get() + 1);
        }
        self.check();
        Some(id)
    }

    /// Gives a coroutine that waits for another one its turn. False when it has ended.
    pub(super) fn wake(&self, id: CoroutineId) -> bool {
        self.unblock(id).map(|waker| waker.wake()).is_some()
    }

    /// The news that all coroutines wait for each other, if there is such news: this one waits no more then.
    pub(super) fn take_deadlock(&self, id: CoroutineId) -> Option<Rc<Deadlock>> {
        let told = self.coroutines.borrow().get(&id).is_some_and(|coroutine| coroutine.deadlocked);
        if !told {
            return None;
        }
        self.unblock(id);
        Some(Rc::clone(&self.deadlock.borrow()))
    }

    fn unblock(&self, id: CoroutineId) -> Option<Waker> {
        let mut coroutines = self.coroutines.borrow_mut();
        let coroutine = coroutines.get_mut(&id)?;
        coroutine.deadlocked = false;
        if std::mem::take(&mut coroutine.blocked) {
            self.blocked.set(self.blocked.get() - 1);
        }
        Some(coroutine.waker.clone())
    }

    fn register(&self, scope: &Scope, role: Role) -> CoroutineId {
        let id = self.next.get();
        self.next.set(id + 1);
        let turn = Arc::new(Turn::new(id, &scope.queue));
        let waker = Waker::from(Arc::clone(&turn));
        waker.wake_by_ref();
        let task = scope.task.as_ref().map(|task| task.task.clone());
        let coroutine = Coroutine { turn, waker, role, task, blocked: false, deadlocked: false };
        self.coroutines.borrow_mut().insert(id, coroutine);
        id
    }

    fn forget(&self, id: CoroutineId) {
        let gone = self.coroutines.borrow_mut().remove(&id);
        if gone.is_some_and(|coroutine| coroutine.blocked) {
            self.blocked.set(self.blocked.get() - 1);
        }
        self.check();
    }

    /// The waker of a coroutine whose turn begins.
    fn turn(&self, id: CoroutineId) -> Option<Waker> {
        let coroutines = self.coroutines.borrow();
        let coroutine = coroutines.get(&id)?;
        coroutine.turn.begin();
        Some(coroutine.waker.clone())
    }

    fn calm(&self) {
        self.busy.set(self.busy.get() - 1);
        self.check();
    }

    /// Tells those whom the engine called when nobody can go on: each coroutine waits for another one, and nothing
    /// else is done that could wake one.
    fn check(&self) {
        let live = self.coroutines.borrow().len();
        if 0 < self.busy.get() || live == 0 || self.blocked.get() < live {
            return;
        }
        let mut coroutines = self.coroutines.borrow_mut();
        if coroutines.values().any(|coroutine| coroutine.deadlocked) {
            return;
        }
        let who = |(&id, of): (&CoroutineId, &Coroutine)| Waiting { id, role: of.role, task: of.task.clone() };
        let number = self.deadlock.borrow().number + 1;
        self.deadlock.replace(Rc::new(Deadlock { number, waiting: coroutines.iter().map(who).collect() }));
        for coroutine in coroutines.values_mut() {
            if coroutine.role == Role::Main {
                coroutine.deadlocked = true;
                coroutine.waker.wake_by_ref();
            }
        }
    }
}

/// While it lives, something is done that may wake a coroutine.
pub(crate) struct Busy(Rc<CurrentTask>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.calm();
    }
}

/// While it lives, whoever made it only waits for coroutines.
pub(crate) struct Idle(Rc<CurrentTask>);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get() + 1);
    }
}

/// What runs beside the Lua that was entered.
struct Goroutine {
    current: Rc<CurrentTask>,
    id: CoroutineId,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

impl Drop for Goroutine {
    fn drop(&mut self) {
        self.current.forget(self.id);
    }
}
