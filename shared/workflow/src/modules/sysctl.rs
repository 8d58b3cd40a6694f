//! `sysctl`: settings of the kernel, read and written below `/proc/sys`.

mod key;
mod settings;
mod tree;

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use mlua::{Lua, MultiValue, Table};
use serde_json::{Value as Json, json};
use sloth_core::{error::Chain, fs::Access};

use self::{key::Key, settings::Setting};
use super::{
    Context,
    call::{Builder, Call, Gate},
    diff,
    options::Options,
    report::{Answer, Change, Report},
};
use crate::{capability::Capability, vm::convert};

/// Where settings go that outlive a restart, when the caller does not say.
const OWN_FILE: &str = "/etc/sysctl.d/99-sloth.conf";
/// What `sysctl -p` reads.
const MAIN_FILE: &str = "/etc/sysctl.conf";
/// Where files of settings may be: nothing else is written or read.
const DIRS: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
/// Most bytes of a file of settings.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let gate = Gate::Within(Capability::Sysctl);
    let whole = Gate::Needs(Capability::Sysctl);
    let table = Builder::new(lua, context, "sysctl")?
        .function("get", gate, get)?
        .function("exists", gate, |call, arguments: &MultiValue| Ok(key_of(call, arguments)?.path().is_file()))?
        .function("set", gate, set)?
        .function("set_persistent", gate, set_persistent)?
        .function("remove_persistent", gate, remove_persistent)?
        .asynchronous("list", whole, list)?
        .asynchronous("reload", whole, reload)?
        .asynchronous("apply", whole, apply)?
        .finish();
    Ok(table)
}

/// The value, or nothing and why.
fn get(call: &Call, arguments: &MultiValue) -> mlua::Result<Result<String, String>> {
    Ok(call.said(key_of(call, arguments)?.read()))
}

fn set(call: &Call, arguments: &MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(call, arguments, &["name", "value"], &[])?;
    let (key, value) = (read_key(call, &options)?, read_value(call, &options)?);
    Ok(call.answer(set_now(call, &key, &value)))
}

fn set_persistent(call: &Call, arguments: &MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(call, arguments, &["name", "value", "file"], &[])?;
    let (key, value) = (read_key(call, &options)?, read_value(call, &options)?);
    let file = read_file(call, &options, OWN_FILE)?;
    Ok(call.answer(keep(call, &key, &value, &file)))
}

fn remove_persistent(call: &Call, arguments: &MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(call, arguments, &["name", "file"], &[])?;
    let key = read_key(call, &options)?;
    let file = read_file(call, &options, OWN_FILE)?;
    let removed = settings_text(&file).and_then(|before| {
        let after = settings::without(&before, &key);
        let shown = file.display();
        if before == after {
            return Ok(Report::unchanged(format!("`{key}` is not in `{shown}`")));
        }
        Change::new(format!("remove `{key}` from `{shown}`"), format!("removed `{key}` from `{shown}`"))
            .diff(diff::unified(&shown.to_string(), before.as_bytes(), after.as_bytes()))
            .apply(call, || write_settings(&file, &after))
    });
    Ok(call.answer(removed))
}

/// The settings of the kernel whose names hold a text, as `{name, value}`.
async fn list(call: Call, arguments: MultiValue) -> mlua::Result<Result<mlua::Value, String>> {
    let pattern = Options::named(&call, &arguments, &["pattern"], &[])?.text("pattern")?.unwrap_or_default();
    let wanted = pattern.replace('/', ".");
    let listed = tokio::task::spawn_blocking(move || tree::all(|name| name.contains(&wanted))).await;
    match listed {
        Ok(found) => {
            let found = found.into_iter().map(|(name, value)| json!({ "name": name, "value": value }));
            convert::to_lua(&call.lua, &found.collect::<Json>()).map(Ok)
        }
        Err(error) => Ok(Err(call.refusal(error))),
    }
}

/// Sets what a file says.
async fn reload(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &["file"], &[])?;
    let file = read_file(&call, &options, MAIN_FILE)?;
    let text =
        if file.is_file() { settings_text(&file) } else { Err(format!("there is no file `{}`", file.display())) };
    let outcome = match text {
        Ok(text) => set_all(&call, settings::parse(&text)).await,
        Err(reason) => Err(reason),
    };
    Ok(call.answer(outcome))
}

/// Sets what all files say, as at the start of the host.
async fn apply(call: Call, (): ()) -> mlua::Result<Answer> {
    let read = |files: Vec<PathBuf>| -> Result<Vec<Setting>, String> {
        let mut all = Vec::new();
        for file in files {
            all.extend(settings::parse(&settings_text(&file)?));
        }
        Ok(all)
    };
    let outcome = match tree::files(&DIRS, MAIN_FILE).and_then(read) {
        Ok(all) => set_all(&call, all).await,
        Err(reason) => Err(reason),
    };
    Ok(call.answer(outcome))
}

