//! What an agent or a coordinator accepts.

use serde::{Deserialize, de::DeserializeOwned};
use sloth_core::{AgentId, Millis, RepositoryId, labels::Subject};

use crate::{
    Assignment, BundleMetadata, BundleName, Domain, Envelope, EnvelopeError, PayloadKind, Root, RootPin, SPEC, Seen,
    VerifyError, domain, envelope::ClaimError, verify_threshold,
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
    /// Nobody may publish bundles of this name.
    #[error("the root names nobody who may publish bundle `{name}`")]
    NoRole {
        /// The bundle.
        name: BundleName,
    },
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
    /// It restricts values in a way that this program does not check.
    #[error("bundle `{name}` restricts its values by a schema, which this program cannot check: upgrade it")]
    Parameters {
        /// The bundle.
        name: BundleName,
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
    #[error("run `{run}` may not begin before {not_before}")]
    NotYet {
        /// The run.
        run: sloth_core::RunId,
        /// From when on.
        not_before: Millis,
    },
}

/// A verified root and what follows from it. A value: keep the root's envelope to make it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    root: Root,
    pin: RootPin,
}

impl Trusted {
    /// Trusts the root in `envelope`, which must be the pinned one and signed by its own threshold.
    ///
    /// An expired root is taken: an agent always starts, and a later root may be waiting. It vouches for no
    /// new work.
    ///
    /// # Errors
    ///
    /// When it is another root, or not signed by those whom it names.
    pub fn new(envelope: &Envelope, pin: RootPin) -> Result<Self, Refusal> {
        bounded(envelope, PayloadKind::Root)?;
        let got = RootPin::of(&envelope.payload);
        if got != pin {
            return Err(Refusal::Pin { got, wanted: pin });
        }
        let root: Root = parse(&envelope.payload, "the root")?;
        signed_by(&root.roles.root, envelope, &root.domain())?;
        Ok(Self { root, pin })
    }

    /// The trusted root.
    #[must_use]
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// The pin of the trusted root.
    #[must_use]
    pub const fn pin(&self) -> RootPin {
        self.pin
    }

    /// Trusts the root after this one: the next version, signed by this root's threshold and by its own. The
    /// same root again changes nothing.
    ///
    /// # Errors
    ///
    /// When it is not the next one, or either threshold did not sign.
    pub fn accept_root(&self, envelope: &Envelope) -> Result<Self, Refusal> {
        let domain = self.claimed(envelope, PayloadKind::Root)?;
        signed_by(&self.root.roles.root, envelope, &domain)?;
        let root: Root = parse(&envelope.payload, "the root")?;
        agrees(&domain, &root.domain())?;
        let (have, got) = (self.root.version, root.version);
        let what = || "the root".to_owned();
        if got < have {
            return Err(Refusal::Rollback { what: what(), got, seen: have });
        }
        let pin = RootPin::of(&envelope.payload);
        if got == have && pin != self.pin {
            return Err(Refusal::Conflict { what: what(), number: got });
        }
        if have.saturating_add(1) < got {
            return Err(Refusal::Gap { got, have });
        }
        signed_by(&root.roles.root, envelope, &domain)?;
        Ok(Self { root, pin })
    }

    /// Whether publishers vouch for this bundle, whatever the time, the host and what was seen before: for
    /// work that was accepted already, and for whoever only keeps bundles.
    ///
    /// # Errors
    ///
    /// When the signatures do not carry it, or it is of another repository.
    pub fn verify_bundle(&self, envelope: &Envelope) -> Result<BundleMetadata, Refusal> {
        let domain = self.claimed(envelope, PayloadKind::Bundle)?;
        let domain::Subject::Bundle(name) = &domain.subject else {
            return Err(wrong_kind(domain.subject.kind(), PayloadKind::Bundle));
        };
        let role = self.root.roles.bundle(name).ok_or_else(|| Refusal::NoRole { name: name.clone() })?;
        signed_by(role, envelope, &domain)?;
        let metadata: BundleMetadata = parse(&envelope.payload, "the bundle's metadata")?;
        agrees(&domain, &metadata.domain())?;
        // A restriction that nobody enforces would be a promise that nobody keeps.
        if metadata.parameters.is_some() {
            return Err(Refusal::Parameters { name: metadata.name });
        }
        Ok(metadata)
    }

    /// Whether this host may begin new work from this bundle. `seen` is the newest release of that name
    /// accepted before.
    ///
    /// # Errors
    ///
    /// As [`Trusted::verify_bundle`]; and when it or the root expired, it is for other hosts, or it is older
    /// than `seen` or the same release with other content.
    pub fn accept_bundle(
        &self,
        envelope: &Envelope,
        now: Millis,
        seen: Option<Seen>,
        subject: Subject<'_>,
    ) -> Result<BundleMetadata, Refusal> {
        let metadata = self.verify_bundle(envelope)?;
        unexpired(now, self.root.expires, || "the root".to_owned())?;
        unexpired(now, metadata.expires, || bundle(&metadata.name))?;
        if !metadata.audience.matches(subject) {
            let audience = metadata.audience.to_string();
            return Err(Refusal::OtherAudience { name: metadata.name, audience });
        }
        follows(seen, Seen::of(envelope, &metadata), || bundle(&metadata.name))?;
        Ok(metadata)
    }

