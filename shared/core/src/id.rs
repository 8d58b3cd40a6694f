//! Identifiers: one type a kind, each a ULID (26 characters of Crockford base 32, ordered by time of making).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
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
        ///
        /// Serialized as text in formats that people read, as a number elsewhere.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The identifier made at `now` with 80 bits of `random` (its upper bits are ignored).
            #[must_use]
            pub fn new(now: Millis, random: u128) -> Self {
                Self(Ulid::from_parts(now.as_u64(), random).0)
            }

            /// The identifier of nothing: below every other one, and never given.
            pub const NIL: Self = Self(0);

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
                    .map_err(|_| InvalidId { text: crate::excerpt(text), kind: $kind })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    u128::deserialize(deserializer).map(Self)
                }
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
    /// A rollout: one change, brought to a fleet in waves.
    RolloutId, "a rollout id"
}
id! {
    /// A join token, by its public half.
    TokenId, "a token id"
}
id! {
    /// A repository: everything that one line of roots vouches for.
    RepositoryId, "a repository id"
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
    fn people_read_text_and_machines_a_number() {
        let id = AgentId::new(Millis::from_u64(1_700_000_000_000), 7);
        let json = serde_json::to_string(&id).expect("serializable");
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<AgentId>(&json).expect("readable"), id);
        let bytes = postcard::to_stdvec(&id).expect("serializable");
        assert_eq!(bytes, postcard::to_stdvec(&u128::from_be_bytes(id.to_bytes())).expect("serializable"));
        assert_eq!(postcard::from_bytes::<AgentId>(&bytes).expect("readable"), id);
    }

    #[test]
    fn a_wrong_text_is_named() {
        let error = "web-1".parse::<AgentId>().expect_err("not an id");
        assert!(error.to_string().starts_with("`web-1` is not an agent id"), "{error}");
    }
}
