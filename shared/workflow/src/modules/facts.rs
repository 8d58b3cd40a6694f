//! `facts`: what the host is and what it has.

mod collect;
mod packages;
mod services;

use std::{rc::Rc, time::Duration};

use mlua::{Lua, Table, Value};
use serde_json::Value as Json;

use super::{
    Context,
    call::{Builder, Call, Gate},
    options::Options,
    pkg::{Manager, outdated},
};
use crate::capability::Capability;

/// How long the system may take to tell a fact.
const GATHER_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads facts.
type Collect = fn() -> Result<Json, String>;

/// Answers with JSON, or with why it cannot.
type Answer = mlua::Result<Result<Value, String>>;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let gate = Gate::Needs(Capability::Facts);
    let mut builder = Builder::new(lua, context, "facts")?;
    let whole: [(&str, Collect); 10] = [
        ("get_hostname", || Ok(collect::hostname())),
        ("get_platform", || Ok(collect::platform())),
        ("get_memory", collect::memory),
        ("get_cpu", collect::cpu),
        ("get_kernel", || Ok(collect::kernel())),
        ("get_load", collect::load),
        ("get_uptime", collect::uptime),
        ("get_mounts", collect::disks),
        ("get_users", || Ok(collect::users())),
        ("get_processes", collect::processes),
    ];
    for (name, collect) in whole {
        builder = builder.asynchronous(name, gate, move |call, options: Value| async move {
            let _ = local(&call, &options, &[])?;
            answer(&call, gather(collect).await)
        })?;
    }
    let table = builder
        .asynchronous("get_disk", gate, |call, options| pick(call, options, "mountpoint", collect::disks))?
        .asynchronous("get_network", gate, |call, options| pick(call, options, "interface", collect::networks))?
        .asynchronous("get_user", gate, get_user)?
        .asynchronous("get_packages", gate, get_packages)?
        .asynchronous("get_package", gate, get_package)?
        .asynchronous("get_services", gate, get_services)?
        .asynchronous("get_service", gate, get_service)?
        .asynchronous("get_all", gate, get_all)?
        .asynchronous("query", gate, query)?
        .unfinished();
    let fields = lua.create_table_from([("__index", field(lua, context)?)])?;
    fields.set_readonly(true);
    table.set_metatable(Some(fields))?;
    table.set_readonly(true);
    Ok(table)
}

/// Reads `facts.os` and others that are written without a call. They come from small files, so nobody waits for them.
fn field(lua: &Lua, context: &Rc<Context>) -> mlua::Result<mlua::Function> {
    let context = Rc::clone(context);
    lua.create_function(move |lua, (_, name): (Table, Value)| {
        let name = name.as_string().map(|name| name.to_string_lossy()).unwrap_or_default();
        let fact = match name.as_str() {
            "os" | "platform" => collect::platform,
            "hostname" => collect::hostname,
            "kernel" => collect::kernel,
            _ => return Ok(Value::Nil),
        };
        context.allow(Capability::Facts, &format!("facts.{name}"))?;
        crate::vm::convert::to_lua(lua, &fact())
    })
}

/// Reads the options. A host knows its own facts only.
fn local<'a>(call: &'a Call, options: &Value, known: &[&str]) -> mlua::Result<Options<'a>> {
    let known = [&["agent"], known].concat();
    let options = Options::new(call, options, &known)?;
    let agent = options.text("agent")?;
    match agent.as_deref() {
        None | Some("" | "local" | "localhost") => Ok(options),
        Some(name) if name == call.context.agent.name => Ok(options),
        Some(name) => Err(call.error(format_args!(
            "this host does not know the facts of agent `{name}`: delegate the task to it and ask there"
        ))),
    }
}

fn answer(call: &Call, facts: Result<Json, String>) -> Answer {
    match facts {
        Ok(facts) => crate::vm::convert::to_lua(&call.lua, &facts).map(Ok),
        Err(error) => Ok(Err(call.refusal(error))),
    }
}

/// Reads facts beside the run: a file system that hangs, or a long list of processes, holds up no other task.
async fn gather(collect: impl FnOnce() -> Result<Json, String> + Send + 'static) -> Result<Json, String> {
    let gathered = tokio::time::timeout(GATHER_TIMEOUT, tokio::task::spawn_blocking(collect)).await;
    match gathered {
        Ok(Ok(facts)) => facts,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the system does not tell within {} seconds", GATHER_TIMEOUT.as_secs())),
    }
}

