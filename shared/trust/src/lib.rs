//! Who may say what: keys, roles, thresholds and the metadata that they sign.
//!
//! A signed thing is an [`Envelope`]: a payload and signatures over its bytes, in the format of `minisign`.
//! [`Trusted`] begins from a pinned [`Root`], which names the keys of every role, and accepts or refuses
//! envelopes. Nothing of a payload is parsed before the threshold of its role has signed its bytes.
//!
//! This crate reads no file, no clock and no network; what it decides depends on its arguments alone.

pub mod assignment;
pub mod bundle;
pub mod domain;
pub mod envelope;
pub mod key;
pub mod name;
pub mod role;
pub mod root;
#[cfg(feature = "sign")]
pub mod sign;
pub mod trusted;
pub mod verify;

pub use assignment::Assignment;
pub use bundle::{BundleMetadata, ManifestRef, Seen, Trigger};
pub use domain::{Domain, Subject as DomainSubject};
pub use envelope::{Envelope, EnvelopeError, PayloadKind, Signature};
pub use key::{InvalidKey, KeyId, PublicKey};
pub use name::{BundleName, InvalidName, NamePattern};
pub use role::{InvalidRole, RoleKeys};
pub use root::{Roles, Root, RootPin};
pub use trusted::{Refusal, Trusted};
pub use verify::{VerifyError, verify_threshold};

/// The version of the metadata formats that this crate reads and writes.
pub const SPEC: u32 = 1;
