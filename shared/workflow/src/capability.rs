//! What the Lua of a bundle may touch, as its publisher signed it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One thing that Lua may do to its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Start commands.
    Exec,
    /// Read files outside the bundle.
    FsRead,
    /// Write, move and remove files.
    FsWrite,
    /// Read and write the state store.
    State,
    /// Ask what the host is.
    Facts,
    /// Speak to other hosts.
    Net,
    /// Install and remove packages.
    Pkg,
    /// Start, stop and define services.
    Service,
    /// Make, change and remove users and groups.
    User,
    /// Change the jobs that cron runs.
    Cron,
    /// Change settings of the kernel.
    Sysctl,
}

impl Capability {
    /// Every capability, in the order they are listed in messages.
    pub const ALL: [Self; 11] = [
        Self::Exec,
        Self::FsRead,
        Self::FsWrite,
        Self::State,
        Self::Facts,
        Self::Net,
        Self::Pkg,
        Self::Service,
        Self::User,
        Self::Cron,
        Self::Sysctl,
    ];

    /// The name in a bundle's manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::FsRead => "fs:read",
            Self::FsWrite => "fs:write",
            Self::State => "state",
            Self::Facts => "facts",
            Self::Net => "net",
            Self::Pkg => "pkg",
            Self::Service => "service",
            Self::User => "user",
            Self::Cron => "cron",
            Self::Sysctl => "sysctl",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no capability `{text}`: known are {}", known())]
pub struct UnknownCapability {
    /// The start of what was given.
    pub text: String,
}

/// Most characters of a wrong name that are repeated in a message.
const SHOWN_CHARS_MAX: usize = 40;

impl FromStr for Capability {
    type Err = UnknownCapability;

    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        Self::ALL
            .into_iter()
            .find(|capability| capability.as_str() == text)
            .ok_or_else(|| UnknownCapability { text: text.chars().take(SHOWN_CHARS_MAX).collect() })
    }
}

impl Serialize for Capability {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A set of capabilities.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(BTreeSet<Capability>);

impl Capabilities {
    /// Everything: a local operator's own run.
    #[must_use]
    pub fn all() -> Self {
        Self(Capability::ALL.into())
    }

    /// Nothing but computing and logging.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the names of a manifest.
    ///
    /// # Errors
    ///
    /// When a name is none that is known; the message lists those.
    pub fn parse<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Result<Self, UnknownCapability> {
        names.into_iter().map(|name| name.as_ref().parse()).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `capability` is granted.
    #[must_use]
    pub fn allows(&self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|capability| capability.as_str())
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().collect())
    }
}

fn known() -> String {
    Capability::ALL.map(|capability| format!("`{capability}`")).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for capability in Capability::ALL {
            assert_eq!(capability.to_string().parse(), Ok(capability));
        }
        let set = Capabilities::parse(["fs:read", "exec"]).expect("known");
        assert!(set.allows(Capability::Exec) && set.allows(Capability::FsRead) && !set.allows(Capability::State));
        assert_eq!(set.names().collect::<Vec<_>>(), ["exec", "fs:read"]);
        assert_eq!(Capabilities::all().names().count(), Capability::ALL.len());
    }

    #[test]
    fn an_unknown_name_lists_the_known() {
        let error = Capabilities::parse(["exec", "nets"]).expect_err("unknown").to_string();
        assert!(error.starts_with("there is no capability `nets`: known are `exec`, `fs:read`, "), "{error}");
    }
}
