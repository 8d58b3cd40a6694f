//! The texts of unit files.

use std::fmt::Write;

use mlua::Value;

use crate::modules::{call::Call, options::Options};

/// Options of a service.
pub(super) const SERVICE: [&str; 26] = [
    "name",
    "content",
    "description",
    "documentation",
    "after",
    "before",
    "wants",
    "requires",
    "type",
    "exec_start_pre",
    "exec_start",
    "exec_start_post",
    "exec_reload",
    "exec_stop",
    "user",
    "group",
    "working_directory",
    "environment",
    "environment_file",
    "restart",
    "restart_sec",
    "wanted_by",
    "unit",
    "service",
    "install",
    "pid_file",
];
/// Options of a timer.
pub(super) const TIMER: [&str; 15] = [
    "name",
    "content",
    "description",
    "on_calendar",
    "on_boot_sec",
    "on_startup_sec",
    "on_active_sec",
    "on_unit_active_sec",
    "on_unit_inactive_sec",
    "accuracy_sec",
    "randomized_delay_sec",
    "persistent",
    "unit",
    "wanted_by",
    "timer",
];

const TYPES: [&str; 8] = ["simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle"];
const RESTARTS: [&str; 7] = ["no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog"];

/// A unit file while it is written.
struct Writer<'a> {
    call: &'a Call,
    options: &'a Options<'a>,
    text: String,
}

/// The text of a service's file.
pub(super) fn service(call: &Call, options: &Options<'_>) -> mlua::Result<String> {
    let kind = one_of(call, options, "type", &TYPES)?.unwrap_or_else(|| "simple".to_owned());
    let restart = one_of(call, options, "restart", &RESTARTS)?;
    options
        .list("exec_start")?
        .filter(|lines| !lines.is_empty())
        .ok_or_else(|| call.error("`exec_start` is missing"))?;
    let mut writer = Writer { call, options, text: String::new() };
    writer.section("Unit");
    writer.lines("Description", "description")?;
    writer.lines("Documentation", "documentation")?;
    for (directive, option) in [("After", "after"), ("Before", "before"), ("Wants", "wants"), ("Requires", "requires")]
    {
        writer.words(directive, option)?;
    }
    writer.rest("unit")?;
    writer.section("Service");
    writer.line("Type", &kind)?;
    for (directive, option) in [
        ("User", "user"),
        ("Group", "group"),
        ("WorkingDirectory", "working_directory"),
        ("PIDFile", "pid_file"),
        ("EnvironmentFile", "environment_file"),
    ] {
        writer.lines(directive, option)?;
    }
    writer.environment()?;
    for (directive, option) in [
        ("ExecStartPre", "exec_start_pre"),
        ("ExecStart", "exec_start"),
        ("ExecStartPost", "exec_start_post"),
        ("ExecReload", "exec_reload"),
        ("ExecStop", "exec_stop"),
    ] {
        writer.lines(directive, option)?;
    }
    // systemd refuses a service that runs once and is always started again.
    let default = if kind == "oneshot" { None } else { Some("always".to_owned()) };
    if let Some(restart) = restart.or(default) {
        writer.line("Restart", &restart)?;
    }
    writer.lines("RestartSec", "restart_sec")?;
    writer.rest("service")?;
    writer.section("Install");
    writer.words_or("WantedBy", "wanted_by", "multi-user.target")?;
    writer.rest("install")?;
    Ok(writer.text)
}

/// The text of a timer's file.
pub(super) fn timer(call: &Call, options: &Options<'_>) -> mlua::Result<String> {
    const TIMES: [(&str, &str); 6] = [
        ("OnCalendar", "on_calendar"),
        ("OnBootSec", "on_boot_sec"),
        ("OnStartupSec", "on_startup_sec"),
        ("OnActiveSec", "on_active_sec"),
        ("OnUnitActiveSec", "on_unit_active_sec"),
        ("OnUnitInactiveSec", "on_unit_inactive_sec"),
    ];
    let mut writer = Writer { call, options, text: String::new() };
    writer.section("Unit");
    writer.lines("Description", "description")?;
    writer.section("Timer");
    let before = writer.text.len();
    for (directive, option) in TIMES {
        writer.lines(directive, option)?;
    }
    if writer.text.len() == before {
        let known = TIMES.map(|(_, option)| format!("`{option}`")).join(", ");
        return Err(call.error(format_args!("say when it runs: {known}")));
    }
    writer.lines("AccuracySec", "accuracy_sec")?;
    writer.lines("RandomizedDelaySec", "randomized_delay_sec")?;
    if let Some(persistent) = options.flag("persistent")? {
        writer.line("Persistent", if persistent { "true" } else { "false" })?;
    }
    writer.lines("Unit", "unit")?;
    writer.rest("timer")?;
    writer.section("Install");
    writer.words_or("WantedBy", "wanted_by", "timers.target")?;
    Ok(writer.text)
}

