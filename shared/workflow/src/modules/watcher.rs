//! `watcher`: looks at files, processes, ports and more again and again while the run lasts, and tells what happens.
//!
//! A watcher belongs to the run, not to the task that registers it: it goes on after that, and ends with the run. It keeps
//! no run alive.

mod condition;
mod probe;
mod settings;
mod turn;

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

use self::settings::{Kind, Settings};
use super::{
    Context, Phase,
    call::{Builder, Call, Gate},
    crypto::random::uuid_of,
    event,
};
use crate::Event;

/// Most watchers of a run.
const WATCHERS_MAX: usize = 256;
/// How many events of a watcher wait for `watcher.wait`; older ones go.
const EVENTS_KEPT: usize = 256;
/// How long `watcher.wait` waits when it is not said.
const WAIT: Duration = Duration::from_secs(60);

pub(super) fn module(lua: &Lua, context: &Rc<Context>) -> mlua::Result<Table> {
    let table = Builder::new(lua, context, "watcher")?
        .value("register", register_table(lua, context, "watcher.register")?)?
        .function("stop", Gate::Acting, |call, id: &Value| {
            let id = call.text("id", id)?;
            Ok(Watchers::with(&call.lua, |watchers| watchers.stop(&id)))
        })?
        .function("list", Gate::Open, list)?
        .asynchronous("wait", Gate::Acting, wait)?
        .finish();
    Ok(table)
}

/// The functions that register watchers, one for each kind.
pub(super) fn register_table(lua: &Lua, context: &Rc<Context>, module: &'static str) -> mlua::Result<Table> {
    let mut builder = Builder::new(lua, context, module)?;
    for kind in Kind::ALL {
        builder = builder.asynchronous(kind.as_str(), Gate::Open, move |call, options: Value| async move {
            register(call, kind, options).await
        })?;
    }
    Ok(builder.finish())
}

/// Ends every watcher of a machine. When it resolves, nothing of them runs any more.
pub(super) async fn end(lua: &Lua) {
    let running = lua.app_data_mut::<Watchers>().map(|mut watchers| std::mem::take(&mut watchers.running));
    if let Some(mut running) = running {
        running.shutdown().await;
    }
}

/// Registers a watcher and gives its identifier. The first look is taken at once, so that what happens from now on is
/// seen. Where the file is only read for its plan, the options are checked and nothing is watched.
async fn register(call: Call, kind: Kind, options: Value) -> mlua::Result<String> {
    let id = uuid_of(call.context.host.random());
    let settings = Settings::read(&call, kind, &options)?;
    if call.context.phase == Phase::Plan {
        return Ok(id);
    }
    if Watchers::with(&call.lua, |watchers| WATCHERS_MAX <= watchers.known.len()) {
        return Err(
            call.error(format_args!("a run has {WATCHERS_MAX} watchers at most: stop some with `watcher.stop`"))
        );
    }
    let Settings { probe, rules, interval, handler, name } = settings;
    let told = Rc::new(Notify::new());
    let entry = Entry {
        kind,
        name,
        interval,
        when: rules.names(),
        events: 0,
        waiting: VecDeque::new(),
        told: Rc::clone(&told),
        running: None,
    };
    if call.checking() && kind == Kind::Command {
        call.context.log(
            crate::Stream::Log(crate::Level::Info),
            "would watch a command: it is not run in a run that only checks",
        );
        Watchers::with(&call.lua, |watchers| watchers.known.insert(id.clone(), entry));
        return Ok(id);
    }
    let mut turn = turn::Turn::new(&call, id.clone(), kind, probe, rules, handler);
    turn.first(&call).await;
    Watchers::with(&call.lua, |watchers| {
        watchers.known.insert(id.clone(), entry);
        let running = watchers.running.spawn_local(turn.run(interval));
        if let Some(entry) = watchers.known.get_mut(&id) {
            entry.running = Some(running);
        }
    });
    Ok(id)
}

