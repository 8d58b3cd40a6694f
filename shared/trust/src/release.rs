//! What those who make the agent say of a release of it.

use std::collections::BTreeSet;

use semver::Version;
use serde::{Deserialize, Serialize};
use sloth_core::{Millis, RepositoryId};

use crate::{Channel, Domain, ManifestRef, Refusal, Sha256, Triple, domain::Subject};

/// Most platforms that one release is for.
pub const TARGETS_MAX: usize = 32;
/// Most bytes of one platform's binary.
pub const BINARY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most older binaries of a platform from which there are deltas.
pub const DELTAS_MAX: usize = 16;

/// One release of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRelease {
    /// The version of this format: [`SPEC`](crate::SPEC).
    pub spec: u32,
    /// The repository it is published in.
    pub repository: RepositoryId,
    /// What its binaries say of themselves.
    pub version: Version,
    /// Which release of the agent it is, in all channels. It only grows: going back to an older version is a new release
    /// with that version's binaries.
    pub counter: u64,
    /// Which hosts it is meant for, by their own settings.
    pub channel: Channel,
    /// Its binaries.
    pub targets: Targets,
    /// From which versions it may be reached.
    pub from: Reach,
    /// The versions of the protocol that it speaks.
    pub protocol: ProtocolRange,
    /// When it was signed.
    pub published: Millis,
    /// When it stops being good for new updates.
    pub expires: Millis,
}

/// The binaries of a release, one a platform.
///
/// Invariant: there are 1 to [`TARGETS_MAX`], each for another platform, of 1 to [`BINARY_BYTES_MAX`] bytes, and with at
/// most [`DELTAS_MAX`] deltas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<TargetBinary>", into = "Vec<TargetBinary>")]
pub struct Targets(Vec<TargetBinary>);

/// The binary for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetBinary {
    /// The platform.
    pub target: Triple,
    /// A manifest whose only file is the binary, by which it is fetched in chunks.
    pub manifest: ManifestRef,
    /// The binary's SHA-256: what `sha256sum` says of it.
    pub digest: Sha256,
    /// How many bytes it has.
    pub length: u64,
    /// How it is made of older ones, so that hardly anything has to be fetched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deltas: Vec<Delta>,
}

/// How a binary is made of an older one. What comes of it counts only with the binary's own SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The older binary's SHA-256.
    pub from: Sha256,
    /// A blob that holds what the new one takes beyond it.
    pub blob: ManifestRef,
}

/// From which versions a release may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// This one, and every later one.
    pub oldest: Version,
    /// Older ones that may be gone from all the same.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub also: BTreeSet<Version>,
}

/// Versions of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

/// Binaries that cannot be a release's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTargets {
    /// None, or more than anybody builds for.
    #[error("a release has binaries for 1 to {TARGETS_MAX} platforms, this for {count}")]
    Count {
        /// How many.
        count: usize,
    },
    /// Two for one platform.
    #[error("there are two binaries for `{target}`")]
    Duplicate {
        /// Which platform.
        target: Triple,
    },
    /// More deltas than anybody needs.
    #[error("the binary for `{target}` has {count} deltas: it takes {DELTAS_MAX} at most")]
    Deltas {
        /// Which platform.
        target: Triple,
        /// How many.
        count: usize,
    },
    /// Empty, or longer than any binary.
    #[error("the binary for `{target}` has {length} bytes: it takes 1 to {BINARY_BYTES_MAX}")]
    Length {
        /// Which platform.
        target: Triple,
        /// How many bytes.
        length: u64,
    },
}

/// The host that would take a release, and what it runs.
#[derive(Debug, Clone, Copy)]
pub struct ReleaseHost<'a> {
    /// The platform that its agent was built for.
    pub target: &'a Triple,
    /// The version that runs.
    pub version: &'a Version,
    /// The version of the protocol that it speaks with its coordinator.
    pub protocol: u16,
}

