//! Which functions of modules a file names: found in its text, without running it.

use std::collections::BTreeSet;

use super::{Module, modules};
use crate::{
    Capability,
    plan::nearest,
    source::{Token, is_name, tokens},
};

/// A function that a file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As the file writes it, such as `fs.read`.
    pub call: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The description, where it has one.
    pub function: Option<&'static super::Function>,
}

/// A name that no module has, or one that should not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameFault {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong, with what may have been meant.
    pub message: String,
}

/// What a file names of modules that are described, in its order. A local variable that is called like a module hides
/// it.
#[must_use]
pub fn named(text: &str) -> Vec<Named> {
    let tokens = tokens(text);
    let hidden = hidden(&tokens);
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |at| tokens[at].text);
        if !is_name(token.text) || matches!(before, "." | ":") || hidden.contains(token.text) {
            continue;
        }
        let Some(module) = modules().find(|module| module.name == token.text) else { continue };
        let name = path(module, &tokens[at + 1..]).unwrap_or_default();
        if name.is_empty() && tokens.get(at + 1).is_none_or(|next| next.text != "(") {
            continue;
        }
        let function = module.functions.iter().find(|function| function.name == name);
        if function.is_some() || !(name.is_empty() || is_known(module, &name)) {
            let (line, column) = place(text, token.start);
            let call = function.map_or_else(|| format!("{}.{name}", module.name), |function| function.call.clone());
            found.push(Named { call, line, column, function });
        }
    }
    found
}

/// Methods and keys that take a line for the shell.
const SHELL_LINES: [&str; 7] = ["command", "run", "shell", "run_if", "abort_if", "when", "condition"];

/// What a bundle with this file must be granted, as far as the text tells.
#[must_use]
pub fn needed(text: &str) -> BTreeSet<Capability> {
    let functions = named(text);
    let functions = functions.iter().filter_map(|named| named.function);
    let mut needed: BTreeSet<_> = functions.flat_map(|function| function.capabilities.clone()).collect();
    if has_shell_line(&tokens(text)) {
        needed.insert(Capability::Exec);
    }
    needed
}

/// Whether a task or a condition is a text: nothing is left of it between its brackets, or before the next key.
fn has_shell_line(tokens: &[Token<'_>]) -> bool {
    tokens.windows(3).any(|window| {
        let [name, open, close] = window else { return false };
        let is_line = matches!((open.text, close.text), ("(", ")") | ("=", "," | ";" | "}"));
        SHELL_LINES.contains(&name.text) && is_line
    })
}

/// The names in a file that no module has, and those that are deprecated.
#[must_use]
pub fn check_names(text: &str) -> Vec<NameFault> {
    let fault = |named: Named| {
        let Named { call, line, column, function } = named;
        let message = match function {
            Some(function) => {
                let instead = function.deprecated.as_ref()?;
                format!("`{call}` is deprecated: {instead}")
            }
            None => {
                let (module, name) = call.split_once('.')?;
                let known = modules().find(|known| known.name == module)?;
                let names = known.functions.iter().map(|function| function.name.as_str());
                let near = nearest(name, names).map(|near| format!("; did you mean `{module}.{near}`?"));
                format!("there is no `{call}`{}", near.unwrap_or_default())
            }
        };
        Some(NameFault { line, column, message })
    };
    named(text).into_iter().filter_map(fault).collect()
}

/// The dotted name after a module's, as far as the module's own tables go.
fn path(module: &Module, rest: &[Token<'_>]) -> Option<String> {
    let mut name = String::new();
    for pair in rest.chunks(2) {
        let [dot, word] = pair else { break };
        if dot.text != "." || !is_name(word.text) {
            break;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(word.text);
        // What follows belongs to a value or a result.
        if !is_table(module, &name) {
            break;
        }
    }
    Some(name).filter(|name| !name.is_empty())
}

/// Whether the module has a table of functions there.
fn is_table(module: &Module, name: &str) -> bool {
    let inside = |other: &str| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    module.functions.iter().any(|function| inside(&function.name))
}

fn is_known(module: &Module, name: &str) -> bool {
    is_table(module, name) || module.values.iter().any(|value| value.name == name)
}

/// The names that local variables, parameters and loops take, but where they stand for the module itself.
fn hidden<'a>(tokens: &[Token<'a>]) -> BTreeSet<&'a str> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut hidden = BTreeSet::new();
    for (at, token) in tokens.iter().enumerate() {
        let mut next = match token.text {
            "local" if text(at + 1) == "function" => {
                hidden.insert(text(at + 2));
                continue;
            }
            "local" | "for" => at + 1,
            "function" => match (at + 1..tokens.len()).find(|next| text(*next) == "(") {
                Some(open) => open + 1,
                None => continue,
            },
            _ => continue,
        };
        while is_name(text(next)) {
            let is_module = text(next + 1) == "=" && (text(next + 2) == "require" || text(next + 2) == text(next));
            if !is_module {
                hidden.insert(text(next));
            }
            if text(next + 1) != "," {
                break;
            }
            next += 2;
        }
    }
    hidden
}

pub(super) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = 1 + before.matches('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_where_they_are_the_modules() {
        let text =
            "local x = exec.run('true') -- exec.no\nlocal t = { exec = 1, bundle.raed('é'), a.exec.b }\n  exec.runn()";
        let calls: Vec<_> = named(text).into_iter().map(|named| (named.call, named.line, named.column)).collect();
        let expected = [("exec.run", 1, 11), ("bundle.raed", 2, 23), ("exec.runn", 3, 3)];
        assert_eq!(calls, expected.map(|(call, line, column)| (call.to_owned(), line, column)));
        let faults: Vec<_> = check_names(text).into_iter().map(|fault| fault.message).collect();
        assert_eq!(
            faults,
            [
                "there is no `bundle.raed`; did you mean `bundle.read`?",
                "there is no `exec.runn`; did you mean `exec.run`?"
            ]
        );
        assert_eq!(needed(text).into_iter().collect::<Vec<_>>(), [Capability::Exec]);
    }

    #[test]
    fn lines_for_the_shell_need_exec() {
        for (text, expected) in [
            ("task('a'):command('true')", true),
            ("workflow.define('w', { tasks = { { name = 'a', command = 'true' } } })", true),
            ("task('a'):run_if('test -e x'):command(f)", true),
            ("exec('true')", true),
            ("task('a'):command(function() return true end):run_if(true)", false),
            ("local exec = 1 f(exec)", false),
        ] {
            assert_eq!(needed(text).contains(&Capability::Exec), expected, "{text}");
        }
    }

    #[test]
    fn a_variable_hides_a_module() {
        for text in [
            "local exec = {} exec.no()",
            "local function f(a, exec) exec.no() end",
            "for _, exec in t do exec.no() end",
            "t:f(function(exec) exec.no() end)",
            "x.exec.no() y:exec.no()",
            "exec:no()",
        ] {
            assert_eq!(check_names(text), [], "{text}");
        }
        assert_eq!(check_names("local exec = require('exec') exec.no()").len(), 1);
    }
}
