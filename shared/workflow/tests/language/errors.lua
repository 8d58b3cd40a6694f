-- What errors say. See tests/engine/language.rs for the lines with an `@`.

==== an error of a function of Lua has the line of the file that called it
--@ task: format failed: main.sloth:1: invalid argument #2 to 'format' (number expected, got string)
--@ task: gsub failed: main.sloth:2: invalid argument #1 to 'gsub' (string expected, got nil)
--@ task: find failed: main.sloth:3: malformed pattern (missing ']')
--@ task: match failed: main.sloth:4: malformed pattern (ends with '%')
--@ task: gmatch failed: main.sloth:5: malformed pattern (missing ']')
--@ task: split failed: main.sloth:6: invalid argument #1 to 'split' (string expected, got nil)
--@ task: sort failed: main.sloth:7: attempt to compare table < number
--@ task: move failed: main.sloth:8: invalid argument #1 to 'move' (table expected, got nil)
--@ task: rep failed: main.sloth:9: invalid argument #1 to 'rep' (string expected, got nil)
--@ task: method failed: main.sloth:10: invalid argument #2 to 'format' (number expected, got string)
task("format"):command(function() return string.format("%d", "x") end)
task("gsub"):command(function() return string.gsub(nil, "a", "b") end)
task("find"):command(function() return string.find("a", "[") end)
task("match"):command(function() return string.match("a", "a%") end)
task("gmatch"):command(function() for word in string.gmatch("a", "[") do print(word) end end)
task("split"):command(function() return string.split(nil, ",") end)
task("sort"):command(function() return table.sort({ 1, 2, {} }) end)
task("move"):command(function() return table.move(nil, 1, 2, 3) end)
task("rep"):command(function() return string.rep(nil, 3) end)
task("method"):command(function() return ("%d"):format("x") end)

==== so has one that is caught, in a coroutine too
--@ log: t: main.sloth:2: invalid argument #2 to 'format' (number expected, got string)
--@ log: t: main.sloth:4: invalid argument #2 to 'format' (number expected, got string)
--@ log: t: main.sloth:6: invalid argument #2 to 'format' (number expected, got string)
--@ log: t: nil	main.lua:1: Incomplete statement: expected assignment or a function call
--@ task: t succeeded
task("t"):command(function()
    local _, direct = pcall(function() return string.format("%d", "x") end)
    print(direct)
    local _, handled = xpcall(function() return string.format("%d", "x") end, function(reason) return reason end)
    print(handled)
    local co = coroutine.create(function() return string.format("%d", "x") end)
    local _, resumed = coroutine.resume(co)
    print(resumed)
    print(load("x x", "=main.lua"))
    return true
end)

==== an error in a callback keeps its own line
--@ task: gsub failed: main.sloth:2: mine
--@ task: sort failed: main.sloth:5: mine
task("gsub"):command(function() return string.gsub("a", "a", function()
    error("mine") end) end)

task("sort"):command(function() return table.sort({ 1, 2 }, function()
    error("mine") end) end)

==== what is raised and is no text is shown
--@ task: table failed: main.sloth:1: { code = 5, message = "gone" }
--@ task: nothing failed: main.sloth:2: `error` was called without a message
--@ task: boolean failed: main.sloth:3: true
--@ task: spoken failed: main.sloth:4: as a text
--@ task: caught failed: 7
--@ task: caller failed: main.sloth:6: of the caller
--@ task: plain failed: plain
task("table"):command(function() error({ code = 5, message = "gone" }) end)
task("nothing"):command(function() error() end)
task("boolean"):command(function() error(true) end)
task("spoken"):command(function() error(setmetatable({}, { __tostring = function() return "as a text" end })) end)
task("caught"):command(function() local _, e = pcall(error, { a = 7 }) return false, tostring(e.a) end)
task("caller"):command(function() error("of the caller", 2) end)
task("plain"):command(function() error("plain", 0) end)

