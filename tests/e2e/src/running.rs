//! Processes with their output in files, and commands that are run to their end.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{COMMAND_LIMIT, until};

/// How long a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A process of the test. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    line: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// What was run.
    pub line: String,
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Process {
    /// Starts `command`; its output is added to `<stem>.out` and `<stem>.err`.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(mut command: Command, stem: &Path) -> Self {
        let (stdout, stderr) = (stem.with_extension("out"), stem.with_extension("err"));
        let line = describe(&command);
        command.stdin(Stdio::null()).stdout(append(&stdout)).stderr(append(&stderr));
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start `{line}`: {error}"));
        Self { line, child, stdout, stderr }
    }

    /// Its identifier.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Panics
    ///
    /// When the system cannot tell.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("cannot wait for `{}`: {error}", self.line))
    }

    /// Kills it at once, as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
        }
        let _ = self.wait(KILL_LIMIT);
    }

    /// Kills any process at once, if it is still there.
    pub fn kill_one(pid: u32) {
        crate::processes::kill(pid);
    }

    /// Asks it to end.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Interrupts it, as Ctrl-C does.
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of `{}`", self.line);
        until(&what, limit, || self.ended())
    }

    /// Waits for its end and gives all it said.
    ///
    /// # Panics
    ///
    /// When it does not end within `limit`.
    #[must_use]
    pub fn finish(mut self, limit: Duration) -> Ran {
        let code = self.wait(limit).code();
        Ran { line: self.line.clone(), code, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// What it wrote to standard output until now.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it wrote to standard error until now.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    fn signal(&mut self, signal: Signal) {
        if self.ended().is_none()
            && let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// Runs `command` to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be started, or does not end within [`COMMAND_LIMIT`].
    #[must_use]
    pub fn of(command: Command) -> Self {
        Self::within(command, COMMAND_LIMIT)
    }

    /// Runs `command` to its end.
    ///
    /// # Panics
    ///
    /// When it cannot be started, or does not end within `limit`.
    #[must_use]
    pub fn within(command: Command, limit: Duration) -> Self {
        let dir = tempfile::tempdir().expect("a directory for output");
        Process::start(command, &dir.path().join("ran")).finish(limit)
    }

    /// Itself when it ended with `code`.
    ///
    /// # Panics
    ///
    /// When it did not, with all it said.
    pub fn expect(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}\n{self}");
        self
    }

    /// Its standard output when it succeeded, without the last line's end.
    ///
    /// # Panics
    ///
    /// When it did not succeed.
    #[must_use]
    pub fn done(self) -> String {
        self.expect(0).stdout.trim_end().to_owned()
    }

    /// Its standard output as one JSON value.
    ///
    /// # Panics
    ///
    /// When it did not succeed, or said something else.
    #[must_use]
    pub fn json(self) -> serde_json::Value {
        let ran = self.expect(0);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("not JSON: {error}\n{ran}"))
    }

    /// Asserts that it failed the way a program should: with `code`, one sentence after `error: ` in which each of
    /// `parts` occurs, nothing on standard output, and no trace of a panic.
    ///
    /// # Panics
    ///
    /// When it did not.
    pub fn refuses(&self, code: i32, parts: &[&str]) {
        assert!(self.code == Some(code), "expected exit code {code}\n{self}");
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert!(errors == 1, "expected one line that begins with `error: `\n{self}");
        for part in parts {
            assert!(self.stderr.contains(part), "expected `{part}` in the error\n{self}");
        }
        self.keeps_its_manners();
        assert!(self.stdout.is_empty(), "expected nothing on standard output\n{self}");
    }

    /// Asserts that nothing in what it said is meant for the program's authors.
    ///
    /// # Panics
    ///
    /// When something is.
    pub fn keeps_its_manners(&self) {
        for word in ["panicked", "stack backtrace", "RUST_BACKTRACE", "unwrap()", "Os {", "Error("] {
            assert!(!self.stderr.contains(word), "`{word}` is not for people\n{self}");
        }
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        writeln!(f, "$ {}", self.line)?;
        writeln!(f, "ended with {code}")?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            writeln!(f, "--- {name}")?;
            f.write_str(text)?;
        }
        Ok(())
    }
}

fn append(path: &Path) -> File {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.unwrap_or_else(|error| panic!("cannot write `{}`: {error}", path.display()))
}

fn read(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
