//! Keys and signed metadata, made once a process: a simulation must not wait for signatures to be made.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use sloth_core::{Digest, Millis, RepositoryId, Secret};
use sloth_protocol::{
    coordinator::Unsigned,
    wire::{PROTO_MAX, PROTO_MIN},
};
use sloth_trust::{
    AgentRelease, BundleMetadata, BundleName, Channel, Domain, DomainSubject, Envelope, MachineKey, ManifestRef,
    ProtocolRange, PublicKey, Reach, RoleKeys, Roles, Root, RootPin, SPEC, Schema, Sha256, TargetBinary, Targets,
    Trigger, Triple,
    sign::{SecretKey, generate, open, public_key, sign},
};

/// When every simulation begins.
pub(crate) const START: Millis = Millis::from_secs(1_800_000_000);
/// Releases of [`SHORT_LIVED`] are good for new work for this long after [`START`].
const SHORT_LIFE: Millis = Millis::from_secs(3600);
const LONG_LIFE: Millis = Millis::from_secs(90 * 24 * 3600);
const SHORT_LIVED: &str = "short";
/// Takes the values that operators give in simulations, and no others.
const RESTRICTED: &str = "web";

/// Who signs, and everything that was signed.
pub(crate) struct Publisher {
    /// The envelopes of the trust roots, the first with version 1; each vouches for the next.
    pub roots: Vec<Vec<u8>>,
    /// The pin of the first.
    pub pin: RootPin,
    /// What may be run: the counters of each bundle rise.
    pub releases: Vec<Release>,
    /// Signed by the right key, but long expired, and newer than every other release of its bundle.
    pub expired: Release,
    /// Signed by the right key, for hosts of which there are none.
    pub for_nobody: Release,
    /// Releases of the agent, and their envelopes: the counters rise, and the last goes back to an older version.
    pub agent_releases: Vec<(Vec<u8>, AgentRelease)>,
    /// One that is newer than all, signed by a key that nobody trusts.
    pub foreign_agent: Vec<u8>,
    /// The same as the first release, signed by a key that nobody trusts.
    pub foreign: Release,
    /// Signed by the right key for another repository.
    pub other_repository: Release,
    /// A root of another key, which vouches for `foreign`.
    pub foreign_root: (Vec<u8>, RootPin),
    /// The coordinator's online keys, the second from the fourth root on, and one that no root names.
    pub online: [MachineKey; 2],
    pub stolen: MachineKey,
}

/// One signed release of a bundle.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub envelope: Vec<u8>,
    pub metadata: BundleMetadata,
}

/// What is signed once for all simulations of this process.
pub(crate) fn publisher() -> &'static Publisher {
    static PUBLISHER: OnceLock<Publisher> = OnceLock::new();
    PUBLISHER.get_or_init(make)
}

/// Signs what the coordinator says. What was signed last is kept: everybody is told the same head.
#[derive(Debug, Default)]
pub(crate) struct Sealer(RefCell<Option<(Unsigned, Vec<u8>)>>);

impl Sealer {
    pub(crate) fn seal(&self, said: &Unsigned) -> Vec<u8> {
        if let Some((_, sealed)) = self.0.borrow().as_ref().filter(|(same, _)| same == said) {
            return sealed.clone();
        }
        let sealed = seal(&publisher().online, said);
        if said.domain.subject == DomainSubject::Head {
            *self.0.borrow_mut() = Some((said.clone(), sealed.clone()));
        }
        sealed
    }
}

/// The envelope of what a coordinator says.
pub(super) fn seal(keys: &[MachineKey], said: &Unsigned) -> Vec<u8> {
    let signatures = keys.iter().map(|key| key.sign(&said.payload, &said.domain)).collect();
    Envelope { kind: said.domain.subject.kind(), payload: said.payload.clone(), signatures }.encode()
}

impl Publisher {
    /// The version of a root of which this is the envelope; zero for one that is none of these.
    pub(super) fn version_of(&self, root: &[u8]) -> u64 {
        self.roots.iter().zip(1..).find(|(known, _)| *known == root).map_or(0, |(_, version)| version)
    }

    /// The release with this manifest, of those that may be run somewhere.
    pub(super) fn find(&self, bundle: &BundleName, manifest: Digest) -> Option<&Release> {
        let same = |r: &&Release| r.metadata.name == *bundle && r.metadata.manifest.digest == manifest;
        self.releases.iter().find(same)
    }
}

