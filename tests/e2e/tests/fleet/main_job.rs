//! Publishing, running, following, looking, cancelling.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use sloth_e2e::{Bundle, Fleet, RUN_LIMIT, Witness, alive, until, until_true};

use crate::scripts::marking_bundle;

const HTTP_LIMIT: Duration = Duration::from_secs(10);
const CANCEL_LIMIT: Duration = Duration::from_secs(20);

const GREETING: &str = r#"
    local who = values and values.who or "nobody"
    local greet = task("greet"):command(function()
        log.info("hello " .. who)
        exec.run("echo from the shell")
        return true, "greeted", { who = who }
    end):build()
    local bye = task("bye"):depends_on({ greet }):command(function(this, params, deps)
        if who == "trouble" then return false, "no bye for " .. deps.greet.who end
        return true, "said bye to " .. deps.greet.who
    end):build()
    workflow.define("greeting"):tasks({ greet, bye }):on_complete(function(success) log.info("over") end)
    workflow.define("other"):tasks({ task("never"):command("false"):build() }):on_complete(function() end)
"#;

#[test]
fn a_run_on_labelled_agents_is_followed_to_its_end() {
    let mut fleet = Fleet::start();
    fleet.publish(&Bundle::new("greeting", GREETING));
    fleet.agents(&["web-1", "web-2"], &["role=web"]);
    fleet.agents(&["db-1"], &["role=db"]);

    let followed = ["run", "greeting", "--workflow", "greeting", "--on", "role=web", "--set", "who=world", "--follow"];
    let ran = fleet.coord(&followed).expect(0);
    for part in ["web-1", "web-2", "greet", "bye", "hello world", "from the shell", "over"] {
        assert!(ran.stdout.contains(part), "no `{part}` in\n{ran}");
    }
    assert!(!ran.stdout.contains("db-1"), "{ran}");
    ran.keeps_its_manners();

    let view = fleet.wait_ended("latest");
    let mut agents: Vec<_> = view.jobs.iter().map(|job| job.agent.as_str()).collect();
    agents.sort_unstable();
    assert_eq!(agents, ["web-1", "web-2"]);
    for job in &view.jobs {
        assert_eq!((job.state.as_str(), job.names()), ("succeeded", vec!["bye", "greet"]), "{job:?}");
        assert_eq!(job.task("bye").message, "said bye to world");
    }
    let logs = fleet.coord(&["runs", "logs", "latest", "--agent", "web-2"]).done();
    assert!(logs.contains("hello world") && logs.contains("from the shell"), "{logs}");
    let shown = fleet.coord(&["runs", "show", "latest"]).done();
    assert!(shown.contains("web-1") && shown.contains("said bye to world"), "{shown}");
}

#[test]
fn how_a_run_ends_is_the_exit_code() {
    let mut fleet = Fleet::start();
    fleet.publish(&Bundle::new("greeting", GREETING));
    fleet.agents(&["web-1"], &["role=web"]);
    for (arguments, code, said) in [
        (&["--on", "role=web", "--workflow", "greeting", "--follow"][..], 0, ""),
        (&["--on", "role=web", "--workflow", "greeting", "--set", "who=trouble", "--follow"], 1, "no bye for trouble"),
        (&["--on", "role=web", "--workflow", "other", "--follow"], 1, "never"),
        (&["--on", "role=web", "--workflow", "none"], 3, "has no workflow `none`"),
        (&["--on", "role=mail"], 3, "role=mail"),
        (&["--on", "role=mail", "--allow-empty"], 0, ""),
        (&["--on", "role=(", "--follow"], 2, "role=("),
        (&["--on", "role=web", "--values", "/none.yaml"], 2, "/none.yaml"),
        (&["--on", "role=web", "--set", "novalue"], 2, "novalue"),
    ] {
        let words: Vec<_> = ["run", "greeting"].iter().chain(arguments).copied().collect();
        let ran = fleet.coord(&words).expect(code);
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains(said), "no `{said}` in\n{ran}");
        ran.keeps_its_manners();
    }
    fleet.coord(&["run", "nothing", "--on", "*"]).refuses(3, &["`nothing`"]);
}

#[test]
fn output_for_programs_is_json() {
    let mut fleet = Fleet::start();
    fleet.publish(&Bundle::new("greeting", GREETING));
    fleet.agents(&["web-1"], &["role=web"]);
    let run = fleet.run("greeting", "role=web", &["--workflow", "greeting"]);
    let _ = fleet.wait_ended(&run);
    for words in [
        &["agents", "list"][..],
        &["agents", "show", "web-1"],
        &["bundles", "list"],
        &["bundles", "show", "greeting"],
        &["runs", "list"],
        &["runs", "show", "latest"],
        &["token", "create"],
    ] {
        let words: Vec<_> = words.iter().copied().chain(["-o", "json"]).collect();
        let value = fleet.coord(&words).json();
        assert!(value.is_object() || value.is_array(), "{words:?}: {value}");
    }
    for words in [
        &["runs", "logs", "latest", "-o", "json"][..],
        &["run", "greeting", "--workflow", "greeting", "--on", "role=web", "--follow", "-o", "json"],
    ] {
        let lines = fleet.coord(words).done();
        assert!(lines.contains("hello nobody"), "{lines}");
        for line in lines.lines() {
            let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
            assert!(parsed.is_ok(), "{words:?}: {line}");
        }
    }
    let listed = fleet.coord(&["runs", "list"]).done();
    assert!(listed.contains(&run) && listed.contains("greeting"), "{listed}");
}

