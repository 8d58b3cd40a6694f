//! Arguments in both spellings: one table, or values in their order with a table of options after them.

use mlua::{MultiValue, Table, Value};

use super::super::{
    call::Call,
    options::Options,
    paths::{movable, writable},
};
use crate::beneath::Place;

/// The arguments of one call, by their names.
pub(super) struct Arguments<'a> {
    call: &'a Call,
    options: Options<'a>,
}

/// The arguments that are tables themselves.
const TABLES: [&str; 2] = ["vars", "paths"];

impl<'a> Arguments<'a> {
    /// Takes `values` by the names in `order`. One table alone has them all by name; a table after the last value has more,
    /// all of which must be among `known`.
    ///
    /// # Errors
    ///
    /// When there are too many values, or one has a name that is not known.
    pub(super) fn read(call: &'a Call, values: &MultiValue, order: &[&str], known: &[&str]) -> mlua::Result<Self> {
        let table = call.lua.create_table()?;
        for (at, value) in values.iter().enumerate() {
            let name = order.get(at).copied();
            let is_last = at + 1 == values.len();
            let takes_table = name.is_some_and(|name| TABLES.contains(&name));
            if let Value::Table(options) = value
                && is_last
                && !takes_table
                && !speaks(options)
            {
                options.for_each(|key: Value, value: Value| table.raw_set(key, value))?;
            } else if let Some(name) = name {
                table.raw_set(name, value)?;
            } else if !value.is_nil() {
                return Err(call.expected("options", "a table", value));
            }
        }
        Ok(Self { call, options: Options::new(call, &Value::Table(table), known)? })
    }

    pub(super) fn call(&self) -> &'a Call {
        self.call
    }

    pub(super) fn options(&self) -> &Options<'a> {
        &self.options
    }

    pub(super) fn value(&self, name: &str) -> mlua::Result<Value> {
        self.options.value(name)
    }

    /// The value of an argument that must be there.
    pub(super) fn required(&self, name: &str) -> mlua::Result<Value> {
        let value = self.options.value(name)?;
        if value.is_nil() { Err(self.missing(name)) } else { Ok(value) }
    }

    pub(super) fn missing(&self, name: &str) -> mlua::Error {
        self.call.error(format_args!("`{name}` is missing"))
    }

    /// The place of what is to be made or changed.
    pub(super) fn writable(&self, name: &str) -> mlua::Result<Place> {
        writable(self.call, name, &self.required(name)?)
    }

    /// The place of what is to be linked or removed, which may be a link.
    pub(super) fn movable(&self, name: &str) -> mlua::Result<Place> {
        movable(self.call, name, &self.required(name)?)
    }

    pub(super) fn text(&self, name: &str) -> mlua::Result<Option<String>> {
        self.options.text(name)
    }

    pub(super) fn required_text(&self, name: &str) -> mlua::Result<String> {
        self.call.text(name, &self.required(name)?)
    }

    pub(super) fn flag(&self, name: &str) -> mlua::Result<Option<bool>> {
        self.options.flag(name)
    }

    /// A list of texts; one text is a list of it.
    pub(super) fn list(&self, name: &str) -> mlua::Result<Vec<String>> {
        let value = self.options.value(name)?;
        if value.is_nil() {
            return Ok(Vec::new());
        }
        if let Some(list) = value.as_table().filter(|table| !speaks(table)) {
            return list.sequence_values::<Value>().map(|item| self.call.text(name, &item?)).collect();
        }
        Ok(vec![self.call.text(name, &value)?])
    }
}

/// Whether a table is a text, as a command's result is.
fn speaks(table: &Table) -> bool {
    table.metatable().is_some_and(|metatable| metatable.contains_key("__tostring").unwrap_or(false))
}
