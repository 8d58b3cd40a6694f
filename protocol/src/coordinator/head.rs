//! The head: what the coordinator says of itself, made anew when something changes and before it grows old.

use sloth_core::Millis;
use sloth_trust::{
    Domain, Envelope, Head, Inclusion, RootRef, SPEC, Tree,
    domain::Subject as DomainSubject,
    head::{leaf, release_leaf},
};

use super::{
    AgentReleaseRow, HeadRow, Release, Write,
    machine::{Coordinator, Leaf, LeafKey, Timer},
    orders::Unsigned,
};

/// A head is replaced when this part of its life is over, so that an agent has some that is fresh through an outage of
/// the others' length.
const RENEWALS_PER_LIFE: u64 = 4;

impl Coordinator {
    /// Says anew what is the newest. Nothing is said while the root names nobody who could.
    pub(super) fn issue_head(&mut self) {
        self.settle_leaves();
        self.tree = Tree::new(self.leaves.iter().map(|(_, leaf)| leaf));
        let Some((repository, root)) = self.root_ref() else { return };
        let before = self.state.head.as_ref();
        let head = Head {
            spec: SPEC,
            repository,
            version: before.map_or(0, |before| before.version.saturating_add(1)).max(self.now.as_u64()),
            previous: before.map(HeadRow::reference),
            root,
            releases: self.tree.head(),
            issued: self.now,
            expires: self.now + self.settings.head_life,
        };
        // None of its parts refuses to be written.
        let payload = serde_json::to_vec(&head).unwrap_or_default();
        self.write(Write::PutHead(HeadRow { version: head.version, payload }));
        self.head_due = self.now + self.head_use();
        self.set_timer(self.head_due, Timer::Head);
    }

    /// Issues a head if the time has come: the timers of those before it are still set.
    pub(super) fn renew_head(&mut self) {
        if self.head_due <= self.now {
            self.issue_head();
        }
    }

    /// Until when the newest head is good for new work.
    #[must_use]
    pub fn head_expires(&self) -> Option<Millis> {
        self.state.head.as_ref().map(|_| self.head_due - self.head_use() + self.settings.head_life)
    }

    /// How long a head is the newest when nothing changes.
    fn head_use(&self) -> Millis {
        Millis::from_u64(self.settings.head_life.as_u64() / RENEWALS_PER_LIFE)
    }

    /// The newest head, for an agent that has another one or none.
    pub(super) fn head_for(&self, version: u64) -> Option<Unsigned> {
        let head = self.state.head.as_ref().filter(|head| head.version != version)?;
        let repository = self.trusted.as_ref()?.root().repository;
        let domain = Domain { subject: DomainSubject::Head, repository, version: head.version };
        Some(Unsigned { domain, payload: head.payload.clone() })
    }

    /// Shows that the newest head names a release.
    pub(super) fn inclusion(&self, key: &LeafKey) -> Option<Inclusion> {
        self.tree.inclusion(place(&self.leaves, key)?)
    }

    fn root_ref(&self) -> Option<(sloth_core::RepositoryId, RootRef)> {
        let root = self.trusted.as_ref()?.root();
        root.roles.head.as_ref()?;
        let envelope = Envelope::decode(self.state.root()?).ok()?;
        Some((root.repository, RootRef::of(root.version, &envelope.payload)))
    }

    /// Makes the leaves those of the releases that there are. Only what is new is read.
    fn settle_leaves(&mut self) {
        let before = std::mem::take(&mut self.leaves);
        let known = |key: &LeafKey| place(&before, key).and_then(|at| before.get(at)).map(|(_, leaf)| leaf.clone());
        let bundles = self.state.bundle_releases().map(|(name, counter, release)| {
            let key = LeafKey::Bundle(name.clone(), counter);
            let leaf = known(&key).unwrap_or_else(|| leaf_of(release));
            (key, leaf)
        });
        let agents = self.state.releases.iter().map(|(counter, row)| {
            let key = LeafKey::Agent(*counter);
            let leaf = known(&key).unwrap_or_else(|| leaf_of_release(row));
            (key, leaf)
        });
        self.leaves = bundles.chain(agents).collect();
    }
}

/// Where a release is among the leaves.
fn place(leaves: &[Leaf], key: &LeafKey) -> Option<usize> {
    leaves.binary_search_by(|(other, _)| other.cmp(key)).ok()
}

fn leaf_of_release(row: &AgentReleaseRow) -> Vec<u8> {
    // The envelope was decoded when it was published.
    Envelope::decode(&row.envelope).map(|envelope| release_leaf(&row.release, &envelope)).unwrap_or_default()
}

fn leaf_of(release: &Release) -> Vec<u8> {
    // The envelope was decoded when it was published.
    Envelope::decode(&release.envelope).map(|envelope| leaf(&release.metadata, &envelope)).unwrap_or_default()
}
