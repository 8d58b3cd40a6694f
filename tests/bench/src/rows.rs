//! What is measured.

mod enrol;
mod exec;
mod idle;
mod journal;
mod latency;
mod lua;
mod memory;
mod resources;
mod rollout;
mod runs;
mod start;
mod trust;
mod update;

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use sloth_core::fs::{Access, replace};

use crate::{Bench, report::Figure, samples::Samples};

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    /// An idle, connected agent; the programs' sizes.
    Idle,
    /// From the start of a program to its first work.
    Start,
    /// From the order to the first task.
    Latency,
    /// The coordinator's memory for each connected agent.
    Memory,
    /// Enrolments and handshakes.
    Enrol,
    /// Tasks that start a program.
    Exec,
    /// Tasks of Lua alone; loading and planning.
    Lua,
    /// Tasks under the agent's journal.
    Journal,
    /// A run that finds nothing to do.
    Resources,
    /// Memory of Lua machines and of many runs at once.
    Runs,
    /// Planning a rollout of a large fleet.
    Rollout,
    /// What an agent verifies.
    Trust,
    /// What an update of an agent costs.
    Update,
}

impl Row {
    /// Its name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Start => "start",
            Self::Latency => "latency",
            Self::Memory => "memory",
            Self::Enrol => "enrol",
            Self::Exec => "exec",
            Self::Lua => "lua",
            Self::Journal => "journal",
            Self::Resources => "resources",
            Self::Runs => "runs",
            Self::Rollout => "rollout",
            Self::Trust => "trust",
            Self::Update => "update",
        }
    }

    /// Its heading in the table.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Idle => "Idle agent, connected",
            Self::Start => "From start to work",
            Self::Latency => "From order to first task",
            Self::Memory => "Coordinator's memory",
            Self::Enrol => "Enrolments and handshakes",
            Self::Exec => "Tasks that start a program",
            Self::Lua => "Tasks of Lua alone, no journal",
            Self::Journal => "Tasks under the agent's journal",
            Self::Resources => "A run of 25 files and 25 commands that finds nothing to do",
            Self::Runs => "Memory of runs",
            Self::Rollout => "Planning a rollout",
            Self::Trust => "What an agent verifies",
            Self::Update => "An update of an agent",
        }
    }

    /// Measures it.
    pub(crate) async fn measure(self, bench: &Bench) -> Result<Vec<Figure>> {
        match self {
            Self::Idle => idle::measure(bench).await,
            Self::Start => start::measure(bench).await,
            Self::Latency => latency::measure(bench).await,
            Self::Memory => memory::measure(bench).await,
            Self::Enrol => enrol::measure(bench).await,
            Self::Exec => blocking(bench, exec::measure).await,
            Self::Lua => blocking(bench, lua::measure).await,
            Self::Journal => journal::measure(bench).await,
            Self::Resources => blocking(bench, resources::measure).await,
            Self::Runs => runs::measure(bench).await,
            Self::Rollout => blocking(bench, rollout::measure).await,
            Self::Trust => blocking(bench, trust::measure).await,
            Self::Update => update::measure(bench).await,
        }
    }
}

/// Measures with a function that must not be called on a thread of the runtime.
async fn blocking(bench: &Bench, measure: fn(&Bench) -> Result<Vec<Figure>>) -> Result<Vec<Figure>> {
    let bench = bench.clone();
    tokio::task::spawn_blocking(move || measure(&bench)).await?
}

/// Measures `count` times, at least once.
fn repeat(count: usize, mut measure: impl FnMut() -> Result<f64>) -> Result<Samples> {
    let first = measure()?;
    let rest = (1..count).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    let samples = Samples::new([vec![first], rest].concat());
    Ok(samples.unwrap_or_else(|| Samples::one(first)))
}

/// Writes a file that is measured.
fn write(dir: &Path, name: &str, text: &str) -> Result<()> {
    Ok(replace(&dir.join(name), text.as_bytes(), Access::Everyone)?)
}
