//! `sloth-agent run`, as its users see it.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests may fail the test")]

mod common;

use std::path::Path;

use common::{Running, agent, is_alive, said, write};
use rustix::process::Signal;
use serde_json::Value;

const GOOD: &str = r#"
local greet = task("greet"):command(function(this, params)
    log.info("hello " .. (values and values.who or "nobody"))
    exec.run("echo out; echo err >&2")
    return true, "greeted", { who = values and values.who or "nobody" }
end):build()
local after = task("after"):depends_on({ "greet" }):command(function(this, params, deps)
    return true, "after " .. tostring(deps.greet.who), { changed = false }
end):build()
workflow.define("main"):tasks({ greet, after }):build()
"#;
const BAD: &str = r#"
local broken = task("broken"):command(function() return false, "no luck" end):build()
local after = task("after"):depends_on({ "broken" }):command(function() return true end):build()
workflow.define("main"):tasks({ broken, after }):build()
"#;

/// Runs `sloth-agent run` in `dir`, where what is said contains the lines of `expected`, in their order; those that
/// begin with `!` are said on standard error.
fn check(dir: &Path, arguments: &[&str], expected: &[&str], code: i32) {
    let mut command = agent(&["run"]);
    command.args(arguments).current_dir(dir).env("HOME", dir).env("TMPDIR", dir).env("SLOTH_TEST_TOKEN", "hunter22");
    let (stdout, stderr, got) = said(command);
    let told = format!("{arguments:?}:\n{stdout}\n--\n{stderr}");
    let (mut out, mut errors) = (stdout.as_str(), stderr.as_str());
    for line in expected {
        let (rest, text) = match line.strip_prefix('!') {
            Some(text) => (&mut errors, text),
            None => (&mut out, *line),
        };
        let (_, after) = rest.split_once(text).unwrap_or_else(|| panic!("no `{text}` in {told}"));
        *rest = after;
    }
    assert_eq!(got, code, "{told}");
    assert!(code != 2 || stdout.is_empty(), "{told}");
    let left = std::fs::read_dir(dir).expect("listed").flatten();
    assert!(
        left.map(|entry| entry.file_name()).all(|name| !name.to_string_lossy().starts_with("sloth-run-")),
        "{told}"
    );
}

#[test]
fn files_are_run_and_mistakes_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "good.sloth", GOOD);
    write(dir, "bad.sloth", BAD);
    write(dir, "syntax.sloth", "task('a')\n  :command(function( return end)\n");
    write(
        dir,
        "cycle.sloth",
        "task('a'):depends_on({'b'}):command('true'):build()\ntask('b'):depends_on({'a'}):command('true'):build()\n",
    );
    write(
        dir,
        "two.sloth",
        &format!("{GOOD}\nworkflow.define('other'):tasks({{ task('only'):command('true'):build() }}):build()"),
    );
    write(dir, "a.yaml", "who: yaml\n");
    write(dir, "list.yaml", "- who\n");
    let good = [
        "main/greet started",
        "greet | hello nobody",
        "greet | out",
        "main/greet succeeded in",
        ": greeted",
        "main/after unchanged in",
        ": after nobody",
        "TASK",
        "main/greet",
        "succeeded",
        "main/after",
        "unchanged",
        "2 tasks in",
    ];
    check(dir, &["good.sloth"], &good, 0);
    check(dir, &["./good.sloth", "--values", "a.yaml"], &["hello yaml", "after yaml"], 0);
    check(dir, &["good.sloth", "--values", "a.yaml", "--set", "who=set"], &["hello set", "after set"], 0);
    let bad = ["main/broken failed in", ": no luck", "main/after skipped", "run failed", "TASK"];
    check(dir, &["bad.sloth"], &bad, 1);
    check(dir, &["two.sloth", "--workflow", "other"], &["other/only succeeded", "1 task"], 0);
    for (arguments, expected) in [
        (&["none.sloth"][..], "!error: cannot read the workflow file `none.sloth`: No such file"),
        (&["."], "!error: `.` has several workflow files, name one: "),
        (&["syntax.sloth"], "!error: syntax.sloth:2:"),
        (&["cycle.sloth"], "!a → b → a"),
        (&["two.sloth", "--workflow", "mian"], "!error: `two.sloth` has no workflow `mian`: it has `main`, `other`"),
        (&["good.sloth", "--values", "none.yaml"], "!none.yaml"),
        (&["good.sloth", "--values", "list.yaml"], "!error: the values file `list.yaml` holds a list"),
        (&["good.sloth", "--set", "who"], "!error: `who` sets nothing: write `key=value`"),
        (&["good.sloth", "--outptu", "json"], "!--outptu"),
        (&[], "!<FILE>"),
    ] {
        check(dir, arguments, &[expected], 2);
    }
}

