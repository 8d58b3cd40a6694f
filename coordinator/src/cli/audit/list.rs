//! `sloth-coord audit list`.

use serde::Serialize;
use serde_json::Value;
use sloth_cli::{Failure, Format, Outcome, Table, print_json};
use sloth_core::{Clock, Digest, Millis};
use sloth_protocol::wire::NewestReceipts;
use sloth_trust::{ChainEntry, Receipt, TaskSummary};

use super::{
    super::{client::with_client, printed, show},
    ListArgs,
    source::{self, Agents},
};

#[derive(Serialize)]
struct Shown {
    number: u64,
    digest: String,
    received: String,
    agent_name: Option<String>,
    key: String,
    /// Whether that key signed it.
    verified: bool,
    /// As it was signed.
    receipt: Value,
}

pub(super) fn run(args: &ListArgs, format: Format) -> Result<Outcome, Failure> {
    let now = Clock::new().now();
    let mut rows = Table::new(&["RECEIPT", "RECEIVED", "RUN", "AGENT", "BUNDLE", "OUTCOME", "TASKS", "TOOK", "SIGNED"]);
    let mut objects: Vec<Shown> = Vec::new();
    with_client(&args.credential, async |client| {
        let (agent, run) = args.filter.resolved(client).await?;
        let asked = NewestReceipts { before: args.before, rows: args.rows, agent, run };
        let agents = source::agents(client).await?;
        source::newest_receipts(client, asked, |line| match format {
            Format::Json => objects.extend(shown(&line, &agents)),
            Format::Text => rows.row(row(&line, &agents, now)),
        })
        .await
    })?;
    printed(match format {
        Format::Json => print_json(&objects),
        Format::Text => rows.print(),
    })?;
    Ok(Outcome::Done)
}

fn shown(line: &[u8], agents: &Agents) -> Option<Shown> {
    let entry = ChainEntry::decode(line).ok()?;
    let receipt = entry.claimed();
    Some(Shown {
        number: entry.number,
        digest: Digest::of(line).to_string(),
        received: entry.received.to_string(),
        agent_name: receipt.and_then(|receipt| agents.get(&receipt.agent)).map(|(name, _)| name.clone()),
        verified: entry.verify().is_ok(),
        receipt: serde_json::from_str(&entry.receipt).unwrap_or(Value::Null),
        key: entry.key.to_string(),
    })
}

fn row(line: &[u8], agents: &Agents, now: Millis) -> Vec<String> {
    let entry = ChainEntry::decode(line).ok().and_then(|entry| Some((entry.claimed()?, entry)));
    let Some((receipt, entry)) = entry else {
        return vec!["cannot be read: see `sloth-coord audit verify`".to_owned()];
    };
    let Receipt { run, agent, bundle, counter, outcome, tasks, started, ended, .. } = &receipt;
    let name = agents.get(agent).map_or_else(|| agent.to_string(), |(name, _)| name.clone());
    vec![
        entry.number.to_string(),
        show::ago(now, entry.received),
        run.to_string(),
        name,
        format!("{bundle} {counter}"),
        outcome.name().to_owned(),
        summary(tasks),
        started.map_or_else(|| "-".to_owned(), |started| show::rough(ended.since(started))),
        if entry.verify().is_ok() { "yes" } else { "no" }.to_owned(),
    ]
}

fn summary(tasks: &TaskSummary) -> String {
    let TaskSummary { succeeded, unchanged, failed, timed_out, skipped, cancelled, interrupted, digest: _ } = *tasks;
    // An agent may sign any numbers.
    let sum = |counts: &[u64]| counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
    let failed = sum(&[failed, timed_out, interrupted]);
    let all = sum(&[failed, succeeded, unchanged, skipped, cancelled]);
    match failed {
        0 => all.to_string(),
        failed => format!("{all}, {failed} failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    #[test]
    fn whatever_numbers_an_agent_signed_are_shown() {
        let mut receipt = sample::receipt(1);
        receipt.tasks = TaskSummary { succeeded: u64::MAX, failed: u64::MAX, timed_out: 1, ..receipt.tasks };
        (receipt.order, receipt.counter, receipt.head) = (u64::MAX, u64::MAX, u64::MAX);
        receipt.started = Some(Millis::from_u64(u64::MAX));
        let (line, _) = sample::entry(None, &receipt, 7);
        let cells = row(&line, &Agents::new(), Millis::ZERO);
        let tasks = format!("{0}, {0} failed", u64::MAX);
        assert!(cells.contains(&tasks) && cells.contains(&"yes".to_owned()), "{cells:?}");
        assert!(shown(&line, &Agents::new()).is_some_and(|shown| shown.verified));
        assert_eq!(row(b"{}", &Agents::new(), Millis::ZERO).len(), 1);
    }
}
