//! The tools for authors of workflow files, as their users see them.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod common;

use std::path::Path;

use common::{agent, said, write};
use serde_json::Value;

/// Runs the program in `dir`; what is said contains `expected`, in their order, and it ends with `code`. What begins with
/// `!` is said on standard error.
#[track_caller]
fn check(dir: &Path, arguments: &[&str], expected: &[&str], code: i32) -> String {
    let mut command = agent(arguments);
    command.current_dir(dir).env("HOME", dir).env("TMPDIR", dir);
    let (stdout, stderr, got) = said(command);
    let told = format!("{arguments:?}:\n{stdout}\n--\n{stderr}");
    let (mut out, mut errors) = (stdout.as_str(), stderr.as_str());
    for text in expected {
        let (rest, text) = match text.strip_prefix('!') {
            Some(text) => (&mut errors, text),
            None => (&mut out, *text),
        };
        let (_, after) = rest.split_once(text).unwrap_or_else(|| panic!("no `{text}` in {told}"));
        *rest = after;
    }
    assert_eq!(got, code, "{told}");
    stdout
}

#[test]
fn modules_are_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    check(dir, &["modules", "list"], &["MODULE", "exec", "Commands of the host"], 0);
    let json: Value = serde_json::from_str(&check(dir, &["modules", "list", "-o", "json"], &[], 0)).expect("JSON");
    assert!(json.as_array().is_some_and(|list| list.iter().any(|module| module["name"] == "exec")), "{json}");
    check(dir, &["modules", "show", "exec"], &["exec.run(command: Command", "Needs `exec`.", "type ExecResult"], 0);
    check(dir, &["modules", "show", "exec.sh"], &["exec.sh(command: Command", "Needs `exec`."], 0);
    check(dir, &["modules", "show", "language"], &["task(name: string"], 0);
    check(dir, &["modules", "show", "testing"], &["expect(value: any)", "type Expectation"], 0);
    check(dir, &["modules", "show", "ExecResult"], &["type ExecResult", "stdout"], 0);
    check(
        dir,
        &["modules", "show", "exce"],
        &["!there is no module, function or type `exce`; did you mean `exec`?"],
        3,
    );
    let types = check(dir, &["modules", "types"], &["export type Change", "declare exec: {"], 0);
    assert_eq!(types.trim_end(), sloth_workflow::describe::types().trim_end());
    let page = check(dir, &["modules", "docs"], &["# Modules", "### exec.run"], 0);
    assert_eq!(page.trim_end(), sloth_workflow::describe::markdown().trim_end());
}

#[test]
fn shells_complete() {
    let dir = tempfile::tempdir().expect("a directory");
    for shell in ["bash", "zsh", "fish"] {
        check(dir.path(), &["completions", shell], &["sloth-agent"], 0);
    }
    check(dir.path(), &["completions", "cmd"], &["!invalid value 'cmd'"], 2);
}

#[test]
fn a_word_that_is_no_log_level_is_refused() {
    let mut command = agent(&["modules", "list"]);
    command.env("SLOTH_LOG", "loud");
    let (_, stderr, code) = said(command);
    assert!(stderr.contains("there is no log level `loud`") && code == 2, "{stderr}");
}

#[test]
fn without_a_daemon_the_way_to_one_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let hint = format!("!start one with `sloth-agent daemon --dir {}`", dir.path().display());
    check(dir.path(), &["status", "--dir", &dir.path().display().to_string()], &[&hint], 4);
}

const GOOD: &str =
    "local a = task('a'):retries(1):command('true')\nlocal b = task('b'):depends_on(a):command('true')\n";

const SEVERAL: &str = "task('a'):timeout('soon'):command('true')
task(nil):command('true')
task('b'):retrys(2):command('true')
task('c'):depends_on({'a', 'd'}):command('true')
tsk('e')
";

