//! Making keys and signatures, for publishers. Agents are built without this module.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use sloth_core::Secret;

use crate::{Domain, Envelope, EnvelopeError, PublicKey, Signature};

pub use minisign::SecretKey;

/// Bytes of a secret key's file: algorithms, salt, costs, hint, key, checksum.
const SECRET_BYTES: usize = 158;
/// Where its key derivation algorithm stands: zero if there is no password.
const DERIVATION: std::ops::Range<usize> = 2..4;
/// Where its checksum begins.
const CHECKSUM_OFFSET: usize = 126;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The secret key's file is not one, or the passphrase is wrong.
    #[error("cannot open the secret key: it is not a minisign key, or its passphrase is wrong")]
    Open {
        /// What minisign said.
        source: minisign::PError,
    },
    /// A key was not made.
    #[error("cannot make a key")]
    Generate {
        /// What minisign said.
        source: minisign::PError,
    },
    /// The signature was not made.
    #[error("cannot sign")]
    Sign {
        /// What minisign said.
        source: minisign::PError,
    },
    /// The payload cannot be written as JSON.
    #[error("cannot write the payload as JSON")]
    Payload {
        /// What the writer said.
        source: serde_json::Error,
    },
    /// What would be signed is something that nobody accepts.
    #[error("nobody would accept what was to be signed")]
    Bounds {
        /// Which bound it is over.
        source: EnvelopeError,
    },
}

/// A new key: what goes into the secret file and into the `.pub` file.
#[derive(Debug)]
pub struct NewKey {
    /// The text of the secret key's file, encrypted if there was a password.
    pub secret: Secret<String>,
    /// The text of the `.pub` file.
    pub public: String,
}

/// Makes a key pair. Without a password the secret key is written in the clear, as machines need it.
///
/// # Errors
///
/// When the system gives no randomness or the password cannot be used.
pub fn generate(password: Option<&Secret<String>>) -> Result<NewKey, SignError> {
    let generate = |source| SignError::Generate { source };
    let pair = match password {
        Some(password) => minisign::KeyPair::generate_encrypted_keypair(Some(password.expose().clone())),
        None => minisign::KeyPair::generate_unencrypted_keypair(),
    }
    .map_err(generate)?;
    let secret = pair.sk.to_box(None).map_err(generate)?.into_string();
    let public = pair.pk.to_box().map_err(generate)?.into_string();
    Ok(NewKey { secret: Secret::new(secret), public })
}

/// Opens the text of a secret key's file.
///
/// # Errors
///
/// When it is not such a file, or the password is missing, wrong, or not needed.
pub fn open(secret: &Secret<String>, password: Option<&Secret<String>>) -> Result<SecretKey, SignError> {
    let open = |source| SignError::Open { source };
    if password.is_none()
        && let Some(key) = without_checksum(secret)
    {
        return Ok(key);
    }
    let boxed = minisign::SecretKeyBox::from_string(secret.expose()).map_err(open)?;
    match password {
        Some(password) => boxed.into_secret_key(Some(password.expose().clone())),
        None => boxed.into_unencrypted_secret_key(),
    }
    .map_err(open)
}

/// The public half of a secret key.
///
/// # Errors
///
/// When the secret key is still encrypted.
pub fn public_key(secret: &SecretKey) -> Result<PublicKey, SignError> {
    let public = minisign::PublicKey::from_secret_key(secret).map_err(|source| SignError::Sign { source })?;
    public.to_base64().parse().map_err(|error: crate::InvalidKey| SignError::Sign {
        source: minisign::PError::new(minisign::ErrorKind::Misc, error.to_string()),
    })
}

/// Writes `payload` as JSON and signs it as `domain` with each of `keys`.
///
/// # Errors
///
/// When a key cannot sign, or the result is over a bound.
pub fn sign<T: Serialize>(payload: &T, domain: &Domain, keys: &[&SecretKey]) -> Result<Envelope, SignError> {
    let payload = serde_json::to_vec(payload).map_err(|source| SignError::Payload { source })?;
    let mut envelope = Envelope::unsigned(domain.subject.kind(), payload);
    for key in keys {
        add_signature(&mut envelope, domain, key)?;
    }
    envelope.check_bounds().map_err(|source| SignError::Bounds { source })?;
    Ok(envelope)
}

/// Adds the signature of one more key; one that this key made before is replaced.
///
/// # Errors
///
/// When the key cannot sign, or there are too many signatures.
pub fn add_signature(envelope: &mut Envelope, domain: &Domain, key: &SecretKey) -> Result<(), SignError> {
    let id = public_key(key)?.id();
    let comment = domain.to_string();
    let public = minisign::PublicKey::from_secret_key(key).map_err(|source| SignError::Sign { source })?;
    let minisig = minisign::sign(Some(&public), key, envelope.payload.as_slice(), Some(&comment), None)
        .map_err(|source| SignError::Sign { source })?
        .into_string();
    envelope.signatures.retain(|signature| signature.key != id);
    envelope.signatures.push(Signature { key: id, minisig });
    envelope.check_bounds().map_err(|source| SignError::Bounds { source })
}

/// The key of a file that `minisign -G -W` wrote. It leaves the checksum out of keys without a password, which
/// the library refuses. What such a key signs is verified as it is signed, so a damaged one is found there.
fn without_checksum(secret: &Secret<String>) -> Option<SecretKey> {
    let line = secret.expose().lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let bytes = Secret::new(STANDARD.decode(line).ok()?);
    let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let plain = zero(bytes.expose().get(DERIVATION)?) && zero(bytes.expose().get(CHECKSUM_OFFSET..)?);
    if bytes.expose().len() != SECRET_BYTES || !plain {
        return None;
    }
    SecretKey::from_bytes(bytes.expose()).ok()
}
