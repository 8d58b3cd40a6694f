//! Tasks of Lua on a managed agent, each begun and ended on its disk, beside the disk's own rate of syncs.

use std::{fs::File, os::unix::fs::FileExt, time::Instant};

use anyhow::{Context, Result, ensure};
use sloth_protocol::wire::RunView;

use crate::{
    Bench,
    fleet::{Agent, Coordinator},
    report::Figure,
    samples::{Samples, millis, number},
};

/// Tasks of the graph.
const TASKS: usize = 1_000;
const TASKS_QUICK: usize = 40;
/// Tasks of one layer; each depends on two of the layer before.
const WIDTH: usize = 50;
/// How many tasks may run at a time.
const PARALLEL: [usize; 3] = [1, 4, 64];
/// Bytes of one write of the disk's own rate.
const PAGE_BYTES: usize = 4096;
/// Writes of the disk's own rate.
const SYNCS: usize = 500;

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let tasks = bench.pick(TASKS, TASKS_QUICK);
    let coordinator = Coordinator::start(bench)?;
    let operator = coordinator.operator().await?;
    let agent = Agent::enrol(bench, &coordinator, &operator.token(1).await?, "journal")?;
    let _process = agent.connect(&operator).await?;
    let mut figures = Vec::new();
    for parallel in PARALLEL {
        let name = format!("graph-{parallel}");
        coordinator.publish(&coordinator.write_bundle(&name, "1", &workflow(tasks, parallel))?)?;
        let (mut rates, mut wholes, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bench.pick(5, 1) {
            let began = Instant::now();
            let run = operator.start_run(&name, &agent.selector(), "{}".to_owned()).await?;
            let view = operator.wait_for(run).await?;
            wholes.push(millis(began.elapsed()));
            rates.push(rate(&view, tasks)?);
            syncs.push(sync_rate(bench)?);
        }
        let (Some(rates), Some(wholes), Some(syncs)) = (Samples::new(rates), Samples::new(wholes), Samples::new(syncs))
        else {
            continue;
        };
        let shape = format!("graph of {tasks} tasks, {parallel} at once");
        figures.push(
            Figure::new(format!("{shape}: first start to last end"), "/s", rates)
                .beside("syncs of a written page", syncs),
        );
        figures.push(Figure::new(format!("{shape}: request to end seen by the operator"), "ms", wholes));
    }
    Ok(figures)
}

fn workflow(tasks: usize, parallel: usize) -> String {
    format!(
        "local tasks = {{}}\n\
         for i = 0, {tasks} - 1 do\n\
             local needs, above = {{}}, math.floor(i / {WIDTH}) - 1\n\
             if above >= 0 then\n\
                 needs[1] = 't' .. (above * {WIDTH} + i % {WIDTH})\n\
                 needs[2] = 't' .. (above * {WIDTH} + (i + 1) % {WIDTH})\n\
             end\n\
             tasks[i + 1] = task('t' .. i):command(function() return true end):depends_on(needs)\n\
         end\n\
         workflow.define('graph'):tasks(tasks):config({{ max_parallel_tasks = {parallel} }})\n"
    )
}

/// Tasks a second from the first start to the last end, by the agent's clock.
fn rate(view: &RunView, tasks: usize) -> Result<f64> {
    let ends = &view.jobs.first().context("the run is on no agent")?.tasks;
    ensure!(ends.len() == tasks, "{} of {tasks} tasks were reported", ends.len());
    let first = ends.iter().map(|task| task.end.started).min().unwrap_or_default();
    let last = ends.iter().map(|task| task.end.ended).max().unwrap_or_default();
    Ok(number(tasks) * 1000.0 / number(last.since(first).as_u64().max(1)))
}

/// How often a second a page of a file can be written and synced, one after the other.
fn sync_rate(bench: &Bench) -> Result<f64> {
    let dir = bench.directory()?;
    let file = File::create(dir.path().join("page"))?;
    let page = [0x5a; PAGE_BYTES];
    file.write_all_at(&page, 0)?;
    file.sync_all()?;
    let began = Instant::now();
    for _ in 0..SYNCS {
        file.write_all_at(&page, 0)?;
        file.sync_data()?;
    }
    Ok(number(SYNCS) / began.elapsed().as_secs_f64())
}