fn make() -> Publisher {
    let (key, stranger) = (new_key(), new_key());
    let (online, stolen) = ([machine_key(1), machine_key(3)], machine_key(2));
    let repository = RepositoryId::new(START, 1);
    let successor = new_key();
    let signs = |version, holder: &SecretKey, signers: &[&SecretKey]| {
        let online = if version < 4 { &online[0] } else { &online[1] };
        root(version, holder, &key, online.public(), signers, repository)
    };
    // The second is renewed, with the third the holder of the role changes, the fourth is the new holder's alone, and
    // names another online key.
    let (first, pin) = signs(1, &key, &[&key]);
    let roots = vec![
        first,
        signs(2, &key, &[&key]).0,
        signs(3, &successor, &[&key, &successor]).0,
        signs(4, &successor, &[&successor]).0,
    ];
    let later = START + LONG_LIFE;
    let release = |name: &str, counter: u64, audience: &str, expires: Millis| {
        signed(&key, repository, name, counter, audience, expires)
    };
    let mut releases = Vec::new();
    for counter in 1..=4 {
        releases.push(release("app", counter, "*", later));
    }
    for counter in 1..=3 {
        releases.push(release("web", counter, "role=web", later));
    }
    for counter in 1..=2 {
        releases.push(release(SHORT_LIVED, counter, "site notin (attic)", START + SHORT_LIFE));
    }
    Publisher {
        roots,
        pin,
        agent_releases: [("0.2.0", 10), ("0.3.0", 11), ("0.2.0", 12), ("0.1.0", 13)]
            .map(|(version, counter)| agent_release(&key, repository, version, counter))
            .into(),
        foreign_agent: agent_release(&stranger, repository, "0.9.0", 90).0,
        releases,
        expired: release("app", 90, "*", START - SHORT_LIFE),
        for_nobody: release("app", 91, "role=nobody", later),
        foreign: signed(&stranger, repository, "app", 92, "*", later),
        other_repository: signed(&key, RepositoryId::new(START, 2), "app", 93, "*", later),
        foreign_root: root(1, &stranger, &stranger, stolen.public(), &[&stranger], repository),
        online,
        stolen,
    }
}

/// A root whose own role `holder` has, and under which `publisher` signs every bundle.
fn root(
    version: u64,
    holder: &SecretKey,
    publisher: &SecretKey,
    online: &PublicKey,
    signers: &[&SecretKey],
    repository: RepositoryId,
) -> (Vec<u8>, RootPin) {
    let role = |key| RoleKeys::new(vec![public_key(key).expect("a key")], 1).expect("a role");
    let bundles = BTreeMap::from([("*".parse().expect("a pattern"), role(publisher))]);
    let online = RoleKeys::new(vec![online.clone()], 1).expect("a role");
    let (head, assignment) = (Some(online.clone()), Some(online));
    let roles = Roles { root: role(holder), releases: Some(role(publisher)), bundles, head, assignment };
    let root = Root { spec: SPEC, repository, version, issued: START, expires: START + LONG_LIFE + LONG_LIFE, roles };
    let envelope = sign(&root, &root.domain(), signers).expect("signed");
    (envelope.encode(), RootPin::of(&envelope.payload))
}

fn agent_release(key: &SecretKey, repository: RepositoryId, version: &str, counter: u64) -> (Vec<u8>, AgentRelease) {
    let binary = TargetBinary {
        target: Triple::own(),
        manifest: ManifestRef { digest: Digest::of(version.as_bytes()), length: 1000 },
        digest: Sha256::of(version.as_bytes()),
        length: 9_000_000,
        deltas: Vec::new(),
    };
    let release = AgentRelease {
        spec: SPEC,
        repository,
        version: version.parse().expect("a version"),
        counter,
        channel: Channel::default(),
        targets: Targets::new(vec![binary]).expect("binaries"),
        from: Reach { oldest: "0.1.0".parse().expect("a version"), also: BTreeSet::new() },
        protocol: ProtocolRange { min: PROTO_MIN, max: PROTO_MAX },
        published: START,
        expires: START + LONG_LIFE,
    };
    let envelope = sign(&release, &release.domain(), &[key]).expect("signed");
    (envelope.encode(), release)
}

fn signed(
    key: &SecretKey,
    repository: RepositoryId,
    name: &str,
    counter: u64,
    audience: &str,
    expires: Millis,
) -> Release {
    let content = format!("{name} {counter} for {audience}");
    let name: BundleName = name.parse().expect("a name");
    let metadata = BundleMetadata {
        spec: SPEC,
        repository,
        name: name.clone(),
        counter,
        version: format!("1.{counter}.0"),
        manifest: ManifestRef { digest: Digest::of(content.as_bytes()), length: 1000 },
        audience: audience.parse().expect("a selector"),
        capabilities: vec!["exec".to_owned()],
        triggers: vec![Trigger::Manual, Trigger::Rollout],
        parameters: (name.as_str() == RESTRICTED).then(colour),
        expires,
        published: START,
    };
    let domain = Domain { subject: DomainSubject::Bundle(name), repository, version: counter };
    let envelope: Envelope = sign(&metadata, &domain, &[key]).expect("signed");
    Release { envelope: envelope.encode(), metadata }
}

fn colour() -> Schema {
    let source = serde_json::json!({
        "type": "object",
        "required": ["colour"],
        "additionalProperties": false,
        "properties": { "colour": { "enum": ["green", "blue"] } },
    });
    Schema::parse(source).expect("a schema")
}

fn machine_key(seed: u8) -> MachineKey {
    MachineKey::from_seed(&Secret::new([seed; 32]), [seed; 8]).expect("a key")
}

fn new_key() -> SecretKey {
    open(&generate(None).expect("a key").secret, None).expect("opens")
}
