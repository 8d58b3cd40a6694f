//! `cron`: jobs that run by the clock, in the tables of users and in `/etc/cron.d`.

mod schedule;
mod table;
mod text;

use std::rc::Rc;

use mlua::{Lua, MultiValue, Table, Value};
use serde_json::{Value as Json, json};

use self::{
    table::Place,
    text::{Job, Text},
};
use super::{
    Context,
    call::{Builder, Call, Gate},
    options::Options,
    report::{Answer, Change, Report},
};
use crate::{capability::Capability, vm::convert};

/// What becomes of a table.
enum Edit {
    /// It is as it is wanted; the text says so.
    Nothing(String),
    /// It was edited: what that would do, and what it did.
    Done(String, String),
}

const PLACE: [&str; 3] = ["name", "user", "file"];
const ADD: [&str; 6] = ["name", "schedule", "command", "user", "file", "enabled"];

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let gate = Gate::Within(Capability::Cron);
    let whole = Gate::Needs(Capability::Cron);
    let table = Builder::new(lua, context, "cron")?
        .asynchronous("add", gate, add)?
        .asynchronous("remove", gate, remove)?
        .asynchronous("enable", gate, |call, arguments| switch(call, arguments, true))?
        .asynchronous("disable", gate, |call, arguments| switch(call, arguments, false))?
        .asynchronous("list", whole, list)?
        .asynchronous("exists", gate, exists)?
        .asynchronous("set_env", whole, set_env)?
        .asynchronous("remove_env", whole, remove_env)?
        .function("validate_schedule", Gate::Open, validate_schedule)?
        .finish();
    Ok(table)
}

async fn add(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &ADD, &[])?;
    let (name, place) = (name_of(&call, &options)?, Place::read(&call, &options)?);
    let schedule = options.required("schedule")?;
    schedule::check(&schedule).map_err(|reason| call.error(reason))?;
    let command = one_line(&call, &options, "command")?;
    let schedule = schedule.split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted = Job { name: name.clone(), schedule, command, user: place.column(), enabled: true };
    let enabled = options.flag("enabled")?;
    let outcome = change(&call, &place, |text| {
        let known = text.find(&name);
        let enabled = enabled.unwrap_or_else(|| known.as_ref().is_none_or(|job| job.enabled));
        let wanted = Job { enabled, ..wanted };
        let (would, did) = match known {
            Some(job) if job == wanted => {
                return Ok(Edit::Nothing(format!("{} is there already (idempotent)", place.job(&name))));
            }
            Some(_) => ("change", "changed"),
            None => ("add", "added"),
        };
        text.put(&wanted);
        Ok(Edit::Done(format!("{would} {}", place.job(&name)), format!("{did} {}", place.job(&name))))
    });
    Ok(call.answer(outcome.await))
}

async fn remove(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &PLACE, &[])?;
    let (name, place) = (name_of(&call, &options)?, Place::read(&call, &options)?);
    let outcome = change(&call, &place, |text| {
        if text.find(&name).is_none() {
            return Ok(Edit::Nothing(format!("{} is not there (idempotent)", place.job(&name))));
        }
        text.remove(&name);
        Ok(Edit::Done(format!("remove {}", place.job(&name)), format!("removed {}", place.job(&name))))
    });
    Ok(call.answer(outcome.await))
}

async fn switch(call: Call, arguments: MultiValue, enabled: bool) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &PLACE, &[])?;
    let (name, place) = (name_of(&call, &options)?, Place::read(&call, &options)?);
    let (would, did) = if enabled { ("enable", "enabled") } else { ("disable", "disabled") };
    let outcome = change(&call, &place, |text| match text.find(&name) {
        // In a run that only checks, a task before this one may have added it.
        None if call.checking() => Ok(Edit::Done(format!("{would} {}", place.job(&name)), String::new())),
        None => Err(format!("{} is not there", place.job(&name))),
        Some(job) if job.enabled == enabled => {
            Ok(Edit::Nothing(format!("{} is {did} already (idempotent)", place.job(&name))))
        }
        Some(job) => {
            text.put(&Job { enabled, ..job });
            Ok(Edit::Done(format!("{would} {}", place.job(&name)), format!("{did} {}", place.job(&name))))
        }
    });
    Ok(call.answer(outcome.await))
}

