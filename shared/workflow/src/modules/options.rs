//! The table of options that a function takes: unknown ones are refused by name.

use std::{collections::BTreeMap, time::Duration};

use mlua::{MultiValue, Table, Value};

use super::call::{Call, describe};
use crate::{Elsewhere, engine::place::is_here, vm::location};

/// What every function with options takes: the host that the call is meant for.
const DELEGATE_TO: &str = "delegate_to";

/// The options of one call.
pub(super) struct Options<'a> {
    call: &'a Call,
    table: Option<Table>,
}

impl<'a> Options<'a> {
    /// Takes `value`, a table or nothing, whose keys must all be among `known`, or be `delegate_to`.
    ///
    /// # Errors
    ///
    /// When it is something else or has another key.
    pub(super) fn new(call: &'a Call, value: &Value, known: &[&str]) -> mlua::Result<Self> {
        if value.is_nil() {
            return Ok(Self { call, table: None });
        }
        let table = call.table("options", value)?;
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if key.as_string().is_some_and(|key| key == DELEGATE_TO) {
                here(call, &value)?;
            } else if !key.as_string().is_some_and(|key| known.iter().any(|known| key == known)) {
                let key = key.to_string().unwrap_or_default();
                return Err(call.error(format_args!("no option `{key}`; it takes {}", list(known))));
            }
        }
        Ok(Self { call, table: Some(table) })
    }

    /// Takes the arguments of a function that is called by position, in this `order`, or with a table of options, or
    /// with both: the table comes last. `also` are options without a position.
    ///
    /// # Errors
    ///
    /// As [`Self::new`], and when there are more arguments than positions.
    pub(super) fn named(
        call: &'a Call,
        arguments: &MultiValue,
        order: &[&str],
        also: &[&str],
    ) -> mlua::Result<Options<'a>> {
        let known = [order, also].concat();
        let merged = call.lua.create_table()?;
        for (at, value) in arguments.iter().enumerate().filter(|(_, value)| !value.is_nil()) {
            match (plain(value), order.get(at)) {
                (Some(table), _) if arguments.iter().skip(at + 1).all(Value::is_nil) => {
                    Self::new(call, value, &known)?;
                    for pair in table.pairs::<Value, Value>() {
                        let (name, value) = pair?;
                        merged.raw_set(name, value)?;
                    }
                }
                (_, Some(name)) => merged.raw_set(*name, value)?,
                (_, None) => {
                    return Err(call.error(format_args!("takes {} and no more, got {}", list(order), describe(value))));
                }
            }
        }
        Ok(Self { call, table: Some(merged) })
    }

    /// The same without some of them, for who knows fewer.
    pub(super) fn without(&self, names: &[&str]) -> mlua::Result<Self> {
        let Some(table) = &self.table else { return Ok(Self { call: self.call, table: None }) };
        let rest = self.call.lua.create_table()?;
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if !key.as_string().is_some_and(|key| names.iter().any(|name| key == name)) {
                rest.raw_set(key, value)?;
            }
        }
        Ok(Self { call: self.call, table: Some(rest) })
    }

    pub(super) fn value(&self, name: &str) -> mlua::Result<Value> {
        self.table.as_ref().map_or(Ok(Value::Nil), |table| table.raw_get(name))
    }

    pub(super) fn text(&self, name: &str) -> mlua::Result<Option<String>> {
        self.present(name, Call::text)
    }

    /// A text that must be given, and not be empty.
    pub(super) fn required(&self, name: &str) -> mlua::Result<String> {
        match self.text(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(self.call.error(format_args!("`{name}` is empty"))),
            None => Err(self.call.error(format_args!("`{name}` is missing"))),
        }
    }

    /// A whole number from `min` to `max`.
    pub(super) fn integer(&self, name: &str, min: u64, max: u64) -> mlua::Result<Option<u64>> {
        self.present(name, |call, name, value| call.integer(name, value, min, max))
    }

    /// A text or a list of texts.
    pub(super) fn list(&self, name: &str) -> mlua::Result<Option<Vec<String>>> {
        self.present(name, |call, name, value| match plain(value) {
            None => Ok(vec![call.text(name, value)?]),
            Some(list) => {
                let items = list.sequence_values::<Value>().enumerate();
                items.map(|(at, item)| call.text(&format!("{name}[{}]", at + 1), &item?)).collect()
            }
        })
    }

    pub(super) fn bytes(&self, name: &str) -> mlua::Result<Option<Vec<u8>>> {
        self.present(name, Call::bytes)
    }

    pub(super) fn duration(&self, name: &str) -> mlua::Result<Option<Duration>> {
        self.present(name, Call::duration)
    }

    pub(super) fn path(&self, name: &str) -> mlua::Result<Option<std::path::PathBuf>> {
        self.present(name, Call::path)
    }

    pub(super) fn flag(&self, name: &str) -> mlua::Result<Option<bool>> {
        self.present(name, |call, name, value| {
            value.as_boolean().ok_or_else(|| call.expected(name, "true or false", value))
        })
    }

    /// A table of names to texts, such as an environment.
    pub(super) fn texts(&self, name: &str) -> mlua::Result<BTreeMap<String, String>> {
        let value = self.value(name)?;
        if value.is_nil() {
            return Ok(BTreeMap::new());
        }
        let mut texts = BTreeMap::new();
        for pair in self.call.table(name, &value)?.pairs::<Value, Value>() {
            let (key, text) = pair?;
            let Some(key) = key.as_string() else {
                return Err(self.call.expected(name, "a table of names to texts", &value));
            };
            let key = key.to_string_lossy();
            let text = match text.as_boolean() {
                Some(text) => text.to_string(),
                None => self.call.text(&format!("{name}.{key}"), &text)?,
            };
            texts.insert(key, text);
        }
        Ok(texts)
    }

    fn present<T>(&self, name: &str, read: impl Fn(&Call, &str, &Value) -> mlua::Result<T>) -> mlua::Result<Option<T>> {
        let value = self.value(name)?;
        if value.is_nil() {
            return Ok(None);
        }
        read(self.call, name, &value).map(Some)
    }
}

