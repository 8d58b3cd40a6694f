//! Files that are only read for their plans, and what is wrong with files.

use crate::harness::Case;

fn error(text: &str) -> String {
    Case::new(text).load().err().unwrap_or_else(|| panic!("loaded: {text}")).to_string()
}

#[test]
fn a_file_is_read_for_its_plan_without_running_anything() {
    let case = Case::new(
        r#"
        print("hello", values and values.x or "no values")
        local a = task("a"):description("first"):command(function() error("never") end):timeout("1h30m"):retries(2, "linear"):build()
        local b = task("b"):command("false"):depends_on({ a }):timeout(5):idempotent(false):delegate_to("web-1")
        workflow.define("w"):description("both"):version("1.0"):tasks({ a, b })
            :config({ timeout = "10m", max_parallel_tasks = 2, on_task_failure = "stop" })
            :on_complete(function() error("never") end)
        "#,
    );
    let plans = case.load().expect("a plan");
    let json = serde_json::to_value(&plans).expect("JSON");
    assert_eq!(
        json,
        serde_json::json!([{
            "name": "w", "description": "both", "version": "1.0", "max_parallel_tasks": 2, "timeout_ms": 600_000, "on_task_failure": "stop",
            "tasks": [
                {"name": "a", "description": "first", "timeout_ms": 5_400_000, "retries": 2, "backoff": "linear"},
                {"name": "b", "depends_on": ["a"], "delegate_to": ["web-1"], "timeout_ms": 5_000, "backoff": "exponential", "idempotent": false},
            ],
        }])
    );
}

#[test]
fn nothing_acts_while_a_file_is_only_read() {
    for call in
        ["exec.run('true')", "fs.write('x', 'y')", "goroutine.sleep(1)", "state.set('a', 1)", "facts.get_hostname()"]
    {
        let told = error(&format!("{call}\ntask('t'):command('true')"));
        assert!(
            told.starts_with("main.sloth:1: ") && told.contains("while the file is only read for its plan"),
            "{call}: {told}"
        );
    }
}

#[test]
fn a_syntax_error_shows_its_place() {
    assert_eq!(
        error("local x = 1\ntask('t'):command(function() return true end\nlocal y = 2"),
        "main.sloth:3:1: Expected ')' (to close '(' at line 2), got 'local'\n3 | local y = 2\n  | ^"
    );
    let told = error("x = = 1");
    assert!(told.starts_with("main.sloth:1:5: ") && told.ends_with("1 | x = = 1\n  |     ^"), "{told}");
    let told = error("for i = 1, 2 do goto out end\n::out::");
    assert!(told.starts_with("main.sloth:1: `goto out` can lead only"), "{told}");
}

fn check(table: &[(&str, &str)]) {
    for (text, expected) in table {
        let told = error(text);
        assert!(told.starts_with(expected), "{text}\n{told}\n{expected}");
    }
}

