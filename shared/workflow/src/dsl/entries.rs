//! The tasks of a workflow as a list or as a table by name.

use std::{cell::RefCell, rc::Rc};

use mlua::{Lua, Table, Value};

use super::{
    Definitions, SharedTask,
    argument::{described, error},
    collect::tolerate,
    draft::{Signature, TaskDraft},
    flow::TaskGroup,
    refer,
    task::TaskBuilder,
};

/// `tasks = {…}`: built tasks, task tables, or task tables by name in the order of the file.
pub(super) fn tasks(lua: &Lua, owner: &str, table: &Table, definitions: &Definitions) -> mlua::Result<Vec<SharedTask>> {
    let mut tasks = list(lua, owner, table, definitions)?;
    tasks.extend(named(lua, owner, table, definitions)?);
    if definitions.tasks_max < tasks.len() {
        return Err(error(lua, format_args!("{owner}: a file may have {} tasks at most", definitions.tasks_max)));
    }
    Ok(tasks)
}

/// The list part of a table.
pub(super) fn list(lua: &Lua, owner: &str, table: &Table, definitions: &Definitions) -> mlua::Result<Vec<SharedTask>> {
    let mut tasks = Vec::with_capacity(table.raw_len());
    if let Some(place) = hole(table)? {
        return Err(error(
            lua,
            format_args!("{owner}: entry `{place}` of `tasks` is nothing: the name that stands there is not defined"),
        ));
    }
    for (at, value) in table.sequence_values::<Value>().enumerate() {
        let value = value?;
        if let Some(group) = TaskGroup::of(&value) {
            for task in group.tasks {
                task.borrow_mut().used = true;
                tasks.push(task);
            }
        } else if let Value::String(name) = &value {
            tasks.push(refer::name(lua, definitions, name.to_string_lossy(), owner));
        } else {
            tasks.extend(tolerate(lua, entry(lua, owner, &format!("{}", at + 1), &value, String::new()))?);
        }
    }
    Ok(tasks)
}

/// The first place of a list that holds nothing though one after it holds something.
fn hole(table: &Table) -> mlua::Result<Option<usize>> {
    let mut last = 0;
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair?;
        last = last.max(key.as_integer().and_then(|place| usize::try_from(place).ok()).unwrap_or(0));
    }
    for place in 1..last {
        if table.raw_get::<Value>(place)?.is_nil() {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn named(lua: &Lua, owner: &str, table: &Table, definitions: &Definitions) -> mlua::Result<Vec<SharedTask>> {
    let mut found = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        if let Value::String(key) = &key {
            found.push((key.to_string_lossy(), value));
        }
    }
    // Tables forget the order of their keys; the text remembers it.
    let from = start_of(&definitions.text, owner);
    found.sort_by_cached_key(|(key, value)| (key_place(&definitions.text, from, key), first_line(value), key.clone()));
    let mut tasks = Vec::with_capacity(found.len());
    for (key, value) in found {
        tasks.extend(tolerate(lua, entry(lua, owner, &key, &value, key.clone()))?);
    }
    Ok(tasks)
}

/// The workflows of a table `TaskDefinitions` by name, in the order of the file.
pub(super) fn groups(text: &str, table: &Table) -> mlua::Result<Vec<(String, Table)>> {
    let mut found = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        if let (Value::String(name), Value::Table(group)) = pair? {
            found.push((name.to_string_lossy(), group));
        }
    }
    found.sort_by_cached_key(|(name, _)| (key_place(text, 0, name), name.clone()));
    Ok(found)
}

/// Lets the functions of tasks be called as files with `TaskDefinitions` expect it.
pub(super) fn as_of_old(tasks: &[SharedTask]) {
    for task in tasks {
        task.borrow_mut().signature = Signature::Params;
    }
}

fn entry(lua: &Lua, owner: &str, place: &str, value: &Value, name: String) -> mlua::Result<SharedTask> {
    if let Some(task) = TaskBuilder::of(value) {
        task.borrow_mut().used = true;
        return Ok(task);
    }
    let Value::Table(table) = value else {
        let got = described(value);
        return Err(error(
            lua,
            format_args!(
                "{owner}: entry `{place}` of `tasks` is {got}: write `task(\"name\")…` or a table with `name` and `command`"
            ),
        ));
    };
    let mut task = TaskDraft::new(name);
    task.fill(table, lua)?;
    if task.name.is_empty() {
        return Err(error(lua, format_args!("{owner}: entry `{place}` of `tasks` has no `name`")));
    }
    task.used = true;
    Ok(Rc::new(RefCell::new(task)))
}

/// Where the workflow begins in the text.
fn start_of(text: &str, owner: &str) -> usize {
    let name = owner.split('`').nth(1).unwrap_or_default();
    [format!("\"{name}\""), format!("'{name}'")].iter().filter_map(|quoted| text.find(quoted)).min().unwrap_or(0)
}

/// Where `key = {` stands in the text from `from` on.
fn key_place(text: &str, from: usize, key: &str) -> usize {
    let rest = &text[from..];
    let places = rest.match_indices(key).map(|(at, _)| at);
    let is_key = |at: &usize| {
        let before = rest[..*at].chars().next_back();
        let after = rest[*at + key.len()..].trim_start_matches(['"', '\'', ']']).trim_start();
        let whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
        let value = after.strip_prefix('=').map(str::trim_start);
        whole && value.is_some_and(|value| value.starts_with('{') || value.starts_with("task"))
    };
    places.into_iter().find(is_key).map_or(usize::MAX, |at| from + at)
}

/// The first line of any function in the task, where the text does not tell its place.
fn first_line(value: &Value) -> usize {
    let Value::Table(table) = value else { return usize::MAX };
    let line = |value: Value| value.as_function().and_then(|function| function.info().line_defined);
    ["command", "run"].into_iter().find_map(|key| line(table.raw_get(key).ok()?)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_where_they_are_given_a_value() {
        let text = "-- b comes first\nlocal z = b\nt = { b = {}, ['a c'] = {\n}, c = task('c') }";
        let place = |key: &str| key_place(text, 0, key);
        assert!(place("b") < place("a c") && place("a c") < place("c") && place("c") < text.len());
        assert_eq!(place("z"), usize::MAX);
    }
}
