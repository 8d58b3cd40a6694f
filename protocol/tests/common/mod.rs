//! A coordinator with one agent, as the tests of its machine begin.

use sloth_core::{AgentId, Digest, Labels, Millis, Secret};
use sloth_protocol::{
    coordinator::{AgentRecord, Ask, Coordinator, Durable, Event, Run, Settings},
    wire::{Hello, PROTO_MAX, PROTO_MIN, Platform},
};

use sloth_trust::MachineKey;

pub(crate) const NOW: Millis = Millis::from_secs(1_700_000_000);

/// An agent that was given one order.
pub(crate) fn agent_record() -> AgentRecord {
    AgentRecord {
        name: "web-1".to_owned(),
        host_labels: Labels::new(),
        enrolled_labels: Labels::new(),
        version: String::new(),
        platform: Platform::default(),
        key: Digest::of(b"key"),
        receipt_key: receipt_key().public().clone(),
        enrolled: NOW,
        last_seen: NOW,
        revoked: false,
        next_generation: 2,
        proto: PROTO_MAX,
        update: None,
        copied: None,
    }
}

/// What the agent signs receipts with.
pub(crate) fn receipt_key() -> MachineKey {
    MachineKey::from_seed(&Secret::new([7; 32]), [0; 8]).expect("a key")
}

/// A run that has not ended.
#[allow(dead_code, reason = "not every test needs one")]
pub(crate) fn run() -> Run {
    Run {
        bundle: "web".parse().expect("a name"),
        version: "1".to_owned(),
        counter: 1,
        workflow: None,
        selector: "*".to_owned(),
        values: "{}".to_owned(),
        operator: "admin".to_owned(),
        created: NOW,
        deadline: NOW + Millis::from_secs(3600),
        cancelled: false,
        ended: None,
    }
}

/// The coordinator that goes on from `state`, with connection 1, on which `agent` has said hello.
pub(crate) fn welcomed(state: Durable, agent: AgentId) -> Coordinator {
    let mut machine = Coordinator::restore(state, Settings::default(), NOW, 1).expect("restored");
    let _ = machine.handle(NOW, Event::Connected { conn: 1, agent });
    let hello = Hello {
        proto_min: PROTO_MIN,
        proto_max: PROTO_MAX,
        features: 0,
        version: String::new(),
        platform: Platform::default(),
        labels: Labels::new(),
        instance: 1,
    };
    let _ = machine.handle(NOW, Event::Asked { conn: 1, ticket: 0, ask: Ask::Hello(hello) });
    machine
}
