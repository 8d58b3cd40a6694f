//! The options of the functions that register watchers. What is missing or unknown is refused by name.

use std::time::Duration;

use mlua::{Function, Value};

use super::{
    condition::{Condition, Pattern, Rules},
    probe::{Probe, Target},
};
use crate::{
    capability::Capability,
    modules::{
        Phase,
        call::{Call, Gate, describe},
        options::Options,
        paths, regex,
        usage::Protocol,
    },
};

/// How long a watcher waits between two looks when it is not said.
const INTERVAL: Duration = Duration::from_secs(5);
/// The shortest wait; less would be looking all the time.
const INTERVAL_MS_MIN: u64 = 10;
const COMMON: [&str; 5] = ["when", "interval", "handler", "on_change", "name"];

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Process,
    Port,
    Service,
    Cpu,
    Memory,
    Disk,
    Log,
    Command,
    Custom,
}

/// A watcher as it was asked for.
pub(super) struct Settings {
    pub(super) probe: Probe,
    pub(super) rules: Rules,
    pub(super) interval: Duration,
    pub(super) handler: Option<Function>,
    pub(super) name: Option<String>,
}

impl Kind {
    pub(super) const ALL: [Self; 11] = [
        Self::File,
        Self::Directory,
        Self::Process,
        Self::Port,
        Self::Service,
        Self::Cpu,
        Self::Memory,
        Self::Disk,
        Self::Log,
        Self::Command,
        Self::Custom,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Process => "process",
            Self::Port => "port",
            Self::Service => "service",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Log => "log",
            Self::Command => "command",
            Self::Custom => "custom",
        }
    }

    /// What it can tell.
    const fn conditions(self) -> &'static [Condition] {
        use Condition::{Above, Below, Changed, Contains, Created, Decreased, Deleted, Exists, Increased, Matches};
        match self {
            Self::File => &[Created, Changed, Deleted, Exists, Matches, Contains, Above, Below, Increased, Decreased],
            Self::Directory => &[Created, Changed, Deleted],
            Self::Process => &[Created, Deleted, Exists, Changed, Above, Below, Increased, Decreased],
            Self::Port => &[Created, Deleted, Exists],
            Self::Service => &[Created, Deleted, Exists, Changed],
            Self::Cpu | Self::Memory | Self::Disk => &[Above, Below, Increased, Decreased],
            Self::Log => &[Matches, Contains],
            Self::Command | Self::Custom => {
                &[Changed, Above, Below, Increased, Decreased, Matches, Contains, Exists, Deleted]
            }
        }
    }

    /// The options besides those that each kind has.
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::File => &["file_path", "path", "check_hash", "recursive", "pattern", "threshold"],
            Self::Directory => &["directory_path", "path", "pattern", "recursive"],
            Self::Process => &["process_name", "pattern", "threshold"],
            Self::Port => &["port", "protocol"],
            Self::Service => &["service_name"],
            Self::Cpu | Self::Memory => &["threshold"],
            Self::Disk => &["threshold", "path"],
            Self::Log => &["log_path", "file_path", "path", "pattern", "follow"],
            Self::Command => &["command", "threshold", "pattern"],
            Self::Custom => &["check", "threshold", "pattern"],
        }
    }

    const fn capability(self) -> Option<Capability> {
        match self {
            // Paths ask for what they need where they are read.
            Self::File | Self::Directory | Self::Log | Self::Custom => None,
            Self::Process | Self::Port | Self::Service | Self::Cpu | Self::Memory | Self::Disk => {
                Some(Capability::Facts)
            }
            Self::Command => Some(Capability::Exec),
        }
    }
}

