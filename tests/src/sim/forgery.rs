//! Orders that a coordinator in the wrong hands could send: none of them may be carried out.

use sloth_core::{AgentId, Digest, Millis, RunId};
use sloth_protocol::{
    random::Random,
    wire::{Order, RunOrder, WorkItem},
};
use sloth_trust::{Assignment, BundleMetadata, Envelope, PayloadKind, SPEC};

use super::{
    invariants::unsigned_manifest,
    publisher::{Release, publisher},
};

/// How many ways there are.
const KINDS: u64 = 11;

/// Puts something else in the place of an order to run.
pub(super) fn forge(agent: AgentId, item: &mut WorkItem, random: &mut Random) {
    let Order::Run(order) = &mut item.order else { return };
    let publisher = publisher();
    match random.below(KINDS) {
        0 => flip(&mut order.metadata, random),
        1 => order.metadata = change(&order.metadata, |envelope| envelope.signatures.clear()),
        2 => order.metadata = change(&order.metadata, point_elsewhere),
        3 => assign(order, agent, &publisher.expired),
        4 => assign(order, agent, &publisher.for_nobody),
        5 => assign(order, agent, &publisher.foreign),
        6 => assign(order, agent, &publisher.other_repository),
        // The first release is good for who has seen no later one.
        7 => assign(order, agent, &publisher.releases[0]),
        8 => order.metadata.clone_from(&publisher.roots[0]),
        9 => order.assignment = assignment(order.run, AgentId::new(Millis::ZERO, 1), &publisher.releases[0].metadata),
        _ => order.metadata.truncate(usize::try_from(random.below(40)).unwrap_or(0)),
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

fn assign(order: &mut RunOrder, agent: AgentId, release: &Release) {
    order.assignment = assignment(order.run, agent, &release.metadata);
    order.metadata.clone_from(&release.envelope);
}

fn assignment(run: RunId, agent: AgentId, metadata: &BundleMetadata) -> Vec<u8> {
    let manifest: Digest = metadata.manifest.digest;
    let assignment = Assignment {
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
        nonce: 7,
    };
    let payload = serde_json::to_vec(&assignment).expect("an assignment");
    Envelope { kind: PayloadKind::Assignment, payload, signatures: Vec::new() }.encode()
}
