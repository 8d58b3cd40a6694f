//! Commands of the host: each in a process group of its own, captured under a bound, and ended as a group.

mod capture;
mod group;
mod identity;
mod program;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    sync::{Notify, Semaphore, watch},
    time::{sleep, timeout},
};

use self::capture::{Capture, drain, feed};
use crate::{host::Stream, limits::PROCESSES_MAX, modules::ScopeId};

pub use identity::started;
pub(crate) use program::find as find_program;

/// How long a group may take to end after SIGTERM before SIGKILL ends it.
pub const KILL_GRACE_MS: u64 = 5_000;
/// How long the pipes are read after the command itself has ended: a process that it left behind may hold them
/// open for ever.
pub const PIPE_GRACE_MS: u64 = 200;
/// Exit code that stands for a command that outlived its timeout, as `timeout(1)` gives it.
pub const EXIT_TIMED_OUT: i32 = 124;

/// What is added to a signal's number to make an exit code of it, as shells do.
const EXIT_SIGNAL_BASE: i32 = 128;
/// What reads a command line.
const SHELL: &str = "bash";

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A line for `bash -c`.
    Shell(String),
    /// A program and its arguments, which no shell sees.
    Direct {
        /// The program: a path, or a name looked for in `PATH`.
        program: OsString,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
}

/// A command and all that it gets. It inherits nothing else.
#[derive(Debug, Clone)]
pub struct Command {
    /// What to run.
    pub program: Program,
    /// Where.
    pub workdir: PathBuf,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// What it reads; nothing when absent.
    pub stdin: Option<Vec<u8>>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// Who runs it; `None` = the user that this process runs as. Only root can choose.
    pub user: Option<User>,
    /// Most bytes kept of each of its two streams. What comes after is read and dropped.
    pub capture_bytes_max: usize,
    /// Most bytes of one line given to the sink; longer lines are cut into several.
    pub line_bytes_max: usize,
}

/// A user to run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// The number of its first group; it gets no other.
    pub gid: u32,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// By us, since it outlived its timeout.
    TimedOut,
}

impl Ending {
    /// The exit code a shell would show for it.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(signal) => EXIT_SIGNAL_BASE.saturating_add(signal),
            Self::TimedOut => EXIT_TIMED_OUT,
        }
    }
}

/// What a command left.
#[derive(Debug, Clone)]
pub struct Completed {
    /// How it ended.
    pub ending: Ending,
    /// The start of its standard output, `capture_bytes_max` at most.
    pub stdout: Vec<u8>,
    /// The start of its standard error, `capture_bytes_max` at most.
    pub stderr: Vec<u8>,
    /// Whether either stream was longer.
    pub truncated: bool,
}

