//! An agent as most tests of its machine have it.

use sloth_core::{AgentId, Labels, Millis};
use sloth_protocol::{
    agent::{Config, Pacing, Updates},
    wire::Platform,
};
use sloth_trust::{Envelope, RootPin};

/// Trusts `root`, begins at `from` with a certificate of a day and runs one thing at a time.
pub(crate) fn agent_config(from: Millis, root: &Envelope) -> Config {
    Config {
        id: AgentId::new(from, 1),
        name: "web-1".to_owned(),
        host_labels: Labels::new(),
        enrolled_labels: Labels::new(),
        version: "0.1.0".to_owned(),
        platform: Platform::default(),
        root: root.encode(),
        root_pin: RootPin::of(&root.payload),
        certificate_from: from,
        certificate_until: from + Millis::from_secs(86_400),
        pacing: Pacing::Hold(Millis::from_secs(60)),
        runs_max: 1,
        outbox_bytes_max: [2000, 1000],
        updates: Updates::default(),
    }
}
