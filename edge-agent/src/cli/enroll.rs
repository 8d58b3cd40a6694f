//! `sloth-agent enroll`, and hosts that enrol by themselves.

mod again;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sloth_cli::{Failure, Outcome, print_line};
use sloth_core::{
    Chain, Clock, Labels, Millis, backoff,
    fs::{self, Action, FsError, LockError, LockFile, SecretError},
    labels::parse_label,
};
use sloth_protocol::wire::{
    Enroll, EnrollRequest, EnrollResponse, Enrolled, JoinToken, PROTO_MAX, PROTO_MIN, Refusal, RefusalCode,
};
use sloth_transport::{
    CloseCode, ConnectError, Connector, Identity, KeyRequest, Link, Priority, RequestError, Subject, request, settings,
};
use sloth_trust::{Envelope, EnvelopeError, PublicKey, Trusted};
use tokio::time::timeout;

use super::{DirArgs, runtime};
use crate::{
    VERSION,
    enrolment::{self, Enrolment, EnrolmentError},
    paths::Paths,
    platform,
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The join token, from `sloth-coord token create` [default: what SLOTH_JOIN_TOKEN says]
    token: Option<String>,
    /// A file that holds the join token, readable by its owner alone
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// For first boots: do nothing when this host is enrolled or the token's file is not there; else try until it is
    /// enrolled, and remove the file; a host whose machine-id is not the one that was enrolled is enrolled again
    #[arg(long, requires = "token_file", conflicts_with = "again")]
    unattended: bool,
    /// Give a host that is enrolled an identity of its own: one whose disk is a copy, or that is to join another
    /// coordinator; what it had stays beside it, in `before-ID`
    #[arg(long)]
    again: bool,
    /// The agent's name, unique in the fleet [default: this host's name]
    #[arg(long)]
    name: Option<String>,
    /// A label of this host, like `rack=7`; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    #[command(flatten)]
    dir: DirArgs,
}

/// Says the join token, where no argument does.
const TOKEN_VARIABLE: &str = "SLOTH_JOIN_TOKEN";
/// Most bytes of a file with a join token.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;
/// The pause after the first attempt of a host that enrols by itself that failed.
const RETRY_BASE: Millis = Millis::from_secs(2);
/// And the longest one: images may start thousands of hosts before their coordinator is there.
const RETRY_MAX: Millis = Millis::from_secs(300);

