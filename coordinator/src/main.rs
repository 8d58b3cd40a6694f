//! `sloth-coord`: serves a fleet, and is the command line of its publishers and operators.

use std::process::{ExitCode, Termination as _};

use clap::Parser as _;
use sloth_coord::cli::{self, Cli};

fn main() -> ExitCode {
    sloth_cli::report(cli::run(Cli::parse())).report()
}
