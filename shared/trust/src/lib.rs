//! Who may say what: keys, roles, thresholds and the metadata that they sign.
//!
//! A signed thing is an [`Envelope`]: a payload and signatures over its bytes, in the format of `minisign`.
//! [`Trusted`] begins from a pinned [`Root`], which names the keys of every role, and accepts or refuses
//! envelopes. Nothing of a payload is parsed before the threshold of its role has signed its bytes.
//!
//! People sign roots, bundles and releases of the agent offline. The coordinator's online key signs the [`Head`], which says
//! what is the newest, and each [`Assignment`] and [`UpdateAssignment`]; alone it can make no agent run anything that the
//! people did not sign.
//!
//! This crate reads no file, no clock and no network; what it decides depends on its arguments alone.

pub mod assignment;
pub mod bundle;
pub mod chain;
pub mod domain;
pub mod envelope;
pub mod head;
pub mod key;
pub mod machine_key;
pub mod name;
pub mod receipt;
pub mod refusal;
pub mod release;
pub mod role;
pub mod root;
pub mod schema;
pub mod sha256;
#[cfg(feature = "sign")]
pub mod sign;
pub mod tree;
pub mod trusted;
pub mod update;
pub mod verify;

pub use assignment::Assignment;
pub use bundle::{BundleMetadata, ManifestRef, Seen, Trigger};
pub use chain::{Broken, ChainEnds, ChainEntry, ChainLink, ChainWalk};
pub use domain::{Domain, Subject as DomainSubject};
pub use envelope::{Envelope, EnvelopeError, PayloadKind, Signature};
pub use head::{BrokenHeads, Head, HeadEnds, HeadRef, HeadWalk, RootRef};
pub use key::{InvalidKey, KeyId, PublicKey};
pub use machine_key::{MachineKey, MachineKeyError};
pub use name::{BundleName, Channel, InvalidName, NamePattern, Triple};
pub use receipt::{Receipt, ReceiptOutcome, TaskSummary, receipt_envelope, verify_receipt};
pub use refusal::Refusal;
pub use release::{AgentRelease, Delta, InvalidTargets, ProtocolRange, Reach, ReleaseHost, TargetBinary, Targets};
pub use role::{InvalidRole, RoleKeys};
pub use root::{Roles, Root, RootPin};
pub use schema::{Schema, SchemaError};
pub use semver::Version;
pub use sha256::{InvalidSha256, Sha256};
pub use tree::{Inclusion, Tree, TreeHead};
pub use trusted::{Trusted, TrustedHead};
pub use update::UpdateAssignment;
pub use verify::{VerifyError, verify_file, verify_threshold};

/// The version of the metadata formats that this crate reads and writes.
pub const SPEC: u32 = 1;
