//! The storage of the `state` module: keys to JSON values, each in the namespace of its bundle.
//!
//! A value is `[version][expiry: u64 big endian, zero = never][JSON]`. What has expired is not seen, and goes when
//! its key is written or the store is opened.

mod locks;

use redb::{ReadableTable, WriteTransaction};
use serde_json::Value;
use sloth_core::Millis;
use sloth_workflow::{
    Lifetime, LockQueue, StateOperation, StateReply, StateStats, limits::STATE_VALUE_BYTES_MAX, state_values,
};

use super::{
    error::Fault,
    tables::{self, META, Open, STATE, keys},
};

/// Most bytes of all keys and values together.
pub const STATE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most bytes of one answer.
const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Ends a namespace in a key; no namespace has one.
const SEPARATOR: u8 = 0;
const VALUE_VERSION: u8 = 1;
const HEADER_BYTES: usize = 9;

/// What became of an operation: the answer, or the sentence for the script that asked.
pub(super) type Answer = Result<StateReply, String>;

/// An operation in a namespace at a time.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) namespace: String,
    pub(super) operation: StateOperation,
    pub(super) now: Millis,
}

impl Request {
    pub(super) const fn is_read(&self) -> bool {
        match self.operation {
            StateOperation::Get { .. } | StateOperation::Keys { .. } | StateOperation::Lifetime { .. } => true,
            StateOperation::Set { .. }
            | StateOperation::Delete { .. }
            | StateOperation::Increment { .. }
            | StateOperation::CompareAndSwap { .. }
            | StateOperation::Clear
            | StateOperation::Expire { .. }
            | StateOperation::Push { .. }
            | StateOperation::Pop { .. }
            | StateOperation::Append { .. }
            | StateOperation::Stats
            | StateOperation::Lock { .. }
            | StateOperation::Unlock { .. } => false,
        }
    }

    /// Answers what changes nothing.
    pub(super) fn read(&self, table: &impl ReadableTable<&'static [u8], &'static [u8]>) -> Result<Answer, Fault> {
        match &self.operation {
            StateOperation::Get { key } => Ok(Ok(StateReply::Value(self.get(table, key)?))),
            StateOperation::Keys { prefix } => self.keys(table, prefix),
            StateOperation::Lifetime { key } => Ok(Ok(StateReply::Lifetime(self.lifetime(table, key)?))),
            StateOperation::Set { .. }
            | StateOperation::Delete { .. }
            | StateOperation::Increment { .. }
            | StateOperation::CompareAndSwap { .. }
            | StateOperation::Clear
            | StateOperation::Expire { .. }
            | StateOperation::Push { .. }
            | StateOperation::Pop { .. }
            | StateOperation::Append { .. }
            | StateOperation::Stats
            | StateOperation::Lock { .. }
            | StateOperation::Unlock { .. } => Ok(Err("the state store took a change for a question".to_owned())),
        }
    }

    /// Does what changes something. What is answered with a sentence has changed nothing.
    pub(super) fn write(&self, txn: &WriteTransaction, bytes_max: u64) -> Result<Answer, Fault> {
        let mut opened = txn.open_table(STATE)?;
        let mut counted = Used::open(txn, bytes_max)?;
        let (table, used) = (&mut opened, &mut counted);
        let answer = match &self.operation {
            StateOperation::Get { .. } | StateOperation::Keys { .. } | StateOperation::Lifetime { .. } => {
                return self.read(&*table);
            }
            StateOperation::Stats => {
                let modified = tables::get(&txn.open_table(META)?, &self.modified_key())?;
                return Ok(Ok(StateReply::Stats(StateStats { modified, ..self.stats(&*table)? })));
            }
            StateOperation::Set { key, value, ttl } => {
                let expires = ttl.map_or(Millis::ZERO, |ttl| self.now + ttl);
                self.set(table, used, key, value, expires)?.map(|()| StateReply::Done(true))
            }
            StateOperation::Delete { key } => {
                let there = self.get(&*table, key)?.is_some();
                self.remove(table, used, &self.key(key))?;
                Ok(StateReply::Done(there))
            }
            StateOperation::CompareAndSwap { key, expected, value } => {
                if self.get(&*table, key)? == *expected {
                    self.set(table, used, key, value, Millis::ZERO)?.map(|()| StateReply::Done(true))
                } else {
                    Ok(StateReply::Done(false))
                }
            }
            StateOperation::Clear => self.clear(table, used)?,
            StateOperation::Expire { key, ttl } => match self.get(&*table, key)? {
                None => Ok(StateReply::Done(false)),
                Some(value) => {
                    let expires = ttl.map_or(Millis::ZERO, |ttl| self.now + ttl);
                    self.set(table, used, key, &value, expires)?.map(|()| StateReply::Done(true))
                }
            },
            StateOperation::Increment { key, by } => {
                self.alter(table, used, key, |before| state_values::add(key, before, *by))?
            }
            StateOperation::Push { key, value } => {
                self.alter(table, used, key, |before| state_values::push(key, before, value))?
            }
            StateOperation::Pop { key } => self.alter(table, used, key, |before| state_values::pop(key, before))?,
            StateOperation::Append { key, text } => {
                self.alter(table, used, key, |before| state_values::append(key, before, text))?
            }
            StateOperation::Lock { name, holder, ttl, wait } => {
                let ask = |queue: &mut LockQueue| queue.ask(holder, *ttl, *wait, self.now, locks::is_alive);
                return locks::change(txn, &self.key(name), |queue| ask(queue).map(StateReply::Place));
            }
            StateOperation::Unlock { name, id } => {
                let leave = |queue: &mut LockQueue| Ok(StateReply::Done(queue.leave(id, self.now)));
                return locks::change(txn, &self.key(name), leave);
            }
        };
        drop(opened);
        counted.close(txn)?;
        if answer.is_ok() {
            tables::put(&mut txn.open_table(META)?, &self.modified_key(), &self.now)?;
        }
        Ok(answer)
    }

