//! Takes the machine from a script that computes without waiting, and stops one whose time is over.

use std::{
    cell::Cell,
    ffi::c_void,
    rc::Rc,
    time::{Duration, Instant},
};

use mlua::{Lua, Thread, VmState};

use crate::{cancel::CancelSignal, modules::CurrentTask};

/// How many interrupts (calls and backward jumps) pass between two looks at the clock.
const INTERRUPTS_PER_LOOK: u32 = 64;
/// How long a script computes before others have a turn.
const SLICE_MS: u64 = 5;

/// Names of code that hands a wait on from the one that waits to the executor. Between the two a yield of our own
/// would swallow the wake-up that the wait ends with.
const HANDING_ON: [&str; 2] = ["__mlua", "[sloth]"];

/// What is known between two interrupts.
pub(super) struct Interrupt {
    current: Rc<CurrentTask>,
    cancel: CancelSignal,
    /// Interrupts until the next look at the clock.
    left: Cell<u32>,
    turn_ends: Cell<Instant>,
    /// The coroutine whose turn ended, until it goes on.
    preempted: Cell<Option<*const c_void>>,
}

/// Arms the machine.
pub(super) fn install(lua: &Lua, current: Rc<CurrentTask>, cancel: CancelSignal) -> Rc<Interrupt> {
    let interrupt = Rc::new(Interrupt {
        current,
        cancel,
        left: Cell::new(INTERRUPTS_PER_LOOK),
        turn_ends: Cell::new(Instant::now()),
        preempted: Cell::new(None),
    });
    let armed = Rc::clone(&interrupt);
    lua.set_interrupt(move |lua| {
        if let Some(thread) = armed.preempted.get()
            && lua.current_thread().to_pointer() == thread
        {
            armed.preempted.set(None);
        }
        match armed.left.get().checked_sub(1) {
            Some(left) if 0 < left => {
                armed.left.set(left);
                Ok(VmState::Continue)
            }
            Some(_) | None => armed.look(lua),
        }
    });
    interrupt
}

impl Interrupt {
    /// Whether `thread` yielded because its turn ended, not by its own will.
    pub(super) fn was_preempted(&self, thread: &Thread) -> bool {
        self.preempted.get() == Some(thread.to_pointer())
    }

    fn look(&self, lua: &Lua) -> mlua::Result<VmState> {
        if self.current.is_over() || self.cancel.is_cancelled() {
            // The script may catch the error: it is raised again at the very next interrupt.
            self.left.set(1);
            return Err(mlua::Error::runtime("stopped: its time is over"));
        }
        self.left.set(INTERRUPTS_PER_LOOK);
        let now = Instant::now();
        if now < self.turn_ends.get() {
            return Ok(VmState::Continue);
        }
        if is_handing_on(lua) {
            self.left.set(1);
            return Ok(VmState::Continue);
        }
        self.turn_ends.set(now + Duration::from_millis(SLICE_MS));
        self.preempted.set(Some(lua.current_thread().to_pointer()));
        Ok(VmState::Yield)
    }
}

fn is_handing_on(lua: &Lua) -> bool {
    let own = |name: &str| HANDING_ON.iter().any(|own| name.starts_with(own));
    lua.inspect_stack(0, |frame| frame.source().short_src.is_some_and(|name| own(&name))).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    /// The wake-up of a wait may come right after its first poll. The next poll of the script must then reach the
    /// wait, though the script's turn was over at that very moment.
    #[test]
    fn a_turn_does_not_end_between_a_wait_and_its_executor() {
        for call in ["wait()", "pcall(wait)"] {
            let lua = Lua::new();
            let interrupt = install(&lua, Rc::default(), CancelSignal::never());
            let polls = Rc::new(Cell::new(0));
            let (counted, armed) = (Rc::clone(&polls), Rc::clone(&interrupt));
            let wait = lua.create_async_function(move |_, ()| {
                let (counted, armed) = (Rc::clone(&counted), Rc::clone(&armed));
                std::future::poll_fn(move |_| {
                    counted.set(counted.get() + 1);
                    armed.left.set(1);
                    armed.turn_ends.set(Instant::now());
                    if counted.get() == 1 { Poll::Pending } else { Poll::Ready(Ok(())) }
                })
            });
            lua.globals().set("wait", wait.expect("a function")).expect("a global");
            let script: mlua::Function = lua.load(format!("{call} return 1")).into_function().expect(call);
            let mut running = pin!(script.call_async::<u8>(()));
            let mut context = Context::from_waker(Waker::noop());
            assert!(running.as_mut().poll(&mut context).is_pending(), "{call}");
            let _ = running.as_mut().poll(&mut context);
            assert_eq!(polls.get(), 2, "{call}");
        }
    }
}
