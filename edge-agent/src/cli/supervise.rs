//! `sloth-agent supervise`.

use std::{ffi::OsString, path::PathBuf};

use clap::Parser;
use sloth_cli::{Failure, LogArgs, LogFormat, Outcome};

use super::DirArgs;
use crate::update::{
    child::{LAUNCH, launch},
    log::{Level, Log, LogShape},
    supervisor::{Options, SuperviseError, supervise},
};

const NAME: &str = "supervise";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    dir: DirArgs,
    /// The settings [default: agent.toml in the agent's directory]
    #[arg(long)]
    config: Option<PathBuf>,
    /// A program that stands for the package's, for tests
    #[arg(long, hide = true, requires = "packaged_version")]
    packaged: Option<PathBuf>,
    /// Its version
    #[arg(long, hide = true, requires = "packaged")]
    packaged_version: Option<sloth_protocol::update::Version>,
}

/// The command line as the supervisor alone reads it: the other commands' would stay in memory for its whole life.
#[derive(Debug, Parser)]
#[command(name = "sloth-agent supervise", version)]
struct Alone {
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    arguments: Arguments,
}

/// Does what the arguments say when it is one of the two commands for which a process must stay small.
pub(super) fn main() -> Option<Result<Outcome, Failure>> {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next()?;
    if command == LAUNCH {
        std::process::exit(launch(arguments));
    }
    if command != NAME {
        return None;
    }
    let arguments: Vec<OsString> = arguments.collect();
    // Its help is told where that of all commands is.
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return None;
    }
    let Alone { log, arguments } = Alone::parse_from(std::iter::once(OsString::from(NAME)).chain(arguments));
    Some(execute(arguments, &log))
}

pub(super) fn execute(arguments: Arguments, log: &LogArgs) -> Result<Outcome, Failure> {
    let paths = arguments.dir.paths();
    let settings = arguments.config.clone().unwrap_or_else(|| paths.settings());
    if arguments.config.is_some() && !settings.exists() {
        return Err(Failure::new(Outcome::Usage, format!("there are no settings at `{}`", settings.display())));
    }
    let format = match log.log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let mut daemon: Vec<OsString> =
        vec!["--log-format".into(), format.into(), "--log-level".into(), log.log_level.clone().into(), "daemon".into()];
    daemon.extend(["--dir".into(), paths.dir().into()]);
    if let Some(config) = arguments.config {
        daemon.extend(["--config".into(), config.into()]);
    }
    let shape = match log.log_format {
        LogFormat::Text => LogShape::Text,
        LogFormat::Json => LogShape::Json,
    };
    let log = Log { format: shape, level: Level::of(&log.log_level) };
    let packaged = arguments.packaged.zip(arguments.packaged_version);
    let code = supervise(Options { paths, settings, arguments: daemon, packaged, log }).map_err(failure)?;
    // The code is that of a daemon, which may be of another release and have codes of its own.
    std::process::exit(code);
}

fn failure(error: SuperviseError) -> Failure {
    let outcome = match &error {
        SuperviseError::Lock { .. } => Outcome::Refused,
        SuperviseError::Fs(_) | SuperviseError::System { .. } | SuperviseError::Version => Outcome::Internal,
    };
    Failure { outcome, error: error.into() }
}
