//! `sloth-coord runs …`.

use std::str::FromStr;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value};
use sloth_cli::{Failure, Format, Outcome, Table, events, print_json, print_line};
use sloth_core::{AgentId, Clock, Millis, RunId, id::InvalidId};
use sloth_protocol::wire::{
    FollowWait, JobState, JobView, OperatorRequest, OperatorResponse, PAGE_ROWS_MAX, RunSummary, RunView, TaskView,
};

use super::{
    CredentialArgs,
    client::{AskError, Client, block_on, expect_answer, note, with_client},
    follow::{self, Follower, Shown, print_jobs},
    printed, show,
};
use crate::events::state_name;

#[derive(Debug, Subcommand)]
pub(super) enum RunsCommand {
    /// List runs, newest first
    List(ListArgs),
    /// Show one run with its tasks
    Show(OneArgs),
    /// Show what a run printed
    Logs(LogsArgs),
    /// Cancel a run wherever it has not ended
    Cancel(OneArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_ROWS_MAX)))]
    rows: u32,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// The run's id, or `latest`
    run: Which,
}

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Only what this agent printed
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Go on until the run has ended everywhere
    #[arg(long)]
    follow: bool,
}

/// Which run is meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    Latest,
    Id(RunId),
}

impl FromStr for Which {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text == "latest" { Ok(Self::Latest) } else { text.parse().map(Self::Id) }
    }
}

#[derive(Serialize)]
struct ShownSummary {
    run: String,
    bundle: String,
    version: String,
    workflow: Option<String>,
    selector: String,
    operator: String,
    created: String,
    ended: Option<String>,
    deadline: String,
    cancelled: bool,
    jobs: Map<String, Value>,
}

#[derive(Serialize)]
pub(super) struct ShownRun {
    #[serde(flatten)]
    summary: ShownSummary,
    agents: Vec<ShownJob>,
}

#[derive(Serialize)]
struct ShownJob {
    agent: String,
    name: String,
    state: &'static str,
    message: String,
    outputs: Value,
    tasks: Vec<ShownTask>,
}

#[derive(Serialize)]
struct ShownTask {
    workflow: String,
    task: String,
    status: &'static str,
    attempts: u32,
    message: String,
    outputs: Value,
    started: String,
    ended: String,
    duration_ms: u64,
}

pub(super) fn run(command: RunsCommand, format: Format) -> Result<Outcome, Failure> {
    match command {
        RunsCommand::List(args) => list(&args, format),
        RunsCommand::Show(args) => {
            let view = with_client(&args.credential, async |client| {
                let run = resolve(client, args.run).await?;
                Ok(follow::view(client, run).await?)
            })?;
            print_run(&view, format)
        }
        RunsCommand::Logs(args) => logs(&args, format),
        RunsCommand::Cancel(args) => {
            let view = with_client(&args.credential, async |client| {
                let run = resolve(client, args.run).await?;
                Ok(expect_answer!(client.ask(OperatorRequest::CancelRun(run)).await?, Run)?)
            })?;
            if view.summary.ended.is_some() && !view.summary.cancelled {
                note("the run had ended before, so there was nothing to cancel");
            }
            print_run(&view, format)
        }
    }
}

/// A run for programs.
pub(super) fn shown(view: &RunView) -> ShownRun {
    ShownRun { summary: shown_summary(&view.summary), agents: view.jobs.iter().map(shown_job).collect() }
}

fn list(args: &ListArgs, format: Format) -> Result<Outcome, Failure> {
    let runs = with_client(&args.credential, async |client| Ok(page(client, args.rows).await?))?;
    if format == Format::Json {
        let shown: Vec<_> = runs.iter().map(shown_summary).collect();
        printed(print_json(&shown))?;
        return Ok(Outcome::Done);
    }
    let now = Clock::new().now();
    let mut table = Table::new(&["RUN", "BUNDLE", "RELEASE", "ON", "STARTED", "TOOK", "BY", "AGENTS"]);
    for run in runs {
        table.row(vec![
            run.run.to_string(),
            run.bundle.clone(),
            run.version.clone(),
            run.selector.clone(),
            show::ago(now, run.created),
            run.ended.map_or_else(|| "under way".to_owned(), |ended| show::rough(ended.since(run.created))),
            run.operator.clone(),
            counts(&run.jobs),
        ]);
    }
    printed(table.print())?;
    Ok(Outcome::Done)
}

