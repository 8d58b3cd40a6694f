//! Orders that a coordinator in the wrong hands could send: none of them may be carried out.

use sloth_core::{AgentId, Digest, Millis, RunId};
use sloth_protocol::{
    coordinator::Unsigned,
    random::Random,
    wire::{Order, RunOrder, UpdateOrder, Work, WorkItem},
};
use sloth_trust::{Assignment, BundleMetadata, Envelope, Head, MachineKey, RootRef, SPEC, Tree, head::leaf};

use super::{
    invariants::unsigned_manifest,
    publisher::{Release, publisher, seal},
};

/// How many ways there are.
const KINDS: u64 = 16;
/// How many ways for a head.
const HEAD_KINDS: u64 = 5;

/// Puts something else in the place of an order to run.
pub(super) fn forge(agent: AgentId, item: &mut WorkItem, random: &mut Random) {
    let generation = item.generation;
    let order = match &mut item.order {
        Order::Run(order) => order,
        Order::Update(update) => {
            forge_update(update, random);
            return;
        }
        Order::Cancel { .. } | Order::CancelUpdate { .. } => return,
    };
    let publisher = publisher();
    match random.below(KINDS) {
        0 => flip(&mut order.metadata, random),
        1 => order.metadata = change(&order.metadata, |envelope| envelope.signatures.clear()),
        2 => order.metadata = change(&order.metadata, point_elsewhere),
        3 => assign(order, agent, generation, &publisher.expired),
        4 => assign(order, agent, generation, &publisher.for_nobody),
        5 => {
            assign(order, agent, generation, &publisher.foreign);
            order.assignment = change(&order.assignment, resign);
            // Where the head has it that names the foreign root.
            (order.index, order.path) = (0, Vec::new());
        }
        6 => assign(order, agent, generation, &publisher.other_repository),
        // The first release is good for who has seen no later one, while the head names it.
        7 => assign(order, agent, generation, &publisher.releases[0]),
        8 => order.metadata.clone_from(&publisher.roots[0]),
        9 => {
            let (other, metadata) = (AgentId::new(Millis::ZERO, 1), &publisher.releases[0].metadata);
            order.assignment = assignment(&publisher.online, order.run, other, generation, metadata);
        }
        // What was assigned to it before, or will be.
        10 => item.generation += 1,
        11 => order.assignment = change(&order.assignment, |envelope| envelope.signatures.clear()),
        12 => order.index += 1,
        13 => order.path.clear(),
        14 => with_other_values(order, agent, generation, random),
        _ => order.metadata.truncate(usize::try_from(random.below(40)).unwrap_or(0)),
    }
}

/// Puts something else in the place of an order to go to a release of the agent.
fn forge_update(order: &mut UpdateOrder, random: &mut Random) {
    match random.below(6) {
        0 => flip(&mut order.metadata, random),
        1 => order.assignment = change(&order.assignment, |envelope| envelope.signatures.clear()),
        2 => order.metadata.clone_from(&publisher().foreign_agent),
        // The first is good for who has seen no later one, while it is the one that was assigned.
        3 => order.metadata.clone_from(&publisher().agent_releases[0].0),
        4 => order.index += 1,
        _ => flip(&mut order.assignment, random),
    }
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    let place = random.below(u64::try_from(bytes.len()).unwrap_or(0));
    if let Some(byte) = usize::try_from(place).ok().and_then(|place| bytes.get_mut(place)) {
        *byte ^= 1 << random.below(8);
    }
}

fn change(bytes: &[u8], change: impl FnOnce(&mut Envelope)) -> Vec<u8> {
    let mut envelope = Envelope::decode(bytes).expect("an envelope");
    change(&mut envelope);
    envelope.encode()
}

/// Names another manifest under the signatures of the real one.
fn point_elsewhere(envelope: &mut Envelope) {
    let mut metadata: BundleMetadata = serde_json::from_slice(&envelope.payload).expect("metadata");
    metadata.manifest.digest = unsigned_manifest();
    envelope.payload = serde_json::to_vec(&metadata).expect("metadata");
}

/// Assigns what was ordered with values that its publishers did not sign for; where they took any, it would be an order
/// like another, and is broken.
fn with_other_values(order: &mut RunOrder, agent: AgentId, generation: u64, random: &mut Random) {
    let payload = Envelope::decode(&order.metadata).expect("an envelope").payload;
    let metadata: BundleMetadata = serde_json::from_slice(&payload).expect("metadata");
    if metadata.parameters.is_none() {
        return flip(&mut order.metadata, random);
    }
    let values = [("colour".to_owned(), "red".into())];
    let mut assigned = assigned(order.run, agent, generation, &metadata);
    assigned.values.extend(values.into_iter().take(usize::try_from(random.below(2)).unwrap_or(0)));
    order.assignment = sealed(&publisher().online, &assigned, &metadata);
}

fn assign(order: &mut RunOrder, agent: AgentId, generation: u64, release: &Release) {
    order.assignment = assignment(&publisher().online, order.run, agent, generation, &release.metadata);
    order.metadata.clone_from(&release.envelope);
}

fn assignment(keys: &[MachineKey], run: RunId, agent: AgentId, nonce: u64, metadata: &BundleMetadata) -> Vec<u8> {
    sealed(keys, &assigned(run, agent, nonce, metadata), metadata)
}

fn sealed(keys: &[MachineKey], assignment: &Assignment, metadata: &BundleMetadata) -> Vec<u8> {
    let payload = serde_json::to_vec(assignment).expect("an assignment");
    seal(keys, &Unsigned { domain: assignment.domain(metadata.repository), payload })
}

fn assigned(run: RunId, agent: AgentId, nonce: u64, metadata: &BundleMetadata) -> Assignment {
    let manifest: Digest = metadata.manifest.digest;
    Assignment {
        spec: SPEC,
        agent,
        run,
        bundle: metadata.name.clone(),
        counter: metadata.counter,
        manifest,
        workflow: None,
        values: serde_json::Map::new(),
        not_before: Millis::ZERO,
        deadline: Millis::MAX,
        nonce,
    }
}

/// Puts something else in the place of the head, or keeps it back.
pub(super) fn forge_head(work: &mut Work, random: &mut Random) {
    let Some(head) = &mut work.head else { return };
    match random.below(HEAD_KINDS) {
        0 => flip(head, random),
        1 => *head = change(head, |envelope| envelope.signatures.clear()),
        2 => *head = change(head, resign),
        3 => *head = change(head, name_foreign_root),
        _ => work.head = None,
    }
}

/// Says that the foreign root and the foreign release are the newest, as whoever trusts that root would take it.
fn name_foreign_root(envelope: &mut Envelope) {
    let publisher = publisher();
    let payload = |bytes: &[u8]| Envelope::decode(bytes).expect("an envelope").payload;
    let foreign = Envelope::decode(&publisher.foreign.envelope).expect("an envelope");
    let mut head: Head = serde_json::from_slice(&envelope.payload).expect("a head");
    head.root = RootRef::of(1, &payload(&publisher.foreign_root.0));
    head.releases = Tree::new([leaf(&publisher.foreign.metadata, &foreign)]).head();
    envelope.payload = serde_json::to_vec(&head).expect("a head");
    resign(envelope);
}

/// Signs by a key that no root of this repository names.
fn resign(envelope: &mut Envelope) {
    if let Ok(domain) = envelope.claimed_domain() {
        envelope.signatures = vec![publisher().stolen.sign(&envelope.payload, &domain)];
    }
}
