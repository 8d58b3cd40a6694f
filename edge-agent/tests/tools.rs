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
    check(dir, &["modules", "show", "exce"], &["!there is no module or function `exce`; did you mean `exec`?"], 3);
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
    check(dir, &["validate", "--strict", "typo.sloth"], &typo, 1);
    let all = [
        "syntax.sloth:2:22: error: Expected",
        "2 |   :command(function( return end)",
        "syntax.sloth: 1 error",
        "good.sloth: ok",
    ];
    check(dir, &["validate", "syntax.sloth", "good.sloth"], &all, 1);
    check(dir, &["validate", "caller.sloth"], &["broken.lua:2: error:", "2 | local x = nil + 1"], 1);
    check(dir, &["validate", "none.sloth"], &["!cannot read the workflow file `none.sloth`"], 2);
    let json: Value =
        serde_json::from_str(&check(dir, &["validate", "syntax.sloth", "-o", "json"], &[], 1)).expect("JSON");
    assert_eq!((json["ok"].as_bool(), json["findings"][0]["line"].as_u64()), (Some(false), Some(2)), "{json}");
    assert_eq!(json["findings"][0]["severity"], "error");
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
