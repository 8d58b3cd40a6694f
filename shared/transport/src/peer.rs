//! Who is at the other end.

use quinn::Connection;
use rustls_pki_types::CertificateDer;
use sloth_core::{AgentId, Millis};

use crate::certificate::{CertificateError, Subject, Validity};

/// Who is at the other end of a connection that the coordinator accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// An agent.
    Agent {
        /// Which one.
        id: AgentId,
        /// Whether its certificate has ended, or does not count yet. Such an agent may ask for a new certificate and for
        /// nothing else.
        expired: bool,
        /// When its certificate ends, or ended; zero for one that does not count yet.
        not_after: Millis,
    },
    /// An operator.
    Operator {
        /// By name.
        name: String,
        /// When its certificate ends.
        not_after: Millis,
    },
    /// Somebody without a certificate, who may enrol and nothing else.
    Nobody,
}

/// Why it cannot be told who is there. TLS refuses such certificates, so a connection that is up has none.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell who the peer is")]
pub struct PeerError {
    /// What is wrong with its certificate.
    #[from]
    source: CertificateError,
}

impl Peer {
    /// Who is at the other end of `connection`, which a server of [`crate::listen`] accepted.
    ///
    /// # Errors
    ///
    /// When the certificate does not name exactly one agent or operator.
    pub fn of(connection: &Connection, now: Millis) -> Result<Self, PeerError> {
        let chain = chain(connection);
        let Some(certificate) = chain.first() else { return Ok(Self::Nobody) };
        let validity = Validity::of(certificate)?;
        Ok(match Subject::of(certificate)? {
            Subject::Agent(id) if now < validity.not_before => {
                Self::Agent { id, expired: true, not_after: Millis::ZERO }
            }
            Subject::Agent(id) => Self::Agent { id, expired: validity.has_ended(now), not_after: validity.not_after },
            Subject::Operator(name) => Self::Operator { name, not_after: validity.not_after },
        })
    }
}

/// The certificates that the other end presented, its own first.
pub(crate) fn chain(connection: &Connection) -> Vec<CertificateDer<'static>> {
    connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .map(|chain| *chain)
        .unwrap_or_default()
}