    fn get(&self, table: &impl ReadableTable<&'static [u8], &'static [u8]>, key: &str) -> Result<Option<Value>, Fault> {
        let Some(stored) = table.get(self.key(key).as_slice())? else { return Ok(None) };
        self.alive(stored.value())
    }

    fn keys(&self, table: &impl ReadableTable<&'static [u8], &'static [u8]>, prefix: &str) -> Result<Answer, Fault> {
        let first = self.key(prefix);
        let own = self.namespace.len() + 1;
        let (mut found, mut bytes) = (Vec::new(), 0);
        for entry in table.range(first.as_slice()..)? {
            let (key, stored) = entry?;
            if !key.value().starts_with(&first) {
                break;
            }
            let Some(value) = self.alive(stored.value())? else { continue };
            bytes += key.value().len() + stored.value().len();
            if REPLY_BYTES_MAX < bytes {
                return Ok(Err(format!(
                    "the values of these keys take more than {REPLY_BYTES_MAX} bytes: ask with a longer prefix"
                )));
            }
            let key = String::from_utf8(key.value().get(own..).unwrap_or_default().to_vec()).map_err(|_| Fault::Key)?;
            found.push((key, value));
        }
        Ok(Ok(StateReply::Keys(found)))
    }

    fn set(
        &self,
        table: &mut Open<'_>,
        used: &mut Used,
        key: &str,
        value: &Value,
        expires: Millis,
    ) -> Result<Result<(), String>, Fault> {
        let key = self.key(key);
        let stored = store(value, expires);
        let before = table.get(key.as_slice())?.map_or(0, |stored| weight(&key, stored.value()));
        let after = used.bytes.saturating_sub(before).saturating_add(weight(&key, &stored));
        if used.bytes_max < after && before < weight(&key, &stored) {
            let message = format!("the state store is full: it takes {} bytes, so delete some keys", used.bytes_max);
            return Ok(Err(message));
        }
        table.insert(key.as_slice(), stored.as_slice())?;
        used.bytes = after;
        Ok(Ok(()))
    }

    /// Puts what `change` makes of a value in its place, which keeps its time to live.
    fn alter(
        &self,
        table: &mut Open<'_>,
        used: &mut Used,
        key: &str,
        change: impl FnOnce(Option<Value>) -> state_values::Change,
    ) -> Result<Answer, Fault> {
        let stored = table.get(self.key(key).as_slice())?.map(|stored| stored.value().to_vec());
        let before = stored.as_deref().map(|stored| self.alive(stored)).transpose()?.flatten();
        let expires = if before.is_some() { stored.as_deref().map(expiry).transpose()? } else { None };
        let (after, reply) = match change(before) {
            Ok((Some(after), reply)) => (after, reply),
            Ok((None, reply)) => return Ok(Ok(reply)),
            Err(reason) => return Ok(Err(reason)),
        };
        if STATE_VALUE_BYTES_MAX < after.to_string().len() {
            return Ok(Err(format!("`{key}` would take more than {STATE_VALUE_BYTES_MAX} bytes: use more keys")));
        }
        Ok(self.set(table, used, key, &after, expires.unwrap_or_default())?.map(|()| reply))
    }

