//! The state of a run that only checks: what the host has, and over it what the run would have written.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use mlua::Lua;
use sloth_core::Millis;

use crate::{Host, Lifetime, MemoryState, StateError, StateOperation, StateReply};

/// What a run that only checks has read and written.
#[derive(Default)]
pub(in crate::modules) struct Overlay {
    state: RefCell<MemoryState>,
    /// The keys that are known here, also those that are not there.
    known: RefCell<BTreeSet<String>>,
    /// Nothing of the host is looked at any more.
    cleared: std::cell::Cell<bool>,
}

impl Overlay {
    /// The one of the machine: whatever keeps something in the host's state store has it in common.
    pub(in crate::modules) fn of(lua: &Lua) -> Rc<Self> {
        if let Some(known) = lua.app_data_ref::<Rc<Self>>() {
            return Rc::clone(&known);
        }
        let own = Rc::<Self>::default();
        lua.set_app_data(Rc::clone(&own));
        own
    }

    /// Does what a script asked, and changes nothing on the host.
    pub(in crate::modules) async fn apply(
        &self,
        host: &Rc<dyn Host>,
        operation: StateOperation,
    ) -> Result<StateReply, StateError> {
        match &operation {
            StateOperation::Get { key }
            | StateOperation::Set { key, .. }
            | StateOperation::Delete { key }
            | StateOperation::Increment { key, .. }
            | StateOperation::CompareAndSwap { key, .. }
            | StateOperation::Expire { key, .. }
            | StateOperation::Lifetime { key }
            | StateOperation::Push { key, .. }
            | StateOperation::Pop { key }
            | StateOperation::Append { key, .. } => self.learn(host, key).await?,
            StateOperation::Keys { prefix } => self.learn_all(host, prefix).await?,
            StateOperation::Stats => self.learn_all(host, "").await?,
            StateOperation::Clear => self.cleared.set(true),
            StateOperation::Lock { .. } | StateOperation::Unlock { .. } => {}
        }
        self.state.borrow_mut().apply(operation, host.now())
    }

    /// Reads a key from the host, once.
    async fn learn(&self, host: &Rc<dyn Host>, key: &str) -> Result<(), StateError> {
        if self.cleared.get() || self.known.borrow().contains(key) {
            return Ok(());
        }
        let found = host.state(StateOperation::Get { key: key.to_owned() }).await?;
        let lifetime = host.state(StateOperation::Lifetime { key: key.to_owned() }).await?;
        if !self.known.borrow_mut().insert(key.to_owned()) {
            return Ok(());
        }
        if let (StateReply::Value(Some(value)), StateReply::Lifetime(lifetime)) = (found, lifetime) {
            self.keep(host.now(), key, value, lifetime)?;
        }
        Ok(())
    }

    async fn learn_all(&self, host: &Rc<dyn Host>, prefix: &str) -> Result<(), StateError> {
        if self.cleared.get() {
            return Ok(());
        }
        let found = host.state(StateOperation::Keys { prefix: prefix.to_owned() }).await?;
        if let StateReply::Keys(entries) = found {
            for (key, _) in entries {
                self.learn(host, &key).await?;
            }
        }
        Ok(())
    }

    fn keep(&self, now: Millis, key: &str, value: serde_json::Value, lifetime: Lifetime) -> Result<(), StateError> {
        let ttl = match lifetime {
            Lifetime::Missing => return Ok(()),
            Lifetime::Forever => None,
            Lifetime::Left(left) => Some(left),
        };
        let set = StateOperation::Set { key: key.to_owned(), value, ttl };
        self.state.borrow_mut().apply(set, now).map(drop)
    }
}
