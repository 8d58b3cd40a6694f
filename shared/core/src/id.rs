//! Identifiers: one type a kind, each a ULID (26 characters of Crockford base 32, ordered by time of making).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::Millis;

/// A text that is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: it takes 26 letters and digits, like `01JD5Z3V9QK7T2M4X8R6WBCY0N`")]
pub struct InvalidId {
    /// What was given.
    pub text: String,
    /// Which kind of identifier was wanted, with its article.
    pub kind: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(u128);

        impl $name {
            /// The identifier made at `now` with 80 bits of `random` (its upper bits are ignored).
            #[must_use]
            pub fn new(now: Millis, random: u128) -> Self {
                Self(Ulid::from_parts(now.as_u64(), random).0)
            }

            /// The identifier as sixteen bytes, big endian, so that byte order is order of making.
            #[must_use]
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// The identifier that [`Self::to_bytes`] gave.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                Ulid(self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Ulid::from_string(text)
                    .map(|id| Self(id.0))
                    .map_err(|_| InvalidId { text: text.chars().take(40).collect(), kind: $kind })
            }
        }
    };
}

id! {
    /// An agent, from its enrolment on. Given by the coordinator.
    AgentId, "an agent id"
}
id! {
    /// One execution of one bundle's workflows on a set of agents.
    RunId, "a run id"
}
id! {
    /// A join token, by its public half.
    TokenId, "a token id"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_round_trip_and_order_by_time() {
        let early = RunId::new(Millis::from_u64(1_700_000_000_000), u128::MAX);
        let late = RunId::new(Millis::from_u64(1_700_000_000_001), 0);
        assert!(early < late && early.to_bytes() < late.to_bytes() && early.to_string() < late.to_string());
        assert_eq!(late.to_string().parse(), Ok(late));
        assert_eq!(RunId::from_bytes(late.to_bytes()), late);
    }

    #[test]
    fn a_wrong_text_is_named() {
        let error = "web-1".parse::<AgentId>().expect_err("not an id");
        assert!(error.to_string().starts_with("`web-1` is not an agent id"), "{error}");
    }
}