/// The newest runs, `rows` of them where there are as many.
async fn page(client: &Client, rows: u32) -> Result<Vec<RunSummary>, AskError> {
    let mut runs: Vec<RunSummary> = Vec::new();
    loop {
        let left = rows.saturating_sub(u32::try_from(runs.len()).unwrap_or(u32::MAX));
        let question = OperatorRequest::Runs { before: runs.last().map(|run| run.run), rows: left };
        let OperatorResponse::Runs(mut page) = client.ask(question).await? else {
            return Err(AskError::Unexpected);
        };
        let empty = page.runs.is_empty();
        runs.append(&mut page.runs);
        if !page.more || empty || u32::try_from(runs.len()).is_ok_and(|count| rows <= count) {
            return Ok(runs);
        }
    }
}

/// The run that is meant.
pub(super) async fn resolve(client: &Client, which: Which) -> Result<RunId, Failure> {
    match which {
        Which::Id(run) => Ok(run),
        Which::Latest => match page(client, 1).await?.first() {
            Some(run) => Ok(run.run),
            None => Err(Failure::new(Outcome::Refused, "there is no run yet: start one with `sloth-coord run`")),
        },
    }
}

fn logs(args: &LogsArgs, format: Format) -> Result<Outcome, Failure> {
    let credential = &args.one.credential;
    let (run, agent) = with_client(credential, async |client| find(client, args).await)?;
    let wait = if args.follow { FollowWait::UntilEnd } else { FollowWait::No };
    let follower = Follower { credential, run, agent, wait, shown: Shown::Logs, format };
    block_on(Box::pin(follower.follow()))?;
    Ok(Outcome::Done)
}

async fn find(client: &Client, args: &LogsArgs) -> Result<(RunId, Option<AgentId>), Failure> {
    let run = resolve(client, args.one.run).await?;
    let Some(name) = &args.agent else { return Ok((run, None)) };
    let agent = expect_answer!(client.ask(OperatorRequest::Agent(name.clone())).await?, Agent)?;
    Ok((run, Some(agent.id)))
}

fn print_run(view: &RunView, format: Format) -> Result<Outcome, Failure> {
    if format == Format::Json {
        printed(print_json(&shown(view)))?;
        return Ok(Outcome::Done);
    }
    let now = Clock::new().now();
    let run = &view.summary;
    let workflow = run.workflow.as_ref().map_or(String::new(), |workflow| format!(", workflow {workflow}"));
    let state = match run.ended {
        Some(ended) => format!("ended after {}", events::exact(ended.since(run.created))),
        None if run.cancelled => "is being cancelled".to_owned(),
        None => format!("expires {}", show::ago(now, run.deadline)),
    };
    let lines = [
        ("run", run.run.to_string()),
        ("bundle", format!("{} {}{workflow}", run.bundle, run.version)),
        ("on", run.selector.clone()),
        ("started", format!("{} by {}", show::ago(now, run.created), run.operator)),
        ("state", state),
        ("agents", counts(&run.jobs)),
    ];
    for (name, value) in lines {
        printed(print_line(&format!("{name:<8} {value}")))?;
    }
    printed(print_line(""))?;
    print_jobs(view)?;
    for job in view.jobs.iter().filter(|job| !job.tasks.is_empty()) {
        printed(print_line(""))?;
        printed(print_line(&format!("{}:", job.name)))?;
        for task in &job.tasks {
            printed(print_line(&format!("  {}", events::task_end(&task.end))))?;
        }
    }
    Ok(Outcome::Done)
}

fn counts(jobs: &[(JobState, u32)]) -> String {
    jobs.iter().map(|(state, count)| format!("{count} {}", state_name(*state))).collect::<Vec<_>>().join(", ")
}

fn shown_summary(run: &RunSummary) -> ShownSummary {
    ShownSummary {
        run: run.run.to_string(),
        bundle: run.bundle.clone(),
        version: run.version.clone(),
        workflow: run.workflow.clone(),
        selector: run.selector.clone(),
        operator: run.operator.clone(),
        created: run.created.to_string(),
        ended: run.ended.as_ref().map(Millis::to_string),
        deadline: run.deadline.to_string(),
        cancelled: run.cancelled,
        jobs: run.jobs.iter().map(|(state, count)| (state_name(*state).to_owned(), Value::from(*count))).collect(),
    }
}

fn shown_job(job: &JobView) -> ShownJob {
    ShownJob {
        agent: job.agent.to_string(),
        name: job.name.clone(),
        state: state_name(job.state),
        message: job.message.clone(),
        outputs: json(&job.outputs),
        tasks: job.tasks.iter().map(shown_task).collect(),
    }
}

fn shown_task(task: &TaskView) -> ShownTask {
    let end = &task.end;
    ShownTask {
        workflow: end.task.workflow.clone(),
        task: end.task.task.clone(),
        status: events::status_name(end.status),
        attempts: end.attempts,
        message: end.message.clone(),
        outputs: json(&end.outputs),
        started: end.started.to_string(),
        ended: end.ended.to_string(),
        duration_ms: end.ended.since(end.started).as_u64(),
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}