#[test]
fn mistakes_are_found_with_their_places() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "good.sloth", GOOD);
    write(dir, "typo.sloth", "task('a'):command(function()\n  return exec.rnu('true').success\nend)\n");
    write(dir, "syntax.sloth", "task('a')\n  :command(function( return end)\n");
    write(dir, "lib.lua", "return { answer = 42 }\n");
    write(dir, "caller.sloth", "require('broken')\ntask('a'):command('true')\n");
    write(dir, "broken.lua", "\nlocal x = nil + 1\nreturn x\n");
    check(dir, &["validate", "good.sloth", "lib.lua"], &["good.sloth: ok, 1 workflow with 2 tasks", "lib.lua: ok"], 0);
    let typo = [
        "typo.sloth:2:10: warning: there is no `exec.rnu`; did you mean `exec.run`?",
        "2 |   return exec.rnu('true').success",
        "  |          ^",
        "typo.sloth: ok, 1 workflow with 1 task, 1 warning",
    ];
    check(dir, &["validate", "typo.sloth"], &typo, 0);
    let strict = [typo[0], typo[1], typo[2], "typo.sloth: 1 workflow with 1 task, 1 warning"];
    check(dir, &["validate", "--strict", "typo.sloth"], &strict, 1);
    let all = [
        "syntax.sloth:2:22: error: Expected",
        "2 |   :command(function( return end)",
        "syntax.sloth: 1 error",
        "good.sloth: ok",
    ];
    check(dir, &["validate", "syntax.sloth", "good.sloth"], &all, 1);
    check(dir, &["validate", "caller.sloth"], &["broken.lua:2: error:", "2 | local x = nil + 1"], 1);
    check(
        dir,
        &["validate", "none.sloth", "good.sloth"],
        &["good.sloth: ok", "!cannot read the workflow file `none.sloth`"],
        2,
    );
    write(dir, "several.sloth", SEVERAL);
    let several = [
        "several.sloth:1: error: task `a`: `timeout` takes a duration",
        "several.sloth:2: error: task: `name` takes a text, got nothing",
        "several.sloth:3: error: task `b`: there is no method or key `retrys`; did you mean `retry`?",
        "several.sloth:5: error: attempt to call a nil value: `tsk` is nil; did you mean `task`?",
        "several.sloth:4:28: error: task `c` of workflow `several` depends on `d`",
        "several.sloth: 5 errors",
    ];
    check(dir, &["validate", "several.sloth"], &several, 1);
    write(dir, "names.sloth", "task('a'):consumes('x.txt'):command(function() return ture end)\n");
    let names = [
        "names.sloth: warning: task `a` consumes `x.txt`, which no task of its workflow leaves as an artifact",
        "names.sloth:1:55: warning: `ture` is nil: nothing is called so; did you mean `true`?",
        "names.sloth: 1 workflow with 1 task, 2 warnings",
    ];
    check(dir, &["validate", "--strict", "names.sloth"], &names, 1);
    write(dir, "open.sloth", "task('a'):command(function()\n  if true then\n    return true\nend)\n");
    check(
        dir,
        &["validate", "open.sloth"],
        &["open.sloth:4:4: error: Expected", "; the `if` of line 2 seems to lack its `end`"],
        1,
    );
    let json: Value =
        serde_json::from_str(&check(dir, &["validate", "syntax.sloth", "-o", "json"], &[], 1)).expect("JSON");
    assert_eq!((json["ok"].as_bool(), json["findings"][0]["line"].as_u64()), (Some(false), Some(2)), "{json}");
    assert_eq!(json["findings"][0]["severity"], "error");
}

#[test]
fn keys_that_nothing_reads_are_told_by_every_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(
        dir,
        "keys.sloth",
        "workflow.define('w', {\n  on_abort = 1,\n  tasks = { a = { command = 'true', needs = 'b' } },\n})\n",
    );
    let keys = [
        "keys.sloth:2: warning: workflow `w`: there is no method or key `on_abort`, so it is ignored",
        "2 |   on_abort = 1,",
        "keys.sloth:3: warning: task `a`: there is no method or key `needs`, so it is ignored; did you mean `depends_on`?",
        "keys.sloth: ok, 1 workflow with 1 task, 2 warnings",
    ];
    check(dir, &["validate", "keys.sloth"], &keys, 0);
    check(dir, &["plan", "keys.sloth"], &["w: 1 task", "!keys.sloth:2: warning: workflow `w`"], 0);
    check(dir, &["run", "keys.sloth"], &["did you mean `depends_on`?", "did you mean `depends_on`?"], 0);
}

