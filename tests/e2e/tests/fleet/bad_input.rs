//! What people get wrong: each time one clear sentence, the right exit code, and nothing broken.

use std::{net::Ipv4Addr, path::Path, process::Command, time::Duration};

use sloth_core::{
    Clock, Millis, TokenId,
    fs::{Access, replace},
};
use sloth_e2e::{Bundle, Fleet, Program, RUN_LIMIT, Ran, Site, binary, until};
use sloth_protocol::wire::{JoinToken, TokenSecret};
use sloth_transport::{Authority, Credential, Limits, listen, server};
use sloth_trust::RootPin;

pub(crate) const USAGE: i32 = 2;
pub(crate) const REFUSED: i32 = 3;
const UNREACHABLE: i32 = 4;
const DAY: Millis = Millis::from_secs(24 * 3600);
const YEAR: Millis = Millis::from_secs(365 * 24 * 3600);
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
    enrol(&mut fleet, "first", &good).refuses(REFUSED, &["has the enrolled agent `first`"]);
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

/// A host whose clock is wrong sees certificates that do not count; so does one whose coordinator made them with a wrong
/// clock, and that is what is done here: no program's clock can be set for it alone.
#[test]
fn a_clock_that_is_far_off() {
    let mut fleet = Fleet::prepare(Site::loopback());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    let now = Clock::new().now();
    for (case, made) in [("behind", now + YEAR), ("ahead", now - YEAR)] {
        println!("{case}");
        let authority = Authority::create(now - YEAR - YEAR, [7; 16]).expect("an authority");
        let identity = authority.issue_server(made, DAY).expect("a certificate");
        let _inside = runtime.enter();
        let config = server(&authority, &identity, Limits::default()).expect("usable");
        let endpoint = listen((Ipv4Addr::LOCALHOST, 0).into(), config, &authority.continuity()).expect("a free port");
        let address = endpoint.local_addr().expect("bound").to_string();
        runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                drop(incoming.await);
            }
        });
        let parts = ["this host's clock says", "set the clock that is wrong", &address];
        let token = JoinToken {
            id: TokenId::new(now, 7),
            secret: TokenSecret::from_bytes([7; 32]),
            addresses: vec![address.clone()],
            authority: authority.fingerprint(),
            root: RootPin::of(b"root"),
        };
        enrol(&mut fleet, case, &token.to_string()).refuses(REFUSED, &parts);
        let operator = Credential {
            addresses: vec![address.clone()],
            authority: authority.certificate().to_vec(),
            identity: authority.issue_operator("ann", now, DAY).expect("a certificate"),
        };
        let file = fleet.dir().join("credential.toml");
        operator.store(&file).expect("stored");
        fleet.coord(&["agents", "list", "--credential", &file.display().to_string()]).refuses(REFUSED, &parts);
    }
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
    let greedy = "task('loop'):timeout('500ms'):command(function() while true do pcall(function() while true do end end) end end)\n\
                  task('deep'):command(function() local function f(n) return 1 + f(n) end return true, f(1) end)\n\
                  task('good'):command(function() return true end)\n\
                  task('after'):depends_on('good'):command(function() return true end)";
    let eater = "task('eater'):command(function() local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end end)";
    let mut fleet = Fleet::start();
    let bundles = [Bundle::new("greedy", greedy), Bundle::new("eater", eater)];
    bundles.iter().for_each(|bundle| fleet.publish(bundle));
    fleet.agents(&["web-1"], &[]);
    let runs = ["greedy", "eater"].map(|bundle| fleet.run(bundle, "*", &[]));
    for (run, task, status, part) in [
        (0, "loop", "timed_out", "timeout"),
        (0, "deep", "failed", "stack overflow"),
        (0, "good", "succeeded", ""),
        (0, "after", "succeeded", ""),
        (1, "eater", "failed", "out of memory"),
    ] {
        let view = fleet.wait_ended(&runs[run]);
        let end = view.only().task(task);
        assert!(end.status == status && end.message.contains(part), "{end:?}");
        assert_eq!(view.only().state, "failed");
    }
    // The agent is none the worse for it.
    assert!(fleet.daemon("web-1").ended().is_none());
    fleet.publish(&Bundle::new("job", "task('a'):command('true')"));
    let run = fleet.run("job", "*", &[]);
    assert_eq!(fleet.wait_ended(&run).only().state, "succeeded");

    for (bundle, parts) in bundles.iter().zip([&["timeout", "stack overflow"][..], &["out of memory"]]) {
        let ran = alone(&fleet, &bundle.write(fleet.dir()).join("main.sloth"), &[]).expect(1);
        assert!(parts.iter().all(|part| ran.stdout.contains(part)), "{ran}");
        ran.keeps_its_manners();
    }
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
    Ran::of(fleet.agent_command("web-1", &["daemon", "--dir", NOWHERE])).refuses(REFUSED, &[NOWHERE, "enroll"]);
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
        Ran::of(command)
    };
    // No version of an agent is at fault for it, which its supervisor knows by the code.
    let code = match program {
        Program::Agent => REFUSED,
        Program::Coordinator => 70,
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
        ran.refuses(code, &[store]);
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

pub(crate) fn put(path: &Path, text: &str) {
    replace(path, text.as_bytes(), Access::Owner).expect("written");
}
