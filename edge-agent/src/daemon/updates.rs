//! Updates of the agent: what the host has to say to them, and what its supervisor does and says.

use std::sync::Arc;

use sloth_core::Chain;
use sloth_protocol::{
    agent::{Event, UpdateOutcome, UpdateRules},
    update::{Proof, Request, Verdict, Version},
    wire::UpdateVerdict,
};
use tokio::{sync::mpsc, task::spawn_blocking};
use tracing::Instrument as _;

use super::Shared;
use crate::update::{
    self,
    control::{self, ControlError},
    rules::{self, Held},
};

/// The host's own word on updates.
pub(super) fn rules(shared: &Shared) -> UpdateRules {
    let settings = &shared.settings.update;
    let unsupervised = || {
        let reason =
            "this agent was not started with `sloth-agent supervise`, which alone can hand over to another version";
        reason.to_owned()
    };
    let (held, waits) = match rules::held(&shared.paths, settings, shared.clock.wall()) {
        _ if shared.supervised.is_none() => (Some(unsupervised()), None),
        Some(closed @ Held::Closed { .. }) => (None, Some(closed.to_string())),
        Some(held @ (Held::Hold | Held::Pinned { .. } | Held::Disabled)) => (Some(held.to_string()), None),
        None => (None, None),
    };
    let (bad, put_off) = update::status(&shared.paths).map_or_else(Default::default, |s| (s.bad, s.put_off));
    let bad = bad.into_iter().map(|bad| bad.version).collect();
    let put_off = put_off.map(|put_off| (put_off.version.clone(), put_off.to_string()));
    UpdateRules { held, waits, pin: settings.pin.clone(), channel: settings.channel.clone(), bad, put_off }
}

/// Has the supervisor hand over to a staged version.
pub(super) fn switch(shared: &Arc<Shared>, events: &mpsc::Sender<Event>, counter: u64, version: Version) {
    let (shared, events) = (Arc::clone(shared), events.clone());
    let task = async move {
        let asked = Arc::clone(&shared);
        let request = Request::Switch { version, proof: Proof::Polled };
        let answer = spawn_blocking(move || control::ask(&asked.paths.supervisor_socket(), &request)).await;
        let reason = match answer {
            Ok(Ok(answer)) => return tracing::info!(%answer, "the supervisor hands over"),
            Ok(Err(ControlError::Refused { why })) => why,
            Ok(Err(error)) => Chain(&error).to_string(),
            Err(error) => Chain(&error).to_string(),
        };
        let held = rules::is_held(&shared.paths);
        let verdict = if held { UpdateVerdict::Held } else { UpdateVerdict::Refused };
        // Without the loop there is nobody to tell.
        let _ = events.send(Event::UpdateFailed { counter, verdict, reason }).await;
    };
    tokio::spawn(task.in_current_span());
}

/// What the supervisor has to say of updates that are over, the oldest of it.
pub(super) fn outcome(shared: &Shared) -> Option<Event> {
    shared.supervised.as_ref()?;
    let update::UpdateOutcome { number, from, to, verdict, reason, log_tail, .. } = update::outcome(&shared.paths)?;
    let verdict = match verdict {
        Verdict::Confirmed => UpdateVerdict::Confirmed,
        Verdict::RolledBack => UpdateVerdict::RolledBack,
    };
    let (from, to) = (from.to_string(), to.to_string());
    Some(Event::UpdateOutcome(UpdateOutcome { number, from, to, verdict, reason, log_tail }))
}

/// Tells the supervisor that what it said is on the disk.
pub(super) fn acknowledge(shared: &Arc<Shared>, number: u64) {
    let shared = Arc::clone(shared);
    let task = async move {
        let acknowledged = spawn_blocking(move || update::acknowledge(&shared.paths, number)).await;
        if let Ok(Err(error)) = acknowledged {
            // It says it again, and it is not reported twice.
            tracing::debug!(error = %Chain(&error), "the supervisor does not hear that an outcome is stored");
        }
    };
    tokio::spawn(task.in_current_span());
}
