//! `sloth-coord agents …`.

use clap::{Args, Subcommand};
use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, Table, events::printable, print_json, print_line};
use sloth_core::{Clock, Labels, Millis, Selector};
use sloth_protocol::wire::{AgentView, Copied, Dropped, OperatorRequest, OperatorResponse, UpdateState, UpdateView};

use super::{
    CredentialArgs,
    client::{AskError, Client, expect_answer, note, with_client},
    printed, show,
};

/// How long after a copy of its identity was last turned away an agent is listed as copied.
const COPIED_FOR: Millis = Millis::from_secs(24 * 3600);

#[derive(Debug, Subcommand)]
pub(super) enum AgentsCommand {
    /// List agents
    List(ListArgs),
    /// Show one agent
    Show(OneArgs),
    /// Withdraw an agent's identity, for good: it is disconnected at once, and has to enrol again
    Revoke(OneArgs),
    /// Forget an agent whose identity was withdrawn: it is listed no more, and its receipts stay
    Forget(OneArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// Which agents, as `role=web,region!=eu`
    #[arg(long, default_value = "*", value_name = "SELECTOR")]
    on: Selector,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// The agent's name or id
    agent: String,
}

#[derive(Serialize)]
struct Shown {
    id: String,
    name: String,
    connected: bool,
    revoked: bool,
    labels: Labels,
    version: String,
    os: String,
    arch: String,
    hostname: String,
    last_seen: String,
    enrolled: String,
    jobs: u32,
    dropped: Dropped,
    /// Versions at its last poll; zero when it has not polled since the coordinator's start.
    root: u64,
    head: u64,
    receipt_key: String,
    /// The version of the protocol that it speaks.
    protocol: u16,
    /// How the newest update of it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    update: Option<ShownUpdate>,
    /// Another host that came with its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    copied: Option<ShownCopy>,
}

#[derive(Serialize)]
struct ShownCopy {
    since: String,
    last: String,
    hostname: String,
}

#[derive(Serialize)]
struct ShownUpdate {
    number: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<String>,
    from: String,
    to: String,
    state: &'static str,
    at: String,
    reason: String,
    log_tail: String,
}

pub(super) fn run(command: AgentsCommand, format: Format) -> Result<Outcome, Failure> {
    match command {
        AgentsCommand::List(args) => {
            let agents = with_client(&args.credential, async |client| Ok(list(client, args.on.as_str()).await?))?;
            print_all(agents, format)
        }
        AgentsCommand::Show(args) => print_one(one(&args, OperatorRequest::Agent(args.agent.clone()))?, format),
        AgentsCommand::Forget(args) => {
            let question = OperatorRequest::ForgetAgent(args.agent.clone());
            with_client(&args.credential, async |client| Ok(client.ask(question).await?))?;
            note(&format!("agent `{}` is forgotten", args.agent));
            Ok(Outcome::Done)
        }
        AgentsCommand::Revoke(args) => print_one(one(&args, OperatorRequest::RevokeAgent(args.agent.clone()))?, format),
    }
}

/// Every agent that a selector matches.
pub(super) async fn list(client: &Client, selector: &str) -> Result<Vec<AgentView>, AskError> {
    let mut agents: Vec<AgentView> = Vec::new();
    loop {
        let after = agents.last().map(|agent| agent.id);
        let question = OperatorRequest::Agents { selector: selector.to_owned(), after };
        let OperatorResponse::Agents(mut page) = client.ask(question).await? else {
            return Err(AskError::Unexpected);
        };
        agents.append(&mut page.agents);
        if !page.more {
            return Ok(agents);
        }
    }
}

fn one(args: &OneArgs, question: OperatorRequest) -> Result<AgentView, Failure> {
    with_client(&args.credential, async |client| Ok(expect_answer!(client.ask(question).await?, Agent)?))
}

fn print_all(agents: Vec<AgentView>, format: Format) -> Result<Outcome, Failure> {
    if format == Format::Json {
        let shown: Vec<_> = agents.into_iter().map(Shown::from).collect();
        printed(print_json(&shown))?;
        return Ok(Outcome::Done);
    }
    let now = Clock::new().now();
    let mut table = Table::new(&["NAME", "STATE", "SEEN", "JOBS", "VERSION", "UPDATE", "OS", "LABELS"]);
    for agent in agents {
        table.row(vec![
            agent.name.clone(),
            standing(&agent, now),
            seen(&agent, now),
            agent.jobs.to_string(),
            agent.version.clone(),
            agent.update.as_deref().map(brief).unwrap_or_default(),
            format!("{} {}", agent.platform.os, agent.platform.arch),
            show::labels(&agent.labels),
        ]);
    }
    printed(table.print())?;
    Ok(Outcome::Done)
}

pub(super) fn print_one(agent: AgentView, format: Format) -> Result<Outcome, Failure> {
    if format == Format::Json {
        printed(print_json(&Shown::from(agent)))?;
        return Ok(Outcome::Done);
    }
    let now = Clock::new().now();
    let Dropped { logs, progress, tasks, runs } = agent.dropped;
    let lines = [
        ("name", agent.name.clone()),
        ("id", agent.id.to_string()),
        ("state", standing(&agent, now)),
        ("seen", seen(&agent, now)),
        ("enrolled", agent.enrolled.to_string()),
        ("version", agent.version.clone()),
        ("host", format!("{} ({} {})", agent.platform.hostname, agent.platform.os, agent.platform.arch)),
        ("labels", show::labels(&agent.labels)),
        ("open jobs", agent.jobs.to_string()),
        ("trust", trust(&agent, now)),
        ("receipts", format!("signed by {}", agent.receipt_key)),
        ("given up", format!("{logs} log lines, {progress} starts, {tasks} task ends, {runs} run ends")),
    ];
    for (name, value) in lines {
        printed(print_line(format!("{name:<10} {value}").trim_end()))?;
    }
    if let Some(update) = agent.update.as_deref() {
        print_update(update, now)?;
    }
    if let Some(copied) = agent.copied.as_deref() {
        print_copied(copied, now)?;
    }
    Ok(Outcome::Done)
}

/// How the newest update stands: `1.2.3 confirmed`.
fn brief(update: &UpdateView) -> String {
    format!("{} {}", update.to, update_state(update.state))
}

fn print_update(update: &UpdateView, now: Millis) -> Result<(), Failure> {
    let from = if update.from.is_empty() { String::new() } else { format!(" from {}", update.from) };
    printed(print_line(&format!("{:<10} {}{from}, {}", "update", brief(update), show::ago(now, update.at))))?;
    if !update.reason.is_empty() {
        printed(print_line(&format!("{:<10} {}", "", printable(&update.reason))))?;
    }
    for line in update.log_tail.lines() {
        printed(print_line(&format!("{:<10} | {}", "", printable(line))))?;
    }
    Ok(())
}

fn print_copied(copied: &Copied, now: Millis) -> Result<(), Failure> {
    let Copied { since, last, hostname } = copied;
    let host = printable(hostname);
    let (since, last) = (show::ago(now, *since), show::ago(now, *last));
    let lines = [
        (
            "copied",
            format!("a host that calls itself `{host}` came with a copy of this identity, first {since}, last {last}"),
        ),
        ("", "it is turned away; on it: `sloth-agent enroll --again TOKEN --name NAME`".to_owned()),
        ("", "if this host is the copy: `sloth-coord agents revoke`, and enrol both again".to_owned()),
    ];
    for (name, value) in lines {
        printed(print_line(&format!("{name:<10} {value}")))?;
    }
    Ok(())
}

const fn update_state(state: UpdateState) -> &'static str {
    match state {
        UpdateState::Queued => "queued",
        UpdateState::Accepted => "accepted",
        UpdateState::Staged => "staged",
        UpdateState::Switched => "switched",
        UpdateState::Confirmed => "confirmed",
        UpdateState::RolledBack => "rolled back",
        UpdateState::Refused => "refused",
        UpdateState::Held => "held",
        UpdateState::Withdrawn => "withdrawn",
    }
}

