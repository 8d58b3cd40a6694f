//! Keys with a threshold.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{KeyId, PublicKey, envelope::SIGNATURES_MAX};

/// The keys of a role and how many of them must sign.
///
/// Invariant: the keys are distinct, and the threshold is at least one and at most their number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct RoleKeys {
    keys: Vec<PublicKey>,
    threshold: usize,
}

/// Keys and a threshold that cannot be a role's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRole {
    /// A key that stands there twice.
    #[error("the key `{key}` is named twice in one role")]
    DuplicateKey {
        /// Which.
        key: KeyId,
    },
    /// A threshold that nobody needs to meet, or that nobody can.
    #[error("a threshold of {threshold} does not fit {keys} keys: it takes 1 to {keys}")]
    Threshold {
        /// The threshold.
        threshold: usize,
        /// How many keys there are.
        keys: usize,
    },
    /// More keys than could sign one envelope.
    #[error("a role takes {SIGNATURES_MAX} keys at most, this has {keys}")]
    TooManyKeys {
        /// How many there are.
        keys: usize,
    },
}

impl RoleKeys {
    /// The role in which `threshold` of `keys` must sign.
    ///
    /// # Errors
    ///
    /// When a key is there twice or the threshold cannot be met.
    pub fn new(keys: Vec<PublicKey>, threshold: usize) -> Result<Self, InvalidRole> {
        if SIGNATURES_MAX < keys.len() {
            return Err(InvalidRole::TooManyKeys { keys: keys.len() });
        }
        let mut seen = BTreeSet::new();
        if let Some(key) = keys.iter().find(|key| !seen.insert(key.id())) {
            return Err(InvalidRole::DuplicateKey { key: key.id() });
        }
        if threshold == 0 || keys.len() < threshold {
            return Err(InvalidRole::Threshold { threshold, keys: keys.len() });
        }
        Ok(Self { keys, threshold })
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The key of this identity, if it is one of them.
    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.id() == id)
    }

    /// Whether nothing that was signed by keys of `before` alone is signed well enough now.
    #[must_use]
    pub fn supersedes(&self, before: &Self) -> bool {
        before.keys.iter().filter(|key| self.key(key.id()).is_some()).count() < self.threshold
    }

    /// How many of the keys must sign.
    #[must_use]
    pub const fn threshold(&self) -> usize {
        self.threshold
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    keys: Vec<PublicKey>,
    threshold: usize,
}

impl TryFrom<Unchecked> for RoleKeys {
    type Error = InvalidRole;

    fn try_from(role: Unchecked) -> Result<Self, InvalidRole> {
        Self::new(role.keys, role.threshold)
    }
}
