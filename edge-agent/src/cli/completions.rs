//! `sloth-agent completions`.

use std::io::Write as _;

use clap_complete::Shell;
use sloth_cli::{Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The shell that is to complete
    shell: Shell,
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let mut command = super::command();
    let name = command.get_name().to_owned();
    // The generator panics where it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    std::io::stdout().write_all(&script).map_err(Outcome::Internal.because())?;
    Ok(Outcome::Done)
}
