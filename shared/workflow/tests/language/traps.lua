-- Faults of the old runner that must not return, by their numbers. See tests/engine/language.rs for the lines with an `@`.

==== T1: a directory that nobody named is not called nil
--@ log: t: true	false	false
--@ task: t succeeded
task("t"):command(function(this, params)
    print(this.workdir.exists(), string.find(this.workdir.get(), "nil") ~= nil, fs.exists("nil"))
    return params.workdir == this.workdir.get()
end)

==== T1: what is not said is absent
--@ task: t succeeded
task("t"):command(function(this, params) return params.user == nil and params.description == nil, "" end)

==== T2: nothing is left behind where there are no artifacts
--@ log: t: 0
--@ task: t succeeded
task("t"):command(function() print(#fs.ls(".")) return true end)

==== T3: a workflow exists from its beginning
--@ plan: chained: a
--@ plan: built: b
--@ plan: called: c
workflow.define("chained"):tasks({ task("a"):command("true") })
workflow.define("built"):tasks({ task("b"):command("true") }):build()
workflow("called"):tasks({ task("c"):command("true") })

==== T4: on_start, on_complete, config and clean_workdir_after_run do what they say
--@ log: start
--@ log: done	true
--@ log: clean
--@ task: a succeeded
workflow.define("w", {
    version = "1.0", config = { max_parallel_tasks = 1 },
    on_start = function() print("start") end,
    on_complete = function(success) print("done", success) end,
    clean_workdir_after_run = function() print("clean") return true end,
    tasks = { { name = "a", command = function(this) return this.workdir.exists() end } },
})

==== T4: async and next_if_fail are known
--@ plan: main: a, b if failed a
task("a"):async(true):command("true")
task("b"):next_if_fail("a"):command("true")

==== T5: chained methods take effect
--@ task: b succeeded: second
--@ task: a succeeded: at 2
--@ task: c skipped: `run_if` does not hold
--@ log: a: pre
--@ log: a: attempt 1 of 4 failed, next in 0.0 s: at 1
--@ log: a: pre
--@ log: a: post
local a = task("a"):retries(3):pre_hook(function() print("pre") end):post_hook(function() print("post") end)
    :command(function(this) return this.attempt == 2, "at " .. this.attempt end):build()
local b = task("b"):depends_on({ a }):command(function() return true, "second" end):build()
local c = task("c"):run_if(false):command("true"):build()
workflow.define("w"):config({ max_parallel_tasks = 1 }):tasks({ b, a, c })
    :on_task_start(function() end)

==== T6: a text is run
--@ task: good succeeded
--@ task: bad failed: the command exited with status 3
task("good"):command("test 1 = 1"):build()
task("bad"):command("exit 3")

==== T7: what a function returns
--@ task: yes succeeded: m
--@ task: no failed: m
--@ task: table_yes succeeded: fine
--@ task: table_no failed: bad
--@ task: nothing failed: the command returned nothing: end it with `return true` or `return false, message`
--@ task: word failed: the command returned a string first: return `true` or `false`, then a message, then a table of outputs
--@ task: plain failed: the command returned a table without `success`, `changed` or `failed`: return `true, message, outputs` or `{success = true, …}`
--@ task: reason failed: no such host
task("yes"):command(function() return true, "m", {} end)
task("no"):command(function() return false, "m" end)
task("table_yes"):command(function() return { success = true, message = "fine", data = {} } end)
task("table_no"):command(function() return { success = false, message = "bad" } end)
task("nothing"):command(function() end)
task("word"):command(function() return "x" end)
task("plain"):command(function() return {} end)
task("reason"):command(function() return nil, "no such host" end)

==== T8: what a skip and a failure mean for others
--@ task: off skipped: `run_if` does not hold
--@ task: after succeeded
--@ task: bad failed: no
--@ task: blocked skipped: `bad`, which it depends on, did not end well
--@ task: next skipped: `blocked`, which it depends on, did not end well
--@ task: free succeeded
task("off"):run_if(function() return false end):command("true")
task("after"):depends_on("off"):command("true")
task("bad"):command(function() return false, "no" end)
task("blocked"):depends_on("bad"):command("true")
task("next"):depends_on("blocked"):command("true")
task("free"):command("true")

==== T9: a timeout ends whatever the task waits for
--@ parallel: 4
--@ task: shell timed_out: it was stopped after its timeout of 0.05 s
--@ task: run timed_out: it was stopped after its timeout of 0.05 s
--@ task: sleep timed_out: it was stopped after its timeout of 0.05 s
--@ task: execute timed_out: it was stopped after its timeout of 0.05 s
task("shell"):timeout(0.05):command("sleep 60")
task("run"):timeout("50ms"):command(function() return exec.run("sleep 60") end)
task("sleep"):timeout("50ms"):command(function() goroutine.sleep(60000) return true end)
task("execute"):timeout("50ms"):command(function() return os.execute("sleep 60") == 0 end)

==== T10: the order is that of the file
--@ plan: zoo: lion, bear, ant
--@ plan: art: oil, ink
--@ plan: bar: gin
workflow.define("zoo", { tasks = { lion = { command = "true" }, bear = { command = "true" }, ant = { command = "true" } } })
workflow.define("art", { tasks = { oil = { command = "true" }, ink = { command = "true" } } })
workflow.define("bar", { tasks = { gin = { command = "true" } } })

==== T11: the top level runs once in a run
--@ values: {"x": 1}
--@ log: top	1
--@ log: t: in
--@ task: t succeeded
print("top", values.x)
task("t"):command(function() print("in") return true end)

==== T12: a select with a default goes on at once
--@ log: t: none
--@ log: t: got	1
--@ task: t succeeded
task("t"):command(function()
    local ch = goroutine.channel(1)
    local function look()
        goroutine.select({
            { channel = ch, receive = true, handler = function(v) print("got", v) end },
            { default = true, handler = function() print("none") end },
        })
    end
    look()
    ch:send(1)
    look()
    return true
end)

==== T12: what was looked for in vain can be sent, once
--@ log: t: none
--@ log: t: true
--@ log: t: got	Hello
--@ log: t: none
--@ log: t: true	1
--@ log: t: channel.send: nobody is left who could receive, so it was not sent
--@ log: t: false	deadlock
--@ task: t succeeded
task("t"):command(function()
    local ch = goroutine.channel()
    local function look()
        goroutine.select({
            { channel = ch, receive = true, handler = function(v) print("got", v) end },
            { default = true, handler = function() print("none") end },
        })
    end
    look()
    print((ch:send("Hello")))
    look()
    look()
    print(ch:send("again"), ch:len())
    print(ch:send("once more"))
    return true
end)

==== T13: random keeps to its bounds
--@ task: t succeeded
task("t"):command(function()
    for _ = 1, 200 do
        local n = math.random(50, 150)
        if n < 50 or 150 < n or n % 1 ~= 0 then return false, tostring(n) end
    end
    return true
end)

==== T14: tasks see the globals and the secrets
--@ secrets: {"token": "abcdef"}
--@ task: t succeeded: made here
shared = "made here"
task("t"):command(function() return secrets.token == "abcdef" and exec.run({ "true" }).success, shared end)

==== T15: values, params and outputs arrive in every task
--@ values: {"x": "v"}
--@ task: a succeeded: v
--@ task: b succeeded: v/p/1
task("a"):command(function() return true, values.x, { n = 1 } end)
task("b"):depends_on("a"):params({ p = "p" }):command(function(this, params, deps)
    return true, values.x .. "/" .. params.p .. "/" .. deps.a.n
end)

==== T16: lists of values stay lists
--@ values: {"hosts": ["a", "b", ["c"]]}
--@ task: t succeeded: a,b c
task("t"):command(function() return #values.hosts == 3, table.concat(values.hosts[3]) and values.hosts[1] .. "," .. values.hosts[2] .. " " .. values.hosts[3][1] end)

==== T17: every form of delegate_to
--@ values: {"host": "web-1"}
--@ agent: web-1
--@ plan: main: a on local, b on localhost+web-1, c on web-1, d on web-1
--@ task: a succeeded
--@ task: b succeeded
--@ task: c succeeded
--@ task: d succeeded
task("a"):delegate_to("local"):command("true")
task("b"):delegate_to({ "localhost", "web-1" }):command("true")
task("c"):delegate_to("${values.host}"):command("true")
task("d"):delegate_to(function() return { "web-1" } end):command("true")

==== T18: hooks are called alike at each attempt
--@ log: t: t	p	true
--@ log: t: attempt 1 of 2 failed, next in 0.0 s: the command returned `false`
--@ log: t: t	p	true
--@ log: t: t	p	7
--@ task: t succeeded
task("t"):params({ p = "p" }):retries(1)
    :pre_hook(function(this, params, deps) print(this.name(), params.p, type(deps) == "table") return true end)
    :on_success(function(this, params, outputs) print(this.name(), params.p, outputs.n) end)
    :command(function(this) return this.attempt == 2, "", { n = 7 } end)

==== T19: conditions get this as well as params
--@ task: old succeeded
--@ task: new succeeded
local function yes() return true end
task("old"):params({ a = "1" }):run_if(function(params, deps) return params.a == "1" and params.task_name == "old" end):command(yes)
task("new"):params({ a = "1" }):run_if(function(this, params) return this.name() == "new" and params.a == "1" end):command(yes)

==== T20, T21: a result serves every way to read it
--@ log: t: out
--@ log: t: out	true	0	nil	false	[out]	3
--@ task: t succeeded
task("t"):command(function()
    local res, err, failed = exec.run("printf out")
    print(res.stdout, res.success, res.exit_code, err, failed, "[" .. res .. "]", #res)
    return res:match("^o") == "o" and tostring(res) == "out"
end)

==== T22: a module is the same as a global and by require
--@ task: t succeeded
task("t"):command(function()
    for _, name in ipairs({ "exec", "fs", "log", "data", "state", "goroutine", "facts", "crypto", "stack", "workdir", "json" }) do
        if require(name) ~= getfenv()[name] then return false, name end
    end
    return true
end)

==== T31: the declarative language is answered
--@ error: main.sloth:2: task `install`: there is no method or key `module`: call the module in the task's function
group "web" {
    task "install" { module = "pkg" },
}

==== T33: a file that is no Lua is told with its place
--@ error: main.sloth:2:5: Expected ')' (to close '(' at line 1), got 'end'
task("a"):command(function()
end end)

==== T34: workflow with a table
--@ plan: w: a
workflow({ name = "w", description = "d", tasks = { a = { name = "a", command = "true" } } })

==== T35: a log line of nothing does not end a task
--@ task: t succeeded
--@ log: t: nil
--@ log: t: 1
task("t"):command(function() log.info(nil) log.info(tostring(1)) return true end)
