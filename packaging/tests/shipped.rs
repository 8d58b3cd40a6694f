//! What is shipped as it lies here, held against the programs.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::{fs, path::Path, process::Command};

use clap::CommandFactory as _;
use sloth_agent::config::Settings;
use sloth_core::fs::{Access, replace};

/// The highest exposure of the coordinator's service that `systemd-analyze security` may find, in tenths.
const COORDINATOR_EXPOSURE_MAX: &str = "30";
/// And of the agent's with all drop-ins that narrow it.
const NARROWED_EXPOSURE_MAX: &str = "40";

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name)
}

/// The command lines of a unit.
fn commands(unit: &str) -> Vec<Vec<&str>> {
    let lines = unit.lines().filter(|line| line.starts_with("Exec")).filter_map(|line| Some(line.split_once('=')?.1));
    lines.map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn units_start_what_the_programs_know() {
    let programs = [
        (sloth_agent::cli::command(), read("agent/sloth-agent.service")),
        (sloth_coord::cli::Cli::command(), read("coord/sloth-coord.service")),
    ];
    for (program, unit) in programs {
        let commands = commands(&unit);
        assert!(!commands.is_empty(), "a unit starts something");
        for command in commands {
            program.clone().try_get_matches_from(&command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        }
    }
}

#[test]
fn the_agents_settings_show_every_key_with_its_default() {
    let commented = read("agent/agent.toml");
    // Examples, of keys whose default is that nothing is said.
    let example = |line: &str| ["role", "pin", "window"].iter().any(|key| line.starts_with(&format!("{key} = ")));
    let lines = commented.lines().filter_map(|line| line.strip_prefix("# "));
    let said: Vec<&str> = lines.filter(|line| line.contains(" = ") || line.starts_with('[')).collect();
    let defaults: Vec<&str> = said.iter().copied().filter(|line| !example(line) && *line != "[labels]").collect();
    let scratch = tempfile::tempdir().expect("a directory");
    let path = scratch.path().join("agent.toml");
    let load = |text: &str| {
        replace(&path, text.as_bytes(), Access::Owner).expect("written");
        Settings::load(&path)
    };
    assert_eq!(load(&commented).expect("only comments"), Settings::default());
    assert_eq!(load(&defaults.join("\n")).expect("every key"), Settings::default());
    load(&said.join("\n")).expect("every key and every example");
    for table in ["", "[update]\n"] {
        let unknown = load(&format!("{table}no_such_key = 1")).expect_err("a key that is not known");
        let unknown = sloth_core::Chain(&unknown).to_string();
        let (_, known) = unknown.split_once("expected one of ").expect("the keys that are known");
        for key in known.split('`').skip(1).step_by(2) {
            let shown = said.iter().any(|line| line.starts_with(&format!("{key} = ")) || *line == format!("[{key}]"));
            assert!(shown, "agent.toml does not show `{key}`");
        }
    }
}

#[test]
fn every_directive_that_narrows_a_service_says_why() {
    for name in ["agent/sloth-agent.service", "coord/sloth-coord.service"] {
        let unit = read(name);
        let service = unit.split("[Service]\n").nth(1).expect("a service");
        let narrowing = service.lines().skip_while(|line| !line.is_empty());
        let mut reason = false;
        for line in narrowing.take_while(|line| !line.starts_with('[')) {
            reason = line.starts_with('#') || reason && !line.is_empty();
            assert!(line.is_empty() || reason, "{name}: `{line}` has no reason above it");
        }
    }
}

#[test]
fn services_are_exposed_no_more_than_they_must_be() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("there is no systemd-analyze here: what it says of the units is not tested");
        return;
    }
    let scratch = tempfile::tempdir().expect("a directory");
    let exposed = |unit: &str, text: &str, drop_ins: &[&str], most: &str| {
        let path = scratch.path().join(unit);
        replace(&path, text.as_bytes(), Access::Everyone).expect("written");
        let below = scratch.path().join(format!("{unit}.d"));
        fs::create_dir_all(&below).expect("a directory");
        for name in drop_ins {
            let drop_in = read(&format!("agent/drop-ins/{name}"));
            replace(&below.join(name), drop_in.as_bytes(), Access::Everyone).expect("written");
        }
        let output = Command::new("systemd-analyze")
            .args(["security", "--no-pager", "--offline=true", &format!("--threshold={most}")])
            .arg(&path)
            .output()
            .expect("systemd-analyze runs");
        assert!(output.status.success(), "{unit}: {}", String::from_utf8_lossy(&output.stdout));
    };
    exposed("sloth-coord.service", &read("coord/sloth-coord.service"), &[], COORDINATOR_EXPOSURE_MAX);
    let drop_ins = ["no-packages.conf", "no-kernel.conf", "files-only.conf"];
    exposed("sloth-agent.service", &read("agent/sloth-agent.service"), &drop_ins, NARROWED_EXPOSURE_MAX);
}
