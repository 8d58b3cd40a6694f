//! The chain of receipts: each entry names the one before it by its digest, so that none can be changed, taken out or put
//! in without changing all that follow.
//!
//! An entry is one line of JSON and its digest is that of the line's bytes, so that anybody can follow the chain with
//! tools of his own.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use sloth_core::{AgentId, Digest, Millis, RunId};

use crate::{PublicKey, Receipt, Refusal, receipt_envelope, verify_receipt};

/// Most bytes of an entry: a receipt and its signature as JSON texts, and what is said of them.
pub const ENTRY_BYTES_MAX: usize = 16 * 1024;

/// A receipt in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainEntry {
    /// Its place, from 1.
    pub number: u64,
    /// The digest of the entry before it; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// When it came in, by the coordinator's clock.
    pub received: Millis,
    /// The agent's key for receipts, as it was known then.
    pub key: PublicKey,
    /// The receipt's payload.
    pub receipt: String,
    /// The four lines of its `.minisig` file.
    pub signature: String,
}

/// Names an entry by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainLink {
    /// Its place.
    pub number: u64,
    /// Its digest.
    pub digest: Digest,
}

/// The two ends of what is kept of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ChainEnds {
    /// The last entry that is kept no more; none while all are.
    pub dropped: Option<ChainLink>,
    /// The newest entry; none while there is none.
    pub newest: Option<ChainLink>,
}

/// The first place at which a chain does not hold.
#[derive(Debug, thiserror::Error)]
#[error("the chain of receipts breaks at receipt {number}{}{}", named(" of agent", *agent), named(" on run", *run))]
pub struct Broken {
    /// Which entry.
    pub number: u64,
    /// Whose receipt it says it is, if that can be read.
    pub agent: Option<AgentId>,
    /// Of which run, likewise.
    pub run: Option<RunId>,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

/// What can be wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is no entry.
    #[error("it cannot be read, so it was changed")]
    Unreadable {
        /// Where and why.
        source: serde_json::Error,
    },
    /// It is not there.
    #[error("it is missing, and the next one is {found}: entries were taken out")]
    Missing {
        /// The number that came instead.
        found: u64,
    },
    /// It is not there, and nothing follows.
    #[error("it is missing, as is all up to {newest}: entries were taken off the end")]
    CutOff {
        /// The newest entry that there was.
        newest: u64,
    },
    /// It is there, and the chain is said to end before it.
    #[error("the chain is said to end before it: its end was changed, or this was put in")]
    BeyondEnd,
    /// Its digest is not the one that the next entry, or the end of the chain, names.
    #[error("what follows it names another digest: it was changed, or what follows was")]
    Changed,
    /// It does not begin where the chain begins.
    #[error("it does not follow what was dropped before it: the beginning was changed")]
    Beginning,
    /// The agent's signature.
    #[error("its agent did not sign this")]
    Signature {
        /// Why not.
        source: Refusal,
    },
}

/// Follows a chain from its beginning.
#[derive(Debug, Default)]
pub struct ChainWalk {
    last: Option<ChainLink>,
    /// Who the last entry is of, and of which run.
    last_named: (Option<AgentId>, Option<RunId>),
    entries: u64,
}

impl ChainEntry {
    /// The entry as a line, without its end.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // None of its parts refuses to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`ChainEntry::encode`] wrote. Nothing of it is verified.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn decode(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }

    /// What the receipt says, once the entry's key vouches for it.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn verify(&self) -> Result<Receipt, Refusal> {
        let envelope = receipt_envelope(self.receipt.clone().into_bytes(), self.signature.clone(), &self.key);
        verify_receipt(&envelope, &self.key)
    }

    /// What the receipt says, verified or not.
    #[must_use]
    pub fn claimed(&self) -> Option<Receipt> {
        serde_json::from_str(&self.receipt).ok()
    }
}

impl ChainWalk {
    /// A walk over what follows `dropped`.
    #[must_use]
    pub const fn after(dropped: Option<ChainLink>) -> Self {
        Self { last: dropped, last_named: (None, None), entries: 0 }
    }

    /// Takes the next entry: its place, its link to the one before, and the agent's signature.
    ///
    /// # Errors
    ///
    /// The place at which the chain breaks: this entry, or the one before it, which is then not what it was.
    pub fn take(&mut self, line: &[u8]) -> Result<(ChainEntry, Receipt), Box<Broken>> {
        let number = self.last.map_or(1, |last| last.number.saturating_add(1));
        let unreadable = |source| Box::new(Broken::at(number, None, Fault::Unreadable { source }));
        let entry = ChainEntry::decode(line).map_err(unreadable)?;
        let claimed = entry.claimed();
        if entry.number != number {
            return Err(Box::new(Broken::at(number, None, Fault::Missing { found: entry.number })));
        }
        if entry.previous != self.last.map(|last| last.digest) {
            return Err(Box::new(self.broken_link(number, claimed.as_ref())));
        }
        let receipt = entry.verify().map_err(|source| {
            let fault = Fault::Signature { source };
            Box::new(Broken::at(number, claimed.as_ref(), fault))
        })?;
        self.last = Some(ChainLink { number, digest: Digest::of(line) });
        self.last_named = (Some(receipt.agent), Some(receipt.run));
        self.entries += 1;
        Ok((entry, receipt))
    }

    /// Whether the chain ends where it should.
    ///
    /// # Errors
    ///
    /// When entries are missing at the end or follow it, or the last one is not what it was.
    pub fn end(&self, newest: Option<ChainLink>) -> Result<(), Box<Broken>> {
        if newest == self.last {
            return Ok(());
        }
        let number_of = |link: Option<ChainLink>| link.map_or(0, |link| link.number);
        let (last, named) = (number_of(self.last), number_of(newest));
        let (agent, run) = self.last_named;
        Err(Box::new(match last.cmp(&named) {
            Ordering::Less => Broken::at(last.saturating_add(1), None, Fault::CutOff { newest: named }),
            Ordering::Equal => Broken { number: last, agent, run, fault: Fault::Changed },
            Ordering::Greater => Broken::at(named.saturating_add(1), None, Fault::BeyondEnd),
        }))
    }

    /// The newest entry that was taken.
    #[must_use]
    pub const fn newest(&self) -> Option<ChainLink> {
        self.last
    }

    /// How many were taken.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// The entry `number` does not name the one before it: that one was changed, unless there is none.
    fn broken_link(&self, number: u64, claimed: Option<&Receipt>) -> Broken {
        if self.entries == 0 {
            return Broken::at(number, claimed, Fault::Beginning);
        }
        let (agent, run) = self.last_named;
        Broken { number: number.saturating_sub(1), agent, run, fault: Fault::Changed }
    }
}

impl Broken {
    fn at(number: u64, claimed: Option<&Receipt>, fault: Fault) -> Self {
        let (agent, run) = (claimed.map(|receipt| receipt.agent), claimed.map(|receipt| receipt.run));
        Self { number, agent, run, fault }
    }
}

fn named<T: std::fmt::Display>(what: &str, value: Option<T>) -> String {
    value.map_or_else(String::new, |value| format!("{what} `{value}`"))
}