/// The whole list, or its one entry that an option names.
async fn pick(call: Call, options: Value, key: &'static str, collect: Collect) -> Answer {
    let wanted = local(&call, &options, &[key])?.text(key)?;
    let list = gather(collect).await;
    let Some(wanted) = wanted else { return answer(&call, list) };
    let by = if key == "interface" { "name" } else { key };
    let found = list.and_then(|list| entry(&list, by, &wanted).ok_or_else(|| format!("there is no {key} `{wanted}`")));
    answer(&call, found)
}

async fn get_user(call: Call, options: Value) -> Answer {
    let wanted = name_of(&call, &options, "username")?;
    let users = gather(|| Ok(collect::users())).await;
    let found =
        users.and_then(|list| entry(&list, "username", &wanted).ok_or_else(|| format!("there is no user `{wanted}`")));
    answer(&call, found)
}

/// The name that an option must give. It may be given alone too.
fn name_of(call: &Call, options: &Value, key: &str) -> mlua::Result<String> {
    let named = options.is_table() || options.is_nil();
    let wanted = if named { local(call, options, &[key])?.text(key)? } else { Some(call.text(key, options)?) };
    wanted.ok_or_else(|| call.error(format_args!("`{key}` is missing")))
}

fn entry(list: &Json, key: &str, wanted: &str) -> Option<Json> {
    list.as_array()?.iter().find(|entry| entry[key] == wanted).cloned()
}

/// The packages; with `updates = true` also what could be newer, as far as the host's index knows.
async fn get_packages(call: Call, options: Value) -> Answer {
    let wants_updates = local(&call, &options, &["updates"])?.flag("updates")?.unwrap_or(false);
    let mut packages = packages::installed(&call).await;
    if let (Ok(packages), true) = (&mut packages, wants_updates) {
        let newer = match Manager::detect(&call) {
            Ok(manager) => outdated(&call, manager, &[]).await,
            Err(reason) => Err(reason),
        };
        match newer {
            Ok(newer) => {
                packages["updates_available"] = newer.len().into();
                packages["updates"] = newer.into();
            }
            Err(reason) => return answer(&call, Err(reason)),
        }
    }
    answer(&call, packages)
}

async fn get_package(call: Call, options: Value) -> Answer {
    let wanted = name_of(&call, &options, "name")?;
    answer(&call, packages::one(&call, &wanted).await)
}

async fn get_services(call: Call, options: Value) -> Answer {
    let _ = local(&call, &options, &[])?;
    answer(&call, services::all(&call).await)
}

async fn get_service(call: Call, options: Value) -> Answer {
    let wanted = name_of(&call, &options, "name")?;
    let wanted = wanted.strip_suffix(".service").unwrap_or(&wanted);
    let services = services::all(&call).await;
    let found =
        services.and_then(|list| entry(&list, "name", wanted).ok_or_else(|| format!("there is no service `{wanted}`")));
    answer(&call, found)
}

async fn get_all(call: Call, options: Value) -> Answer {
    let _ = local(&call, &options, &[])?;
    answer(&call, everything(&call).await)
}

/// One fact by its path in `get_all`, such as `memory.total`. Nothing else is collected.
async fn query(call: Call, options: Value) -> Answer {
    let path = name_of(&call, &options, "path")?;
    let (section, rest) = path.split_once('.').unwrap_or((&path, ""));
    let pointer: String = rest.split('.').filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect();
    let (agent, section) = (call.context.agent.clone(), section.to_owned());
    let found = gather(move || collect::section(&agent, &section)).await;
    let found = found.map(|section| section.pointer(&pointer).filter(|fact| !fact.is_null()).cloned());
    answer(&call, found.and_then(|found| found.ok_or_else(|| format!("there is no fact `{path}`"))))
}

async fn everything(call: &Call) -> Result<Json, String> {
    let agent = call.context.agent.clone();
    gather(move || collect::all(&agent)).await
}

/// The network interfaces of this host.
pub(super) fn interfaces() -> Result<Json, String> {
    collect::networks()
}
