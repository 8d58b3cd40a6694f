//! A worker: a process of its own for each run, with the run's Lua and all that it starts.
//!
//! It has a session of its own, so that whoever stops it finds everything that it started. It is told what to do, and
//! tells what it does, over a socket that it gets as its standard input; when that socket ends, its daemon is gone, and
//! the worker ends with all that it started, at once.

pub mod frames;
mod host;
pub mod logs;
pub mod protocol;
mod socket;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    rc::Rc,
};

use sloth_core::{Chain, Clock, RunId};
use sloth_protocol::wire::{self, RunOutcome};
use sloth_workflow::{AgentInfo, Capabilities, Host as _, LoadError, RunInput, Stuck, Watch, cancel_pair};
use tokio::sync::mpsc;

pub(crate) use host::random;

use host::DaemonHost;
use protocol::{Begin, FromWorker, Resume, ToWorker};

use crate::{
    convert,
    stuck::{self, Ledger},
};

/// How much sooner than its daemon a worker is ended when the host runs out of memory; what it starts inherits it.
const OOM_SCORE: &[u8] = b"500";

/// How a worker ends whose thread for Lua is kept by a call that nothing interrupts.
pub(crate) const EXIT_STUCK: i32 = 4;

/// Why a worker did not even begin.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its standard input is no socket of a daemon.
    #[error("a worker is started by the daemon, not by hand: run `sloth-agent daemon` or `sloth-agent run FILE`")]
    NoDaemon {
        /// What the system said.
        source: io::Error,
    },
    /// The daemon cannot be understood.
    #[error("cannot understand the daemon")]
    Frame {
        /// Why.
        #[from]
        source: frames::FrameError,
    },
    /// The daemon began otherwise than daemons do.
    #[error("the daemon did not say what to run")]
    Beginning,
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
}

/// Runs what the daemon says, to its end.
///
/// # Errors
///
/// When there is no daemon, or it cannot be understood. A run that fails is no error.
pub fn run() -> Result<(), WorkerError> {
    let mut socket = socket_of_daemon().map_err(|source| WorkerError::NoDaemon { source })?;
    // It fails for a process that leads a group already, and then it has what it takes.
    let _ = rustix::process::setsid();
    prefer_for_oom();
    crate::update::memory::lift();
    let (begin, resume) = read_beginning(&mut socket)?;
    let thread = |source| WorkerError::Thread { source };
    let reading = socket.try_clone().map_err(thread)?;
    let (heard, messages) = mpsc::unbounded_channel();
    socket::listen(reading, begin.run, heard).map_err(thread)?;
    let outbox = socket::Outbox::start(socket).map_err(thread)?;
    let (watch, ledger) = (Watch::default(), Ledger::default());
    let (last_words, tasks) = (outbox.last_words(), ledger.clone());
    stuck::end_when_stuck(watch.clone(), move |stuck| end_stuck(stuck, &tasks, last_words)).map_err(thread)?;
    let host = Rc::new(DaemonHost::new(outbox, begin.log_bytes_per_task, ledger));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(thread)?;
    let end = runtime.block_on(work(Rc::clone(&host), *begin, resume, messages, watch));
    host.close(end);
    // Work beside the run that nobody waits for any more ends with this process.
    runtime.shutdown_background();
    Ok(())
}

async fn work(
    host: Rc<DaemonHost>,
    begin: Begin,
    resume: sloth_workflow::Resume,
    messages: mpsc::UnboundedReceiver<ToWorker>,
    watch: Watch,
) -> wire::RunEnd {
    let (canceller, signal) = cancel_pair();
    let input = match input(begin, resume) {
        Ok(input) => RunInput { watch, ..input },
        Err(message) => return failed(&message),
    };
    let hearing = Rc::clone(&host).hear(messages, canceller);
    let ran = tokio::select! {
        ran = sloth_workflow::run(input, Rc::clone(&host) as Rc<dyn sloth_workflow::Host>, signal) => ran,
        () = hearing => return failed("the daemon went silent"),
    };
    match ran {
        Ok(end) => convert::run_end_to_wire(&end),
        Err(LoadError::Cancelled { .. }) => wire::RunEnd { outcome: RunOutcome::Cancelled, ..failed("") },
        Err(error) => {
            let message = Chain(&error).to_string();
            let end = failed(&message);
            host.log(host::own_line(message));
            end
        }
    }
}

/// Tells the daemon how the task that is stuck ended. The daemon ends what this process has started, and starts another
/// one, which goes on behind that task; where no task is stuck, another one would be too, and the run ends.
fn end_stuck(stuck: &Stuck, tasks: &Ledger, last_words: socket::LastWords) -> i32 {
    let now = Clock::new().now();
    last_words.say(match tasks.timed_out(stuck, now) {
        Some(end) => FromWorker::Ended(convert::end_to_wire(&end)),
        None => FromWorker::RunEnded(convert::run_end_to_wire(&tasks.run_end(None, Vec::new()))),
    });
    EXIT_STUCK
}

