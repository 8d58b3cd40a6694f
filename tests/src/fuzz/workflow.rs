//! Workflow files: whatever the text, reading it for its plan ends in time, touches nothing, and gives a plan that
//! can be run or a reason.

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::json;
use sloth_core::fs::{Access, replace};
use sloth_workflow::{Limits, Plan, load, source::adapt};

use super::{Seed, Verdict, scratch, told};

/// The file under test; beside it lies a module that it can load.
const FILE: &str = "main.sloth";
const MODULE: &str = "lib.lua";
const MODULE_TEXT: &[u8] = b"return { name = 'lib' }";
/// Enough for small files, and little enough that one that never ends costs little.
const PLAN_MS: u64 = 100;
const MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
const SCRIPT_BYTES_MAX: usize = 64 * 1024;
const TASKS_MAX: usize = 100;

/// Reads `bytes` as a workflow file for its plans.
///
/// # Panics
///
/// When the bundle was changed by that, a plan cannot be run, or making Luau of the old dialect moved a line.
pub fn run(bytes: &[u8]) -> Verdict {
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(adapted) = adapt(text.to_owned())
    {
        assert_eq!(adapted.matches('\n').count(), text.matches('\n').count(), "lines were moved");
    }
    let dir = scratch::dir();
    let bundle = dir.path();
    for (name, text) in [(MODULE, MODULE_TEXT), (FILE, bytes)] {
        replace(&bundle.join(name), text, Access::Owner).expect("written");
    }
    let before = scratch::snapshot(bundle, &[]);
    let loaded = load(bundle, Path::new(FILE), &json!({ "replicas": 2 }), &limits());
    assert!(scratch::snapshot(bundle, &[]) == before, "reading a file for its plan changed something");
    match &loaded {
        Ok(plans) => plans.iter().for_each(check),
        Err(error) => drop(told(error)),
    }
    Verdict::from(&loaded)
}

fn limits() -> Limits {
    Limits {
        memory_bytes: MEMORY_BYTES_MAX,
        script_bytes: SCRIPT_BYTES_MAX,
        tasks_max: TASKS_MAX,
        plan_time: Duration::from_millis(PLAN_MS),
        ..Limits::default()
    }
}

fn check(plan: &Plan) {
    let tasks = plan.tasks();
    assert!(tasks.len() <= TASKS_MAX);
    let names: BTreeSet<_> = tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names.len(), tasks.len(), "a name is there twice");
    assert_eq!(plan.order().len(), tasks.len());
    let mut done = BTreeSet::new();
    for place in plan.order() {
        let task = &tasks[*place];
        assert!(task.depends_on.iter().all(|name| done.contains(name.as_str())), "`{}` is too early", task.name);
        assert!(done.insert(task.name.as_str()), "`{}` is twice in the order", task.name);
    }
    let json = serde_json::to_vec(plan).expect("a plan is JSON");
    let again: Plan = serde_json::from_slice(&json).expect("a plan can be read back");
    assert_eq!(&again, plan);
}

pub(super) fn seeds() -> Vec<Seed> {
    let example = include_str!("../../../examples/web/web.sloth");
    vec![
        Seed::accepted("example", example),
        Seed::accepted("task", "task('a'):command('x')\ntask('b'):run(function() end):depends_on('a'):timeout('5m')"),
        Seed::accepted("tables", TABLES),
        Seed::accepted("options", OPTIONS),
        Seed::accepted("dialect", DIALECT),
        Seed::accepted("data", DATA),
        Seed::accepted("text", TEXT),
        Seed::accepted("coroutine", COROUTINE),
        Seed::refused("endless", "while true do end"),
        Seed::refused("hungry", "local t = {} while true do t[#t + 1] = ('x'):rep(1e5) .. #t end"),
        Seed::refused("deep", "local function f() return f() + 1 end f()"),
        Seed::refused("acts", "fs.write('x', 'y')"),
        Seed::refused("leaves", "require('../x')"),
        Seed::refused("circle", "task('a'):command('x'):depends_on('b') task('b'):command('x'):depends_on('a')"),
        Seed::refused("syntax", "local x = = 1"),
        Seed::refused("unknown-method", "task('a'):comand('x')"),
    ]
}

const TABLES: &str = r#"local lib = require("lib")
workflow.define("w", { description = "d", version = "1", tasks = {
  { name = "a", command = "x", retries = 3, timeout = "5m", params = { n = 1 }, env = { A = "b" } },
  b = { command = function() end, depends_on = { "a" }, run_if = "true", artifacts = { "*.txt" } },
} })
group "g" { task "a" { command = lib.name }, task "b" { command = "x", depends_on = { "a" } } }
"#;
const OPTIONS: &str = r#"local a = task("a"):description("d"):command("x"):timeout("1h30m"):retries(2, "linear"):user("u"):workdir("/w"):build()
local b = task("b"):command("x"):depends_on(a):delegate_to(function() return { "web-1", "web-2" } end):idempotent(false):tags({ "t" })
local c = task("c"):command("x"):consumes({ "f" }):on_success(function() end):pre_hook(function() end):abort_if(function() return false end)
workflow.define("w"):tasks({ a, b, c }):config({ timeout = "10m", max_parallel_tasks = 2, on_task_failure = "stop" }):on_complete(function() end)
"#;
const DIALECT: &str = "#!/usr/bin/env sloth-agent
for i = 1, 3 do
  for j = 1, 3 do if j == i then goto next end print(i, j) ::next:: end
  if i == 2 then goto continue end
  task('t' .. i):command('x')
  ::continue::
end
local s = [==[ goto x ]] ]==] -- goto y
";
const DATA: &str = r#"local t = json.decode('{"a":[1,2.5,null,"\\u00e9"],"b":{"c":true}}')
local y = yaml.decode("a: &x [1, 2]\nb: *x\nc: |\n  text\n")
log.info(json.encode(t), yaml.encode(y), crypto.sha256("x"))
log.info(template.render("{% for i in l %}{{ i | upper }}{% endfor %}", { l = { "a", "b" } }))
task(t.b.c and "a" or "b"):command(tostring(values.replicas))
"#;
const TEXT: &str = r##"local s = ("a,b;c"):gsub("([%w]+)", string.upper):rep(3, "-")
for word in s:gmatch("%a+") do print(#word, string.format("%5.2f %q %x", 1.5, word, 255)) end
print(pcall(error, { code = 2 }), select("#", 1, nil), table.concat({ 1, 2 }, ","), math.max(1, 2), bit32.bxor(1, 3))
print(string.pack("<I4z", 7, "x"):byte(1, -1), utf8.char(233), os.time ~= nil, buffer.create(8))
task(s:sub(1, 3)):command("x")
"##;
const COROUTINE: &str = r#"local co = coroutine.wrap(function(n) for i = 1, n do coroutine.yield(i) end end)
local mt = setmetatable({}, { __index = function(_, k) return k .. "!" end, __call = function(self, x) return self[x] end, __tostring = function() return "mt" end })
task(mt(co(2) .. "")):command(tostring(mt))
print(xpcall(function() error("x") end, function(e) return e .. "?" end))
"#;
