//! The table of `reference.txt`: each function that older files call is there, and a script calls it.

#![expect(clippy::expect_used, reason = "that is how a test fails")]

use std::{path::Path, rc::Rc};

use mlua::{Lua, Table, Value};
use sloth_workflow::{
    MemoryHost,
    modules::{self, Context, Phase},
};

const TABLE: &str = include_str!("reference.txt");
/// Fewer would mean that the table is not read any more.
const ROWS_MIN: usize = 400;

/// A function, and the texts of the scripts that are to call it.
struct Row {
    module: &'static str,
    function: &'static str,
    scripts: String,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .flat_map(|line| {
            let (module, rest) = line.split_once(": ").expect("a module");
            let (scripts, functions) = rest.split_once(": ").expect("scripts");
            let read = |name: &str| {
                let path = match (name.strip_prefix("language/"), name.strip_suffix(".rs")) {
                    (Some(name), _) => Path::new("tests/language").join(format!("{name}.lua")),
                    (None, Some(_)) => Path::new("tests/modules").join(name),
                    (None, None) => Path::new("lua/modules").join(format!("{name}.luau")),
                };
                std::fs::read_to_string(path).expect("a script")
            };
            let scripts: String = scripts.split(' ').map(read).collect();
            functions.split(' ').map(move |function| Row { module, function, scripts: scripts.clone() })
        })
        .collect()
}

#[test]
fn each_function_is_there_and_is_called() {
    let context = Rc::new(Context::new(Rc::new(MemoryHost::new()), Phase::Run));
    let lua = Lua::new();
    modules::install(&lua, &context).expect("modules");
    let rows = rows();
    assert!(ROWS_MIN < rows.len(), "{} rows", rows.len());
    let mut wrong = Vec::new();
    for Row { module, function, scripts } in rows {
        let table = lua.globals().get::<Option<Table>>(module).expect("a machine");
        let Some(table) = table else {
            wrong.push(format!("there is no module `{module}`"));
            continue;
        };
        let (made_by, method) = function.split_once(':').unwrap_or((function, ""));
        if !is_there(&table, made_by) {
            wrong.push(format!("there is no `{module}.{made_by}`"));
        } else if !is_called(&scripts, module, made_by, method) {
            wrong.push(format!("no script of its row calls `{module}.{function}`"));
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

fn is_there(module: &Table, path: &str) -> bool {
    if path == "()" {
        return module.metatable().is_some_and(|metatable| metatable.contains_key("__call").unwrap_or(false));
    }
    let mut found = Value::Table(module.clone());
    for name in path.split('.') {
        let Value::Table(table) = &found else { return false };
        found = table.get(name).unwrap_or(Value::Nil);
    }
    !found.is_nil()
}

/// Whether a script calls it, hands it to who calls it, or takes it by its name.
fn is_called(scripts: &str, module: &str, function: &str, method: &str) -> bool {
    if function == "()" {
        return scripts.contains(&format!("{module}("));
    }
    if !method.is_empty() {
        return stands(scripts, &format!(":{method}")) || stands(scripts, &format!(".{method}"));
    }
    let (table, name) = function
        .rsplit_once('.')
        .map_or((module.to_owned(), function), |(table, name)| (format!("{module}.{table}"), name));
    let by_name = scripts.contains(&format!("{table}["))
        && (stands(scripts, &format!("\"{name}\"")) || stands(scripts, &format!("{name} = ")));
    let end = format!(" = {module}\n");
    let other_names = scripts.split_inclusive('\n').filter_map(|line| line.strip_prefix("local ")?.strip_suffix(&end));
    by_name || other_names.chain([module]).any(|name| stands(scripts, &format!("{name}.{function}")))
}

/// Whether `text` stands in the scripts as a word.
fn stands(scripts: &str, text: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    scripts.match_indices(text).any(|(at, _)| {
        let (before, after) = (scripts[..at].chars().next_back(), scripts[at + text.len()..].chars().next());
        !(is_word(before) && is_word(text.chars().next()) || is_word(after) && is_word(text.chars().next_back()))
    })
}