/// Why a command did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system refused to start it.
    #[error("cannot start `{program}` in `{}`", workdir.display())]
    Start {
        /// The program, without its arguments: they may hold secrets.
        program: String,
        /// The directory it was to run in.
        workdir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system lost track of it.
    #[error("cannot wait for `{program}`")]
    Wait {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The process groups that run, and for which scope.
///
/// A group is known from its start until its command has ended; one whose waiter was dropped or which is being
/// stopped is known until the whole group is gone.
#[derive(Debug, Clone)]
pub struct Processes {
    groups: Arc<watch::Sender<BTreeMap<i32, Group>>>,
    /// One for each that may still be started.
    places: Arc<Semaphore>,
    /// Starts that are under way, by their numbers, and for whom.
    starting: Arc<watch::Sender<BTreeMap<u64, Option<ScopeId>>>>,
    grace: Duration,
}

#[derive(Debug, Clone)]
struct Group {
    owner: Option<ScopeId>,
    stop: Arc<Notify>,
    asked: Asked,
}

/// Whether a group was asked to end, which is done once, whoever does it.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<AtomicBool>);

impl Processes {
    /// Nothing runs. A group has [`KILL_GRACE_MS`] to end.
    #[must_use]
    pub fn new() -> Self {
        Self::with_grace(Duration::from_millis(KILL_GRACE_MS))
    }

    /// Nothing runs. A group has `grace` to end after SIGTERM before SIGKILL ends it.
    #[must_use]
    pub fn with_grace(grace: Duration) -> Self {
        let places = Arc::new(Semaphore::new(PROCESSES_MAX));
        Self { groups: Arc::default(), places, starting: Arc::default(), grace }
    }

    /// Runs `command` for `owner` to its end, once fewer than [`PROCESSES_MAX`] run. Each line goes to `sink` as it comes.
    ///
    /// Dropping the future ends the group in the background.
    ///
    /// # Errors
    ///
    /// When it could not be started. A command that fails is no error.
    pub async fn run(
        &self,
        owner: Option<ScopeId>,
        command: Command,
        sink: &dyn Fn(Stream, String),
    ) -> Result<Completed, RunError> {
        // Nobody closes it.
        let _place = self.places.acquire().await;
        let command = Arc::new(command);
        let (mut running, pipes) = self.start_aside(owner, Arc::clone(&command)).await?;
        let stdout = RefCell::new(Capture::new(Stream::Stdout, &command, sink));
        let stderr = RefCell::new(Capture::new(Stream::Stderr, &command, sink));
        let streams = futures_util::future::join3(
            feed(pipes.stdin, command.stdin.as_deref().unwrap_or_default()),
            drain(pipes.stdout, &stdout),
            drain(pipes.stderr, &stderr),
        );
        let ending = wait(running.ended(command.timeout), streams).await;
        let ending = ending.map_err(|source| RunError::Wait { program: command.program.name(), source })?;
        let (stdout, stderr) = (stdout.into_inner().finish(), stderr.into_inner().finish());
        Ok(Completed {
            ending,
            truncated: stdout.truncated || stderr.truncated,
            stdout: stdout.bytes,
            stderr: stderr.bytes,
        })
    }

    /// Ends every process group of `scope`: first politely, then by force. Resolves when none is left.
    pub async fn kill(&self, scope: ScopeId) {
        self.end(|owner| owner == Some(scope)).await;
    }

    /// Ends everything, and waits until it is gone. The last step of a run: nothing outlives it in the foreground.
    pub async fn kill_all(&self) {
        self.end(|_| true).await;
    }

    /// How many groups run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.borrow().len()
    }

    /// Whether nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.borrow().is_empty()
    }

    async fn end(&self, of: impl Fn(Option<ScopeId>) -> bool) {
        // What is being started will be there in a moment.
        let mut starting = self.starting.subscribe();
        let started = starting.wait_for(|starting| !starting.values().any(|owner| of(*owner)));
        let _ = timeout(self.grace, started).await;
        let of = |group: &Group| of(group.owner);
        let ids =
            || -> Vec<i32> { self.groups.borrow().iter().filter(|(_, group)| of(group)).map(|(id, _)| *id).collect() };
        for (id, group) in self.groups.borrow().iter().filter(|(_, group)| of(group)) {
            group.asked.ask(*id);
            group.stop.notify_one();
        }
        // Not left to those who wait for the groups: a task that is being ended is not polled any more.
        if timeout(self.grace, group::gone(ids)).await.is_err() {
            ids().into_iter().for_each(|id| group::signal(id, Signal::KILL));
            let _ = timeout(self.grace, group::gone(ids)).await;
        }
        self.groups.send_modify(|groups| groups.retain(|_, group| !of(group)));
    }

    /// Starts a command on a thread of its own: until the new process has become another program, the thread that starts
    /// it stands still, and on this one the whole run would.
    async fn start_aside(&self, owner: Option<ScopeId>, command: Arc<Command>) -> Result<(Running, Pipes), RunError> {
        let (processes, starting) = (self.clone(), Starting::new(&self.starting, owner));
        let name = command.program.name();
        let started = tokio::task::spawn_blocking(move || {
            let started = processes.start(owner, &command);
            drop(starting);
            started
        });
        // What is not awaited any more is dropped there, which ends it.
        started.await.unwrap_or_else(|error| Err(RunError::Wait { program: name, source: io::Error::other(error) }))
    }

    fn start(&self, owner: Option<ScopeId>, command: &Command) -> Result<(Running, Pipes), RunError> {
        let mut child = command.to_process().spawn().map_err(|source| RunError::Start {
            program: command.program.name(),
            workdir: command.workdir.clone(),
            source,
        })?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0);
        let group = Group { owner, stop: Arc::new(Notify::new()), asked: Asked::default() };
        let (stop, asked) = (Arc::clone(&group.stop), group.asked.clone());
        self.groups.send_modify(|groups| drop(groups.insert(id, group)));
        let pipes = Pipes { stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take() };
        let known = Known { id, groups: Arc::clone(&self.groups), asked, grace: self.grace };
        Ok((Running { stop, unfinished: Some((child, known)) }, pipes))
    }
}