impl Writer<'_> {
    fn section(&mut self, name: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        // Writing to a text does not fail.
        let _ = writeln!(self.text, "[{name}]");
    }

    /// One directive. A second line in its value would be another directive.
    fn line(&mut self, directive: &str, value: &str) -> mlua::Result<()> {
        let value = value.trim();
        if value.contains(['\n', '\r', '\0']) || value.ends_with('\\') {
            return Err(self.call.error(format_args!("the value of `{directive}` must be one line")));
        }
        let _ = writeln!(self.text, "{directive}={value}");
        Ok(())
    }

    /// One directive a text of an option.
    fn lines(&mut self, directive: &str, option: &str) -> mlua::Result<()> {
        for value in self.options.list(option)?.unwrap_or_default() {
            self.line(directive, &value)?;
        }
        Ok(())
    }

    /// One directive with all texts of an option.
    fn words(&mut self, directive: &str, option: &str) -> mlua::Result<()> {
        self.words_or(directive, option, "")
    }

    fn words_or(&mut self, directive: &str, option: &str, default: &str) -> mlua::Result<()> {
        let words = self.options.list(option)?.map_or_else(|| default.to_owned(), |words| words.join(" "));
        if words.is_empty() { Ok(()) } else { self.line(directive, &words) }
    }

    /// A variable a line, quoted as systemd reads it: `%` stands for something of the unit.
    fn environment(&mut self) -> mlua::Result<()> {
        for (name, value) in self.options.texts("environment")? {
            let begins = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
            if !begins || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
                return Err(self.call.error(format_args!("`{name}` cannot be the name of an environment variable")));
            }
            let mut quoted = String::new();
            for letter in value.chars() {
                match letter {
                    '"' | '\\' => quoted.extend(['\\', letter]),
                    '%' => quoted.push_str("%%"),
                    '\n' => quoted.push_str("\\n"),
                    '\r' => quoted.push_str("\\r"),
                    '\t' => quoted.push_str("\\t"),
                    letter => quoted.push(letter),
                }
            }
            self.line("Environment", &format!("\"{name}={quoted}\""))?;
        }
        Ok(())
    }

    /// Directives that have no option of their own: a table of names to a text or a list of texts.
    fn rest(&mut self, option: &str) -> mlua::Result<()> {
        let value = self.options.value(option)?;
        if value.is_nil() {
            return Ok(());
        }
        let table = self.call.table(option, &value)?;
        let mut names = Vec::new();
        for pair in table.pairs::<Value, Value>() {
            let (name, _) = pair?;
            let name = self.call.text(option, &name)?;
            if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric()) {
                return Err(self.call.error(format_args!("`{name}` in `{option}` cannot be the name of a directive")));
            }
            names.push(name);
        }
        names.sort();
        for name in names {
            let value: Value = table.raw_get(name.as_str())?;
            let at = format!("{option}.{name}");
            let values = match (value.as_boolean(), crate::modules::options::plain(&value)) {
                (Some(flag), _) => vec![flag.to_string()],
                (None, None) => vec![self.call.text(&at, &value)?],
                (None, Some(list)) => {
                    let texts = list.sequence_values::<Value>().map(|text| self.call.text(&at, &text?));
                    texts.collect::<mlua::Result<_>>()?
                }
            };
            for value in values {
                self.line(&name, &value)?;
            }
        }
        Ok(())
    }
}

fn one_of(call: &Call, options: &Options<'_>, option: &str, known: &[&str]) -> mlua::Result<Option<String>> {
    match options.text(option)? {
        Some(text) if !known.contains(&text.as_str()) => {
            let known = known.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
            Err(call.error(format_args!("there is no `{option}` `{text}`: it takes {known}")))
        }
        text => Ok(text),
    }
}
