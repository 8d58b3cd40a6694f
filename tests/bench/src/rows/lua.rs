//! The engine by itself, in this process: tasks of Lua without a journal, files loaded, graphs planned.

use std::{path::Path, time::Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use sloth_workflow::{Limits, Plan, TaskSpec, WorkflowSpec, load};

use super::{repeat, write};
use crate::{
    Bench,
    plain_host::{self, unload},
    report::{Bar, Figure},
    samples::{millis, number},
};

/// Tasks of the large graph: as many as a file may have.
const TASKS: usize = 10_000;
const TASKS_QUICK: usize = 500;
/// Dependencies of each of them.
const EDGES_PER_TASK: usize = 5;
/// How far apart a task and what it depends on are, so that a few can run at a time.
const STRIDE: usize = 7;
/// Files that are loaded for one figure.
const LOADS: usize = 1_000;
const LOADS_QUICK: usize = 20;

/// A file of four tasks, as people write them.
const TYPICAL: &str = r#"
local function step(name)
    return function(this, params, deps) log.info("step " .. name) return true, "done", { name = name } end
end
local build = task("build"):description("Build"):command(step("build")):timeout("5m"):retries(2)
local test = task("test"):description("Test"):command(step("test")):depends_on("build")
local pack = task("pack"):command("tar czf out.tgz out"):depends_on({ "test" })
local ship = task("ship"):command(step("ship")):depends_on("pack"):on_failure(function() log.error("no") end)
workflow.define("release"):description("Release"):version("1.0.0"):tasks({ build, test, pack, ship })
    :config({ timeout = "30m", max_parallel_tasks = 4 }):on_complete(function(success) log.info(tostring(success)) end)
"#;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let tasks = bench.pick(TASKS, TASKS_QUICK);
    let repeats = bench.pick(9, 1);
    let edges = specs(tasks).iter().map(|spec| spec.depends_on.len()).sum::<usize>();
    let dir = bench.directory()?;
    let dir = dir.path();
    write(dir, "typical.sloth", TYPICAL)?;
    write(dir, "independent.sloth", &independent(tasks))?;
    write(dir, "graph.sloth", &graph(tasks))?;
    let rate = |name: &str| repeat(repeats, || Ok(number(tasks) / plain_host::run(dir, name, tasks)?.as_secs_f64()));
    let alone = rate("independent.sloth")?;
    let run = repeat(repeats, || Ok(millis(plain_host::run(dir, "graph.sloth", tasks)?)))?;
    let loads = bench.pick(LOADS, LOADS_QUICK);
    let files = repeat(repeats, || load_rate(dir, loads))?;
    let plan = repeat(repeats, || plan_ms(tasks))?;
    let loaded = repeat(repeats, || load_ms(dir, tasks))?;
    let shape = format!("{tasks} tasks, {edges} dependencies");
    Ok(vec![
        Figure::new(format!("{tasks} independent tasks, file evaluated and all run"), "/s", alone)
            .bar(Bar::AtLeast(20_000.0)),
        Figure::new("files of four tasks evaluated and planned", "/s", files).bar(Bar::AtLeast(2_000.0)),
        Figure::new(format!("{shape}: checked and ordered"), "ms", plan).bar(Bar::AtMost(50.0)),
        Figure::new(format!("{shape}: file evaluated, checked and ordered"), "ms", loaded),
        Figure::new(format!("{shape}: file evaluated and all run"), "ms", run),
    ])
}

fn independent(tasks: usize) -> String {
    format!("for i = 1, {tasks} do task('t' .. i):command(function() return true end) end")
}

fn graph(tasks: usize) -> String {
    format!(
        "local function nothing() return true end\n\
         for i = 0, {tasks} - 1 do\n\
             local needs = {{}}\n\
             for k = 1, {EDGES_PER_TASK} do if k * {STRIDE} <= i then needs[k] = 't' .. (i - k * {STRIDE}) end end\n\
             task('t' .. i):command(nothing):depends_on(needs)\n\
         end"
    )
}

fn specs(tasks: usize) -> Vec<TaskSpec> {
    let spec = |task: usize| {
        let needs = (1..=EDGES_PER_TASK).filter_map(|k| task.checked_sub(k * STRIDE));
        TaskSpec {
            name: format!("t{task}"),
            depends_on: needs.map(|need| format!("t{need}")).collect(),
            ..TaskSpec::default()
        }
    };
    (0..tasks).map(spec).collect()
}

fn plan_ms(tasks: usize) -> Result<f64> {
    let spec = WorkflowSpec { name: "bench".into(), tasks: specs(tasks), ..WorkflowSpec::default() };
    let began = Instant::now();
    let plan = Plan::new(spec, tasks)?;
    let took = millis(began.elapsed());
    ensure!(plan.order().len() == tasks, "the plan has {} tasks", plan.order().len());
    Ok(took)
}

fn load_ms(dir: &Path, tasks: usize) -> Result<f64> {
    let began = Instant::now();
    let plans = load(dir, Path::new("graph.sloth"), &Value::Null, &Limits::default()).map_err(unload)?;
    let took = millis(began.elapsed());
    ensure!(plans.iter().map(|plan| plan.order().len()).sum::<usize>() == tasks, "the file has another graph");
    Ok(took)
}

fn load_rate(dir: &Path, count: usize) -> Result<f64> {
    let limits = Limits::default();
    let began = Instant::now();
    for _ in 0..count {
        let plans = load(dir, Path::new("typical.sloth"), &Value::Null, &limits).map_err(unload)?;
        ensure!(plans.len() == 1, "the file has {} workflows", plans.len());
    }
    Ok(number(count) / began.elapsed().as_secs_f64())
}
