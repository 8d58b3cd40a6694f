//! The world of a run without a daemon: the terminal, and a state that other runs have as well.

use std::rc::Rc;

use sloth_core::{Clock, Millis};
use sloth_workflow::{
    Attempt, Host, LocalFuture, LogLine, Plan, StateError, StateOperation, StateReply, Stop, TaskEnd,
};

use super::{local_state::LocalState, print::Teller};
use crate::{paths::Paths, stuck::Ledger, worker::random};

pub(super) struct LocalHost {
    clock: Clock,
    teller: Rc<Teller>,
    state: LocalState,
    ledger: Ledger,
}

impl LocalHost {
    pub(super) fn new(clock: Clock, teller: Rc<Teller>, paths: Paths, ledger: Ledger) -> Self {
        Self { clock, teller, state: LocalState::new(paths), ledger }
    }

    /// Closes the state store, if it is open.
    pub(super) async fn close(&self) {
        self.state.close().await;
    }
}

impl Host for LocalHost {
    fn now(&self) -> Millis {
        self.clock.now()
    }

    fn random(&self) -> u128 {
        random()
    }

    fn log(&self, line: LogLine) {
        self.teller.logged(self.now(), &line);
    }

    fn planned(&self, plans: &[Plan]) {
        self.ledger.planned(plans);
        self.teller.planned(plans);
    }

    fn starting<'a>(&'a self, attempt: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>> {
        self.ledger.begins(attempt, self.now());
        self.teller.started(self.now(), attempt);
        Box::pin(async { Ok(()) })
    }

    fn finished<'a>(&'a self, end: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>> {
        self.ledger.ends(end);
        self.teller.ended(end);
        Box::pin(async { Ok(()) })
    }

    fn state<'a>(&'a self, operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>> {
        Box::pin(async move { self.state.ask(operation, &self.clock).await })
    }
}