fn list(call: &Call, (): &()) -> mlua::Result<Table> {
    let list = call.lua.create_table()?;
    let rows = Watchers::with(&call.lua, |watchers| {
        watchers.known.iter().map(|(id, entry)| entry.row(id)).collect::<Vec<_>>()
    });
    for row in rows {
        let table = call.lua.create_table()?;
        table.raw_set("id", row.id)?;
        table.raw_set("type", row.kind.as_str())?;
        table.raw_set("name", row.name)?;
        table.raw_set("interval", row.interval.as_secs_f64())?;
        table.raw_set("when", row.when)?;
        table.raw_set("events", row.events)?;
        list.raw_push(table)?;
    }
    Ok(list)
}

/// The next event of a watcher that nobody has waited for yet; `nil` and why when none comes in time.
async fn wait(call: Call, (id, timeout): (Value, Value)) -> mlua::Result<MultiValue> {
    let id = call.text("id", &id)?;
    let timeout = if timeout.is_nil() { WAIT } else { call.duration("timeout", &timeout)? };
    match tokio::time::timeout(timeout, next(&call.lua, &id)).await {
        Ok(Some(event)) => event::to_lua(&call.lua, &event)?.into_lua_multi(&call.lua),
        Ok(None) => (Value::Nil, format!("{}: there is no watcher `{id}`, or it was stopped", call.name))
            .into_lua_multi(&call.lua),
        Err(_) => {
            let limit = humantime::format_duration(timeout);
            (Value::Nil, format!("{}: nothing happened within {limit}", call.name)).into_lua_multi(&call.lua)
        }
    }
}

async fn next(lua: &Lua, id: &str) -> Option<Event> {
    loop {
        let told = Watchers::with(lua, |watchers| watchers.known.get(id).map(|entry| Rc::clone(&entry.told)))?;
        // Armed before the look, so that what comes in between is not missed.
        let told = told.notified();
        let waiting = Watchers::with(lua, |watchers| watchers.known.get_mut(id)?.waiting.pop_front());
        if waiting.is_some() {
            return waiting;
        }
        told.await;
    }
}

/// The watchers of a run. They live in the machine.
#[derive(Default)]
struct Watchers {
    known: BTreeMap<String, Entry>,
    running: JoinSet<()>,
}

struct Entry {
    kind: Kind,
    name: Option<String>,
    interval: Duration,
    when: Vec<&'static str>,
    /// How many it has told.
    events: u64,
    waiting: VecDeque<Event>,
    told: Rc<Notify>,
    running: Option<AbortHandle>,
}

/// What a list says of a watcher.
struct Row {
    id: String,
    kind: Kind,
    name: Option<String>,
    interval: Duration,
    when: Vec<&'static str>,
    events: u64,
}

impl Watchers {
    fn with<T>(lua: &Lua, f: impl FnOnce(&mut Self) -> T) -> T {
        if let Some(mut watchers) = lua.app_data_mut::<Self>() {
            return f(&mut watchers);
        }
        let mut watchers = Self::default();
        let result = f(&mut watchers);
        lua.set_app_data(watchers);
        result
    }

    fn stop(&mut self, id: &str) -> bool {
        let Some(entry) = self.known.remove(id) else { return false };
        if let Some(running) = entry.running {
            running.abort();
        }
        entry.told.notify_waiters();
        while self.running.try_join_next().is_some() {}
        true
    }

    /// Keeps an event for whoever waits for it.
    fn happened(&mut self, id: &str, event: Event) {
        let Some(entry) = self.known.get_mut(id) else { return };
        entry.events += 1;
        entry.waiting.push_back(event);
        if EVENTS_KEPT < entry.waiting.len() {
            entry.waiting.pop_front();
        }
        entry.told.notify_waiters();
    }
}

impl Entry {
    fn row(&self, id: &str) -> Row {
        Row {
            id: id.to_owned(),
            kind: self.kind,
            name: self.name.clone(),
            interval: self.interval,
            when: self.when.clone(),
            events: self.events,
        }
    }
}
