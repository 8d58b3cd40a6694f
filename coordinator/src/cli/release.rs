//! `sloth-coord release …`: versions of the agent, and who is to go to which.

mod binary;
mod publish;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, Table, print_json, print_line};
use sloth_core::{Clock, config::Span};
use sloth_protocol::wire::{AssignRelease, OperatorRequest, OperatorResponse, ReleaseView};
use sloth_trust::{AgentRelease, Channel, Version};

use self::{binary::FileArg, publish::Protocol};
use super::{
    CredentialArgs, agents,
    client::{AskError, Client, expect_answer, with_client},
    printed, show,
    signed_file::SignedFile,
};

/// How long a release is good for new updates when nothing else is said.
const RELEASE_LIFE: &str = "180d";
/// How long an order to one agent counts when nothing else is said.
const ORDER_LIFE: &str = "1h";

#[derive(Debug, Subcommand)]
pub(super) enum ReleaseCommand {
    /// Sign a version of the agent and hand it over; without enough keys it is written to a file to be signed
    Publish(PublishArgs),
    /// Sign a release that `publish` wrote to a file
    Sign(SignArgs),
    /// Hand over a release that was signed as a file
    Submit(SubmitArgs),
    /// List the releases of the agent
    List(ListArgs),
    /// Show one release
    Show(OneArgs),
    /// Take a release back: no agent is told of it any more
    Withdraw(OneArgs),
    /// Order one agent to go to a release
    Assign(AssignArgs),
}

#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// A binary of `sloth-agent`, and the platform it is for where its file does not say it; one for each platform
    #[arg(long, value_name = "BINARY[=TRIPLE]", required = true)]
    file: Vec<FileArg>,
    /// What the binaries say of themselves
    #[arg(long, value_name = "VERSION")]
    version: Version,
    /// A binary that hosts run today, of which the new one is made where it runs; at most 16 for each platform
    #[arg(long, value_name = "BINARY[=TRIPLE]")]
    delta_from: Vec<FileArg>,
    /// Which hosts take it, by their own settings
    #[arg(long, default_value_t)]
    channel: Channel,
    /// The oldest version from which agents may go to it
    #[arg(long, value_name = "VERSION", default_value = "0.0.0")]
    from: Version,
    /// An older version from which they may all the same
    #[arg(long, value_name = "VERSION")]
    also_from: Vec<Version>,
    /// The versions of the protocol that it speaks [default: those of this program]
    #[arg(long, value_name = "MIN-MAX", default_value_t)]
    protocol: Protocol,
    /// How long it is good for new updates
    #[arg(long, default_value = RELEASE_LIFE)]
    expires: Span,
    /// Secret keys that sign it; without enough of them it is written to a file
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Where to write it when it is not published at once
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct SignArgs {
    /// The release's file, like `release-1.2.3.json`
    file: PathBuf,
    /// Secret keys
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// The release's file, like `release-1.2.3.json`, with its `.minisig` files beside it
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    credential: CredentialArgs,
}

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// Its version, or its number
    release: String,
}

#[derive(Debug, Args)]
pub(super) struct AssignArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// Its version, or its number
    release: String,
    /// The agent's name or id
    #[arg(long, value_name = "AGENT")]
    on: String,
    /// How long from now the agent may still begin
    #[arg(long = "for", default_value = ORDER_LIFE)]
    ttl: Span,
}

type ReleaseFile = SignedFile<AgentRelease>;

#[derive(Serialize)]
struct Shown {
    version: String,
    counter: u64,
    channel: String,
    targets: Vec<ShownTarget>,
    from: String,
    also_from: Vec<String>,
    protocol: [u16; 2],
    published: String,
    expires: String,
    signers: Vec<String>,
}

#[derive(Serialize)]
struct ShownTarget {
    target: String,
    sha256: String,
    length: u64,
    manifest: String,
}

pub(super) fn run(command: ReleaseCommand, format: Format) -> Result<Outcome, Failure> {
    match command {
        ReleaseCommand::Publish(args) => publish::run(&args, format),
        ReleaseCommand::Sign(args) => publish::sign(&args, format),
        ReleaseCommand::Submit(args) => publish::submit(&args, format),
        ReleaseCommand::List(args) => {
            let releases = with_client(&args.credential, async |client| Ok(releases(client).await?))?;
            list(releases, format)
        }
        ReleaseCommand::Show(args) => {
            let release = with_client(&args.credential, async |client| find(client, &args.release).await)?;
            print_one(release, format)
        }
        ReleaseCommand::Withdraw(args) => {
            let release = with_client(&args.credential, async |client| {
                let release = find(client, &args.release).await?;
                client.ask(OperatorRequest::WithdrawRelease(release.counter)).await?;
                Ok(release)
            })?;
            if format == Format::Json {
                return print_one(release, format);
            }
            printed(print_line(&format!("release {} (number {}) is withdrawn", release.version, release.counter)))?;
            Ok(Outcome::Done)
        }
        ReleaseCommand::Assign(args) => assign(&args, format),
    }
}

