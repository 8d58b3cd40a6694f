-- What tasks and workflows may say. See tests/engine/language.rs for what the lines with an `@` mean.

==== retries with a strategy and a wait
--@ task: a succeeded: at 3
--@ task: b failed: no
--@ task: c succeeded: at 2
--@ says: a: attempt 1 of 4 failed, next in 0.0 s
local function at(n)
    return function(this) return this.attempt == n, "at " .. this.attempt end
end
task("a"):retries(3, "linear", 0.001):command(at(3))
task("b"):retries(2):command(function() return false, "no" end)
task("c"):retry_policy({ max_attempts = 2, strategy = "fixed", delay = "2ms", max_delay = "5ms" }):command(at(2))

==== a retry policy of the workflow
--@ task: a succeeded: at 2
--@ task: b failed: at 1
local function at(n) return function(this) return this.attempt == n, "at " .. this.attempt end end
workflow.define("w"):config({ retry_policy = { retries = 1, delay = 0.001 } }):tasks({
    task("a"):command(at(2)),
    task("b"):retries(0):command(at(2)),
})

==== a policy that nobody knows
--@ plan: main: a
--@ warning: main.sloth:3: task `a`: `retry_policy`: there is no method or key `tries`, so it is ignored; did you mean `retries`?
task("a")
    :command("true")
    :retry_policy({ tries = 3 })

==== conditions in both spellings
--@ task: a succeeded
--@ task: docs succeeded
--@ task: code succeeded
--@ task: both succeeded
--@ task: shell skipped: `run_if` does not hold
--@ task: not skipped: `run_if` does not hold
task("a"):command(function() return true, "", { n = 1 } end)
local plain = function() return true end
task("docs"):depends_on("a"):params({ env = "prod" }):command(plain)
    :run_if(function(this, params) return this.name() == "docs" and params.env == "prod" and this.workdir.exists() end)
task("code"):depends_on("a"):params({ env = "prod" }):command(plain)
    :run_if(function(params, deps) return params.env == "prod" and deps.a.n == 1 and params.workdir .. "" == params.workdir.get() end)
task("both"):depends_on("a"):command(plain):run_if(function(this, params, deps) return deps.a.n == 1 end):when("true")
task("shell"):run_if("false"):command(plain)
task("not"):unless(true):command(plain)

==== a task table with the old names
--@ task: a succeeded: made
--@ log: a: pre	a	x
--@ log: a: post	7
--@ log: a: good	7
workflow.define("w", { tasks = { {
    name = "a", params = { p = "x" }, timeout = "30s", retries = 1, async = false,
    pre_exec = function(params, deps) print("pre", params.task_name, params.p) return true end,
    command = function(this, params, deps, session) return true, "made", { n = 7 } end,
    post_exec = function(this, params, outputs) print("post", outputs.n) return true end,
    on_success = function(this, params, outputs) print("good", outputs.n) end,
    on_failure = function() print("never") end,
} } })

==== abort_if ends the workflow
--@ parallel: 1
--@ task: first succeeded
--@ task: guard failed: `abort_if` holds
--@ task: after skipped: `guard`, which it depends on, did not end well
--@ task: last cancelled: `abort_if` of `guard` holds, so nothing more is begun
task("first"):command("true")
task("guard"):abort_if(function(this, params) return params.task_name == "guard" end):command("true")
task("after"):depends_on("guard"):command("true")
task("last"):command("true")

==== what fails is told to its hooks, as a table and as a text
--@ log: a: Deployment failed: broken
--@ log: a: broken	a	1
--@ task: a failed: broken
task("a"):command(function() return false, "broken" end)
    :on_failure(function(this, params, err) print("Deployment failed: " .. err) end)
    :on_fail(function(this, params, failure) print(failure.error, failure.task_name, this.attempt) end)

