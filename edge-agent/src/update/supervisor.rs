//! `sloth-agent supervise`: the loop around the machine of `sloth_protocol::update`, without threads or a runtime.

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd,
        unix::{
            fs::OpenOptionsExt as _,
            net::{UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use signal_hook::consts::signal::{SIGCHLD, SIGINT, SIGTERM};
use sloth_core::{
    Chain, Clock, Millis,
    fs::{self, Access, FsError, LockError, LockFile},
};
use sloth_protocol::update::{
    Action, Event, Exit, Fault, FromDaemon, Moment, Note, Output, Request, Slot, Supervisor as Machine, Tail, ToDaemon,
    Verdict, Version,
};

use super::{
    child::{Child, EXIT_CANNOT_RUN, OWN_PROGRAM},
    control,
    log::{Level, Log},
    marker_file,
    notify::Notify,
    rules, stage, versions,
};
use crate::{VERSION, paths::Paths, trim::trim, update::settings::UpdateSettings};

/// What a daemon prints is for its owner alone.
const TRIAL_LOG_MODE: u32 = 0o600;
/// Most bytes of a log of a version on trial.
const TRIAL_LOG_BYTES_MAX: u64 = 256 * 1024;
/// The wait before a socket that cannot be made is tried again.
const LISTEN_RETRY: Millis = Millis::from_secs(5);
/// How long after something happened what was needed for it is let go of.
const TRIM_WAIT: Millis = Millis::from_secs(5);
/// How long a lock that is held is asked for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How often.
const LOCK_STEP: Duration = Duration::from_millis(20);
/// Most file descriptors that are waited on.
const FDS_MAX: usize = 4;

/// What a supervisor is told at its start.
#[derive(Debug)]
pub struct Options {
    /// The agent's directory.
    pub paths: Paths,
    /// The settings.
    pub settings: PathBuf,
    /// What a daemon is started with.
    pub arguments: Vec<OsString>,
    /// What stands for the package, and its version; this program itself unless something is said.
    pub packaged: Option<(PathBuf, Version)>,
    /// The log.
    pub log: Log,
}

/// Why a supervisor does not run.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// Another one has the directory.
    #[error("cannot start the supervisor")]
    Lock {
        /// Who has it.
        #[from]
        source: LockError,
    },
    /// The directory cannot be used.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The system refuses what every process needs.
    #[error("the system lets nobody supervise")]
    System {
        /// What it said.
        #[from]
        source: io::Error,
    },
    /// This build's version is none.
    #[error("`{VERSION}` is no version like `1.2.3`")]
    Version,
}

/// Supervises until it is asked to end. Gives the code to end with.
///
/// # Errors
///
/// When it cannot even begin.
pub fn supervise(options: Options) -> Result<i32, SuperviseError> {
    fs::create_dir(options.paths.dir(), Access::Owner)?;
    let _lock = lock(&options.paths.supervisor_lock())?;
    let signals = Signals::listen()?;
    let mut driver = Driver::new(options)?;
    driver.listen(Millis::ZERO);
    driver.take(Event::Wake);
    while driver.quit.is_none() {
        driver.wait(&signals);
        driver.look(&signals);
    }
    Ok(driver.quit.unwrap_or_default())
}

/// Takes the lock. A supervisor that was killed just when it started a daemon lives on in that daemon's process until its
/// program is loaded, so one that is held is asked for again a little later.
fn lock(path: &Path) -> Result<LockFile, LockError> {
    let began = Instant::now();
    loop {
        match LockFile::acquire(path) {
            Err(LockError::Held { .. }) if began.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_STEP),
            taken => return taken,
        }
    }
}

/// The signals that a supervisor hears.
struct Signals {
    wakes: UnixStream,
    ends: Arc<AtomicBool>,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        let (wakes, woken) = UnixStream::pair()?;
        wakes.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let ends = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&ends))?;
        }
        for signal in [SIGTERM, SIGINT, SIGCHLD] {
            signal_hook::low_level::pipe::register(signal, woken.try_clone()?)?;
        }
        Ok(Self { wakes, ends })
    }

    /// Whether it was asked to end since it was last looked at.
    fn take_end(&self) -> bool {
        let mut bytes = [0; 64];
        while matches!((&self.wakes).read(&mut bytes), Ok(1..)) {}
        self.ends.swap(false, Ordering::Relaxed)
    }
}

