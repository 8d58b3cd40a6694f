//! A coordinator and its agents.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    binaries::{Program, binary},
    bundle::Bundle,
    clock::HostClock,
    processes,
    room::Room,
    running::{Process, Ran},
    view::RunView,
    wait::{CONNECT_LIMIT, RUN_LIMIT, START_LIMIT, until, until_true},
};

const PORT: u16 = 7461;
const HTTP_PORT: u16 = 7462;
/// How many lines of each log a failed test tells.
const LOG_TAIL_LINES: usize = 40;
/// How long what a run has started may outlive it.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// How long the last processes of a fleet may take to be gone.
const SWEEP_LIMIT: Duration = Duration::from_secs(10);

/// Where a fleet lives.
#[derive(Debug, Clone)]
pub struct Site {
    /// The coordinator's address.
    pub address: Ipv4Addr,
    /// Where the coordinator and the operator run; none for here.
    pub coordinator: Option<Arc<Room>>,
    /// Where agents run; none for here.
    pub agents: Option<Arc<Room>>,
    /// The coordinator's directory, when it is not to be in the fleet's own.
    pub coordinator_dir: Option<PathBuf>,
    /// The directory with the agents' directories, when it is not to be the fleet's own.
    pub agents_dir: Option<PathBuf>,
}

/// A coordinator, its operator, its publisher and its agents, in a directory of their own.
#[derive(Debug)]
pub struct Fleet {
    site: Site,
    dir: Option<TempDir>,
    root: PathBuf,
    coordinator: Option<Process>,
    agents: BTreeMap<String, AgentHost>,
    /// Of the hosts whose clocks the test sets; the coordinator's without a name.
    clocks: BTreeMap<Option<String>, HostClock>,
    commands: u32,
}

/// A host with an agent on it.
#[derive(Debug)]
pub struct AgentHost {
    name: String,
    /// The agent's own directory.
    pub dir: PathBuf,
    /// The home of what it runs, where witnesses are.
    pub home: PathBuf,
    process: Option<Process>,
}

impl Site {
    /// On loopback, at an address that no other fleet uses: the whole of `127.0.0.0/8` is this machine.
    #[must_use]
    pub fn loopback() -> Self {
        static FLEETS: AtomicU8 = AtomicU8::new(1);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let fleet = FLEETS.fetch_add(1, Ordering::Relaxed);
        let address = Ipv4Addr::new(127, high.clamp(1, 254), low, fleet);
        Self { address, coordinator: None, agents: None, coordinator_dir: None, agents_dir: None }
    }

    /// Where the coordinator listens.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        (self.address, PORT).into()
    }

    /// Where its health and its metrics are.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        (self.address, HTTP_PORT).into()
    }
}

