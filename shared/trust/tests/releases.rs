//! Which releases of the agent, and which orders to go to one, are taken; each refusal as a line of a table.

#![allow(clippy::expect_used, reason = "helpers of tests may fail the test")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sloth_core::{AgentId, Chain, Digest, Millis, RepositoryId, Secret};
use sloth_trust::{
    AgentRelease, BundleMetadata, Channel, Envelope, Head, MachineKey, ManifestRef, ProtocolRange, Reach, Refusal,
    ReleaseHost, RoleKeys, Roles, Root, RootPin, RootRef, SPEC, Seen, Sha256, TargetBinary, Targets, Tree, Trigger,
    Triple, Trusted, TrustedHead, UpdateAssignment, Version,
    head::{leaf, release_leaf},
};

const NOW: Millis = Millis::from_secs(1_700_000_000);
const LATER: Millis = Millis::from_secs(1_800_000_000);
const ORDER: u64 = 7;

struct Fixture {
    makers: [MachineKey; 3],
    online: MachineKey,
    publisher: MachineKey,
    trusted: Trusted,
}

fn key(seed: u8) -> MachineKey {
    MachineKey::from_seed(&Secret::new([seed; 32]), [seed; 8]).expect("a key")
}

fn role(keys: &[&MachineKey], threshold: usize) -> RoleKeys {
    RoleKeys::new(keys.iter().map(|key| key.public().clone()).collect(), threshold).expect("a role")
}

fn version(text: &str) -> Version {
    text.parse().expect("a version")
}

fn triple(text: &str) -> Triple {
    text.parse().expect("a platform")
}

fn agent() -> AgentId {
    AgentId::new(NOW, 1)
}

fn fixture() -> Fixture {
    let (makers, online, publisher, holder) = ([key(1), key(2), key(3)], key(4), key(5), key(6));
    let everything = "*".parse().expect("a pattern");
    let roles = Roles {
        root: role(&[&holder], 1),
        releases: Some(role(&[&makers[0], &makers[1], &makers[2]], 2)),
        bundles: BTreeMap::from([(everything, role(&[&publisher], 1))]),
        head: Some(role(&[&online], 1)),
        assignment: Some(role(&[&online], 1)),
    };
    let repository = RepositoryId::new(NOW, 1);
    let root = Root { spec: SPEC, repository, version: 1, issued: NOW, expires: LATER, roles };
    let envelope = seal(&[&holder], &root, &root.domain());
    let trusted = Trusted::new(&envelope, RootPin::of(&envelope.payload)).expect("trusted");
    Fixture { makers, online, publisher, trusted }
}

fn seal(keys: &[&MachineKey], payload: &impl serde::Serialize, domain: &sloth_trust::Domain) -> Envelope {
    let payload = serde_json::to_vec(payload).expect("JSON");
    let signatures = keys.iter().map(|key| key.sign(&payload, domain)).collect();
    Envelope { kind: domain.subject.kind(), payload, signatures }
}

impl Fixture {
    fn release(&self) -> AgentRelease {
        let binary = |target: &str| TargetBinary {
            target: triple(target),
            manifest: ManifestRef { digest: Digest::of(target.as_bytes()), length: 400 },
            digest: Sha256::of(target.as_bytes()),
            length: 9_000_000,
            deltas: Vec::new(),
        };
        AgentRelease {
            spec: SPEC,
            repository: self.trusted.root().repository,
            version: version("1.4.0"),
            counter: 5,
            channel: Channel::default(),
            targets: Targets::new(vec![binary("x86_64-unknown-linux-gnu"), binary("aarch64-unknown-linux-gnu")])
                .expect("binaries"),
            from: Reach { oldest: version("1.2.0"), also: BTreeSet::new() },
            protocol: ProtocolRange { min: 1, max: 2 },
            published: NOW,
            expires: NOW + Millis::from_secs(60),
        }
    }

    fn update(&self) -> UpdateAssignment {
        UpdateAssignment {
            spec: SPEC,
            agent: agent(),
            version: version("1.4.0"),
            counter: 5,
            manifest: Digest::of(b"x86_64-unknown-linux-gnu"),
            rollout: None,
            not_before: NOW,
            deadline: LATER,
            nonce: ORDER,
        }
    }

    fn signed(&self, change: impl FnOnce(&mut AgentRelease)) -> Envelope {
        let mut release = self.release();
        change(&mut release);
        seal(&[&self.makers[0], &self.makers[1]], &release, &release.domain())
    }

    fn assigned(&self, change: impl FnOnce(&mut UpdateAssignment)) -> Envelope {
        let mut update = self.update();
        change(&mut update);
        seal(&[&self.online], &update, &update.domain(self.trusted.root().repository))
    }

