//! What went wrong with keys, roots and back-ups, mended by the commands that a person types: each time the fleet ends
//! healthy, no host is touched, and what was running goes on.

use std::path::{Path, PathBuf};

use sloth_core::fs::{Access, create_dir, replace};
use sloth_e2e::{Bundle, Fleet, RUN_LIMIT, START_LIMIT, until, until_true};

use crate::scripts::marking_bundle;

/// A fleet with a host, and a run on it that does not end before [`Drill::healthy`] says so.
pub(crate) struct Drill {
    pub(crate) fleet: Fleet,
    run: String,
    /// The publisher's key, which is the root's as well.
    key: String,
}

impl Drill {
    fn begin() -> Self {
        Self::begin_with(|_| {})
    }

    /// The same, with something done to the fleet before it has hosts.
    pub(crate) fn begin_with(prepare: impl FnOnce(&mut Fleet)) -> Self {
        let mut fleet = Fleet::start();
        prepare(&mut fleet);
        let text = "task('a'):idempotent(true):command([[while [ ! -e $HOME/go ]; do sleep 0.05; done]])";
        fleet.publish(&Bundle::new("long", text));
        fleet.publish(&job("1.0.0"));
        fleet.agents(&["web-1"], &[]);
        let run = fleet.run("long", "*", &[]);
        until_true("a run that has begun", RUN_LIMIT, || fleet.show(&run).only().state == "running");
        let key = fleet.key().display().to_string();
        Self { fleet, run, key }
    }

    /// Runs a command of `sloth-coord`; `KEY` stands for the publisher's key, `PUB` for its public half, and any other
    /// word with a dot for a file in the fleet's directory.
    pub(crate) fn coord(&self, line: &str) -> String {
        self.fleet.coord(&self.words(line).iter().map(String::as_str).collect::<Vec<_>>()).done()
    }

