//! `sloth-coord audit list`.

use serde::Serialize;
use serde_json::Value;
use sloth_cli::{Failure, Format, Outcome, Table, print_json};
use sloth_core::{Clock, Digest, Millis};
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
    let (agents, lines) = with_client(&args.credential, async |client| {
        let asked = args.filter.asked(client).await?;
        let mut lines = Vec::new();
        source::each_receipt(client, asked, |_, line| {
            lines.push(line);
            Ok(())
        })
        .await?;
        Ok((source::agents(client).await?, lines))
    })?;
    if format == Format::Json {
        let shown: Vec<Shown> = lines.iter().filter_map(|line| shown(line, &agents)).collect();
        printed(print_json(&shown))?;
        return Ok(Outcome::Done);
    }
    let now = Clock::new().now();
    let mut table =
        Table::new(&["RECEIPT", "RECEIVED", "RUN", "AGENT", "BUNDLE", "OUTCOME", "TASKS", "TOOK", "SIGNED"]);
    for line in &lines {
        table.row(row(line, &agents, now));
    }
    printed(table.print())?;
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
    let unreadable = || vec!["cannot be read: see `sloth-coord audit verify`".to_owned()];
    let Some((entry, receipt)) = ChainEntry::decode(line)
        .ok()
        .and_then(|entry| Some((entry.claimed()?, entry)))
        .map(|(receipt, entry)| (entry, receipt))
    else {
        return unreadable();
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
    let all = succeeded + unchanged + failed + timed_out + skipped + cancelled + interrupted;
    match failed + timed_out + interrupted {
        0 => all.to_string(),
        failed => format!("{all}, {failed} failed"),
    }
}
