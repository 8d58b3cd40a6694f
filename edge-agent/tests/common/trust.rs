//! The keys of the fleet of the tests, and what a thief of some of them can make.

use std::collections::BTreeMap;

use serde::Serialize;
use sloth_core::{RepositoryId, Secret};
use sloth_trust::{
    Domain, Envelope, MachineKey, RoleKeys, Roles, Root, SPEC,
    sign::{SecretKey, generate, open, public_key, sign},
};

use super::coordinator::{DAY, now, random_bytes};

/// Who signs: two of three for the root, one publisher, one online key.
pub struct Trust {
    pub holders: [SecretKey; 3],
    pub publisher: SecretKey,
    /// Signs releases of the agent.
    pub maker: SecretKey,
    pub online: MachineKey,
    pub root: Root,
    pub envelope: Envelope,
}

impl Trust {
    pub(super) fn new() -> Self {
        let (holders, publisher, maker) = ([key(), key(), key()], key(), key());
        let online = machine_key(9, [9; 8]);
        let repository = RepositoryId::new(now(), u128::from_ne_bytes(random_bytes()));
        let root = Root {
            spec: SPEC,
            repository,
            version: 1,
            issued: now(),
            expires: now() + DAY,
            roles: roles(&holders, &publisher, &maker, &online),
        };
        let envelope = sign(&root, &root.domain(), &[&holders[0], &holders[1]]).expect("signed");
        Self { holders, publisher, maker, online, root, envelope }
    }

    /// The next root, with a change, signed by these.
    pub fn next(&self, change: impl FnOnce(&mut Root), signers: &[&SecretKey]) -> Envelope {
        let mut root = Root { version: self.root.version + 1, ..self.root.clone() };
        change(&mut root);
        sign(&root, &root.domain(), signers).expect("signed")
    }

    /// Lets new keys count for publishers and for the coordinator, by a root that two holders signed.
    pub fn rotate(&mut self) -> Vec<u8> {
        self.publisher = key();
        self.online = machine_key(u8::try_from(10 + self.root.version).expect("few"), [7; 8]);
        let (holders, roles) = (&self.holders, roles(&self.holders, &self.publisher, &self.maker, &self.online));
        // The first holder's key is the one that was lost.
        let next = self.next(|root| root.roles = roles, &[&holders[1], &holders[2]]);
        self.root = serde_json::from_slice(&next.payload).expect("a root");
        self.envelope = next;
        self.envelope.encode()
    }

    /// What the coordinator says, in its name.
    pub fn say(&self, payload: &impl Serialize, domain: &Domain) -> Envelope {
        self.online.seal(serde_json::to_vec(payload).expect("JSON"), domain)
    }
}

pub fn key() -> SecretKey {
    open(&generate(None).expect("a key").secret, None).expect("opens")
}

/// A key of a seed, under a number of minisign's.
pub fn machine_key(seed: u8, number: [u8; 8]) -> MachineKey {
    MachineKey::from_seed(&Secret::new([seed; 32]), number).expect("a key")
}

fn roles(holders: &[SecretKey; 3], publisher: &SecretKey, maker: &SecretKey, online: &MachineKey) -> Roles {
    let public = |key: &SecretKey| public_key(key).expect("a key");
    let publishers = RoleKeys::new(vec![public(publisher)], 1).expect("a role");
    let coordinator = RoleKeys::new(vec![online.public().clone()], 1).expect("a role");
    Roles {
        root: RoleKeys::new(holders.iter().map(public).collect(), 2).expect("a role"),
        releases: Some(RoleKeys::new(vec![public(maker)], 1).expect("a role")),
        bundles: BTreeMap::from([("*".parse().expect("a pattern"), publishers)]),
        head: Some(coordinator.clone()),
        assignment: Some(coordinator),
    }
}
