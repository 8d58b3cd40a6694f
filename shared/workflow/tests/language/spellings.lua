-- How workflows and tasks are written. See tests/engine/language.rs for what the lines with an `@` mean.

==== chained, with terminators
--@ plan: w: a, b after a
local a = task("a"):description("first"):command("true"):build()
local b = task("b"):depends_on({ "a" }):command(function() return true end):build()
workflow.define("w"):description("d"):version("1.0"):tasks({ a, b }):config({ timeout = "5m" }):build()

==== chained, ended by on_complete
--@ plan: w: a
workflow.define("w"):tasks({ task("a"):command("true"):build() }):on_complete(function() end)

==== chained, ended by run
--@ plan: w: a
workflow.define("w"):tasks({ task("a"):command("true") }):run()

==== chained, ended by nothing
--@ plan: w: a
workflow.define("w"):tasks({ task("a"):command("true") })

==== a table
--@ plan: w: a, b after a
workflow.define("w", {
    description = "d", version = "1", config = { timeout = "1m" },
    tasks = { { name = "a", command = "true" }, { name = "b", command = "true", depends_on = "a" } },
    on_complete = function() end,
})

==== a name and a function
--@ plan: main: a, b after a
task("a", function() end)
task("b", function() end):depends_on("a")

==== workflow called with a name
--@ plan: w: a
workflow("w"):description("d"):tasks({ task("a"):command("true"):build() }):build()

==== workflow called with a table
--@ plan: w: a
workflow({ name = "w", tasks = { { name = "a", command = "true" } } })

==== workflow called with a name and a table
--@ plan: w: a
workflow "w" { tasks = { { name = "a", command = "true" } } }

==== tasks by name keep the order of the file
--@ plan: w: zebra, monkey after zebra, ape, bee
workflow.define("w", { tasks = {
    zebra = { command = "true" },
    monkey = { command = "true", depends_on = { "zebra" } },
    ["ape"] = { run = function() return true end },
    bee = task("bee"):command("true"):build(),
} })

==== built and unbuilt tasks, as entries and as commands
--@ plan: w: a, b, c
local a, b = task("a"):command("true"):build(), task("b"):command("true")
workflow.define("w", { tasks = { a, b, { name = "c", command = a } } })

==== no workflow at all
--@ plan: main: b, a after b
task("b"):command("true"):build()
task("a"):depends_on("b"):command("true"):build()

==== a task that is a table
--@ plan: main: a, b after a
task "a" { command = "true" }
task("b", { command = "true", depends_on = "a" })

==== a task that is a table with its name
--@ plan: main: a, b after a
--@ task: a succeeded
--@ task: b succeeded: b
stack("production")
task({ name = "a", description = "d", run = function() return true end })
task({ name = "b", depends_on = { "a" }, run = function(this) return true, this.name() end })

==== functions that take params first
--@ log: a: x	none	nil
--@ log: b: 7	b	true
--@ log: b: made	7	b
--@ log: c: failed: no
--@ task: a succeeded
--@ task: b succeeded
--@ task: c failed: no
local a = task("a"):params({ p = "x" }):command(function(params, deps)
    print(params.p, params.q or "none", deps.nothing)
    return true, "", { n = 7 }
end):build()
local b = task("b"):depends_on({ "a" }):command(function(params, deps)
    print(deps.a.n, params.task_name, deps.b == nil)
    return true, "", { word = "made" }
end):on_success(function(params, output) print(output.word, 7, params.task_name) end):build()
local c = task("c"):command(function() return false, "no" end)
    :on_failure(function(params, error) print("failed: " .. error) end):build()
workflow.define("w", { metadata = { author = "x", tags = { "y" } }, tasks = { a, b, c }, config = { max_parallel_tasks = 1 } })

==== a built task that is run at the top level
--@ plan: main: a
--@ log: top	true	done	3
--@ log: a: at last
--@ task: a succeeded
local check = task("check"):command(function()
    local inner = task("inner"):delegate_to("local"):command(function(t, p) return exec.run({ "true" }).success, "done", { n = 3 } end):build()
    return inner:run()
end):build()
workflow.define("main"):tasks({ task("a"):command(function() print("at last") return true end) })
local ok, message, outputs = check:run()
if ok and message ~= "" then print("top", ok, message, outputs.n) end

==== a group with commas
--@ plan: w: a, b after a
group "w" {
    description = "d",
    task "a" { command = "true" },
    task "b" { command = "true", depends_on = { "a" } },
}

