//! What tests of the program share.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

pub mod coordinator;
pub mod host;
pub mod mirror;
pub mod trust;
pub mod updates;

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use sloth_core::fs::{Access, create_dir, replace};

/// The program, with an environment that tells nothing of who runs the tests.
pub fn agent(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sloth-agent"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("SLOTH_LOG", "info");
    command.stdin(Stdio::null());
    command
}

/// What a command said, and its exit code.
pub fn said(mut command: Command) -> (String, String, i32) {
    let Output { status, stdout, stderr } = command.output().expect("started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (text(stdout), text(stderr), status.code().unwrap_or(-1))
}

pub fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    create_dir(path.parent().expect("has one"), Access::Everyone).expect("made");
    replace(&path, text.as_bytes(), Access::Everyone).expect("written");
}

/// A program under way, killed when the test is over.
pub struct Running {
    pub child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stderr = child.stderr.take();
        Self { child, stdout, stderr }
    }

    /// Reads standard output up to a line that contains `text`, and returns that line.
    pub fn line_with(&mut self, text: &str) -> String {
        let mut before = String::new();
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).expect("read") != 0, "no `{text}` in: {before}");
            if line.contains(text) {
                return line;
            }
            before.push_str(&line);
        }
    }

    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Waits for the end: the rest of the output, all errors, and the exit code.
    pub fn end(mut self) -> (String, String, Option<i32>) {
        let (mut out, mut errors) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).expect("read");
        self.stderr.take().expect("piped").read_to_string(&mut errors).expect("read");
        let status = self.child.wait().expect("waited for");
        (out, errors, status.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process")).expect("a process");
    kill_process(pid, signal).expect("signalled");
}

/// Whether the process runs; one that ended and waits for its parent does not.
pub fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

impl Running {
    /// Reads standard error up to a line that contains `text`.
    pub fn stderr_with(&mut self, text: &str) {
        let stderr = self.stderr.as_mut().expect("piped");
        let (mut before, mut byte) = (Vec::new(), [0]);
        while !(before.ends_with(b"\n") && String::from_utf8_lossy(&before).contains(text)) {
            assert!(stderr.read(&mut byte).expect("read") != 0, "no `{text}`");
            before.push(byte[0]);
        }
    }
}