/// The jobs of a table, those of others as well: they have no name.
async fn list(call: Call, arguments: MultiValue) -> mlua::Result<Result<Value, String>> {
    let options = Options::named(&call, &arguments, &["user", "file"], &[])?;
    let place = Place::read(&call, &options)?;
    match place.text(&call).await {
        Ok(text) => {
            let jobs = Text::new(&text, place.is_file()).jobs().into_iter().map(|job| {
                json!({
                    "name": job.name,
                    "schedule": job.schedule,
                    "command": job.command,
                    "user": job.user.unwrap_or_else(|| place.user().to_owned()),
                    "enabled": job.enabled,
                })
            });
            convert::to_lua(&call.lua, &jobs.collect::<Json>()).map(Ok)
        }
        Err(reason) => Ok(Err(call.refusal(reason))),
    }
}

/// Whether there is one, or nothing and why that is not known.
async fn exists(call: Call, arguments: MultiValue) -> mlua::Result<MultiValue> {
    let options = Options::named(&call, &arguments, &PLACE, &[])?;
    let (name, place) = (name_of(&call, &options)?, Place::read(&call, &options)?);
    call.shown(place.text(&call).await, |text| Ok(Text::new(text, place.is_file()).find(&name).is_some()))
}

async fn set_env(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &["name", "value", "user", "file"], &[])?;
    let (name, place) = (variable(&call, &options)?, Place::read(&call, &options)?);
    let value = options.text("value")?.ok_or_else(|| call.error("`value` is missing"))?;
    if value.contains(['\n', '\r', '\0']) {
        return Err(call.error("`value` must be one line"));
    }
    let outcome = change(&call, &place, |text| {
        if text.variable(&name).is_some_and(|known| known == value) {
            return Ok(Edit::Nothing(format!("`{name}` is set in {place} already (idempotent)")));
        }
        text.set_variable(&name, &value);
        Ok(Edit::Done(format!("set `{name}` in {place}"), format!("set `{name}` in {place}")))
    });
    Ok(call.answer(outcome.await))
}

async fn remove_env(call: Call, arguments: MultiValue) -> mlua::Result<Answer> {
    let options = Options::named(&call, &arguments, &PLACE, &[])?;
    let (name, place) = (variable(&call, &options)?, Place::read(&call, &options)?);
    let outcome = change(&call, &place, |text| {
        if text.variable(&name).is_none() {
            return Ok(Edit::Nothing(format!("`{name}` is not set in {place} (idempotent)")));
        }
        text.remove_variable(&name);
        Ok(Edit::Done(format!("remove `{name}` from {place}"), format!("removed `{name}` from {place}")))
    });
    Ok(call.answer(outcome.await))
}

/// Whether it is a schedule, and what is wrong with it.
fn validate_schedule(call: &Call, arguments: &MultiValue) -> mlua::Result<(bool, String)> {
    let options = Options::named(call, arguments, &["schedule"], &[])?;
    let schedule = options.text("schedule")?.ok_or_else(|| call.error("`schedule` is missing"))?;
    Ok(match schedule::check(&schedule) {
        Ok(()) => (true, "the schedule is valid".to_owned()),
        Err(reason) => (false, reason),
    })
}

/// Changes a table by `edit`.
async fn change(
    call: &Call,
    place: &Place,
    edit: impl FnOnce(&mut Text) -> Result<Edit, String>,
) -> Result<Report, String> {
    let before = place.text(call).await?;
    let mut text = Text::new(&before, place.is_file());
    match edit(&mut text)? {
        Edit::Nothing(message) => Ok(Report::unchanged(message)),
        Edit::Done(would, did) => {
            let after = text.finish();
            let diff = super::diff::unified(&place.to_string(), before.as_bytes(), after.as_bytes());
            Change::new(would, did).diff(diff).apply_async(call, place.replace(call, &after)).await
        }
    }
}

fn name_of(call: &Call, options: &Options<'_>) -> mlua::Result<String> {
    let name = one_line(call, options, "name")?;
    call.permit(Capability::Cron, &name)?;
    Ok(name)
}

fn one_line(call: &Call, options: &Options<'_>, option: &str) -> mlua::Result<String> {
    let text = options.required(option)?;
    if text.contains(['\n', '\r', '\0']) {
        return Err(call.error(format_args!("`{option}` must be one line: a second one would be another job")));
    }
    let text = text.trim().to_owned();
    if text.is_empty() { Err(call.error(format_args!("`{option}` is empty"))) } else { Ok(text) }
}

fn variable(call: &Call, options: &Options<'_>) -> mlua::Result<String> {
    let name = options.required("name")?;
    let begins = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    if begins && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        return Ok(name);
    }
    Err(call.error(format_args!("`{name}` cannot be the name of an environment variable")))
}
