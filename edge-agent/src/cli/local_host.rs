//! The world of a run without a daemon: the terminal, and a state store that is opened when it is first asked.

use std::{cell::RefCell, rc::Rc};

use sloth_core::{
    Chain, Clock, Millis,
    fs::{self, Access},
};
use sloth_workflow::{
    Attempt, Host, LocalFuture, LogLine, Plan, StateError, StateOperation, StateReply, Stop, TaskEnd,
};

use super::print::Teller;
use crate::{paths::Paths, store::Store, worker::random};

/// The namespace of runs without a bundle of a name.
const NAMESPACE: &str = "local";

pub(super) struct LocalHost {
    clock: Clock,
    teller: Rc<Teller>,
    paths: Paths,
    state: RefCell<Option<Store>>,
}

impl LocalHost {
    pub(super) fn new(clock: Clock, teller: Rc<Teller>, paths: Paths) -> Self {
        Self { clock, teller, paths, state: RefCell::default() }
    }

    /// Closes the state store, if it was used.
    pub(super) async fn close(&self) {
        let store = self.state.borrow_mut().take();
        if let Some(store) = store {
            store.close().await;
        }
    }

    fn store(&self) -> Result<Store, StateError> {
        let failed = |error: &dyn std::error::Error| StateError { message: Chain(error).to_string() };
        let mut state = self.state.borrow_mut();
        if let Some(store) = &*state {
            return Ok(store.clone());
        }
        fs::create_dir(self.paths.dir(), Access::Owner).map_err(|error| failed(&error))?;
        let store = Store::open(&self.paths.local_state(), self.clock.now()).map_err(|error| failed(&error))?;
        Ok(state.insert(store).clone())
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
        self.teller.planned(plans);
    }

    fn starting<'a>(&'a self, attempt: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>> {
        self.teller.started(self.now(), attempt);
        Box::pin(async { Ok(()) })
    }

    fn finished<'a>(&'a self, end: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>> {
        self.teller.ended(end);
        Box::pin(async { Ok(()) })
    }

    fn state<'a>(&'a self, operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>> {
        Box::pin(async move { self.store()?.state(NAMESPACE, operation, self.clock.now()).await })
    }
}
