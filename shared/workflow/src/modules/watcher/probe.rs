//! How a watcher looks at what it watches.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use mlua::{Function, Value};
use regex::Regex;
use serde_json::{Map, Value as Json, json};

use crate::{
    beneath::{self, Place},
    modules::{
        call::{Call, number_of, tostring},
        metrics, paths,
        tool::Tool,
        usage::{self, CpuTimes, Process, Protocol},
    },
    vm::Fault,
};

/// Most bytes of a file that are searched for a pattern.
const TEXT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most bytes of a log that one look reads; the next look goes on there.
const LOG_BYTES_MAX: u64 = 1024 * 1024;
/// Most files of a directory that are watched.
const ENTRIES_MAX: usize = 50_000;
/// How deep a directory is watched.
const DEPTH_MAX: usize = 32;
/// Most characters of a command's output that an event tells.
const OUTPUT_CHARS_MAX: usize = 1000;

/// What is looked at.
pub(super) enum Target {
    File { path: PathBuf, check_hash: bool, recursive: bool },
    Directory { path: PathBuf, pattern: Option<glob::Pattern>, recursive: bool },
    Process { name: Option<String>, pattern: Option<Regex> },
    Port { port: u16, protocol: Protocol },
    Service { name: String },
    Cpu,
    Memory,
    Disk { path: PathBuf },
    Log { path: PathBuf, from_start: bool },
    Command { words: Vec<String> },
    Custom { check: Function },
}

/// A target, and what has to be kept from one look to the next.
pub(super) struct Probe {
    target: Target,
    times: Option<CpuTimes>,
    position: Option<Position>,
}

/// What one look sees.
pub(super) enum Seen {
    One(Look),
    /// The files of a directory, with what changes when they do.
    Tree(BTreeMap<String, Print>),
    /// Lines that were added.
    Lines(Vec<String>),
}

/// The state of one thing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    pub(super) present: bool,
    pub(super) value: Option<f64>,
    pub(super) text: Option<String>,
    /// Differs when the thing has changed.
    pub(super) print: String,
    /// What an event tells of it.
    pub(super) data: Map<String, Json>,
}

/// Size and time of the last change, in nanoseconds.
pub(super) type Print = (u64, i128);

/// Where the reading of a log stopped.
#[derive(Debug, Clone, Default)]
struct Position {
    inode: u64,
    offset: u64,
    /// The start of a line whose end has not been written.
    open: Vec<u8>,
}

impl Probe {
    pub(super) fn new(target: Target) -> Self {
        Self { target, times: None, position: None }
    }

    pub(super) async fn look(&mut self, call: &Call) -> Result<Seen, String> {
        match &self.target {
            Target::File { path, check_hash, recursive } => {
                let (place, check_hash, recursive) = (place(call, path)?, *check_hash, *recursive);
                beside(move || file(&place, check_hash, recursive)).await.map(Seen::One)
            }
            Target::Directory { path, pattern, recursive } => {
                let (place, pattern, recursive) = (place(call, path)?, pattern.clone(), *recursive);
                beside(move || tree(&place, pattern.as_ref(), recursive)).await.map(Seen::Tree)
            }
            Target::Process { name, pattern } => {
                let (name, pattern) = (name.clone(), pattern.clone());
                let list = beside(usage::processes).await?;
                Ok(Seen::One(processes(&list, name.as_deref(), pattern.as_ref())))
            }
            Target::Port { port, protocol } => {
                let open = usage::ports(*protocol)?.contains(port);
                Ok(Seen::One(Look::new(open).with("port", *port)))
            }
            Target::Service { name } => service(call, name).await.map(Seen::One),
            Target::Cpu => {
                let now = CpuTimes::now()?;
                let before = self.times.replace(now);
                Ok(Seen::One(Look::new(true).percent(before.map(|before| now.percent_since(before)))))
            }
            Target::Memory => Ok(Seen::One(Look::new(true).percent(Some(usage::memory()?.percent())))),
            Target::Disk { path } => {
                let space = metrics::disk(path.clone()).await?;
                let look = Look::new(true).percent(Some(space.percent()));
                Ok(Seen::One(look.with("path", path.to_string_lossy()).with("available", space.available)))
            }
            Target::Log { path, from_start } => {
                let (place, from_start, before) = (place(call, path)?, *from_start, self.position.take());
                let (position, lines) = beside(move || log(&place, from_start, before)).await?;
                self.position = Some(position);
                Ok(Seen::Lines(lines))
            }
            Target::Command { words } => command(call, words).await.map(Seen::One),
            Target::Custom { check } => custom(call, check).await.map(Seen::One),
        }
    }

