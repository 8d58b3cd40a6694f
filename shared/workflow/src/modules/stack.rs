//! `stack`: what a named deployment knows of itself, kept in the host's state store.

use std::rc::Rc;

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use super::{
    Context,
    call::{Builder, Call, Gate},
    state::Overlay,
};
use crate::{
    Level, Stream,
    capability::Capability,
    host::{StateOperation, StateReply},
    vm::convert::{Foreign, object_to_lua, to_json, to_lua},
};

/// Where the machine keeps the name that the file gave.
const REGISTRY: &str = "sloth.stack";
/// What the keys of all stacks begin with in the state store.
const PREFIX: &str = "stack/";
/// Most bytes of the name of a stack, an output, or a resource's type or name.
const NAME_BYTES_MAX: usize = 128;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let gate = Gate::Needs(Capability::State);
    let table = Builder::new(lua, context, "stack")?
        .function("get_name", Gate::Open, |call, (): &()| name(call))?
        .function("get_id", Gate::Open, |call, (): &()| {
            Ok(blake3::hash(name(call)?.as_bytes()).to_hex()[..16].to_owned())
        })?
        .function("get_status", Gate::Open, |call, (): &()| Ok(if call.checking() { "checking" } else { "running" }))?
        .asynchronous("set_output", gate, set_output)?
        .asynchronous("get_output", gate, get_output)?
        .asynchronous("outputs", gate, outputs)?
        .asynchronous("register_resource", gate, register_resource)?
        .asynchronous("get_resource", gate, get_resource)?
        .asynchronous("update_resource", gate, update_resource)?
        .asynchronous("delete_resource", gate, delete_resource)?
        .asynchronous("resource_exists", gate, |call, (kind, name): (Value, Value)| async move {
            Ok(get(&call, resource_key(&call, &kind, &name)?).await?.is_some())
        })?
        .asynchronous("list_resources", gate, list_resources)?
        .unfinished();
    // `stack("name")` at the head of a file.
    let call = lua.create_function(|lua, (module, name): (Table, Value)| {
        let name = name.as_string().map(mlua::LuaString::to_string_lossy).filter(|name| is_name(name));
        let name = name.ok_or_else(|| mlua::Error::runtime(wrong_name()))?;
        lua.set_named_registry_value(REGISTRY, name)?;
        Ok(module)
    })?;
    table.set_metatable(Some(lua.create_table_from([("__call", call)])?))?;
    table.set_readonly(true);
    Ok(table)
}

fn wrong_name() -> String {
    format!("stack: a name takes 1 to {NAME_BYTES_MAX} bytes without control characters")
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control)
}

/// The name that the file gave, or the run, or the file's own.
fn name(call: &Call) -> mlua::Result<String> {
    if let Ok(Some(name)) = call.lua.named_registry_value::<Option<String>>(REGISTRY) {
        return Ok(name);
    }
    let given = call.context.settings.stack.clone().filter(|name| is_name(name));
    Ok(given.unwrap_or_else(|| "default".to_owned()))
}

async fn set_output(call: Call, (key, value): (Value, Value)) -> mlua::Result<bool> {
    let key = output_key(&call, &key)?;
    let value = value_of(&call, &value)?;
    set(&call, key, value).await?;
    Ok(true)
}

/// The value; without one nothing and why.
async fn get_output(call: Call, key: Value) -> mlua::Result<MultiValue> {
    let full = output_key(&call, &key)?;
    answer(&call, get(&call, full).await?, || {
        format!("the stack has no output `{}`", key.to_string().unwrap_or_default())
    })
}

async fn outputs(call: Call, (): ()) -> mlua::Result<Table> {
    let prefix = format!("{PREFIX}{}/outputs/", name(&call)?);
    let found = keys(&call, prefix.clone()).await?;
    let found = found.into_iter().map(|(key, value)| (key[prefix.len()..].to_owned(), value));
    object_to_lua(&call.lua, &found.collect())
}

