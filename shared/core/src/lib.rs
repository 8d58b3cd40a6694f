//! What every part of Sloth shares and nothing knows of any other part: identifiers, the clock,
//! digests, labels and selectors, backoff, the durable file replace, error chains and secrets.

pub mod backoff;
pub mod clock;
pub mod digest;
pub mod id;
pub mod labels;

pub use clock::Millis;
pub use digest::Digest;
pub use id::{AgentId, RunId, TokenId};
pub use labels::{Labels, Selector};
