//! `metrics`: how busy the host is, and values that a run measures itself.
//!
//! What is measured belongs to the run: every task of it sees the same values.

mod registry;

use std::{collections::BTreeMap, path::PathBuf, rc::Rc, time::Duration};

use mlua::{Function, Lua, MultiValue, Table, Value};
use serde_json::{Map, Value as Json, json};

use self::registry::Registry;
use super::{
    Context,
    call::{Builder, Call, Gate, describe},
    event,
    options::Options,
    usage::{self, CpuTimes, Space},
};
use crate::{
    Level, SampleKind, Stream,
    capability::Capability,
    vm::{Fault, convert},
};

/// Between the two looks that tell how busy the processors are.
const CPU_SAMPLE_MS: u64 = 1000;
const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
/// From which percentage on something is worth a warning, and critical.
const CPU_PERCENT: (f64, f64) = (70.0, 90.0);
const MEMORY_PERCENT: (f64, f64) = (80.0, 90.0);
const DISK_PERCENT: (f64, f64) = (85.0, 95.0);

/// A value, or why there is none.
type Told<T> = mlua::Result<Result<T, String>>;

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let facts = Gate::Needs(Capability::Facts);
    let table = Builder::new(lua, context, "metrics")?
        .asynchronous("system_cpu", facts, |call, (): ()| async move { Ok(call.said(cpu().await)) })?
        .function("system_memory", facts, |call, (): &()| {
            json_of(
                call,
                usage::memory().map(|space| {
                    json!({
                        "used_mb": units(space.used, MIB), "total_mb": units(space.total, MIB),
                        "available_mb": units(space.available, MIB), "percent": space.percent(),
                    })
                }),
            )
        })?
        .asynchronous("system_disk", facts, system_disk)?
        .function("runtime_info", Gate::Open, runtime_info)?
        .function("gauge", Gate::Acting, |call, (name, value, tags): &(Value, Value, Value)| {
            let value = call.number("value", value)?;
            record(call, SampleKind::Gauge, name, tags, |_| value).map(|_| true)
        })?
        .function("counter", Gate::Acting, |call, (name, by, tags): &(Value, Value, Value)| {
            let by = if by.is_nil() { 1.0 } else { call.number("increment", by)? };
            if by < 0.0 {
                return Err(call.error("a counter only grows: measure what falls with `metrics.gauge`"));
            }
            record(call, SampleKind::Counter, name, tags, |before| before.unwrap_or(0.0) + by)
        })?
        .function("histogram", Gate::Acting, |call, (name, value, tags): &(Value, Value, Value)| {
            let value = call.number("value", value)?;
            record(call, SampleKind::Histogram, name, tags, |_| value).map(|_| true)
        })?
        .asynchronous("timer", Gate::Acting, timer)?
        .function("get_custom", Gate::Open, get_custom)?
        .function("list_custom", Gate::Open, |call, (): &()| Ok(Registry::with(&call.lua, |known| known.names())))?
        .asynchronous("alert", Gate::Acting, alert)?
        .asynchronous("health_status", facts, health_status)?
        .finish();
    Ok(table)
}

/// How busy the processors are, in percent. It takes a second to tell.
pub(super) async fn cpu() -> Result<f64, String> {
    let before = CpuTimes::now()?;
    tokio::time::sleep(Duration::from_millis(CPU_SAMPLE_MS)).await;
    Ok(CpuTimes::now()?.percent_since(before))
}

/// The space at `path`, read beside the run: a file system that hangs holds up no other task.
pub(super) async fn disk(path: PathBuf) -> Result<Space, String> {
    let read = tokio::task::spawn_blocking(move || usage::disk(&path)).await;
    read.map_err(|error| error.to_string()).and_then(|space| space)
}

async fn system_disk(call: Call, path: Value) -> Told<Value> {
    let path = if path.is_nil() { PathBuf::from("/") } else { call.path("path", &path)? };
    let space = disk(path).await;
    json_of(
        &call,
        space.map(|space| {
            json!({
                "used_gb": units(space.used, GIB), "total_gb": units(space.total, GIB),
                "free_gb": units(space.available, GIB), "percent": space.percent(),
            })
        }),
    )
}

/// What the run itself takes.
fn runtime_info(call: &Call, (): &()) -> mlua::Result<Table> {
    let table = call.lua.create_table()?;
    let goroutines = call.context.current.get().map_or(0, |scope| scope.goroutines());
    table.raw_set("goroutines", goroutines)?;
    table.raw_set("num_cpu", std::thread::available_parallelism().map_or(1, usize::from))?;
    table.raw_set("heap_alloc_mb", units(call.lua.used_memory() as u64, MIB))?;
    table.raw_set("heap_limit_mb", units(call.context.limits.memory_bytes as u64, MIB))?;
    table.raw_set("version", env!("CARGO_PKG_VERSION"))?;
    Ok(table)
}

/// Notes a value and hands it to the host. What is noted is answered.
fn record(
    call: &Call,
    kind: SampleKind,
    name: &Value,
    tags: &Value,
    value: impl FnOnce(Option<f64>) -> f64,
) -> mlua::Result<f64> {
    let (name, tags) = (name_of(call, name)?, tags_of(call, tags)?);
    let at = call.context.host.now();
    let task = call.context.current.get().and_then(|scope| scope.task.clone());
    let sample = Registry::with(&call.lua, |known| known.record(kind, name, tags, value, at, task));
    let sample = sample.map_err(|reason| call.error(reason))?;
    call.context.host.sample(&sample);
    Ok(sample.value)
}

