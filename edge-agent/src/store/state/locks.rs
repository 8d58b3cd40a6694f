//! Locks of scripts: each a queue in JSON, gone when nobody stands in it.

use redb::{ReadableTable, WriteTransaction};
use sloth_workflow::{Holder, LockQueue, StateReply, process};

use super::Answer;
use crate::store::{error::Fault, tables::LOCKS};

/// Changes the queue under `key`.
pub(super) fn change(
    txn: &WriteTransaction,
    key: &[u8],
    change: impl FnOnce(&mut LockQueue) -> Result<StateReply, String>,
) -> Result<Answer, Fault> {
    let mut table = txn.open_table(LOCKS)?;
    let stored = table.get(key)?.map(|stored| serde_json::from_slice(stored.value()));
    let mut queue: LockQueue = stored.transpose().map_err(|_| Fault::Key)?.unwrap_or_default();
    let answer = change(&mut queue);
    if queue.is_empty() {
        table.remove(key)?;
    } else {
        let text = serde_json::to_vec(&queue).map_err(|_| Fault::Key)?;
        table.insert(key, text.as_slice())?;
    }
    Ok(answer)
}

/// Whether the process of a holder still runs. Where the system does not say, it does.
pub(super) fn is_alive(holder: &Holder) -> bool {
    holder.started.is_none() || process::started(holder.process) == holder.started
}
