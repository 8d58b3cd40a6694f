//! Measures the two programs as released: `scripts/bench` builds them and this, and calls it.
//!
//! Each row sets up what it needs in a directory of its own, measures several times, and gives figures beside a peer of
//! the same run and beside the bar. The peers are what the programs are built on: a bare quinn server with the same
//! settings, the system's own way to start processes, ninja, the disk's own way to sync.

mod bare;
mod fleet;
mod host;
mod plain_host;
mod process;
mod report;
mod rows;
mod samples;

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::{report::Report, rows::Row};

/// Files that 2,000 connections, each with a socket of its own, may need on either side.
const OPEN_FILES: u64 = 16_384;

#[derive(Debug, Parser)]
enum Command {
    /// Measures and prints the table.
    Measure(Measure),
    /// A QUIC server without a product: the peer of the coordinator.
    #[command(hide = true)]
    BareServer {
        /// Where its authority is.
        dir: PathBuf,
    },
}

/// Measures the programs and prints a table in Markdown.
#[derive(Debug, clap::Args)]
struct Measure {
    /// What to measure; everything when nothing is named.
    rows: Vec<Row>,
    /// Small counts, to see whether everything works. The figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Where `sloth-coord` and `sloth-agent` are; beside this program by default.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Where the programs are as packages ship them, for the row `idle`; the same ones by default.
    #[arg(long)]
    shipped: Option<PathBuf>,
    /// Where to write; its file system is the one that is measured. The system's temporary directory by default.
    #[arg(long)]
    scratch: Option<PathBuf>,
}

/// How thoroughly to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Enough for figures.
    Full,
    /// Enough to see that it works.
    Quick,
}

/// What every row is given.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    /// The directory of `sloth-coord` and `sloth-agent`.
    pub(crate) programs: PathBuf,
    /// The same as packages ship them.
    pub(crate) shipped: PathBuf,
    /// Where rows write.
    pub(crate) scratch: PathBuf,
    /// How thoroughly to measure.
    pub(crate) depth: Depth,
}

impl Bench {
    /// `full`, or `quick` when that is the depth.
    pub(crate) const fn pick<T: Copy>(&self, full: T, quick: T) -> T {
        match self.depth {
            Depth::Full => full,
            Depth::Quick => quick,
        }
    }

    /// A directory that goes when it is dropped.
    pub(crate) fn directory(&self) -> Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix("sloth-bench.")
            .tempdir_in(&self.scratch)
            .with_context(|| format!("cannot make a directory in `{}`", self.scratch.display()))
    }
}

fn main() -> ExitCode {
    match act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when this fails.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act() -> Result<()> {
    raise_open_files()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match Command::parse() {
        Command::Measure(measure) => runtime.block_on(measure_rows(measure)),
        Command::BareServer { dir } => runtime.block_on(bare::serve(&dir)),
    }
}

async fn measure_rows(measure: Measure) -> Result<()> {
    let beside = std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default();
    let programs = measure.programs.unwrap_or(beside);
    let bench = Bench {
        shipped: measure.shipped.unwrap_or_else(|| programs.clone()),
        programs,
        scratch: measure.scratch.unwrap_or_else(std::env::temp_dir),
        depth: if measure.quick { Depth::Quick } else { Depth::Full },
    };
    let chosen = if measure.rows.is_empty() { Row::value_variants().to_vec() } else { measure.rows };
    let mut report = Report::new(&bench)?;
    for row in chosen {
        note(format_args!("measuring {}", row.name()));
        match row.measure(&bench).await {
            Ok(figures) => report.add(row, figures),
            Err(error) => {
                note(format_args!("cannot measure {}: {error:#}", row.name()));
                report.fail(row, &error);
            }
        }
    }
    let failures = report.failures();
    write!(std::io::stdout().lock(), "{report}")?;
    anyhow::ensure!(failures == 0, "{failures} rows could not be measured");
    Ok(())
}

/// Tells whoever waits how far it is.
pub(crate) fn note(text: std::fmt::Arguments<'_>) {
    // Progress is of no use to whom it cannot be shown.
    let _ = writeln!(std::io::stderr(), "    {text}");
}

fn raise_open_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })?;
    }
    Ok(())
}
