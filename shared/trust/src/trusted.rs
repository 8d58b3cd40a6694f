//! What an agent or a coordinator accepts.

use serde::{Deserialize, de::DeserializeOwned};
use sloth_core::{AgentId, Millis, labels::Subject};

use crate::{
    AgentRelease, Assignment, BundleMetadata, BundleName, Channel, Domain, Envelope, Head, HeadRef, Inclusion,
    PayloadKind, Refusal, Root, RootPin, SPEC, Seen, UpdateAssignment, domain, head, verify_threshold,
};

/// A verified root and what follows from it. A value: keep the root's envelope to make it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    root: Root,
    pin: RootPin,
}

/// A head that was accepted. A value: keep its envelope to make it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedHead {
    head: Head,
    reference: HeadRef,
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

    /// Takes the head in `envelope`, which must not be older than `before`. That it has expired is no reason against it:
    /// see [`TrustedHead::fresh`].
    ///
    /// # Errors
    ///
    /// When the role's threshold did not sign, it names another root than this one, or it is older than `before`, the
    /// same with other content, or follows another head with the number of `before`.
    pub fn accept_head(&self, envelope: &Envelope, before: Option<&TrustedHead>) -> Result<TrustedHead, Refusal> {
        let next = self.verify_head(envelope)?;
        let (got, have) = (next.head.root, self.root.version);
        if got.version != have {
            return Err(Refusal::OtherRoot { got: got.version, have });
        }
        if got.sha256 != self.pin {
            return Err(Refusal::Pin { got: got.sha256, wanted: self.pin });
        }
        let Some(before) = before.map(|before| before.reference) else { return Ok(next) };
        let conflict = |number| Refusal::Conflict { what: "the head".to_owned(), number };
        if next.reference.version < before.version {
            let (got, seen) = (next.reference.version, before.version);
            return Err(Refusal::Rollback { what: "the head".to_owned(), got, seen });
        }
        if next.reference.version == before.version && next.reference != before {
            return Err(conflict(before.version));
        }
        match next.head.previous {
            Some(previous) if previous.version == before.version && previous != before => Err(conflict(before.version)),
            Some(_) | None => Ok(next),
        }
    }

    /// Whether the coordinator's key vouches for the head in `envelope`, whatever it names and what came before it.
    ///
    /// # Errors
    ///
    /// When the role's threshold did not sign, or it is of another repository.
    pub fn verify_head(&self, envelope: &Envelope) -> Result<TrustedHead, Refusal> {
        let domain = self.claimed(envelope, PayloadKind::Head)?;
        let role = self.root.roles.head.as_ref().ok_or(Refusal::NoOnlineRole { what: "a head" })?;
        signed_by(role, envelope, &domain)?;
        let head: Head = parse(&envelope.payload, "the head")?;
        agrees(&domain, &head.domain())?;
        let reference = head.reference(&envelope.payload);
        Ok(TrustedHead { head, reference })
    }

    /// What `agent` was assigned by the envelope that came as order number `given`.
    ///
    /// # Errors
    ///
    /// When the role's threshold did not sign, or it is for another agent or order.
    pub fn assigned(&self, envelope: &Envelope, agent: AgentId, given: u64) -> Result<Assignment, Refusal> {
        let assignment = self.verify_assignment(envelope)?;
        if assignment.agent != agent {
            return Err(Refusal::OtherAgent { got: assignment.agent, wanted: agent });
        }
        if assignment.nonce != given {
            return Err(Refusal::Replayed { signed: assignment.nonce, given });
        }
        Ok(assignment)
    }

    /// Whether whoever may assign work vouches for this assignment, whatever the agent and the order.
    ///
    /// # Errors
    ///
    /// When the assignment role's threshold did not sign.
    pub fn verify_assignment(&self, envelope: &Envelope) -> Result<Assignment, Refusal> {
        let domain = self.claimed(envelope, PayloadKind::Assignment)?;
        let role = self.root.roles.assignment.as_ref().ok_or(Refusal::NoOnlineRole { what: "an assignment" })?;
        signed_by(role, envelope, &domain)?;
        let assignment: Assignment = parse(&envelope.payload, "the assignment")?;
        agrees(&domain, &assignment.domain(self.root.repository))?;
        Ok(assignment)
    }

    /// Whether those who make the agent vouch for this release of it, whatever the time, the host and what was seen before.
    ///
    /// # Errors
    ///
    /// When the signatures do not carry it, or it is of another repository.
    pub fn verify_release(&self, envelope: &Envelope) -> Result<AgentRelease, Refusal> {
        let domain = self.claimed(envelope, PayloadKind::Release)?;
        let role = self.root.roles.releases.as_ref().ok_or(Refusal::NoReleaseRole)?;
        signed_by(role, envelope, &domain)?;
        let release: AgentRelease = parse(&envelope.payload, "the release of the agent")?;
        agrees(&domain, &release.domain())?;
        Ok(release)
    }

    /// Whether a host that takes releases of `channel` may go to this one. `seen` is the newest of that channel that it
    /// accepted before.
    ///
    /// # Errors
    ///
    /// As [`Trusted::verify_release`]; and when it or the root expired, it is of another channel, or it is older than
    /// `seen` or the same release with other content.
    pub fn accept_release(
        &self,
        envelope: &Envelope,
        now: Millis,
        seen: Option<Seen>,
        channel: &Channel,
    ) -> Result<AgentRelease, Refusal> {
        let release = self.verify_release(envelope)?;
        unexpired(now, self.root.expires, || "the root".to_owned())?;
        unexpired(now, release.expires, || release.name())?;
        if release.channel != *channel {
            let (what, got, wanted) = (release.name(), release.channel, channel.clone());
            return Err(Refusal::OtherChannel { what, got, wanted });
        }
        follows(seen, Seen::of_release(envelope, &release), || "the release of the agent".to_owned())?;
        Ok(release)
    }

    /// The update that `agent` was assigned by the envelope that came as order number `given`.
    ///
    /// # Errors
    ///
    /// When the assignment role's threshold did not sign, or it is for another agent or order.
    pub fn assigned_update(
        &self,
        envelope: &Envelope,
        agent: AgentId,
        given: u64,
    ) -> Result<UpdateAssignment, Refusal> {
        let update = self.verify_update(envelope)?;
        if update.agent != agent {
            return Err(Refusal::OtherAgent { got: update.agent, wanted: agent });
        }
        if update.nonce != given {
            return Err(Refusal::Replayed { signed: update.nonce, given });
        }
        Ok(update)
    }

    /// Whether whoever may assign work vouches for this update, whatever the agent and the order.
    ///
    /// # Errors
    ///
    /// When the assignment role's threshold did not sign.
    pub fn verify_update(&self, envelope: &Envelope) -> Result<UpdateAssignment, Refusal> {
        let domain = self.claimed(envelope, PayloadKind::Update)?;
        let role = self.root.roles.assignment.as_ref().ok_or(Refusal::NoOnlineRole { what: "an update" })?;
        signed_by(role, envelope, &domain)?;
        let update: UpdateAssignment = parse(&envelope.payload, "the update's assignment")?;
        agrees(&domain, &update.domain(self.root.repository))?;
        Ok(update)
    }

    /// What the envelope says it is, once that is something of this repository and of the wanted kind.
    fn claimed(&self, envelope: &Envelope, wanted: PayloadKind) -> Result<Domain, Refusal> {
        bounded(envelope, wanted)?;
        let domain = claimed_kind(envelope, wanted)?;
        if domain.repository != self.root.repository {
            return Err(Refusal::OtherRepository { got: domain.repository, wanted: self.root.repository });
        }
        Ok(domain)
    }
}

