//! What an agent verifies, and what it is sent for that.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result};
use sloth_core::{AgentId, Digest, Millis, RepositoryId, RunId, Secret, Selector, labels::Subject};
use sloth_trust::{
    Assignment, BundleMetadata, Domain, Envelope, Head, MachineKey, ManifestRef, RoleKeys, Roles, Root, RootPin,
    RootRef, SPEC, Tree, Trigger, Trusted, head::leaf,
};

use super::repeat;
use crate::{
    Bench,
    report::{Bar, Figure},
    samples::{Samples, millis, number},
};

const NOW: Millis = Millis::from_secs(1_700_000_000);
const DAY: Millis = Millis::from_secs(24 * 3600);
/// Releases that the coordinator offers: the head is as long for one.
const RELEASES: u64 = 10_000;
const RELEASES_QUICK: u64 = 100;
/// Updates that are verified for one figure.
const UPDATES: usize = 200;
const UPDATES_QUICK: usize = 2;
/// A root of three holders, of whom two must sign.
const HOLDERS: u8 = 3;
const MUST_SIGN: usize = 2;

/// Everything that an agent is sent when a root, a head, a release and an assignment are new, as bytes.
struct Update {
    trusted: Trusted,
    root: Vec<u8>,
    head: Vec<u8>,
    metadata: Vec<u8>,
    assignment: Vec<u8>,
    inclusion: sloth_trust::Inclusion,
    agent: AgentId,
}

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let releases = bench.pick(RELEASES, RELEASES_QUICK);
    let (updates, repeats) = (bench.pick(UPDATES, UPDATES_QUICK), bench.pick(9, 1));
    let update = Update::new(releases)?;
    let verified = repeat(repeats, || {
        let began = Instant::now();
        for _ in 0..updates {
            update.verify()?;
        }
        Ok(millis(began.elapsed()) / number(updates))
    })?;
    let proof = 32 * update.inclusion.path.len();
    let order = update.assignment.len() + update.metadata.len() + proof;
    Ok(vec![
        Figure::new(
            "a root step, a head, a release and an assignment verified, two of three sign roots",
            "ms",
            verified,
        )
        .bar(Bar::AtMost(1.0)),
        Figure::new(format!("a head of {releases} releases, in an answer to a poll"), "bytes", size(update.head.len()))
            .bar(Bar::AtMost(2048.0)),
        Figure::new("an order with its release and its place in the head", "bytes", size(order)),
        Figure::new("a root of three holders", "bytes", size(update.root.len())),
    ])
}

impl Update {
    fn new(releases: u64) -> Result<Self> {
        let holders = (1..=HOLDERS).map(key).collect::<Result<Vec<_>>>()?;
        let (publisher, online) = (key(100)?, key(101)?);
        let agent = AgentId::new(NOW, 1);
        let seal = |payload: Vec<u8>, domain: &Domain, keys: &[&MachineKey]| {
            let signatures = keys.iter().map(|key| key.sign(&payload, domain)).collect();
            Envelope { kind: domain.subject.kind(), payload, signatures }
        };
        let root = |version| -> Result<Envelope> {
            let root = Root {
                spec: SPEC,
                repository: repository(),
                version,
                issued: NOW,
                expires: NOW + DAY,
                roles: Roles {
                    root: RoleKeys::new(holders.iter().map(|key| key.public().clone()).collect(), MUST_SIGN)?,
                    releases: None,
                    bundles: BTreeMap::from([("*".parse()?, role(&publisher)?)]),
                    head: Some(role(&online)?),
                    assignment: Some(role(&online)?),
                },
            };
            let signers: Vec<&MachineKey> = holders.iter().take(MUST_SIGN).collect();
            Ok(seal(serde_json::to_vec(&root)?, &root.domain(), &signers))
        };
        let (first, second) = (root(1)?, root(2)?);
        let metadata = metadata(releases / 2)?;
        let release = seal(serde_json::to_vec(&metadata)?, &metadata.domain(), &[&publisher]);
        let others = (1..=releases).map(|counter| match counter == metadata.counter {
            true => leaf(&metadata, &release),
            false => counter.to_be_bytes().to_vec(),
        });
        let tree = Tree::new(others);
        let place = usize::try_from(metadata.counter.saturating_sub(1))?;
        let head = Head {
            spec: SPEC,
            repository: repository(),
            version: NOW.as_u64(),
            previous: Some(sloth_trust::HeadRef { version: NOW.as_u64() - 1, payload: Digest::of(b"before") }),
            root: RootRef::of(2, &second.payload),
            releases: tree.head(),
            issued: NOW,
            expires: NOW + DAY,
        };
        let assignment = assignment(agent, &metadata);
        Ok(Self {
            trusted: Trusted::new(&first, RootPin::of(&first.payload))?,
            root: second.encode(),
            head: online.seal(serde_json::to_vec(&head)?, &head.domain()).encode(),
            metadata: release.encode(),
            assignment: online.seal(serde_json::to_vec(&assignment)?, &assignment.domain(repository())).encode(),
            inclusion: tree.inclusion(place).context("there is no such release")?,
            agent,
        })
    }

    fn verify(&self) -> Result<()> {
        let trusted = self.trusted.accept_root(&Envelope::decode(&self.root)?)?;
        let head = trusted.accept_head(&Envelope::decode(&self.head)?, None)?;
        head.fresh(NOW)?;
        let assigned = trusted.assigned(&Envelope::decode(&self.assignment)?, self.agent, 1)?;
        let envelope = Envelope::decode(&self.metadata)?;
        let subject = Subject { id: "1", name: "web-1", labels: &[] };
        let metadata = trusted.accept_bundle(&envelope, NOW, None, subject)?;
        head.offers(&metadata, &envelope, &self.inclusion)?;
        Ok(assigned.fits(&metadata, NOW)?)
    }
}

fn metadata(counter: u64) -> Result<BundleMetadata> {
    Ok(BundleMetadata {
        spec: SPEC,
        repository: repository(),
        name: "web".parse()?,
        counter,
        version: "1.4.0".to_owned(),
        manifest: ManifestRef { digest: Digest::of(b"manifest"), length: 4096 },
        audience: Selector::everything(),
        capabilities: ["exec", "fs:read", "fs:write:/etc/nginx", "service:nginx"].map(str::to_owned).to_vec(),
        triggers: vec![Trigger::Manual],
        parameters: None,
        expires: NOW + DAY,
        published: NOW,
    })
}

fn assignment(agent: AgentId, metadata: &BundleMetadata) -> Assignment {
    Assignment {
        spec: SPEC,
        agent,
        run: RunId::new(NOW, 2),
        bundle: metadata.name.clone(),
        counter: metadata.counter,
        manifest: metadata.manifest.digest,
        workflow: None,
        values: serde_json::Map::new(),
        not_before: Millis::ZERO,
        deadline: NOW + DAY,
        nonce: 1,
    }
}

fn role(key: &MachineKey) -> Result<RoleKeys> {
    Ok(RoleKeys::new(vec![key.public().clone()], 1)?)
}

fn key(seed: u8) -> Result<MachineKey> {
    Ok(MachineKey::from_seed(&Secret::new([seed; 32]), [seed; 8])?)
}

fn repository() -> RepositoryId {
    RepositoryId::new(NOW, 1)
}

fn size(bytes: usize) -> Samples {
    Samples::one(number(bytes))
}
