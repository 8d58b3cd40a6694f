//! What people get wrong: each time one clear sentence, the right exit code, and nothing broken.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use sloth_core::fs::{Access, replace};
use sloth_e2e::{Bundle, Fleet, Program, RUN_LIMIT, Ran, Site, binary, until};

const USAGE: i32 = 2;
const REFUSED: i32 = 3;
const UNREACHABLE: i32 = 4;
/// A file that is expected not to be there.
const NOWHERE: &str = "/nowhere/at/all";

#[test]
fn join_tokens() {
    let mut fleet = Fleet::start();
    let good = fleet.token(&[]);
    let used_up = {
        let token = fleet.coord(&["token", "create", "--uses", "1"]).done();
        enrol(&mut fleet, "first", &token).expect(0);
        token
    };
    let expired = fleet.coord(&["token", "create", "--ttl", "1s", "--uses", "100"]).done();
    let cut = good[..good.len() - 4].to_owned();
    let middle = good.len() / 2;
    let swapped = if &good[middle..=middle] == "A" { "B" } else { "A" };
    let changed = format!("{}{swapped}{}", &good[..middle], &good[middle + 1..]);
    for (case, token, code, parts) in [
        ("wrong", "hello", USAGE, &["this is not a join token", "sloth-coord token create"][..]),
        ("empty", "", USAGE, &["this is not a join token"]),
        ("cut", &cut, USAGE, &["the join token is damaged", "copy the whole of it"]),
        ("changed", &changed, USAGE, &["the join token is damaged"]),
        ("used up", &used_up, REFUSED, &["used up"]),
    ] {
        let ran = enrol(&mut fleet, "other", token);
        println!("{case}");
        ran.refuses(code, parts);
    }
    let mut number = 0;
    let ran = until("a refusal of the expired token", RUN_LIMIT, || {
        number += 1;
        Some(enrol(&mut fleet, &format!("late-{number}"), &expired)).filter(|ran| ran.code != Some(0))
    });
    ran.refuses(REFUSED, &["expired"]);
    // Enrolling twice is told from enrolling again after a lost answer.
    enrol(&mut fleet, "first", &good).refuses(REFUSED, &["enrolled already"]);
    let taken = fleet.host("first-again").dir.display().to_string();
    let arguments = ["enroll", &good, "--name", "first", "--dir", &taken];
    Ran::of(fleet.agent_command("first-again", &arguments)).refuses(REFUSED, &["`first`"]);
    // What was refused has left nothing in the way.
    enrol(&mut fleet, "other", &good).expect(0);
}

#[test]
fn a_token_of_another_coordinator_at_the_same_address() {
    let mut old = Fleet::start();
    let token = old.token(&[]);
    old.kill_coordinator();
    let site = Site { ..old.site().clone() };
    let mut new = Fleet::start_at(site);
    enrol(&mut new, "web-1", &token).refuses(REFUSED, &["is not the coordinator this token is for"]);
    new.kill_coordinator();
    enrol(&mut new, "web-1", &token).refuses(UNREACHABLE, &["nobody answers at"]);
}

#[test]
fn a_clock_that_is_far_off() {
    let library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
        .map(|dir| PathBuf::from(dir).join("faketime/libfaketime.so.1"))
        .into_iter()
        .find(|path| path.exists())
        .expect("`libfaketime` is missing: install it, on Debian with `apt-get install faketime`");
    let mut fleet = Fleet::start();
    let token = fleet.token(&[]);
    for shift in ["-400d", "+400d"] {
        let dir = fleet.host("web-1").dir.display().to_string();
        let mut command = fleet.agent_command("web-1", &["enroll", &token, "--name", "web-1", "--dir", &dir]);
        command.env("LD_PRELOAD", &library).env("FAKETIME", shift).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let ran = Ran::of(command);
        println!("{shift}");
        ran.refuses(REFUSED, &["this host's clock says", "set the clock that is wrong"]);
    }
    // With the clock set right, the same host gets in.
    enrol(&mut fleet, "web-1", &token).expect(0);
}

