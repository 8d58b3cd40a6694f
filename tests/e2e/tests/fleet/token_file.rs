//! Hosts that enrol by themselves, as images and first boots have them do.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use sloth_core::fs::{Access, replace};
use sloth_e2e::{Fleet, Process, Ran, until_true};

use crate::bad_input::{REFUSED, USAGE};

/// For a coordinator that comes up late, and an agent that tries again.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_host_with_a_token_in_a_file_enrols_when_its_coordinator_comes() {
    let mut fleet = Fleet::start();
    let token = fleet.token(&["role=web"]);
    let home = fleet.host("first-boot").dir.clone();
    let file = home.with_extension("token");
    replace(&file, format!("{token}\n").as_bytes(), Access::Owner).expect("written");
    fleet.kill_coordinator();
    let (dir, path) = (home.display().to_string(), file.display().to_string());
    let unattended = ["enroll", "--unattended", "--token-file", &path, "--name", "first-boot", "--dir", &dir];
    let mut enrolling = Process::start(fleet.agent_command("first-boot", &unattended), &home.with_extension("log"));
    until_true("a first attempt", LIMIT, || enrolling.stderr().contains("this host is not enrolled yet"));
    assert!(file.exists(), "the token is still needed");
    fleet.start_coordinator();
    assert!(enrolling.wait(LIMIT).success());
    assert!(!file.exists(), "nobody needs the token any more");
    fleet.start_agent("first-boot");
    fleet.wait_connected(&["first-boot"]);
    // Where all is done already, nothing is done.
    Ran::of(fleet.agent_command("first-boot", &unattended)).expect(0);
    // A token that cannot be removed, as a directory cannot, keeps no agent from its work.
    let stays = ["enroll", "--unattended", "--token-file", &dir, "--dir", &dir];
    let ran = Ran::of(fleet.agent_command("first-boot", &stays)).expect(0);
    assert!(ran.stderr.contains("cannot remove") && ran.stderr.contains("the join token stays"), "{ran}");
}

#[test]
fn a_token_comes_from_a_file_or_the_environment() {
    let mut fleet = Fleet::start();
    let token = fleet.token(&[]);
    let home = fleet.host("host").dir.display().to_string();
    let file = fleet.dir().join("token");
    replace(&file, token.as_bytes(), Access::Owner).expect("written");
    let path = file.display().to_string();
    let enrol = |more: &[&str]| fleet.agent_command("host", &[&["enroll", "--dir", &home], more].concat());

    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).expect("changed");
    Ran::of(enrol(&["--token-file", &path])).refuses(REFUSED, &["lets others read it", "chmod 600"]);
    Ran::of(enrol(&["--token-file", "/nonexistent/token"])).refuses(USAGE, &["/nonexistent/token"]);
    Ran::of(enrol(&[])).refuses(USAGE, &["there is no join token", "SLOTH_JOIN_TOKEN"]);
    // Nobody writes to it, so that whoever opened it would wait.
    let pipe = fleet.dir().join("pipe").display().to_string();
    Ran::of({
        let mut command = std::process::Command::new("mkfifo");
        command.args(["-m", "600", &pipe]);
        command
    })
    .expect(0);
    Ran::of(enrol(&["--token-file", &pipe])).refuses(REFUSED, &[&pipe, "is no regular file"]);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("changed");
    Ran::of(enrol(&["--token-file", &path, "--name", "by-file"])).expect(0);

    let other = fleet.host("other").dir.display().to_string();
    let mut command = fleet.agent_command("other", &["enroll", "--dir", &other, "--name", "by-environment"]);
    command.env("SLOTH_JOIN_TOKEN", &token);
    Ran::of(command).expect(0);
}