    fn lifetime(&self, table: &impl ReadableTable<&'static [u8], &'static [u8]>, key: &str) -> Result<Lifetime, Fault> {
        let Some(stored) = table.get(self.key(key).as_slice())? else { return Ok(Lifetime::Missing) };
        let expires = expiry(stored.value())?;
        Ok(match expires {
            Millis::ZERO => Lifetime::Forever,
            expires if is_over(expires, self.now) => Lifetime::Missing,
            expires => Lifetime::Left(expires.since(self.now)),
        })
    }

    fn stats(&self, table: &impl ReadableTable<&'static [u8], &'static [u8]>) -> Result<StateStats, Fault> {
        let first = self.key("");
        let mut stats = StateStats::default();
        for entry in table.range(first.as_slice()..)? {
            let (key, stored) = entry?;
            if !key.value().starts_with(&first) {
                break;
            }
            if !is_over(expiry(stored.value())?, self.now) {
                stats.keys += 1;
                let bytes = key.value().len() - first.len() + stored.value().len() - HEADER_BYTES;
                stats.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            }
        }
        Ok(stats)
    }

    /// Where the time of the last change is kept.
    fn modified_key(&self) -> Vec<u8> {
        [keys::STATE_MODIFIED, self.namespace.as_bytes()].concat()
    }

    fn clear(&self, table: &mut Open<'_>, used: &mut Used) -> Result<Answer, Fault> {
        let first = self.key("");
        let end = [&first[..first.len() - 1], &[SEPARATOR + 1]].concat();
        let mut freed = 0;
        table.retain_in(first.as_slice()..end.as_slice(), |key, stored| {
            freed += weight(key, stored);
            false
        })?;
        used.bytes = used.bytes.saturating_sub(freed);
        Ok(Ok(StateReply::Done(true)))
    }

    fn remove(&self, table: &mut Open<'_>, used: &mut Used, key: &[u8]) -> Result<(), Fault> {
        if let Some(stored) = table.remove(key)? {
            used.bytes = used.bytes.saturating_sub(weight(key, stored.value()));
        }
        Ok(())
    }

    fn key(&self, key: &str) -> Vec<u8> {
        [self.namespace.as_bytes(), &[SEPARATOR], key.as_bytes()].concat()
    }

    fn alive(&self, stored: &[u8]) -> Result<Option<Value>, Fault> {
        if is_over(expiry(stored)?, self.now) {
            return Ok(None);
        }
        serde_json::from_slice(&stored[HEADER_BYTES..]).map(Some).map_err(|_| Fault::Key)
    }
}

/// Removes what has expired.
pub(super) fn sweep(txn: &WriteTransaction, now: Millis) -> Result<(), Fault> {
    let mut used = Used::open(txn, 0)?;
    let mut freed = 0;
    txn.open_table(STATE)?.retain(|key, stored| {
        let gone = expiry(stored).is_ok_and(|expires| is_over(expires, now));
        if gone {
            freed += weight(key, stored);
        }
        !gone
    })?;
    used.bytes = used.bytes.saturating_sub(freed);
    used.close(txn)
}

/// How many bytes the state takes.
struct Used {
    bytes: u64,
    read: u64,
    bytes_max: u64,
}

impl Used {
    fn open(txn: &WriteTransaction, bytes_max: u64) -> Result<Self, Fault> {
        let bytes = tables::get(&txn.open_table(META)?, keys::STATE_BYTES)?.unwrap_or(0);
        Ok(Self { bytes, read: bytes, bytes_max })
    }

    fn close(self, txn: &WriteTransaction) -> Result<(), Fault> {
        if self.bytes == self.read {
            return Ok(());
        }
        tables::put(&mut txn.open_table(META)?, keys::STATE_BYTES, &self.bytes)
    }
}

fn store(value: &Value, expires: Millis) -> Vec<u8> {
    let mut stored = vec![VALUE_VERSION];
    stored.extend_from_slice(&expires.as_u64().to_be_bytes());
    stored.extend_from_slice(value.to_string().as_bytes());
    stored
}

fn expiry(stored: &[u8]) -> Result<Millis, Fault> {
    match stored.split_first_chunk::<HEADER_BYTES>() {
        Some(([VALUE_VERSION, expires @ ..], _)) => Ok(Millis::from_u64(u64::from_be_bytes(*expires))),
        Some(_) | None => Err(Fault::Key),
    }
}

fn is_over(expires: Millis, now: Millis) -> bool {
    expires != Millis::ZERO && expires <= now
}

fn weight(key: &[u8], stored: &[u8]) -> u64 {
    u64::try_from(key.len() + stored.len()).unwrap_or(u64::MAX)
}
