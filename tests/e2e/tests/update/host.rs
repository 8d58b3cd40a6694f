//! A host with a supervisor, and versions that do what they are told to.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use sloth_core::{
    Digest,
    fs::{Access, replace},
};
use sloth_e2e::{Process, Program, Room, binary, children, until, until_true};
use sloth_protocol::update::{Marker, Slot, Version};

/// How long a supervisor may take until it takes requests.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(20);
/// How long an update may take, with all its restarts and waits.
pub(crate) const UPDATE_LIMIT: Duration = Duration::from_secs(90);
/// Where a host's disk is, in a room of its own.
pub(crate) const DISK: &str = "/mnt";

/// A host.
pub(crate) struct Host {
    /// The agent's directory as the supervisor sees it.
    pub(crate) dir: PathBuf,
    /// The same directory as the test sees it.
    pub(crate) seen: PathBuf,
    pub(crate) room: Option<Arc<Room>>,
    supervisor: Option<Process>,
    packaged: Version,
    variables: Vec<(String, String)>,
    logs: PathBuf,
}

impl Host {
    /// A host whose package and whose current version, 1.1.0, work.
    pub(crate) fn new(dir: PathBuf, seen: PathBuf, room: Option<Arc<Room>>, logs: &Path) -> Self {
        let packaged = Version::new(1, 0, 0);
        let host = Self { dir, seen, room, supervisor: None, packaged, variables: Vec::new(), logs: logs.to_owned() };
        fs::create_dir_all(host.seen.join("versions")).expect("made");
        host.set("20s", "200ms");
        host.put(&host.seen.join("package"), "works");
        host.stage(&current(), "works");
        let marker = Marker { current: Slot::Installed(current()), ..Marker::new(host.packaged.clone()) };
        replace(&host.seen.join("update.marker"), marker.encode().as_bytes(), Access::Owner).expect("written");
        host
    }

    /// Sets how long a version has to connect, and must then stay connected.
    pub(crate) fn set(&self, trial: &str, soak: &str) {
        let settings =
            format!("[update]\ntrial = '{trial}'\nsoak = '{soak}'\nstop = '60ms'\nfinish = '60ms'\nrestart = '5ms'\n");
        replace(&self.seen.join("agent.toml"), settings.as_bytes(), Access::Owner).expect("written");
    }