==== a goroutine's error has its line as well
--@ says: a goroutine failed: main.sloth:2: invalid argument #2 to 'format' (number expected, got string)
--@ says: a goroutine failed: main.sloth:3: { code = 5 }
task("t"):command(function()
    goroutine.spawn(function() string.format("%d", "x") end)
    goroutine.spawn(function() error({ code = 5 }) end)
    goroutine.sleep(50)
    return true
end)

==== what is misspelt in a line with methods is named
--@ task: t failed: main.sloth:1: attempt to call a nil value: `fs` has no `raed`; did you mean `read`?
--@ task: u failed: main.sloth:2: attempt to call a nil value: `srings` is nil; did you mean `strings`?
task("t"):command(function() return fs.raed("x") end):retries(0)
task("u"):command(function() return srings("x") end)

==== a template's missing variable is named whole
--@ task: t failed: `template` line 1: `a.b.c` is not defined: pass it in the variables, or write `{{ a.b.c | default('') }}`
--@ task: u failed: `template` line 2: `b.list[1].x` is not defined: pass it in the variables, or write `{{ b.list[1].x | default('') }}`
--@ task: v failed: `template` line 1: `nope` is not defined: pass it in the variables, or write `{{ nope | default('') }}`
local function render(text, variables)
    return function()
        local _, reason = pcall(template.render, text, variables)
        return false, (string.gsub(reason, "^.-template.render: ", ""))
    end
end
task("t"):command(render("x {{ a.b.c }}", { a = { b = {} } }))
task("u"):command(render("\n{{b.list[1].x|upper}}", { b = { list = { {}, {} } } }))
task("v"):command(render("{% if nope %}{% endif %}", {}))

==== a number is no directory
--@ error: main.sloth:1: task `t`: `workdir` takes a text, got `5`
task("t"):workdir(5):command("true")

==== nor is it a user
--@ error: main.sloth:1: task `t`: `user` takes a text, got `0`
task("t"):user(0):command("true")

==== what is returned in vain is a warning
--@ log: t: the command returned a function as its message, which takes a text
--@ log: u: the command returned a string as its outputs, which take a table
--@ task: t succeeded
--@ task: u succeeded: fine
--@ task: v succeeded: 7
--@ task: w succeeded: two lines
task("t"):command(function() return true, print end)
task("u"):command(function() return true, "fine", "text" end)
task("v"):command(function() return true, 7 end)
task("w"):command(function() return true, "two lines\n" end)

==== what depends on a failure is skipped, whatever becomes of the rest
--@ task: a succeeded
--@ task: b failed: no
--@ task: c skipped: `b`, which it depends on, did not end well
--@ task: d skipped: `c`, which it depends on, did not end well
--@ task: e cancelled: a task failed, and `on_task_failure` is `rollback`
workflow.define("w"):config({ on_task_failure = "rollback", max_parallel_tasks = 1 }):tasks({
    task("a"):command("true"),
    task("b"):depends_on("a"):command(function() return false, "no" end),
    task("c"):depends_on("b"):command("true"),
    task("d"):depends_on("c"):command("true"),
    task("e"):command("true"),
})

==== a method that is called with a dot
--@ error: main.sloth:1: `.command(…)` is called with a dot: write `:command(…)`
task("t").command("true")

==== and one of a workflow
--@ error: main.sloth:1: `.tasks(…)` is called with a dot: write `:tasks(…)`
workflow.define("w").tasks({})

==== tables are logged as their data
--@ log: t: { a = { 1, 2 }, b = "x" }
--@ log: t: deep list="{ 1, { c = 3 } }"
--@ task: t succeeded
task("t"):command(function()
    log.info({ b = "x", a = { 1, 2 } })
    log.info("deep", { list = { 1, { c = 3 } } })
    return true
end)

==== a directory below the home
--@ log: t: true
--@ task: t succeeded
task("t"):workdir("~/slothtest-home"):command(function(this)
    local home = facts.get_user("root").home
    print(home == "" or string.find(this.workdir.get(), "~", 1, true) == nil)
    this.workdir.cleanup()
    return fs.rm(this.workdir.get())
end)
