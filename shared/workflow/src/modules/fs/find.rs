//! The functions of `fs` that look for files: `glob`, `find` and `walk`.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use glob::{MatchOptions, Pattern};
use mlua::{Function, Table, Value};

use super::{
    super::{
        call::{Builder, Call, Gate},
        files,
        options::Options,
        paths::{led, readable, text},
    },
    describe, kind,
};
use crate::beneath::{entry as way_to, inode};

/// Most paths that one call finds.
const FOUND_PATHS_MAX: usize = 100_000;
/// Most entries that one call looks at.
const SEEN_ENTRIES_MAX: usize = 1_000_000;
/// How deep directories are followed.
const DEPTH_MAX: usize = 64;
/// Most bytes of a pattern: of a path that the system takes.
const PATTERN_BYTES_MAX: usize = 4096;
/// The characters that make a part of a path a pattern.
const WILD: [char; 3] = ['*', '?', '['];

pub(super) fn extend(builder: Builder<'_>) -> mlua::Result<Builder<'_>> {
    builder
        .function("glob", Gate::Open, glob)?
        .function("find", Gate::Open, |call, (dir, options): &(Value, Value)| find(call, dir, options))?
        .asynchronous("walk", Gate::Acting, |call, (dir, visit): (Value, Value)| walk(call, dir, visit))
}

/// What a walk may still look at.
struct Budget {
    seen: usize,
    found: Vec<PathBuf>,
}

impl Budget {
    const fn new() -> Self {
        Self { seen: 0, found: Vec::new() }
    }

    fn see(&mut self, path: &Path) -> Result<(), String> {
        self.seen += 1;
        if SEEN_ENTRIES_MAX < self.seen {
            return Err(format!("there are more than {SEEN_ENTRIES_MAX} files to look at below `{}`", path.display()));
        }
        Ok(())
    }

    fn keep(&mut self, path: PathBuf) -> Result<(), String> {
        if self.found.len() == FOUND_PATHS_MAX {
            return Err(format!("more than {FOUND_PATHS_MAX} files are found"));
        }
        self.found.push(path);
        Ok(())
    }

    /// What is in `dir`, in order. A directory that cannot be read, or went away meanwhile, has nothing in it.
    fn entries(&mut self, dir: &Path) -> Result<Vec<(String, PathBuf)>, String> {
        let mut entries = Vec::new();
        for found in std::fs::read_dir(inode(dir)).into_iter().flatten().flatten() {
            self.see(dir)?;
            let name = found.file_name();
            entries.push((name.to_string_lossy().into_owned(), dir.join(name)));
        }
        entries.sort();
        Ok(entries)
    }
}

/// The paths that a pattern of the shell describes, in order. Links are not followed by `**`.
fn glob(call: &Call, pattern: &Value) -> mlua::Result<Result<Vec<String>, String>> {
    let pattern = call.text("pattern", pattern)?;
    let relative = !pattern.starts_with('/');
    let mut parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.dedup_by(|one, other| *one == "**" && one == other);
    if PATTERN_BYTES_MAX < pattern.len() || DEPTH_MAX < parts.iter().filter(|part| part.contains(WILD)).count() {
        return Err(call.error(format_args!(
            "`pattern` takes at most {PATTERN_BYTES_MAX} bytes, and {DEPTH_MAX} parts that are patterns"
        )));
    }
    let fixed = parts.iter().take_while(|part| !part.contains(WILD)).count();
    let base = format!("{}{}", if relative { "./" } else { "/" }, parts[..fixed].join("/"));
    let base = readable(call, "pattern", &Value::String(call.lua.create_string(&base)?))?;
    if fixed == parts.len() {
        let there = way_to(&base).symlink_metadata().is_ok();
        return Ok(Ok(if there { vec![pattern] } else { Vec::new() }));
    }
    let mut patterns = Vec::new();
    for part in &parts[fixed..] {
        let compiled = Pattern::new(part);
        let compiled =
            compiled.map_err(|error| call.error(format_args!("`{pattern}` is no pattern: {}", error.msg)))?;
        patterns.push((*part == "**", compiled));
    }
    let mut budget = Budget::new();
    if let Err(error) = expand(call, &base, &patterns, DEPTH_MAX, &mut budget) {
        return Ok(Err(error));
    }
    budget.found.sort();
    budget.found.dedup();
    // What was asked for relatively is answered so.
    let workdir = call.workdir();
    let shown = |path: &PathBuf| text(if relative { path.strip_prefix(&workdir).unwrap_or(path) } else { path });
    Ok(Ok(budget.found.iter().map(shown).map(|path| path.trim_start_matches("./").to_owned()).collect()))
}

fn expand(
    call: &Call,
    dir: &Path,
    patterns: &[(bool, Pattern)],
    depth: usize,
    budget: &mut Budget,
) -> Result<(), String> {
    let Some(((deep, pattern), rest)) = patterns.split_first() else { return Ok(()) };
    if depth == 0 {
        return Ok(());
    }
    if *deep {
        expand(call, dir, rest, depth, budget)?;
    }
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::default() };
    for (name, path) in budget.entries(dir)? {
        let Ok(found) = way_to(&path).symlink_metadata() else { continue };
        if *deep {
            if found.is_dir() && !name.starts_with('.') {
                expand(call, &path, patterns, depth - 1, budget)?;
            }
            if rest.is_empty() && !name.starts_with('.') {
                budget.keep(path)?;
            }
        } else if pattern.matches_with(&name, options) {
            if rest.is_empty() {
                budget.keep(path)?;
            } else if found.is_dir() {
                expand(call, &path, rest, depth - 1, budget)?;
            } else if found.is_symlink()
                && let Some(place) = led(call, &path)
            {
                let before = budget.found.len();
                expand(call, &place, rest, depth - 1, budget)?;
                // They are told by the way they were looked for.
                for found in &mut budget.found[before..] {
                    *found = found.strip_prefix(&*place).map_or_else(|_| found.clone(), |below| path.join(below));
                }
            }
        }
    }
    Ok(())
}

