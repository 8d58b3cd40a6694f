//! Why something was refused.

use sloth_core::{AgentId, Millis, RepositoryId};

use crate::{
    BundleName, Channel, EnvelopeError, InvalidRole, RootPin, SPEC, Triple, VerifyError, envelope::ClaimError,
    schema::Misfits,
};

/// Why an envelope was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Something is over its bound.
    #[error("it is too large")]
    Bounds {
        /// What.
        source: EnvelopeError,
    },
    /// The signatures do not say what they are for.
    #[error("its signatures cannot be used")]
    Claim {
        /// Why.
        source: ClaimError,
    },
    /// It is something else than what was asked for.
    #[error("it is {got}, where {wanted} was asked for")]
    Kind {
        /// What it is.
        got: &'static str,
        /// What it was to be.
        wanted: &'static str,
    },
    /// It belongs to another repository.
    #[error("it belongs to repository `{got}`, this host trusts `{wanted}`")]
    OtherRepository {
        /// Its repository.
        got: RepositoryId,
        /// The trusted one.
        wanted: RepositoryId,
    },
    /// A key that cannot be asked.
    #[error("the key cannot be used")]
    Role {
        /// Why.
        source: InvalidRole,
    },
    /// Nobody may say such a thing.
    #[error(
        "the root names nobody who may sign {what}: the coordinator's own key is named by `sloth-coord trust rotate-online`"
    )]
    NoOnlineRole {
        /// What was signed.
        what: &'static str,
    },
    /// Nobody may publish bundles of this name.
    #[error("the root names nobody who may publish bundle `{name}`")]
    NoRole {
        /// The bundle.
        name: BundleName,
    },
    /// Nobody may publish releases of the agent.
    #[error(
        "the root names nobody who may sign releases of the agent: `sloth-coord trust add-key releases KEY.pub` names a key"
    )]
    NoReleaseRole,
    /// Nobody who counts signed it.
    #[error("the signatures on {what} do not carry it")]
    Signatures {
        /// What was to be verified.
        what: String,
        /// What is wrong with them.
        source: VerifyError,
    },
    /// The pinned root is another one.
    #[error("the root's SHA-256 is `{got}`, the pinned one is `{wanted}`")]
    Pin {
        /// What it is.
        got: RootPin,
        /// What it was to be.
        wanted: RootPin,
    },
    /// It is in a later format.
    #[error("{what} is written to specification {got}, this program reads {SPEC}: upgrade it")]
    Spec {
        /// What was read.
        what: &'static str,
        /// Its specification.
        got: u32,
    },
    /// It cannot be read.
    #[error("{what} cannot be read")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The payload and what it was signed as disagree.
    #[error("it was signed as `{signed}`, but says it is `{says}`")]
    Disagrees {
        /// The signed domain.
        signed: String,
        /// What the payload says.
        says: String,
    },
    /// Too old for new work.
    #[error("{what} expired at {expires}: have it signed again")]
    Expired {
        /// What.
        what: String,
        /// When.
        expires: Millis,
    },
    /// Meant for other hosts.
    #[error("bundle `{name}` is for hosts that match `{audience}`, this one does not")]
    OtherAudience {
        /// The bundle.
        name: BundleName,
        /// For whom it is.
        audience: String,
    },
    /// Values that the publishers' schema does not take.
    #[error("the values do not fit the parameters that bundle `{name}` was signed with")]
    Values {
        /// The bundle.
        name: BundleName,
        /// Which of them.
        source: Misfits,
    },
    /// Older than what was accepted before.
    #[error("{what} has number {got}, but {seen} was accepted before: the source is stale or turned back")]
    Rollback {
        /// What.
        what: String,
        /// Its number.
        got: u64,
        /// The number accepted before.
        seen: u64,
    },
    /// The same number as before with other content.
    #[error("{what} number {number} was accepted before with other content: publish it under a new number")]
    Conflict {
        /// What.
        what: String,
        /// The number.
        number: u64,
    },
    /// A root is missing between the trusted one and this.
    #[error("root {got} cannot follow root {have} directly: the roots between are needed")]
    Gap {
        /// Its version.
        got: u64,
        /// The trusted version.
        have: u64,
    },
    /// What the head names is not what is trusted, which may change.
    #[error("the head names root {got}, root {have} is trusted")]
    OtherRoot {
        /// The version that it names.
        got: u64,
        /// The trusted version.
        have: u64,
    },
    /// There is no head, so that nobody says what is the newest.
    #[error("the coordinator has not said what is the newest")]
    NoHead,
    /// A release that the head does not name.
    #[error("release {counter} of bundle `{name}` is none of those that the coordinator's head names")]
    NotOffered {
        /// The bundle.
        name: BundleName,
        /// Which release.
        counter: u64,
    },
    /// A release of the agent that the head does not name.
    #[error("{what} is none of those that the coordinator's head names")]
    ReleaseNotOffered {
        /// Which release.
        what: String,
    },
    /// A release of the agent without a binary for this platform.
    #[error("{what} is for {targets}, this host is `{host}`")]
    OtherTarget {
        /// Which release.
        what: String,
        /// For which platforms it has binaries.
        targets: String,
        /// The host's.
        host: Triple,
    },
    /// A release of the agent for hosts of another channel.
    #[error("{what} is of channel `{got}`, this host takes `{wanted}`")]
    OtherChannel {
        /// Which release.
        what: String,
        /// Its channel.
        got: Channel,
        /// The host's.
        wanted: Channel,
    },
    /// A release of the agent that is too far from what runs.
    #[error("{what} may be reached from {oldest} and later, {from} runs here: go to a version between first")]
    NotReachable {
        /// Which release.
        what: String,
        /// What runs.
        from: String,
        /// The oldest version that it may be reached from.
        oldest: String,
    },
    /// A release of the agent that the coordinator would not understand.
    #[error("{what} speaks versions {min} to {max} of the protocol, this host and its coordinator speak {spoken}")]
    OtherProtocol {
        /// Which release.
        what: String,
        /// The oldest that it speaks.
        min: u16,
        /// The newest.
        max: u16,
        /// What is spoken.
        spoken: u16,
    },
    /// An update that names another release, or another binary of it, than the one that was verified.
    #[error("the assignment names agent release {version}, number {counter}: another one was verified")]
    OtherRelease {
        /// The version that it names.
        version: String,
        /// The number.
        counter: u64,
    },
    /// Work that was given before, under another number.
    #[error("the assignment was made for order {signed}, and came as order {given}")]
    Replayed {
        /// The number that is signed.
        signed: u64,
        /// The number that it came with.
        given: u64,
    },
    /// Work for another agent.
    #[error("the assignment is for agent `{got}`, this is `{wanted}`")]
    OtherAgent {
        /// Whose it is.
        got: AgentId,
        /// Who was asked.
        wanted: AgentId,
    },
    /// Work that names another release than the metadata does.
    #[error("the assignment names release {counter} of bundle `{name}`, the verified metadata is of another release")]
    OtherBundle {
        /// The bundle.
        name: BundleName,
        /// Which release.
        counter: u64,
    },
    /// Work that may not begin.
    #[error("{what} may not begin before {not_before}")]
    NotYet {
        /// What was assigned.
        what: String,
        /// From when on.
        not_before: Millis,
    },
}