/// Why a host was not enrolled.
#[derive(Debug, thiserror::Error)]
enum EnrollError {
    #[error("`{dir}` has the enrolled agent `{name}`: use another directory, or `--again` for a new identity")]
    Already { dir: String, name: String },
    #[error("cannot enrol while a daemon runs")]
    Lock(#[from] LockError),
    #[error("cannot prepare the enrolment")]
    Prepare(#[from] FsError),
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    #[error("cannot reach the coordinator")]
    Connect(#[from] ConnectError),
    #[error("the coordinator did not answer")]
    Request(#[from] RequestError),
    #[error("the coordinator did not answer within {} s: try again", settings::REQUEST_TIMEOUT.as_secs())]
    Silent,
    #[error("the coordinator refused to enrol this host")]
    Refused(#[source] Refusal),
    #[error("the coordinator sent a trust root that cannot be read")]
    RootUnreadable(#[source] EnvelopeError),
    #[error("the coordinator's trust root is not the one that the token was made for: do not use this coordinator")]
    Root(#[source] sloth_trust::Refusal),
    #[error("the coordinator sent a certificate that cannot be used")]
    Identity(#[from] sloth_transport::IdentityError),
    #[error("the coordinator sent a certificate of somebody else")]
    Stranger,
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let pairs = arguments.labels.iter().map(|text| parse_label(text)).collect::<Result<Labels, _>>();
    let host_labels = pairs.map_err(Outcome::Usage.because())?;
    let name = arguments.name.clone().unwrap_or_else(platform::hostname);
    let paths = arguments.dir.paths();
    if let Some(file) = arguments.token_file.as_deref().filter(|_| arguments.unattended) {
        runtime()?.block_on(enroll_unattended(&paths, file, &name, &host_labels));
        return Ok(Outcome::Done);
    }
    let token = token(arguments)?;
    let enrolment = if arguments.again {
        runtime()?.block_on(again::enroll(&paths, &token, name, host_labels))
    } else {
        runtime()?.block_on(enroll(&paths, &token, name, host_labels))
    };
    let enrolment = enrolment.map_err(failure)?;
    let dir = paths.dir().display();
    print_line(&format!("enrolled as `{}`, {}", enrolment.name, enrolment.agent))
        .map_err(Outcome::Internal.because())?;
    if arguments.again {
        let before = paths.before(enrolment.agent);
        print_line(&format!("what the agent was before is in `{}`", before.dir().display()))
            .map_err(Outcome::Internal.because())?;
    }
    print_line(&format!("start it with `sloth-agent daemon --dir {dir}`")).map_err(Outcome::Internal.because())?;
    Ok(Outcome::Done)
}

/// Enrols this host with the token in `file`, as images and first boots leave it, and removes the file: whoever finds a
/// token that is not used up can enrol as well. One that stays is no reason for an agent not to start.
async fn enroll_unattended(paths: &Paths, file: &Path, name: &str, labels: &Labels) {
    let mut attempt = 0;
    while needs_identity(paths) && file.exists() {
        let Err(failed) = enroll_once(paths, file, name, labels).await else { break };
        // Hosts that start as one must not come back as one; without randomness they wait as long as may be.
        let random = getrandom::u64().unwrap_or(u64::MAX);
        let pause = backoff::full_jitter(attempt, RETRY_BASE, RETRY_MAX, random);
        let error = Chain(failed.error.as_ref());
        tracing::warn!(%error, again_in_s = pause.as_u64() / 1000, "this host is not enrolled yet");
        tokio::time::sleep(Duration::from_millis(pause.as_u64())).await;
        attempt = attempt.saturating_add(1);
    }
    match std::fs::remove_file(file) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            let error = FsError::of(Action::Remove, file)(source);
            tracing::warn!(error = %Chain(&error), "the join token stays where others may find it: revoke it, or remove it");
        }
        Ok(()) | Err(_) => {}
    }
}

/// Whether nobody is enrolled here, or another installation than this one: its disk was copied after it was enrolled. Only
/// a token on this host makes anything of that, since a machine-id may be given anew as well.
fn needs_identity(paths: &Paths) -> bool {
    if !Enrolment::exists(paths) {
        return true;
    }
    // What cannot be read is the daemon's to complain of.
    Enrolment::load(paths).is_ok_and(|enrolment| enrolment.is_of_another_machine())
}

async fn enroll_once(paths: &Paths, file: &Path, name: &str, labels: &Labels) -> Result<(), Failure> {
    let token = read_token(file)?;
    let enrolled = if again::is_possible(paths) {
        again::enroll(paths, &token, name.to_owned(), labels.clone()).await
    } else {
        enroll(paths, &token, name.to_owned(), labels.clone()).await
    };
    let enrolment = enrolled.map_err(failure)?;
    tracing::info!(agent = %enrolment.agent, name = enrolment.name, "this host is enrolled");
    Ok(())
}

fn token(arguments: &Arguments) -> Result<JoinToken, Failure> {
    if let Some(file) = &arguments.token_file {
        return read_token(file);
    }
    let said = || std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
    let Some(token) = arguments.token.clone().or_else(said) else {
        let sentence =
            format!("there is no join token: give it as an argument, by `--token-file` or in {TOKEN_VARIABLE}");
        return Err(Failure::new(Outcome::Usage, sentence));
    };
    token.parse().map_err(Outcome::Usage.because())
}

fn read_token(file: &Path) -> Result<JoinToken, Failure> {
    let text = fs::read_secret(file, TOKEN_BYTES_MAX).map_err(|error| match &error {
        SecretError::Exposed { .. } | SecretError::NoFile { .. } => Outcome::Refused.because()(error),
        SecretError::Read(_) => Outcome::Usage.because()(error),
    })?;
    text.expose().trim().parse().map_err(Outcome::Usage.because())
}

async fn enroll(paths: &Paths, token: &JoinToken, name: String, host_labels: Labels) -> Result<Enrolment, EnrollError> {
    check_not_enrolled(paths)?;
    paths.create()?;
    let _lock = LockFile::acquire(&paths.lock())?;
    // Whoever had the lock before may have been enrolling.
    check_not_enrolled(paths)?;
    // Before anybody is told of it.
    let receipt_key = enrolment::receipt_key(paths)?;
    let key = enrolment::pending_key(paths)?;
    let link = Connector::enrolling(token.authority).connect(&token.addresses, Clock::new().now()).await?;
    let asked = ask(&link, token, (&key, receipt_key.public()), &name, &host_labels).await;
    CloseCode::Normal.close(&link.connection);
    let (enrolment, identity) = accept(asked?, &link, token, (key, receipt_key.public()), name, host_labels)?;
    enrolment.store(paths, &identity)?;
    enrolment::forget_pending_key(paths);
    // The coordinator forgets a connection by itself as well.
    let _ = timeout(settings::GOODBYE_TIMEOUT, link.endpoint.wait_idle()).await;
    Ok(enrolment)
}

fn check_not_enrolled(paths: &Paths) -> Result<(), EnrollError> {
    if !Enrolment::exists(paths) {
        return Ok(());
    }
    let name = Enrolment::load(paths)?.name;
    Err(EnrollError::Already { dir: paths.dir().display().to_string(), name })
}

async fn ask(
    link: &Link,
    token: &JoinToken,
    (key, receipt_key): (&KeyRequest, &PublicKey),
    name: &str,
    labels: &Labels,
) -> Result<Enrolled, EnrollError> {
    let message = EnrollRequest::Enroll(Enroll {
        proto_min: PROTO_MIN,
        proto_max: PROTO_MAX,
        token: token.id,
        secret: token.secret,
        csr: key.csr().to_vec(),
        name: name.to_owned(),
        version: VERSION.to_owned(),
        platform: platform::detect(),
        labels: labels.clone(),
        receipt_key: receipt_key.clone(),
    });
    let answer = request::<_, EnrollResponse>(&link.connection, &message, Priority::Control);
    let (response, _) = timeout(settings::REQUEST_TIMEOUT, answer).await.map_err(|_| EnrollError::Silent)??;
    match response {
        EnrollResponse::Enrolled(enrolled) => Ok(enrolled),
        EnrollResponse::Refused(refusal) => Err(EnrollError::Refused(refusal)),
    }
}

/// Believes nothing that the token does not vouch for.
fn accept(
    enrolled: Enrolled,
    link: &Link,
    token: &JoinToken,
    (key, receipt_key): (KeyRequest, &PublicKey),
    name: String,
    host_labels: Labels,
) -> Result<(Enrolment, Identity), EnrollError> {
    let root = Envelope::decode(&enrolled.root).map_err(EnrollError::RootUnreadable)?;
    Trusted::new(&root, token.root).map_err(EnrollError::Root)?;
    let identity = key.certified(enrolled.certificate)?;
    if !matches!(identity.subject(), Ok(Subject::Agent(agent)) if agent == enrolled.agent) {
        return Err(EnrollError::Stranger);
    }
    let enrolment = Enrolment {
        agent: enrolled.agent,
        name,
        addresses: token.addresses.clone(),
        authority: link.authority.clone(),
        labels: enrolled.labels,
        host_labels,
        root: enrolled.root,
        root_pin: token.root,
        receipt_key: receipt_key.clone(),
        machine: platform::machine(),
    };
    Ok((enrolment, identity))
}

fn failure(error: EnrollError) -> Failure {
    let outcome = match &error {
        EnrollError::Already { .. }
        | EnrollError::Lock(LockError::Held { .. })
        | EnrollError::RootUnreadable(_)
        | EnrollError::Root(_)
        | EnrollError::Identity(_)
        | EnrollError::Stranger => Outcome::Refused,
        EnrollError::Connect(error) => match error {
            ConnectError::NotSloth { .. }
            | ConnectError::WrongToken { .. }
            | ConnectError::Stranger { .. }
            | ConnectError::Clock { .. }
            | ConnectError::Expired { .. } => Outcome::Refused,
            ConnectError::NoAddress
            | ConnectError::Resolve { .. }
            | ConnectError::Socket { .. }
            | ConnectError::Unanswered { .. }
            | ConnectError::Busy { .. }
            | ConnectError::Begin { .. }
            | ConnectError::Failed { .. } => Outcome::Unreachable,
            ConnectError::Tls { .. } => Outcome::Internal,
        },
        EnrollError::Refused(refusal) => match refusal.code {
            RefusalCode::Busy => Outcome::Unreachable,
            RefusalCode::Invalid
            | RefusalCode::Denied
            | RefusalCode::NotFound
            | RefusalCode::Conflict
            | RefusalCode::TooLarge
            | RefusalCode::Version
            | RefusalCode::Internal
            | RefusalCode::Values => Outcome::Refused,
        },
        EnrollError::Request(_) | EnrollError::Silent => Outcome::Unreachable,
        EnrollError::Lock(LockError::Fs(_)) | EnrollError::Prepare(_) | EnrollError::Enrolment(_) => Outcome::Internal,
    };
    Failure { outcome, error: error.into() }
}
