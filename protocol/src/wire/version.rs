//! Versions of the protocol, and the answer that says no.

use serde::{Deserialize, Serialize};
use sloth_core::Millis;

/// The application protocol that TLS negotiates. It changes only when the frames themselves do.
pub const ALPN: &[u8] = b"sloth/1";

/// A version of the messages; the first message on a connection settles which one is spoken.
pub type ProtoVersion = u16;
/// The oldest version this build speaks.
pub const PROTO_MIN: ProtoVersion = 1;
/// The newest version this build speaks.
pub const PROTO_MAX: ProtoVersion = 2;
/// The first version in which an agent is told of updates of itself, and reports what became of them.
pub const PROTO_UPDATES: ProtoVersion = 2;

/// The highest version that both ranges hold, or none.
#[must_use]
pub const fn negotiate(min: ProtoVersion, max: ProtoVersion) -> Option<ProtoVersion> {
    let highest = if max < PROTO_MAX { max } else { PROTO_MAX };
    if highest < min || highest < PROTO_MIN { None } else { Some(highest) }
}

/// Why a request was refused, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalCode {
    /// The request makes no sense as it stands; the same one will be refused again.
    Invalid,
    /// The sender may not ask this: revoked, expired, or not of the right kind.
    Denied,
    /// What it names does not exist.
    NotFound,
    /// It contradicts what is there already.
    Conflict,
    /// It is over a limit.
    TooLarge,
    /// Too much is going on; ask again after `retry_after`.
    Busy,
    /// No version of the protocol is spoken by both sides.
    Version,
    /// The coordinator itself failed; its log says how.
    Internal,
    /// A run's values are not what the bundle was signed for.
    Values,
}

/// The answer that says no, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// One sentence for people: what was refused, and the way out.
    pub reason: String,
    /// Wait at least this long before asking again; zero when waiting will not help.
    pub retry_after: Millis,
}

impl Refusal {
    /// A refusal that waiting will not lift.
    #[must_use]
    pub fn new(code: RefusalCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), retry_after: Millis::ZERO }
    }

    /// The coordinator's refusal of `who`, with whose versions [`negotiate`] found none in common.
    #[must_use]
    pub fn version(who: &str, min: ProtoVersion, max: ProtoVersion) -> Self {
        let reason = format!(
            "{who} speaks versions {min} to {max} of the protocol and this coordinator none of them: upgrade the older one"
        );
        Self::new(RefusalCode::Version, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_chosen() {
        for (min, max, expected) in
            [(1, 1, Some(1)), (1, 9, Some(2)), (0, 1, Some(1)), (2, 9, Some(2)), (3, 9, None), (0, 0, None)]
        {
            assert_eq!(negotiate(min, max), expected, "{min}..={max}");
        }
    }
}