    /// Whether `agent` may begin the work in `envelope`, whose bundle is `metadata`. Where the root names no
    /// assignment role, the caller must have it from the coordinator's authenticated connection, and
    /// signatures say nothing.
    ///
    /// # Errors
    ///
    /// When the role's threshold did not sign, it is for another agent or release, too early or too late.
    pub fn accept_assignment(
        &self,
        envelope: &Envelope,
        now: Millis,
        agent: AgentId,
        metadata: &BundleMetadata,
    ) -> Result<Assignment, Refusal> {
        let assignment = self.verify_assignment(envelope)?;
        if assignment.agent != agent {
            return Err(Refusal::OtherAgent { got: assignment.agent, wanted: agent });
        }
        let named = (&assignment.bundle, assignment.counter, assignment.manifest);
        if named != (&metadata.name, metadata.counter, metadata.manifest.digest) {
            return Err(Refusal::OtherBundle { name: assignment.bundle, counter: assignment.counter });
        }
        if now < assignment.not_before {
            return Err(Refusal::NotYet { run: assignment.run, not_before: assignment.not_before });
        }
        unexpired(now, assignment.deadline, || format!("the assignment of run `{}`", assignment.run))?;
        Ok(assignment)
    }

    /// Whether whoever may assign work vouches for this assignment, whatever the time and the agent: to learn
    /// which bundle it needs, and for work that was begun.
    ///
    /// # Errors
    ///
    /// When the assignment role's threshold did not sign.
    pub fn verify_assignment(&self, envelope: &Envelope) -> Result<Assignment, Refusal> {
        let what = "the assignment";
        let Some(role) = &self.root.roles.assignment else {
            bounded(envelope, PayloadKind::Assignment)?;
            return parse(&envelope.payload, what);
        };
        let domain = self.claimed(envelope, PayloadKind::Assignment)?;
        signed_by(role, envelope, &domain)?;
        let assignment: Assignment = parse(&envelope.payload, what)?;
        agrees(&domain, &assignment.domain(self.root.repository))?;
        Ok(assignment)
    }

    /// What the envelope says it is, once that is something of this repository and of the wanted kind.
    fn claimed(&self, envelope: &Envelope, wanted: PayloadKind) -> Result<Domain, Refusal> {
        bounded(envelope, wanted)?;
        let domain = envelope.claimed_domain().map_err(|source| Refusal::Claim { source })?;
        if domain.subject.kind() != wanted {
            return Err(wrong_kind(domain.subject.kind(), wanted));
        }
        if domain.repository != self.root.repository {
            return Err(Refusal::OtherRepository { got: domain.repository, wanted: self.root.repository });
        }
        Ok(domain)
    }
}

/// Whether `new` may follow `seen`: not lower, and with the same content where it is the same.
///
/// # Errors
///
/// [`Refusal::Rollback`] or [`Refusal::Conflict`], about what `what` names.
pub fn follows(seen: Option<Seen>, new: Seen, what: impl Fn() -> String) -> Result<(), Refusal> {
    let Some(seen) = seen else { return Ok(()) };
    if new.counter < seen.counter {
        return Err(Refusal::Rollback { what: what(), got: new.counter, seen: seen.counter });
    }
    if new.counter == seen.counter && new.payload != seen.payload {
        return Err(Refusal::Conflict { what: what(), number: new.counter });
    }
    Ok(())
}

fn bounded(envelope: &Envelope, wanted: PayloadKind) -> Result<(), Refusal> {
    if envelope.kind != wanted {
        return Err(wrong_kind(envelope.kind, wanted));
    }
    envelope.check_bounds().map_err(|source| Refusal::Bounds { source })
}

const fn wrong_kind(got: PayloadKind, wanted: PayloadKind) -> Refusal {
    Refusal::Kind { got: got.name(), wanted: wanted.name() }
}

fn signed_by(role: &crate::RoleKeys, envelope: &Envelope, domain: &Domain) -> Result<(), Refusal> {
    verify_threshold(role, envelope, domain).map_err(|source| Refusal::Signatures { what: describe(domain), source })
}

fn describe(domain: &Domain) -> String {
    match &domain.subject {
        domain::Subject::Root => format!("root {}", domain.version),
        domain::Subject::Bundle(name) => format!("release {} of bundle `{name}`", domain.version),
        domain::Subject::Assignment => "the assignment".to_owned(),
    }
}

/// Parses a payload that was verified, its format's version first so that a later one is named as such.
fn parse<T: DeserializeOwned>(payload: &[u8], what: &'static str) -> Result<T, Refusal> {
    #[derive(Deserialize)]
    struct Format {
        spec: u32,
    }

    let malformed = |source| Refusal::Malformed { what, source };
    let format: Format = serde_json::from_slice(payload).map_err(malformed)?;
    if format.spec != SPEC {
        return Err(Refusal::Spec { what, got: format.spec });
    }
    serde_json::from_slice(payload).map_err(malformed)
}

fn agrees(signed: &Domain, says: &Domain) -> Result<(), Refusal> {
    if signed != says {
        return Err(Refusal::Disagrees { signed: signed.to_string(), says: says.to_string() });
    }
    Ok(())
}

fn unexpired(now: Millis, expires: Millis, what: impl Fn() -> String) -> Result<(), Refusal> {
    if expires <= now {
        return Err(Refusal::Expired { what: what(), expires });
    }
    Ok(())
}

fn bundle(name: &BundleName) -> String {
    format!("bundle `{name}`")
}
