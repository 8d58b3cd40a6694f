//! The root: who holds which role.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sloth_core::{Millis, RepositoryId};

use crate::{
    BundleName, Domain, NamePattern, RoleKeys,
    domain::Subject,
    key::{Sha256Bytes, sha256, write_hex},
};

/// The keys and thresholds of every role of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// The version of this format: [`SPEC`](crate::SPEC).
    pub spec: u32,
    /// The repository that it is the root of.
    pub repository: RepositoryId,
    /// Its version, from 1; each root vouches for the one after it.
    pub version: u64,
    /// When it was made: what of its life is over is told from then on.
    pub issued: Millis,
    /// When it stops vouching for new work.
    pub expires: Millis,
    /// Who may say what.
    pub roles: Roles,
}

/// Who may say what. A role that is not named has no keys: nothing in its name is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// Who signs roots.
    pub root: RoleKeys,
    /// Who signs releases of the agent. Without it agents go to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub releases: Option<RoleKeys>,
    /// Who signs the bundles whose names match; of two patterns that match, the closer one counts.
    #[serde(default)]
    pub bundles: BTreeMap<NamePattern, RoleKeys>,
    /// Who signs the coordinator's head. Without it agents begin nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<RoleKeys>,
    /// Who signs assignments. Without it agents begin nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<RoleKeys>,
}

impl Root {
    /// What a signature of this root is for.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        Domain { subject: Subject::Root, repository: self.repository, version: self.version }
    }
}

impl Roles {
    /// Who signs the bundle `name`: the role of the closest pattern that matches.
    #[must_use]
    pub fn bundle(&self, name: &BundleName) -> Option<&RoleKeys> {
        let matching = self.bundles.iter().filter(|(pattern, _)| pattern.matches(name));
        matching.max_by_key(|(pattern, _)| pattern.weight()).map(|(_, role)| role)
    }
}

/// The SHA-256 of a root's payload, by which the first root is known. An operator can compare it with
/// `sha256sum`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RootPin(Sha256Bytes);

/// A text that is not a pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not pin a root: it takes 64 hexadecimal digits, the SHA-256 of the root")]
pub struct InvalidPin {
    /// The start of what was given.
    pub text: String,
}

impl RootPin {
    /// The pin of the root with this payload.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(sha256(payload))
    }
}

impl fmt::Display for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RootPin {
    type Err = InvalidPin;

    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        // A core digest has the same text form; only the hash differs.
        text.parse::<sloth_core::Digest>()
            .map(|digest| Self(*digest.as_bytes()))
            .map_err(|_| InvalidPin { text: sloth_core::excerpt(text) })
    }
}

impl Serialize for RootPin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RootPin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
