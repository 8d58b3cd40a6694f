//! The world of a run in a worker: everything is asked of the daemon.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use sloth_core::{Clock, Millis};
use sloth_protocol::wire;
use sloth_workflow::{
    Attempt, Canceller, Host, Level, LocalFuture, LogLine, StateError, StateOperation, StateReply, Stop, Stream,
    TaskEnd,
};
use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

use super::{
    logs::{Lines, Quota},
    protocol::{FromWorker, ToWorker},
    socket::Outbox,
};
use crate::{convert, stuck::Ledger};

/// The daemon, as a run sees it.
pub(super) struct DaemonHost {
    clock: Clock,
    ledger: Ledger,
    outbox: Outbox,
    quota: RefCell<Quota>,
    /// Who waits for [`ToWorker::Go`].
    starting: RefCell<BTreeMap<wire::TaskName, oneshot::Sender<()>>>,
    /// Who waits for [`ToWorker::Noted`].
    ended: RefCell<BTreeMap<wire::TaskName, oneshot::Sender<()>>>,
    /// Who waits for [`ToWorker::StateReply`].
    asking: RefCell<BTreeMap<u64, oneshot::Sender<Result<String, String>>>>,
    questions: Cell<u64>,
}

impl DaemonHost {
    /// Speaks to the daemon through `outbox`; each task may print `log_bytes_per_task`. What tasks begin and end is noted
    /// in `ledger`.
    #[must_use]
    pub(super) fn new(outbox: Outbox, log_bytes_per_task: u64, ledger: Ledger) -> Self {
        Self {
            clock: Clock::new(),
            ledger,
            outbox,
            quota: RefCell::new(Quota::new(log_bytes_per_task)),
            starting: RefCell::default(),
            ended: RefCell::default(),
            asking: RefCell::default(),
            questions: Cell::new(0),
        }
    }

    /// Hands what the daemon says to whoever waits for it. Never resolves: the process ends with the daemon.
    pub(super) async fn hear(self: Rc<Self>, mut messages: UnboundedReceiver<ToWorker>, canceller: Canceller) {
        while let Some(message) = messages.recv().await {
            match message {
                ToWorker::Go { task } => wake(self.starting.borrow_mut().remove(&task), ()),
                ToWorker::Noted { task } => wake(self.ended.borrow_mut().remove(&task), ()),
                ToWorker::StateReply { id, reply } => wake(self.asking.borrow_mut().remove(&id), reply),
                ToWorker::Cancel => canceller.cancel(),
                // These come before the run; a daemon that repeats them is not understood and not believed.
                ToWorker::Begin(_) | ToWorker::Resume(_) | ToWorker::Run => {
                    tracing::error!("the daemon repeated the beginning");
                    canceller.cancel();
                }
            }
        }
    }

    /// Tells the run's end, and waits until the daemon has been told everything.
    pub(super) fn close(&self, end: wire::RunEnd) {
        self.close_log(None);
        self.outbox.close(FromWorker::RunEnded(end));
    }

    fn close_log(&self, task: Option<&wire::TaskName>) {
        if let Some(text) = self.quota.borrow_mut().close(task) {
            self.outbox.line(Lines { task: task.cloned(), stream: wire::LogStream::Warn, text });
        }
    }

    async fn ask(&self, operation: &StateOperation) -> Result<StateReply, StateError> {
        let failed = |message: String| StateError { message };
        let operation =
            serde_json::to_string(operation).map_err(|error| failed(format!("this cannot be stored: {error}")))?;
        let id = self.questions.get();
        self.questions.set(id + 1);
        let (done, reply) = oneshot::channel();
        self.asking.borrow_mut().insert(id, done);
        self.outbox.message(FromWorker::State { id, operation });
        let reply = reply.await.unwrap_or_else(|_| Err("the daemon gave no answer".to_owned())).map_err(failed)?;
        serde_json::from_str(&reply).map_err(|error| failed(format!("the daemon's answer cannot be read: {error}")))
    }
}

impl Host for DaemonHost {
    fn now(&self) -> Millis {
        self.clock.now()
    }

    fn random(&self) -> u128 {
        random()
    }

    fn log(&self, line: LogLine) {
        let task = line.task.as_ref().map(convert::name_to_wire);
        let room = self.outbox.has_room(line.text.len());
        if self.quota.borrow_mut().admit(task.as_ref(), line.text.len(), room) {
            self.outbox.line(Lines { task, stream: convert::stream_to_wire(line.stream), text: line.text });
        }
    }

    fn starting<'a>(&'a self, attempt: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(async move {
            self.ledger.begins(attempt, self.now());
            let task = convert::name_to_wire(&attempt.task);
            let (done, go) = oneshot::channel();
            self.starting.borrow_mut().insert(task.clone(), done);
            let on_interrupt = convert::on_interrupt_to_wire(attempt.on_interrupt);
            self.outbox.message(FromWorker::Starting { task, attempt: attempt.number, on_interrupt });
            go.await.map_err(|_| gone())
        })
    }

    fn finished<'a>(&'a self, end: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(async move {
            self.ledger.ends(end);
            let task = convert::name_to_wire(&end.task);
            self.close_log(Some(&task));
            let (done, noted) = oneshot::channel();
            self.ended.borrow_mut().insert(task, done);
            self.outbox.message(FromWorker::Ended(convert::end_to_wire(end)));
            noted.await.map_err(|_| gone())
        })
    }

    fn state<'a>(&'a self, operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>> {
        Box::pin(async move { self.ask(&operation).await })
    }
}

/// Sixteen random bytes of the system; of the clock and the process where the system has none.
pub(crate) fn random() -> u128 {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        return u128::from(Clock::new().now().as_u64()) << 64 | u128::from(std::process::id());
    }
    u128::from_ne_bytes(bytes)
}

/// A line of the run's own log for what concerns no task.
pub(crate) fn own_line(text: String) -> LogLine {
    LogLine { task: None, stream: Stream::Log(Level::Error), text }
}

fn wake<T>(waiting: Option<oneshot::Sender<T>>, value: T) {
    if let Some(waiting) = waiting {
        // Who gave up waiting needs no answer.
        let _ = waiting.send(value);
    }
}

fn gone() -> Stop {
    Stop { reason: "the daemon gave no answer".to_owned() }
}