    /// What each event tells of the target.
    pub(super) fn told(&self) -> Option<(&'static str, Json)> {
        let path = |path: &Path| json!(path.to_string_lossy());
        match &self.target {
            Target::File { path: file, .. } | Target::Log { path: file, .. } => Some(("path", path(file))),
            Target::Directory { path: directory, .. } => Some(("path", path(directory))),
            Target::Process { name, .. } => name.as_ref().map(|name| ("process", json!(name))),
            Target::Service { name } => Some(("service", json!(name))),
            Target::Command { words } => words.last().map(|line| ("command", json!(line))),
            Target::Port { .. } | Target::Cpu | Target::Memory | Target::Disk { .. } | Target::Custom { .. } => None,
        }
    }
}

impl Look {
    fn new(present: bool) -> Self {
        Self { present, value: None, text: None, print: String::new(), data: Map::new() }
    }

    fn with(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.data.insert(name.to_owned(), value.into());
        self
    }

    /// A share of something, which events tell as `value` and as `percent`.
    fn percent(self, percent: Option<f64>) -> Self {
        let look = self.with("value", percent).with("percent", percent);
        Self { value: percent, ..look }
    }
}

/// What a path leads to at this moment, where the bundle may look at it.
fn place(call: &Call, path: &Path) -> Result<Place, String> {
    paths::readable_path(call, path).map_err(|error| Fault::from(&error).text())
}

/// Reads what may be slow while other tasks run.
async fn beside<T: Send + 'static>(read: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string()).and_then(|read| read)
}

/// Its number is its size; its text is read for those who search it.
fn file(path: &Place, check_hash: bool, recursive: bool) -> Result<Look, String> {
    let way = beneath::inode(path);
    let found = match way.metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Look::new(false)),
        Err(error) => return Err(format!("cannot look at `{}`: {error}", path.display())),
    };
    let (size, changed) = print(&found);
    let mut look = Look::new(true).with("size", size);
    look.print = format!("{size} {changed}");
    if found.is_dir() {
        if recursive {
            look.print = format!("{:?}", tree(path, None, true)?);
        }
        return Ok(look);
    }
    #[expect(clippy::cast_precision_loss, reason = "no file is that large")]
    let value = size as f64;
    look.value = Some(value);
    let said = |error| format!("cannot read `{}`: {error}", path.display());
    if check_hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(&way).map_err(said)?).map_err(said)?;
        look.print = hasher.finalize().to_hex().to_string();
    }
    let mut text = Vec::new();
    fs::File::open(&way).map_err(said)?.take(TEXT_BYTES_MAX).read_to_end(&mut text).map_err(said)?;
    look.text = Some(String::from_utf8_lossy(&text).into_owned());
    Ok(look)
}

/// The files below a directory by their paths in it. A directory that is not there has none.
fn tree(root: &Place, pattern: Option<&glob::Pattern>, recursive: bool) -> Result<BTreeMap<String, Print>, String> {
    let way = beneath::inode(root);
    let mut files = BTreeMap::new();
    let mut open = vec![(PathBuf::new(), 0)];
    while let Some((below, depth)) = open.pop() {
        let entries = match fs::read_dir(way.join(&below)) {
            Ok(entries) => entries,
            // Gone since it was listed, or not there yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("cannot read `{}`: {error}", root.join(&below).display())),
        };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else { continue };
            let (name, path) = (entry.file_name(), below.join(entry.file_name()));
            if recursive && found.is_dir() && depth < DEPTH_MAX {
                open.push((path.clone(), depth + 1));
            }
            // The time of a directory changes with what is in it, which is told by itself.
            let print = if found.is_dir() { (0, 0) } else { print(&found) };
            if pattern.is_none_or(|pattern| pattern.matches(&name.to_string_lossy())) {
                files.insert(path.to_string_lossy().into_owned(), print);
            }
            if ENTRIES_MAX < files.len() {
                return Err(format!("`{}` holds more than {ENTRIES_MAX} files", root.display()));
            }
        }
    }
    Ok(files)
}

fn print(found: &fs::Metadata) -> Print {
    (found.len(), i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec()))
}

