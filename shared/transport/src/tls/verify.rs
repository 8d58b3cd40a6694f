//! What the coordinator demands of a client's certificate.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::RENEW_GRACE;
use crate::certificate::Subject;

/// The ordinary checks, and that the certificate names an agent or an operator. An agent's that is otherwise good may
/// have ended less than [`RENEW_GRACE`] ago, or not count yet: the coordinator's clock may have been ahead when it was
/// made. [`crate::Peer`] marks both.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    pub(super) const fn new(inner: Arc<dyn ClientCertVerifier>) -> Self {
        Self { inner }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let expired = match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Ok(verified) => {
                subject(end_entity)?;
                return Ok(verified);
            }
            Err(error) => error,
        };
        let Some(second) = in_grace(&expired, now) else { return Err(expired) };
        // The times are looked at before the signature: all else is checked as of a second in which it counts.
        let verified = self.inner.verify_client_cert(end_entity, intermediates, second)?;
        match subject(end_entity)? {
            Subject::Agent(_) => Ok(verified),
            Subject::Operator(_) => Err(expired),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A second in which the certificate counts: its last, if it has ended and not too long ago, or its first.
fn in_grace(error: &Error, now: UnixTime) -> Option<UnixTime> {
    let Error::InvalidCertificate(error) = error else { return None };
    if let CertificateError::NotValidYetContext { not_before, .. } = error {
        return Some(*not_before);
    }
    let CertificateError::ExpiredContext { not_after, .. } = error else { return None };
    let ended_ago_secs = now.as_secs().saturating_sub(not_after.as_secs());
    (ended_ago_secs < RENEW_GRACE.as_u64() / 1000).then_some(*not_after)
}

fn subject(certificate: &CertificateDer<'_>) -> Result<Subject, Error> {
    Subject::of(certificate).map_err(|_| Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
}