impl Settings {
    pub(super) fn read(call: &Call, kind: Kind, options: &Value) -> mlua::Result<Self> {
        if call.context.phase != Phase::Plan {
            call.pass(kind.capability().map_or(Gate::Acting, Gate::Needs))?;
        }
        if options.is_nil() {
            return Err(call.expected("options", "a table", options));
        }
        let options = Reader { call, options: Options::new(call, options, &[kind.options(), &COMMON].concat())? };
        let interval = options.options.duration("interval")?.unwrap_or(INTERVAL);
        if interval < Duration::from_millis(INTERVAL_MS_MIN) {
            return Err(call.error(format_args!("`interval` takes {INTERVAL_MS_MIN}ms or more")));
        }
        let handler = match (options.function("handler")?, options.function("on_change")?) {
            (Some(_), Some(_)) => return Err(call.error("`handler` and `on_change` are the same: give one of them")),
            (handler, on_change) => handler.or(on_change),
        };
        let target = options.target(kind)?;
        let rules = options.rules(kind)?;
        let name = options.options.text("name")?;
        Ok(Self { probe: Probe::new(target), rules, interval, handler, name })
    }
}

struct Reader<'a> {
    call: &'a Call,
    options: Options<'a>,
}

impl Reader<'_> {
    fn target(&self, kind: Kind) -> mlua::Result<Target> {
        Ok(match kind {
            Kind::File => Target::File {
                path: self.path(&["file_path", "path"])?,
                check_hash: self.flag("check_hash")?.unwrap_or(false),
                recursive: self.flag("recursive")?.unwrap_or(false),
            },
            Kind::Directory => Target::Directory {
                path: self.path(&["directory_path", "path"])?,
                pattern: self.glob()?,
                recursive: self.flag("recursive")?.unwrap_or(false),
            },
            Kind::Process => {
                let (name, pattern) = (self.options.text("process_name")?, self.options.text("pattern")?);
                if name.is_none() && pattern.is_none() {
                    return Err(self.missing("process_name"));
                }
                Target::Process { name, pattern: pattern.map(|pattern| self.regex(&pattern)).transpose()? }
            }
            Kind::Port => {
                let port = self.required("port")?;
                let port = self.call.integer("port", &port, 1, u64::from(u16::MAX))?;
                Target::Port { port: u16::try_from(port).unwrap_or(u16::MAX), protocol: self.protocol()? }
            }
            Kind::Service => {
                let name = self.required("service_name")?;
                Target::Service { name: self.call.text("service_name", &name)? }
            }
            Kind::Cpu => Target::Cpu,
            Kind::Memory => Target::Memory,
            Kind::Disk => Target::Disk { path: self.options.path("path")?.unwrap_or_else(|| "/".into()) },
            Kind::Log => Target::Log {
                path: self.path(&["log_path", "file_path", "path"])?,
                from_start: !self.flag("follow")?.unwrap_or(true),
            },
            Kind::Command => Target::Command { words: self.command()? },
            Kind::Custom => match self.function("check")? {
                Some(check) => Target::Custom { check },
                None => return Err(self.missing("check")),
            },
        })
    }

    fn rules(&self, kind: Kind) -> mlua::Result<Rules> {
        let when = self.when(kind)?;
        let threshold = self.options.value("threshold")?;
        let threshold = if threshold.is_nil() { None } else { Some(self.call.number("threshold", &threshold)?) };
        if threshold.is_none() && when.iter().any(|condition| condition.has_threshold()) {
            return Err(self.missing("threshold"));
        }
        let is_pattern = when.iter().find(|condition| condition.has_pattern());
        let pattern = match (is_pattern, self.options.text("pattern")?) {
            (None, _) => None,
            (Some(_), None) => return Err(self.missing("pattern")),
            (Some(Condition::Contains), Some(part)) => Some(Pattern::Plain(part)),
            (Some(_), Some(pattern)) => Some(Pattern::Regex(self.regex(&pattern)?)),
        };
        Ok(Rules { when, threshold, pattern })
    }

    fn when(&self, kind: Kind) -> mlua::Result<Vec<Condition>> {
        let value = self.options.value("when")?;
        let known = || kind.conditions().iter().map(|c| format!("`{}`", c.as_str())).collect::<Vec<_>>().join(", ");
        if value.is_nil() {
            // A check that says yes is all that there is to look for, unless told otherwise.
            if kind == Kind::Custom {
                return Ok(vec![Condition::Exists]);
            }
            return Err(self.call.error(format_args!("`when` is missing; it takes one or more of {}", known())));
        }
        let names = match value.as_table() {
            Some(list) => list.sequence_values::<Value>().collect::<mlua::Result<Vec<_>>>()?,
            None => vec![value.clone()],
        };
        let mut when = Vec::new();
        for name in names {
            let text = self.call.text("when", &name)?;
            let found = Condition::ALL.into_iter().find(|condition| condition.as_str() == text);
            match found.filter(|condition| kind.conditions().contains(condition)) {
                Some(condition) => when.push(condition),
                None => {
                    return Err(self.call.error(format_args!("`when` takes {}, got {}", known(), describe(&name))));
                }
            }
        }
        if when.is_empty() {
            return Err(self.call.error(format_args!("`when` is empty; it takes one or more of {}", known())));
        }
        Ok(when)
    }

    /// The path by the first of the names that is given.
    fn path(&self, names: &[&str]) -> mlua::Result<std::path::PathBuf> {
        for name in names {
            let value = self.options.value(name)?;
            if value.is_nil() {
                continue;
            }
            let path = self.call.path(name, &value)?;
            // It is looked for anew at each look. Here it is only asked whether it may be.
            if self.call.context.phase != Phase::Plan {
                paths::readable_path(self.call, &path)?;
            }
            return Ok(path);
        }
        Err(self.missing(names.first().copied().unwrap_or_default()))
    }

    fn glob(&self) -> mlua::Result<Option<glob::Pattern>> {
        let pattern = self.options.text("pattern")?;
        let pattern = pattern.map(|pattern| {
            glob::Pattern::new(&pattern)
                .map_err(|error| self.call.error(format_args!("`pattern` is no pattern of names: {error}")))
        });
        pattern.transpose()
    }

    fn regex(&self, pattern: &str) -> mlua::Result<::regex::Regex> {
        regex::compile(pattern).map_err(|reason| self.call.error(reason))
    }

    fn protocol(&self) -> mlua::Result<Protocol> {
        match self.options.text("protocol")?.as_deref() {
            None | Some("tcp") => Ok(Protocol::Tcp),
            Some("udp") => Ok(Protocol::Udp),
            Some(other) => Err(self.call.error(format_args!("`protocol` takes `tcp` or `udp`, got `{other}`"))),
        }
    }

    /// The program and its arguments; a text is a line for the shell.
    fn command(&self) -> mlua::Result<Vec<String>> {
        let command = self.required("command")?;
        let Some(list) = command.as_table().filter(|table| !table.has_metatable()) else {
            return Ok(vec!["bash".to_owned(), "-c".to_owned(), self.call.text("command", &command)?]);
        };
        let words = list.sequence_values::<Value>().map(|word| self.call.text("command", &word?));
        let words = words.collect::<mlua::Result<Vec<_>>>()?;
        if words.is_empty() {
            return Err(self.call.error("`command` is an empty list: begin it with the program"));
        }
        Ok(words)
    }

    fn flag(&self, name: &str) -> mlua::Result<Option<bool>> {
        self.options.flag(name)
    }

    fn function(&self, name: &str) -> mlua::Result<Option<Function>> {
        let value = self.options.value(name)?;
        if value.is_nil() || value.is_function() {
            return Ok(value.as_function().cloned());
        }
        Err(self.call.expected(name, "a function", &value))
    }

    fn required(&self, name: &str) -> mlua::Result<Value> {
        let value = self.options.value(name)?;
        if value.is_nil() { Err(self.missing(name)) } else { Ok(value) }
    }

    fn missing(&self, name: &str) -> mlua::Error {
        self.call.error(format_args!("`{name}` is missing"))
    }
}