async fn set_all(call: &Call, wanted: Vec<Setting>) -> Result<Report, String> {
    let planned = tokio::task::spawn_blocking(move || settings::differing(&wanted)).await;
    let planned = planned.map_err(|error| error.to_string())?;
    let (mut reports, mut refused) = (Vec::new(), Vec::new());
    for setting in planned {
        match set_now(call, &setting.key, &setting.value) {
            Ok(report) => reports.push(report),
            Err(reason) if setting.optional => call.context.warn(&call.refusal(reason)),
            Err(reason) => refused.push(reason),
        }
    }
    match (refused.is_empty(), reports.is_empty()) {
        (false, _) => Err(refused.join("; ")),
        (true, true) => Ok(Report::unchanged("every setting has its value already")),
        (true, false) => Ok(Report::together(reports)),
    }
}

fn set_now(call: &Call, key: &Key, value: &str) -> Result<Report, String> {
    let before = key.read()?;
    if same(&before, value) {
        return Ok(Report::unchanged(format!("`{key}` is `{before}` already (idempotent)")));
    }
    Change::new(
        format!("set `{key}` to `{value}`, which is `{before}`"),
        format!("set `{key}` to `{value}`, which was `{before}`"),
    )
    .apply(call, || key.write(value))
}

/// Sets it now, and in a file for the next start.
fn keep(call: &Call, key: &Key, value: &str, file: &Path) -> Result<Report, String> {
    let before = settings_text(file)?;
    let after = settings::with(&before, key, value);
    let live = set_now(call, key, value)?;
    let shown = file.display();
    if before == after {
        return if live.is_changed() {
            Ok(live)
        } else {
            Ok(Report::unchanged(format!("`{key}` is `{value}` already, also in `{shown}` (idempotent)")))
        };
    }
    Change::new(
        format!("keep `{key} = {value}` in `{shown}`"),
        format!("set `{key}` to `{value}` and kept it in `{shown}`"),
    )
    .diff(diff::unified(&shown.to_string(), before.as_bytes(), after.as_bytes()))
    .apply(call, || write_settings(file, &after))
}

/// The kernel separates the parts of a value with tabs, people with spaces.
fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

fn key_of(call: &Call, arguments: &MultiValue) -> mlua::Result<Key> {
    read_key(call, &Options::named(call, arguments, &["name"], &[])?)
}

fn read_key(call: &Call, options: &Options<'_>) -> mlua::Result<Key> {
    let name = options.required("name")?;
    let key = Key::parse(&name).ok_or_else(|| {
        call.error(format_args!("`{name}` cannot be the name of a setting: write it like `net.ipv4.ip_forward`"))
    })?;
    call.permit(Capability::Sysctl, &key.to_string())?;
    Ok(key)
}

fn read_value(call: &Call, options: &Options<'_>) -> mlua::Result<String> {
    let value = options.required("value")?;
    if value.contains(['\n', '\r', '\0']) {
        return Err(call.error("`value` must be one line"));
    }
    Ok(value.trim().to_owned())
}

/// A file of settings: one that this capability is not for must not be written through it.
fn read_file(call: &Call, options: &Options<'_>, default: &str) -> mlua::Result<PathBuf> {
    let Some(file) = options.path("file")? else { return Ok(default.into()) };
    let is_in_dir = file.parent().is_some_and(|parent| DIRS.iter().any(|dir| parent == Path::new(dir)));
    let is_conf = file.extension().is_some_and(|extension| extension == "conf");
    if file == Path::new(MAIN_FILE) || is_in_dir && is_conf {
        return Ok(file);
    }
    Err(call.error(format_args!(
        "`file` takes `{MAIN_FILE}` or a file like `{OWN_FILE}`, got `{}`: the kernel's settings are read from nowhere else",
        file.display()
    )))
}

/// What a file of settings holds; nothing when there is none.
fn settings_text(file: &Path) -> Result<String, String> {
    match sloth_core::fs::read_capped(file, FILE_BYTES_MAX) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| format!("`{}` is not a text", file.display())),
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(Chain(&error).to_string()),
    }
}

fn write_settings(file: &Path, text: &str) -> Result<(), String> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).map_err(|error| format!("cannot create `{}`: {error}", dir.display()))?;
    }
    sloth_core::fs::replace(file, text.as_bytes(), Access::Everyone).map_err(|error| Chain(&error).to_string())
}
