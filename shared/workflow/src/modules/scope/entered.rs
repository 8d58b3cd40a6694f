//! The polling of a scope.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{CoroutineId, CurrentTask, Idle, Scope};

/// How many turns a scope gives before others have one.
const TURNS_MAX: usize = 128;
/// How long it gives turns: as long as one that does not wait is given.
const TURNS_MS: u64 = 5;

/// A future that names its scope while it is polled, and polls the scope's goroutines.
pub struct Entered<F> {
    current: Rc<CurrentTask>,
    scope: Rc<Scope>,
    id: CoroutineId,
    future: Pin<Box<F>>,
    idle: Option<Idle>,
}

impl<F> Entered<F> {
    pub(super) fn new(current: &Rc<CurrentTask>, scope: Rc<Scope>, id: CoroutineId, future: F) -> Self {
        let idle = Some(current.idle());
        Self { current: Rc::clone(current), scope, id, future: Box::pin(future), idle }
    }
}

impl<F> Drop for Entered<F> {
    fn drop(&mut self) {
        // Who entered goes on, and may wake others: that must be known before this one is gone.
        drop(self.idle.take());
        self.current.forget(self.id);
    }
}

impl<F: Future> Future for Entered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let polling = this.scope.queue.begin(cx.waker());
        let ends = Instant::now() + Duration::from_millis(TURNS_MS);
        for _ in 0..TURNS_MAX {
            let Some(id) = polling.next() else { return Poll::Pending };
            let Some(waker) = this.current.turn(id) else { continue };
            let mut cx = Context::from_waker(&waker);
            let before = this.current.turn.replace(Some(id));
            let ended = if id == this.id {
                let future = this.future.as_mut();
                this.current.with(&this.scope, || future.poll(&mut cx))
            } else {
                go_on(&this.current, &this.scope, id, &mut cx);
                Poll::Pending
            };
            this.current.turn.set(before);
            if ended.is_ready() {
                return ended;
            }
            if ends <= Instant::now() {
                break;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Gives a goroutine its turn.
fn go_on(current: &CurrentTask, scope: &Rc<Scope>, id: CoroutineId, cx: &mut Context<'_>) {
    // It may spawn and kill others meanwhile.
    let Some(mut goroutine) = scope.goroutines.borrow_mut().remove(&id) else { return };
    let ended = current.with(scope, || goroutine.future.as_mut().poll(cx));
    if ended.is_pending() && !scope.stopped.get() {
        scope.goroutines.borrow_mut().insert(id, goroutine);
    }
}
