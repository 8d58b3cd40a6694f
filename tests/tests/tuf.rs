//! Our rules beside those of The Update Framework, where they are the same: what python-tuf made of a table of attacks
//! is recorded in `fixtures/tuf/verdicts.json` by the script beside it.

#![allow(clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::collections::BTreeMap;

use serde::Deserialize;
use sloth_core::{Digest, Labels, Millis, RepositoryId, Secret, Selector, labels::Subject};
use sloth_trust::{
    BundleMetadata, Domain, Envelope, Head, MachineKey, ManifestRef, RoleKeys, Roles, Root, RootPin, RootRef, SPEC,
    Seen, Tree, Trigger, Trusted, TrustedHead,
};

const NOW: Millis = Millis::from_secs(1_700_000_000);
const DAY: Millis = Millis::from_secs(24 * 3600);

#[derive(Deserialize)]
struct Scenario {
    name: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Step {
    Root { version: u64, keys: BTreeMap<String, (Vec<String>, usize)>, signers: Vec<String>, expires: Expires },
    Head { version: u64, signers: Vec<String>, expires: Expires },
    Bundle { version: u64, signers: Vec<String>, expires: Expires },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expires {
    Later,
    Past,
}

#[derive(Deserialize)]
struct Recorded {
    verdicts: BTreeMap<String, Vec<bool>>,
}

/// What an agent has on its disk.
#[derive(Default)]
struct Agent {
    trusted: Option<Trusted>,
    head: Option<TrustedHead>,
    seen: Option<Seen>,
}

impl Agent {
    fn take(&mut self, step: &Step) -> Option<()> {
        match step {
            Step::Root { version, keys, signers, expires } => self.take_root(*version, keys, signers, *expires),
            Step::Head { version, signers, expires } => self.take_head(*version, signers, *expires),
            Step::Bundle { version, signers, expires } => self.take_bundle(*version, signers, *expires),
        }
    }

    fn take_root(
        &mut self,
        version: u64,
        keys: &BTreeMap<String, (Vec<String>, usize)>,
        signers: &[String],
        expires: Expires,
    ) -> Option<()> {
        let role = |name: &str| {
            let (names, threshold) = &keys[name];
            RoleKeys::new(names.iter().map(|name| key(name).public().clone()).collect(), *threshold).expect("a role")
        };
        let roles = Roles {
            root: role("root"),
            releases: None,
            bundles: [("*".parse().expect("a pattern"), role("bundle"))].into(),
            head: Some(role("head")),
            assignment: Some(role("head")),
        };
        let root = Root { spec: SPEC, repository: repository(), version, issued: NOW, expires: time(expires), roles };
        let envelope = signed(&root, &root.domain(), signers);
        let next = match &self.trusted {
            None => Trusted::new(&envelope, RootPin::of(&envelope.payload)),
            Some(trusted) => trusted.accept_root(&envelope),
        };
        let next = next.ok()?;
        let before = self.trusted.replace(next.clone());
        let online = |trusted: &Trusted| trusted.root().roles.head.clone().expect("a role");
        if before.is_some_and(|before| online(&next).supersedes(&online(&before))) {
            self.head = None;
        }
        Some(())
    }

    fn take_head(&mut self, version: u64, signers: &[String], expires: Expires) -> Option<()> {
        let trusted = self.trusted.as_ref()?;
        let head = Head {
            spec: SPEC,
            repository: repository(),
            version,
            previous: None,
            root: RootRef { version: trusted.root().version, sha256: trusted.pin(), length: 1 },
            releases: Tree::new::<[u8; 0]>([]).head(),
            issued: NOW - DAY - DAY,
            expires: time(expires),
        };
        let next = trusted.accept_head(&signed(&head, &head.domain(), signers), self.head.as_ref()).ok()?;
        // What is taken is not what new work may be begun on.
        let fresh = next.fresh(NOW).is_ok() && NOW < trusted.root().expires;
        self.head = Some(next);
        fresh.then_some(())
    }

    fn take_bundle(&mut self, version: u64, signers: &[String], expires: Expires) -> Option<()> {
        let metadata = BundleMetadata {
            spec: SPEC,
            repository: repository(),
            name: "web".parse().expect("a name"),
            counter: version,
            version: "1".to_owned(),
            manifest: ManifestRef { digest: Digest::of(b"manifest"), length: 8 },
            audience: Selector::everything(),
            capabilities: Vec::new(),
            triggers: vec![Trigger::Manual],
            parameters: None,
            expires: time(expires),
            published: NOW,
        };
        let envelope = signed(&metadata, &metadata.domain(), signers);
        let subject = Subject { id: "1", name: "web-1", labels: &[&Labels::new()] };
        let accepted = self.trusted.as_ref()?.accept_bundle(&envelope, NOW, self.seen, subject).ok()?;
        self.seen = Some(Seen::of(&envelope, &accepted));
        Some(())
    }
}

#[test]
fn the_verdicts_are_those_of_another_implementation() {
    let scenarios: Vec<Scenario> = serde_json::from_str(include_str!("../fixtures/tuf/scenarios.json")).expect("JSON");
    let recorded: Recorded = serde_json::from_str(include_str!("../fixtures/tuf/verdicts.json")).expect("JSON");
    assert_eq!(recorded.verdicts.len(), scenarios.len());
    for Scenario { name, steps } in &scenarios {
        let mut agent = Agent::default();
        let ours: Vec<bool> = steps.iter().map(|step| agent.take(step).is_some()).collect();
        assert_eq!(ours, recorded.verdicts[name], "{name}");
    }
}

fn signed<T: serde::Serialize>(payload: &T, domain: &Domain, signers: &[String]) -> Envelope {
    let payload = serde_json::to_vec(payload).expect("JSON");
    let signatures = signers.iter().map(|name| key(name).sign(&payload, domain)).collect();
    Envelope { kind: domain.subject.kind(), payload, signatures }
}

/// The key of a name: each name has one.
fn key(name: &str) -> MachineKey {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    MachineKey::from_seed(&Secret::new(seed), [0; 8]).expect("a key")
}

fn time(expires: Expires) -> Millis {
    match expires {
        Expires::Later => NOW + DAY,
        Expires::Past => NOW - DAY,
    }
}

fn repository() -> RepositoryId {
    RepositoryId::from_bytes([1; 16])
}
