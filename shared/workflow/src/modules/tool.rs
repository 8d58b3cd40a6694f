//! Programs of the host that are the interface to it: package managers, `systemctl`, `useradd`, `git`.
//!
//! Every module that runs one does it here: no shell, an environment of its own, a timeout, nothing logged.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use sloth_core::error::Chain;

use super::{call::Call, exec};
use crate::process::{Command, Ending, Program, find_program};

/// How long a tool may take when its caller does not say.
pub(super) const TOOL_TIMEOUT: Duration = Duration::from_secs(30);

/// A run of a program that is prepared.
pub(super) struct Tool<'a> {
    call: &'a Call,
    program: &'a str,
    arguments: Vec<OsString>,
    env: BTreeMap<String, String>,
    workdir: Option<std::path::PathBuf>,
    stdin: Option<Vec<u8>>,
    timeout: Duration,
    user: Who,
}

/// Who runs a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The user of this process.
    Process,
    /// The user that the task names.
    Task,
}

/// What a tool left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) exit_code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
    program: String,
}

impl<'a> Tool<'a> {
    /// A program looked for in the host's directories. It runs as the user of this process, in the task's directory,
    /// and speaks English.
    pub(super) fn new(call: &'a Call, program: &'a str) -> Self {
        let mut env = exec::environment(call);
        env.insert("LC_ALL".to_owned(), "C.UTF-8".to_owned());
        Self {
            call,
            program,
            arguments: Vec::new(),
            env,
            workdir: None,
            stdin: None,
            timeout: TOOL_TIMEOUT,
            user: Who::Process,
        }
    }

    /// Whether the host has a program of this name.
    pub(super) fn exists(call: &Call, program: &str) -> bool {
        let path = &call.context.search_path;
        find_program(program.as_ref(), Some(path), &call.context.workdir).is_some()
    }

    pub(super) fn args<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    pub(super) fn workdir(self, dir: std::path::PathBuf) -> Self {
        Self { workdir: Some(dir), ..self }
    }

    pub(super) fn stdin(self, bytes: Vec<u8>) -> Self {
        Self { stdin: Some(bytes), ..self }
    }

    pub(super) fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Runs it as the user that the task names, if it names one.
    pub(super) fn by_task_user(self) -> Self {
        Self { user: Who::Task, ..self }
    }

    /// Runs it to its end. That it ended badly is no error; see [`Output::ok`].
    pub(super) async fn run(mut self) -> Result<Output, String> {
        let call = self.call;
        let user = match self.user {
            Who::Process => None,
            Who::Task => exec::user(call, &mut self.env).map_err(|error| error.to_string())?,
        };
        let context = &call.context;
        let command = Command {
            program: Program::Direct { program: self.program.into(), arguments: self.arguments },
            workdir: self.workdir.unwrap_or_else(|| call.workdir()),
            env: self.env,
            stdin: self.stdin,
            timeout: Some(self.timeout),
            user,
            capture_bytes_max: context.limits.capture_bytes,
            line_bytes_max: context.limits.log_line_bytes,
        };
        let scope = context.current.get().map(|scope| scope.id);
        let completed = context.processes.run(scope, command, &|_, _| {}).await;
        let completed = completed.map_err(|error| Chain(&error).to_string())?;
        if completed.ending == Ending::TimedOut {
            let limit = humantime::format_duration(self.timeout);
            return Err(format!("`{}` was ended after its timeout of {limit}", self.program));
        }
        Ok(Output {
            exit_code: completed.ending.exit_code(),
            stdout: String::from_utf8_lossy(&completed.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&completed.stderr).into_owned(),
            program: self.program.to_owned(),
        })
    }
}

impl Output {
    pub(super) fn success(&self) -> bool {
        self.exit_code == 0
    }

    /// What it printed, or why it failed: the last line that it says of it.
    pub(super) fn ok(self) -> Result<String, String> {
        if self.success() { Ok(self.stdout) } else { Err(self.reason()) }
    }

    /// Why it failed.
    pub(super) fn reason(&self) -> String {
        let told = |text: &str| text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned);
        let said = told(&self.stderr).or_else(|| told(&self.stdout)).unwrap_or_else(|| "it says nothing".to_owned());
        format!("`{}` ended with exit code {}: {said}", self.program, self.exit_code)
    }
}