struct Driver {
    paths: Paths,
    settings: PathBuf,
    arguments: Vec<OsString>,
    packaged: PathBuf,
    packaged_version: Version,
    /// Where this program was when it started.
    own: Option<PathBuf>,
    log: Log,
    clock: Clock,
    born: Instant,
    notify: Notify,
    machine: Machine,
    /// None where the disk has no room for its name.
    listener: Option<UnixListener>,
    /// When another one is tried.
    listen_at: Millis,
    child: Option<Child>,
    /// Where the lines of a version on trial go.
    trial_log: Option<File>,
    wake_at: Option<Millis>,
    /// When memory that is not needed is let go of.
    trim_at: Option<Millis>,
    /// When a sign of life is due.
    watchdog_at: Option<Millis>,
    answer: Option<Result<String, String>>,
    quit: Option<i32>,
}

impl Driver {
    fn new(options: Options) -> Result<Self, SuperviseError> {
        let Options { paths, settings, arguments, packaged, log } = options;
        let own = || Some((PathBuf::from(OWN_PROGRAM), VERSION.parse().ok()?));
        let (packaged, packaged_version) = packaged.or_else(own).ok_or(SuperviseError::Version)?;
        let (clock, born) = (Clock::new(), Instant::now());
        let (update, problem) = UpdateSettings::load(&settings);
        let found = marker_file::load(&paths);
        for problem in problem.iter().chain(&found.problems) {
            log.line(clock.wall(), Level::Error, problem);
        }
        let trial = found.marker.as_ref().and_then(|marker| Some(marker.version(&marker.trial.as_ref()?.to)));
        let tail = trial.map_or_else(Tail::default, |version| versions::tail(&paths, &version));
        let now = Moment { awake: Millis::ZERO, wall: clock.wall() };
        let machine = Machine::restore(update.policy(), &packaged_version, found.marker, tail, now, seed());
        let notify = Notify::from_environment();
        let watchdog_at = notify.watchdog;
        Ok(Self {
            paths,
            settings,
            arguments,
            packaged,
            packaged_version,
            own: std::env::current_exe().ok(),
            log,
            clock,
            born,
            notify,
            machine,
            listener: None,
            listen_at: Millis::ZERO,
            child: None,
            trial_log: None,
            wake_at: None,
            trim_at: Some(TRIM_WAIT),
            watchdog_at,
            answer: None,
            quit: None,
        })
    }

    fn now(&self) -> Moment {
        Moment { awake: self.born.elapsed().into(), wall: self.clock.wall() }
    }