#[test]
fn what_a_run_exports_is_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "outputs = { url = 'http://x', list = { 1, 2 }, long = ('y'):rep(300) }\ntask('t'):command('true')\n";
    write(dir.path(), "good.sloth", text);
    let shown = ["good/t", "OUTPUT", "VALUE", "list", "[1,2]", "long", "yyy…", "url", "http://x", "1 task in"];
    check(dir.path(), &["good.sloth"], &shown, 0);
}

const HOME: &str = r#"
task("write"):command(function()
    assert(fs.write("~/a.txt", "of home"))
    assert(fs.exists("~/a.txt") and fs.read("~/a.txt") == "of home" and workdir.exists("~"))
    assert(file_ops.copy({ src = "~/a.txt", dest = "~/b.txt" }).changed)
    assert(workdir.create("~/made") and io.open("~/b.txt"):read("*a") == "of home")
    return not exec.run("test -e '~'").success, exec.run("pwd", { workdir = "~/made" }).stdout
end)
"#;

const SECRETS: &str = r#"
task("t"):command(function()
    print(secrets.token, secrets.other, secrets.third == "from the file")
    return secrets.token == "hunter22" and secrets.other == "s3cr3t!", "it is " .. secrets.other
end)
"#;

#[test]
fn secrets_come_from_files_and_the_environment() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "secrets.sloth", SECRETS);
    let private = |name: &str, text: &str| {
        sloth_core::fs::replace(&dir.join(name), text.as_bytes(), sloth_core::fs::Access::Owner).expect("written");
    };
    private("all.yaml", "token: other\nthird: from the file\n");
    private("wrong.yaml", "token: [a]\n");
    private("other.txt", "s3cr3t!\n");
    write(dir, "open.txt", "s3cr3t!\n");
    let token = "token=env:SLOTH_TEST_TOKEN";
    let given = ["secrets.sloth", "--secrets", "all.yaml", "--secret", token, "--secret", "other=file:other.txt"];
    check(dir, &given, &["[secret]\t[secret]\ttrue", "secrets/t  succeeded", "it is [secret]"], 0);
    for (secret, told) in [
        ("token=hunter22", "`--secret token=…` names no source: write `token=env:VARIABLE` or `token=file:PATH`"),
        ("token", "`--secret` takes `NAME=env:VARIABLE` or `NAME=file:PATH`"),
        ("token=env:SLOTH_NONE", "which is not set"),
        ("token=file:open.txt", "cannot read the secret `token`"),
        ("token=file:none.txt", "cannot read the secret `token`"),
    ] {
        check(dir, &["secrets.sloth", "--secret", secret], &[&format!("!{told}")], 2);
    }
    check(dir, &["secrets.sloth", "--secrets", "wrong.yaml"], &["!the secret `token` of `wrong.yaml` is no text"], 2);
}

#[test]
fn a_tilde_is_the_home_and_no_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "home.sloth", HOME);
    let made = dir.join("made").display().to_string();
    check(dir, &["home.sloth"], &["home/write  succeeded", &made], 0);
    assert!(dir.join("b.txt").is_file() && dir.join("made").is_dir());
}

