//! Releases of the agent, as the coordinator of the tests orders them.

use sloth_bundle::{Limits as BundleLimits, Manifest, Parts, pack};
use sloth_core::Millis;
use sloth_protocol::wire::{Order, UpdateOrder, WorkItem};
use sloth_trust::{
    AgentRelease, Channel, Envelope, ProtocolRange, Reach, SPEC, Sha256, TargetBinary, Targets, Triple,
    UpdateAssignment, Version, sign::sign,
};

use super::{
    coordinator::{Coordinator, DAY, now},
    write,
};

/// The order of an update before it is signed.
pub struct UpdateDraft {
    pub generation: u64,
    pub release: AgentRelease,
    pub assignment: UpdateAssignment,
    /// Whether the head's tree has it.
    pub offered: bool,
    pub release_envelope: Option<Envelope>,
    pub assignment_envelope: Option<Envelope>,
}

impl Coordinator {
    /// Publishes a release that every platform's own agent could take, and orders every agent to go to it, with a change.
    /// Its binary is a text, and no program.
    pub fn order_update(&self, change: impl FnOnce(&mut UpdateDraft)) -> Version {
        let shared = &self.shared;
        let generation = *shared.orders.borrow() + 1;
        let mut draft = self.draft(generation);
        change(&mut draft);
        let (mut state, trust) = (self.state(), self.trust());
        let UpdateDraft { generation, release, assignment, offered, release_envelope, assignment_envelope } = draft;
        let envelope =
            release_envelope.unwrap_or_else(|| sign(&release, &release.domain(), &[&trust.maker]).expect("signed"));
        let assigned =
            assignment_envelope.unwrap_or_else(|| trust.say(&assignment, &assignment.domain(trust.root.repository)));
        let version = assignment.version;
        if offered {
            state.agent_releases.push((release, envelope.clone()));
        }
        // Among the releases of the agent; those of bundles are added when it is sent, for the head of that time.
        let index = (state.agent_releases.len() as u64).saturating_sub(u64::from(offered));
        let order = UpdateOrder { assignment: assigned.encode(), metadata: envelope.encode(), index, path: Vec::new() };
        state.items.push(WorkItem { generation, order: Order::Update(order) });
        drop((state, trust));
        shared.orders.send_replace(generation);
        version
    }

    /// Takes back the newest order of an update, which no agent has accepted.
    pub fn withdraw_update(&self) {
        let mut state = self.state();
        let newest = state.items.iter().rposition(|item| matches!(item.order, Order::Update(_)));
        newest.map(|at| state.items.remove(at));
        let newest = state.items.iter().map(|item| item.generation).max().unwrap_or(0);
        drop(state);
        self.shared.orders.send_replace(newest);
    }

    fn draft(&self, generation: u64) -> UpdateDraft {
        let (chunks, dir) = (&self.shared.chunks, tempfile::tempdir().expect("a directory"));
        let text = format!("release {generation}");
        write(dir.path(), "sloth-agent", &text);
        let packed = pack(dir.path(), &BundleLimits::default()).expect("packed");
        packed.store_into(chunks).expect("stored");
        let (name, workflow) = ("sloth-agent".parse().expect("a name"), "sloth-agent".parse().expect("a path"));
        let parts =
            Parts { name, version: "1".into(), workflow, files: packed.files, links: packed.links, plan: Vec::new() };
        let manifest = Manifest::new(parts, &BundleLimits::default()).and_then(|m| m.encode()).expect("encoded");
        let manifest_ref = Manifest::reference(&manifest);
        chunks.put_plain(manifest_ref.digest, &manifest).expect("stored");
        let version = Version::new(9, 0, generation);
        let binary = TargetBinary {
            target: Triple::own(),
            manifest: manifest_ref,
            digest: Sha256::of(text.as_bytes()),
            length: text.len() as u64,
            deltas: Vec::new(),
        };
        let release = AgentRelease {
            spec: SPEC,
            repository: self.trust().root.repository,
            version: version.clone(),
            counter: generation,
            channel: Channel::default(),
            targets: Targets::new(vec![binary]).expect("binaries"),
            from: Reach { oldest: Version::new(0, 0, 0), also: [].into() },
            protocol: ProtocolRange { min: 1, max: u16::MAX },
            published: now(),
            expires: now() + DAY,
        };
        let assignment = UpdateAssignment {
            spec: SPEC,
            agent: *self.state().agents.values().next().expect("an agent"),
            version,
            counter: generation,
            manifest: manifest_ref.digest,
            rollout: None,
            not_before: Millis::ZERO,
            deadline: now() + DAY,
            nonce: generation,
        };
        let (release_envelope, assignment_envelope) = (None, None);
        UpdateDraft { generation, release, assignment, offered: true, release_envelope, assignment_envelope }
    }
}