    fn refuses(&self, line: &str, words: &str) {
        let words_of_line = self.words(line);
        let ran = self.fleet.coord(&words_of_line.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(ran.code != Some(0) && ran.stderr.contains(words), "expected `{words}`\n{ran}");
    }

    fn words(&self, line: &str) -> Vec<String> {
        let file = |word: &str| self.fleet.dir().join(word).display().to_string();
        let word = |word: &str| match word {
            "KEY" => self.key.clone(),
            "PUB" => file("publisher.pub"),
            other if other.ends_with(".key") || other.ends_with(".pub") || other == "bundles/job" => file(other),
            other => other.to_owned(),
        };
        line.split_whitespace().map(word).collect()
    }

    fn key(&self, name: &str) {
        let stem = self.fleet.dir().join(name).display().to_string();
        self.fleet.coord(&["keys", "generate", "--out", &stem, "--no-passphrase"]).expect(0);
    }

    pub(crate) fn runs(&self, what: &str) {
        let run = self.fleet.run("job", "*", &[]);
        let view = self.fleet.wait_ended(&run);
        assert_eq!(view.only().state, "succeeded", "{what}: {view:?}");
    }

    /// That new work is done, that what was running all the while ends well, and that nobody cried for help.
    pub(crate) fn healthy(mut self, what: &str) {
        self.runs(what);
        let go = self.fleet.agent("web-1").home.join("go");
        replace(&go, b"", Access::Owner).expect("written");
        // A coordinator that was in the future has given it up by its own clock; what the agent says of it counts more.
        let view = until(&format!("the end of what was running: {what}"), RUN_LIMIT, || {
            Some(self.fleet.show(&self.run)).filter(|view| view.only().state == "succeeded")
        });
        assert_eq!(view.only().task("a").attempts, 1, "{what}: {view:?}");
        let log = self.fleet.daemon("web-1").stderr();
        assert!(!log.contains("ERROR") && !log.contains("panicked"), "{what}: {log}");
    }

    pub(crate) fn log(&mut self) -> String {
        self.fleet.daemon("web-1").stderr()
    }
}

fn job(version: &str) -> Bundle {
    marking_bundle("job", "a\n b after a\n", "0").version(version)
}

#[test]
fn a_root_that_expired_is_renewed() {
    let drill = Drill::begin();
    drill.coord("trust renew --key KEY --expires 2s");
    until_true("a root that has expired", RUN_LIMIT, || {
        let run = drill.fleet.coord(&["run", "job", "--on", "*", "-o", "json"]);
        if run.code != Some(0) {
            return run.stderr.contains("expired");
        }
        let run = run.json()["run"].as_str().expect("a run").to_owned();
        drill.fleet.wait_ended(&run).only().state == "refused"
    });
    drill.coord("trust renew --key KEY");
    drill.healthy("a renewed root");
}

#[test]
fn an_agent_that_slept_through_three_roots_walks_them_all() {
    let mut drill = Drill::begin();
    drill.fleet.kill_agent("web-1");
    drill.key("second");
    drill.coord("trust add-key root second.pub --key KEY");
    drill.coord("trust set-threshold root 2 --key KEY --key second.key");
    drill.coord("trust renew --key KEY --key second.key");
    drill.fleet.start_agent("web-1");
    until_true("the fourth root", RUN_LIMIT, || drill.log().contains("took on a later trust root version=4"));
    // The daemon was killed, and so the task began anew.
    drill.runs("three roots later");
}

#[test]
fn one_of_three_root_keys_is_lost() {
    let drill = Drill::begin();
    ["b", "c", "d"].iter().for_each(|name| drill.key(name));
    drill.coord("trust add-key root b.pub --key KEY");
    drill.coord("trust add-key root c.pub --key KEY");
    drill.coord("trust set-threshold root 2 --key KEY --key b.key");
    // The first key, which publishes as well, is gone as far as roots are concerned.
    drill.coord("trust remove-key root PUB --key b.key --key c.key");
    drill.coord("trust add-key root d.pub --key b.key --key c.key");
    let listed = drill.coord("trust status -o json");
    assert!(listed.contains("\"threshold\":2") || listed.contains("\"threshold\": 2"), "{listed}");
    drill.coord("trust renew --key c.key --key d.key");
    drill.healthy("two of the three keys of before");
}

#[test]
fn the_online_key_is_stolen() {
    let mut drill = Drill::begin();
    let before = drill.coord("keys list");
    drill.coord("trust rotate-online --key KEY");
    assert_ne!(drill.coord("keys list"), before);
    until_true("the root with the new key", RUN_LIMIT, || drill.log().contains("took on a later trust root version=2"));
    drill.healthy("a new online key");
}

#[test]
fn a_publishers_key_leaks() {
    let drill = Drill::begin();
    drill.key("ci");
    drill.coord("trust add-key bundles/* ci.pub --key KEY");
    publish(&drill, "2.0.0", "ci.key");
    drill.runs("what the second publisher signed");
    // It leaks, and signs for nothing any more.
    drill.coord("keys revoke ci.pub --key KEY");
    let _dir = job("3.0.0").write(&drill.fleet.dir().join("bundles"));
    drill.refuses("publish bundles/job --key ci.key", "sign");
    publish(&drill, "3.0.0", "KEY");
    drill.runs("what the first publisher signed");
    // The first one leaks as well, with the root in it: a new key takes every place of it.
    drill.key("new");
    drill.coord("keys rotate PUB new.pub --key KEY --key new.key");
    drill.refuses("publish bundles/job --key KEY", "sign");
    drill.fleet.publish_with(&job("4.0.0"), &drill.fleet.dir().join("new.key"));
    drill.healthy("a new publisher's key");
}

#[test]
fn the_coordinator_is_set_back_to_an_old_backup() {
    let mut drill = Drill::begin();
    stop(&mut drill.fleet);
    let (dir, backup) = (drill.fleet.coordinator_dir(), drill.fleet.dir().join("backup"));
    copy(&dir, &backup);
    drill.fleet.start_coordinator();
    drill.runs("before it is lost");
    publish(&drill, "2.0.0", "KEY");
    drill.runs("a release that the backup does not know");

    drill.fleet.kill_coordinator();
    std::fs::remove_dir_all(&dir).expect("removed");
    copy(&backup, &dir);
    drill.fleet.start_coordinator();
    drill.fleet.wait_connected(&["web-1"]);
    // The newest release is published again, above what agents have seen.
    publish(&drill, "3.0.0", "KEY");
    drill.healthy("an old backup");
}

fn publish(drill: &Drill, version: &str, key: &str) {
    let key = PathBuf::from(drill.words(key).remove(0));
    drill.fleet.publish_with(&job(version), &key);
}

fn stop(fleet: &mut Fleet) {
    fleet.coordinator().terminate();
    let _ = fleet.coordinator().wait(START_LIMIT);
}

/// Copies a directory of files and directories, as a back-up does.
fn copy(from: &Path, to: &Path) {
    create_dir(to, Access::Owner).expect("a directory");
    for entry in std::fs::read_dir(from).expect("listed").flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().expect("known");
        if kind.is_dir() {
            copy(&path, &target);
        } else if kind.is_file() {
            std::fs::copy(&path, &target).expect("copied");
        }
    }
}