==== TaskDefinitions with a list
--@ plan: build: compile, check after compile
--@ plan: release: push
--@ task: compile succeeded: made
--@ task: check succeeded: 7
--@ task: push succeeded
TaskDefinitions = {
    build = {
        description = "d",
        tasks = {
            { name = "compile", command = function(params, deps)
                return params.task_name == "compile", "made", { n = 7 }
            end },
            { name = "check", depends_on = "compile", command = function(params, deps)
                local names = {}
                for name in pairs(deps) do names[#names + 1] = name end
                return #names == 1, tostring(deps.compile.n)
            end },
        },
    },
    release = { tasks = { push = { name = "push", command = "true" } } },
}

==== next_if_fail on the task that handles the failure
--@ plan: demo: fails, handler if failed fails, skipped after fails, last after handler
--@ task: fails failed: on purpose
--@ task: handler succeeded
--@ task: skipped skipped: `fails`, which it depends on, did not end well
--@ task: last succeeded
TaskDefinitions = { demo = { tasks = {
    { name = "fails", command = function() return false, "on purpose" end },
    { name = "handler", next_if_fail = "fails", command = "true" },
    { name = "skipped", depends_on = "fails", command = "true" },
    { name = "last", depends_on = "handler", command = "true" },
} } }

==== next_if_fail on the task that fails
--@ plan: main: fails, handler if failed fails
--@ task: fails failed: on purpose
--@ task: handler succeeded
task("fails"):command(function() return false, "on purpose" end):next_if_fail({ "handler" })
task("handler"):command(function() return true end)

==== next_if_fail where nothing fails
--@ task: works succeeded
--@ task: handler skipped: `works`, which it waited to fail, did not
--@ task: last succeeded
task("works"):command(function() return true end)
task("handler"):next_if_fail("works"):command(function() return true end)
task("last"):depends_on("handler"):command(function() return true end)

==== uses with a built task and with a table
--@ task: base succeeded
--@ task: a succeeded: base of a
--@ task: b succeeded: base of b
local base = { description = "d", params = { who = "base" }, command = function(this, params)
    return true, params.who .. " of " .. this.name()
end }
local built = task("c"):params({ who = "base" }):command(base.command):build()
workflow.define("w", { tasks = {
    { name = "base", uses = built, command = "true" },
    { name = "a", uses = base },
    { name = "b", uses = built, timeout = "5s" },
} })

==== a header and defaults
--@ log: t: web	2	80	true
--@ task: t succeeded
stack("web")
values({ name = "web", replicas = 2, ports = { http = 80 } })
task("t"):command(function()
    print(stack.get_name(), values.replicas, values.get("ports.http"), Values == values)
    return true
end)

==== defaults do not go over what was given
--@ values: {"replicas": 5, "ports": {"http": 8080}, "hosts": ["a", "b"]}
--@ log: t: 5	8080	443	b	none
values { replicas = 2, ports = { http = 80, https = 443 }, hosts = { "x", "y", "z" } }
task("t"):command(function()
    print(values.replicas, values.ports.http, values.ports.https, values:get("hosts.2"), values.get("no.such", "none"))
    return #values.hosts == 2
end)

==== chain
--@ plan: main: a, b after a, c after b, d after b, e after c+d
chain(
    task("a"):command("true"),
    task("b"):command("true"),
    parallel({ task("c"):command("true"), task("d"):command("true") }),
    { name = "e", command = "true" }
)

==== a group among the tasks of a workflow
--@ plan: w: a, b, c after a+b
local both = parallel(task("a"):command("true"), task("b"):command("true"))
workflow.define("w"):tasks({ both, task("c"):depends_on(both):command("true") })

==== when
--@ task: a succeeded
--@ task: b skipped: `run_if` does not hold
--@ task: c succeeded
when(false, task("b"):command("true"), { task("c"):command("true") })
local a = task("a"):command("true")
workflow.define("w"):tasks({ when(function() return true end, a), when(1 > 2, task("b"):command("true"), task("c"):command("true")) })

==== workflows of one call
--@ plan: one: a, b
--@ plan: two: c, d after c
workflow.parallel("one", { task("a"):command("true"), task("b"):command("true") })
workflow.sequence("two", { task("c"):command("true"), task("d"):command("true") })

==== workflow.conditional
--@ task: yes succeeded
--@ task: no skipped: `run_if` does not hold
workflow.define("w"):tasks({
    workflow.conditional(function() return true end, task("yes"):command("true"), task("no"):command("true")),
})

==== parallel inside a task
--@ log: t: 3	true	true	one	false
--@ task: t succeeded: 1 of 3 failed: `audit`: the command exited with status 3
--@ task: fine succeeded: 20
task("t"):command(function()
    local results, err = parallel({
        { name = "lint", command = function() return true, "one" end },
        { name = "types", command = "true" },
        { name = "audit", command = "exit 3" },
    })
    print(#results, results.lint.success, results.types.success, results.lint.message, results[3].success)
    return true, err
end)
task("fine"):command(function()
    local sum = 0
    local function add() goroutine.sleep(1) sum = sum + 10 return sum end
    local results, err = parallel(add, add)
    return err == nil and results[2].value == 20, tostring(sum)
end)

==== a function that is given where it runs
--@ agent: web-1
--@ log: t: here	web-1
--@ log: t: false	true
task("t"):command(function(this)
    print(delegate_to("web-1", function() return "here", this.agent.get() end))
    local ok, reason = pcall(delegate_to, "db-1", function() end)
    print(ok, string.find(reason, "`db-1`", 1, true) ~= nil)
    return true
end)

==== goto continue
--@ log: t: 1 3
task("t"):command(function()
    local seen = {}
    for i = 1, 4 do
        if i % 2 == 0 then goto continue end
        seen[#seen + 1] = i
        ::continue::
    end
    print(table.concat(seen, " "))
    return true
end)

==== a script line first
--@ plan: main: a
#!/usr/bin/env sloth-runner
task("a"):command("true")

==== a group whose entries have no commas
--@ error: main.sloth:3:5: Expected ',' after table constructor element
group "w" {
    task "a" { command = "true" }
    task "b" { command = "true" }
}

==== a declarative task
--@ error: main.sloth:1: task `a`: there is no method or key `module`: call the module in the task's function
task "a" { module = "pkg", action = "install" }

==== a function beside the name is what the task does
--@ log: a: once	a
--@ task: a succeeded
--@ task: b failed: no
--@ task: c succeeded: made
task("a", function(this) print("once", this.name()) end)
task("b", function() return false, "no" end)
task("c", function() return true, "made", { n = 1 } end)

==== a group is a workflow that tasks are added to one by one
--@ plan: tests: a, b after a
--@ task: a succeeded
--@ task: b succeeded
local a = task("a"):command("true"):build()
local b = task("b"):depends_on("a"):command("true"):build()
local tests = group("tests"):description("Two"):add_task(a):add_task(b):build()

==== TaskDefinitions: the values of the run are among the params
--@ values: { "message": "hello", "nested": { "key": "value" }, "own": "no" }
--@ task: t succeeded: hello value yes
TaskDefinitions = { w = { tasks = { { name = "t", params = { own = "yes" }, command = function(params, inputs)
    return params.nope == nil, params.message .. " " .. params.nested.key .. " " .. params.own
end } } } }

==== TaskDefinitions: where a text is wanted, the second argument is the directory
--@ task: t succeeded: true true
TaskDefinitions = { w = { tasks = { { name = "t", command = function(params, workdir)
    fs.write(workdir .. "/a.txt", "x")
    local same = workdir .. "/a.txt" == params.workdir .. "/a.txt" and tostring(workdir) == "" .. params.workdir
    return same, `{fs.exists(workdir .. "/a.txt")} {fs.is_dir(workdir)}`
end } } } }

==== TaskDefinitions: post_exec gets the outputs second
--@ log: t: out	some	t
--@ task: t succeeded
--@ task: u failed: `post_hook`: none
TaskDefinitions = { w = { tasks = {
    {
        name = "t",
        command = function() return true, "", { data = "some" } end,
        post_exec = function(params, output)
            print("out", output.data, output.task_name)
            return output.data == "some"
        end,
    },
    {
        name = "u",
        command = function() return true end,
        post_exec = function(params, output) return output.data ~= nil, "none" end,
    },
} } }

==== parallel inside a task takes tasks of the file as tables with their names
--@ log: one: 1
--@ log: both: 1
--@ log: both: one	Success	true
--@ task: one succeeded
--@ task: both succeeded: true
--@ task: none failed: main.sloth:8: parallel: the file has no task `nope`; did you mean `none`?
TaskDefinitions = { w = { tasks = {
    { name = "one", command = "echo 1" },
    { name = "both", command = function()
        local results, failed = parallel({ { name = "one" }, { name = "two", command = function() return true end } })
        print(results[1].name, results[1].status, results.one.duration:match("^%d+%.%d%ds$") ~= nil)
        return failed == nil, tostring(results.one.success and results.two.success)
    end },
    { name = "none", command = function() return parallel({ { name = "nope" } }) end },
} } }

==== tasks beside a workflow that names none
--@ plan: shop: a, b after a
workflow({ name = "shop", description = "Tasks follow" })
task({ name = "a", run = function() end })
task({ name = "b", depends_on = { "a" }, run = function() end })

==== a list as other languages write it
--@ error: main.sloth:1:21: Expected identifier when parsing expression, got '[': a list is written `{ "a", "b" }`
local names, more = ["one"], 2