#[test]
fn workflow_files() {
    let fleet = Fleet::start();
    let key = fleet.key().display().to_string();
    for (text, parts) in [
        (
            "local x = 1\ntask('t'):command(function() return true end\nlocal y = 2",
            &["main.sloth:3:1: Expected ')'", "3 | local y = 2\n  | ^"][..],
        ),
        (
            "task('build'):command('x'):depends_on('bulid') task('built'):command('x')",
            &["task `build` of workflow `main` depends on `bulid`", "`built`"],
        ),
        (
            "task('a'):command('x'):depends_on('c') task('b'):command('x'):depends_on('a') task('c'):command('x'):depends_on('b')",
            &["wait for each other", "a →", "b →", "c →"],
        ),
        ("task('a'):command('x') task('a'):command('x')", &["two tasks named `a`"]),
        ("workflow.define('w') workflow.define('w')", &["there is a workflow `w` already"]),
        ("task('a'):comand('x')", &["main.sloth:1", "`comand`", "did you mean `command`?"]),
        ("-- nothing", &["defines no workflow and no task"]),
        ("error('stop here')", &["main.sloth:1: stop here"]),
        ("local function f(n) return 1 + f(n) end f(1)", &["main.sloth:1", "stack overflow"]),
        ("local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end", &["memory"]),
    ] {
        let dir = Bundle::new("bad", text).write(fleet.dir());
        println!("{text}");
        fleet.coord(&["publish", &dir.display().to_string(), "--key", &key]).refuses(USAGE, parts);
        alone(&fleet, &dir.join("main.sloth"), &[]).refuses(USAGE, parts);
    }
    // Where nothing may act, a file has seconds and not minutes.
    let dir = Bundle::new("bad", "while true do end").write(fleet.dir());
    let ran = fleet.coord(&["publish", &dir.display().to_string(), "--key", &key]);
    ran.refuses(USAGE, &["main.sloth", "was not evaluated within"]);
}

#[test]
fn bundles_and_keys() {
    let fleet = Fleet::start();
    let good = Bundle::new("good", "task('a'):command('true')");
    let dir = good.write(fleet.dir()).display().to_string();
    let key = fleet.key().display().to_string();
    let other = fleet.dir().join("other").display().to_string();
    fleet.coord(&["keys", "generate", "--out", &other, "--no-passphrase"]).expect(0);
    let foreign = format!("{other}.key");
    let broken = fleet.dir().join("broken.key");
    put(&broken, "not a key");
    let broken = broken.display().to_string();
    fleet.publish(&good);
    for (arguments, code, parts) in [
        (vec!["publish", NOWHERE, "--key", &key], USAGE, &[NOWHERE][..]),
        (vec!["publish", &dir, "--key", NOWHERE], USAGE, &[NOWHERE]),
        (vec!["publish", &dir, "--key", &broken], USAGE, &["broken.key"]),
        (vec!["publish", &dir, "--key", &foreign], REFUSED, &["sign"]),
        (vec!["publish", &dir, "--key", &key, "--audience", "a b"], USAGE, &["`a b`"]),
        (vec!["publish", &dir, "--key", &key, "--expires", "soon"], USAGE, &["soon"]),
        (vec!["keys", "generate", "--out", &other, "--no-passphrase"], REFUSED, &["other.key"]),
        (vec!["keys", "show", &broken], USAGE, &["broken.key"]),
        (vec!["bundles", "show", "none"], REFUSED, &["there is no bundle `none`"]),
        (vec!["agents", "show", "none"], REFUSED, &["`none`"]),
        (vec!["agents", "revoke", "none"], REFUSED, &["`none`"]),
        (vec!["agents", "list", "--on", "role=("], USAGE, &["role=("]),
        (vec!["runs", "show", "01JD5Z3V9QK7T2M4X8R6WBCY0N"], REFUSED, &["there is no run"]),
        (vec!["runs", "cancel", "01JD5Z3V9QK7T2M4X8R6WBCY0N"], REFUSED, &["there is no run"]),
        (vec!["runs", "logs", "01JD5Z3V9QK7T2M4X8R6WBCY0N"], REFUSED, &["there is no run"]),
        (vec!["runs", "show", "latest"], REFUSED, &["run"]),
        (vec!["runs", "show", "not-an-id"], USAGE, &["not-an-id"]),
        (vec!["token", "create", "--ttl", "soon"], USAGE, &["soon"]),
        (vec!["token", "create", "--label", "novalue"], USAGE, &["novalue"]),
    ] {
        println!("{arguments:?}");
        fleet.coord(&arguments).refuses(code, parts);
    }
}

