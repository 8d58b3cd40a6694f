//! `sloth-coord run`.

use clap::Args;
use serde::Serialize;
use serde_json::Map;
use sloth_cli::{Failure, Format, Outcome, print_json, print_line};
use sloth_core::{Clock, RunId, Selector, config::Span};
use sloth_protocol::wire::{FollowWait, OperatorRequest, OperatorResponse, StartRun, Started};

use super::{
    CredentialArgs,
    client::{AskError, Client, block_on, connect, expect_answer},
    follow::{Follower, Shown, summary},
    printed,
    work::WorkArgs,
};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// The bundle's name
    bundle: String,
    /// Which agents, as `role=web,region!=eu`; `*` for all
    #[arg(long, value_name = "SELECTOR")]
    on: Selector,
    #[command(flatten)]
    work: WorkArgs,
    /// How long from now agents may still begin it, and go on with it
    #[arg(long, default_value = "24h")]
    ttl: Span,
    /// Show what happens until it has ended everywhere
    #[arg(long)]
    follow: bool,
    /// Succeed when no agent matches
    #[arg(long)]
    allow_empty: bool,
}

#[derive(Serialize)]
struct ShownStart {
    run: String,
    agents: u32,
}

pub(super) fn run(args: &RunArgs, format: Format) -> Result<Outcome, Failure> {
    let values = args.work.values(Map::new())?;
    block_on(async {
        let started = Box::pin(start(args, values)).await?;
        if started.agents == 0 && !args.allow_empty {
            let sentence = format!(
                "no agent matches `{0}`, so nothing is run: see `sloth-coord agents list`, or give `--allow-empty`",
                args.on
            );
            return Err(Failure::new(Outcome::Refused, sentence));
        }
        let run = started.run;
        printed(match format {
            Format::Json => print_json(&ShownStart { run: run.to_string(), agents: started.agents }),
            Format::Text if started.agents == 1 => print_line(&format!("run {run} on 1 agent")),
            Format::Text => print_line(&format!("run {run} on {} agents", started.agents)),
        })?;
        if !args.follow || started.agents == 0 {
            return Ok(Outcome::Done);
        }
        let credential = &args.credential;
        let (agent, wait, shown) = (None, FollowWait::UntilEnd, Shown::All);
        Box::pin(Follower { credential, run, agent, wait, shown, format }.follow()).await?;
        Box::pin(summary(credential, run, format)).await
    })
}

/// Starts the run; asked again under the same identifier when the first answer was lost, it starts once.
async fn start(args: &RunArgs, values: String) -> Result<Started, Failure> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(Outcome::Internal.because())?;
    let start = StartRun {
        run: RunId::new(Clock::new().now(), u128::from_be_bytes(random)),
        bundle: args.bundle.clone(),
        version: args.work.release.clone(),
        workflow: args.work.workflow.clone(),
        selector: args.on.to_string(),
        values,
        ttl: args.ttl.millis(),
    };
    let first = {
        let client = connect(&args.credential).await?;
        let started = ask(&client, &start).await;
        client.close().await;
        started
    };
    match first {
        Err(error) if matches!(error, AskError::Request { .. }) && error.may_pass() => {
            let client = connect(&args.credential).await?;
            let started = ask(&client, &start).await;
            client.close().await;
            Ok(started?)
        }
        other => Ok(other?),
    }
}

async fn ask(client: &Client, start: &StartRun) -> Result<Started, AskError> {
    expect_answer!(client.ask(OperatorRequest::StartRun(start.clone())).await?, Started)
}
