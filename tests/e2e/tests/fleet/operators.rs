//! Operators' credentials: made on the coordinator's machine, listed, and withdrawn.

use std::{path::PathBuf, process::Command};

use sloth_e2e::{Bundle, Fleet, RUN_LIMIT, Ran, until_true};

use crate::bad_input::{REFUSED, USAGE};

/// Makes the credential of an operator, with the coordinator's own files, while it serves.
fn add(fleet: &Fleet, name: &str) -> PathBuf {
    let file = fleet.dir().join(format!("{name}.toml"));
    let (dir, out) = (fleet.coordinator_dir().display().to_string(), file.display().to_string());
    let said = fleet.coord(&["operators", "add", name, "--dir", &dir, "--out", &out]).done();
    assert!(said.contains(name) && said.contains("good until"), "{said}");
    file
}

fn with(fleet: &Fleet, credential: &PathBuf, arguments: &[&str]) -> Command {
    let mut command = fleet.operator(arguments);
    command.env("SLOTH_CREDENTIAL", credential);
    command
}

#[test]
fn an_operator_that_was_revoked_is_cut_off_at_once_and_for_good() {
    let mut fleet = Fleet::start();
    let text = "task('a'):command([[while [ ! -e $HOME/go ]; do sleep 0.05; done]])";
    fleet.publish(&Bundle::new("long", text));
    fleet.agents(&["web-1"], &[]);
    let (ann, bob) = (add(&fleet, "ann"), add(&fleet, "bob"));
    // Bob follows a run, on a connection that stays open.
    let started = Ran::of(with(&fleet, &bob, &["run", "long", "--on", "*", "-o", "json"])).json();
    let run = started["run"].as_str().expect("a run").to_owned();
    let following = with(&fleet, &bob, &["runs", "logs", &run, "--follow"]);
    let mut following = sloth_e2e::Process::start(following, &fleet.dir().join("logs/bob"));
    let listed = || Ran::of(with(&fleet, &ann, &["operators", "list", "-o", "json"])).json();
    until_true("bob's connection", RUN_LIMIT, || listed().as_array().is_some_and(|rows| rows.len() == 3));
    let names: Vec<_> = listed().as_array().expect("rows").iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["admin", "ann", "bob"]);

    let revoked = Ran::of(with(&fleet, &ann, &["operators", "revoke", "bob", "-o", "json"])).json();
    assert_eq!((&revoked[0]["name"], &revoked[0]["revoked_by"]), (&"bob".into(), &"ann".into()));
    let code = following.wait(RUN_LIMIT).code();
    let said = following.stderr();
    assert!(code == Some(REFUSED) && said.contains("withdrawn") && said.contains("`ann`"), "{code:?}: {said}");
    let refused = ["operator `bob` were withdrawn", "sloth-coord operators add"];
    for arguments in [&["agents", "list"][..], &["runs", "cancel", &run], &["operators", "revoke", "ann"]] {
        Ran::of(with(&fleet, &bob, arguments)).refuses(REFUSED, &refused);
    }
    assert!(fleet.coordinator().stderr().contains(r#"operator{operator="ann"}: revoke operator on="bob""#));

    // Also after a restart; a new credential of the name is none; and a run that bob began goes on.
    fleet.kill_coordinator();
    fleet.start_coordinator();
    fleet.wait_connected(&["web-1"]);
    Ran::of(with(&fleet, &bob, &["agents", "list"])).refuses(REFUSED, &refused);
    std::fs::remove_file(&bob).expect("removed");
    Ran::of(with(&fleet, &add(&fleet, "bob"), &["agents", "list"])).refuses(REFUSED, &refused);
    let table = Ran::of(with(&fleet, &ann, &["operators", "list"])).done();
    assert!(table.contains("revoked") && table.contains("by ann"), "{table}");
    assert_eq!(fleet.show(&run).only().state, "running");
}

#[test]
fn what_operators_get_wrong_is_told() {
    let fleet = Fleet::start();
    let dir = fleet.coordinator_dir().display().to_string();
    let ann = add(&fleet, "ann").display().to_string();
    fleet.coord(&["operators", "add", "ann", "--dir", &dir, "--out", &ann]).refuses(USAGE, &["is there already"]);
    let out = fleet.dir().join("x.toml").display().to_string();
    let add = |name: &str, more: &[&str]| {
        fleet.coord(&[&["operators", "add", name, "--dir", &dir, "--out", &out], more].concat())
    };
    add("a b", &[]).refuses(USAGE, &["`a b` cannot be an operator's name"]);
    add("eve", &["--expires", "9000d"]).refuses(USAGE, &["at most 5 years"]);
    let elsewhere = fleet.dir().join("elsewhere").display().to_string();
    fleet.coord(&["operators", "add", "eve", "--dir", &elsewhere, "--out", &out]).refuses(USAGE, &[&elsewhere]);
    fleet.coord(&["operators", "revoke", "admin"]).refuses(REFUSED, &["the credential that you use"]);
    fleet.coord(&["operators", "revoke", "a b"]).refuses(REFUSED, &["is no operator's name"]);
    // Who never came may have a credential all the same.
    let ran = fleet.coord(&["operators", "revoke", "mallory"]).expect(0);
    assert!(ran.stderr.contains("was ever used here"), "{ran}");
}
