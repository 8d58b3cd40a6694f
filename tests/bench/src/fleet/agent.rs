//! A real agent.

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sloth_protocol::wire::JoinToken;

use super::{Coordinator, Operator};
use crate::{
    Bench,
    process::{self, Process},
};

/// How long an agent may take to connect.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// How often the coordinator is asked whether it is there.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// An enrolled agent.
#[derive(Debug)]
pub(crate) struct Agent {
    name: String,
    program: PathBuf,
    home: PathBuf,
}

impl Agent {
    /// Enrols an agent under `name`, in a directory beside the coordinator's.
    pub(crate) fn enrol(bench: &Bench, coordinator: &Coordinator, token: &JoinToken, name: &str) -> Result<Self> {
        let program = bench.programs.join("sloth-agent");
        let home = coordinator.dir().join(name);
        let label = format!("bench={name}");
        process::run(
            Command::new(&program)
                .args(["enroll", &token.to_string(), "--name", name, "--label", &label, "--dir"])
                .arg(&home),
        )?;
        Ok(Self { name: name.to_owned(), program, home })
    }

    /// Matches this agent and no other.
    pub(crate) fn selector(&self) -> String {
        format!("bench={}", self.name)
    }

    /// Its settings; there are none at first.
    pub(crate) fn settings(&self) -> PathBuf {
        self.home.join("agent.toml")
    }

    /// Starts the daemon.
    pub(crate) fn start(&self) -> Result<Process> {
        let mut daemon = Command::new(&self.program);
        daemon.args(["daemon", "--dir"]).arg(&self.home);
        Process::start(&mut daemon, &self.home.with_extension("log"))
    }

    /// Starts the daemon and waits until the coordinator has it.
    pub(crate) async fn connect(&self, operator: &Operator) -> Result<Process> {
        self.connected(self.start()?, operator).await
    }

    /// Starts the daemon as packages do, under its supervisor, whose process is given, and waits until the coordinator has it.
    pub(crate) async fn supervise(&self, operator: &Operator) -> Result<Process> {
        let mut supervisor = Command::new(&self.program);
        supervisor.args(["supervise", "--dir"]).arg(&self.home);
        let process = Process::start(&mut supervisor, &self.home.with_extension("log"))?;
        self.connected(process, operator).await
    }

    /// What the host says of its updates; nothing before there is something to say.
    pub(crate) fn update_status(&self) -> Result<String> {
        let mut status = Command::new(&self.program);
        let output = status.args(["update", "status", "--dir"]).arg(&self.home).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn connected(&self, process: Process, operator: &Operator) -> Result<Process> {
        let patient_until = Instant::now() + CONNECT_PATIENCE;
        while !operator.is_connected(&self.name).await? {
            let log = self.home.with_extension("log");
            ensure!(Instant::now() < patient_until, "the agent did not connect; its log is `{}`", log.display());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(process)
    }
}
