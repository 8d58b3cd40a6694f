//! Receipts that agents send: whether they signed them, and whether they are of what they were given.

use std::collections::BTreeMap;

use sloth_core::{AgentId, Chain, RunId};
use sloth_trust::{PublicKey, receipt_envelope, verify_receipt};

use super::{ReceiptRow, Write, machine::Coordinator};
use crate::wire::{Record, RecordBody, Report};

/// A report whose receipts were held against their agent's key. That takes time and nothing of the machine, so it is done
/// before, and by many at once.
#[derive(Debug, Clone)]
pub struct CheckedReport {
    pub(super) report: Report,
    /// Why a receipt does not count, by its record's number.
    pub(super) rejected: BTreeMap<u64, String>,
}

/// Receipts of one report that do not count, and of which nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedReceipts {
    /// Who sent them.
    pub agent: AgentId,
    /// For which run the first of them was to be.
    pub run: RunId,
    /// What is wrong with that one.
    pub reason: String,
    /// How many there are.
    pub count: u64,
}

impl CheckedReport {
    /// Holds the receipts of `agent`'s report against its key. Without a key none counts.
    #[must_use]
    pub fn new(report: Report, agent: AgentId, key: Option<&PublicKey>) -> Self {
        let against = |record: &Record| match &record.body {
            RecordBody::Receipt { payload, signature } => {
                let checked = check(agent, record.run, payload, signature, key);
                checked.err().map(|reason| (record.seq, reason))
            }
            RecordBody::RunStarted
            | RecordBody::TaskStarted { .. }
            | RecordBody::TaskEnded(_)
            | RecordBody::RunEnded(_)
            | RecordBody::Log { .. }
            | RecordBody::Update(_) => None,
        };
        let rejected = report.records.iter().filter_map(against).collect();
        Self { report, rejected }
    }

    /// What was reported.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.report.records
    }
}

impl Coordinator {
    /// Takes in a receipt that was never seen before, unless there is something against it. Whether the run was ever this
    /// agent's is on the disk.
    pub(super) fn count_receipt(
        &mut self,
        agent: AgentId,
        run: RunId,
        (payload, signature): (Vec<u8>, String),
        rejected: Option<String>,
    ) {
        let known = self.state.ended.contains(&run) || self.has_job(run, agent);
        let against =
            rejected.or_else(|| (!known).then(|| "the run is not known here, or not this agent's".to_owned()));
        let payload = String::from_utf8(payload).map_err(|_| "it is no text".to_owned());
        match (against, payload, self.state.agents.get(&agent)) {
            (None, Ok(payload), Some(record)) => {
                let (key, received) = (record.receipt_key.clone(), self.now);
                self.write(Write::PutReceipt(Box::new(ReceiptRow { agent, run, key, received, payload, signature })));
            }
            (Some(reason), _, _) | (None, Err(reason), _) => self.reject_receipt(agent, run, reason),
            (None, Ok(_), None) => {}
        }
    }

    fn reject_receipt(&mut self, agent: AgentId, run: RunId, reason: String) {
        match self.out.rejected.last_mut().filter(|rejected| rejected.agent == agent) {
            Some(rejected) => rejected.count += 1,
            None => self.out.rejected.push(RejectedReceipts { agent, run, reason, count: 1 }),
        }
    }

    fn has_job(&self, run: RunId, agent: AgentId) -> bool {
        self.state.jobs.get(&run).is_some_and(|jobs| jobs.contains_key(&agent))
    }
}

fn check(agent: AgentId, run: RunId, payload: &[u8], signature: &str, key: Option<&PublicKey>) -> Result<(), String> {
    let key = key.ok_or("the agent has not said hello")?;
    let envelope = receipt_envelope(payload.to_vec(), signature.to_owned(), key);
    let receipt = verify_receipt(&envelope, key).map_err(|error| Chain(&error).to_string())?;
    if receipt.agent != agent {
        return Err(format!("it is for agent `{}`", receipt.agent));
    }
    if receipt.run != run {
        return Err(format!("it is for run `{}`", receipt.run));
    }
    Ok(())
}
