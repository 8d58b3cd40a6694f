-- The globals that are no modules, and what may be asked of them. See tests/engine/language.rs for the lines with an `@`.

==== values that are not given are nil
--@ log: t: nil	nil	d
--@ task: t succeeded
task("t"):command(function()
    print(values, Values, values and values.x or "d")
    return true
end)

==== values of which none is given are nil
--@ values: {}
--@ log: t: nil	nil	d
--@ task: t succeeded
task("t"):command(function()
    print(values, Values, values and values.x or "d")
    return true
end)

==== values that are given, lists among them
--@ values: {"name": "web", "ports": [80, 443], "deep": {"a": {"b": 1.5}}, "on": false}
--@ log: t: web	2	443	1.5	false	nil	7
--@ task: t succeeded
task("t"):command(function()
    print(values.name, #values.ports, values.ports[2], values.get("deep.a.b"), values:get("on"), values.none, values.get("no.such", 7))
    return true
end)

==== values may be added to
--@ values: {"a": 1}
--@ log: t: 1	2
--@ task: t succeeded
values = values or {}
values.b = values.b or 2
task("t"):command(function() print(values.a, values.b) return true end)

==== defaults from the settings of a workflow
--@ log: t: 3
--@ task: t succeeded
workflow.define("w"):config({ values = { replicas = 3 } }):tasks({
    task("t"):command(function() print(values.replicas) return true end),
})

==== the run's outputs, from both places
--@ outputs: {"a": 2, "b": [1, 2], "c": "x"}
outputs = { a = 1, c = "x" }
task("t"):command(function() export({ a = 2, b = { 1, 2 } }) return true end)

==== export of no table
--@ error: main.sloth:1: export takes a table, got `1`
export(1)

==== secrets are there and are masked
--@ secrets: {"db_password": "hunter22", "pin": "1"}
--@ log: t: true	nil	1
--@ log: t: it is [secret]
--@ log: t: it is [secret]
--@ task: t failed: wrong: [secret]
task("t"):command(function()
    print(secrets.db_password == "hunter" .. 22, secrets.none, secrets.pin)
    print("it is " .. secrets.db_password)
    exec.run({ "echo", "it is " .. secrets.db_password })
    return false, "wrong: " .. secrets.db_password
end)

==== secrets cannot be changed
--@ task: t succeeded: main.sloth:2: attempt to modify a readonly table
task("t"):command(function()
    local ok, reason = pcall(function() secrets.x = 1 end)
    return not ok, reason
end)

==== functions by their names
--@ log: t: {"a":1}	{"a":1}	/a
--@ log: t: false	bridge.call: there is no function `json.enkode`
--@ task: t succeeded
task("t"):command(function()
    print(bridge.call("json.encode", { a = 1 }), go_bridge.call("json.encode", { a = 1 }), bridge.call("fs.dirname", "/a/b"))
    local ok, reason = pcall(bridge.call, "json.enkode", {})
    print(ok, (string.gsub(reason, "^[^ ]+: (bridge)", "%1")))
    return true
end)

==== this
--@ agent: web-1
--@ log: t: t	t	main	1	web-1	web-1	x	true	true
--@ log: t: false	`this` has no `nam`; did you mean `name`? (it has name, workflow, attempt, run_id, workdir, agent, params)
--@ task: t succeeded
task("t"):params({ p = "x" }):command(function(this, params, deps, session)
    print(this.name(), this:name(), this.workflow(), this.attempt, this.agent.get(), this.agent.name, this.params.p, #this.run_id > 0, session ~= nil)
    local ok, reason = pcall(function() return this.nam end)
    print(ok, (string.gsub(reason, "^main.sloth:%d+: ", "")))
    return true
end)

==== this.workdir
--@ log: t: true	true	true	true	true	false	true
--@ task: t succeeded
task("t"):workdir("own"):command(function(this)
    local d = this.workdir
    fs.write("x", "y")
    local same = d.get() == d:get() and tostring(d) == d.get() and d .. "/x" == d.get() .. "/x"
    print(same, d.exists(), d:exists(), d.ensure(), d.recreate(), fs.exists("x"), d.cleanup())
    return true
end)

==== the directory as a module
--@ says: t: true	true	false	true	true	false	true
--@ says: made the directory `
--@ task: t succeeded
task("t"):command(function()
    local made, again = workdir.create("a/b"), workdir.create("a/b")
    fs.write("a/b/x", "y")
    local emptied = workdir.cleanup("a")
    local refused, reason = workdir.cleanup("/tmp")
    print(workdir.get() ~= "", made.changed, again.changed, emptied.changed, workdir.exists("a"), refused, string.find(reason, "not the run's own") ~= nil)
    return workdir.exists() and not workdir.exists("a/b")
end)

==== the name of the stack
--@ log: t: default	running	16
--@ task: t succeeded
task("t"):command(function()
    print(stack.get_name(), stack.get_status(), #stack.get_id())
    return require("stack") == stack
end)

==== import gives the last value
--@ error: main.sloth:1: cannot read `none.lua`
import("none.lua")

==== task functions share what the file declares
--@ parallel: 4
--@ log: total	6
--@ task: a succeeded
--@ task: b succeeded
--@ task: c succeeded
local total = 0
local function adder(n) return function() goroutine.sleep(1) total = total + n return true end end
workflow.define("w"):tasks({ task("a"):command(adder(1)), task("b"):command(adder(2)), task("c"):command(adder(3)) })
    :on_complete(function() print("total", total) end)

==== a method that is called otherwise elsewhere
--@ error: main.sloth:1: task `a`: there is no method or key `needs`; did you mean `depends_on`?
task("a"):needs("b")

==== names of tasks in a group of tasks
--@ plan: ci: build, test after build, lint
--@ task: build succeeded
--@ task: test succeeded
--@ task: lint succeeded
task("build"):command("true"):retry(3)
task("test"):command("true"):depends_on("build")
task("lint"):command("true"):async(true)
task_group("ci"):description("all of it"):tasks({ "build", "test", "lint" })

==== a list of tasks that names one that is none
--@ error: main.sloth:2: workflow `w`: the file has no task `biuld`; did you mean `build`?
task("build"):command("true")
workflow.define("w"):tasks({ "biuld" })

==== what becomes of a directory is said in a word
--@ task: a succeeded
--@ task: b succeeded: false true
workflow.define("w"):config({ workdir = "gone", cleanup = "on_success" }):tasks({ task("a"):command("true") })
workflow.define("v"):config({ cleanup = "never" }):tasks({ task("b"):command(function(this)
    return true, tostring(fs.exists("gone")) .. " " .. tostring(fs.exists("."))
end) })

==== a global that does not exist
--@ error: main.sloth:2: attempt to call a nil value: `tsk` is nil; did you mean `task`?

tsk("a")

==== a function that a module does not have
--@ task: a failed: main.sloth:2: attempt to call a nil value: `fs` has no `raed`; did you mean `read`?
task("a"):command(function()
    local text = fs.raed("x")
    return true
end)

==== values that are used without a look
--@ error: main.sloth:1: attempt to index nil with 'port': `values` is nil, since no values are given
local port = values.port

==== a syntax error has its column
--@ error: main.sloth:2:22: Expected identifier when parsing expression, got '='
local a = 1
local got = a; x = 1 = = 2

==== a syntax error at a word that stands twice
--@ error: main.sloth:1:9: Expected <eof>, got 'end'
local x end local y = 1 end

==== sleep takes seconds or a span
--@ task: a succeeded: true
--@ task: b failed: main.sloth:6: sleep: `span` takes seconds, or a span like `500ms`
task("a"):command(function()
    local began = os.clock()
    sleep(0.02) sleep("20ms")
    return true, tostring(0.04 <= os.clock() - began)
end)
task("b"):command(function() sleep("long") end)

==== an answer that is none
--@ says: a: hint
task("a"):command(function()
    local result = file_ops.copy({ src = "none", dest = "x" })
    return true, result.changed
end):on_failure(function(this, params, failure)
    if failure.error:find("with 'changed': the function gave `false` and a reason", 1, true) then print("hint") end
end)

==== a call that is meant for another host is refused where others share the run
--@ agent: web-1
--@ task: here succeeded
--@ task: there failed: main.sloth:4: file_ops.stat: `db-1` is another host: delegate the task to it with `delegate_to`, not the call
task("here"):command(function()
    return not file_ops.stat({ path = "none", delegate_to = { "web-*", "local" } }).exists
end)
task("there"):command(function() return file_ops.stat({ path = "none", delegate_to = "db-1" }).exists end)

==== alone it is made here, and told once for each line
--@ agent: web-1
--@ elsewhere
--@ log: t: main.sloth:3: meant for `db-1`, and run here: file_ops.stat
--@ log: t: main.sloth:5: meant for `db-1`, `db-2`, and run here: exec.run
--@ log: t: one
--@ task: t succeeded: one
task("t"):command(function()
    for _ = 1, 3 do
        file_ops.stat({ path = "none", delegate_to = "db-1" })
    end
    local result = exec.run("printf one >&2", { delegate_to = { "web-1", "db-1", "db-2" } })
    return result.success, result.stderr
end)

==== results go by name and by place, in the order in which the tasks ended
--@ parallel: 2
--@ log: 1 fast succeeded 7 7
--@ log: 2 slow succeeded 3 3
--@ log: 3 late skipped nil nil
--@ log: 3 slow fast
--@ log: named fast,late,slow
--@ log: own succeeded, 7
--@ log: {"name":"fast","status":"succeeded"}
--@ task: slow succeeded
--@ task: fast succeeded
--@ task: late skipped: `run_if` does not hold
workflow.define("w")
    :config({ max_parallel_tasks = 2 })
    :tasks({
        task("slow"):command(function() goroutine.sleep(30) return true, "", { n = 3 } end),
        task("fast"):command(function() return true, "", { n = 7, status = "its own" } end),
        task("late"):depends_on("slow", "fast"):run_if(false):command("true"),
    })
    :on_complete(function(success, results)
        local count = 0
        for place, result in ipairs(results) do
            print(table.concat({ place, result.name, result.status, tostring(result.n), tostring(results[result.name].n) }, " "))
            count += 1
        end
        print(#results .. " " .. results[2].name .. " " .. results[1].name)
        local names = {}
        for name in pairs(results) do table.insert(names, name) end
        table.sort(names)
        print("named " .. table.concat(names, ","))
        print("own " .. results.fast.status .. ", " .. results.fast.outputs.n)
        local first = data.json_decode(json.encode(results)).fast
        print(json.encode({ name = first.name, status = first.status }))
    end)

==== what is a text elsewhere is one in JSON and among outputs
--@ agent: web-1
--@ says: a: {"agent":"web-1","dir":true,"took":5}
--@ says: a: on web-1 at web-1
--@ says: b: true kernel, changed /x
--@ task: a succeeded
--@ task: b succeeded
task("a"):command(function(this)
    local told = json.decode(json.encode({ dir = this.workdir, agent = this.agent, took = perf.measure(function() return 5 end) }))
    told.dir = told.dir == this.workdir.get() and told.dir == tostring(this.workdir) and told.dir == this.workdir.path
    print(json.encode(told))
    print("on " .. this.agent .. " at " .. this.agent.name)
    local made = fs.write("x", "") and file_ops.lineinfile({ path = "x", line = "a" })
    return true, "", { dir = this.workdir, name = exec.run("printf kernel"), made = made, list = { (exec.run("printf x")) } }
end)
task("b"):depends_on("a"):command(function(this, params, deps)
    local out = deps.a
    print(tostring(out.dir == this.workdir.get()) .. " " .. out.name .. ", " .. (out.made:gsub("`.*/x`", "/x")))
    return out.name.stdout == "kernel" and out.made.changed and out.list[1]:upper() == "X"
end)

==== the values can be asked for as a module
--@ values: { "web": { "port": 80 } }
--@ log: t: 80	nil	none
--@ task: t succeeded
local given = require("values")
task("t"):command(function()
    print(given.get("web.port"), given.get("web.host"), require("values").get("a.b", "none"))
    return given == values
end)

==== also where there are none
--@ log: t: nil	x
--@ task: t succeeded
local given = require("values")
task("t"):command(function()
    print(given.get("web.port"), given.get("web.port", "x"))
    return values == nil
end)
