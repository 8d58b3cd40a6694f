//! The rows of `tests/language`: whole files, each with what is expected of it.
//!
//! A row begins with `==== its name`. Lines that begin with `--@ ` say what is expected; the rest is the file.
//!
//! | line | |
//! |---|---|
//! | `plan: w: a, b after a` | a workflow as the file is read for its plan, one a line |
//! | `task: a succeeded: message` | a task's end, all of them in the order of the file |
//! | `log: text` | a line of the log, all of them in order |
//! | `says: text` | a line of the log that is there among others |
//! | `message: text` | what the run's message contains |
//! | `outputs: {…}` | the run's outputs |
//! | `warning: text` | what the author should know before the file is run, all of it in order |
//! | `error: text` | how the error of loading begins, in a run and for the plan |
//! | `values: {…}`, `secrets: {…}` | what the run is given |
//! | `agent: name` | the host's name |
//! | `check` | the run only checks |
//! | `elsewhere` | what is meant for another host runs here |
//! | `parallel: n` | how many tasks run at a time |

use std::{collections::BTreeMap, rc::Rc};

use serde_json::{Value, json};
use sloth_core::Secret;
use sloth_workflow::{Elsewhere, validate};

use crate::harness::Case;

const FILES: [(&str, &str); 7] = [
    ("spellings", include_str!("../language/spellings.lua")),
    ("fields", include_str!("../language/fields.lua")),
    ("globals", include_str!("../language/globals.lua")),
    ("checks", include_str!("../language/checks.lua")),
    ("errors", include_str!("../language/errors.lua")),
    ("ignored", include_str!("../language/ignored.lua")),
    ("traps", include_str!("../language/traps.lua")),
];
/// Fewer would mean that they are not found any more.
const ROWS_MIN: usize = 150;

/// What a row expects, by the word that it says it with.
type Expected<'a> = BTreeMap<&'a str, Vec<&'a str>>;

