//! What the Lua of a bundle may touch, as its publisher signed it.

mod grant;

use std::{collections::BTreeSet, fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

pub use grant::{Grant, InvalidGrant, Scope};

/// Most grants of one bundle.
pub const GRANTS_MAX: usize = 256;

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
    /// Read the secrets that the run was given.
    Secrets,
}

/// What a scope of a capability names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeKind {
    /// It is granted whole or not at all.
    None,
    /// A file, or a directory with all that is beneath it.
    Path,
    /// A host, with or without a port.
    Host,
    /// A name, in which `*` stands for any characters.
    Name,
}

impl Capability {
    /// Every capability, in the order they are listed in messages.
    pub const ALL: [Self; 12] = [
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
        Self::Secrets,
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
            Self::Secrets => "secrets",
        }
    }

    /// What its scope names.
    #[must_use]
    pub const fn scope_kind(self) -> ScopeKind {
        match self {
            Self::Exec | Self::Facts => ScopeKind::None,
            Self::FsRead | Self::FsWrite => ScopeKind::Path,
            Self::Net => ScopeKind::Host,
            Self::State | Self::Pkg | Self::Service | Self::User | Self::Cron | Self::Sysctl | Self::Secrets => {
                ScopeKind::Name
            }
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Capability {
    type Err = InvalidGrant;

    /// A capability by its name alone.
    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let grant: Grant = text.parse()?;
        match grant.scope() {
            None => Ok(grant.capability()),
            Some(_) => Err(InvalidGrant::unknown(text)),
        }
    }
}

impl Serialize for Capability {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A set of grants.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(BTreeSet<Grant>);

impl Capabilities {
    /// Everything: a local operator's own run.
    #[must_use]
    pub fn all() -> Self {
        Capability::ALL.into_iter().collect()
    }

    /// Nothing but computing and logging.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the grants of a bundle's description or of its signed metadata.
    ///
    /// # Errors
    ///
    /// When one is none, or there are more than [`GRANTS_MAX`].
    pub fn parse<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, InvalidGrant> {
        let grants = texts.into_iter().map(|text| text.as_ref().parse()).collect::<Result<BTreeSet<_>, _>>()?;
        if GRANTS_MAX < grants.len() {
            return Err(InvalidGrant::TooMany { count: grants.len() });
        }
        Ok(Self(grants))
    }

    /// Whether all of `capability` is granted.
    #[must_use]
    pub fn allows(&self, capability: Capability) -> bool {
        self.of(capability).any(|grant| grant.scope().is_none())
    }

    /// Whether `capability` is granted, be it within a scope only.
    #[must_use]
    pub fn allows_some(&self, capability: Capability) -> bool {
        self.of(capability).next().is_some()
    }

    /// Whether `capability` is granted for the thing called `name`.
    #[must_use]
    pub fn allows_name(&self, capability: Capability, name: &str) -> bool {
        self.of(capability).any(|grant| grant.scope().is_none_or(|scope| scope.has_name(name)))
    }

    /// Whether this port of this host may be spoken to. `host` is a name or an address.
    #[must_use]
    pub fn allows_host(&self, host: &str, port: u16) -> bool {
        self.of(Capability::Net).any(|grant| grant.scope().is_none_or(|scope| scope.has_host(host, port)))
    }

    /// The paths that `capability` is bound to.
    pub fn paths(&self, capability: Capability) -> impl Iterator<Item = &Path> {
        self.of(capability).filter_map(|grant| match grant.scope() {
            Some(Scope::Path(path)) => Some(path.as_path()),
            Some(Scope::Host { .. } | Scope::Name(_)) | None => None,
        })
    }

    /// The grants of `capability`, a whole one first.
    pub fn of(&self, capability: Capability) -> impl Iterator<Item = &Grant> {
        self.0.iter().filter(move |grant| grant.capability() == capability)
    }

    /// Every grant, in order.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }

    /// The grants as they are written, in order.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(ToString::to_string)
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().map(Grant::whole).collect())
    }
}

#[cfg(test)]
mod tests;
