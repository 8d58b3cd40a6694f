//! An agent of the tests: a daemon as a process, enrolled at a coordinator of the tests.

#![allow(clippy::print_stderr, reason = "a test that failed shows the log")]

use std::{
    path::PathBuf,
    process::Child,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use sloth_core::RunId;

use super::{agent, coordinator::Coordinator, said, send, write};

const WAIT: Duration = Duration::from_secs(30);

/// An enrolled agent in a directory of its own.
pub struct Agent {
    pub coordinator: Coordinator,
    pub dir: tempfile::TempDir,
    pub daemon: Option<Child>,
}

impl Agent {
    pub fn enrolled() -> Self {
        Self::enrolled_at(Coordinator::start())
    }

    pub fn enrolled_at(coordinator: Coordinator) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let own = Self { coordinator, dir, daemon: None };
        let (out, errors, code) = own.enroll(&[]);
        assert!(out.contains("enrolled as `web-1`") && code == 0, "{out}{errors}");
        own
    }

    pub fn enroll(&self, more: &[&str]) -> (String, String, i32) {
        let token = self.coordinator.token().to_string();
        let mut command = agent(&["enroll", &token, "--name", "web-1", "--label", "rack=7", "--dir"]);
        command.arg(self.agent_dir()).args(more);
        said(command)
    }

    pub fn agent_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// A file beside the agent's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn start(&mut self) {
        self.start_as("daemon");
    }

    /// Starts the daemon under a supervisor, whose death is the daemon's.
    pub fn start_supervised(&mut self) {
        self.start_as("supervise");
    }

    fn start_as(&mut self, command: &str) {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(self.file("log")).expect("opened");
        let mut command = agent(&[command, "--dir"]);
        command.arg(self.agent_dir()).env("SLOTH_LOG", "info,sloth_agent=debug").stderr(log);
        self.daemon = Some(command.spawn().expect("started"));
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("started").id()
    }

    pub fn kill(&mut self) {
        send(self.pid(), Signal::KILL);
        self.daemon.take().expect("started").wait().expect("waited for");
    }

    /// Runs a workflow file with the agent's directory as `values.dir`.
    pub fn run(&self, text: &str) -> RunId {
        let bundle = self.file("bundle");
        write(&bundle, "main.sloth", text);
        let dir = self.dir.path().to_str().expect("text");
        self.coordinator.run(&bundle, &serde_json::json!({ "dir": dir }))
    }

    /// Waits until a task has written a line into a file, and returns the file's lines.
    pub fn lines(&self, name: &str, count: usize) -> Vec<String> {
        let read = || std::fs::read_to_string(self.file(name)).unwrap_or_default();
        until(&format!("{count} lines in `{name}`"), || count <= read().lines().count());
        read().lines().map(str::to_owned).collect()
    }

    /// The worker's process.
    pub fn worker(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let text = std::fs::read_to_string(children).expect("read");
        text.split_whitespace().next().expect("a worker").parse().expect("a number")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the daemon's log:\n{}", self.log());
        }
    }
}

pub fn until(what: &str, holds: impl FnMut() -> bool) {
    until_within(what, WAIT, holds);
}

pub fn until_within(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
