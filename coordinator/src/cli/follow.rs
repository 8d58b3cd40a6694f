//! What happens in a run, as it happens.

use std::collections::BTreeMap;

use sloth_cli::{
    Failure, Format, Outcome, Table,
    events::{self, Origin},
    print_json, print_line,
};
use sloth_core::{AgentId, Clock, Millis, RunId, backoff::full_jitter};
use sloth_protocol::wire::{
    Events, Follow, FollowWait, JobState, OperatorRequest, OperatorResponse, RecordBody, RunEvent, RunView, TaskStatus,
};

use super::{
    CredentialArgs,
    client::{AskError, Client, connect, expect_answer, note},
    printed,
};
use crate::events::state_name;

/// How long a coordinator that went away may take to come back.
const RETURN_MAX: Millis = Millis::from_secs(120);
/// How long after the first attempt to come back the next one is made.
const RETURN_BASE: Millis = Millis::from_u64(250);
/// And at most after the later ones.
const RETURN_CAP: Millis = Millis::from_secs(5);

/// Which events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Everything.
    All,
    /// What was printed.
    Logs,
}

/// One who shows a run's events.
pub(super) struct Follower<'a> {
    pub(super) credential: &'a CredentialArgs,
    pub(super) run: RunId,
    pub(super) agent: Option<AgentId>,
    pub(super) wait: FollowWait,
    pub(super) shown: Shown,
    pub(super) format: Format,
}

impl Follower<'_> {
    /// Shows everything until there is no more to come. A coordinator that goes away in the meantime is waited for.
    pub(super) async fn follow(&self) -> Result<(), Failure> {
        let clock = Clock::new();
        let (mut after, mut attempt, mut lost_at) = (0, 0, None);
        loop {
            let begun = after;
            let error = match self.attempt(&mut after).await {
                Ok(()) => return Ok(()),
                Err(Interrupted::Ask(error)) if error.may_pass() => error,
                Err(Interrupted::Ask(error)) => return Err(error.into()),
                Err(Interrupted::Other(failure)) => return Err(failure),
            };
            if begun < after {
                (attempt, lost_at) = (0, None);
            }
            let since = *lost_at.get_or_insert_with(|| clock.now());
            if RETURN_MAX < clock.now().since(since) {
                return Err(error.into());
            }
            if attempt == 0 {
                note("the coordinator went away; waiting for it");
            }
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(Outcome::Internal.because())?;
            let wait = full_jitter(attempt, RETURN_BASE, RETURN_CAP, u64::from_be_bytes(random));
            tokio::time::sleep(wait.as_duration()).await;
            attempt += 1;
        }
    }

    /// Shows what comes over one connection; `after` says how far it came.
    async fn attempt(&self, after: &mut u64) -> Result<(), Interrupted> {
        let client = match Client::connect(&self.credential.path()).await {
            Ok(client) => client,
            Err(error) => return Err(Interrupted::Ask(error)),
        };
        let result = self.stream(&client, after).await;
        client.close().await;
        result
    }

    async fn stream(&self, client: &Client, after: &mut u64) -> Result<(), Interrupted> {
        let mut names = Names(BTreeMap::new());
        let follow = Follow { run: self.run, after: *after, agent: self.agent, wait: self.wait };
        let (mut answer, mut rest) = client.stream(OperatorRequest::Follow(follow)).await?;
        loop {
            let OperatorResponse::Events(Events { events, last }) = answer else {
                return Err(AskError::Unexpected.into());
            };
            for event in events {
                let name = names.of(client, event.agent).await?;
                self.show(&name, &event)?;
                *after = event.number;
            }
            if last {
                return Ok(());
            }
            answer = rest.next().await?;
        }
    }

    fn show(&self, agent: &str, event: &RunEvent) -> Result<(), Failure> {
        let is_log = matches!(event.record.body, RecordBody::Log { .. });
        if self.shown == Shown::Logs && !is_log {
            return Ok(());
        }
        let origin = Origin { number: Some(event.number), agent: Some(agent) };
        printed(events::show(origin, &event.record, self.format))
    }
}

/// Why showing stopped.
enum Interrupted {
    Ask(AskError),
    Other(Failure),
}

impl From<AskError> for Interrupted {
    fn from(error: AskError) -> Self {
        Self::Ask(error)
    }
}

impl From<Failure> for Interrupted {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

/// Agents' names, asked for once each.
struct Names(BTreeMap<AgentId, String>);

impl Names {
    async fn of(&mut self, client: &Client, agent: AgentId) -> Result<String, AskError> {
        if let Some(name) = self.0.get(&agent) {
            return Ok(name.clone());
        }
        let name = match client.ask(OperatorRequest::Agent(agent.to_string())).await {
            Ok(OperatorResponse::Agent(view)) => view.name,
            Ok(_other) => return Err(AskError::Unexpected),
            Err(AskError::Refused(_)) => agent.to_string(),
            Err(error) => return Err(error),
        };
        self.0.insert(agent, name.clone());
        Ok(name)
    }
}

/// One run with its jobs.
pub(super) async fn view(client: &Client, run: RunId) -> Result<RunView, AskError> {
    expect_answer!(client.ask(OperatorRequest::Run(run)).await?, Run)
}

/// How a run ended, or stands, on each agent.
pub(super) async fn summary(args: &CredentialArgs, run: RunId, format: Format) -> Result<Outcome, Failure> {
    let client = connect(args).await?;
    let view = view(&client, run).await;
    client.close().await;
    let view = view?;
    match format {
        Format::Json => printed(print_json(&super::runs::shown(&view)))?,
        Format::Text => print_jobs(&view)?,
    }
    let succeeded = view.summary.jobs.iter().all(|(state, _)| *state == JobState::Succeeded);
    Ok(if succeeded { Outcome::Done } else { Outcome::Failed })
}

/// A table of the agents.
pub(super) fn print_jobs(view: &RunView) -> Result<(), Failure> {
    let mut table = Table::new(&["AGENT", "STATE", "TASKS", "CHANGED", "FAILED", "MESSAGE"]);
    for job in &view.jobs {
        let count = |wanted: &[TaskStatus]| job.tasks.iter().filter(|task| wanted.contains(&task.end.status)).count();
        let failed = [TaskStatus::Failed, TaskStatus::TimedOut, TaskStatus::Interrupted];
        table.row(vec![
            job.name.clone(),
            state_name(job.state).to_owned(),
            job.tasks.len().to_string(),
            count(&[TaskStatus::Succeeded]).to_string(),
            count(&failed).to_string(),
            job.message.lines().next().unwrap_or_default().to_owned(),
        ]);
    }
    printed(table.print())?;
    let all: u32 = view.summary.jobs.iter().map(|(_, count)| count).sum();
    let shown = u32::try_from(view.jobs.len()).unwrap_or(u32::MAX);
    if shown < all {
        printed(print_line(&format!("… and {} more agents", all - shown)))?;
    }
    Ok(())
}
