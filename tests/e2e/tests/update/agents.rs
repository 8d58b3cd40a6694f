//! Real agents under their supervisor, with a coordinator.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use sloth_core::{
    Digest,
    fs::{Access, replace},
};
use sloth_e2e::{Bundle, Fleet, Process, Program, Ran, alive, binary, children, until, until_true};
use sloth_protocol::update::{Marker, Verdict, Version};

use crate::host::{START_LIMIT, UPDATE_LIMIT};

pub(crate) const HOST: &str = "web-1";
/// Times short enough for a test.
const SETTINGS: &str =
    "hold = '1s'\n[update]\ntrial = '5s'\nsoak = '300ms'\nstop = '20s'\nfinish = '20s'\nrestart = '50ms'\nlosses = 3\n";
/// Longest that a daemon of a killed supervisor may be there still.
const ORPHAN_LIMIT: Duration = Duration::from_secs(5);

pub(crate) struct Supervised {
    pub(crate) fleet: Fleet,
    pub(crate) dir: PathBuf,
    pub(crate) supervisor: Process,
}

impl Supervised {
    /// An agent that is connected.
    pub(crate) fn start() -> Self {
        let mut fleet = Fleet::start();
        fleet.publish(&Bundle::new("slow", "task('a'):command('sleep 2')"));
        fleet.enrol(HOST, &[]);
        let dir = fleet.agent(HOST).dir.clone();
        replace(&dir.join("agent.toml"), SETTINGS.as_bytes(), Access::Owner).expect("written");
        let supervisor = supervise(&fleet, &dir);
        fleet.wait_connected(&[HOST]);
        Self { fleet, dir, supervisor }
    }

    /// Stages the real agent under another version's name.
    fn stage(&self, version: &Version) {
        let dir = self.dir.join("versions").join(version.to_string());
        fs::create_dir_all(&dir).expect("made");
        let program = dir.join("sloth-agent");
        fs::copy(binary(Program::Agent), &program).expect("copied");
        let digest = Digest::of(&fs::read(&program).expect("readable")).to_string();
        replace(&dir.join("digest"), digest.as_bytes(), Access::Owner).expect("written");
    }

    fn ask(&self, request: &str) -> String {
        crate::host::ask(&self.dir, request).expect("a supervisor that answers")
    }

    pub(crate) fn update(&self, arguments: &[&str]) -> Ran {
        let dir = self.dir.display().to_string();
        let arguments = ["update"].iter().chain(arguments).chain(&["--dir", &dir]).copied().collect::<Vec<_>>();
        Ran::of(self.fleet.agent_command(HOST, &arguments))
    }

    pub(crate) fn marker(&self) -> Marker {
        Marker::decode(&fs::read(self.dir.join("update.marker")).expect("a marker")).expect("readable")
    }

    /// Waits until an update is over.
    fn settle(&self) -> Marker {
        until("the end of a trial", UPDATE_LIMIT, || {
            let marker = self.marker();
            (marker.trial.is_none() && !marker.outcomes.is_empty()).then_some(marker)
        })
    }

    fn daemon(&self) -> Option<u32> {
        children(self.supervisor.pid()).first().copied()
    }

    /// The directory of the program that runs.
    pub(crate) fn runs(&self) -> Option<String> {
        let exe = fs::read_link(format!("/proc/{}/exe", self.daemon()?)).ok()?;
        Some(exe.parent()?.file_name()?.to_str()?.to_owned())
    }
}

fn supervise(fleet: &Fleet, dir: &std::path::Path) -> Process {
    let dir = dir.display().to_string();
    let command: Command = fleet.agent_command(HOST, &["supervise", "--dir", &dir]);
    Process::start(command, &fleet.dir().join("supervisor"))
}

