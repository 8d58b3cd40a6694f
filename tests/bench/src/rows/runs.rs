//! What runs hold in memory.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::write;
use crate::{
    Bench,
    process::{self, Process},
    report::{Bar, Figure},
    samples::{Samples, number},
};

/// Runs at once.
const RUNS: usize = 100;
const RUNS_QUICK: usize = 3;
/// How long all of them may take to reach their task.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const KIB_PER_MIB: f64 = 1024.0;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let mut figures = vec![at_once(bench)?];
    figures.push(machine(bench)?);
    Ok(figures)
}

/// Runs that each wait in a task, as processes of their own.
fn at_once(bench: &Bench) -> Result<Figure> {
    let dir = bench.directory()?;
    let waiting = "task('wait'):command(function() fs.write(values.mark, ''); goroutine.sleep(600000) return true end)";
    write(dir.path(), "wait.sloth", waiting)?;
    let runs = bench.pick(RUNS, RUNS_QUICK);
    let mut processes = Vec::new();
    for run in 0..runs {
        let mut command = Command::new(bench.shipped.join("sloth-agent"));
        command.arg("run").arg(dir.path().join("wait.sloth")).arg("--dir").arg(dir.path());
        command.arg("--set").arg(format!("mark={}", dir.path().join(format!("mark{run}")).display()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        processes.push(Process::of(child));
    }
    let patient_until = std::time::Instant::now() + PATIENCE;
    while !(0..runs).all(|run| dir.path().join(format!("mark{run}")).exists()) {
        ensure!(std::time::Instant::now() < patient_until, "not every run has begun its task");
        std::thread::sleep(LOOK_AGAIN);
    }
    let memory = processes.iter().map(|process| process.memory().map(|memory| memory.pss)).sum::<Result<f64>>()?;
    let figure =
        Figure::new(format!("{runs} runs at once, all of them (PSS)"), "MiB", Samples::one(memory / KIB_PER_MIB));
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
