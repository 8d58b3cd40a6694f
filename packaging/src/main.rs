//! `sloth-packaging DIRECTORY`: writes what the packages hold beside the programs into a directory, the same bytes
//! whenever it is asked of the same sources.
//!
//! `scripts/package` calls it. What is not made from the code (units, default settings, the scripts of the packages)
//! lies beside this crate as it is shipped.

mod completions;
mod licences;
mod manual;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _, Parser};
use flate2::{Compression, GzBuilder};
use sloth_core::fs::{Access, replace};

/// Writes what packages hold beside the programs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to
    directory: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let Arguments { directory } = Arguments::parse();
    for (program, command) in programs() {
        let below = directory.join(program);
        manual::write_all(&below.join("man"), &command)?;
        completions::write_all(&below.join("completions"), command)?;
        licences::write_all(&below.join("third-party-licences.gz"), program)?;
    }
    Ok(())
}

/// The programs that are shipped, and their arguments.
fn programs() -> [(&'static str, Command); 2] {
    [("sloth-agent", sloth_agent::cli::command()), ("sloth-coord", sloth_coord::cli::Cli::command())]
}

/// Writes a file that everybody may read, and the directories above it.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
    }
    replace(path, bytes, Access::Everyone).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Compressed as Debian's policy asks: as small as can be, and with no time in it.
fn compress(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    writer.write_all(bytes)?;
    Ok(writer.finish()?)
}
