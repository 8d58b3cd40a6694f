//! Measures the engine on this machine: `cargo run --release -p sloth-workflow --example bench`.

use std::{
    io::{self, Write},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use sloth_core::Millis;
use sloth_workflow::{
    Attempt, CancelSignal, Capabilities, Host, Limits, LocalFuture, LogLine, Outcome, Plan, RunInput, StateError,
    StateOperation, StateReply, Stop, TaskEnd, TaskSpec, WorkflowSpec, load, run,
};

/// Tasks of the measured runs: as many as a file may have.
const TASKS: usize = 10_000;
/// Dependencies of each task of the measured graph.
const EDGES_PER_TASK: usize = 5;
/// Files that are loaded for the measure of loading.
const LOADS: u32 = 500;

/// A host that does nothing.
struct Nowhere(sloth_core::Clock);

impl Host for Nowhere {
    fn now(&self) -> Millis {
        self.0.now()
    }

    fn random(&self) -> u128 {
        0
    }

    fn log(&self, _line: LogLine) {}

    fn starting<'a>(&'a self, _attempt: &'a Attempt) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn finished<'a>(&'a self, _end: &'a TaskEnd) -> LocalFuture<'a, Result<(), Stop>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn state<'a>(&'a self, _operation: StateOperation) -> LocalFuture<'a, Result<StateReply, StateError>> {
        Box::pin(std::future::ready(Ok(StateReply::Done(false))))
    }
}

/// A typical file of a handful of tasks.
const TYPICAL: &str = r#"
local function step(name)
    return function(this, params, deps) log.info("step " .. name) return true, "done", { name = name } end
end
local build = task("build"):description("Build"):command(step("build")):timeout("5m"):retries(2):build()
local test = task("test"):description("Test"):command(step("test")):depends_on("build"):build()
local pack = task("pack"):command("tar czf out.tgz out"):depends_on({ "test" }):artifacts({ "out.tgz" }):build()
local ship = task("ship"):command(step("ship")):depends_on(pack):on_failure(function() log.error("no") end):build()
workflow.define("release"):description("Release"):version("1.0.0"):tasks({ build, test, pack, ship })
    :config({ timeout = "30m", max_parallel_tasks = 4 }):on_complete(function(success) log.info(tostring(success)) end)
"#;

fn main() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut out = io::stdout();
    let plan = measure_plan();
    writeln!(out, "plan of {TASKS} tasks and {} edges: {:.1} ms", TASKS * EDGES_PER_TASK, millis(plan))?;
    write(dir.path(), "typical.sloth", TYPICAL)?;
    let loads = measure_loads(dir.path());
    writeln!(out, "files loaded: {:.0}/s", f64::from(LOADS) / loads.as_secs_f64())?;
    for (name, text) in [("independent", independent()), ("chained", chained()), ("with outputs", with_outputs())] {
        write(dir.path(), "bench.sloth", &text)?;
        let (time, done) = measure_run(dir.path(), "bench.sloth");
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let rate = done as f64 / time.as_secs_f64();
        writeln!(out, "{done} {name} tasks: {:.0} ms, {rate:.0}/s", millis(time))?;
    }
    Ok(())
}

fn measure_plan() -> Duration {
    let tasks = (0..TASKS).map(|n| TaskSpec {
        name: format!("task-{n}"),
        depends_on: (1..=EDGES_PER_TASK).filter_map(|k| Some(format!("task-{}", n.checked_sub(k * 7)?))).collect(),
        ..TaskSpec::default()
    });
    let spec = WorkflowSpec { name: "bench".into(), tasks: tasks.collect(), ..WorkflowSpec::default() };
    let began = Instant::now();
    let plan = Plan::new(spec, TASKS);
    let time = began.elapsed();
    assert!(plan.is_ok_and(|plan| plan.order().len() == TASKS), "the plan has every task");
    time
}

fn measure_loads(dir: &Path) -> Duration {
    let limits = Limits::default();
    let began = Instant::now();
    for _ in 0..LOADS {
        let plans = load(dir, Path::new("typical.sloth"), &serde_json::Value::Null, &limits);
        assert!(plans.is_ok_and(|plans| plans[0].tasks().len() == 4), "the file has a plan");
    }
    began.elapsed()
}

fn measure_run(dir: &Path, file: &str) -> (Duration, usize) {
    let input = RunInput {
        bundle_dir: dir.to_owned(),
        file: file.into(),
        capabilities: Capabilities::all(),
        workdir: dir.to_owned(),
        ..RunInput::default()
    };
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let host = Rc::new(Nowhere(sloth_core::Clock::new()));
    let end = runtime.map(|runtime| runtime.block_on(run(input, host, CancelSignal::never())));
    let Ok(Ok(end)) = end else { return (began.elapsed(), 0) };
    assert_eq!(end.outcome, Outcome::Succeeded, "{}", end.message);
    (began.elapsed(), end.tasks.len())
}

fn independent() -> String {
    format!("for i = 1, {TASKS} do task('t' .. i):command(function() return true end) end")
}

fn chained() -> String {
    format!(
        "for i = 1, {TASKS} do local t = task('t' .. i):command(function() return true end)\n\
         for k = 1, {EDGES_PER_TASK} do if k * 7 < i then t:depends_on('t' .. (i - k * 7)) end end end"
    )
}

fn with_outputs() -> String {
    format!(
        "for i = 1, {TASKS} do local t = task('t' .. i):command(function(this, params, deps)\n\
         local sum = 0 for k = 1, 100 do sum = sum + k end\n\
         return true, 'done', {{ name = params.task_name, sum = sum }} end)\n\
         if 1 < i then t:depends_on('t' .. math.floor(i / 2)) end end"
    )
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn write(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    sloth_core::fs::replace(&dir.join(name), text.as_bytes(), sloth_core::fs::Access::Owner).map_err(io::Error::other)
}
