//! A run that goes on after its worker was gone.

use serde_json::{Map, json};
use sloth_core::Millis;
use sloth_workflow::{TaskEnd, TaskName, TaskStatus};

use crate::harness::Case;

const TEXT: &str = r#"
    task("a"):command(function() error("run again", 0) end)
    task("b"):idempotent(true):depends_on("a"):command(function(this, _, deps) return true, deps.a.n .. "/" .. this.attempt end)
    task("off"):run_if(false):command("true")
    task("c"):depends_on("off"):command(function() return true end)
    task("bad"):command("false")
    task("d"):depends_on("bad"):command("true")
    task("e"):depends_on("d"):command("true")
    task("once"):command(function() return true end)
    task("never"):idempotent(false):retries(5):command("true")
    task("f"):retries(2):command(function(this) return false, "at " .. this.attempt end)
"#;

fn name(task: &str) -> TaskName {
    TaskName { workflow: "main".into(), task: task.into() }
}

fn end(task: &str, status: TaskStatus, outputs: &serde_json::Value) -> TaskEnd {
    let outputs = outputs.as_object().cloned().unwrap_or_else(Map::new);
    let (started, ended) = (Millis::ZERO, Millis::ZERO);
    TaskEnd { task: name(task), status, attempts: 1, message: "before".into(), outputs, started, ended }
}

#[test]
fn what_ended_is_not_run_again_and_what_was_cut_off_is() {
    let mut case = Case::new(TEXT);
    case.input.resume.ended = vec![
        end("a", TaskStatus::Succeeded, &json!({"n": 7})),
        end("off", TaskStatus::Skipped, &json!({})),
        end("bad", TaskStatus::Failed, &json!({})),
        end("d", TaskStatus::Skipped, &json!({})),
    ];
    case.input.resume.attempts = [(name("b"), 2), (name("once"), 1), (name("never"), 1), (name("f"), 1)].into();
    let ended = case.run();
    assert_eq!(
        ended.lines(),
        [
            "a succeeded: before",
            "b succeeded: 7/3",
            "off skipped: before",
            "c succeeded",
            "bad failed: before",
            "d skipped: before",
            "e skipped: `d`, which it depends on, did not end well",
            "once interrupted: it was cut off while it ran, and it is neither idempotent nor to be retried: see what it did, then run it anew",
            "never interrupted: it was cut off while it ran, and it is neither idempotent nor to be retried: see what it did, then run it anew",
            "f failed: at 3",
        ]
    );
    let told = ended.told();
    assert!(!told.contains("+a/") && !told.contains("-bad") && told.contains("+b/3"), "{told}");
    assert!(
        !told.contains("+once") && told.contains("-once") && told.contains("+f/2") && told.contains("+f/3"),
        "{told}"
    );
}