    /// A head that names a bundle and this release.
    fn head(&self, release: &Envelope) -> (TrustedHead, sloth_trust::Inclusion) {
        let root = self.trusted.root();
        let named: AgentRelease = serde_json::from_slice(&release.payload).expect("a release");
        let tree = Tree::new([b"another".to_vec(), release_leaf(&named, release)]);
        let head = Head {
            spec: SPEC,
            repository: root.repository,
            version: 1,
            previous: None,
            root: RootRef { version: 1, sha256: self.trusted.pin(), length: 0 },
            releases: tree.head(),
            issued: NOW,
            expires: LATER,
        };
        let envelope = seal(&[&self.online], &head, &head.domain());
        let head = self.trusted.accept_head(&envelope, None).expect("a head");
        (head, tree.inclusion(1).expect("a leaf"))
    }

    /// What an agent does with an order: everything that may be against it.
    fn take(&self, release: &Envelope, update: &Envelope, seen: Option<Seen>) -> Result<(), Refusal> {
        let (head, inclusion) = self.head(&self.signed(|_| {}));
        let target = triple("x86_64-unknown-linux-gnu");
        let host = ReleaseHost { target: &target, version: &version("1.3.9"), protocol: 2 };
        let update = self.trusted.assigned_update(update, agent(), ORDER)?;
        let accepted = self.trusted.accept_release(release, NOW, seen, &Channel::default())?;
        head.offers_release(&accepted, release, &inclusion)?;
        update.fits(&accepted, accepted.binary_for(host)?, NOW)
    }

