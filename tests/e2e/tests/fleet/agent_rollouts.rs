//! A release of the agent in waves over twenty hosts: a bad one breaks the second wave, is halted and taken back, and the
//! mended one arrives everywhere but on hosts that speak the protocol before.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;
use sloth_core::{
    Chain, Clock, Labels,
    fs::{Access, replace},
};
use sloth_e2e::{Fleet, Process, Program, binary, until_true};
use sloth_protocol::wire::{AgentRequest, AgentResponse, Hello, PROTO_MIN, PROTO_UPDATES, Platform, Poll};
use sloth_transport::{Connector, Credential, Identity, Link, Priority, request};
use tokio::runtime::{Builder, Runtime};

const FAILED: i32 = 1;
const OWN: &str = env!("CARGO_PKG_VERSION");
/// Hosts with a supervisor, and such as were installed before there were updates.
const SUPERVISED: usize = 18;
const OLD: [&str; 2] = ["old-1", "old-2"];
/// Times short enough for a test, and long enough for as many hosts on two cores.
const SETTINGS: &str = "hold = '1s'\n[update]\ntrial = '60s'\nsoak = '300ms'\nstarts = 2\nrestart = '50ms'\n";
/// A setting that the bad release does not know.
const KEY: &str = "log_bytes_per_task";
const BROKEN_KEY: &str = "log_bytes_per_tusk";
const ROLLOUT: [&str; 10] =
    ["--name", "agents", "--on", "*", "--waves", "4,12,100%", "--soak", "1s", "--on-halt", "rollback"];
/// How long one stage of it may take.
const STAGE_LIMIT: Duration = Duration::from_secs(120);

/// A fleet of supervised hosts, and some whose agents are of the version of the protocol before.
struct Hosts {
    fleet: Fleet,
    package: PathBuf,
    _supervisors: Vec<Process>,
    _old: Vec<OldAgent>,
}

/// An agent that is made of the real transport and speaks what was spoken before there were updates: it says hello,
/// and polls.
struct OldAgent {
    _runtime: Runtime,
}

impl Hosts {
    fn start() -> Self {
        let mut fleet = Fleet::start();
        let package = fleet.dir().join("sloth-agent");
        fs::copy(binary(Program::Agent), &package).expect("copied");
        // Twenty hosts stage it: what names its symbols is not needed. Where nothing strips, it is as good.
        let _ = Command::new("strip").arg(&package).status();
        let names: Vec<String> = (1..=SUPERVISED).map(|number| format!("web-{number}")).collect();
        for name in names.iter().map(String::as_str).chain(OLD) {
            fleet.enrol(name, &["role=web"]);
        }
        let supervisors = names.iter().map(|name| supervise(&fleet, &package, name)).collect();
        let old = OLD.map(|name| OldAgent::start(&fleet, name)).into();
        let all: Vec<&str> = names.iter().map(String::as_str).chain(OLD).collect();
        fleet.wait_connected(&all);
        Self { fleet, package, _supervisors: supervisors, _old: old }
    }

    /// The agent, saying another version of itself, and with another change.
    fn build(&self, version: &str, change: Option<(&str, &str)>) -> PathBuf {
        let mut bytes = fs::read(&self.package).expect("readable");
        for (from, to) in change.into_iter().chain([(OWN, version)]) {
            put_in_place(&mut bytes, from.as_bytes(), to.as_bytes());
        }
        let path = self.fleet.dir().join(format!("sloth-agent-{version}"));
        replace(&path, &bytes, Access::Owner).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        path
    }

    fn publish(&self, version: &str, program: &Path, from: &Path) {
        let [program, from, key] = [program, from, &self.fleet.key()].map(|path| path.display().to_string());
        let arguments = ["--file", &program, "--delta-from", &from, "--version", version, "--key", &key];
        let _ = self.fleet.coord(&[&["release", "publish"], &arguments[..]].concat()).done();
    }

    fn show(&self) -> Value {
        self.fleet.coord(&["rollout", "show", "agents", "-o", "json"]).json()
    }

    fn wait_for(&self, status: &str) -> Value {
        until_true(&format!("a rollout that is {status}"), STAGE_LIMIT, || self.show()["status"] == status);
        self.show()
    }

    fn hosts(&self, standing: &str) -> Vec<Value> {
        let hosts = self.fleet.coord(&["rollout", "show", "agents", "--hosts", "-o", "json"]).json();
        let hosts = hosts.as_array().expect("hosts").clone();
        hosts.into_iter().filter(|host| host["standing"] == standing).collect()
    }

    /// How many agents run a version.
    fn running(&self, version: &str) -> usize {
        let agents = self.fleet.coord(&["agents", "list", "-o", "json"]).json();
        let agents = agents.as_array().expect("agents").iter();
        agents.filter(|agent| agent["version"] == version && agent["protocol"] == PROTO_UPDATES).count()
    }
}

