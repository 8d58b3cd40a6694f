//! Keys that programs hold, without a passphrase: the coordinator's online key, an agent's key for receipts.
//!
//! What they sign has the format of `minisign`, as everything that people sign, and the stock program verifies it and
//! can sign with their files. The same payload always gets the same signature, so that what was sent once can be made
//! again.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use blake2::{Blake2b512, Digest as _};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sloth_core::Secret;

use crate::{Domain, Envelope, KeyId, PublicKey, Signature};

/// Bytes that a new key is made of.
pub const SEED_BYTES: usize = 32;

/// What stands before the parts of a key, and of a signature over a hash.
const ALGORITHM: [u8; 2] = *b"Ed";
const PREHASHED: [u8; 2] = *b"ED";
/// The algorithm of the checksum: BLAKE2b.
const CHECKSUM: [u8; 2] = *b"B2";
const NUMBER_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 32;
/// Salt and costs of a passphrase, of which there is none.
const NO_PASSPHRASE: [u8; 48] = [0; 48];
/// Where the parts of a secret key's file stand: algorithms, salt and costs, number, seed and public key, checksum.
const NUMBER_AT: usize = 6 + NO_PASSPHRASE.len();
const SEED_AT: usize = NUMBER_AT + NUMBER_BYTES;
const CHECKSUM_AT: usize = SEED_AT + SEED_BYTES + 32;
const FILE_BYTES: usize = CHECKSUM_AT + CHECKSUM_BYTES;

/// An Ed25519 key that can sign at once.
pub struct MachineKey {
    pair: Ed25519KeyPair,
    number: [u8; NUMBER_BYTES],
    public: PublicKey,
}

/// A text that is no key of a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineKeyError {
    /// It is something else.
    #[error("it is not a secret key in minisign's format")]
    Malformed,
    /// It is locked.
    #[error("it has a passphrase, which nobody is there to type: a machine's key has none")]
    Passphrase,
    /// It was changed.
    #[error("it is damaged: its checksum or its public half does not fit")]
    Damaged,
}

impl MachineKey {
    /// The key of these random bytes. `number` is minisign's own name for it, and only a hint.
    ///
    /// # Errors
    ///
    /// When the cryptography refuses the bytes, as it does none.
    pub fn from_seed(seed: &Secret<[u8; SEED_BYTES]>, number: [u8; NUMBER_BYTES]) -> Result<Self, MachineKeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| MachineKeyError::Damaged)?;
        let encoded = [&ALGORITHM[..], &number, pair.public_key().as_ref()].concat();
        let public = STANDARD.encode(encoded).parse().map_err(|_| MachineKeyError::Damaged)?;
        Ok(Self { pair, number, public })
    }

    /// Reads the text of a file that [`MachineKey::file`] or `minisign -G -W` wrote.
    ///
    /// # Errors
    ///
    /// When it is none, has a passphrase, or is damaged.
    pub fn from_file(text: &Secret<String>) -> Result<Self, MachineKeyError> {
        let line = text.expose().lines().map(str::trim).rfind(|line| !line.is_empty());
        let bytes = line.and_then(|line| STANDARD.decode(line).ok()).ok_or(MachineKeyError::Malformed)?;
        let bytes = Secret::new(bytes);
        let Ok(bytes) = <&[u8; FILE_BYTES]>::try_from(bytes.expose().as_slice()) else {
            return Err(MachineKeyError::Malformed);
        };
        if bytes[..2] != ALGORITHM || bytes[4..6] != CHECKSUM {
            return Err(MachineKeyError::Malformed);
        }
        if bytes[2..4] != [0, 0] {
            return Err(MachineKeyError::Passphrase);
        }
        let seed = bytes[SEED_AT..SEED_AT + SEED_BYTES].try_into().map_err(|_| MachineKeyError::Malformed)?;
        let number = bytes[NUMBER_AT..SEED_AT].try_into().map_err(|_| MachineKeyError::Malformed)?;
        let key = Self::from_seed(&Secret::new(seed), number)?;
        // The stock program writes no checksum where there is no passphrase.
        let sums = [[0; CHECKSUM_BYTES], checksum(&bytes[NUMBER_AT..CHECKSUM_AT])];
        let same_half = bytes[SEED_AT + SEED_BYTES..CHECKSUM_AT] == *key.pair.public_key().as_ref();
        if !same_half || !sums.iter().any(|sum| bytes[CHECKSUM_AT..] == *sum) {
            return Err(MachineKeyError::Damaged);
        }
        Ok(key)
    }

    /// The text of the secret file of the key of this seed.
    #[must_use]
    pub fn file(seed: &Secret<[u8; SEED_BYTES]>, key: &Self) -> Secret<String> {
        let secret = [&key.number[..], seed.expose(), key.pair.public_key().as_ref()].concat();
        let parts = [&ALGORITHM[..], &[0, 0], &CHECKSUM, &NO_PASSPHRASE, &secret, &checksum(&secret)];
        let encoded = Secret::new(STANDARD.encode(parts.concat()));
        Secret::new(format!("untrusted comment: sloth machine key {}\n{}\n", key.id().short(), encoded.expose()))
    }

    /// What verifies its signatures.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The key's identity.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.public.id()
    }

    /// The signature of `payload` as `domain`.
    #[must_use]
    pub fn sign(&self, payload: &[u8], domain: &Domain) -> Signature {
        let comment = domain.to_string();
        let signature = self.pair.sign(&Blake2b512::digest(payload));
        let whole = self.pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let first = STANDARD.encode([&PREHASHED[..], &self.number, signature.as_ref()].concat());
        let minisig = format!(
            "untrusted comment: signature of {}\n{first}\ntrusted comment: {comment}\n{}\n",
            self.id().short(),
            STANDARD.encode(whole)
        );
        Signature { key: self.id(), minisig }
    }

    /// The envelope of `payload` as `domain`, signed by this key alone.
    #[must_use]
    pub fn seal(&self, payload: Vec<u8>, domain: &Domain) -> Envelope {
        let signature = self.sign(&payload, domain);
        Envelope { kind: domain.subject.kind(), payload, signatures: vec![signature] }
    }
}

