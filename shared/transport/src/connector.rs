//! How agents and operators reach the coordinator.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use quinn::{Connection, ConnectionError, Endpoint, TransportErrorCode};
use sloth_core::Millis;

use crate::{
    certificate::{Subject, fingerprint},
    close::alert_of,
    credential::Credential,
    identity::Identity,
    peer,
    settings::CONNECT_TIMEOUT,
    tls::{self, Attempt, Finding, RENEW_GRACE, SERVER_NAME, TlsError, Trust},
};

/// Most addresses of one name that are tried.
const RESOLVED_MAX: usize = 4;
/// The TLS alert `no_application_protocol`.
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;

/// Connects to a coordinator, and to no other server.
#[derive(Debug, Clone)]
pub struct Connector {
    trust: Trust,
    identity: Option<Identity>,
}

/// A connection to the coordinator.
#[derive(Debug)]
pub struct Link {
    /// The connection.
    pub connection: Connection,
    /// Its socket. To be kept as long as the connection; `wait_idle` on it lets a close reach the peer.
    pub endpoint: Endpoint,
    /// The address that answered, as it was given.
    pub address: String,
    /// The certificate of the coordinator's authority, in DER. Who enrols stores it.
    pub authority: Vec<u8>,
}

/// Why the coordinator was not reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is nowhere to connect to.
    #[error("no address of the coordinator is known: give one as `host:port`")]
    NoAddress,
    /// The name has no address.
    #[error("cannot find the address of `{address}`: write it as `host:port`, and check the name and this host's DNS")]
    Resolve {
        /// As it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No socket.
    #[error("cannot open a UDP socket to reach `{address}`")]
    Socket {
        /// As it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing came back.
    #[error("nobody answers at `{address}`: check that the coordinator runs and that UDP to that port is not blocked")]
    Unanswered {
        /// As it was given.
        address: String,
    },
    /// Too many want to connect.
    #[error("the coordinator at `{address}` takes no more connections now: try again later")]
    Busy {
        /// As it was given.
        address: String,
    },
    /// Another kind of server, or another age.
    #[error("the server at `{address}` is not a sloth coordinator, or speaks another version of the protocol")]
    NotSloth {
        /// As it was given.
        address: String,
    },
    /// Who enrols: the server has another authority than the token.
    #[error(
        "the server at `{address}` is not the coordinator this token is for: check the address, or get a new token"
    )]
    WrongToken {
        /// As it was given.
        address: String,
        /// What is wrong with the server's certificate.
        source: rustls::Error,
    },
    /// Who is enrolled: the server has another authority.
    #[error("the server at `{address}` is not the coordinator that gave us our identity: check the address")]
    Stranger {
        /// As it was given.
        address: String,
        /// What is wrong with the server's certificate.
        source: rustls::Error,
    },
    /// One of the two clocks is wrong.
    #[error(
        "this host's clock says {now}; the certificate of the coordinator at `{address}` counts from {not_before} to {not_after}: set the clock that is wrong"
    )]
    Clock {
        /// As it was given.
        address: String,
        /// This host's time.
        now: Millis,
        /// When the certificate begins to count.
        not_before: Millis,
        /// When it stops.
        not_after: Millis,
    },
    /// The certificate to show is too old.
    #[error(
        "our certificate ended at {not_after}, and this host's clock says {now}: enrol again, get a new credential, or set the clock"
    )]
    Expired {
        /// When it ended.
        not_after: Millis,
        /// This host's time.
        now: Millis,
    },
    /// The identity cannot be used.
    #[error("cannot prepare the connection to `{address}`")]
    Tls {
        /// As it was given.
        address: String,
        /// Why.
        source: TlsError,
    },
    /// QUIC cannot begin.
    #[error("cannot begin a connection to `{address}`")]
    Begin {
        /// As it was given.
        address: String,
        /// Why.
        source: quinn::ConnectError,
    },
    /// Something else.
    #[error("cannot connect to `{address}`")]
    Failed {
        /// As it was given.
        address: String,
        /// What QUIC said.
        source: ConnectionError,
    },
}

impl Connector {
    /// For a host that enrols: the coordinator is the one whose authority has the `fingerprint` of the join token.
    #[must_use]
    pub const fn enrolling(fingerprint: [u8; 32]) -> Self {
        Self { trust: Trust::Fingerprint(fingerprint), identity: None }
    }

    /// For an agent: `authority`, in DER, is what [`Link::authority`] was when it enrolled.
    #[must_use]
    pub fn enrolled(authority: Vec<u8>, identity: Identity) -> Self {
        Self { trust: Trust::Authority(authority.into()), identity: Some(identity) }
    }

    /// For an operator.
    #[must_use]
    pub fn operator(credential: &Credential) -> Self {
        Self::enrolled(credential.authority.clone(), credential.identity.clone())
    }

    /// Connects to the first of `addresses`, each `host:port`, that is the coordinator. Takes at most
    /// [`CONNECT_TIMEOUT`] for each.
    ///
    /// `now` is what certificates are judged by. A fresh `Clock` reads the wall clock, so that a clock that was
    /// corrected counts at once.
    ///
    /// That the coordinator refuses our certificate shows in the first request, as
    /// [`crate::Lost::CertificateRefused`].
    ///
    /// # Errors
    ///
    /// When none is; the error is the one that tells most.
    pub async fn connect(&self, addresses: &[String], now: Millis) -> Result<Link, ConnectError> {
        self.check_own(now)?;
        let mut telling = ConnectError::NoAddress;
        for address in addresses {
            match self.connect_one(address, now).await {
                Ok(link) => return Ok(link),
                Err(error) => {
                    tracing::debug!(%address, error = %sloth_core::Chain(&error), "cannot connect");
                    if telling.weight() < error.weight() {
                        telling = error;
                    }
                }
            }
        }
        Err(telling)
    }