    #[track_caller]
    fn refuses(&self, release: &Envelope, update: &Envelope, expected: &str) {
        let refusal = self.take(release, update, None).expect_err(expected);
        let shown = Chain(&refusal).to_string();
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn a_release_that_both_sides_name_is_taken() {
    let f = fixture();
    let (release, update) = (f.signed(|_| {}), f.assigned(|_| {}));
    f.take(&release, &update, None).expect("taken");
    let seen = Seen::of_release(&release, &f.release());
    f.take(&release, &update, Some(seen)).expect("once more");
    let crossed = Envelope::decode(&release.encode()).expect("decodes");
    assert_eq!(f.trusted.verify_release(&crossed).expect("verified"), f.release());
}

#[test]
fn what_the_makers_did_not_sign_is_refused() {
    let f = fixture();
    let (good, update) = (f.signed(|_| {}), f.assigned(|_| {}));
    let signed_by = |keys: &[&MachineKey]| seal(keys, &f.release(), &f.release().domain());
    f.refuses(&Envelope { signatures: Vec::new(), ..good.clone() }, &update, "it carries no signature");
    f.refuses(&signed_by(&[&f.makers[0]]), &update, "1 of the 2 keys");
    f.refuses(&signed_by(&[&f.publisher, &f.online]), &update, "0 of the 2 keys");
    f.refuses(&signed_by(&[&f.makers[0], &f.makers[0]]), &update, "1 of the 2 keys");
    let text = String::from_utf8(good.payload.clone()).expect("text").replace("1.4.0", "1.4.1");
    f.refuses(&Envelope { payload: text.into_bytes(), ..good }, &update, "does not match the content");
    let other = seal(&[&f.makers[0], &f.makers[1]], &f.release(), &AgentRelease { counter: 6, ..f.release() }.domain());
    f.refuses(&other, &update, "but says it is");
    f.refuses(&f.assigned(|_| {}), &update, "where a release of the agent was asked for");
    f.refuses(&f.signed(|r| r.repository = RepositoryId::new(NOW, 9)), &update, "it belongs to repository");
    f.refuses(&f.signed(|r| r.spec = 2), &update, "written to specification 2");
    f.refuses(&f.signed(|r| r.expires = NOW), &update, "agent release 1.4.0 expired");
    f.refuses(&f.signed(|r| r.channel = "beta".parse().expect("a channel")), &update, "is of channel `beta`");
    f.refuses(&f.signed(|r| r.published = LATER), &update, "is none of those");
}

#[test]
fn what_was_not_assigned_is_refused() {
    let f = fixture();
    let good = f.signed(|_| {});
    let domain = f.update().domain(f.trusted.root().repository);
    f.refuses(&good, &Envelope { signatures: Vec::new(), ..f.assigned(|_| {}) }, "it carries no signature");
    f.refuses(&good, &seal(&[&f.makers[0], &f.makers[1]], &f.update(), &domain), "0 of the 1 keys");
    f.refuses(&good, &good, "where an update's assignment was asked for");
    f.refuses(&good, &f.assigned(|u| u.agent = AgentId::new(NOW, 2)), "is for agent");
    f.refuses(&good, &f.assigned(|u| u.nonce = ORDER - 1), "was made for order 6, and came as order 7");
    f.refuses(&good, &f.assigned(|u| u.counter = 4), "another one was verified");
    f.refuses(&good, &f.assigned(|u| u.version = version("1.3.0")), "another one was verified");
    let other = Digest::of(b"aarch64-unknown-linux-gnu");
    f.refuses(&good, &f.assigned(|u| u.manifest = other), "another one was verified");
    f.refuses(&good, &f.assigned(|u| u.not_before = LATER), "may not begin before");
    f.refuses(&good, &f.assigned(|u| u.deadline = NOW), "the update to 1.4.0 expired");
}

#[test]
fn older_releases_and_second_ones_of_a_number_are_refused() {
    let f = fixture();
    let (good, update) = (f.signed(|_| {}), f.assigned(|_| {}));
    let newer = f.signed(|r| r.counter = 6);
    let seen = Seen::of_release(&newer, &AgentRelease { counter: 6, ..f.release() });
    let refusal = f.take(&good, &update, Some(seen)).expect_err("is older");
    assert!(matches!(refusal, Refusal::Rollback { got: 5, seen: 6, .. }), "{refusal}");
    let other = Seen { counter: 5, payload: Digest::of(b"other") };
    let refusal = f.take(&good, &update, Some(other)).expect_err("has other content");
    assert!(matches!(refusal, Refusal::Conflict { number: 5, .. }), "{refusal}");
}

#[test]
fn hosts_take_what_is_for_them() {
    let f = fixture();
    let release = f.release();
    let gnu = "x86_64-unknown-linux-gnu";
    for (target, from, protocol, expected) in [
        (gnu, "1.2.0", 1, None),
        (gnu, "1.5.0", 2, None),
        ("riscv64gc-unknown-linux-gnu", "1.3.0", 2, Some("this host is `riscv64gc-unknown-linux-gnu`")),
        (gnu, "1.1.9", 2, Some("may be reached from 1.2.0 and later, 1.1.9 runs here")),
        (gnu, "1.2.0-rc.1", 2, Some("may be reached from 1.2.0")),
        (gnu, "1.3.0", 3, Some("speaks versions 1 to 2 of the protocol")),
    ] {
        let target = triple(target);
        let host = ReleaseHost { target: &target, version: &version(from), protocol };
        let refused = release.binary_for(host).err().map(|refusal| refusal.to_string());
        assert!(
            match (&refused, expected) {
                (None, None) => true,
                (Some(said), Some(words)) => said.contains(words),
                (Some(_), None) | (None, Some(_)) => false,
            },
            "{target} {from} {protocol}: {refused:?}"
        );
    }
}

#[test]
fn without_a_role_nobody_makes_releases() {
    let f = fixture();
    let holder = key(6);
    let mut root = f.trusted.root().clone();
    root.version += 1;
    root.roles.releases = None;
    let next = f.trusted.accept_root(&seal(&[&holder], &root, &root.domain())).expect("the next");
    let refusal = next.verify_release(&f.signed(|_| {})).expect_err("nobody may");
    assert!(matches!(refusal, Refusal::NoReleaseRole), "{refusal}");
}

/// Who may sign bundles cannot make one that passes for the agent, nor the other way round.
#[test]
fn no_bundle_stands_for_a_release_in_a_head() {
    let f = fixture();
    let release = f.signed(|_| {});
    let metadata = BundleMetadata {
        spec: SPEC,
        repository: f.trusted.root().repository,
        name: "sloth-agent".parse().expect("a name"),
        counter: 5,
        version: "1.4.0".to_owned(),
        manifest: ManifestRef { digest: Digest::of(b"m"), length: 1 },
        audience: "*".parse().expect("a selector"),
        capabilities: Vec::new(),
        triggers: vec![Trigger::Manual],
        parameters: None,
        expires: LATER,
        published: NOW,
    };
    let bundle = seal(&[&f.publisher], &metadata, &metadata.domain());
    f.refuses(&bundle, &f.assigned(|_| {}), "where a release of the agent was asked for");
    assert_ne!(leaf(&metadata, &bundle)[0], 0);
    assert_eq!(release_leaf(&f.release(), &release)[0], 0);
}

proptest! {
    #[test]
    fn no_changed_byte_is_taken(at in any::<prop::sample::Index>(), flip in 1..=255_u8, of_update in any::<bool>()) {
        let f = fixture();
        let (release, update) = (f.signed(|_| {}), f.assigned(|_| {}));
        let mut bytes = if of_update { update.encode() } else { release.encode() };
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        let taken = Envelope::decode(&bytes).is_ok_and(|changed| {
            let taken = if of_update { f.take(&release, &changed, None) } else { f.take(&changed, &update, None) };
            // Base 64 and a comment that nobody signs may be written in more ways than one; what they say is the same.
            let original = if of_update { &update } else { &release };
            taken.is_ok() && changed.payload != original.payload
        });
        prop_assert!(!taken, "byte {place} changed by {flip}");
    }
}
