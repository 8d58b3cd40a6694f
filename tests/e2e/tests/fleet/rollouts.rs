//! Releases in waves: a bad one stops in the wave that it breaks, and the mended one arrives everywhere.

use std::time::Duration;

use serde_json::Value;
use sloth_core::fs::{Access, replace};
use sloth_e2e::{Bundle, Fleet, RUN_LIMIT, until_true};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const REFUSED: i32 = 3;
const AGENTS: [&str; 6] = ["web-1", "web-2", "web-3", "web-4", "web-5", "web-6"];
/// Fails on hosts with a file that says so.
const FRAGILE: &str = "task('go'):command('test ! -e \"$HOME/broken\"')";
const ROLLOUT: [&str; 8] = ["--name", "careful", "--on", "*", "--waves", "1,3,100%", "--soak", "1s"];
/// A whole rollout, with the coordinator away in between.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(120);

fn show(fleet: &Fleet) -> Value {
    fleet.coord(&["rollout", "show", "careful", "-o", "json"]).json()
}

fn wait_for(fleet: &Fleet, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until_true(what, ROLLOUT_LIMIT, || holds(&show(fleet)));
    show(fleet)
}

/// The names of the hosts in a wave.
fn wave(hosts: &Value, number: u64) -> Vec<String> {
    let hosts = hosts.as_array().expect("hosts");
    let of_it = hosts.iter().filter(|host| host["wave"] == number);
    of_it.map(|host| host["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_bad_release_halts_in_its_wave_and_the_mended_one_arrives() {
    let mut fleet = Fleet::start();
    fleet.publish(&Bundle::new("job", FRAGILE));
    fleet.agents(&AGENTS, &["role=web"]);
    let planned = fleet.coord(&[&["rollout", "plan", "job", "-o", "json"], &ROLLOUT[..]].concat()).json();
    let hosts = &planned["hosts"];
    assert_eq!([1, 2, 3].map(|number| wave(hosts, number).len()), [1, 2, 3], "{planned}");
    for name in wave(hosts, 2) {
        replace(&fleet.agent(&name).home.join("broken"), b"", Access::Owner).expect("a file");
    }

    let begun = fleet.coord(&[&["rollout", "create", "job"], &ROLLOUT[..]].concat()).done();
    assert!(begun.contains("careful: job 1.0.0") && begun.contains("running"), "{begun}");
    fleet.kill_coordinator();
    fleet.start_coordinator();
    let halted = wait_for(&fleet, "a halt", |shown| shown["status"] == "halted");
    assert_eq!((&halted["open"], &halted["reasons"][0]["code"]), (&2.into(), &"wave_budget".into()), "{halted}");
    assert!(halted["reasons"][0]["text"].as_str().expect("a text").starts_with("wave 2: "), "{halted}");
    // Both may have failed before the first failure was heard of; the third wave was never reached.
    let third = &halted["wave"][2]["hosts"];
    let untouched = ["waiting", "away"].iter().filter_map(|standing| third[standing].as_u64()).sum::<u64>();
    assert_eq!((&halted["wave"][0]["hosts"]["proven"], untouched), (&1.into(), 3), "{halted}");
    let watched = fleet.coord(&["rollout", "watch", "careful"]).expect(FAILED);
    watched.keeps_its_manners();
    fleet.coord(&["rollout", "approve", "careful"]).refuses(REFUSED, &["is halted, and cannot be approved"]);
    fleet.kill_coordinator();
    fleet.start_coordinator();
    assert_eq!(show(&fleet)["status"], "halted");
    fleet.coord(&["rollout", "resume", "careful", "--newest"]).refuses(REFUSED, &["no release of `job` after 1.0.0"]);

    fleet.publish(&Bundle::new("job", "task('go'):command('true')").version("1.1.0"));
    let _ = fleet.coord(&["rollout", "resume", "careful", "--newest"]).done();
    let watching = fleet.spawn(&["rollout", "watch", "careful"]);
    wait_for(&fleet, "the second wave", |shown| shown["open"] == 2 || shown["status"] == "complete");
    fleet.kill_coordinator();
    fleet.start_coordinator();
    let watched = watching.finish(ROLLOUT_LIMIT).done();
    let complete = show(&fleet);
    let seen = (&complete["status"], &complete["version"], &complete["hosts"]["proven"], &complete["attempt"]);
    assert_eq!(seen, (&"complete".into(), &"1.1.0".into(), &6.into(), &2.into()), "{complete}\n{watched}");
    assert!(watched.contains("complete since"), "{watched}");
}

#[test]
fn a_rollout_goes_back_by_the_old_content_under_a_higher_number() {
    let mut fleet = Fleet::start();
    let good = Bundle::new("job", "task('go'):command('touch \"$HOME/good\"')");
    fleet.publish(&good);
    fleet.publish(&Bundle::new("job", "task('go'):command('false')").version("1.1.0"));
    fleet.agents(&["web-1", "web-2"], &[]);
    let arguments = ["rollout", "create", "job", "--name", "careful", "--on", "*", "--waves", "1,100%"];
    let _ = fleet.coord(&[&arguments[..], &["--soak", "1s", "--on-halt", "rollback"]].concat()).done();
    let halted = wait_for(&fleet, "a halt", |shown| shown["status"] == "halted");
    let way_out = halted["reasons"][1]["text"].as_str().expect("a way out").to_owned();
    assert!(way_out.contains("publish release 1.0.0 of `job` again"), "{way_out}");
    // It waits for that alone: once the old content is there again, it goes back by itself.
    fleet.publish(&good);
    let back = wait_for(&fleet, "the way back", |shown| shown["status"] == "rolled_back");
    assert_eq!(back["hosts"]["returned"], 1, "{back}");
    let went_back = |name: &str| fleet.agent(name).home.join("good").exists();
    assert_eq!(["web-1", "web-2"].into_iter().filter(|name| went_back(name)).count(), 1);
}

#[test]
fn what_makes_no_sense_is_refused_in_a_sentence() {
    let mut fleet = Fleet::start();
    fleet.publish(&Bundle::new("job", "task('go'):command('true')"));
    fleet.agents(&["web-1"], &[]);
    for (arguments, code, wanted) in [
        (&["job"][..], USAGE, "say which agents with `--on`"),
        (&["--on", "*"], USAGE, "name the bundle to roll out"),
        (&["job", "--on", "*", "--waves", "10%,x"], USAGE, "`x` is neither a share nor a count"),
        (&["job", "--on", "*", "--waves", "50%,10%,100%"], REFUSED, "takes no more than the one before it"),
        (&["job", "--on", "*", "--waves", "50%"], REFUSED, "end the waves with `100%`"),
        (&["job", "--on", "*", "--window", "later"], USAGE, "`later` is not a window"),
        (&["job", "--on", "*", "--window", "1:00-2:00 No/Where"], USAGE, "there is no time zone `No/Where`"),
        (&["job", "--on", "role=none"], REFUSED, "no agent matches `role=none`"),
        (&["other", "--on", "*"], REFUSED, "there is no bundle `other`"),
        (&["job", "--on", "*", "--release", "9"], REFUSED, "the newest release of `job` is 1.0.0"),
    ] {
        for command in ["create", "plan"] {
            fleet.coord(&[&["rollout", command], arguments].concat()).refuses(code, &[wanted]);
        }
    }
    fleet.coord(&["rollout", "show", "nothing"]).refuses(REFUSED, &["there is no rollout `nothing`"]);
    let none = fleet.coord(&["rollout", "list", "-o", "json"]).done();
    assert_eq!(none.trim(), "[]");
    until_true("an agent that is idle", RUN_LIMIT, || fleet.connected() == ["web-1"]);
}
