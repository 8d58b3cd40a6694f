//! What every part of Sloth shares and nothing knows of any other part: identifiers, the clock,
//! digests, labels and selectors, backoff, durable files, configuration, error chains, secrets and YAML.

pub mod backoff;
pub mod clock;
pub mod config;
pub mod digest;
pub mod error;
pub mod fs;
pub mod id;
pub mod labels;
pub mod secret;
pub mod yaml;

pub use clock::{Clock, Millis};
pub use digest::Digest;
pub use error::{Chain, excerpt};
pub use id::{AgentId, RepositoryId, RolloutId, RunId, TokenId};
pub use labels::{Labels, Selector};
pub use secret::Secret;
