//! Takes the machine from a script that computes without waiting, and stops one whose time is over.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use mlua::{Lua, VmState};

use crate::{cancel::CancelSignal, modules::CurrentTask};

/// How many interrupts (calls and backward jumps) pass between two looks at the clock.
const INTERRUPTS_PER_LOOK: u32 = 64;
/// How long a script computes before others have a turn.
const SLICE_MS: u64 = 5;

/// What is known between two interrupts.
pub(super) struct Interrupt {
    current: Rc<CurrentTask>,
    cancel: CancelSignal,
    /// Interrupts until the next look at the clock.
    left: Cell<u32>,
    turn_ends: Cell<Instant>,
    preempted: Cell<bool>,
}

/// Arms the machine.
pub(super) fn install(lua: &Lua, current: Rc<CurrentTask>, cancel: CancelSignal) -> Rc<Interrupt> {
    let interrupt = Rc::new(Interrupt {
        current,
        cancel,
        left: Cell::new(INTERRUPTS_PER_LOOK),
        turn_ends: Cell::new(Instant::now()),
        preempted: Cell::new(false),
    });
    let armed = Rc::clone(&interrupt);
    lua.set_interrupt(move |_| match armed.left.get().checked_sub(1) {
        Some(left) if 0 < left => {
            armed.left.set(left);
            Ok(VmState::Continue)
        }
        Some(_) | None => armed.look(),
    });
    interrupt
}

impl Interrupt {
    /// Whether the last coroutine that yielded did so for its turn's end, not by its own will.
    pub(super) fn take_preempted(&self) -> bool {
        self.preempted.take()
    }

    fn look(&self) -> mlua::Result<VmState> {
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
        self.turn_ends.set(now + Duration::from_millis(SLICE_MS));
        self.preempted.set(true);
        Ok(VmState::Yield)
    }
}
