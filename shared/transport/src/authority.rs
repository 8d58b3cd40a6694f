//! The coordinator's own certificate authority.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    date_time_ymd,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest as _, Sha256};
use sloth_core::{AgentId, Millis, Secret};
use sloth_protocol::wire::{CSR_BYTES_MAX, OPERATOR_CHARS_MAX, is_operator_name};

use crate::{
    certificate::{self, CertificateError, Subject, Validity},
    continuity::Continuity,
    identity::{self, Identity, IdentityError},
    pem::{self, PemError},
    tls::SERVER_NAME,
};

/// How long an authority's own certificate counts. Nobody checks it of a root, so it ends with the fleet.
pub const AUTHORITY_VALIDITY: Millis = Millis::from_secs(20 * 365 * 24 * 3600);
/// How far before its making a certificate begins to count: hosts' clocks differ.
pub const BACKDATE: Millis = Millis::from_secs(5 * 60);

const SERIAL_BYTES: usize = 16;
/// An uncompressed point of P-256: a tag and two coordinates.
const P256_POINT_BYTES: usize = 65;
const UNCOMPRESSED_POINT_TAG: u8 = 4;
/// 9999-12-31T23:59:59Z, the last second that a certificate can name.
const LAST_SECOND: Millis = Millis::from_secs(253_402_300_799);

/// The authority that signs the certificates of one coordinator, its agents and its operators.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate for somebody else's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub der: Vec<u8>,
    /// When it begins to count.
    pub not_before: Millis,
    /// When it stops.
    pub not_after: Millis,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Making it failed.
    #[error("cannot make a certificate authority")]
    Create {
        /// What the cryptography said.
        source: rcgen::Error,
    },
    /// A file is not what it should be.
    #[error("cannot read the certificate authority")]
    Pem {
        /// What is missing.
        source: PemError,
    },
    /// The certificate cannot be read.
    #[error("cannot read the authority's certificate")]
    Certificate {
        /// What is wrong with it.
        source: CertificateError,
    },
    /// The certificate is one, of somebody else.
    #[error("the certificate is not one of an authority: it may not sign others")]
    NotAnAuthority,
    /// The private key cannot be read, or is not the certificate's.
    #[error("cannot use the authority's private key")]
    Key {
        /// What is wrong with it.
        source: IdentityError,
    },
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is over its limit.
    #[error("a certificate request takes {CSR_BYTES_MAX} bytes at most")]
    TooLong,
    /// The request cannot be read, or is not signed with its own key.
    #[error("cannot use the certificate request")]
    Request {
        /// What is wrong with it.
        source: rcgen::Error,
    },
    /// The request is for another kind of key.
    #[error("the certificate request is not for an ECDSA P-256 key")]
    KeyKind,
    /// Nobody can have that name.
    #[error(
        "`{name}` cannot be an operator's name: it takes 1 to {OPERATOR_CHARS_MAX} letters, digits, `-`, `_` and `.`"
    )]
    Name {
        /// The start of what was given.
        name: String,
    },
    /// Signing failed.
    #[error("cannot sign a certificate")]
    Sign {
        /// What the cryptography said.
        source: rcgen::Error,
    },
    /// Making a key failed.
    #[error("cannot make an identity")]
    Identity {
        /// What went wrong.
        source: IdentityError,
    },
}

