//! `sloth-coord trust …`: who may sign what, and how that is changed.
//!
//! A change makes the next root. Where the keys at hand are enough it is published at once; else it becomes a file,
//! is signed wherever its keys are, by this program or by `minisign`, and is published when enough have signed.

mod change;
mod status;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use sloth_cli::{Failure, Format, Outcome, SIGNATURE_ENDING, print_json, print_line};
use sloth_core::{Chain, Millis, config::Span};
use sloth_protocol::wire::{OperatorRequest, OperatorResponse};
use sloth_trust::{Envelope, PublicKey, Root, RootPin, Trusted};

pub(super) use self::change::{Change, Role, all_roles, first as first_root, keys_of};
pub(super) use self::status::warnings;
use super::{
    CredentialArgs,
    client::{AskError, Client, with_client},
    printed,
    sign::{Signer, open},
    signed_file::{SignedFile, Written},
};

/// How long a root vouches for new work when nothing else is said.
pub(super) const ROOT_LIFE: Millis = Millis::from_secs(365 * 24 * 3600);
/// The same as it is written on the command line.
const ROOT_LIFE_TEXT: &str = "365d";

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Show who may sign what, and until when
    Status(StatusArgs),
    /// Write the trust root and its signatures to files, for machines without a network
    Export(ExportArgs),
    /// Make the first root of keys that are not on this machine
    Init(InitArgs),
    /// Let one more key sign for a role
    AddKey(AddKeyArgs),
    /// Let a key sign for a role no more
    RemoveKey(RemoveKeyArgs),
    /// Make the coordinator a new key for what it says and orders, and let it be the one that counts
    RotateOnline(RotateOnlineArgs),
    /// Change how many keys must sign for a role
    SetThreshold(SetThresholdArgs),
    /// Make the next root with a new time to live, and change nothing else
    Renew(RenewArgs),
    /// Sign a root that another command wrote to a file
    Sign(SignArgs),
    /// Hand a signed root to the coordinator
    Publish(PublishArgs),
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// A root in a file instead of the coordinator's
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// Where to write
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Public keys that sign roots
    #[arg(long, value_name = "FILE", required = true)]
    root_key: Vec<PathBuf>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    root_threshold: usize,
    /// Public keys that sign bundles [default: those that sign roots]
    #[arg(long, value_name = "FILE")]
    bundle_key: Vec<PathBuf>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    bundle_threshold: usize,
    /// Public keys that sign releases of the agent [default: those that sign roots]
    #[arg(long, value_name = "FILE")]
    release_key: Vec<PathBuf>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    release_threshold: usize,
    /// The coordinator's online key, which signs what it says and orders: `sloth-coord keys online` writes it
    #[arg(long, value_name = "FILE")]
    online_key: PathBuf,
    /// How long it vouches for new work
    #[arg(long, default_value = ROOT_LIFE_TEXT)]
    expires: Span,
    /// Where to write
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// What every change of a root takes.
#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// Secret keys that sign the next root; without enough of them it is written to a file
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// The root in this file instead of the coordinator's, on a machine without a network
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// How long the next root vouches for new work
    #[arg(long, default_value = ROOT_LIFE_TEXT)]
    expires: Span,
    /// Where to write it when it is not published at once
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct AddKeyArgs {
    /// `root`, `online`, `releases`, or `bundles/` and a pattern of names
    role: Role,
    /// The key's `.pub` file
    public: PathBuf,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(super) struct RemoveKeyArgs {
    /// `root`, `online`, `releases`, or `bundles/` and a pattern of names
    role: Role,
    /// The key's `.pub` file, or the beginning of its id
    key_or_id: String,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(super) struct SetThresholdArgs {
    /// `root`, `online`, `releases`, or `bundles/` and a pattern of names
    role: Role,
    /// How many of the role's keys must sign
    threshold: usize,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(super) struct RenewArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(super) struct RotateOnlineArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(super) struct SignArgs {
    /// The root's file, like `root-2.json`
    file: PathBuf,
    /// Secret keys
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    #[command(flatten)]
    credential: CredentialArgs,
    /// The root's file, like `root-2.json`, with its `.minisig` files beside it
    file: PathBuf,
}

type RootFile = SignedFile<Root>;

#[derive(Serialize)]
struct WrittenRoot {
    file: String,
    version: u64,
    signatures: usize,
    /// How many of its own keys must sign it.
    needed: usize,
    trusted_comment: String,
}

#[derive(Serialize)]
struct Published {
    version: u64,
    sha256: String,
    expires: String,
}

pub(super) fn run(command: TrustCommand, format: Format) -> Result<Outcome, Failure> {
    match command {
        TrustCommand::Status(args) => status::run(&args, format),
        TrustCommand::Export(args) => {
            let envelope = with_client(&args.credential, async |client| fetch(client).await)?;
            write(&RootFile::in_dir(&args.out, envelope)?, format)
        }
        TrustCommand::Init(args) => init(&args, format),
        TrustCommand::AddKey(args) => {
            let key = public_key(&args.public)?;
            change_root(&args.change, &Change::AddKey(args.role, key), format)
        }
        TrustCommand::RemoveKey(args) => {
            let change = Change::RemoveKey(args.role, args.key_or_id);
            change_root(&args.change, &change, format)
        }
        TrustCommand::SetThreshold(args) => {
            change_root(&args.change, &Change::SetThreshold(args.role, args.threshold), format)
        }
        TrustCommand::RotateOnline(args) => rotate_online(&args.change, format),
        TrustCommand::Renew(args) => change_root(&args.change, &Change::Nothing, format),
        TrustCommand::Sign(args) => sign(&args, format),
        TrustCommand::Publish(args) => {
            let file = RootFile::read(&args.file)?;
            let trusted = with_client(&args.credential, async |client| {
                let current = current(client).await?;
                let envelope = file.envelope(signers_of(&file.content, current.as_ref().map(Trusted::root)));
                publish(client, current.as_ref(), &envelope).await
            })?;
            print_published(&trusted, format)
        }
    }
}

fn init(args: &InitArgs, format: Format) -> Result<Outcome, Failure> {
    let keys = |files: &[PathBuf]| files.iter().map(|file| public_key(file)).collect::<Result<Vec<_>, _>>();
    let (root_keys, online) = (keys(&args.root_key)?, public_key(&args.online_key)?);
    let keys_or_roots = |files: &[PathBuf]| if files.is_empty() { Ok(root_keys.clone()) } else { keys(files) };
    let (bundle_keys, release_keys) = (keys_or_roots(&args.bundle_key)?, keys_or_roots(&args.release_key)?);
    let root = first_root(
        (root_keys.clone(), args.root_threshold),
        (bundle_keys, args.bundle_threshold),
        (release_keys, args.release_threshold),
        online,
        args.expires.millis(),
    )?;
    write(&RootFile::unsigned(&args.out, &root)?, format)
}

/// The coordinator makes the key, so this needs it even where the root comes from a file.
fn rotate_online(args: &ChangeArgs, format: Format) -> Result<Outcome, Failure> {
    let keys = with_client(&args.credential, async |client| online_keys(client, OperatorRequest::NewOnlineKey).await)?;
    let newest = keys.into_iter().next_back().ok_or(AskError::Unexpected)?;
    change_root(args, &Change::SetOnline(newest), format)
}

/// The coordinator's online keys, the newest last, by what is asked for them.
pub(super) async fn online_keys(client: &Client, request: OperatorRequest) -> Result<Vec<PublicKey>, Failure> {
    let OperatorResponse::OnlineKeys(keys) = client.ask(request).await? else {
        return Err(AskError::Unexpected.into());
    };
    keys.iter().map(|key| key.parse().map_err(Outcome::Refused.because::<sloth_trust::InvalidKey>())).collect()
}

pub(super) fn change_root(args: &ChangeArgs, change: &Change, format: Format) -> Result<Outcome, Failure> {
    let signers = args.key.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &args.root {
        let current = read_root(path)?;
        let next = next_root(args, current.root(), change, &signers)?;
        return write(&next, format);
    }
    let done = with_client(&args.credential, async |client| {
        let current = trusted(&fetch(client).await?)?;
        let next = next_root(args, current.root(), change, &signers)?;
        let envelope = next.envelope(signers_of(&next.content, Some(current.root())));
        if current.accept_root(&envelope).is_ok() {
            return publish(client, Some(&current), &envelope).await.map(Done::Published);
        }
        Ok(Done::Written(next))
    })?;
    match done {
        Done::Published(trusted) => print_published(&trusted, format),
        Done::Written(file) => write(&file, format),
    }
}

enum Done {
    Published(Trusted),
    Written(RootFile),
}

fn next_root(args: &ChangeArgs, current: &Root, change: &Change, signers: &[Signer]) -> Result<RootFile, Failure> {
    let next = change.apply(current, args.expires.millis())?;
    let mut file = RootFile::unsigned(&args.out, &next)?;
    for signer in signers {
        file.sign(signer)?;
    }
    Ok(file)
}

fn sign(args: &SignArgs, format: Format) -> Result<Outcome, Failure> {
    let mut file = RootFile::read(&args.file)?;
    for path in &args.key {
        file.sign(&open(path)?)?;
    }
    write(&file, format)
}

/// The root in a file, which its own keys have signed.
fn read_root(path: &Path) -> Result<Trusted, Failure> {
    let file = RootFile::read(path)?;
    trusted(&file.envelope(signers_of(&file.content, None)))
}

/// Whose signatures on a root count: its own keys, and those of `before`, the root that is to vouch for it.
fn signers_of<'r>(root: &'r Root, before: Option<&'r Root>) -> impl Iterator<Item = &'r PublicKey> {
    before.into_iter().chain([root]).flat_map(|root| root.roles.root.keys())
}

/// Writes a root to its file, and says what is still to be done with it.
fn write(file: &RootFile, format: Format) -> Result<Outcome, Failure> {
    let Written { file: path, signatures, trusted_comment } = file.write()?;
    let (version, needed) = (file.content.version, file.content.roles.root.threshold());
    if format == Format::Json {
        printed(print_json(&WrittenRoot { file: path, version, signatures, needed, trusted_comment }))?;
        return Ok(Outcome::Done);
    }
    let plural = if signatures == 1 { "" } else { "s" };
    printed(print_line(&format!(
        "root {version} is in `{path}`, with {signatures} signature{plural}; {needed} of its own keys must sign it, and as many of the root before as that asks for"
    )))?;
    printed(print_line(&format!("  sign it    sloth-coord trust sign {path} --key FILE")))?;
    printed(print_line(&format!(
        "  or         minisign -S -m {path} -x {path}.NAME.{SIGNATURE_ENDING} -t '{trusted_comment}' -s FILE"
    )))?;
    printed(print_line(&format!("  publish it sloth-coord trust publish {path}")))?;
    Ok(Outcome::Done)
}

/// Hands over a root that the current one vouches for, or the first.
async fn publish(client: &Client, current: Option<&Trusted>, envelope: &Envelope) -> Result<Trusted, Failure> {
    let next = match current {
        // Said here, before anything is sent, with the same words.
        Some(current) => current.accept_root(envelope),
        None => Trusted::new(envelope, RootPin::of(&envelope.payload)),
    };
    let next = next.map_err(|error| Failure::new(Outcome::Refused, Chain(&error).to_string()))?;
    client.ask(OperatorRequest::PutRoot(envelope.encode())).await?;
    Ok(next)
}

/// What the coordinator's newest root says, if there is one.
pub(super) async fn current(client: &Client) -> Result<Option<Trusted>, Failure> {
    fetch_if_any(client).await?.as_ref().map(trusted).transpose()
}

/// The coordinator's newest root.
pub(super) async fn fetch(client: &Client) -> Result<Envelope, Failure> {
    let sentence = "the coordinator has no trust root yet: publish a bundle, which makes one, or begin with `sloth-coord trust init`";
    fetch_if_any(client).await?.ok_or_else(|| Failure::new(Outcome::Refused, sentence))
}

async fn fetch_if_any(client: &Client) -> Result<Option<Envelope>, Failure> {
    let OperatorResponse::Root(bytes) = client.ask(OperatorRequest::Root).await? else {
        return Err(AskError::Unexpected.into());
    };
    bytes.map(|bytes| Envelope::decode(&bytes).map_err(Outcome::Refused.because())).transpose()
}

pub(super) fn trusted(envelope: &Envelope) -> Result<Trusted, Failure> {
    let trusted = Trusted::new(envelope, RootPin::of(&envelope.payload));
    trusted.map_err(|error| Failure::new(Outcome::Refused, Chain(&error).to_string()))
}

pub(super) fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    let bytes = sloth_core::fs::read_capped(path, super::sign::KEY_BYTES_MAX).map_err(Outcome::Usage.because())?;
    String::from_utf8_lossy(&bytes).parse().map_err(Outcome::Usage.because::<sloth_trust::InvalidKey>())
}

fn print_published(trusted: &Trusted, format: Format) -> Result<Outcome, Failure> {
    let root = trusted.root();
    let shown =
        Published { version: root.version, sha256: trusted.pin().to_string(), expires: root.expires.to_string() };
    printed(match format {
        Format::Json => print_json(&shown),
        Format::Text => print_line(&format!(
            "root {} is published, good until {}, SHA-256 {}",
            shown.version, shown.expires, shown.sha256
        )),
    })?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_root_is_the_one_that_is_written() {
        assert_eq!(ROOT_LIFE_TEXT.parse::<Span>().map(Span::millis), Ok(ROOT_LIFE));
    }
}
