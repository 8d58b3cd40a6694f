//! What the machine has to say, as lines of the log.

use sloth_protocol::{agent::Note, wire::RunOutcome};

/// How much of what a coordinator gives as a reason goes into the log.
const REASON_BYTES_MAX: usize = 512;

pub(super) fn log(note: &Note) {
    match note {
        Note::Accepted { run, bundle } => tracing::info!(%run, %bundle, "run accepted"),
        Note::Refused { run, reason } => tracing::warn!(%run, %reason, "run refused"),
        Note::RootAccepted { version } => tracing::info!(version, "took on a later trust root"),
        Note::RootRefused { reason } => {
            tracing::warn!(%reason, "the coordinator gave a trust root that the one before does not vouch for");
        }
        Note::HeldBack { reason } => tracing::warn!(reason = %brief(reason), "no new work is begun"),
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
        Note::Denied { reason } => tracing::warn!(reason = %brief(reason), "the coordinator refused a request"),
        Note::Ended { run, end } => match end.outcome {
            RunOutcome::Succeeded => tracing::info!(%run, "run succeeded"),
            RunOutcome::Failed | RunOutcome::Refused | RunOutcome::Expired | RunOutcome::Cancelled => {
                tracing::warn!(%run, outcome = ?end.outcome, message = %end.message, "run did not succeed");
            }
        },
        Note::UpdateAccepted { version } => tracing::info!(%version, "update accepted"),
        Note::UpdateRefused { version, reason } => tracing::warn!(%version, %reason, "the agent is not updated"),
        Note::StateWentBack { lane } => {
            tracing::warn!(?lane, "this agent's disk is older than what the coordinator has of it: going on above it");
        }
    }
}

/// The beginning of a reason that a coordinator gave, as one line of the log can hold it.
pub(super) fn brief(reason: &str) -> String {
    let start = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let mut line: String = start.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    // What stands for a control character is longer than it.
    line.truncate(line.floor_char_boundary(REASON_BYTES_MAX));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_short_and_on_one_line() {
        let (x, e) = ("x".repeat(REASON_BYTES_MAX - 1), "é".repeat(REASON_BYTES_MAX));
        for (reason, expected) in [
            ("", String::new()),
            ("the join token was used up", "the join token was used up".to_owned()),
            ("a\nb\u{1b}[2J\u{85}é", "a\u{fffd}b\u{fffd}[2J\u{fffd}é".to_owned()),
            (&format!("{x}y"), format!("{x}y")),
            (&format!("{x}é"), x),
            (&e, "é".repeat(REASON_BYTES_MAX / 2)),
            (&"\0".repeat(1024 * 1024), "\u{fffd}".repeat(REASON_BYTES_MAX / 3)),
        ] {
            assert_eq!(brief(reason), expected, "{} bytes", reason.len());
        }
    }
}
