//! What a module knows of the run and of the task that called it.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
};

use sloth_core::{Labels, Secret};

use super::scope::CurrentTask;
use crate::{Level, LogLine, Stream, capability::Capabilities, host::Host, limits::Limits, process::Processes};

/// What every module of one run shares.
#[derive(Clone)]
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
    /// What else the run was given.
    pub settings: Settings,
    /// The warnings that are told once.
    pub warned: Rc<RefCell<BTreeSet<String>>>,
}

/// What a run may be given besides its file and its values.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The stack that it belongs to; `None` = the one of the workflow file's name.
    pub stack: Option<String>,
    /// What the file sees as `secrets`; where they stand in the log they are masked.
    pub secrets: Rc<BTreeMap<String, Secret<String>>>,
    /// What becomes of tasks that are meant for another host.
    pub elsewhere: crate::Elsewhere,
    /// What the file added to the environment of its commands while it ran.
    pub environment: Rc<RefCell<BTreeMap<String, String>>>,
}

impl Settings {
    /// `text` with every secret masked.
    #[must_use]
    pub fn masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut masked = Cow::Borrowed(text);
        for secret in self.secrets.values().map(Secret::expose) {
            if SECRET_BYTES_MIN <= secret.len() && masked.contains(secret.as_str()) {
                masked = Cow::Owned(masked.replace(secret.as_str(), MASK));
            }
        }
        masked
    }
}

/// Most different warnings that are told once; after them none of their kind is.
const WARNED_MAX: usize = 1_000;

/// Shorter secrets are not masked: every other word of a log would be.
const SECRET_BYTES_MIN: usize = 4;
/// What stands in the log for a secret.
const MASK: &str = "[secret]";

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
    /// What surrounds a file without a bundle, values and capabilities, of a run with the usual bounds.
    #[must_use]
    pub fn new(host: Rc<dyn Host>, phase: Phase) -> Self {
        Self {
            host,
            capabilities: Rc::new(Capabilities::none()),
            limits: Rc::default(),
            bundle_dir: PathBuf::new(),
            workdir: PathBuf::new(),
            run_id: String::new(),
            values: serde_json::Value::Null,
            current: Rc::default(),
            agent: AgentInfo::default(),
            processes: Rc::default(),
            phase,
            search_path: crate::SEARCH_PATH.to_owned(),
            settings: Settings::default(),
            warned: Rc::default(),
        }
    }

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
        let text = self.settings.masked(text);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        for line in std::iter::once(first).chain(lines) {
            let text = cut(line, self.limits.log_line_bytes).to_owned();
            self.host.log(LogLine { task: task.clone(), stream, text });
        }
    }

    /// Notes what the running task would change, in a run that only checks.
    pub fn would_change(&self, what: &str) {
        if let Some(scope) = self.current.get() {
            scope.would_change.borrow_mut().push(what.to_owned());
        }
    }

    /// Logs a warning in the name of the running task.
    pub fn warn(&self, text: &str) {
        self.log(Stream::Log(Level::Warn), text);
    }

    /// As [`Self::warn`], the first time that this is to be told.
    pub(crate) fn warn_once(&self, text: String) {
        let mut warned = self.warned.borrow_mut();
        if warned.len() < WARNED_MAX && !warned.contains(&text) {
            self.warn(&text);
            warned.insert(text);
        }
    }
}

/// The start of `text` of `bytes` bytes at most, at a character's boundary.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