impl Default for Processes {
    fn default() -> Self {
        Self::new()
    }
}

/// A start that is under way for as long as this lives.
struct Starting {
    number: u64,
    all: Arc<watch::Sender<BTreeMap<u64, Option<ScopeId>>>>,
}

impl Starting {
    fn new(all: &Arc<watch::Sender<BTreeMap<u64, Option<ScopeId>>>>, owner: Option<ScopeId>) -> Self {
        let mut number = 0;
        all.send_modify(|starting| {
            number = starting.last_key_value().map_or(0, |(last, _)| last + 1);
            starting.insert(number, owner);
        });
        Self { number, all: Arc::clone(all) }
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.all.send_modify(|starting| {
            starting.remove(&self.number);
        });
    }
}

/// A command whose end is awaited. Dropped before that, it ends its group.
struct Running {
    stop: Arc<Notify>,
    /// `None` once the command has ended.
    unfinished: Option<(Child, Known)>,
}

/// An entry among the groups, there for as long as this lives.
struct Known {
    id: i32,
    groups: Arc<watch::Sender<BTreeMap<i32, Group>>>,
    asked: Asked,
    grace: Duration,
}

struct Pipes {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Program {
    /// The program without its arguments, which may hold secrets.
    fn name(&self) -> String {
        self.file().to_string_lossy().into_owned()
    }

    fn file(&self) -> &OsStr {
        match self {
            Self::Shell(_) => OsStr::new(SHELL),
            Self::Direct { program, .. } => program,
        }
    }
}

impl Command {
    fn to_process(&self) -> tokio::process::Command {
        let name = self.program.file();
        let mut process = match find_program(name, self.env.get("PATH").map(String::as_str), &self.workdir) {
            Some(path) => {
                let mut process = tokio::process::Command::new(path);
                process.arg0(name);
                process
            }
            // The system says what is wrong with it.
            None => tokio::process::Command::new(name),
        };
        match &self.program {
            Program::Shell(line) => process.arg("-c").arg(line),
            Program::Direct { arguments, .. } => process.args(arguments),
        };
        let stdin = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        process.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        process.current_dir(&self.workdir).env_clear().envs(&self.env).process_group(0);
        // Without a user there is no code between fork and exec: with it, starting a process from a large one
        // is many times slower.
        if let Some(user) = self.user {
            process.uid(user.uid).gid(user.gid);
        }
        process
    }
}

impl Running {
    async fn ended(&mut self, limit: Option<Duration>) -> io::Result<Ending> {
        let Some((child, known)) = &mut self.unfinished else {
            return Err(io::Error::other("its end was taken before"));
        };
        let over = async {
            match limit {
                Some(limit) => sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let ending = tokio::select! {
            biased;
            // First, so that a stop also reaches what a command that has just ended left behind.
            () = self.stop.notified() => group::end(child, known).await?,
            status = child.wait() => Ending::of(status?),
            () = over => {
                group::end(child, known).await?;
                Ending::TimedOut
            }
        };
        self.unfinished = None;
        Ok(ending)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some((mut child, known)) = self.unfinished.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                // Nobody is left to hear of an error.
                let _ = group::end(&mut child, &known).await;
                drop(known);
            })),
            Err(_) => group::signal(known.id, Signal::KILL),
        }
    }
}

impl Asked {
    fn ask(&self, group: i32) {
        if !self.0.swap(true, Ordering::Relaxed) {
            group::signal(group, Signal::TERM);
        }
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.groups.send_modify(|groups| drop(groups.remove(&self.id)));
    }
}

impl Ending {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, signal) => Self::Signalled(signal.unwrap_or(0)),
        }
    }
}

/// Waits for the command's end while its pipes are served, and then a little for the pipes.
async fn wait<T>(
    ended: impl Future<Output = io::Result<Ending>>,
    streams: impl Future<Output = T>,
) -> io::Result<Ending> {
    tokio::pin!(ended, streams);
    let mut served = false;
    let ending = loop {
        tokio::select! {
            ending = &mut ended => break ending,
            _ = &mut streams, if !served => served = true,
        }
    };
    if !served {
        // Past the grace the pipes are the affair of a process left behind, and that is no failure.
        let _ = timeout(Duration::from_millis(PIPE_GRACE_MS), streams).await;
    }
    ending
}