    /// Sleeps until something happens.
    fn wait(&mut self, signals: &Signals) {
        let now = self.now().awake;
        if self.trim_at.take_if(|at| *at <= now).is_some() {
            trim();
        }
        let next = self.wake_at.into_iter().chain(self.watchdog_at).chain(self.trim_at).min();
        // A wait that is cut short by less than a millisecond would be waited for again and again.
        let wait = next.map(|at| at.since(now) + Millis::from_u64(1));
        let wait = wait.and_then(|wait| Timespec::try_from(wait.as_duration()).ok());
        let mut fds = Vec::with_capacity(FDS_MAX);
        let listener = self.listener.iter().map(UnixListener::as_fd);
        let child = self.child.iter().flat_map(Child::fds);
        let all = std::iter::once(signals.wakes.as_fd()).chain(listener).chain(child);
        fds.extend(all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        // Interrupted or not: all are looked at.
        let woken = poll(&mut fds, wait.as_ref());
        if woken != Ok(0) {
            self.trim_at.get_or_insert(now + TRIM_WAIT);
        }
    }

    /// Sees what has happened.
    fn look(&mut self, signals: &Signals) {
        let now = self.now().awake;
        self.listen(now);
        if signals.take_end() {
            self.notify.say("STOPPING=1");
            self.take(Event::Stop);
        }
        self.hear();
        if let Some(exit) = self.child.as_mut().and_then(Child::ended) {
            self.ended(exit);
        }
        if let Some((socket, request)) = self.listener.as_ref().and_then(control::next) {
            let allowed = self.may(&request);
            self.take(Event::Asked { request, allowed });
            let unanswered = || Err("the request was lost: ask again".to_owned());
            control::answer(&socket, &self.answer.take().unwrap_or_else(unanswered));
        }
        if self.wake_at.is_some_and(|at| at <= now) {
            self.take(Event::Wake);
        }
        if self.watchdog_at.is_some_and(|at| at <= now) {
            self.notify.say("WATCHDOG=1");
            self.watchdog_at = self.notify.watchdog.map(|span| now + span);
        }
    }

    fn listen(&mut self, now: Millis) {
        if self.listener.is_some() || now < self.listen_at {
            return;
        }
        self.listen_at = now + LISTEN_RETRY;
        match control::listen(&self.paths.supervisor_socket()) {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => {
                let problem = format!("requests of this host cannot be taken: {error}");
                self.log.line(self.clock.wall(), Level::Error, &problem);
            }
        }
    }

    fn hear(&mut self) {
        let Some(child) = &mut self.child else { return };
        let came = child.hear();
        for line in came.lines {
            self.printed(line);
        }
        for word in came.words.iter().filter_map(|word| FromDaemon::parse(word)) {
            self.take(Event::Said(word));
        }
    }

    fn printed(&mut self, line: String) {
        if let Some(log) = &mut self.trial_log {
            let has_room = log.metadata().is_ok_and(|metadata| metadata.len() < TRIAL_LOG_BYTES_MAX);
            // It is for the case that this process is killed too; what matters is in memory.
            let _ = if has_room { writeln!(log, "{line}") } else { Ok(()) };
        }
        self.take(Event::Printed(line));
    }

    fn ended(&mut self, exit: Exit) {
        // What it said between the last look and its end.
        self.hear();
        if let Some(line) = self.child.as_mut().and_then(Child::rest) {
            self.printed(line);
        }
        (self.child, self.trial_log) = (None, None);
        self.take(match exit {
            // Its launch failed, and not the program.
            Exit::Code(EXIT_CANNOT_RUN) => {
                Event::NotStarted { why: "the system cannot run it".to_owned(), fault: Fault::Program }
            }
            Exit::Code(_) | Exit::Signal(_) => Event::Exited(exit),
        });
    }

    /// Takes an event to the machine, writes what it writes, and does what it says, until it says nothing more.
    fn take(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.now();
            let Output { write, actions, wake_at } = self.machine.handle(now, event);
            self.wake_at = wake_at;
            let after = write.map(|marker| match marker_file::store(&self.paths, &marker) {
                Ok(()) => Event::Written,
                Err(error) => Event::NotWritten { why: Chain(&error).to_string() },
            });
            for action in actions {
                events.extend(self.act(action));
            }
            after.into_iter().for_each(|after| events.push_front(after));
        }
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Start(slot) => return self.start(&slot).err(),
            Action::End => self.with_child(|child| child.tell(ToDaemon::End)),
            Action::Terminate => self.with_child(|child| child.signal(Signal::TERM)),
            Action::Kill => self.with_child(|child| child.signal(Signal::KILL)),
            Action::Ready => self.notify.say("READY=1"),
            Action::Retry(version) => return Some(Event::Retry(self.may_retry(&version))),
            Action::Replace => return Some(Event::NotReplaced { why: self.replace() }),
            Action::Answer(answer) => self.answer = Some(answer),
            Action::Keep(keep) => {
                let logs = self.machine.marker().bad.iter().map(|bad| bad.version.clone());
                versions::remove_others(&self.paths, &keep.into_iter().collect(), &logs.collect::<BTreeSet<_>>());
            }
            Action::Note(note) => self.note(&note),
            Action::Quit(code) => self.quit = Some(code),
        }
        None
    }

    fn with_child(&self, act: impl FnOnce(&Child)) {
        if let Some(child) = &self.child {
            act(child);
        }
    }

    fn start(&mut self, slot: &Slot) -> Result<(), Event> {
        let marker = self.machine.marker();
        let version = marker.version(slot);
        let is_on_trial = marker.trial.as_ref().is_some_and(|trial| trial.to == *slot);
        let damaged =
            |error: versions::DamageError| Event::NotStarted { why: Chain(&error).to_string(), fault: Fault::Program };
        let program = match slot {
            Slot::Packaged => self.packaged.clone(),
            Slot::Installed(version) => versions::program(&self.paths, version).map_err(damaged)?,
        };
        self.trial_log = is_on_trial.then(|| append(&versions::log(&self.paths, &version)).ok()).flatten();
        let system = |error: io::Error| Event::NotStarted { why: error.to_string(), fault: Fault::System };
        let child = Child::start(&program, &self.arguments).map_err(system)?;
        self.log.line(self.clock.wall(), Level::Debug, &format!("the daemon is process {}", child.pid()));
        self.child = Some(child);
        Ok(())
    }

    /// What the host's own rules say to a request.
    fn may(&self, request: &Request) -> Result<(), String> {
        let Request::Switch { version, .. } = request else { return Ok(()) };
        let (settings, problem) = UpdateSettings::load(&self.settings);
        if let Some(problem) = problem {
            return Err(format!("it is not known what this host's rules are: {problem}"));
        }
        rules::by_hand(&self.paths, &settings, version).map_err(|refusal| refusal.to_string())?;
        if *version == self.packaged_version {
            return Ok(());
        }
        let staged = versions::program(&self.paths, version);
        staged.map(drop).map_err(|error| format!("version {version} is not staged: {}", Chain(&error)))
    }

    /// What they say to one that was put off, whoever asked for it at first.
    fn may_retry(&self, version: &Version) -> Result<(), String> {
        let (settings, problem) = UpdateSettings::load(&self.settings);
        if let Some(problem) = problem {
            return Err(problem);
        }
        rules::by_hand(&self.paths, &settings, version).map_err(|refusal| refusal.to_string())?;
        // Whether updates are enabled was judged when it was asked for.
        let settings = UpdateSettings { enabled: true, ..settings };
        rules::held(&self.paths, &settings, self.clock.wall()).map_or(Ok(()), |held| Err(held.to_string()))
    }

    /// Becomes the supervisor that the package holds now, in this very process, so that whoever waits for it sees no end.
    /// Returns only when that cannot be, with the reason.
    fn replace(&self) -> String {
        let Some(own) = &self.own else { return "it is not known where this program is".to_owned() };
        // One that does not even tell its version would leave the host without a supervisor.
        if let Err(error) = stage::self_test(own) {
            return Chain(&error).to_string();
        }
        Command::new(own).args(std::env::args_os().skip(1)).exec().to_string()
    }

    fn note(&self, note: &Note) {
        let (level, line) = match note {
            Note::Started { slot, trial: None } => (Level::Info, format!("version {} starts", self.name(slot))),
            Note::Started { slot, trial: Some(starts) } => {
                (Level::Info, format!("version {} starts on trial, for the {starts}. time", self.name(slot)))
            }
            Note::Ended { slot, how, again_in } => {
                let wait = again_in.as_duration();
                (Level::Warn, format!("version {}: {how}; it is started again in {wait:?}", self.name(slot)))
            }
            Note::Hung { slot, why } => (Level::Warn, format!("version {} is ended: {why}", self.name(slot))),
            Note::Switching { to } => (Level::Info, format!("switching to version {}", self.name(to))),
            Note::Decided { verdict: Verdict::Confirmed, to, reason } => {
                (Level::Info, format!("version {to} is confirmed: {reason}"))
            }
            Note::Decided { verdict: Verdict::RolledBack, to, reason } => {
                (Level::Error, format!("version {to} is rolled back: {reason}"))
            }
            Note::PutOff { to, reason } => {
                let line = format!("version {} is put off: {reason}, which the network may have caused", self.name(to));
                (Level::Warn, line)
            }
            Note::NotReplaced { why } => (Level::Error, format!("the package's version is not taken: {why}")),
            Note::NotWritten { why } => (Level::Error, format!("the update marker cannot be written: {why}")),
        };
        self.log.line(self.clock.wall(), level, &line);
        self.notify.say(&format!("STATUS={line}"));
    }

    fn name(&self, slot: &Slot) -> String {
        match slot {
            Slot::Packaged => format!("{} (packaged)", self.packaged_version),
            Slot::Installed(version) => version.to_string(),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(TRIAL_LOG_MODE).open(path)
}

/// Spreads the restarts of a fleet; not for secrets.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()))
}
