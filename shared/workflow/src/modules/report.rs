//! What a function that changes the host does, says and answers.
//!
//! Such a function looks first, answers [`Report::unchanged`] when there is nothing to do, and else makes a [`Change`]
//! and applies it. Applied in a run that only checks, it says what it would do and does nothing.

use mlua::{IntoLua, IntoLuaMulti, Lua, MultiValue, Value};
use serde_json::{Map, Value as Json};

use super::{
    call::Call,
    context::Phase,
    foreseen,
    spoken::{Voice, speak},
};
use crate::{
    Level, Stream,
    vm::{convert, location},
};

/// Something that is to be changed.
#[derive(Debug, Clone)]
pub(super) struct Change {
    would: String,
    did: String,
    diff: Option<String>,
}

/// What a function that may change the host answers: a table with `changed` and `message`, and more where the
/// function's documentation says so. It speaks as its message.
#[derive(Debug, Clone)]
pub(super) struct Report {
    changed: bool,
    message: String,
    fields: Map<String, Json>,
}

/// The answer of such a function: `result, result`, or `false` and why.
///
/// Old files take the first as a success flag and the second as a table or as a text; this is all three.
pub(super) struct Answer(pub(super) Result<Report, String>);

impl Change {
    /// `would` completes *would …*, as in ``install `nginx` ``; `did` is a sentence about the past, as in
    /// ``installed `nginx` ``.
    pub(super) fn new(would: impl Into<String>, did: impl Into<String>) -> Self {
        Self { would: would.into(), did: did.into(), diff: None }
    }

    /// Shows the lines that differ.
    pub(super) fn diff(self, diff: String) -> Self {
        Self { diff: Some(diff).filter(|diff| !diff.is_empty()), ..self }
    }

    /// Does it by `action`, unless the run only checks.
    pub(super) fn apply(self, call: &Call, action: impl FnOnce() -> Result<(), String>) -> Result<Report, String> {
        if !call.checking() {
            action()?;
        }
        Ok(self.told(call))
    }

    /// As [`Self::apply`], for what waits.
    pub(super) async fn apply_async(
        self,
        call: &Call,
        action: impl Future<Output = Result<(), String>>,
    ) -> Result<Report, String> {
        if !call.checking() {
            action.await?;
        }
        Ok(self.told(call))
    }

    fn told(self, call: &Call) -> Report {
        let checking = call.checking();
        let message = if checking { format!("would {}", self.would) } else { self.did };
        if checking {
            call.context.would_change(&message);
            foreseen::left_out(call);
        }
        let diff = self.diff.as_deref().unwrap_or_default();
        let told = if diff.is_empty() { message.clone() } else { format!("{message}\n{diff}") };
        call.context.log(Stream::Log(Level::Info), &told);
        let mut report = Report { changed: true, message, fields: Map::new() };
        if checking {
            report = report.with("check", true);
        }
        match self.diff {
            Some(diff) => report.with("diff", diff),
            None => report,
        }
    }
}

impl Report {
    /// Nothing was to be done.
    pub(super) fn unchanged(message: impl Into<String>) -> Self {
        Self { changed: false, message: message.into(), fields: Map::new() }
    }

    /// Several as one: it changed something when one of them did, and says what each says.
    pub(super) fn together(reports: Vec<Self>) -> Self {
        let message = reports.iter().map(|report| report.message.as_str()).collect::<Vec<_>>().join("; ");
        let mut whole = Self::unchanged(message);
        for report in reports {
            whole.changed |= report.changed;
            whole.fields.extend(report.fields);
        }
        whole
    }

    /// Adds a field to the table.
    pub(super) fn with(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Whether something was changed, or would be.
    pub(super) fn is_changed(&self) -> bool {
        self.changed
    }
}

impl Call {
    /// Whether the run only says what it would change.
    pub(super) fn checking(&self) -> bool {
        self.context.phase == Phase::Check
    }

    /// The answer of a function that may change the host, with its name before what went wrong. That is a warning as
    /// well: a script that does not look at the answer would leave no trace of it.
    pub(super) fn answer(&self, outcome: Result<Report, String>) -> Answer {
        Answer(outcome.map_err(|reason| {
            let reason = self.refusal(reason);
            match location(&self.lua) {
                Some(place) => self.context.warn(&format!("{place}: {reason}")),
                None => self.context.warn(&reason),
            }
            reason
        }))
    }
}

impl IntoLua for Report {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        let table = convert::object_to_lua(lua, &self.fields)?;
        table.raw_set("changed", self.changed)?;
        table.raw_set("message", self.message)?;
        table.raw_set("success", true)?;
        speak(lua, &table, Voice::Message)?;
        Ok(Value::Table(table))
    }
}

impl IntoLuaMulti for Answer {
    fn into_lua_multi(self, lua: &Lua) -> mlua::Result<MultiValue> {
        match self.0 {
            Ok(report) => {
                let report = report.into_lua(lua)?;
                (report.clone(), report).into_lua_multi(lua)
            }
            Err(reason) => (false, reason).into_lua_multi(lua),
        }
    }
}
