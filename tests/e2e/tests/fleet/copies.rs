//! A disk that was copied with an enrolled agent on it: two hosts with one identity.

use std::{fs, path::Path, process::Command, time::Duration};

use sloth_core::fs::{Access, replace};
use sloth_e2e::{Bundle, Fleet, Ran, until, until_true};

/// For two daemons that push each other off the coordinator until one is found to be the copy.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_copied_host_is_turned_away_and_gets_an_identity_of_its_own() {
    let mut fleet = Fleet::start();
    fleet.agents(&["web-1"], &["role=web"]);
    let work = Bundle::new("work", "task('a'):command('echo \"$SLOTH_RUN_ID\" >> \"$HOME/ran\"')");
    fleet.publish(&work);
    let before = fleet.run("work", "*", &[]);
    assert!(succeeds(&fleet, &before, 1));
    fleet.kill_agent("web-1");
    copy(&mut fleet, "web-1", "web-2");
    fleet.start_agent("web-1");
    fleet.start_agent("web-2");

    // Whoever came back first stays, the other one is told why it may not come in, and the operator of both.
    let copy = until("a host that is turned away", LIMIT, || {
        ["web-1", "web-2"].into_iter().find(|name| fleet.daemon(name).stderr().contains("sloth-agent enroll --again"))
    });
    let stays = if copy == "web-1" { "web-2" } else { "web-1" };
    assert!(fleet.coordinator().stderr().contains("two hosts have one identity"));
    let shown = fleet.coord(&["agents", "show", "web-1"]).done();
    assert!(shown.contains("connected, copied") && shown.contains("sloth-agent enroll --again"), "{shown}");
    let json = fleet.coord(&["agents", "show", "web-1", "-o", "json"]).json();
    assert!(json["copied"]["last"].is_string(), "{json}");
    assert!(fleet.coord(&["agents", "list"]).done().contains("connected, copied"));

    // The one that stays is not disturbed: a run is done once, there.
    let run = fleet.run("work", "*", &[]);
    assert!(succeeds(&fleet, &run, 1));
    assert_eq!((ran(&fleet, stays, &run), ran(&fleet, copy, &run)), (1, 0));

    // The way out that was told.
    let dir = fleet.agent(copy).dir.clone();
    let (path, token) = (dir.display().to_string(), fleet.token(&["role=web"]));
    let again = ["enroll", "--again", &token, "--name", "apart", "--dir", &path];
    let refused = Ran::of(fleet.agent_command(copy, &again));
    assert!(refused.code != Some(0) && refused.stderr.contains("while a daemon runs"), "{refused}");
    fleet.kill_agent(copy);
    let taken = ["enroll", "--again", &token, "--name", "web-1", "--dir", &path];
    let refused = Ran::of(fleet.agent_command(copy, &taken));
    assert!(refused.code != Some(0) && refused.stderr.contains("another `--name`"), "{refused}");
    Ran::of(fleet.agent_command(copy, &again)).expect(0);
    assert!(kept(&dir).contains("agent.redb") && !dir.join("again").exists(), "{}", kept(&dir));
    fleet.start_agent(copy);
    fleet.wait_connected(&["web-1", "apart"]);
    let run = fleet.run("work", "role=web", &[]);
    assert!(succeeds(&fleet, &run, 2));
    assert_eq!((ran(&fleet, stays, &run), ran(&fleet, copy, &run)), (1, 1));
}

#[test]
fn an_image_with_another_machine_id_enrols_again_when_there_is_a_token() {
    let mut fleet = Fleet::start();
    fleet.enrol("image", &[]);
    let dir = fleet.agent("image").dir.clone();
    let token = fleet.token(&[]);
    let file = fleet.dir().join("token");
    let (path, token_path) = (dir.display().to_string(), file.display().to_string());
    let enrolment = dir.join("enrolment.toml");
    let agent = |text: &str| text.lines().find(|line| line.starts_with("agent = ")).map(str::to_owned);
    let first = fs::read_to_string(&enrolment).expect("enrolled");
    let unattended = ["enroll", "--unattended", "--token-file", &token_path, "--name", "booted", "--dir", &path];

    replace(&file, token.as_bytes(), Access::Owner).expect("written");
    Ran::of(fleet.agent_command("image", &unattended)).expect(0);
    assert_eq!(fs::read_to_string(&enrolment).expect("enrolled"), first, "the same host stays as it is");

    // As on a host that was started from the image of this one.
    let elsewhere = |line: &str| {
        if line.starts_with("machine = ") { format!("machine = \"{}\"", "ab".repeat(32)) } else { line.to_owned() }
    };
    let moved: Vec<String> = first.lines().map(elsewhere).collect();
    assert_ne!(moved.join("\n"), first.trim_end(), "this machine has a machine-id:\n{first}");
    // A table would swallow it at the end of the file.
    replace(&enrolment, moved.join("\n").as_bytes(), Access::Owner).expect("written");
    fleet.start_agent("image");
    let daemon = fleet.daemon("image");
    until_true("a warning", LIMIT, || daemon.stderr().contains("machine-id is not that of the host"));
    fleet.kill_agent("image");
    replace(&file, token.as_bytes(), Access::Owner).expect("written");
    Ran::of(fleet.agent_command("image", &unattended)).expect(0);
    let second = fs::read_to_string(&enrolment).expect("enrolled");
    assert_ne!(agent(&second), agent(&first));
    fleet.start_agent("image");
    fleet.wait_connected(&["booted"]);
}

/// Makes `to` a host with a copy of the disk of `from`, whose daemon does not run.
fn copy(fleet: &mut Fleet, from: &str, to: &str) {
    let source = fleet.agent(from).dir.clone();
    let target = fleet.host(to).dir.clone();
    let mut command = Command::new("cp");
    command.arg("-a").arg(source).arg(target);
    Ran::of(command).expect(0);
}

/// Whether a run comes to a good end on this many agents.
fn succeeds(fleet: &Fleet, run: &str, agents: usize) -> bool {
    let view = fleet.wait_ended(run);
    view.jobs.len() == agents && view.jobs.iter().all(|job| job.state == "succeeded")
}

/// How often a run was done on a host.
fn ran(fleet: &Fleet, name: &str, run: &str) -> usize {
    let text = fs::read_to_string(fleet.agent(name).home.join("ran")).unwrap_or_default();
    text.lines().filter(|line| *line == run).count()
}

/// The files of what an agent was before.
fn kept(dir: &Path) -> String {
    let mut entries = fs::read_dir(dir).expect("a directory").filter_map(Result::ok);
    let before = entries.find(|entry| entry.file_name().to_string_lossy().starts_with("before-")).expect("kept");
    let files = fs::read_dir(before.path()).expect("a directory").filter_map(Result::ok);
    files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