impl TrustedHead {
    /// What it says.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// What names it.
    #[must_use]
    pub const fn reference(&self) -> HeadRef {
        self.reference
    }

    /// The time that counts where a host's own clock says `now`: not before this head was issued, for a host may
    /// have no clock, or one that was set back.
    ///
    /// The newest head's word counts, not the latest time ever heard: a coordinator whose clock once ran ahead mends
    /// what it said with its next head.
    #[must_use]
    pub fn time(&self, now: Millis) -> Millis {
        now.max(self.head.issued)
    }

    /// Whether it is fresh enough for new work.
    ///
    /// # Errors
    ///
    /// [`Refusal::Expired`].
    pub fn fresh(&self, now: Millis) -> Result<(), Refusal> {
        unexpired(now, self.head.expires, || "the coordinator's head".to_owned())
    }

    /// Whether it names this release.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotOffered`].
    pub fn offers(&self, metadata: &BundleMetadata, envelope: &Envelope, inclusion: &Inclusion) -> Result<(), Refusal> {
        if inclusion.shows(&head::leaf(metadata, envelope), self.head.releases) {
            return Ok(());
        }
        Err(Refusal::NotOffered { name: metadata.name.clone(), counter: metadata.counter })
    }

    /// Whether it names this release of the agent.
    ///
    /// # Errors
    ///
    /// [`Refusal::ReleaseNotOffered`].
    pub fn offers_release(
        &self,
        release: &AgentRelease,
        envelope: &Envelope,
        inclusion: &Inclusion,
    ) -> Result<(), Refusal> {
        if inclusion.shows(&head::release_leaf(release, envelope), self.head.releases) {
            return Ok(());
        }
        Err(Refusal::ReleaseNotOffered { what: release.name() })
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

pub(crate) fn bounded(envelope: &Envelope, wanted: PayloadKind) -> Result<(), Refusal> {
    if envelope.kind != wanted {
        return Err(wrong_kind(envelope.kind, wanted));
    }
    envelope.check_bounds().map_err(|source| Refusal::Bounds { source })
}

/// What the envelope's signatures say that it is, once that is of the wanted kind.
pub(crate) fn claimed_kind(envelope: &Envelope, wanted: PayloadKind) -> Result<Domain, Refusal> {
    let domain = envelope.claimed_domain().map_err(|source| Refusal::Claim { source })?;
    let kind = domain.subject.kind();
    if kind == wanted { Ok(domain) } else { Err(wrong_kind(kind, wanted)) }
}

const fn wrong_kind(got: PayloadKind, wanted: PayloadKind) -> Refusal {
    Refusal::Kind { got: got.name(), wanted: wanted.name() }
}

pub(crate) fn signed_by(role: &crate::RoleKeys, envelope: &Envelope, domain: &Domain) -> Result<(), Refusal> {
    verify_threshold(role, envelope, domain).map_err(|source| Refusal::Signatures { what: describe(domain), source })
}

fn describe(domain: &Domain) -> String {
    match &domain.subject {
        domain::Subject::Root => format!("root {}", domain.version),
        domain::Subject::Bundle(name) => format!("release {} of bundle `{name}`", domain.version),
        domain::Subject::Assignment => "the assignment".to_owned(),
        domain::Subject::Head => format!("head {}", domain.version),
        domain::Subject::Receipt => "the receipt".to_owned(),
        domain::Subject::Release => format!("release {} of the agent", domain.version),
        domain::Subject::Update => "the update's assignment".to_owned(),
    }
}

/// Parses a payload that was verified, its format's version first so that a later one is named as such.
pub(crate) fn parse<T: DeserializeOwned>(payload: &[u8], what: &'static str) -> Result<T, Refusal> {
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

pub(crate) fn agrees(signed: &Domain, says: &Domain) -> Result<(), Refusal> {
    if signed != says {
        return Err(Refusal::Disagrees { signed: signed.to_string(), says: says.to_string() });
    }
    Ok(())
}

pub(crate) fn unexpired(now: Millis, expires: Millis, what: impl Fn() -> String) -> Result<(), Refusal> {
    if expires <= now {
        return Err(Refusal::Expired { what: what(), expires });
    }
    Ok(())
}

fn bundle(name: &BundleName) -> String {
    format!("bundle `{name}`")
}