#[test]
fn an_agent_is_updated_when_its_work_is_done_and_goes_back_when_told() {
    let own = Supervised::start();
    let new = Version::new(9, 1, 0);
    let run = own.fleet.run("slow", "*", &[]);
    until_true("a run that has begun", UPDATE_LIMIT, || own.fleet.show(&run).only().state == "running");
    own.stage(&new);
    assert!(own.ask(&format!("switch {new}")).starts_with("yes version 9.1.0 is tried"));
    let marker = own.settle();
    assert_eq!(marker.outcomes.last().map(|last| last.verdict), Some(Verdict::Confirmed), "{marker:?}");
    let view = own.fleet.wait_ended(&run);
    assert_eq!(
        (view.only().state.as_str(), view.only().tasks[0].attempts),
        ("succeeded", 1),
        "it was waited for: {view:?}"
    );
    assert_eq!(own.runs().as_deref(), Some("9.1.0"));

    let status = own.update(&["status"]).done();
    assert!(status.contains("current      9.1.0") && status.contains("from 0.1.0 to 9.1.0, confirmed"), "{status}");
    let dir = own.dir.display().to_string();
    let status = Ran::of(own.fleet.agent_command(HOST, &["status", "--dir", &dir])).done();
    assert!(status.contains("supervised   yes") && status.contains("current    9.1.0"), "{status}");

    own.update(&["hold"]).expect(0);
    own.stage(&Version::new(9, 2, 0));
    assert_eq!(
        own.ask("switch 9.2.0").trim_end(),
        "no updates are held on this host: `sloth-agent update unhold` lets them go on"
    );
    own.update(&["unhold"]).expect(0);
    own.update(&["forget-bad", "9.9.9"]).refuses(3, &["version 9.9.9 is not marked bad"]);

    assert_eq!(own.update(&["rollback"]).done(), "version 0.1.0 runs again");
    until_true("the package's own program", UPDATE_LIMIT, || own.runs().is_some_and(|dir| dir != "9.1.0"));
    assert!(own.ask("switch 9.1.0").starts_with("no version 9.1.0 is marked bad"));
    own.fleet.wait_connected(&[HOST]);
}

/// The coordinator is away for longer than a version on trial has to connect, which tells nothing of the version.
#[test]
fn an_outage_puts_a_version_off_and_the_report_is_given_once() {
    let mut own = Supervised::start();
    own.fleet.kill_coordinator();
    let new = Version::new(9, 1, 0);
    own.stage(&new);
    own.ask(&format!("switch {new}"));
    let put_off = until("a version that is put off", UPDATE_LIMIT, || own.marker().put_off);
    assert_eq!((put_off.reason.as_str(), put_off.against), ("it did not connect within 5s", 0));
    assert!(put_off.log_tail.contains("daemon started"), "{}", put_off.log_tail);
    until_true("the version before", UPDATE_LIMIT, || own.runs().is_some_and(|dir| dir != "9.1.0"));
    let status = own.update(&["status"]).done();
    assert!(status.contains("put off      9.1.0: it did not connect within 5s, and is tried again"), "{status}");
    own.fleet.start_coordinator();
    let marker = own.settle();
    assert_eq!(marker.outcomes.len(), 1, "{marker:?}");
    assert_eq!(marker.outcomes.last().map(|last| last.verdict), Some(Verdict::Confirmed), "{marker:?}");
    assert_eq!((own.runs().as_deref(), marker.bad(&new)), (Some("9.1.0"), None));
    // The daemon takes the outcome in.
    until_true("an outcome that is acknowledged", UPDATE_LIMIT, || own.marker().outcome().is_none());

    // Offline is no fault where a person says so.
    own.fleet.kill_coordinator();
    let next = Version::new(9, 2, 0);
    own.stage(&next);
    assert!(own.ask(&format!("switch {next} offline")).starts_with("yes"));
    until_true("a version that is confirmed offline", UPDATE_LIMIT, || {
        own.marker().version(&own.marker().current) == next
    });
    own.fleet.start_coordinator();
    own.fleet.wait_connected(&[HOST]);
}