/// Checks that the call may be made here, where it names the hosts that it is meant for. A run that nobody else is to share
/// does it here, and says so once for each line of the file.
fn here(call: &Call, hosts: &Value) -> mlua::Result<()> {
    let hosts: Vec<Value> = match plain(hosts) {
        Some(list) => list.sequence_values().collect::<mlua::Result<_>>()?,
        None => vec![hosts.clone()],
    };
    let mut others = Vec::new();
    for host in hosts {
        let host = call.text(DELEGATE_TO, &host)?;
        if !host.is_empty() && !is_here(&host, &call.context.agent) {
            others.push(host);
        }
    }
    let (Some(first), elsewhere) = (others.first(), call.context.settings.elsewhere) else { return Ok(()) };
    match elsewhere {
        Elsewhere::Refused => Err(call.error(format_args!(
            "`{first}` is another host: delegate the task to it with `delegate_to`, not the call"
        ))),
        Elsewhere::Here => {
            let place = location(&call.lua).map_or_else(String::new, |place| format!("{place}: "));
            call.context.warn_once(format!("{place}meant for `{}`, and run here: {}", others.join("`, `"), call.name));
            Ok(())
        }
    }
}

/// The table that a value is, unless it turns itself into a text as a command's result does: then it is a text.
pub(super) fn plain(value: &Value) -> Option<&Table> {
    let speaks = |table: &Table| table.metatable().is_some_and(|of| of.contains_key("__tostring").unwrap_or(false));
    value.as_table().filter(|table| !speaks(table))
}

fn list(names: &[&str]) -> String {
    let quoted = |name: &&str| format!("`{name}`");
    match names {
        [] => "none".to_owned(),
        [one] => quoted(one),
        [first @ .., last] => {
            format!("{} and {}", first.iter().map(quoted).collect::<Vec<_>>().join(", "), quoted(last))
        }
    }
}
