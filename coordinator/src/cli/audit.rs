//! `sloth-coord audit …`: the receipts that agents signed, and whether the chain that they are kept in holds.

mod export;
mod list;
mod results;
#[cfg(test)]
mod sample;
mod source;
mod verify;

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use sloth_cli::{Failure, Format, Outcome};
use sloth_core::{AgentId, Digest, RunId};
use sloth_protocol::wire::{OperatorRequest, OperatorResponse, PAGE_ROWS_MAX};
use sloth_trust::ChainLink;

use super::{
    CredentialArgs,
    client::{AskError, Client, expect_answer},
    runs::{Which, resolve},
};

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Check every receipt and the chains of receipts and heads, and name the first place where one does not hold
    Verify(VerifyArgs),
    /// List receipts, newest first
    List(ListArgs),
    /// Write the chains, the agents' keys, and receipts with their signatures to a directory
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// Check what `audit export` wrote to this directory, without a coordinator
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// An entry that was noted before, and must still be there; may be repeated
    #[arg(long = "anchor", value_name = "NUMBER:DIGEST")]
    anchors: Vec<Anchor>,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_ROWS_MAX)))]
    rows: u32,
    /// Only those below this number, like that of the last one listed
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Where to: an empty directory, or none, which is made
    dir: PathBuf,
}

/// Which receipts are meant.
#[derive(Debug, Args)]
struct FilterArgs {
    /// Only those of this agent, by name or id
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only those of this run, by id, or `latest`
    #[arg(long, value_name = "RUN")]
    run: Option<Which>,
}

/// An entry of the chain as it is noted down: `12:5f3a…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Anchor(ChainLink);

/// A text that names no entry.
#[derive(Debug, thiserror::Error)]
#[error("an anchor is a number, a colon and 64 hexadecimal digits, as `audit verify` prints it")]
struct InvalidAnchor;

impl FromStr for Anchor {
    type Err = InvalidAnchor;

    fn from_str(text: &str) -> Result<Self, InvalidAnchor> {
        let (number, digest) = text.split_once(':').ok_or(InvalidAnchor)?;
        let number = number.parse().map_err(|_| InvalidAnchor)?;
        let digest: Digest = digest.parse().map_err(|_| InvalidAnchor)?;
        Ok(Self(ChainLink { number, digest }))
    }
}

pub(super) fn run(command: AuditCommand, format: Format) -> Result<Outcome, Failure> {
    match command {
        AuditCommand::Verify(args) => verify::run(&args, format),
        AuditCommand::List(args) => list::run(&args, format),
        AuditCommand::Export(args) => export::run(&args, format),
    }
}

impl FilterArgs {
    /// The agent and the run that are meant.
    async fn resolved(&self, client: &Client) -> Result<(Option<AgentId>, Option<RunId>), Failure> {
        let run = match self.run {
            Some(which) => Some(resolve(client, which).await?),
            None => None,
        };
        let agent = match &self.agent {
            Some(name) => Some(agent_of(client, name).await?),
            None => None,
        };
        Ok((agent, run))
    }
}

async fn agent_of(client: &Client, name: &str) -> Result<AgentId, AskError> {
    Ok(expect_answer!(client.ask(OperatorRequest::Agent(name.to_owned())).await?, Agent)?.id)
}
