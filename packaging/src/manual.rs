//! A manual page for each program and each of its commands.

use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::{compress, write};

/// The section of programs that users call.
const SECTION: &str = "1";
/// What the head of each page says that it is a part of.
const MANUAL: &str = "Sloth";

/// Writes the page of `program` and of each of its commands into `directory`: `sloth-coord-trust-sign.1.gz` and so on.
///
/// # Errors
///
/// When a page cannot be written.
pub(crate) fn write_all(directory: &Path, program: &Command) -> anyhow::Result<()> {
    let mut program = program.clone().disable_help_subcommand(true);
    // Gives each command below its full name.
    program.build();
    write_below(directory, &program)
}

fn write_below(directory: &Path, command: &Command) -> anyhow::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let page = Man::new(command.clone()).section(SECTION).manual(MANUAL).title(name.to_uppercase());
    let mut text = Vec::new();
    page.render(&mut text)?;
    write(&directory.join(format!("{name}.{SECTION}.gz")), &compress(&text)?)?;
    let mut shown = command.get_subcommands().filter(|below| !below.is_hide_set());
    shown.try_for_each(|below| write_below(directory, below))
}
