//! Receipts between both sides: how an agent sums up what it reports, so that whoever has the reports can compare.

use sloth_core::Digest;
use sloth_trust::{ReceiptOutcome, TaskSummary};

use crate::wire::{RunOutcome, TaskEnd, TaskStatus};

/// The sum of tasks' ends, which come in the order of the tasks' names, as they are reported.
#[must_use]
pub fn task_summary<'a>(ends: impl IntoIterator<Item = &'a TaskEnd>) -> TaskSummary {
    let mut sum = TaskSummary {
        succeeded: 0,
        unchanged: 0,
        failed: 0,
        timed_out: 0,
        skipped: 0,
        cancelled: 0,
        interrupted: 0,
        digest: Digest::of(&[]),
    };
    let mut digests = Vec::new();
    for end in ends {
        let count = match end.status {
            TaskStatus::Succeeded => &mut sum.succeeded,
            TaskStatus::Unchanged => &mut sum.unchanged,
            TaskStatus::Failed => &mut sum.failed,
            TaskStatus::TimedOut => &mut sum.timed_out,
            TaskStatus::Skipped => &mut sum.skipped,
            TaskStatus::Cancelled => &mut sum.cancelled,
            TaskStatus::Interrupted => &mut sum.interrupted,
        };
        *count += 1;
        // None of its parts refuses to be written.
        let bytes = postcard::to_allocvec(end).unwrap_or_default();
        digests.extend_from_slice(Digest::of(&bytes).as_bytes());
    }
    TaskSummary { digest: Digest::of(&digests), ..sum }
}

impl From<RunOutcome> for ReceiptOutcome {
    fn from(outcome: RunOutcome) -> Self {
        match outcome {
            RunOutcome::Succeeded => Self::Succeeded,
            RunOutcome::Failed => Self::Failed,
            RunOutcome::Cancelled => Self::Cancelled,
            RunOutcome::Refused => Self::Refused,
            RunOutcome::Expired => Self::Expired,
        }
    }
}
