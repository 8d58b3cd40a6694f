//! The life of one watcher: it waits, looks, and tells.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use mlua::{Function, MultiValue, WeakLua};

use super::{Watchers, condition::Rules, probe::Probe, probe::Seen, settings::Kind};
use crate::{
    limits::HOOK_TIMEOUT_MS,
    modules::{
        Scope,
        call::{Call, Site},
        event,
        scope::Busy,
    },
    vm::Fault,
};

/// A watcher at work.
pub(super) struct Turn {
    id: String,
    kind: Kind,
    probe: Probe,
    rules: Rules,
    handler: Option<Function>,
    lua: WeakLua,
    site: Site,
    /// The scope that registered it, whose directory, user and name it keeps.
    of: Option<Rc<Scope>>,
    seen: Option<Seen>,
    busy: Option<Busy>,
    /// What went wrong at the last look: it is told once, not at each.
    fault: Option<String>,
}

impl Turn {
    pub(super) fn new(
        call: &Call,
        id: String,
        kind: Kind,
        probe: Probe,
        rules: Rules,
        handler: Option<Function>,
    ) -> Self {
        let of = call.context.current.get().map(|scope| Rc::new(copy(call, &scope)));
        let (lua, site, busy) = (call.lua.weak(), call.site(), Some(call.context.current.busy()));
        Self { id, kind, probe, rules, handler, lua, site, of, seen: None, busy, fault: None }
    }

    /// The look that later ones are compared with. What holds already is told at the first turn.
    pub(super) async fn first(&mut self, call: &Call) {
        let seen = self.probe.look(call).await;
        self.seen = self.noted(call, seen);
    }

    /// Goes on until it is stopped or the machine is gone.
    pub(super) async fn run(mut self, interval: Duration) {
        // As long as it looks, a handler may wake whoever waits.
        let _busy = self.busy.take();
        if let (Some(first), Some(lua)) = (self.seen.take(), self.lua.try_upgrade()) {
            let call = self.site.call(&lua);
            self.told(&call, first).await;
        }
        loop {
            tokio::time::sleep(interval).await;
            let Some(lua) = self.lua.try_upgrade() else { return };
            let call = self.site.call(&lua);
            self.turn(&call).await;
        }
    }

    /// Looks, tells, and is cut off when that takes too long.
    async fn turn(&mut self, call: &Call) {
        let seen = {
            let look = self.probe.look(call);
            bounded(call, self.of.as_deref(), look).await.unwrap_or_else(|| Err(slow("looking")))
        };
        if let Some(seen) = self.noted(call, seen) {
            self.told(call, seen).await;
        }
    }

    /// Tells what follows from a look, and keeps it.
    async fn told(&mut self, call: &Call, seen: Seen) {
        let happenings = self.rules.happenings(self.kind, self.seen.as_ref(), &seen);
        self.seen = Some(seen);
        for happening in happenings {
            let mut data = happening.data;
            data.insert("watcher".to_owned(), self.id.as_str().into());
            if let Some((name, value)) = self.probe.told() {
                data.insert(name.to_owned(), value);
            }
            let told = tell(call, &self.id, &happening.kind, data, self.handler.as_ref());
            let ended = bounded(call, self.of.as_deref(), told).await;
            if let Some(reason) = ended.unwrap_or_else(|| Err(slow("handling an event"))).err() {
                self.warn(call, &reason);
            }
        }
    }

    /// What was seen; what went wrong is a warning, once.
    fn noted(&mut self, call: &Call, seen: Result<Seen, String>) -> Option<Seen> {
        match seen {
            Ok(seen) => {
                self.fault = None;
                Some(seen)
            }
            Err(reason) => {
                if self.fault.as_ref() != Some(&reason) {
                    self.warn(call, &reason);
                }
                self.fault = Some(reason);
                None
            }
        }
    }

    fn warn(&self, call: &Call, reason: &str) {
        let told = || call.context.warn(&format!("the {} watcher `{}`: {reason}", self.kind.as_str(), self.id));
        match &self.of {
            Some(scope) => call.context.current.with(scope, told),
            None => told(),
        }
    }
}

/// Tells the run and the host of it, and then the watcher's own handler.
async fn tell(
    call: &Call,
    id: &str,
    kind: &str,
    data: serde_json::Map<String, serde_json::Value>,
    handler: Option<&Function>,
) -> Result<(), String> {
    let event = event::tell(call, kind, data.into()).await?;
    Watchers::with(&call.lua, |watchers| watchers.happened(id, event.clone()));
    let Some(handler) = handler else { return Ok(()) };
    let shown = event::to_lua(&call.lua, &event).map_err(|error| error.to_string())?;
    let handled = handler.call_async::<MultiValue>(shown).await;
    handled.map(drop).map_err(|error| format!("its handler failed: {}", Fault::of(&call.lua, &error).text()))
}

/// `future` in a scope of its own, which ends with it or when its time is over.
async fn bounded<T>(call: &Call, of: Option<&Scope>, future: impl Future<Output = T>) -> Option<T> {
    let Some(of) = of else { return Some(future.await) };
    let (context, scope) = (&call.context, Rc::new(copy(call, of)));
    let running = context.current.enter(Rc::clone(&scope), future);
    let ended = tokio::time::timeout(Duration::from_millis(HOOK_TIMEOUT_MS), running).await.ok();
    scope.stop();
    if ended.is_none() {
        context.processes.kill(scope.id).await;
    }
    ended
}

/// A scope like another, for the time of a hook from now on.
fn copy(call: &Call, of: &Scope) -> Scope {
    let deadline = Instant::now() + Duration::from_millis(HOOK_TIMEOUT_MS);
    let mut scope = Scope::new(call.context.current.next_scope(), of.task.clone(), of.workdir.clone(), deadline);
    scope.env.clone_from(&of.env);
    scope.user.clone_from(&of.user);
    scope
}

fn slow(doing: &str) -> String {
    format!("{doing} was ended after {} seconds", HOOK_TIMEOUT_MS / 1000)
}
