//! An agent as packages ship it that is connected and has nothing to do, in the pacing `hold`.

use std::time::Duration;

use anyhow::Result;

use crate::{
    Bench,
    fleet::{Agent, Coordinator},
    process::{Memory, children, cpu_with_ended_ms},
    report::{Bar, Figure},
    samples::{Samples, number},
};

/// What the agent is given to come to rest.
const SETTLE: Duration = Duration::from_secs(12);
/// Over which time the processor is measured.
const SPAN: Duration = Duration::from_secs(60);
const SPAN_QUICK: Duration = Duration::from_secs(1);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Figure>> {
    let bench = &Bench { programs: bench.shipped.clone(), ..bench.clone() };
    let mut figures = Vec::new();
    for (program, bar) in [("sloth-agent", Some(Bar::AtMost(10.0))), ("sloth-coord", None)] {
        let bytes = std::fs::metadata(bench.programs.join(program))?.len();
        let figure = Figure::new(format!("`{program}`, the file"), "MB", Samples::one(number(bytes) / 1e6));
        figures.push(bar.into_iter().fold(figure, Figure::bar));
    }
    let coordinator = Coordinator::start(bench)?;
    let operator = coordinator.operator().await?;
    let agent = Agent::enrol(bench, &coordinator, &operator.token(1).await?, "idle")?;
    let process = agent.supervise(&operator).await?;
    let daemons = children(process.id())?;
    tokio::time::sleep(bench.pick(SETTLE, SPAN_QUICK)).await;
    let cpu = || daemons.iter().chain([&process.id()]).map(|pid| cpu_with_ended_ms(*pid)).sum::<Result<f64>>();
    let before = cpu()?;
    let span = bench.pick(SPAN, SPAN_QUICK);
    tokio::time::sleep(span).await;
    let percent = (cpu()? - before) / (span.as_secs_f64() * 1000.0) * 100.0;
    let memory = daemons.iter().try_fold(process.memory()?, |sum, pid| anyhow::Ok(sum.plus(Memory::of(*pid)?)))?;
    let what = format!("processor over {} s", span.as_secs());
    figures.push(Figure::new(what, "% of a core", Samples::one(percent)).bar(Bar::AtMost(0.1)));
    figures.push(
        Figure::new("memory of daemon and supervisor (PSS)", "MiB", Samples::one(memory.pss / 1024.0))
            .bar(Bar::AtMost(10.0)),
    );
    figures.push(Figure::new("of that its own (anonymous)", "MiB", Samples::one(memory.anonymous / 1024.0)));
    Ok(figures)
}
