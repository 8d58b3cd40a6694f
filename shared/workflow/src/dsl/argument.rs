//! The arguments of builder methods and the values of table keys, checked, with errors that say what to write.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use mlua::{Lua, MultiValue, Table, Value};

use super::{NAME_BYTES_MAX, draft::Delegate};
use crate::vm::location;

/// Most entries of a list or map that a builder takes.
const ENTRIES_MAX: usize = 100_000;

/// What one method or key was given.
pub(super) struct Arguments<'a> {
    pub(super) lua: &'a Lua,
    /// Whose it is, such as ``task `build` ``.
    owner: String,
    /// The method or key.
    method: &'a str,
    values: MultiValue,
}

const NIL: &Value = &Value::Nil;
const DELEGATES: &str = "the name of an agent, a list of names, `{ labels = {…} }`, or a function that gives names";

impl<'a> Arguments<'a> {
    pub(super) fn new(lua: &'a Lua, owner: String, method: &'a str, values: MultiValue) -> Self {
        Self { lua, owner, method, values }
    }

    pub(super) fn one(lua: &'a Lua, owner: String, method: &'a str, value: Value) -> Self {
        Self::new(lua, owner, method, MultiValue::from_iter([value]))
    }

    /// The argument at `at` alone.
    pub(super) fn nth(&self, at: usize) -> Self {
        Self::one(self.lua, self.owner.clone(), self.method, self.value(at).clone())
    }

    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    pub(super) fn method(&self) -> &str {
        self.method
    }

    pub(super) fn value(&self, at: usize) -> &Value {
        self.values.get(at).unwrap_or(NIL)
    }

    /// An error with the script's line.
    pub(super) fn error(&self, message: impl Display) -> mlua::Error {
        error(self.lua, format_args!("{}: {message}", self.owner))
    }

    /// The error of a value of the wrong type.
    pub(super) fn takes(&self, what: &str, got: &Value) -> mlua::Error {
        self.error(format_args!("`{}` takes {what}, got {}", self.method, described(got)))
    }

    /// A name: a text of sensible length, or a number.
    pub(super) fn name(&self) -> mlua::Result<String> {
        let value = self.value(0);
        let name = text(value).ok_or_else(|| self.takes("a text", value))?;
        if name.is_empty() || NAME_BYTES_MAX < name.len() || name.contains(char::is_control) {
            return Err(self.error(format_args!(
                "a name takes 1 to {NAME_BYTES_MAX} bytes without line breaks or other control characters"
            )));
        }
        Ok(name)
    }

    pub(super) fn text(&self) -> mlua::Result<String> {
        let value = self.value(0);
        text(value).ok_or_else(|| self.takes("a text", value))
    }

    /// A text that is no name: a number would be one by mistake.
    pub(super) fn plain_text(&self) -> mlua::Result<String> {
        match self.value(0) {
            Value::String(text) => Ok(text.to_string_lossy()),
            other => Err(self.takes("a text", other)),
        }
    }

    pub(super) fn flag(&self) -> mlua::Result<bool> {
        match self.value(0) {
            Value::Boolean(flag) => Ok(*flag),
            other => Err(self.takes("`true` or `false`", other)),
        }
    }

    /// A text like `1h30m`, or seconds.
    pub(super) fn duration(&self) -> mlua::Result<Duration> {
        let value = self.value(0);
        let wrong = || self.takes("a duration like `30s`, `5m` or `1h30m`, or a number of seconds", value);
        if let Some(seconds) = number(value) {
            return Duration::try_from_secs_f64(seconds).ok().filter(|span| !span.is_zero()).ok_or_else(wrong);
        }
        let Value::String(text) = value else { return Err(wrong()) };
        let text = text.to_string_lossy();
        if let Ok(seconds) = text.trim().parse::<u32>() {
            return Ok(Duration::from_secs(seconds.into()));
        }
        humantime::parse_duration(text.trim()).map_err(|_| wrong())
    }

    /// A whole number from `min` to `max`.
    pub(super) fn count(&self, min: u32, max: u32) -> mlua::Result<u32> {
        let value = self.value(0);
        let number = match value {
            Value::String(text) => text.to_string_lossy().trim().parse::<f64>().ok(),
            other => number(other),
        };
        match number {
            Some(number) if number.fract() == 0.0 && f64::from(min) <= number && number <= f64::from(max) =>
            {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between two `u32`")]
                Ok(number as u32)
            }
            Some(_) | None => Err(self.takes(&format!("a whole number from {min} to {max}"), value)),
        }
    }

    pub(super) fn optional_table(&self, at: usize) -> mlua::Result<Option<Table>> {
        match self.value(at) {
            Value::Nil => Ok(None),
            Value::Table(table) => Ok(Some(table.clone())),
            other => Err(self.takes("a table", other)),
        }
    }

