//! The storage of the `state` module in memory: for runs that only check, and for tests.

use std::collections::BTreeMap;

use serde_json::Value;
use sloth_core::Millis;

use super::{Lifetime, LockQueue, StateError, StateOperation, StateReply, StateStats};

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
            StateOperation::Increment { key, by } => self.increment(key, by)?,
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
            StateOperation::Push { key, value } => StateReply::Number(self.push(&key, value)?),
            StateOperation::Pop { key } => StateReply::Value(self.list(&key)?.and_then(Vec::pop)),
            StateOperation::Append { key, text } => StateReply::Number(self.append(&key, &text)?),
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

    fn increment(&mut self, key: String, by: f64) -> Result<StateReply, StateError> {
        let entry = self.entries.entry(key);
        let key = entry.key().clone();
        let (value, _) = entry.or_insert((Value::from(0), None));
        let Some(before) = value.as_f64() else {
            return Err(refused(format!("`{key}` holds no number: set one first, or use another key")));
        };
        let sum = before + by;
        // A whole sum is a whole number, so that `3` does not come back as `3.0`.
        #[expect(clippy::cast_possible_truncation, reason = "what does not fit is kept as it is")]
        let whole = sum as i64;
        #[expect(clippy::cast_precision_loss, reason = "that is what is looked for")]
        let is_whole = whole as f64 == sum;
        *value = if is_whole { Value::from(whole) } else { Value::from(sum) };
        Ok(StateReply::Number(sum))
    }

    fn list(&mut self, key: &str) -> Result<Option<&mut Vec<Value>>, StateError> {
        match self.entries.get_mut(key) {
            None => Ok(None),
            Some((Value::Array(list), _)) => Ok(Some(list)),
            Some(_) => Err(refused(format!("`{key}` holds no list: use another key"))),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "no list is that long")]
    fn push(&mut self, key: &str, value: Value) -> Result<f64, StateError> {
        if !self.entries.contains_key(key) {
            self.entries.insert(key.to_owned(), (Value::Array(Vec::new()), None));
        }
        let Some(list) = self.list(key)? else { return Ok(0.0) };
        list.push(value);
        Ok(list.len() as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "no text is that long")]
    fn append(&mut self, key: &str, text: &str) -> Result<f64, StateError> {
        let (value, _) = self.entries.entry(key.to_owned()).or_insert_with(|| (Value::from(""), None));
        let Value::String(whole) = value else {
            return Err(refused(format!("`{key}` holds no text: use another key")));
        };
        whole.push_str(text);
        Ok(whole.len() as f64)
    }

    fn stats(&self) -> StateStats {
        let count = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let bytes = self.entries.iter().map(|(key, (value, _))| count(key.len() + value.to_string().len())).sum();
        StateStats { keys: count(self.entries.len()), bytes, modified: self.modified }
    }
}

fn refused(message: String) -> StateError {
    StateError { message }
}