impl OldAgent {
    fn start(fleet: &Fleet, name: &str) -> Self {
        let credential = Credential::load(&fleet.coordinator_dir().join("admin.toml")).expect("a credential");
        let identity = fs::read_to_string(fleet.agent(name).dir.join("identity.pem")).expect("an identity");
        let identity = Identity::from_pem(&identity.into()).expect("an identity");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(async move {
            let connector = Connector::enrolled(credential.authority, identity);
            let link = connector.connect(&credential.addresses, Clock::new().now()).await;
            poll(&link.unwrap_or_else(|error| panic!("{}", Chain(&error)))).await;
        });
        Self { _runtime: runtime }
    }
}

fn supervise(fleet: &Fleet, package: &Path, name: &str) -> Process {
    let host = fleet.agent(name);
    replace(&host.dir.join("agent.toml"), SETTINGS.as_bytes(), Access::Owner).expect("written");
    let mut command = Command::new(package);
    command.arg("supervise").arg("--dir").arg(&host.dir).env("HOME", &host.home);
    Process::start(command, &fleet.dir().join("logs").join(name))
}

/// Says hello in the version of the protocol before, and polls until the coordinator goes.
async fn poll(link: &Link) {
    let hello = Hello {
        proto_min: PROTO_MIN,
        proto_max: PROTO_UPDATES - 1,
        features: 0,
        version: OWN.to_owned(),
        platform: Platform::default(),
        labels: Labels::new(),
        instance: 1,
    };
    let mut message = AgentRequest::Hello(hello);
    while let Ok((answer, _)) = request::<_, AgentResponse>(&link.connection, &message, Priority::Control).await {
        assert!(!matches!(&answer, AgentResponse::Refused(_)), "{answer:?}");
        if let AgentResponse::Work(work) = &answer {
            assert!(work.items.is_empty(), "it was told what it cannot know: {work:?}");
        }
        let hold = sloth_core::Millis::from_secs(1);
        message = AgentRequest::Poll(Poll { accepted: 0, hold, room: 1, root: 1, head: 0 });
    }
}

fn put_in_place(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len(), "addresses stay as they are");
    let places = bytes.windows(from.len()).enumerate().filter(|(_, window)| *window == from);
    let places: Vec<usize> = places.map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "there is something to change");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}

#[test]
fn a_bad_release_of_the_agent_is_taken_back_and_the_mended_one_arrives() {
    let hosts = Hosts::start();
    let fleet = &hosts.fleet;
    let bad = hosts.build("9.1.0", Some((KEY, BROKEN_KEY)));
    hosts.publish("9.1.0", &bad, &hosts.package);
    let create = |command: &str| {
        fleet.coord(&[&["rollout", command, "--agent", "9.1.0"], &ROLLOUT[..], &["-o", "json"]].concat())
    };
    let planned = create("plan").json();
    let rows = planned["hosts"].as_array().expect("hosts").iter();
    // The settings of some hosts are what the release does not know.
    let second: Vec<&Value> = rows.filter(|host| host["wave"] == 2).collect();
    assert_eq!(second.len(), 8, "{planned}");
    let breaks = second.iter().map(|host| host["name"].as_str().expect("a name")).filter(|name| !OLD.contains(name));
    for name in breaks {
        let settings = format!("{KEY} = 65536\n{SETTINGS}");
        replace(&fleet.agent(name).dir.join("agent.toml"), settings.as_bytes(), Access::Owner).expect("written");
    }
    let begun = create("create").json();
    assert_eq!((&begun["kind"], &begun["channel"]), (&"agent".into(), &"stable".into()), "{begun}");

    let halted = hosts.wait_for("halted");
    assert_eq!((&halted["open"], &halted["reasons"][0]["code"]), (&2.into(), &"wave_budget".into()), "{halted}");
    let way_out = halted["reasons"][1]["text"].as_str().expect("a way out").to_owned();
    assert!(way_out.contains(&format!("--version {OWN}")), "{way_out}");
    let failed = hosts.hosts("failed");
    assert!(
        failed.iter().any(|host| host["reason"].as_str().is_some_and(|why| why.contains("it was started 2 times"))),
        "{failed:?}"
    );
    fleet.coord(&["rollout", "watch", "agents"]).expect(FAILED);

    // Once the old program is published again, hosts go back by themselves; who failed runs it already.
    hosts.publish(OWN, &hosts.package, &bad);
    hosts.wait_for("rolled_back");
    until_true("hosts that all run the old version", STAGE_LIMIT, || hosts.running(OWN) == SUPERVISED);

    let mended = hosts.build("9.2.0", None);
    hosts.publish("9.2.0", &mended, &hosts.package);
    let _ = fleet.coord(&["rollout", "resume", "agents", "--newest"]).done();
    let complete = hosts.wait_for("complete");
    let counts = [&complete["hosts"]["proven"], &complete["hosts"]["held"], &complete["attempt"]];
    assert_eq!(counts.map(Value::as_u64), [Some(18), Some(2), Some(2)], "{complete}");
    assert_eq!(hosts.running("9.2.0"), SUPERVISED);
    let held = hosts.hosts("held");
    let why = held[0]["reason"].as_str().expect("a reason");
    assert!(why.contains("speaks version 1 of the protocol, which knows no updates"), "{why}");
}
