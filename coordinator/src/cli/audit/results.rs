//! Whether what a coordinator keeps of runs is what agents signed.

use std::collections::BTreeMap;

use sloth_core::{AgentId, Digest, RunId};
use sloth_protocol::wire::{JobResult, JobState};
use sloth_trust::{Receipt, ReceiptOutcome, TaskSummary};

/// What a receipt says of the result that it is of.
#[derive(Debug, Clone, Copy)]
struct Signed {
    number: u64,
    outcome: ReceiptOutcome,
    message: Digest,
    outputs: Digest,
    tasks: Digest,
    ends: u64,
}

/// What was signed, to be compared with what is kept.
#[derive(Debug, Default)]
pub(super) struct Results {
    signed: BTreeMap<RunId, BTreeMap<AgentId, Signed>>,
    pub(super) counts: Counts,
}

/// What the comparison came to where it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Receipts whose results are kept, and are what was signed.
    pub(super) compared: u64,
    /// Those of them of which not every task's end is kept: an agent gave ends up for want of room, or told too much.
    pub(super) incomplete: u64,
}

/// A result that is not what its agent signed.
#[derive(Debug, thiserror::Error)]
#[error(
    "receipt {number} of agent `{agent}` on run `{run}` is not of the result that is kept here: {part} is another than the agent signed, so it was changed"
)]
pub(super) struct Differs {
    number: u64,
    agent: AgentId,
    run: RunId,
    part: &'static str,
}

impl Results {
    /// Notes a receipt. False when there is one of that job already.
    pub(super) fn note(&mut self, number: u64, receipt: &Receipt) -> bool {
        let Receipt { run, agent, outcome, message, outputs, tasks, .. } = *receipt;
        let (ends, tasks) = (ends(&tasks), tasks.digest);
        let signed = Signed { number, outcome, message, outputs, tasks, ends };
        self.signed.entry(run).or_default().insert(agent, signed).is_none()
    }

    /// The runs that there are receipts of.
    pub(super) fn runs(&self) -> Vec<RunId> {
        self.signed.keys().copied().collect()
    }

    /// Compares what is kept of a run. Jobs without a receipt have nothing to be compared with.
    ///
    /// # Errors
    ///
    /// The first result that is not what was signed.
    pub(super) fn compare(&mut self, run: RunId, kept: &[JobResult]) -> Result<(), Differs> {
        for result in kept {
            let agent = result.agent;
            let Some(signed) = self.signed.get(&run).and_then(|jobs| jobs.get(&agent)) else { continue };
            let differs = |part| Differs { number: signed.number, agent, run, part };
            if outcome_of(result.state) != Some(signed.outcome) {
                return Err(differs("how the run ended"));
            }
            if result.message != signed.message {
                return Err(differs("the message of its end"));
            }
            if result.outputs != signed.outputs {
                return Err(differs("what the workflows exported"));
            }
            let kept_ends = ends(&result.tasks);
            if kept_ends < signed.ends {
                self.counts.incomplete += 1;
            } else if result.tasks.digest != signed.tasks {
                return Err(differs("a task's end"));
            }
            self.counts.compared += 1;
        }
        Ok(())
    }
}

/// How many tasks ended. An agent may sign any numbers.
fn ends(tasks: &TaskSummary) -> u64 {
    let TaskSummary { succeeded, unchanged, failed, timed_out, skipped, cancelled, interrupted, digest: _ } = *tasks;
    let counts = [succeeded, unchanged, failed, timed_out, skipped, cancelled, interrupted];
    counts.into_iter().fold(0, u64::saturating_add)
}

const fn outcome_of(state: JobState) -> Option<ReceiptOutcome> {
    match state {
        JobState::Pending | JobState::Accepted | JobState::Running => None,
        JobState::Succeeded => Some(ReceiptOutcome::Succeeded),
        JobState::Failed => Some(ReceiptOutcome::Failed),
        JobState::Cancelled => Some(ReceiptOutcome::Cancelled),
        JobState::Refused => Some(ReceiptOutcome::Refused),
        JobState::Expired => Some(ReceiptOutcome::Expired),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    type Change = fn(&mut JobResult, Digest);

    /// What is kept of what the sample's agent signed.
    fn kept(receipt: &Receipt) -> JobResult {
        let Receipt { agent, message, outputs, tasks, .. } = *receipt;
        JobResult { agent, state: JobState::Succeeded, message, outputs, tasks }
    }

    fn compared(change: impl FnOnce(&mut JobResult)) -> Result<Counts, String> {
        let receipt = sample::receipt(1);
        let mut results = Results::default();
        assert!(results.note(7, &receipt) && results.runs() == [receipt.run]);
        let mut result = kept(&receipt);
        change(&mut result);
        let verdict = results.compare(receipt.run, &[result]);
        verdict.map(|()| results.counts).map_err(|error| error.to_string())
    }

    #[test]
    fn each_part_of_a_result_is_compared() {
        let other = Digest::of(b"other");
        assert_eq!(compared(|_| {}), Ok(Counts { compared: 1, incomplete: 0 }));
        // Fewer ends than were signed were given up, or were never told.
        assert_eq!(compared(|r| r.tasks.succeeded = 0), Ok(Counts { compared: 1, incomplete: 1 }));
        // Of another agent nothing was signed.
        assert_eq!(compared(|r| r.agent = AgentId::new(sloth_core::Millis::ZERO, 9)), Ok(Counts::default()));
        let rows: [(Change, &str); 6] = [
            (|r, _| r.state = JobState::Failed, "how the run ended"),
            (|r, _| r.state = JobState::Running, "how the run ended"),
            (|r, other| r.message = other, "the message of its end"),
            (|r, other| r.outputs = other, "what the workflows exported"),
            (|r, other| r.tasks.digest = other, "a task's end"),
            (|r, other| (r.tasks.failed, r.tasks.digest) = (1, other), "a task's end"),
        ];
        for (change, part) in rows {
            let error = compared(|result| change(result, other)).expect_err(part);
            assert!(error.contains("receipt 7 of agent") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn each_state_has_its_outcome() {
        let outcomes: Vec<_> = JobState::ALL.into_iter().filter_map(outcome_of).map(ReceiptOutcome::name).collect();
        assert_eq!(outcomes, ["succeeded", "failed", "cancelled", "refused", "expired"]);
    }
}
