//! A host that lives in memory: for tests.

use std::cell::{Cell, RefCell};

use sloth_core::{Clock, Digest, Millis};

use super::{Attempt, Host, LocalFuture, LogLine, MemoryState, StateError, StateOperation, StateReply, Stop, TaskEnd};

/// Keeps what is printed and the state, and is told of no task. Its random numbers follow one another.
#[derive(Debug)]
pub struct MemoryHost {
    /// What was printed, in order.
    pub lines: RefCell<Vec<LogLine>>,
    /// What scripts keep.
    pub state: RefCell<MemoryState>,
    clock: MemoryClock,
    random: Cell<u64>,
}

#[derive(Debug)]
enum MemoryClock {
    Running(Clock),
    Standing(Millis),
}

impl MemoryHost {
    /// A host with the time of the system.
    #[must_use]
    pub fn new() -> Self {
        Self::with(MemoryClock::Running(Clock::new()))
    }

    /// A host for which it is always `now`.
    #[must_use]
    pub fn standing_at(now: Millis) -> Self {
        Self::with(MemoryClock::Standing(now))
    }

    fn with(clock: MemoryClock) -> Self {
        Self { lines: RefCell::default(), state: RefCell::default(), clock, random: Cell::default() }
    }

    /// The texts that were printed.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.lines.borrow().iter().map(|line| line.text.clone()).collect()
    }
}

impl Default for MemoryHost {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for MemoryHost {
    fn now(&self) -> Millis {
        match &self.clock {
            MemoryClock::Running(clock) => clock.now(),
            MemoryClock::Standing(now) => *now,
        }
    }

    fn random(&self) -> u128 {
        self.random.set(self.random.get() + 1);
        // Bytes that differ, and no two alike.
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Digest::of(&self.random.get().to_le_bytes()).as_bytes()[..16]);
        u128::from_le_bytes(bytes)
    }

    fn log(&self, line: LogLine) {
        self.lines.borrow_mut().push(line);
    }

    fn starting<'a>(&'a self, _attempt: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(async { Ok(()) })
    }

    fn finished<'a>(&'a self, _end: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(async { Ok(()) })
    }

    fn state<'a>(&'a self, operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>> {
        let reply = self.state.borrow_mut().apply(operation, self.now());
        Box::pin(async { reply })
    }
}