==== hooks with a condition, and hooks that nothing waits for
--@ log: a: run
--@ log: a: quick	1
--@ log: over
--@ log: a: slow	1
--@ task: a succeeded
local a = task("a"):command(function() print("run") return true, "", { n = 1 } end)
    :on_success(function(this, params, outputs) goroutine.sleep(20) print("slow", outputs.n) end, { async = true })
    :on_success({ function(this, params, outputs) print("quick", outputs.n) end, when = function(this, params, outputs) return outputs.n == 1 end })
    :on_success(function() print("never") end, { when = false })
workflow.define("w"):tasks({ a }):on_complete(function() print("over") end)

==== a hook that fails changes nothing
--@ task: a succeeded
--@ says: a: a hook of the task failed: main.sloth:1: broken
--@ says: the hook `on_task_start` failed: main.sloth:2: broken
--@ says: the hook `on_start` failed: main.sloth:2: broken
local a = task("a"):command("true"):on_success(function() error("broken") end)
workflow.define("w"):tasks({ a }):on_start(function() error("broken") end):on_task_start(function() error("broken") end)

==== hooks of a workflow that goes well
--@ log: start
--@ log: begins a
--@ log: a	true
--@ log: good	succeeded
--@ log: complete	true
--@ log: swept	true
workflow.define("w"):tasks({ task("a"):command(function() return true end) })
    :on_start(function() print("start") end)
    :pre_task(function(name) print("begins " .. name) end)
    :post_task(function(name, ok) print(name, ok) end)
    :on_success(function(results) print("good", results.a.status) end)
    :on_failure(function() print("never") end)
    :on_timeout(function() print("never") end)
    :on_complete(function(success, results) print("complete", success) end)
    :cleanup(function(success) print("swept", success) end)

==== hooks of a workflow that fails
--@ log: bad	workflow `w`: 1 of 1 tasks failed, first `a`: no	failed
--@ log: complete	false	no
workflow.define("w"):tasks({ task("a"):command(function() return false, "no" end) })
    :on_success(function() print("never") end)
    :on_failure(function(reason, results) print("bad", reason, results.a.status) end)
    :workflow_complete(function(success, results) print("complete", success, results.a.error) end)

==== a workflow whose time is over tells its hooks
--@ task: a timed_out: the workflow's timeout of 0.05 s is over
--@ log: late	timed_out
--@ log: complete	false
workflow.define("w"):config({ timeout = "50ms" }):tasks({ task("a"):command(function() goroutine.sleep(60000) return true end) })
    :on_timeout(function(results) print("late", results.a.status) end)
    :on_complete(function(success) print("complete", success) end)

==== rollback undoes what was done, the last first
--@ parallel: 1
--@ log: c: undo	c	3
--@ log: a: undo	a	1
--@ task: a succeeded
--@ task: b unchanged: as it was
--@ task: c succeeded
--@ task: d failed: broken
--@ task: e skipped: `d`, which it depends on, did not end well
--@ message: first `d`: broken; rolled back `c`, `a`
local function undo(this, params, outputs) print("undo", params.task_name, outputs.n) end
local function work(n) return function() return true, "", { n = n } end end
workflow.define("w"):config({ on_task_failure = "rollback" }):tasks({
    task("a"):command(work(1)):rollback(undo),
    task("b"):command(function() return true, "as it was", { changed = false } end):rollback(undo),
    task("c"):depends_on("a"):command(work(3)):rollback(undo),
    task("d"):depends_on("c"):command(function() return false, "broken" end):rollback(undo),
    task("e"):depends_on("d"):command(work(5)):rollback(undo),
})

==== a rollback that fails is told
--@ message: rolled back `b`; could not roll back `a` (stuck)
workflow.define("w", {
    config = { on_task_failure = "rollback", max_parallel_tasks = 1 },
    tasks = {
        { name = "a", command = "true", rollback = function() return false, "stuck" end },
        { name = "b", command = "true", depends_on = "a", rollback = function() end },
        { name = "c", command = "false", depends_on = "b" },
    },
})