#[test]
fn wrong_use_of_the_builders_is_told_with_its_line() {
    check(&[
        (
            "task('a'):comand('x')",
            "main.sloth:1: task `a`: there is no method or key `comand`; did you mean `command`?",
        ),
        (
            "task('a'):timeout({})",
            "main.sloth:1: task `a`: `timeout` takes a duration like `30s`, `5m` or `1h30m`, or a number of seconds, got a table",
        ),
        (
            "\ntask('a'):timeout('soon')",
            "main.sloth:2: task `a`: `timeout` takes a duration like `30s`, `5m` or `1h30m`, or a number of seconds, got `soon`",
        ),
        (
            "task('a'):retries('many')",
            "main.sloth:1: task `a`: `retries` takes a whole number from 0 to 100, got `many`",
        ),
        (
            "task('a'):retries(1, 'fast')",
            "main.sloth:1: task `a`: `retries` takes `fixed`, `linear` or `exponential` after the number, got `fast`",
        ),
        (
            "task('a'):depends_on(true)",
            "main.sloth:1: task `a`: `depends_on` takes names of tasks, built tasks, or a list of them, got `true`",
        ),
        ("task('a'):on_success('x')", "main.sloth:1: task `a`: `on_success` takes a function, got `x`"),
        (
            "task('a'):command(1)",
            "main.sloth:1: task `a`: `command` takes a function, or a text for the shell, got `1`",
        ),
        ("task({})", "main.sloth:1: task: `name` takes a text, got nothing"),
        ("task(print)", "main.sloth:1: task: `name` takes a text, got a function"),
        ("task('')", "main.sloth:1: task: a name takes 1 to 200 bytes"),
        (
            "workflow.define('w'):task({})",
            "main.sloth:1: workflow `w`: there is no method or key `task`; did you mean `tasks`?",
        ),
        (
            "workflow.define('w'):tasks({ 5 })",
            "main.sloth:1: workflow `w`: entry `1` of `tasks` is `5`: write `task(\"name\")…` or a table with `name` and `command`",
        ),
        (
            "task('a'):register('x')",
            "main.sloth:1: task `a`: there is no method or key `register`: return a table of outputs third",
        ),
        (
            "workflow.define('w', { tasks = { { command = 'x' } } })",
            "main.sloth:1: workflow `w`: entry `1` of `tasks` has no `name`",
        ),
        (
            "workflow.define('w', { tasks = { a = { comand = 'x' } } })",
            "main.sloth:1: task `a`: there is no method or key `comand`",
        ),
        (
            "workflow.define('w'):config({ max_parallel_tasks = 0 })",
            "main.sloth:1: workflow `w`: `max_parallel_tasks` takes a whole number from 1 to 1000, got `0`",
        ),
        ("workflow.define('w') workflow.define('w')", "main.sloth:1: workflow.define: there is a workflow `w` already"),
        ("local t = task('a') t:command(t)", "main.sloth:1: a task cannot be its own command"),
    ]);
}

#[test]
fn what_cannot_be_planned_or_evaluated_is_told() {
    check(&[
        ("task('a')", "task `a` of workflow `main` has no command"),
        ("-- nothing", "`main.sloth` defines no workflow and no task"),
        (
            "task('a'):command('x'):depends_on('b') task('bb'):command('x')",
            "task `a` of workflow `main` depends on `b`, which is not one of its tasks",
        ),
        ("task('a'):command('x'):depends_on('a')", "the tasks of workflow `main` wait for each other: `a → a`"),
        ("task('a'):command('x') task('a'):command('x')", "workflow `main` has two tasks named `a`"),
        (
            "task('a'):command('x'):delegate_to(function() return {{}} end)",
            "task `a`: the function given to `delegate_to` must return",
        ),
        ("error('stop here')", "main.sloth:1: stop here"),
        ("local t = nil\nt.x = 1", "main.sloth:2: attempt to index nil with 'x'"),
        ("require('none')", "main.sloth:1: there is no module or file `none`: tried"),
        ("import('../x.lua')", "main.sloth:1: cannot read `../x.lua`"),
        ("while true do end", "`main.sloth` was not evaluated within 2 s: move work into tasks"),
        (
            "local t = {} while true do t[#t + 1] = ('x'):rep(1e5) .. #t end",
            "`main.sloth` takes more than the 67108864 bytes of memory",
        ),
    ]);
}

#[test]
fn a_file_has_a_bound_on_tasks() {
    let mut case = Case::new("for i = 1, 11 do task('t' .. i):command('x') end");
    case.input.limits.tasks_max = 10;
    let told = case.load().expect_err("too many").to_string();
    assert!(told.contains("a file may have 10 tasks at most"), "{told}");
}

#[test]
fn a_hole_in_a_list_of_tasks_is_no_end_of_it() {
    check(&[(
        "local a, b = task('a'):command('true'), task('b'):command('true')\nworkflow.define('w'):tasks({ a, bb, b })",
        "main.sloth:2: workflow `w`: entry `2` of `tasks` is nothing: the name that stands there is not defined",
    )]);
}