#[test]
fn plans_are_drawn() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "good.sloth", GOOD);
    write(dir, "bundle/bundle.toml", "name = \"b\"\nversion = \"1\"\ncapabilities = [\"exec\", \"state\"]\n");
    write(dir, "bundle/good.sloth", GOOD);
    let steps = ["good: 2 tasks in 2 steps", "   1  a  1 retry", "   2  b  after a", "needs the capabilities: exec"];
    check(dir, &["plan", "good.sloth"], &steps, 0);
    write(dir, "asks.sloth", "task('a'):run_if('test -e x'):abort_if(function() end):command('true')\n");
    check(dir, &["plan", "asks.sloth"], &["a  run_if `test -e x`; abort_if a function says so"], 0);
    let json: Value = serde_json::from_str(&check(dir, &["plan", "asks.sloth", "-o", "json"], &[], 0)).expect("JSON");
    assert!(json["workflows"][0]["tasks"][0].get("backoff").is_none(), "{json}");
    write(dir, "wrong.sloth", "task('a'):depends_on('biuld'):command('true')\ntask('build'):command('true')\n");
    let wrong = ["!wrong.sloth:1:22: error: task `a` of workflow `wrong` depends on `biuld`", "!did you mean `build`?"];
    check(dir, &["plan", "wrong.sloth"], &wrong, 2);
    check(dir, &["plan", "bundle"], &["needs the capabilities: exec", "bundle.toml grants: exec, state"], 0);
    check(dir, &["plan", "good.sloth", "--format", "dot"], &["digraph", "w0t0 -> w0t1"], 0);
    check(dir, &["plan", "good.sloth", "--format", "mermaid"], &["flowchart", "w0t0 --> w0t1"], 0);
    check(dir, &["plan", "good.sloth", "--workflow", "bad"], &["!has no workflow `bad`: it has `good`"], 2);
    for arguments in [&["plan", "good.sloth", "-o", "json"][..], &["plan", "good.sloth", "--format", "json"]] {
        let json: Value = serde_json::from_str(&check(dir, arguments, &[], 0)).expect("JSON");
        assert_eq!(
            (&json["workflows"][0]["name"], &json["capabilities"]["needed"][0]),
            (&"good".into(), &"exec".into())
        );
    }
}

const DEPLOY: &str = r#"
local look = task("look"):command(function() return true, "", { version = exec.run("app --version").stdout } end)
local copy = task("copy"):depends_on(look):command("cp app /opt/app"):run_if(function(params, deps)
    return deps.look.version ~= (values and values.version)
end)
local restart = task("restart"):depends_on(copy):command(function()
    log.info("restarting")
    return exec.sh("restart app")
end)
workflow.define("deploy"):tasks({ look, copy, restart })
"#;

const DEPLOY_TEST: &str = r#"
local commands
before_each(function() commands = stub("exec.run", function(line) return line == "app --version" and "1.0" or "" end) end)

test("copies another version", function()
    local restarts = stub("exec.sh", "done")
    local result = run("deploy.sloth", { values = { version = "1.1" } })
    expect(result.success):is_true()
    expect(commands.count):equals(2)
    expect(commands[2][1]):equals("cp app /opt/app")
    expect(restarts[1]):equals({ "restart app" })
    expect(result.tasks.look.outputs):includes({ version = "1.0" })
    expect(result.log):contains("restarting")
end)

test("leaves the same version", function()
    stub("exec.sh", true)
    local result = run("deploy.sloth", { values = { version = "1.0" } })
    expect(result.tasks.copy.status):equals("skipped")
    expect(commands.count):equals(1)
end)

test("says why it failed", function()
    stub("exec.run", { exit_code = 3, stderr = "no space left" })
    stub("exec.sh", function() return false, "no such service" end)
    local result = run("deploy.sloth", { outputs = { look = { version = "0" } } })
    expect(result.success):is_false()
    expect(result.tasks.copy.message):contains("status 3: no space left")
    expect(result.tasks.restart.status):equals("skipped")
end)

test("runs one task alone", function()
    local result = run("deploy.sloth", { only = "restart" })
    expect(result.tasks.look.status):equals("skipped")
    expect(result.tasks.restart.message):contains("`exec` is not granted")
end)

test("keeps state and files to itself", function()
    expect(state.increment("n")):equals(1)
    expect(fs.write("made", "x")):is_true()
    expect(fs.write("/tmp/slothtest-outside", "x")).never:is_true()
end)
test.skip("later", function() error("it is not run") end)
"#;

