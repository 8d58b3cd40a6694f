//! Keys and the certificates for them, on the side that holds the key.

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sloth_core::{Millis, Secret};

use crate::{
    certificate::{self, CertificateError, Subject, Validity},
    pem::{self, PemError},
};

/// A certificate and its private key.
#[derive(Debug, Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Secret<Vec<u8>>,
    validity: Validity,
}

/// A new key that waits for its certificate. It never leaves the host; the request in [`KeyRequest::csr`] does.
///
/// Store [`KeyRequest::to_pem`] before the request is sent: asking again with the same key gives the same agent.
#[derive(Debug, Clone)]
pub struct KeyRequest {
    csr: Vec<u8>,
    key: Secret<Vec<u8>>,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Making a key, or using it, failed.
    #[error("cannot make a private key")]
    Generate {
        /// What the cryptography said.
        source: rcgen::Error,
    },
    /// A part is missing.
    #[error("this is not an identity")]
    Pem {
        /// What is missing.
        source: PemError,
    },
    /// The certificate cannot be read.
    #[error("cannot use the certificate")]
    Certificate {
        /// What is wrong with it.
        source: CertificateError,
    },
    /// The private key cannot be read.
    #[error("cannot use the private key: it is not one of ECDSA P-256 in PKCS#8")]
    Key {
        /// What the cryptography said.
        source: rcgen::Error,
    },
    /// The two were not made for each other.
    #[error("the certificate is for another private key")]
    Mismatch,
}

impl KeyRequest {
    /// Makes an ECDSA P-256 key and the request that proves it.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        Self::of(&generate().map_err(|source| IdentityError::Generate { source })?)
    }

    /// The request for a key that was stored.
    ///
    /// # Errors
    ///
    /// When `text` has no key that can be used.
    pub fn from_pem(text: &Secret<String>) -> Result<Self, IdentityError> {
        let key = pem::decode_key(text.expose()).map_err(|source| IdentityError::Pem { source })?;
        Self::of(&key_pair(&key)?)
    }

    /// The key, for the file that keeps it until the certificate is there.
    #[must_use]
    pub fn to_pem(&self) -> Secret<String> {
        pem::encode_key(&self.key)
    }

    /// The PKCS#10 request in DER. It says nothing but the key.
    #[must_use]
    pub fn csr(&self) -> &[u8] {
        &self.csr
    }

    /// The identity that this key and the certificate for it make.
    ///
    /// # Errors
    ///
    /// When `certificate`, in DER, cannot be read or is for another key.
    pub fn certified(self, certificate: Vec<u8>) -> Result<Identity, IdentityError> {
        Identity::new(certificate, self.key)
    }

    fn of(key: &KeyPair) -> Result<Self, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(key).map_err(|source| IdentityError::Generate { source })?;
        Ok(Self { csr: csr.der().to_vec(), key: Secret::new(key.serialize_der()) })
    }
}

impl Identity {
    /// Puts together a certificate in DER and its private key in PKCS#8.
    ///
    /// # Errors
    ///
    /// When either cannot be read or they do not belong together.
    pub fn new(certificate: Vec<u8>, key: Secret<Vec<u8>>) -> Result<Self, IdentityError> {
        let refuse = |source| IdentityError::Certificate { source };
        let validity = Validity::of(&certificate).map_err(refuse)?;
        let certified = certificate::public_key(&certificate).map_err(refuse)?;
        if certified != key_pair(&key)?.public_key_raw() {
            return Err(IdentityError::Mismatch);
        }
        Ok(Self { certificate: certificate.into(), key, validity })
    }

    /// Reads what [`Identity::to_pem`] wrote.
    ///
    /// # Errors
    ///
    /// When a part is missing or the parts do not belong together.
    pub fn from_pem(text: &Secret<String>) -> Result<Self, IdentityError> {
        Self::from_parts(text.expose(), text.expose())
    }

    /// Certificate and key as one PEM text, so that a file of it changes as a whole. It is for its owner's eyes
    /// only: store it with `sloth_core::fs::Access::Owner`.
    #[must_use]
    pub fn to_pem(&self) -> Secret<String> {
        let key = self.key_pem();
        let certificate = self.certificate_pem();
        let mut text = String::with_capacity(certificate.len() + key.expose().len());
        text.push_str(&certificate);
        text.push_str(key.expose());
        Secret::new(text)
    }

    /// The certificate in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// When the certificate begins to count.
    #[must_use]
    pub const fn not_before(&self) -> Millis {
        self.validity.not_before
    }

    /// When it stops.
    #[must_use]
    pub const fn not_after(&self) -> Millis {
        self.validity.not_after
    }

    /// Whom it names; a server's certificate names nobody.
    ///
    /// # Errors
    ///
    /// When it names neither an agent nor an operator.
    pub fn subject(&self) -> Result<Subject, CertificateError> {
        Subject::of(&self.certificate)
    }

    pub(crate) fn from_parts(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let refuse = |source| IdentityError::Pem { source };
        let certificate = pem::decode_certificate(certificate).map_err(refuse)?;
        Self::new(certificate.to_vec(), pem::decode_key(key).map_err(refuse)?)
    }

    pub(crate) fn certificate_pem(&self) -> String {
        pem::encode_certificate(&self.certificate)
    }

    pub(crate) fn key_pem(&self) -> Secret<String> {
        pem::encode_key(&self.key)
    }

    pub(crate) const fn validity(&self) -> Validity {
        self.validity
    }

    pub(crate) const fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.expose().clone()))
    }
}

/// A new ECDSA P-256 key.
pub(crate) fn generate() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
}

/// The key pair in a private key of ours.
pub(crate) fn key_pair(pkcs8: &Secret<Vec<u8>>) -> Result<KeyPair, IdentityError> {
    let key = PrivatePkcs8KeyDer::from(pkcs8.expose().as_slice());
    KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|source| IdentityError::Key { source })
}