#[test]
fn every_row_does_what_it_says() {
    let (mut rows, mut wrong) = (0, Vec::new());
    for (file, text) in FILES {
        for row in text.split("\n==== ").skip(1) {
            let (name, body) = row.split_once('\n').expect("a name on a line of its own");
            rows += 1;
            if let Err(told) = check(body) {
                wrong.push(format!("{file}: {name}\n{told}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {rows} rows:\n\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(ROWS_MIN <= rows, "only {rows} rows are found");
}

fn check(body: &str) -> Result<(), String> {
    let mut expected: Expected<'_> = BTreeMap::new();
    let at = body.lines().take_while(|line| line.starts_with("--@ ")).map(|line| line.len() + 1).sum();
    let (head, body) = body.split_at(at);
    for line in head.lines().filter_map(|line| line.strip_prefix("--@ ")) {
        let (word, rest) = line.split_once(':').unwrap_or((line, ""));
        expected.entry(word).or_default().push(rest.strip_prefix(' ').unwrap_or(rest));
    }
    if let Some(unknown) = expected.keys().find(|word| !WORDS.contains(*word)) {
        return Err(format!("`{unknown}` is no word of a row"));
    }
    if let Some(begin) = expected.get("error") {
        return refused(body, begin[0], &expected);
    }
    if let Some(plans) = expected.get("plan") {
        same("the plan", &plan(&case(body, &expected))?, plans)?;
    }
    if let Some(warnings) = expected.get("warning") {
        same("the warnings", &warned(body, &expected)?, warnings)?;
    }
    if RUN_WORDS.iter().all(|word| !expected.contains_key(word)) {
        return if ["plan", "warning"].iter().any(|word| expected.contains_key(word)) {
            Ok(())
        } else {
            Err("it expects nothing".to_owned())
        };
    }
    let ended = case(body, &expected).try_run().map_err(|error| error.to_string())?;
    let work = format!("{}/", ended.dir.path().join("work").display());
    let plain = |lines: Vec<String>| lines.into_iter().map(|line| line.replace(&work, "")).collect::<Vec<_>>();
    let (lines, log) = (plain(ended.lines()), plain(ended.log()));
    if let Some(tasks) = expected.get("task") {
        same("the tasks", &lines, tasks).map_err(|told| format!("{told}\nlog: {log:#?}"))?;
    }
    if let Some(told) = expected.get("log") {
        same("the log", &log, told).map_err(|told| format!("{told}\ntasks: {lines:#?}"))?;
    }
    for wanted in expected.get("says").into_iter().flatten() {
        if !log.iter().any(|line| line.contains(wanted)) {
            return Err(format!("the log does not say `{wanted}`: {log:#?}\ntasks: {lines:#?}"));
        }
    }
    for wanted in expected.get("message").into_iter().flatten() {
        if !ended.end.message.contains(wanted) {
            return Err(format!("the message is `{}`\nlog: {log:#?}", ended.end.message));
        }
    }
    for wanted in expected.get("outputs").into_iter().flatten() {
        let wanted: Value = serde_json::from_str(wanted).map_err(|error| error.to_string())?;
        if json!(ended.end.outputs) != wanted {
            return Err(format!("the outputs are {}", json!(ended.end.outputs)));
        }
    }
    Ok(())
}

const WORDS: [&str; 15] = [
    "elsewhere",
    "plan",
    "warning",
    "task",
    "log",
    "says",
    "message",
    "outputs",
    "error",
    "values",
    "secrets",
    "agent",
    "check",
    "parallel",
    "run",
];
const RUN_WORDS: [&str; 6] = ["task", "log", "says", "message", "outputs", "run"];

fn case(body: &str, expected: &Expected<'_>) -> Case {
    let given = |word: &str| expected.get(word).map(|lines| lines[0]);
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let mut case = Case::new(body);
    case.input.values = given("values").map_or(Value::Null, json);
    case.input.agent.name = given("agent").unwrap_or_default().to_owned();
    case.input.check = given("check").is_some();
    if given("elsewhere").is_some() {
        case.input.settings.elsewhere = Elsewhere::Here;
    }
    if let Some(secrets) = given("secrets").map(json) {
        let secrets = secrets.as_object().expect("an object").clone();
        let secret = |(name, value): (String, Value)| (name, Secret::new(value.as_str().expect("a text").to_owned()));
        case.input.settings.secrets = Rc::new(secrets.into_iter().map(secret).collect());
    }
    match given("parallel") {
        Some(tasks) => case.parallel(tasks.parse().expect("a number")),
        None => case,
    }
}

fn refused(body: &str, begin: &str, expected: &Expected<'_>) -> Result<(), String> {
    let planned = case(body, expected).load().err().map(|error| error.to_string());
    let run = case(body, expected).try_run().err().map(|error| error.to_string());
    for told in [planned, run] {
        match told {
            Some(told) if told.starts_with(begin) => {}
            other => return Err(format!("the error is {other:?}\nexpected   {begin:?}")),
        }
    }
    Ok(())
}

/// Each workflow as `name: task, task after task, task if task fails`.
fn plan(case: &Case) -> Result<Vec<String>, String> {
    let task = |task: &sloth_workflow::TaskSpec| {
        let mut told = task.name.clone();
        for (word, names) in [("after", &task.depends_on), ("if failed", &task.if_failed), ("on", &task.delegate_to)] {
            if !names.is_empty() {
                told.push_str(&format!(" {word} {}", names.join("+")));
            }
        }
        told
    };
    let plans = case.load().map_err(|error| error.to_string())?;
    let told = |plan: &sloth_workflow::Plan| {
        format!("{}: {}", plan.name(), plan.tasks().iter().map(task).collect::<Vec<_>>().join(", "))
    };
    Ok(plans.iter().map(told).collect())
}

fn warned(body: &str, expected: &Expected<'_>) -> Result<Vec<String>, String> {
    let case = case(body, expected);
    case.load().map_err(|error| error.to_string())?;
    let found = validate(&case.input.bundle_dir, &case.input.file, &case.input.values, &case.input.limits);
    Ok(found.warnings)
}

fn same(what: &str, got: &[String], expected: &[&str]) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("{what}: {got:#?}\nexpected: {expected:#?}")) }
}
