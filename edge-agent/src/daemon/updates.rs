//! Updates of the agent: what the host has to say to them, and who hands over.

use sloth_protocol::{
    agent::{Event, UpdateRules},
    wire::UpdateVerdict,
};
use sloth_trust::Version;
use tokio::sync::mpsc;

/// The host's own word on updates.
pub(super) fn rules() -> UpdateRules {
    UpdateRules::default()
}

/// Has the supervisor hand over to a staged version.
pub(super) fn switch(events: &mpsc::Sender<Event>, counter: u64, version: &Version) {
    let reason = format!("version {version} is on the disk, and this agent has no supervisor that could start it");
    let event = Event::UpdateFailed { counter, verdict: UpdateVerdict::Held, reason };
    let events = events.clone();
    tokio::spawn(async move {
        // Without the loop there is nobody to tell.
        let _ = events.send(event).await;
    });
}
