//! TLS 1.3 with certificates of the coordinator's own authority.
//!
//! Sessions are never resumed and nothing is sent before the handshake ends: every connection shows its certificate
//! anew, so that one that ended or was withdrawn yesterday does not live on in a ticket.

mod client;
mod server;
mod verify;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use sloth_core::Millis;

pub(crate) use client::{Attempt, Finding, Trust, attempt};
pub use server::server;

/// The name in the coordinator's certificate. Clients ask for it whatever address they connect to, so that addresses,
/// tunnels and NATs can change without a new certificate.
pub const SERVER_NAME: &str = "coordinator.sloth.internal";
/// How long after its end an agent's certificate is good for getting a new one.
pub const RENEW_GRACE: Millis = Millis::from_secs(90 * 24 * 3600);

/// Why TLS cannot be set up with these certificates and keys.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The cryptography refused.
    #[error("cannot set up TLS with this certificate and key")]
    Rustls {
        /// Why.
        source: rustls::Error,
    },
    /// The authority's certificate cannot be used.
    #[error("cannot use the authority's certificate")]
    Authority {
        /// Why.
        source: rustls::Error,
    },
    /// The verifier cannot be made.
    #[error("cannot verify certificates of this authority")]
    Verifier {
        /// Why.
        source: rustls::server::VerifierBuilderError,
    },
    /// QUIC has no first cipher.
    #[error("cannot use this TLS for QUIC")]
    Quic {
        /// Why.
        source: quinn::crypto::rustls::NoInitialCipherSuite,
    },
}

/// The one provider of cryptography, passed wherever one is used: rustls panics when it has to choose between two.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