/// What a file must be to be found.
struct Wanted {
    name: Option<Pattern>,
    kind: Option<String>,
    depth: usize,
    size: (u64, u64),
    /// Unix seconds between which it was changed last.
    changed: (i64, i64),
}

const FIND: [&str; 7] = ["name", "type", "max_depth", "min_size", "max_size", "older_than", "newer_than"];
const KINDS: [&str; 4] = ["file", "directory", "link", "other"];

impl Wanted {
    fn read(call: &Call, options: &Value) -> mlua::Result<Self> {
        let options = Options::new(call, options, &FIND)?;
        let name = options.text("name")?.map(|name| {
            if PATTERN_BYTES_MAX < name.len() {
                return Err(call.error(format_args!("`name` takes at most {PATTERN_BYTES_MAX} bytes")));
            }
            Pattern::new(&name).map_err(|error| call.error(format_args!("`{name}` is no pattern: {}", error.msg)))
        });
        let kind = options.text("type")?.map(|kind| if kind == "dir" { "directory".to_owned() } else { kind });
        if let Some(kind) = kind.as_ref().filter(|kind| !KINDS.contains(&kind.as_str())) {
            return Err(call.error(format_args!("`type` takes `file`, `directory`, `link` or `other`, got `{kind}`")));
        }
        let integer = |name: &str, absent: u64| {
            let value = options.value(name)?;
            if value.is_nil() { Ok(absent) } else { call.integer(name, &value, 0, u64::from(u32::MAX) << 20) }
        };
        let now = i64::try_from(call.context.host.now().as_u64() / 1000).unwrap_or(i64::MAX);
        let before = |age: Option<Duration>, absent: i64| {
            age.map_or(absent, |age| now.saturating_sub(i64::try_from(age.as_secs()).unwrap_or(i64::MAX)))
        };
        Ok(Self {
            name: name.transpose()?,
            kind,
            depth: usize::try_from(integer("max_depth", DEPTH_MAX as u64)?).unwrap_or(DEPTH_MAX).min(DEPTH_MAX),
            size: (integer("min_size", 0)?, integer("max_size", u64::MAX)?),
            changed: (
                before(options.duration("newer_than")?, i64::MIN),
                before(options.duration("older_than")?, i64::MAX),
            ),
        })
    }

    fn takes(&self, path: &Path, found: &Metadata) -> bool {
        let named = |pattern: &Pattern| path.file_name().is_some_and(|name| pattern.matches(&name.to_string_lossy()));
        self.name.as_ref().is_none_or(named)
            && self.kind.as_ref().is_none_or(|wanted| wanted == kind(found))
            && (self.size.0..=self.size.1).contains(&found.len())
            && (self.changed.0..=self.changed.1).contains(&found.mtime())
    }
}

fn find(call: &Call, dir: &Value, options: &Value) -> mlua::Result<Result<Vec<String>, String>> {
    let wanted = Wanted::read(call, options)?;
    let dir = readable(call, "dir", dir)?;
    let mut budget = Budget::new();
    let found = below(&dir, &dir, wanted.depth, &mut budget, &mut |path, found| wanted.takes(path, found));
    Ok(found.map(|()| budget.found.iter().map(|path| text(path)).collect()))
}

/// Keeps what `takes` takes below `dir`; links are not followed.
fn below(
    root: &Path,
    dir: &Path,
    depth: usize,
    budget: &mut Budget,
    takes: &mut dyn FnMut(&Path, &Metadata) -> bool,
) -> Result<(), String> {
    if root == dir {
        std::fs::read_dir(inode(dir)).map_err(files::said("look into", dir))?;
    }
    if depth == 0 {
        return Ok(());
    }
    for (_, path) in budget.entries(dir)? {
        let Ok(found) = way_to(&path).symlink_metadata() else { continue };
        if takes(&path, &found) {
            budget.keep(path.clone())?;
        }
        if found.is_dir() {
            below(root, &path, depth - 1, budget, takes)?;
        }
    }
    Ok(())
}

/// Calls `visit(path, stat)` for all that is below `dir`. Where it gives `false` for a directory, what is below that is
/// passed over.
async fn walk(call: Call, dir: Value, visit: Value) -> mlua::Result<Result<bool, String>> {
    let Value::Function(visit) = visit else { return Err(call.expected("visit", "a function", &visit)) };
    let dir = readable(&call, "dir", &dir)?;
    let mut budget = Budget::new();
    if let Err(error) = below(&dir, &dir, DEPTH_MAX, &mut budget, &mut |_, _| true) {
        return Ok(Err(error));
    }
    let mut passed: Option<PathBuf> = None;
    for path in budget.found {
        if passed.as_ref().is_some_and(|passed| path.starts_with(passed)) {
            continue;
        }
        let Some(table) = entry(&call, &path)? else { continue };
        if !visited(&visit, &path, table).await? {
            passed = Some(path);
        }
    }
    Ok(Ok(true))
}

fn entry(call: &Call, path: &Path) -> mlua::Result<Option<Table>> {
    let Ok(found) = way_to(path).symlink_metadata() else { return Ok(None) };
    let table = call.lua.create_table()?;
    table.raw_set("exists", true)?;
    describe(&table, path, &found)?;
    Ok(Some(table))
}

async fn visited(visit: &Function, path: &Path, table: Table) -> mlua::Result<bool> {
    let answer: Value = visit.call_async((text(path), table)).await?;
    Ok(answer.as_boolean() != Some(false))
}