/// The supervisor waits for the run that did it, and then becomes the new package's, in the same process.
#[test]
fn a_package_that_a_run_upgrades_is_taken_when_the_run_has_ended() {
    let mut own = Supervised::start();
    own.supervisor.terminate();
    own.supervisor.wait(UPDATE_LIMIT);
    let usr = own.fleet.dir().join("usr");
    fs::create_dir(&usr).expect("made");
    let program = usr.join("sloth-agent");
    fs::copy(binary(Program::Agent), &program).expect("copied");
    let dir = own.dir.display().to_string();
    let mut command = Command::new(&program);
    command.args(["supervise", "--dir", &dir]);
    own.supervisor = Process::start(command, &own.fleet.dir().join("supervisor-of-package"));
    own.fleet.wait_connected(&[HOST]);

    let new = own.build("0.2.0", &[]);
    let line = format!(
        "mv {} {program} && {program} update package --dir {dir} && sleep 2 && echo done > {dir}/upgraded",
        new.display(),
        program = program.display(),
    );
    own.fleet.publish(&Bundle::new("upgrade", &format!("task('a'):command({line:?})")));
    let run = own.fleet.run("upgrade", "*", &[]);
    let view = own.fleet.wait_ended(&run);
    assert_eq!((view.only().state.as_str(), view.only().tasks[0].attempts), ("succeeded", 1), "{view:?}");
    assert!(own.dir.join("upgraded").exists(), "the run was cut off");
    until_true("the new package", UPDATE_LIMIT, || own.marker().packaged == Version::new(0, 2, 0));
    assert!(own.supervisor.ended().is_none(), "it is the same process: {}", own.supervisor.stderr());
    let exe = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).expect("it runs");
    let daemon = until("a daemon", START_LIMIT, || own.daemon());
    assert_eq!((exe(own.supervisor.pid()), exe(daemon)), (program.clone(), program.clone()));
    own.fleet.wait_connected(&[HOST]);

    // What cannot even tell its version does not take the supervisor's place.
    fs::rename(&program, usr.join("before")).expect("moved");
    fs::copy("/bin/false", &program).expect("copied");
    own.update(&["package"]).expect(0);
    until_true("a package that is refused", UPDATE_LIMIT, || {
        own.supervisor.stderr().contains("the package's version is not taken: ")
    });
    own.fleet.wait_connected(&[HOST]);
    assert!(own.supervisor.ended().is_none());
}

#[test]
fn a_signed_file_is_an_update_and_any_other_is_none() {
    let own = Supervised::start();
    let (key, file) = (own.fleet.key(), own.fleet.dir().join("new"));
    fs::copy(binary(Program::Agent), &file).expect("copied");
    let public = key.with_extension("pub").display().to_string();
    let program = file.display().to_string();
    let update = |agent: &std::path::Path, dir: &std::path::Path, more: &[&str]| {
        let mut command = Command::new(agent);
        command.args(["self-update", "--from", &program, "--key", &public, "--dir"]).arg(dir).args(more);
        Ran::of(command)
    };
    let agent = binary(Program::Agent);
    update(&agent, &own.dir, &[]).refuses(2, &["new.minisig"]);
    let mut minisign = Command::new("minisign");
    minisign.args(["-S", "-W", "-s"]).arg(&key).arg("-m").arg(&file);
    Ran::of(minisign).expect(0);
    update(&agent, &own.dir, &[]).refuses(3, &["version 0.1.0 is not newer than 0.1.0"]);
    update(&agent, &own.dir, &["--allow-older"]).refuses(3, &["version 0.1.0 is the one that runs"]);

    // Without a supervisor the program itself is replaced.
    let alone = tempfile::tempdir().expect("a directory");
    let place = alone.path().join("sloth-agent");
    fs::copy(&agent, &place).expect("copied");
    let answer = update(&place, alone.path(), &["--allow-older"]).done();
    assert!(answer.contains("is version 0.1.0 from now on"), "{answer}");
    let mut names: Vec<_> =
        fs::read_dir(alone.path()).expect("listed").map(|file| file.expect("a file").file_name()).collect();
    names.sort();
    assert_eq!(names, ["sloth-agent", "sloth-agent.previous"]);

    let staged = || fs::read_dir(own.dir.join("versions")).map_or(0, Iterator::count);
    let before = staged();
    let mut bytes = fs::read(&file).expect("readable");
    bytes[100_000] ^= 1;
    crate::host::replace_whole(&file, &bytes);
    update(&agent, &own.dir, &["--allow-older"]).refuses(3, &["does not match the content"]);
    update(&place, alone.path(), &["--allow-older"]).refuses(3, &["does not match the content"]);
    assert_eq!(staged(), before, "nothing of it is left");
}

