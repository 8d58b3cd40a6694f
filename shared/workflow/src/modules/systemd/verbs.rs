//! What is done to a unit.

use mlua::MultiValue;

use super::{
    effect, only,
    query::{self, State},
};
use crate::modules::{
    call::Call,
    report::{Answer, Change, Report},
};

/// One thing that is done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Start,
    Stop,
    Restart,
    Reload,
    Enable,
    Disable,
    Mask,
    Unmask,
}

impl Verb {
    pub(super) const ALL: [Self; 8] =
        [Self::Start, Self::Stop, Self::Restart, Self::Reload, Self::Enable, Self::Disable, Self::Mask, Self::Unmask];

    /// As `systemctl` calls it, and scripts.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Mask => "mask",
            Self::Unmask => "unmask",
        }
    }

    const fn past(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Stop => "stopped",
            Self::Restart => "restarted",
            Self::Reload => "reloaded",
            Self::Enable => "enabled",
            Self::Disable => "disabled",
            Self::Mask => "masked",
            Self::Unmask => "unmasked",
        }
    }

    /// Why there is nothing to do, where there is not.
    fn done(self, state: &State) -> Option<String> {
        let unit = &state.unit;
        match self {
            Self::Start if state.is_active() => Some(format!("`{unit}` is running already")),
            Self::Stop if state.is_stopped() => Some(format!("`{unit}` is not running ({})", state.active)),
            Self::Enable if state.enabled == "enabled" => Some(format!("`{unit}` is enabled already")),
            Self::Enable if state.has_nothing_to_enable() => {
                Some(format!("`{unit}` is {}: there is nothing to enable", state.enabled))
            }
            Self::Disable if !state.is_enabled() || state.has_nothing_to_enable() => {
                Some(format!("`{unit}` is not enabled ({})", state.enabled))
            }
            Self::Mask if state.is_masked() => Some(format!("`{unit}` is masked already")),
            Self::Unmask if !state.is_masked() => Some(format!("`{unit}` is not masked")),
            Self::Start
            | Self::Stop
            | Self::Restart
            | Self::Reload
            | Self::Enable
            | Self::Disable
            | Self::Mask
            | Self::Unmask => None,
        }
    }

    /// Whether it can be done to a unit that is not there.
    const fn needs_unit(self) -> bool {
        match self {
            Self::Start | Self::Stop | Self::Restart | Self::Reload | Self::Enable | Self::Disable => true,
            Self::Mask | Self::Unmask => false,
        }
    }

    /// Whether it needs the unit to run.
    const fn needs_manager(self) -> bool {
        match self {
            Self::Start | Self::Stop | Self::Restart | Self::Reload => true,
            Self::Enable | Self::Disable | Self::Mask | Self::Unmask => false,
        }
    }
}

/// Does it to the unit that the arguments name.
pub(super) async fn act(call: Call, arguments: MultiValue, verb: Verb) -> mlua::Result<Answer> {
    let unit = only(&call, &arguments)?;
    Ok(call.answer(perform(&call, &unit, verb).await))
}

pub(super) async fn perform(call: &Call, unit: &str, verb: Verb) -> Result<Report, String> {
    let state = if verb.needs_manager() { query::running(call, unit).await } else { query::enabled(call, unit).await };
    let state = state?;
    let name = verb.name();
    if !state.is_there && verb.needs_unit() {
        // In a run that only checks, a task before this one may have made it.
        if call.checking() {
            return Change::new(format!("{name} `{unit}`, which is not there yet"), "").apply(call, || Ok(()));
        }
        return Err(format!("there is no unit `{unit}`"));
    }
    if let Some(message) = verb.done(&state) {
        return Ok(Report::unchanged(message));
    }
    if verb == Verb::Reload && !state.is_active() && !call.checking() {
        return Err(format!("`{unit}` is not running ({}): start it instead", state.active));
    }
    Change::new(format!("{name} `{unit}`"), format!("{} `{unit}`", verb.past()))
        .apply_async(call, effect(call, [name, "--", unit]))
        .await
}
