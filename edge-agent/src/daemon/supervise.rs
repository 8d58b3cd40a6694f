//! One worker, from its start to its end.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use sloth_core::{
    Chain, Labels, RunId,
    fs::{self, Access, FsError},
};
use sloth_protocol::{
    agent::{Event, Start},
    wire::RunEnd,
};
use sloth_workflow::StateOperation;
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use tracing::Instrument as _;

use super::{
    Shared,
    bundles::{self, BundleError},
    workers::Told,
};
use crate::{
    leftovers::{self, Whose},
    paths::Paths,
    worker::{
        self,
        frames::{self, FrameError, FrameReader},
        protocol::{Begin, FromWorker, Resume, ToWorker},
    },
};

/// How long a worker that was asked to end may take: it gives the commands of its tasks five seconds.
const CANCEL_PATIENCE: Duration = Duration::from_secs(8);
/// How long it and all that it started may take after SIGTERM.
const TERM_PATIENCE: Duration = Duration::from_secs(2);
/// How long a worker may take to exit after it has told its run's end.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);
/// How long what a worker said before it ended is waited for.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
/// Most messages that wait to be written to a worker.
const MESSAGES_MAX: usize = 32 * 1024;
/// Most questions about state of one worker that are being answered. Nothing more is read of it meanwhile.
const STATE_QUESTIONS_MAX: usize = 16;
/// Longest wait for a change of mind, when nothing is planned.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot use the unpacked bundle")]
    Bundle(#[from] BundleError),
    #[error("cannot make the run's directory")]
    Dir(#[from] FsError),
    #[error("a path of this agent is not UTF-8: use another directory")]
    Path,
    #[error("cannot start a worker")]
    Spawn(#[source] io::Error),
    #[error("cannot look for the run's files")]
    Task(#[from] tokio::task::JoinError),
}

/// How a worker is being ended; only ever the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    No,
    Asked,
    Terminated,
    Killed,
}

/// Runs the worker of `start` to its end, which it returns, unless all workers are `ending`.
pub(super) async fn supervise(
    shared: &Arc<Shared>,
    events: &mpsc::Sender<Event>,
    start: Start,
    told: mpsc::Receiver<Told>,
    mut ending: watch::Receiver<bool>,
) -> Option<Event> {
    let run = start.job.run;
    let namespace = start.job.bundle.to_string();
    let supervisor = match Supervisor::start(shared, events, start, namespace).await {
        Ok(supervisor) => supervisor,
        Err(error) => {
            let how = Chain(&error).to_string();
            return (!*ending.borrow()).then_some(Event::WorkerDied { run, how });
        }
    };
    let event = supervisor.watch(told, &mut ending).await;
    (!*ending.borrow()).then_some(event)
}

struct Supervisor {
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    run: RunId,
    /// Whose state the run's scripts see.
    namespace: String,
    child: Child,
    /// Says how the worker has ended, before anybody waited for it: until then its number means it.
    exited: oneshot::Receiver<io::Result<ExitStatus>>,
    reader: FrameReader<OwnedReadHalf>,
    /// Who reads a frame has a permit, for the question that it may be.
    questions: Arc<Semaphore>,
    messages: mpsc::Sender<ToWorker>,
    ending: Ending,
    /// When the next step of the ending is due.
    deadline: Instant,
    ended: Option<RunEnd>,
    /// What it did wrong.
    fault: Option<String>,
}

impl Supervisor {
    async fn start(
        shared: &Arc<Shared>,
        events: &mpsc::Sender<Event>,
        start: Start,
        namespace: String,
    ) -> Result<Self, StartError> {
        let (run, manifest) = (start.job.run, start.job.manifest);
        let own = Arc::clone(shared);
        let file = tokio::task::spawn_blocking(move || -> Result<String, StartError> {
            // A task of another user is let through when it begins.
            fs::create_dir(&own.paths.run(run), Access::Owner)?;
            Ok(bundles::workflow(&own.paths, manifest)?)
        });
        let beginning = beginning(shared, start, file.await??)?;
        let (socket, theirs) = std::os::unix::net::UnixStream::pair().map_err(StartError::Spawn)?;
        socket.set_nonblocking(true).map_err(StartError::Spawn)?;
        let (reading, writing) = UnixStream::from_std(socket).map_err(StartError::Spawn)?.into_split();
        let child = spawn(shared, run, theirs).map_err(StartError::Spawn)?;
        let exited = exit_of(&child).map_err(StartError::Spawn)?;
        let (messages, queue) = mpsc::channel(MESSAGES_MAX);
        tokio::spawn(write(writing, beginning, queue).in_current_span());
        tracing::debug!(pid = child.id(), "worker started");
        Ok(Self {
            shared: Arc::clone(shared),
            events: events.clone(),
            run,
            namespace,
            child,
            exited,
            reader: FrameReader::new(reading),
            questions: Arc::new(Semaphore::new(STATE_QUESTIONS_MAX)),
            messages,
            ending: Ending::No,
            deadline: Instant::now() + FAR,
            ended: None,
            fault: None,
        })
    }

    async fn watch(mut self, mut told: mpsc::Receiver<Told>, ending: &mut watch::Receiver<bool>) -> Event {
        let mut speaks = true;
        let exited = loop {
            tokio::select! {
                frame = next_frame(&mut self.reader, &self.questions), if speaks => speaks = self.hear(frame).await,
                exited = &mut self.exited => break exited,
                Some(what) = told.recv() => self.told(what).await,
                () = sleep_until(self.deadline) => self.next_step().await,
                () = wait_for(ending), if self.ending < Ending::Terminated => self.step(Ending::Terminated).await,
            }
        };
        if speaks {
            // What comes later comes from a process that it left behind.
            let _ = timeout(LAST_WORDS_TIMEOUT, self.last_words()).await;
        }
        self.bury(exited.unwrap_or_else(|error| Err(io::Error::other(error)))).await
    }

    async fn last_words(&mut self) {
        loop {
            let frame = next_frame(&mut self.reader, &self.questions).await;
            if !self.hear(frame).await {
                return;
            }
        }
    }

    /// Takes in what the worker says. False when it says nothing more.
    async fn hear(&mut self, frame: Result<Option<Frame>, FrameError>) -> bool {
        match frame {
            Ok(Some((message, permit))) => {
                self.take(message, permit).await;
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.fault = Some(Chain(&error).to_string());
                self.step(Ending::Killed).await;
                false
            }
        }
    }

    async fn take(&mut self, message: FromWorker, permit: OwnedSemaphorePermit) {
        let run = self.run;
        let event = match message {
            FromWorker::Starting { task, attempt, on_interrupt } => {
                Event::TaskStarting { run, task, attempt, on_interrupt }
            }
            FromWorker::Ended(end) => Event::TaskEnded { run, end },
            FromWorker::Log { task, stream, text } => Event::Logged { run, task, stream, text },
            FromWorker::RunEnded(end) => {
                self.ended = Some(end);
                self.deadline = Instant::now() + EXIT_PATIENCE;
                return;
            }
            FromWorker::State { id, operation } => return self.state(id, &operation, permit),
        };
        drop(permit);
        // Without the loop there is nobody to tell, and this worker is about to be ended.
        let _ = self.events.send(event).await;
    }

    /// Has the store do what a script asked.
    fn state(&self, id: u64, operation: &str, permit: OwnedSemaphorePermit) {
        let operation: Result<StateOperation, _> = serde_json::from_str(operation);
        let (shared, namespace) = (Arc::clone(&self.shared), self.namespace.clone());
        let answer = async move {
            match operation {
                Ok(operation) => {
                    let reply = shared.store.state(&namespace, operation, shared.clock.now()).await;
                    let reply = reply.map_err(|error| error.to_string());
                    reply.and_then(|reply| serde_json::to_string(&reply).map_err(|error| error.to_string()))
                }
                Err(error) => Err(format!("the worker's question cannot be read: {error}")),
            }
        };
        tokio::spawn(reply(self.messages.clone(), id, answer, permit));
    }

    async fn told(&mut self, what: Told) {
        match what {
            Told::Go(task) => self.say(ToWorker::Go { task }).await,
            Told::Noted(task) => self.say(ToWorker::Noted { task }).await,
            Told::Stop => self.step(Ending::Asked).await,
        }
    }

    async fn say(&mut self, message: ToWorker) {
        if self.messages.try_send(message).is_err() && self.fault.is_none() {
            self.fault = Some("it does not listen".to_owned());
            Box::pin(self.step(Ending::Killed)).await;
        }
    }

    async fn next_step(&mut self) {
        match self.ending {
            Ending::No if self.ended.is_some() => {
                self.fault = Some("it did not exit when its run had ended".to_owned());
                self.step(Ending::Killed).await;
            }
            Ending::No => self.deadline = Instant::now() + FAR,
            Ending::Asked => self.step(Ending::Terminated).await,
            Ending::Terminated | Ending::Killed => self.step(Ending::Killed).await,
        }
    }

    /// Goes as far as `to`, and never back.
    async fn step(&mut self, to: Ending) {
        if to < self.ending {
            return;
        }
        self.ending = to;
        match to {
            Ending::No => {}
            Ending::Asked => {
                self.deadline = Instant::now() + CANCEL_PATIENCE;
                self.say(ToWorker::Cancel).await;
            }
            Ending::Terminated => {
                self.deadline = Instant::now() + TERM_PATIENCE;
                self.signal(Signal::TERM).await;
            }
            Ending::Killed => {
                self.deadline = Instant::now() + TERM_PATIENCE;
                self.signal(Signal::KILL).await;
            }
        }
    }

    async fn signal(&self, signal: Signal) {
        let whose = self.whose();
        let signalled = tokio::task::spawn_blocking(move || leftovers::signal(&whose, signal)).await;
        tracing::debug!(?signal, processes = signalled.unwrap_or(0), "signalled the worker and what it started");
    }

    /// The worker's process, which was not waited for yet, and all that it started.
    fn whose(&self) -> Whose {
        Whose::run(self.run, Some(self.child.id()))
    }

    /// The worker has ended: sees that nothing of it is left where it did not see to that itself, and tells its end.
    async fn bury(mut self, exited: io::Result<ExitStatus>) -> Event {
        let clean = exited.as_ref().is_ok_and(ExitStatus::success) && self.ending < Ending::Terminated;
        if let Some(end) = self.ended.take_if(|_| clean) {
            self.child.wait().ok();
            return Event::RunEnded { run: self.run, end };
        }
        let is_stuck = exited.as_ref().is_ok_and(|status| status.code() == Some(worker::EXIT_STUCK));
        let how = match exited {
            Ok(status) => describe(status),
            Err(error) => format!("how it ended is unknown: {error}"),
        };
        let whose = self.whose();
        let gone = tokio::task::spawn_blocking(move || leftovers::kill(&whose)).await;
        if !gone.unwrap_or(false) {
            tracing::error!("what a worker left behind cannot be ended: a task may run twice");
        }
        self.child.wait().ok();
        match self.ended {
            // It told its run's end, and failed only at its own.
            Some(end) => Event::RunEnded { run: self.run, end },
            // A socket that breaks is what its end looks like first; that it was stuck says more.
            None if is_stuck => Event::WorkerDied { run: self.run, how },
            None => Event::WorkerDied { run: self.run, how: self.fault.unwrap_or(how) },
        }
    }
}

/// What a worker said, and the permit to answer it.
type Frame = (FromWorker, OwnedSemaphorePermit);

/// The next frame, once there is a permit for it; none when the worker says nothing more. Waiting can be given up at
/// any time without losing the place.
async fn next_frame<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    questions: &Arc<Semaphore>,
) -> Result<Option<Frame>, FrameError> {
    let permit = Arc::clone(questions).acquire_owned().await.map_err(io::Error::other)?;
    Ok(reader.next().await?.map(|message| (message, permit)))
}

/// Sends the answer to a question, and gives the permit back when it is on its way.
async fn reply(
    messages: mpsc::Sender<ToWorker>,
    id: u64,
    answer: impl Future<Output = Result<String, String>>,
    permit: OwnedSemaphorePermit,
) {
    let reply = answer.await;
    // A worker that is gone waits for no answer.
    let _ = messages.send(ToWorker::StateReply { id, reply }).await;
    drop(permit);
}

async fn wait_for(ending: &mut watch::Receiver<bool>) {
    // Without those who could say so, it is the end as well.
    let _ = ending.wait_for(|ending| *ending).await.map(drop);
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(worker::EXIT_STUCK), _) => "a call that nothing interrupts outlived its task's timeout".to_owned(),
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended for an unknown reason".to_owned(),
    }
}