fn failed(message: &str) -> wire::RunEnd {
    wire::RunEnd { outcome: RunOutcome::Failed, message: convert::message(message), outputs: "{}".to_owned() }
}

fn input(begin: Begin, resume: sloth_workflow::Resume) -> Result<RunInput, String> {
    let values = serde_json::from_str(&begin.values).map_err(|error| format!("the values cannot be read: {error}"))?;
    Ok(RunInput {
        bundle_dir: PathBuf::from(begin.bundle_dir),
        file: PathBuf::from(begin.file),
        workflow: begin.workflow,
        values,
        capabilities: Capabilities::parse(&begin.capabilities).map_err(|error| {
            format!("this agent does not know all that the bundle was signed for, and runs nothing of it: {error}; update the agent, or correct bundle.toml and sign again")
        })?,
        resume,
        run_id: begin.run.to_string(),
        workdir: PathBuf::from(begin.workdir),
        agent: AgentInfo { name: begin.agent, labels: begin.labels },
        ..RunInput::default()
    })
}

fn read_beginning(socket: &mut UnixStream) -> Result<(Box<Begin>, sloth_workflow::Resume), WorkerError> {
    let Some(ToWorker::Begin(begin)) = frames::read(socket)? else { return Err(WorkerError::Beginning) };
    let mut resume = sloth_workflow::Resume { ended: Vec::new(), attempts: BTreeMap::new() };
    loop {
        match frames::read(socket)? {
            Some(ToWorker::Resume(Resume::Ended(end))) => resume.ended.push(convert::end_from_wire(end)),
            Some(ToWorker::Resume(Resume::Begun { task, attempts })) => {
                resume.attempts.insert(convert::name_from_wire(task), attempts);
            }
            Some(ToWorker::Run) => return Ok((begin, resume)),
            Some(
                ToWorker::Begin(_)
                | ToWorker::Go { .. }
                | ToWorker::Noted { .. }
                | ToWorker::Cancel
                | ToWorker::StateReply { .. },
            )
            | None => return Err(WorkerError::Beginning),
        }
    }
}

/// The socket that the daemon gave as standard input.
fn socket_of_daemon() -> io::Result<UnixStream> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    if rustix::net::sockopt::socket_domain(&socket)? != rustix::net::AddressFamily::UNIX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(UnixStream::from(socket))
}

fn prefer_for_oom() {
    let file = std::fs::OpenOptions::new().write(true).open("/proc/self/oom_score_adj");
    if let Err(error) = file.and_then(|mut file| file.write_all(OOM_SCORE)) {
        tracing::debug!(%error, "cannot offer this worker to the system for when it runs out of memory");
    }
}

/// Where a worker learns which run it is of before it is told: for those who look for it from outside.
pub(crate) fn environment(run: RunId) -> Vec<(String, String)> {
    /// What a worker inherits of the daemon's environment; the rest may hold secrets.
    const INHERITED: [&str; 11] =
        ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "SLOTH_LOG", "SLOTH_LOG_FORMAT"];
    let inherited = INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    inherited.chain([(crate::leftovers::RUN_VARIABLE.to_owned(), run.to_string())]).collect()
}

#[cfg(test)]
mod tests {
    use sloth_core::{Labels, Millis};
    use sloth_workflow::{Capability, Resume};

    use super::*;

    fn begin(capabilities: &[&str]) -> Begin {
        Begin {
            run: RunId::new(Millis::ZERO, 1),
            bundle_dir: "/b".into(),
            file: "a.sloth".into(),
            workflow: None,
            values: "null".into(),
            capabilities: capabilities.iter().map(ToString::to_string).collect(),
            workdir: "/r".into(),
            agent: "web-1".into(),
            labels: Labels::new(),
            log_bytes_per_task: 1,
        }
    }

    #[test]
    fn a_bundle_that_was_signed_for_something_unknown_is_refused_whole() {
        let known = input(begin(&["exec", "fs:write:/etc/nginx"]), Resume::default()).unwrap();
        assert!(known.capabilities.allows(Capability::Exec) && !known.capabilities.allows(Capability::FsWrite));
        for (unknown, expected) in [("gpu", "there is no capability `gpu`"), ("exec:ls", "has no scopes")] {
            let error = input(begin(&["exec", unknown]), Resume::default()).err().unwrap();
            assert!(error.starts_with("this agent does not know all that the bundle was signed for"), "{error}");
            assert!(error.contains(expected) && error.ends_with("sign again"), "{error}");
        }
    }
}
