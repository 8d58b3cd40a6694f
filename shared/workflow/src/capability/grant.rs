//! One grant: a capability, whole or within a scope.

use std::{
    fmt,
    net::IpAddr,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{Capability, GRANTS_MAX, ScopeKind};
use crate::{artifacts::matches, plan::nearest};

/// Most bytes of one grant.
const GRANT_BYTES_MAX: usize = 1024;
/// Most characters of a wrong text that are repeated in a message.
const SHOWN_CHARS_MAX: usize = 60;
const SEPARATOR: char = ':';

/// A capability, whole or within a scope: `pkg`, `fs:write:/etc/nginx`, `net:*.example.com:443`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    capability: Capability,
    scope: Option<Scope>,
}

/// Where a capability is granted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// A file, or a directory with all that is beneath it. Absolute and without `..`.
    Path(PathBuf),
    /// A host.
    Host {
        /// Its name in small letters, its address, `*.` and a domain (every name below that), or `*`.
        host: String,
        /// The one port; `None` = every port.
        port: Option<u16>,
    },
    /// A name, in which `*` stands for any characters.
    Name(String),
}

/// A text that is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrant {
    /// It begins with no capability.
    #[error("there is no capability `{text}`: {}known are {}", meant(*nearest), known())]
    Unknown {
        /// The start of what was given.
        text: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// A scope of what has none.
    #[error("the capability `{capability}` has no scopes, and `{text}` names one: write `{capability}`")]
    Scoped {
        /// The capability.
        capability: Capability,
        /// The start of what was given.
        text: String,
    },
    /// A scope that is none.
    #[error("`{text}` is no scope of the capability `{capability}`: {}", takes(*capability))]
    Scope {
        /// The capability.
        capability: Capability,
        /// The start of what was given.
        text: String,
    },
    /// Too many of them.
    #[error("{count} capabilities are more than the {GRANTS_MAX} that a bundle may have")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

impl InvalidGrant {
    pub(super) fn unknown(text: &str) -> Self {
        Self::Unknown { text: start(text), nearest: near(text) }
    }
}

impl Grant {
    /// All of a capability.
    #[must_use]
    pub const fn whole(capability: Capability) -> Self {
        Self { capability, scope: None }
    }

    /// The capability.
    #[must_use]
    pub const fn capability(&self) -> Capability {
        self.capability
    }

    /// Where it is granted; `None` = everywhere.
    #[must_use]
    pub const fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }
}

impl Scope {
    pub(super) fn has_name(&self, name: &str) -> bool {
        match self {
            Self::Name(pattern) => matches(pattern, name),
            Self::Path(_) | Self::Host { .. } => false,
        }
    }

    pub(super) fn has_host(&self, name: &str, port: u16) -> bool {
        let Self::Host { host, port: granted } = self else { return false };
        if granted.is_some_and(|granted| granted != port) {
            return false;
        }
        let name = plain_host(name);
        match host.strip_prefix("*.") {
            Some(domain) => {
                name.parse::<IpAddr>().is_err()
                    && name.strip_suffix(domain).is_some_and(|rest| 1 < rest.len() && rest.ends_with('.'))
            }
            None => host == "*" || *host == name,
        }
    }

    fn read(capability: Capability, text: &str) -> Option<Self> {
        match capability.scope_kind() {
            ScopeKind::None => None,
            ScopeKind::Path => path(text).map(Self::Path),
            ScopeKind::Host => host(text),
            ScopeKind::Name => is_name(text).then(|| Self::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Host { host, port } => {
                if host.contains(SEPARATOR) { write!(f, "[{host}]") } else { f.write_str(host) }?;
                port.map_or(Ok(()), |port| write!(f, "{SEPARATOR}{port}"))
            }
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.capability)?;
        self.scope.as_ref().map_or(Ok(()), |scope| write!(f, "{SEPARATOR}{scope}"))
    }
}

impl FromStr for Grant {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let split = |capability: Capability| {
            let rest = text.strip_prefix(capability.as_str())?;
            if rest.is_empty() {
                Some((capability, None))
            } else {
                Some((capability, Some(rest.strip_prefix(SEPARATOR)?)))
            }
        };
        let Some((capability, scope)) = Capability::ALL.into_iter().find_map(split) else {
            return Err(InvalidGrant::unknown(text));
        };
        let Some(scope) = scope else { return Ok(Self::whole(capability)) };
        if capability.scope_kind() == ScopeKind::None {
            return Err(InvalidGrant::Scoped { capability, text: start(text) });
        }
        let read = if text.len() <= GRANT_BYTES_MAX { Scope::read(capability, scope) } else { None };
        match read {
            Some(scope) => Ok(Self { capability, scope: Some(scope) }),
            None => Err(InvalidGrant::Scope { capability, text: start(scope) }),
        }
    }
}

impl Serialize for Grant {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A host as it is compared: in small letters, without brackets and without the root's dot; an address in its
/// shortest form.
fn plain_host(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(),
    }
}

fn path(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    (path.is_absolute() && plain && !text.contains(['\0', '\n'])).then(|| path.components().collect())
}

fn host(text: &str) -> Option<Scope> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, if port.is_empty() { None } else { Some(port.strip_prefix(SEPARATOR)?) })
        }
        None => match text.split_once(SEPARATOR) {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => Some(port.parse::<u16>().ok().filter(|_| !port.starts_with('+'))?),
        None => None,
    };
    let host = plain_host(host);
    let name = if host == "*" { "any" } else { host.strip_prefix("*.").unwrap_or(&host) };
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let good = host.parse::<IpAddr>().is_ok() || name.split('.').all(label);
    good.then_some(Scope::Host { host, port })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

fn start(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

fn near(text: &str) -> Option<&'static str> {
    let names = || Capability::ALL.map(Capability::as_str);
    // A scope that follows says nothing of the name.
    let starts = text.match_indices(SEPARATOR).map(|(at, _)| &text[..at]).chain([text]);
    starts.filter_map(|start| nearest(start, names())).next_back()
}

fn meant(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!("did you mean `{name}`? "))
}

fn known() -> String {
    Capability::ALL.map(|capability| format!("`{capability}`")).join(", ")
}

fn takes(capability: Capability) -> String {
    match capability.scope_kind() {
        ScopeKind::None => format!("write `{capability}`"),
        ScopeKind::Path => format!("write an absolute path without `..`, like `{capability}:/etc/nginx`"),
        ScopeKind::Host => {
            format!(
                "write a host, with a port or without, like `{capability}:*.example.com:443` or `{capability}:[::1]`"
            )
        }
        ScopeKind::Name => format!("write a name, which may hold `*`, like `{capability}:nginx*`"),
    }
}
