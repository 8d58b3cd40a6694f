//! What is known of units.

use mlua::{IntoLuaMulti, MultiValue};

use super::{only, reason, systemctl};
use crate::modules::{call::Call, options::Options, tool::Tool};

/// How many lines of a log are shown when the caller does not say.
const LOG_LINES: u64 = 100;
/// Most lines of a log that are shown.
const LOG_LINES_MAX: u64 = 10_000;

/// What is known of a unit. What was not asked for is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) unit: String,
    pub(super) is_there: bool,
    /// systemd's word: `active`, `inactive`, `failed`, `activating`, …
    pub(super) active: String,
    /// systemd's word: `enabled`, `disabled`, `static`, `masked`, …
    pub(super) enabled: String,
}

impl State {
    pub(super) fn is_active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }

    pub(super) fn is_masked(&self) -> bool {
        self.enabled.starts_with("masked")
    }

    /// Whether it starts with the host, or when something asks for it.
    pub(super) fn is_enabled(&self) -> bool {
        matches!(self.enabled.as_str(), "enabled" | "enabled-runtime" | "linked" | "linked-runtime" | "alias")
            || self.has_nothing_to_enable()
    }

    /// Whether others decide when it starts.
    pub(super) fn has_nothing_to_enable(&self) -> bool {
        matches!(self.enabled.as_str(), "static" | "generated" | "transient" | "indirect")
    }
}

/// Whether a unit runs, as the manager knows it.
pub(super) async fn running(call: &Call, unit: &str) -> Result<State, String> {
    let output = systemctl(call, ["show", "--property=LoadState,ActiveState", "--", unit]).await?;
    if !output.success() {
        return Err(reason(&output));
    }
    let property = |name: &str| {
        let found = output.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_default().to_owned()
    };
    let is_there = property("LoadState") != "not-found";
    Ok(State { unit: unit.to_owned(), is_there, active: property("ActiveState"), ..State::default() })
}

/// Whether a unit is enabled, as its files say: that is known without the manager, too.
pub(super) async fn enabled(call: &Call, unit: &str) -> Result<State, String> {
    let output = systemctl(call, ["is-enabled", "--", unit]).await?;
    let enabled = output.stdout.trim().to_owned();
    let is_missing = enabled == "not-found" || output.stderr.contains("No such file or directory");
    if enabled.is_empty() && !is_missing {
        return Err(reason(&output));
    }
    let enabled = if is_missing { "not-found".to_owned() } else { enabled };
    Ok(State { unit: unit.to_owned(), is_there: !is_missing, enabled, ..State::default() })
}

/// Whether it runs, and systemd's word for it.
pub(super) async fn is_active(call: Call, arguments: MultiValue) -> mlua::Result<(bool, String)> {
    let unit = only(&call, &arguments)?;
    Ok(match running(&call, &unit).await {
        Ok(state) if !state.is_there => (false, "not-found".to_owned()),
        Ok(state) => (state.is_active(), state.active),
        Err(reason) => (false, call.refusal(reason)),
    })
}

/// Whether it is enabled, and systemd's word for it.
pub(super) async fn is_enabled(call: Call, arguments: MultiValue) -> mlua::Result<(bool, String)> {
    let unit = only(&call, &arguments)?;
    Ok(match enabled(&call, &unit).await {
        Ok(state) => (state.is_enabled(), state.enabled),
        Err(reason) => (false, call.refusal(reason)),
    })
}

/// What `systemctl status` prints, also for a unit that does not run.
pub(super) async fn status(call: Call, arguments: MultiValue) -> mlua::Result<MultiValue> {
    let unit = only(&call, &arguments)?;
    let output = systemctl(&call, ["status", "--no-pager", "--full", "--", &unit]).await;
    match output {
        // The exit code says how the unit is; nothing on its output, that there is none.
        Ok(output) if !output.stdout.is_empty() => output.stdout.into_lua_multi(&call.lua),
        Ok(output) => ("", format!("{}: {}", call.name, reason(&output))).into_lua_multi(&call.lua),
        Err(reason) => ("", call.refusal(reason)).into_lua_multi(&call.lua),
    }
}

/// A unit's properties, one `Name=value` a line; one of them, its value alone.
pub(super) async fn show(call: Call, arguments: MultiValue) -> mlua::Result<MultiValue> {
    let options = Options::named(&call, &arguments, &["name", "property"], &[])?;
    let unit = super::unit_of(&call, &options)?;
    let property = options.text("property")?;
    if property.as_ref().is_some_and(|name| !name.chars().all(|letter| letter.is_ascii_alphanumeric())) {
        return Err(call.error("`property` takes a name like `MainPID`"));
    }
    let mut arguments = vec!["show".to_owned(), "--no-pager".to_owned()];
    if let Some(property) = &property {
        arguments.extend([format!("--property={property}"), "--value".to_owned()]);
    }
    arguments.extend(["--".to_owned(), unit]);
    let shown = match systemctl(&call, arguments).await {
        Ok(output) if output.success() => Ok(output.stdout),
        Ok(output) => Err(reason(&output)),
        Err(reason) => Err(reason),
    };
    let text = shown.map(|text| if property.is_some() { text.trim_end().to_owned() } else { text });
    call.said(text).into_lua_multi(&call.lua)
}

/// The end of a unit's log.
pub(super) async fn logs(call: Call, arguments: MultiValue) -> mlua::Result<MultiValue> {
    let options = Options::named(&call, &arguments, &["name", "lines"], &[])?;
    let unit = super::unit_of(&call, &options)?;
    let lines = options.integer("lines", 1, LOG_LINES_MAX)?.unwrap_or(LOG_LINES).to_string();
    let arguments = ["--no-pager", "--quiet", "--output=short-iso", "--lines", &lines, "--unit", &unit];
    let text = match Tool::new(&call, "journalctl").args(arguments).run().await {
        Ok(output) => output.ok(),
        Err(reason) => Err(reason),
    };
    call.said(text).into_lua_multi(&call.lua)
}

/// The services that systemd knows, as a table of text.
pub(super) async fn list_services(call: Call, arguments: MultiValue) -> mlua::Result<MultiValue> {
    let options = Options::named(&call, &arguments, &["state"], &["no_header"])?;
    let state = options.text("state")?;
    if state.as_ref().is_some_and(|state| !state.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-')) {
        return Err(call.error("`state` takes a word like `running` or `failed`"));
    }
    let mut arguments = vec!["list-units".to_owned(), "--type=service".to_owned(), "--all".to_owned()];
    arguments.extend(["--plain", "--no-pager", "--full"].map(str::to_owned));
    arguments.extend(state.map(|state| format!("--state={state}")));
    if options.flag("no_header")?.unwrap_or(false) {
        arguments.push("--no-legend".to_owned());
    }
    let text = match systemctl(&call, arguments).await {
        Ok(output) if output.success() => Ok(output.stdout),
        Ok(output) => Err(reason(&output)),
        Err(reason) => Err(reason),
    };
    call.said(text).into_lua_multi(&call.lua)
}
