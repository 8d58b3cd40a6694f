//! Public keys, in the format of `minisign`.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Bytes of a public key in minisign's format: algorithm, hint, key.
const ENCODED_BYTES: usize = 42;
/// Where the Ed25519 key itself begins in them.
const KEY_OFFSET: usize = 10;

/// An Ed25519 public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Minisign's base 64, as it stands in the second line of a `.pub` file.
    text: String,
    id: KeyId,
    inner: minisign_verify::PublicKey,
}

/// A text that is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a public key: give a minisign key like `RWQf6LRCGA9i5…`, or the text of its `.pub` file")]
pub struct InvalidKey {
    /// The start of what was given.
    pub text: String,
}

/// A key's identity: the SHA-256 of its thirty-two bytes.
///
/// The eight-byte id in minisign's formats is chosen by whoever makes the key and is only a hint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) Sha256Bytes);

pub(crate) type Sha256Bytes = [u8; 32];

impl PublicKey {
    /// The key's identity.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key in minisign's base 64.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text of its `.pub` file.
    #[must_use]
    pub fn file(&self) -> String {
        format!("untrusted comment: sloth public key {}\n{self}\n", self.id.short())
    }

    /// The key as minisign's own type.
    pub(crate) const fn inner(&self) -> &minisign_verify::PublicKey {
        &self.inner
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    /// Reads the base 64 alone or the text of a `.pub` file.
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        // Of a secret key's file, given by mistake, nothing is shown but its comment.
        let invalid = || InvalidKey { text: sloth_core::excerpt(text.lines().next().unwrap_or_default()) };
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).ok_or_else(invalid)?;
        let bytes = STANDARD.decode(line).map_err(|_| invalid())?;
        if bytes.len() != ENCODED_BYTES {
            return Err(invalid());
        }
        let inner = minisign_verify::PublicKey::from_base64(line).map_err(|_| invalid())?;
        let key = bytes.get(KEY_OFFSET..).ok_or_else(invalid)?;
        Ok(Self { text: line.to_owned(), id: KeyId(sha256(key)), inner })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl KeyId {
    /// The thirty-two bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve digits, enough for a person to tell two apart.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Sha256Bytes {
    Sha256::digest(bytes).into()
}

pub(crate) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn both_forms_are_one_key() {
        let key: PublicKey = TEXT.parse().expect("a key");
        let file = format!("untrusted comment: minisign public key E7620F1842B4E81F\r\n{TEXT}\r\n");
        assert_eq!(file.parse(), Ok(key.clone()));
        assert_eq!(key.id().to_string().len(), 64);
    }

    #[test]
    fn the_hint_is_no_part_of_the_identity() {
        let mut bytes = STANDARD.decode(TEXT).expect("base 64");
        bytes[5] ^= 1;
        let other: PublicKey = STANDARD.encode(&bytes).parse().expect("a key");
        let key: PublicKey = TEXT.parse().expect("a key");
        assert_eq!((other.id(), other == key), (key.id(), false));
        bytes[20] ^= 1;
        assert_ne!(STANDARD.encode(&bytes).parse::<PublicKey>().expect("a key").id(), key.id());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "\n\n", "hello", &TEXT[..40], &format!("{TEXT}AAAA"), &TEXT.replace("RWQ", "AAA")] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }
}
