//! What was probably meant where a script calls or indexes nil: the machine tells only that it does.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds of Lua values are the machine's, and most say nothing here"
)]

use mlua::{Lua, Table, Value};

use super::Fault;
use crate::{
    modules,
    plan::nearest,
    source::{Token, is_name, tokens},
};

/// What the machine says of a call of nil.
const CALLED: &str = "attempt to call a nil value";
/// How it begins what it says of an index of nil; the name follows in quotes.
const INDEXED: &str = "attempt to index nil with '";
/// What the machine says where the answer of a function that changes the host is used, and the host refused.
const OF_REFUSED: [&str; 3] = [
    "attempt to index boolean with 'changed'",
    "attempt to index boolean with 'message'",
    "attempt to index boolean with 'success'",
];
/// What to do about it.
const REFUSED: &str = ": the function gave `false` and a reason: write `local result, reason = …`, and `return false, reason` where `result` is `false`";
/// Most names that are compared with one that does not exist.
const NAMES_MAX: usize = 2_000;
/// Words that no name is.
const KEYWORDS: [&str; 14] =
    ["and", "do", "else", "elseif", "end", "for", "function", "if", "in", "not", "or", "return", "then", "while"];

/// A name, or names joined by `.` and `:`, in a line.
struct Path<'a> {
    names: Vec<&'a str>,
    is_called: bool,
    /// Whether it stands behind something that has no name, as methods in a chain do.
    is_method: bool,
}

/// Adds to the message of `fault` what is nil and what may have been meant. `text_of` gives the text of a file.
pub(crate) fn explain(lua: &Lua, fault: &mut Fault, values_given: bool, text_of: impl Fn(&str) -> Option<String>) {
    let Some((file, line, told)) = placed(&fault.message) else { return };
    if OF_REFUSED.iter().any(|indexed| told.starts_with(indexed)) {
        let at = fault.message.find('\n').unwrap_or(fault.message.len());
        return fault.message.insert_str(at, REFUSED);
    }
    let indexed = told.strip_prefix(INDEXED).and_then(|rest| rest.split_once('\'')).map(|(name, _)| name);
    if indexed.is_none() && !told.starts_with(CALLED) {
        return;
    }
    let Some(text) = text_of(file) else { return };
    let Some(source_line) = text.lines().nth(line.saturating_sub(1)) else { return };
    let paths = paths(source_line);
    let hint = match indexed {
        Some(name) => nil_index(lua, &paths, name, values_given),
        None => nil_call(lua, &paths, &text),
    };
    if let Some(hint) = hint {
        let at = fault.message.find('\n').unwrap_or(fault.message.len());
        fault.message.insert_str(at, &format!(": {hint}"));
    }
}

/// `file:line: told`.
fn placed(message: &str) -> Option<(&str, usize, &str)> {
    let (file, rest) = message.split_once(':')?;
    let (line, told) = rest.split_once(": ")?;
    Some((file, line.parse().ok()?, told))
}

fn nil_index(lua: &Lua, paths: &[Path<'_>], name: &str, values_given: bool) -> Option<String> {
    let path = paths.iter().find(|path| {
        let at = path.names.iter().position(|known| *known == name);
        at.is_some_and(|at| 0 < at && !matches!(known(lua, &path.names[..at]), Known::There))
    })?;
    let at = path.names.iter().position(|known| *known == name)?;
    let nil = &path.names[..at];
    if let (["values" | "Values"], false) = (nil, values_given) {
        return Some(format!(
            "`values` is nil, since no values are given: write `values and values.{name}`, or say the defaults by `values({{ … }})`"
        ));
    }
    Some(missing(lua, nil))
}

fn nil_call(lua: &Lua, paths: &[Path<'_>], text: &str) -> Option<String> {
    let called: Vec<&Path<'_>> = paths.iter().filter(|path| path.is_called).collect();
    let nil: Vec<&Path<'_>> = called
        .iter()
        .copied()
        .filter(|path| match known(lua, &path.names) {
            Known::There => false,
            Known::Missing => !path.is_method,
            Known::Unknown => path.names.len() == 1 && !path.is_method && !is_declared(text, path.names[0]),
        })
        .collect();
    let path = match (nil.first(), &called[..]) {
        (Some(path), _) => path,
        (None, [only]) if !only.is_method => only,
        (None, _) => return None,
    };
    Some(missing(lua, &path.names))
}

/// What is known of a path from the globals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    There,
    /// Its last name does not exist in what the others lead to.
    Missing,
    /// It does not begin with a global.
    Unknown,
}

fn known(lua: &Lua, names: &[&str]) -> Known {
    match parent(lua, names) {
        None => Known::Unknown,
        Some((table, last)) => match table.get::<Value>(last) {
            Ok(Value::Nil) | Err(_) if names.len() == 1 => Known::Unknown,
            Ok(Value::Nil) => Known::Missing,
            _ => Known::There,
        },
    }
}

/// The table that the last name is looked up in.
fn parent<'a>(lua: &Lua, names: &[&'a str]) -> Option<(Table, &'a str)> {
    let (last, before) = names.split_last()?;
    let mut table = lua.globals();
    for name in before {
        table = table.get::<Option<Table>>(*name).ok().flatten()?;
    }
    Some((table, last))
}

/// Whether the file gives the name a value of its own: by `local`, as a function, or as a parameter.
fn is_declared(text: &str, name: &str) -> bool {
    let tokens = tokens(text);
    let mut in_head = false;
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |before| tokens[before].text);
        // A head goes from `local`, `function` or `for` over names, commas and one parenthesis.
        let joins = matches!(token.text, "," | "(" | "." | ":")
            || is_name(token.text) && matches!(before, "," | "(" | "." | ":");
        let begins = matches!(token.text, "local" | "function" | "for");
        in_head = begins || in_head && (joins || matches!(before, "local" | "function" | "for"));
        if in_head && token.text == name {
            return true;
        }
    }
    false
}

