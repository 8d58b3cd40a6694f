//! The tools for authors of workflow files, as their users see them.

#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod common;

use std::path::Path;

use common::{agent, said};
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
