//! The storage of the `state` module in memory: for runs that only check, and for tests.

use std::collections::BTreeMap;

use serde_json::Value;
use sloth_core::Millis;

use super::{
    Lifetime, LockQueue, StateError, StateOperation, StateReply, StateStats,
    values::{self, Change},
};

/// Keys, values and locks of one namespace. Bounded only by what the script can hold.
#[derive(Debug, Clone, Default)]
pub struct MemoryState {
    entries: BTreeMap<String, (Value, Option<Millis>)>,
    locks: BTreeMap<String, LockQueue>,
    modified: Option<Millis>,
}

impl MemoryState {
    /// Does what a script asked.
    ///
    /// # Errors
    ///
    /// When it cannot be done, in a sentence for the script.
    pub fn apply(&mut self, operation: StateOperation, now: Millis) -> Result<StateReply, StateError> {
        self.entries.retain(|_, (_, until)| until.is_none_or(|until| now < until));
        let changes = !matches!(
            operation,
            StateOperation::Get { .. }
                | StateOperation::Keys { .. }
                | StateOperation::Lifetime { .. }
                | StateOperation::Stats
                | StateOperation::Lock { .. }
                | StateOperation::Unlock { .. }
        );
        if changes {
            self.modified = Some(now);
        }
        let reply = match operation {
            StateOperation::Get { key } => StateReply::Value(self.get(&key).cloned()),
            StateOperation::Set { key, value, ttl } => {
                self.entries.insert(key, (value, ttl.map(|ttl| now + ttl)));
                StateReply::Done(true)
            }
            StateOperation::Delete { key } => StateReply::Done(self.entries.remove(&key).is_some()),
            StateOperation::Keys { prefix } => {
                let found = self.entries.iter().filter(|(key, _)| key.starts_with(&prefix));
                StateReply::Keys(found.map(|(key, (value, _))| (key.clone(), value.clone())).collect())
            }
            StateOperation::Increment { key, by } => self.alter(key, |key, before| values::add(key, before, by))?,
            StateOperation::CompareAndSwap { key, expected, value } => {
                let held = self.get(&key) == expected.as_ref();
                if held {
                    self.entries.insert(key, (value, None));
                }
                StateReply::Done(held)
            }
            StateOperation::Clear => {
                self.entries.clear();
                StateReply::Done(true)
            }
            StateOperation::Expire { key, ttl } => {
                let entry = self.entries.get_mut(&key).map(|(_, until)| *until = ttl.map(|ttl| now + ttl));
                StateReply::Done(entry.is_some())
            }
            StateOperation::Lifetime { key } => StateReply::Lifetime(match self.entries.get(&key) {
                None => Lifetime::Missing,
                Some((_, None)) => Lifetime::Forever,
                Some((_, Some(until))) => Lifetime::Left(until.since(now)),
            }),
            StateOperation::Push { key, value } => self.alter(key, |key, before| values::push(key, before, &value))?,
            StateOperation::Pop { key } => self.alter(key, values::pop)?,
            StateOperation::Append { key, text } => {
                self.alter(key, |key, before| values::append(key, before, &text))?
            }
            StateOperation::Stats => StateReply::Stats(self.stats()),
            StateOperation::Lock { name, holder, ttl, wait } => {
                let place = self.locks.entry(name).or_default().ask(&holder, ttl, wait, now, |_| true);
                StateReply::Place(place.map_err(|message| StateError { message })?)
            }
            StateOperation::Unlock { name, id } => {
                StateReply::Done(self.locks.get_mut(&name).is_some_and(|queue| queue.leave(&id, now)))
            }
        };
        Ok(reply)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// Puts what `change` makes of a value in its place, which keeps its time to live.
    fn alter(
        &mut self,
        key: String,
        change: impl FnOnce(&str, Option<Value>) -> Change,
    ) -> Result<StateReply, StateError> {
        let before = self.entries.get(&key);
        let until = before.and_then(|(_, until)| *until);
        let changed = change(&key, before.map(|(value, _)| value.clone()));
        let (after, reply) = changed.map_err(|message| StateError { message })?;
        if let Some(after) = after {
            self.entries.insert(key, (after, until));
        }
        Ok(reply)
    }

    fn stats(&self) -> StateStats {
        let count = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let bytes = self.entries.iter().map(|(key, (value, _))| count(key.len() + value.to_string().len())).sum();
        StateStats { keys: count(self.entries.len()), bytes, modified: self.modified }
    }
}
