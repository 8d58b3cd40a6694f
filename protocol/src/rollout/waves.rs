//! Which host is in which wave.
//!
//! Every host has a place: a hash of the rollout's salt and its identifier. A wave by share takes the hosts up to a
//! place that is settled when the rollout begins, so that a host stays in its wave whoever comes and goes, one that
//! comes later falls into a wave as if it had been there, and another rollout, with another salt, begins with others.

use sloth_core::{AgentId, Digest, Selector};

use super::spec::{Members, Spec};

/// A host's place among all that there could be.
pub type Place = u64;

/// How the waves of a rollout divide the hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cuts {
    salt: Digest,
    /// For each wave by share, the last place in it. Invariant: one for each wave, rising among those that are there.
    last: Vec<Option<Place>>,
}

impl Cuts {
    /// The salt of a rollout: whoever asks beforehand gets the same waves.
    #[must_use]
    pub fn salt(name: &str, what: &str, counter: u64) -> Digest {
        Digest::of([name.as_bytes(), &[0], what.as_bytes(), &[0], &counter.to_be_bytes()].concat().as_slice())
    }

    /// The cuts that were settled before.
    #[must_use]
    pub const fn settled(salt: Digest, last: Vec<Option<Place>>) -> Self {
        Self { salt, last }
    }

    /// Settles the waves over the hosts that there are, by `matches`, which says of a host whether a selector takes it.
    #[must_use]
    pub fn settle(
        spec: &Spec,
        salt: Digest,
        hosts: impl Iterator<Item = AgentId>,
        matches: impl Fn(&Selector, AgentId) -> bool,
    ) -> Self {
        let labelled = |host: &AgentId| {
            spec.waves.iter().any(|wave| match &wave.members {
                Members::Labelled(selector) => matches(selector, *host),
                Members::UpTo(_) => false,
            })
        };
        let mut places: Vec<Place> = hosts.filter(|host| !labelled(host)).map(|host| place(&salt, host)).collect();
        places.sort_unstable();
        let last = spec.waves.iter().map(|wave| match &wave.members {
            Members::Labelled(_) => None,
            Members::UpTo(share) if share.is_everything() => Some(Place::MAX),
            Members::UpTo(share) => Some(match share.at_least(places.len()) {
                0 => 0,
                count => places.get(count - 1).copied().unwrap_or(Place::MAX),
            }),
        });
        let last = last.collect();
        Self { salt, last }
    }

    /// For each wave by share, the last place in it.
    #[must_use]
    pub fn last(&self) -> &[Option<Place>] {
        &self.last
    }

    /// A host's place.
    #[must_use]
    pub fn place(&self, host: AgentId) -> Place {
        place(&self.salt, host)
    }

    /// The wave of a host, from 0: the first that takes it by label, else the first whose share reaches its place.
    #[must_use]
    pub fn wave_of(&self, spec: &Spec, host: AgentId, matches: impl Fn(&Selector) -> bool) -> usize {
        let by_label = spec.waves.iter().position(|wave| match &wave.members {
            Members::Labelled(selector) => matches(selector),
            Members::UpTo(_) => false,
        });
        by_label.unwrap_or_else(|| {
            let place = self.place(host);
            let reaches = |last: &Option<Place>| last.is_some_and(|last| place <= last);
            self.last.iter().position(reaches).unwrap_or(self.last.len().saturating_sub(1))
        })
    }
}

fn place(salt: &Digest, host: AgentId) -> Place {
    let mut bytes = [0; 48];
    bytes[..32].copy_from_slice(salt.as_bytes());
    bytes[32..].copy_from_slice(&host.to_bytes());
    let digest = Digest::of(&bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    Place::from_be_bytes(first)
}