/// `created`, `changed` or `unchanged`, and the resource.
async fn register_resource(call: Call, options: Value) -> mlua::Result<(String, Value)> {
    let options = call.table("resource", &options)?;
    for pair in options.pairs::<Value, Value>() {
        let (key, _) = pair?;
        if !key.as_string().is_some_and(|key| RESOURCE_KEYS.iter().any(|known| key == known)) {
            let key = key.to_string()?;
            return Err(call.error(format_args!("no option `{key}`; it takes {}", RESOURCE_KEYS.join(", "))));
        }
    }
    let own = |key: &str| options.raw_get::<Value>(key);
    let key = resource_key(&call, &own("type")?, &own("name")?)?;
    let properties = own("properties")?;
    let properties = if properties.is_nil() { json!({}) } else { value_of(&call, &properties)? };
    let digest = hex(&Sha256::digest(properties.to_string().as_bytes()));
    let before = get(&call, key.clone()).await?;
    let held = before.as_ref().and_then(|resource| resource["digest"].as_str());
    let word = match held {
        None => "created",
        Some(held) if held == digest => "unchanged",
        Some(_) => "changed",
    };
    let mut resource = before.and_then(|resource| resource.as_object().cloned()).unwrap_or_default();
    for (name, value) in [("type", own("type")?), ("name", own("name")?), ("module", own("module")?)] {
        if let Some(text) = call.optional_text(name, &value)? {
            resource.insert(name.to_owned(), Json::String(text));
        }
    }
    resource.insert("properties".to_owned(), properties);
    resource.insert("digest".to_owned(), Json::String(digest));
    if !own("dependencies")?.is_nil() {
        resource.insert("dependencies".to_owned(), value_of(&call, &own("dependencies")?)?);
    }
    let resource = Json::Object(resource);
    if word != "unchanged" {
        if call.checking() {
            let told = format!("would record the resource `{}` as {word}", key_tail(&key));
            call.context.would_change(&told);
            call.context.log(Stream::Log(Level::Info), &told);
        }
        put(&call, key, resource.clone()).await?;
    }
    Ok((word.to_owned(), to_lua(&call.lua, &resource)?))
}

const RESOURCE_KEYS: [&str; 5] = ["type", "name", "module", "properties", "dependencies"];

async fn get_resource(call: Call, (kind, name): (Value, Value)) -> mlua::Result<MultiValue> {
    let key = resource_key(&call, &kind, &name)?;
    let missing = format!("the stack has no resource `{}`", key_tail(&key));
    answer(&call, get(&call, key).await?, || missing)
}

/// Notes how a resource is: `state` and `error`.
async fn update_resource(call: Call, (kind, name, changes): (Value, Value, Value)) -> mlua::Result<MultiValue> {
    let key = resource_key(&call, &kind, &name)?;
    let changes = call.table("changes", &changes)?;
    let Some(Json::Object(mut resource)) = get(&call, key.clone()).await? else {
        let missing = format!("the stack has no resource `{}`: register it first", key_tail(&key));
        return (false, missing).into_lua_multi(&call.lua);
    };
    for pair in changes.pairs::<String, Value>() {
        let (field, value) = pair?;
        if !["state", "error"].contains(&field.as_str()) {
            return Err(call.error(format_args!("no field `{field}`; it takes `state` and `error`")));
        }
        resource.insert(field, value_of(&call, &value)?);
    }
    set(&call, key, Json::Object(resource)).await?;
    true.into_lua_multi(&call.lua)
}

/// Whether there was one.
async fn delete_resource(call: Call, (kind, name): (Value, Value)) -> mlua::Result<bool> {
    let key = resource_key(&call, &kind, &name)?;
    if call.checking() && get(&call, key.clone()).await?.is_some() {
        call.context.would_change(&format!("would forget the resource `{}`", key_tail(&key)));
    }
    match ask(&call, StateOperation::Delete { key }).await? {
        StateReply::Done(done) => Ok(done),
        other @ (StateReply::Value(_)
        | StateReply::Keys(_)
        | StateReply::Number(_)
        | StateReply::Lifetime(_)
        | StateReply::Stats(_)
        | StateReply::Place(_)) => Err(strange(&call, &other)),
    }
}

