//! What the agent trusts: roots, one after the other, and what the coordinator says is the newest.

use sloth_core::error::Chain;
use sloth_trust::{BundleName, Envelope, Refusal, RoleKeys, Roles, TrustedHead};

use super::{Note, Write, machine::Agent};

impl Agent {
    /// Takes on the roots after the one that counts, as far as each vouches for the next. Whether none was refused.
    pub(super) fn take_roots(&mut self, roots: &[Vec<u8>]) -> bool {
        for bytes in roots {
            if let Err(reason) = self.take_root(bytes) {
                self.note(Note::RootRefused { reason });
                return false;
            }
        }
        true
    }

    fn take_root(&mut self, bytes: &[u8]) -> Result<(), String> {
        let envelope = Envelope::decode(bytes).map_err(|error| Chain(&error).to_string())?;
        let next = match self.trusted.accept_root(&envelope) {
            Ok(next) => next,
            // A coordinator that was set back has nothing new to say.
            Err(Refusal::Rollback { .. }) => return Ok(()),
            Err(error) => return Err(Chain(&error).to_string()),
        };
        if next.pin() == self.trusted.pin() {
            return Ok(());
        }
        let (before, version) = (self.trusted.root().roles.clone(), next.root().version);
        self.trusted = next;
        self.write(Write::PutRoot(bytes.to_vec()));
        if self.head.is_some() && superseded(before.head.as_ref(), self.trusted.root().roles.head.as_ref()) {
            // Whoever stole the key may have signed a head with a number that no other can follow.
            self.head = None;
            self.write(Write::ForgetHead);
        }
        for bundle in self.superseded(&before) {
            self.write(Write::ForgetSeen(bundle));
        }
        if !self.state.releases.is_empty()
            && superseded(before.releases.as_ref(), self.trusted.root().roles.releases.as_ref())
        {
            self.write(Write::ForgetReleases);
        }
        self.note(Note::RootAccepted { version });
        Ok(())
    }

    /// The bundles of which no signature of before counts any more. Whoever stole their keys may have signed a release
    /// with a number that no other can follow.
    fn superseded(&self, before: &Roles) -> Vec<BundleName> {
        let now = &self.trusted.root().roles;
        let over = |name: &&BundleName| superseded(before.bundle(name), now.bundle(name));
        self.state.seen.keys().filter(over).cloned().collect()
    }

    /// Takes the head that an answer brought; one that brought none says that the agent's is the newest.
    ///
    /// # Errors
    ///
    /// Why it does not count: the source may be stale or set back, which may pass.
    pub(super) fn take_head(&mut self, bytes: Option<&[u8]>) -> Result<(), String> {
        let Some(bytes) = bytes else { return Ok(()) };
        let reason = |error: &dyn std::error::Error| Chain(error).to_string();
        let envelope = Envelope::decode(bytes).map_err(|error| reason(&error))?;
        let next = self.trusted.accept_head(&envelope, self.head.as_ref()).map_err(|error| reason(&error))?;
        if self.head.as_ref() != Some(&next) {
            self.head = Some(next);
            self.write(Write::PutHead(bytes.to_vec()));
        }
        Ok(())
    }

    /// Whether new work may be begun as far as the head is concerned, and with which one.
    pub(super) fn fresh_head(&self) -> Result<&TrustedHead, Refusal> {
        let head = self.head.as_ref().ok_or(Refusal::NoHead)?;
        head.fresh(head.time(self.wall()))?;
        Ok(head)
    }
}

/// Whether nothing that counts under `now` can have been signed by keys of `before` alone.
fn superseded(before: Option<&RoleKeys>, now: Option<&RoleKeys>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => now.supersedes(before),
        (Some(_), None) => true,
        (None, _) => false,
    }
}
