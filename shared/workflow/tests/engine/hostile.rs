//! Scripts that do not want to end, or want too much.

use std::time::{Duration, Instant};

use sloth_workflow::{Capabilities, TaskStatus, limits};

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

/// Native work is bounded, or done beside the run: a task that waits for it ends with its timeout, and is no success when
/// the work is over first.
#[test]
fn no_native_work_makes_a_success_of_a_timeout() {
    for body in [
        "strings.match_all(('a'):rep(100000), ('|'):rep(8000))",
        "strings.match_all(('a'):rep(1000000), '.*b|a')",
        "strings.replace_regex(('a'):rep(1000000), '.*b|a', 'x')",
        "template.render('{% for a in range(9999) %}{% for b in range(9999) %}{{ a ~ b }}{% endfor %}{% endfor %}')",
    ] {
        let (status, message) = endure(&format!("pcall(function() {body} end) return true"));
        assert_eq!(status, TaskStatus::TimedOut, "{body}: {message}");
    }
}

#[test]
fn no_text_and_no_value_exhausts_the_stack() {
    let text = format!("task('t'):timeout('10m'):command(function()\n{}\nend)", include_str!("../../lua/hostile.luau"));
    let ended = Case::new(text).run();
    let end = &ended.end.tasks[0];
    assert_eq!(end.status, TaskStatus::Succeeded, "{}: {:?}", end.message, ended.lines());
}

