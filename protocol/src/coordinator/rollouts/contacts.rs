//! When agents were heard of, and how often they are.

use std::collections::BTreeMap;

use sloth_core::{AgentId, Millis};

use crate::{
    rollout::{Contact, Presence, RHYTHM_UNKNOWN, learned},
    wire::HOLD_MAX,
};

/// What is known of agents' coming and going since the start. None of it is on the disk: who was heard of before the
/// coordinator was away says nothing about now.
#[derive(Debug)]
pub(crate) struct Contacts {
    /// When the coordinator began to listen.
    since: Millis,
    known: BTreeMap<AgentId, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    heard: Millis,
    rhythm: Option<Millis>,
    /// When it was told that there is nothing to do, and to come again.
    idle_since: Option<Millis>,
}

/// What an answer to a poll left its agent to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// To come again after a pause of its own.
    Idle,
    /// To work, to come at once, or to wait for the answer.
    Busy,
}

impl Contacts {
    pub(crate) const fn new(now: Millis) -> Self {
        Self { since: now, known: BTreeMap::new() }
    }

    /// An agent was heard of.
    pub(crate) fn heard(&mut self, agent: AgentId, now: Millis) {
        self.entry(agent, now).heard = now;
    }

    /// An agent polls, and would be held for so long.
    pub(crate) fn polled(&mut self, agent: AgentId, now: Millis, hold: Millis) {
        let known = self.entry(agent, now);
        if Millis::ZERO < hold {
            known.rhythm = Some(hold.min(HOLD_MAX));
        } else if let Some(idle) = known.idle_since.take() {
            known.rhythm = Some(learned(known.rhythm, now.since(idle)));
        }
        known.heard = now;
    }

    /// An agent's poll was answered.
    pub(crate) fn answered(&mut self, agent: AgentId, now: Millis, left: Left) {
        self.entry(agent, now).idle_since = (left == Left::Idle).then_some(now);
    }

    /// What is known of an agent; `noted` is its rhythm as it was once, if it was.
    pub(crate) fn of(&self, agent: AgentId, now: Millis, presence: Presence, noted: Option<Millis>) -> Contact {
        let known = self.known.get(&agent);
        let heard = known.map(|known| known.heard);
        let rhythm = known.and_then(|known| known.rhythm).max(noted).unwrap_or(RHYTHM_UNKNOWN);
        let heard = if presence == Presence::Connected { Some(now) } else { heard };
        Contact { presence, heard, quiet_from: self.since, rhythm }
    }

    fn entry(&mut self, agent: AgentId, now: Millis) -> &mut Known {
        self.known.entry(agent).or_insert(Known { heard: now, rhythm: None, idle_since: None })
    }
}
