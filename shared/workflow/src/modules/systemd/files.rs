//! Unit files of the host's own: `/etc/systemd/system`.

use std::path::{Path, PathBuf};

use mlua::MultiValue;
use sloth_core::{error::Chain, fs::Access};

use super::{
    effect, query, systemctl, unit,
    unit::{SERVICE, TIMER},
    verbs::Verb,
};
use crate::modules::{
    call::Call,
    diff,
    options::Options,
    report::{Answer, Change, Report},
    tool::Tool,
};

const DIR: &str = "/etc/systemd/system";
/// There is a manager where this is.
const BOOTED: &str = "/run/systemd/system";
/// Most bytes of a unit file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

pub(super) async fn create_service(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &SERVICE[..1], &SERVICE[1..])?;
    let name = unit(&call, &options.required("name")?, "service")?;
    let text = match content(&call, &options)? {
        Some(text) => text,
        None => unit::service(&call, &options)?,
    };
    Ok(call.answer(put(&call, &name, &text).await))
}

pub(super) async fn create_timer(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &TIMER[..1], &TIMER[1..])?;
    let name = unit(&call, &options.required("name")?, "timer")?;
    if !name.ends_with(".timer") {
        return Err(call.error(format_args!("`{name}` is not the name of a timer")));
    }
    let text = match content(&call, &options)? {
        Some(text) => text,
        None => unit::timer(&call, &options)?,
    };
    for calendar in options.list("on_calendar")?.unwrap_or_default() {
        if let Err(reason) = check_calendar(&call, &calendar).await {
            return Ok(call.answer(Err(reason)));
        }
    }
    Ok(call.answer(put(&call, &name, &text).await))
}

pub(super) async fn create_unit(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &["name", "content"], &[])?;
    let name = options.required("name")?;
    let name = unit(&call, &name, "service")?;
    let text = content(&call, &options)?.ok_or_else(|| call.error("`content` is missing"))?;
    Ok(call.answer(put(&call, &name, &text).await))
}

/// Stops, disables and removes a unit whose file is the host's own.
pub(super) async fn remove(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let name = super::only(&call, &arguments)?;
    let path = path(&name);
    if std::fs::symlink_metadata(&path).is_err() {
        let outcome = match query::enabled(&call, &name).await {
            Ok(state) if state.is_there && !state.is_masked() => {
                Err(format!("`{name}` does not come from {DIR}: a package brought it, remove that, or mask the unit"))
            }
            Ok(_) | Err(_) => Ok(Report::unchanged(format!("there is no unit `{name}`"))),
        };
        return Ok(call.answer(outcome));
    }
    let removal = async {
        if Path::new(BOOTED).exists() {
            effect(&call, [Verb::Stop.name(), "--", &name]).await?;
        }
        effect(&call, [Verb::Disable.name(), "--", &name]).await?;
        std::fs::remove_file(&path).map_err(|error| format!("cannot remove `{}`: {error}", path.display()))?;
        reload_manager(&call).await?;
        // That it once failed is of no interest any more; it need not have.
        let _ = systemctl(&call, ["reset-failed", "--", &name]).await;
        Ok(())
    };
    let shown = path.display();
    let change = Change::new(format!("stop, disable and remove `{shown}`"), format!("removed `{shown}`"));
    Ok(call.answer(change.apply_async(&call, removal).await))
}

pub(super) async fn daemon_reload(call: Call, (): ()) -> mlua::Result<Answer> {
    let change = Change::new("have systemd read its units again", "had systemd read its units again");
    Ok(call.answer(change.apply_async(&call, effect(&call, ["daemon-reload"])).await))
}

/// The text that is given whole.
fn content(call: &Call, options: &Options<'_>) -> mlua::Result<Option<String>> {
    let Some(text) = options.text("content")? else { return Ok(None) };
    if text.contains('\0') || !text.lines().any(|line| line.trim_start().starts_with('[')) {
        return Err(call.error("`content` takes the text of a unit file, with sections like `[Service]`"));
    }
    Ok(Some(if text.ends_with('\n') { text } else { format!("{text}\n") }))
}

async fn put(call: &Call, name: &str, text: &str) -> Result<Report, String> {
    let path = path(name);
    let shown = path.display().to_string();
    let before = match sloth_core::fs::read_capped(&path, FILE_BYTES_MAX) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(Chain(&error).to_string()),
    };
    if before.as_deref() == Some(text.as_bytes()) {
        return Ok(Report::unchanged(format!("`{shown}` is as wanted already")).with("path", shown));
    }
    let (would, did) = if before.is_some() { ("change", "changed") } else { ("create", "created") };
    let diff = diff::unified(&shown, &before.unwrap_or_default(), text.as_bytes());
    let write = async {
        sloth_core::fs::replace(&path, text.as_bytes(), Access::Everyone).map_err(|error| Chain(&error).to_string())?;
        reload_manager(call).await
    };
    let change = Change::new(format!("{would} `{shown}`"), format!("{did} `{shown}`")).diff(diff);
    Ok(change.apply_async(call, write).await?.with("path", shown))
}

/// Has the manager read its units again. Where none runs, as in an image that is being built, there is nothing to do.
async fn reload_manager(call: &Call) -> Result<(), String> {
    match effect(call, ["daemon-reload"]).await {
        Err(_) if !Path::new(BOOTED).exists() => Ok(()),
        outcome => outcome,
    }
}

/// Asks the host's systemd whether it takes a time, where it can be asked.
async fn check_calendar(call: &Call, calendar: &str) -> Result<(), String> {
    const CHECKER: &str = "systemd-analyze";
    if !Tool::exists(call, CHECKER) {
        return Ok(());
    }
    let output = Tool::new(call, CHECKER).args(["calendar", "--", calendar]).run().await?;
    if output.success() {
        Ok(())
    } else {
        Err(format!("`{calendar}` is not a time that systemd takes for `on_calendar`"))
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}
