//! What the author of a file should know of it though it runs, kept until its plans are made.

use std::{collections::BTreeMap, fmt::Display};

use mlua::Lua;

use super::unknown::Unknown;
use crate::vm::location;

/// Most notes that are kept of one file.
const NOTES_MAX: usize = 100;

/// The notes; an app datum of the machine.
#[derive(Default)]
pub(crate) struct Notes {
    /// All of them, each with its place where that is known.
    pub(crate) warnings: Vec<String>,
    /// Those of names that were probably misspelt.
    pub(crate) misspelt: Vec<String>,
    file: String,
    text: String,
    /// How often a key was told of in the call on a line.
    told: BTreeMap<(usize, String), usize>,
}

/// Begins the notes of the file `file` with this text.
pub(crate) fn begin(lua: &Lua, file: &str, text: &str) {
    lua.set_app_data(Notes { file: file.to_owned(), text: text.to_owned(), ..Notes::default() });
}

/// What was noted, in the order of the lines: tables forget that of their keys.
pub(super) fn taken(lua: &Lua) -> Notes {
    let mut notes = lua.remove_app_data::<Notes>().unwrap_or_default();
    let line = |text: &String| text.split(':').nth(1).and_then(|line| line.parse::<usize>().ok());
    notes.warnings.sort_by_key(line);
    notes.misspelt.sort_by_key(line);
    notes
}

/// Notes that `owner` has a key or a method that is not known and changes nothing.
pub(super) fn ignored(lua: &Lua, owner: impl Display, unknown: &Unknown<'_>) {
    let place = location(lua);
    let Some(mut notes) = lua.app_data_mut::<Notes>() else { return };
    let place = place.map(|place| notes.refined(&place, unknown.name)).map(|place| format!("{place}: "));
    let text = format!("{}{owner}: {}", place.unwrap_or_default(), unknown.warning());
    if NOTES_MAX <= notes.warnings.len() || notes.warnings.contains(&text) {
        return;
    }
    if unknown.is_meant() {
        notes.misspelt.push(text.clone());
    }
    notes.warnings.push(text);
}

impl Notes {
    /// The line of the key, where `place` is that of the call whose table has it.
    fn refined(&mut self, place: &str, key: &str) -> String {
        let line =
            place.strip_prefix(&self.file).and_then(|rest| rest.strip_prefix(':')).and_then(|at| at.parse().ok());
        let Some(line) = line else { return place.to_owned() };
        let lines = lines_of_key(&self.text, line, key);
        let told = self.told.entry((line, key.to_owned())).or_default();
        let found = lines.get(*told).or(lines.last()).copied().unwrap_or(line);
        *told += 1;
        format!("{}:{found}", self.file)
    }
}

/// The lines on which `key` is given a value in the call that begins on `line`, from 1: as far as its brackets reach.
fn lines_of_key(text: &str, line: usize, key: &str) -> Vec<usize> {
    let (mut found, mut depth, mut opened) = (Vec::new(), 0_i64, false);
    for (at, text) in text.lines().enumerate().skip(line.saturating_sub(1)) {
        if gives_value(text, key) {
            found.push(at + 1);
        }
        for char in text.chars() {
            depth += match char {
                '(' | '{' => 1,
                ')' | '}' => -1,
                _ => 0,
            };
            opened |= 0 < depth;
        }
        if opened && depth <= 0 {
            break;
        }
    }
    found
}

/// Whether a line has `key = …` or `:key(…)`.
fn gives_value(line: &str, key: &str) -> bool {
    line.match_indices(key).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + key.len()..].trim_start_matches(['"', '\'', ']']).trim_start();
        let is_key = after.starts_with('=') && !after.starts_with("==");
        let is_method = before == Some(':') && (after.starts_with('(') || after.starts_with(['{', '"', '\'']));
        is_method || is_key && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_within_its_call() {
        let text =
            "x = {}\nw('a', {\n  tasks = { { zz = 1 },\n    { ['zz'] = 2 } },\n  z.zz == 3, azz = 4,\n})\nzz = 5";
        assert_eq!(lines_of_key(text, 2, "zz"), [3, 4]);
        assert!(lines_of_key(text, 1, "zz").is_empty(), "a table that ends on its line");
        assert_eq!(lines_of_key("t:a(1)\n  :on_x(f)", 2, "on_x"), [2]);
    }
}
