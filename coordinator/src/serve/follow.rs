//! Who waits for news of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use quinn::SendStream;
use sloth_core::RunId;
use sloth_protocol::wire::{Events, Follow, FollowWait, OperatorResponse, Refusal, RefusalCode};
use sloth_transport::{SendError, send};
use tokio::sync::watch;

use super::{
    connection::{Context, failed},
    operator_lane::no_run,
};
use crate::store::EventsRead;

/// Most runs that are followed at a time, over all operators.
const FOLLOWS_MAX: usize = 1024;

/// Wakes those who follow a run when something new can be read of it.
#[derive(Debug, Default)]
pub(super) struct Followers {
    runs: Mutex<BTreeMap<RunId, watch::Sender<u64>>>,
}

/// One who follows a run.
struct Following {
    followers: Arc<Followers>,
    run: RunId,
    news: watch::Receiver<u64>,
}

impl Followers {
    /// Wakes who follows one of `runs`.
    pub(super) fn wake(&self, runs: &BTreeSet<RunId>) {
        if runs.is_empty() {
            return;
        }
        let followed = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        for sender in runs.iter().filter_map(|run| followed.get(run)) {
            sender.send_modify(|count| *count += 1);
        }
    }

    fn follow(self: &Arc<Self>, run: RunId) -> Option<Following> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let count: usize = runs.values().map(watch::Sender::receiver_count).sum();
        if FOLLOWS_MAX <= count {
            return None;
        }
        let news = runs.entry(run).or_insert_with(|| watch::Sender::new(0)).subscribe();
        Some(Following { followers: Arc::clone(self), run, news })
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut runs = self.followers.runs.lock().unwrap_or_else(PoisonError::into_inner);
        // This one still counts.
        if runs.get(&self.run).is_some_and(|sender| sender.receiver_count() <= 1) {
            runs.remove(&self.run);
        }
    }
}

/// Streams what happens in a run. The last frame is sent when there is no more to come.
pub(super) async fn stream(context: &Context, sending: &mut SendStream, follow: Follow) -> Result<(), SendError> {
    let Some(mut following) = context.followers.follow(follow.run) else {
        let reason = format!("{FOLLOWS_MAX} runs are followed already: end some of these commands");
        return send(sending, &OperatorResponse::Refused(Refusal::new(RefusalCode::Busy, reason))).await;
    };
    let mut after = follow.after;
    loop {
        // Before the look, so that what comes in meanwhile wakes at once.
        following.news.mark_unchanged();
        let read = context.store.with(move |store| store.events(follow.run, after, follow.agent)).await;
        let EventsRead { events, through, more, ended } = match read {
            Ok(Some(read)) => read,
            Ok(None) => return send(sending, &OperatorResponse::Refused(no_run(follow.run))).await,
            Err(error) => return send(sending, &OperatorResponse::Refused(failed(&error))).await,
        };
        after = through;
        let last = !more
            && match follow.wait {
                FollowWait::No => true,
                FollowWait::UntilEnd => ended,
            };
        if last || !events.is_empty() {
            send(sending, &OperatorResponse::Events(Events { events, last })).await?;
        }
        if last {
            return Ok(());
        }
        if !more {
            tokio::select! {
                _ = following.news.changed() => {}
                // Who asked has lost interest, or is gone.
                _ = sending.stopped() => return Ok(()),
            }
        }
    }
}