fn spawn(shared: &Shared, run: RunId, socket: std::os::unix::net::UnixStream) -> io::Result<Child> {
    let mut command = Command::new(&shared.program);
    // Nothing between fork and exec: that keeps starting a process cheap, however large the daemon is.
    command.arg("worker").env_clear().envs(worker::environment(run));
    command.stdin(OwnedFd::from(socket)).stdout(Stdio::null()).current_dir("/").spawn()
}

/// Waits on a thread of its own until the child has ended, and leaves it there.
fn exit_of(child: &Child) -> io::Result<oneshot::Receiver<io::Result<ExitStatus>>> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let (done, exited) = oneshot::channel();
    std::thread::Builder::new().name("wait".to_owned()).spawn(move || {
        // Who asked may have gone.
        let _ = done.send(wait_without_reaping(pid));
    })?;
    Ok(exited)
}

fn wait_without_reaping(pid: Pid) -> io::Result<ExitStatus> {
    let status = loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(Some(status)) => break status,
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    // As wait(2) encodes it: a code in the second byte, a signal in the first.
    let raw = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, signal) => signal.unwrap_or(0),
    };
    Ok(ExitStatus::from_raw(raw))
}

/// What a worker is told before its run.
fn beginning(shared: &Shared, start: Start, file: String) -> Result<Vec<ToWorker>, StartError> {
    let Start { job, ended, attempts } = start;
    let text = |path: std::path::PathBuf| path.into_os_string().into_string().map_err(|_| StartError::Path);
    let dir = std::path::absolute(shared.paths.dir()).map_err(StartError::Spawn)?;
    let paths = Paths::new(dir);
    let begin = Begin {
        run: job.run,
        bundle_dir: text(paths.bundle(job.manifest))?,
        file,
        workflow: job.workflow,
        values: job.values,
        capabilities: job.capabilities,
        workdir: text(paths.run(job.run))?,
        agent: shared.enrolment.name.clone(),
        labels: labels(shared),
        log_bytes_per_task: shared.settings.log_bytes_per_task,
    };
    let mut messages = vec![ToWorker::Begin(Box::new(begin))];
    messages.extend(ended.into_iter().map(|end| ToWorker::Resume(Resume::Ended(end))));
    let begun = attempts.into_iter().map(|(task, attempts)| ToWorker::Resume(Resume::Begun { task, attempts }));
    messages.extend(begun);
    messages.push(ToWorker::Run);
    Ok(messages)
}

