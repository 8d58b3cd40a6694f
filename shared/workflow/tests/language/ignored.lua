-- What is not known and changes nothing, names that stand for tasks, and the order of lists. See tests/engine/language.rs
-- for the lines with an `@`.

==== keys of a workflow's table that nothing reads are ignored, and told
--@ plan: w: a
--@ warning: main.sloth:3: workflow `w`: there is no method or key `on_abort`, so it is ignored
--@ warning: main.sloth:4: workflow `w`: there is no method or key `error_handling`, so it is ignored
--@ says: main.sloth:3: workflow `w`: there is no method or key `on_abort`, so it is ignored
--@ says: main.sloth:4: workflow `w`: there is no method or key `error_handling`, so it is ignored
--@ task: a succeeded
workflow.define("w", {
    description = "with keys of its author's own",
    on_abort = function() end,
    error_handling = { strategy = "continue" },
    tasks = { { name = "a", command = "true" } },
})

==== so are those of a task's table, each with its line
--@ plan: w: a, b
--@ warning: main.sloth:2: task `a`: there is no method or key `category`, so it is ignored
--@ warning: main.sloth:3: task `b`: there is no method or key `category`, so it is ignored
--@ task: a succeeded
--@ task: b succeeded
workflow.define("w", { tasks = {
    { name = "a", command = "true", category = "one" },
    { name = "b", command = "true", category = "two" },
} })

==== and methods of tasks and workflows that were never there
--@ plan: w: a
--@ warning: main.sloth:2: task `a`: there is no method or key `on_skip`, so it is ignored
--@ warning: main.sloth:6: workflow `w`: there is no method or key `notify_channel`, so it is ignored
--@ task: a succeeded
local a = task("a")
    :on_skip(function() end)
    :command("true")
    :build()
workflow.define("w")
    :notify_channel("ops")
    :tasks({ a })

==== which hosts run a file, and when, is said when it is started
--@ plan: w: a, b
--@ says: main.sloth:1: task `a`: there is no method or key `target_tags`, so it is ignored: hosts are chosen by their labels, in `delegate_to`
--@ says: main.sloth:3: workflow `w`: there is no method or key `schedule`, so it is ignored: a file runs when it is started: let cron
--@ task: a succeeded
--@ task: b succeeded
local a = task("a"):target_tags({ "production", "web" }):command("true"):build()
workflow.define("w")
    :schedule("0 2 * * *")
    :tasks({ a, { name = "b", target_tags = { "x" }, command = "true" } })

==== a key that is misspelt is told before and after
--@ plan: w: a, b
--@ warning: main.sloth:2: task `b`: there is no method or key `depend_on`, so it is ignored; did you mean `depends_on`?
--@ log: main.sloth:2: task `b`: there is no method or key `depend_on`, so it is ignored; did you mean `depends_on`?
--@ log: main.sloth:2: task `b`: there is no method or key `depend_on`, so it is ignored; did you mean `depends_on`?
--@ task: a succeeded
--@ task: b succeeded
workflow.define("w", { tasks = { { name = "a", command = "true" },
    { name = "b", depend_on = { "a" }, command = "true" } } })

==== a method that is misspelt is an error: such a file never ran
--@ error: main.sloth:1: task `a`: there is no method or key `depend_on`; did you mean `depends_on`?
task("a"):depend_on("b"):command("true")

==== so is a key without which the task has nothing to do
--@ error: main.sloth:1: task `a`: there is no method or key `comand`; did you mean `command`?
workflow.define("w", { tasks = { a = { comand = "true" } } })

==== a declarative key beside the work is told with what is written here
--@ plan: w: a
--@ warning: main.sloth:1: task `a`: there is no method or key `register`, so it is ignored: return a table of outputs third; tasks that depend on this one get it in `deps`
workflow.define("w", { tasks = { { name = "a", command = "true", register = "x" } } })

==== settings that are misspelt are told as such
--@ plan: w: a
--@ warning: main.sloth:1: workflow `w`: `config`: there is no method or key `max_paralel_tasks`, so it is ignored; did you mean `max_parallel_tasks`?
--@ warning: main.sloth:1: workflow `w`: `retry_policy`: there is no method or key `jitter`, so it is ignored
--@ warning: workflow `w`: these settings have no effect: `log_level`
workflow.define("w"):config({ max_paralel_tasks = 2, retry_policy = { max_attempts = 2, jitter = true }, log_level = "x" })
    :tasks({ task("a"):command("true") })

