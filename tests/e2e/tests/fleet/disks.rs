//! Disks that are full or cannot be written.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sloth_e2e::{Fleet, RUN_LIMIT, Ran, Room, Share, Site, until_true};

use crate::scripts::marking_bundle;

const DISK: &str = "/mnt";
const PLAN: &str = "a\n b after a\n c after b\n";
const TASKS: [&str; 3] = ["a", "b", "c"];
/// How long a daemon on a full disk is watched.
const WATCH_SPAN: Duration = Duration::from_secs(3);

/// A small disk, in a room of its own.
fn disk() -> Arc<Room> {
    let room = Room::new(Share::Mounts);
    room.run(&format!("mount -t tmpfs -o size=24m,mode=0755 tmpfs {DISK}"));
    Arc::new(room)
}

/// Fills it to its last byte.
fn fill(room: &Room) {
    room.shell(&format!("cat /dev/zero > {DISK}/filler 2>/dev/null; test -s {DISK}/filler"));
}

fn empty(room: &Room) {
    room.run(&format!("rm {DISK}/filler"));
}

#[test]
fn an_agent_survives_a_full_disk() {
    let room = disk();
    let mut fleet = Fleet::start_at(Site {
        agents: Some(Arc::clone(&room)),
        agents_dir: Some(PathBuf::from(DISK)),
        ..Site::loopback()
    });
    fleet.publish(&marking_bundle("job", PLAN, "0.1"));
    fleet.agents(&["web-1"], &[]);
    let run = fleet.run("job", "*", &[]);
    assert_eq!(fleet.wait_ended(&run).only().state, "succeeded");

    fill(&room);
    // What fits into what the store has set aside may still be run.
    let mut runs = Vec::new();
    let is_stopped = (0..20).any(|_| {
        let run = fleet.run("job", "*", &[]);
        watch(|| assert!(fleet.daemon("web-1").ended().is_none(), "{}", fleet.daemon("web-1").stderr()));
        let has_ended = fleet.show(&run).ended;
        runs.push(run);
        !has_ended
    });
    assert!(is_stopped, "the disk was never full");
    empty(&room);
    for run in runs {
        let view = fleet.wait_ended(&run);
        assert_eq!((view.only().state.as_str(), view.only().names()), ("succeeded", TASKS.to_vec()), "{view:?}");
    }
    let log = fleet.daemon("web-1").stderr();
    assert!(log.contains("No space left") || log.contains("full"), "the log says nothing of the disk\n{log}");
}

#[test]
fn a_coordinator_survives_a_full_disk() {
    let room = disk();
    let dir = Path::new(DISK).join("coordinator");
    let mut fleet =
        Fleet::start_at(Site { coordinator: Some(Arc::clone(&room)), coordinator_dir: Some(dir), ..Site::loopback() });
    fleet.publish(&marking_bundle("job", PLAN, "0.1"));
    fleet.agents(&["web-1"], &[]);
    let run = fleet.run("job", "*", &[]);
    assert_eq!(fleet.wait_ended(&run).only().state, "succeeded");

    fill(&room);
    // What fits into what the store has set aside may still be taken; nothing may be lost or fall over.
    let mut begun = Vec::new();
    for _ in 0..20 {
        let ran = fleet.coord(&["run", "job", "--on", "*", "-o", "json"]);
        ran.keeps_its_manners();
        match ran.code {
            Some(0) => begun.push(ran.json()["run"].as_str().expect("a run").to_owned()),
            Some(4) => break,
            _ => panic!("{ran}"),
        }
    }
    assert!(begun.len() < 20, "the disk was never full");
    let log = fleet.coordinator().stderr();
    assert!(log.contains("no room is left"), "the log says nothing of the disk\n{log}");
    empty(&room);
    if fleet.coordinator().ended().is_some() {
        // It may give up after a while, cleanly; whoever supervises it starts it again.
        fleet.start_coordinator();
    }
    until_true("a coordinator that serves again", RUN_LIMIT, || fleet.coord(&["agents", "list"]).code == Some(0));
    fleet.wait_connected(&["web-1"]);
    begun.push(fleet.run("job", "*", &[]));
    for run in &begun {
        let view = fleet.wait_ended(run);
        assert_eq!((view.only().state.as_str(), view.only().names()), ("succeeded", TASKS.to_vec()), "{view:?}");
    }
}

#[test]
fn directories_that_cannot_be_written_are_named() {
    let room = disk();
    let mut fleet = Fleet::start_at(Site {
        agents: Some(Arc::clone(&room)),
        agents_dir: Some(PathBuf::from(DISK)),
        ..Site::loopback()
    });
    fleet.publish(&marking_bundle("job", PLAN, "0.1"));
    fleet.enrol("web-1", &[]);
    let token = fleet.token(&[]);
    let _ = fleet.host("web-2");
    room.run(&format!("mount -o remount,bind,ro {DISK}"));
    for (name, arguments) in [
        ("web-1", vec!["daemon", "--dir", "/mnt/web-1"]),
        ("web-2", vec!["enroll", &token, "--name", "web-2", "--dir", "/mnt/web-2"]),
    ] {
        let ran = Ran::of(fleet.agent_command(name, &arguments));
        let code = ran.code.unwrap_or_default();
        assert!([2, 3, 70].contains(&code), "{ran}");
        ran.refuses(code, &[&format!("/mnt/{name}"), "Read-only file system"]);
    }
    for arguments in [["init", "--dir", "/mnt/coordinator"], ["serve", "--dir", "/mnt/coordinator"]] {
        let mut command = room.command(sloth_e2e::binary(sloth_e2e::Program::Coordinator));
        command.args(arguments);
        let ran = Ran::of(command);
        let code = ran.code.unwrap_or_default();
        assert!([2, 3, 70].contains(&code), "{ran}");
        ran.refuses(code, &["/mnt/coordinator"]);
    }
}

fn watch(mut check: impl FnMut()) {
    let until = std::time::Instant::now() + WATCH_SPAN;
    until_true("the end of the watch", RUN_LIMIT, || {
        check();
        until <= std::time::Instant::now()
    });
}