    /// Gives the supervisor a variable of the environment.
    pub(crate) fn give(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Stages a version that behaves so.
    pub(crate) fn stage(&self, version: &Version, behaviour: &str) {
        let dir = self.seen.join("versions").join(version.to_string());
        let _ = fs::remove_dir_all(&dir);
        self.put(&dir, behaviour);
    }

    fn put(&self, dir: &Path, behaviour: &str) {
        let program = dir.join("sloth-agent");
        fs::create_dir_all(dir).expect("made");
        let own = Path::new(env!("CARGO_BIN_EXE_sloth-e2e-daemon"));
        // On the host's disk there is one copy of it, with many names.
        let first = self.seen.join("package").join("sloth-agent");
        if first.exists() {
            fs::hard_link(&first, &program).expect("linked");
        } else {
            fs::copy(own, &program).expect("copied");
        }
        match behaviour {
            "is for another host" => {
                let mut bytes = fs::read(own).expect("readable");
                (bytes[18], bytes[19]) = (22, 0);
                fs::remove_file(&program).expect("unlinked");
                fs::copy(own, &program).expect("with its mode");
                replace_whole(&program, &bytes);
            }
            "is torn" => {
                let bytes = fs::read(own).expect("readable");
                fs::remove_file(&program).expect("unlinked");
                replace_whole(&program, &bytes[..bytes.len() / 2]);
            }
            _ => {}
        }
        let bytes = if behaviour == "is torn" { fs::read(own) } else { fs::read(&program) };
        let digest = Digest::of(&bytes.expect("readable")).to_string();
        replace(&dir.join("digest"), digest.as_bytes(), Access::Owner).expect("written");
        replace(&dir.join("behaviour"), behaviour.as_bytes(), Access::Owner).expect("written");
    }

    /// Puts the coordinator out of reach, or back.
    pub(crate) fn set_outage(&self, outage: bool) {
        let file = self.outage();
        if outage {
            replace_whole(&file, b"");
        } else {
            let _ = fs::remove_file(file);
        }
    }

    /// Where an outage is told: not on the host's disk, which may take nothing.
    fn outage(&self) -> PathBuf {
        self.logs.with_extension("outage")
    }

    /// Starts the supervisor, again if it was ended.
    pub(crate) fn start(&mut self) {
        let agent = binary(Program::Agent);
        let mut command = self.room.as_ref().map_or_else(|| Command::new(&agent), |room| room.command(&agent));
        command.arg("supervise").arg("--dir").arg(&self.dir);
        command.arg("--packaged").arg(self.dir.join("package/sloth-agent"));
        command.arg("--packaged-version").arg(self.packaged.to_string());
        command.env("SLOTH_E2E_OUTAGE", self.outage());
        command.envs(self.variables.iter().cloned());
        self.supervisor = Some(Process::start(command, &self.logs));
    }

    /// Another package, which works.
    pub(crate) fn install(&mut self, version: Version) {
        self.packaged = version;
    }

    pub(crate) fn supervisor(&mut self) -> &mut Process {
        self.supervisor.as_mut().expect("it was started")
    }

    /// Asks the supervisor for something as soon as it listens.
    pub(crate) fn ask(&self, request: &str) -> String {
        until("an answer of the supervisor", START_LIMIT, || ask(&self.seen, request))
    }

    /// The newest marker that can be read.
    pub(crate) fn marker(&self) -> Option<Marker> {
        let files = ["update.marker", "update.before"];
        files.iter().find_map(|file| Marker::decode(&fs::read(self.seen.join(file)).ok()?).ok())
    }

    /// The daemons that run.
    pub(crate) fn daemons(&mut self) -> Vec<u32> {
        let Some(supervisor) = &self.supervisor else { return Vec::new() };
        children(supervisor.pid())
    }

    /// The version that runs: it is the supervisor's only child.
    pub(crate) fn running(&mut self) -> Option<Version> {
        let daemons = self.daemons();
        let [daemon] = daemons.as_slice() else { return None };
        let exe = fs::read_link(format!("/proc/{daemon}/exe")).ok()?;
        let dir = exe.parent()?.file_name()?.to_str()?;
        if dir == "package" { Some(self.packaged.clone()) } else { dir.parse().ok() }
    }

    /// Waits until an update is over, nothing is put off, and what is current runs.
    pub(crate) fn settle(&mut self) -> Marker {
        until("a host on which nothing is on trial", UPDATE_LIMIT, || {
            if self.supervisor().ended().is_some() {
                // It came upon the disk just before that was mended. A service manager starts it again.
                let log = self.log();
                assert!(log.contains("cannot start the supervisor"), "the supervisor has ended:\n{log}");
                self.start();
            }
            let marker = self.marker()?;
            let current = marker.version(&marker.current);
            (marker.trial.is_none() && marker.put_off.is_none() && self.running() == Some(current)).then_some(marker)
        })
    }

    /// Ends the supervisor as a service manager does, and sees that nothing is left.
    pub(crate) fn stop(&mut self) {
        let daemons = self.daemons();
        let supervisor = self.supervisor();
        supervisor.terminate();
        let status = supervisor.wait(UPDATE_LIMIT);
        assert_eq!(status.code(), Some(0), "the supervisor ended badly:\n{}", self.log());
        until_true("daemons that are gone", START_LIMIT, || daemons.iter().all(|daemon| !sloth_e2e::alive(*daemon)));
    }

    pub(crate) fn log(&self) -> String {
        self.supervisor.as_ref().map(Process::stderr).unwrap_or_default()
    }
}

/// Asks the supervisor of the agent in `dir` for something; none when there is none.
pub(crate) fn ask(dir: &Path, request: &str) -> Option<String> {
    let mut socket = UnixStream::connect(dir.join("supervisor.sock")).ok()?;
    socket.set_read_timeout(Some(START_LIMIT)).ok()?;
    writeln!(socket, "{request}").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

/// The version that works and is current at the beginning.
pub(crate) fn current() -> Version {
    Version::new(1, 1, 0)
}

/// Writes over a file and keeps its mode.
pub(crate) fn replace_whole(path: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).open(path).expect("opened");
    file.write_all(bytes).expect("written");
}
