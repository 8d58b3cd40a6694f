//! Releases of the real agent, published and ordered: fetched, tried by the supervisor, and reported.

use std::{fs, path::PathBuf};

use serde_json::Value;
use sloth_core::fs::{Access, replace};
use sloth_e2e::{Program, Ran, binary, until};
use sloth_protocol::update::Version;

use crate::{
    agents::{HOST, Supervised},
    host::UPDATE_LIMIT,
};

impl Supervised {
    /// The real agent, saying another version of itself and with other changes.
    pub(crate) fn build(&self, version: &str, changes: &[(&[u8], &[u8])]) -> PathBuf {
        let mut bytes = fs::read(binary(Program::Agent)).expect("readable");
        let own = env!("CARGO_PKG_VERSION").as_bytes();
        for (from, to) in changes.iter().copied().chain([(own, version.as_bytes())]) {
            assert_eq!(from.len(), to.len(), "addresses stay as they are");
            let places: Vec<usize> =
                bytes.windows(from.len()).enumerate().filter(|(_, window)| *window == from).map(|(at, _)| at).collect();
            assert!(!places.is_empty());
            for at in places {
                bytes[at..at + to.len()].copy_from_slice(to);
            }
        }
        let path = self.fleet.dir().join(format!("sloth-agent-{version}"));
        replace(&path, &bytes, Access::Owner).expect("written");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        path
    }

    fn release(&self, arguments: &[&str]) -> Ran {
        self.fleet.coord(&[&["release"], arguments].concat())
    }

    fn publish(&self, version: &str, file: &std::path::Path) -> String {
        let (file, key) = (file.display().to_string(), self.fleet.key().display().to_string());
        let old = binary(Program::Agent).display().to_string();
        let from = ["--delta-from", &old, "--key", &key];
        self.release(&[&["publish", "--file", &file, "--version", version][..], &from].concat()).done()
    }

    fn view(&self) -> Value {
        self.fleet.coord(&["agents", "show", HOST, "-o", "json"]).json()
    }

    /// Waits until the coordinator says that the update stands so.
    fn stands(&self, state: &str) -> Value {
        until(&format!("an update that is {state}"), UPDATE_LIMIT, || {
            let view = self.view();
            (view["update"]["state"] == state).then_some(view)
        })
    }
}

#[test]
fn a_release_is_ordered_made_of_the_one_that_runs_and_confirmed() {
    let own = Supervised::start();
    let file = own.build("9.1.0", &[]);
    let answer = own.publish("9.1.0", &file);
    assert!(answer.starts_with("published release 9.1.0 of the agent as number "), "{answer}");
    let listed = own.release(&["list"]).done();
    assert!(listed.contains("9.1.0") && listed.contains("stable"), "{listed}");

    own.release(&["assign", "9.1.0", "--on", HOST]).expect(0);
    let view = own.stands("confirmed");
    let said = [&view["version"], &view["update"]["from"], &view["update"]["to"]];
    assert_eq!(said.map(|value| value.as_str()), [Some("9.1.0"), Some(env!("CARGO_PKG_VERSION")), Some("9.1.0")]);
    let program = own.dir.join("versions/9.1.0/sloth-agent");
    assert!(fs::read(&program).expect("staged") == fs::read(&file).expect("readable"), "it is what was signed");
    assert_eq!(own.runs().as_deref(), Some("9.1.0"));
    let log = own.supervisor.stdout() + &own.supervisor.stderr();
    assert!(log.contains("fetching an update as a delta"), "{log}");
    let shown = own.fleet.coord(&["agents", "show", HOST]).done();
    assert!(shown.contains("update     9.1.0 confirmed from 0.1.0"), "{shown}");

    // The daemon that a restarted coordinator hears of has nothing left to report.
    let marker = until("an outcome that is acknowledged", UPDATE_LIMIT, || {
        let marker = own.marker();
        marker.outcome().is_none().then_some(marker)
    });
    assert_eq!(marker.outcomes.len(), 1, "{marker:?}");
    own.release(&["assign", "9.1.0", "--on", HOST]).expect(0);
    assert_eq!(own.stands("confirmed")["update"]["reason"], "it runs already");
}

