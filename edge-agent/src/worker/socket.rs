//! The worker's two threads at the socket: neither waits for Lua, and Lua waits for neither.

use std::{
    cell::RefCell,
    io::Write,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use sloth_core::{Chain, RunId};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    frames::{self, FrameError},
    logs::{Batches, Lines},
    protocol::{FromWorker, ToWorker},
};
use crate::leftovers::{self, Whose};

/// Most bytes of output that wait for the daemon. What comes on top is left out, and counted.
pub(super) const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What every line counts on top of its text: even empty ones must not wait without bound.
const LINE_END_BYTES: usize = 1;
/// How long a daemon is given to take the last message of a worker that is stuck.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);
/// How the worker ends when its daemon is gone.
const EXIT_ORPHANED: i32 = 3;

/// What is sent to the daemon, in order.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Item>,
    waiting: Arc<AtomicUsize>,
    thread: RefCell<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Item {
    Lines(Lines),
    /// No more of them wait than tasks and scripts that wait for an answer.
    Message(FromWorker),
    /// Nothing comes after it. The sender, if any, is dropped when it was sent.
    Last(FromWorker, Option<mpsc::Sender<()>>),
}

impl Outbox {
    /// Starts the thread that writes to `socket`.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub(super) fn start(socket: UnixStream) -> std::io::Result<Self> {
        let (queue, items) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&waiting);
        let thread = thread::Builder::new().name("outbox".to_owned()).spawn(move || write(&items, socket, &counted))?;
        Ok(Self { queue, waiting, thread: RefCell::new(Some(thread)) })
    }

    /// Whether there is room for a line of `bytes`.
    #[must_use]
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.waiting.load(Ordering::Relaxed).saturating_add(bytes).saturating_add(LINE_END_BYTES) <= QUEUE_BYTES_MAX
    }

    /// Sends a line together with others, soon.
    pub(super) fn line(&self, lines: Lines) {
        self.waiting.fetch_add(lines.text.len() + LINE_END_BYTES, Ordering::Relaxed);
        // Without the thread there is no daemon either, and the worker is about to end.
        let _ = self.queue.send(Item::Lines(lines));
    }

    /// Sends a message after every line before it.
    pub(super) fn message(&self, message: FromWorker) {
        let _ = self.queue.send(Item::Message(message));
    }

    /// For whoever ends this worker from another thread.
    #[must_use]
    pub(super) fn last_words(&self) -> LastWords {
        LastWords(self.queue.clone())
    }

    /// Sends the last message, and waits until all is sent.
    pub(super) fn close(&self, message: FromWorker) {
        let _ = self.queue.send(Item::Last(message, None));
        if let Some(thread) = self.thread.borrow_mut().take() {
            let _ = thread.join();
        }
    }
}

/// The last message of a worker whose thread for Lua is stuck.
#[derive(Debug)]
pub(super) struct LastWords(mpsc::Sender<Item>);

impl LastWords {
    /// Sends it, and waits until it was sent, or the daemon does not listen.
    pub(super) fn say(self, message: FromWorker) {
        let (sent, told) = mpsc::channel();
        let _ = self.0.send(Item::Last(message, Some(sent)));
        let _ = told.recv_timeout(LAST_WORDS_TIMEOUT);
    }
}

/// Starts the thread that reads from `socket`. When the daemon goes away, it ends all that the run has started, and
/// this process.
///
/// # Errors
///
/// When the system gives no thread.
pub(super) fn listen(mut socket: UnixStream, run: RunId, messages: UnboundedSender<ToWorker>) -> std::io::Result<()> {
    let listener = thread::Builder::new().name("inbox".to_owned());
    let spawned = listener.spawn(move || {
        loop {
            match frames::read::<ToWorker>(&mut socket) {
                // Nobody listens once the run has ended.
                Ok(Some(message)) => drop(messages.send(message)),
                Ok(None) | Err(FrameError::Io(_)) => break,
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "the daemon cannot be understood");
                    break;
                }
            }
        }
        let _ = leftovers::kill(&Whose::run(run, Some(std::process::id())));
        std::process::exit(EXIT_ORPHANED);
    });
    spawned.map(drop)
}

fn write(items: &mpsc::Receiver<Item>, mut socket: UnixStream, waiting: &AtomicUsize) {
    let mut batches = Batches::default();
    // Dropped, and with that told, at the end.
    let mut told = None;
    loop {
        let item = match batches.due() {
            Some(due) => items.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => items.recv().map_err(RecvTimeoutError::from),
        };
        let (message, last) = match item {
            Ok(Item::Lines(lines)) => {
                batches.push(lines, Instant::now());
                if !batches.is_full() {
                    continue;
                }
                (None, false)
            }
            Ok(Item::Message(message)) => (Some(message), false),
            Ok(Item::Last(message, sent)) => {
                told = sent;
                (Some(message), true)
            }
            Err(RecvTimeoutError::Timeout) => (None, false),
            Err(RecvTimeoutError::Disconnected) => (None, true),
        };
        let lines = batches.take().into_iter().map(|lines| {
            let sent = lines.text.len() + LINE_END_BYTES;
            waiting.fetch_sub(sent.min(waiting.load(Ordering::Relaxed)), Ordering::Relaxed);
            FromWorker::Log { task: lines.task, stream: lines.stream, text: lines.text }
        });
        for message in lines.chain(message) {
            match frames::encode(&message).and_then(|frame| Ok(socket.write_all(&frame)?)) {
                Ok(()) => {}
                // The daemon is gone; who listens to it knows, and ends this process.
                Err(FrameError::Io(_)) => return,
                Err(error) => return tracing::error!(error = %Chain(&error), "cannot tell the daemon"),
            }
        }
        if last {
            return drop(told);
        }
    }
}

#[cfg(test)]
mod tests {
    use sloth_protocol::wire::LogStream;

    use super::*;

    #[test]
    fn empty_lines_take_room_until_they_are_sent() {
        let (queue, items) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let outbox = Outbox { queue, waiting: Arc::clone(&waiting), thread: RefCell::default() };
        for (text, stream, expected) in [
            ("", LogStream::Info, 1),
            ("", LogStream::Info, 2),
            ("ab", LogStream::Info, 5),
            ("", LogStream::Stdout, 6),
            ("a\nb", LogStream::Stdout, 10),
        ] {
            outbox.line(Lines { task: None, stream, text: text.to_owned() });
            assert_eq!(waiting.load(Ordering::Relaxed), expected, "{text:?}");
        }
        for (used, bytes, expected) in [
            (0, QUEUE_BYTES_MAX - 1, true),
            (0, QUEUE_BYTES_MAX, false),
            (0, usize::MAX, false),
            (QUEUE_BYTES_MAX - 1, 0, true),
            (QUEUE_BYTES_MAX, 0, false),
        ] {
            waiting.store(used, Ordering::Relaxed);
            assert_eq!(outbox.has_room(bytes), expected, "{used} {bytes}");
        }
        waiting.store(10, Ordering::Relaxed);
        drop(outbox);
        let (socket, _theirs) = UnixStream::pair().expect("a pair");
        write(&items, socket, &waiting);
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }
}