impl AgentRelease {
    /// What a signature of this release is for.
    #[must_use]
    pub const fn domain(&self) -> Domain {
        Domain { subject: Subject::Release, repository: self.repository, version: self.counter }
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> String {
        format!("agent release {}", self.version)
    }

    /// The binary for a host that may go to this release.
    ///
    /// # Errors
    ///
    /// When there is none for its platform, it may not be reached from what runs there, or it would not be understood by
    /// the coordinator.
    pub fn binary_for(&self, host: ReleaseHost<'_>) -> Result<&TargetBinary, Refusal> {
        let Some(binary) = self.targets.get(host.target) else {
            let targets: Vec<&str> = self.targets.iter().map(|binary| binary.target.as_str()).collect();
            return Err(Refusal::OtherTarget {
                what: self.name(),
                targets: targets.join(", "),
                host: host.target.clone(),
            });
        };
        if !self.from.allows(host.version) {
            let (what, oldest) = (self.name(), self.from.oldest.to_string());
            return Err(Refusal::NotReachable { what, from: host.version.to_string(), oldest });
        }
        if !self.protocol.holds(host.protocol) {
            let ProtocolRange { min, max } = self.protocol;
            return Err(Refusal::OtherProtocol { what: self.name(), min, max, spoken: host.protocol });
        }
        Ok(binary)
    }
}

impl Targets {
    /// The binaries of one release.
    ///
    /// # Errors
    ///
    /// When there is none, two are for one platform, or one has a length that no binary has.
    pub fn new(binaries: Vec<TargetBinary>) -> Result<Self, InvalidTargets> {
        if binaries.is_empty() || TARGETS_MAX < binaries.len() {
            return Err(InvalidTargets::Count { count: binaries.len() });
        }
        let mut seen = BTreeSet::new();
        for TargetBinary { target, length, deltas, .. } in &binaries {
            if !seen.insert(target) {
                return Err(InvalidTargets::Duplicate { target: target.clone() });
            }
            if *length == 0 || BINARY_BYTES_MAX < *length {
                return Err(InvalidTargets::Length { target: target.clone(), length: *length });
            }
            if DELTAS_MAX < deltas.len() {
                return Err(InvalidTargets::Deltas { target: target.clone(), count: deltas.len() });
            }
        }
        Ok(Self(binaries))
    }

    /// The binary for a platform.
    #[must_use]
    pub fn get(&self, target: &Triple) -> Option<&TargetBinary> {
        self.0.iter().find(|binary| binary.target == *target)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &TargetBinary> {
        self.0.iter()
    }
}

impl TryFrom<Vec<TargetBinary>> for Targets {
    type Error = InvalidTargets;

    fn try_from(binaries: Vec<TargetBinary>) -> Result<Self, InvalidTargets> {
        Self::new(binaries)
    }
}

impl From<Targets> for Vec<TargetBinary> {
    fn from(targets: Targets) -> Self {
        targets.0
    }
}

impl Reach {
    /// Whether a host that runs `version` may go on from there. What follows a `+` in a version says nothing.
    #[must_use]
    pub fn allows(&self, version: &Version) -> bool {
        let is = |other: &Version| other.cmp_precedence(version);
        is(&self.oldest).is_le() || self.also.iter().any(|other| is(other).is_eq())
    }
}

impl ProtocolRange {
    /// Whether `version` is one of them.
    #[must_use]
    pub const fn holds(self, version: u16) -> bool {
        self.min <= version && version <= self.max
    }
}

#[cfg(test)]
mod tests {
    use sloth_core::Digest;

    use super::*;

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    fn binary(target: &str, length: u64) -> TargetBinary {
        let manifest = ManifestRef { digest: Digest::of(target.as_bytes()), length: 10 };
        TargetBinary {
            target: target.parse().expect("a platform"),
            manifest,
            digest: Sha256::of(b"x"),
            length,
            deltas: Vec::new(),
        }
    }

    #[test]
    fn binaries_are_checked() {
        let made = |targets: &[(&str, u64)]| {
            Targets::new(targets.iter().map(|(target, length)| binary(target, *length)).collect())
        };
        assert!(made(&[("x86_64-unknown-linux-gnu", 1), ("aarch64-unknown-linux-gnu", BINARY_BYTES_MAX)]).is_ok());
        assert_eq!(made(&[]), Err(InvalidTargets::Count { count: 0 }));
        assert!(matches!(made(&[("a", 1), ("a", 2)]), Err(InvalidTargets::Duplicate { .. })));
        let delta = Delta { from: Sha256::of(b"y"), blob: ManifestRef { digest: Digest::of(b"d"), length: 1 } };
        let many = TargetBinary { deltas: vec![delta; DELTAS_MAX + 1], ..binary("a", 1) };
        assert!(matches!(Targets::new(vec![many]), Err(InvalidTargets::Deltas { .. })));
        assert!(matches!(made(&[("a", 0)]), Err(InvalidTargets::Length { .. })));
        assert!(matches!(made(&[("a", BINARY_BYTES_MAX + 1)]), Err(InvalidTargets::Length { .. })));
        let many: Vec<TargetBinary> = (0..=TARGETS_MAX).map(|n| binary(&format!("t{n}"), 1)).collect();
        assert_eq!(Targets::new(many), Err(InvalidTargets::Count { count: TARGETS_MAX + 1 }));
        assert!(serde_json::from_str::<Targets>("[]").is_err());
    }

    #[test]
    fn edges_are_told_by_precedence() {
        let reach = Reach { oldest: version("1.2.0"), also: [version("0.9.1")].into() };
        for (from, expected) in [
            ("1.2.0", true),
            ("1.2.0+local", true),
            ("1.2.0-rc.1", false),
            ("1.3.0-rc.1", true),
            ("2.0.0", true),
            ("1.1.9", false),
            ("0.9.1", true),
            ("0.9.1+b", true),
            ("0.9.2", false),
        ] {
            assert_eq!(reach.allows(&version(from)), expected, "{from}");
        }
    }
}
