-- Run by `sloth-agent test examples/web`.

local host = { os = "linux", architecture = "x86_64" }

before_each(function()
    stub("facts.get_platform", host)
    stub("facts.get_memory", { total = 2 * 1024 * 1024 * 1024 })
    stub("facts.get_hostname", "web-1")
end)

test("writes the configuration and has it checked", function()
    local commands = stub("exec.run", { stdout = "3\n" })
    local result = run("web.sloth", { values = { replicas = 3, port = 9000 } })
    expect(result.message):equals("")
    expect(result.tasks.render.outputs):includes({ changed = true })
    expect(result.tasks.check.outputs):includes({ upstreams = 3 })
    expect(commands[1][1]):includes({ "grep", "-c", "^upstream" })
    expect(result.log):contains("the host is configured")
end)

test("fails where an upstream is missing", function()
    stub("exec.run", { stdout = "1\n" })
    local result = run("web.sloth", { values = { replicas = 2 }, skip = {} })
    expect(result.success):is_false()
    expect(result.tasks.check.message):contains("1 upstreams where 2 were asked for")
end)
