//! The operator's side of the wire.

use std::{io::Write as _, path::Path};

use quinn::RecvStream;
use sloth_cli::{Failure, Outcome};
use sloth_core::Clock;
use sloth_protocol::wire::{
    FRAME_BYTES_MAX, OperatorHello, OperatorRequest, OperatorResponse, PROTO_MAX, PROTO_MIN, Refusal, RefusalCode,
};
use sloth_transport::{
    CloseCode, ConnectError, Connector, Credential, CredentialError, Link, Lost, Priority, RecvError, RequestError,
    recv, request, send,
    settings::{GOODBYE_TIMEOUT, REQUEST_TIMEOUT},
};
use tokio::{runtime::Builder, time::timeout};

use super::CredentialArgs;

/// What one kind of answer holds; another kind is an error.
macro_rules! expect_answer {
    ($answer:expr, $kind:ident) => {
        if let OperatorResponse::$kind(value) = $answer { Ok(value) } else { Err(AskError::Unexpected) }
    };
}
pub(super) use expect_answer;

/// A connection to the coordinator, as an operator.
pub(super) struct Client {
    link: Link,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The credential cannot be used.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The coordinator was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It was reached, and no answer came.
    #[error("the coordinator did not answer")]
    Request {
        /// Why.
        #[from]
        source: RequestError,
    },
    /// The answer stopped coming.
    #[error("the coordinator's answer stopped")]
    Recv {
        /// Why.
        #[from]
        source: RecvError,
    },
    /// It took too long.
    #[error("the coordinator did not answer within {} s: look at its log", REQUEST_TIMEOUT.as_secs())]
    Slow,
    /// It said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It answered something else.
    #[error("the coordinator answered what was not asked: it is of another version, look with `sloth-coord --version`")]
    Unexpected,
}

impl Client {
    /// Connects with the credential in the file `credential`.
    pub(super) async fn connect(credential: &Path) -> Result<Self, AskError> {
        let credential = Credential::load(credential)?;
        let link = Connector::operator(&credential).connect(&credential.addresses, Clock::new().now()).await?;
        let client = Self { link };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = OperatorHello { proto_min: PROTO_MIN, proto_max: PROTO_MAX, version };
        let welcome = client.ask(OperatorRequest::Hello(hello)).await?;
        if matches!(welcome, OperatorResponse::Welcome { .. }) { Ok(client) } else { Err(AskError::Unexpected) }
    }

    /// Asks and waits for the answer; a refusal is an error.
    pub(super) async fn ask(&self, question: OperatorRequest) -> Result<OperatorResponse, AskError> {
        let asked = request(&self.link.connection, &question, Priority::Control);
        let (answer, _rest) = timeout(REQUEST_TIMEOUT, asked).await.map_err(|_| AskError::Slow)??;
        accepted(answer)
    }

    /// Asks for answers that come one by one, the first of them when there is one.
    pub(super) async fn stream(&self, question: OperatorRequest) -> Result<(OperatorResponse, Answers), AskError> {
        let (answer, rest) = request(&self.link.connection, &question, Priority::Control).await?;
        Ok((accepted(answer)?, Answers(rest)))
    }

    /// Sends bytes after a request.
    pub(super) async fn upload(&self, question: OperatorRequest, bytes: &[u8]) -> Result<(), AskError> {
        let connection = &self.link.connection;
        let lost = |source: quinn::ConnectionError| RequestError::Open { source: source.into() };
        let (mut sending, mut receiving) = connection.open_bi().await.map_err(lost)?;
        Priority::Blobs.apply(&sending);
        send(&mut sending, &question).await.map_err(|source| RequestError::Send { source })?;
        // Who refuses a blob stops reading it; its answer says why.
        if sending.write_all(bytes).await.is_ok() {
            let _ = sending.finish();
        }
        let answer = recv(&mut receiving, FRAME_BYTES_MAX).await.map_err(|source| RequestError::Recv { source })?;
        accepted(answer).map(drop)
    }