#[test]
fn a_release_that_cannot_connect_goes_back_and_says_so() {
    let own = Supervised::start();
    // It speaks to nobody.
    let file = own.build("9.2.0", &[(b"sloth/1", b"sloth/9")]);
    own.publish("9.2.0", &file);
    own.release(&["assign", "9.2.0", "--on", HOST]).expect(0);
    let view = own.stands("rolled back");
    assert_eq!(view["version"], env!("CARGO_PKG_VERSION"));
    let (reason, tail) = (view["update"]["reason"].to_string(), view["update"]["log_tail"].to_string());
    assert!(reason.contains("it did not connect within 5s") && tail.contains("daemon started"), "{reason} {tail}");
    // It is not tried again unless a person on the host lets it.
    own.release(&["assign", "9.2.0", "--on", HOST]).expect(0);
    let held = own.stands("held");
    assert!(held["update"]["reason"].to_string().contains("failed here before"), "{held}");

    own.update(&["hold"]).expect(0);
    let file = own.build("9.3.0", &[]);
    own.publish("9.3.0", &file);
    own.release(&["assign", "9.3.0", "--on", HOST]).expect(0);
    let held = until("an update that is held by hand", UPDATE_LIMIT, || {
        let view = own.view();
        (view["update"]["to"] == "9.3.0" && view["update"]["state"] == "held").then_some(view)
    });
    assert!(held["update"]["reason"].to_string().contains("updates are held on this host"), "{held}");
    own.release(&["withdraw", "9.3.0"]).expect(0);
    own.release(&["assign", "9.3.0", "--on", HOST]).refuses(3, &["there is no release `9.3.0`"]);
}

/// Whatever is published: the agent that works goes on, connected, and what is said of it is true.
#[test]
fn no_bad_release_takes_the_agent_that_works() {
    let own = Supervised::start();
    let dir = own.fleet.dir().to_owned();
    let path = |name: &str| dir.join(name).display().to_string();
    let key = own.fleet.key().display().to_string();
    let publish = |version: &str, more: &[&str]| own.release(&[&["publish", "--version", version][..], more].concat());
    let assign = |version: &str| own.release(&["assign", version, "--on", HOST]);

    // It takes all the memory that it can have, though it was connected.
    let mut bytes = fs::read(env!("CARGO_BIN_EXE_sloth-e2e-daemon")).expect("readable");
    let place = bytes.windows(14).position(|window| window == b"sloth-e2e:    ").expect("where it is written") + 10;
    let written = b"9.4.0 eats memory";
    bytes[place..place + written.len()].copy_from_slice(written);
    let file = dir.join("eats-memory");
    replace(&file, &bytes, Access::Owner).expect("written");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    publish("9.4.0", &["--file", &path("eats-memory"), "--key", &key]).expect(0);
    assign("9.4.0").expect(0);
    let view = own.stands("rolled back");
    let reason = view["update"]["reason"].to_string();
    assert!(reason.contains("and the last time it was ended by signal 6"), "{reason}");
    assert!(view["update"]["log_tail"].to_string().contains("memory allocation of "), "{view}");

    // It says itself that it speaks to later coordinators only.
    let file = own.build("9.5.0", &[]).display().to_string();
    publish("9.5.0", &["--file", &file, "--protocol", "9-9", "--key", &key]).refuses(3, &["protocol"]);
    assign("9.5.0").refuses(3, &["there is no release `9.5.0`"]);

    // It is for another processor.
    let mut bytes = fs::read(own.build("9.6.0", &[])).expect("readable");
    bytes[18] = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
    replace(&dir.join("foreign"), &bytes, Access::Owner).expect("written");
    publish("9.6.0", &["--file", &path("foreign"), "--key", &key]).expect(0);
    assign("9.6.0").refuses(3, &["release 9.6.0", "is for"]);

    // Somebody else signed it.
    own.fleet.coord(&["keys", "generate", "--out", &path("other"), "--no-passphrase"]).expect(0);
    let file = own.build("9.7.0", &[]).display().to_string();
    publish("9.7.0", &["--file", &file, "--key", &path("other.key"), "--out", &path("")]).expect(0);
    own.release(&["submit", &path("release-9.7.0.json")]).refuses(3, &["it carries no signature"]);
    assign("9.7.0").refuses(3, &["there is no release `9.7.0`"]);

    own.fleet.wait_connected(&[HOST]);
    let run = own.fleet.run("slow", "*", &[]);
    assert_eq!(own.fleet.wait_ended(&run).only().state, "succeeded");
    assert_eq!(own.view()["version"], env!("CARGO_PKG_VERSION"));
    until("a report that is taken in", UPDATE_LIMIT, || own.marker().outcome().is_none().then_some(()));
    let bad = Version::new(9, 4, 0);
    assert!(own.marker().outcomes.iter().all(|outcome| outcome.to == bad), "only what was tried is reported");
    assert!(own.marker().bad(&bad).is_some());
}