/// What the agent knew of roots and heads when it last asked.
fn trust(agent: &AgentView, now: Millis) -> String {
    match (agent.root, agent.head) {
        (0, _) => "not known: it has not asked since the coordinator was started".to_owned(),
        (root, 0) => format!("root {root}, no head"),
        (root, head) => format!("root {root}, head issued {}", show::ago(now, Millis::from_u64(head))),
    }
}

/// How the agent stands, and whether another host comes with its identity.
fn standing(agent: &AgentView, now: Millis) -> String {
    let recent = agent.copied.as_deref().is_some_and(|copied| now.since(copied.last) < COPIED_FOR);
    if recent { format!("{}, copied", state(agent)) } else { state(agent).to_owned() }
}

const fn state(agent: &AgentView) -> &'static str {
    match (agent.revoked, agent.connected) {
        (true, _) => "revoked",
        (false, true) => "connected",
        (false, false) => "away",
    }
}

fn seen(agent: &AgentView, now: Millis) -> String {
    if agent.connected { "now".to_owned() } else { show::ago(now, agent.last_seen) }
}

impl From<AgentView> for Shown {
    fn from(agent: AgentView) -> Self {
        Self {
            id: agent.id.to_string(),
            name: agent.name,
            connected: agent.connected,
            revoked: agent.revoked,
            labels: agent.labels,
            version: agent.version,
            os: agent.platform.os,
            arch: agent.platform.arch,
            hostname: agent.platform.hostname,
            last_seen: agent.last_seen.to_string(),
            enrolled: agent.enrolled.to_string(),
            jobs: agent.jobs,
            dropped: agent.dropped,
            root: agent.root,
            head: agent.head,
            receipt_key: agent.receipt_key.to_string(),
            protocol: agent.proto,
            update: agent.update.map(|update| ShownUpdate::from(*update)),
            copied: agent.copied.map(|copied| {
                let Copied { since, last, hostname } = *copied;
                ShownCopy { since: since.to_string(), last: last.to_string(), hostname }
            }),
        }
    }
}

impl From<UpdateView> for ShownUpdate {
    fn from(update: UpdateView) -> Self {
        Self {
            number: update.counter,
            rollout: update.rollout.map(|rollout| rollout.to_string()),
            from: update.from,
            to: update.to,
            state: update_state(update.state),
            at: update.at.to_string(),
            reason: update.reason,
            log_tail: update.log_tail,
        }
    }
}