#[test]
fn workflows_are_tested_with_stubs() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    write(dir, "deploy.sloth", DEPLOY);
    let outside = "test(\"keeps state";
    let (good, last) = DEPLOY_TEST.split_once(outside).expect("the last test");
    write(dir, "deploy_test.lua", good);
    write(
        dir,
        "deep/other_test.luau",
        "test('adds', function() expect(1 + 1):equals(2) end) test.skip('later', function() end)",
    );
    let told = [
        "deep/other_test.luau",
        "  ok      adds",
        "  skipped later",
        "deploy_test.lua",
        "  ok      copies another version",
        "  ok      leaves the same version",
        "  ok      says why it failed",
        "  ok      runs one task alone",
        "6 tests, 0 failed, 1 skipped in",
    ];
    check(dir, &["test"], &told, 0);
    check(dir, &["test", "deploy_test.lua", "--filter", "alone"], &["ok      runs one task", "\n1 test, 0 failed"], 0);
    // What is written outside of the test's own directory raises an error that names what to grant.
    write(dir, "state_test.lua", &format!("{outside}{last}"));
    let refused = ["FAILED  keeps state", "state_test.lua:4:", "not granted", "in a test: stub the function"];
    check(dir, &["test", "state_test.lua"], &refused, 1);
    assert!(!Path::new("/tmp/slothtest-outside").exists());
    check(dir, &["test", "deploy.sloth"], &["FAILED  the file", "defines no test"], 1);
    check(dir, &["test", "none"], &["!cannot look for tests in `none`"], 2);
    check(dir, &["test", "--allow", "exce"], &["!there is no capability `exce`"], 2);
    std::fs::create_dir(dir.join("empty")).expect("made");
    check(dir, &["test", "empty"], &["!there is no test: the names of test files end in"], 3);
}

#[test]
fn tests_that_fail_say_why_in_every_style() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let script = "test('lists', function()\n  log.info('seen')\n  expect({ 1, { a = 2 } }):equals({ 1, { a = 3 } })\nend)\n\
        test('words', function() expect('one').never:contains('n') end)\n\
        test('typo', function() expect(1):equls(1) end)\n\
        test('hangs not', function() expect(function() error('x y') end):raises('y') end)\n";
    write(dir, "bad_test.lua", script);
    let told = [
        "  FAILED  lists",
        "bad_test.lua:3: expected equal values",
        "-{ 1, { a = 3 } }",
        "+{ 1, { a = 2 } }",
        "log: seen",
        "bad_test.lua:5: expected \"one\" not to contain \"n\"",
        "bad_test.lua:6: expect: there is no `equls`; did you mean `equals`?",
        "  ok      hangs not",
        "4 tests, 3 failed in",
    ];
    check(dir, &["test"], &told, 1);
    let tap = ["not ok 1 - bad_test.lua: lists", "# bad_test.lua:3:", "ok 4 - bad_test.lua: hangs not", "1..4"];
    check(dir, &["test", "--format", "tap"], &tap, 1);
    let xml = ["<testsuite name=\"bad_test.lua\" tests=\"4\" failures=\"3\"", "<failure message=\"bad_test.lua:3:"];
    check(dir, &["test", "--format", "junit"], &xml, 1);
    let lines = check(dir, &["test", "-o", "json"], &[], 1);
    let ends: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&ends[0]["outcome"], &ends[3]["outcome"]), (&"failed".into(), &"passed".into()), "{lines}");
    assert_eq!(ends[0]["log"][0], "seen");
}

#[test]
fn lua_is_talked_line_by_line() {
    use std::{io::Write as _, process::Stdio};

    let dir = tempfile::tempdir().expect("a directory");
    let talk = |arguments: &[&str], lines: &str| {
        let mut command = agent(&["repl"]);
        command.args(arguments).current_dir(dir.path()).env("HOME", dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("written");
        let output = child.wait_with_output().expect("it ends");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
    };
    let lines = "1 + 1, 'text'\nx = { b = 1, 'a' }\nx\nfunction twice(n)\n  return n * 2\nend\ntwice(4)\n\
        exec.run('echo out', { quiet = true }).stdout\nlocal kept = 1\nkept\nlocal function f() return 2 end\nf()\nhelp\nexit\n5\n";
    let expected = "2\n\"text\"\n{ \"a\", b = 1 }\n8\n\"out\\n\"\n1\n2\nAn expression is shown";
    let (told, code) = talk(&[], lines);
    assert!(told.starts_with(expected) && !told.ends_with("5\n") && code == Some(0), "{told}");
    let (told, _) = talk(&[], "fs.raed('x')\n");
    assert!(told.contains("`fs` has no `raed`; did you mean `read`?"), "{told}");
    let (told, code) = talk(&["--deny", "exec"], "exec.run('true')\nx = = 1\n(1 +");
    assert!(told.contains("capability `exec` is not granted") && told.contains("error: repl:1: Expected"), "{told}");
    assert!(told.contains("the text ends in the middle") && code == Some(1), "{told}");
}

#[test]
fn every_example_is_a_bundle_that_works() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").canonicalize().expect("the examples");
    let dir = tempfile::tempdir().expect("a directory");
    let mut count = 0;
    for example in std::fs::read_dir(examples).expect("listed").flatten().map(|entry| entry.path()) {
        let shown = example.display().to_string();
        check(dir.path(), &["validate", "--strict", &shown], &[": ok, "], 0);
        check(dir.path(), &["plan", &shown], &["bundle.toml grants: "], 0);
        check(dir.path(), &["test", &shown], &["ok ", ", 0 failed"], 0);
        let values = example.join("values.yaml").display().to_string();
        check(dir.path(), &["run", &shown, "--check", "-v", &values], &["nothing was changed"], 0);
        check(dir.path(), &["run", &shown, "-v", &values], &["run succeeded"], 0);
        if example.join("values.schema.json").is_file() {
            let wrong = ["run", &shown, "--set", "no_parameter=1"];
            check(dir.path(), &wrong, &["!the values do not fit `", "!`no_parameter` is no parameter: there are "], 2);
        }
        count += 1;
    }
    assert!(0 < count, "there are no examples");
}

