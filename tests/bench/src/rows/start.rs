//! From the start of a program to its first work.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{repeat, write};
use crate::{
    Bench,
    fleet::{Agent, Coordinator},
    process,
    report::Figure,
    samples::{Samples, millis},
};

/// What the coordinator counts of polls that wait for work.
const POLLS_HELD: &str = "sloth_polls_held";
/// How often that is looked at: what the figure is exact to.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How long an agent may take to its first poll.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let coordinator = Coordinator::start(bench)?;
    let operator = coordinator.operator().await?;
    let agent = Agent::enrol(bench, &coordinator, &operator.token(1).await?, "starting")?;
    let mut polls = Vec::new();
    for _ in 0..bench.pick(20, 2) {
        wait_for_polls(&coordinator, 0.0).await?;
        let began = Instant::now();
        let mut process = agent.start()?;
        wait_for_polls(&coordinator, 1.0).await?;
        polls.push(millis(began.elapsed()));
        process.stop()?;
    }
    let mut figures = Vec::new();
    figures.extend(
        Samples::new(polls).map(|polls| Figure::new("`sloth-agent daemon` → its first poll is held", "ms", polls)),
    );
    figures.push(standalone(bench)?);
    Ok(figures)
}

async fn wait_for_polls(coordinator: &Coordinator, wanted: f64) -> Result<()> {
    let patient_until = Instant::now() + PATIENCE;
    loop {
        let held = coordinator.metric(POLLS_HELD)?.unwrap_or(0.0);
        if (held - wanted).abs() < 0.5 {
            return Ok(());
        }
        ensure!(Instant::now() < patient_until, "{held} polls are held and not {wanted}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A run without a coordinator, of one task of Lua, from the start of the program to its end.
fn standalone(bench: &Bench) -> Result<Figure> {
    let dir = bench.directory()?;
    write(dir.path(), "one.sloth", "task('one'):command(function() return true end)")?;
    let program = bench.programs.join("sloth-agent");
    let runs = repeat(bench.pick(50, 3), || {
        let mut command = Command::new(&program);
        let command = command.arg("run").arg(dir.path().join("one.sloth")).arg("--dir").arg(dir.path());
        Ok(millis(process::time(command)?))
    })?;
    let peer = repeat(bench.pick(50, 3), || Ok(millis(process::time(&mut Command::new("/bin/true"))?)))?;
    Ok(Figure::new("`sloth-agent run` of one task, start to end", "ms", runs).beside("`/bin/true`", peer))
}
