//! Hosts that come with one identity: a disk was copied with an enrolled agent on it.
//!
//! An agent's directory has one daemon at a time, and each life of it has a name of its own, which it says on every
//! connection. A life that comes back after another one was there shows that both live, so one of them is on a copy. The
//! one that came back was there first and stays the agent; what came in between is turned away, and told how to get an
//! identity of its own.

use sloth_core::{AgentId, Millis, excerpt};

use super::{
    AgentRecord, ConnId, CopyNote, LAST_SEEN_STEP, Write,
    machine::Coordinator,
    registry::{clip, denied},
};
use crate::wire::{Copied, Hello, Refusal, RefusalCode};

/// Most lives of one agent that are remembered: those of as many restarts, or of as many copies.
const LIVES_MAX: usize = 8;
/// How long a host waits that may be the agent, started again, or a copy of it: until then the connection of a life that
/// is over has ended as well.
const UNCLEAR_RETRY: Millis = Millis::from_secs(60);

/// The lives of one agent since the coordinator's start.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// In the order in which they came; the last one is the agent.
    seen: Vec<u64>,
    /// Those that were found to be copies.
    copies: Vec<u64>,
}

/// What a hello shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is the agent.
    Agent,
    /// It is the agent, and what came since it was last here is a copy.
    Returned,
    /// It is a copy.
    Copy,
    /// It is a copy, or the agent after a restart whose last connection has not ended yet.
    Unclear,
}

/// Whether the agent's welcomed connection is another one than the hello's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    Taken,
}

impl Coordinator {
    /// Turns away a host that is a copy of an agent's.
    pub(super) fn tell_apart(&mut self, agent: AgentId, conn: ConnId, hello: &Hello) -> Result<(), Refusal> {
        let Some(record) = self.state.agents.get(&agent) else { return Ok(()) };
        let taken = self.present.get(&agent).is_some_and(|presence| presence.welcome && presence.conn != conn);
        // Copies are rare: where none was ever seen, who comes last is the agent after a restart.
        let place = if taken && record.copied.is_some() { Place::Taken } else { Place::Free };
        let name = excerpt(&record.name);
        match self.lives.entry(agent).or_default().judge(hello.instance, place) {
            Verdict::Agent => Ok(()),
            Verdict::Returned => {
                let hostname = record.platform.hostname.clone();
                self.note_copy(agent, hostname);
                Ok(())
            }
            Verdict::Copy => {
                self.note_copy(agent, clip(hello.platform.hostname.clone()));
                Err(denied(&copied(&name)))
            }
            Verdict::Unclear => {
                let refusal = Refusal::new(RefusalCode::Busy, copied(&name));
                self.note_copy(agent, clip(hello.platform.hostname.clone()));
                Err(Refusal { retry_after: UNCLEAR_RETRY, ..refusal })
            }
        }
    }

    fn note_copy(&mut self, agent: AgentId, hostname: String) {
        let Some(record) = self.state.agents.get(&agent) else { return };
        let before = record.copied.as_deref();
        self.out.copies.push(CopyNote {
            agent,
            name: record.name.clone(),
            hostname: hostname.clone(),
            first: before.is_none(),
        });
        if before.is_some_and(|before| self.now.since(before.last) <= LAST_SEEN_STEP) {
            return;
        }
        let since = before.map_or(self.now, |before| before.since);
        let copied = Some(Box::new(Copied { since, last: self.now, hostname }));
        let record = AgentRecord { copied, ..record.clone() };
        self.write(Write::PutAgent(agent, Box::new(record)));
    }
}

impl Lives {
    fn judge(&mut self, life: u64, place: Place) -> Verdict {
        if self.copies.contains(&life) {
            return Verdict::Copy;
        }
        match self.seen.iter().position(|seen| *seen == life) {
            Some(at) if at + 1 == self.seen.len() => Verdict::Agent,
            Some(at) => {
                self.copies.extend(self.seen.drain(at + 1..));
                let over = self.copies.len().saturating_sub(LIVES_MAX);
                self.copies.drain(..over);
                Verdict::Returned
            }
            None if place == Place::Taken => Verdict::Unclear,
            None => {
                if self.seen.len() == LIVES_MAX {
                    self.seen.remove(0);
                }
                self.seen.push(life);
                Verdict::Agent
            }
        }
    }
}

fn copied(name: &str) -> String {
    format!(
        "another host is the agent `{name}`, and this one has a copy of its identity: stop the agent here and give it one of its own with `sloth-agent enroll --again TOKEN --name NAME`"
    )
}
