//! What certificates of the authority say: who, and from when to when.

use std::fmt;

use sha2::{Digest as _, Sha256};
use sloth_core::{AgentId, Millis};
use sloth_protocol::wire::is_operator_name;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

const AGENT_PREFIX: &str = "sloth://agent/";
const OPERATOR_PREFIX: &str = "sloth://operator/";

/// Whom a client certificate names. Its text is the certificate's one subject alternative name, a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An agent.
    Agent(AgentId),
    /// An operator, by name.
    Operator(String),
}

/// Why a certificate says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is not one.
    #[error("this is not an X.509 certificate")]
    Unreadable,
    /// It is one, of nobody that Sloth knows.
    #[error("the certificate names neither an agent nor an operator: it must have one URI like `{AGENT_PREFIX}<id>`")]
    Nameless,
}

/// The SHA-256 of a certificate in DER, which join tokens carry.
#[must_use]
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

impl Subject {
    /// Whom the client certificate `der` names. Its signature must have been verified before.
    ///
    /// # Errors
    ///
    /// When it is no certificate, or does not have exactly one alternative name that is a URI of ours.
    pub fn of(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let names = certificate.subject_alternative_name().map_err(|_| CertificateError::Unreadable)?;
        match names.map(|names| names.value.general_names.as_slice()) {
            Some([GeneralName::URI(uri)]) => Self::from_uri(uri).ok_or(CertificateError::Nameless),
            Some(_) | None => Err(CertificateError::Nameless),
        }
    }

    fn from_uri(uri: &str) -> Option<Self> {
        if let Some(id) = uri.strip_prefix(AGENT_PREFIX) {
            // One agent has one name: other spellings of an identifier are refused.
            return id.parse::<AgentId>().ok().filter(|parsed| parsed.to_string() == id).map(Self::Agent);
        }
        let name = uri.strip_prefix(OPERATOR_PREFIX)?;
        is_operator_name(name).then(|| Self::Operator(name.to_owned()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "{AGENT_PREFIX}{id}"),
            Self::Operator(name) => write!(f, "{OPERATOR_PREFIX}{name}"),
        }
    }
}

/// From when to when a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: Millis,
    pub(crate) not_after: Millis,
}

impl Validity {
    pub(crate) fn of(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let validity = certificate.validity();
        Ok(Self {
            not_before: from_timestamp(validity.not_before.timestamp()),
            not_after: from_timestamp(validity.not_after.timestamp()),
        })
    }

    /// Whether it has ended. As in TLS, the last second counts to its end.
    pub(crate) fn has_ended(self, now: Millis) -> bool {
        self.not_after.as_u64() / 1000 < now.as_u64() / 1000
    }
}

/// The bare public key in a certificate.
pub(crate) fn public_key(der: &[u8]) -> Result<Vec<u8>, CertificateError> {
    Ok(parse(der)?.public_key().subject_public_key.data.to_vec())
}

/// Whether a certificate is one of an authority.
pub(crate) fn is_authority(der: &[u8]) -> Result<bool, CertificateError> {
    Ok(parse(der)?.is_ca())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(CertificateError::Unreadable),
    }
}

fn from_timestamp(secs: i64) -> Millis {
    Millis::from_secs(u64::try_from(secs).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use sloth_protocol::wire::OPERATOR_CHARS_MAX;

    use super::*;

    #[test]
    fn only_the_two_kinds_of_names_are_known_in_their_one_spelling() {
        let id = AgentId::new(Millis::from_secs(1_700_000_000), 7);
        for subject in [Subject::Agent(id), Subject::Operator("ann-1.b_c".into())] {
            assert_eq!(Subject::from_uri(&subject.to_string()), Some(subject));
        }
        let long = format!("sloth://operator/{}", "a".repeat(OPERATOR_CHARS_MAX + 1));
        let lower = format!("sloth://agent/{id}").to_lowercase();
        for uri in
            ["", "sloth://agent/", "sloth://agent/web-1", "sloth://operator/", "sloth://operator/a/b", &lower, &long]
        {
            assert_eq!(Subject::from_uri(uri), None, "{uri}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for bytes in [&b""[..], b"hello", &[0x30, 0x82, 0xff, 0xff], &[0xff; 64]] {
            assert_eq!(Subject::of(bytes), Err(CertificateError::Unreadable));
            assert_eq!(Validity::of(bytes), Err(CertificateError::Unreadable));
        }
    }
}
