//! Names that a file reads and nothing has: found in its text, and looked up among the globals of its machine.

use std::collections::BTreeSet;

use mlua::{Lua, Value};

use super::names::{NameFault, place};
use crate::{
    modules,
    plan::nearest,
    source::{Token, is_name, tokens},
};

/// Words that no variable is called, and names that are nil until somebody sets them.
const KNOWN: [&str; 34] = [
    "and",
    "break",
    "continue",
    "do",
    "else",
    "elseif",
    "end",
    "export",
    "false",
    "for",
    "function",
    "goto",
    "if",
    "in",
    "local",
    "nil",
    "not",
    "or",
    "repeat",
    "return",
    "self",
    "then",
    "true",
    "type",
    "until",
    "while",
    "values",
    "Values",
    "outputs",
    "secrets",
    "TaskDefinitions",
    "arg",
    "typeof",
    "_",
];
/// What a name stands beside where the file asks whether it is there.
const ASKS: [&str; 4] = ["and", "or", "==", "~="];
/// Most names that are told.
const FAULTS_MAX: usize = 50;

/// The names that `text` reads, that it gives no value and that are no globals of `lua`, which has evaluated it.
pub(crate) fn undefined(lua: &Lua, text: &str) -> Vec<NameFault> {
    let tokens = tokens(text);
    let own = own(&tokens);
    let globals = lua.globals();
    let mut faults = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let is_read = is_name(token.text) && reads(&tokens, at) && !own.contains(token.text);
        if !is_read || KNOWN.contains(&token.text) || FAULTS_MAX <= faults.len() {
            continue;
        }
        if !matches!(globals.get::<Value>(token.text), Ok(Value::Nil)) {
            continue;
        }
        let known = ["true", "false", "nil"].into_iter().chain(own.iter().copied());
        let near = nearest(token.text, known).or_else(|| nearest(token.text, modules::names()));
        let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let (line, column) = place(text, token.start);
        faults.push(NameFault {
            line,
            column,
            message: format!("`{}` is nil: nothing is called so{near}", token.text),
        });
    }
    faults
}

fn text_at<'a>(tokens: &[Token<'a>], at: Option<usize>) -> &'a str {
    at.and_then(|at| tokens.get(at)).map_or("", |token| token.text)
}

/// Whether the name at `at` is a variable that is read: no field, no method, no key, no type, no target of `goto`, and
/// not asked for.
fn reads(tokens: &[Token<'_>], at: usize) -> bool {
    let before = text_at(tokens, at.checked_sub(1));
    let (after, second) = (text_at(tokens, Some(at + 1)), text_at(tokens, Some(at + 2)));
    let is_part =
        matches!(before, "." | ":" | "::" | "goto" | "if" | "elseif" | "not" | "while" | "until" | "type" | "->");
    let is_key = after == "=" && second != "=";
    let is_asked = ASKS.contains(&after) || matches!((after, second), ("=", "=") | ("~", "="));
    !is_part && !is_key && !is_asked && after != "::"
}

/// The names that the file gives a value anywhere: by an assignment, `local`, `for`, as a function or a parameter. Those it
/// asks for are known to it, too.
fn own<'a>(tokens: &[Token<'a>]) -> BTreeSet<&'a str> {
    let mut own = BTreeSet::new();
    let mut in_head = false;
    for (at, token) in tokens.iter().enumerate() {
        let before = text_at(tokens, at.checked_sub(1));
        let joins = matches!(token.text, "," | "(" | "." | ":" | "...")
            || is_name(token.text) && matches!(before, "," | "(" | "." | ":");
        let begins = matches!(token.text, "local" | "function" | "for");
        in_head = begins || in_head && (joins || matches!(before, "local" | "function" | "for"));
        let is_asked = is_name(token.text) && !reads(tokens, at) && !matches!(before, "." | ":");
        if is_name(token.text) && (in_head || is_target(tokens, at) || is_asked) {
            own.insert(token.text);
        }
    }
    own
}

/// Whether the name at `at` is given a value, alone or in a list of names.
fn is_target(tokens: &[Token<'_>], at: usize) -> bool {
    let (after, second) = (text_at(tokens, Some(at + 1)), text_at(tokens, Some(at + 2)));
    if matches!(after, "+" | "-" | "*" | "/" | "%" | "^" | "..") {
        return second == "=";
    }
    let mut place = at;
    while is_name(text_at(tokens, Some(place))) && text_at(tokens, Some(place + 1)) == "," {
        place += 2;
    }
    let ends = (text_at(tokens, Some(place + 1)), text_at(tokens, Some(place + 2)));
    is_name(text_at(tokens, Some(place))) && ends.0 == "=" && ends.1 != "="
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nothing_has_are_told() {
        for (text, expected) in [
            (
                "task('a'):command(function() return ture end)",
                "1:37 `ture` is nil: nothing is called so; did you mean `true`?",
            ),
            ("local count = 1\nprint(cuont)", "2:7 `cuont` is nil: nothing is called so; did you mean `count`?"),
            ("x = 1 print(x) y.z = 2", "1:16 `y` is nil: nothing is called so; did you mean `x`?"),
            ("local function f(a, b) for i, v in pairs(a) do print(i, v, b) end end f({})", ""),
            ("local t = { key = 1, ['x'] = 2 } print(t.key, t.none, #t)", ""),
            ("if docker then docker.run() end print(other and other.x)", ""),
            ("local a, b = 1, 2 a, b = b, a c, d = 1, 2 print(c, d)", ""),
            ("for i = 1, 3 do print(i) end while true do break end", ""),
            ("local f = function(x: number, ...) return x end print(f(1), ...)", ""),
            ("print(string.format('%d', math.pi), table.concat({}))", ""),
        ] {
            let lua = Lua::new();
            lua.load("function task() end").exec().expect("a global");
            let told: Vec<String> = undefined(&lua, text)
                .iter()
                .map(|fault| format!("{}:{} {}", fault.line, fault.column, fault.message))
                .collect();
            assert_eq!(told.join("; "), expected, "{text}");
        }
    }
}