    /// Says goodbye, so that the coordinator need not wait for silence.
    pub(super) async fn close(self) {
        CloseCode::Normal.close(&self.link.connection);
        // It is on its way by then, and its echo is of no use.
        let _ = timeout(GOODBYE_TIMEOUT, self.link.endpoint.wait_idle()).await;
    }
}

/// The answers after the first.
pub(super) struct Answers(RecvStream);

impl Answers {
    pub(super) async fn next(&mut self) -> Result<OperatorResponse, AskError> {
        accepted(recv(&mut self.0, FRAME_BYTES_MAX).await?)
    }
}

impl AskError {
    /// Whether the same question may get an answer later, from a coordinator that is back.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Connect(
                ConnectError::Unanswered { .. } | ConnectError::Busy { .. } | ConnectError::Failed { .. },
            )
            | Self::Recv {
                source: RecvError::Lost { .. } | RecvError::Reset { .. } | RecvError::Cut | RecvError::Finished,
            }
            | Self::Slow => true,
            Self::Refused(refusal) => matches!(refusal.code, RefusalCode::Busy),
            Self::Request { source } => match source.lost() {
                Some(Lost::CertificateRefused { .. }) => false,
                Some(_) => true,
                None => matches!(
                    source,
                    RequestError::Recv { source: RecvError::Reset { .. } | RecvError::Finished | RecvError::Cut }
                ),
            },
            Self::Credential(_) | Self::Connect(_) | Self::Recv { .. } | Self::Unexpected => false,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Credential(_) => Outcome::Usage,
            Self::Connect(
                ConnectError::Stranger { .. }
                | ConnectError::WrongToken { .. }
                | ConnectError::Clock { .. }
                | ConnectError::Expired { .. },
            )
            | Self::Unexpected => Outcome::Refused,
            Self::Connect(ConnectError::Tls { .. } | ConnectError::Socket { .. }) => Outcome::Internal,
            Self::Connect(_) | Self::Slow => Outcome::Unreachable,
            Self::Request { source }
                if matches!(
                    source.lost(),
                    Some(Lost::CertificateRefused { .. } | Lost::Closed { code: CloseCode::Revoked })
                ) =>
            {
                Outcome::Refused
            }
            Self::Request { .. } | Self::Recv { .. } => Outcome::Unreachable,
            Self::Refused(refusal) => match refusal.code {
                RefusalCode::Busy => Outcome::Unreachable,
                RefusalCode::Internal => Outcome::Internal,
                RefusalCode::Values => Outcome::Usage,
                RefusalCode::Invalid
                | RefusalCode::Denied
                | RefusalCode::NotFound
                | RefusalCode::Conflict
                | RefusalCode::TooLarge
                | RefusalCode::Version => Outcome::Refused,
            },
        }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Self { outcome: error.outcome(), error: error.into() }
    }
}

/// Connects, does `work`, and says goodbye.
pub(super) fn with_client<T>(
    args: &CredentialArgs,
    work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    block_on(async {
        let client = connect(args).await?;
        let result = work(&client).await;
        client.close().await;
        result
    })
}

/// Connects with the operator's credential.
pub(super) async fn connect(args: &CredentialArgs) -> Result<Client, Failure> {
    let path = args.path();
    if !path.exists() {
        let sentence = format!(
            "there is no operator's credential in `{}`: give one with `--credential` or `SLOTH_CREDENTIAL`; `sloth-coord init` makes the first, `admin.toml` in the coordinator's directory",
            path.display()
        );
        return Err(Failure::new(Outcome::Usage, sentence));
    }
    Ok(Client::connect(&path).await?)
}

/// Runs one command's work on a small runtime.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Outcome::Internal.because())?;
    runtime.block_on(work)
}

/// Says on standard error what happened and is no data.
pub(super) fn note(text: &str) {
    // Nothing is lost when nobody listens.
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

fn accepted(answer: OperatorResponse) -> Result<OperatorResponse, AskError> {
    if let OperatorResponse::Refused(refusal) = answer { Err(refusal.into()) } else { Ok(answer) }
}