/// Their number is how many there are.
fn processes(list: &[Process], name: Option<&str>, pattern: Option<&Regex>) -> Look {
    let program = |process: &Process| {
        let first = process.command.split(' ').next().unwrap_or_default();
        first.rsplit('/').next().unwrap_or_default().to_owned()
    };
    let named = |process: &&Process| name.is_none_or(|name| process.name == name || program(process) == name);
    let fitting = |process: &&Process| pattern.is_none_or(|pattern| pattern.is_match(&process.command));
    let pids: Vec<u32> = list.iter().filter(named).filter(fitting).map(|process| process.pid).collect();
    #[expect(clippy::cast_precision_loss, reason = "no host has that many processes")]
    let value = pids.len() as f64;
    let mut look = Look::new(!pids.is_empty()).with("count", pids.len());
    look.print = format!("{pids:?}");
    look.value = Some(value);
    look.with("pids", pids)
}

async fn service(call: &Call, name: &str) -> Result<Look, String> {
    let output = Tool::new(call, "systemctl").args(["is-active", "--", name]).run().await?;
    let state = output.stdout.trim().to_owned();
    if state.is_empty() {
        return Err(output.reason());
    }
    let mut look = Look::new(state == "active").with("state", state.as_str());
    look.print = state;
    Ok(look)
}

/// The lines that were added since the last look. A log that was replaced or cut off is read from its start.
fn log(path: &Place, from_start: bool, before: Option<Position>) -> Result<(Position, Vec<String>), String> {
    let said = |error| format!("cannot read `{}`: {error}", path.display());
    let mut file = match fs::File::open(beneath::inode(path)) {
        Ok(file) => file,
        // One that comes later is new from its start on.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Position::default(), Vec::new())),
        Err(error) => return Err(said(error)),
    };
    let found = file.metadata().map_err(said)?;
    let mut position = match before {
        Some(before) if before.inode == found.ino() && before.offset <= found.len() => before,
        Some(_) => Position { inode: found.ino(), ..Position::default() },
        None if from_start => Position { inode: found.ino(), ..Position::default() },
        None => Position { inode: found.ino(), offset: found.len(), open: Vec::new() },
    };
    file.seek(SeekFrom::Start(position.offset)).map_err(said)?;
    let mut added = Vec::new();
    let read = file.take(LOG_BYTES_MAX).read_to_end(&mut added).map_err(said)?;
    position.offset += read as u64;
    position.open.append(&mut added);
    let ended = position.open.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let rest = position.open.split_off(ended);
    let complete = std::mem::replace(&mut position.open, rest);
    // A line that does not end must not grow for ever.
    if LOG_BYTES_MAX < position.open.len() as u64 {
        position.open.clear();
    }
    let lines = String::from_utf8_lossy(&complete).lines().map(str::to_owned).collect();
    Ok((position, lines))
}

/// Its number is the first that it prints.
async fn command(call: &Call, words: &[String]) -> Result<Look, String> {
    let Some((program, arguments)) = words.split_first() else { return Err("there is no command".to_owned()) };
    let output = Tool::new(call, program).args(arguments).by_task_user().run().await?;
    let shown: String = output.stdout.trim_end().chars().take(OUTPUT_CHARS_MAX).collect();
    let value = output.stdout.split_whitespace().find_map(|word| word.trim_end_matches('%').parse::<f64>().ok());
    let mut look = Look::new(output.success()).with("output", shown).with("exit_code", output.exit_code);
    look = look.with("value", value);
    look.value = value;
    look.print.clone_from(&output.stdout);
    look.text = Some(output.stdout);
    Ok(look)
}

/// Whether a function says yes; a number that it gives is its number.
async fn custom(call: &Call, check: &Function) -> Result<Look, String> {
    let value: Value = check.call_async(()).await.map_err(|error| Fault::of(&call.lua, &error).text())?;
    let text = String::from_utf8_lossy(&tostring(&call.lua, &value).map_err(|error| error.to_string())?).into_owned();
    let number = number_of(&value).filter(|number| number.is_finite());
    let mut look = Look::new(!matches!(value, Value::Nil | Value::Boolean(false)));
    look.print.clone_from(&text);
    look.value = number;
    let told = number.map_or_else(|| json!(text), Json::from);
    look.text = Some(text);
    Ok(look.with("value", told))
}
