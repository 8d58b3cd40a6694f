//! A coordinator of its own for each row.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use sloth_core::fs::{Access, create_dir, replace};
use sloth_transport::Credential;

use super::Operator;
use crate::{
    Bench,
    process::{self, Process},
};

/// How long the coordinator may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked at while it starts.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A running coordinator in a directory of its own; both go when it is dropped.
#[derive(Debug)]
pub(crate) struct Coordinator {
    /// The program. Stops before the directory goes.
    pub(crate) process: Process,
    program: PathBuf,
    http: SocketAddr,
    dir: tempfile::TempDir,
}

impl Coordinator {
    /// Makes a coordinator with a publisher's key and a first bundle, and starts it.
    pub(crate) fn start(bench: &Bench) -> Result<Self> {
        let dir = bench.directory()?;
        let program = bench.programs.join("sloth-coord");
        let (address, http) = (free_udp()?.to_string(), free_tcp()?);
        let home = dir.path().join("coordinator");
        process::run(
            Command::new(&program)
                .args(["init", "--listen", &address, "--address", &address, "--http", &http.to_string(), "--dir"])
                .arg(&home),
        )?;
        let process = serve(&program, dir.path())?;
        let coordinator = Self { process, program, http, dir };
        coordinator.wait_until_ready()?;
        let key = coordinator.dir.path().join("publisher");
        // The first bundle brings the trust root, before which no agent can enrol.
        process::run(coordinator.command(["keys", "generate", "--no-passphrase", "--out"]).arg(key))?;
        let seed = coordinator.write_bundle("seed", "1", "task('nothing'):command(function() return true end)")?;
        coordinator.publish(&seed)?;
        Ok(coordinator)
    }

    /// Ends the program and starts it anew.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.process.stop()?;
        self.process = serve(&self.program, self.dir.path())?;
        self.wait_until_ready()
    }

    /// Its directory's directory, for what goes with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A connection with the first operator's credential.
    pub(crate) async fn operator(&self) -> Result<Operator> {
        Operator::connect(&self.credential()?).await
    }

    /// A command of the operator's.
    pub(crate) fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("SLOTH_CREDENTIAL", self.credential_path());
        command
    }

    /// Writes a bundle for every host: a description and one workflow file. Gives its directory.
    pub(crate) fn write_bundle(&self, name: &str, version: &str, workflow: &str) -> Result<PathBuf> {
        let dir = self.dir.path().join(name);
        create_dir(&dir, Access::Everyone)?;
        let description = format!(
            "name = \"{name}\"\nversion = \"{version}\"\nworkflow = \"main.sloth\"\naudience = \"*\"\n\
             capabilities = [\"exec\", \"fs:read\", \"fs:write\"]\n"
        );
        replace(&dir.join("bundle.toml"), description.as_bytes(), Access::Everyone)?;
        replace(&dir.join("main.sloth"), workflow.as_bytes(), Access::Everyone)?;
        Ok(dir)
    }

    /// Publishes the bundle in the directory `bundle`, with the program.
    pub(crate) fn publish(&self, bundle: &Path) -> Result<()> {
        let key = self.dir.path().join("publisher.key");
        process::run(self.command(["publish"]).arg(bundle).arg("--key").arg(key)).map(drop)
    }

    /// What the coordinator counts under `name`, or none when it does not.
    pub(crate) fn metric(&self, name: &str) -> Result<Option<f64>> {
        let text = self.get("/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.and_then(|value| value.trim().parse().ok()))
    }

    fn credential_path(&self) -> PathBuf {
        self.dir.path().join("coordinator/admin.toml")
    }

    fn credential(&self) -> Result<Credential> {
        Ok(Credential::load(&self.credential_path())?)
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.http)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        ensure!(text.starts_with("HTTP/1.1 200"), "`{path}` answers `{}`", text.lines().next().unwrap_or_default());
        Ok(text)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let patient_until = Instant::now() + START_PATIENCE;
        while let Err(error) = self.get("/readyz") {
            if patient_until < Instant::now() {
                let log = std::fs::read_to_string(self.dir.path().join("coordinator.log")).unwrap_or_default();
                bail!("the coordinator is not ready ({error:#}); its log: {log}");
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

fn serve(program: &Path, dir: &Path) -> Result<Process> {
    let mut serve = Command::new(program);
    serve.args(["serve", "--dir"]).arg(dir.join("coordinator"));
    Process::start(&mut serve, &dir.join("coordinator.log"))
}

fn free_udp() -> Result<SocketAddr> {
    Ok(UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr())?)
}

fn free_tcp() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr())?)
}