#[test]
fn bundles_whose_signature_ran_out() {
    let mut fleet = Fleet::start();
    let bundle = Bundle::new("brief", "task('a'):command('true')").expires("3s");
    fleet.publish(&bundle);
    fleet.agents(&["web-1"], &[]);
    let ran = until("the end of the signature", RUN_LIMIT, || {
        Some(fleet.coord(&["run", "brief", "--on", "*"])).filter(|ran| ran.code != Some(0))
    });
    ran.refuses(REFUSED, &["the signature on `brief` expired", "publish it again"]);
    fleet.publish(&bundle.expires("30d"));
    let run = fleet.run("brief", "*", &[]);
    assert_eq!(fleet.wait_ended(&run).only().state, "succeeded");
}

#[test]
fn values() {
    let mut fleet = Fleet::start();
    let bundle = Bundle::new("job", "task('a'):command(function() return true, values.who end)");
    fleet.publish(&bundle);
    fleet.agents(&["web-1"], &[]);
    let file = bundle.write(fleet.dir()).join("main.sloth");
    for (text, parts) in [
        ("a: [b", &["values.yaml", "is not YAML"][..]),
        ("- a\n- b", &["values.yaml", "holds a list"]),
        ("just words", &["values.yaml", "holds a text"]),
    ] {
        let path = fleet.dir().join("values.yaml");
        put(&path, text);
        let path = path.display().to_string();
        println!("{text}");
        fleet.coord(&["run", "job", "--on", "*", "--values", &path]).refuses(USAGE, parts);
        alone(&fleet, &file, &["--values", &path]).refuses(USAGE, parts);
    }
    for arguments in [["--values", NOWHERE], ["--set", "novalue"], ["--set", "=1"]] {
        let part = arguments[1];
        let all: Vec<_> = ["run", "job", "--on", "*"].into_iter().chain(arguments).collect();
        fleet.coord(&all).refuses(USAGE, &[part]);
        alone(&fleet, &file, &arguments).refuses(USAGE, &[part]);
    }
}

#[test]
fn tasks_that_want_too_much() {
    let text = "task('loop'):timeout('500ms'):command(function() while true do pcall(function() while true do end end) end end)\n\
                task('eater'):command(function() local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end end)\n\
                task('deep'):command(function() local function f(n) return 1 + f(n) end return true, f(1) end)\n\
                task('good'):depends_on('fine'):command(function() return true end)\n\
                task('fine'):command(function() return true end)";
    let mut fleet = Fleet::start();
    let bundle = Bundle::new("greedy", text);
    fleet.publish(&bundle);
    fleet.agents(&["web-1"], &[]);
    let run = fleet.run("greedy", "*", &[]);
    let view = fleet.wait_ended(&run);
    let job = view.only();
    for (task, status, part) in [
        ("loop", "timed_out", "timeout"),
        ("eater", "failed", "memory"),
        ("deep", "failed", "stack overflow"),
        ("good", "succeeded", ""),
        ("fine", "succeeded", ""),
    ] {
        let end = job.task(task);
        assert!(end.status == status && end.message.contains(part), "{end:?}");
    }
    assert_eq!(job.state, "failed");
    fleet.wait_connected(&["web-1"]);

    let ran = alone(&fleet, &bundle.write(fleet.dir()).join("main.sloth"), &[]).expect(1);
    assert!(ran.stdout.contains("memory") && ran.stdout.contains("stack overflow"), "{ran}");
    ran.keeps_its_manners();
}

