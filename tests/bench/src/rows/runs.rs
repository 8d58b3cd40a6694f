//! What runs hold in memory.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sloth_core::fs::{Access, replace};

use super::write;
use crate::{
    Bench,
    fleet::{Agent, Coordinator},
    process::{self, Memory},
    report::{Bar, Figure},
    samples::{Samples, number},
};

/// Runs at once on each agent, and agents: one takes 64 at the most.
const RUNS: usize = 50;
const RUNS_QUICK: usize = 2;
const AGENTS: [&str; 2] = ["one", "two"];
/// How long all of them may take to reach their task.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const KIB_PER_MIB: f64 = 1024.0;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = vec![at_once(bench).await?];
    figures.push(machine(bench)?);
    Ok(figures)
}

/// Runs that each wait in a task, in the worker processes of agents as packages ship them.
async fn at_once(bench: &Bench) -> Result<Figure> {
    let bench = &Bench { programs: bench.shipped.clone(), ..bench.clone() };
    let coordinator = Coordinator::start(bench)?;
    let operator = coordinator.operator().await?;
    let waiting = "task('wait'):command(function() fs.write(values.mark, '') goroutine.sleep(600000) return true end)";
    coordinator.publish(&coordinator.write_bundle("wait", "1", waiting)?)?;
    let token = operator.token(u32::try_from(AGENTS.len())?).await?;
    let runs = bench.pick(RUNS, RUNS_QUICK);
    let (mut daemons, mut marks) = (Vec::new(), Vec::new());
    for name in AGENTS {
        let agent = Agent::enrol(bench, &coordinator, &token, name)?;
        replace(&agent.settings(), format!("runs_max = {runs}\n").as_bytes(), Access::Owner)?;
        daemons.push(agent.connect(&operator).await?);
        for run in 0..runs {
            let mark = coordinator.dir().join(format!("{name}-{run}"));
            let values = format!("{{\"mark\": \"{}\"}}", mark.display());
            operator.start_run("wait", &agent.selector(), values).await?;
            marks.push(mark);
        }
    }
    let patient_until = Instant::now() + PATIENCE;
    while !marks.iter().all(|mark| mark.exists()) {
        ensure!(Instant::now() < patient_until, "not every run has begun its task");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let mut memory = Vec::new();
    for daemon in &daemons {
        for worker in process::children(daemon.id())? {
            memory.push(Memory::of(worker)?.pss);
        }
    }
    ensure!(memory.len() == marks.len(), "{} workers do {} runs", memory.len(), marks.len());
    let what = format!("{} runs at once, their workers (PSS)", marks.len());
    let figure = Figure::new(what, "MiB", Samples::one(memory.iter().sum::<f64>() / KIB_PER_MIB));
    Ok(figure.bar(Bar::AtMost(150.0)))
}

/// A Lua machine in which every module was named.
fn machine(bench: &Bench) -> Result<Figure> {
    let dir = bench.directory()?;
    let program = bench.shipped.join("sloth-agent");
    let listed = process::run(Command::new(&program).args(["modules", "list", "-o", "json"]))?;
    let listed: serde_json::Value = serde_json::from_str(&listed).context("`modules list` is no JSON")?;
    let names = listed.as_array().context("`modules list` is no list")?.iter().filter_map(|one| one["name"].as_str());
    let touches: Vec<_> = names.map(|name| format!("_G[\"{name}\"]")).collect();
    let text = format!(
        "task('all'):command(function()\n local all = {{ {} }}\n \
         print('kib=' .. collectgarbage('count')) return true end)",
        touches.join(", ")
    );
    write(dir.path(), "all.sloth", &text)?;
    let mut command = Command::new(program);
    let said = process::run(command.arg("run").arg(dir.path().join("all.sloth")).arg("--dir").arg(dir.path()))?;
    let kib = said.split("kib=").nth(1).and_then(|rest| rest.split_whitespace().next()).context("no size was told")?;
    let kib: f64 = kib.parse().with_context(|| format!("`{kib}` is no number"))?;
    let what = format!("a Lua machine with all {} modules", number(touches.len()));
    Ok(Figure::new(what, "MiB", Samples::one(kib / KIB_PER_MIB)).bar(Bar::AtMost(1.5)))
}