#[test]
fn programs_get_one_event_a_line() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "good.sloth", GOOD);
    let mut command = agent(&["run", "good.sloth", "-o", "json"]);
    command.current_dir(dir.path());
    let (stdout, stderr, code) = said(command);
    assert_eq!((stderr.as_str(), code), ("", 0));
    let events: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(
        kinds,
        ["planned", "task_started", "log", "log", "log", "task_ended", "task_started", "task_ended", "run_ended"],
        "{stdout}"
    );
    assert_eq!(events[0]["workflows"][0]["name"], "main");
    assert_eq!((events[1]["task"].as_str(), events[1]["attempt"].as_u64()), (Some("main/greet"), Some(1)));
    let text = |event: &Value| event["text"].as_str().map(str::to_owned).expect("text");
    let mut lines: Vec<String> = events[2..5].iter().map(text).collect();
    lines.sort();
    assert_eq!(lines, ["err", "hello nobody", "out"]);
    assert_eq!(
        (events[7]["status"].as_str(), events[7]["message"].as_str()),
        (Some("unchanged"), Some("after nobody"))
    );
    assert_eq!(events[8]["outcome"].as_str(), Some("succeeded"));
}

#[test]
fn state_outlives_a_run_and_is_made_only_when_it_is_used() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "good.sloth", GOOD);
    let count = "task('count'):command(function() return true, 'n=' .. state.increment('n', 1) end):build()";
    write(dir.path(), "count.sloth", count);
    let run = |file: &str| {
        let mut command = agent(&["run", file, "--dir", "state"]);
        command.current_dir(dir.path());
        said(command)
    };
    assert_eq!(run("good.sloth").2, 0);
    assert!(!dir.path().join("state").exists());
    for expected in ["n=1", "n=2"] {
        let (stdout, stderr, code) = run("count.sloth");
        assert!(stdout.contains(expected) && code == 0, "{stdout}{stderr}");
    }
}

/// A run whose command has told its process and ignores nothing, or everything but SIGKILL.
fn waiting(dir: &Path, trap: &str) -> (Running, String) {
    let task = "task('wait'):command(function() exec.run([[TRAP echo pid=$$; while :; do sleep 0.05; done]]) return true end):build()";
    write(dir, "wait.sloth", &task.replace("TRAP", trap));
    let mut command = agent(&["run", "wait.sloth"]);
    command.current_dir(dir);
    let mut running = Running::start(command);
    let line = running.line_with("pid=");
    let pid = line.rsplit_once('=').expect("a number").1.trim().to_owned();
    assert!(is_alive(&pid));
    (running, pid)
}

#[test]
fn a_signal_cancels_a_run() {
    let dir = tempfile::tempdir().expect("a directory");
    for signal in [Signal::INT, Signal::TERM] {
        let (running, pid) = waiting(dir.path(), "");
        running.signal(signal);
        let (out, errors, code) = running.end();
        assert!(out.contains("run cancelled") && errors.contains("cancelling the run"), "{out}{errors}");
        assert_eq!(code, Some(1));
        assert!(!is_alive(&pid));
    }
}

#[test]
fn a_second_signal_kills_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (running, pid) = waiting(dir.path(), "trap '' TERM;");
    running.signal(Signal::INT);
    // The two must not become one.
    let mut running = running;
    running.stderr_with("cancelling the run");
    running.signal(Signal::INT);
    let (_, errors, code) = running.end();
    assert!(errors.contains("error: the run was killed"), "{errors}");
    assert_eq!(code, Some(1));
    assert!(!is_alive(&pid));
}

