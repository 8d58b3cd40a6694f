//! The ceremonies and the recipes of docs/security.md, typed as they stand, and what they are said to print.

#![allow(clippy::panic, clippy::expect_used, reason = "helpers of tests fail by panicking, with what they saw")]

use std::{path::Path, process::Command};

use sloth_e2e::{Bundle, Fleet, Program, Ran, binary};

/// The parts of the page that are run.
const FIRST_PART: &str = "## Ceremonies";
const PART_AFTER: &str = "## Certificates";
/// Fewer would mean that they are not found any more.
const COMMANDS_MIN: usize = 20;

#[test]
fn the_ceremonies_and_recipes_are_real() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let part = page.split_once(FIRST_PART).and_then(|(_, rest)| rest.split_once(PART_AFTER)).expect("the parts").0;
    let blocks = part.split("```console\n").skip(1).filter_map(|rest| rest.split_once("```"));
    let lines: Vec<&str> = blocks.flat_map(|(block, _)| block.lines()).collect();

    let mut fleet = Fleet::start();
    let mut commands = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some(command) = line.strip_prefix("$ ") else { continue };
        commands += 1;
        let ran = typed(&fleet, command);
        for shown in lines[at + 1..].iter().take_while(|line| !line.starts_with("$ ")) {
            let mut rest = ran.stdout.as_str();
            for part in shown.split('…') {
                let found = rest.find(part).unwrap_or_else(|| panic!("`{shown}` is not printed\n{ran}"));
                rest = &rest[found + part.len()..];
            }
        }
    }
    assert!(COMMANDS_MIN <= commands, "only {commands} commands are found");

    // After all of them the fleet is as healthy as before any.
    let job = Bundle::new("job", "task('a'):command('true')").write(&fleet.dir().join("bundles"));
    typed(&fleet, &format!("sloth-coord publish {} --key publisher-2.key", job.display()));
    let token = typed(&fleet, "sloth-coord token create").stdout.trim().to_owned();
    let dir = fleet.host("web-1").dir.display().to_string();
    Ran::of(fleet.agent_command("web-1", &["enroll", &token, "--name", "web-1", "--dir", &dir])).expect(0);
    fleet.start_agent("web-1");
    fleet.wait_connected(&["web-1"]);
    let run = fleet.run("job", "*", &[]);
    assert_eq!(fleet.wait_ended(&run).only().state, "succeeded");
}

/// Runs a line as a shell does in the fleet's directory.
fn typed(fleet: &Fleet, line: &str) -> Ran {
    let programs = binary(Program::Coordinator).parent().expect("a directory").display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command.args(["-c", line]).current_dir(fleet.dir()).env("PATH", format!("{programs}:{path}"));
    command
        .env("SLOTH_KEY_PASSPHRASE", "open sesame")
        .env("SLOTH_CREDENTIAL", fleet.coordinator_dir().join("admin.toml"));
    Ran::of(command).expect(0)
}
