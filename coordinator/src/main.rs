//! `sloth-coord`: serves a fleet, and is the command line of its publishers and operators.

use clap::Parser as _;
use sloth_cli::Outcome;
use sloth_coord::cli::{self, Cli};

fn main() -> Outcome {
    sloth_cli::keep_memory_private();
    sloth_cli::report(cli::run(Cli::parse()))
}