/// Releases are signed where the keys are, on machines that never meet.
#[test]
fn a_release_is_published_by_a_ceremony_and_nothing_else_is() {
    let mut own = Supervised::start();
    let dir = own.fleet.dir().to_owned();
    let path = |name: &str| dir.join(name).display().to_string();
    let file = own.build("9.1.0", &[]).display().to_string();
    let first = own.fleet.key().display().to_string();
    let mut command = own.fleet.operator(&["keys", "generate", "--no-passphrase", "--out", &path("second")]);
    command.env_remove("SLOTH_KEY_PASSPHRASE");
    Ran::of(command).expect(0);
    own.fleet.coord(&["trust", "add-key", "releases", &path("second.pub"), "--key", &first]).expect(0);
    own.fleet.coord(&["trust", "set-threshold", "releases", "2", "--key", &first]).expect(0);

    let publish = |more: &[&str]| own.release(&[&["publish", "--file", &file, "--out", &path("")][..], more].concat());
    publish(&["--version", "9.9.9", "--key", &first]).refuses(2, &["says that it is version 9.1.0, not 9.9.9"]);
    own.release(&["publish", "--file", &first, "--version", "9.1.0"]).refuses(2, &["is no program for Linux"]);
    let strange = format!("{file}=aarch64-unknown-linux-gnu");
    own.release(&["publish", "--file", &strange, "--version", "9.1.0"]).refuses(2, &["is for x86_64"]);
    let answer = publish(&["--version", "9.1.0", "--key", &first]).done();
    let written = path("release-9.1.0.json");
    assert!(answer.contains("release 9.1.0 is in") && answer.contains("with 1 signature"), "{answer}");
    own.release(&["submit", &written]).refuses(3, &["1 of the 2 keys"]);
    // What was uploaded waits for the signature, also while the coordinator starts again.
    own.fleet.kill_coordinator();
    own.fleet.start_coordinator();
    own.fleet.wait_connected(&[HOST]);
    own.release(&["sign", &written, "--key", &path("second.key")]).expect(0);
    let answer = own.release(&["submit", &written]).done();
    assert!(answer.starts_with("published release 9.1.0"), "{answer}");
    let again = own.release(&["submit", &written]).done();
    assert!(again.contains("is published already"), "{again}");

    // Blobs of releases survive a restart, which removes those that nothing needs.
    own.fleet.kill_coordinator();
    own.fleet.start_coordinator();
    own.fleet.wait_connected(&[HOST]);
    own.release(&["assign", "9.1.0", "--on", HOST]).expect(0);
    own.stands("confirmed");
}