#[test]
fn values_are_compared_with_the_schema_beside_the_workflow() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let put = |name: &str, text: &str| write(dir, name, text);
    put("main.sloth", "task('a'):command(function() return true, 'on ' .. values.port end)");
    let schema = r#"{"required": ["port"], "properties": {"port": {"type": "integer", "description": "Where", "maximum": 9000}}}"#;
    put("values.schema.json", schema);
    let fits = "!the values do not fit `";
    for target in ["main.sloth", "."] {
        check(dir, &["run", target, "--set", "port=80"], &["on 80", "run succeeded"], 0);
        check(dir, &["run", target], &[fits, "!values.schema.json`: `port` is missing"], 2);
        check(dir, &["run", target, "--set", "port=x"], &[fits, "!`port` must be an integer, and is a string"], 2);
    }
    check(dir, &["validate", "main.sloth"], &["ok, 1 workflow"], 0);
    check(dir, &["validate", "main.sloth", "--set", "port=9001"], &["error: the values do not fit: `port` must be"], 1);
    check(dir, &["plan", "main.sloth"], &["PARAMETER", "port       integer  yes                Where"], 0);
    check(dir, &["plan", "main.sloth", "-o", "json"], &[r#""parameters":{"required":["port"]"#], 0);
    let test = |name: &str, values: &str| format!("test('{name}', function() run('main.sloth'{values}) end)\n");
    let tests = [
        test("fits", ", { values = { port = 80 } }"),
        test("too much", ", { values = { port = 9001 } }"),
        test("nothing", ""),
    ];
    put("main_test.lua", &tests.concat());
    let named = [
        "the values do not fit: `port` must be at most 9000",
        "the values do not fit: `port` is missing",
        "3 tests, 2 failed",
    ];
    check(dir, &["test", "."], &named, 1);
    put("main_test.lua", "test('none', function() end)");
    put("values.yaml", "port: 10000");
    check(
        dir,
        &["validate", "main.sloth"],
        &["values.yaml` do not fit the bundle's schema: `port` must be at most"],
        1,
    );
    put("values.yaml", "port: 1000");
    put("values.schema.json", r#"{"allOf": []}"#);
    let named = ["values.schema.json", "`allOf` is no keyword that is known; known are $comment, "];
    check(dir, &["validate", "main.sloth"], &named, 1);
    let named = ["!values.schema.json", "!`allOf` is no keyword that is known; known are $comment, "];
    check(dir, &["plan", "main.sloth"], &named, 2);
    check(dir, &["run", "main.sloth"], &named, 2);
}

#[test]
fn every_template_is_a_bundle_that_works() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for template in ["basic", "minimal"] {
        let file = format!("{template}/{template}.sloth");
        check(dir, &["new", template, "--template", template], &["made ./", "sloth-agent run ", "sloth-agent test"], 0);
        check(dir, &["validate", "--strict", template], &[": ok, 1 workflow"], 0);
        check(dir, &["plan", template], &["needs the capabilities: exec", "bundle.toml grants: exec"], 0);
        check(dir, &["test", template], &["ok ", ", 0 failed"], 0);
        check(dir, &["run", &file, "--check"], &["nothing was changed"], 0);
        check(dir, &["run", &file], &["run succeeded"], 0);
        check(dir, &["new", template], &["!is there already"], 3);
    }
    check(dir, &["new", "Web"], &["!`Web` cannot be a bundle's name"], 2);
    check(dir, &["new", "web", "--template", "none"], &["!invalid value 'none'"], 2);
}
