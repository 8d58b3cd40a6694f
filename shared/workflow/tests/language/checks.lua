-- What a run that only checks says. See tests/engine/language.rs for the lines with an `@`.

==== a file that is missing is missing in a check too
--@ check
--@ task: replace failed: file_ops.replace: there is no file `none`
--@ task: read failed: cannot read `none`: No such file or directory (os error 2)
--@ task: copy failed: file_ops.copy: cannot copy `none`: No such file or directory (os error 2)
--@ task: fs_copy failed: cannot copy `none`: No such file or directory (os error 2)
--@ task: move failed: cannot move `none`: No such file or directory (os error 2)
--@ task: rm failed: cannot remove `none`: No such file or directory (os error 2)
--@ task: chmod failed: cannot find `none`: No such file or directory (os error 2)
--@ task: file failed: file_ops.file: there is no file `none`: to have one made, say `state = "present"` or `state = "directory"`
--@ task: template failed: file_ops.template: cannot read `none`: No such file or directory (os error 2)
--@ task: unpack failed: file_ops.unarchive: cannot unpack `none.zip`: No such file or directory (os error 2)
--@ task: write failed: cannot write `no/dir/x`: the directory `no/dir` is not there
local function run(f, ...)
    local given = { ... }
    return function()
        local ok, reason = f(table.unpack(given))
        return ok and true or false, tostring(reason)
    end
end
task("replace"):command(run(file_ops.replace, "none", "a", "b"))
task("read"):command(run(fs.read, "none"))
task("copy"):command(run(file_ops.copy, "none", "there"))
task("fs_copy"):command(run(fs.copy, "none", "there"))
task("move"):command(run(fs.move, "none", "there"))
task("rm"):command(run(fs.rm, "none"))
task("chmod"):command(run(fs.chmod, "none", "0600"))
task("file"):command(run(file_ops.file, { path = "none", mode = "0600" }))
task("template"):command(run(file_ops.template, "none", "there", {}))
task("unpack"):command(run(file_ops.unarchive, "none.zip", "there"))
task("write"):command(run(fs.write, "no/dir/x", "text"))

==== what an earlier step makes counts as there
--@ check
--@ task: make succeeded: would make the directory `etc`; would write `etc/app.conf`; would create `etc/made`
--@ task: use succeeded: would change `etc/app.conf`; would copy `etc/app.conf` to `etc/copy`; would move `etc/copy` to `etc/moved`
--@ task: look succeeded: port=81 port=81 true true false app.conf,made,moved
--@ task: gone failed: cannot read `etc/moved`: an earlier step would have removed it
task("make"):command(function()
    assert(fs.mkdir("etc")) assert(fs.write("etc/app.conf", "port=80\n"))
    assert(file_ops.copy({ content = "x", dest = "etc/made" }))
    return true
end)
task("use"):depends_on("make"):command(function()
    assert(file_ops.replace("etc/app.conf", "80", "81"))
    assert(fs.copy("etc/app.conf", "etc/copy"))
    assert(fs.move("etc/copy", "etc/moved"))
    return true
end)
task("look"):depends_on("use"):command(function()
    local first, second = assert(fs.read("etc/app.conf")), assert(fs.read("etc/moved"))
    local names = table.concat(fs.ls("etc"), ",")
    return true, strings.trim(first) .. " " .. strings.trim(second) .. ` {fs.exists("etc/made")} {fs.is_dir("etc")} {fs.exists("etc/copy")} {names}`
end)
task("gone"):depends_on("look"):command(function()
    assert(fs.rm("etc/moved"))
    local text, reason = fs.read("etc/moved")
    return text ~= nil, reason
end)

==== what a stack would know is known for the rest of the check
--@ check
--@ task: set succeeded: would set `stack/default/outputs/url`; would record the resource `host/web` as created
--@ task: get succeeded: http://web unchanged 2
--@ task: forget succeeded: would forget the resource `host/web`
task("set"):command(function()
    stack.set_output("url", "http://web")
    local word = stack.register_resource({ type = "host", name = "web", properties = { size = 2 } })
    return word == "created"
end)
task("get"):depends_on("set"):command(function()
    local word, resource = stack.register_resource({ type = "host", name = "web", properties = { size = 2 } })
    return stack.outputs().url ~= nil, `{stack.get_output("url")} {word} {resource.properties.size}`
end)
task("forget"):depends_on("get"):command(function()
    return stack.delete_resource("host", "web") and not stack.resource_exists("host", "web")
end)

==== what cannot be told is said to be so
--@ check
--@ task: fetch succeeded: would run: make all; would copy `built` to `there`; would change `built.conf`, whose content cannot be told yet
--@ task: read failed: cannot read `built` in a run that only checks: it is not there, and whether an earlier step makes it cannot be told
--@ task: copied failed: cannot read `there` in a run that only checks: an earlier step would have made it, and what is in it cannot be told
task("fetch"):command(function()
    exec.run("make all")
    assert(file_ops.copy("built", "there"))
    assert(file_ops.replace("built.conf", "a", "b"))
    return true
end)
task("read"):depends_on("fetch"):command(function()
    local text, reason = fs.read("built")
    return text ~= nil, reason
end)
task("copied"):depends_on("fetch"):command(function()
    local text, reason = fs.read("there")
    return text ~= nil, reason
end)

==== an owner that nobody makes is an error in a check too
--@ check
--@ task: nobody failed: file_ops.file: there is no user `slothtest-none` on this host
--@ task: nobodies failed: file_ops.copy: there is no group `slothtest-none` on this host
--@ task: chown failed: there is no user `slothtest-none` on this host
--@ task: made succeeded: would create user `slothtest-made`; would create `x`
task("nobody"):command(function() return file_ops.file({ path = "x", state = "present", owner = "slothtest-none" }) end)
task("nobodies"):command(function() return file_ops.copy({ content = "x", dest = "x", group = "slothtest-none" }) end)
task("chown"):command(function() fs.touch("y") return fs.chown("y", "slothtest-none") end)
task("made"):command(function()
    assert(user.create({ username = "slothtest-made" }))
    assert(file_ops.file({ path = "x", state = "present", owner = "slothtest-made" }))
    return true
end)

==== a refused change that nobody looks at is a warning with its line
--@ says: main.sloth:2: file_ops.replace: there is no file
--@ task: t succeeded
task("t"):command(function()
    file_ops.replace("none", "a", "b")
    return true
end)