==== nothing is rolled back where nothing is to be
--@ task: a succeeded
--@ task: b failed: no
--@ log: complete
workflow.define("w"):config({ on_task_failure = "continue" }):tasks({
    task("a"):command(function() return true end):rollback(function() print("never") end),
    task("b"):command(function() return false, "no" end),
}):on_complete(function() print("complete") end)

==== cleanup is called at the end for what was begun
--@ log: b: clean	b
--@ log: a: clean	a
--@ log: after
--@ task: a succeeded
--@ task: b failed: no
--@ task: c skipped: `b`, which it depends on, did not end well
local function clean(this) print("clean", this.name()) end
workflow.define("w"):tasks({
    task("a"):command(function() return true end):cleanup(clean),
    task("b"):depends_on("a"):command(function() return false, "no" end):cleanup(clean),
    task("c"):depends_on("b"):command(function() return true end):cleanup(clean),
}):cleanup(function() print("after") end)

==== stop, and a handler of the failure
--@ parallel: 1
--@ task: a failed: no
--@ task: b cancelled: a task failed, and `on_task_failure` is `stop`
--@ task: mend succeeded
workflow.define("w"):config({ on_task_failure = "stop" }):tasks({
    task("a"):command(function() return false, "no" end),
    task("b"):command("true"),
    task("mend"):next_if_fail("a"):command(function() return true end),
})

==== params and environment of the workflow
--@ task: a succeeded: own/all
--@ task: b succeeded
workflow.define("w"):params({ x = "all", y = "all" }):env({ X = "all" }):tasks({
    task("a"):params({ x = "own" }):command(function(this, params) return true, params.x .. "/" .. this.params.y end),
    task("b"):command("test $X = all"),
})

==== a workflow's own directory, removed when all went well
--@ task: a succeeded
--@ task: b succeeded: true
--@ log: asked	true	succeeded
workflow.define("w", {
    create_workdir_before_run = true,
    clean_workdir_after_run = function(result, again)
        print("asked", result.success, again.output.a.status)
        return result.success
    end,
    tasks = {
        { name = "a", command = function(this) fs.write("note", this.workdir.get()) return fs.exists("note") end },
    },
})
workflow.define("after"):tasks({
    task("b"):command(function() return true, tostring(not fs.exists("workflow-w")) end),
})

==== a directory that is not to be made
--@ message: does not exist, and `create_workdir_before_run` is `false`
workflow.define("w", { workdir = "none", create_workdir_before_run = false, tasks = { { name = "a", command = "true" } } })

==== a directory that the run did not make stays
--@ says: is left as it is: this run did not make it
--@ task: a succeeded
workflow.define("w", { workdir = "/tmp", clean_workdir_after_run = true, tasks = { { name = "a", command = function() return fs.exists("/tmp") end } } })

==== tasks for other hosts, planned
--@ plan: main: a on web-1, b on web-1+web-2, c on db-9, d on role=web, e on web-*, f on any
--@ values: {"db": {"host": "db-9"}}
task("a"):delegate_to("web-1"):command("true")
task("b"):delegate_to({ "web-1", "web-2" }):command("true")
task("c"):delegate_to("${values.db.host}"):command("true")
task("d"):delegate_to({ labels = { role = "web" } }):command("true")
task("e"):target_agent("web-*"):command("true")
task("f"):delegate_to(function() return "any" end):command("true")

==== tasks that may run here
--@ agent: web-1
--@ task: a succeeded
--@ task: b succeeded
--@ task: c succeeded
--@ says: meant for `db-1`, and run here: `c`
task("a"):delegate_to("any"):command(function() return true end)
task("b"):delegate_to("web-*"):command(function() return true end)
task("c"):delegate_to("db-1", { fallback = "local" }):command(function() return true end)

==== tasks that may not
--@ agent: web-1
--@ plan: main: a on db-1
task("a"):delegate_to("db-1"):command("true")

