//! TLS at agents and operators.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sloth_core::Millis;
use sloth_protocol::wire::ALPN;

use super::{TlsError, provider};
use crate::{
    certificate::{Validity, fingerprint},
    identity::Identity,
    settings,
};

/// What makes a server the right one.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// Its certificate is signed by this authority.
    Authority(CertificateDer<'static>),
    /// Its certificate is signed by the one certificate of this SHA-256 that it sends along.
    Fingerprint([u8; 32]),
}

/// What was found wrong with a server's certificate: QUIC's own error keeps no more than a text of it.
#[derive(Debug, Clone)]
pub(crate) enum Finding {
    /// It is the right coordinator, and its certificate does not count at this time.
    Clock {
        /// When it counts.
        validity: Validity,
        /// What TLS is told.
        error: Error,
    },
    /// It is another server.
    Stranger(Error),
}

/// One attempt to connect.
pub(crate) struct Attempt {
    pub(crate) config: quinn::ClientConfig,
    pub(crate) finding: Arc<OnceLock<Finding>>,
}

/// What one attempt at the time `now` connects with.
pub(crate) fn attempt(trust: &Trust, identity: Option<&Identity>, now: Millis) -> Result<Attempt, TlsError> {
    let finding = Arc::new(OnceLock::new());
    let provider = provider();
    let verifier =
        ServerVerifier { trust: trust.clone(), provider: Arc::clone(&provider), finding: Arc::clone(&finding) };
    let of_rustls = |source| TlsError::Rustls { source };
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Moment(now)))
        .with_protocol_versions(&[&TLS13])
        .map_err(of_rustls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut tls = match identity {
        Some(identity) => builder
            .with_client_auth_cert(vec![identity.certificate_der().clone()], identity.key_der())
            .map_err(of_rustls)?,
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(|source| TlsError::Quic { source })?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(settings::client_transport());
    Ok(Attempt { config, finding })
}

#[derive(Debug)]
struct Moment(Millis);

impl TimeProvider for Moment {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.0))
    }
}

#[derive(Debug)]
struct ServerVerifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
    finding: Arc<OnceLock<Finding>>,
}

impl ServerVerifier {
    /// The ordinary verification with the one root that counts.
    fn ordinary(&self, presented: &[&CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, Error> {
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let root = match &self.trust {
            Trust::Authority(certificate) => certificate.clone(),
            Trust::Fingerprint(wanted) => presented
                .iter()
                .find(|certificate| fingerprint(certificate) == *wanted)
                .map(|certificate| (*certificate).clone().into_owned())
                .ok_or_else(unknown)?,
        };
        let mut roots = RootCertStore::empty();
        roots.add(root)?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|_| unknown())
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Finding> {
        let presented: Vec<_> = std::iter::once(end_entity).chain(intermediates).collect();
        let ordinary = self.ordinary(&presented).map_err(Finding::Stranger)?;
        let check = |now| ordinary.verify_server_cert(end_entity, intermediates, server_name, &[], now);
        let error = match check(now) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        // The time is looked at before the signature: whether only the time is wrong shows at a time that is right.
        match Validity::of(end_entity) {
            Ok(validity) if is_about_time(&error) => {
                check(unix(validity.not_after)).map_err(Finding::Stranger)?;
                Err(Finding::Clock { validity, error })
            }
            Ok(_) | Err(_) => Err(Finding::Stranger(error)),
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, server_name, now).map_err(|finding| {
            let error = match &finding {
                Finding::Clock { error, .. } | Finding::Stranger(error) => error.clone(),
            };
            // One attempt verifies once; a second finding could only repeat the first.
            let _ = self.finding.set(finding);
            error
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn is_about_time(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    )
}

fn unix(time: Millis) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(time.as_u64()))
}