/// Every release, newest first.
async fn releases(client: &Client) -> Result<Vec<ReleaseView>, AskError> {
    expect_answer!(client.ask(OperatorRequest::Releases).await?, Releases)
}

/// The release that a version or a number means; of one version, the newest.
async fn find(client: &Client, named: &str) -> Result<ReleaseView, Failure> {
    let releases = releases(client).await?;
    let is = |release: &&ReleaseView| release.version == named || release.counter.to_string() == named;
    let found = releases.iter().find(is).cloned();
    found.ok_or_else(|| {
        let named = sloth_core::excerpt(named);
        Failure::new(
            Outcome::Refused,
            format!("there is no release `{named}`: `sloth-coord release list` shows them all"),
        )
    })
}

fn assign(args: &AssignArgs, format: Format) -> Result<Outcome, Failure> {
    let agent = with_client(&args.credential, async |client| {
        let counter = find(client, &args.release).await?.counter;
        let assign = AssignRelease { agent: args.on.clone(), counter, ttl: args.ttl.millis() };
        Ok(expect_answer!(client.ask(OperatorRequest::AssignRelease(assign)).await?, Agent)?)
    })?;
    agents::print_one(agent, format)
}

fn list(releases: Vec<ReleaseView>, format: Format) -> Result<Outcome, Failure> {
    if format == Format::Json {
        let shown: Vec<_> = releases.into_iter().map(Shown::from).collect();
        printed(print_json(&shown))?;
        return Ok(Outcome::Done);
    }
    let now = Clock::new().now();
    let mut table = Table::new(&["RELEASE", "NUMBER", "CHANNEL", "FOR", "FROM", "PUBLISHED", "EXPIRES", "SIGNED BY"]);
    for release in releases {
        let targets: Vec<&str> = release.targets.iter().map(|target| target.target.as_str()).collect();
        let signers: Vec<String> = release.signers.iter().map(|key| show::key(key)).collect();
        table.row(vec![
            release.version.clone(),
            release.counter.to_string(),
            release.channel.clone(),
            targets.join(","),
            release.oldest.clone(),
            show::ago(now, release.published),
            show::ago(now, release.expires),
            signers.join(","),
        ]);
    }
    printed(table.print())?;
    Ok(Outcome::Done)
}

fn print_one(release: ReleaseView, format: Format) -> Result<Outcome, Failure> {
    if format == Format::Json {
        printed(print_json(&Shown::from(release)))?;
        return Ok(Outcome::Done);
    }
    let from = [vec![format!("{} and later", release.oldest)], release.also.clone()].concat();
    let lines = [
        ("release", release.version.clone()),
        ("number", release.counter.to_string()),
        ("channel", release.channel.clone()),
        ("from", from.join(", ")),
        ("protocol", format!("{} to {}", release.proto_min, release.proto_max)),
        ("published", release.published.to_string()),
        ("expires", release.expires.to_string()),
        ("signed by", release.signers.join(" ")),
    ];
    for (name, value) in lines {
        printed(print_line(&format!("{name:<10} {value}")))?;
    }
    for target in &release.targets {
        let size = show::size(target.length);
        printed(print_line(&format!("{:>10}  {}  SHA-256 {}", size, target.target, target.sha256)))?;
    }
    Ok(Outcome::Done)
}

impl From<ReleaseView> for Shown {
    fn from(release: ReleaseView) -> Self {
        let target = |target: sloth_protocol::wire::ReleaseTarget| ShownTarget {
            target: target.target,
            sha256: target.sha256,
            length: target.length,
            manifest: target.manifest.to_string(),
        };
        Self {
            version: release.version,
            counter: release.counter,
            channel: release.channel,
            targets: release.targets.into_iter().map(target).collect(),
            from: release.oldest,
            also_from: release.also,
            protocol: [release.proto_min, release.proto_max],
            published: release.published.to_string(),
            expires: release.expires.to_string(),
            signers: release.signers,
        }
    }
}
