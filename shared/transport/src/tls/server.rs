//! TLS at the coordinator.

use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use rustls::{
    RootCertStore, ServerConfig,
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use sloth_protocol::wire::ALPN;

use super::{TlsError, provider, verify::ClientVerifier};
use crate::{
    authority::Authority,
    identity::Identity,
    settings::{self, INCOMING_BYTES_MAX, INCOMING_TOTAL_BYTES_MAX, Limits},
};

/// What a coordinator listens with: it shows `identity`, and knows the agents and operators of `authority`.
///
/// For [`crate::listen`], and for `Endpoint::set_server_config` when `identity` is renewed: connections that are up
/// stay up.
///
/// # Errors
///
/// When the certificates cannot be used together.
pub fn server(authority: &Authority, identity: &Identity, limits: Limits) -> Result<quinn::ServerConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate_der().clone()).map_err(|source| TlsError::Authority { source })?;
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|source| TlsError::Verifier { source })?;
    // The authority goes along: a host that enrols knows it by its fingerprint only.
    let chain = vec![identity.certificate_der().clone(), authority.certificate_der().clone()];
    let of_rustls = |source| TlsError::Rustls { source };
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(of_rustls)?
        .with_client_cert_verifier(Arc::new(ClientVerifier::new(inner)))
        .with_single_cert(chain, identity.key_der())
        .map_err(of_rustls)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(|source| TlsError::Quic { source })?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(settings::server_transport())
        .migration(true)
        .max_incoming(limits.incoming_max)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_TOTAL_BYTES_MAX);
    Ok(config)
}