impl Fleet {
    /// A coordinator that listens, on loopback.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(Site::loopback())
    }

    /// A coordinator that listens, somewhere.
    #[must_use]
    pub fn start_at(site: Site) -> Self {
        let mut fleet = Self::prepare(site);
        let (dir, listen, http) = (fleet.coordinator_dir(), fleet.site.listen(), fleet.site.http());
        let mut command = fleet.program(Program::Coordinator);
        command.arg("init").arg("--dir").arg(dir);
        command.args([format!("--listen={listen}"), format!("--address={listen}"), format!("--http={http}")]);
        Ran::of(command).expect(0);
        fleet.start_coordinator();
        fleet
    }

    /// A directory for a fleet, and nothing in it yet.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn prepare(site: Site) -> Self {
        let dir = tempfile::Builder::new().prefix("sloth-e2e-").tempdir().expect("a directory for a fleet");
        let root = dir.path().to_owned();
        std::fs::create_dir(root.join("logs")).expect("a directory for logs");
        Self {
            site,
            dir: Some(dir),
            root,
            coordinator: None,
            agents: BTreeMap::new(),
            clocks: BTreeMap::new(),
            commands: 0,
        }
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.root
    }

    /// Where it lives.
    #[must_use]
    pub const fn site(&self) -> &Site {
        &self.site
    }

    /// The coordinator's directory.
    #[must_use]
    pub fn coordinator_dir(&self) -> PathBuf {
        self.site.coordinator_dir.clone().unwrap_or_else(|| self.root.join("coordinator"))
    }

    /// Starts the coordinator, again if it was ended, and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it ends or does not listen in time.
    pub fn start_coordinator(&mut self) {
        let mut command = self.program(Program::Coordinator);
        command.arg("serve").arg("--dir").arg(self.coordinator_dir());
        self.clocks.get(&None).into_iter().for_each(|clock| clock.wear(&mut command));
        let mut process = Process::start(command, &self.log("coordinator"));
        until_true("a coordinator that listens", START_LIMIT, || {
            assert!(process.ended().is_none(), "the coordinator ended:\n{}", process.stderr());
            processes::listens_on(process.pid(), self.site.listen())
        });
        self.coordinator = Some(process);
    }

    /// The coordinator's process.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub const fn coordinator(&mut self) -> &mut Process {
        self.coordinator.as_mut().expect("a coordinator that was started")
    }

    /// Kills the coordinator at once.
    pub fn kill_coordinator(&mut self) {
        if let Some(mut process) = self.coordinator.take() {
            process.kill();
        }
    }

    /// A command of `sloth-coord`, with the first operator's credential.
    pub fn operator(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(Program::Coordinator);
        command.args(arguments);
        command
    }

    /// Runs a command of `sloth-coord`, with the first operator's credential.
    #[must_use]
    pub fn coord(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.operator(arguments))
    }

    /// Starts a command of `sloth-coord` that goes on.
    #[must_use]
    pub fn spawn(&mut self, arguments: &[&str]) -> Process {
        self.commands += 1;
        let log = self.log(&format!("command-{}", self.commands));
        Process::start(self.operator(arguments), &log)
    }

    /// The publisher's key, which is made when it is first asked for.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        let stem = self.root.join("publisher");
        let key = stem.with_extension("key");
        if !key.exists() {
            let stem = stem.display().to_string();
            self.coord(&["keys", "generate", "--out", &stem, "--no-passphrase"]).expect(0);
        }
        key
    }

    /// Publishes a bundle.
    pub fn publish(&self, bundle: &Bundle) {
        self.try_publish(bundle).expect(0);
    }

    /// Publishes a bundle with another key than the first publisher's.
    pub fn publish_with(&self, bundle: &Bundle, key: &Path) {
        let dir = bundle.write(&self.root.join("bundles"));
        let (dir, key) = (dir.display().to_string(), key.display().to_string());
        self.coord(&["publish", &dir, "--key", &key]).expect(0);
    }

    /// Tries to publish a bundle.
    #[must_use]
    pub fn try_publish(&self, bundle: &Bundle) -> Ran {
        let dir = bundle.write(&self.root.join("bundles"));
        let (dir, key) = (dir.display().to_string(), self.key().display().to_string());
        self.coord(&["publish", &dir, "--key", &key])
    }

    /// A join token for any number of hosts. A fleet without a trust root gets one first, by publishing something.
    #[must_use]
    pub fn token(&self, labels: &[&str]) -> String {
        if !self.root.join("publisher.key").exists() {
            self.publish(&Bundle::new("first", "task('a'):command('true')"));
        }
        let mut arguments = vec!["token", "create", "--uses", "1000", "--ttl", "1h"];
        arguments.extend(labels.iter().flat_map(|label| ["--label", label]));
        self.coord(&arguments).done()
    }

    /// Enrols a host with these labels, without starting its agent.
    pub fn enrol(&mut self, name: &str, labels: &[&str]) {
        let token = self.token(labels);
        let host = self.host(name);
        let dir = host.dir.display().to_string();
        Ran::of(self.agent_command(name, &["enroll", &token, "--name", name, "--dir", &dir])).expect(0);
    }

    /// Makes a place for a host, without enrolling it.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    pub fn host(&mut self, name: &str) -> &AgentHost {
        let parent = self.site.agents_dir.clone().unwrap_or_else(|| self.root.clone());
        let home = self.root.join(format!("{name}-home"));
        std::fs::create_dir_all(&home).expect("a directory for a home");
        let (name, dir) = (name.to_owned(), parent.join(name));
        self.agents.entry(name.clone()).or_insert_with(|| AgentHost { name, dir, home, process: None })
    }

    /// Enrols hosts with these labels, starts their agents and waits until they are connected.
    pub fn agents(&mut self, names: &[&str], labels: &[&str]) {
        for name in names {
            self.enrol(name, labels);
            self.start_agent(name);
        }
        self.wait_connected(names);
    }

    /// Starts an agent, again if it was ended.
    pub fn start_agent(&mut self, name: &str) {
        let dir = self.agent(name).dir.display().to_string();
        let command = self.agent_command(name, &["daemon", "--dir", &dir]);
        let process = Process::start(command, &self.log(name));
        self.agent_mut(name).process = Some(process);
    }

    /// A host.
    ///
    /// # Panics
    ///
    /// When there is none of this name.
    #[must_use]
    pub fn agent(&self, name: &str) -> &AgentHost {
        self.agents.get(name).unwrap_or_else(|| panic!("there is no host `{name}`"))
    }

    /// The process of an agent.
    ///
    /// # Panics
    ///
    /// When it was not started.
    pub fn daemon(&mut self, name: &str) -> &mut Process {
        self.agent_mut(name).process.as_mut().unwrap_or_else(|| panic!("the agent was not started"))
    }

    /// Kills an agent's daemon at once, and nothing else.
    pub fn kill_agent(&mut self, name: &str) {
        if let Some(mut process) = self.agent_mut(name).process.take() {
            process.kill();
        }
    }

    /// Kills an agent's daemon and its workers at once; what the workers have started goes on as it may.
    pub fn kill_agent_and_workers(&mut self, name: &str) {
        let Some(mut process) = self.agent_mut(name).process.take() else { return };
        let workers = processes::children(process.pid());
        process.kill();
        for worker in workers {
            processes::kill(worker);
        }
    }

    /// Kills an agent's workers at once, and leaves its daemon.
    pub fn kill_workers(&mut self, name: &str) {
        let daemon = self.daemon(name).pid();
        processes::children(daemon).into_iter().for_each(processes::kill);
    }

    /// Waits until nothing runs on a host but its daemon.
    pub fn wait_idle(&mut self, name: &str) {
        let daemon = self.daemon(name).pid();
        let host = self.agent(name);
        until_true("a host on which nothing is left", IDLE_LIMIT, || host.processes() == [daemon]);
    }

    /// A command of `sloth-agent` on a host.
    pub fn agent_command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.program(Program::Agent);
        command.args(arguments).env("HOME", &self.agent(name).home);
        self.clocks.get(&Some(name.to_owned())).into_iter().for_each(|clock| clock.wear(&mut command));
        command
    }

    /// Sets the clock of a host, or that of the coordinator: to a moment like `@2040-01-01 00:00:00`, or away from the
    /// right time, like `-365d`. Processes go by it that are started after it was set first; they follow it from then on.
    ///
    /// # Panics
    ///
    /// When `faketime` is not installed.
    pub fn set_clock(&mut self, host: Option<&str>, time: &str) {
        let file = self.log(&format!("{}.clock", host.unwrap_or("coordinator")));
        self.clocks.entry(host.map(str::to_owned)).or_insert_with(|| HostClock::new(file)).set(time);
    }

    /// Waits until these agents are connected.
    pub fn wait_connected(&self, names: &[&str]) {
        until_true(&format!("a connection of {names:?}"), CONNECT_LIMIT, || {
            let connected = self.connected();
            names.iter().all(|name| connected.iter().any(|found| found == name))
        });
    }

    /// The names of the agents that are connected.
    #[must_use]
    pub fn connected(&self) -> Vec<String> {
        let listed = self.coord(&["agents", "list", "-o", "json"]).json();
        let rows = crate::view::rows(&listed);
        let connected = rows.iter().filter(|row| row["connected"] == true);
        connected.filter_map(|row| row["name"].as_str().map(str::to_owned)).collect()
    }

    /// Starts a run and gives its id.
    ///
    /// # Panics
    ///
    /// When it is not started.
    #[must_use]
    pub fn run(&self, bundle: &str, selector: &str, arguments: &[&str]) -> String {
        let mut words = vec!["run", bundle, "--on", selector, "-o", "json"];
        words.extend(arguments);
        let started = self.coord(&words).json();
        started["run"].as_str().unwrap_or_else(|| panic!("no run in {started}")).to_owned()
    }

    /// How a run stands.
    #[must_use]
    pub fn show(&self, run: &str) -> RunView {
        RunView::read(&self.coord(&["runs", "show", run, "-o", "json"]).json())
    }

    /// Waits until a run has ended on every agent.
    #[must_use]
    pub fn wait_ended(&self, run: &str) -> RunView {
        until(&format!("the end of run {run}"), RUN_LIMIT, || Some(self.show(run)).filter(|view| view.ended))
    }

    fn program(&self, program: Program) -> Command {
        let room = match program {
            Program::Coordinator => &self.site.coordinator,
            Program::Agent => &self.site.agents,
        };
        let path = binary(program);
        let mut command = room.as_ref().map_or_else(|| Command::new(&path), |room| room.command(&path));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SLOTH_")) {
            command.env_remove(name);
        }
        // A panic must show itself as loudly as it can.
        command.env("RUST_BACKTRACE", "1").env("SLOTH_LOG", "info").current_dir(&self.root);
        if program == Program::Coordinator {
            command.env("SLOTH_CREDENTIAL", self.coordinator_dir().join("admin.toml"));
        }
        command
    }

    fn agent_mut(&mut self, name: &str) -> &mut AgentHost {
        self.agents.get_mut(name).unwrap_or_else(|| panic!("there is no host `{name}`"))
    }

    fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(name)
    }

    fn sweep(&mut self) {
        self.kill_coordinator();
        for host in self.agents.values_mut() {
            drop(host.process.take());
        }
        let mut tries = SWEEP_LIMIT.as_millis() / 50;
        loop {
            let left: Vec<u32> = self.agents.values().flat_map(AgentHost::processes).collect();
            if left.is_empty() || tries == 0 {
                return;
            }
            left.into_iter().for_each(processes::kill);
            tries -= 1;
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn tell_logs(&self) {
        let Ok(entries) = std::fs::read_dir(self.root.join("logs")) else { return };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<_> = text.lines().collect();
            if !lines.is_empty() {
                let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
                eprintln!("--- the end of {}\n{}", path.display(), tail.join("\n"));
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.sweep();
        if thread::panicking() {
            self.tell_logs();
            if let Some(dir) = self.dir.take() {
                eprintln!("--- the fleet's directory is kept: {}", dir.keep().display());
            }
        }
    }
}

impl AgentHost {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything that runs in its home: its agent, workers, and what they have started.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        processes::with_environment(&format!("HOME={}", self.home.display())).into_iter().collect()
    }
}