    fn check_own(&self, now: Millis) -> Result<(), ConnectError> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let grace = match identity.subject() {
            Ok(Subject::Agent(_)) => RENEW_GRACE,
            Ok(Subject::Operator(_)) | Err(_) => Millis::ZERO,
        };
        if identity.validity().has_ended(now - grace) {
            return Err(ConnectError::Expired { not_after: identity.not_after(), now });
        }
        Ok(())
    }

    async fn connect_one(&self, address: &str, now: Millis) -> Result<Link, ConnectError> {
        let deadline = tokio::time::Instant::now() + CONNECT_TIMEOUT;
        let resolved = resolve(address, deadline).await?;
        let mut last = ConnectError::Unanswered { address: address.to_owned() };
        for (index, remote) in resolved.iter().enumerate() {
            // A silent address must not take the time of those behind it.
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let share = left / u32::try_from(resolved.len() - index).unwrap_or(u32::MAX);
            match self.connect_to(address, *remote, share, now).await {
                Ok(link) => return Ok(link),
                Err(error) if last.weight() <= error.weight() => last = error,
                Err(_) => {}
            }
        }
        Err(last)
    }

    async fn connect_to(
        &self,
        address: &str,
        remote: SocketAddr,
        timeout: Duration,
        now: Millis,
    ) -> Result<Link, ConnectError> {
        let named = || address.to_owned();
        let Attempt { config, finding } = tls::attempt(&self.trust, self.identity.as_ref(), now)
            .map_err(|source| ConnectError::Tls { address: named(), source })?;
        let endpoint =
            Endpoint::client(any(remote)).map_err(|source| ConnectError::Socket { address: named(), source })?;
        let connecting = endpoint
            .connect_with(config, remote, SERVER_NAME)
            .map_err(|source| ConnectError::Begin { address: named(), source })?;
        match tokio::time::timeout(timeout, connecting).await {
            Ok(Ok(connection)) => {
                let authority = self.authority_of(&connection);
                Ok(Link { connection, endpoint, address: named(), authority })
            }
            Ok(Err(error)) => Err(match finding.get() {
                Some(finding) => self.found(address, now, finding),
                None => failed(address, error),
            }),
            Err(_elapsed) => Err(ConnectError::Unanswered { address: named() }),
        }
    }

    fn found(&self, address: &str, now: Millis, finding: &Finding) -> ConnectError {
        let address = address.to_owned();
        match (finding, &self.trust) {
            (Finding::Clock { validity, .. }, _) => {
                let (not_before, not_after) = (validity.not_before, validity.not_after);
                ConnectError::Clock { address, now, not_before, not_after }
            }
            (Finding::Stranger(source), Trust::Fingerprint(_)) => {
                ConnectError::WrongToken { address, source: source.clone() }
            }
            (Finding::Stranger(source), Trust::Authority(_)) => {
                ConnectError::Stranger { address, source: source.clone() }
            }
        }
    }

    fn authority_of(&self, connection: &Connection) -> Vec<u8> {
        match &self.trust {
            Trust::Authority(certificate) => certificate.to_vec(),
            // The verification has found it among those presented, so it is there.
            Trust::Fingerprint(wanted) => peer::chain(connection)
                .into_iter()
                .find(|certificate| fingerprint(certificate) == *wanted)
                .map(|certificate| certificate.to_vec())
                .unwrap_or_default(),
        }
    }
}

impl ConnectError {
    /// How much it tells, for choosing one of several: a server that answered and was wrong says more than silence.
    const fn weight(&self) -> u8 {
        match self {
            Self::NoAddress => 0,
            Self::Resolve { .. } => 1,
            Self::Socket { .. } | Self::Begin { .. } => 2,
            Self::Unanswered { .. } => 3,
            Self::NotSloth { .. } | Self::Failed { .. } => 4,
            Self::WrongToken { .. } | Self::Stranger { .. } => 5,
            Self::Busy { .. } => 6,
            Self::Clock { .. } | Self::Expired { .. } | Self::Tls { .. } => 7,
        }
    }
}

async fn resolve(address: &str, deadline: tokio::time::Instant) -> Result<Vec<SocketAddr>, ConnectError> {
    let refuse = |source| ConnectError::Resolve { address: address.to_owned(), source };
    let found = tokio::time::timeout_at(deadline, tokio::net::lookup_host(address))
        .await
        .map_err(|elapsed| refuse(elapsed.into()))?
        .map_err(refuse)?;
    let found: Vec<_> = found.take(RESOLVED_MAX).collect();
    if found.is_empty() { Err(refuse(io::ErrorKind::NotFound.into())) } else { Ok(found) }
}

fn failed(address: &str, error: ConnectionError) -> ConnectError {
    let address = address.to_owned();
    let code = match &error {
        ConnectionError::VersionMismatch => return ConnectError::NotSloth { address },
        ConnectionError::TimedOut => return ConnectError::Unanswered { address },
        ConnectionError::TransportError(error) => error.code,
        ConnectionError::ConnectionClosed(close) => close.error_code,
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => return ConnectError::Failed { address, source: error },
    };
    if alert_of(code) == Some(ALERT_NO_APPLICATION_PROTOCOL) {
        return ConnectError::NotSloth { address };
    }
    if code == TransportErrorCode::CONNECTION_REFUSED {
        return ConnectError::Busy { address };
    }
    ConnectError::Failed { address, source: error }
}

/// Where to send from: any port, in the family of the target, since a host may lack the other one.
const fn any(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}
