//! The spellings that existing files use.

use crate::harness::{Case, check, check_log};

/// The tasks of every workflow: `workflow: task, task after task`.
fn plan(text: &str) -> Vec<String> {
    let plans = Case::new(text).load().unwrap_or_else(|error| panic!("{text}\n{error}"));
    let task = |task: &sloth_workflow::TaskSpec| match task.depends_on.join("+") {
        after if after.is_empty() => task.name.clone(),
        after => format!("{} after {after}", task.name),
    };
    plans
        .iter()
        .map(|plan| format!("{}: {}", plan.name(), plan.tasks().iter().map(task).collect::<Vec<_>>().join(", ")))
        .collect()
}

#[test]
fn every_form_of_a_workflow_is_known() {
    for (text, expected) in [
        ("task('a'):command('x'):build() task('b'):command('x'):depends_on('a')", "main: a, b after a"),
        ("workflow.define('w'):tasks({ task('a'):command('x'):build() }):build()", "w: a"),
        ("workflow.define('w'):tasks({ task('a'):run('x') }):on_complete(function() end)", "w: a"),
        ("workflow('w'):description('d'):version('1'):tasks({ task('a'):shell('x') }):build()", "w: a"),
        (
            "workflow({ name = 'w', tasks = { { name = 'a', command = 'x' }, { name = 'b', command = 'x', depends_on = 'a' } } })",
            "w: a, b after a",
        ),
        ("workflow.define('w', { description = 'd', tasks = { { name = 'a', run = function() end } } })", "w: a"),
        (
            "workflow.define('w', { tasks = { zebra = { command = 'x' }, ape = { command = 'x', depends_on = { 'zebra' } }, ['bee'] = { command = 'x' } } })",
            "w: zebra, ape after zebra, bee",
        ),
        (
            "local t = task('a'):command('x'):build() workflow.define('w', { tasks = { t, { name = 'b', command = t }, { name = 'c', uses = t, timeout = '5s' } } })",
            "w: a, b, c",
        ),
        (
            "group 'w' { description = 'd', task 'a' { command = 'x' }, task 'b' { command = 'x', depends_on = { 'a' } } }",
            "w: a, b after a",
        ),
        (
            "local a = task('a'):command('x') workflow.define('w'):tasks({ a, task('b'):command('x'):depends_on(a), task('c'):command('x'):depends_on('a', 'b') })",
            "w: a, b after a, c after a+b",
        ),
        (
            "workflow.define('w', { tasks = { { name = 'a', command = 'x', retries = 3, timeout = '5m', async = true, params = { n = 1 }, pre_exec = function() end, on_fail = function() end } } })",
            "w: a",
        ),
    ] {
        assert_eq!(plan(text), [expected], "{text}");
    }
}

#[test]
fn old_lua_runs_as_it_did() {
    check_log(
        r#"#!/usr/bin/env sloth-runner
        task("t"):command(function()
            local seen = {}
            for i = 1, 4 do
                if i % 2 == 0 then goto continue end
                seen[#seen + 1] = i
                ::continue::
            end
            print(table.concat(seen, " "), 10 / 2, 0.1 + 0.2)
            print(string.format("%s %s %d", nil, true, 3.7), ("50"):gsub("0", "100%"))
            print(load("return 1 + 1")(), unpack({ 1, 2 }), math.mod(7, 3), #tostring({}) > 0)
            for word in string.gfind("a b", "%a") do print(word) end
            return true
        end)"#,
        &["t: 1 3\t5\t0.30000000000000004", "t: nil true 3\t5100%\t1", "t: 2\t1\t1\ttrue", "t: a", "t: b"],
    );
}

#[test]
fn a_built_task_can_be_run_at_once() {
    check_log(
        r#"
        local inner = task("inner"):params({ n = 2 }):command(function(this, params)
            goroutine.sleep(1)
            return true, this.name(), { n = params.n }
        end):build()
        local line = task("line"):run("echo hi"):build()
        local outer = task("outer"):run(function()
            local ok, message, outputs = inner:run()
            print(ok, message, outputs.n, select(3, line:run()).stdout)
            return true
        end)
        workflow.define("w"):tasks({ outer })
        "#,
        &["outer: hi", "outer: true\tinner\t2\thi"],
    );
}

#[test]
fn a_settings_table_may_hold_more_than_we_know() {
    let ended = Case::new(
        r#"workflow.define("w"):config({ monitoring = "x", timeout = "1m" }):tasks({ task("a"):command(function() return true end) })"#,
    )
    .run();
    assert_eq!(ended.log(), ["workflow `w`: these settings have no effect: `monitoring`"]);
}

#[test]
fn results_in_a_table_count() {
    check(
        r#"task("a"):command(function() return { success = true, message = "fine", data = { n = 1 } } end)
           task("b"):command(function() return { success = false, error = "bad" } end)
           task("c"):command(function() return exec.run("echo out; exit 4") end)"#,
        &["a succeeded: fine", "b failed: bad", "c failed: the command that it returned exited with code 4"],
    );
}