#[test]
fn two_signals_at_once_never_look_like_success() {
    let dir = tempfile::tempdir().expect("a directory");
    for _ in 0..5 {
        // The command's death is not taken for its end, though the run had no time to be cancelled.
        let (running, pid) = waiting(dir.path(), "trap '' TERM;");
        running.signal(Signal::INT);
        running.signal(Signal::TERM);
        let (out, errors, code) = running.end();
        assert!(!out.contains("succeeded"), "{out}");
        assert!(errors.contains("error: the run was killed"), "{errors}");
        assert_eq!(code, Some(1));
        assert!(!is_alive(&pid));
    }
}

#[test]
fn a_second_signal_ends_what_cannot_be_stopped() {
    let dir = tempfile::tempdir().expect("a directory");
    // One call of the machine, which nothing interrupts.
    let long = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a ~ b }}{% endfor %}{% endfor %}";
    let task =
        "task('t'):command(function() goroutine.spawn(function() exec.run('echo pid=$$; exec sleep 60') end) sleep(1)
        log.info('begins') for _ = 1, 99 do pcall(template.render, [[LONG]]) end return true end)";
    write(dir.path(), "long.sloth", &task.replace("LONG", long));
    let mut command = agent(&["run", "long.sloth"]);
    command.current_dir(dir.path());
    let mut running = Running::start(command);
    let pid = running.line_with("pid=").rsplit_once('=').expect("a number").1.trim().to_owned();
    running.line_with("begins");
    running.signal(Signal::INT);
    running.stderr_with("cancelling the run");
    running.signal(Signal::TERM);
    let (_, errors, code) = running.end();
    assert!(errors.contains("error: the run was killed"), "{errors}");
    assert_eq!(code, Some(1));
    assert!(!is_alive(&pid));
}

#[test]
fn a_check_changes_nothing_and_grants_are_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(
        dir,
        "touch.sloth",
        "task('touch'):command(function() exec.run('touch made') return true end):workdir(values.dir)",
    );
    write(dir, "debug.sloth", "task('t'):command(function() log.debug('deep') return true end)");
    let here = format!("dir={}", dir.display());
    for option in ["--check", "--plan", "--dry-run"] {
        let told = ["would run: touch made", "1 task in", ": 1 succeeded; this was a check, nothing was changed"];
        check(dir, &["touch.sloth", option, "--var", &here], &told, 0);
        assert!(!dir.join("made").exists());
    }
    let denied = ["capability `exec` is not granted", ": 1 failed"];
    check(dir, &["touch.sloth", "--set", &here, "--deny", "exec"], &denied, 1);
    check(dir, &["touch.sloth", "--set", &here, "--allow", "state"], &denied, 1);
    check(dir, &["touch.sloth", "--allow", "exce"], &["!there is no capability `exce`"], 2);
    assert!(!dir.join("made").exists());
    check(dir, &["touch.sloth", "--set", &here, "--allow", "exec", "--allow", "fs:write"], &["1 succeeded"], 0);
    assert!(dir.join("made").exists());
    check(dir, &["debug.sloth", "--debug"], &["t | debug: deep"], 0);
}

#[test]
fn parts_of_a_file_are_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(
        dir,
        "good.sloth",
        "task('a'):command('true') task('b'):depends_on('a'):command('true') task('c'):command('true')",
    );
    check(dir, &["good.sloth", "--only", "a"], &["good/a succeeded", ": 1 succeeded, 2 skipped"], 0);
    check(dir, &["good.sloth", "--skip", "a"], &["good/b succeeded", ": 2 succeeded, 1 skipped"], 0);
    check(dir, &["good.sloth", "--from", "a"], &["good/b succeeded", ": 2 succeeded, 1 skipped"], 0);
    check(dir, &["good.sloth", "--to", "b"], &["good/a succeeded", "good/b succeeded", ": 2 succeeded, 1 skipped"], 0);
    check(dir, &["good.sloth", "-t", "b"], &["good/a succeeded", "good/b succeeded", ": 2 succeeded, 1 skipped"], 0);
    check(dir, &["good.sloth", "--only", "d"], &["!`d`"], 2);
}

