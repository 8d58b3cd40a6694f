//! A host in memory, and runs of files given as text.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    rc::Rc,
    time::Duration,
};

use sloth_core::Millis;
use sloth_workflow::{
    Attempt, CancelSignal, Capabilities, Host, Limits, LoadError, LocalFuture, LogLine, MemoryState, Plan, RunEnd,
    RunInput, StateError, StateOperation, StateReply, Stop, TaskEnd, cancel_pair, load, run,
};

/// Records what it is told, in order.
#[derive(Default)]
pub(crate) struct Memory {
    clock: sloth_core::Clock,
    random: Cell<u128>,
    pub(crate) log: RefCell<Vec<String>>,
    /// `+task/attempt` for a start, `-task` for an end.
    pub(crate) told: RefCell<Vec<String>>,
    pub(crate) plans: Cell<usize>,
    /// The task whose start stops the run.
    stop_at: Option<&'static str>,
    /// Tells a line of the log to whoever waits for one.
    pub(crate) heard: tokio::sync::Notify,
    state: RefCell<MemoryState>,
}

impl Memory {
    /// A host that cannot go on when it is to start `task`.
    pub(crate) fn stopping_at(task: &'static str) -> Self {
        Self { stop_at: Some(task), ..Self::default() }
    }
}

impl Host for Memory {
    fn now(&self) -> Millis {
        self.clock.now()
    }

    fn random(&self) -> u128 {
        self.random.set(self.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        self.random.get()
    }

    fn log(&self, line: LogLine) {
        let task = line.task.map_or_else(String::new, |task| format!("{}: ", task.task));
        self.log.borrow_mut().push(format!("{task}{}", line.text));
        self.heard.notify_one();
    }

    fn planned(&self, plans: &[Plan]) {
        self.plans.set(self.plans.get() + plans.len());
    }

    fn starting<'a>(&'a self, attempt: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>> {
        self.told.borrow_mut().push(format!("+{}/{}", attempt.task.task, attempt.number));
        let stop = self.stop_at == Some(attempt.task.task.as_str());
        Box::pin(async move { if stop { Err(Stop { reason: "the journal is gone".into() }) } else { Ok(()) } })
    }

    fn finished<'a>(&'a self, end: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>> {
        self.told.borrow_mut().push(format!("-{}", end.task.task));
        Box::pin(async { Ok(()) })
    }

    fn state<'a>(&'a self, operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>> {
        let reply = self.state.borrow_mut().apply(operation, self.now());
        Box::pin(async { reply })
    }
}

/// A file to run, and what it is run with.
pub(crate) struct Case {
    pub(crate) files: Vec<(&'static str, String)>,
    pub(crate) input: RunInput,
    pub(crate) host: Rc<Memory>,
    pub(crate) cancel: CancelSignal,
    dir: tempfile::TempDir,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) end: RunEnd,
    pub(crate) host: Rc<Memory>,
    /// The run's scratch directory, still there.
    pub(crate) dir: tempfile::TempDir,
}

impl Case {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let limits = Limits {
            retry_wait: Duration::from_millis(2),
            task_timeout: Duration::from_secs(20),
            plan_time: Duration::from_secs(2),
            memory_bytes: 64 * 1024 * 1024,
            parallel_tasks: 4,
            ..Limits::default()
        };
        let input = RunInput {
            bundle_dir: dir.path().join("bundle"),
            file: "main.sloth".into(),
            capabilities: Capabilities::all(),
            limits,
            run_id: "01JD5Z3V9QK7T2M4X8R6WBCY0N".into(),
            workdir: dir.path().join("work"),
            ..RunInput::default()
        };
        let files = vec![("main.sloth", text.into())];
        Self { files, input, host: Rc::default(), cancel: cancel_pair().1, dir }
    }

    pub(crate) fn file(mut self, name: &'static str, text: &str) -> Self {
        self.files.push((name, text.to_owned()));
        self
    }

    pub(crate) fn parallel(mut self, tasks: usize) -> Self {
        self.input.limits.parallel_tasks = tasks;
        self
    }

    fn write(&self) {
        std::fs::create_dir_all(&self.input.workdir).expect("a directory");
        for (name, text) in &self.files {
            let path = self.input.bundle_dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("a directory");
            sloth_core::fs::replace(&path, text.as_bytes(), sloth_core::fs::Access::Everyone).expect("written");
        }
    }

    pub(crate) fn load(&self) -> Result<Vec<Plan>, LoadError> {
        self.write();
        load(&self.input.bundle_dir, &self.input.file, &self.input.values, &self.input.limits)
    }

    pub(crate) fn try_run(self) -> Result<Ended, LoadError> {
        self.write();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let host: Rc<dyn Host> = Rc::clone(&self.host) as Rc<dyn Host>;
        let end = runtime.block_on(run(self.input, host, self.cancel))?;
        Ok(Ended { end, host: self.host, dir: self.dir })
    }

    pub(crate) fn run(self) -> Ended {
        self.try_run().unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Ended {
    /// The tasks' ends: `name status` and, where there is one, `: message`, one a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |end: &TaskEnd| match end.message.as_str() {
            "" => format!("{} {}", end.task.task, end.status),
            message => format!("{} {}: {message}", end.task.task, end.status),
        };
        self.end.tasks.iter().map(line).collect()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.host.log.borrow().clone()
    }

    pub(crate) fn told(&self) -> String {
        self.host.told.borrow().join(" ")
    }
}

/// Runs `text` and compares the ends of its tasks, one a line.
pub(crate) fn check(text: &str, expected: &[&str]) {
    let ended = Case::new(text).run();
    assert_eq!(ended.lines(), expected, "{text}\nlog: {:#?}", ended.log());
}

/// Runs `text`, expects every task to end well, and compares the log.
pub(crate) fn check_log(text: &str, expected: &[&str]) {
    let ended = Case::new(text).run();
    assert_eq!(ended.end.message, "", "{text}\n{:?}\n{:?}", ended.lines(), ended.log());
    assert_eq!(ended.log(), expected, "{text}");
}
