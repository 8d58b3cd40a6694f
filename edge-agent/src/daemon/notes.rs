//! What the machine has to say, as lines of the log.

use sloth_protocol::{agent::Note, wire::RunOutcome};

pub(super) fn log(note: &Note) {
    match note {
        Note::Accepted { run, bundle } => tracing::info!(%run, %bundle, "run accepted"),
        Note::Refused { run, reason } => tracing::warn!(%run, %reason, "run refused"),
        Note::Stale { generation, accepted } => tracing::debug!(generation, accepted, "order was dealt with before"),
        Note::Dropped { lane, total } => {
            tracing::warn!(
                ?lane,
                logs = total.logs,
                progress = total.progress,
                tasks = total.tasks,
                runs = total.runs,
                "the outbox is full: records were given up"
            );
        }
        Note::Denied { reason } => tracing::warn!(%reason, "the coordinator refused a request"),
        Note::Ended { run, end } => match end.outcome {
            RunOutcome::Succeeded => tracing::info!(%run, "run succeeded"),
            RunOutcome::Failed | RunOutcome::Refused | RunOutcome::Expired | RunOutcome::Cancelled => {
                tracing::warn!(%run, outcome = ?end.outcome, message = %end.message, "run did not succeed");
            }
        },
        Note::StateWentBack { lane } => {
            tracing::warn!(?lane, "this agent's disk is older than what the coordinator has of it: going on above it");
        }
    }
}
