//! Whose turn is next.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use super::CoroutineId;

/// The coroutines of a scope that are ready, in the order in which they became so.
#[derive(Default)]
pub(super) struct Queue(Mutex<Ready>);

#[derive(Default)]
struct Ready {
    ids: VecDeque<CoroutineId>,
    /// Who polls the scope.
    poller: Option<Waker>,
    /// It looks again before it goes to sleep, and need not be woken.
    is_polling: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to give turns, in the name of `poller`, which is woken later when there are more.
    pub(super) fn begin(self: &Arc<Self>, poller: &Waker) -> Polling {
        let mut ready = self.lock();
        ready.is_polling = true;
        if !ready.poller.as_ref().is_some_and(|known| known.will_wake(poller)) {
            ready.poller = Some(poller.clone());
        }
        drop(ready);
        Polling(Arc::clone(self))
    }
}

/// While it lives, the scope's queue is being emptied.
pub(super) struct Polling(Arc<Queue>);

impl Polling {
    pub(super) fn next(&self) -> Option<CoroutineId> {
        let mut ready = self.0.lock();
        let id = ready.ids.pop_front();
        ready.is_polling = id.is_some();
        id
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.0.lock().is_polling = false;
    }
}

/// Puts a coroutine into the queue of its scope.
pub(super) struct Turn {
    id: CoroutineId,
    is_queued: AtomicBool,
    queue: Arc<Queue>,
}

impl Turn {
    pub(super) fn new(id: CoroutineId, queue: &Arc<Queue>) -> Self {
        Self { id, is_queued: AtomicBool::new(false), queue: Arc::clone(queue) }
    }

    /// It is in the queue no more; who wakes it from now on puts it there again.
    pub(super) fn begin(&self) {
        self.is_queued.store(false, Ordering::Release);
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut ready = self.queue.lock();
        ready.ids.push_back(self.id);
        let poller = if ready.is_polling { None } else { ready.poller.clone() };
        drop(ready);
        if let Some(poller) = poller {
            poller.wake();
        }
    }
}