/// The resources, those of one type where it is given, in the order of their types and names.
async fn list_resources(call: Call, kind: Value) -> mlua::Result<Table> {
    let mut prefix = format!("{PREFIX}{}/resources/", name(&call)?);
    if let Some(kind) = call.optional_text("type", &kind)? {
        prefix.push_str(&kind);
        prefix.push('/');
    }
    let list = call.lua.create_table()?;
    for (_, resource) in keys(&call, prefix).await? {
        list.raw_push(to_lua(&call.lua, &resource)?)?;
    }
    Ok(list)
}

fn answer(call: &Call, found: Option<Json>, missing: impl FnOnce() -> String) -> mlua::Result<MultiValue> {
    match found {
        Some(value) => to_lua(&call.lua, &value)?.into_lua_multi(&call.lua),
        None => (Value::Nil, missing()).into_lua_multi(&call.lua),
    }
}

fn part(call: &Call, what: &str, value: &Value) -> mlua::Result<String> {
    let text = call.text(what, value)?;
    if !is_name(&text) || text.contains('/') {
        return Err(
            call.error(format_args!("`{what}` takes 1 to {NAME_BYTES_MAX} bytes without `/` and control characters"))
        );
    }
    Ok(text)
}

fn output_key(call: &Call, key: &Value) -> mlua::Result<String> {
    Ok(format!("{PREFIX}{}/outputs/{}", name(call)?, part(call, "key", key)?))
}

fn resource_key(call: &Call, kind: &Value, resource: &Value) -> mlua::Result<String> {
    let (kind, resource) = (part(call, "type", kind)?, part(call, "name", resource)?);
    Ok(format!("{PREFIX}{}/resources/{kind}/{resource}", name(call)?))
}

/// A resource as messages name it.
fn key_tail(key: &str) -> &str {
    key.split_once("/resources/").map_or(key, |(_, tail)| tail)
}

fn value_of(call: &Call, value: &Value) -> mlua::Result<Json> {
    to_json(&call.lua, value, Foreign::Refuse).map_err(|error| call.error(error))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn ask(call: &Call, operation: StateOperation) -> mlua::Result<StateReply> {
    let host = &call.context.host;
    // In a run that only checks, what would be written is seen by that run alone.
    let reply =
        if call.checking() { Overlay::of(&call.lua).apply(host, operation).await } else { host.state(operation).await };
    reply.map_err(|error| call.error(error))
}

async fn get(call: &Call, key: String) -> mlua::Result<Option<Json>> {
    match ask(call, StateOperation::Get { key }).await? {
        StateReply::Value(value) => Ok(value),
        other @ (StateReply::Keys(_)
        | StateReply::Number(_)
        | StateReply::Done(_)
        | StateReply::Lifetime(_)
        | StateReply::Stats(_)
        | StateReply::Place(_)) => Err(strange(call, &other)),
    }
}

async fn set(call: &Call, key: String, value: Json) -> mlua::Result<()> {
    if call.checking() {
        call.context.would_change(&format!("would set `{key}`"));
    }
    put(call, key, value).await
}

async fn put(call: &Call, key: String, value: Json) -> mlua::Result<()> {
    ask(call, StateOperation::Set { key, value, ttl: None }).await.map(drop)
}

async fn keys(call: &Call, prefix: String) -> mlua::Result<Vec<(String, Json)>> {
    match ask(call, StateOperation::Keys { prefix }).await? {
        StateReply::Keys(found) => Ok(found),
        other @ (StateReply::Value(_)
        | StateReply::Number(_)
        | StateReply::Done(_)
        | StateReply::Lifetime(_)
        | StateReply::Stats(_)
        | StateReply::Place(_)) => Err(strange(call, &other)),
    }
}

fn strange(call: &Call, reply: &StateReply) -> mlua::Error {
    call.error(format_args!("the state store answered something else: {reply:?}"))
}
