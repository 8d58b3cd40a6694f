//! What the agent trusts: roots, one after the other.

use sloth_core::error::Chain;
use sloth_trust::{BundleName, Envelope, Refusal, Roles};

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
        for bundle in self.superseded(&before) {
            self.write(Write::ForgetSeen(bundle));
        }
        self.note(Note::RootAccepted { version });
        Ok(())
    }

    /// The bundles of which no signature of before counts any more. Whoever stole their keys may have signed a release
    /// with a number that no other can follow.
    fn superseded(&self, before: &Roles) -> Vec<BundleName> {
        let now = &self.trusted.root().roles;
        let over = |name: &&BundleName| match (before.bundle(name), now.bundle(name)) {
            (Some(before), Some(now)) => now.supersedes(before),
            (Some(_), None) => true,
            (None, _) => false,
        };
        self.state.seen.keys().filter(over).cloned().collect()
    }
}
