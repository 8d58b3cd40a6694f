//! What went wrong in Lua, in words for people.

use mlua::{Function, Lua, Table, Value};

use super::SHOW;

/// Most lines of a traceback that are kept.
const TRACEBACK_LINES_MAX: usize = 6;
/// How deep a stack is searched for the script's own line.
const LEVELS_MAX: usize = 12;
/// The mark of code that is not the script's.
const OWN_CODE: [&str; 3] = ["[C]", "[sloth]", "__mlua"];

/// The name of our own code in messages.
const OWN_NAME: &str = "[sloth]:";
/// Where the machine keeps what was raised last and is no text: `value` and `place`.
const RAISED: &str = "sloth.raised";
/// Most characters of a message that show a value.
const SHOWN_CHARS_MAX: usize = 1_000;

/// How the message ends for a list that is written as other languages do.
const BRACKET: &str = "when parsing expression, got '['";

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The text is not Lua.
    Syntax,
    /// The script raised an error.
    Script,
    /// The machine is out of memory.
    Memory,
}

/// An error of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What kind it is.
    pub kind: FaultKind,
    /// The message, with file and line where the machine knows them.
    pub message: String,
    /// The lines of the script that led there, the innermost first.
    pub traceback: Vec<String>,
}

impl Fault {
    /// The message with its traceback, over several lines.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let mut text = self.message.clone();
        // One line of trace says no more than the message does.
        if 1 < self.traceback.len() {
            for line in &self.traceback {
                text.push_str("\n  at ");
                text.push_str(line);
            }
        }
        text
    }
}

impl From<&mlua::Error> for Fault {
    fn from(error: &mlua::Error) -> Self {
        let mut fault = Self { kind: FaultKind::Script, message: String::new(), traceback: Vec::new() };
        fault.read(error);
        if let Some(message) = without_own_place(&fault.message) {
            fault.message = message;
            fault.place();
        }
        fault
    }
}

/// Makes the table in which `error` leaves what it was given.
pub(super) fn raised(lua: &Lua) -> mlua::Result<Table> {
    let raised = lua.create_table()?;
    lua.set_named_registry_value(RAISED, &raised)?;
    Ok(raised)
}

impl Fault {
    /// The fault of an error of `lua`, which knows what values were raised.
    pub(crate) fn of(lua: &Lua, error: &mlua::Error) -> Self {
        let mut fault = Self::from(error);
        if fault.kind == FaultKind::Script
            && let Some(told) = of_value(lua, &fault.message)
        {
            fault.message = told;
        }
        fault
    }

    fn read(&mut self, error: &mlua::Error) {
        match error {
            mlua::Error::SyntaxError { message, .. } => {
                self.kind = FaultKind::Syntax;
                self.take(message);
                if self.message.ends_with(BRACKET) {
                    self.message.push_str(": a list is written `{ \"a\", \"b\" }`");
                }
            }
            mlua::Error::RuntimeError(message) => self.take(message),
            mlua::Error::MemoryError(message) => {
                self.kind = FaultKind::Memory;
                self.message.push_str("out of memory");
                if !message.contains("not enough memory") {
                    self.message.push_str(": ");
                    self.take(message);
                }
            }
            mlua::Error::CallbackError { traceback, cause } => {
                self.read(cause);
                self.trace(traceback);
                self.place();
            }
            mlua::Error::WithContext { context, cause } => {
                self.message.push_str(context);
                self.message.push_str(": ");
                self.read(cause);
            }
            mlua::Error::BadArgument { to, pos, name, cause } => {
                let argument = name.clone().unwrap_or_else(|| pos.to_string());
                let to = to.as_deref().unwrap_or("the function");
                self.message.push_str(&format!("`{to}`: argument `{argument}`: "));
                self.read(cause);
            }
            mlua::Error::ExternalError(cause) => {
                self.message.push_str(&sloth_core::error::Chain(cause.as_ref()).to_string());
            }
            other => self.take(&other.to_string()),
        }
    }

    /// A message of the machine carries its traceback.
    fn take(&mut self, message: &str) {
        let (message, traceback) = message.split_once("\nstack traceback:\n").unwrap_or((message, ""));
        self.message.push_str(message.trim_start_matches("runtime error: ").trim_end());
        self.trace(traceback);
    }

    fn trace(&mut self, traceback: &str) {
        if !self.traceback.is_empty() {
            return;
        }
        let lines = traceback.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "stack traceback:");
        let lines = lines.filter(|line| !OWN_CODE.iter().any(|own| line.starts_with(own)));
        self.traceback = lines.take(TRACEBACK_LINES_MAX).map(|line| line.replace('\n', " ")).collect();
    }

    /// An error raised by a module does not know the line that called it; the traceback does.
    fn place(&mut self) {
        let Some(first) = self.traceback.first() else { return };
        if self.traceback.iter().any(|line| placed(&self.message, line)) {
            return;
        }
        let place = first.split_whitespace().next().unwrap_or_default().trim_end_matches(':');
        self.message.insert_str(0, &format!("{place}: "));
    }
}

/// What to say of a value that was raised, where `message` is all that is left of it.
fn of_value(lua: &Lua, message: &str) -> Option<String> {
    let raised: Table = lua.named_registry_value(RAISED).ok()?;
    let (value, place): (Value, String) = (raised.get("value").ok()?, raised.get("place").ok()?);
    if value.to_string().ok()? != message {
        return None;
    }
    if value.is_nil() {
        return Some(format!("{place}`error` was called without a message"));
    }
    if value.as_table().is_some_and(speaks) {
        return Some(format!("{place}{message}"));
    }
    let shown: String = SHOW.function(lua).and_then(|make| make.call::<Function>(())?.call(value)).ok()?;
    let cut: String = shown.chars().take(SHOWN_CHARS_MAX).collect();
    Some(format!("{place}{cut}{}", if cut.len() < shown.len() { "…" } else { "" }))
}

fn speaks(table: &Table) -> bool {
    table.metatable().is_some_and(|metatable| metatable.contains_key("__tostring").unwrap_or(false))
}

/// `message` without the lines of our own code that it names, if it names any.
fn without_own_place(message: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(OWN_NAME) {
        text.push_str(before);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        rest = match after[digits..].strip_prefix(": ") {
            Some(told) if 0 < digits => told,
            Some(_) | None => {
                text.push_str(OWN_NAME);
                after
            }
        };
    }
    text.push_str(rest);
    (text != message).then_some(text)
}

/// Whether `message` begins with the file that `line` of a traceback is in.
fn placed(message: &str, line: &str) -> bool {
    line.split(':').next().is_some_and(|file| !file.is_empty() && message.starts_with(file))
}

/// The script's line that called the running Rust function, as `file:line`.
#[must_use]
pub(crate) fn location(lua: &Lua) -> Option<String> {
    (1..LEVELS_MAX).find_map(|level| {
        lua.inspect_stack(level, |frame| {
            let line = frame.current_line()?;
            let source = frame.source();
            let file = source.short_src?;
            (!OWN_CODE.iter().any(|own| file.starts_with(own))).then(|| format!("{file}:{line}"))
        })?
    })
}