#[test]
fn a_cancelled_run_stops_what_it_started() {
    let mut fleet = Fleet::start();
    let sleeper = "task('nap'):command([[echo $$ > $HOME/shell; sleep 600 & echo $! > $HOME/sleeper; wait]])\n\
                   task('then'):depends_on('nap'):command('true')";
    fleet.publish(&Bundle::new("nap", sleeper));
    fleet.agents(&["web-1"], &[]);
    let mut following = fleet.spawn(&["run", "nap", "--on", "*", "--follow"]);
    let pid = |name: &str| {
        let path = fleet.agent("web-1").home.join(name);
        until(&format!("a process `{name}`"), RUN_LIMIT, || {
            std::fs::read_to_string(&path).ok()?.trim().parse::<u32>().ok()
        })
    };
    let processes = [pid("shell"), pid("sleeper")];
    assert!(processes.iter().all(|pid| alive(*pid)));

    fleet.coord(&["runs", "cancel", "latest"]).expect(0);
    let view = fleet.wait_ended("latest");
    assert_eq!(view.only().state, "cancelled", "{view:?}");
    assert_eq!(view.only().task("nap").status, "cancelled", "{view:?}");
    until_true("the end of the task's processes", CANCEL_LIMIT, || processes.iter().all(|pid| !alive(*pid)));
    assert_eq!(following.wait(CANCEL_LIMIT).code(), Some(1), "{}", following.stderr());
}

#[test]
fn a_run_that_waits_for_an_agent_begins_when_it_comes() {
    let mut fleet = Fleet::start();
    fleet.publish(&marking_bundle("late", "a\nb after a", "0"));
    fleet.enrol("web-1", &["role=web"]);
    let run = fleet.run("late", "role=web", &[]);
    assert_eq!(fleet.show(&run).only().state, "pending");
    fleet.start_agent("web-1");
    let view = fleet.wait_ended(&run);
    assert_eq!((view.only().state.as_str(), view.only().names()), ("succeeded", vec!["a", "b"]));
    let witness = Witness::of(&fleet.agent("web-1").home, &run);
    assert_eq!((witness.begun("a"), witness.ended("b")), (1, 1), "{witness}");
}

#[test]
fn a_revoked_agent_gets_nothing_more() {
    let mut fleet = Fleet::start();
    fleet.publish(&marking_bundle("job", "a", "0"));
    fleet.agents(&["web-1", "web-2"], &["role=web"]);
    fleet.coord(&["agents", "revoke", "web-1"]).expect(0);
    until_true("the end of the revoked agent's connection", RUN_LIMIT, || fleet.connected() == ["web-2"]);
    let run = fleet.run("job", "role=web", &[]);
    assert_eq!(fleet.wait_ended(&run).only().agent, "web-2");
}

#[test]
fn health_and_metrics_are_told() {
    let mut fleet = Fleet::start();
    fleet.agents(&["web-1"], &[]);
    for (path, expected) in [("/healthz", "200"), ("/readyz", "200"), ("/metrics", "200"), ("/none", "404")] {
        let answer = get(&fleet, path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{path}: {answer}");
    }
    let metrics = get(&fleet, "/metrics");
    assert!(metrics.lines().any(|line| line.contains("connected") && line.ends_with(" 1")), "{metrics}");
}

#[test]
fn a_daemon_that_is_asked_to_end_ends_well() {
    let mut fleet = Fleet::start();
    fleet.agents(&["web-1"], &[]);
    let dir = fleet.agent("web-1").dir.display().to_string();
    let status = sloth_e2e::Ran::of(fleet.agent_command("web-1", &["status", "--dir", &dir, "-o", "json"])).json();
    assert_eq!(status["connected"], true, "{status}");
    fleet.daemon("web-1").terminate();
    assert_eq!(fleet.daemon("web-1").wait(CANCEL_LIMIT).code(), Some(0));
    until_true("the agent counts as gone", RUN_LIMIT, || fleet.connected().is_empty());
    fleet.coordinator().terminate();
    assert_eq!(fleet.coordinator().wait(CANCEL_LIMIT).code(), Some(0));
    sloth_e2e::Ran::of(fleet.agent_command("web-1", &["status", "--dir", &dir])).refuses(4, &["sloth-agent daemon"]);
}

fn get(fleet: &Fleet, path: &str) -> String {
    let mut stream = TcpStream::connect(fleet.site().http()).expect("a listening coordinator");
    stream.set_read_timeout(Some(HTTP_LIMIT)).expect("a socket");
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .expect("a request");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).expect("an answer");
    answer
}
