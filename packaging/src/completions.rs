//! Scripts that complete the programs' arguments in a shell.

use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate};

use crate::write;

/// Writes one script for each shell into `directory`, called as that shell looks for it.
///
/// # Errors
///
/// When one cannot be written.
pub(crate) fn write_all(directory: &Path, mut command: Command) -> anyhow::Result<()> {
    let program = command.get_name().to_owned();
    let named =
        [(Shell::Bash, program.clone()), (Shell::Zsh, format!("_{program}")), (Shell::Fish, format!("{program}.fish"))];
    for (shell, name) in named {
        let mut script = Vec::new();
        generate(shell, &mut command, &program, &mut script);
        write(&directory.join(name), &script)?;
    }
    Ok(())
}
