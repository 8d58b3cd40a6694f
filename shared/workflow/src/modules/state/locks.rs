//! Locks: held by a run, waited for in turn, and lost with the run.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use mlua::Value;
use sloth_core::Millis;
use tokio::time::{Instant, sleep};

use super::Storage;
use crate::{
    host::{Holder, Place, StateOperation},
    limits,
    modules::{Scope, call::Call},
    process,
};

/// How soon a lock is asked for again; each time is twice as long, up to the greatest.
const POLL_MS: u64 = 5;
const POLL_MS_MAX: u64 = 100;

/// The locks that this run holds, by name.
#[derive(Default)]
pub(super) struct Held(RefCell<BTreeMap<String, Holding>>);

struct Holding {
    id: String,
    task: Option<String>,
    scope: Option<std::rc::Weak<Scope>>,
    /// When it is lost.
    until: Option<Instant>,
}

impl Holding {
    fn is_lost(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Whether an earlier attempt at the same task left it behind.
    fn is_left_to(&self, call: &Call) -> bool {
        let over = |scope: &std::rc::Weak<Scope>| scope.upgrade().is_none_or(|scope| scope.is_over());
        self.scope.as_ref().is_none_or(over) && self.task == task(call)
    }
}

/// Whether the lock was free.
pub(super) async fn try_lock(
    call: Call,
    storage: Rc<Storage>,
    (name, ttl): (Value, Value),
) -> mlua::Result<(bool, Option<String>)> {
    let name = super::key_of(&call, "name", &name)?;
    let ttl = optional_span(&call, "ttl", &ttl)?;
    if storage.held.take_over(&call, &name) {
        return Ok((true, None));
    }
    let holder = holder(&call);
    let place = ask(&call, &storage, &name, &holder, ttl, Wait::No).await?;
    if place.ahead == 0 {
        storage.held.note(&call, &name, holder.id, ttl);
        return Ok((true, None));
    }
    Ok((false, Some(taken(&name, &place))))
}

/// Waits for the lock, for as long as `timeout` says.
pub(super) async fn lock(
    call: Call,
    storage: Rc<Storage>,
    (name, timeout, ttl): (Value, Value, Value),
) -> mlua::Result<(bool, Option<String>)> {
    let name = super::key_of(&call, "name", &name)?;
    let (timeout, ttl) = (optional_span(&call, "timeout", &timeout)?, optional_span(&call, "ttl", &ttl)?);
    if storage.held.take_over(&call, &name) {
        return Ok((true, None));
    }
    let began = Instant::now();
    let holder = holder(&call);
    let mut pause = POLL_MS;
    loop {
        let place = ask(&call, &storage, &name, &holder, ttl, Wait::Yes).await?;
        if place.ahead == 0 {
            storage.held.note(&call, &name, holder.id, ttl);
            return Ok((true, None));
        }
        let left = timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            storage.done(&call, StateOperation::Unlock { name: name.clone(), id: holder.id }).await?;
            return Ok((false, Some(taken(&name, &place))));
        }
        let wait = Duration::from_millis(pause);
        sleep(left.map_or(wait, |left| wait.min(left))).await;
        pause = (2 * pause).min(POLL_MS_MAX);
    }
}

/// Gives the lock back: whether this run held it.
pub(super) async fn unlock(call: Call, storage: Rc<Storage>, name: Value) -> mlua::Result<(bool, Option<String>)> {
    let name = super::key_of(&call, "name", &name)?;
    let held = storage.held.0.borrow_mut().remove(&name);
    let given = match held {
        Some(holding) => storage.done(&call, StateOperation::Unlock { name: name.clone(), id: holding.id }).await?,
        None => false,
    };
    let reason = (!given).then(|| format!("{}: this run does not hold the lock `{name}`", call.name));
    Ok((given, reason))
}

impl Held {
    fn note(&self, call: &Call, name: &str, id: String, ttl: Option<Duration>) {
        let scope = call.context.current.get().map(|scope| Rc::downgrade(&scope));
        let until = ttl.map(|ttl| limits::deadline(ttl).into());
        self.0.borrow_mut().insert(name.to_owned(), Holding { id, task: task(call), scope, until });
    }

    /// Whether the task has the lock already, by an earlier attempt that did not give it back.
    fn take_over(&self, call: &Call, name: &str) -> bool {
        let mut held = self.0.borrow_mut();
        let Some(holding) = held.get_mut(name).filter(|holding| !holding.is_lost() && holding.is_left_to(call)) else {
            return false;
        };
        holding.scope = call.context.current.get().map(|scope| Rc::downgrade(&scope));
        true
    }
}

/// Whether to stand in the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

async fn ask(
    call: &Call,
    storage: &Storage,
    name: &str,
    holder: &Holder,
    ttl: Option<Duration>,
    wait: Wait,
) -> mlua::Result<Place> {
    let (name, holder, ttl) = (name.to_owned(), holder.clone(), ttl.map(Millis::from));
    storage.place(call, StateOperation::Lock { name, holder, ttl, wait: wait == Wait::Yes }).await
}

fn holder(call: &Call) -> Holder {
    let process = std::process::id();
    let id = format!("{:032x}", call.context.host.random());
    Holder { id, run: call.context.run_id.clone(), process, started: process::started(process) }
}

fn taken(name: &str, place: &Place) -> String {
    match &place.held_by {
        Some(holder) => format!("the lock `{name}` is held by run {} (process {})", holder.run, holder.process),
        None => format!("the lock `{name}` is held"),
    }
}

fn task(call: &Call) -> Option<String> {
    call.context.current.get().and_then(|scope| scope.task.as_ref().map(ToString::to_string))
}

fn optional_span(call: &Call, argument: &str, value: &Value) -> mlua::Result<Option<Duration>> {
    if value.is_nil() { Ok(None) } else { call.duration(argument, value).map(Some) }
}