/// Waits end and coroutines keep their values, also when turns end everywhere around them.
#[test]
fn taking_turns_loses_no_wake_up_and_no_value() {
    let ended = Case::new(
        r#"
        local done = false
        task("busy"):async(true):command(function() while not done do end return true end)
        local left = 6
        for n = 1, left do
            task("wait" .. n):async(true):command(function()
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

/// What the machine does in one go must be short, since nothing stops it in the middle.
#[test]
fn no_single_step_takes_long() {
    for (body, expected) in [
        ("return ('a'):rep(1e6):find(('a'):rep(5e5) .. 'b') == nil, 'not there'", "not there"),
        ("return ('a'):rep(1e6):find(('a'):rep(5e5) .. 'b', 1, true) == nil, 'not there'", "not there"),
        (
            "local first, last = (('a'):rep(1e6) .. 'b'):find(('a'):rep(5e5) .. 'b', -5e5 - 1, true) return true, first .. ' ' .. last",
            "500001 1000001",
        ),
        (
            "('c'):rep(1e6):find('[' .. ('b'):rep(1e5) .. 'c]*$x')",
            "string.find: the text and the pattern are too long together",
        ),
        ("('c'):rep(1e6):match('[' .. ('b'):rep(1e5) .. 'c]*$x')", "string.match: the text"),
        ("('c'):rep(1e6):gsub('[' .. ('b'):rep(1e5) .. 'c]*$x', '')", "string.gsub: the text"),
        ("('c'):rep(1e6):gmatch('[' .. ('b'):rep(1e5) .. 'c]*$x')", "string.gmatch: the text"),
        ("string.split(('a'):rep(4e6), ('a'):rep(1e6) .. 'b')", "string.split: the text"),
        ("('a'):rep(1e5):find(('a?'):rep(1000) .. ('a'):rep(1000))", "pattern too complex"),
        ("table.move({}, 1, 1e9, 2)", "table.move: more than 16777216 elements are too many"),
        (
            "local a, b, t = ('x'):rep(4e6) .. 'a', ('x'):rep(4e6) .. 'b', {} for i = 1, 1e5 do t[i] = i % 2 == 0 and a or b end table.sort(t)",
            "it was stopped after its timeout",
        ),
        (
            "local t = {} for i = 1, 1000 do t[i] = 'k' .. i % 10 end table.sort(t) return t[1] == 'k0' and t[1000] == 'k9', 'sorted'",
            "sorted",
        ),
        (
            "local chunk, reason = load(('a=1 '):rep(1e6)) return chunk == nil, reason",
            "the text is longer than the 1048576 bytes that a script may have",
        ),
        ("return loadstring(('a=1 '):rep(1e6)) == nil, 'nothing'", "nothing"),
        ("return false, (select(2, load(('('):rep(5e5))))", "Exceeded allowed recursion depth"),
        (
            "local value, reason = json.decode('[' .. ('1,'):rep(4e6) .. '1]') return value == nil, reason",
            "more than the 1000000 values",
        ),
        ("local value, reason = json.decode(('['):rep(9e5)) return value == nil, reason", "recursion limit"),
        ("exec.run('yes')", "it was stopped after its timeout"),
        ("exec.run('cat /dev/zero', { quiet = true })", "it was stopped after its timeout"),
        (
            "goroutine.spawn(function() exec.run('yes', { quiet = true }) end) while true do goroutine.sleep(1) end",
            "it was stopped after its timeout",
        ),
    ] {
        let began = Instant::now();
        let timeout = if expected.contains("timeout") { "150ms" } else { "5s" };
        let ended = Case::new(format!("task('t'):timeout('{timeout}'):command(function() {body} end)")).run();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(6), "{body}: {took:?}");
        assert!(ended.end.tasks[0].message.contains(expected), "{body}: {:?}", ended.lines());
    }
}

/// A message, an output or an error that is huge is cut or refused, and the run goes on.
#[test]
fn what_a_task_says_has_a_bound() {
    for (body, expected) in [
        ("return true, ('x'):rep(1e7)", TaskStatus::Succeeded),
        ("return false, ('x'):rep(1e7)", TaskStatus::Failed),
        ("error(('x'):rep(1e6))", TaskStatus::Failed),
        ("error({ code = 1 })", TaskStatus::Failed),
        ("error(setmetatable({}, { __tostring = function() return ('x'):rep(1e6) end }))", TaskStatus::Failed),
        ("error(setmetatable({}, { __tostring = function() error('again') end }))", TaskStatus::Failed),
        ("error(nil)", TaskStatus::Failed),
        ("print(setmetatable({}, { __tostring = function() goroutine.sleep(1) return 'x' end }))", TaskStatus::Failed),
        ("return true, 'm', { a = ('x'):rep(1e6) }", TaskStatus::Failed),
        ("local t = {} for i = 1, 300 do t = { t } end return true, 'm', t", TaskStatus::Failed),
        ("local t = {} t.t = t return true, 'm', t", TaskStatus::Failed),
        (
            "log.info(('x'):rep(1e6)) print(('x'):rep(1e6)) log.table(table.create(1000, 'x')) return true",
            TaskStatus::Succeeded,
        ),
    ] {
        let ended = Case::new(format!(
            "task('t'):command(function() {body} end) task('u'):command(function() return true end)"
        ))
        .run();
        let end = &ended.end.tasks[0];
        assert_eq!(end.status, expected, "{body}: {:?}", ended.lines());
        assert!(end.message.len() <= limits::MESSAGE_BYTES_MAX, "{body}: {} bytes", end.message.len());
        assert!(ended.end.message.len() <= 4 * limits::MESSAGE_BYTES_MAX, "{body}: {} bytes", ended.end.message.len());
        assert!(ended.log().iter().all(|line| line.len() <= limits::LOG_LINE_BYTES_MAX + 3), "{body}");
        assert_eq!(ended.end.tasks[1].status, TaskStatus::Succeeded, "{body}");
    }
}

/// More commands than may run at a time wait for their turn.
#[test]
fn commands_wait_for_their_turn() {
    let ended = Case::new(
        r#"
        task("many"):command(function()
            local wg, done = goroutine.wait_group(), 0
            for _ = 1, 600 do
                wg:add(1)
                goroutine.spawn(function()
                    if exec.run({ "true" }).success then done = done + 1 end
                    wg:done()
                end)
            end
            wg:wait()
            return done == 600, tostring(done)
        end)
        "#,
    )
    .run();
    assert_eq!(ended.end.tasks[0].status, TaskStatus::Succeeded, "{:?}", ended.lines());
}

/// Coroutines in coroutines keep what they do, wherever in them a turn ends.
#[test]
fn a_turn_that_ends_deep_inside_is_no_yield() {
    let ended = Case::new(
        r#"
        local function nested(depth)
            if depth == 0 then
                for _ = 1, 200000 do end
                return "bottom"
            end
            return coroutine.wrap(function()
                for _ = 1, 1000 do end
                return nested(depth - 1)
            end)()
        end
        task("a"):command(function()
            for _ = 1, 20 do
                local got = nested(5)
                if got ~= "bottom" then return false, tostring(got) end
            end
            return true
        end)
        task("b"):command(function() for _ = 1, 50 do goroutine.sleep(1) end return true end)
        task("deep"):command(function()
            local function f() return coroutine.wrap(f)() end
            local ok, reason = pcall(f)
            return not ok, reason
        end)
        "#,
    )
    .run();
    assert_eq!(ended.end.message, "", "{:?}", ended.lines());
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