/// All labels, the host's own word above its join token's.
fn labels(shared: &Shared) -> Labels {
    let mut labels = shared.enrolment.labels.clone();
    labels.extend(shared.enrolment.host_labels.clone());
    labels.extend(shared.settings.labels.clone());
    labels
}

/// Writes to the worker until it is gone. Its end is told by its process.
async fn write(mut socket: OwnedWriteHalf, beginning: Vec<ToWorker>, mut queue: mpsc::Receiver<ToWorker>) {
    for message in beginning {
        if !write_one(&mut socket, message).await {
            return;
        }
    }
    while let Some(message) = queue.recv().await {
        if !write_one(&mut socket, message).await {
            return;
        }
    }
}

async fn write_one(socket: &mut OwnedWriteHalf, message: ToWorker) -> bool {
    let frame = frames::encode(&message).or_else(|error| match message {
        ToWorker::StateReply { id, .. } => {
            frames::encode(&ToWorker::StateReply { id, reply: Err(Chain(&error).to_string()) })
        }
        ToWorker::Begin(_)
        | ToWorker::Resume(_)
        | ToWorker::Run
        | ToWorker::Go { .. }
        | ToWorker::Noted { .. }
        | ToWorker::Cancel => Err(error),
    });
    match frame {
        Ok(frame) => socket.write_all(&frame).await.is_ok(),
        Err(error) => {
            tracing::error!(error = %Chain(&error), "cannot tell the worker");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// What a worker writes that asks so many questions, numbered from zero.
    fn questions(count: usize) -> Vec<u8> {
        let ids = 0..u64::try_from(count).expect("fits");
        ids.flat_map(|id| frames::encode(&FromWorker::State { id, operation: "{}".into() }).expect("encoded")).collect()
    }

    #[tokio::test]
    async fn no_more_is_read_than_is_answered() {
        let bytes = questions(STATE_QUESTIONS_MAX + 1);
        let (mut reader, limit) = (FrameReader::new(bytes.as_slice()), Arc::new(Semaphore::new(STATE_QUESTIONS_MAX)));
        let mut permits = Vec::new();
        for _ in 0..STATE_QUESTIONS_MAX {
            permits.push(next_frame(&mut reader, &limit).await.expect("read").expect("a frame").1);
        }
        // Giving up the wait, as whoever has another thing to do does, loses nothing.
        for _ in 0..2 {
            assert!(poll(pin!(next_frame(&mut reader, &limit))).is_pending());
        }
        permits.pop();
        let (message, permit) = next_frame(&mut reader, &limit).await.expect("read").expect("a frame");
        assert!(matches!(message, FromWorker::State { id: 16, .. }), "{message:?}");
        drop(permit);
        assert!(next_frame(&mut reader, &limit).await.expect("read").is_none());
        assert_eq!(limit.available_permits(), 1);
    }

    #[test]
    fn a_question_counts_until_its_answer_is_on_its_way() {
        let limit = Arc::new(Semaphore::new(1));
        let permit = || Arc::clone(&limit).try_acquire_owned().expect("a permit");
        let (messages, mut queue) = mpsc::channel(1);
        messages.try_send(ToWorker::Run).expect("room");
        let mut replying = pin!(reply(messages.clone(), 7, async { Ok("1".to_owned()) }, permit()));
        assert!(poll(replying.as_mut()).is_pending());
        assert_eq!(limit.available_permits(), 0);
        assert_eq!(queue.try_recv(), Ok(ToWorker::Run));
        assert!(poll(replying.as_mut()).is_ready());
        assert_eq!(limit.available_permits(), 1);
        assert_eq!(queue.try_recv(), Ok(ToWorker::StateReply { id: 7, reply: Ok("1".to_owned()) }));
        drop(queue);
        assert!(poll(pin!(reply(messages, 8, async { Ok("2".to_owned()) }, permit()))).is_ready());
        assert_eq!(limit.available_permits(), 1);
    }
}