impl Authority {
    /// Makes an authority with a new key. `serial` must be random: it tells this authority from every other.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub fn create(now: Millis, serial: [u8; SERIAL_BYTES]) -> Result<Self, AuthorityError> {
        let refuse = |source| AuthorityError::Create { source };
        let key = identity::generate().map_err(refuse)?;
        let mut params = CertificateParams::default();
        set_validity(&mut params, validity(now, AUTHORITY_VALIDITY));
        params.serial_number = Some(positive(serial));
        params.distinguished_name = common_name(&authority_name(serial));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(refuse)?;
        Ok(Self { certificate: certificate.into(), issuer: Issuer::new(params, key) })
    }

    /// Reads what [`Authority::certificate_pem`] and [`Authority::key_pem`] gave.
    ///
    /// # Errors
    ///
    /// When either is damaged, the certificate is not an authority's, or the two do not belong together.
    pub fn from_pem(certificate: &str, key: &Secret<String>) -> Result<Self, AuthorityError> {
        let of_pem = |source| AuthorityError::Pem { source };
        let of_certificate = |source| AuthorityError::Certificate { source };
        let of_key = |source| AuthorityError::Key { source };
        let certificate = pem::decode_certificate(certificate).map_err(of_pem)?;
        let key = identity::key_pair(&pem::decode_key(key.expose()).map_err(of_pem)?).map_err(of_key)?;
        if !certificate::is_authority(&certificate).map_err(of_certificate)? {
            return Err(AuthorityError::NotAnAuthority);
        }
        if certificate::public_key(&certificate).map_err(of_certificate)? != key.public_key_raw() {
            return Err(of_key(IdentityError::Mismatch));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|source| AuthorityError::Create { source })?;
        Ok(Self { certificate, issuer })
    }

    /// The certificate as PEM text. It is no secret.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem::encode_certificate(&self.certificate)
    }

    /// The private key as PEM text. Whoever has it can be any agent.
    #[must_use]
    pub fn key_pem(&self) -> Secret<String> {
        pem::encode_key(&Secret::new(self.issuer.key().serialize_der()))
    }

    /// The certificate in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The SHA-256 of the certificate in DER, which join tokens carry.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        certificate::fingerprint(&self.certificate)
    }

    /// What every process of this authority's coordinator listens with, so that peers of an earlier one learn that it
    /// is gone.
    #[must_use]
    pub fn continuity(&self) -> Continuity {
        Continuity::derive(Secret::new(self.issuer.key().serialize_der()).expose())
    }

    /// A new key and certificate for the coordinator itself, under the one name that all clients ask for.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub fn issue_server(&self, now: Millis, term: Millis) -> Result<Identity, IssueError> {
        let name = SERVER_NAME.try_into().map_err(|source| IssueError::Sign { source })?;
        self.issue_with_key(leaf(SanType::DnsName(name), SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth), now, term)
    }

    /// A certificate for the agent `id` and the key in `csr`. Nothing else in the request counts.
    ///
    /// # Errors
    ///
    /// When the request is too long, cannot be read, is not signed with its own key, or is not for a P-256 key.
    pub fn issue_agent(&self, csr: &[u8], id: AgentId, now: Millis, term: Millis) -> Result<Issued, IssueError> {
        let request = checked(csr)?;
        self.sign(client(&Subject::Agent(id))?, &request.public_key, now, term)
    }

    /// A new key and certificate for the operator `name`.
    ///
    /// # Errors
    ///
    /// When nobody can have that name, or the system gives no randomness.
    pub fn issue_operator(&self, name: &str, now: Millis, term: Millis) -> Result<Identity, IssueError> {
        if !is_operator_name(name) {
            return Err(IssueError::Name { name: name.chars().take(OPERATOR_CHARS_MAX).collect() });
        }
        self.issue_with_key(client(&Subject::Operator(name.to_owned()))?, now, term)
    }

    pub(crate) const fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    fn issue_with_key(&self, params: CertificateParams, now: Millis, term: Millis) -> Result<Identity, IssueError> {
        let key = identity::generate()
            .map_err(|source| IssueError::Identity { source: IdentityError::Generate { source } })?;
        let issued = self.sign(params, &key, now, term)?;
        Identity::new(issued.der, Secret::new(key.serialize_der())).map_err(|source| IssueError::Identity { source })
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        now: Millis,
        term: Millis,
    ) -> Result<Issued, IssueError> {
        let validity = validity(now, term);
        set_validity(&mut params, validity);
        params.serial_number = Some(serial_of(key, &params, validity));
        let certificate = params.signed_by(key, &self.issuer).map_err(|source| IssueError::Sign { source })?;
        let Validity { not_before, not_after } = validity;
        Ok(Issued { der: certificate.der().to_vec(), not_before, not_after })
    }
}

/// The bare public key that a certificate request is for, after the checks of [`Authority::issue_agent`].
///
/// # Errors
///
/// When the request is too long, cannot be read, is not signed with its own key, or is not for a P-256 key.
pub fn requested_key(csr: &[u8]) -> Result<Vec<u8>, IssueError> {
    checked(csr).map(|request| request.public_key.der_bytes().to_vec())
}

fn checked(csr: &[u8]) -> Result<CertificateSigningRequestParams, IssueError> {
    if CSR_BYTES_MAX < csr.len() {
        return Err(IssueError::TooLong);
    }
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
        .map_err(|source| IssueError::Request { source })?;
    // The kind of key is told by the signature's algorithm alone, so the point is looked at as well.
    let point = request.public_key.der_bytes();
    let is_p256 = request.public_key.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256
        && point.len() == P256_POINT_BYTES
        && point.first() == Some(&UNCOMPRESSED_POINT_TAG);
    if is_p256 { Ok(request) } else { Err(IssueError::KeyKind) }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn client(subject: &Subject) -> Result<CertificateParams, IssueError> {
    let uri = subject.to_string();
    let name = uri.as_str().try_into().map_err(|source| IssueError::Sign { source })?;
    Ok(leaf(SanType::URI(name), &uri, ExtendedKeyUsagePurpose::ClientAuth))
}

fn leaf(name: SanType, common: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(common);
    params.subject_alt_names = vec![name];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params
}

/// Two authorities with one name would be tried for each other's certificates.
fn authority_name(serial: [u8; SERIAL_BYTES]) -> String {
    let [a, b, c, d, ..] = serial;
    format!("sloth authority {a:02x}{b:02x}{c:02x}{d:02x}")
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// A number that no other certificate of this authority has: it follows from all in which certificates differ.
fn serial_of(key: &impl PublicKeyData, params: &CertificateParams, validity: Validity) -> SerialNumber {
    let mut hash = Sha256::new();
    hash.update(key.der_bytes());
    hash.update(format!("{:?}", params.subject_alt_names));
    hash.update(validity.not_before.as_u64().to_be_bytes());
    hash.update(validity.not_after.as_u64().to_be_bytes());
    let mut serial = [0; SERIAL_BYTES];
    serial.copy_from_slice(&hash.finalize()[..SERIAL_BYTES]);
    positive(serial)
}

/// A serial number is positive and has no leading zero: the first byte is brought between 0x40 and 0x7f.
fn positive(mut bytes: [u8; SERIAL_BYTES]) -> SerialNumber {
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// Certificates count whole seconds.
fn validity(now: Millis, term: Millis) -> Validity {
    let whole = |time: Millis| Millis::from_secs(time.min(LAST_SECOND).as_u64() / 1000);
    Validity { not_before: whole(now - BACKDATE), not_after: whole(now + term) }
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + validity.not_before.as_duration();
    params.not_after = epoch + validity.not_after.as_duration();
}