==== on_error is on_failure, for both
--@ log: a: of a: a no
--@ log: of w: workflow `w`: 1 of 1 tasks failed, first `a`: no
--@ task: a failed: no
workflow.define("w", {
    on_error = function(reason) print("of w: " .. reason) end,
    tasks = { { name = "a", command = function() return false, "no" end, on_error = function(this, params, failure)
        print("of a: " .. failure.task_name .. " " .. failure.error)
    end } },
})

==== a chain of names
--@ plan: main: build, test after build, deploy after test
--@ task: build succeeded
--@ task: test succeeded
--@ task: deploy succeeded
task("build"):command("true")
task("test"):command("true")
task("deploy"):command("true")
chain({ "build", "test", "deploy" })

==== names before their tasks, and among built ones
--@ plan: w: a, b after a, c after b
workflow.define("w"):tasks({ chain({ "a", task("b"):command("true"), "c" }) })
task("c"):command("true")
task("a"):command("true")

==== names of tasks that the workflow has as tables
--@ plan: w: a, b, c after a+b
workflow.define("w", { tasks = {
    { name = "a", command = "true" },
    { name = "b", command = "true" },
    { name = "c", command = "true" },
} })
workflow.sequence({ workflow.parallel({ "a", "b" }), "c" })

==== what is named and listed is one task
--@ plan: w: a, b
local a, b = task("a"):command("true"):build(), task("b"):command("true"):build()
workflow.define("w"):tasks({ a, b, workflow.parallel({ "a", "b" }) })

==== a workflow of names
--@ plan: ship: a, b after a
task("a"):command("true")
task("b"):command("true")
workflow.sequence("ship", { "a", "b" })

==== names with a condition
--@ task: a skipped: `run_if` does not hold
--@ task: b succeeded
task("a"):command("true")
task("b"):command("true")
when(function() return false end, "a", { "b" })

==== a name that no task has
--@ error: main.sloth:2: chain: the file has no task `biuld`; did you mean `build`?
task("build"):command("true")
chain({ "biuld", "build" })

==== names inside a task
--@ task: look succeeded: a
--@ task: a succeeded: a
--@ task: b failed: main.sloth:7: parallel: the file has no task `c`; did you mean `a`?
task("look"):command(function()
    local results, failed = parallel({ "a" })
    return failed == nil and results.a.success, results.a.message
end)
task("a"):command(function() return true, "a" end)
task("b"):command(function()
    return parallel({ "c" })
end)

==== the order that a list loses is told once
--@ plan: w: a, b after a, c, d
--@ warning: main.sloth:4: task `c` of workflow `w` does not wait for `b`, which stands before it: some of the tasks say `depends_on`, so they are no list any more. Write `depends_on = "b"`, or `async = true` where it may run beside the others
workflow.define("w", { tasks = {
    { name = "a", command = "true" },
    { name = "b", command = "true", depends_on = "a" },
    { name = "c", command = "true" },
    { name = "d", command = "true" },
} })

==== who says that tasks run beside others is told nothing
--@ plan: w: a, b, c after b
--@ plan: v: d, e, f after e
--@ plan: u: g, h after g, i after h
--@ task: a succeeded
--@ task: b succeeded
--@ task: c succeeded
--@ task: d succeeded
--@ task: e succeeded
--@ task: f succeeded
--@ task: g succeeded
--@ task: h succeeded
--@ task: i succeeded
workflow.define("w"):config({ max_parallel_tasks = 2 })
    :tasks({ task("a"):command("true"), task("b"):command("true"), task("c"):command("true"):depends_on("b") })
workflow.define("v"):tasks({ task("d"):command("true"), task("e"):async(true):command("true"), task("f"):command("true"):depends_on("e") })
workflow.define("u"):tasks({ task("g"):command("true"), task("h"):command("true"):depends_on("g"), task("i"):command("true"):depends_on("h") })

==== a task that others wait for, and that no list has, is in their workflow
--@ plan: w: a, b after a, c after b, d after a
--@ task: a succeeded
--@ task: b succeeded
--@ task: c succeeded
--@ task: d succeeded
local a = task("a"):command("true"):build()
local b = task("b"):command("true"):depends_on({ a }):build()
local c = task("c"):command("true"):depends_on("b"):build()
workflow.define("w"):tasks({ c, task("d"):command("true"):depends_on("a") })

==== one that another workflow has is not
--@ error: task `b` of workflow `w` depends on `a`, which is not one of its tasks
workflow.define("v"):tasks({ task("a"):command("true") })
workflow.define("w"):tasks({ task("b"):command("true"):depends_on("a") })

==== a task that a task runs is not called left out
--@ plan: w: main
--@ log: main: of built
--@ task: main succeeded: built
local built = task("built"):command(function() print("of built") return true, "built" end):build()
workflow.define("w"):tasks({ task("main"):command(function() return built:run() end) })