==== what a task would change stands in its message
--@ check
--@ task: a succeeded: would run: touch x
--@ task: b succeeded: would run: touch 1; would run: touch 2; would run: touch 3; and 2 more
--@ task: c succeeded: nothing
task("a"):command("touch x")
task("b"):command(function() for i = 1, 5 do exec.run("touch " .. i) end return true end)
task("c"):command(function() return true, "nothing" end)

==== a chain of artifacts
--@ task: use succeeded: built
--@ task: make succeeded
workflow.define("w", { tasks = {
    { name = "use", consumes = { "app.txt" }, command = function() return true, fs.read("app.txt") end },
    { name = "make", artifacts = "*.txt", workdir = "m", command = function() return fs.write("app.txt", "built") end },
} })

==== retries said by other names
--@ task: a succeeded: 3
--@ says: again after 1: no 1
--@ says: again after 2: no 2
task("a"):retries(4, "exponential"):retry_delay("1ms"):max_retry_delay(0.002)
    :on_retry(function(attempt, error) print("again after " .. attempt .. ": " .. error) end)
    :command(function(this) return this.attempt == 3, this.attempt == 3 and "3" or "no " .. this.attempt end)

==== a table that says what changed
--@ task: made succeeded: made it
--@ task: same unchanged: as it was
--@ task: broken failed: no disk
--@ task: reader succeeded: 2
task("made"):command(function() return { changed = true, message = "made it", outputs = { n = 2 } } end)
task("same"):command(function() return { changed = false, message = "as it was" } end)
task("broken"):command(function() return { failed = true, message = "no disk" } end)
task("reader"):depends_on("made"):command(function(this, params, deps)
    return deps.made.changed, tostring(deps.made.n)
end)

==== outputs of tasks further back
--@ task: a succeeded
--@ task: b succeeded
--@ task: c succeeded: 1 nil nil 1
--@ task: d succeeded: 1
--@ task: other succeeded
task("a"):command(function() return true, "", { n = 1 } end)
task("b"):depends_on("a"):command(function() return true end)
task("c"):depends_on("b"):run_if(function(params, deps) return deps.a.n == 1 end):command(function(this, params, deps)
    return true, table.concat({ deps.a.n, tostring(deps.b), tostring(deps.other), params.a.n }, " ")
end)
task("d"):depends_on("c"):command(function(params, deps) return true, tostring(deps.a.n) end)
task("other"):command(function() return true, "", { n = 2 } end)

==== hooks of a workflow get its params
--@ task: t succeeded
--@ log: start	nil	blue
--@ log: end	true	blue	nil
workflow.define("w", {
    params = { colour = "blue" },
    on_start = function(params) print("start", params.dry_run, params.colour) end,
    on_complete = function(success, results, params) print("end", success, params.colour, params.dry_run) end,
    tasks = { task("t"):command(function() return true end) },
})

==== a run that only checks says so in params
--@ check
--@ task: t succeeded: true blue
--@ log: start	true
workflow.define("w", {
    params = { colour = "blue" },
    on_start = function(params) print("start", params.dry_run) end,
    tasks = { task("t"):command(function(params) return true, tostring(params.dry_run) .. " " .. params.colour end) },
})

==== what a failure kept from starting did not go well
--@ task: a failed: no
--@ task: b skipped: `a`, which it depends on, did not end well
--@ task: c skipped: `b`, which it depends on, did not end well
--@ task: d skipped: `run_if` does not hold
--@ log: false	false	false	true
workflow.define("w", {
    tasks = {
        task("a"):command(function() return false, "no" end),
        task("b"):depends_on("a"):command("true"),
        task("c"):depends_on("b"):command("true"),
        task("d"):run_if(false):command("true"),
    },
    on_complete = function(success, results)
        print(results.a.success, results.b.success, results.c.success, results.d.success)
    end,
})

==== a workflow that fails fast
--@ parallel: 1
--@ task: a failed: no
--@ task: b cancelled: a task failed, and `on_task_failure` is `stop`
workflow.define("w"):config({ fail_fast = true }):tasks({
    task("a"):command(function() return false, "no" end),
    task("b"):command("true"),
})
