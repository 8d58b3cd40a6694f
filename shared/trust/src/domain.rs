//! What a signature is for, in its own signed comment.

use std::{fmt, str::FromStr};

use sloth_core::RepositoryId;

use crate::{BundleName, PayloadKind};

/// How every domain begins.
const PREFIX: &str = "sloth";

/// What is signed: a kind of payload, of one repository, at one version.
///
/// Its text is the trusted comment of each signature, so that a signature made for one thing says nothing
/// about another, whatever the bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// What kind of thing, and for a bundle which one.
    pub subject: Subject,
    /// Whose.
    pub repository: RepositoryId,
    /// A root's or a head's version, a bundle's or a release's counter, an assignment's nonce, the order that a receipt
    /// is for.
    pub version: u64,
}

/// The kind of thing that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The root of a repository.
    Root,
    /// The metadata of the bundle of this name. The name stands here because it decides whose signatures
    /// count, which must be known before the payload is parsed.
    Bundle(BundleName),
    /// Work for one host.
    Assignment,
    /// What is the newest.
    Head,
    /// What became of a run on one host.
    Receipt,
    /// A release of the agent.
    Release,
    /// A release of the agent for one host.
    Update,
}

impl Subject {
    /// The kind of payload that goes with it.
    #[must_use]
    pub const fn kind(&self) -> PayloadKind {
        match self {
            Self::Root => PayloadKind::Root,
            Self::Bundle(_) => PayloadKind::Bundle,
            Self::Assignment => PayloadKind::Assignment,
            Self::Head => PayloadKind::Head,
            Self::Receipt => PayloadKind::Receipt,
            Self::Release => PayloadKind::Release,
            Self::Update => PayloadKind::Update,
        }
    }
}

/// A trusted comment that says nothing to us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` does not say what is signed: it takes `sloth:<type>:<repository>:<version>`")]
pub struct InvalidDomain {
    /// The start of the comment.
    pub text: String,
}

impl fmt::Display for Domain {
    /// The one place that writes trusted comments: `sloth:<type>:<repository>:<version>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}:{}:{}:{}", self.subject, self.repository, self.version)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Bundle(name) => write!(f, "bundle/{name}"),
            Self::Assignment => f.write_str("assignment"),
            Self::Head => f.write_str("head"),
            Self::Receipt => f.write_str("receipt"),
            Self::Release => f.write_str("release"),
            Self::Update => f.write_str("update"),
        }
    }
}

impl FromStr for Domain {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, InvalidDomain> {
        let domain = parse(text).filter(|domain| domain.to_string() == text);
        domain.ok_or_else(|| InvalidDomain { text: sloth_core::excerpt(text) })
    }
}

fn parse(text: &str) -> Option<Domain> {
    let mut parts = text.split(':');
    if parts.next()? != PREFIX {
        return None;
    }
    let subject = match parts.next()? {
        "root" => Subject::Root,
        "assignment" => Subject::Assignment,
        "head" => Subject::Head,
        "receipt" => Subject::Receipt,
        "release" => Subject::Release,
        "update" => Subject::Update,
        other => Subject::Bundle(other.strip_prefix("bundle/")?.parse().ok()?),
    };
    let (repository, version) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(Domain { subject, repository, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01JD5Z3V9QK7T2M4X8R6WBCY0N";

    #[test]
    fn text_round_trips_and_is_frozen() {
        for kind in ["root", "bundle/web-shop", "assignment", "head", "receipt", "release", "update"] {
            let text = format!("sloth:{kind}:{ID}:7");
            assert_eq!(text.parse::<Domain>().expect("a domain").to_string(), text);
        }
    }

    #[test]
    fn one_domain_has_one_text() {
        for text in [
            String::new(),
            "timestamp:1700000000\tfile:x".to_owned(),
            format!("sloth:root:{ID}"),
            format!("sloth:root:{ID}:07"),
            format!("sloth:root:{ID}:+7"),
            format!("sloth:root:{ID}:7:8"),
            format!("sloth:root:{}:7", ID.to_lowercase()),
            format!("sloth:bundle:{ID}:7"),
            format!("sloth:bundle/Web:{ID}:7"),
            format!(" sloth:root:{ID}:7"),
        ] {
            assert!(text.parse::<Domain>().is_err(), "{text}");
        }
    }
}