#[test]
fn the_old_spelling_is_understood_or_answered() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "good.sloth", GOOD);
    write(dir, "a.yaml", "who: yaml\n");
    check(dir, &["my-stack", "--file", "good.sloth", "-v", "a.yaml", "--yes"], &["hello yaml"], 0);
    check(dir, &["my-stack", "-f", "good.sloth", "-y", "-o", "rich"], &["hello nobody"], 0);
    for (arguments, expected) in [
        (&["s", "-f", "good.sloth", "-d", "web-1"][..], "!`sloth-coord run BUNDLE --on 'name=web-1'`"),
        (&["s", "-f", "good.sloth", "--sloth", "x"], "!write the path of the workflow file"),
        (&["s", "-f", "good.sloth", "--ssh", "x"], "!make that host an agent with `sloth-agent enroll`"),
        (&["s", "-f", "good.sloth", "--interactive"], "!`--check` says what it would change"),
        (&["-f", "a.yaml"], "!`a.yaml` is no workflow file: values are given with `--values a.yaml`"),
    ] {
        check(dir, arguments, &[expected], 2);
    }
}

/// A program on a terminal of its own, by util-linux' `script`; nothing where there is no such program.
fn on_a_terminal(dir: &Path, setup: &str) -> Option<String> {
    let program = env!("CARGO_BIN_EXE_sloth-agent");
    let line = format!("stty cols 60 rows 20; {setup} {program} run live.sloth");
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(dir);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm").env("HOME", dir).env("TMPDIR", dir);
    match command.output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            println!("not tested here: cannot start `script`: {error}");
            None
        }
    }
}

#[test]
fn a_terminal_shows_what_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    write(
        dir.path(),
        "live.sloth",
        "task('slow'):async(true):command('echo out; sleep 0.3'); task('quick'):command('true')",
    );
    let Some(shown) = on_a_terminal(dir.path(), "") else { return };
    for expected in
        ["⠋ live/", "  out\r\n", " of 2 tasks in 0.", "\u{1b}[2A\r\u{1b}[J", "live/slow succeeded in", "2 tasks in"]
    {
        assert!(shown.contains(expected), "no {expected:?} in {shown:?}");
    }
    // What is above the view stays as it was printed, and the view is gone in the end.
    let last = shown.rsplit_once("\u{1b}[J").expect("it was cleared").1;
    assert!(last.contains("run succeeded") && !last.contains(" of 2 tasks"), "{last:?}");
    for setup in ["NO_COLOR=1", "TERM=dumb", "stty cols 20;"] {
        let shown = on_a_terminal(dir.path(), setup).expect("it was there before");
        assert!(shown.contains("live/slow succeeded in") && !shown.contains('\u{1b}'), "{setup}: {shown:?}");
    }
}

#[test]
fn a_directory_with_one_workflow_file_means_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "one/good.sloth", GOOD);
    write(dir, "two/a.sloth", GOOD);
    write(dir, "two/b.sloth", GOOD);
    check(dir, &["one"], &["run succeeded"], 0);
    check(dir, &["two"], &["!has several workflow files, name one: `two/a.sloth`, `two/b.sloth`"], 2);
    check(dir, &["."], &["!is a directory without a workflow file"], 2);
}

#[test]
fn what_is_not_granted_names_the_option_that_grants_it() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "good.sloth", GOOD);
    check(dir.path(), &["good.sloth", "--deny", "exec"], &["run the file with `--allow exec`"], 1);
}

#[test]
fn a_check_says_that_it_is_one_to_programs_too() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "good.sloth", GOOD);
    check(dir.path(), &["good.sloth", "--check", "-o", "json"], &["\"event\":\"planned\"", "\"check\":true"], 0);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    use std::process::Stdio;

    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "good.sloth", GOOD);
    for arguments in [&["run", "good.sloth"][..], &["modules", "docs"]] {
        let mut command = agent(arguments);
        command.current_dir(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((told.as_str(), output.status.code()), ("", Some(0)), "{arguments:?}");
    }
}