/// How many milliseconds a function takes.
async fn timer(call: Call, (name, function, tags): (Value, Value, Value)) -> Told<f64> {
    let Value::Function(function) = function else {
        return Err(call.expected("fn", "a function", &function));
    };
    // Wrong arguments are told before the function has had its effect.
    let (_, _) = (name_of(&call, &name)?, tags_of(&call, &tags)?);
    let started = tokio::time::Instant::now();
    if let Err(error) = timed(&function).await {
        let reason = Fault::of(&call.lua, &error);
        return Ok(Err(format!("{}: the function failed: {}", call.name, reason.text())));
    }
    let ms = started.elapsed().as_secs_f64() * 1000.0;
    record(&call, SampleKind::Timer, &name, &tags, |_| ms).map(Ok)
}

async fn timed(function: &Function) -> mlua::Result<()> {
    function.call_async::<MultiValue>(()).await.map(drop)
}

fn get_custom(call: &Call, (name, tags): &(Value, Value)) -> mlua::Result<Value> {
    let name = name_of(call, name)?;
    let tags = if tags.is_nil() { None } else { Some(tags_of(call, tags)?) };
    match Registry::with(&call.lua, |known| known.get(&name, tags.as_ref())) {
        Some(found) => convert::to_lua(&call.lua, &found),
        None => Ok(Value::Nil),
    }
}

/// Tells people of something: a line of the log, and an event.
async fn alert(call: Call, (name, options): (Value, Value)) -> mlua::Result<bool> {
    let name = name_of(&call, &name)?;
    let table = call.table("options", &options)?;
    let mut fields = match convert::to_object(&call.lua, &table, convert::Foreign::Drop) {
        Ok(fields) => fields,
        Err(error) => return Err(call.error(error)),
    };
    let Some(message) = fields.get("message").and_then(Json::as_str).map(str::to_owned) else {
        return Err(call.error("`message` is missing: say what is the matter"));
    };
    let level = fields.get("level").and_then(Json::as_str).unwrap_or("warning").to_owned();
    fields.insert("level".to_owned(), level.clone().into());
    let shown = match level.as_str() {
        "info" => Level::Info,
        "error" | "critical" | "fatal" => Level::Error,
        _ => Level::Warn,
    };
    call.context.log(Stream::Log(shown), &format!("[ALERT] {level}: {message}"));
    let noted = Registry::with(&call.lua, |known| known.alert(&name, fields.clone(), call.context.host.now()));
    noted.map_err(|reason| call.error(reason))?;
    fields.insert("name".to_owned(), name.into());
    event::tell(&call, "alert", Json::Object(fields)).await.map_err(|reason| call.error(reason))?;
    Ok(true)
}

async fn health_status(call: Call, (): ()) -> Told<Value> {
    let (cpu, disk) = futures_util::future::join(cpu(), disk(PathBuf::from("/"))).await;
    let mut status = Map::new();
    let mut overall = Health::Healthy;
    for (name, usage, bounds) in [
        ("cpu", cpu, CPU_PERCENT),
        ("memory", usage::memory().map(Space::percent), MEMORY_PERCENT),
        ("disk", disk.map(Space::percent), DISK_PERCENT),
    ] {
        let usage = match usage {
            Ok(usage) => usage,
            Err(reason) => return Ok(Err(call.refusal(reason))),
        };
        let health = Health::of(usage, bounds);
        overall = overall.max(health);
        status.insert(name.to_owned(), json!({ "usage": usage, "status": health.as_str() }));
    }
    status.insert("overall".to_owned(), overall.as_str().into());
    status.insert("timestamp".to_owned(), registry::rfc3339(call.context.host.now()).into());
    json_of(&call, Ok(Json::Object(status)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Healthy,
    Warning,
    Critical,
}

impl Health {
    fn of(percent: f64, (warning, critical): (f64, f64)) -> Self {
        if critical < percent {
            Self::Critical
        } else if warning < percent {
            Self::Warning
        } else {
            Self::Healthy
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

fn name_of(call: &Call, name: &Value) -> mlua::Result<String> {
    let name = call.text("name", name)?;
    if name.is_empty() || registry::NAME_BYTES_MAX < name.len() {
        return Err(call.error(format_args!("`name` takes a text of 1 to {} bytes", registry::NAME_BYTES_MAX)));
    }
    Ok(name)
}

fn tags_of(call: &Call, tags: &Value) -> mlua::Result<BTreeMap<String, String>> {
    if tags.is_nil() {
        return Ok(BTreeMap::new());
    }
    if !tags.is_table() {
        return Err(call.error(format_args!("`tags` takes a table of names to texts, got {}", describe(tags))));
    }
    let table = call.lua.create_table_from([("tags", tags)])?;
    Options::new(call, &Value::Table(table), &["tags"])?.texts("tags")
}

fn json_of(call: &Call, outcome: Result<Json, String>) -> Told<Value> {
    match call.said(outcome) {
        Ok(value) => convert::to_lua(&call.lua, &value).map(Ok),
        Err(reason) => Ok(Err(reason)),
    }
}

/// With two digits.
fn units(bytes: u64, unit: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "two digits are all that anybody reads of it")]
    let units = bytes as f64 / unit;
    (units * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_part_is_the_whole() {
        assert_eq!(Health::of(70.0, CPU_PERCENT), Health::Healthy);
        assert_eq!(Health::of(70.1, CPU_PERCENT), Health::Warning);
        assert_eq!(Health::of(95.1, DISK_PERCENT), Health::Critical);
        assert_eq!(Health::Warning.max(Health::Healthy).as_str(), "warning");
    }
}