#[test]
fn directories_and_files_of_ours() {
    let mut fleet = Fleet::start();
    fleet.agents(&["web-1"], &[]);
    let coordinator = fleet.coordinator_dir().display().to_string();
    let agent = fleet.agent("web-1").dir.display().to_string();
    // Another process has it.
    let busy = |ran: &Ran, dir: &str| {
        let code = ran.code.unwrap_or_default();
        assert!([REFUSED, 70].contains(&code), "{ran}");
        ran.refuses(code, &[dir]);
    };
    busy(&fleet.coord(&["serve", "--dir", &coordinator]), &coordinator);
    busy(&Ran::of(fleet.agent_command("web-1", &["daemon", "--dir", &agent])), &agent);
    // It is there already, or not at all.
    fleet.coord(&["init", "--dir", &coordinator]).refuses(REFUSED, &[&coordinator]);
    fleet.coord(&["serve", "--dir", NOWHERE]).refuses(USAGE, &[NOWHERE, "sloth-coord init"]);
    Ran::of(fleet.agent_command("web-1", &["daemon", "--dir", NOWHERE])).refuses(USAGE, &[NOWHERE, "enroll"]);
    Ran::of(fleet.agent_command("web-1", &["run", NOWHERE])).refuses(USAGE, &[NOWHERE]);
    let mut command = fleet.operator(&["agents", "list"]);
    command.env("SLOTH_CREDENTIAL", NOWHERE);
    Ran::of(command).refuses(USAGE, &[NOWHERE]);

    fleet.daemon("web-1").terminate();
    let _ = fleet.daemon("web-1").wait(RUN_LIMIT);
    fleet.kill_coordinator();
    fleet.coord(&["agents", "list"]).refuses(UNREACHABLE, &["nobody answers at"]);
    damaged(&fleet, Program::Agent, &agent, "agent.redb", "agent.toml");
    damaged(&fleet, Program::Coordinator, &coordinator, "coordinator.redb", "coordinator.toml");
}

/// A store of zeros, one cut short, and a configuration with a wrong key.
fn damaged(fleet: &Fleet, program: Program, dir: &str, store: &str, config: &str) {
    let start = || {
        let mut command = match program {
            Program::Agent => fleet.agent_command("web-1", &["daemon"]),
            Program::Coordinator => fleet.operator(&["serve"]),
        };
        command.args(["--dir", dir]);
        let ran = Ran::of(command);
        assert!([Some(USAGE), Some(70)].contains(&ran.code), "{ran}");
        ran
    };
    let path = Path::new(dir).join(config);
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    put(&path, &format!("no_such_key = 1\n{before}"));
    let ran = start();
    ran.refuses(USAGE, &[config, "no_such_key"]);
    put(&path, &before);

    let path = Path::new(dir).join(store);
    let whole = std::fs::read(&path).expect("a store");
    for damage in [vec![0; whole.len()], whole[..whole.len() / 2].to_vec(), b"short".to_vec()] {
        replace(&path, &damage, Access::Owner).expect("damaged");
        let ran = start();
        println!("{store} of {} bytes", damage.len());
        ran.refuses(ran.code.unwrap_or_default(), &[store]);
    }
    replace(&path, &whole, Access::Owner).expect("mended");
}

fn enrol(fleet: &mut Fleet, name: &str, token: &str) -> Ran {
    let dir = fleet.host(name).dir.display().to_string();
    Ran::of(fleet.agent_command(name, &["enroll", token, "--name", name, "--dir", &dir]))
}

/// Runs a file without any coordinator.
fn alone(fleet: &Fleet, file: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(binary(Program::Agent));
    command.arg("run").arg(file).args(arguments).current_dir(fleet.dir()).env("HOME", fleet.dir());
    Ran::within(command, Duration::from_secs(60))
}

fn put(path: &Path, text: &str) {
    replace(path, text.as_bytes(), Access::Owner).expect("written");
}
