//! The one place where signatures are counted.

use std::collections::BTreeSet;

use crate::{Domain, Envelope, KeyId, PayloadKind, PublicKey, RoleKeys, Signature, envelope::ClaimError};

/// Why the signatures of an envelope do not carry it.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is none.
    #[error("it carries no signature")]
    Unsigned,
    /// The envelope says it is something else than the domain does.
    #[error("its signatures are for `{domain}`, but it holds another kind of payload")]
    Kind {
        /// The domain.
        domain: String,
    },
    /// A signature that cannot be read.
    #[error("the signature of key `{key}` is not in minisign's format")]
    Malformed {
        /// Whose it claims to be.
        key: KeyId,
        /// What the reader said.
        source: minisign_verify::Error,
    },
    /// A signature over the content itself and not over its hash.
    #[error("the signature of key `{key}` is in minisign's legacy format: sign again with a current minisign")]
    Legacy {
        /// Whose it claims to be.
        key: KeyId,
    },
    /// A signature that does not match.
    #[error(
        "the signature of key `{key}` does not match the content: it was changed after signing, or another key signed"
    )]
    Mismatch {
        /// Whose it claims to be.
        key: KeyId,
    },
    /// A good signature for another thing.
    #[error("key `{key}` signed `{signed}`, which does not vouch for `{wanted}`")]
    Domain {
        /// Whose it is.
        key: KeyId,
        /// What it was signed as.
        signed: String,
        /// What it was to vouch for.
        wanted: String,
    },
    /// Good signatures, but too few.
    #[error("{have} of the {need} keys that must sign it have signed")]
    Threshold {
        /// How many distinct keys of the role signed.
        have: usize,
        /// How many must.
        need: usize,
    },
}

/// Whether enough distinct keys of `role` signed the payload of `envelope` as `domain`. Every role is checked
/// here and nowhere else.
///
/// Signatures of keys outside the role say nothing, so that a payload can be signed by the old keys of a role
/// and the new. A bad signature in the name of a key of the role is refused even where others would do.
///
/// # Errors
///
/// Names the first signature that is not good, or how many are missing.
pub fn verify_threshold(role: &RoleKeys, envelope: &Envelope, domain: &Domain) -> Result<(), VerifyError> {
    if envelope.signatures.is_empty() {
        return Err(VerifyError::Unsigned);
    }
    let wanted = domain.to_string();
    if envelope.kind != domain.subject.kind() {
        return Err(VerifyError::Kind { domain: wanted });
    }
    let mut signers = BTreeSet::new();
    for signature in &envelope.signatures {
        let Some(key) = role.key(signature.key) else { continue };
        verify_one(key, signature, &envelope.payload, &wanted)?;
        signers.insert(key.id());
    }
    if signers.len() < role.threshold() {
        return Err(VerifyError::Threshold { have: signers.len(), need: role.threshold() });
    }
    Ok(())
}

/// Whose signature of `payload` as `domain` this is: for signatures that come alone, as `minisign` writes them.
#[must_use]
pub fn find_signer<'k>(
    keys: impl IntoIterator<Item = &'k PublicKey>,
    payload: &[u8],
    minisig: &str,
    domain: &Domain,
) -> Option<KeyId> {
    let wanted = domain.to_string();
    let signed_by = |key: &&PublicKey| {
        let signature = Signature { key: key.id(), minisig: minisig.to_owned() };
        verify_one(key, &signature, payload, &wanted).is_ok()
    };
    keys.into_iter().find(signed_by).map(PublicKey::id)
}

/// The envelope of a payload and of signatures that come alone, as `minisign` writes them: each is given to the one of
/// `keys` whose it is, and to nobody when it is none's. Nothing of the payload is parsed.
///
/// # Errors
///
/// When there is no signature, or they do not say the same of what they are for.
pub fn gather(
    kind: PayloadKind,
    payload: Vec<u8>,
    minisigs: Vec<String>,
    keys: &[PublicKey],
) -> Result<Envelope, ClaimError> {
    let unknown = |minisig| Signature { key: KeyId([0; 32]), minisig };
    let mut envelope = Envelope { kind, payload, signatures: minisigs.into_iter().map(unknown).collect() };
    let domain = envelope.claimed_domain()?;
    for signature in std::mem::take(&mut envelope.signatures) {
        let signer = find_signer(keys, &envelope.payload, &signature.minisig, &domain);
        envelope.signatures.push(Signature { key: signer.unwrap_or(signature.key), ..signature });
    }
    Ok(envelope)
}

/// Whether `key` signed `payload` as `minisign` does, whatever the signature is said to be for. Gives what it is said to
/// be for, which is signed too.
///
/// # Errors
///
/// When the signature is not good.
pub fn verify_file(key: &PublicKey, payload: &[u8], minisig: &str) -> Result<String, VerifyError> {
    let id = key.id();
    let decoded =
        minisign_verify::Signature::decode(minisig).map_err(|source| VerifyError::Malformed { key: id, source })?;
    let comment = decoded.trusted_comment().to_owned();
    let signature = Signature { key: id, minisig: minisig.to_owned() };
    verify_one(key, &signature, payload, &comment)?;
    Ok(comment)
}

fn verify_one(key: &PublicKey, signature: &Signature, payload: &[u8], wanted: &str) -> Result<(), VerifyError> {
    use minisign_verify::Error;

    let id = key.id();
    let decoded = minisign_verify::Signature::decode(&signature.minisig)
        .map_err(|source| VerifyError::Malformed { key: id, source })?;
    key.inner().verify(payload, &decoded, false).map_err(|error| match error {
        Error::UnexpectedAlgorithm | Error::UnsupportedLegacyMode => VerifyError::Legacy { key: id },
        Error::InvalidSignature | Error::UnexpectedKeyId => VerifyError::Mismatch { key: id },
        Error::InvalidEncoding | Error::IoError(_) | Error::UnsupportedAlgorithm => {
            VerifyError::Malformed { key: id, source: error }
        }
    })?;
    // The comment is signed too, so it counts only from here on.
    let signed = decoded.trusted_comment();
    if signed != wanted {
        return Err(VerifyError::Domain { key: id, signed: signed.to_owned(), wanted: wanted.to_owned() });
    }
    Ok(())
}