    pub(super) fn table(&self) -> mlua::Result<Table> {
        self.optional_table(0)?.ok_or_else(|| self.takes("a table", NIL))
    }

    /// One text or a list of texts; several arguments are a list too.
    pub(super) fn texts(&self) -> mlua::Result<Vec<String>> {
        let mut texts = Vec::new();
        for value in &self.values {
            match value {
                Value::Table(list) => {
                    for item in list.sequence_values::<Value>().take(ENTRIES_MAX) {
                        let item = item?;
                        texts.push(text(&item).ok_or_else(|| self.takes("a list of texts", &item))?);
                    }
                }
                other => texts.push(text(other).ok_or_else(|| self.takes("a text or a list of texts", other))?),
            }
        }
        Ok(texts)
    }

    /// Where a task is meant to run, and whether it may run here where it cannot run there: a name, a list of names, a
    /// function that gives them, or `{labels = {…}, fallback = "local"}`. `{fallback = "local"}` may also follow.
    pub(super) fn delegate(&self) -> mlua::Result<(Delegate, bool)> {
        let (mut names, mut fallback) = (Vec::new(), false);
        for value in &self.values {
            match value {
                Value::Function(function) if names.is_empty() => {
                    let options = self.optional_table(1)?;
                    let fallback = options.map_or(Ok(false), |options| self.fallback(&options))?;
                    return Ok((Delegate::Function(function.clone()), fallback));
                }
                Value::Table(table) => {
                    fallback |= self.fallback(table)?;
                    names.extend(self.selector(table)?);
                    names.extend(self.with(value.clone()).texts()?);
                }
                other => names.push(text(other).ok_or_else(|| self.takes(DELEGATES, other))?),
            }
        }
        if names.is_empty() {
            return Err(self.takes(DELEGATES, self.value(0)));
        }
        Ok((Delegate::Names(names), fallback))
    }

    /// The same with another value.
    pub(super) fn with(&self, value: Value) -> Self {
        Self::one(self.lua, self.owner.clone(), self.method, value)
    }

    fn fallback(&self, table: &Table) -> mlua::Result<bool> {
        for pair in table.pairs::<Value, Value>() {
            let (key, _) = pair?;
            if let Value::String(key) = &key
                && !["fallback", "labels"].iter().any(|known| key == known)
            {
                let key = key.to_string_lossy();
                return Err(self
                    .error(format_args!("`{}` has no option `{key}`; it takes `labels` and `fallback`", self.method)));
            }
        }
        match table.raw_get::<Value>("fallback")? {
            Value::Nil | Value::Boolean(false) => Ok(false),
            Value::Boolean(true) => Ok(true),
            other => match text(&other).as_deref() {
                Some("local" | "localhost") => Ok(true),
                Some("none") => Ok(false),
                Some(_) | None => Err(self.takes("`fallback` as `\"local\"` or `\"none\"`", &other)),
            },
        }
    }

    /// `labels = {role = "web"}` as `role=web`.
    fn selector(&self, table: &Table) -> mlua::Result<Option<String>> {
        let labels: Value = table.raw_get("labels")?;
        if labels.is_nil() {
            return Ok(None);
        }
        let labels = self.with(labels).map()?;
        let terms: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok(Some(terms.join(",")).filter(|terms| !terms.is_empty()))
    }

    /// A table of texts by name; numbers and booleans become texts.
    pub(super) fn map(&self) -> mlua::Result<BTreeMap<String, String>> {
        let mut map = BTreeMap::new();
        for pair in self.table()?.pairs::<Value, Value>().take(ENTRIES_MAX) {
            let (key, value) = pair?;
            let shown = match &value {
                Value::Boolean(flag) => Some(flag.to_string()),
                other => text(other),
            };
            let (Some(key), Some(shown)) = (text(&key), shown) else {
                return Err(self.takes("a table of texts by name", &value));
            };
            map.insert(key, shown);
        }
        Ok(map)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }
}

/// An error with the script's line.
pub(super) fn error(lua: &Lua, message: impl Display) -> mlua::Error {
    mlua::Error::runtime(match location(lua) {
        Some(place) => format!("{place}: {message}"),
        None => message.to_string(),
    })
}

/// A string or a number as text; `None` for anything else.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.to_string_lossy()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        // Whole numbers up to 2^53 arrive as integers; larger ones are no count and no span.
        Value::Integer(number) => i32::try_from(*number).ok().map(f64::from),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// A value in a message.
pub(super) fn described(value: &Value) -> String {
    const SHOWN_CHARS_MAX: usize = 40;
    match value {
        Value::Nil => "nothing".to_owned(),
        Value::Boolean(flag) => format!("`{flag}`"),
        Value::UserData(_) => "a builder".to_owned(),
        other => match text(other) {
            Some(text) => format!("`{}`", text.chars().take(SHOWN_CHARS_MAX).collect::<String>()),
            None => format!("a {}", other.type_name()),
        },
    }
}