#[test]
fn a_signed_release_is_an_update_of_hosts_that_trust_its_signers() {
    let mut fleet = Fleet::start();
    fleet.enrol(HOST, &[]);
    let alone = tempfile::tempdir().expect("a directory");
    let place = alone.path().join("sloth-agent");
    fs::copy(binary(Program::Agent), &place).expect("copied");
    let (program, key) = (place.display().to_string(), fleet.key().display().to_string());
    let out = fleet.dir().join("releases");
    fs::create_dir(&out).expect("made");
    let dir = out.display().to_string();
    fleet.coord(&["release", "publish", "--file", &program, "--version", "0.1.0", "--out", &dir]).expect(0);
    let release = out.join("release-0.1.0.json");
    let update = |program: &str, more: &[&str]| {
        let mut command = Command::new(&place);
        command.args(["self-update", "--from", program, "--release"]).arg(&release);
        command.arg("--dir").arg(&fleet.agent(HOST).dir).args(more);
        Ran::of(command)
    };
    update(&program, &["--allow-older"]).refuses(3, &["it carries no signature"]);

    let other = fleet.dir().join("other").display().to_string();
    fleet.coord(&["keys", "generate", "--out", &other, "--no-passphrase"]).expect(0);
    let file = release.display().to_string();
    fleet.coord(&["release", "sign", &file, "--key", &format!("{other}.key")]).expect(0);
    update(&program, &["--allow-older"]).refuses(3, &["0 of the 1 keys that must sign it have signed"]);

    fleet.coord(&["release", "sign", &file, "--key", &key]).expect(0);
    update(&program, &[]).refuses(3, &["version 0.1.0 is not newer than 0.1.0"]);
    let foreign = binary(Program::Coordinator).display().to_string();
    update(&foreign, &["--allow-older"]).refuses(3, &["no platform with this program"]);
    let answer = update(&program, &["--allow-older"]).done();
    assert!(answer.contains("is version 0.1.0 from now on"), "{answer}");
}

#[test]
fn daemon_and_supervisor_live_and_die_together() {
    let mut own = Supervised::start();
    let daemon = own.daemon().expect("a daemon");
    own.supervisor.kill();
    until_true("a daemon that is gone", ORPHAN_LIMIT, || !alive(daemon));

    own.supervisor = supervise(&own.fleet, &own.dir);
    let daemon = until("a daemon", START_LIMIT, || own.daemon());
    own.fleet.wait_connected(&[HOST]);
    Process::kill_one(daemon);
    let next = until("another daemon", START_LIMIT, || own.daemon().filter(|next| *next != daemon));
    // The coordinator may not know yet that the one before is gone.
    until_true("a daemon that works", START_LIMIT, || own.supervisor.stderr().matches("connected link=1").count() == 3);
    own.supervisor.terminate();
    assert_eq!(own.supervisor.wait(UPDATE_LIMIT).code(), Some(0), "{}", own.supervisor.stderr());
    assert!(!alive(next));
    assert!(own.supervisor.stderr().contains("daemon stopped"), "{}", own.supervisor.stderr());
}

#[test]
fn a_host_that_is_not_enrolled_is_told_so_as_by_the_daemon() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(binary(Program::Agent));
    command.arg("supervise").arg("--dir").arg(dir.path());
    let ran = Ran::of(command).expect(3);
    assert!(ran.stderr.contains("error: ") && ran.stderr.contains("enroll"), "{ran}");
}