impl fmt::Debug for MachineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MachineKey({})", self.id().short())
    }
}

/// The checksum over a key's number and both its halves.
fn checksum(secret: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hash = blake2::Blake2b::<blake2::digest::consts::U32>::new();
    hash.update(ALGORITHM);
    hash.update(secret);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use sloth_core::{Millis, RepositoryId};

    use super::*;
    use crate::{DomainSubject, RoleKeys, sign, verify_threshold};

    const SEED: [u8; SEED_BYTES] = [7; SEED_BYTES];

    fn key() -> MachineKey {
        MachineKey::from_seed(&Secret::new(SEED), [1, 2, 3, 4, 5, 6, 7, 8]).expect("a key")
    }

    fn domain() -> Domain {
        Domain { subject: DomainSubject::Head, repository: RepositoryId::new(Millis::ZERO, 1), version: 7 }
    }

    #[test]
    fn what_it_signs_counts_and_is_always_the_same() {
        let key = key();
        let envelope = key.seal(b"payload".to_vec(), &domain());
        let role = RoleKeys::new(vec![key.public().clone()], 1).expect("a role");
        verify_threshold(&role, &envelope, &domain()).expect("verified");
        assert_eq!(key.seal(b"payload".to_vec(), &domain()), envelope);
        let other = Domain { version: 8, ..domain() };
        assert!(verify_threshold(&role, &envelope, &other).is_err());
    }

    #[test]
    fn its_file_is_one_that_publishers_tools_open() {
        let (key, seed) = (key(), Secret::new(SEED));
        let file = MachineKey::file(&seed, &key);
        assert_eq!(MachineKey::from_file(&file).expect("read").public(), key.public());
        let opened = sign::open(&file, None).expect("opened by the library");
        assert_eq!(sign::public_key(&opened).expect("its half"), *key.public());
        assert_eq!(key.public().file().parse::<PublicKey>(), Ok(key.public().clone()));
        assert!(!format!("{key:?}").contains("Bwc"), "the seed is not shown");
    }

    #[test]
    fn other_files_are_told_apart() {
        let generated = |passphrase: Option<&Secret<String>>| sign::generate(passphrase).expect("a key").secret;
        assert!(MachineKey::from_file(&generated(None)).is_ok());
        let locked = generated(Some(&Secret::new("correct horse".to_owned())));
        assert_eq!(MachineKey::from_file(&locked).expect_err("locked"), MachineKeyError::Passphrase);
        let text = |text: &str| MachineKey::from_file(&Secret::new(text.to_owned())).expect_err("no key");
        assert_eq!(text(""), MachineKeyError::Malformed);
        assert_eq!(text(&key().public().file()), MachineKeyError::Malformed);
        let file = MachineKey::file(&Secret::new(SEED), &key());
        let mut bytes = STANDARD.decode(file.expose().lines().last().expect("a line")).expect("base 64");
        for place in [NUMBER_AT, SEED_AT, CHECKSUM_AT - 1, CHECKSUM_AT] {
            bytes[place] ^= 1;
            assert_eq!(text(&STANDARD.encode(&bytes)), MachineKeyError::Damaged, "changed at {place}");
            bytes[place] ^= 1;
        }
    }
}
