//! `sloth-agent daemon`.

use std::path::PathBuf;

use sloth_cli::{Failure, Outcome};

use super::{DirArgs, enroll::enroll_from_file, runtime, signals::Ends};
use crate::{
    VERSION,
    config::Settings,
    daemon::{Daemon, DaemonError},
    enrolment::EnrolmentError,
};

/// This very program, also when its file was replaced since it was started.
const PROGRAM: &str = "/proc/self/exe";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    dir: DirArgs,
    /// The settings [default: agent.toml in the agent's directory]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Enrol first, when this host is not an agent yet, with the join token in this file, and remove the file
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
}

pub(super) fn execute(arguments: &Arguments) -> Result<Outcome, Failure> {
    let paths = arguments.dir.paths();
    let file = arguments.config.clone().unwrap_or_else(|| paths.settings());
    if arguments.config.is_some() && !file.exists() {
        return Err(Failure::new(Outcome::Usage, format!("there are no settings at `{}`", file.display())));
    }
    let settings = Settings::load(&file).map_err(Outcome::Usage.because())?;
    runtime()?.block_on(async {
        let mut ends = Ends::listen().map_err(Outcome::Internal.because())?;
        if let Some(token) = arguments.join_token_file.as_deref().filter(|file| file.exists()) {
            tokio::select! {
                enrolled = enroll_from_file(&paths, token) => enrolled?,
                () = ends.next() => return Ok(Outcome::Done),
            }
        }
        let daemon = Daemon::open(paths, settings, PathBuf::from(PROGRAM)).map_err(failure)?;
        tracing::info!(version = VERSION, "daemon started");
        daemon.run(ends.next()).await.map_err(failure)?;
        tracing::info!("daemon stopped");
        Ok(Outcome::Done)
    })
}

fn failure(error: DaemonError) -> Failure {
    let outcome = match &error {
        DaemonError::Enrolment(EnrolmentError::Missing { .. } | EnrolmentError::Secret { .. })
        | DaemonError::Lock { .. } => Outcome::Refused,
        DaemonError::Enrolment(_)
        | DaemonError::Fs(_)
        | DaemonError::Store(_)
        | DaemonError::Cache { .. }
        | DaemonError::Restore(_) => Outcome::Internal,
    };
    Failure { outcome, error: error.into() }
}