fn missing(lua: &Lua, names: &[&str]) -> String {
    let shown = names.join(".");
    if let [name] = names
        && let Some(instead) = modules::instead_of(name)
    {
        return format!("Sloth has no module `{name}`: {instead}");
    }
    let Some((table, last)) = parent(lua, names) else { return format!("`{shown}` is nil") };
    let mut found: Vec<String> = table
        .pairs::<Value, Value>()
        .take(NAMES_MAX)
        .flatten()
        .filter_map(|(key, _)| match key {
            Value::String(key) => Some(key.to_string_lossy()),
            _ => None,
        })
        .collect();
    if names.len() == 1 {
        found.extend(GLOBALS.iter().map(|name| (*name).to_owned()));
        found.extend(modules::names().map(str::to_owned));
    }
    found.sort();
    let near = nearest(last, found.iter().map(String::as_str).filter(|name| *name != last));
    match (names, near) {
        ([_], Some(near)) => format!("`{shown}` is nil; did you mean `{near}`?"),
        ([.., owner, _], Some(near)) => format!("`{owner}` has no `{last}`; did you mean `{near}`?"),
        ([.., owner, _], None) => format!("`{owner}` has no `{last}`"),
        ([_] | [], _) => format!("`{shown}` is nil"),
    }
}

/// Globals that are no modules.
const GLOBALS: [&str; 24] = [
    "task",
    "workflow",
    "group",
    "parallel",
    "chain",
    "when",
    "delegate_to",
    "import",
    "require",
    "export",
    "values",
    "secrets",
    "bridge",
    "print",
    "pairs",
    "ipairs",
    "tostring",
    "tonumber",
    "type",
    "pcall",
    "error",
    "assert",
    "string",
    "table",
];

/// The paths of a line, in its order.
fn paths(line: &str) -> Vec<Path<'_>> {
    let tokens: Vec<Token<'_>> = tokens(line);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = is_name(tokens[at].text) && !KEYWORDS.contains(&tokens[at].text);
        if !begins {
            at += 1;
            continue;
        }
        let mut names = vec![tokens[at].text];
        let mut end = at;
        while let [joint, name, ..] = &tokens[end + 1..]
            && matches!(joint.text, "." | ":")
            && is_name(name.text)
        {
            names.push(name.text);
            end += 2;
        }
        let after = &line[tokens[end].start + tokens[end].text.len()..];
        let is_called = after.trim_start().starts_with(['(', '{', '"', '\'']) || after.trim_start().starts_with("[[");
        let is_method = at.checked_sub(1).is_some_and(|before| matches!(tokens[before].text, "." | ":"));
        let is_defined = at.checked_sub(1).is_some_and(|before| tokens[before].text == "function");
        paths.push(Path { names, is_called: is_called && !is_defined, is_method });
        at = end + 1;
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(text: &str) -> String {
        let lua = Lua::new();
        lua.load("fs = { read = print, write = print } json = { encode = print } task = print")
            .exec()
            .expect("globals");
        let error = lua.load(text).set_name("=main.sloth").exec().expect_err(text);
        let mut fault = Fault::from(&error);
        explain(&lua, &mut fault, false, |_| Some(text.to_owned()));
        fault.message
    }

    #[test]
    fn what_is_nil_is_named() {
        for (text, expected) in [
            ("tsk('a')", "main.sloth:1: attempt to call a nil value: `tsk` is nil; did you mean `task`?"),
            ("tsk 'a'", "main.sloth:1: attempt to call a nil value: `tsk` is nil; did you mean `task`?"),
            (
                "\nlocal x = fs.raed('a')",
                "main.sloth:2: attempt to call a nil value: `fs` has no `raed`; did you mean `read`?",
            ),
            (
                "local function helper() end\nhelper(fs.reed('a'))",
                "main.sloth:2: attempt to call a nil value: `fs` has no `reed`; did you mean `read`?",
            ),
            (
                "local t = { x = function() return { command = function(_, f) f() end } end } t.x():command(function() fs.raed('x') end)",
                "main.sloth:1: attempt to call a nil value: `fs` has no `raed`; did you mean `read`?",
            ),
            (
                "local t = { x = function() return { command = function(_, f) f() end } end } t.x():command(function() raed('x') end)",
                "main.sloth:1: attempt to call a nil value: `raed` is nil",
            ),
            (
                "docker.run({})",
                "main.sloth:1: attempt to index nil with 'run': Sloth has no module `docker`: run its program with `exec.run`",
            ),
            ("local cb\ncb()", "main.sloth:2: attempt to call a nil value: `cb` is nil"),
            ("local t = {}\nt.zzz.x = 1", "main.sloth:2: attempt to index nil with 'x': `t.zzz` is nil"),
            ("jsn.encode(1)", "main.sloth:1: attempt to index nil with 'encode': `jsn` is nil; did you mean `json`?"),
            ("local x = 'a', zzzzzz.here", "main.sloth:1: attempt to index nil with 'here': `zzzzzz` is nil"),
            ("fs.xyzzy()", "main.sloth:1: attempt to call a nil value: `fs` has no `xyzzy`"),
        ] {
            assert_eq!(explained(text), expected, "{text}");
        }
        assert!(explained("return values.port").contains("write `values and values.port`"));
        assert!(!explained("error('plain')").contains("nil"));
    }
}
