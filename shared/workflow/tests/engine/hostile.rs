//! Scripts that do not want to end, or want too much.

use std::time::{Duration, Instant};

use sloth_workflow::{Capabilities, TaskStatus};

use crate::harness::Case;

/// Runs `body` as a task with a short timeout beside one that must have its turn, and gives how it ended.
fn endure(body: &str) -> (TaskStatus, String) {
    let text = format!(
        r#"
        task("hostile"):timeout("150ms"):command(function() {body} end)
        task("other"):command(function() goroutine.sleep(10) goroutine.sleep(10) return true end)
        "#
    );
    let began = Instant::now();
    let ended = Case::new(text).run();
    assert!(began.elapsed() < Duration::from_secs(8), "{body}: {:?}", began.elapsed());
    assert_eq!(ended.end.tasks[1].status, TaskStatus::Succeeded, "{body}: {:?}", ended.lines());
    (ended.end.tasks[0].status, ended.end.tasks[0].message.clone())
}

#[test]
fn no_loop_outlives_its_timeout() {
    for body in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(error) end",
        "local co = coroutine.wrap(function() while true do end end) co()",
        "while true do local co = coroutine.create(function() while true do end end) coroutine.resume(co) end",
        "table.sort({ 3, 1, 2 }, function() while true do end end)",
        "while true do pcall(table.sort, { 3, 1, 2 }, function() while true do pcall(error) end end) end",
        "('x'):gsub('x', function() while true do end end)",
        "setmetatable({}, { __index = function() while true do end end }).x()",
        "(('a'):rep(40)):find(('a-'):rep(25) .. 'b')",
        "while true do pcall(string.find, ('a'):rep(40), ('a-'):rep(25) .. 'b') end",
        "goroutine.spawn(function() while true do end end) goroutine.sleep(60000)",
        "while true do goroutine.sleep(0) end",
    ] {
        let (status, message) = endure(body);
        assert_eq!(status, TaskStatus::TimedOut, "{body}: {message}");
    }
}

/// Waits end and coroutines keep their values, also when turns end everywhere around them.
#[test]
fn taking_turns_loses_no_wake_up_and_no_value() {
    let ended = Case::new(
        r#"
        local done = false
        task("busy"):command(function() while not done do end return true end)
        local left = 6
        for n = 1, left do
            task("wait" .. n):command(function()
                local co = coroutine.wrap(function()
                    for i = 1, 150 do
                        if n % 2 == 0 then goroutine.sleep(0) else exec.run({ "true" }) end
                        for _ = 1, 2000 do end
                        coroutine.yield(i)
                        coroutine.yield()
                    end
                end)
                for i = 1, n % 2 == 0 and 150 or 10 do
                    local first = co()
                    local second = co()
                    if first ~= i or second ~= nil then return false, tostring(first) .. "/" .. tostring(second) end
                end
                left = left - 1
                done = left == 0
                return true
            end)
        end
        "#,
    )
    .parallel(7)
    .run();
    assert_eq!(ended.end.message, "", "{:?}", ended.lines());
}

#[test]
fn deep_recursion_is_an_error() {
    for body in [
        "local function f() return f() end f()",
        "local function f(n) return 1 + f(n + 1) end return true, f(1)",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k .. 'x'] end return t.a",
        "return true, (string.rep('(', 300) .. '1'):gsub('%(', function() return ('x'):gsub('x', function() error('deep') end) end)",
    ] {
        let (status, message) = endure(body);
        assert_eq!(status, TaskStatus::Failed, "{body}: {message}");
    }
}

#[test]
fn memory_has_a_bound() {
    for body in [
        "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
        "local s = 'x' while true do s = s .. s end",
        "return true, ('x'):rep(1e9)",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "return true, table.concat(table.create(1e7, 'xx'))",
    ] {
        let ended = Case::new(format!("task('t'):command(function() {body} end)")).run();
        assert_eq!(ended.end.tasks[0].status, TaskStatus::Failed, "{body}: {:?}", ended.lines());
        assert!(
            ended.lines()[0].contains("memory") || ended.lines()[0].contains("too large"),
            "{body}: {:?}",
            ended.lines()
        );
    }
}

#[test]
fn the_sandbox_is_closed() {
    for body in [
        "string.format = nil",
        "string.rep = function() end",
        "log.info = nil",
        "getmetatable('').__index = {}",
        "table.insert = nil",
        "_G.string.rep = 1",
        "rawset(string, 'x', 1)",
        "setmetatable(string, {})",
        "workflow.define = nil",
        "loadstring('\\27Lua')()",
        "require('../../etc/passwd')",
        "import('/etc/passwd')",
        "debug.getregistry()",
        "newproxy()",
        "package.loadlib('x', 'y')",
    ] {
        let ended = Case::new(format!("task('t'):command(function() {body} return true end)")).run();
        assert_eq!(ended.end.tasks[0].status, TaskStatus::Failed, "{body}: {:?}", ended.lines());
    }
    // What scripts may do with globals stays theirs.
    let ended = Case::new(
        "x = 1 _G.y = 2 function helper() return x + y end task('t'):command(function() return helper() == 3 and _G.x == 1 end)",
    )
    .run();
    assert_eq!(ended.lines(), ["t succeeded"]);
}

#[test]
fn capabilities_gate_what_acts() {
    let mut case = Case::new("task('a'):command('true') task('b'):command(function() return true end)");
    case.input.capabilities = Capabilities::none();
    let ended = case.run();
    assert_eq!(
        ended.lines()[0],
        "a failed: `exec.run`: capability `exec` is not granted to this bundle: add it to `capabilities` in bundle.toml and sign again"
    );
    assert_eq!(ended.lines()[1], "b succeeded");
}
